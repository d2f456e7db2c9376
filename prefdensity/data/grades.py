"""Graded outcomes: which side is preferred, and how strongly.

A vocabulary of grades runs from the strongest preference for side a to the strongest for side b, as in a2, a1, tie,
b1, b2, so that exchanging the sides reverses it. The plain outcomes a, b and tie are grades without a strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
