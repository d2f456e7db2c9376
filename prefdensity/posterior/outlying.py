"""Items whose utility lies far outside that of all others: what a normal prior of utilities says of them is off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

# Probability that one of a table's items is called far out although all utilities come from one normal distribution.
_FALSE_ALARM = 0.05


def far_out(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many standard deviations of the others an item lies outside them [item]; 0 where that can be chance.

    Each item of `utility` [item] against mean and standard deviation of the rest, a t statistic, with Bonferroni's
    bound over items (Grubbs 1950, Annals of Mathematical Statistics 21, 27-58). The spread is that of estimates, which
    is wider than that of the utilities: fewer items are called far out, not more.
    """
    count = len(utility)
    if count < 4:
        return np.zeros(count)
    others = (utility.sum() - utility) / (count - 1)
    squares = (utility**2).sum() - utility**2 - (count - 1) * others**2
    sd = np.sqrt(np.maximum(squares, 1e-300) / (count - 2))
    away = np.abs(utility - others) / sd
    limit = -stdtrit(count - 2, _FALSE_ALARM / (2 * count)) * np.sqrt(1 + 1 / (count - 1))
    return np.where(away > limit, away, 0.0)
