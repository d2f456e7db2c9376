"""Rows that say who won in other words than a, b and tie: by name, by count, by score, by share, by strength."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data import texts
from prefdensity.data.columns import empty, label_text, listed, numbers, shown
from prefdensity.data.layout import Layout
from prefdensity.data.look_alikes import looks
from prefdensity.data.nesting import with_columns
from prefdensity.data.spelling import meaning, with_empty_words
from prefdensity.errors import DataError

Turned = tuple[pd.DataFrame, dict[str, Any], str]
Given = dict[str, Any]

_TIES = ("-", "–", "—", "=", "tie", "draw", "drawn", "equal", "both", "neither")  # where no item is called so
_GRADE = re.compile(r"([ab])([1-9]\d*)")
_SIDES = {"a": "a", "b": "b", "tie": "tie"}
_WORDS_OF_SIDES = ("a", "b", "left", "right", "model_a", "model_b", "1", "2", "0", "home", "away")
_SHOWN = {"left": "a", "first": "a", "top": "a", "right": "b", "second": "b", "bottom": "b"}
ROW = "answer of it"  # the answer that a row of a table is
DEPENDENT = "pairs of one {} come from one multi-way judgement and are dependent: resample by it"


def plain(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with an outcome, perhaps in words that say how strongly, perhaps of texts."""
    frame = texts.in_place(frame, layout, given, source)
    labels = layout.labels
    if labels is None or not any(_GRADE.fullmatch(str(target)) for target in labels.values()):
        return frame, given, "comparisons"
    if layout.strength is not None:
        raise DataError("labels with strengths (a2, b1) and strength=... say the same; give one")
    bare = [word for word, target in labels.items() if target in ("a", "b")]
    if bare:
        raise DataError(f"the label {bare[0]!r} has no strength, and others have: write it as {labels[bare[0]]}1")
    column = layout.outcome or "outcome"
    split = {word: _GRADE.fullmatch(str(target)) for word, target in labels.items()}
    given["labels"] = {word: found[1] if (found := split[word]) else labels[word] for word in labels}
    strength = meaning({word: int(found[2]) if found else 0 for word, found in split.items()})
    if column in frame.columns:
        name = f"strength of {column}"
        words = with_empty_words(frame[column], labels)
        frame = with_columns(frame, {name: pd.Series(map(strength, words), index=frame.index, dtype=float)})
        given["strength"] = name
    return frame, given, "comparisons"


