"""From influence values to intervals: clusters, few labels, rates near 0 and 1.

Standard errors are of type HC2, by cluster CR2: a value that pulls the estimate towards itself looks smaller than it
is (MacKinnon and White 1985; Bell and McCaffrey 2002). Degrees of freedom are Satterthwaite's (1946) under a working
model: for independent units errors of one variance for each pattern of purchases, times weights and covariates; by
cluster, one effect for each cluster (Bell and McCaffrey 2002; Imbens and Kolesar 2016; Pustejovsky and Tipton 2018).
Fourth moments of the values themselves would be no guide: an outlier is in the estimate as in its error, and what makes
intervals miss is the skewness of values (Hall 1992), for which critical values are longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit

Array = NDArray[Any]

_MOST = 0.99  # a leverage above this is taken for it: nothing is known of the error of such a unit
_FARTHEST = 2.5  # z: the expansion says nothing of tails farther out
PRIOR_EVENTS = 2.0  # weight of "preferences gain nothing" against what the events seen say


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
    if cluster is None:
        weighted = root * pull[:, None]
        back = _Whitened.of(root, pull).back
        leverage = np.minimum(np.einsum("ui,ij,uj->u", root, back @ back, weighted), _MOST)
        return np.asarray(values / np.sqrt(1 - leverage)[:, None])
    code = np.unique(cluster, return_inverse=True)[1]
    sums, white = clustered(values, code), _Whitened.of(root, pull)
    lifted = np.einsum("cij,cj->ci", white.lift(code), sums @ white.half) @ white.back
    return np.asarray(values + ((lifted - sums) / np.bincount(code)[:, None])[code])


@dataclass(frozen=True, eq=False)
class _Whitened:
    """An estimating equation in coordinates where its slope r' k r is 1.

    Attributes
    ----------
    root, pull
        r [unit, parameter] in these coordinates and k [unit].
    half, back
        Root of the slope, and its inverse, both symmetric [parameter, parameter].
    """

    root: Array
    pull: Array
    half: Array
    back: Array

    @classmethod
    def of(cls, root: Array, pull: Array) -> _Whitened:
        value, vector = np.linalg.eigh(root.T @ (root * pull[:, None]))
        value = np.maximum(value, 1e-12 * value[-1])
        back = vector / np.sqrt(value) @ vector.T
        return cls(root @ back, pull, vector * np.sqrt(value) @ vector.T, back)

    def grams(self, code: Array, weight: Array) -> Array:
        """Return sums of weight r r' [cluster, parameter, parameter]."""
        columns = range(self.root.shape[1])
        return np.stack([clustered(self.root * (weight * self.root[:, j])[:, None], code) for j in columns], axis=1)

    def lift(self, code: Array) -> Array:
        """Return what sums of a cluster are multiplied by to be as large as their errors [cluster, ...]."""
        leverages, axes = np.linalg.eigh(self.grams(code, self.pull))
        return np.einsum("cij,cj,ckj->cik", axes, 1 / np.sqrt(1 - np.minimum(leverages, _MOST)), axes)


def cluster_degrees(values: Array, root: Array, pull: Array, cluster: Array) -> Array:
    """Return degrees of freedom [parameter] of CR2 variances, 2 E[v]^2 / Var(v) under a working model of errors.

    Errors have one variance and, within a cluster, one correlation, which is estimated by moments: where effects of
    clusters are large, unequal clusters count unequally, and degrees are few. A fourth moment of ten or twenty sums
    would say little of either.

    Parameters
    ----------
    values, root, pull, cluster
        As in `corrected`; values before it.
    """
    code = np.unique(cluster, return_inverse=True)[1]
    white = _Whitened.of(root, pull)
    within = _correlation(values @ white.half / len(values), white, code)
    pulls = clustered(white.root * pull[:, None], code)
    errors = (1 - within) * white.grams(code, pull**2) + within * pulls[:, :, None] * pulls[:, None, :]
    lift, gram, whole = white.lift(code), white.grams(code, pull), errors.sum(0)
    out = np.empty(root.shape[1])
    for k, toward in enumerate(white.back):
        own = np.einsum("cij,i->cj", lift, toward)
        shared = np.einsum("cj,cjk->ck", own, gram)  # through the estimate, every cluster enters every residual
        # covariance of the sums [cluster, cluster]: diagonal + left right'
        told = np.einsum("cij,cj->ci", errors, own)
        diagonal = (told * own).sum(1)
        left, right = np.hstack([told, shared, shared @ whole]), np.hstack([-shared, -told, shared])
        crossed = (left * right).sum(1)
        square = (diagonal**2).sum() + 2 * diagonal @ crossed + np.trace(left.T @ left @ (right.T @ right))
        out[k] = (diagonal + crossed).sum() ** 2 / square
    return np.maximum(out, 1.0)


