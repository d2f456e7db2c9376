"""Items that are one thing under several names, counted as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import ROW, Held, require_table
from prefdensity.data.named import of_items, require_among
from prefdensity.errors import DataError

Array = NDArray[Any]
T = TypeVar("T", bound=Comparisons | Choices)


def as_one(data: T, same: Mapping[str, str]) -> T:
    """Return the table with items counted as others, under whose names they go (what goes is counted in its notes).

    Judgements between two names of one item say nothing and are left out; a set has one item once. What is known of an
    item is kept of the name that stays.

    Parameters
    ----------
    data
        Comparisons, or choices from sets.
    same
        Name that goes -> name that stays.

    Raises
    ------
    DataError
        For a name that the table does not have, or one that goes and should stay, or where nothing would be left.
    """
    require_table(data)
    items = data.labels("item")
    same = of_items(same, items, "same")
    require_among(same.values(), items, "same")
    for gone, stays in same.items():
        if stays in same:
            raise DataError(f"{gone!r} is to be counted as {stays!r}, which itself goes; name the item that stays")
    if not same:
        return data
    kept = [name for name in items if name not in same]
    place = np.array([kept.index(same.get(name, name)) for name in items])
    first = np.array([items.index(name) for name in kept])
    held = [_renamed(each, place, first, tuple(kept)) for each in data.columns]
    told = [each for each in held if each.column.per == ROW and each.column.names == "item"]
    rows = np.flatnonzero(_says_something(told))
    if not len(rows):
        raise DataError("no judgement would be left: all are between names of one item")
    lost = float(data.count.sum() - data.count[rows].sum())
    words = ", ".join(f"{a} as {b}" for a, b in same.items())
    note = f"items counted as one on request ({words}); {lost:g} judgements between them left out"
    found = cast(T, data.holding(held).take(rows))
    changed: dict[str, Any] = {"notes": (*found.notes, note)}
    if data.ratings is not None:
        changed["ratings"] = replace(data.ratings, item=place[data.ratings.item])
    return replace(found, **changed)


def _renamed(held: Held, place: Array, first: Array, kept: tuple[str, ...]) -> Held:
    """Return a column with items by their new codes; what describes items, of those whose names stay."""
    if held.column.per == "item":
        return replace(held, values=held.values[first])
    if held.column.per != ROW or held.column.names != "item":
        return held
    if held.column.kind == "set":
        values = np.empty(len(held.values), dtype=object)
        values[:] = [np.unique(place[each]) for each in held.values]
        return replace(held, values=values, words=kept)
    return replace(held, values=place[held.values], words=kept)


def _says_something(told: list[Held]) -> Array:
    """Return whether rows [row] are still about two items."""
    sets = [each for each in told if each.column.kind == "set"]
    labels = [each.values for each in told if each.column.kind == "label"]
    if sets:
        many = np.array([len(each) > 1 for each in sets[0].values])
        return many if len(labels) == 1 else many & (labels[0] != labels[1])
    return np.asarray(labels[0] != labels[1])
