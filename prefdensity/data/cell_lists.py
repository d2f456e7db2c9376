"""Cells that list items: lists, texts with a sign between items, and rankings spelled as elm > fir = oak."""

from __future__ import annotations

import numpy as np
import pandas as pd

from prefdensity.data.columns import empty
from prefdensity.data.nesting import parsed, with_columns

_ABOVE, _LISTED = ("->", "→", "≻", ">"), (";", "|", ",")  # between the better and the worse, and between items
RANK = "rank in the row"  # of an item, in a column of its own


def listed_items(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Return the frame with lists of items in the place of texts that list them, as in elm; fir; oak."""
    cells = [cell for cell in frame[name] if isinstance(cell, str) and not isinstance(parsed(cell), list)]
    sign = next((each for each in _LISTED if any(each in cell for cell in cells)), None)
    if sign is None:
        return frame
    notes.append(f"{name} lists items with {sign!r} between them")
    parts = [[item.strip() for item in cell.split(sign)] if isinstance(cell, str) else cell for cell in frame[name]]
    return with_columns(frame, {name: pd.Series(parts, index=frame.index, dtype=object)})


def unpacked(frame: pd.DataFrame, name: str, called: str, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return columns for the entries of a column of lists; the column itself where its cells are none."""
    lists = [parsed(cell) for cell in frame[name]]
    if not any(isinstance(cell, list | tuple | np.ndarray) for cell in lists):
        return frame, [name]
    entries = [list(cell) if isinstance(cell, list | tuple | np.ndarray) else [] for cell in lists]
    longest = max(map(len, entries))
    columns = [f"{called} {place}" for place in range(1, longest + 1)]
    filled = [[*each, *[None] * (longest - len(each))] for each in entries]
    notes.append(f"{name} holds lists of items")
    return with_columns(frame, {c: [row[k] for row in filled] for k, c in enumerate(columns)}), columns


def spelled(frame: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    """Return a row for each item of rankings that are spelled in one cell: elm > fir = oak, or elm, fir, oak."""
    rows, found, ranks = [], [], []
    cells = [str(cell) for none, cell in zip(empty(frame[name]), frame[name], strict=True) if not none]
    sign = next((each for each in (*_ABOVE, *_LISTED) if any(each in cell for cell in cells)), ">")
    if sign in _LISTED:
        notes.append(f"{name} lists items with {sign!r} between them, read as the best first")
    for row, (none, cell) in enumerate(zip(empty(frame[name]), frame[name], strict=True)):
        for rank, tied in enumerate([] if none else str(cell).split(sign), 1):
            for item in tied.split("=") if sign in _ABOVE else [tied]:
                rows.append(row)
                found.append(item.strip())
                ranks.append(float(rank))
    return with_columns(frame.iloc[rows], {"item of it": found, RANK: ranks})
