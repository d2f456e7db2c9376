"""Numbers in words: probabilities that never claim certainty, and shares that are exact where they say so."""

from __future__ import annotations

import math
from collections.abc import Iterable

# What the library itself counts, and has a plural; columns and rungs are called as users please.
_COUNTED = frozenset(
    (
        "annotator answer choice comparison component context draw finding group item judgement label outcome pair "
        "point preference row type"
    ).split()
)


def percent(probability: float) -> str:
    """Return a probability in words, in the order of the numbers: <1%, 1%, ..., 99%, >99%.

    Probabilities come from finitely many draws: none of 1,000 is no zero, and all of them no certainty.
    """
    if not math.isfinite(probability):
        return "–"
    if probability <= 0.005:
        return "<1%"
    return ">99%" if probability >= 0.995 else f"{probability:.0%}"


def share(part: float) -> str:
    """Return a share of what was counted, in the order of the numbers: 0%, <0.1%, 0.1%, ..., >99.9%, 100%.

    0% is none at all, and 100% is all without exception.
    """
    if not math.isfinite(part):
        return "–"
    if part in (0, 1):
        return f"{part:.0%}"
    if part <= 0.0005:
        return "<0.1%"
    return ">99.9%" if part >= 0.9995 else f"{part:.1%}"


def shortened(text: str) -> str:
    """Return a text as errors quote it: not all of one that goes on and on."""
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def counted(number: float, name: str) -> str:
    """Return so many of what is called so: "39 items", "1 item"; of what users named "39 values of 'category'"."""
    plural = "" if number == 1 else "s"
    return f"{number:,.10g} {name}{plural}" if name in _COUNTED else f"{number:,.10g} value{plural} of {name!r}"


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the first of some names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
