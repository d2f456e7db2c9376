"""Recipes applied: the layout that a public format, its options and what the user says give for a file at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import empty
from prefdensity.data.formats import Option, Recipe, recipe
from prefdensity.data.layout import Layout, layout_of, listing
from prefdensity.data.nesting import head, is_missing, parsed, with_columns
from prefdensity.data.tabulate import Tabulated, tabulated
from prefdensity.errors import DataError

_SIDES = ("item_a", "item_b", "winner", "loser")


def cooked(frame: pd.DataFrame, name: str, given: Mapping[str, Any], source: str) -> Tabulated:
    """Return the rows of a public format.

    Parameters
    ----------
    frame
        What its file holds.
    name
        Of the format.
    given
        Options of the format, and fields of `Layout` that take the place of the recipe's.
    source
        Shown in errors.

    Raises
    ------
    DataError
        Naming the column, or the option that must be said.
    """
    about = recipe(name)
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one comparison is needed")
    said = {option: given[option] for option in about.options if given.get(option) is not None}
    fields = {field: value for field, value in given.items() if field not in about.options}
    layout_of(fields)
    notes = list(about.notes)
    changes, filled, parts = _settled(about, said, name)
    for option, choice in about.options.items():
        if choice.needed_for and option not in said and reaches(frame, choice.needed_for):
            ways = " or ".join(f"{option}={each!r}" for each in choice.values)
            raise DataError(f"{source}: the user must say {choice.says}; if so, with {ways}")
    base = dict(about.layout)
    for column, instead in about.instead.items():
        if not reaches(frame, _fill(column, filled)) and not set(instead) & set(fields):
            base |= instead
    base |= changes
    base = {field: _fill(value, filled) for field, value in base.items()}
    base = _present(frame, about, base)
    base["labels"] = _labels(frame, about, said, base, fields, source, notes)
    if base["labels"] is None:
        del base["labels"]
    if {"texts"} - set(fields) and base.get("texts") == "items" and set(_SIDES) & set(fields):
        base["texts"] = "context"  # items that the user names are names, not texts
    base |= {field: value for field, value in fields.items() if field != "labels" and value is not None}
    base = {field: value for field, value in base.items() if fields.get(field, "") is not None}
    base |= _kept(frame, about, base, notes)
    found = []
    for part, extra in (parts or {"": {}}).items():
        layout = Layout(**(base | {field: _fill(value, filled) for field, value in extra.items()}))
        one = tabulated(frame, layout, source, name)
        if about.apart:
            one.frame = _apart(one, part)
        found.append(one)
    whole = found[0] if len(found) == 1 else _joined(found)
    if "annotator" in whole.arguments and base.get("annotator") == "evaluation_session_id":
        notes.append("annotators are evaluation sessions; one person may have had several")
    whole.notes = [*notes, *whole.notes]
    return whole


def _settled(
    about: Recipe, said: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, str], dict[str, Mapping[str, Any]]]:
    """Return what the options change, what they fill into paths, and the parts to read."""
    changes: dict[str, Any] = {}
    filled: dict[str, str] = {}
    parts = dict(about.parts)
    for option, choice in about.options.items():
        value = said.get(option, choice.default)
        if value is None:
            if f"{{{option}}}" in str([about.layout, about.parts]):
                raise DataError(f"format {name} needs {option}=...: {choice.says}")
            continue
        if not choice.values:
            filled[option] = str(value)
            changes |= choice.free
            continue
        if value not in choice.values:
            raise DataError(f"{option}={value!r} is unknown; use {' or '.join(map(repr, choice.values))}")
        change = dict(choice.values[value])
        only = change.pop("parts", None)
        if only is not None:
            parts = {part: parts[part] for part in only}
        changes |= change
    return changes, filled, parts


def _fill(value: Any, filled: Mapping[str, str]) -> Any:
    """Return a path, or paths, with the values of options in the place of {NAME}."""
    if isinstance(value, str):
        for name, text in filled.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, tuple):
        return tuple(_fill(each, filled) for each in value)
    if isinstance(value, Mapping):
        return {_fill(key, filled): _fill(each, filled) for key, each in value.items()}
    return value


def reaches(frame: pd.DataFrame, path: str) -> bool:
    """Return whether a path, or each of several joined by +, leads to something in some row."""
    if path[:1] == "=" or path in frame.columns:
        return True
    if "+" in path:
        return all(reaches(frame, part) for part in path.split("+"))
    start = head(path, frame.columns)
    if start is None:
        return False
    rest = path.removesuffix("[]")[len(start) + 1 :]
    return not rest or any(_leads(value, rest) for value in frame[start])


def _leads(value: Any, rest: str) -> bool:
    value = parsed(value)
    if is_missing(value):
        return False
    if isinstance(value, list | tuple | np.ndarray):
        key, _, after = rest.partition(".")
        if key.lstrip("-").isdigit():
            place = int(key)
            return -len(value) <= place < len(value) and (not after or _leads(value[place], after))
        return any(_leads(each, rest) for each in value)
    if not isinstance(value, dict):
        return False
    if rest in value:
        return True
    parts = rest.split(".")
    if parts[0] == "*":
        return any(len(parts) == 1 or _leads(each, ".".join(parts[1:])) for each in value.values())
    starts = ((".".join(parts[:size]), ".".join(parts[size:])) for size in range(len(parts) - 1, 0, -1))
    return any(key in value and _leads(value[key], after) for key, after in starts)


def _present(frame: pd.DataFrame, about: Recipe, base: dict[str, Any]) -> dict[str, Any]:
    """Return the layout with those of alternative columns that the file has, and without optional ones it lacks."""
    found = dict(base)
    for role, value in base.items():
        if role == "drop" and value:
            found[role] = {path: words for path, words in value.items() if reaches(frame, path)} or None
            continue
        if role not in Layout.__dataclass_fields__ or Layout.__dataclass_fields__[role].metadata["kind"] != "column":
            continue
        there = tuple(path for path in listing(value) if path is not None and reaches(frame, path))
        if there:
            found[role] = there[0] if len(there) == 1 else there
        elif role in about.optional:
            found[role] = None
        elif isinstance(value, tuple):
            found[role] = value[0]
    if found.get("score_a") is None or found.get("score_b") is None:
        found.pop("score_a", None)
        found.pop("score_b", None)
    return found


def _labels(
    frame: pd.DataFrame,
    about: Recipe,
    said: Mapping[str, Any],
    base: Mapping[str, Any],
    fields: Mapping[str, Any],
    source: str,
    notes: list[str],
) -> Mapping[Any, str] | None:
    """Return what outcomes mean: of the recipe, of options about words, of the user."""
    labels = dict(base.get("labels") or {})
    column = fields.get("outcome") or base.get("outcome")
    for option, choice in about.options.items():
        if not choice.words or column not in frame.columns:
            continue
        labels |= _placed(frame[column], option, choice, said.get(option), source, notes)
    labels |= fields.get("labels") or {}
    return labels or None


def _placed(
    outcome: pd.Series, option: str, choice: Option, value: Any, source: str, notes: list[str]
) -> dict[str, str]:
    """Return labels for outcomes that nobody but the user can place: "tie" or "drop", and no default."""
    if value is not None and value not in choice.values:
        raise DataError(f"{option}={value!r} is unknown; use {' or '.join(map(repr, choice.values))}")
    rows = int(outcome.isin(choice.words).sum())
    if rows and value is None:
        ways = " or ".join(f"{option}={each!r}" for each in choice.values)
        raise DataError(f"{source}: {rows} rows {choice.meaning}; say how to read them with {ways}")
    if rows and value == "tie":
        notes.append(f"{rows} rows that {choice.meaning} counted as ties on request")
    return dict.fromkeys(choice.words, value or "drop")


def _kept(frame: pd.DataFrame, about: Recipe, base: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the groups of a recipe that the file has, beside those that the user names."""
    groups = base.get("groups")
    named = dict(groups) if isinstance(groups, Mapping) else {str(name): name for name in listing(groups or [])}
    for name in about.kept:
        if name not in frame.columns or name in named:
            continue
        cells = frame[name]
        if any(isinstance(cell, dict | list | np.ndarray) for cell in cells.head(50)):
            continue
        if empty(cells).any():
            notes.append(f"{name} is empty in {int(empty(cells).sum())} rows and is not kept")
        else:
            named[name] = name
    return {"groups": named} if named else {}


