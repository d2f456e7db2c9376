"""Precision matrices too large to factor: steps, draws and log determinants from products alone.

P [dimension, dimension] is sparse: an entry for each pair of coordinates that meet in a comparison. All is asked of
A = D^-1/2 P D^-1/2 with D the diagonal of P. The spectrum of A for a comparison graph that is not too thin lies near
1, so a few dozen products settle everything to rounding.

- Newton's step P^-1 g by conjugate gradients, preconditioned with D. A direction d with d^T P d <= 0 that they meet
  shows that P is not positive definite.
- Draws x = D^-1/2 A^-1/2 e of N(0, P^-1) by the Lanczos process (Chow and Saad 2014, SIAM J. Sci. Comput. 36,
  A588-A608): from e it builds an orthonormal basis Q_m and a tridiagonal T_m = Q_m^T A Q_m, and
  f(A) e ~ |e| Q_m f(T_m) e_1, with f(t) = t^-1/2 taken on the eigenvalues (Ritz values) of T_m.
- log det A = tr log A by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017, SIAM J. Matrix Anal. Appl. 38,
  1075-1099): for random signs v, E v^T log(A) v = tr log A, and v^T log(A) v ~ dimension * sum_i t_i^2 log theta_i
  with theta_i the Ritz values and t_i the first entries of their eigenvectors: the nodes and squared weights of a
  Gauss quadrature. Its standard error over the probes is told.

The common level of utilities is nearly free: one eigenvalue far below the rest costs most of the products. It is found
by inverse iteration and treated apart (deflation).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from prefdensity.inference.ordering import ascending
from prefdensity.inference.precision import as_slice

_SOLVED = 1e-10  # relative residual of a step
# Relative change of a draw over the last products. Single precision is enough where products are dear: with it the
# mean of log p - log q over draws of 10,000 coordinates moved by 4e-5 nats.
_SETTLED = {torch.float64: 1e-7, torch.float32: 1e-3}
_DEAR = 500_000  # entries off the diagonal
_APART = 1e-3  # relative residual of a direction taken for an eigenvector
_PRODUCTS = 400
_PROBES = 32
# Entries of draws that are multiplied together, which a processor's cache holds, and of how many rows at once: the
# product with 26 takes longer than that with 32.
_TOGETHER, _ROWS = 320_000, 16


class Pattern:
    """Where a sparse symmetric matrix has entries, worked out once for many matrices."""

    def __init__(self, rows: Tensor, columns: Tensor, size: int) -> None:
        self.size = size
        alike = rows == columns
        self.same, self.apart = torch.nonzero(alike).flatten(), torch.nonzero(~alike).flatten()
        self.at = rows[self.same]
        low, high = torch.minimum(rows, columns)[self.apart], torch.maximum(rows, columns)[self.apart]
        keys, self.entry = torch.unique(low * size + high, return_inverse=True)
        low, high, each = keys // size, keys % size, torch.arange(len(keys), device=keys.device)
        order = ascending(torch.cat([low * size + high, high * size + low]))
        self.source = torch.cat([each, each])[order]
        counts = torch.bincount(torch.cat([low, high]), minlength=size)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        # short indices: products wait for memory
        self.columns, self.starts = torch.cat([high, low])[order].to(torch.int32), starts.to(torch.int32)

    def fill(self, values: Tensor) -> Sparse:
        """Return the matrix whose entries (i, j) and (j, i) are the sum of the values given for either."""
        diagonal = values.new_zeros(self.size).index_add_(0, self.at, values[self.same])
        once = values.new_zeros(len(self.source) // 2).index_add_(0, self.entry, values[self.apart])
        shape = (self.size, self.size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            side = torch.sparse_csr_tensor(self.starts, self.columns, once[self.source], shape, check_invariants=False)
        return Sparse(side, diagonal)


@dataclass(frozen=True, eq=False)
class Sparse:
    """A sparse symmetric matrix known by its products, or the part of one that belongs to some coordinates.

    Attributes
    ----------
    side
        What is off the diagonal, torch sparse CSR [whole, whole].
    whole_diagonal
        [whole].
    free
        The coordinates that count, int [dimension] or a run of them; None: all.
    """

    factors: ClassVar[bool] = False

    side: Tensor
    whole_diagonal: Tensor
    free: Tensor | slice | None = None

    @property
    def diagonal(self) -> Tensor:
        """[dimension]."""
        return self.whole_diagonal if self.free is None else self.whole_diagonal[self.free]

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        if self.free is None:
            return self._beside(x) + self.whole_diagonal * x
        whole = x.new_zeros(len(x), len(self.whole_diagonal))
        whole[:, self.free] = x
        return self._beside(whole)[:, self.free] + self.diagonal * x

    def _beside(self, x: Tensor) -> Tensor:
        """Return the product with what is off the diagonal."""
        return _Symmetric.apply(self.side, x) if x.requires_grad else _product(self.side, x)  # type: ignore[no-any-return]

    def largest_diagonal(self) -> float:
        """See `Precision`."""
        return float(self.diagonal.abs().max())

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`; by conjugate gradients, which notice a direction without curvature that they meet."""
        diagonal = self.diagonal + damping
        if float(diagonal.min()) <= 0:
            return None
        x, residual = torch.zeros_like(gradient), gradient.clone()
        direction = torch.zeros_like(gradient)
        before, goal = 1.0, _SOLVED**2 * float((gradient**2 / diagonal).sum())
        for _ in range(_PRODUCTS):
            scaled = residual / diagonal
            size = float(residual @ scaled)
            if size <= goal:
                break
            direction = scaled + (size / before) * direction
            product = self.times(direction[None])[0] + damping * direction
            curvature = float(direction @ product)
            if curvature <= 0:
                return None
            x += (size / curvature) * direction
            residual -= (size / curvature) * product
            before = size
        return x

    def partition(self, free: Tensor, held: Tensor) -> tuple[Sparse, Tensor]:
        """See `Precision`; of a whole matrix."""
        pick = self.whole_diagonal.new_zeros(len(held), len(self.whole_diagonal))
        pick[torch.arange(len(held)), held] = 1.0
        at = as_slice(free)  # copied in half the time
        return replace(self, free=at), self.times(pick).T[at]

    def single(self) -> Sparse:
        """Return the same in single precision."""
        row, column, values = self.side.crow_indices(), self.side.col_indices(), self.side.values().float()
        side = torch.sparse_csr_tensor(row, column, values, self.side.shape, check_invariants=False)
        return replace(self, side=side, whole_diagonal=self.whole_diagonal.float())

    def gaussian(self) -> Krylov | None:
        """See `Precision`."""
        if float(self.diagonal.min()) <= 0:
            return None
        found = Krylov(self)
        return found if found.positive else None


