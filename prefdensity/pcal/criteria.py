"""What designs and calibrations make small: tr(Q Sigma) for a criterion Q."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdensity.errors import DataError

Array = NDArray[Any]

Criterion = str | Sequence[float] | ArrayLike


def metric(criterion: Criterion, names: tuple[str, ...], psi: Array, weight: Array) -> Array:
    """Return Q [parameter, parameter].

    Parameters
    ----------
    criterion
        A parameter's name; "trace", the sum of variances; "relative", the sum of variances relative to those of
        labels for everybody (none of a rate without events, of which nothing is known); a contrast [parameter]; or a
        positive semidefinite matrix.
    names
        Of the parameters.
    psi, weight
        Influence values of labels [unit, parameter] and S1/p1 [unit], for "relative".

    Raises
    ------
    DataError
        For an unknown name, or a contrast or matrix of another shape.
    """
    if isinstance(criterion, str):
        if criterion == "trace" or (criterion == "relative" and len(names) == 1):
            return np.eye(len(names))
        if criterion == "relative":
            spread = weight @ psi**2
            return np.diag(np.divide(len(psi), spread, out=np.zeros_like(spread), where=spread > 0))
        if criterion not in names:
            raise DataError(
                f"criterion={criterion!r} must be 'relative', 'trace', a contrast, a matrix, or one of "
                f"{', '.join(names)}"
            )
        contrast = np.array([float(name == criterion) for name in names])
        return np.outer(contrast, contrast)
    matrix = np.asarray(criterion, float)
    if matrix.shape == (len(names),):
        return np.outer(matrix, matrix)
    if (
        matrix.shape != (len(names), len(names))
        or np.linalg.eigvalsh((matrix + matrix.T) / 2).min() < -1e-10 * np.abs(matrix).max()
    ):
        raise DataError(
            f"criterion has shape {matrix.shape}; a contrast [{len(names)}] or a positive semidefinite matrix is needed"
        )
    return np.asarray((matrix + matrix.T) / 2)


def size(values: Array, metric: Array, weight: Array) -> float:
    """Return the weighted mean of v'Qv over rows v of values [unit, parameter], weights [unit] over their number."""
    return float(weight @ np.einsum("ui,ij,uj->u", values, metric, values) / len(values))
