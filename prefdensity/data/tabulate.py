"""From a table as its description tells to one comparison, or one item of an answer, in each row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data import answers, pair_names, pairings, quantities
from prefdensity.data.columns import empty, is_blank, listed, numbers
from prefdensity.data.layout import Layout, listing, two_columns
from prefdensity.data.nesting import flattened, is_missing, with_columns
from prefdensity.data.spelling import meaning, spelt
from prefdensity.errors import DataError

_FIRST = "side shown first"
_PASSED = (
    "item_a", "item_b", "outcome", "labels", "strength", "strength_centre", "higher", "annotator", "context", "count",
    "fractional", "ordered", "first", "missing", "identical", "covariates", "groups", "numbers",
)  # fmt: skip


@dataclass
class Tabulated:
    """A frame with one judgement in each row, and what reads it.

    Attributes
    ----------
    frame
        The rows.
    arguments
        Of `Comparisons.from_frame`, or of a constructor of `Choices`.
    kind
        "comparisons", "rankings" or "best_worst".
    notes
        What was found out, recoded or dropped, with counts.
    strength_dropped
        How strongly somebody prefers is not to be used.
    """

    frame: pd.DataFrame
    arguments: dict[str, Any]
    kind: str = "comparisons"
    notes: list[str] = field(default_factory=list)
    strength_dropped: bool = False


def tabulated(frame: pd.DataFrame, layout: Layout, source: str, needed_by: str | None = None) -> Tabulated:
    """Return the rows that a layout finds in a frame.

    Raises
    ------
    DataError
        Naming the column and the row, or two arguments that do not go together.
    """
    notes: list[str] = []
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one comparison is needed")
    labelled = layout.wide == "wins" and {*map(str, frame.index)} == {*map(str, frame.columns)}
    frame = frame.reset_index(drop=not labelled)  # a square table of pandas names its rows in the index
    layout, frame = _resolved(frame, layout, source, notes, needed_by)
    frame = _dropped(frame, layout, source, notes)
    frame, layout = _contrasted(frame, layout, source)
    if layout.first_labels is not None:
        frame = _translated_first(frame, layout, source)
        layout = dataclasses.replace(layout, first=_FIRST)
    found = _shape(frame, layout, source, notes)
    found.notes, found.strength_dropped = notes, layout.strength_dropped
    return found


def _shape(frame: pd.DataFrame, layout: Layout, source: str, notes: list[str]) -> Tabulated:
    """Return the rows by the one step that the named columns call for."""
    passed = {name: getattr(layout, name) for name in _PASSED}
    given = {name: value for name, value in passed.items() if value is not None and value is not False}
    kinds = [name for name, roles in _SHAPES.items() if any(getattr(layout, role) is not None for role in roles)]
    if len(kinds) > 1 and set(kinds) != {"winner", "scores"}:
        roles = [next(r for r in _SHAPES[kind] if getattr(layout, r) is not None) for kind in kinds]
        raise DataError(f"{roles[0]}=... and {roles[1]}=... both say who won; name the columns of one of them")
    if layout.strength_centre is not None and "signed" not in kinds:
        raise DataError("strength_centre=... is for signed_strength=...; name its column")
    if layout.higher is not None and not {"signed", "share"} & set(kinds):
        raise DataError("higher=... is for signed_strength=... and for share=...; name the column of one of them")
    if "wide" in kinds or (layout.answer and not {"long", "shown", "ranked", "score"} & set(kinds)):
        kinds = kinds or ["long"]
    if layout.pair is not None:
        frame = pair_names.from_column(frame, layout, source)
    frame, given, kind = (_STEPS[kinds[0]] if kinds else pairings.plain)(frame, layout, given, source, notes)
    return Tabulated(frame, given, kind)


# which named columns tell of which shape, and what turns it into rows
_SHAPES = {
    "winner": ("winner",),
    "counts": ("wins_a", "wins_b", "drawn", "total"),
    "scores": ("score_a", "score_b"),
    "share": ("share",),
    "signed": ("signed_strength",),
    "score": ("score",),
    "long": ("rank", "pick"),
    "shown": ("shown", "best", "worst"),
    "ranked": ("ranked",),
    "wide": ("wide",),
}
_STEPS = {
    "winner": pairings.by_winner,
    "counts": quantities.by_counts,
    "scores": quantities.by_scores,
    "share": quantities.by_share,
    "signed": quantities.by_signed_strength,
    "score": quantities.by_score,
    "long": answers.long,
    "shown": answers.best_of_shown,
    "ranked": answers.in_order,
    "wide": answers.wide,
}


def _resolved(
    frame: pd.DataFrame, layout: Layout, source: str, notes: list[str], needed_by: str | None
) -> tuple[Layout, pd.DataFrame]:
    """Return the layout with plain columns in the place of paths, patterns and alternatives, and a frame with them."""
    roles = layout.columns_named()
    asked = {str(name) for named in roles.values() for name in named if isinstance(name, str)}
    frame = frame.rename(columns={c: str(c) for c in frame.columns if not isinstance(c, str) and str(c) in asked})
    paths = [str(path) for named in roles.values() for each in named for path in listing(each)]
    joined = [path for path in dict.fromkeys(paths) if path not in frame.columns and (path[:1] == "=" or "+" in path)]
    parts = [part for path in joined if path[:1] != "=" for part in path.split("+")]
    frame = flattened(frame, list(dict.fromkeys([*paths, *parts])), source, notes)
    frame = _together(frame, joined)
    changed: dict[str, Any] = {}
    for role, named in roles.items():
        if role in ("contrasts", "only", "drop"):
            continue
        if role in ("shown", "columns", "ranked"):
            changed[role] = [name for each in named for name in _matching(frame, each, role, source)]
            continue
        value = getattr(layout, role)
        if isinstance(value, tuple) and role not in ("covariates", "groups", "numbers", "answer"):
            frame, changed[role] = _first_of(frame, value, role, source, needed_by)
            continue
        for name in named:
            if name not in frame.columns:
                raise DataError(_absent(frame, name, role, source, needed_by))
    return dataclasses.replace(layout, **changed), frame


def _together(frame: pd.DataFrame, paths: list[str]) -> pd.DataFrame:
    """Return the frame with columns for constants (`=gpt-4`) and for columns taken together (`question+turn`)."""
    found: dict[str, Any] = {}
    for path in paths:
        parts = path.split("+")
        if path[:1] == "=":
            found[path] = path[1:]
        elif all(part in frame.columns for part in parts):
            none = np.any([frame[part].map(_nothing).to_numpy(bool) for part in parts], axis=0)
            whole = [" / ".join(map(_whole, cells)) for cells in zip(*(frame[part] for part in parts), strict=True)]
            found[path] = pd.Series(whole, index=frame.index, dtype=object).where(~none, None)
    return with_columns(frame, found) if found else frame


def _nothing(cell: Any) -> bool:
    return is_missing(cell) or is_blank(cell)


def _whole(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _absent(frame: pd.DataFrame, name: str, role: str, source: str, needed_by: str | None) -> str:
    if needed_by is not None:
        return f"{source} has no column {name!r}, which format {needed_by} needs; name another with {role}=..."
    return (
        f"{source} has no column {name!r} (asked for as {role}); its columns are {listed(frame.columns)}. "
        f"Name the right one with {role}=..."
    )


def _matching(frame: pd.DataFrame, pattern: str, role: str, source: str) -> list[str]:
    """Return the columns that a name or a pattern like `item*` means; a text with commas names several."""
    if pattern in frame.columns:
        return [pattern]
    parts = [part.strip() for part in pattern.split(",")]
    if len(parts) > 1:
        return [name for part in parts for name in _matching(frame, part, role, source)]
    found = [str(name) for name in frame.columns if fnmatchcase(str(name), pattern)]
    if not found:
        raise DataError(_absent(frame, pattern, role, source, None))
    return found


def _first_of(
    frame: pd.DataFrame, paths: tuple[str, ...], role: str, source: str, needed_by: str | None
) -> tuple[pd.DataFrame, str]:
    """Return a frame whose first named column holds the first of several that is not empty in a row."""
    there = [path for path in paths if path in frame.columns]
    if not there:
        raise DataError(_absent(frame, paths[0], role, source, needed_by))
    value = frame[there[0]].astype(object)
    for path in there[1:]:
        use = value.map(lambda cell: is_missing(cell) or isinstance(cell, dict)).to_numpy(bool)
        value = value.where(~use, frame[path].astype(object))
    return with_columns(frame, {there[0]: value}), there[0]


def _dropped(frame: pd.DataFrame, layout: Layout, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows that are to be kept, and not to be left out, by the value of a column."""
    for role, rule in (("only", layout.only or {}), ("drop", layout.drop or {})):
        for name, value in rule.items():
            if name not in frame.columns:
                raise DataError(_absent(frame, name, role, source, None))
            words = {spelt(each).casefold() for each in listing(value)}
            there = frame[name].map(lambda cell, w=words: spelt(cell).casefold() in w).to_numpy(bool)
            gone = there if role == "drop" else ~there
            if gone.any():
                said = "is" if role == "drop" else "is not"
                notes.append(f"{int(gone.sum())} rows where {name} {said} {' or '.join(sorted(words))} dropped")
                frame = frame[~gone]
    if not len(frame):
        raise DataError(f"{source}: no row is left: {', '.join(notes)}")
    return frame


