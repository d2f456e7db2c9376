"""Texts and lists of messages as items: called by their beginning and a hash of them and their prompt."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.layout import Layout
from prefdensity.data.nesting import is_missing, parsed, with_columns
from prefdensity.errors import DataError

_ASSISTANT = "\n\nAssistant:"
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what no label may hold
_MESSAGES = re.compile(r"""\[\s*\{\s*["'](?:role|from|content|value)["']\s*:""")  # as a csv holds them
_SHORT = 40  # characters of a prompt that is its own label
_ROLES, _WORDS = ("role", "from"), ("content", "value")  # as OpenAI and as ShareGPT call them


def in_place(frame: pd.DataFrame, layout: Layout, given: dict[str, Any], source: str) -> pd.DataFrame:
    """Return the frame with labels in the place of texts, and of prompts."""
    if layout.texts is None:
        return frame
    if layout.texts == "context":
        name = str(layout.context or "context")
        return (
            with_columns(frame, {name: [prompt_label(cell) for cell in frame[name]]})
            if name in frame.columns
            else frame
        )
    sides: tuple[Any, Any] = (layout.item_a or "item_a", layout.item_b or "item_b")
    if layout.winner is not None and layout.loser is not None:
        sides = (layout.winner, layout.loser)
    frame, context = called(frame, sides, layout.context, source)
    if context is not None:
        given["context"] = context
    return frame


def called(frame: pd.DataFrame, sides: tuple[Any, Any], context: Any, source: str) -> tuple[pd.DataFrame, str | None]:
    """Return the frame with labels of answers in the columns of both sides, and the name of a column of prompts.

    Without a column of prompts the prompt is what both texts, or lists of messages, share before the last answer.

    Raises
    ------
    DataError
        If a column is missing, or a cell is neither text nor messages, or the two share no beginning.
    """
    for name in sides:
        if name not in frame.columns:
            raise DataError(f"{source} has no column {name!r} with the texts of answers")
    asked = context if context is not None else "prompt" if "prompt" in frame.columns else None
    prompts = frame[asked] if asked is not None else pd.Series([None] * len(frame), dtype=object)
    rows = []
    for place, (prompt, one, other) in enumerate(zip(prompts, frame[sides[0]], frame[sides[1]], strict=True)):
        row = int(frame.index[place]) + 1
        cells = [_turns(cell, name, row, source) for cell, name in zip((one, other), sides, strict=True)]
        if not any(is_missing(cell) for cell in (one, other)):
            begun, cells = _parted(cells, sides, asked is not None, row, source)
            prompt = prompt if asked is not None else begun
        words = text(prompt)
        rows.append(
            (label(cells[0], words), label(cells[1], words), None if is_missing(prompt) else prompt_label(words))
        )
    name = str(asked or "prompt")
    table = pd.DataFrame(rows, columns=["one", "other", "prompt"], index=frame.index)
    return frame.assign(**{sides[0]: table["one"], sides[1]: table["other"], name: table["prompt"]}), name


def _turns(cell: Any, name: Any, row: int, source: str) -> Any:
    """Return a text as it is, and a list of messages as a list of (role, words)."""
    cell = cell.tolist() if isinstance(cell, np.ndarray) else cell
    if isinstance(cell, dict):
        cell = [cell]
    if isinstance(cell, str) and _MESSAGES.match(cell) and isinstance(spelled := parsed(cell), list):
        cell = spelled
    if is_missing(cell) or isinstance(cell, str):
        return cell
    whole = isinstance(cell, list) and bool(cell) and all(isinstance(turn, dict) for turn in cell)
    turns = [tuple(next((turn[k] for k in keys if k in turn), None) for keys in (_ROLES, _WORDS)) for turn in cell] \
        if whole else []  # fmt: skip
    if not turns or any(words is None for _, words in turns):
        raise DataError(
            f"{source}: column {name!r} must hold text or messages with role and content, and holds "
            f"{type(cell).__name__} in row {row}"
        )
    return [(role, text(words)) for role, words in turns]


def _parted(cells: list[Any], sides: tuple[Any, Any], asked: bool, row: int, source: str) -> tuple[Any, list[Any]]:
    """Return what two answers share before they part (of dialogues and messages), and the answers."""
    one, other = cells
    if isinstance(one, list) and isinstance(other, list):
        shared = 0
        while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
            shared += 1
        begun = "\n".join(f"{role}: {words}" for role, words in one[:shared])
        return begun, ["\n".join(words for _, words in each[shared:]) for each in (one, other)]
    if isinstance(one, list) or isinstance(other, list):
        raise DataError(f"{source}: row {row} has a text on one side and messages on the other")
    if asked:
        return None, cells
    begun, one, other = dialogue(one, other, sides, row, source)
    return begun, [one, other]


def dialogue(chosen: str, rejected: str, sides: tuple[Any, Any], row: int, source: str) -> tuple[str, str, str]:
    """Split two dialogues into what they share up to the answer compared, and the two answers."""
    end = chosen.rfind(_ASSISTANT)
    if chosen[:end] != rejected[: rejected.rfind(_ASSISTANT)]:
        # some pairs part before the last turn: the answers then begin where they part
        end = os.path.commonprefix([chosen, rejected]).rfind(_ASSISTANT)
    if end < 0:
        raise DataError(
            f"{source}: {sides[0]} and {sides[1]} of row {row} share no beginning up to an 'Assistant:' turn; "
            f"give the shared text as a column 'prompt', or name its column with context=..."
        )
    start = end + len(_ASSISTANT)
    return chosen[:end], chosen[start:].strip(), rejected[start:].strip()


def text(value: Any) -> str:
    """Return a prompt as text: texts as they are, messages as JSON, nothing as the empty text.

    Half a character, where somebody cut a text within one, is written as its escape: pandas and hashes refuse it.
    """
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    whole = json.dumps(value, sort_keys=True, ensure_ascii=False, default=_listed)
    return whole.encode(errors="backslashreplace").decode()


def _listed(array: Any) -> Any:
    return array.tolist() if hasattr(array, "tolist") else str(array)


def prompt_label(prompt: Any) -> str | None:
    """Return what a prompt is called: itself if it is one short line, such as an id, else as an answer is."""
    if isinstance(prompt, str) and 0 < len(prompt) <= _SHORT and prompt.isprintable() and prompt.strip():
        return prompt
    return label(prompt)


def label(response: Any, prompt: str = "") -> str | None:
    """Return the beginning of a text with a hash of it and its prompt; None if the text is missing."""
    if is_missing(response):
        return None
    whole = text(response)
    digest = hashlib.sha256(f"{prompt}\x1f{whole}".encode()).hexdigest()[:12]
    beginning = " ".join(_UNFIT.sub(" ", whole[:200]).split())[:32].rstrip()
    return f"{beginning or '(empty)'} #{digest}"
