"""What users name: further labels and numbers of rows, dates among them, attributes of any label, and items."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import by_label, empty, encode_labels, listed, numbers, parsed, shown
from prefdensity.data.declared import Column, Held
from prefdensity.errors import DataError
from prefdensity.words import counted, shortened

# What the library itself calls a column, a plate, or what a program needs.
_TAKEN = {
    "row", "comparison", "choice", "rating", "unit", "fit", "type", "item", "item_a", "item_b", "items", "outcome",
    "grade", "grades", "count", "annotator", "context", "first", "strength", "covariate", "covariates", "feature",
    "features", "measure", "measures", "ratings", "sets", "best", "worst", "total",
}  # fmt: skip
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAY = datetime.timedelta(days=1)
MISSING = "(missing)"  # the level of an attribute that is no number, where a cell is empty


def columns_of(argument: str, given: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return name -> column of `groups` or `numbers`: a name, a list of names, or a mapping."""
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, Mapping):
        return dict(given)
    if len(set(given)) < len(given):
        raise DataError(f"{argument}={list(given)!r} names a column twice")
    return {name: name for name in given}


def require_free(named: Mapping[str, str], argument: str) -> None:
    """Refuse names that the library uses itself, or that cannot be written in a program's needs."""
    for name, column in named.items():
        if name in _TAKEN:
            why, better = "which means something else here; give it another name", f"my_{name}"
        elif not isinstance(name, str) or not name.isidentifier():
            why, better = "for a name has letters, digits and underscores; give it one", _as_name(str(name))
        else:
            continue
        raise DataError(f"programs cannot call a column {name!r}, {why}, as in {argument}={{{better!r}: {column!r}}}")


def _as_name(text: str) -> str:
    """Return a name that programs can call a column, near to what it is called."""
    name = re.sub(r"\W+", "_", text).strip("_")
    return name if name.isidentifier() and name not in _TAKEN else f"my_{name or 'column'}"


def read_named(
    frame: pd.DataFrame, groups: Mapping[str, str], figures: Mapping[str, str], source: str
) -> tuple[Held, ...]:
    """Return the columns of labels and of numbers that users named, every row checked."""
    both = sorted(groups.keys() & figures.keys())
    if both:
        raise DataError(f"{both[0]!r} is both among groups and among numbers; it is labels or numbers")
    found = []
    for name, column in groups.items():
        labels, (codes,) = encode_labels(frame, (column,), source)
        found.append(Held(Column(name, "label"), codes, labels))
    for name, column in figures.items():
        found.append(Held(Column(name, "number"), numbers_or_dates(frame[column], source)))
    return tuple(found)


def numbers_or_dates(values: pd.Series, source: str, where: str = "in row") -> NDArray[np.float64]:
    """Return float64 [entry] from numbers, or from dates: days since the beginning of 1970, in UTC.

    Dates are dates or times of Python or pandas, or texts as in ISO 8601: 2024-05-31, 2024-05-31T14:30:00+02:00. Other
    ways to write a date are refused, for 03/04/2024 is in March or in April.

    Raises
    ------
    DataError
        Naming the column and the row of a cell that is missing, or neither.
    """
    codes, days = _dates(values)
    if not any(days):
        return numbers(values, source, where=where, expected="numbers, or dates as in 2024-05-31")
    wrong = np.array([each is None for each in days] + [True])[codes]
    if wrong.any():
        row = int(wrong.argmax())
        place = values.index[row] + 1 if where == "in row" else repr(values.index[row])
        raise DataError(
            f"{source}: column {values.name!r} holds dates, and {shown(values.iloc[row])} {where} {place}, which is "
            "none; dates are written as in 2024-05-31 or 2024-05-31T14:30:00"
        )
    known = [each for each in days if each is not None]
    if len({zoned for _, zoned in known}) > 1:
        raise DataError(f"{source}: column {values.name!r} holds times with a time zone and without; give all one")
    return np.array([day for day, _ in known])[codes]


def _dates(values: pd.Series) -> tuple[NDArray[np.intp], list[tuple[float, bool] | None]]:
    """Return the place [entry] of every cell among the different ones (-1: empty), and what `_days` says of these."""
    if pd.api.types.is_numeric_dtype(values):
        return np.zeros(len(values), np.intp), []
    codes, uniques = pd.factorize(values.astype(object))
    return codes, [_days(value) for value in uniques]


