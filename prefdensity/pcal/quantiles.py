"""Quantiles of the label, by inverting tests of its distribution function.

A quantile here is the smallest value y with P(label <= y) >= p, the inverse of the distribution function, so that
estimates and limits are labels that occur. The interval holds every y for which neither "P(label <= y) >= p" nor
"P(label < y) <= p" is rejected by a score test (Woodruff 1952; Francisco and Fuller 1991): right for ratings, rounded
and skewed labels alike, where standard errors made from a density are not. On a coarse scale it covers more often
than asked for: one rating may hold all that the data allow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError, FitError
from prefdensity.judged.rungs import Purchased
from prefdensity.pcal.calibration import brackets
from prefdensity.pcal.functionals import Found, Functional, LabelFunction
from prefdensity.pcal.intervals import clustered, inflation

Array = NDArray[Any]


@dataclass(frozen=True)
class Quantile(Functional):
    """Quantiles of the label, one or several: for each p the smallest y with P(label <= y) >= p.

    Limits are labels too; see the module. Standard errors, which limits do not use, are made from a Gaussian kernel
    density of the labels: rough where labels are few or coarse.

    Attributes
    ----------
    probabilities
        Each in (0, 1).
    """

    probabilities: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if not self.probabilities or not all(0 < q < 1 for q in self.probabilities):
            raise DataError(f"probabilities={self.probabilities!r} must hold numbers strictly between 0 and 1")

    def names(self, judged: Purchased) -> tuple[str, ...]:
        """See `Functional`."""
        return tuple(f"quantile {q:g}" for q in self.probabilities)

    def start(self, judged: Purchased, weight: Array) -> Array:
        """See `Functional`; the labels below which the share is nearest: nuisances are asked for that share."""
        label, w = judged.label[judged.labelled], weight[judged.labelled]
        values, place = np.unique(label, return_inverse=True)
        share = np.cumsum(np.bincount(place, w)) / w.sum()
        return np.array([values[int(np.argmin(np.abs(share - p)))] for p in self.probabilities])

    def label_function(self, theta: Array) -> LabelFunction:
        """See `Functional`; 1(y <= theta)."""
        return LabelFunction(lambda judged, label: (label[..., None] <= theta).astype(float), jumps=tuple(theta))

    def moment(self, judged: Purchased, h: Array, theta: Array) -> Array:
        """See `Functional`."""
        return np.asarray(self.probabilities - h)

    def slope(self, judged: Purchased, theta: Array, weight: Array) -> Array:
        """See `Functional`; a Gaussian kernel density of the labels at theta, it scales standard errors only."""
        seen = judged.labelled
        label, w = judged.label[seen], weight[seen] / weight[seen].sum()
        centre = w @ label
        sd = np.sqrt(w @ (label - centre) ** 2)
        if np.ptp(label) == 0:
            raise FitError(f"all labels are {label[0]:g}; quantiles need labels that differ")
        width = 1.06 * sd * (w**2).sum() ** 0.2  # Silverman's rule at the effective number of labels
        z = (theta[:, None] - label) / width
        density = np.exp(-0.5 * z**2) @ w / (width * np.sqrt(2 * np.pi))
        return np.diag(density)

    def known_variance(self, judged: Purchased) -> bool:
        """See `Functional`; that of a share, p (1 - p)."""
        return True

    def settle(self, found: Found) -> Array:
        """See `Functional`; the smallest label at which the calibrated share reaches p."""
        points = []
        for index in range(len(self.probabilities)):
            curve = _Curve.of(found, index, self.probabilities[index])
            reached = np.flatnonzero(curve.score[1:] >= -1e-12)  # sums of weights round
            points.append(curve.values[reached[0] if len(reached) else -1])
        return np.array(points)

    def limits(self, found: Found, critical: Array) -> tuple[Array, Array]:
        """See `Functional`; infinite where labels are too few: the set that is not rejected has no end there."""
        lower, upper = [], []
        for index, (p, c) in enumerate(zip(self.probabilities, critical, strict=True)):
            curve = _Curve.of(found, index, p)
            values = np.concatenate([[-np.inf], curve.values, [np.inf]])
            lower.append(values[np.flatnonzero(curve.score >= -c * curve.error)[0]])
            upper.append(values[np.flatnonzero(curve.score <= c * curve.error)[-1] + 1])
        return np.array(lower), np.array(upper)


@dataclass(frozen=True, eq=False)
class _Curve:
    """The score test of P(label <= y) = p at every y.

    Attributes
    ----------
    values
        Labels that occur, ascending [value].
    score, error
        Calibrated share less p, and its standard error where the share is p: below all labels, then at each
        [1 + value].
    """

    values: Array
    score: Array
    error: Array

    @classmethod
    def of(cls, found: Found, index: int, p: float) -> _Curve:
        """Return the test for one of the quantiles, with the nuisance's share at the start for all y."""
        judged, weight = found.judged, found.label_weight
        n, seen = len(judged), np.flatnonzero(judged.labelled)
        pulls = _Pulls.of(found, index, p)
        cluster = np.arange(n) if judged.cluster is None else np.unique(judged.cluster, return_inverse=True)[1]
        total = clustered(np.column_stack([weight, pulls.terms]), cluster)
        order = seen[np.argsort(judged.label[seen], kind="stable")]
        values, first = np.unique(judged.label[order], return_index=True)
        ends = np.append(first[1:], len(order))  # labels up to each value

        def grow(summands: Array) -> Array:
            """Return the sums below all labels and up to each value [1 + value, ...] of summands [label, ...]."""
            sums = np.cumsum(summands, axis=0)[ends - 1]
            return np.concatenate([np.zeros_like(sums[:1]), sums])

        w, mine = weight[order], cluster[order]
        before = _running(w, mine)  # what the cluster has below this label
        square = grow((before + w) ** 2 - before**2)
        cross = grow(w[:, None] * total[mine])
        multiplier = pulls.multipliers(order, grow)
        # values of a cluster: what is up to y, less p of all, less the brackets
        share, against = cross[:, 0], cross[:, 1:]
        gram = total.T @ total
        lead, mixed, inner = gram[0, 0], gram[0, 1:], gram[1:, 1:]
        raw = square + p**2 * lead - 2 * p * share - 2 * (multiplier * (against - p * mixed)).sum(1)
        raw += ((multiplier @ inner) * multiplier).sum(1)
        below = grow(w)
        score = (below - p * weight.sum() - multiplier @ pulls.terms.sum(0)) / n
        count = len(total)
        variance = np.maximum(raw / n**2 - score**2 / count, 0.0)
        return cls(values, score, np.sqrt(_under_the_hypothesis(found, p, variance, below, grow(w**2))))


