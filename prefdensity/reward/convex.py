"""Weighted logistic moment equations, solved exactly and for many replicates at once.

The problem is sum_c W_c sigmoid(x_c' theta) x_c = target: convex, so a stationary point with curvature in every
direction is the one solution, and a search that finds none says that there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

Array = NDArray[Any]

_STEPS, _HALVINGS = 60, 30
_TOLERANCE = 1e-9  # of the last step, as a change of margins
_LONGEST = 5.0  # largest change of a margin in one step
_FLAT = 1e-7  # mean p(1 - p) in some direction: below, the solution lies at infinity


class Solution(NamedTuple):
    """Where the equation holds: `theta` [..., parameter] and whether a finite solution `exists` [...]."""

    theta: Array
    exists: Array


def margins(x: Array, theta: Array) -> Array:
    """Return x' theta [..., row] of x [..., row, parameter] and theta [..., parameter]."""
    return (x @ theta[..., None])[..., 0]


def moment(weight: Array, x: Array) -> Array:
    """Return the sum over rows of weight [..., row] times x [..., row, parameter]: [..., parameter]."""
    return (weight[..., None, :] @ x)[..., 0, :]


def gram(weight: Array, x: Array) -> Array:
    """Return the sum over rows of weight [..., row] times x x' [..., parameter, parameter]."""
    return (np.swapaxes(x, -1, -2) * weight[..., None, :]) @ x


def curvature(blocks: Sequence[tuple[Array, Array]], theta: Array) -> Array:
    """Return the sum of W p (1 - p) x x' [..., parameter, parameter] over blocks (x, W)."""
    parts = []
    for x, weight in blocks:
        p = expit(margins(x, theta))
        parts.append(gram(weight * p * (1 - p), x))
    return _sum(parts)


def solve(blocks: Sequence[tuple[Array, Array]], target: Array, ridge: ArrayLike = 0.0) -> Solution:
    """Solve sum W sigmoid(x' theta) x + ridge * theta = target by damped Newton steps.

    Parameters
    ----------
    blocks
        (x [..., row, parameter], W [..., row] >= 0), summed over.
    target
        [..., parameter].
    ridge
        Precision [parameter] or a number; 0: none.
    """
    with np.errstate(over="ignore"):  # rows of a problem without a solution run away; it is reported as such
        return _climb(blocks, target, np.broadcast_to(ridge, target.shape[-1:]))


def _climb(blocks: Sequence[tuple[Array, Array]], target: Array, ridge: Array) -> Solution:
    scale = _sum([gram(np.broadcast_to(w, _shape(x, w)), x) for x, w in blocks]) + np.diag(ridge)
    size = np.trace(scale, axis1=-2, axis2=-1)[..., None, None] / target.shape[-1]
    jitter = 1e-13 * scale + (1e-14 * size + 1e-300) * np.eye(target.shape[-1])  # moves no solution
    theta = np.zeros(np.broadcast_shapes(target.shape, scale.shape[:-1]))
    done = np.zeros(theta.shape[:-1], bool)
    for _ in range(_STEPS):
        slope = _sum([moment(w * expit(margins(x, theta)), x) for x, w in blocks]) + ridge * theta - target
        hessian = curvature(blocks, theta) + np.diag(ridge)
        step = -np.linalg.solve(hessian + jitter, slope[..., None])[..., 0]
        change = _largest(blocks, step)
        done = change < _TOLERANCE
        if done.all():
            theta = theta + step
            break
        factor = np.minimum(1.0, _LONGEST / np.maximum(change, 1e-300))
        theta = theta + _backtracked(blocks, target, ridge, theta, factor[..., None] * step, done)
    flat = _least(scale, curvature(blocks, theta) + np.diag(ridge))
    return Solution(theta, done & (flat > _FLAT))


def _backtracked(
    blocks: Sequence[tuple[Array, Array]], target: Array, ridge: Array, theta: Array, step: Array, done: Array
) -> Array:
    """Return the step, halved wherever it would not lower the objective."""
    before = _objective(blocks, target, ridge, theta)
    for _ in range(_HALVINGS):
        after = _objective(blocks, target, ridge, theta + step)
        worse = (after > before + 1e-12 * (1 + np.abs(before))) & ~done
        if not worse.any():
            break
        step = np.where(worse[..., None], step / 2, step)
    return step


def _objective(blocks: Sequence[tuple[Array, Array]], target: Array, ridge: Array, theta: Array) -> Array:
    soft = _sum([(w * np.logaddexp(0, margins(x, theta))).sum(-1) for x, w in blocks])
    return soft + (ridge * theta**2).sum(-1) / 2 - (target * theta).sum(-1)


def _largest(blocks: Sequence[tuple[Array, Array]], step: Array) -> Array:
    """Return the largest change of a margin [...] that counts: rows of positive weight."""
    return np.maximum.reduce([np.where(w > 0, np.abs(margins(x, step)), 0.0).max(-1) for x, w in blocks])


def _least(scale: Array, hessian: Array) -> Array:
    """Return the smallest eigenvalue [...] of the hessian in units of `scale`; 0 where that is singular."""
    values, vectors = np.linalg.eigh(scale)
    spread = values[..., 0] > 1e-12 * values[..., -1]
    root = vectors / np.sqrt(np.maximum(values, 1e-300))[..., None, :]
    return np.where(spread, np.linalg.eigvalsh(np.swapaxes(root, -1, -2) @ hessian @ root)[..., 0], 0.0)


def _shape(x: Array, weight: Array) -> tuple[int, ...]:
    return np.broadcast_shapes(x.shape[:-1], weight.shape)


def _sum(parts: Sequence[Array]) -> Array:
    return sum(parts[1:], parts[0])
