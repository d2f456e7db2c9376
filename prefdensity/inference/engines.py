"""The inference methods, each from a view to an `Answer`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import FitError
from prefdensity.inference.answer import Answer, Settings, answered, log_copies
from prefdensity.inference.basins import STANDING, sentences, shares
from prefdensity.inference.bridge import log_evidence
from prefdensity.inference.chains import Group, walk
from prefdensity.inference.climber import Climber, shifts
from prefdensity.inference.laplace import highest, weighed
from prefdensity.inference.matched import has_propagation, propagated, tells_errors
from prefdensity.inference.maximum import maximum_likelihood, unfelt
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.mode import Mode
from prefdensity.inference.nested import summit
from prefdensity.inference.precision import factor
from prefdensity.inference.profile import profile_of
from prefdensity.inference.quality import check_mixture
from prefdensity.inference.safety import Quantities, errors_of_chains
from prefdensity.inference.variational import Climb, climb_from
from prefdensity.inference.view import View
from prefdensity.posterior.status import DIVERGED, R_HAT
from prefdensity.programs.tabulate import cells_of
from prefdensity.progress import Report

# How far the best Gaussian's scale may be off, in its standard deviations, where a mode knows it sharply and moments on
# a grid cost more: with p parameters and n judgements about p^(1/2) (p / n)^2. Measured .08 at .04 (256 features, 5,000
# votes), .1 to .3 at .2 to .3 (400 to 1,000 items); at 8 (1,024 features, 2,000 votes) it is five times too narrow.
_OFF = 0.5
# Nats that the best Gaussian must promise to gain over the Laplace approximation.
_GAIN = 0.5
# Doublings of a trajectory of nuts, at most.
_DEEPEST = 10


def by_mle(view: View, data: Comparisons, settings: Settings) -> Answer:
    """Maximum likelihood, with draws from the asymptotic normal distribution of the estimate.

    Mean and covariance of the draws are the estimate and the inverse information to rounding, so that standard errors
    are those of the information matrix.
    """
    mode, information = maximum_likelihood(view, data)
    frame = factor(information, floor=0.0)
    generator = torch.Generator().manual_seed(settings.seed)
    draws = max(settings.draws, view.dimension + 2)
    noise = _whitened(torch.randn(draws, view.dimension, generator=generator, dtype=torch.float64)).to(frame)
    held = unfelt(view)
    facts = {
        "method": "mle",
        "converged": True,
        "message": "the likelihood's maximum, checked to exist",
        "steps": mode.iterations,
        "n_parameters": view.dimension - len(held) - len(shifts(view)),
        "deviance": 2 * (_saturated(data, view) - mode.value),
    }
    left_out = tuple(name for name, site in view.sites.items() if site.at.start in held)
    return Answer(mode.z + noise @ frame.T, mode.z, facts, left_out)


def _whitened(noise: Tensor) -> Tensor:
    """Return noise [draw, dimension] with mean 0 and the identity for its covariance (divided by draws - 1)."""
    noise = noise - noise.mean(0)
    covariance = noise.T @ noise / (len(noise) - 1)
    return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), noise.T, upper=False).T


def _saturated(data: Comparisons, view: View) -> float:
    """Return the log likelihood of a program that gives every distinct comparison its observed shares."""
    read = [need for need in view.program.needs if need != "ratings"]
    cells = cells_of(data, view.cells.outcomes, ("annotator", "first", "covariates", *read))
    assert cells.outcome is not None  # a view has data
    counts = cells.outcome.double()
    return float(torch.xlogy(counts, counts / counts.sum(-1, keepdim=True)).sum())


def by_map(view: View, settings: Settings, report: Report) -> Answer:
    """Posterior mode, given the marginal mode of hyperparameters: with a scale the joint density may have no top.

    Of a mode and its mirror image, the one of more evidence.
    """
    climber = Climber(view)
    asked = (view, settings.restarts, settings.seed, report)
    evidence: tuple[float, ...] = ()
    said: tuple[str, ...] = ()
    if view.program.mirrors and climber.has_curvature:
        found, heights = weighed(*asked)
        start, evidence, said = found[0].mode.z, _evidence(found), _said(view, found)
        best = _summit(view, start) if view.hyper else climber.climb(start)
    else:
        modes = highest(*asked)
        best, heights = modes[0], tuple(mode.value for mode in modes)
        if view.hyper and climber.has_curvature:
            best = _summit(view, best.z)
    facts = {
        "method": "map",
        "converged": best.converged,
        "message": f"posterior mode{_cost(view)}",
        "steps": best.iterations,
        "restart_values": heights,
        "modes": evidence,
    }
    return Answer(best.z[None], best.z, facts, warnings=said)


def _summit(view: View, start: Tensor) -> Mode:
    return summit(profile_of(view, start), start.cpu()[list(view.hyper)])


def by_laplace(view: View, settings: Settings, report: Report) -> Answer:
    """Laplace approximation of every mode that stands, importance-corrected."""
    return by_gaussian(view, settings, report, doubted=False)


def by_gaussian(view: View, settings: Settings, report: Report, doubted: bool = True) -> Answer:
    """Laplace approximation of every mode that stands, or if doubted what is better from there.

    Gaussians with the posterior's moments, or where these are not to be had the best one where it gains.
    """
    if not Climber(view).has_curvature:
        raise FitError("laplace needs the full curvature, which is too large here; use method='svi'")
    found, heights = weighed(view, settings.restarts, settings.seed, report)
    matched = _matched(view, found, heights, settings) if doubted and not _is_known(view, found[0]) else None
    if matched is not None:
        return matched
    ways = _ways(view, found) if doubted else None
    if ways is not None and ways[0].gain > _GAIN:
        del found  # as many Gaussians again
        return _best(view, ways, heights, settings)
    facts = {
        "method": "laplace", "message": f"Gaussian at the posterior mode{_over(found)}{_cost(view)}{_unsettled(view)}",
        "restart_values": heights, "modes": _evidence(found),
    }  # fmt: skip
    return _mixed(view, found, facts, settings)


def _is_known(view: View, found: Mixture) -> bool:
    """Whether a mode knows scales sharply, and the best Gaussian knows them as well, or tells more of its errors."""
    if not view.hyper or len(found.weight) > 1:
        return False
    off = view.dimension**0.5 * (view.dimension / float(view.cells.total.sum())) ** 2
    return off <= _OFF or not tells_errors(view)


def by_ep(view: View, settings: Settings, report: Report) -> Answer:
    """Gaussians with the moments of the posterior about every mode that stands, corrected where weights serve.

    Raises
    ------
    FitError
        For a program of which more is felt than margins and two numbers, that is not normal given its scales, or is
        too large; and where nothing settles.
    """
    found, heights = weighed(view, settings.restarts, settings.seed, report)
    matched = _matched(view, found, heights, settings)
    if matched is None:
        raise FitError(
            "ep needs comparisons that feel their margins and at most two numbers that all share, priors that are "
            "normal given the scales, few scales, and 2,000 parameters at most; and it need not settle where a log "
            "likelihood is not concave; use method='auto'"
        )
    return matched


def by_variational(view: View, settings: Settings, report: Report) -> Answer:
    """Gaussian of the highest evidence bound, reached from every mode that stands, importance-corrected.

    Raises
    ------
    FitError
        For a program without local curvature, or too large for a matrix.
    """
    found, heights = weighed(view, settings.restarts, settings.seed, report)
    ways = _ways(view, found)
    del found  # as many Gaussians again
    if ways is None:
        raise FitError("variational needs curvature by comparison, in a matrix; use method='svi'")
    return _best(view, ways, heights, settings)


def improved(view: View, laplace: Answer, settings: Settings) -> Answer | None:
    """Return the answer of the best Gaussians that are reached from a Laplace approximation; None where none is."""
    ways = _ways(view, laplace.found)
    return None if ways is None else _best(view, ways, laplace.facts["restart_values"], settings)


def _matched(view: View, found: Sequence[Mixture], heights: tuple[float, ...], settings: Settings) -> Answer | None:
    """Return the answer of Gaussians with the moments of the posterior; None where a mode has none."""
    if not has_propagation(view):
        return None
    moved = [propagated(view, each) for each in found]
    kept = [each for each in moved if each is not None]
    if len(kept) < len(moved):
        view.memo["unsettled"] = "; ep, which suits so few judgements, did not settle"
        return None
    facts = {
        "method": "ep", "message": f"Gaussian with the moments of the posterior{_over(kept)}",
        "restart_values": heights, "modes": _evidence(kept),
    }  # fmt: skip
    return _mixed(view, sorted(kept, key=lambda each: -each.log_evidence), facts, settings)


def _ways(view: View, found: Sequence[Mixture]) -> list[Climb] | None:
    """Return the way to the best Gaussians from every mode; None where one has none."""
    ways = [climb_from(view, each) for each in found]
    there = [way for way in ways if way is not None]
    return there if len(there) == len(ways) else None


def _best(view: View, ways: list[Climb], heights: tuple[float, ...], settings: Settings) -> Answer:
    """Return the answer of the best Gaussians; the ways are gone behind it."""
    evidence = _evidence([way.found for way in ways])
    kept = [ways.pop(0).top() for _ in evidence]
    facts = {
        "method": "variational", "message": f"Gaussian of the highest evidence bound{_over(kept)}{_unsettled(view)}",
        "restart_values": heights, "modes": evidence,
    }  # fmt: skip
    return _mixed(view, kept, facts, settings)


def _mixed(view: View, found: list[Mixture], facts: dict[str, Any], settings: Settings) -> Answer:
    """Return the answer of the Gaussians of all modes, checked and corrected."""
    approximation = Mixture.joined(found)
    generator = torch.Generator().manual_seed(settings.seed)
    checked = check_mixture(view, approximation, settings.draws, generator)
    facts |= {"converged": approximation.converged, "steps": approximation.iterations}
    answer = answered(view, checked, approximation.mode.z, facts, _said(view, found))
    return replace(answer, found=tuple(found))


def _over(found: list[Mixture]) -> str:
    size = len(found[0].weight)
    return f", over a grid of {size} hyperparameter values" if size > 1 else ""


def _cost(view: View) -> str:
    """Say why a program has no curvature summed up over comparisons, and what that costs; nothing where it has."""
    why = view.memo.get("spread")
    return f"; its curvature took {view.dimension} passes over the table, for {why}" if why else ""


def _unsettled(view: View) -> str:
    """Say where Gaussians with the moments of the posterior were looked for in vain."""
    said: str = view.memo.get("unsettled", "")
    return said


def _evidence(found: list[Mixture]) -> tuple[float, ...]:
    return tuple(each.log_evidence for each in found)


def _said(view: View, found: list[Mixture]) -> tuple[str, ...]:
    return sentences(view, [each.mode.z for each in found], shares(_evidence(found)))


def by_nuts(view: View, settings: Settings, report: Report) -> Answer:
    """NUTS chains, preconditioned by the Laplace approximation of the mode that each starts at.

    Each starts from a draw of its Gaussian. Chains at one mode are as far apart as that says the posterior is wide;
    only chains at several modes can find that those disagree.
    """
    chains, generator = settings.chains, torch.Generator().manual_seed(settings.seed)
    modes, heights = weighed(view, settings.restarts, settings.seed, report)
    places = places_of(shares(_evidence(modes)), chains)
    walked = walk(
        view, [_started(modes[place].main, places.count(place), generator) for place in sorted(set(places))],
        draws=settings.draws, warmup=settings.warmup, seed=settings.seed, deepest=_DEEPEST,
        report=lambda done: report("nuts transitions", done, settings.warmup + settings.draws),
    )  # fmt: skip
    r_hat, taken = float(split_gelman_rubin(walked.z, 0, 1).max()), walked.z.shape[1]
    facts = {
        "method": "nuts", "chains": chains, "r_hat": r_hat,
        "effective": float(effective_sample_size(walked.z, 0, 1).min()),
        "divergences": walked.divergences, "converged": not walked.interrupted and r_hat < R_HAT,
        "steps": chains * taken,
        "message": f"interrupted after {taken} of {settings.draws} draws of each chain" if walked.interrupted
        else "chains are complete",
        "restart_values": heights, "modes": _evidence(modes),
    }  # fmt: skip
    z = walked.z.flatten(0, 1)
    facts["log_evidence"] = log_evidence(view, z, Mixture.joined(modes), generator) + log_copies(view)
    said = _said(view, modes)
    if max(places) > 0 and not r_hat < R_HAT:
        listed = ", ".join(f"{places.count(place)} of {chains}" for place in sorted(set(places)))
        said += (
            f"Chains started at {max(places) + 1} modes ({listed}) and did not come together: the shares of the modes "
            "among the draws are those of the starts. method='laplace' draws from them by their evidence.",
        )
    error: dict[str, Tensor] = {}  # chains that diverge miss a part of the posterior, and nothing tells how much
    if walked.divergences <= DIVERGED * len(z):
        error = errors_of_chains(Quantities.at(view, z), chains, len(z))
    return Answer(z, z.mean(0), facts, error=error, warnings=said)


def _started(main: tuple[Tensor, Tensor], chains: int, generator: torch.Generator) -> Group:
    """Return chains that start from draws of a Gaussian."""
    base, frame = main
    noise = torch.randn(chains, len(base), generator=generator, dtype=torch.float64).to(base)
    return Group(base, frame, base + (noise * frame if frame.dim() == 1 else noise @ frame.T))


def places_of(share: list[float], chains: int) -> list[int]:
    """Return the mode at which each chain starts: by shares, at least one at each that stands, if there is room."""
    standing = [s for s in share if s >= STANDING][:chains]
    counts = [1] * len(standing)
    for _ in range(chains - len(standing)):
        counts[int(np.argmax([s / (n + 0.5) for s, n in zip(standing, counts, strict=True)]))] += 1
    return [place for place, count in enumerate(counts) for _ in range(count)]