def _correlation(moments: Array, white: _Whitened, code: Array) -> float:
    """Return the correlation of errors e within clusters, by moments k r e [unit, parameter], between 0 and 1."""
    size = np.maximum((white.root**2).sum(1), 1e-300)
    pulled = white.pull * (moments * white.root).sum(1) / size  # k^2 e
    weight = white.pull**2
    products, pairs = ((clustered(v, code) ** 2).sum() - (v**2).sum() for v in (pulled, weight))
    variance = (pulled**2).sum() / max((weight**2).sum(), 1e-300)
    return float(np.clip(products / max(pairs * variance, 1e-300), 0.0, 1.0))


def degrees(values: Array, scale: Array, group: Array, seen: int) -> Array:
    """Return degrees of freedom [parameter] of the variances of corrected influence values [unit, parameter].

    A sum of squares of Gaussian values with variances v has (sum v)^2 / sum v^2 degrees; parameters take their share.

    Parameters
    ----------
    values
        Of independent units.
    scale
        Standard deviation of each value under a working model [unit, parameter], but for one factor in each group.
    group
        int [unit], such as the pattern of purchases in a stage.
    seen
        Units with a label.
    """
    fourth = np.zeros(values.shape[1])
    for each in np.unique(group):
        square, shape = (part[group == each] ** 2 for part in (values, scale))
        told = shape.sum(0)
        fourth += square.sum(0) ** 2 * (shape**2).sum(0) / np.where(told > 0, told, 1.0) ** 2
    full = (values**2).sum(0) ** 2 / np.where(fourth > 0, fourth, 1.0)
    return np.asarray(np.maximum(full * max(seen - values.shape[1], 1) / seen, 1.0))


def skewness(values: Array) -> Array:
    """Return the skewness [parameter] of the mean of independent values [unit, parameter] of mean 0."""
    square = (values**2).sum(0)
    return np.asarray((values**3).sum(0) / np.where(square > 0, square, 1.0) ** 1.5)


def critical(z: ArrayLike, df: Array, skew: Array) -> Array:
    """Return the critical values [parameter] that stand for z of a normal: Student's, longer for skewed estimates.

    An interval of a skewed mean, theta +- c se, misses more often at one end than it gains at the other: by the
    Edgeworth expansion of the studentised mean as often as one with c (1 + skew^2 (z^4 + 2 z^2 - 3) / 18) for a
    symmetric one (Hall 1992, section 2.6, to the first order in skew^2).
    """
    z = np.asarray(z, float)
    far = np.minimum(z, _FARTHEST)
    student = np.abs(stdtrit(df, ndtr(-z)))  # its sign is wrong where it is infinite
    return np.asarray(student * (1 + skew**2 * (far**4 + 2 * far**2 - 3) / 18))


def two_sided(ratio: float, df: float, skew: float) -> float:
    """Return the p-value of an estimate over its standard error: of the z that `critical` makes this ratio of."""
    size, ends = abs(ratio), (0.0, 38.0)
    if size == 0 or critical(ends[1], np.asarray(df), np.asarray(skew)) <= size:
        return float(size == 0)
    z = brentq(lambda z: float(critical(z, np.asarray(df), np.asarray(skew))) - size, *ends)
    return 2 * float(ndtr(-z))


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
    return np.asarray(np.maximum(ratio, (events * ratio + PRIOR_EVENTS) / (events + PRIOR_EVENTS)))


def wilson(rate: float, count: float, critical: float) -> tuple[float, float]:
    """Return Wilson's (1927) limits of a rate from an effective number of labels; count infinite: no error."""
    rate = min(max(rate, 0.0), 1.0)  # an estimate outside is nearest to the rate that is possible
    z = critical**2 / count
    centre, half = (rate + z / 2) / (1 + z), np.sqrt(z * rate * (1 - rate) + z**2 / 4) / (1 + z)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)
