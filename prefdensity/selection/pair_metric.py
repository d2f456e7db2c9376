"""Beliefs about the margins of all pairs of items at once: scores, and uncertainty as a distance.

Whatever the source, features with a precision matrix or draws of a posterior, each item becomes a vector z
such that Var(margin of i against j) = |z_i - z_j|^2. A pair then costs a scalar product, and a judgement shrinks
space along one direction. The difference structure of designs over pairs is used as by Guo et al. (2019),
arXiv 1901.06080.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from prefdensity.errors import DataError
from prefdensity.selection.acquisition import fisher_information
from prefdensity.selection.pair_sets import Block, PairSet

Array = NDArray[Any]

_LARGEST = 350.0  # exponent that may be squared without overflow


class Strengths:
    """Luce's rule for pairs of items with these scores: margins and information without an exponential per pair."""

    def __init__(self, score: Array) -> None:
        self.score = np.asarray(score, float)
        shifted = self.score - (self.score.max() + self.score.min()) / 2
        self._worth = np.exp(shifted) if shifted.max() < _LARGEST else None

    def margin(self, a: Array, b: Array) -> Array:
        """Return the differences of score."""
        return self.score[a] - self.score[b]

    def information(self, a: Array, b: Array) -> Array:
        """Return p (1 - p)."""
        if self._worth is None:
            return fisher_information(self.margin(a, b))
        one, other = self._worth[a], self._worth[b]
        total = 1 / (one + other)
        return (one * total) * (other * total)


@dataclass(eq=False)
class Metric:
    """A belief about scores: their means, and variances of differences as squared distances.

    A judgement takes (g'(z_i - z_j))^2 from every squared distance, for a direction g: what was learned is kept as
    these directions, and items stay where they are.

    Attributes
    ----------
    luce
        Strengths of the mean scores.
    z
        float64 [item, dimension].
    """

    luce: Strengths
    z: Array

    def __post_init__(self) -> None:
        centre = self.z.mean(0)
        if not np.allclose(centre, 0, atol=1e-12):
            self.z = self.z - centre
        self._norm = np.einsum("nd,nd->n", self.z, self.z)
        self._forget()

    def _forget(self) -> None:
        self._directions: list[Array] = []
        self._room = np.empty((0, len(self.z)))  # items along each direction, and rows to come
        self._lost = np.zeros(len(self.z))  # squared lengths of items along all directions

    @property
    def _along(self) -> Array:
        """Items along each direction [direction, item]."""
        return self._room[: len(self._directions)]

    def afresh(self) -> Metric:
        """Return the belief before anything was learned, of the same items."""
        found = copy(self)
        found._forget()
        return found

    @classmethod
    def from_draws(cls, draws: Array) -> Metric:
        """Return the belief of draws of scores [draw, item]."""
        z = draws.T - draws.mean(0)[:, None]  # one array of that size, and no other
        z /= np.sqrt(len(draws) - 1)
        z -= z.mean(0)
        return cls(Strengths(draws.mean(0)), z)

    @classmethod
    def from_precision(cls, score: Array, features: Array, precision: Array) -> Metric:
        """Return the belief of scores that are linear in features [item, feature], weights of this precision.

        Raises
        ------
        DataError
            If `precision` is singular.
        """
        return cls(Strengths(score), whitened(features, precision))

    def variance(self, block: Block) -> Array:
        """Return the variances of the margins of some pairs."""
        if block.a.shape == block.b.shape:
            difference = self.z[block.a] - self.z[block.b]
            square = np.einsum("...d,...d->...", difference, difference)
            for along in self._along:
                square -= (along[block.a] - along[block.b]) ** 2
            return np.maximum(square, 0, out=square)
        later = slice(int(block.b[0]), None)
        square = self.z[block.a[:, 0]] @ self.z[later].T
        square *= -2
        square += self._norm[block.a]
        square += self._norm[later]
        if self._directions:
            along = self._along
            square += 2 * (along[:, block.a[:, 0]].T @ along[:, later])
            square -= self._lost[block.a]
            square -= self._lost[later]
        return np.maximum(square, 0, out=square)

    def learn(self, a: int, b: int) -> None:
        """Condition on a judgement of this pair, whatever it says: the precision grows by information x x'."""
        x = self.z[a] - self.z[b]
        count = len(self._directions)
        left = x.copy()
        for share, direction in zip(self._along[:, a] - self._along[:, b], self._directions, strict=True):
            left -= share * direction
        length = float(x @ left)
        if length <= 0:
            return
        information = float(self.luce.information(np.array(a), np.array(b)))
        direction = left * np.sqrt(information / (1 + information * length))
        if count == len(self._room):
            self._room = np.concatenate([self._room, np.empty((max(8, count), len(self.z)))])
        self._room[count] = self.z @ direction
        self._lost = self._lost + self._room[count] ** 2
        self._directions.append(direction)


def whitened(features: Array, precision: Array) -> Array:
    """Return features [item, feature] times L^-T, for precision L L'.

    Raises
    ------
    DataError
        If the precision is singular, saying so.
    """
    scale = np.sqrt(np.diag(precision))
    flat = np.flatnonzero(~(scale > 0))
    if len(flat):
        raise DataError(
            f"feature {flat[0] + 1} is the same in both items of every candidate pair, so the information matrix is "
            "singular; leave it out, or give a larger ridge"
        )
    correlation = precision / np.outer(scale, scale)
    try:
        root = cholesky(correlation, lower=True)
        if np.diag(root).min() < 1e-7:
            raise LinAlgError
    except LinAlgError:
        raise DataError(
            f"the candidate pairs do not span their {len(precision)} features (some combination of features never "
            "differs), so the information matrix is singular; leave features out, or give a larger ridge"
        ) from None
    return solve_triangular(root, (features / scale).T, lower=True).T


def information_matrix(pairs: PairSet, features: Array, luce: Strengths | None = None) -> Array:
    """Return the sum over candidate pairs of information x x', with x the difference of their features.

    A graph Laplacian in the items: memory of a block of pairs, not of all.

    Parameters
    ----------
    pairs
        Candidates.
    features
        float64 [item, feature].
    luce
        Strengths of the scores; None: every pair counts 1.
    """
    features = features - features.mean(0)
    degree = np.zeros(len(features))
    cross = np.zeros((features.shape[1],) * 2)
    total = np.zeros_like(cross)
    for block in pairs.blocks():
        weight = block.allowed.astype(float) if luce is None else luce.information(block.a, block.b) * block.allowed
        if block.a.shape == block.b.shape:
            difference = (features[block.a] - features[block.b])[:, 0]
            total += (difference * weight).T @ difference
            continue
        later = slice(int(block.b[0]), None)
        degree[block.row] += weight.sum(1)
        degree[later] += weight.sum(0)
        cross += features[block.row].T @ (weight @ features[later])
    return total + (features.T * degree) @ features - cross - cross.T


def past_information(features: Array, luce: Strengths, a: Array, b: Array, count: Array) -> Array:
    """Return the information of `count` judgements [comparison] of pairs a, b about the weights of features."""
    difference = features[a] - features[b]
    return (difference.T * (count * luce.information(a, b))) @ difference
