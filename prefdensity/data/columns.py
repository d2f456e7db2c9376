"""Columns of a table, read strictly: labels that stay the labels they are, and numbers that are numbers.

What pandas would turn into something else is refused here, with the column and the row, whoever reads the column: a
missing cell becomes a code there, a date nanoseconds, a long id a rounded float, and 1 and True are one value.
"""

from __future__ import annotations

import datetime
import math
import numbers as kinds
import re
import reprlib
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.words import counted

# Whole floats are exact up to here; beyond, two ids may have become one, and counts do not add up.
EXACT = 2.0**53
# Squares of larger numbers overflow in what is computed from a column.
_LARGEST = 1e100
_ROWS = 512  # of a table of features that are looked at together

_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[.,' ]\d{3})+(?:[.,]\d+)?")  # 1,234.5 and 1.234,5

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def shown(value: Any) -> str:
    """Return a value as errors quote it: its repr, long texts cut in the middle."""
    return _short.repr(value.item() if isinstance(value, np.generic) else value)


def listed(names: Iterable[Any], most: int = 20) -> str:
    """Return the names of columns as errors list them."""
    names = list(map(str, names))
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return (", ".join(names[:most]) or "none") + more


def label_text(value: Any) -> str:
    """Return the label that a cell holds: its text, or the number, date or id as text.

    Raises
    ------
    DataError
        Saying what the cell holds in the place of a label; the caller adds column and row.
    """
    if isinstance(value, str):
        return _fit(value)
    if isinstance(value, bool | np.bool_ | kinds.Integral | datetime.date | Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, float | np.floating):
        if not float(value).is_integer():  # also infinite
            raise DataError(f"holds fractional numbers where labels are expected, such as {shown(value)}")
        if abs(float(value)) >= EXACT:
            raise DataError(f"holds {value:.0f} as a float, which has lost the last digits of an id; give it as text")
        return str(int(value))
    article = "an" if type(value).__name__[:1] in "aeiouAEIOU" else "a"
    raise DataError(f"holds {article} {type(value).__name__}, {shown(value)}, where labels are expected")


def _fit(text: str) -> str:
    """Return a text that can be shown, saved and told from others, or say why it cannot."""
    if text.isprintable() and not text.isspace() and text:
        return text
    if is_blank(text):
        raise DataError("is blank")
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise DataError(f"holds half a character, {shown(character)}, in {shown(text)}; it was cut or damaged")
        if kind == "Cc" and character not in "\t\n\r":
            raise DataError(f"holds the control character {shown(character)} in {shown(text)}; take it out")
    return text


def is_blank(value: Any) -> bool:
    """Return whether a cell holds a text without anything to see: blanks, or characters without width."""
    if not isinstance(value, str):
        return False
    return not value.strip() or all(unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cf") or c.isspace() for c in value)


def empty(values: pd.Series) -> NDArray[np.bool_]:
    """Return which cells [row] hold nothing: missing ones and blank texts."""
    textual = isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_string_dtype(values)
    if not textual and values.dtype != object:
        return values.isna().to_numpy()
    if not textual and pd.api.types.infer_dtype(values) != "string":
        return values.isna().to_numpy() | np.fromiter(map(is_blank, values), bool, len(values))
    codes, uniques = pd.factorize(values)
    return np.r_[np.fromiter(map(is_blank, uniques), bool, len(uniques)), True][codes]


def encode_labels(
    frame: pd.DataFrame, columns: Sequence[str], source: str
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Return one sorted vocabulary of some columns, and the code in it of every row of each.

    Raises
    ------
    DataError
        Naming the column and the row of a missing or blank label, or of a cell that is no label.
    """
    parts = [_distinct(frame[column], column, source) for column in columns]
    vocabulary = sorted({label for labels, _ in parts for label in labels})
    index = pd.Index(vocabulary, dtype=object)
    return tuple(vocabulary), [index.get_indexer(pd.Index(labels, dtype=object))[codes] for labels, codes in parts]


def _distinct(values: pd.Series, column: str, source: str) -> tuple[list[str], NDArray[np.intp]]:
    """Return labels, perhaps with doubles, and the place [row] of each row's label among them."""
    if values.dtype == object and pd.api.types.infer_dtype(values, skipna=False) != "string":
        # equal and yet different labels, 1 and True: pandas would give all of them the first one's name
        found: list[Any] = list(values)
        codes = np.where(values.isna().to_numpy(), -1, np.arange(len(found)))
    else:
        codes, uniques = pd.factorize(values)
        found = list(uniques)
    if (codes < 0).any():
        row = values.index[int((codes < 0).argmax())] + 1
        raise DataError(f"{source}: column {column!r} is empty in row {row}; every row needs a label there")
    labels = []
    for place, value in enumerate(found):
        try:
            labels.append(label_text(value))
        except DataError as error:
            row = values.index[int((codes == place).argmax())] + 1
            raise DataError(f"{source}: row {row} of column {column!r} {error}") from None
    return labels, codes


def numbers(
    values: pd.Series,
    source: str,
    *,
    valid: Callable[[NDArray[np.float64]], Any] = lambda x: True,
    expected: str = "finite numbers",
    blank: bool = False,
    where: str = "in row",
) -> NDArray[np.float64]:
    """Return float64 [row] from a column of numbers, or of texts that spell them; booleans are 1 and 0.

    Parameters
    ----------
    values
        The column.
    source
        Shown in errors.
    valid, expected
        Which finite numbers are right, and how to say so.
    blank
        Missing cells are allowed, and become NaN.
    where
        How to name a place: by the row, or by what the index holds ("for item").

    Raises
    ------
    DataError
        Naming the column and the row of a cell that is missing, is no number, or is not a valid one.
    """
    number = parsed(values)
    with np.errstate(invalid="ignore"):
        right = np.isfinite(number) & valid(number)
        large = np.isfinite(number) & (np.abs(number) > _LARGEST)
    wrong = ~(right | empty(values)) if blank else ~right
    if not wrong.any() and large.any():
        wrong, expected = large, f"numbers of a size below {_LARGEST:g}, to be computed with"
    if wrong.any():
        row = int(wrong.argmax())
        label = values.index[row]
        place = f"{where} {label + 1}" if where == "in row" else f"{where} {label!r}"
        raise DataError(
            f"{source}: column {values.name!r} must hold {expected}, and holds {shown(values.iloc[row])} {place}"
            + ("; write numbers without signs for thousands" if _GROUPED.fullmatch(str(values.iloc[row])) else "")
        )
    return number


def parsed(values: pd.Series) -> NDArray[np.float64]:
    """Return float64 [row], NaN where a cell is no real number."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        known = parsed(pd.Series(values.cat.categories))
        return np.r_[known, np.nan][values.cat.codes.to_numpy()]
    if values.dtype != object and not pd.api.types.is_string_dtype(values):
        real = pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values)
        if not real or pd.api.types.is_complex_dtype(values):
            return np.full(len(values), np.nan)
        return values.to_numpy(np.float64, na_value=np.nan)
    if pd.api.types.infer_dtype(values) not in ("string", "integer", "floating", "mixed-integer-float"):
        values = pd.Series([value if _is_number(value) else None for value in values], dtype=object)
    try:
        return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    except (OverflowError, TypeError, ValueError):  # whole numbers beyond any float
        return np.array([_as_float(value) for value in values])


def _is_number(value: Any) -> bool:
    return isinstance(value, str | kinds.Real | Decimal | np.bool_)


def _as_float(value: Any) -> float:
    try:
        return float(value) if _is_number(value) else math.nan
    except (OverflowError, ValueError):
        return math.nan


def require_columns(frame: pd.DataFrame, columns: Mapping[str, str], source: str) -> None:
    """Raise `DataError` unless each role's column is there, once."""
    for role, name in columns.items():
        if not pd.api.types.is_hashable(name) or name not in frame.columns:
            raise DataError(
                f"{source} has no column {name!r} (asked for as {role}); its columns are {listed(frame.columns)}. "
                f"Name the right one with {role}=..."
            )
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise DataError(f"{source} has more than one column called {doubled[0]!r}; rename all but one")


def feature_table(
    frame: pd.DataFrame, items: Sequence[str], role: str = "item_features"
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return names and values [item, feature] of a numeric frame indexed by item; refuse what is missing."""
    at = _rows_by_label(frame, items, role, "item")
    return column_names(frame.columns, role), matrix(frame, at, role, "for item")


def matrix(frame: pd.DataFrame, at: NDArray[np.intp], role: str, where: str) -> NDArray[Any]:
    """Return rows of a numeric frame as numbers [row, column], each checked as `numbers` does.

    What is in single precision throughout stays so, for embeddings are large; anything else is in double precision.
    Rows of a file that is mapped into memory are not copied where they are all of it, in this order.
    """
    kinds = set(frame.dtypes)
    if kinds in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        values = frame.to_numpy()
        whole = len(at) == len(values) and bool((at == np.arange(len(at))).all())
        values = values if whole and _is_mapped(values) else values[at]
        if all(_fit_to_compute(rows) for rows in np.array_split(values, 1 + len(values) // _ROWS)):
            return values
    table = frame.iloc[at].set_axis(pd.Index(index_labels(frame.index[at], role), dtype=object), axis=0)
    table = table.set_axis(list(column_names(frame.columns, role)), axis=1)
    return np.column_stack([numbers(table[name], role, where=where) for name in table.columns])


def _fit_to_compute(values: NDArray[Any]) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(values.astype(np.float64)) <= _LARGEST).all())


def _is_mapped(values: Any) -> bool:
    """Say whether numbers lie in a file that is mapped into memory."""
    while values is not None and not isinstance(values, np.memmap):
        values = getattr(values, "base", None)
    return values is not None


def these_columns(frame: pd.DataFrame, names: Sequence[str], role: str) -> pd.DataFrame:
    """Return columns of a numeric frame, called so, in this order, with an index of text; refuse one that lacks one."""
    _require_frame(frame, role, "answer")
    known = column_names(frame.columns, role)
    absent = [name for name in names if name not in known]
    if absent:
        raise DataError(f"{role} have no column {absent[0]!r}, which the fit has; they have {listed(known, 5)}")
    table = frame if known == tuple(names) else frame.iloc[:, [known.index(name) for name in names]]
    return table.set_axis(list(names), axis=1).set_axis(pd.Index(index_labels(frame.index, role), dtype=object), axis=0)


def by_label(frame: pd.DataFrame, labels: Sequence[str], role: str, per: str) -> pd.DataFrame:
    """Return the rows of a frame indexed by label, in the order of the labels; refuse labels without a row, or two."""
    at = _rows_by_label(frame, labels, role, per)
    names = column_names(frame.columns, role)
    return frame.iloc[at].set_axis(pd.Index(list(labels), dtype=object), axis=0).set_axis(list(names), axis=1)


def _rows_by_label(frame: pd.DataFrame, labels: Sequence[str], role: str, per: str) -> NDArray[np.intp]:
    """Return the row of every label in a frame that is indexed by them."""
    _require_frame(frame, role, per)
    if not len(frame.columns):
        raise DataError(f"{role} has no column of numbers beside {per} labels; it needs one at least")
    index = pd.Index(index_labels(frame.index, role), dtype=object)
    doubled = index[index.duplicated()]
    if len(doubled):
        raise DataError(f"{role} has more than one row for {per} {doubled[0]!r}")
    at = index.get_indexer(pd.Index(list(labels), dtype=object))
    if (at < 0).any():
        first = labels[int((at < 0).argmax())]
        raise DataError(
            f"{role} lacks {int((at < 0).sum())} of {counted(len(labels), per)}, first {first!r}; "
            + f"index it by {per} label"
            + ("; rows of an array are labelled by feature_labels" if role == "item_features" else "")
        )
    return at


def _require_frame(frame: Any, role: str, per: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{role} must be a data frame indexed by {per}, not a {type(frame).__name__}")


def column_names(columns: Iterable[Any], source: str) -> tuple[str, ...]:
    """Return names of numeric columns as text, each fit to be shown and saved, and none twice."""
    names: dict[str, None] = {}
    for column in columns:
        try:
            name = label_text(column)
        except DataError as error:
            raise DataError(f"{source}: the name of a column {error}") from None
        if name in names:
            raise DataError(f"{source} has more than one column called {name!r}; rename all but one")
        names[name] = None
    return tuple(names)


def index_labels(index: pd.Index, role: str) -> list[str]:
    """Return an index as labels of text; refuse what is none, naming the row."""
    labels = []
    for row, label in enumerate(index, 1):
        try:
            labels.append(label_text(label))
        except DataError as error:
            missing = "is empty" if pd.api.types.is_scalar(label) and pd.isna(label) else error
            raise DataError(f"{role}: the label of row {row} {missing}") from None
    return labels
