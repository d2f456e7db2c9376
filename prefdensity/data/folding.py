"""Equal rows folded into counts: the parts of a table too large to be held at once, joined as they come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.grades import vocabulary
from prefdensity.errors import DataError

# Rows waiting to be folded: some hundred megabytes.
_WAITING = 4_000_000
_LABELS = {"items": ("item_a", "item_b"), "annotators": ("annotator",), "contexts": ("context",), "grades": ("grade",)}


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
    keys: list[tuple[NDArray[Any], int]] = [(data.item_a, len(data.items)), (data.item_b, len(data.items))]
    for codes, levels in (
        (data.outcome, 3),
        (data.grade, len(data.grades)),
        (data.annotator, len(data.annotators)),
        (data.context, len(data.contexts)),
        (None if data.first is None else data.first + 1, 3),
    ):
        if codes is not None:
            keys.append((codes, levels))
    for column in () if data.covariates is None else data.covariates.T:
        values, codes = np.unique(column, return_inverse=True)
        keys.append((codes, len(values)))
    key = _key(keys)
    order = np.argsort(key)
    key = key[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    if len(start) == len(key):
        return data.take(order)
    return replace(data.take(order[start]), count=np.add.reduceat(data.count[order], start))


def _key(keys: Sequence[tuple[NDArray[Any], int]]) -> NDArray[np.int64]:
    """Return one number for each row, equal and ordered as the codes are."""
    key = np.zeros(len(keys[0][0]), np.int64)
    size = 1
    for codes, levels in keys:
        levels = max(levels, 1)
        if size * levels >= 2**62:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key *= levels
        key += codes
        size *= levels
    return key


def join(parts: Sequence[Comparisons]) -> Comparisons:
    """Return the rows of all parts one after another, under one vocabulary; their notes added up."""
    arrays: dict[str, Any] = {}
    for plural, names in _LABELS.items():
        labels = _union(plural, parts)
        arrays[plural] = labels
        place = {label: code for code, label in enumerate(labels)}
        to = [np.array([place[label] for label in getattr(part, plural)], np.int64) for part in parts]
        for name in names:
            if getattr(parts[0], name) is not None:
                arrays[name] = np.concatenate([t[getattr(p, name)] for t, p in zip(to, parts, strict=True)])
    for name in ("outcome", "count", "first", "covariates"):
        if getattr(parts[0], name) is not None:
            arrays[name] = np.concatenate([getattr(part, name) for part in parts])
    notes = _added([note for part in parts for note in part.notes])
    return replace(parts[0], notes=notes, covariate_scale=None, **arrays)


def _union(plural: str, parts: Sequence[Comparisons]) -> tuple[str, ...]:
    labels = {label for part in parts for label in getattr(part, plural)}
    if plural != "grades":
        return tuple(sorted(labels))
    strengths = sorted({label[1:] for label in labels - {"tie"}}, key=float)
    return vocabulary(strengths, "tie" in labels) if labels else ()


def _added(notes: Sequence[str]) -> tuple[str, ...]:
    """Return the notes that differ by more than the number of rows in front, with these numbers added up."""
    total: dict[str, int] = {}
    for note in notes:
        number, rest = re.fullmatch(r"(\d+) (rows .*)", note, re.DOTALL).groups()  # type: ignore[union-attr]
        total[rest] = total.get(rest, 0) + int(number)
    return tuple(f"{number} {rest}" for rest, number in total.items())
