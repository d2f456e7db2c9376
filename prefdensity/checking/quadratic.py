"""Quadratic forms of normal vectors: their tails, and what the spread of random effects is worth.

With s ~ N(0, V) under the null, s's is a sum of chi-squares of one degree of freedom, weighted by eigenvalues of V.
With effects theta ~ N(0, t I) behind it, s = V theta + noise, and in the basis of V each s_i ~ N(0, l_i + t l_i^2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import ndtr

Array = NDArray[np.float64]

# Largest matrix that is decomposed; else steps of the Lanczos process, and random probes of the trace.
_WHOLE, _STEPS, _PROBES = 1000, 24, 8
_RANGE = (-16.0, 6.0)  # of the logarithm of the variance of effects
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A score s against its covariance V.

    Attributes
    ----------
    value, size
        Eigenvalues of V and how many there are of each [eigenvalue]: quadrature where V is large.
    at, energy
        Eigenvalues again, and the part of s's that lies along each [eigenvalue].
    """

    value: Array
    size: Array
    at: Array
    energy: Array

    @property
    def total(self) -> float:
        """The sum of squares of the score."""
        return float(self.energy.sum())

    @property
    def mean(self) -> float:
        """What is expected of it under the null: the trace of V."""
        return float(self.size @ self.value)

    @property
    def variance(self) -> float:
        """Its variance under the null, were the score normal."""
        return 2 * float(self.size @ self.value**2)

    def tail(self, excess: float = 0.0) -> float:
        """Return P(s's is as large or larger) under the null; `excess`: of its variance over that of a normal score.

        Single judgements are no normal numbers, so that where few of them make an effect, s's varies less.
        """
        wide = max(self.variance + excess, 0.01 * self.variance)
        shrunk = self.mean + (self.total - self.mean) * (self.variance / wide) ** 0.5
        return weighted_chi2_tail(shrunk, self.value, self.size)

    def effects(self) -> tuple[float, float]:
        """Return the likeliest variance t of the effects, and the expected gain in elpd (nats) of having them.

        The gain is that of the judgements here, were they to be predicted anew: the log likelihood at the mean of the
        effects given t, less the effective number of parameters, that of t included.
        """

        def loss(log_t: float) -> float:
            t = np.exp(log_t)
            fit = self.energy @ (t / (1 + t * self.at))
            return float(self.size @ np.log1p(t * self.value) - fit) / 2

        grid = np.linspace(*_RANGE, 45)
        best = grid[int(np.argmin([loss(each) for each in grid]))]
        found = minimize_scalar(loss, bounds=(best - 0.5, best + 0.5), method="bounded")
        if found.fun >= 0:
            return 0.0, -1.0
        t = float(np.exp(found.x))
        shrink = t / (1 + t * self.at)
        fit = self.energy @ (shrink - self.at * shrink**2 / 2)
        return t, float(fit - self.size @ (t * self.value / (1 + t * self.value)) - 1)


def spectrum(score: Array, times: Callable[[Array], Array], dense: Callable[[], Array]) -> Spectrum:
    """Return the spectrum of a matrix V, given by its products V x [entry, ...] or, if small, as it is."""
    if len(score) <= _WHOLE:
        value, vectors = np.linalg.eigh(dense())
        value = np.maximum(value, 0.0)
        return Spectrum(value, np.ones(len(value)), value, (vectors.T @ score) ** 2)
    own = _lanczos(times, score[:, None])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(len(score), _PROBES))
    trace = _lanczos(times, signs)
    return Spectrum(trace[0].ravel(), trace[1].ravel() / _PROBES, own[0].ravel(), own[1].ravel())


def _lanczos(times: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
    """Return Ritz values and what of |start|^2 lies along them, each [start, step]."""
    size = np.linalg.norm(start, axis=0)
    basis = [start / np.maximum(size, _LEAST)]
    alpha, beta = [], []
    for _ in range(min(_STEPS, len(start))):
        image = times(basis[-1])
        alpha.append((basis[-1] * image).sum(0))
        for each in basis:  # all of them: rounding would bring eigenvalues back
            image = image - each * (each * image).sum(0)
        beta.append(np.linalg.norm(image, axis=0))
        if float(beta[-1].max()) < _LEAST * max(_LEAST, float(np.abs(alpha).max())):
            break
        basis.append(image / np.maximum(beta[-1], _LEAST))
    steps = len(alpha)
    small = np.zeros((start.shape[1], steps, steps))
    for k in range(steps):
        small[:, k, k] = alpha[k]
        if k:
            small[:, k, k - 1] = small[:, k - 1, k] = beta[k - 1]
    value, vectors = np.linalg.eigh(small)
    return np.maximum(value, 0.0), vectors[:, 0] ** 2 * size[:, None] ** 2


def weighted_chi2_tail(q: float, weight: Array, size: Array) -> float:
    """Return P(sum of weighted chi-squares > q): `size` degrees of freedom with each weight > 0.

    By the saddlepoint approximation of Kuonen (1999), Biometrika 86, 929-935; of one weight it is off by 2 % or so.
    """
    kept = weight > _LEAST * max(float(weight.max(initial=0.0)), _LEAST)
    weight, size = weight[kept], size[kept]
    if q <= 0 or not len(weight):
        return 1.0

    def slope(x: float) -> float:
        return float(size @ (weight / (1 - 2 * x * weight))) - q

    top = 1 / (2 * weight.max())
    low = -1.0 / weight.max()
    while slope(low) > 0:
        low *= 4
    x = brentq(slope, low, top * (1 - 1e-13), xtol=1e-14 * top)
    mean, spread = float(size @ weight), 2 * float(size @ weight**2)
    if abs(q - mean) < 1e-3 * spread**0.5:  # the saddlepoint is 0, where its formula has no value but a limit
        skew = 8 * float(size @ weight**3) / spread**1.5
        return float(0.5 - skew / 6 / np.sqrt(2 * np.pi) - (q - mean) / spread**0.5 / np.sqrt(2 * np.pi))
    log = -0.5 * float(size @ np.log1p(-2 * x * weight))
    root = np.sign(x) * np.sqrt(max(0.0, 2 * (x * q - log)))
    curve = x * np.sqrt(2 * float(size @ (weight / (1 - 2 * x * weight)) ** 2))
    return float(ndtr(-(root + np.log(curve / root) / root)))
