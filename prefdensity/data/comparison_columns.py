"""Columns of a table of comparisons: who won and how strongly, sides, what was shown first, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import numbers, require_columns, shown
from prefdensity.data.declared import MIRRORED, NEGATED, Column, Held
from prefdensity.data.strengths import split_signed
from prefdensity.errors import DataError

OUTCOMES = ("a", "b", "tie")
A, B, TIE = 0, 1, 2

# What a table of comparisons may hold beside the columns that users name. Rows are ordered by these, in this order.
COLUMNS = (
    Column("item_a", "label", of="item", words="items", on_swap="item_b"),
    Column("item_b", "label", of="item", words="items", on_swap="item_a"),
    Column("outcome", "outcome", levels=OUTCOMES, on_swap=MIRRORED),
    Column("grade", "outcome", words="grades", on_swap=MIRRORED),
    Column("annotator", "label", words="annotators"),
    Column("context", "label", words="contexts"),
    Column("first", "ordered", on_swap=NEGATED),
    Column("count", "count"),
    Column("covariates", "number", words="covariate_names", on_swap=NEGATED),
    Column("item_features", "number", per="item", words="feature_names"),
    Column("item_measures", "number", per="item", words="measure_names"),
)

_FIRST = {"a": 1, "b": -1, "neither": 0}


def signed_columns(
    frame: pd.DataFrame, strength: str | None, centre: float | None, higher: str | None, source: str
) -> tuple[pd.DataFrame, str, str]:
    """Return the frame with columns for who won and how strongly in the place of a signed strength, and their names."""
    if strength is None:
        raise DataError("outcome=None leaves it to a signed strength to say who won; name its column with strength=...")
    require_columns(frame, {"strength": strength}, source)
    if higher not in (None, "a", "b"):
        raise DataError(f"higher={higher!r} is unknown; high values speak for 'a' or for 'b'")
    if higher is None and centre:
        raise DataError(f"strength_centre={centre!r} needs higher='a' or higher='b', which high values speak for")
    won, strongly = split_signed(frame[strength], centre or 0.0, higher or "a", source)
    names = (f"sign of {strength}", f"size of {strength}")
    return frame.assign(**dict(zip(names, (won, strongly), strict=True))), *names


def require_both_signs(outcomes: NDArray[np.int8], column: str, source: str) -> None:
    """Refuse a signed strength that speaks for one side only: more likely a scale from 1 to 7, or a slider."""
    if not ((outcomes == A).any() and (outcomes == B).any()):
        raise DataError(
            f"{source}: column {column!r} is never negative, or never positive, so it is no signed strength; say where "
            "its middle is and which side high values speak for, as in strength_centre=4 and higher='b' "
            "(strength_centre=0 if every judgement is for one side)"
        )


def require_flat(frame: pd.DataFrame, columns: Mapping[str, str], source: str) -> None:
    """Refuse lists and mappings in the columns of a table."""
    for name in columns.values():
        values = frame[name] if frame[name].dtype == object else ()
        nested = next((row for row, v in enumerate(values) if not pd.api.types.is_hashable(v)), None)
        if nested is not None:
            held = values[nested]
            raise DataError(
                f"{source}: column {name!r} holds a {type(held).__name__} in row {nested + 1}; it may hold plain "
                f"labels or numbers only (read takes {_way_into(held, name)})"
            )


def _way_into(held: Any, name: str) -> str:
    """Return how the entries of a nested cell are named."""
    if isinstance(held, Mapping):
        return f"one of its entries as '{name}.{next(iter(held), 'name')}'"
    first = next(iter(held), None)
    if isinstance(first, Mapping) and {"content", "value"} & set(first):
        return "messages as answers with texts='items'"
    return f"each of its entries as '{name}[]'"


def kept_pairs(
    items: tuple[str, ...],
    side_a: NDArray[np.int64],
    side_b: NDArray[np.int64],
    rows: pd.Index,
    identical: str,
    source: str,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return which rows compare two items; refuse the others unless they are to be dropped, and count them."""
    if identical not in ("error", "drop"):
        raise DataError(f"identical={identical!r} is unknown; use 'error' or 'drop'")
    same = side_a == side_b
    if same.any() and len(items) == 1 and identical == "error":
        raise DataError(f"{source} has one item only, {items[0]!r}; comparisons need at least two")
    if same.any() and identical == "error":
        row = int(same.argmax())
        raise DataError(
            f"{source}: {int(same.sum())} rows compare an item with itself, first row {rows[row] + 1} "
            f"({items[side_a[row]]!r}); remove them, or drop such rows with identical='drop'"
        )
    if same.any():
        notes.append(f"{int(same.sum())} rows that compare an item with itself dropped on request")
    return ~same