def _under_the_hypothesis(found: Found, p: float, variance: Array, below: Array, below2: Array) -> Array:
    """Return the variance of the score [point] where the share is p, from its estimate at the share that is there."""
    weight, n = found.label_weight, len(found.judged)
    unit = (weight**2).sum() / n**2
    share = below / weight.sum()
    above, above2 = weight.sum() - below, (weight**2).sum() - below2
    rarer = np.minimum(_ratio(below**2, below2), _ratio(above**2, above2))
    times = inflation(variance, share * (1 - share) * unit, np.maximum(rarer, 0.0))
    left = times * unit - (0.0 if found.population is None else 1 / found.population)
    return np.asarray(p * (1 - p) * np.maximum(left, 0.0))


@dataclass(frozen=True, eq=False)
class _Pulls:
    """What brackets add to the score, and how much of it is used.

    Attributes
    ----------
    guesses, terms
        Nuisances' shares less p, and these times the bracket's weight and the stage's [unit, bracket * nuisance].
    variance
        Weight of a labelled unit in the regression for multipliers [unit, bracket].
    """

    guesses: Array
    terms: Array
    variance: Array
    p: float
    calibration: str
    counts: tuple[int, int]

    @classmethod
    def of(cls, found: Found, index: int, p: float) -> _Pulls:
        judged = found.judged
        every = [tuple(each[:, [index]] - p for each in guesses) for guesses in found.expected]
        parts = brackets(judged.rungs, every)
        if not parts or found.calibration == "none":
            empty = np.zeros((len(judged), 0))
            return cls(empty, empty, empty, p, "none", (0, 0))
        scale, weight = found.stage_weight, judged.labelled / judged.label_probability
        guesses = np.hstack([np.hstack(part.guesses) for part in parts])
        width = len(parts[0].guesses)
        terms = guesses * np.repeat([part.weight * scale for part in parts], width, axis=0).T
        variance = np.array([weight * part.variance * scale**2 for part in parts]).T
        return cls(guesses, terms, variance, p, found.calibration, (len(parts), width))

    def multipliers(self, order: Array, grow: Any) -> Array:
        """Return the multipliers at every point [1 + value, bracket * nuisance]; `order`: labels, ascending."""
        parts, width = self.counts
        size = parts * width
        points = grow(np.ones(len(order)))
        if self.calibration in ("none", "identity"):
            return np.full((len(points), size), 1 / max(width, 1))
        weighted = self.guesses[order] * np.repeat(self.variance[order], width, axis=1)
        cross = grow(weighted) - self.p * weighted.sum(0)
        gram = self.guesses[order].T @ weighted
        if self.calibration == "single":
            return np.repeat(cross.sum(1, keepdims=True) / max(np.trace(gram), 1e-300), size, axis=1)
        out = np.empty_like(cross)
        for part in range(parts):
            mine = slice(part * width, (part + 1) * width)
            out[:, mine] = cross[:, mine] @ np.linalg.pinv(gram[mine, mine], rcond=1e-10, hermitian=True)
        return out


def _running(weight: Array, cluster: Array) -> Array:
    """Return for each row the weight of earlier rows of its cluster."""
    order = np.argsort(cluster, kind="stable")
    sums = np.cumsum(weight[order])
    first = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    base = np.repeat(sums[first] - weight[order][first], np.diff(np.append(first, len(order))))
    out = np.empty_like(weight)
    out[order] = sums - weight[order] - base
    return out


def _ratio(a: Array, b: Array) -> Array:
    return np.divide(a, b, out=np.zeros_like(a), where=b > 1e-12 * b.max())
