"""Nested cells as plain columns: a column is named by its path, and a list on the way gives one row for each entry.

`data.model1` is a key within a column of objects, `games.0.score` that of the first entry of a list, and
`annotations.result.value` of every entry of two lists, one within the other. `responses[]` is each entry of a list of
plain values; two such lists of one row belong together, entry by entry.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import listed
from prefdensity.errors import DataError

_EACH = "[]"


def is_missing(value: Any) -> bool:
    """Return whether a cell, which may hold a list or an object, holds nothing."""
    return value is None or (not isinstance(value, list | dict | tuple | np.ndarray) and bool(pd.isna(value)))


def with_columns(frame: pd.DataFrame, columns: Mapping[Any, Any]) -> pd.DataFrame:
    """Return the frame with these columns beside its own, or in their place."""
    found = frame.copy(deep=False)
    for name, values in columns.items():
        found[name] = values
    return found


def head(path: str, columns: Iterable[str]) -> str | None:
    """Return the column that a path begins in, or None."""
    known = set(columns)
    parts = path.removesuffix(_EACH).split(".")
    starts = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return path if path in known else next((start for start in starts if start in known), None)


def flattened(frame: pd.DataFrame, paths: Sequence[str], source: str, notes: list[str]) -> pd.DataFrame:
    """Return a frame with a column for every path, beside the columns that were there.

    Rows are repeated for the entries of lists on the way of a path, and numbered as in `frame`; rows whose lists are
    empty are counted in `notes`. A path that begins in no column is left out.

    Raises
    ------
    DataError
        If two paths lead through two lists side by side, or a path leads through something that is neither.
    """
    found = {path: head(path, frame.columns) for path in paths}
    nested = [path for path, start in found.items() if start is not None and start != path]
    deep = [path for path in nested if not path.endswith(_EACH) or path.removesuffix(_EACH) != found[path]]
    if deep:
        frame = _walked(frame, {path: found[path] or path for path in deep}, source, notes)
    each = [path for path in nested if path.endswith(_EACH)]
    if each:
        frame = with_columns(frame, {path: frame[found[path]] for path in each if path not in deep})
        frame = _entries(frame, each, source, notes)
    return frame


def _walked(frame: pd.DataFrame, paths: dict[str, str], source: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows of entries with a column for every path, from path -> the column it begins in."""
    rows = np.arange(len(frame))
    cells: dict[str, list[Any]] = {start: list(frame[start]) for start in dict.fromkeys(paths.values())}
    ways = {path: (start, path.removesuffix(_EACH)[len(start) + 1 :].split(".")) for path, start in paths.items()}
    values: dict[str, list[Any]] = {}
    loops: list[str] = []
    while len(values) < len(ways):
        path = next(each for each in ways if each not in values)
        start, keys = ways[path]
        stop, values[path] = _followed(cells[start], keys, path, source, rows)
        if stop is None:
            continue
        # a list: each entry becomes a row of its own, and other paths that lead through it follow from there
        lists = [_as_list(each) for each in values.pop(path)]
        loop = ".".join([start, *keys[:stop]])
        if loops and not loop.startswith(f"{loops[-1]}."):
            raise DataError(
                f"{source}: {loops[-1]!r} and {loop!r} are lists side by side, whose entries belong to nothing in "
                f"common; read columns of one of them, or name an entry, as in {loop}.0"
            )
        loops.append(loop)
        sizes = [len(each) for each in lists]
        if not sum(sizes):
            raise DataError(f"{source}: column {loop!r} holds no judgement at all")
        if none := sizes.count(0):
            notes.append(f"{none} rows hold no judgement in {loop}")
        place = np.repeat(np.arange(len(rows)), sizes)
        rows = rows[place]
        cells = {name: [given[k] for k in place] for name, given in cells.items()}
        values = {name: [given[k] for k in place] for name, given in values.items()}
        cells[loop] = [entry for each in lists for entry in each]
        for other, (begin, way) in ways.items():
            whole = ".".join([begin, *way])
            if other not in values and (whole == loop or whole.startswith(f"{loop}.")):
                rest = whole[len(loop) + 1 :]
                ways[other] = (loop, rest.split(".") if rest else [])
    taken = frame.iloc[rows]
    return with_columns(
        taken, {path: pd.Series(given, dtype=object, index=taken.index) for path, given in values.items()}
    )


def _followed(cells: list[Any], keys: list[str], path: str, source: str, rows: Any) -> tuple[int | None, list[Any]]:
    """Follow keys in every cell; return where the first list to be exploded lies (how many keys before it), or None."""
    current = list(cells)
    at = 0
    while at < len(keys):
        current = [parsed(value) for value in current]
        listing = [isinstance(value, list | np.ndarray) for value in current]
        if any(listing) and not keys[at].lstrip("-").isdigit():
            return at, current
        taken = 1
        following = []
        for value, row in zip(current, rows, strict=True):
            found, used = _step(value, keys[at:], path, source, int(row))
            taken = max(taken, used)
            following.append(found)
        current = following
        at += taken
    return None, current


def _step(value: Any, keys: Sequence[str], path: str, source: str, row: int) -> tuple[Any, int]:
    """Return what the next key leads to, and how many parts of the path it took: keys may hold dots themselves."""
    if is_missing(value):
        return None, 1
    if isinstance(value, dict):
        if keys[0] == "*":
            if len(value) != 1:
                raise DataError(
                    f"{source}: row {row + 1} has {len(value)} entries where {path!r} leads through any one: "
                    f"{listed(value)}; name one of them"
                )
            return next(iter(value.values())), 1
        for size in range(len(keys), 0, -1):
            if (key := ".".join(keys[:size])) in value:
                return value[key], size
        return None, 1
    if isinstance(value, list | np.ndarray):
        place = int(keys[0])
        return (value[place] if -len(value) <= place < len(value) else None), 1
    raise DataError(
        f"{source}: row {row + 1} has no {keys[0]!r} on the way to {path!r}: there is a {type(value).__name__}, not an "
        "object or a list"
    )


def parsed(value: Any) -> Any:
    """Return the object or list that a cell of a csv spells in JSON, or as pandas writes it (['a']), or the cell."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        for read in (json.loads, _literal):
            try:
                return read(value)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                continue
    return value


def _literal(text: str) -> Any:
    """Return what Python wrote, of literals alone: nothing runs. What JSON could not hold is text."""
    value = ast.literal_eval(text)
    json.dumps(value)
    return value


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list | np.ndarray):
        return list(value)
    return [] if is_missing(value) else [value]


def _entries(frame: pd.DataFrame, paths: list[str], source: str, notes: list[str]) -> pd.DataFrame:
    """Return a row for every entry of lists that belong together."""
    lists = {path: [_as_list(parsed(value)) for value in frame[path]] for path in paths}
    sizes = np.array([[len(each) for each in given] for given in lists.values()])
    wrong = (sizes != sizes[0]).any(0)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{source}: row {row + 1} holds lists of {' and '.join(map(str, sizes[:, row]))} entries in "
            f"{listed(paths)}, which belong together and must be of one length"
        )
    if not sizes[0].sum():
        raise DataError(f"{source}: column {paths[0]!r} holds no judgement at all")
    if none := int((sizes[0] == 0).sum()):
        notes.append(f"{none} rows hold no judgement in {paths[0].removesuffix(_EACH)}")
    taken = frame.iloc[np.repeat(np.arange(len(frame)), sizes[0])]
    flat = {path: [entry for each in given for entry in each] for path, given in lists.items()}
    return with_columns(
        taken, {path: pd.Series(given, dtype=object, index=taken.index) for path, given in flat.items()}
    )
