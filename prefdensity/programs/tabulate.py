"""From tables to cells: equal comparisons and choice sets collapse, with counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import OUTCOMES, Comparisons
from prefdensity.data.declared import ROW, Column, Held, Table, exchanged, said, same_key
from prefdensity.data.grades import mirror
from prefdensity.errors import DataError, PrefDensityError
from prefdensity.programs.cells import CODED, Cells, RatingCells, contrasts, outside
from prefdensity.programs.standardised import standardised

# Above this many possible keys a sort is cheaper than a table of all of them.
_DENSE_KEYS = 1 << 25


@singledispatch
def cells_of(
    data: Comparisons | Choices,
    outcomes: tuple[str, ...] = OUTCOMES,
    needs: Sequence[str] = ("annotator", "first", "covariates"),
    dtype: torch.dtype = torch.float64,
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
        Which columns keep comparisons apart (annotator, first, covariates, labels and numbers that users named, and
        attributes as in "annotator.age"), and what else programs read; the rest is forgotten.
    dtype
        Of the real tensors. All are on the CPU, where tables are read; `Cells.to` takes them to a device.
    """
    raise TypeError(f"{type(data).__name__} is no table of judgements")


@cells_of.register
def _of_comparisons(
    data: Comparisons,
    outcomes: tuple[str, ...] = OUTCOMES,
    needs: Sequence[str] = ("annotator", "first", "covariates"),
    dtype: torch.dtype = torch.float64,
) -> Cells:
    needs = in_full(data, needs)
    flip = data.item_a > data.item_b
    kept = [each for each in said(data, "outcome") if each.column.name in ("item_a", "item_b", *needs)]
    read = {each.column.name: each for each in exchanged(kept, flip)}
    through = _through_labels(data, needs)
    key, size = same_key([*read.values(), *(each for each in through if each.column.name.split(".")[0] not in needs)])
    rows, cell = _group(key, size)
    total = np.bincount(cell, data.count, len(rows))
    words, code = _judged(data, outcomes, "grades" in needs)
    outcomes = outcomes if words is OUTCOMES else words
    counts: np.ndarray = np.zeros((len(rows), len(outcomes)))
    term = None
    if code is not None:
        judged, size = np.where(flip, np.array(mirror(words))[code], code), len(words)
        counts = np.bincount(cell * size + judged, data.count, size * len(rows)).reshape(-1, size)[:, : len(outcomes)]
        term = cell * len(outcomes) + judged
    make = _Tensors(dtype)
    first, covariates = read.get("first"), read.get("covariates")
    return Cells(
        item_a=make.codes(read["item_a"].values[rows]),
        item_b=make.codes(read["item_b"].values[rows]),
        total=make.reals(total),
        outcomes=outcomes,
        first=None if first is None else make.reals(first.values[rows]),
        covariates=None if covariates is None else make.reals(covariates.values[rows] / data.covariate_scale),
        covariate_scale=None if covariates is None else make.reals(data.covariate_scale),
        covariate_names=() if covariates is None else data.covariate_names,
        measures={name: make.reals(values) for name, values in measures(data).items()},
        # laid out outcome by outcome, like the tables of `outcomes.by_outcome`
        outcome=None if code is None else make.reals(np.ascontiguousarray(counts.T)).T,
        term=None if term is None else make.codes(term),
        ratings=_rating_cells(data, make) if "ratings" in needs else None,
        **make.known(data, [*read.values(), *through], rows, needs),
    )


@cells_of.register
def _of_choices(
    data: Choices,
    outcomes: tuple[str, ...] = ("a", "b"),
    needs: Sequence[str] = ("annotator",),
    dtype: torch.dtype = torch.float64,
) -> Cells:
    needs = in_full(data, needs)
    read = [*(each for each in said(data) if each.column.name in needs), *_through_labels(data, needs)]
    sets, of_row = _in_order(same_key([data.column("sets"), *read])[0])  # type: ignore[list-item]
    rows = _alternatives(data, sets, of_row)
    make = _Tensors(dtype)
    chosen = np.stack([rows["chosen"], np.zeros(len(rows["chosen"]))])
    return Cells(
        item_a=make.codes(rows["item_a"]),
        item_b=make.codes(rows["item_b"]),
        total=make.reals(rows["total"]),
        outcomes=outcomes,
        outcome=make.reals(chosen).T,
        choice=make.codes(rows["choice"]),
        term=make.codes(rows["term"] * len(outcomes)),
        **make.known(data, read, sets[rows["choice"]], needs),
    )


def in_full(data: Table, needs: Sequence[str]) -> list[str]:
    """Return what programs need by the full names of columns: "age" is "annotator.age" where annotators have one."""
    coded = {need for need in needs if need.startswith(CODED)}
    names = [need.removeprefix(CODED) for need in needs]
    full = [data.full_name(name) for name in names]
    return [f"{CODED}{name}" if need in coded else name for need, name in zip(needs, full, strict=True)]


def _through_labels(data: Table, needs: Sequence[str]) -> list[Held]:
    """Return the attributes among the needs as columns of rows: that of the label of each row."""
    found = []
    for need in needs:
        per, _, name = need.partition(".")
        held, labels = data.column(name, per), data.column(per)
        if held is not None and labels is not None:
            found.append(replace(held, column=Column(need, held.column.kind), values=held.values[labels.values]))
    return found


