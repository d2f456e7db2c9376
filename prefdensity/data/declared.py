"""Columns declared once: what each holds, what one entry describes, and what happens when sides are exchanged.

Whatever is done to a table as a whole (rows taken, sides exchanged, parts joined, equal rows counted together, a
fingerprint, cells) is a loop over its columns, and a column that users name is like one that every table has.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.grades import mirror
from prefdensity.errors import DataError

Array = NDArray[Any]

ROW = "row"
# What to give for units that a table may lack.
_NEEDED = {
    "annotator": "to know who judged; name the annotator column",
    "context": "the prompt or question of each comparison; name the context column",
}
KEPT, NEGATED, MIRRORED = "kept", "negated", "mirrored"


@dataclass(frozen=True)
class Column:
    """What the library knows of a column before it has seen one.

    Attributes
    ----------
    name
        As programs and people call it.
    kind
        "label" (codes of a vocabulary), "set" (of such codes), "outcome" (codes of a vocabulary that has a mirror
        image), "ordered" (few whole numbers), "number", or "count" (how many judgements a row stands for).
    per
        What one entry describes: a row, or a label ("item", "annotator", ...).
    on_swap
        What becomes of an entry when the sides of its row are exchanged: it is kept, negated, mirrored (an outcome), or
        goes to the column of this name.
    of
        For labels: what they name, where that is not the column's own name; columns of one kind of thing share a
        vocabulary.
    words
        The field of the table with the labels that codes index, or with names of numbers side by side [entry, name].
    levels
        The labels that codes index, where they are the same in all tables.
    """

    name: str
    kind: str
    per: str = ROW
    on_swap: str = KEPT
    of: str = ""
    words: str = ""
    levels: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """What labels name: item, annotator, ..."""
        return self.of or self.name


@dataclass(frozen=True, eq=False)
class Held:
    """A column of a table.

    Attributes
    ----------
    values
        [entry], or [entry, name] for numbers side by side.
    words
        Labels that codes index, or names of numbers side by side.
    unit
        Of a number that users named: where programs count from and in which unit, mean and standard deviation over the
        judgements of the whole table, or over the labels described, and the least and greatest value. Parts of a table
        keep that of the whole.
    """

    column: Column
    values: Array
    words: tuple[str, ...] = ()
    unit: tuple[float, float, float, float] | None = None

    def at(self, rows: Array | slice) -> Held:
        """Return the column at these rows; what describes labels stays whole."""
        return replace(self, values=self.values[rows]) if self.column.per == ROW else self

    def in_units(self, count: Array) -> Held:
        """Return the column with its unit, found where it has none yet; `count` [row] are judgements."""
        if self.column.kind != "number" or self.unit is not None:
            return self
        weight = count if self.column.per == ROW else np.ones(len(self.values))
        middle = float(np.average(self.values, weights=weight)) if weight.sum() > 0 else 0.0
        spread = float(np.sqrt(np.average((self.values - middle) ** 2, weights=weight))) if weight.sum() > 0 else 0.0
        ends = (float(self.values.min()), float(self.values.max())) if len(self.values) else (middle, middle)
        return replace(self, unit=(middle, spread if spread > 0 else 1.0, *ends))

    def content(self) -> bytes | memoryview:
        """Return bytes that tell these values from others; of an array its own, for embeddings are large."""
        if self.column.kind == "set":
            sizes = np.array([len(each) for each in self.values])
            return sizes.tobytes() + b"".join(each.tobytes() for each in self.values)
        return np.ascontiguousarray(self.values).data.cast("B") if self.values.size else b""

    def keys(self) -> list[tuple[Array, int]]:
        """Return codes [entry] that tell entries apart, and how many codes there may be; one for each number."""
        if self.column.kind in ("label", "outcome"):
            return [(self.values, len(self.words))]
        if self.column.kind == "set":
            place: dict[bytes, int] = {}
            return [(np.array([place.setdefault(each.tobytes(), len(place)) for each in self.values]), len(place))]
        if self.column.kind == "ordered":
            low, high = int(self.values.min(initial=0)), int(self.values.max(initial=0))
            return [(self.values - low, high - low + 1)]
        found = []
        for numbers in self.values.reshape(len(self.values), -1).T:
            levels, codes = np.unique(numbers, return_inverse=True)
            found.append((codes, len(levels)))
        return found


class Table(ABC):
    """What tables of observations have in common; their dataclasses declare columns that every table has.

    `more` are the columns that users named: further labels and numbers of rows, and attributes of labels.
    """

    COLUMNS: ClassVar[tuple[Column, ...]] = ()
    UNITS: ClassVar[tuple[str, ...]] = ("row",)  # what may be left out beside labels; the first is one row
    SETS: ClassVar[bool] = False  # whether an observation is a choice from a set of any size
    JUDGED: ClassVar[str] = "judgements"  # what is counted of an item, or of an annotator
    more: tuple[Held, ...]
    source: str

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @property
    def columns(self) -> tuple[Held, ...]:
        """The columns that this table has, in the order of their declarations."""
        fixed = [
            Held(each, getattr(self, each.name), self._words(each))
            for each in self.COLUMNS
            if getattr(self, each.name) is not None
        ]
        return (*fixed, *self.more)

    def _words(self, column: Column) -> tuple[str, ...]:
        return getattr(self, column.words) if column.words else column.levels

    def holding(self, columns: Iterable[Held]) -> Self:
        """Return the table with these columns in the place of its own."""
        changed: dict[str, Any] = {}
        more: list[Held] = []
        for each in columns:
            if each.column not in self.COLUMNS:
                more.append(each)
                continue
            changed[each.column.name] = each.values
            if each.column.words:
                changed[each.column.words] = each.words
        return replace(self, more=tuple(more), **changed)  # type: ignore[type-var]

    def column(self, name: str, per: str = ROW) -> Held | None:
        """Return the column of this name that describes rows, or labels; None where there is none."""
        return next((each for each in self.columns if (each.column.name, each.column.per) == (name, per)), None)

    def full_name(self, name: str) -> str:
        """Return what a column is called in full, as in "annotator.age" where "age" describes annotators alone.

        Columns of rows are called by their name, and what nobody knows stays as it is.
        """
        if self.column(name) is not None or "." in name:
            return name
        described = [each.column.per for each in self.more if each.column.name == name and each.column.per != ROW]
        return f"{described[0]}.{name}" if len(described) == 1 else name

    def labels(self, name: str) -> tuple[str, ...]:
        """Return the labels of what is called so: the items, the annotators, ..."""
        vocabularies = self.vocabularies()
        if name not in vocabularies:
            known = ", ".join(vocabularies)
            raise DataError(f"{self.source} has no labels called {name!r}; it has those of {known}")
        return vocabularies[name]

    def vocabularies(self) -> dict[str, tuple[str, ...]]:
        """Return what labels of rows name (item, annotator, ...), and the labels."""
        fixed = {each.names: self._words(each) for each in self.COLUMNS if _names_rows(each)}
        more = {each.column.names: each.words for each in self.more if _names_rows(each.column)}
        return {name: labels for name, labels in (fixed | more).items() if labels}

    def plural(self, name: str) -> str:
        """Return what several labels are called: items, annotators, ...; of columns that users named, their name."""
        fixed = (each.words for each in self.COLUMNS if each.kind == "label" and each.names == name)
        return next(fixed, name)

    def attributes(self, of: str) -> pd.DataFrame:
        """Return what is known of items, annotators or other labels, indexed by them, as it is read back."""
        known: dict[str, Any] = {}
        for each in self.more:
            if each.column.per == of:
                words = np.array(each.words, dtype=object)
                known[each.column.name] = words[each.values] if each.column.kind == "label" else each.values
        return pd.DataFrame(known, index=pd.Index(self.labels(of), dtype=object))

    def units(self, unit: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return the units [row, 1] of every row, one or several to a row, and the labels of all units.

        A unit is one row (the first of `UNITS`), or all rows with one label: an annotator, a context, a category, ...

        Raises
        ------
        DataError
            For a unit that the table does not have.
        """
        if unit == self.UNITS[0]:
            return np.arange(len(self))[:, None], tuple(map(str, range(1, len(self) + 1)))
        held = self.column(unit)
        if held is not None and held.column.kind == "label" and held.column.names == unit:
            return held.values[:, None], held.words
        if unit in _NEEDED:
            raise DataError(f"unit={unit!r} needs {_NEEDED[unit]}")
        declared = (*self.COLUMNS, *(each.column for each in self.more))
        known = [each.name for each in declared if _names_rows(each) and not each.of]
        raise DataError(f"there is no unit {unit!r}; units are {', '.join([*self.UNITS, *known])}")

    def judgement_of(self) -> NDArray[np.int64]:
        """Return a number [row] of the judgement that each is, or is a part of."""
        return np.arange(len(self))

    def groups_of(self, name: str) -> NDArray[np.int64]:
        """Return the label [row] of a column of labels, or of an attribute of one ("annotator.country"), as a code."""
        of, _, attribute = name.rpartition(".")
        if not of:
            return self.units(name)[0][:, 0]
        held = self.column(attribute, of)
        if held is None or held.column.kind != "label":
            raise DataError(f"there is no attribute {attribute!r} of labels of {of}")
        return np.asarray(held.values[self.units(of)[0][:, 0]], np.int64)

    def numbers_of(self, name: str) -> NDArray[np.float64]:
        """Return the number [row] of a column of numbers, or of an attribute of a label ("annotator.age")."""
        of, _, attribute = name.rpartition(".")
        held = self.column(attribute, of or ROW)
        if held is None or held.column.kind != "number":
            raise DataError(f"there is no number {name!r}")
        return np.asarray(held.values[self.units(of)[0][:, 0]] if of else held.values, np.float64)

    def head(self, rows: int) -> Self:
        """Return the first rows."""
        return self.take(slice(rows))

    def take(self, rows: Array | slice) -> Self:
        """Return the rows at `rows`, with all vocabularies kept."""
        return self.holding(each.at(rows) for each in self.columns)

    def swapped(self, rows: Array | None = None) -> Self:
        """Return the same judgements with the sides of all rows, or of some, exchanged.

        The likelihood must not notice.
        """
        return self.holding(exchanged(self.columns, np.ones(len(self), bool) if rows is None else rows))

    def fingerprint(self) -> str:
        """Return a short hash of everything a fit can see, to recognise the table again."""
        parts: list[str | bytes | memoryview] = [type(self).__name__]
        for name, labels in self.vocabularies().items():
            parts += [name, *labels]
        for each in self.columns:
            parts += [each.column.per, each.column.name, *each.words, each.content()]
        return short_hash(parts)


