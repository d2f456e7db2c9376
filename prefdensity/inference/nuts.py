"""No-U-turn sampling by Pyro, in coordinates preconditioned by the Laplace approximation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import MCMC, NUTS
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.inference.traced import Function, captured
from prefdensity.inference.view import View
from prefdensity.programs.running import environment


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
    divergences, density = 0, _graph_of(view, frames[0][0])
    try:
        for chain, (base, frame) in enumerate(frames):
            w, diverged = _chain(view, density, base, frame, draws, warmup, seed + chain)
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


def _graph_of(view: View, base: Tensor) -> Function:
    """Return value and slope of the log density at z [1, dimension] as a graph: chains ask for them many times."""

    def density(z: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            free = z.detach().requires_grad_()
            value = view.log_joint(free)
            return value.detach(), torch.autograd.grad(value.sum(), free)[0]

    with environment(view.dtype, device=view.device):
        return captured(density, (base[None],))


class _Potential(torch.autograd.Function):
    """Minus the log density at w [dimension], whose slope is worked out with it."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, density: Function, base: Tensor, frame: Tensor) -> Tensor:
        (value,), (slope,) = density((base + (frame * w if frame.dim() == 1 else frame @ w))[None])
        ctx.slope = slope * frame if frame.dim() == 1 else slope @ frame
        return -value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return -gradients[0] * ctx.slope, None, None, None


def _chain(
    view: View, density: Function, base: Tensor, frame: Tensor, draws: int, warmup: int, seed: int
) -> tuple[Tensor, int]:
    def potential(params: dict[str, Tensor]) -> Tensor:
        return _Potential.apply(params["w"], density, base, frame)

    with environment(view.dtype, seed, view.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyro's own deprecations, not the user's concern
        kernel = NUTS(potential_fn=potential, target_accept_prob=0.85)
        start = {"w": torch.randn_like(base)}
        mcmc = MCMC(kernel, draws, warmup, initial_params=start, disable_progbar=True)
        mcmc.run()
    return mcmc.get_samples()["w"].detach(), len(mcmc.diagnostics()["divergences"]["chain 0"])
