"""Ranks of systems, and several metrics at once: intervals that hold for all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from prefdensity.errors import DataError
from prefdensity.pcal.functionals import BradleyTerry
from prefdensity.pcal.intervals import spread
from prefdensity.pcal.solved import Solved

Array = NDArray[Any]

_DRAWS = 100_000


def ranks(found: Solved, level: float | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Return systems from the best: system, utility, se, lower, upper, best_rank, worst_rank.

    Utilities have mean 0, with intervals for each alone. The intervals of all ranks hold together: a system ranks below
    those that are better by the simultaneous interval of the difference (Mogstad, Romano, Shaikh and Wilhelm 2024).

    Parameters
    ----------
    found
        An estimate of `BradleyTerry`, or of means by subgroup, where the subgroups are the systems.
    level
        Mass of the intervals; None: that of the estimate.
    seed
        Of the draws of the largest of all differences.

    Raises
    ------
    DataError
        If there are fewer than two systems.
    """
    names, theta, covariance = found.names, found.theta, found.covariance
    if isinstance(found.functional, BradleyTerry):  # the last is at 0; then their mean is
        size = len(names) + 1
        centre = (np.eye(size) - 1 / size)[:, :-1]
        names = (*names, found.judged.covariate_names[-1])
        theta, covariance = centre @ theta, centre @ covariance @ centre.T
    if len(names) < 2:
        raise DataError(f"ranks are of two systems or more; the estimate is of {names[0]!r} alone")
    df = float(found.df.min())
    one, other = np.triu_indices(len(names), 1)
    apart = np.zeros((len(one), len(names)))
    apart[np.arange(len(one)), one], apart[np.arange(len(one)), other] = 1.0, -1.0
    gap, error = apart @ theta, np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", apart, covariance, apart), 0.0))
    half = _simultaneous(apart @ covariance @ apart.T, found.mass(level), df, seed) * error
    better = np.zeros(len(names), np.int64)  # how many are surely better, and surely worse
    worse = better.copy()
    for first, second, above in ((one, other, gap - half > 0), (other, one, gap + half < 0)):
        np.add.at(worse, first[above], 1)
        np.add.at(better, second[above], 1)
    se = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    own = stdtrit(df, 0.5 + found.mass(level) / 2) * se
    columns = {"utility": theta, "se": se, "lower": theta - own, "upper": theta + own, "best_rank": 1 + better,
               "worst_rank": len(names) - worse}  # fmt: skip
    table = pd.DataFrame({"system": names, **columns})
    return table.sort_values("utility", ascending=False, kind="stable").reset_index(drop=True)


def jointly(estimates: Mapping[str, Solved], level: float | None = None, *, seed: int = 0) -> pd.DataFrame:
    """Return intervals of several metrics on the same units that hold for all of them at once.

    By the largest of all studentised errors, whose correlation is that of the influence values; so metrics that go
    together cost little.

    Parameters
    ----------
    estimates
        By metric: estimates from tables with the same units in the same order and rounds, such as one for each column
        of labels.
    level
        That all intervals hold; None: that of the first estimate.
    seed
        Of the draws.

    Returns
    -------
    DataFrame
        metric, parameter, estimate, se, lower, upper.

    Raises
    ------
    DataError
        If there is no estimate, or they are not of the same units.
    """
    if not estimates:
        raise DataError("there is no estimate; at least one metric is needed")
    every = list(estimates.values())
    first = every[0]
    for name, each in estimates.items():
        if len(each.judged) != len(first.judged) or len(each.stages) != len(first.stages):
            raise DataError(
                f"{name!r} is estimated from {len(each.judged)} units in {len(each.stages)} rounds, the first metric "
                f"from {len(first.judged)} in {len(first.stages)}; intervals that hold together need the same units"
            )
    covariance = spread(np.hstack([each.influence for each in every]), first.judged.cluster)
    most = _simultaneous(covariance, first.mass(level), np.inf, seed)
    parts = [each.table(each.as_normal(most)).assign(metric=name) for name, each in estimates.items()]
    return pd.concat(parts, ignore_index=True)[["metric", "parameter", "estimate", "se", "lower", "upper"]]


def _simultaneous(covariance: Array, mass: float, df: float, seed: int) -> float:
    """Return the quantile of the largest absolute studentised error under a Gaussian with this covariance."""
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    scale = np.where(scale > 0, scale, 1.0)
    value, vector = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vector * np.sqrt(np.maximum(value, 0.0))
    draws = np.random.default_rng(seed).normal(size=(_DRAWS, len(scale))) @ root.T
    most = float(np.quantile(np.abs(draws).max(1), mass))
    return float(-stdtrit(df, ndtr(-most)))