def _contrasted(frame: pd.DataFrame, layout: Layout, source: str) -> tuple[pd.DataFrame, Layout]:
    """Return the frame with the contrasts as covariates: (a - b) / (a + b), 0 where both are 0."""
    if not layout.contrasts:
        return frame, layout
    found = {}
    for name, sides in layout.contrasts.items():
        values = []
        for path in two_columns(sides):
            if path not in frame.columns:
                raise DataError(_absent(frame, path, "contrasts", source, None))
            cells = frame[path].map(_total)
            values.append(numbers(cells, source, valid=lambda x: x >= 0, expected="sizes, 0 or more"))
        total = values[0] + values[1]
        found[name] = np.divide(values[0] - values[1], total, out=np.zeros_like(total), where=total > 0)
    covariates = listing(layout.covariates) if layout.covariates is not None else []
    taken = sorted(set(found) & set(map(str, frame.columns)))
    if taken:
        raise DataError(f"{source} has a column {taken[0]!r} already; give the contrast another name")
    return with_columns(frame, found), dataclasses.replace(layout, covariates=[*covariates, *found], contrasts=None)


def _total(cell: Any) -> Any:
    """Return a number, the sum of the numbers of an object (headers by level), or the length of a list."""
    if isinstance(cell, dict):
        return sum(value for value in cell.values() if isinstance(value, int | float))
    return len(cell) if isinstance(cell, list | np.ndarray) else cell


def _translated_first(frame: pd.DataFrame, layout: Layout, source: str) -> pd.DataFrame:
    """Return the frame with a, b, neither in the column of the side shown first."""
    name = layout.first or "first"
    if name not in frame.columns:
        raise DataError(_absent(frame, str(name), "first", source, None))
    said = {str(word): side for word, side in (layout.first_labels or {}).items()}
    wrong = sorted(set(said.values()) - {"a", "b", "neither"})
    if wrong:
        raise DataError(f"first_labels may translate to a, b or neither, not to {wrong[0]!r}")
    other, side = said.pop("*", None), meaning(said)
    known = frame[name].map(lambda cell: side(cell) or (cell if other is None else other))
    return with_columns(frame, {_FIRST: known.where(~empty(frame[name]), frame[name])})
