"""How well an approximation stands for the posterior, which numbers are safe, and importance-corrected draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from prefdensity.inference.bent import Bend, bend_of
from prefdensity.inference.displacement import displacement, errors_left_out, errors_of_displaced
from prefdensity.inference.mixture import Mixture, Remainder
from prefdensity.inference.safety import BOUND, Quantities, errors_of_weighed, looked_at
from prefdensity.inference.view import Density, View
from prefdensity.posterior.psis import USABLE, effective_size, k_hat_error, smooth, systematic, tempered
from prefdensity.posterior.status import K_GOOD

# Density evaluations (in cell evaluations) spent on judging an approximation. From so many on a few slopes are looked
# at first: every coordinate of a draw costs as much as so many.
_BUDGET, _DEAR, _COORDINATE = 3e8, 2e7, 20
# Cell evaluations of a first look, for weights and for slopes, and the fewest and most draws for either.
_LOOK, _WEIGHED = 1e7, (128, 1000)
_STEEP, _SLOPES = 3e6, (64, 256)
_PROPOSALS, _MOST = 4, 48  # per draw to keep: in a batch, and in all
_EVEN = 0.5  # standard deviation of log weights of which half of these draws tell enough
# Where weights would leave fewer draws than these effective ones, they are tempered until they leave as many.
_FEWEST = 0.5  # per draw to keep
# Effective proposals, as a share of them, from which on weights are even enough for what is right without.
_LEVEL = 0.5
_BENT = 3  # times that an approximation is bent, at most


class Approximation(Protocol):
    """Anything that can be drawn from with a density: a guide, a Laplace mixture.

    Attributes
    ----------
    log_q_error
        Standard error that log q has at all draws alike, nats.
    matched
        Whether its means and covariances are meant to be those of what it stands for.
    """

    @property
    def log_q_error(self) -> float: ...  # noqa: D102

    @property
    def matched(self) -> bool: ...  # noqa: D102

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""


@dataclass(frozen=True)
class Checked:
    """Draws of an approximation and what they say about it.

    Attributes
    ----------
    z
        Draws [draw, dimension], resampled by their importance weights to the power `tempering`.
    log_p, log_q
        Joint and guide log density of the first draws (all of them unless the table is very large).
    k_hat
        Pareto shape of the weights p/q (Yao et al. 2018): < .5 good, < .7 usable.
    log_weight_sd
        Standard deviation of the log weights (nats).
    elbo, elbo_se, log_evidence
        Evidence lower bound, its Monte-Carlo error, and the importance-weighted estimate, or that of the approximation.
    effective, proposals
        Kish effective sample size of the smoothed weights, and of how many proposals.
    tempering
        1: corrected by the smoothed weights; below 1: by a power of them; 0: uncorrected.
    error
        Per site, the estimated error of each entry's mean over the draws, in posterior standard deviations.
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
    proposals: int
    tempering: float
    error: dict[str, Tensor]

    @property
    def facts(self) -> dict[str, Any]:
        """What a fit's status says of it."""
        names = "k_hat", "log_weight_sd", "tempering", "proposals", "elbo", "elbo_se", "log_evidence", "effective"
        return {name: getattr(self, name) for name in names} | {"corrected": self.tempering == 1}


@dataclass(frozen=True)
class _Weighed:
    """Proposals z [proposal, dimension] with log p, log q and smoothed log weights [proposal]."""

    z: Tensor
    log_p: Tensor
    log_q: Tensor
    log_weight: Tensor
    k_hat: float

    @property
    def effective(self) -> float:
        return effective_size(self.log_weight)

    def bend(self, first: Tensor, fewest: float) -> Bend:
        """Return the bend that weights ask for, so flat that they leave `fewest` effective proposals."""
        return bend_of(first, self.z, tempered(self.log_weight, fewest)[1])

    def settled(self, wanted: float) -> bool:
        """More proposals would say nothing else: they serve well, or they never will."""
        if not math.isfinite(self.k_hat):
            return True
        band = k_hat_error(self.k_hat, len(self.z))
        serves = self.k_hat + band < USABLE and self.effective >= wanted
        return serves or self.k_hat - 2 * band > USABLE


@dataclass(frozen=True)
class _Bent:
    """An approximation whose draws are moved and bent."""

    matched: ClassVar[bool] = False

    start: Approximation
    bend: Bend

    @property
    def log_q_error(self) -> float:
        return self.start.log_q_error

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z, log_q = self.start.draw(draws, generator)
        return z, log_q - self.bend.take(z).to(log_q)


