"""Graded outcomes: which side is preferred, and how strongly.

A vocabulary of grades runs from the strongest preference for side a to the strongest for side b, as in a2, a1, tie,
b1, b2, so that exchanging the sides reverses it. The plain outcomes a, b and tie are grades without a strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import EXACT, numbers
from prefdensity.errors import DataError

_VERDICTS = ("a", "b", "tie")
_SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5}


def vocabulary(strengths: Sequence[str], tie: bool) -> tuple[str, ...]:
    """Return the grades of the strengths, weakest first, with or without a tie in their middle."""
    middle = ("tie",) if tie else ()
    return (*(f"a{s}" for s in reversed(strengths)), *middle, *(f"b{s}" for s in strengths))


def verdict(outcome: str) -> str:
    """Return a, b or tie: the outcome without its strength."""
    return outcome if outcome == "tie" else outcome[:1]


def verdicts(outcomes: Sequence[str]) -> tuple[str, ...]:
    """Return those of a, b, tie that the outcomes hold, in this order."""
    found = set(map(verdict, outcomes))
    return tuple(each for each in _VERDICTS if each in found)


def scores(outcomes: Sequence[str]) -> NDArray[np.float64]:
    """Return what each outcome counts for side a: 1, 0, and 1/2 for a tie."""
    return np.array([_SCORES[verdict(each)] for each in outcomes])


def mirror(outcomes: Sequence[str]) -> list[int]:
    """Return the place of each outcome once the sides are exchanged."""
    other = {"a": "b", "b": "a"}
    return [outcomes.index(other.get(each[:1], "") + each[1:] if each != "tie" else each) for each in outcomes]


def columns(outcomes: Sequence[str], place: NDArray[np.intp]) -> dict[str, Any]:
    """Return the columns of a table [row] that say which of the outcomes was given."""
    plain = np.array([_VERDICTS.index(verdict(each)) for each in outcomes], np.int8)[place]
    return {"outcome": plain} if outcomes == verdicts(outcomes) else {"outcome": plain, "grade": place}


def pooled(log_prob: NDArray[Any], outcomes: Sequence[str]) -> NDArray[Any]:
    """Return log probabilities [..., verdict] of a, b and tie from those of the outcomes [..., outcome]."""
    kinds = verdicts(outcomes)
    if len(kinds) == len(outcomes):
        return log_prob
    member = np.array([verdict(each) for each in outcomes])
    return np.stack([np.logaddexp.reduce(log_prob[..., member == kind], axis=-1) for kind in kinds], -1)


def split_signed(
    score: pd.Series, centre: float, higher: str, source: str
) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return who won [row] (a, b, tie, or None where the cell is empty) and how strongly, from a signed strength.

    Values above the centre speak for the side `higher`. Strengths count from the centre, 1 the nearest: with the
    centre 4, 5 and 3 have strength 1, and with 3.5 so do 4 and 3.
    """
    if not (isinstance(centre, int | float) and abs(centre) < EXACT and centre * 2 == round(centre * 2)):
        raise DataError(f"strength_centre={centre!r} must be a value of the scale, or half-way between two")
    away = (_whole(score, source) - centre) * (1 if higher == "a" else -1)
    outcome = np.full(len(score), None, dtype=object)
    outcome[away > 0], outcome[away < 0], outcome[away == 0] = "a", "b", "tie"
    return outcome, np.ceil(np.abs(away))


def grade_codes(
    strength: pd.Series, outcome: NDArray[np.int8], source: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the vocabulary of grades and the grade [row] of outcomes 0 (a), 1 (b), 2 (tie) with these strengths.

    Raises
    ------
    DataError
        Unless strengths are 1, 2, ... where a side won, and 0 or empty at a tie.
    """
    column, tie = str(strength.name), outcome == 2
    value = _whole(strength, source)
    wrong = np.where(tie, ~(np.isnan(value) | (value == 0)), ~(value >= 1))
    if wrong.any():
        row = int(wrong.argmax())
        found, where = strength.tolist()[row], strength.index[row] + 1
        rule = (
            "a tie has none: 0 or an empty cell"
            if tie[row]
            else "where a side won it is 1, 2, ...; a signed column, positive for side a, takes the place of the "
            "outcome column: outcome=None (--signed-strength)"
        )
        raise DataError(f"{source}: column {column!r} (strength of preference) holds {found!r} in row {where}; {rule}")
    levels = np.unique(value[~tie]).astype(np.int64)
    grades = vocabulary([str(level) for level in levels], bool(tie.any()))
    level = np.searchsorted(levels, np.where(tie, 0, value)) + 1  # from 1, the weakest
    middle, last = len(grades) // 2, len(grades) - 1
    code = np.where(outcome == 0, len(levels) - level, last - len(levels) + level)
    return grades, np.where(tie, middle, code).astype(np.int64)


def _whole(values: pd.Series, source: str) -> NDArray[np.float64]:
    """Return whole numbers [row], NaN where the cell is empty."""
    expected = "strengths of preference, whole numbers with 1 the weakest"

    def whole(x: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (x == np.round(x)) & (np.abs(x) < EXACT)

    return numbers(values, source, valid=whole, expected=expected, blank=True)
