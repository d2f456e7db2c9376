"""Precision matrices in which annotators' own entries meet only their own and what all share.

Given the shared coordinates, annotators are independent. With the annotators' entries first, so many for each, the
precision is block diagonal but for a border: an arrowhead,

    P = [ B_1            C_1 ]        B_j  [own, own]    block of annotator j
        [      ...       ... ]        C_j  [own, rest]   its border
        [          B_n   C_n ]        R    [rest, rest]  corner: utilities, scalars
        [ C_1^T .. C_n^T R   ]

Its Cholesky factor has the same zeros, so eliminating annotators first fills nothing in (Rue and Held 2005, Gaussian
Markov Random Fields, section 2.4): B_j = L_j L_j^T, then W_j = L_j^-1 C_j, and what is left of the corner is the Schur
complement S = R - sum_j W_j^T W_j = L_S L_S^T, the precision of the rest with annotators integrated out. Time and
memory are linear in the number of annotators; log det P = sum_j log det B_j + log det S.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from prefdensity.inference.precision import (
    ACROSS,
    FLAT,
    SPECTRAL,
    Dense,
    Gaussian,
    Precision,
    as_slice,
    cholesky,
    flattest,
)

Index = Tensor | slice
_Parts = tuple[Index, Tensor, Index, Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Arrow:
    """Blocks of annotators that meet only the rest: the matrix [[blocks, border], [border^T, corner]] in some order.

    Attributes
    ----------
    blocks
        [annotator, own, own].
    border
        [annotator, own, rest].
    corner
        [rest, rest].
    own_at
        Coordinates of the annotators' own entries, int [annotator, own].
    rest_at
        Coordinates of the rest, int [rest].
    """

    factors: ClassVar[bool] = True

    blocks: Tensor
    border: Tensor
    corner: Tensor
    own_at: Tensor
    rest_at: Tensor

    @property
    def dimension(self) -> int:
        """Of the whole matrix."""
        return self.own_at.numel() + len(self.rest_at)

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        own, rest = x[:, self.own_at], x[:, self.rest_at]  # [row, annotator, own], [row, rest]
        out = torch.empty_like(x)
        out[:, self.rest_at] = rest @ self.corner + own.flatten(1) @ self.border.flatten(0, 1)
        across = (rest @ self.border.flatten(0, 1).T).reshape(own.shape)
        out[:, self.own_at] = across + torch.einsum("rjo,jop->rjp", own, self.blocks)
        return out

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`."""
        found = self._exact if damping == 0 else self._factored(damping)
        return None if found is None else found.covariance(gradient)

    def largest_diagonal(self) -> float:
        """See `Precision`."""
        own = self.blocks.diagonal(dim1=-2, dim2=-1).abs().max()
        return float(torch.maximum(own, self.corner.diagonal().abs().max()))

    def partition(self, free: Tensor, held: Tensor) -> tuple[Precision, Tensor]:
        """See `Precision`."""
        parts = _parted(self.own_at, self.rest_at, free, held)
        if parts is None:
            return Dense(self.dense()).partition(free, held)
        kept, gone, stays, away, place, spot = parts
        cross = self.corner.new_zeros(len(free), len(held))
        rest_at, own_at = place[self.rest_at[stays]], place[self.own_at[:, kept]]
        rest_of, own_of = spot[self.rest_at[away]], spot[self.own_at[:, gone]]
        corner, border = self.corner[stays][:, stays], self.border[:, kept][..., stays]
        cross[rest_at[:, None], rest_of] = self.corner[stays][:, away]
        cross[own_at[..., None], rest_of] = self.border[:, kept][..., away]
        if len(gone):
            cross[rest_at[:, None, None], own_of] = self.border[:, gone][..., stays].permute(2, 0, 1)
            cross[own_at[:, :, None], own_of[:, None]] = self.blocks[:, kept][:, :, gone]
        if not own_at.numel():
            return Dense(torch.empty_like(corner).index_put((rest_at[:, None], rest_at), corner)), cross
        return Arrow(self.blocks[:, kept][:, :, kept], border, corner, own_at, rest_at), cross

    def gaussian(self) -> Gaussian | None:
        """See `Precision`."""
        found = self._exact
        if found is not None and found.least > FLAT:
            return found
        return Dense(self.dense()).gaussian() if self.dimension <= SPECTRAL else None

    def dense(self) -> Tensor:
        """Return the matrix [dimension, dimension]."""
        out = self.corner.new_zeros(self.dimension, self.dimension)
        out[self.rest_at[:, None], self.rest_at[None]] = self.corner
        out[self.own_at[:, :, None], self.own_at[:, None, :]] = self.blocks
        out[self.own_at[:, :, None], self.rest_at] = self.border
        out[self.rest_at[:, None, None], self.own_at] = self.border.permute(2, 0, 1)
        return out

    @cached_property
    def _exact(self) -> ArrowFactor | None:
        return self._factored(0.0)

    def _factored(self, damping: float) -> ArrowFactor | None:
        blocks, corner = self.blocks.clone(), self.corner.clone()
        blocks.diagonal(dim1=-2, dim2=-1).add_(damping)
        corner.diagonal().add_(damping)
        lower, failed = cholesky(blocks)
        whitened = torch.linalg.solve_triangular(lower, self.border, upper=False)
        flat = whitened.flatten(0, 1)
        for rows in torch.arange(len(corner)).chunk(4):  # Cholesky reads the lower triangle only
            here, ahead = slice(int(rows[0]), int(rows[-1]) + 1), slice(0, int(rows[-1]) + 1)
            corner[here, ahead] -= flat[:, here].T @ flat[:, ahead]
        schur, broken = cholesky(corner)
        if failed.any() | broken.any():
            return None
        diagonal = torch.empty(self.dimension, dtype=corner.dtype, device=corner.device)
        diagonal[self.rest_at] = self.corner.diagonal()
        diagonal[self.own_at] = self.blocks.diagonal(dim1=-2, dim2=-1)
        return ArrowFactor(lower, whitened, schur, self.own_at, self.rest_at, diagonal)


