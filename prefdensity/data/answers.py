"""Answers about sets of items, in the shapes they come in: one row per item, one per answer, or items as columns.

All become one row for each item of each answer, with a rank, or with the word best or worst; tables of scores, wins and
pairs become comparisons.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data import pair_names, pairings, quantities
from prefdensity.data.cell_lists import RANK, listed_items, spelled, unpacked
from prefdensity.data.columns import empty, listed, numbers, shown
from prefdensity.data.layout import Layout, listing
from prefdensity.data.missing import drop_missing
from prefdensity.data.nesting import with_columns
from prefdensity.data.pairings import Given, Turned
from prefdensity.data.rankings import finished
from prefdensity.errors import DataError
from prefdensity.words import counted

_NO_ITEM = {  # names of columns that describe a row: none is taken for an item unasked
    "id", "index", "row", "count", "freq", "frequency", "n", "votes", "weight", "weights", "judge", "annotator", "age",
    "rater", "user", "respondent", "resp", "participant", "voter", "prompt", "question", "task", "context", "date",
    "time", "timestamp", "set", "block", "version", "group",
}  # fmt: skip
_IN_BRACKETS = re.compile(r"(.*\S)\s*\[([^\[\]]+)\]\s*")
_PICKED = {"best": "best", "worst": "worst", "1": "best", "-1": "worst", "0": None, "most": "best", "least": "worst"}
ANSWER, PICK = pairings.ROW, "pick in the row"


def long(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """One row for each item of each answer."""
    item = str(layout.item or "item")
    if layout.answer is None:
        raise DataError("rankings have one row per item; say which answer a row belongs to with answer=...")
    if layout.rank is not None and layout.pick is not None:
        raise DataError("rank=... is for rankings and pick=... for best-worst answers; name one of them")
    require(frame, item, "item", source)
    keys = [str(each) for each in listing(layout.answer)]
    frame = _of_answers(frame, keys, layout, source, notes)
    frame = with_columns(frame, {ANSWER: _joined(frame, keys)}) if len(keys) > 1 else frame
    name = ANSWER if len(keys) > 1 else keys[0]
    if layout.pick is not None:
        frame = with_columns(frame, {str(layout.pick): _picks(frame[str(layout.pick)], source)})
        return finished(frame, layout, given, (name, item, str(layout.pick)), source, notes, "best_worst")
    rank = str(layout.rank or "rank")
    require(frame, rank, "rank", source)
    none = empty(frame[rank])
    if layout.unranked == "ask" and none.any():
        _ask_unranked(int(none.sum()), source)
    if layout.unranked == "absent":
        notes.append(f"{int(none.sum())} items without a rank count as not shown")
        frame = frame[~none]
    return finished(frame, layout, given, (name, item, rank), source, notes, "rankings")


def require(frame: pd.DataFrame, name: str, role: str, source: str) -> None:
    """Raise unless the column of a role is there."""
    if name not in frame.columns:
        raise DataError(f"{source} has no column {name!r} (asked for as {role}); it has {listed(frame.columns)}")


def _of_answers(frame: pd.DataFrame, keys: list[str], layout: Layout, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows that belong to an answer; refuse the others unless they are to be dropped."""
    for key in keys:
        require(frame, key, "answer", source)
    return drop_missing(frame, {key: key for key in keys}, layout.missing or "error", source, notes)


def _joined(frame: pd.DataFrame, keys: list[str]) -> pd.Series:
    whole = frame[keys[0]].astype(str)
    for key in keys[1:]:
        whole = whole + " / " + frame[key].astype(str)
    return whole


def _picks(values: pd.Series, source: str) -> pd.Series:
    """Return best, worst or None of cells that say so in words, or as 1, -1 and 0."""
    none = empty(values)
    texts = values.map(lambda cell: str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell))
    unknown = ~none & ~texts.str.casefold().isin(_PICKED).to_numpy()
    if unknown.any():
        raise DataError(
            f"{source}: column {values.name!r} holds {shown(values.iloc[int(unknown.argmax())])}; it takes 'best', "
            "'worst' or nothing, or 1, -1 and 0"
        )
    return texts.str.casefold().map(_PICKED).astype(object).where(~none, None)


_TRUTH = {word: value for value, words in ((1, ("true", "yes")), (0, ("false", "no"))) for each in words
          for word in (each, each.capitalize(), each.upper())}  # fmt: skip


