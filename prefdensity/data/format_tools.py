"""What the converters of `prefdensity.data.formats` share: checks, labels of texts, grades, nested lists."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import numbers
from prefdensity.data.comparisons import OUTCOMES, Comparisons
from prefdensity.errors import DataError

_ASSISTANT = "\n\nAssistant:"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what no label may hold


def require(frame: pd.DataFrame, names: Iterable[str], source: str, what: str) -> pd.DataFrame:
    """Return `frame` with rows numbered from 0, after checking that it has these columns and a row."""
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise DataError(f"{source} has no column {', '.join(map(repr, absent))}, which format {what} needs")
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one comparison is needed")
    return frame.reset_index(drop=True)


def require_text(frame: pd.DataFrame, names: Iterable[str], source: str) -> None:
    """Raise unless these columns hold text or nothing."""
    for name in names:
        for row, value in enumerate(frame[name], 1):
            if not isinstance(value, str) and not _is_missing(value):
                raise DataError(
                    f"{source}: column {name!r} must hold text, and holds {type(value).__name__} in row "
                    f"{row}; join messages into one text first"
                )


def one_of(argument: str, value: str, allowed: Sequence[str]) -> None:
    """Raise unless the value of an argument is one of those allowed."""
    if value not in allowed:
        raise DataError(f"{argument}={value!r} is unknown; use {' or '.join(map(repr, allowed))}")


def mapped(
    outcome: pd.Series,
    spellings: Sequence[str],
    choice: str | None,
    argument: str,
    meaning: str,
    source: str,
    notes: list[str],
) -> dict[str, str]:
    """Return labels for outcomes that nobody but the user can place: "tie" or "drop", and no default."""
    if choice is not None:
        one_of(argument, choice, ("tie", "drop"))
    rows = int(outcome.isin(spellings).sum())
    if rows and choice is None:
        raise DataError(
            f"{source}: {rows} rows {meaning}; "
            f"say how to read them with {argument}='tie' or {argument}='drop'"
        )
    if rows and choice == "tie":
        notes.append(f"{rows} rows that {meaning} counted as ties on request")
    return dict.fromkeys(spellings, choice or "drop")


def strength_notes(strength: str, column: str) -> list[str]:
    """Return the notes on a column of graded judgements whose strength is to "keep" or "drop"."""
    one_of("strength", strength, ("keep", "drop"))
    return [] if strength == "keep" else [f"{column} reduced to a, b or tie: its strength is not used"]


def scores(
    values: pd.Series, valid: Callable[[NDArray[np.float64]], NDArray[np.bool_]], expected: str, source: str
) -> NDArray[np.float64]:
    """Return float64 [row], NaN where missing, after checking that all others are valid."""
    return numbers(values.reset_index(drop=True), source, valid=valid, expected=expected, blank=True)


def by_sign(grade: NDArray[np.float64]) -> NDArray[np.object_]:
    """Return outcomes [row]: a below zero, b above, a tie at zero, None where missing."""
    outcome = np.full(len(grade), None, dtype=object)
    outcome[grade < 0], outcome[grade > 0], outcome[grade == 0] = "a", "b", "tie"
    return outcome


def one_hot(frame: pd.DataFrame, names: Sequence[str], source: str) -> NDArray[np.intp]:
    """Return which of the columns is 1 in each row; exactly one must be, the others 0."""
    values = np.column_stack([numbers(frame[name], source, expected="0 or 1", blank=True) for name in names])
    wrong = ~np.isin(values, (0, 1)).all(1) | (values.sum(1) != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{source}: exactly one of {', '.join(names)} must be 1 and the others 0, and row {row + 1} "
            f"holds {', '.join(str(value) for value in frame[list(names)].iloc[row])}"
        )
    return values.argmax(1)


def chosen_or_equal(frame: pd.DataFrame, choice: str | None, source: str, notes: list[str]) -> NDArray[np.object_]:
    """Return "chosen" [row], or "equal" where both texts have the same score; note scores against the choice."""
    outcome = np.full(len(frame), "chosen", dtype=object)
    if choice is not None:
        one_of("equal_scores", choice, ("tie", "win", "drop"))
    if not {"score_chosen", "score_rejected"} <= set(frame.columns):
        return outcome
    better, worse = (numbers(frame[f"score_{side}"], source, blank=True) for side in ("chosen", "rejected"))
    equal, against = better == worse, better < worse
    if equal.any() and choice is None:
        raise DataError(
            f"{source}: {int(equal.sum())} rows have the same score for chosen and rejected, first row "
            f"{int(equal.argmax()) + 1}; say what they are with equal_scores='tie', 'win' (of the chosen one) or 'drop'"
        )
    outcome[equal] = "equal"
    if equal.any():
        notes.append(f"{int(equal.sum())} rows with equal scores of chosen and rejected read as {choice!r} on request")
    if against.any():
        notes.append(f"{int(against.sum())} rows whose rejected text has the higher score count for the chosen one")
    return outcome


def entries(frame: pd.DataFrame, column: str, source: str, notes: list[str]) -> pd.Series:
    """Return the judgements in a column of lists of objects, indexed by the row of `frame` they came from."""
    lists = []
    for row, value in enumerate(frame[column], 1):
        value = value.tolist() if isinstance(value, np.ndarray) else [] if _is_missing(value) else value
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise DataError(
                f"{source}: column {column!r} must hold lists of judgements, and row {row} does not; "
                f"read it from the published parquet or json lines"
            )
        lists.append(value)
    empty = sum(not value for value in lists)
    if empty == len(lists):
        raise DataError(f"{source}: column {column!r} holds no judgement at all")
    if empty:
        notes.append(f"{empty} rows hold no judgement in {column}")
    rows = np.repeat(frame.index, [len(value) for value in lists])
    return pd.Series([entry for value in lists for entry in value], index=rows, dtype=object)


def text(value: Any) -> str:
    """Return a prompt as text: texts as they are, messages as JSON, nothing as the empty text.

    Half a character, where somebody cut a text within one, is written as its escape: pandas and hashes refuse it.
    """
    if _is_missing(value):
        return ""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    whole = json.dumps(value, sort_keys=True, ensure_ascii=False, default=lambda array: array.tolist())
    return whole.encode(errors="backslashreplace").decode()


def label(response: Any, prompt: str = "") -> str | None:
    """Return the beginning of a text with a hash of it and its prompt; None if the text is missing."""
    if _is_missing(response):
        return None
    whole = text(response)
    digest = hashlib.sha256(f"{prompt}\x1f{whole}".encode()).hexdigest()[:12]
    beginning = " ".join(_UNFIT.sub(" ", whole[:200]).split())[:32].rstrip()
    return f"{beginning or '(empty)'} #{digest}"


def labels(responses: Iterable[Any], prompts: Iterable[str]) -> list[str | None]:
    """Return the label of each response to its prompt."""
    return [label(response, prompt) for response, prompt in zip(responses, prompts, strict=True)]


def dialogue(chosen: str, rejected: str, row: int, source: str) -> tuple[str, str, str]:
    """Split two dialogues into what they share up to the answer compared, and the two answers."""
    end = chosen.rfind(_ASSISTANT)
    if chosen[:end] != rejected[: rejected.rfind(_ASSISTANT)]:
        # some pairs part before the last turn: the answers then begin where they part
        end = os.path.commonprefix([chosen, rejected]).rfind(_ASSISTANT)
    if end < 0:
        raise DataError(
            f"{source}: chosen and rejected of row {row} share no beginning up to an 'Assistant:' turn; "
            f"give the shared text as a column 'prompt'"
        )
    start = end + len(_ASSISTANT)
    return chosen[:end], chosen[start:].strip(), rejected[start:].strip()


def comparisons(
    table: pd.DataFrame,
    notes: Sequence[str],
    missing: str,
    identical: str,
    source: str,
    labels: Mapping[Any, str] | None = None,
    ordered: bool = False,
    **called: str,
) -> Comparisons:
    """Return the comparisons of a converted table; `called` are the names of its columns in the file."""
    known = list(labels or OUTCOMES)
    unknown = table["outcome"].dropna()[lambda values: ~values.isin(known)]
    if len(unknown):
        found = ", ".join(f"{label!r} ({rows} rows)" for label, rows in unknown.value_counts().items())
        raise DataError(
            f"{source}: column {called.get('outcome', 'outcome')!r} holds unknown outcomes: {found}; "
            f"this format knows {', '.join(map(repr, known))}"
        )
    data = Comparisons.from_frame(
        table.rename(columns=called),
        strength="strength" if "strength" in table.columns else None,
        missing=missing,
        identical=identical,
        labels=labels,
        ordered=ordered,
        source=source,
        **called,  # type: ignore[arg-type]
    )
    return replace(data, notes=(*notes, *data.notes))


def _is_missing(value: Any) -> bool:
    return value is None or (not isinstance(value, list | dict | np.ndarray) and bool(pd.isna(value)))
