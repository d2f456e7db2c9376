"""The methods by name; for "auto", which approximation is enough, and what to do where none is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import FitError
from prefdensity.inference.answer import Answer, Settings, log_copies
from prefdensity.inference.basins import shares
from prefdensity.inference.bridge import log_evidence
from prefdensity.inference.chains import Group, walk
from prefdensity.inference.climber import Climber
from prefdensity.inference.engines import (
    by_ep,
    by_gaussian,
    by_laplace,
    by_map,
    by_mle,
    by_nuts,
    by_variational,
    improved,
    places_of,
)
from prefdensity.inference.ensemble import by_ensemble
from prefdensity.inference.matched import has_propagation
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.mode import sites_at_modes
from prefdensity.inference.precision import DENSE
from prefdensity.inference.safety import Quantities, errors_of_chains
from prefdensity.inference.stochastic import by_svi
from prefdensity.inference.variational import has_best
from prefdensity.inference.view import View
from prefdensity.posterior.status import DIVERGED, K_USABLE, R_HAT, SAFE, approximates
from prefdensity.progress import Report

METHODS = ("auto", "laplace", "ep", "variational", "svi", "nuts", "map", "mle")
# Cell evaluations of one density up to which the best Gaussian is looked for by fixed point, and by stochastic steps,
# of which there are thousands.
_LARGE, _STEPS = 1_000_000, 50_000
# A program this small is sampled where no Gaussian holds it: known in advance to take a few seconds.
_FEW_PARAMETERS, _FEW_CELLS = 200, 10_000
# Share of entries that are safe to read from which on an approximation is enough.
_MOSTLY = 0.8
# Squared parameters for each judgement from which on a Gaussian at the mode is doubted.
_THIN = 2.0
# Chains, many and short: together in groups that each start from one point, so that what has not yet settled is seen
# as a difference between groups (Margossian, Hoffman, Sountsov et al. 2024, Bayesian Analysis, nested R-hat).
_GROUPS, _WARMUP, _LONG = 4, 60, 50
# Split R-hat up to which chains nearly settle (Gelman and Rubin 1992, Statistical Science 7, 457-472).
_NEAR = 1.1


@dataclass(frozen=True)
class _Walk:
    """How chains walk: how many in a group, doublings of a trajectory, and rounds of transitions, at most."""

    together: int
    deepest: int
    rounds: int


# Many chains cost a short table no more than one. A larger table pays for each, and what is slow there are the few
# scalars that hundreds of entries hang on, which long trajectories move: at most 310 of them, of 15 steps.
_SHORT, _FEW = _Walk(16, 3, 3), _Walk(2, 4, 2)
# A larger program is sampled where not even the best Gaussian holds it, if that takes a minute or two: parameters, for
# steps pass through their covariance, and cell evaluations.
_SOME_PARAMETERS, _SOME_CELLS = 2_000, 60_000


def infer(method: str, view: View, data: Comparisons | None, settings: Settings, report: Report) -> Answer:
    """Run one method; `data` serves mle alone."""
    if method == "mle":
        if data is None:
            raise FitError("method='mle' is for comparisons; use laplace, svi, nuts or map")
        return by_mle(view, data, settings)
    if method == "map":
        return by_map(view, settings, report)
    engines = {
        "auto": by_auto, "laplace": by_laplace, "ep": by_ep, "variational": by_variational, "svi": by_svi,
        "nuts": by_nuts,
    }  # fmt: skip
    if sites_at_modes(view):
        return by_ensemble(engines[method], view, settings, report)
    return engines[method](view, settings, report)


def by_auto(view: View, settings: Settings, report: Report) -> Answer:
    """Laplace; where it does not hold the posterior the best Gaussian, and short NUTS chains where that does not.

    Where judgements are few, Gaussians with the moments of the posterior come first. An approximation holds it where
    k-hat does not speak against it and most rows are safe. The best Gaussian is found by fixed
    point where curvature is local, and by svi where it is not and the program too large for chains at once. Of chains
    and an approximation either of which may do, or neither, the one with more rows that are safe is returned.
    """
    if not Climber(view).has_curvature:
        return by_svi(view, settings, report)
    first = (by_gaussian if _is_doubted(view) else by_laplace)(view, settings, report)
    holds = stands(first) or first.facts["method"] == "ep"  # which tells its errors without weights
    if holds and _mostly_safe(first, settings.draws):
        return first
    try:
        return _beyond(first, view, settings, report)
    except KeyboardInterrupt:  # before there was anything better
        return _with_message(first, "interrupted, so this is the approximation alone")


def stands(answer: Answer) -> bool:
    """Say whether the approximation of an answer holds the posterior."""
    facts = answer.facts
    return approximates(facts["k_hat"], facts["log_weight_sd"], facts["proposals"])


def _beyond(first: Answer, view: View, settings: Settings, report: Report) -> Answer:
    small = _is_small(view)
    stays = first.facts["method"] in ("ep", "variational") or (small and len(first.found) > 1)  # chains see all modes
    best = first if stays else _best(first, view, settings, report)
    if small:
        # a border that noise blurs is no reason to forgo chains that cost as much
        holds = best is not first and best.facts["k_hat"] < K_USABLE and _mostly_safe(best, settings.draws)
        return best if holds else _walked(best, view, settings, report, _SHORT)
    if best.found and not stands(best) and _is_walkable(view) and has_best(view):  # svi finds no place to start from
        return _walked(best, view, settings, report, _FEW)
    return best


def _walked(first: Answer, view: View, settings: Settings, report: Report, how: _Walk) -> Answer:
    """Return what short chains say if they settle or more of it is safe, else the approximation they start from.

    Where as much is safe, and that approximation does not hold the posterior, chains that nearly settle are nearer.
    """
    chains = by_short_chains(first, view, settings, report, how)
    nearer = not stands(first) and chains.facts["r_hat"] < (_NEAR if _safe(chains) == _safe(first) else R_HAT)
    if nearer or "interrupted" in chains.facts["message"] or _safe(chains) > _safe(first):
        return chains
    return _with_message(first, f"short NUTS chains served no better (R-hat {chains.facts['r_hat']:.2f})")


def _best(first: Answer, view: View, settings: Settings, report: Report) -> Answer:
    """Return the one Gaussian that holds the posterior, or that of the higher bound: at the mode or best from there.

    A few weights tell a bound, and many bent ones another: what holds the posterior is better.
    """
    many = view.dimension > DENSE  # for which svi would offer independent coordinates only, which is less
    second = None if many or view.work > _LARGE else improved(view, first, settings)
    if second is None and (many or view.work > _STEPS):
        return _with_message(first, "svi was not tried at this size, method='svi' does")
    if second is None and (stands(first) or _is_small(view)):  # which is sampled
        return first
    second = second or by_svi(view, settings, report)
    interrupted = "interrupted" in second.facts["message"]  # returned, not hidden
    holds = stands(second) - stands(first)
    higher = second.facts["elbo"] > first.facts["elbo"]
    return second if interrupted or holds > 0 or (holds == 0 and higher) else first


def _is_small(view: View) -> bool:
    return view.dimension <= _FEW_PARAMETERS and view.work <= _FEW_CELLS


def _is_walkable(view: View) -> bool:
    return view.dimension <= _SOME_PARAMETERS and view.work <= _SOME_CELLS


def _is_doubted(view: View) -> bool:
    """Whether a Gaussian at the mode may not do, and there is another.

    That is where judgements are few for the parameters: what a mode misses grows with the square of how many of these
    there are, over judgements (nats of the bound). A small program is sampled where its moments are not to be had.
    """
    if view.work > _LARGE or view.dimension**2 <= _THIN * float(view.cells.total.sum()):
        return False
    return has_propagation(view) or (not _is_small(view) and has_best(view))


def _safe(answer: Answer) -> int:
    """Return how many entries of sites are safe to read."""
    return sum(int((error <= SAFE).sum()) for error in answer.error.values())


def _mostly_safe(answer: Answer, draws: int) -> bool:
    """Say whether most entries are safe, or would be if more draws were kept: few weights say little of k-hat."""
    share = answer.share_safe(draws)
    return share is None or share >= _MOSTLY


def _with_message(answer: Answer, more: str) -> Answer:
    return replace(answer, facts=answer.facts | {"message": f"{answer.facts['message']}; {more}"})


def by_short_chains(first: Answer, view: View, settings: Settings, report: Report, how: _Walk = _SHORT) -> Answer:
    """NUTS in many short chains at once from draws of an approximation; thinned to the draws that were asked for.

    Groups start at every mode that stands, so that modes between which chains do not travel are seen as well.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    places = places_of(shares(first.facts["modes"]), _GROUPS)
    starts = torch.cat([first.found[place].draw(1, generator)[0] for place in places])
    each = max(_LONG, -(-settings.draws // (_GROUPS * how.together)))
    walked = walk(
        view, [Group(*first.found[0].main, starts.repeat_interleave(how.together, 0))], draws=each, warmup=_WARMUP,
        seed=settings.seed, enough=lambda z: _between(_grouped(z)) < R_HAT, rounds=how.rounds, deepest=how.deepest,
        report=lambda done: report("short nuts chains", done, _WARMUP + how.rounds * each),
    )  # fmt: skip
    groups = _grouped(walked.z)
    between = _between(groups)
    message = "short chains agree" if between < R_HAT else "short chains do not agree"
    facts = {
        "method": "nuts", "chains": _GROUPS, "r_hat": between,
        "effective": float(effective_sample_size(walked.z, 0, 1).min()),
        "log_evidence": log_evidence(view, walked.z.flatten(0, 1), Mixture.joined(first.found), generator)
        + log_copies(view),
        "divergences": walked.divergences, "converged": between < R_HAT and not walked.interrupted,
        "restart_values": first.facts["restart_values"], "modes": first.facts["modes"],
        "steps": walked.z.shape[0] * walked.z.shape[1],
        "message": f"{len(starts) * how.together} {message}" + (", interrupted" if walked.interrupted else ""),
    }  # fmt: skip
    kept = -(-settings.draws // _GROUPS)
    error: dict[str, Tensor] = {}  # chains that diverge miss a part of the posterior, and nothing tells how much
    if walked.divergences <= DIVERGED * facts["steps"]:
        error = errors_of_chains(Quantities.at(view, groups.flatten(0, 1)), _GROUPS, kept * _GROUPS, how.together)
    z = groups[:, torch.linspace(0, groups.shape[1] - 1, kept).long()].flatten(0, 1)
    return Answer(z, z.mean(0), facts, error=error, warnings=first.warnings)


def _grouped(z: Tensor) -> Tensor:
    """Return draws [group, transition and chain, dimension]: the chains of a group side by side are one long chain."""
    return z.unflatten(0, (_GROUPS, -1)).transpose(1, 2).flatten(1, 2)


def _between(groups: Tensor) -> float:
    """Return the largest split R-hat of groups; halves of them tell of drift."""
    return float(split_gelman_rubin(groups, 0, 1).max())
