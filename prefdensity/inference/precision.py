"""Precision matrices, minus the Hessian of a log density, and the Gaussians that have them.

With P the precision [dimension, dimension] at a point z of a log density f with gradient g, three things are asked:

- the Newton step (P + lambda I)^-1 g, by Cholesky's P + lambda I = L L^T; the factor exists where the matrix is
  positive definite, and damping (Levenberg and Marquardt's) is raised until it is;
- the Gaussian N(0, P^-1): draws x = F e with F = L^-T, so that Cov x = F F^T = P^-1; log |det F| = -sum log L_kk,
  which is the determinant of Laplace's evidence; squares x^T P x = |L^T x|^2 of its log density;
- conditioning: P in blocks [[P_ff, P_fh], [P_hf, P_hh]] of free and held coordinates. Given those held, the free ones
  have precision P_ff and move by -P_ff^-1 P_fh per unit of them.

A direction of hardly any curvature (a saddle, a rotation that changes no probability) has no width that data tell.
There P = V diag(v) V^T, and eigenvalues up to a floor are taken for 1, the curvature of a unit prior.

`Dense` is a full matrix. `prefdensity.inference.arrow` keeps annotators' blocks apart, `prefdensity.inference.krylov`
knows a matrix by its products alone; `prefdensity.inference.curvature` says which is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from prefdensity.errors import FitError

# Largest dimension for which a full matrix is formed (200 MB in float64).
DENSE = 5000
# Curvature of a posterior below this (a standard deviation of 30) is no curvature: priors are tighter.
FLAT = 1e-3
# A direction across many coordinates leaves pivots thousands of times its curvature: it is none from so many times less
# on (a standard deviation of 100). Turns of inverse iteration that find it.
ACROSS, _TURNS = 10.0, 4
# Largest matrix that is decomposed into eigenvalues when it is not positive definite.
SPECTRAL = 5000


class Gaussian(Protocol):
    """A Gaussian of mean 0: x = F e, e standard normal."""

    @property
    def log_det(self) -> float:
        """Log of |det F|."""

    @property
    def log_det_error(self) -> float:
        """Standard error of `log_det` where it is a Monte-Carlo estimate, 0 where it is exact."""

    def scale(self, noise: Tensor) -> Tensor:
        """Return F e [draw, dimension] of e [draw, dimension]."""

    def square(self, x: Tensor) -> Tensor:
        """Return x^T P x [draw] of x [draw, dimension], with P the precision."""

    def covariance(self, x: Tensor) -> Tensor:
        """Return P^-1 x [dimension]."""

    def frame(self) -> Tensor:
        """Return F [dimension, dimension], or for a large one the conditional standard deviations [dimension]."""


class Precision(Protocol):
    """A symmetric matrix P [dimension, dimension]; positive definite at a mode.

    Attributes
    ----------
    factors
        Whether solving with P takes a factor, which then serves again at once.
    """

    factors: ClassVar[bool]

    def times(self, x: Tensor) -> Tensor:
        """Return P x [row, dimension] of each row of x [row, dimension]."""

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """Return (P + damping I)^-1 gradient [dimension]; None where that matrix is not positive definite."""

    def largest_diagonal(self) -> float:
        """Return the largest entry of the diagonal."""

    def partition(self, free: Tensor, held: Tensor) -> tuple[Precision, Tensor]:
        """Return P of the coordinates `free`, and P[free, held] [free, held]."""

    def gaussian(self) -> Gaussian | None:
        """Return the Gaussian with this precision; None where P is not positive definite and too large to mend."""


@dataclass(frozen=True)
class Free:
    """Coordinates that are free, `at` [free] of `size` in all, while the others are held."""

    at: Tensor
    size: int

    @classmethod
    def beside(cls, held: Tensor, size: int) -> Free:
        """Return all but those held [held]."""
        everything = torch.arange(size, device=held.device)
        return cls(everything[~torch.isin(everything, held)], size)

    @property
    def all(self) -> bool:
        """Whether no coordinate is held."""
        return len(self.at) == self.size

    def of(self, matrix: Tensor) -> Tensor:
        """Return the part of the free coordinates of a matrix [size, size]."""
        return matrix if self.all else matrix[self.at[:, None], self.at[None]]

    def among(self, matrix: Tensor) -> Tensor:
        """Return a matrix of the free coordinates among all, 0 elsewhere [size, size]."""
        if self.all:
            return matrix
        out = matrix.new_zeros(self.size, self.size)
        out[self.at[:, None], self.at[None]] = matrix
        return out


@dataclass(frozen=True, eq=False)
class Triangle:
    """A Gaussian by the Cholesky factor L [dimension, dimension] of its precision: F = L^-T is made where asked for."""

    lower: Tensor
    log_det: float
    log_det_error: float = 0.0

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`."""
        return torch.linalg.solve_triangular(self.lower, noise, upper=False, left=False)

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        return (x @ self.lower).square().sum(-1)

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        return torch.cholesky_solve(x[:, None], self.lower)[:, 0]

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        return _inverse(self.lower)


