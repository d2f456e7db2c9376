"""From tables to cells: equal comparisons and choice sets collapse, with counts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import OUTCOMES, Comparisons
from prefdensity.data.grades import mirror
from prefdensity.errors import DataError
from prefdensity.programs.cells import Cells, RatingCells

# Above this many possible keys a sort is cheaper than a table of all of them.
_DENSE_KEYS = 1 << 25


@singledispatch
def cells_of(
    data: Comparisons | Choices,
    outcomes: tuple[str, ...] = OUTCOMES,
    needs: Sequence[str] = ("annotator", "first", "covariates"),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Cells:
    """Return the distinct comparisons, or choice sets, of a table with counts, as tensors: what programs see.

    A choice set has one row for each alternative: side a is the alternative; side b is the set's first member, or for
    best-worst answers the worst item, so that u_a - u_b is the alternative's log weight up to a constant of the set.

    Parameters
    ----------
    data
        The table.
    outcomes
        The outcomes to count; a tie in `data` needs "tie" among them. The grades of `data` take their place where
        `needs` has "grades".
    needs
        Which of annotator, first, covariates keep comparisons apart, and what else programs read; the rest is
        forgotten.
    dtype, device
        Of the real tensors (default float64) and of all tensors.
    """
    raise TypeError(f"{type(data).__name__} is no table of judgements")


@cells_of.register
def _of_comparisons(
    data: Comparisons,
    outcomes: tuple[str, ...] = OUTCOMES,
    needs: Sequence[str] = ("annotator", "first", "covariates"),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Cells:
    dtype = dtype or torch.float64
    flip = data.item_a > data.item_b
    item_a = np.where(flip, data.item_b, data.item_a)
    item_b = np.where(flip, data.item_a, data.item_b)
    sign = np.where(flip, -1, 1)
    annotator = data.annotator if "annotator" in needs else None
    first = data.first * sign if "first" in needs and data.first is not None else None
    covariates = None
    if "covariates" in needs and data.covariates is not None:
        assert data.covariate_scale is not None  # wherever there are covariates
        covariates = data.covariates / data.covariate_scale * sign[:, None]
    keys = [(item_a, len(data.items)), (item_b, len(data.items))]
    if annotator is not None:
        keys.append((annotator, len(data.annotators)))
    if first is not None:
        keys.append((first + 1, 3))
    if covariates is not None:
        for column in covariates.T:
            levels, codes = np.unique(column, return_inverse=True)
            keys.append((codes, len(levels)))
    rows, cell = _group(keys)
    total = np.bincount(cell, data.count, len(rows))
    labels, code = _judged(data, outcomes, "grades" in needs)
    outcomes = outcomes if labels is OUTCOMES else labels
    counts: np.ndarray = np.zeros((len(rows), len(outcomes)))
    term = None
    if code is not None:
        judged, size = np.where(flip, np.array(mirror(labels))[code], code), len(labels)
        counts = np.bincount(cell * size + judged, data.count, size * len(rows)).reshape(-1, size)[:, : len(outcomes)]
        term = cell * len(outcomes) + judged

    def real(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=dtype, device=device)

    def integer(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=torch.int64, device=device)

    return Cells(
        item_a=integer(item_a[rows]),  # type: ignore[arg-type]
        item_b=integer(item_b[rows]),  # type: ignore[arg-type]
        total=real(total),  # type: ignore[arg-type]
        outcomes=outcomes,
        n_items=len(data.items),
        n_annotators=len(data.annotators),
        annotator=integer(None if annotator is None else annotator[rows]),
        first=real(None if first is None else first[rows]),
        covariates=real(None if covariates is None else covariates[rows]),
        covariate_scale=real(None if covariates is None else data.covariate_scale),
        features=real(None if data.item_features is None else standardised(data.item_features)),
        feature_scale=real(None if data.item_features is None else spread(data.item_features)),
        measures={name: real(values) for name, values in measures(data).items()},  # type: ignore[misc]
        # laid out outcome by outcome, like the tables of `outcomes.by_outcome`
        outcome=None if code is None else real(np.ascontiguousarray(counts.T)).T,  # type: ignore[union-attr]
        term=integer(term),
        ratings=_rating_cells(data, dtype, device) if "ratings" in needs else None,
    )


@cells_of.register
def _of_choices(
    data: Choices,
    outcomes: tuple[str, ...] = ("a", "b"),
    needs: Sequence[str] = ("annotator",),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Cells:
    known = data.annotator if "annotator" in needs else None
    rows = _alternatives(data, known)
    dtype = dtype or torch.float64
    codes = ("item_a", "item_b", "choice", "annotator")
    integer = {name: torch.tensor(rows[name], device=device) for name in codes}
    chosen = np.stack([rows["chosen"], np.zeros(len(rows["chosen"]))])
    features = scale = None
    if data.item_features is not None:
        features = torch.tensor(standardised(data.item_features), dtype=dtype, device=device)
        scale = torch.tensor(spread(data.item_features), dtype=dtype, device=device)
    return Cells(
        item_a=integer["item_a"],
        item_b=integer["item_b"],
        total=torch.tensor(rows["total"], dtype=dtype, device=device),
        outcomes=outcomes,
        n_items=len(data.items),
        n_annotators=len(data.annotators),
        annotator=None if known is None else integer["annotator"],
        features=features,
        feature_scale=scale,
        outcome=torch.tensor(chosen, dtype=dtype, device=device).T,
        choice=integer["choice"],
    )


def measures(data: Comparisons | Choices) -> dict[str, np.ndarray]:
    """Return the item measures of a table by name, each [item]."""
    return {} if data.item_measures is None else dict(zip(data.measure_names, data.item_measures.T, strict=True))


def _judged(data: Comparisons, outcomes: tuple[str, ...], graded: bool) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Return the labels of judgements and the place of each row's among them."""
    if not graded or not data.grades:
        return OUTCOMES, data.outcome
    if outcomes not in (OUTCOMES, data.grades):
        raise DataError(
            f"{data.source} has the grades {', '.join(data.grades)}, and these were fitted: {', '.join(outcomes)}"
        )
    return data.grades, None if data.outcome is None else data.grade


