"""Normal laws of what comparisons feel, and the terms that stand for their likelihoods, by natural parameters.

A comparison c feels h_c, a few numbers. Both kinds are exp(pull_c h - h precision_c h / 2): the law of h_c under a
Gaussian of everything, and the term by which expectation propagation replaces the likelihood of c. Laws are divided by
terms, which makes cavities, and by other laws, which makes terms.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.inference.precision import cholesky

_SURE = 1e-12  # variance of a margin that nothing can change, such as that of two answers with the same features


@dataclass(frozen=True)
class Terms:
    """Log t_c(h) = pull_c h - h precision_c h / 2: `precision` [comparison, felt, felt], `pull` [felt, comparison]."""

    precision: Tensor
    pull: Tensor

    def log_density(self, felt: Tensor) -> Tensor:
        """Return log t [comparison] of what is felt [felt, comparison]."""
        return (felt * (self.pull - 0.5 * times(self.precision, felt))).sum(0)

    def slope(self, felt: Tensor) -> Tensor:
        """Return the slopes of log t [felt, comparison] at what is felt [felt, comparison]."""
        return self.pull - times(self.precision, felt)

    def towards(self, other: Terms, share: float) -> Terms:
        """Return what lies so far on the way to others."""
        return Terms(
            self.precision + share * (other.precision - self.precision), self.pull + share * (other.pull - self.pull)
        )


@dataclass(frozen=True)
class Laws:
    """Normal laws of what comparisons feel: `mean` [felt, comparison], `precision` [comparison, felt, felt]."""

    mean: Tensor
    precision: Tensor

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> Laws:
        """Return those of means and covariances [comparison, felt, felt]."""
        sure = _SURE * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        return cls(mean, torch.linalg.inv(covariance + sure))

    def without(self, terms: Terms) -> Laws | None:
        """Return the laws without the terms: the cavities; None where one is no law."""
        precision = self.precision - terms.precision
        lower, failed = cholesky(precision)
        if bool(failed.any()):
            return None
        pull = times(self.precision, self.mean) - terms.pull
        return Laws(torch.cholesky_solve(pull.T[..., None], lower)[..., 0].T, precision)

    def over(self, cavity: Laws) -> Terms:
        """Return the terms by which cavities become these."""
        pull = times(self.precision, self.mean) - times(cavity.precision, cavity.mean)
        return Terms(self.precision - cavity.precision, pull)

    @property
    def log_mass(self) -> Tensor:
        """Log of what exp(pull h - h precision h / 2) holds [comparison], but for powers of 2 pi."""
        square = (self.mean * times(self.precision, self.mean)).sum(0)
        return 0.5 * (square - torch.linalg.slogdet(self.precision)[1])

    @property
    def frame(self) -> Tensor:
        """Lower R with R R^T the covariance [comparison, felt, felt]."""
        return torch.linalg.cholesky(torch.linalg.inv(self.precision))

    @property
    def deviation(self) -> Tensor:
        """[felt, comparison]."""
        return torch.linalg.inv(self.precision).diagonal(dim1=-2, dim2=-1).sqrt().T


def times(matrix: Tensor, felt: Tensor) -> Tensor:
    """Return matrices [comparison, felt, felt] times vectors [felt, comparison]."""
    return torch.einsum("cjk,kc->jc", matrix, felt)


def pairs(size: int) -> list[tuple[int, int]]:
    """Return every two of so many numbers felt, and each with itself."""
    return list(itertools.combinations_with_replacement(range(size), 2))
