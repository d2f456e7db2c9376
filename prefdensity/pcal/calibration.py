"""How much of each nuisance to use: multipliers of the mean-zero brackets that preferences and unlabelled units add.

With labels and preferences the estimator's influence function is psi1 S1/p1 - M2 (S1/p1 - S2/p2) psi2 - M3 (S2/p2 - 1)
psi3, where S1, S2 say whether a label, a preference was bought with probabilities p1, p2, and psi2, psi3 are
expectations of psi1 after and before the preferences. Any ladder has a bracket for each of its rungs, S_l/p_l -
S_{l+1}/p_{l+1} times the expectation of psi1 given what is seen on rung l+1; below the last everything is seen. They
are uncorrelated given the data, so the best multipliers are regressions of psi1 on these expectations over labelled
units, apart from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.rungs import Rung

Array = NDArray[Any]

CALIBRATIONS = ("none", "identity", "scalar", "single", "split")
_ZERO = 1e-12  # relative: directions and brackets smaller than this carry nothing


@dataclass(frozen=True, eq=False)
class Bracket:
    """One mean-zero weight and what it multiplies.

    Attributes
    ----------
    name
        The rung that the guesses know, such as "preferences", or "unlabelled" for what is always seen.
    weight
        z [unit]: such as S1/p1 - S2/p2, or S2/p2 - 1.
    variance
        E[z^2 | data] [unit]: 1/p1 - 1/p2, or 1/p2 - 1.
    guesses
        psi [unit, parameter], one for each nuisance.
    """

    name: str
    weight: Array
    variance: Array
    guesses: tuple[Array, ...]


def brackets(rungs: Sequence[Rung], expected: Sequence[tuple[Array, ...]]) -> list[Bracket]:
    """Return the brackets whose weight is not zero everywhere: equal probabilities of two rungs drop one.

    Parameters
    ----------
    rungs
        From the label down.
    expected
        For each rung, psi [unit, parameter] given what is seen on the next one, of every nuisance.
    """
    share = [rung.bought / rung.probability for rung in rungs] + [np.ones(len(rungs[0].bought))]
    rate = [1 / rung.probability for rung in rungs] + [np.ones(len(rungs[0].bought))]
    names = [rung.name for rung in rungs[1:]] + ["unlabelled"]
    every = [
        Bracket(name, share[k] - share[k + 1], rate[k] - rate[k + 1], guesses)
        for k, (name, guesses) in enumerate(zip(names, expected, strict=True))
    ]
    return [each for each in every if each.variance.max() > _ZERO * rate[0].max()]


def multipliers(
    psi: Array, weight: Array, parts: list[Bracket], calibration: str, metric: Array | None = None
) -> list[list[Array]]:
    """Return the matrix [parameter, parameter] of every bracket and nuisance.

    Parameters
    ----------
    psi
        psi1 [unit, parameter]; anything where there is no label.
    weight
        S1/p1 [unit].
    parts
        The brackets.
    calibration
        "identity": 1, shared evenly by several nuisances. "scalar": one number each, the best for the sum of variances
        in `metric`. "single": one matrix for both brackets. "split": one matrix for each bracket and nuisance.
        "none": 0.
    metric
        Q [parameter, parameter] of "scalar"; None: variances relative to those of psi1.

    Raises
    ------
    DataError
        For an unknown calibration, or "single" with several nuisances.
    """
    if calibration not in CALIBRATIONS:
        raise DataError(f"there is no calibration {calibration!r}; calibrations are {', '.join(CALIBRATIONS)}")
    size = psi.shape[1]
    count = len(parts[0].guesses) if parts else 1
    if calibration in ("none", "identity"):
        share = 0.0 if calibration == "none" else 1 / count
        return [[share * np.eye(size)] * count for _ in parts]
    seen = weight > 0
    psi, weight = psi[seen], weight[seen] / len(weight)
    moments = [
        _Moments.of(psi, weight * part.variance[seen], [guess[seen] for guess in part.guesses]) for part in parts
    ]
    if calibration == "split":
        return [np.split(each.cross @ _inverse(each.gram), count, axis=1) for each in moments]
    if calibration == "single":
        if count > 1:
            raise DataError("calibration='single' is for one nuisance; use 'scalar' or 'split' with several")
        shared = np.zeros((size, size))
        if moments:
            cross, gram = (np.sum([getattr(each, name) for each in moments], axis=0) for name in ("cross", "gram"))
            shared = cross @ _inverse(gram)
        return [[shared] for _ in parts]
    if metric is None:
        metric = np.linalg.pinv((psi * weight[:, None]).T @ psi, hermitian=True)
    return [[number * np.eye(size) for number in each.scalars(metric, count)] for each in moments]


def learned(psi: Array, parts: list[Bracket], labelled: Array, calibration: str) -> int:
    """Return how many multipliers are learned from labels for each parameter, those of collinear guesses once."""
    count = 0
    for part in parts:
        guesses = [_telling(psi[labelled], guess[labelled]) for guess in part.guesses]
        if calibration == "scalar":
            count += _rank(np.column_stack([guess.ravel() for guess in guesses]))
        elif calibration == "split":
            count += _rank(np.hstack(guesses))
        elif calibration == "single":
            count = max(count, _rank(np.hstack(guesses)))
    return count


def _telling(psi: Array, guess: Array) -> Array:
    """Return the guess [unit, parameter], 0 for a parameter of which it is 0 but for rounding."""
    return np.asarray(guess * ((guess**2).sum(0) > _ZERO**2 * (psi**2).sum(0)))


def _rank(columns: Array) -> int:
    gram = columns.T @ columns
    size = np.sqrt(np.diag(gram))
    size = np.where(size > 0, size, 1.0)
    return int(np.linalg.matrix_rank(gram / np.outer(size, size), tol=1e-9, hermitian=True))


@dataclass(frozen=True, eq=False)
class _Moments:
    cross: Array  # E[k psi1 guesses'] [parameter, nuisance * parameter]
    gram: Array  # E[k guesses guesses']

    @classmethod
    def of(cls, psi: Array, weight: Array, guesses: list[Array]) -> _Moments:
        stacked = np.hstack([_telling(psi, guess) for guess in guesses])
        weighted = stacked * weight[:, None]
        return cls(psi.T @ weighted, stacked.T @ weighted)

    def scalars(self, metric: Array, count: int) -> Array:
        """Return the number for each nuisance that leaves the least variance tr(Q .)."""
        size = len(metric)
        cross = np.einsum("ij,jni->n", metric, self.cross.reshape(size, count, size).transpose(0, 1, 2))
        gram = np.einsum("ij,nimj->nm", metric, self.gram.reshape(count, size, count, size))
        return np.asarray(_inverse(gram) @ cross)


def residuals(psi: Array, part: Bracket, matrices: list[Array]) -> Array:
    """Return psi1 less the calibrated guesses of a bracket [unit, parameter]."""
    return psi - sum(guess @ matrix.T for guess, matrix in zip(part.guesses, matrices, strict=True))


def influence(psi: Array, weight: Array, parts: list[Bracket], matrices: list[list[Array]]) -> Array:
    """Return the influence function [unit, parameter]; `psi` must be finite, 0 where there is no label."""
    out = psi * weight[:, None]
    for part, each in zip(parts, matrices, strict=True):
        out = out - part.weight[:, None] * sum(
            guess @ matrix.T for guess, matrix in zip(part.guesses, each, strict=True)
        )
    return out


def _inverse(gram: Array) -> Array:
    """Return the pseudo-inverse of a Gram matrix whose variables may have any scale."""
    size = np.sqrt(np.diag(gram))
    size = np.where(size > 0, size, 1.0)
    return np.asarray(np.linalg.pinv(gram / np.outer(size, size), rcond=_ZERO, hermitian=True) / np.outer(size, size))
