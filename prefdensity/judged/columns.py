"""Columns of a table of judged units, read and checked: numbers, verdicts, who gave them, purchases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import empty as is_empty, encode_labels, listed, numbers, shown
from prefdensity.errors import DataError

Array = NDArray[Any]

VERDICTS = ("a", "b", "tie")
A, B, TIE = 0, 1, 2
LABELLED, COMPARED, UNSEEN = 1, 2, 3  # the patterns
BUY = ("label", "preference", "nothing")  # their names, as purchases

_CODES = {"a": A, "b": B, "tie": TIE, 1: A, 0: B, "1": A, "0": B}


def as_names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return names: of none, one or several."""
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def first_row(wrong: Array) -> int:
    """Return the first row that is wrong, counted from 1."""
    return int(np.flatnonzero(wrong)[0]) + 1


def require_columns(frame: pd.DataFrame, columns: list[str], source: str) -> None:
    """Refuse a frame without rows or without one of the columns, and columns named twice."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{source} has no column {missing[0]!r}; its columns are {listed(frame.columns)}")
    twice = [name for name in columns if columns.count(name) > 1 or (frame.columns == name).sum() > 1]
    if twice:
        raise DataError(f"{source}: the column {twice[0]!r} is named or given twice; every role needs its own column")
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one unit is needed")


def read_numbers(frame: pd.DataFrame, column: str, source: str, empty: bool = False) -> Array:
    """Return finite numbers [unit]; empty cells are NaN where they are allowed."""
    return numbers(frame[column].reset_index(drop=True), source, blank=empty)


def read_columns(frame: pd.DataFrame, columns: Sequence[str], source: str) -> Array:
    """Return finite numbers [unit, column]."""
    parts = [read_numbers(frame, name, source) for name in columns]
    return np.column_stack(parts) if parts else np.zeros((len(frame), 0))


def read_votes(frame: pd.DataFrame, column: str, verdicts: Mapping[Any, str] | None, source: str) -> Array:
    """Return the code of each verdict [unit], -1 where the cell is empty."""
    given, codes = frame[column], dict(_CODES)
    if verdicts is not None:
        strange = [meaning for meaning in verdicts.values() if meaning not in VERDICTS]
        if strange:
            raise DataError(f"verdicts maps to {strange[0]!r}; a verdict is one of {', '.join(VERDICTS)}")
        codes = {value: VERDICTS.index(meaning) for value, meaning in verdicts.items()}
    out = np.full(len(frame), -1)
    none = is_empty(given)
    for row, value in enumerate(given):
        if none[row]:
            continue
        if not pd.api.types.is_hashable(value) or value not in codes:
            raise DataError(
                f"{source}: column {column!r} holds {shown(value)} in row {row + 1}; "
                f"{'known are ' + ', '.join(map(repr, codes)) if verdicts else 'a, b or tie, or 1 and 0, are needed'}"
            )
        out[row] = codes[value]
    return out


def read_judgements(
    frame: pd.DataFrame, columns: tuple[str, ...], people: tuple[str, ...], votes: list[Array], source: str
) -> tuple[tuple[str, ...], Array, Array, Array]:
    """Return names of judges, then unit, judge and verdict [judgement]."""
    unit = [np.flatnonzero(vote >= 0) for vote in votes]
    rows = np.concatenate([*unit, np.zeros(0, np.int64)])
    verdict = np.concatenate([*(vote[vote >= 0] for vote in votes), np.zeros(0, np.int64)])
    if not people:
        return columns, rows, np.repeat(np.arange(len(unit)), [len(each) for each in unit]), verdict
    for name, column, at in zip(people, columns, unit, strict=True):
        nobody = is_empty(frame[name])[at]
        if nobody.any():
            row = int(at[np.argmax(nobody)]) + 1
            raise DataError(f"{source}: column {name!r} is empty in row {row}, where {column!r} holds a verdict")
    said = pd.concat([frame[name].reset_index(drop=True).iloc[at] for name, at in zip(people, unit, strict=True)])
    judges, (judge,) = encode_labels(said.to_frame("judge"), ("judge",), source)
    again = pd.DataFrame({"row": rows, "judge": judge}).duplicated().to_numpy()
    if again.any():
        twice = int(np.argmax(again))
        raise DataError(
            f"{source}: {judges[judge[twice]]!r} judged row {int(rows[twice]) + 1} twice; one verdict of each judge is "
            "needed"
        )
    return judges, rows, judge, verdict


def read_words(frame: pd.DataFrame, column: str, words: Sequence[str], source: str) -> Array:
    """Return the place among `words` of each entry of a column, int [unit]; others are refused."""
    place = {word: k for k, word in enumerate(words)}
    given = frame[column].to_numpy(object)
    strange = np.array([value not in place for value in given])
    if strange.any():
        row = first_row(strange)
        raise DataError(
            f"{source}: column {column!r} holds {shown(given[row - 1])} in row {row}; {', '.join(words)} are known"
        )
    return np.array([place[value] for value in given], dtype=np.int64)


def require_asked(came: Array, asked: Array, what: str, frame: pd.DataFrame, column: str, source: str) -> None:
    """Refuse what `came` where it was not `asked` for, bool [unit], as the column says."""
    wrong = came & ~asked
    if wrong.any():
        row = first_row(wrong)
        raise DataError(
            f"{source} has a {what} in row {row}, where {column!r} says {frame[column].iloc[row - 1]}; what was not "
            "bought by the plan has no known probability: leave it empty"
        )


def read_bought(frame: pd.DataFrame, column: str, labelled: Array, asked: Array, source: str) -> Array:
    """Return the pattern asked for [unit]; nothing comes back that was not asked for."""
    bought = read_words(frame, column, BUY, source) + 1
    for what, came, most in (("label", labelled, LABELLED), ("preference", asked, COMPARED)):
        require_asked(came, bought <= most, what, frame, column, source)
    return bought


def read_probabilities(
    frame: pd.DataFrame,
    first: str | None,
    second: str | None,
    label: Array,
    asked: Array,
    bought: Array | None,
    source: str,
) -> tuple[Array, Array]:
    """Return P(label) and P(preference) [unit]; all are 1 for a pilot and a table to plan for."""
    labelled = ~np.isnan(label)
    if bought is not None:  # what was asked for counts, come back or not
        labelled, asked = labelled | (bought == LABELLED), asked | (bought <= COMPARED)
    if first is None or second is None:
        if (first or second) is not None:
            raise DataError("label_probability and preference_probability belong together; give both or none")
        if not (labelled.all() or not asked.any()):
            missing = first_row(~labelled)
            raise DataError(
                f"{source} has no label in row {missing} and no probabilities; give the columns label_probability and "
                "preference_probability that labels and preferences were bought with"
            )
        return np.ones(len(frame)), np.ones(len(frame))
    p1, p2 = read_numbers(frame, first, source), read_numbers(frame, second, source)
    for name, p in ((first, p1), (second, p2)):
        wrong = ~((p > 0) & (p <= 1))
        if wrong.any():
            row = first_row(wrong)
            raise DataError(f"{source}: column {name!r} holds {p[row - 1]:g} in row {row}; it must lie in (0, 1]")
    if (p1 > p2).any():
        row = first_row(p1 > p2)
        raise DataError(
            f"{source}: {first!r} {p1[row - 1]:g} exceeds {second!r} {p2[row - 1]:g} in row {row}; "
            "a label is bought with a preference"
        )
    for name, p, bought in ((first, p1, labelled), (second, p2, asked)):
        wrong = (p == 1) & ~bought
        if wrong.any():
            raise DataError(f"{source}: {name!r} is 1 in row {first_row(wrong)}, where nothing was bought")
    return p1, p2


def read_groups(frame: pd.DataFrame, column: str, source: str) -> Array:
    """Return codes [unit] of the values of a column, in the order of numbers, or of labels."""
    given = frame[column].reset_index(drop=True)
    none = is_empty(given)
    if none.any():
        raise DataError(f"{source}: column {column!r} is empty in row {first_row(none)}; every unit needs one")
    if pd.api.types.is_numeric_dtype(given):
        return np.unique(numbers(given, source), return_inverse=True)[1].astype(np.int64)
    return encode_labels(given.to_frame(), (column,), source)[1][0]
