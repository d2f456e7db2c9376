"""Where a density lives: points with volumes, so that every integral is one weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdensity.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Domain:
    """Points with volumes: the integral of f is sum(exp(log_volume) * f(points)).

    Make one with `Domain.items`, `Domain.grid` or `Domain.samples`.

    Attributes
    ----------
    points
        Coordinates [point] or [point, dimension], in the user's units; of items their labels [point].
    log_volume
        Log volume [point] that each point stands for, in units of the coordinates; 0 for items.
    shape
        Points along each axis of a grid, the first axis slowest, as in ``density.p.reshape(domain.shape)``.
    is_sampled
        The points are random draws, so that integrals carry Monte-Carlo error.
    """

    points: Array
    log_volume: Array
    shape: tuple[int, ...]
    is_sampled: bool = False

    @classmethod
    def items(cls, labels: Sequence[str]) -> Domain:
        """Return the finite set of items called `labels`; densities on it are probabilities.

        Raises
        ------
        DataError
            If there are no labels, or two are equal.
        """
        names = [str(label) for label in labels]
        if not names or len(set(names)) < len(names):
            raise DataError(f"a domain of items needs distinct labels, and at least one; it got {len(names)}")
        return cls(np.array(names), np.zeros(len(names)), (len(names),))

    @classmethod
    def grid(
        cls,
        lower: float | Sequence[float],
        upper: float | Sequence[float],
        size: int | Sequence[int],
        rule: str = "midpoint",
    ) -> Domain:
        """Return a regular grid on an interval, or on a box when ends and sizes are sequences.

        Parameters
        ----------
        lower, upper
            Ends of each axis, in the user's units.
        size
            Points along each axis; eight or more for the standard deviation of the narrowest bump.
        rule
            "midpoint": points at the centres of equal cells; "trapezoid": points from end to end.

        Raises
        ------
        DataError
            If the ends, sizes or rule are not possible.
        """
        low, high, sizes = np.broadcast_arrays(*map(np.atleast_1d, (lower, upper, size)))
        if rule not in ("midpoint", "trapezoid"):
            raise DataError(f"rule={rule!r} is unknown; use 'midpoint' or 'trapezoid'")
        if not np.isfinite([low, high]).all() or (low >= high).any() or (sizes < 2).any():
            raise DataError(
                "a grid needs finite ends, lower < upper, and two points on an axis or more; it got "
                f"{lower} to {upper} with size {size}"
            )
        axes = [_axis(*each, rule) for each in zip(low.tolist(), high.tolist(), sizes.tolist(), strict=True)]
        points, volumes = (np.meshgrid(*each, indexing="ij") for each in zip(*axes, strict=True))
        table = np.stack([each.ravel() for each in points], -1)
        log_volume = np.log(volumes).sum(0).ravel()
        return cls(table[:, 0] if len(axes) == 1 else table, log_volume, tuple(sizes.tolist()))

    @classmethod
    def samples(cls, points: ArrayLike, log_q: ArrayLike) -> Domain:
        """Return independent draws from a proposal q, for importance sampling.

        Parameters
        ----------
        points
            Draws [point] or [point, dimension]. Draw them where utilities were learned: from the
            proposal of the pairs, or a pretrained model. Elsewhere the answer is the prior.
        log_q
            Normalised log density of q at the draws [point].

        Raises
        ------
        DataError
            If lengths differ or `log_q` is not finite.
        """
        x, log_density = np.asarray(points), np.asarray(log_q, float)
        if log_density.shape != x.shape[:1] or len(x) < 2 or not np.isfinite(log_density).all():
            raise DataError(
                f"log_q must be one finite number for each of two or more draws; it has shape "
                f"{log_density.shape} for points of shape {x.shape}"
            )
        return cls(x, -log_density - np.log(len(x)), (len(x),), is_sampled=True)

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        return f"Domain({' x '.join(map(str, self.shape))} {'samples' if self.is_sampled else 'points'})"

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the points: of items their names, of numbers six digits."""
        if self.points.dtype.kind == "U":
            return tuple(map(str, self.points))
        rows = self.points.reshape(len(self), -1)
        return tuple(", ".join(f"{x:g}" for x in row) for row in rows)

    def equals(self, other: Domain) -> bool:
        """Return whether both have the same points and volumes."""
        return self is other or (
            np.array_equal(self.points, other.points) and np.array_equal(self.log_volume, other.log_volume)
        )


def _axis(lower: float, upper: float, size: int, rule: str) -> tuple[Array, Array]:
    """Return points and volumes of one axis."""
    if rule == "midpoint":
        step = (upper - lower) / size
        return lower + step * (np.arange(size) + 0.5), np.full(size, step)
    points = np.linspace(lower, upper, size)
    volumes = np.full(size, points[1] - points[0])
    volumes[[0, -1]] /= 2
    return points, volumes