@dataclass(frozen=True)
class _Tensors:
    """Arrays as tensors of one dtype."""

    dtype: torch.dtype

    def __post_init__(self) -> None:
        usual = torch.get_default_device()
        if usual.type != "cpu":  # half of what is made would be there
            raise PrefDensityError(
                f"torch's default device is {str(usual)!r}, and prefdensity says itself what is where: call "
                f"torch.set_default_device('cpu'), and ask for device={str(usual)!r}"
            )

    def reals(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype)

    def codes(self, values: NDArray[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    def numbers(self, held: Held, values: NDArray[Any]) -> Tensor:
        """Return values of a column in its unit."""
        assert held.unit is not None  # every number that users name has one
        return self.reals((values - held.unit[0]) / held.unit[1])

    def known(self, data: Comparisons | Choices, read: Sequence[Held], rows: NDArray[Any], needs: Sequence[str]) -> Any:
        """Return what `Cells` hold of labels and numbers of rows, at these rows, and of what is known of labels."""
        sizes = {name: len(labels) for name, labels in data.vocabularies().items()}
        named = [each for each in read if each.column.name not in ("item_a", "item_b")]
        labels = [each for each in named if each.column.kind == "label"]
        attributes = {}
        for each in data.more:
            name = f"{each.column.per}.{each.column.name}"
            if name in needs and each.column.kind == "label":
                attributes[name], sizes[name] = self.codes(each.values), len(each.words)
            elif name in needs:
                attributes[name] = self.numbers(each, each.values)
        given = data.item_features
        features, unit = (None, None) if given is None else standardised(given, self.dtype)
        numbers = {each.column.name: self.numbers(each, each.values[rows]) for each in named if each.unit}
        spans = {each.column.name: self.numbers(each, np.array(each.unit[2:])) for each in named if each.unit}
        return {
            "sizes": sizes,
            "codes": {
                each.column.name: contrasts(len(each.words)).to(self.reals(()))[self.codes(each.values[rows])]
                for each in labels
                if f"{CODED}{each.column.name}" in needs
            },
            "labels": {each.column.name: self.codes(each.values[rows]) for each in labels},
            "numbers": numbers,
            "spans": spans,
            "outside": outside(numbers, spans),
            "attributes": attributes,
            "features": features,
            "feature_scale": unit,
        }


def known_of(data: Table, needs: Sequence[str]) -> dict[str, Any]:
    """Return what a posterior keeps of labels and numbers that a program reads: labels_of, attributes and units."""
    needs = in_full(data, needs)
    labels: dict[str, tuple[str, ...]] = {}
    labels |= {name: words for name, words in data.vocabularies().items() if name in needs and name != "annotator"}
    attributes: dict[str, tuple[float, ...]] = {}
    units: dict[str, tuple[float, ...]] = {}
    for each in data.more:
        name = each.column.name if each.column.per == ROW else f"{each.column.per}.{each.column.name}"
        if name not in needs:
            continue
        if each.column.kind == "label":
            labels[name] = each.words
        if each.unit is not None:
            units[name] = each.unit
        if each.column.per != ROW:
            middle, size = (each.unit or (0.0, 1.0))[:2]
            attributes[name] = tuple(((each.values - middle) / size).tolist())
    return {"labels_of": labels, "attributes": attributes, "units": units}


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


def _rating_cells(data: Comparisons, make: _Tensors) -> RatingCells:
    ratings = data.ratings
    assert ratings is not None  # a program that needs ratings is refused without them
    keys = [replace(each, words=data.labels(each.column.name)) for each in said(ratings, "ordered")]
    rows, cell = _group(*same_key(keys))
    size = len(ratings.levels)
    counts = np.bincount(cell * size + ratings.level, minlength=len(rows) * size).reshape(-1, size)
    who = ratings.annotator
    return RatingCells(
        item=make.codes(ratings.item[rows]),
        annotator=None if who is None else make.codes(who[rows]),
        level=make.reals(counts),
    )


def _group(key: NDArray[np.int64], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of one member of each group of equal keys below `size`, and the group of each row."""
    if size > _DENSE_KEYS:
        _, rows, group = np.unique(key, return_index=True, return_inverse=True)
        return rows, group
    row_of = np.full(size, -1, np.int64)
    row_of[key] = np.arange(len(key))
    present = np.flatnonzero(row_of >= 0)
    group_of = np.empty(size, np.int64)
    group_of[present] = np.arange(len(present))
    return row_of[present], group_of[key]


def _in_order(key: NDArray[np.int64]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each group of equal keys, in the order of rows, and the group of each row."""
    _, rows, group = np.unique(key, return_index=True, return_inverse=True)
    order = rows.argsort()
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return rows[order], place[group]


def _alternatives(data: Choices, sets: NDArray[np.int64], of_row: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return one row for each alternative of each distinct set: columns as arrays, and the row chosen [choice]."""
    members = list(data.sets[sets])
    times = np.bincount(of_row, minlength=len(members)).astype(float)
    if data.worst is None:
        sides = [(found, np.full(len(found), found[0])) for found in members]
    else:
        sides = [_ordered_pairs(found) for found in members]
    size = np.array([len(a) for a, _ in sides])
    start = np.r_[0, np.cumsum(size)[:-1]]
    choice = np.repeat(np.arange(len(members)), size)
    chosen = np.zeros(len(choice))
    picked = start[of_row] + np.array([_position(data, k, members[s]) for k, s in enumerate(of_row)])
    np.add.at(chosen, picked, 1.0)
    return {
        "item_a": np.concatenate([a for a, _ in sides]),
        "item_b": np.concatenate([b for _, b in sides]),
        "choice": choice,
        "total": times[choice],
        "chosen": chosen,
        "term": picked,
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
