"""Normalised densities on a domain: their spread over posterior draws, their aggregates over annotators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from prefdensity.density.domains import Domain
from prefdensity.errors import DataError
from prefdensity.words import counted

Array = NDArray[Any]


class Mass(NamedTuple):
    """Posterior of the mass of a region: mean and central interval, each [] or [group]."""

    mean: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class Density:
    """Normalised densities on one domain: draws of a posterior, densities by type, or one known exactly.

    Attributes
    ----------
    log_p
        Log density [draw, point], [draw, group, point] (or without draw), per unit of volume.
    domain
        Points and their volumes.
    dims
        Names of the axes of `log_p`: draw; type or annotator; point.
    groups
        Labels of the types or annotators, the axis before the points.
    effective, k_hat
        Of importance sampling, [draw, (group)]: Kish effective sample size (in draws) and Pareto shape of the
        weights; None on items and grids. Beyond k-hat .7 the normaliser must not be trusted.
    """

    log_p: Array
    domain: Domain
    dims: tuple[str, ...] = ("draw", "point")
    groups: tuple[str, ...] = ()
    effective: Array | None = None
    k_hat: Array | None = None

    def __repr__(self) -> str:
        axes = ", ".join(counted(n, name) for n, name in zip(self.log_p.shape, self.dims, strict=True))
        return f"Density({axes})"

    @property
    def p(self) -> Array:
        """Density, shaped like `log_p`."""
        return np.exp(self.log_p)

    @property
    def draws(self) -> Array:
        """Density [draw, (group,) point]; one draw where it is known exactly."""
        return self.p if "draw" in self.dims else self.p[None]

    @property
    def probability(self) -> Array:
        """Probability of the cell of each point, shaped like `log_p`: sums to 1 over points."""
        return np.exp(self.log_p + self.domain.log_volume)

    def mean(self) -> Density:
        """Return the arithmetic mean over draws: the q that minimises the posterior mean of KL(p || q)."""
        self._require_draws()
        return self._summary(logsumexp(self.log_p, axis=0) - math.log(len(self.log_p)))

    def geometric(self) -> Density:
        """Return the normalised geometric mean over draws: it minimises the posterior mean of KL(q || p)."""
        self._require_draws()
        log_p = self.log_p.mean(0)
        return self._summary(log_p - logsumexp(log_p + self.domain.log_volume, axis=-1, keepdims=True))

    def _summary(self, log_p: Array) -> Density:
        worst = None if self.k_hat is None else self.k_hat.max(0)
        fewest = None if self.effective is None else self.effective.min(0)
        return replace(self, log_p=log_p, dims=self.dims[1:], k_hat=worst, effective=fewest)

    def mass(self, region: ArrayLike) -> Array:
        """Return the probability [draw, (group)] of a region, given as a boolean mask [point].

        Raises
        ------
        DataError
            If the region is not a mask over the points.
        """
        mask = np.asarray(region)
        if mask.dtype != bool or mask.shape != (len(self.domain),):
            raise DataError(f"a region is a boolean mask over {len(self.domain)} points, not {mask.dtype} {mask.shape}")
        return np.asarray(self.probability[..., mask].sum(-1))

    def interval(self, region: ArrayLike, level: float = 0.9) -> Mass:
        """Return posterior mean and central interval of the mass of a region.

        Masses, not density values: the latter depend on the width of a cell, and bands around them
        do not cover.

        Parameters
        ----------
        region
            Boolean mask [point].
        level
            Probability of the interval.

        Raises
        ------
        DataError
            If the region is not a mask, or there are no draws to spread.
        """
        self._require_draws()
        if not 0 < level < 1:
            raise DataError(f"level={level!r} must lie between 0 and 1, like 0.9")
        if len(self.log_p) < 2:
            raise DataError("one draw has no spread, so there is no interval; fit with laplace, svi or nuts")
        mass = self.mass(region)
        lower, upper = np.quantile(mass, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return Mass(mass.mean(0), lower, upper)

    def to_frame(self, level: float = 0.9) -> pd.DataFrame:
        """Return one row per (group and) point.

        Columns: the group, if any; item, or x (x1, x2, ...); density, lower, upper (pointwise central
        interval of probability `level`; empty without draws).
        """
        draws = self.draws
        lower, upper = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        if len(draws) == 1:
            lower, upper = np.full((2, *draws.shape[1:]), np.nan)
        points = self.domain.points.reshape(len(self.domain), -1)
        frame = pd.DataFrame(np.tile(points, (draws[0].size // len(points), 1)), columns=_columns(points))
        if self.groups:
            frame.insert(0, self.dims[-2], np.repeat(self.groups, len(points)))
        frame["density"], frame["lower"], frame["upper"] = draws.mean(0).ravel(), lower.ravel(), upper.ravel()
        return frame

    def _require_draws(self) -> None:
        if "draw" not in self.dims:
            raise DataError("this density has no draws: it is already a summary, or known exactly")


def _columns(points: Array) -> list[str]:
    if points.shape[1] == 1:
        return ["item" if points.dtype.kind == "U" else "x"]
    return [f"x{k + 1}" for k in range(points.shape[1])]


def normalise(
    log_density: ArrayLike | Callable[[Array], Array],
    domain: Domain,
    dims: Sequence[str] = (),
    groups: Sequence[str] = (),
    worst_k_hat: float = 0.7,
) -> Density:
    """Return exp(log_density) / Z on a domain: a softmax on items, a sum over cells, or importance sampling.

    Parameters
    ----------
    log_density
        Up to a constant, [point], [draw, point] or [draw, type, point]; or a function of the points.
    domain
        Where the density lives; outside it the density is 0.
    dims, groups
        Names of the axes, where they are others than those, and labels of the types or annotators.
    worst_k_hat
        With `Domain.samples`: the largest Pareto k-hat of the weights that is accepted; `math.inf` returns
        whatever comes, flagged by its `k_hat`.

    Raises
    ------
    DataError
        If shapes do not match, a row has no finite Z, or the samples cannot carry the density.
    """
    values = np.asarray(log_density(domain.points) if callable(log_density) else log_density, float)
    names = tuple(dims) or (("point",), ("draw", "point"), ("draw", "type", "point"))[min(values.ndim, 3) - 1]
    if values.ndim != len(names) or values.shape[-1] != len(domain):
        raise DataError(f"a log density [{', '.join(names)}] on {len(domain)} points cannot have shape {values.shape}")
    labels = tuple(groups) or _numbered(values, names)
    log_weight = values + domain.log_volume
    log_z = logsumexp(log_weight, axis=-1, keepdims=True)
    if not np.isfinite(log_z).all():
        raise DataError("exp(log_density) has no finite positive integral over these points")
    effective = k_hat = None
    if domain.is_sampled:
        effective = 1 / np.exp(2 * (log_weight - log_z)).sum(-1)
        k_hat = _tail_shape(log_weight)
        if (k_hat > worst_k_hat).any():
            raise DataError(
                f"Pareto k-hat of the importance weights is {k_hat.max():.2f}, above {worst_k_hat:g}: the "
                f"points miss part of the density (effective sample size {effective.min():.0f} of "
                f"{len(domain)}); draw them where it has its mass"
            )
    return Density(values - log_z, domain, names, labels, effective, k_hat)


def _numbered(values: Array, dims: tuple[str, ...]) -> tuple[str, ...]:
    grouped = [n for n, name in zip(values.shape, dims, strict=True) if name not in ("draw", "point")]
    return tuple(str(k + 1) for k in range(grouped[0])) if grouped else ()


def _tail_shape(log_weight: Array) -> Array:
    """Return Pareto k-hat [...] of log weights [..., point]."""
    import torch

    from prefdensity.posterior.psis import smooth

    return smooth(torch.as_tensor(log_weight))[1].numpy()


def mixture(densities: Density, weight: ArrayLike) -> Density:
    """Return sum_k w_k p_k, the density of an item that a random group would produce.

    Parameters
    ----------
    densities
        By type or annotator: log_p [..., group, point].
    weight
        Probabilities [group] or [draw, group].
    """
    shares = _shares(densities, weight)
    with np.errstate(divide="ignore"):
        log_p = logsumexp(densities.log_p + np.log(shares)[..., None], axis=-2)
    return _merged(densities, log_p)


def mean_utility(densities: Density, weight: ArrayLike) -> Density:
    """Return the density proportional to exp(sum_k w_k log p_k): groups average utilities, and each may veto.

    Parameters
    ----------
    densities
        By type or annotator: log_p [..., group, point].
    weight
        Probabilities [group] or [draw, group].
    """
    shares = _shares(densities, weight)[..., None]
    with np.errstate(invalid="ignore"):
        log_p = np.where(shares > 0, shares * densities.log_p, 0.0).sum(-2)
    return _merged(densities, log_p)


def _shares(densities: Density, weight: ArrayLike) -> Array:
    shares = np.asarray(weight, float)
    if not densities.groups or shares.shape[-1:] != densities.log_p.shape[-2:-1]:
        raise DataError(f"weights of shape {shares.shape} do not fit {densities!r}; give one for each group")
    if (shares < 0).any() or not np.allclose(shares.sum(-1), 1):
        raise DataError("weights must be probabilities that sum to 1")
    return shares


def _merged(densities: Density, log_p: Array) -> Density:
    log_p = log_p - logsumexp(log_p + densities.domain.log_volume, axis=-1, keepdims=True)
    dims = (*densities.dims[:-2], "point")
    worst = None if densities.k_hat is None else densities.k_hat.max(-1)
    fewest = None if densities.effective is None else densities.effective.min(-1)
    return Density(log_p, densities.domain, dims, (), fewest, worst)
