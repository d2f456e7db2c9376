"""Precision matrices (minus the Hessian of a log density), and the Gaussians that have them.

`Dense` is a matrix. `Arrow` has small blocks, one for each annotator, that meet only the rest: eliminating the
annotators first costs time linear in their number (Rue and Held 2005, Gaussian Markov Random Fields, section 2.4).
What is too large for either is known by its products alone: `prefdensity.inference.krylov`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from prefdensity.errors import FitError

# Largest dimension for which a full matrix is formed (200 MB in float64).
DENSE = 5000
# Curvature of a posterior below this (a standard deviation of 30) is no curvature: priors are tighter.
_FLAT = 1e-3
# Largest matrix that is decomposed into eigenvalues when it is not positive definite.
_SPECTRAL = 5000


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

    def climb(self, gradient: Tensor, damping: float) -> Tensor | None:
        """Return (P + damping I)^-1 gradient [dimension]; None where that matrix is not positive definite."""

    def largest(self) -> float:
        """Return the largest entry of the diagonal."""

    def part(self, free: Tensor, held: Tensor) -> tuple[Precision, Tensor]:
        """Return P of the coordinates `free`, and P[free, held] [free, held]."""

    def gaussian(self) -> Gaussian | None:
        """Return the Gaussian with this precision; None where P is not positive definite and too large to mend."""


@dataclass(frozen=True, eq=False)
class Triangle:
    """A Gaussian by the Cholesky factor L [dimension, dimension] of its precision: F = L^-T is made where asked for."""

    lower: Tensor
    log_det_error: float = 0.0

    @cached_property
    def log_det(self) -> float:
        """See `Gaussian`."""
        return -float(self.lower.diagonal().log().sum())

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

    def climb(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`."""
        lower = self._lower if damping == 0 else self._root(damping)
        return None if lower is None else torch.cholesky_solve(gradient[:, None], lower)[:, 0]

    @cached_property
    def _lower(self) -> Tensor | None:
        return self._root(0.0)

    def _root(self, damping: float) -> Tensor | None:
        damped = self.matrix.clone()
        damped.diagonal().add_(damping)
        lower, failed = torch.linalg.cholesky_ex(damped)
        return None if failed else lower

    def largest(self) -> float:
        """See `Precision`."""
        return float(self.matrix.diagonal().abs().max())

    def part(self, free: Tensor, held: Tensor) -> tuple[Dense, Tensor]:
        """See `Precision`."""
        rest = self.matrix[_run(free)]
        return Dense(rest[:, _run(free)].contiguous()), rest[:, held]

    def gaussian(self) -> Triangle | Axes:
        """See `Precision`; directions that are nearly flat get the curvature of a unit prior."""
        lower = self._lower
        if lower is not None and _is_steep(lower, _FLAT):
            return Triangle(lower)
        return Axes(*_axes(self.matrix, _FLAT))


def factor(precision: Tensor, floor: float = _FLAT) -> Tensor:
    """Return F [dimension, dimension] with F F^T = precision^-1.

    Directions of curvature below `floor` (a saddle, a rotation that changes nothing) get that of a unit prior.
    """
    lower, failed = torch.linalg.cholesky_ex(precision)
    return _inverse(lower) if not failed and _is_steep(lower, floor) else _axes(precision, floor)[0]


def _is_steep(lower: Tensor, floor: float) -> bool:
    return float(lower.diagonal().min()) ** 2 > floor


def _inverse(lower: Tensor) -> Tensor:
    """Return F = L^-T of a Cholesky factor."""
    eye = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
    return torch.linalg.solve_triangular(lower.T, eye, upper=True)


def _axes(precision: Tensor, floor: float) -> tuple[Tensor, float]:
    """Return F with F F^T = precision^-1 and log |det F|, curvature up to `floor` being that of a unit prior."""
    values, vectors = torch.linalg.eigh(precision)
    values = torch.where(values > floor, values, 1.0)
    return vectors * values.rsqrt(), -0.5 * float(values.log().sum())


