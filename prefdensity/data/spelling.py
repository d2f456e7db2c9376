"""Words of a table matched with those that a user gives: numbers and truth values however they are spelt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd

from prefdensity.data.columns import EXACT, empty

_NUMBER = re.compile(r"[+-]?\d{1,15}(?:\.\d{0,15})?")
T = TypeVar("T")


def spelt(cell: Any) -> str:
    """Return a cell as text: 1 for 1.0 and "1.0", true for True and "TRUE", other texts as they are."""
    text = str(cell)
    if text.casefold() in ("true", "false"):
        return text.casefold()
    if _NUMBER.fullmatch(text) and abs(number := float(text)) < EXACT:
        return str(int(number)) if number.is_integer() else repr(number)
    return text


def meaning(words: Mapping[Any, T]) -> Callable[[Any], T | None]:
    """Return what gives the meaning of a cell: by its text as it is, else as it may be spelt; None if it has none."""
    exact = {str(word): target for word, target in words.items()}
    loose = {spelt(word): target for word, target in words.items()}
    return lambda cell: exact.get(str(cell), loose.get(spelt(cell)))


def with_empty_words(values: pd.Series, labels: Mapping[Any, Any] | None) -> pd.Series:
    """Return a column with the word "" in its empty cells, where labels say what that means."""
    if labels is None or "" not in labels:
        return values
    return values.astype(object).where(~empty(values), "")