def _days(value: object) -> tuple[float, bool] | None:
    """Return days since 1970 of a date, and whether it has a time zone; None of what is no date."""
    if isinstance(value, str):
        text = value.strip()
        if text.isdigit():  # 20240531 is a number
            return None
        try:
            value = datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime) or pd.isna(value):
        return None
    zoned = value.tzinfo is not None
    return ((value if zoned else value.replace(tzinfo=datetime.UTC)) - _EPOCH) / _DAY, zoned


def read_attributes(
    tables: Mapping[str, pd.DataFrame], vocabularies: Mapping[str, tuple[str, ...]], source: str
) -> tuple[tuple[Held, ...], tuple[str, ...]]:
    """Return columns that describe labels, one for every column of every frame, and notes on empty cells.

    Numbers and dates stay numbers; other columns are categories, and so are columns of the pandas dtype "category". An
    empty cell of a category is a level of its own, which is noted.

    Raises
    ------
    DataError
        For unknown labels, a label without a row or with two, a number that is missing, or a column that holds numbers
        and words.
    """
    found: list[Held] = []
    notes: list[str] = []
    for per, frame in tables.items():
        if per not in vocabularies:
            known = ", ".join(vocabularies)
            raise DataError(f"{source} has no labels called {per!r} to describe; it has those of {known}")
        role = f"attributes of {per}"
        table = by_label(frame, vocabularies[per], role, per)
        _require_free_attributes(table.columns, role)
        for name in table.columns:
            values = table[name]
            if is_numeric(values, role, per):
                figures = numbers_or_dates(values, role, f"for {per}")
                found.append(Held(Column(name, "number", per), figures))
                continue
            none = empty(values)
            if none.any():
                notes.append(f"{int(none.sum())} empty cells in {name!r} of {role} are a level of their own, {MISSING}")
            words = values.astype(object).where(~none, MISSING)
            levels, (codes,) = encode_labels(words.reset_index(drop=True).to_frame(), (name,), role)
            found.append(Held(Column(name, "label", per), codes, levels))
    return tuple(found), tuple(notes)


def _require_free_attributes(columns: Iterable[Any], role: str) -> None:
    for name in map(str, columns):
        try:
            require_free({name: name}, "attributes")
        except DataError:
            remedy = f"rename it, for example to {_as_name(name)!r}"
            raise DataError(f"{role}: programs cannot call a column {name!r}; {remedy}") from None


def is_numeric(values: pd.Series, role: str, per: str) -> bool:
    """Say whether an attribute is a number, or a date; refuse one that is sometimes."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return False
    present = values[~empty(values)]
    _, days = _dates(present)
    if any(days) or not len(present):
        return bool(len(present))
    number = ~np.isnan(parsed(present))
    if number.any() and not number.all():
        label = present.index[int((~number).argmax())]
        raise DataError(
            f"{role}: column {values.name!r} holds numbers, and {shown(present[label])} for {per} {label!r}; an "
            "attribute is a number throughout, or words"
        )
    return bool(number.all())


def require_among(
    given: Iterable[Any], known: Sequence[str], argument: str, what: str = "item", whose: str = "table"
) -> None:
    """Raise `DataError` unless all names that are given are known; it tells the first that is not, and what is near."""
    there = set(known)
    unknown = [name for name in given if not isinstance(name, str) or name not in there]
    if unknown:
        more = f", and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise DataError(f"{argument}: {unknown[0]!r} is no {what} of the {whose}{more}; {meant(unknown[0], known)}")


def meant(name: Any, known: Sequence[str]) -> str:
    """Return which name is near to one that is not known, or what there is."""
    near = get_close_matches(str(name), known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {listed(known, 5) if known else 'none'}"


def of_items(given: Any, items: Sequence[str], argument: str, *, every: bool = False) -> dict[str, Any]:
    """Return what a mapping, or a series, says of items.

    Raises
    ------
    DataError
        For what is neither, for names that are no items, and with `every` for items of which it says nothing.
    """
    said = given.to_dict() if isinstance(given, pd.Series) else given
    if not isinstance(said, Mapping):
        raise DataError(
            f"{argument}={shortened(repr(given))} must be a mapping from items, as in {{{items[0]!r}: ...}}"
        )
    require_among(said, items, argument)
    absent = [item for item in items if item not in said] if every else []
    if absent:
        raise DataError(f"{argument} lacks {len(absent):,} of {counted(len(items), 'item')}, first {absent[0]!r}")
    return dict(said)
