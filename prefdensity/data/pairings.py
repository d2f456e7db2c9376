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
from prefdensity.data.layout import Layout, listing
from prefdensity.data.nesting import with_columns
from prefdensity.errors import DataError

Turned = tuple[pd.DataFrame, dict[str, Any], str]
Given = dict[str, Any]

_TIES = ("-", "–", "—", "=", "tie", "draw", "drawn", "equal", "both", "neither")  # where no item is called so
_GRADE = re.compile(r"([ab])([1-9]\d*)")
_SIDES = {"a": "a", "b": "b", "tie": "tie"}
_SHOWN = {"left": "a", "first": "a", "top": "a", "right": "b", "second": "b", "bottom": "b"}
ROW = "answer of it"  # the answer that a row of a table is
DEPENDENT = "pairs of one {} come from one multi-way judgement and are dependent: resample by it"


def plain(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with an outcome, perhaps in words that say how strongly, perhaps of texts."""
    frame = _called(frame, layout, given, source, notes)
    labels = layout.labels
    if labels is None or not any(_GRADE.fullmatch(str(target)) for target in labels.values()):
        return frame, given, "comparisons"
    if layout.strength is not None:
        raise DataError("labels with strengths (a2, b1) and strength=... say the same; give one")
    bare = [word for word, target in labels.items() if target in ("a", "b")]
    if bare:
        raise DataError(f"the label {bare[0]!r} has no strength, and others have: write it as {labels[bare[0]]}1")
    column = layout.outcome or "outcome"
    split = {str(word): _GRADE.fullmatch(str(target)) for word, target in labels.items()}
    given["labels"] = {word: found[1] if (found := split[str(word)]) else labels[word] for word in labels}
    strength = {word: int(found[2]) if found else 0 for word, found in split.items()}
    if column in frame.columns:
        name = f"strength of {column}"
        frame = with_columns(frame, {name: frame[column].map(lambda cell: strength.get(str(cell), np.nan))})
        given["strength"] = name
    return frame, given, "comparisons"


def _called(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> pd.DataFrame:
    """Return the frame with labels in the place of texts, and of prompts."""
    if layout.texts is None:
        return frame
    if layout.texts == "context":
        name = str(layout.context or "context")
        return (
            with_columns(frame, {name: [texts.prompt_label(cell) for cell in frame[name]]})
            if name in frame.columns
            else frame
        )
    sides: tuple[Any, Any] = (layout.item_a or "item_a", layout.item_b or "item_b")
    if layout.winner is not None and layout.loser is not None:
        sides = (layout.winner, layout.loser)
    frame, context = texts.called(frame, sides, layout.context, source)
    if context is not None:
        given["context"] = context
    return frame


def by_winner(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows that name the winner: beside both items, or beside the loser."""
    if layout.outcome is not None or layout.labels is not None and layout.loser is not None:
        raise DataError("winner=... says who won; leave out outcome=..., and with loser=... also labels=...")
    if layout.loser is None:
        frame = _called(frame, layout, given, source, notes)
        return _named_winner(frame, layout, given, source, notes)
    if layout.item_a is not None or layout.item_b is not None:
        raise DataError("winner=... and loser=... name both items; leave out item_a=... and item_b=...")
    if layout.ordered:
        raise DataError(
            "winner=... and loser=... do not say who was shown first; name a column that does with first=..."
        )
    frame = _called(frame, layout, given, source, notes)
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


def _named_winner(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
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
    for row, (one, other, who) in enumerate(zip(*names, strict=True)):
        if who is None:
            continue
        if who in said:
            outcome[row] = f"drop {who}" if said[who] == "drop" else said[who]
        elif who in (one, other):
            outcome[row] = "a" if who == one else "b"
        elif who in ties:
            outcome[row] = "tie"
        elif one is not None and other is not None:
            raise DataError(
                f"{source}: column {winner!r} holds {shown(who)} in row {int(frame.index[row]) + 1}, which is neither "
                f"{shown(one)} nor {shown(other)}; if it is a draw, say so with labels={{{who[:60]!r}: 'tie'}}"
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


def by_counts(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows that hold how often each side won: one row for each outcome that was counted."""
    if layout.wins_a is None or layout.wins_b is None:
        raise DataError("counts need both wins_a=... and wins_b=... (and drawn=..., if there were any)")
    for other in ("outcome", "labels", "strength", "count"):
        if getattr(layout, other) is not None:
            raise DataError(f"wins_a=... and wins_b=... count judgements; leave out {other}=...")
    columns = {"a": layout.wins_a, "b": layout.wins_b, "tie": layout.drawn}
    if layout.one_hot:
        _require_one_hot(frame, [str(name) for name in columns.values() if name is not None], source)
    parts = []
    for outcome, name in columns.items():
        if name is not None:
            size = numbers(frame[name], source, valid=counting(layout), expected=counts(layout))
            parts.append(with_columns(frame, {"who won": outcome, "how often": size})[size > 0])
    table = pd.concat(parts).sort_index(kind="stable")
    if not len(table):
        raise DataError(f"{source}: every count is 0; at least one comparison is needed")
    given |= {"outcome": "who won", "count": "how often"}
    return table, given, "comparisons"


def _require_one_hot(frame: pd.DataFrame, names: list[str], source: str) -> None:
    """Refuse rows where not exactly one of the columns is 1 and the others are 0."""
    values = np.column_stack([numbers(frame[name], source, expected="0 or 1", blank=True) for name in names])
    wrong = ~np.isin(values, (0, 1)).all(1) | (values.sum(1) != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{source}: exactly one of {', '.join(names)} must be 1 and the others 0, and row "
            f"{int(frame.index[row]) + 1} holds {', '.join(str(value) for value in frame[names].iloc[row])}"
        )


def counting(layout: Layout) -> Any:
    """Return which numbers are counts, or weights where the user says so."""
    whole = layout.fractional != "weights"
    return lambda x: (x >= 0) & ((x == np.round(x)) | (not whole))


def counts(layout: Layout) -> str:
    """Return what counts are expected to be."""
    if layout.fractional == "weights":
        return "weights, 0 or more"
    return "counts, whole and not negative (halves and weights: fractional='weights')"


def by_scores(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with a score of either side."""
    if layout.score_a is None or layout.score_b is None:
        raise DataError("two scores need both score_a=... and score_b=...")
    if layout.winner is not None:
        return by_winner(frame, layout, given, source, notes)
    frame = _called(frame, layout, given, source, notes)
    a, b = (scores(frame[str(name)], layout, source) for name in (layout.score_a, layout.score_b))
    notes.append("scores reduced to a, b or tie: how far they are apart is not used")
    given["outcome"] = "who won"
    return with_columns(frame, {"who won": signs(a - b, layout.lower_wins)}), given, "comparisons"


def scores(values: pd.Series, layout: Layout, source: str) -> NDArray[np.float64]:
    """Return scores [row], NaN of rows to be dropped; words are the numbers that they stand for."""
    if layout.score_labels is not None:
        stands = {str(word): number for word, number in layout.score_labels.items()}
        values = values.astype(object).map(lambda cell: stands.get(str(cell), cell))
    low, high = (-np.inf, np.inf) if layout.scale is None else sorted(ends(layout.scale))
    expected = "numbers" if layout.scale is None else f"scores from {low:g} to {high:g}"
    return numbers(
        values, source, valid=lambda x: (x >= low) & (x <= high), expected=expected, blank=layout.missing == "drop"
    )


def signs(difference: NDArray[np.float64], lower_wins: bool = False) -> NDArray[np.object_]:
    """Return outcomes [row]: a above zero, b below, a tie at zero, None where missing."""
    difference = -difference if lower_wins else difference
    outcome = np.full(len(difference), None, dtype=object)
    outcome[difference > 0], outcome[difference < 0], outcome[difference == 0] = "a", "b", "tie"
    return outcome


def by_share(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with the probability, or share, of one side: weights of both, or who has the majority."""
    share, name = _shares(frame, layout, source)
    frame = _called(frame, layout, given, source, notes)
    given["outcome"] = name
    given.pop("higher", None)
    given.pop("labels", None)
    soft = ~np.isnan(share) & ~np.isin(share, (0.0, 0.5, 1.0))
    if soft.any() and layout.fractional in (None, "error"):
        mean, ahead = np.nanmean(share), np.nanmean(np.sign(share - 0.5) / 2 + 0.5)
        row = int(frame.index[int(soft.argmax())]) + 1
        raise DataError(
            f"{source}: column {name!r} holds shares between the sides in {int(soft.sum())} rows, first row {row}; "
            f"they speak for a by {mean:.2f} on average, and a has the majority in {ahead:.2f}; say whether they are "
            "weights (a quasi-likelihood) with fractional='weights', or only who has the majority counts, with "
            "fractional='majority'"
        )
    if not soft.any() or layout.fractional == "majority":
        if soft.any():
            notes.append(f"{name} reduced to a, b or tie: its strength is not used")
        return with_columns(frame, {name: signs(share - 0.5)}), given, "comparisons"
    if layout.count is not None:
        raise DataError("shares are weights of one judgement each; leave out count=...")
    sure = np.isnan(share) | (share == 0.5)
    whole = with_columns(frame, {name: signs(share - 0.5), "how often": 1.0})[sure]
    parts = [with_columns(frame, {name: side, "how often": part})[~sure & (part > 0)]
             for side, part in (("a", share), ("b", 1 - share))]  # fmt: skip
    given["count"] = "how often"
    return pd.concat([whole, *parts]).sort_index(kind="stable"), given, "comparisons"


def _shares(frame: pd.DataFrame, layout: Layout, source: str) -> tuple[NDArray[np.float64], str]:
    """Return the share [row] of side a, NaN where the cell is empty; special words are those of labels."""
    name = str(layout.share)
    nobody, everybody = (0.0, 1.0) if layout.scale is None else ends(layout.scale)
    low, high = min(nobody, everybody), max(nobody, everybody)
    special = {str(word): {"a": 1.0, "b": 0.0, "tie": 0.5}[side] for word, side in (layout.labels or {}).items()}
    fixed = frame[name].map(lambda cell: special.get(_as_whole(cell), np.nan)).to_numpy(float)
    cells = frame[name].astype(object).where(np.isnan(fixed), None)
    value = numbers(
        cells,
        source,
        valid=lambda x: (x >= low) & (x <= high),
        expected=f"numbers from {low:g} to {high:g}",
        blank=True,
    )
    share = (value - nobody) / (everybody - nobody)
    share = 1 - share if layout.higher == "b" else share
    return np.where(np.isnan(fixed), share, fixed), name


def _as_whole(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def ends(given: Any) -> tuple[float, float]:
    """Return the two ends of a scale."""
    try:
        low, high = (float(each) for each in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        low = high = 0.0
    if low == high:
        raise DataError(f"scale={given!r} must be two different numbers, as in 0,100")
    return low, high


def by_signed_strength(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows whose one number says who won and how strongly."""
    if layout.outcome is not None or layout.strength is not None:
        raise DataError(
            "signed_strength=... says both who won and how strongly; leave out outcome=... and strength=..."
        )
    frame = _called(frame, layout, given, source, notes)
    if layout.scale is not None:
        low, high = sorted(ends(layout.scale))
        numbers(
            frame[str(layout.signed_strength)], source, valid=lambda x: (x >= low) & (x <= high) & (x == np.round(x)),
            expected=f"whole numbers from {low:g} to {high:g}", blank=True,
        )  # fmt: skip
    given |= {"outcome": None, "strength": layout.signed_strength}
    return frame, given, "comparisons"


def by_score(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with one item and its score: every two items of one context that one annotator scored."""
    item, score = str(layout.item or "item"), str(layout.score)
    if item not in frame.columns:
        raise DataError(f"{source} has no column {item!r} (asked for as item); its columns are {listed(frame.columns)}")
    together = [name for name in (*listing(layout.answer or []), layout.context, layout.annotator) if name is not None]
    if not together:
        raise DataError(
            f"scores of {score!r} are compared within a question or an annotator; name its column with context=... or "
            "annotator=..."
        )
    frame = frame.reset_index(drop=True)
    value = scores(frame[score], layout, source)
    rated = with_columns(frame, {"score of it": value, "row of it": np.arange(len(frame))})
    if np.isnan(value).any():
        notes.append(f"{int(np.isnan(value).sum())} rows without a score dropped on request")
        rated = rated[~np.isnan(value)]
    keys = pd.factorize(pd.MultiIndex.from_frame(rated[together].astype(str)))[0]
    rated = with_columns(rated, {"set of it": keys})
    pairs = rated.merge(rated[["set of it", item, "score of it", "row of it"]], on="set of it", suffixes=("", " of b"))
    pairs = pairs[pairs["row of it"] < pairs["row of it of b"]]
    if len(pairs) == 0:
        raise DataError(f"{source}: no {' and '.join(together)} has two scored items")
    alone = int((rated.groupby("set of it")["set of it"].transform("size") == 1).sum())
    named = [name for name in together if name != ROW] or ["row"]
    notes.append(DEPENDENT.format(" and ".join(named)))
    notes.append("scores reduced to a, b or tie: how far they are apart is not used")
    if alone:
        notes.append(f"{alone} rows scored alone give no pair")
    won = signs((pairs["score of it"] - pairs["score of it of b"]).to_numpy(), layout.lower_wins)
    given |= {"item_a": item, "item_b": f"{item} of b", "outcome": "who won"}
    return with_columns(pairs, {"who won": won}), given, "comparisons"
