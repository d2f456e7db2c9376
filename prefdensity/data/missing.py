"""Rows with empty cells: refused, or dropped on request and counted; of answers in several rows whole answers go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import empty
from prefdensity.errors import DataError

_WAYS = {  # what else may be done about empty cells
    "outcome": ", or say what an empty cell means, as in labels={'': 'tie'}",
    "annotator": ", or read the table without who judged: annotator=None (--without annotator)",
    "context": ", or read the table without it: context=None (--without context)",
}


def drop_missing(
    frame: pd.DataFrame,
    required: Mapping[str, str],
    missing: str,
    source: str,
    notes: list[str],
    answer: str | None = None,
) -> pd.DataFrame:
    """Return the rows that have an entry in every required column (of each role); refuse, or drop, the others.

    With `answer`, the column of what a row belongs to, all rows of it go: without one of its items an answer would say
    something else.
    """
    if missing not in ("error", "drop"):
        raise DataError(f"missing={missing!r} is unknown; use 'error' or 'drop'")
    what = "rows" if answer is None else "answers"
    for role, column in required.items():
        values = frame[column]
        here = values.isna().to_numpy() if role == "outcome" else empty(values)  # a blank outcome may be translated
        if missing == "error" and here.any():
            raise DataError(
                f"{source}: column {column!r} ({role}) is empty in {_size(frame, here, answer)} {what}, first in row "
                f"{int(frame.index[int(here.argmax())]) + 1}; fill them, or drop such {what} with missing='drop'"
                + _WAYS.get(role, "")
            )
        named = role if role == column else f"{role} ({column})"
        frame = _without(frame, here, f"with an empty {named}", notes, answer)
    return frame


def whole_answers(
    frame: pd.DataFrame, answer: str, required: Mapping[str, str], missing: str, source: str, notes: list[str]
) -> pd.DataFrame:
    """Return the rows of answers that have an entry in every required column in each of their rows; as above."""
    frame = drop_missing(frame, {"answer": answer}, missing, source, notes)
    frame = drop_missing(frame, required, missing, source, notes, answer)
    if not len(frame):
        raise DataError(f"{source}: no answer is left: {', '.join(notes)}")
    return frame


def that_tell(
    frame: pd.DataFrame, answer: str, told: Mapping[str, NDArray[np.bool_]], missing: str, source: str, notes: list[str]
) -> pd.DataFrame:
    """Return the rows of answers that tell all of this in some row [row]; others go, where missing='drop'."""
    gone = np.zeros(len(frame), bool)
    for rows in told.values():
        gone |= ~frame[answer].isin(frame[answer][rows]).to_numpy()
    if missing != "drop" or not gone.any():
        return frame
    if gone.all():
        raise DataError(f"{source}: no answer names {' and '.join(told)}")
    return _without(frame, gone, f"that do not name {' and '.join(told)}", notes, answer)


def _without(
    frame: pd.DataFrame, gone: NDArray[np.bool_], why: str, notes: list[str], answer: str | None
) -> pd.DataFrame:
    """Return the other rows, or answers; count those that go."""
    if not gone.any():
        return frame
    notes.append(f"{_size(frame, gone, answer)} {'rows' if answer is None else 'answers'} {why} dropped on request")
    return frame[~(gone if answer is None else frame[answer].isin(frame[answer][gone]).to_numpy())]


def _size(frame: pd.DataFrame, rows: NDArray[np.bool_], answer: str | None) -> int:
    """Return how many rows these are, or of how many answers."""
    return int(rows.sum()) if answer is None else int(frame[answer][rows].nunique())