def short_hash(parts: Iterable[str | bytes | memoryview]) -> str:
    """Return a short hash of texts and bytes, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _names_rows(column: Column) -> bool:
    return column.kind == "label" and column.per == ROW


def exchanged(columns: Sequence[Held], rows: Array) -> list[Held]:
    """Return columns with the sides of some rows [row] exchanged."""
    by_name = {each.column.name: each for each in columns if each.column.per == ROW}
    return [_exchanged(each, by_name, rows) if each.column.per == ROW else each for each in columns]


def _exchanged(held: Held, others: dict[str, Held], rows: Array) -> Held:
    values, change = held.values, held.column.on_swap
    if change == KEPT:
        return held
    if change == NEGATED:
        sign = np.where(rows, -1, 1).astype(values.dtype)
        return replace(held, values=values * sign.reshape(-1, *(1,) * (values.ndim - 1)))
    if change == MIRRORED:
        return replace(held, values=np.where(rows, np.array(mirror(held.words), values.dtype)[values], values))
    return replace(held, values=np.where(rows, others[change].values, values))


def same_key(columns: Iterable[Held]) -> tuple[Array, int]:
    """Return one number [row], equal for rows that agree in all columns and ordered as their codes, and its range."""
    key, size = np.zeros((), np.int64), 1
    for codes, levels in (pair for each in columns for pair in each.keys()):
        levels = max(levels, 1)
        if size * levels >= 2**62:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key = key * levels + codes
        size *= levels
    return key, size


def said(table: Table, *leave_out: str) -> list[Held]:
    """Return the columns of rows by which judgements differ: all but counts, and kinds left out."""
    return [each for each in table.columns if each.column.per == ROW and each.column.kind not in ("count", *leave_out)]


def require_table(data: Any) -> None:
    """Raise `DataError` unless `data` is a table that was read."""
    if not isinstance(data, Table):
        raise DataError(f"a table is needed, and this is a {type(data).__name__}; read it first: prefdensity.read(...)")