def _rating_cells(data: Comparisons, dtype: torch.dtype, device: str) -> RatingCells:
    ratings = data.ratings
    assert ratings is not None  # a program that needs ratings is refused without them
    keys = [(ratings.item, len(data.items))]
    if ratings.annotator is not None:
        keys.append((ratings.annotator, len(data.annotators)))
    rows, cell = _group(keys)
    size = len(ratings.levels)
    counts = np.bincount(cell * size + ratings.level, minlength=len(rows) * size).reshape(-1, size)
    who = ratings.annotator
    return RatingCells(
        item=torch.tensor(ratings.item[rows], device=device),
        annotator=None if who is None else torch.tensor(who[rows], device=device),
        level=torch.tensor(counts, dtype=dtype, device=device),
    )


def standardised(features: np.ndarray) -> np.ndarray:
    """Return features [item, feature] with mean 0 and standard deviation 1; constant ones become 0."""
    return np.asarray((features - features.mean(0)) / spread(features))


def spread(features: np.ndarray) -> np.ndarray:
    """Return the standard deviations [feature] of features [item, feature]; 1 of constant ones."""
    found = features.std(0)
    return np.where(found > 0, found, 1.0)


def _group(keys: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of one member of each group of equal keys, and the group of each row."""
    key = np.zeros(len(keys[0][0]), np.int64)
    size = 1
    for codes, levels in keys:
        if size * levels >= 2**62:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key, size = key * levels + codes, size * levels
    if size > _DENSE_KEYS:
        _, rows, group = np.unique(key, return_index=True, return_inverse=True)
        return rows, group
    row_of = np.full(size, -1, np.int64)
    row_of[key] = np.arange(len(key))
    present = np.flatnonzero(row_of >= 0)
    group_of = np.empty(size, np.int64)
    group_of[present] = np.arange(len(present))
    return row_of[present], group_of[key]


def _alternatives(data: Choices, annotator: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
    """Return one row for each alternative of each distinct set (of each annotator): columns as arrays."""
    place: dict[tuple[bytes, int], int] = {}
    members: list[NDArray[np.int64]] = []
    of_set = np.empty(len(data), np.int64)
    for k, found in enumerate(data.sets):
        key = (found.tobytes(), 0 if annotator is None else int(annotator[k]))
        if key not in place:
            place[key] = len(members)
            members.append(found)
        of_set[k] = place[key]
    who = np.array([judge for _, judge in place])
    times = np.bincount(of_set, minlength=len(members)).astype(float)
    if data.worst is None:
        sides = [(found, np.full(len(found), found[0])) for found in members]
    else:
        sides = [_ordered_pairs(found) for found in members]
    size = np.array([len(a) for a, _ in sides])
    start = np.r_[0, np.cumsum(size)[:-1]]
    choice = np.repeat(np.arange(len(members)), size)
    chosen = np.zeros(len(choice))
    picked = [_position(data, k, members[s]) for k, s in enumerate(of_set)]
    np.add.at(chosen, start[of_set] + np.array(picked), 1.0)
    return {
        "item_a": np.concatenate([a for a, _ in sides]),
        "item_b": np.concatenate([b for _, b in sides]),
        "choice": choice,
        "annotator": who[choice],
        "total": times[choice],
        "chosen": chosen,
    }


def _ordered_pairs(members: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    a, b = np.meshgrid(members, members, indexing="ij")
    different = a != b
    return a[different], b[different]


def _position(data: Choices, k: int, members: NDArray[np.int64]) -> int:
    """Return which alternative of its set choice k took, in the order of `_alternatives`."""
    best = int(np.searchsorted(members, data.best[k]))
    if data.worst is None:
        return best
    worst = int(np.searchsorted(members, data.worst[k]))
    return best * (len(members) - 1) + worst - (worst > best)
