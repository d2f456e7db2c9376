"""What the prior of utilities says wrongly: items far from the rest, in groups, all alike, or of no known unit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_FAR = 3.0  # scales of the Student distribution from its middle
_TURNS = 40
# Anscombe and Glynn's (1983) statistic of the kurtosis below which items fall into groups: of normal utilities it is
# lower in less than three of a hundred tables. Fewer items than this tell nothing.
_FLAT, _FEWEST = -1.96, 6
# Separation below which the spread of utilities, and with it P(best), comes from its prior. Nearly all tables lie below
# whose true spread is half the errors of utilities (P(best) of .48 is right in .37 there, .68 in .48).
_ALIKE = 0.7
# A unit is common to all utilities where their posterior is this many times as wide along themselves, on average, as in
# other directions, and unknown where its relative standard deviation is this. Of Bradley-Terry tables of normal
# utilities few are so; under reliabilities of seven annotators most, and their 90 % intervals hold .84 of utilities.
_TOGETHER, _UNKNOWN = 2.5, 0.135


def far_out(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many scales an item lies from the middle [item]; 0 unless that is too far for normal utilities.

    It is where utilities of `utility` [draw, item] are on average likelier to come from a Student distribution with 2
    degrees of freedom than from a normal one, each at its best place and scale: then for items more than three scales
    out, or the farthest. With 10 items that is one of 10 tables of normal utilities, and fewer with more.
    """
    count = utility.shape[-1]
    if count < 4:
        return np.zeros(count)
    normal = -0.5 * count * (np.log(2 * np.pi * np.maximum(utility.var(-1), 1e-300)) + 1)
    middle, square, student = _student(utility)
    if np.mean(student - normal) <= 0:
        return np.zeros(count)
    away = np.mean(np.abs(utility - middle) / np.sqrt(square), 0)
    return np.where(away >= min(_FAR, away.max()), away, 0.0)


def _student(utility: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return middle [draw, 1], squared scale [draw, 1] and log likelihood [draw] of Student utilities, df 2, by EM."""
    middle = np.median(utility, -1, keepdims=True)
    square = ((utility - middle) ** 2).mean(-1, keepdims=True) + 1e-300
    for _ in range(_TURNS):
        weight = 3 / (2 + (utility - middle) ** 2 / square)
        middle = (weight * utility).sum(-1, keepdims=True) / weight.sum(-1, keepdims=True)
        square = (weight * (utility - middle) ** 2).mean(-1, keepdims=True) + 1e-300
    each = np.log1p((utility - middle) ** 2 / square / 2)
    constant = math.lgamma(1.5) - 0.5 * np.log(2 * np.pi * square)
    return middle, square, (constant - 1.5 * each).sum(-1)


def grouped(utility: NDArray[np.float64]) -> bool:
    """Say whether the items of `utility` [item] fall into groups, flatter than a normal distribution ever is.

    A normal prior takes the spread between groups for that within the leading one, and is too sure who is best there.
    """
    if len(utility) < _FEWEST or np.ptp(utility) == 0:
        return False
    return _peakedness(utility) < _FLAT


def _peakedness(utility: NDArray[np.float64]) -> float:
    """Return the statistic of the kurtosis of `utility` [item], standard normal for normal utilities.

    Anscombe and Glynn (1983), Biometrika 70, 227-234: that of SciPy's `kurtosistest`, whose module takes half a second
    to import, which every fit would wait for.
    """
    n, off = len(utility), utility - utility.mean()
    kurtosis = (off**4).mean() / (off**2).mean() ** 2
    variance = 24 * n * (n - 2) * (n - 3) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    away = (kurtosis - 3 * (n - 1) / (n + 1)) / variance**0.5
    skew = 6 * (n**2 - 5 * n + 2) / ((n + 7) * (n + 9)) * (6 * (n + 3) * (n + 5) / (n * (n - 2) * (n - 3))) ** 0.5
    freedom = 6 + 8 / skew * (2 / skew + (1 + 4 / skew**2) ** 0.5)  # of a chi-squared variable skewed so
    root = np.cbrt((1 - 2 / freedom) / (1 + away * (2 / (freedom - 4)) ** 0.5))
    return float((1 - 2 / (9 * freedom) - root) / (2 / (9 * freedom)) ** 0.5)


def alike(utility: NDArray[np.float64]) -> bool:
    """Say whether judgements hardly tell the items of `utility` [draw, item] apart.

    The separation reliability of Rasch analysis, the share of the variance of utilities that is not uncertainty, is
    then low. The prior of their spread decides how far apart they may be, and with it how sure the best is.
    """
    between, error = utility.mean(0).var(), utility.var(0).mean()
    return bool(between < _ALIKE * (between + error))


def unit_error(utility: NDArray[np.float64]) -> float:
    """Return the relative standard deviation of the unit of `utility` [draw, item]; 0 where judgements fix it.

    Utilities then grow and shrink together: judgements under a program with reliabilities, say, fix each utility beside
    the others but hardly that of the average annotator, whom few stand for, and the priors decide.
    """
    centred = utility - utility.mean(-1, keepdims=True)
    mean = centred.mean(0)
    length = np.linalg.norm(mean)
    spread = centred.var(0).sum() / max(len(mean) - 1, 1)
    if length == 0 or spread == 0:
        return 0.0
    along = (centred @ (mean / length)).var()
    off = float(np.sqrt(along) / length)
    return off if along > _TOGETHER * spread and off > _UNKNOWN else 0.0
