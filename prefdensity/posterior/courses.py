"""How utilities change over a number that a program reads, a date as a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.named import numbers_or_dates
from prefdensity.errors import DataError
from prefdensity.posterior.by_group import utilities_in
from prefdensity.posterior.draws import Draws, require_spread

_POINTS = 13
_TOLD = ("item", "mean", "sd", "lower", "upper", "p_best")


def require_over(over: str | None, at: Sequence[Any] | None, **beside: object) -> None:
    """Refuse values of no number, and whatever else would say what is told apart beside a number."""
    if at is not None and over is None:
        raise DataError("at asks about dates or values of a number; name it in over")
    for name, value in beside.items():
        if over is not None and value is not None:
            raise DataError(f"{name} and over={over!r} both say what is told apart; give one of them")


def places(post: Draws, name: str, at: Sequence[Any] | None = None) -> tuple[str, list[Any], NDArray[np.float64]]:
    """Return the full name of a number, and values as they are asked about and in standard deviations from its mean.

    Parameters are those of `course_of`, and so is what is refused.
    """
    name = post.full_name(name)
    if "type_weight" in post.draws:
        raise DataError("annotators of this fit have types, each with a ranking of its own; a course has one")
    if name not in post.units:
        raise DataError(f"{post.program_name} reads no number {name!r}, only {', '.join(post.units) or 'none'}")
    middle, spread, least, greatest = post.units[name]
    asked = list(np.linspace(least, greatest, _POINTS)) if at is None else list(at)
    if not asked or len(set(map(str, asked))) < len(asked):
        raise DataError(f"at={asked!r} must name values of {name}, each once; without it there are {_POINTS}")
    return name, asked, (numbers_or_dates(pd.Series(asked, name=name, dtype=object), "at") - middle) / spread


def course_of(
    post: Draws, name: str, at: Sequence[Any] | None = None, level: float = 0.9, reference: str | None = None
) -> pd.DataFrame:
    """Return the utilities of the items at some dates, or values of another number, as the average annotator has them.

    The program is asked as it is for groups (`by_group.by_group`).

    Parameters
    ----------
    post
        A fit of a program that reads the number, without types of annotators.
    name
        A number that the program reads: "date".
    at
        Dates or numbers to ask about, as they are in the table; None: 13 between the first and the last.
    level
        Probability of the central intervals.
    reference
        Item from which utilities are counted; None: the average item.

    Returns
    -------
    Frame with a column of the number's name as it was asked, item, mean, sd, lower, upper, and p_best.

    Raises
    ------
    DataError
        If the program does not read the number, or it is called as another column here, annotators have types, the fit
        has no spread (map), or the reference is no item.
    """
    require_spread(post, level, reference)
    name, asked, place = places(post, name, at)
    if name in _TOLD:
        raise DataError(f"a course has a column of its own called {name!r}; read the number under another name")
    found = utilities_in(post, name, place)  # [draw, point, item]
    best = (found == found.max(-1, keepdims=True)).mean(0)
    found = found - (found.mean(-1, keepdims=True) if reference is None else found[..., [post.items.index(reference)]])
    lower, upper = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    items = len(post.items)
    return pd.DataFrame({
        name: [each for each in asked for _ in range(items)], "item": list(post.items) * len(asked),
        "mean": found.mean(0).ravel(), "sd": found.std(0, ddof=1).ravel(), "lower": lower.ravel(),
        "upper": upper.ravel(), "p_best": best.ravel(),
    })  # fmt: skip
