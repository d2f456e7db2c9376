"""From influence values to intervals: clusters, few labels, rates near 0 and 1.

Standard errors are of type HC2, by cluster CR2: a value that pulls the estimate towards itself looks smaller than it
is (MacKinnon and White 1985; Bell and McCaffrey 2002). Degrees of freedom are Satterthwaite's (1946), with the fourth
moment of the influence values in the place of a model of their variances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MOST = 0.99  # a leverage above this is taken for it: nothing is known of the error of such a unit
_PRIOR_EVENTS = 2.0  # weight of "preferences gain nothing" against what the events seen say


def clustered(values: Array, cluster: Array | None) -> Array:
    """Return the sums of rows [cluster, ...] of values [unit, ...]; the values themselves without clusters."""
    if cluster is None:
        return values
    sums = np.zeros((int(cluster.max()) + 1, *values.shape[1:]))
    np.add.at(sums, cluster, values)
    return sums[np.unique(cluster)]


def spread(values: Array, cluster: Array | None) -> Array:
    """Return the covariance of a mean of corrected influence values [unit, parameter], by cluster if there are any."""
    sums = clustered(values, cluster)
    return np.asarray(sums.T @ sums / len(values) ** 2)


def corrected(values: Array, root: Array, pull: Array, cluster: Array | None) -> Array:
    """Return influence values [unit, parameter] as large as their errors: HC2, by cluster CR2.

    Parameters
    ----------
    values
        Influence values, at the estimate.
    root
        r [unit, parameter]: -dm/dtheta is r r' for each unit.
    pull
        k [unit]: how often the moment of a unit counts in the estimating equation, brackets and all.
    cluster
        int [unit], or None.
    """
    weighted = root * pull[:, None]
    value, vector = np.linalg.eigh(root.T @ weighted)
    value = np.maximum(value, 1e-12 * value[-1])
    if cluster is None:
        inverse = vector / value @ vector.T
        leverage = np.minimum(np.einsum("ui,ij,uj->u", root, inverse, weighted), _MOST)
        return np.asarray(values / np.sqrt(1 - leverage)[:, None])
    code = np.unique(cluster, return_inverse=True)[1]
    sums = clustered(values, code)
    half, back = vector * np.sqrt(value) @ vector.T, vector / np.sqrt(value) @ vector.T
    root, weighted = root @ back, weighted @ back
    grams = np.stack([clustered(root[:, [j]] * weighted, code) for j in range(root.shape[1])], axis=1)
    leverages, axes = np.linalg.eigh(grams)
    turned = np.einsum("cij,ci->cj", axes, sums @ half) / np.sqrt(1 - np.minimum(leverages, _MOST))
    lifted = np.einsum("cij,cj->ci", axes, turned) @ back
    return np.asarray(values + ((lifted - sums) / np.bincount(code)[:, None])[code])


def degrees(values: Array, cluster: Array | None, seen: int) -> Array:
    """Return degrees of freedom [parameter] of the variances of corrected influence values [unit, parameter].

    A sum of squares of Gaussian values with unequal variances has 3 (sum of squares)^2 / sum of fourth powers - 2
    degrees on average; parameters take their share.

    Parameters
    ----------
    values, cluster
        As in `spread`.
    seen
        Units with a label, or clusters that have any.
    """
    square = clustered(values, cluster) ** 2
    fourth = (square**2).sum(0)
    full = 3 * square.sum(0) ** 2 / np.where(fourth > 0, fourth, 1.0) - 2
    return np.asarray(np.maximum(full * max(seen - values.shape[1], 1) / seen, 1.0))


def effective(weight: Array, cluster: Array | None = None) -> float:
    """Return (sum of weights)^2 / sum of squared weights: of units, or of clusters (Kish 1965)."""
    sums = clustered(weight, cluster)
    return float(sums.sum() ** 2 / (sums**2).sum())


def inflation(variance: Array, binomial: Array, events: Array) -> Array:
    """Return how many times a rate's variance exceeds that of independent labels alone, as far as events tell.

    Parameters
    ----------
    variance, binomial
        Estimated variance, and that of labels alone at the observed rate.
    events
        Effective number of labels on the rarer side: without any, nothing is known of what preferences gain.
    """
    ratio = np.divide(variance, binomial, out=np.ones_like(variance), where=(binomial > 0) & (events > 0))
    return np.asarray(np.maximum(ratio, (events * ratio + _PRIOR_EVENTS) / (events + _PRIOR_EVENTS)))


def wilson(rate: float, count: float, critical: float) -> tuple[float, float]:
    """Return Wilson's (1927) limits of a rate from an effective number of labels; count infinite: no error."""
    rate = min(max(rate, 0.0), 1.0)  # an estimate outside is nearest to the rate that is possible
    z = critical**2 / count
    centre, half = (rate + z / 2) / (1 + z), np.sqrt(z * rate * (1 - rate) + z**2 / 4) / (1 + z)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)