def _flags(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """One row for each item of each answer, with 1 in a column for the best, and perhaps in one for the worst."""
    expected = "1 for that item and 0 else"
    ends = [
        numbers(
            frame[str(name)].replace(_TRUTH), source, valid=lambda x: np.isin(x, (0, 1)), expected=expected, blank=True
        )
        == 1
        for name in (layout.best, layout.worst)
        if name is not None
    ]
    if len(ends) == 2:
        word = np.full(len(frame), None, dtype=object)
        word[ends[0]], word[ends[1]] = "best", "worst"
        if (ends[0] & ends[1]).any():
            row = int(frame.index[int((ends[0] & ends[1]).argmax())]) + 1
            raise DataError(f"{source}: row {row} is both the best and the worst; one item cannot be both")
        frame = with_columns(frame, {PICK: pd.Series(word, index=frame.index, dtype=object)})
        return long(frame, replace(layout, best=None, worst=None, pick=PICK), given, source, notes)
    rank = pd.Series(np.where(ends[0], 1.0, np.nan), index=frame.index)
    unranked = replace(layout, best=None, rank=RANK, unranked=layout.unranked or "last")
    return long(with_columns(frame, {RANK: rank}), unranked, given, source, notes)


def best_of_shown(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """One row for each answer: which items were shown, and which of them was best, and worst."""
    if layout.answer is not None and not layout.shown and layout.best is not None:
        return _flags(frame, layout, given, source, notes)
    if not layout.shown or layout.best is None:
        raise DataError("answers in one row need the columns of the items shown=... and of the best one, best=...")
    columns = [str(name) for name in layout.shown]
    if len(columns) == 1:
        frame, columns = unpacked(listed_items(frame, columns[0], notes), columns[0], "item shown", notes)
    if len(columns) < 2:
        raise DataError(f"shown=... names one column, {columns[0]!r}; a choice is among two or more")
    frame = _with_ends(_numbered(frame, layout, source, notes), layout, source, notes)
    members = frame[columns].astype(object)
    ends = {"best": str(layout.best)} | ({"worst": str(layout.worst)} if layout.worst is not None else {})
    picked = {word: _place(frame, members, name, source, notes) for word, name in ends.items()}
    parts = []
    for place, column in enumerate(columns):
        word = np.full(len(frame), None, dtype=object)
        for end, where in picked.items():
            word[where == place] = end
        parts.append(with_columns(frame, {"item of it": members[column], PICK: word})[~empty(members[column])])
    table = pd.concat(parts).sort_index(kind="stable")
    if "worst" in picked:
        return finished(table, layout, given, (ANSWER, "item of it", PICK), source, notes, "best_worst")
    table = with_columns(table, {RANK: np.where(table[PICK] == "best", 1.0, np.nan)})
    return finished(table, layout, given, (ANSWER, "item of it", RANK), source, notes, "rankings")


def _with_ends(frame: pd.DataFrame, layout: Layout, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows that say what was best, and worst; refuse the others unless they are to be dropped."""
    for name in (layout.best, layout.worst):
        none = empty(frame[str(name)]) if name is not None else np.zeros(len(frame), bool)
        if not none.any():
            continue
        if layout.missing != "drop":
            raise DataError(
                f"{source}: column {name!r} is empty in {int(none.sum())} rows, first in row "
                f"{int(frame.index[int(none.argmax())]) + 1}; fill them, or drop such rows with missing='drop'"
            )
        notes.append(f"{int(none.sum())} rows with an empty {name} dropped on request")
        frame = frame[~none]
    if not len(frame):
        raise DataError(f"{source}: no row is left: {', '.join(notes)}")
    return frame


def _numbered(frame: pd.DataFrame, layout: Layout, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the frame with the answer that each row is: its own columns for that, or its number."""
    if layout.answer is None:
        return with_columns(frame, {ANSWER: [f"row {row + 1}" for row in frame.index]})
    keys = [str(each) for each in listing(layout.answer)]
    frame = _of_answers(frame, keys, layout, source, notes)
    joined = _joined(frame, keys)
    twice = joined.duplicated()
    if twice.any():
        raise DataError(
            f"{source}: answer {joined[twice].iloc[0]!r} is in more than one row, and each row is an answer; name all "
            "columns that tell answers apart, as in answer=['respondent', 'task']"
        )
    return with_columns(frame, {ANSWER: joined})


def _place(frame: pd.DataFrame, members: pd.DataFrame, name: str, source: str, notes: list[str]) -> NDArray[np.int64]:
    """Return which of the columns shown [row] a column of answers means: by item, by column, or by number from 1."""
    said = _labels(frame[name])
    cells = np.array([_labels(members[column]) for column in members.columns], dtype=object)
    by_item = cells == np.array(said, dtype=object)
    if by_item.any(0).all():
        return by_item.argmax(0)
    if all(each in set(members.columns) for each in said):
        notes.append(f"{name} names the column of the item")
        return np.array([list(members.columns).index(str(each)) for each in said])
    first = 0 if "0" in said else 1  # whoever counts from 1 has no 0
    places = [str(k + first) for k in range(len(members.columns))]
    if all(each in places for each in said) and not by_item.any():
        notes.append(f"{name} is the number of the item shown, from {first}")
        return np.array([int(str(each)) - first for each in said])
    row = int((~by_item.any(0)).argmax())
    raise DataError(
        f"{source}: column {name!r} holds {shown(frame[name].iloc[row])} in row {int(frame.index[row]) + 1}, which is "
        f"none of the items shown there: {', '.join(map(shown, members.iloc[row]))}"
    )


def _labels(values: pd.Series) -> list[str | None]:
    none = empty(values)
    whole = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
    return [None if gone else each for gone, each in zip(none, whole, strict=True)]


def in_order(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """One row for each answer: items in columns, the best first; empty cells end the ranking."""
    frame = _numbered(frame, layout, source, notes)
    columns = [str(name) for name in layout.ranked]
    if len(columns) == 1:
        frame, columns = unpacked(frame, columns[0], "place", notes)
    frame = _answered(frame, columns, layout, source, notes)
    if len(columns) == 1:
        frame = spelled(frame, columns[0], notes)
        return finished(frame, layout, given, (ANSWER, "item of it", RANK), source, notes, "rankings")
    parts = []
    for place, name in enumerate(columns, 1):
        part = with_columns(frame, {"item of it": frame[name], RANK: float(place)})
        parts.append(part[~empty(frame[name])])
    table = pd.concat(parts).sort_index(kind="stable")
    return finished(table, layout, given, (ANSWER, "item of it", RANK), source, notes, "rankings")


def _answered(frame: pd.DataFrame, columns: list[str], layout: Layout, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the rows of which some cell says something; refuse the others unless they are to be dropped."""
    none = np.logical_and.reduce([empty(frame[name]) for name in columns])
    if none.any() and layout.missing != "drop":
        raise DataError(
            f"{source}: {counted(int(none.sum()), 'answer')} with nothing but empty cells, first in row "
            f"{int(frame.index[int(none.argmax())]) + 1}; drop such rows with missing='drop'"
        )
    if none.any():
        notes.append(f"{counted(int(none.sum()), 'answer')} with nothing but empty cells dropped on request")
    return frame[~none]


def wide(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Items, or pairs of items, as columns."""
    if layout.wide == "wins":
        return _square(frame, layout, given, source, notes)
    frame, columns = _short(frame, _items(frame, layout, source), notes)
    if layout.wide == "pairs":
        return pair_names.from_columns(frame, columns, layout, given, source, notes)
    if layout.wide == "score" and (left := sum(int(empty(frame[name]).sum()) for name in columns)):
        if layout.missing != "drop":
            raise DataError(
                f"{source}: {left} cells of the scores are empty; fill them, or let such an item be absent from its "
                "row with missing='drop'"
            )
        notes.append(f"{left} empty scores dropped on request")
    if layout.wide in ("rank", "score"):
        frame = with_columns(frame, {name: _cells(frame[name], layout, source) for name in columns})
    frame = _answered(_numbered(frame, layout, source, notes), columns, layout, source, notes)
    parts = [
        with_columns(frame.drop(columns=columns), {"item of it": name, "cell of it": frame[name]}) for name in columns
    ]
    table = pd.concat(parts).sort_index(kind="stable")
    none = empty(table["cell of it"])
    if layout.wide == "score":
        return _scores(table[~none], layout, given, source, notes)
    if layout.wide == "pick":
        table = table[~none]
        table = with_columns(table, {PICK: _picks(table["cell of it"], source)})
        return finished(table, layout, given, (ANSWER, "item of it", PICK), source, notes, "best_worst")
    none = none | (table["cell of it"] == 0).to_numpy()
    if none.any() and layout.unranked in (None, "ask"):
        _ask_unranked(int(none.sum()), source)
    if layout.unranked == "absent":
        notes.append(f"{int(none.sum())} items without a rank count as not shown")
        table = table[~none]
        none = none[~none]
    table = with_columns(table, {RANK: table["cell of it"].astype(object).where(~none, None)})
    return finished(table, layout, given, (ANSWER, "item of it", RANK), source, notes, "rankings")


def _cells(values: pd.Series, layout: Layout, source: str) -> NDArray[np.float64]:
    """Return the ranks, or scores, of an item; of a column that may be none, its error says so."""
    try:
        if layout.wide == "score":
            return quantities.scores(values, layout, source)
        return numbers(values, source, expected="ranks, whole numbers from 1, or 0 or nothing", blank=True)
    except DataError as error:
        if layout.columns:
            raise
        raise DataError(
            f"{error}. If {values.name!r} is no item, say what it is, as in groups=[{str(values.name)!r}], or name the "
            "columns of the items with columns=..."
        ) from None


def _ask_unranked(cells: int, source: str) -> None:
    raise DataError(
        f"{source}: {cells} items of answers have no rank; say whether they were not shown, with unranked='absent', or "
        "shown and came after all ranked ones, with unranked='last'"
    )


def _items(frame: pd.DataFrame, layout: Layout, source: str) -> list[str]:
    """Return the columns that are items, or pairs: those said, or all that have no other use and describe no row."""
    if layout.columns:
        return [str(name) for name in layout.columns]
    used = {name for named in layout.columns_named().values() for name in map(str, named)} | {
        role for role in ("annotator", "context", "count", "first") if role in frame.columns
    }
    rest = [str(name) for name in frame.columns if str(name) not in used and str(name) != ANSWER]
    if layout.wide == "pairs":
        rest = [name for name in rest if pair_names.is_pair(name)]
    odd = [name for name in rest if name.casefold() in _NO_ITEM]
    if odd:
        raise DataError(
            f"{source}: column {odd[0]!r} is hardly an item; say what it is (annotator=..., context=..., count=..., "
            "answer=...), or name the columns of the items with columns=..."
        )
    if len(rest) < 2:
        raise DataError(f"{source} has the columns {listed(frame.columns)}; name those of the items with columns=...")
    return rest


def _short(frame: pd.DataFrame, columns: list[str], notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return names of columns without the question before them, as forms write a grid: Which is better? [elm]."""
    found = [_IN_BRACKETS.fullmatch(name) for name in columns]
    short = [each[2].strip() for each in found if each is not None]
    if len(short) < len(columns) or len({each[1] for each in found if each is not None}) > 1:
        return frame, columns
    if len(set(short)) < len(short) or set(short) & set(map(str, frame.columns)):
        return frame, columns
    notes.append(f"of names such as {columns[0]!r} what is in brackets is read")
    return frame.rename(columns=dict(zip(columns, short, strict=True))), short


def _square(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """How often the item of a row beat the item of a column."""
    if (
        layout.item is None
        and len(frame) == len(frame.columns)
        and not set(_labels(frame.iloc[:, 0])) & set(map(str, frame.columns))
    ):
        notes.append("rows are those of the items of the columns, in their order")
        frame = pd.concat([pd.Series(list(map(str, frame.columns)), index=frame.index, name=ANSWER), frame], axis=1)
    name = str(layout.item or frame.columns[0])
    require(frame, name, "item", source)
    columns = [str(each) for each in layout.columns or [c for c in frame.columns if str(c) != name]]
    labels = _labels(frame[name])
    if set(labels) != set(columns) or len(set(labels)) < len(labels):
        odd = [*sorted({str(each) for each in labels} ^ set(columns)), labels[0]][0]
        raise DataError(
            f"{source}: a square table of wins has one row and one column for each item, and {shown(odd)} is not once "
            "among either; the first column (or item=...) names the rows, and columns=... the items beside totals"
        )
    parts = []
    for column in columns:
        cells = numbers(frame[column], source, valid=quantities.counting(layout), expected=quantities.counts(layout),
                        blank=True)  # fmt: skip
        cells = np.nan_to_num(cells)
        own = np.array([label == column for label in labels])
        if cells[own].any():
            raise DataError(f"{source}: {column!r} beat itself {cells[own][0]:g} times; the diagonal is empty, or 0")
        part = pd.DataFrame({"item_a": labels, "item_b": column, "outcome": "a", "count": cells}, index=frame.index)
        parts.append(part[cells > 0])
    notes.append("a cell is how often the item of its row beat the item of its column")
    given |= {"item_a": "item_a", "item_b": "item_b", "outcome": "outcome", "count": "count"}
    table = pd.concat(parts).sort_index(kind="stable")
    if not len(table):
        raise DataError(f"{source}: every count is 0; at least one comparison is needed")
    return table, given, "comparisons"


def _scores(table: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    once = replace(layout, score="cell of it", item="item of it", answer=ANSWER, wide=None)
    return quantities.by_score(table, once, given, source, notes)
