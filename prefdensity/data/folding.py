"""Equal rows folded into counts: the parts of a table too large to be held at once, joined as they come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import ROW, Held, said, same_key
from prefdensity.data.grades import vocabulary
from prefdensity.errors import DataError

# Rows waiting to be folded: some hundred megabytes.
_WAITING = 4_000_000


def gather(parts: Iterable[Comparisons], source: str) -> Comparisons:
    """Return one table of the distinct rows of all parts, their counts added up.

    At most some million rows are held beside the distinct ones. Rows come out in the order of their codes
    (item_a, item_b, outcome, ...): which row of which part a judgement was is forgotten.

    Parameters
    ----------
    parts
        Tables with the same columns.
    source
        Of the whole.

    Raises
    ------
    DataError
        If there is no part.
    """
    whole: Comparisons | None = None
    waiting: list[Comparisons] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= max(_WAITING, len(whole or ())):
            whole, waiting = fold(join([whole, *waiting] if whole else waiting)), []
    if whole is None and not waiting:
        raise DataError(f"{source} has no rows; at least one comparison is needed")
    return replace(fold(join([whole, *waiting] if whole else waiting)), source=source)


def fold(data: Comparisons) -> Comparisons:
    """Return the distinct rows, in the order of their codes, with their counts added up."""
    key, _ = same_key(said(data))
    order = np.argsort(key)
    key = key[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    if len(start) == len(key):
        return data.take(order)
    return replace(data.take(order[start]), count=np.add.reduceat(data.count[order], start))


def join(parts: Sequence[Comparisons]) -> Comparisons:
    """Return the rows of all parts one after another, under one vocabulary; their notes added up.

    Raises
    ------
    DataError
        If the parts have different columns, or say different things of one label.
    """
    declared = [[each.column for each in part.columns] for part in parts]
    if any(each != declared[0] for each in declared):
        named = [", ".join(column.name for column in each) for each in declared]
        raise DataError(f"tables with different columns cannot be joined: {named[0]}; and {_other(named)}")
    labels = [part.vocabularies() for part in parts]
    names = {name for each in labels for name in each}
    union = {name: tuple(sorted({label for each in labels for label in each.get(name, ())})) for name in names}
    columns = []
    for alike in zip(*(part.columns for part in parts), strict=True):
        if alike[0].column.per == ROW:
            columns.append(_stacked(alike, union))
        else:
            per = alike[0].column.per
            columns.append(_described(alike, [each.get(per, ()) for each in labels], union.get(per, ())))
    notes = _added([note for part in parts for note in part.notes])
    whole = parts[0].holding(columns)
    return replace(whole, notes=notes, covariate_scale=None)  # of the whole, found anew


def _stacked(parts: Sequence[Held], union: Mapping[str, tuple[str, ...]]) -> Held:
    """Return a column of rows: that of every part, one after another."""
    column, words = parts[0].column, parts[0].words
    if column.kind == "label":
        words = union.get(column.names, ())
    elif column.kind == "outcome" and any(part.words != words for part in parts):
        words = _grades({label for part in parts for label in part.words})
    values = np.concatenate([_recoded(part, words) for part in parts])
    return Held(column, values, words)


def _described(parts: Sequence[Held], labels: Sequence[tuple[str, ...]], union: tuple[str, ...]) -> Held:
    """Return a column that describes labels; refuse parts that say different things of one."""
    column, words = parts[0].column, parts[0].words
    if column.kind == "label":
        words = tuple(sorted({level for part in parts for level in part.words}))
    elif any(part.words != words for part in parts):
        raise DataError(f"tables whose {column.name} have different names cannot be joined")
    known: dict[str, NDArray[Any]] = {}
    for part, own in zip(parts, labels, strict=True):
        for label, value in zip(own, _recoded(part, words), strict=True):
            if not np.array_equal(known.setdefault(label, value), value):
                said = f"{column.per} {label!r} has different values of {column.name}"
                raise DataError(f"tables cannot be joined in which {said}")
    return Held(column, np.stack([known[label] for label in union]), words)


def _recoded(part: Held, words: tuple[str, ...]) -> NDArray[Any]:
    """Return the values of a column, codes as they are in another vocabulary."""
    if part.column.kind not in ("label", "outcome") or part.words == words:
        return part.values
    place = {label: code for code, label in enumerate(words)}
    return np.array([place[label] for label in part.words], part.values.dtype)[part.values]


def _grades(labels: set[str]) -> tuple[str, ...]:
    strengths = sorted({label[1:] for label in labels - {"tie"}}, key=float)
    return vocabulary(strengths, "tie" in labels)


def _other(named: Sequence[str]) -> str:
    return next(each for each in named if each != named[0])


def _added(notes: Sequence[str]) -> tuple[str, ...]:
    """Return each note once: those that differ by the number of rows in front alone with these numbers added up."""
    total: dict[str, int | None] = {}
    for note in notes:
        counted = re.fullmatch(r"(\d+) (rows .*)", note, re.DOTALL)
        if counted is None:
            total[note] = None
        else:
            total[counted[2]] = (total.get(counted[2]) or 0) + int(counted[1])
    return tuple(note if number is None else f"{number} {note}" for note, number in total.items())