def outcome_codes(
    frame: pd.DataFrame,
    column: str,
    sides: tuple[str, str],
    labels: Mapping[Any, str] | None,
    source: str,
    notes: list[str],
) -> tuple[pd.DataFrame, NDArray[np.int8]]:
    """Return the rows whose outcome is not dropped, and 0 (a), 1 (b) or 2 (tie) for each; refuse unknown outcomes."""
    if not isinstance(labels, Mapping | None):
        raise DataError(f"labels={labels!r} must say what each outcome means, as in labels={{'left': 'a'}}")
    labels = {name: name for name in OUTCOMES} if labels is None else dict(labels)
    wrong = sorted({str(target) for target in labels.values()} - {*OUTCOMES, "drop"})
    if wrong:
        raise DataError(f"labels may translate to a, b, tie or drop, not to {wrong[0]!r}")
    values, uniques = pd.factorize(frame[column])
    unknown = [value for value in uniques if value not in labels]
    if unknown:
        sizes = np.bincount(values[values >= 0], minlength=len(uniques))
        known = ", ".join(map(shown, {str(label): label for label in labels}.values()))
        found = ", ".join(f"{shown(value)} ({sizes[list(uniques).index(value)]} rows)" for value in unknown[:8])
        raise DataError(
            f"{source}: column {column!r} holds unknown outcomes: {found}; known are {known}. "
            f"{_translation(frame, column, unknown, sides)}"
        )
    targets = [labels[value] for value in uniques]
    codes = np.array([OUTCOMES.index(t) if t in OUTCOMES else -1 for t in targets], np.int8)[values]
    dropped = codes < 0
    if dropped.any():
        which = ", ".join(repr(value) for value, target in zip(uniques, targets, strict=True) if target == "drop")
        notes.append(f"{int(dropped.sum())} rows with outcome {which} dropped on request")
        frame, codes = frame[~dropped], codes[~dropped]
    return frame, codes


def _translation(frame: pd.DataFrame, column: str, unknown: Sequence[Any], sides: tuple[str, str]) -> str:
    """Return how to translate outcomes, unless they name items: no label makes a side of a name."""
    named = {str(value) for column in sides for value in frame[column].unique()}
    if any(str(value) in named for value in unknown):
        return f"They name items, so the column says who won by name: read it with winner={column!r}"
    words = [str(value) for value in unknown]
    meant = dict(zip(map(str, sides), OUTCOMES, strict=False))  # a word that is a side's own name
    ties = {word: "tie" for word in words if word.casefold() == "tie"}
    told = [word for word in words if word in meant] or [word for word in words if word not in ties]
    word = next((word for word in told if any(map(str.isalnum, word))), words[0])
    sure, meant = word in meant or word in ties, meant | ties
    return (
        f"Say what each means: labels={{{word[:60]!r}: {meant.get(word, 'a')!r}}}"
        f"{'' if sure else f' if that is a win of {sides[0]!r}'}; others may be 'a', 'b', 'tie' or 'drop'"
    )


def require_sides(
    outcome: pd.Series,
    codes: NDArray[np.int8],
    items: tuple[str, ...],
    side_a: NDArray[np.int64],
    side_b: NDArray[np.int64],
    labels: Mapping[Any, str] | None,
    source: str,
) -> None:
    """Refuse outcomes that may as well name who won: each is an item of its row, and not always that of its side.

    Whoever translates a word to itself (a to a) has said that it is the side.
    """
    values, uniques = pd.factorize(outcome)
    said = {value for value, target in (labels or {}).items() if value == target}
    words = [None if value in said else str(value) for value in uniques]
    named = np.array([items.index(word) if word in items else -1 for word in words] + [-1])[values]
    if ((codes != TIE) & (named != side_a) & (named != side_b)).any():
        return
    wrong = ((named == side_a) & (codes != A)) | ((named == side_b) & (codes != B))
    if wrong.any():
        row = int(wrong.argmax())
        word = words[values[row]]
        meant = OUTCOMES[codes[row]]
        side = "a tie" if meant == "tie" else f"the side {meant}"
        same = ", ".join(f"{each!r}: {each!r}" for each in OUTCOMES)
        remedy = f"say so with labels={{{same}}}" if word in OUTCOMES else "rename the item"
        raise DataError(
            f"{source}: column {outcome.name!r} holds {word!r} in row {outcome.index[row] + 1}, which is read as "
            f"{side} and also names an item of that row; if it means {side}, {remedy}; if it names who won, "
            f"read it with winner={outcome.name!r}"
        )


def first_codes(frame: pd.DataFrame, column: str, source: str) -> NDArray[np.int8]:
    """Return which side was shown first [row]: 1 side a, -1 side b, 0 neither."""
    codes = frame[column].map(_FIRST)
    bad = codes.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{source}: column {column!r} says which side was shown first and holds {frame[column].iloc[row]!r} in row "
            f"{frame.index[row] + 1}; it may hold a, b or neither; translate others as in first_labels={{'left': 'a'}}"
        )
    return np.asarray(codes, np.int8).copy()


def read_counts(frame: pd.DataFrame, column: str | None, fractional: str, source: str) -> NDArray[np.float64]:
    """Return how many judgements each row holds: whole numbers, or weights if asked for; 1 without a column."""
    if column is None:
        return np.ones(len(frame))
    values = numbers(frame[column], source)
    bad = (values < 0) | ((values != np.round(values)) & (fractional != "weights"))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{source}: column {column!r} (count) holds {values[row]:g} in row {frame.index[row] + 1}; counts are "
            "whole and not negative"
            + (
                "; weights and half wins are a quasi-likelihood, which is read with fractional='weights'"
                if values[row] > 0
                else ""
            )
        )
    return values


def exported(held: Held) -> dict[str, NDArray[Any]]:
    """Return a column of rows as columns of a frame that is read back."""
    column, values = held.column, held.values
    if column.name == "grade":
        return {"strength": np.array([int(grade[1:]) if grade != "tie" else 0 for grade in held.words])[values]}
    if column.name == "first":
        return {"first": np.array(["b", "neither", "a"], dtype=object)[values + 1]}
    if column.kind in ("label", "outcome"):
        return {column.name: np.array(held.words, dtype=object)[values]}
    if column.words:
        return dict(zip(held.words, values.T, strict=True))
    return {column.name: values}
