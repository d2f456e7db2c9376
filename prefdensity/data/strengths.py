"""Strengths of preference as a table holds them, read into grades."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import EXACT, numbers
from prefdensity.data.grades import vocabulary
from prefdensity.errors import DataError


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
