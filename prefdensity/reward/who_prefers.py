"""What groups of annotators think of responses: rewards, and how likely somebody of each prefers one to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.grades import scores
from prefdensity.errors import DataError
from prefdensity.posterior.by_group import by_group, utilities_in
from prefdensity.posterior.courses import places, require_over
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.questions import given_to, question_cells
from prefdensity.reward.response_sets import ResponseSets

Array = NDArray[np.float64]

_STRANGERS = 8  # annotators drawn from a population, to average a judgement over
_MOST = 40_000_000  # draws x groups x pairs


@dataclass(frozen=True, eq=False)
class Seen:
    """Groups, and what they think.

    Attributes
    ----------
    names, share
        Of the groups, and their shares [group] of the judgements.
    reward
        Utilities [draw, group, item].
    average
        Utilities [draw, item] of everybody.
    prefer
        P(a is preferred) [draw, group, pair], ties half.
    """

    names: tuple[str, ...]
    share: Array
    reward: Array
    average: Array
    prefer: Array


def seen_by(
    post: Posterior, data: Comparisons, groups: str | Mapping[str, Posterior] | None, over: str | None,
    at: Sequence[Any] | None, sets: ResponseSets, draws: int, seed: int,
) -> Seen:  # fmt: skip
    """Return what groups think, or everybody at some dates; arguments as in `compare_policies`."""
    require_over(over, at, groups=groups)
    if over is not None:
        return _over(post, data, over, at, sets, draws, seed)
    if isinstance(groups, Mapping):
        return _of_fits(post, groups, sets, draws, seed)
    if groups is None:
        return _of_types(post, sets, draws, seed)
    return _of_label(post, data, groups, sets, draws, seed)


def _of_types(post: Posterior, sets: ResponseSets, draws: int, seed: int) -> Seen:
    utility = post.utilities()
    typed = utility.ndim == 3
    step = _step(post, utility.shape[1] if typed else 1, sets, draws)
    reward = (utility if typed else utility[:, None])[::step]
    weight = post.draws["type_weight"][::step] if typed else np.ones((len(reward), 1))
    names = tuple(f"type {k + 1}" for k in range(reward.shape[1])) if typed else ("everybody",)
    prefer = _preferred(post, sets, step, seed)
    return Seen(names, weight.mean(0), reward, np.einsum("dt,dti->di", weight, reward), prefer)


def _of_label(post: Posterior, data: Comparisons, label: str, sets: ResponseSets, draws: int, seed: int) -> Seen:
    found = by_group(post, label)  # refuses what the program does not read
    nearest = data.groups_of(found.label)  # codes are those of the fit's table
    return _in_places(post, data, found.label, found.names, np.arange(len(found.names)), nearest, sets, draws, seed)


def _over(
    post: Posterior, data: Comparisons, over: str, at: Sequence[Any] | None, sets: ResponseSets, draws: int, seed: int
) -> Seen:
    """Return what everybody thinks at some dates, each with the judgements nearest to it for its share."""
    over, asked, place = places(post, over, at)
    names = tuple(f"{over} {each:.10g}" if isinstance(each, float) else f"{over} {each}" for each in asked)
    middle, spread, *_ = post.units[over]
    when = (data.numbers_of(over) - middle) / spread
    nearest = np.abs(when[:, None] - place).argmin(1)
    return _in_places(post, data, over, names, place, nearest, sets, draws, seed)


def _in_places(
    post: Posterior, data: Comparisons, label: str, names: tuple[str, ...], place: NDArray[Any], nearest: NDArray[Any],
    sets: ResponseSets, draws: int, seed: int,
) -> Seen:  # fmt: skip
    """Return what is thought at places of a label or number, `nearest` [row] saying which a judgement belongs to."""
    count = np.bincount(nearest, data.count, len(names))
    share = count / count.sum()
    step = _step(post, len(names), sets, draws)
    reward = utilities_in(post, label, place)[::step]
    prefer = np.stack([_preferred(post, sets, step, seed, label, each)[:, 0] for each in place], 1)
    return Seen(names, share, reward, np.einsum("g,dgi->di", share, reward), prefer)


def _of_fits(post: Posterior, fits: Mapping[str, Posterior], sets: ResponseSets, draws: int, seed: int) -> Seen:
    if not fits:
        raise DataError("groups={} names no group; give a fit for each")
    for name, each in fits.items():
        if each.items != post.items or each.utilities().ndim != 2:
            raise DataError(
                f"the fit of group {name!r} must have one utility for each of the {len(post.items)} items of the fit "
                "to all; put items that a group has not judged into its votes by with_items"
            )
    everyone = post.utilities()
    if everyone.ndim == 3:
        everyone = np.einsum("dt,dti->di", post.draws["type_weight"], everyone)
    count = max(2, min([draws, post.n_draws, *(each.n_draws for each in fits.values())]))
    count = min(count, max(30, _MOST // max(1, len(fits) * len(sets.a))))
    reward, prefer = [], []
    for each in fits.values():
        step = each.n_draws // count
        reward.append(each.utilities()[::step][:count])
        prefer.append(_preferred(each, sets, step, seed)[:count, 0])
    share = np.array([each.n_comparisons for each in fits.values()], float)
    average = everyone[:: post.n_draws // count][:count]
    return Seen(tuple(fits), share / share.sum(), np.stack(reward, 1), average, np.stack(prefer, 1))


def _step(post: Posterior, groups: int, sets: ResponseSets, draws: int) -> int:
    """Return the distance of draws that are used."""
    most = min(draws, max(30, _MOST // max(1, groups * len(sets.a))))
    return max(1, post.n_draws // most)


def _preferred(post: Posterior, sets: ResponseSets, step: int, seed: int, label: str = "", place: float = 0) -> Array:
    """Return P(a is preferred) [draw, type, pair] for somebody new, of one place of a label if it is named."""
    where = np.full(len(sets.a), place)
    who = where if label == "annotator" else None
    at: dict[str, Any] = {label: where} if label and who is None else {}
    cells = question_cells(post, post.program, sets.a, sets.b, who, at=at)
    met = {"item", label}
    strange = {each for each in ("annotator", *post.labels_of) if not {each, each.partition(".")[0]} & met}
    given = given_to(post, cells, strange)
    value = torch.tensor(scores(post.outcomes)).to(post.device)
    total: Array | None = None
    strangers = 1 if len(given) == len(post.drawn) else _STRANGERS
    for k in range(strangers):
        tables = outcome_tables(post, cells, given=given, step=step, seed=seed + 7919 * k)
        own = torch.cat([table.log_prob.exp() @ value for table in tables]).cpu().numpy()
        total = own if total is None else total + own
    assert total is not None
    return total / strangers
