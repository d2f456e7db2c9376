"""Columns of a table of measured units, read and checked: labels, rungs, features, prices, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import empty as is_empty, encode_labels, shown
from prefdensity.errors import DataError
from prefdensity.judged.columns import (
    first_row,
    read_columns,
    read_groups,
    read_numbers,
    read_words,
    require_asked,
)

Array = NDArray[Any]

_MOST_CATEGORIES, _MOST_ITEMS = 20, 60


def read_features(
    frame: pd.DataFrame, columns: Sequence[str], source: str, baseline: bool
) -> tuple[tuple[str, ...], Array]:  # fmt: skip
    """Return names and numbers [unit, feature] of columns of numbers, or of up to 20 words, without empty cells.

    A column of words is an indicator for each, "column=word"; with a `baseline` for each but the first in their order.
    """
    names: list[str] = []
    parts = [np.zeros((len(frame), 0))]
    for column in columns:
        given = frame[column].reset_index(drop=True)
        none = is_empty(given)
        if none.any():
            raise DataError(f"{source}: column {column!r} is empty in row {first_row(none)}; every unit needs a value")
        part = _numbers_or_words(frame, column, given, none, source)
        if pd.to_numeric(given, errors="coerce").notna().all():
            names.append(column)
        else:
            words = sorted({str(value) for value in given})[baseline:]
            names, part = [*names, *(f"{column}={word}" for word in words)], part[:, int(baseline) :]
        parts.append(part)
    return tuple(names), np.hstack(parts)


def read_sides(frame: pd.DataFrame, between: tuple[str, str], source: str) -> tuple[tuple[str, ...], Array]:
    """Return names of items, and [unit, item] 1 for the item on the first side, -1 for that on the second."""
    items, (first, second) = encode_labels(frame.reset_index(drop=True), between, source)
    same = first == second
    if same.any():
        row = first_row(same)
        raise DataError(f"{source}: {items[first[row - 1]]!r} is compared with itself in row {row}")
    if len(items) > _MOST_ITEMS:
        raise DataError(f"{source}: {len(items)} items are compared; up to {_MOST_ITEMS} can be a target")
    one = np.eye(len(items))
    return tuple(map(str, items)), one[first] - one[second]


def read_label(
    frame: pd.DataFrame, label: str, minus: str | None, values: Mapping[str, float] | None, source: str
) -> Array:  # fmt: skip
    """Return the label [unit], NaN where it is empty."""
    columns = []
    for column in (label, minus) if minus else (label,):
        if values is not None:
            given = frame[column].reset_index(drop=True)
            none = is_empty(given)
            strange = ~none & ~given.isin(list(values)).to_numpy()
            if strange.any():
                row = first_row(strange)
                raise DataError(
                    f"{source}: column {column!r} holds {shown(given[row - 1])} in row {row}; values are known of "
                    f"{', '.join(map(repr, values))}"
                )
            columns.append(given.map(values).to_numpy(float))
        else:
            columns.append(read_numbers(frame, column, source, empty=True))
    if minus:
        alone = np.isnan(columns[0]) != np.isnan(columns[1])
        if alone.any():
            raise DataError(f"{source}: only one of {label!r} and {minus!r} has a value in row {first_row(alone)}")
        return np.asarray(columns[0] - columns[1])
    return columns[0]


def read_subgroups(frame: pd.DataFrame, by: str, source: str) -> tuple[tuple[str, ...], Array]:
    """Return names of subgroups and their indicators [unit, group]."""
    code = read_groups(frame, by, source)
    first = [frame[by].iloc[int(np.argmax(code == k))] for k in range(int(code.max()) + 1)]
    if len(first) > _MOST_CATEGORIES:
        raise DataError(f"{source}: column {by!r} names {len(first)} subgroups; at most {_MOST_CATEGORIES} are taken")
    return tuple(f"{by}={value}" for value in first), np.eye(len(first))[code]


def came(part: Array) -> Array:
    """Return whether a rung was bought [unit]."""
    return np.asarray(~np.isnan(part).any(1))


def by_rung(given: Mapping[str, Any] | None, names: tuple[str, ...], what: str) -> list[Any]:
    """Return what is given for each rung; nothing if nothing is."""
    if given is None:
        return []
    if set(given) != set(names):
        raise DataError(f"{what}={dict(given)!r} must name every rung and no other: {', '.join(names)}")
    return [given[name] for name in names]


def read_prices(given: Mapping[str, float] | None, names: tuple[str, ...]) -> Array | None:
    """Return the price of each rung; None where none is given."""
    prices = by_rung(given, names, "prices")
    wrong = [name for name, price in zip(names, prices, strict=bool(prices)) if not 0 < price < np.inf]
    if wrong:
        raise DataError(f"the price of {wrong[0]!r} must be positive; what is free belongs to free=, not to a rung")
    return np.array(prices, float) if prices else None


def read_measures(frame: pd.DataFrame, columns: tuple[str, ...], source: str) -> Array:
    """Return the measures of a rung as numbers [unit, k], all NaN where every cell is empty."""
    parts, nothing = [], np.ones(len(frame), bool)
    for column in columns:
        given = frame[column].reset_index(drop=True)
        none = is_empty(given)
        nothing &= none
        part = _numbers_or_words(frame, column, given, none, source)
        part[none] = 0.0
        parts += [part, none.astype(float)[:, None]]
    out = np.hstack(parts)
    told = (out[~nothing] != 0).any(0)
    out = out[:, told] if told.any() else out[:, :1]
    out[nothing] = np.nan
    return out


def _numbers_or_words(frame: pd.DataFrame, column: str, given: pd.Series, none: Array, source: str) -> Array:
    """Return numbers [unit, 1], or one column for each of a few words."""
    as_number = pd.to_numeric(given.where(~none), errors="coerce").notna().to_numpy()
    if as_number[~none].all():
        return np.array(read_numbers(frame, column, source, empty=True)[:, None])
    if as_number.any():
        row = first_row(~as_number & ~none)
        raise DataError(
            f"{source}: column {column!r} holds {shown(given[row - 1])} in row {row} among numbers; numbers or words "
            "are needed, not both"
        )
    words = sorted({str(value) for value in given[~none]})
    if len(words) > _MOST_CATEGORIES:
        raise DataError(
            f"{source}: column {column!r} holds {len(words)} different words; up to {_MOST_CATEGORIES} are taken as "
            "categories, numbers as they are"
        )
    return np.column_stack([(given.astype(str) == word).to_numpy(float) for word in words])


def read_asked(frame: pd.DataFrame, column: str, names: tuple[str, ...], seen: list[Array], source: str) -> Array:
    """Return whether each rung was asked for [unit, rung], from the dearest one; nothing comes that was not."""
    reached = read_words(frame, column, ("nothing", *names), source)
    asked = reached[:, None] > np.arange(len(names))
    for name, came, mine in zip(names, seen, asked.T, strict=True):
        require_asked(came, mine, name, frame, column, source)
    return np.asarray(asked)


def read_chances(
    frame: pd.DataFrame, columns: list[str], names: tuple[str, ...], seen: list[Array], source: str
) -> Array:  # fmt: skip
    """Return P(bought) [unit, rung], all 1 for a pilot; never more than of the rung below."""
    if not columns:
        for name, each in zip(names, seen, strict=True):
            if not each.all():
                raise DataError(
                    f"{source} has no {name} in row {first_row(~each)} and no probabilities; name the columns of the "
                    "probabilities that the rungs were bought with"
                )
        return np.ones((len(frame), len(names)))
    p = read_columns(frame, columns, source)
    for name, column, chance, each in zip(names, columns, p.T, seen, strict=True):
        wrong = ~((chance > 0) & (chance <= 1)) | ((chance == 1) & ~each)
        if wrong.any():
            row = first_row(wrong)
            raise DataError(
                f"{source}: column {column!r} holds {chance[row - 1]:g} in row {row}; a probability in (0, 1] is "
                f"needed, 1 only where {name} was bought"
            )
    for low, high, less, more in zip(names, names[1:], p.T, p.T[1:], strict=False):
        if (more > less).any():
            raise DataError(
                f"{source}: the probability of {high} exceeds that of {low} in row {first_row(more > less)}; a rung is "
                "bought with all below it"
            )
    return p
