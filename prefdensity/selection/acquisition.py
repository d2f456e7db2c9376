"""What a judgement not yet made is expected to tell: pure scores of a pair.

Margins are differences of utility in logits, variances those of the margin, information in nats. The functions
of `margin` and `variance` belong to Luce's rule and a Gaussian belief; those of `prob` [draw, pair, outcome] to
any program whatever. Houlsby et al. (2011), arXiv 1112.5745; Kirsch et al. (2019), arXiv 1906.08158.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr, xlogy

Array = NDArray[Any]

_STEP = 0.05  # of the scaled margin in the table of expected information
_COLUMNS = 160  # of the table, from sd 0 to infinity
_MARGIN = 25.0  # scaled margin beyond which less than 1e-9 nats are left
_NARROW = 0.4  # sd below which Gauss-Hermite beats the trapezoid rule


def fisher_information(margin: ArrayLike) -> Array:
    """Return the information of one judgement about its margin, p (1 - p), without overflow or cancellation."""
    decay = np.exp(-np.abs(margin))
    return decay / (1 + decay) ** 2


def entropy(prob: ArrayLike) -> Array:
    """Return the entropy (nats) of probabilities [..., outcome]."""
    prob = np.asarray(prob)
    return -xlogy(prob, prob).sum(-1)


def d_gain(information: ArrayLike, variance: ArrayLike) -> Array:
    """Return the growth of half the log determinant of the precision: 1/2 log(1 + information * variance)."""
    return 0.5 * np.log1p(np.multiply(information, variance))


def expected_information(margin: ArrayLike, variance: ArrayLike) -> Array:
    """Return the information (nats) that a judgement is expected to give about a margin ~ Normal(margin, variance).

    H(E p) - E H(p) for p = logistic(margin), from a table by bilinear interpolation: within 1e-4 of quadrature
    anywhere, and within 2 % of the value, so that small gains are ranked too.
    """
    variance = np.asarray(variance, float)
    shrink, base = _leading_term(margin, variance)
    table = _ratio_table()
    row = np.minimum(np.abs(margin) * shrink, _MARGIN - 1e-9) / _STEP
    sd = np.sqrt(variance)
    column = sd / (1 + sd) * (_COLUMNS - 1)
    i, j = row.astype(np.intp), np.minimum(column.astype(np.intp), _COLUMNS - 2)
    down, right = row - i, column - j
    corner = i * _COLUMNS + j
    flat = table.ravel()
    left = flat[corner] * (1 - down) + flat[corner + _COLUMNS] * down
    other = flat[corner + 1] * (1 - down) + flat[corner + _COLUMNS + 1] * down
    return base * (left * (1 - right) + other * right)


def _leading_term(margin: ArrayLike, variance: Array) -> tuple[Array, Array]:
    """Return the shrinkage of the margin (MacKay 1992), and 1/2 p (1 - p) variance with both shrunk.

    The second is exact for small variances and has the right order for all others, so that what the table holds,
    expected information divided by it, is smooth.
    """
    square = 1 / (1 + np.pi / 8 * variance)
    shrink = np.sqrt(square)
    return shrink, 0.5 * variance * square * fisher_information(np.abs(margin) * shrink)


@functools.cache
def _ratio_table() -> Array:
    """Return [scaled margin, sd / (1 + sd)] of expected information over its leading term."""
    scaled = np.arange(0, _MARGIN + _STEP, _STEP)
    table = np.ones((len(scaled), _COLUMNS))
    for column in range(1, _COLUMNS):
        # the last column, sd infinite, is never reached: a large finite one stands for it
        share = min(column / (_COLUMNS - 1), 1 - 1e-4)
        variance = np.full(len(scaled), (share / (1 - share)) ** 2)
        margin = scaled * np.sqrt(1 + np.pi / 8 * variance)
        table[:, column] = information_by_quadrature(margin, variance) / _leading_term(margin, variance)[1]
    return table


def information_by_quadrature(margin: ArrayLike, variance: ArrayLike) -> Array:
    """Return what `expected_information` interpolates, by quadrature: slow, for tables and tests.

    Parameters
    ----------
    margin, variance
        [pair].
    """
    at, sd = np.abs(np.asarray(margin, float)), np.sqrt(np.asarray(variance, float))
    return np.where(sd < _NARROW, _narrow(at, sd), _wide(at, np.maximum(sd, _NARROW)))


def _narrow(margin: Array, sd: Array) -> Array:
    """Gauss-Hermite, written as E of the divergence of p from its mean: nothing cancels when sd is small."""
    node, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    at = margin[:, None] + sd[:, None] * node
    lose = expit(-at)
    mean = lose @ weight
    shift = expit(at) - (expit(at) @ weight)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(mean[:, None] > 0, -shift / mean[:, None], 0.0)
    return (xlogy(lose, 1 + relative) + xlogy(1 - lose, 1 + shift / (1 - mean[:, None]))) @ weight


def _wide(margin: Array, sd: Array) -> Array:
    """Trapezoid rule over the bumps p (1 - p) and H(p), which a wide normal sees as narrow."""
    at = np.linspace(-45, 45, 601)
    step = at[1] - at[0]
    p = expit(at)
    z = (at - margin[:, None]) / sd[:, None]
    lose = ndtr(z) @ (p * expit(-at)) * step  # E(1 - p), by parts
    density = np.exp(-0.5 * z**2) / (sd[:, None] * np.sqrt(2 * np.pi))
    kept = density @ -(xlogy(p, p) + xlogy(1 - p, 1 - p)) * step
    return -(xlogy(lose, lose) + xlogy(1 - lose, 1 - lose)) - kept


def mutual_information(prob: ArrayLike) -> Array:
    """Return the information (nats) [pair] between the outcome and all that the draws of a posterior disagree on.

    Parameters
    ----------
    prob
        Outcome probabilities [draw, pair, outcome].
    """
    prob = np.asarray(prob)
    return np.maximum(entropy(prob.mean(0)) - entropy(prob).mean(0), 0.0)


def target_information(prob: ArrayLike) -> Array:
    """Return the information (nats) [pair] about the rewards alone, the annotator being a nuisance.

    Never more than `mutual_information` of the same draws flattened; equal where nothing but the rewards is unknown.

    Parameters
    ----------
    prob
        [reward draw, annotator draw, pair, outcome]: the second axis holds draws of the annotator's parameters
        given the rewards of the first.
    """
    return mutual_information(np.asarray(prob).mean(1))
