"""Many quantities of one posterior at once: each with its interval, and intervals that hold all of them together."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_AT_ONCE = 4_000_000  # entries of all draws that are held at once


def at_once(quantity: Callable[[slice], NDArray[np.float64]], size: int, draws: int, level: float) -> pd.DataFrame:
    """Return means and intervals of quantities of a posterior.

    Parameters
    ----------
    quantity
        Which of them -> their draws [draw, quantity].
    size, draws
        How many quantities and draws there are.
    level
        Probability of the intervals.

    Returns
    -------
    Frame with difference (the mean), sd, lower and upper (central interval of each), lower_all and upper_all (intervals
    that hold all at once with probability `level`), and p_greater, P(quantity > 0). The simultaneous intervals reach
    equally many sd to either side: the quantile of the largest standardised distance from the mean (Besag, Green,
    Higdon and Mengersen 1995, Statistical Science 10, 3-41; for independent items of one variance this is Tukey's
    studentised range).
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    mean, sd, lower, upper, ahead = np.empty((5, size))
    furthest = np.zeros(draws)
    step = max(_AT_ONCE // draws, 1)
    for start in range(0, size, step):
        part = slice(start, min(start + step, size))
        found = quantity(part)
        mean[part], sd[part] = found.mean(0), found.std(0, ddof=1)
        lower[part], upper[part] = np.quantile(found, tails, axis=0)
        ahead[part] = (found > 0).mean(0)
        far = np.abs(found - mean[part]) / np.where(sd[part] > 0, sd[part], np.inf)
        furthest = np.maximum(furthest, far.max(1, initial=0.0))
    reach = np.quantile(furthest, level) * sd
    return pd.DataFrame({
        "difference": mean, "sd": sd, "lower": lower, "upper": upper, "lower_all": mean - reach,
        "upper_all": mean + reach, "p_greater": ahead,
    })  # fmt: skip