class _Symmetric(torch.autograd.Function):
    """Products with a symmetric matrix, whose derivative is another: torch would transpose it, many times as slow."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, x: Tensor) -> Tensor:
        ctx.matrix = matrix
        return _product(matrix, x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, _Symmetric.apply(ctx.matrix, slope)  # type: ignore[no-untyped-call]


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    """Return x @ matrix [row, size]; of one vector, in a third of the time of a narrow matrix."""
    return (matrix @ x[0])[None] if len(x) == 1 else (matrix @ x.T).T


@dataclass(frozen=True, eq=False)
class Krylov:
    """The Gaussian of a `Sparse` precision P = D^1/2 A D^1/2, D its diagonal: F = D^-1/2 A^-1/2."""

    precision: Sparse

    @cached_property
    def _quadrature(self) -> tuple[float, float, bool]:
        """Return log |det F|, its standard error, and whether P looked positive definite, from random signs."""
        diagonal = self.precision.diagonal
        generator = torch.Generator().manual_seed(0)  # the same probes for every matrix: differences are smooth
        signs = torch.randint(0, 2, (_PROBES, len(diagonal)), generator=generator).to(diagonal) * 2 - 1
        short = self._short
        _, (values, vectors) = short._lanczos(signs.to(short.precision.diagonal), torch.log)
        if float(values.min()) <= 0:
            return 0.0, 0.0, False
        each = len(diagonal) * (vectors[:, 0] ** 2 * values.log()).sum(-1)
        error = 0.5 * float(each.std()) / _PROBES**0.5
        return -0.5 * (float(diagonal.log().sum()) + float(each.mean())), error, True

    @cached_property
    def _short(self) -> Krylov:
        """The same in single precision where products are dear."""
        return Krylov(self.precision.single()) if len(self.precision.side.values()) > _DEAR else self

    @property
    def log_det(self) -> float:
        """See `Gaussian`."""
        return self._quadrature[0]

    @property
    def log_det_error(self) -> float:
        """See `Gaussian`."""
        return self._quadrature[1]

    @property
    def positive(self) -> bool:
        """Whether P is positive definite as far as random vectors tell."""
        return self._quadrature[2]

    @cached_property
    def _lowest(self) -> tuple[Tensor, float] | None:
        """The direction [dimension] in which A is least and its value there, where it stands apart.

        By inverse iteration. The common level of utilities, which the prior alone holds, is one: most products would
        go into its share.
        """
        root = self.precision.diagonal.sqrt()
        found = root / root.norm()
        for _ in range(3):
            found = root * self.covariance(root * found)
            found = found / found.norm()
            image = self.precision.times((found / root)[None])[0] / root
            value = float(found @ image)
            if float((image - value * found).norm()) < _APART * value:
                return found, value
        return None

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`."""
        step = max(_ROWS, _TOGETHER // noise.shape[-1] // _ROWS * _ROWS)
        out = torch.empty_like(noise)
        short = self._short
        lowest = None if short is self else self._lowest
        for part, place in zip(noise.split(step), out.split(step), strict=True):
            rest, along = part, torch.zeros_like(part)
            if lowest is not None:
                share = torch.outer(part @ lowest[0], lowest[0])
                rest, along = part - share, share * lowest[1] ** -0.5
            place.copy_(short._lanczos(rest.to(short.precision.diagonal), torch.rsqrt)[0] + along)
        return out.mul_(self.precision.diagonal.rsqrt())

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        return (x * self.precision.times(x)).sum(-1)

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        found = self.precision.newton_step(x, 0.0)
        assert found is not None  # positive definite
        return found

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        return self.precision.diagonal.rsqrt()

    def _lanczos(self, start: Tensor, function: Callable[[Tensor], Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return function(A) start [row, dimension] and the Ritz values and vectors, from products until it settles."""
        root = self.precision.diagonal.rsqrt()
        size = start.norm(dim=-1)
        basis = [start / size[:, None]]
        alpha: list[Tensor] = []
        beta: list[Tensor] = []
        while True:
            here = basis[-1]
            product = root * self.precision.times(root * here)
            alpha.append((here * product).sum(-1))
            product = product - alpha[-1][:, None] * here
            if beta:
                product -= beta[-1][:, None] * basis[-2]
            count, last = len(alpha), min(_PRODUCTS, start.shape[-1])
            if count >= last or (count >= 4 and count % max(1, count // 8) == 0):  # decompositions cost more and more
                values, vectors = _ritz(alpha, beta)
                weight = torch.einsum("rkm,rm,rm->rk", vectors, function(values.clamp_min(1e-300)), vectors[:, 0])
                tail = weight[:, -max(2, count // 4) :].norm(dim=-1) / weight.norm(dim=-1)
                if float(tail.max()) < _SETTLED[start.dtype] or count >= last:
                    break
            beta.append(product.norm(dim=-1).clamp_min(torch.finfo(start.dtype).tiny))
            basis.append(product / beta[-1][:, None])
        out, weight = torch.zeros_like(start), size[:, None] * weight.to(size)
        for k, vector in enumerate(basis):
            out += weight[:, k, None] * vector
        return out, (values, vectors)


def _ritz(alpha: list[Tensor], beta: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the values [row, m] and vectors [row, m, m] of T_m, on the CPU.

    An accelerator takes many times as long for a few small matrices, one after the other.
    """
    diagonal, *beside = (torch.stack(each, -1).double().cpu() for each in (alpha, beta) if each)
    out = torch.diag_embed(diagonal)
    for side in beside:
        out += torch.diag_embed(side, 1) + torch.diag_embed(side, -1)
    values, vectors = torch.linalg.eigh(out)
    return values, vectors
