"""The augmented Bradley-Terry equation: solution, influence values, variance, and how much of the auxiliary to use.

With margins d = x' theta, labels Z and auxiliary probabilities g,

    U(theta) = mean of w [(sigma(d) - Z) - lambda (sigma(d) - g)] x    over labelled pairs
             + lambda * mean of (sigma(d) - g) x                        over fresh pairs of the same law

has mean zero at the Bradley-Terry projection of the truth for every fixed g: what the auxiliary adds on fresh
pairs it takes back, on average, on labelled ones. lambda = 0 is maximum likelihood. Variance-reduced reward
learning (Ye et al. 2025, arXiv 2504.03784) is lambda = 1; a tuned lambda is prediction-powered inference
(Angelopoulos et al. 2023, arXiv 2311.01453). With two auxiliaries g and h, and a lambda for each, the equation is that
of one auxiliary, their mean in proportion to the lambdas, and of the sum of these. All arrays may carry axes of
replicates in front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from prefdensity.reward.convex import Solution, curvature, gram, margins, moment, solve

Array = NDArray[Any]

_HALVINGS = 5


@dataclass(frozen=True, eq=False)
class Labelled:
    """Judged pairs.

    Attributes
    ----------
    x
        [..., row, parameter]: features of side a minus those of side b.
    z
        [..., row]: 1 if a was preferred, 0 if b, 1/2 for a tie.
    g
        [..., row]: auxiliary probability that a is preferred, from data other than the row's own label.
    weight
        [..., row]: target design over sampling design, 1 where they agree.
    cluster
        int [row], 0, 1, ...: rows that are not independent share a code. None: every row is.
    """

    x: Array
    z: Array
    g: Array
    weight: Array
    cluster: Array | None = None


@dataclass(frozen=True, eq=False)
class Fresh:
    """Pairs without labels, of the target law.

    Attributes
    ----------
    x, g
        As in `Labelled`.
    share
        [..., row], adding up to 1.
    size
        How many independent fresh pairs these are; infinite for a design that is summed exactly.
    cluster
        int [row]: rows that are not independent. None: every row is.
    tied
        `cluster` means the clusters of the labelled pairs, as where fresh pairs share a prompt with them.
    """

    x: Array
    g: Array
    share: Array
    size: float = math.inf
    cluster: Array | None = None
    tied: bool = False


class Efficiency(NamedTuple):
    """Traces of H^-1 Cov H^-1 behind the choice of lambda, all [...].

    `score` of the likelihood score, `cross` of it with the control variate, `control` of that at the fit's own
    fresh pairs, `labelled` the share of labelled pairs in it, `pair` what a single fresh pair would add.
    """

    score: Array
    cross: Array
    control: Array
    labelled: Array
    pair: Array

    def best(self) -> Array:
        """Return the lambda [...] of least variance, in [0, 1]."""
        return _within(self.cross, self.control)

    def ratio(self, lambda_: ArrayLike, size: float | None = None) -> Array:
        """Return variance over that of maximum likelihood, with `size` fresh pairs (None: those of the fit)."""
        control = self.control if size is None else self.labelled + self.pair / size
        lam = np.asarray(lambda_, float)
        return (self.score - 2 * lam * self.cross + lam**2 * control) / self.score


@dataclass(frozen=True, eq=False)
class Equation:
    """The equation for given labelled and fresh pairs."""

    labelled: Labelled
    fresh: Fresh

    @property
    def n(self) -> int:
        """Number of labelled pairs."""
        return self.labelled.z.shape[-1]

    def blocks(self, lambda_: ArrayLike) -> list[tuple[Array, Array]]:
        """Return the pairs that curve the objective, with their weights."""
        lam = np.asarray(lambda_, float)[..., None]
        pairs = [(self.labelled.x, (1 - lam) * self.labelled.weight / self.n), (self.fresh.x, lam * self.fresh.share)]
        if np.all(lam == 0):
            return pairs[:1]
        return pairs[1:] if np.all(lam == 1) else pairs

    def target(self, lambda_: ArrayLike) -> Array:
        """Return the moments [..., parameter] that the margins are to reproduce."""
        one, lam = self.labelled, np.asarray(lambda_, float)[..., None]
        own = moment(one.weight * (one.z - lam * one.g) / self.n, one.x)
        return own + lam * moment(self.fresh.share * self.fresh.g, self.fresh.x)

    def solve(self, lambda_: ArrayLike) -> Solution:
        """Return the solution for a given lambda [...], or that there is none."""
        return solve(self.blocks(lambda_), self.target(lambda_))

    @cached_property
    def mle(self) -> Solution:
        """Maximum likelihood (weighted): lambda = 0."""
        return self.solve(0.0)

    def settle(self, lambda_: ArrayLike) -> tuple[Solution, Array]:
        """Return the solution and the lambda used: halved, at last 0, where there is no finite solution."""
        lam = np.broadcast_to(np.asarray(lambda_, float), self.mle.exists.shape)
        found = self.solve(lam)
        for k in range(_HALVINGS):
            if found.exists.all():
                break
            lam = np.where(found.exists, lam, 0.0 if k == _HALVINGS - 1 else lam / 2)
            again = self.solve(lam)
            theta = np.where(found.exists[..., None], found.theta, again.theta)
            found = Solution(theta, found.exists | again.exists)
        return found, lam

    @cached_property
    def efficiency(self) -> Efficiency:
        """Variance with and without the auxiliary."""
        score, whole = self._score, self._control(self.labelled.g, self.fresh.g)
        own = (whole[0], score[1])
        found = Efficiency(
            score=self._traced(score, score),
            cross=self._traced(score, whole),
            control=self._traced(whole, whole),
            labelled=self._traced(own, own),
            pair=self._of_one_pair(-whole[1]),
        )
        if self.fresh.tied or math.isinf(self.fresh.size):
            return found
        return found._replace(pair=(found.control - found.labelled) * self.fresh.size)  # clusters are in it

    @cached_property
    def _at(self) -> tuple[Array, Array]:
        """Inverse curvature at maximum likelihood, and leave-one-out probabilities there [..., row].

        A label pulls its own margin towards itself; at fitted margins the score would look smaller than it is,
        and the auxiliary less useful.
        """
        one, theta = self.labelled, self.mle.theta
        bread = np.linalg.pinv(curvature(self.blocks(0.0), theta))
        d = margins(one.x, theta)
        p = expit(d)
        lever = one.weight * ((one.x @ bread) * one.x).sum(-1) / self.n
        h = np.minimum(lever * p * (1 - p), 0.99)
        return bread, expit(d + lever * (p - one.z) / (1 - h))

    @property
    def _score(self) -> tuple[Array, Array]:
        """What labelled and fresh rows add to the score of the likelihood."""
        one, fresh = self.labelled, self.fresh
        own = (one.weight * (self._at[1] - one.z))[..., None] * one.x / self.n
        return own, np.zeros(np.broadcast_shapes(fresh.x.shape, (*own.shape[:-2], 1, 1)))

    def _control(self, g: Array, fresh_g: Array) -> tuple[Array, Array]:
        """Return what labelled and fresh rows add to the control variate of an auxiliary."""
        one, fresh = self.labelled, self.fresh
        own = (one.weight * (self._at[1] - g))[..., None] * one.x / self.n
        away = expit(margins(fresh.x, self.mle.theta)) - fresh_g
        return own, -(fresh.share * away)[..., None] * fresh.x

    def _traced(self, one: tuple[Array, Array], two: tuple[Array, Array]) -> Array:
        """Return the trace [...] of the covariance that two totals give the solution."""
        bread = self._at[0]
        return np.asarray(np.trace(bread @ self.spread(*one, *two) @ bread, axis1=-2, axis2=-1))

    def _of_one_pair(self, shared: Array) -> Array:
        bread, share = self._at[0], np.broadcast_to(self.fresh.share, shared.shape[:-1])
        off = shared / np.maximum(share, 1e-300)[..., None] - shared.sum(-2, keepdims=True)
        return np.asarray(np.trace(bread @ gram(share, off) @ bread, axis1=-2, axis2=-1))

    def mixed(self, other: tuple[Array, Array], lambda_: float | None) -> tuple[Equation, Array]:
        """Return the equation of two auxiliaries, mixed for the least variance, and the share [...] of the second.

        Parameters
        ----------
        other
            Probabilities of the second auxiliary, [..., row] of labelled and of fresh pairs.
        lambda_
            The sum of both lambdas; None: whichever is best, at most 1.
        """
        one, fresh = self.labelled, self.fresh
        mine, theirs = self._control(one.g, fresh.g), self._control(*other)
        cross = [self._traced(self._score, each) for each in (mine, theirs)]
        control = [self._traced(*each) for each in ((mine, mine), (mine, theirs), (theirs, theirs))]
        share = _share(cross, control, lambda_)
        g, away = (
            (1 - share[..., None]) * a + share[..., None] * b for a, b in zip((one.g, fresh.g), other, strict=True)
        )
        return Equation(replace(one, g=g), replace(fresh, g=away)), share

    def influence(self, theta: Array, lambda_: ArrayLike) -> tuple[Array, Array]:
        """Return what each labelled and each fresh row adds to theta - target [..., row, parameter].

        They add up to nothing at the solution; squared and added by cluster they give the covariance.
        """
        one, fresh, lam = self.labelled, self.fresh, np.asarray(lambda_, float)[..., None]
        p, q = expit(margins(one.x, theta)), expit(margins(fresh.x, theta))
        own = (one.weight * ((p - one.z) - lam * (p - one.g)) / self.n)[..., None] * one.x
        away = (lam * fresh.share * (q - fresh.g))[..., None] * fresh.x
        bread = np.linalg.pinv(curvature(self.blocks(lambda_), theta))
        return -own @ bread, -away @ bread

    def covariance(self, theta: Array, lambda_: ArrayLike) -> Array:
        """Return the sandwich covariance [..., parameter, parameter], whatever the truth and the auxiliary."""
        own, away = self.influence(theta, lambda_)
        return self.spread(own, away, own, away)

    def spread(self, own: Array, away: Array, own2: Array, away2: Array) -> Array:
        """Return the covariance of two totals over clusters, from their summands on labelled and fresh rows."""
        one, fresh = self.labelled, self.fresh
        if fresh.tied:
            assert one.cluster is not None
            assert fresh.cluster is not None
            code = np.concatenate([one.cluster, fresh.cluster])
            return _spread(*(_by_cluster(np.concatenate(pair, -2), code) for pair in ((own, away), (own2, away2))))
        total = _spread(_by_cluster(own, one.cluster), _by_cluster(own2, one.cluster))
        if math.isinf(fresh.size):
            return total
        return total + _spread(_by_cluster(away, fresh.cluster), _by_cluster(away2, fresh.cluster))


def _share(cross: list[Array], control: list[Array], total: float | None) -> Array:
    """Return the share [...] of the second of two lambdas in their sum where they lower the variance most.

    The variance is control[0] x^2 + 2 control[1] x y + control[2] y^2 - 2 (cross[0] x + cross[1] y), beside what does
    not depend on them, over x, y >= 0 and x + y = total, or at most 1 without one. So is its least value inside, if the
    stationary point is, and otherwise on one of the three edges.
    """
    (c, d), (a, b, e) = cross, control

    def objective(x: Array, y: Array) -> Array:
        return a * x**2 + 2 * b * x * y + e * y**2 - 2 * (c * x + d * y)

    def along(end: float) -> tuple[Array, Array]:  # the edge x + y = end
        y = end * _within(d - c + (a - b) * end, (a - 2 * b + e) * end)
        return end - y, y

    if total is not None:
        return along(1.0)[1] if total == 0 else along(total)[1] / total
    det = np.maximum(a * e - b**2, 1e-12 * a * e + 1e-300)
    x, y = e * c - b * d, a * d - b * c
    inside = (x >= 0) & (y >= 0) & (x + y <= det)
    points = [
        (np.where(inside, x, 0) / det, np.where(inside, y, 0) / det),
        along(1.0),
        (_within(c, a), np.zeros_like(c)),
        (np.zeros_like(d), _within(d, e)),
    ]
    best = np.argmin([objective(*point) for point in points], 0)
    x, y = (np.choose(best, [point[k] for point in points]) for k in (0, 1))
    return np.where(x + y > 0, y / np.maximum(x + y, 1e-300), 1.0)


def _within(part: Array, whole: Array) -> Array:
    """Return part / whole, held between 0 and 1."""
    return np.asarray(np.clip(part, 0, np.maximum(whole, 0)) / np.maximum(whole, 1e-300))


def _by_cluster(q: Array, code: Array | None) -> Array:
    """Return sums [..., cluster, parameter] of rows q [..., row, parameter]."""
    if code is None:
        return q
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    return np.add.reduceat(np.take(q, order, -2), starts, -2)


def _spread(a: Array, b: Array) -> Array:
    count = a.shape[-2]
    a, b = a - a.mean(-2, keepdims=True), b - b.mean(-2, keepdims=True)
    return np.swapaxes(a, -1, -2) @ b * (count / max(count - 1, 1))
