"""No-U-turn sampling by Pyro, in coordinates preconditioned by the Laplace approximation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.inference.view import View


@dataclass(frozen=True)
class Chains:
    """Draws z [chain, draw, dimension] with the usual diagnostics over coordinates."""

    z: Tensor
    r_hat: float
    effective: float
    divergences: int


def sample(
    view: View,
    frames: Sequence[tuple[Tensor, Tensor]],
    *,
    draws: int,
    warmup: int,
    seed: int,
    after_chain: Callable[[int], None] = lambda chain: None,
) -> Chains:
    """Return `draws` NUTS draws of z = base + frame w for each base and frame, which are those of the chains.

    Chains run one after the other, each from a draw of its Gaussian. Chains in one frame are as far apart as that says
    the posterior is wide; only chains in frames of several modes can find that those disagree. Ctrl-C keeps the chains
    that are complete.
    """
    kept: list[Tensor] = []
    divergences = 0
    try:
        for chain, (base, frame) in enumerate(frames):
            w, diverged = _chain(view, base, frame, draws, warmup, seed + chain)
            kept.append(base + (w * frame if frame.dim() == 1 else w @ frame.T))
            divergences += diverged
            after_chain(chain + 1)
    except KeyboardInterrupt:
        if not kept:
            raise
    z = torch.stack(kept)
    return Chains(z, float(split_gelman_rubin(z, chain_dim=0, sample_dim=1).max()), _effective(z), divergences)


def _effective(z: Tensor) -> float:
    return float(effective_sample_size(z, chain_dim=0, sample_dim=1).min())


def _chain(view: View, base: Tensor, frame: Tensor, draws: int, warmup: int, seed: int) -> tuple[Tensor, int]:
    def potential(params: dict[str, Tensor]) -> Tensor:
        w = params["w"]
        return -view.log_joint((base + (frame * w if frame.dim() == 1 else frame @ w))[None])[0]

    with torch.random.fork_rng(), warnings.catch_warnings(), pyro.validation_enabled(False):
        warnings.simplefilter("ignore")  # Pyro's own deprecations, not the user's concern
        torch.manual_seed(seed)
        start = torch.randn(len(base), dtype=base.dtype).to(base.device)
        kernel = NUTS(potential_fn=potential, target_accept_prob=0.85)
        mcmc = MCMC(kernel, draws, warmup, initial_params={"w": start}, disable_progbar=True)
        mcmc.run()
    return mcmc.get_samples()["w"].detach(), len(mcmc.diagnostics()["divergences"]["chain 0"])
