"""The rows of a JSON file: objects one on each line, a list of them, a list within an object, or columns of values."""

from __future__ import annotations

import json
import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pandas as pd

from prefdensity.data.columns import listed
from prefdensity.data.dialect import Dialect
from prefdensity.errors import DataError

_ROW = "item"  # the column of the names of rows
_BLANK = re.compile(r"[ \t\n\r]*")
UNNAMED = (
    "; lists need a first one that names the columns asked for, or say header=False and call columns by their number: "
    "1, 2"
)


def json_rows(
    path: Path, lines: list[str], dialect: Dialect, known: AbstractSet[str], notes: list[str]
) -> tuple[list[Any], list[Any] | None]:
    """Return the rows of a JSON file, and the names of columns where rows are lists.

    `known` are names that columns have: an object with one of them is a row and holds none.

    Raises
    ------
    DataError
        Naming the line that is no JSON, or saying what the file holds in the place of rows.
    """
    rows = _values(path, lines)
    while len(rows) == 1 and isinstance(rows[0], list) and (not rows[0] or isinstance(rows[0][0], list | dict)):
        rows = rows[0]
    if len(rows) == 1 and isinstance(rows[0], dict):
        rows, names = _within(path, rows[0], dialect.records, known, notes)
        if names is not None:
            return rows, names
    elif dialect.records is not None:
        raise DataError(f"{path} is a list of rows already; records={dialect.records!r} is for lists within an object")
    if rows and all(isinstance(row, list) for row in rows):
        if not dialect.header:
            return rows, [str(k + 1) for k in range(max(map(len, rows)))]
        if names_columns(rows[0], known):
            notes.append("the first list names the columns")
            return rows[1:], rows[0]
    for place, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            named = UNNAMED if isinstance(row, list) else ""
            raise DataError(f"{path}: row {place} is not an object with named columns, but {str(row)[:40]}{named}")
    return rows, None


def names_columns(row: Any, known: AbstractSet[str]) -> bool:
    """Return whether a list is a header: different texts, of which one at least is asked for as a column."""
    return all(isinstance(cell, str) for cell in row) and len(set(row)) == len(row) and not known.isdisjoint(row)


def _values(path: Path, lines: list[str]) -> list[Any]:
    """Return the values of a file: one on each line, or over several lines each."""
    first = next((line for line in lines if line.strip()), "")
    alone = first.lstrip()[:1] in ("[", "{") and path.name.lower().removesuffix(".gz").endswith(".json")
    if alone and sum(1 for line in lines if line.strip()) > 1:
        try:
            json.loads(first)
        except ValueError:
            return _parsed(path, 1, "".join(lines))
        except RecursionError:
            raise DataError(f"{path}: line 1 is nested too deeply") from None
    return [value for number, line in enumerate(lines, 1) for value in _parsed(path, number, line)]


def _within(
    path: Path, whole: dict[str, Any], records: str | None, known: AbstractSet[str], notes: list[str]
) -> tuple[list[Any], list[Any] | None]:
    """Return the rows that one object holds: a list in it, columns of values, or the object itself as the only row."""
    if records is not None:
        value: Any = whole
        for key in records.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, list):
            raise DataError(f"{path} has no list at records={records!r}; its keys are {listed(whole)}")
        return value, None
    if isinstance(whole.get("columns"), list) and isinstance(whole.get("data"), list):
        notes.append("rows are lists under 'data', named by 'columns'")
        return whole["data"], whole["columns"]
    if path.name.lower().removesuffix(".gz").endswith("l"):
        return [whole], None
    columns = _by_column(path, whole, known, notes)
    if columns is not None:
        return columns, None
    if not known.isdisjoint(whole):
        return [whole], None
    found = _lists(whole)
    if len(found) > 1:
        names = " or ".join(repr(name) for name, _ in found[:4])
        raise DataError(f"{path} is one object with {len(found)} lists of rows; say which with records={names}")
    if not found:
        return [whole], None
    where, rows = found[0]
    notes.append(f"rows are those of the list {where!r}")
    return rows, None


def _by_column(path: Path, whole: dict[str, Any], known: AbstractSet[str], notes: list[str]) -> list[Any] | None:
    """Return rows from columns of values: lists of one length, or objects with the same keys; None if they are not."""
    values = list(whole.values())
    if len(values) < 2:
        return None
    if all(isinstance(each, list) and each and not isinstance(each[0], dict) for each in values):
        if len({len(each) for each in values}) > 1:
            return None
        notes.append("the file holds columns of values, not rows")
        return [dict(zip(whole, row, strict=True)) for row in zip(*values, strict=True)]
    if not all(isinstance(each, dict) and each for each in values):
        return None
    keys = set(values[0])
    if all(
        set(each) <= set(whole) and not any(isinstance(v, dict | list | str) for v in each.values()) for each in values
    ):
        notes.append("the file holds a square table by row and column")
        return [{_ROW: name, **{other: row.get(other) for other in whole}} for name, row in whole.items()]
    if any(set(each) != keys for each in values):
        return None
    named_columns, named_rows = (not known.isdisjoint(each) for each in (whole, keys))
    if any(isinstance(cell, dict) for each in values for cell in each.values()) and not named_rows:
        return None
    if named_columns == named_rows:
        named_rows, named_columns = (all(str(k).isdigit() for k in each) for each in (whole, keys))
    if named_columns == named_rows:
        raise DataError(
            f"{path} is an object of objects, which may be rows or columns; write it as a list of rows (pandas: "
            "to_json(orient='records'))"
        )
    notes.append("the file holds rows by key" if named_rows else "the file holds columns of values, not rows")
    if named_rows:
        return values
    return [{name: column[key] for name, column in whole.items()} for key in values[0]]


def _lists(whole: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Return the lists of objects that lie nearest to the top, with the keys that lead there."""
    level: list[tuple[str, Any]] = [(str(key), each) for key, each in whole.items()]
    while level:
        found = [(name, each) for name, each in level if isinstance(each, list) and each and isinstance(each[0], dict)]
        if found:
            return found
        level = [(f"{name}.{key}", v) for name, each in level if isinstance(each, dict) for key, v in each.items()]
    return []


def _parsed(path: Path, number: int, text: str) -> list[Any]:
    """Return the JSON values of a text that begins in a line, one after another."""
    decoder = json.JSONDecoder(object_pairs_hook=_named_once)
    values: list[Any] = []
    text = text.rstrip()
    try:
        at = _BLANK.match(text, 0).end()  # type: ignore[union-attr]
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values.append(value)
            at = _BLANK.match(text, at).end()  # type: ignore[union-attr]
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number + error.lineno - 1} is not valid JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{path}: line {number} is nested too deeply") from None
    except ValueError as error:  # whole numbers of thousands of digits, names given twice
        raise DataError(f"{path}: line {number} cannot be read: {str(error).strip().rstrip('.')}") from None
    return values


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object names {max(names, key=names.count)!r} more than once")
    return found


def table_of(rows: list[Any], names: list[Any] | None) -> pd.DataFrame:
    """Return a frame of rows; object: an integer beside a null stays an integer."""
    return pd.DataFrame(rows, columns=names, dtype=object)