@functools.lru_cache(maxsize=4)  # by identity: it is the same for every place, and looking would wait for a device
def _parted(own_at: Tensor, rest_at: Tensor, free: Tensor, held: Tensor) -> _Parts | None:
    """Return which of the annotators' own entries are free and held, which of the rest, and places among both.

    These places are those of every coordinate among `free` and among `held`. None where some annotators' entries are
    free and the same entries of others are held.
    """
    dimension = own_at.numel() + len(rest_at)
    place, spot = torch.full((2, dimension), -1, device=rest_at.device)
    place[free] = torch.arange(len(free), device=free.device)
    spot[held] = torch.arange(len(held), device=held.device)
    own, rest = place[own_at] >= 0, place[rest_at] >= 0
    if (own != own[:1]).any():
        return None
    kept, gone = (torch.nonzero(each).flatten() for each in (own[0], ~own[0]))
    stays, away = (torch.nonzero(each).flatten() for each in (rest, ~rest))
    whole = slice(None) if len(kept) == len(own[0]) else kept
    return whole, gone, as_slice(stays), away, place, spot


@dataclass(frozen=True, eq=False)
class ArrowFactor:
    """The Gaussian of an `Arrow`, annotators eliminated first: P = L L^T, L = [[lower, 0], [whitened^T, schur]].

    Attributes
    ----------
    lower
        [annotator, own, own].
    whitened
        [annotator, own, rest].
    schur
        [rest, rest].
    own_at, rest_at
        As in `Arrow`.
    diagonal
        Of P [dimension].
    """

    lower: Tensor
    whitened: Tensor
    schur: Tensor
    own_at: Tensor
    rest_at: Tensor
    diagonal: Tensor
    log_det_error: float = 0.0

    @property
    def log_det(self) -> float:
        """See `Gaussian`."""
        own = self.lower.diagonal(dim1=-2, dim2=-1).log().sum()
        return -float(own + self.schur.diagonal().log().sum())

    @property
    def least(self) -> float:
        """See `precision.told_by`."""
        pivot = torch.minimum(self.lower.diagonal(dim1=-2, dim2=-1).min(), self.schur.diagonal().min()).square()
        return float(torch.minimum(pivot, ACROSS * flattest(self.covariance, self.diagonal)))

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`: F = L^-T."""
        rest = _backward(self.schur, noise[:, self.rest_at].T).T
        own = noise[:, self.own_at] - (rest @ self.whitened.flatten(0, 1).T).reshape(-1, *self.own_at.shape)
        out = torch.empty_like(noise)
        out[:, self.rest_at] = rest
        out[:, self.own_at] = _backward(self.lower, own.permute(1, 2, 0)).permute(2, 0, 1)
        return out

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        rest = x[:, self.rest_at]
        across = (rest @ self.whitened.flatten(0, 1).T).reshape(-1, *self.own_at.shape)
        own = torch.einsum("rjo,jop->rjp", x[:, self.own_at], self.lower) + across
        return (own**2).flatten(1).sum(-1) + ((rest @ self.schur) ** 2).sum(-1)

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        own = torch.linalg.solve_triangular(self.lower, x[self.own_at].unsqueeze(-1), upper=False).squeeze(-1)
        rest = x[self.rest_at] - own.flatten() @ self.whitened.flatten(0, 1)
        noise = torch.empty_like(x)
        noise[self.own_at] = own
        noise[self.rest_at] = torch.linalg.solve_triangular(self.schur, rest[:, None], upper=False)[:, 0]
        return self.scale(noise[None])[0]

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        if len(self.diagonal) > SPECTRAL:
            return self.diagonal.rsqrt()
        eye = torch.eye(len(self.diagonal), dtype=self.schur.dtype, device=self.schur.device)
        return self.scale(eye).T


def _backward(lower: Tensor, x: Tensor) -> Tensor:
    """Return lower^-T x."""
    return torch.linalg.solve_triangular(lower.mT, x, upper=True)