def _apart(one: Tabulated, part: str) -> pd.DataFrame:
    """Return the rows with the name of the part before each annotator."""
    name = one.arguments["annotator"]
    people = one.frame[name].astype(object)
    return with_columns(one.frame, {name: [None if is_missing(each) else f"{part}/{each}" for each in people]})


def _joined(found: list[Tabulated]) -> Tabulated:
    """Return the rows of all parts under the names of their roles, one part below another."""
    frames = []
    for one in found:
        roles = {role: name for role, name in one.arguments.items() if isinstance(name, str) and name in one.frame}
        frames.append(pd.DataFrame({role: one.frame[name] for role, name in roles.items()}))
        groups = one.arguments.get("groups") or {}
        frames[-1] = with_columns(frames[-1], {name: one.frame[column] for name, column in groups.items()})
    arguments = {role: role if role in frames[0].columns else value for role, value in found[0].arguments.items()}
    if arguments.get("groups"):
        arguments["groups"] = {name: name for name in arguments["groups"]}
    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    return dataclasses.replace(found[0], frame=pd.concat(frames, ignore_index=True), arguments=arguments, notes=notes)


def described(name: str) -> Iterator[str]:
    """Yield the lines that tell of a format: its story, its options, the columns that it reads."""
    about = recipe(name)
    yield about.story
    for option, choice in about.options.items():
        values = " or ".join(choice.values) or "any text"
        default = f"; {choice.default} unless said" if choice.default is not None else ""
        needed = "; must be said where it matters" if choice.words else ""
        yield f"  {option}: {choice.says} ({values}{default}{needed})"
    for role, value in about.layout.items():
        if Layout.__dataclass_fields__[role].metadata["kind"] == "column" and value is not None:
            yield f"  {role.replace('_', '-')}: {', or '.join(listing(value))}"
    for part, changes in about.parts.items():
        yield f"  {part}: " + ", ".join(f"{role} {path}" for role, path in changes.items())