def by_winner(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows that name the winner: beside both items, or beside the loser."""
    if layout.outcome is not None or layout.labels is not None and layout.loser is not None:
        raise DataError("winner=... says who won; leave out outcome=..., and with loser=... also labels=...")
    if layout.loser is None:
        frame = texts.in_place(frame, layout, given, source)
        return named_winner(frame, layout, given, source, notes)
    if layout.item_a is not None or layout.item_b is not None:
        raise DataError("winner=... and loser=... name both items; leave out item_a=... and item_b=...")
    if layout.ordered:
        raise DataError(
            "winner=... and loser=... do not say who was shown first; name a column that does with first=..."
        )
    frame = texts.in_place(frame, layout, given, source)
    outcome = _chosen(frame, layout, source, notes)
    given |= {"item_a": layout.winner, "item_b": layout.loser, "outcome": "who won", "labels": None}
    if layout.equal_scores == "drop":
        given["labels"] = {"a": "a", "equal": "drop"}
    if given["labels"] is None:
        del given["labels"]
    first = given.get("first")
    if first is not None and layout.first_labels is None:
        frame = with_columns(frame, {first: frame[first].map(lambda cell: _SHOWN.get(str(cell).casefold(), cell))})
        notes.append(f"{first} says where the winner was shown")
    elif first is None and "first" not in frame.columns:
        notes.append("the winner is item_a throughout; the order shown is unknown")
    return with_columns(frame, {"who won": outcome}), given, "comparisons"


def _chosen(frame: pd.DataFrame, layout: Layout, source: str, notes: list[str]) -> NDArray[np.object_]:
    """Return a [row], or what is said of the rows where winner and loser have the same score."""
    outcome = np.full(len(frame), "a", dtype=object)
    if layout.score_a is None or layout.score_b is None:
        return outcome
    better, worse = (numbers(frame[str(each)], source, blank=True) for each in (layout.score_a, layout.score_b))
    if layout.lower_wins:
        better, worse = -better, -worse
    equal, against = better == worse, better < worse
    choice = layout.equal_scores
    if equal.any() and choice is None:
        row = int(frame.index[int(equal.argmax())]) + 1
        raise DataError(
            f"{source}: {int(equal.sum())} rows have the same score for chosen and rejected, first row {row}; say what "
            "they are with equal_scores='tie', equal_scores='win' (of the chosen one) or equal_scores='drop'"
        )
    if equal.any():
        outcome[equal] = {"tie": "tie", "win": "a", "drop": "equal"}[str(choice)]
        notes.append(f"{int(equal.sum())} rows with equal scores of chosen and rejected read as {choice!r} on request")
    if against.any():
        notes.append(f"{int(against.sum())} rows whose rejected text has the higher score count for the chosen one")
    return outcome


def named_winner(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows of two items and a column that names who won, or a word for a tie."""
    winner = str(layout.winner)
    sides = [str(layout.item_a or "item_a"), str(layout.item_b or "item_b")]
    for role, name in zip(("item_a", "item_b"), sides, strict=True):
        if name not in frame.columns:
            raise DataError(
                f"{source} has no column {name!r} (asked for as {role}); its columns are {listed(frame.columns)}. Name "
                f"the right one with {role}=..., or who lost with loser=..."
            )
    if winner in sides:
        raise DataError(f"{winner!r} is an item and cannot name the winner of its row")
    a, b, who = (_texts(frame[name]) for name in (*sides, winner))
    said = {str(word): target for word, target in (layout.labels or {}).items()}
    wrong = sorted(set(said.values()) - {*_SIDES, "drop"})
    if wrong:
        raise DataError(f"labels may translate to a, b, tie or drop, not to {wrong[0]!r}")
    items = {*a, *b}
    ties = {word for word in who if word is not None and word.casefold() in _TIES and word not in items}
    outcome = _by_name(frame, winner, (a, b, who), said, ties, source)
    for word in sorted(ties - set(said)):
        notes.append(f"{who.count(word)} rows where {winner} is {word!r} count as ties")
    given |= {"item_a": sides[0], "item_b": sides[1], "outcome": winner}
    given["labels"] = _SIDES | {f"drop {word}": "drop" for word, target in said.items() if target == "drop"}
    return with_columns(frame, {winner: outcome}), given, "comparisons"


def _by_name(
    frame: pd.DataFrame,
    winner: str,
    names: tuple[list[str | None], list[str | None], list[str | None]],
    said: Mapping[str, str],
    ties: Set[str],
    source: str,
) -> NDArray[np.object_]:
    """Return a, b, tie, a word for what is dropped, or None where nobody is named [row]."""
    outcome = np.full(len(frame), None, dtype=object)
    meant = meaning(said)
    for row, (one, other, who) in enumerate(zip(*names, strict=True)):
        if who is None and "" not in said:
            continue
        who = who or ""
        if (target := meant(who)) is not None:
            outcome[row] = f"drop {who}" if target == "drop" else target
        elif who in (one, other):
            outcome[row] = "a" if who == one else "b"
        elif who in ties:
            outcome[row] = "tie"
        elif one is not None and other is not None:
            alike = next((each for each in (one, other) if looks(each) == looks(who)), None)
            way = f"if it is a draw, say so with labels={{{who[:60]!r}: 'tie'}}"
            if alike is not None:
                way = f"it looks like {shown(alike)}: make them one in the table"
            elif who.casefold() in _WORDS_OF_SIDES:
                way = f"if it says which side won, read it with outcome={winner!r}"
            raise DataError(
                f"{source}: column {winner!r} holds {shown(who)} in row {int(frame.index[row]) + 1}, which is neither "
                f"{shown(one)} nor {shown(other)}; {way}"
            )
    return outcome


def _texts(values: pd.Series) -> list[str | None]:
    """Return the labels of cells as text; None of what is empty, or no label."""

    def text(cell: Any) -> str | None:
        try:
            return label_text(cell)
        except DataError:
            return None

    none = empty(values)
    return [None if gone else text(cell) for gone, cell in zip(none, values, strict=True)]