@dataclass(frozen=True, eq=False)
class Arrow:
    """Blocks of annotators that meet only the rest: the matrix [[tip, arm], [arm^T, corner]] in some order.

    Attributes
    ----------
    tip
        [annotator, own, own].
    arm
        [annotator, own, rest].
    corner
        [rest, rest].
    outer
        Coordinates of the annotators' own entries, int [annotator, own].
    inner
        Coordinates of the rest, int [rest].
    """

    factors: ClassVar[bool] = True

    tip: Tensor
    arm: Tensor
    corner: Tensor
    outer: Tensor
    inner: Tensor

    @property
    def dimension(self) -> int:
        """Of the whole matrix."""
        return self.outer.numel() + len(self.inner)

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        own, rest = x[:, self.outer], x[:, self.inner]  # [row, annotator, own], [row, rest]
        out = torch.empty_like(x)
        out[:, self.inner] = rest @ self.corner + own.flatten(1) @ self.arm.flatten(0, 1)
        across = (rest @ self.arm.flatten(0, 1).T).reshape(own.shape)
        out[:, self.outer] = across + torch.einsum("rjo,jop->rjp", own, self.tip)
        return out

    def climb(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`."""
        found = self._exact if damping == 0 else self._factored(damping)
        return None if found is None else found.covariance(gradient)

    def largest(self) -> float:
        """See `Precision`."""
        return float(max(self.tip.diagonal(dim1=-2, dim2=-1).abs().max(), self.corner.diagonal().abs().max()))

    def part(self, free: Tensor, held: Tensor) -> tuple[Arrow, Tensor]:
        """See `Precision`; none of `held` is an annotator's."""
        place = torch.full((self.dimension,), -1, device=self.inner.device)
        place[free] = torch.arange(len(free), device=free.device)
        stays = _run(torch.nonzero(place[self.inner] >= 0).flatten())
        spot = torch.empty_like(place)
        spot[self.inner] = torch.arange(len(self.inner), device=place.device)
        away = spot[held]
        cross = torch.empty(len(free), len(held), dtype=self.corner.dtype, device=self.corner.device)
        cross[place[self.inner[stays]]] = self.corner[stays][:, away]
        cross[place[self.outer]] = self.arm[..., away]
        rest = Arrow(
            self.tip,
            self.arm[..., stays],
            self.corner[stays][:, stays],
            place[self.outer],
            place[self.inner[stays]],
        )
        return rest, cross

    def gaussian(self) -> Gaussian | None:
        """See `Precision`."""
        found = self._exact
        if found is not None and found.least > _FLAT:
            return found
        return Dense(self.dense()).gaussian() if self.dimension <= _SPECTRAL else None

    def dense(self) -> Tensor:
        """Return the matrix [dimension, dimension]."""
        out = self.corner.new_zeros(self.dimension, self.dimension)
        out[self.inner[:, None], self.inner[None]] = self.corner
        out[self.outer[:, :, None], self.outer[:, None, :]] = self.tip
        out[self.outer[:, :, None], self.inner] = self.arm
        out[self.inner[:, None, None], self.outer] = self.arm.permute(2, 0, 1)
        return out

    @cached_property
    def _exact(self) -> Eliminated | None:
        return self._factored(0.0)

    def _factored(self, damping: float) -> Eliminated | None:
        tip, corner = self.tip.clone(), self.corner.clone()
        tip.diagonal(dim1=-2, dim2=-1).add_(damping)
        corner.diagonal().add_(damping)
        lower, failed = torch.linalg.cholesky_ex(tip)
        if failed.any():
            return None
        reach = torch.linalg.solve_triangular(lower, self.arm, upper=False)
        flat = reach.flatten(0, 1)
        for rows in torch.arange(len(corner)).chunk(4):  # Cholesky reads the lower triangle only
            here, ahead = slice(int(rows[0]), int(rows[-1]) + 1), slice(0, int(rows[-1]) + 1)
            corner[here, ahead] -= flat[:, here].T @ flat[:, ahead]
        schur, failed = torch.linalg.cholesky_ex(corner)
        if failed.any():
            return None
        diagonal = torch.empty(self.dimension, dtype=corner.dtype, device=corner.device)
        diagonal[self.inner] = self.corner.diagonal()
        diagonal[self.outer] = self.tip.diagonal(dim1=-2, dim2=-1)
        return Eliminated(lower, reach, schur, self.outer, self.inner, diagonal)


@dataclass(frozen=True, eq=False)
class Eliminated:
    """The Gaussian of an `Arrow`, annotators eliminated first: P = L L^T, L = [[lower, 0], [reach^T, schur]].

    Attributes
    ----------
    lower
        [annotator, own, own].
    reach
        [annotator, own, rest].
    schur
        [rest, rest].
    outer, inner
        As in `Arrow`.
    diagonal
        Of P [dimension].
    """

    lower: Tensor
    reach: Tensor
    schur: Tensor
    outer: Tensor
    inner: Tensor
    diagonal: Tensor
    log_det_error: float = 0.0

    @property
    def log_det(self) -> float:
        """See `Gaussian`."""
        tips = self.lower.diagonal(dim1=-2, dim2=-1).log().sum()
        return -float(tips + self.schur.diagonal().log().sum())

    @property
    def least(self) -> float:
        """The smallest squared pivot."""
        return float(min(self.lower.diagonal(dim1=-2, dim2=-1).min(), self.schur.diagonal().min())) ** 2

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`: F = L^-T."""
        rest = _backward(self.schur, noise[:, self.inner].T).T
        own = noise[:, self.outer] - (rest @ self.reach.flatten(0, 1).T).reshape(-1, *self.outer.shape)
        out = torch.empty_like(noise)
        out[:, self.inner] = rest
        out[:, self.outer] = _backward(self.lower, own.permute(1, 2, 0)).permute(2, 0, 1)
        return out

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        rest = x[:, self.inner]
        across = (rest @ self.reach.flatten(0, 1).T).reshape(-1, *self.outer.shape)
        own = torch.einsum("rjo,jop->rjp", x[:, self.outer], self.lower) + across
        return (own**2).flatten(1).sum(-1) + ((rest @ self.schur) ** 2).sum(-1)

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        own = torch.linalg.solve_triangular(self.lower, x[self.outer].unsqueeze(-1), upper=False).squeeze(-1)
        rest = x[self.inner] - own.flatten() @ self.reach.flatten(0, 1)
        noise = torch.empty_like(x)
        noise[self.outer] = own
        noise[self.inner] = torch.linalg.solve_triangular(self.schur, rest[:, None], upper=False)[:, 0]
        return self.scale(noise[None])[0]

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        if len(self.diagonal) > _SPECTRAL:
            return self.diagonal.rsqrt()
        eye = torch.eye(len(self.diagonal), dtype=self.schur.dtype, device=self.schur.device)
        return self.scale(eye).T


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


def _backward(lower: Tensor, x: Tensor) -> Tensor:
    """Return lower^-T x."""
    return torch.linalg.solve_triangular(lower.mT, x, upper=True)


def _run(index: Tensor) -> Tensor | slice:
    """Return an ascending index as a slice where it is a run: what is sliced need not be copied."""
    if not len(index):
        return index
    start, stop = int(index[0]), int(index[-1]) + 1
    return slice(start, stop) if stop - start == len(index) else index
