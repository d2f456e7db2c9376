"""Differences between items: each with its interval, all of them at once, and as variances of single items."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.sparse import csr_matrix

from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws, require_fit, require_spread
from prefdensity.posterior.simultaneous import at_once


def differences(post: Draws, level: float = 0.9, reference: str | None = None) -> pd.DataFrame:
    """Return how far apart items are in utility: every two of them, or each from a reference.

    Parameters
    ----------
    post
        A fit.
    level
        Probability of the intervals.
    reference
        An item; None: every two, the better one as item_a, largest differences first within it.

    Returns
    -------
    Frame with (type,) item_a, item_b, difference (posterior mean), sd, lower and upper (central interval of this
    difference), lower_all and upper_all (intervals that hold all differences of the table at once with probability
    `level`; see `simultaneous.at_once`), and p_greater, P(utility of item_a > utility of item_b).

    Raises
    ------
    DataError
        For an unknown reference, a level that is none, or a fit without spread (map).

    Examples
    --------
    >>> import prefdensity
    >>> post = prefdensity.fit("davidson", prefdensity.read("example:puddings"), method="mle")
    >>> differences(post, reference="1").round(3)[["item_a", "item_b", "difference", "sd"]].head(2)
      item_a item_b  difference     sd
    0      6      1       0.377  0.192
    1      2      1       0.220  0.187
    """
    require_spread(post, level, reference)
    parts = []
    for name, utility in _by_type(post):
        part = _of_one(utility, post.items, level, reference)
        if name is not None:
            part.insert(0, "type", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _by_type(post: Draws) -> Iterator[tuple[int | None, NDArray[np.float64]]]:
    """Yield utilities [draw, item], of each type with its number where annotators have types."""
    table = post.utilities()
    if table.ndim == 2:
        yield None, table
        return
    for k in post.types_by_size():
        yield int(k) + 1, table[:, k]


def _of_one(utility: NDArray[np.float64], items: tuple[str, ...], level: float, reference: str | None) -> pd.DataFrame:
    mean = utility.mean(0)
    order = np.argsort(-mean, kind="stable")
    if reference is None:
        a, b = (order[side] for side in np.triu_indices(len(items), 1))
    else:
        base = items.index(reference)
        a = order[order != base]
        b = np.full(len(a), base)
    found = at_once(lambda part: utility[:, a[part]] - utility[:, b[part]], len(a), len(utility), level)
    labels = np.array(items, dtype=object)
    return pd.concat([pd.DataFrame({"item_a": labels[a], "item_b": labels[b]}), found], axis=1)


def quasi_variances(post: Draws) -> pd.DataFrame:
    """Return a variance for each item such that any two add up, nearly, to the variance of their difference.

    Firth and de Menezes (2004, Biometrika 91, 65-80): a reader compares any two items by them, without a reference
    and without a covariance matrix. With two items the shares of the variance are arbitrary, and equal.

    Returns
    -------
    Frame with (type,) item, estimate (mean of the centred utility), quasi_sd, and worst_error: the largest relative
    error of the standard deviation of a difference in the whole table.

    Raises
    ------
    DataError
        For a fit without spread (map).

    Examples
    --------
    >>> import prefdensity
    >>> post = prefdensity.fit("davidson", prefdensity.read("example:puddings"), method="mle")
    >>> quasi_variances(post).round(3).head(2)
      item  estimate  quasi_sd  worst_error
    0    6     0.201     0.139        0.008
    1    2     0.044     0.133        0.008
    """
    require_fit(post)
    if post.is_point:
        raise DataError("a posterior mode has no spread, and so no quasi-variances; fit with another method")
    parts = []
    for name, utility in _by_type(post):
        covariance = np.cov(utility, rowvar=False)
        a, b = np.triu_indices(len(post.items), 1)
        variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
        found = _apportioned(variance, a, b, len(post.items))
        error = np.sqrt((found[a] + found[b]) / variance) - 1
        part = pd.DataFrame({"item": list(post.items), "estimate": utility.mean(0), "quasi_sd": np.sqrt(found)})
        part["worst_error"] = np.abs(error).max(initial=0.0)
        if name is not None:
            part.insert(0, "type", name)
        parts.append(part.sort_values("estimate", ascending=False))
    return pd.concat(parts, ignore_index=True)


def _apportioned(
    variance: NDArray[np.float64], a: NDArray[np.intp], b: NDArray[np.intp], size: int
) -> NDArray[np.float64]:
    """Return the variance [item] whose sums over pairs (a, b) have the least squared log error."""
    rows = np.arange(len(variance))

    def wrong(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        q = np.exp(logs)
        return np.asarray(np.log(q[a] + q[b]) - np.log(variance))

    def slope(logs: NDArray[np.float64]) -> csr_matrix:
        q = np.exp(logs)
        parts = np.concatenate([q[a], q[b]]) / np.tile(q[a] + q[b], 2)
        return csr_matrix((parts, (np.tile(rows, 2), np.concatenate([a, b]))), shape=(len(rows), size))

    start = np.full(size, np.log(variance.mean() / 2))
    return np.exp(least_squares(wrong, start, slope, xtol=1e-12, ftol=1e-12, gtol=1e-12).x)