@torch.no_grad()
def check_guide(view: Density, guide: Approximation, draws: int, generator: torch.Generator) -> Checked:
    """Draw from an approximation, weigh the draws against the program, and correct them.

    Two proposals per draw are weighed where that is affordable, and two more unless these serve. While k-hat is above
    .5 or they are worth less than the draws, as many others are, moved and bent to where the weights say that the
    posterior is, as long as that serves better (population Monte Carlo; Cappe, Guillin, Marin and Robert 2004, JCGS 13,
    907-929); then more of the same,
    until the diagnosis settles or the budget is spent. Systematic
    resampling with Pareto-smoothed weights (Vehtari et al. 2024) keeps `draws` of them, also where k-hat is high:
    smoothed weights are then biased, but less than none (and tempered where they would leave few draws).
    Only where the densities of all draws are out of reach are the draws those of the approximation; and of one whose
    means and covariances are right without, where weights are uneven: in many dimensions they miss tails that it has,
    long before k-hat tells.
    """
    affordable = int(_BUDGET / view.work)
    if affordable < _PROPOSALS * draws:
        return _uncorrected(view, guide, draws, max(200, affordable), generator)
    found = _weigh(view, guide, _PROPOSALS * draws // 2, generator, None)
    if found.k_hat >= K_GOOD or not found.settled(draws):
        found = _weigh(view, guide, _PROPOSALS * draws - len(found.z), generator, found)
    left = 0 if guide.matched else min(affordable, _MOST * draws) // (_PROPOSALS * draws) - 1
    plain, first = guide, found.z
    for turn in range(_BENT):
        enough = found.k_hat < K_GOOD and (turn > 0 or found.effective >= draws)
        if enough or left <= (turn > 0) or not math.isfinite(found.k_hat):
            break
        bent = _Bent(plain, found.bend(first, draws))
        other = _weigh(view, bent, _PROPOSALS * draws, generator, None)
        left -= 1
        if other.effective <= found.effective:
            break
        found, guide = other, bent
    while not found.settled(draws) and left:
        found = _weigh(view, guide, _PROPOSALS * draws, generator, found)
        left -= 1
    tempering, log_weight = tempered(found.log_weight, _FEWEST * draws)
    uneven = guide.matched and found.effective < _LEVEL * len(found.z)
    if uneven or not math.isfinite(found.k_hat):  # a density that is not finite weighs nothing
        tempering, log_weight = 0.0, torch.zeros_like(log_weight).log_softmax(0)
    keep = systematic(log_weight.exp(), draws, generator)
    seen = looked_at(view, found.z, found.log_weight, log_weight, generator)
    parts, gap = Quantities.parts(view, found.z[seen[0]]), found.log_p - found.log_q
    error = errors_of_weighed(parts, gap, found.log_weight, log_weight, found.k_hat, draws, seen)
    return _checked(found, guide, keep, tempering, error)


@torch.no_grad()
def check_mixture(view: View, mixture: Mixture, draws: int, generator: torch.Generator) -> Checked:
    """Check a mixture of Gaussians, by a first look at a few draws where thousands are dear.

    The look displaces draws to where the posterior's means are, as far as that is clear, and says how far they may
    still be off. Where weights would make the means no better, which they do not in many dimensions, or are not to be
    had, these are the draws; everywhere else see `check_guide`. A mixture with the moments of the posterior that tells
    what it leaves out is asked for errors itself, unless its weights are even.
    """
    if mixture.remainder is not None:
        return _told(view, mixture, mixture.remainder, draws, generator)
    checked = _looked(view, mixture, draws, generator)
    # weights say less of the evidence than moments do
    unweighed = mixture.matched and checked.tempering == 0
    return replace(checked, log_evidence=mixture.log_evidence) if unweighed else checked


def _told(view: View, mixture: Mixture, left: Remainder, draws: int, generator: torch.Generator) -> Checked:
    z, log_q, pick = mixture.drawn(draws, generator)
    weighed = min(_within(_LOOK / view.work, _WEIGHED), draws)
    log_p, log_q = view.log_joint_of(z[:weighed]), log_q[:weighed].double()
    log_weight, shape = smooth(log_p - log_q)
    found = _Weighed(z, log_p, log_q, log_weight, float(shape))
    if found.effective >= _LEVEL * weighed and _BUDGET / view.work >= _PROPOSALS * draws:
        return check_guide(view, mixture, draws, generator)
    error = errors_left_out(view, z, pick, left, draws)
    checked = _checked(found, mixture, torch.arange(draws, device=z.device), 0.0, error)
    return replace(checked, log_evidence=mixture.log_evidence)


def _looked(view: View, mixture: Mixture, draws: int, generator: torch.Generator) -> Checked:
    if _PROPOSALS * draws * (view.work + _COORDINATE * view.dimension) < _DEAR:
        return check_guide(view, mixture, draws, generator)
    z, log_q, pick = mixture.drawn(draws, generator)
    few = min(_within(_STEEP / view.work, _SLOPES), draws)
    seen = displacement(view, mixture, z[: few // 2], pick[: few // 2])
    if not seen.is_clear(mixture):
        seen = displacement(view, mixture, z[:few], pick[:few], seen)
    moved = not mixture.matched and seen.serves(mixture, z.std(0))
    if moved:
        z.add_(seen.first)
    weighed = min(_within(_LOOK / view.work, _WEIGHED), draws)
    log_p = seen.log_p.new_empty(0) if moved else seen.log_p[:weighed]
    for count in (weighed // 2, weighed):
        if len(log_p) < count:
            log_p = torch.cat([log_p, view.log_joint_of(z[len(log_p) : count])])
        if float((log_p - log_q[: len(log_p)]).std()) < _EVEN:
            break
    log_q = log_q[: len(log_p)].double()
    log_weight, shape = smooth(log_p - log_q)
    error = errors_of_displaced(view, z, seen, moved, draws)
    found = _Weighed(z, log_p, log_q, log_weight, float(shape))
    affordable = _BUDGET / view.work >= _PROPOSALS * draws
    if affordable and _weights_serve(error, float((log_p - log_q).var()), draws):
        return check_guide(view, mixture, draws, generator)
    return _checked(found, mixture, torch.arange(draws, device=z.device), 0.0, error)


def _within(wanted: float, limits: tuple[int, int]) -> int:
    return int(min(max(wanted, limits[0]), limits[1]))


def _weights_serve(error: dict[str, Tensor], variance: float, draws: int) -> bool:
    """Whether weights would bring means nearer than errors say that they are without: log-normal ones, that is."""
    without = torch.cat([each.flatten() for each in error.values()]).square().mean().sqrt()
    noise = 1 / draws + math.exp(min(variance, 100.0)) / (_PROPOSALS * draws)
    return not float(without) < BOUND * math.sqrt(noise)


def _weigh(
    view: Density, guide: Approximation, count: int, generator: torch.Generator, before: _Weighed | None
) -> _Weighed:
    """Return `count` more proposals with those of `before`, all weighed together."""
    z, log_q = guide.draw(count, generator)
    log_p, log_q = view.log_joint_of(z), log_q.double()
    if before is not None:
        z, log_p, log_q = (torch.cat(pair) for pair in ((before.z, z), (before.log_p, log_p), (before.log_q, log_q)))
    log_weight, shape = smooth(log_p - log_q)
    return _Weighed(z, log_p, log_q, log_weight, float(shape))


def _uncorrected(view: Density, guide: Approximation, draws: int, weighed: int, generator: torch.Generator) -> Checked:
    """Return plain draws, of which only the first are weighed: the table is very large."""
    z, log_q = guide.draw(draws, generator)
    first = min(weighed, draws)
    log_p, log_q = view.log_joint_of(z[:first]), log_q[:first].double()
    log_weight, shape = smooth(log_p - log_q)
    found = _Weighed(z, log_p, log_q, log_weight, float(shape))
    return _checked(found, guide, torch.arange(draws, device=z.device), 0.0, {})


def _checked(
    found: _Weighed, guide: Approximation, keep: Tensor, tempering: float, error: dict[str, Tensor]
) -> Checked:
    gap = found.log_p - found.log_q
    weighed, spread = len(gap), float(gap.std())
    inside = keep[keep < weighed]
    return Checked(
        z=found.z[keep],
        log_p=found.log_p[inside],
        log_q=found.log_q[inside],
        k_hat=found.k_hat,
        log_weight_sd=spread,
        elbo=float(gap.mean()),
        elbo_se=math.hypot(spread / math.sqrt(weighed), guide.log_q_error),
        log_evidence=float(gap.logsumexp(0)) - math.log(weighed),
        effective=found.effective,
        proposals=weighed,
        tempering=tempering,
        error=error,
    )
