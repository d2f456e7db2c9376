"""The augmented Bradley-Terry equation: solution, influence values, variance, and how much of the auxiliary to use.

With margins d = x' theta, labels Z and auxiliary probabilities g,

    U(theta) = mean of w [(sigma(d) - Z) - lambda (sigma(d) - g)] x    over labelled pairs
             + lambda * mean of (sigma(d) - g) x                        over fresh pairs of the same law

has mean zero at the Bradley-Terry projection of the truth for every fixed g: what the auxiliary adds on fresh
pairs it takes back, on average, on labelled ones. lambda = 0 is maximum likelihood. Variance-reduced reward
learning (Ye et al. 2025, arXiv 2504.03784) is lambda = 1; a tuned lambda is prediction-powered inference
(Angelopoulos et al. 2023, arXiv 2311.01453). All arrays may carry axes of replicates in front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
        return np.clip(self.cross / np.maximum(self.control, 1e-300), 0, 1)

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
        """Variance with and without the auxiliary, at leave-one-out margins of maximum likelihood.

        A label pulls its own margin towards itself; at fitted margins the score would look smaller than it is,
        and the auxiliary less useful.
        """
        one, fresh, theta = self.labelled, self.fresh, self.mle.theta
        bread = np.linalg.pinv(curvature(self.blocks(0.0), theta))
        d = margins(one.x, theta)
        p = expit(d)
        lever = one.weight * ((one.x @ bread) * one.x).sum(-1) / self.n
        h = np.minimum(lever * p * (1 - p), 0.99)
        p = expit(d + lever * (p - one.z) / (1 - h))
        score = (one.weight * (p - one.z))[..., None] * one.x / self.n
        own = (one.weight * (p - one.g))[..., None] * one.x / self.n
        away = (expit(margins(fresh.x, theta)) - fresh.g)[..., None] * fresh.x
        shared = fresh.share[..., None] * away
        none = 0 * shared
        middle = (
            self.spread(score, none, score, none),
            self.spread(score, none, own, -shared),
            self.spread(own, -shared, own, -shared),
            self.spread(own, none, own, none),
            gram(np.broadcast_to(fresh.share, away.shape[:-1]), away - shared.sum(-2, keepdims=True)),
        )
        found = Efficiency(*(np.trace(bread @ each @ bread, axis1=-2, axis2=-1) for each in middle))
        if fresh.tied or math.isinf(fresh.size):
            return found
        return found._replace(pair=(found.control - found.labelled) * fresh.size)  # clusters are in it

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
