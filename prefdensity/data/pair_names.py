"""Names of pairs: elm:fir, elm vs fir, elm_vs_fir, elm - fir; as names of columns, and as cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from prefdensity.data import pairings
from prefdensity.data.columns import empty, label_text, shown
from prefdensity.data.layout import Layout
from prefdensity.data.nesting import with_columns
from prefdensity.data.pairings import Given, Turned
from prefdensity.data.quantities import by_signed_strength
from prefdensity.errors import DataError

_WON = {"1": "a", "-1": "b", "0": "tie", ">": "a", "<": "b", "=": "tie", "a": "a", "b": "b", "tie": "tie"}
_WORD = r"(?:vs\.?|versus|v\.?|or|against|x)"
# what stands between two items, the surest first: a word between blanks or signs, then a sign alone
_BETWEEN = tuple(
    re.compile(sign, re.IGNORECASE)
    for sign in (rf"\s+{_WORD}\s+", rf"([_.-]+){_WORD}\1", r"\s*:\s*", r"\s*\|\s*", r"\s*>\s*", r"\s*/\s*", r"\s*~\s*",
                 r"\s*&\s*", r"\s+[-\u2013]\s+", r"\.", "-", "_")
)  # fmt: skip


def parted(name: str, sign: re.Pattern[str]) -> tuple[str, str] | None:
    """Return the two items that a name holds with one sign between them; None if it does not."""
    found = list(sign.finditer(name))
    if len(found) != 1:
        return None
    one, other = name[: found[0].start()].strip(), name[found[0].end() :].strip()
    return (one, other) if one and other else None


def is_pair(name: str) -> bool:
    """Return whether a name may be that of a pair."""
    return any(parted(name, sign) for sign in _BETWEEN)


def split(names: Sequence[str], what: str, source: str) -> list[tuple[str, str]]:
    """Return the two items of every name: all are parted by the surest sign that is in every one.

    Raises
    ------
    DataError
        If no sign parts them all; it ends in `what` remedies that.
    """
    for sign in _BETWEEN:
        pairs = [parted(name, sign) for name in names]
        if all(pairs):
            return [pair for pair in pairs if pair is not None]
    odd = next((name for name in names if not is_pair(name)), names[0])
    raise DataError(
        f"{source}: {shown(odd)} and others do not all name two items with one sign between them, as in larch:maple or "
        f"larch vs maple; {what}"
    )


def from_column(frame: pd.DataFrame, layout: Layout, source: str) -> pd.DataFrame:
    """Return the frame with columns item_a and item_b in the place of one that names both."""
    name = str(layout.pair)
    for role in ("item_a", "item_b", "loser"):
        if getattr(layout, role) is not None:
            raise DataError(f"pair=... names both items; leave out {role}=...")
    if taken := [each for each in ("item_a", "item_b") if each in frame.columns]:
        raise DataError(f"{source} has a column {taken[0]!r} already; leave out pair=...")
    none = empty(frame[name])
    texts = frame[name][~none].astype(str)
    what = "give them as two columns"
    if any(sign in text for text in texts.unique() for sign in ">="):
        what = f"where the sign says who won, as in larch > maple, read them with ranked={name!r}, as_pairs=True"
    found = dict(zip(texts.unique(), split(list(texts.unique()), what, source), strict=True))
    for place, side in enumerate(("item_a", "item_b")):
        cells = [None if gone else found[str(cell)][place] for gone, cell in zip(none, frame[name], strict=True)]
        frame = with_columns(frame, {side: cells})
    return frame


def from_columns(
    frame: pd.DataFrame, columns: list[str], layout: Layout, given: Given, source: str, notes: list[str]
) -> Turned:
    """One row for each judge, or for nobody, and a column for every pair."""
    sides = split(columns, "name the columns of the pairs with columns=...", source)
    if not layout.columns:
        _require_linked(columns, sides, source)
    left = [str(name) for name in frame.columns if str(name) not in columns]
    unread = [name for name in left if name not in {n for named in layout.columns_named().values() for n in named}]
    if unread:
        notes.append(f"columns that are no pairs are not read: {', '.join(unread)}")
    parts = [
        with_columns(frame[left], {"item_a": a, "item_b": b, "outcome": frame[name].astype(object)})
        for name, (a, b) in zip(columns, sides, strict=True)
    ]
    table = pd.concat(parts).sort_index(kind="stable")
    none = empty(table["outcome"])
    if none.any():
        notes.append(f"{int(none.sum())} rows of a judge and a pair are empty: nobody judged them")
        table = table[~none]
    given |= {"item_a": "item_a", "item_b": "item_b", "outcome": "outcome"}
    return _judged(table, layout, given, source, notes)


def _judged(table: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Read the cells of pairs: as labels say, by name, with their strength, or by sign."""
    cells = [label_text(cell) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
             for cell in table["outcome"]]  # fmt: skip
    table = table.assign(outcome=pd.Series(cells, index=table.index, dtype=object))
    if layout.labels is not None:
        return pairings.plain(table, layout, given, source, notes)
    if any(cell in pair for cell, *pair in zip(cells, table["item_a"], table["item_b"], strict=True)):
        _require_names(table, cells, source)
        notes.append("cells name the item that won")
        return pairings.named_winner(table, replace(layout, winner="outcome", wide=None), given, source, notes)
    numbers = pd.to_numeric(table["outcome"], errors="coerce")
    if (numbers.abs() > 1).any() and (numbers == np.round(numbers)).all():
        notes.append("numbers above 0 are for the item named first and tell how strongly, those below 0 for the other")
        given.pop("outcome")
        signed = with_columns(table.drop(columns="outcome"), {"strength": numbers})
        return by_signed_strength(signed, replace(layout, signed_strength="strength", wide=None), given, source, notes)
    table = table.assign(outcome=[cell.casefold() if cell.casefold() in _WON else cell for cell in table["outcome"]])
    given["labels"] = {word: side for word, side in _WON.items() if word in set(table["outcome"])} or {"a": "a"}
    notes.append("1 (or >) is for the item named first, -1 (or <) for the other, 0 (or =) a tie")
    return pairings.plain(table, layout, given, source, notes)


def _require_names(table: pd.DataFrame, cells: list[str], source: str) -> None:
    """Refuse cells that name an item and may as well be the sign of the other one, where items are numbers."""
    for row, (cell, a, b) in enumerate(zip(cells, table["item_a"], table["item_b"], strict=True)):
        if (cell == a and _WON.get(cell) == "b") or (cell == b and _WON.get(cell) == "a"):
            raise DataError(
                f"{source}: the pair {a}, {b} holds {cell!r} in row {int(table.index[row]) + 1}, which names an item "
                "and may as well be the sign of the other one; call items by other names"
            )


def _require_linked(columns: list[str], sides: list[tuple[str, str]], source: str) -> None:
    """Refuse a column of two items that are in no other pair: it more likely says something of the judge."""
    every = [item for pair in sides for item in pair]
    alone = [name for name, pair in zip(columns, sides, strict=True) if all(every.count(item) == 1 for item in pair)]
    if alone and len(columns) > len(alone):
        raise DataError(
            f"{source}: column {alone[0]!r} names two items that are in no other pair; if it is one, name the columns "
            "of the pairs with columns=..., and else say what it is"
        )