@dataclass(frozen=True, eq=False)
class Axes:
    """A Gaussian by the axes F [dimension, dimension] of its ellipsoid, the columns."""

    matrix: Tensor
    log_det: float
    log_det_error: float = 0.0

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`."""
        return noise @ self.matrix.T

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        return (torch.linalg.solve(self.matrix, x.T) ** 2).sum(0)

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        return self.matrix @ (self.matrix.T @ x)

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        return self.matrix


@dataclass(frozen=True, eq=False)
class Dense:
    """A full matrix [dimension, dimension]."""

    factors: ClassVar[bool] = True

    matrix: Tensor

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        return x @ self.matrix

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`."""
        lower = self._lower if damping == 0 else self._root(damping)
        return None if lower is None else torch.cholesky_solve(gradient[:, None], lower)[:, 0]

    @cached_property
    def _lower(self) -> Tensor | None:
        return self._root(0.0)

    def _root(self, damping: float) -> Tensor | None:
        damped = self.matrix.clone()
        damped.diagonal().add_(damping)
        lower, failed = cholesky(damped)
        return None if failed else lower

    def largest_diagonal(self) -> float:
        """See `Precision`."""
        return float(self.matrix.diagonal().abs().max())

    def partition(self, free: Tensor, held: Tensor) -> tuple[Dense, Tensor]:
        """See `Precision`."""
        at = as_slice(free)
        rest = self.matrix[at]
        return Dense(rest[:, at].contiguous()), rest[:, held]

    def gaussian(self) -> Triangle | Axes:
        """See `Precision`; directions that are nearly flat get the curvature of a unit prior."""
        lower = self._lower
        if lower is not None:
            least, log_det = told_by(lower).tolist()
            if least > FLAT:
                return Triangle(lower, log_det)
        return Axes(*_axes(self.matrix, FLAT))


def cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Cholesky factors of matrices [..., size, size], and which of these have none [...].

    An accelerator does not say so of entries that are no numbers (PyTorch's issue 64818): its factor shows it.
    """
    lower, failed = torch.linalg.cholesky_ex(matrix)
    return lower, (failed > 0) | lower.diagonal(dim1=-2, dim2=-1).isnan().any(-1)


def factor(precision: Tensor, floor: float = FLAT) -> Tensor:
    """Return F [dimension, dimension] with F F^T = precision^-1.

    Directions of curvature below `floor` (a saddle, a rotation that changes nothing) get that of a unit prior.
    """
    lower, failed = cholesky(precision)
    return _inverse(lower) if not failed and float(told_by(lower)[0]) > floor else _axes(precision, floor)[0]


def told_by(lower: Tensor) -> Tensor:
    """Return what is beside FLAT, and log |det F| [..., 2], of Cholesky factors [..., dimension, dimension].

    That is the least squared pivot, or `ACROSS` times the least curvature.
    """
    diagonal = lower.diagonal(dim1=-2, dim2=-1)
    curvature = flattest(lambda x: torch.cholesky_solve(x.unsqueeze(-1), lower)[..., 0], lower[..., 0])
    least = torch.minimum(diagonal.amin(-1).square(), ACROSS * curvature)
    return torch.stack([least, -diagonal.log().sum(-1)], -1)


def flattest(solve: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Return the least curvature [...] of precisions whose inverses `solve` applies to vectors [..., dimension].

    By inverse iteration, which comes to it from above.
    """
    at = (1.7 * torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)).sin().expand(like.shape)
    for _ in range(_TURNS):
        at = solve(at / torch.linalg.vector_norm(at, dim=-1, keepdim=True))
    return 1 / torch.linalg.vector_norm(at, dim=-1)


def _inverse(lower: Tensor) -> Tensor:
    """Return F = L^-T of a Cholesky factor."""
    eye = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower.T, eye, upper=True)


def _axes(precision: Tensor, floor: float) -> tuple[Tensor, float]:
    """Return F with F F^T = precision^-1 and log |det F|, curvature up to `floor` being that of a unit prior."""
    values, vectors = _steep(precision, floor)
    return vectors * values.rsqrt(), -0.5 * float(values.log().sum())


def steepened(precision: Tensor) -> Tensor:
    """Return a precision [dimension, dimension] with the curvature of a unit prior where it has none."""
    values, vectors = _steep(precision, FLAT)
    return (vectors * values) @ vectors.T


def _steep(precision: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(precision)
    return torch.where(values > floor, values, 1.0), vectors


def gaussian_of(precision: Precision) -> Gaussian:
    """Return the Gaussian with this precision.

    Raises
    ------
    FitError
        If it is not positive definite, and too large to mend.
    """
    found = precision.gaussian()
    if found is None:
        raise FitError("the curvature at the mode is not that of a peak in every direction; use method='svi'")
    return found


def as_slice(index: Tensor) -> Tensor | slice:
    """Return an ascending index as a slice where it is a run: what is sliced need not be copied."""
    if not len(index):
        return index
    ends = index[:: max(1, len(index) - 1)].tolist()  # a device is waited for once
    run = slice(ends[0], ends[-1] + 1)
    return run if run.stop - run.start == len(index) else index
