"""How well a guide stands for the posterior: Pareto k-hat, ELBO, and importance-corrected draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from prefdensity.inference.view import View
from prefdensity.psis import USABLE, smooth

# Density evaluations (in cell evaluations) spent on judging a guide.
_BUDGET = 3e8


class Approximation(Protocol):
    """Anything that can be drawn from with a density: a guide, a Laplace mixture.

    Attributes
    ----------
    log_q_error
        Standard error that log q has at all draws alike, nats.
    """

    @property
    def log_q_error(self) -> float: ...  # noqa: D102

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""


@dataclass(frozen=True)
class Checked:
    """Draws of a guide and what they say about it.

    Attributes
    ----------
    z
        Draws [draw, dimension]: importance-resampled if `corrected`, plain guide draws otherwise.
    log_p, log_q
        Joint and guide log density of the first draws (all of them unless the table is very large).
    k_hat
        Pareto shape of the weights p/q (Yao et al. 2018): < .5 good, < .7 usable after correction.
    log_weight_sd
        Standard deviation of the log weights (nats).
    elbo, elbo_se, log_evidence
        Evidence lower bound, its Monte-Carlo error, and the importance-weighted estimate.
    effective
        Kish effective sample size of the weights as a share of the proposals.
    """

    z: Tensor
    log_p: Tensor
    log_q: Tensor
    k_hat: float
    log_weight_sd: float
    elbo: float
    elbo_se: float
    log_evidence: float
    effective: float
    corrected: bool


@torch.no_grad()
def check_guide(view: View, guide: Approximation, draws: int, generator: torch.Generator) -> Checked:
    """Draw from an approximation, weigh the draws against the program, and correct them if that can be trusted.

    Four proposals per draw are weighed where that is affordable; systematic resampling with Pareto-smoothed
    weights (Vehtari et al. 2024) then keeps `draws` of them.
    """
    affordable = int(_BUDGET / view.work)
    proposals = 4 * draws if affordable >= 4 * draws else draws
    weighed = min(proposals, max(200, affordable))
    z, log_q = guide.draw(proposals, generator)
    log_q = log_q.double()
    log_p = view.log_joint_of(z[:weighed])
    gap = log_p - log_q[:weighed]
    log_weight, shape = smooth(gap)
    weight, k_hat = log_weight.exp(), float(shape)
    elbo, spread = float(gap.mean()), float(gap.std())
    corrected = k_hat < USABLE and weighed == proposals
    if corrected and proposals > draws:
        keep = systematic(weight, draws, generator)
    else:
        keep = torch.arange(draws, device=z.device)
    inside = keep[keep < weighed]
    return Checked(
        z=z[keep],
        log_p=log_p[inside],
        log_q=log_q[inside],
        k_hat=k_hat,
        log_weight_sd=spread,
        elbo=elbo,
        elbo_se=math.hypot(spread / math.sqrt(weighed), guide.log_q_error),
        log_evidence=float(gap.logsumexp(0)) - math.log(weighed),
        effective=float(1 / (weight**2).sum() / weighed),
        corrected=corrected and proposals > draws,
    )


def systematic(weight: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Return `draws` indices, each proposal about draws x weight times, in random order."""
    start = torch.rand(1, generator=generator, dtype=weight.dtype).to(weight)
    points = (torch.arange(draws, dtype=weight.dtype, device=weight.device) + start) / draws
    index = torch.searchsorted(weight.cumsum(0).clamp_max(1.0), points).clamp_max(len(weight) - 1)
    return index[torch.randperm(draws, generator=generator).to(index.device)]
