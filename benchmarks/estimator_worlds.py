"""Worlds for estimators: labels, what judges say of them, and what everything costs; NumPy alone, for all peers."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LABEL = 10.0  # what a label costs beyond the judges
MEAN = 0.5
CLUSTERS = 40
LEVEL = 0.9


@dataclass(frozen=True)
class World:
    """A law of units.

    Attributes
    ----------
    draw
        From a generator, a number of units and how many of them are the pilot's to labels [unit] and what judges say
        [unit, judge].
    truth
        Mean of labels.
    prices
        Of each judge.
    clusters
        Whether units come in `CLUSTERS` groups of a replicate, by row modulo.
    back
        From what judges say [unit, judge] to the chance that a label that is asked for comes back; None: all do. The
        pilot's came.
    """

    draw: Callable[[np.random.Generator, int, int], tuple[Array, Array]]
    truth: float = MEAN
    prices: tuple[float, ...] = (1.0,)
    clusters: bool = False
    back: Callable[[Array], Array] | None = None


@dataclass(frozen=True)
class Size:
    """How many units a pilot measures wholly, what money is left then, and from how many units there is to buy."""

    pilot: int
    money: float
    units: int


SIZES = {"60": Size(20, 400.0, 1000), "400": Size(100, 3000.0, 6000)}  # by labels, all money spent on them


def _normal(rng: np.random.Generator, n: int) -> Array:
    return MEAN + rng.normal(size=n)


def _heard(slope: float, shift: float, noise: float) -> Callable[[np.random.Generator, int, int], tuple[Array, Array]]:
    """Return a world of normal labels and a judge who says slope y + shift + noise."""

    def draw(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
        y = _normal(rng, n)
        return y, (slope * y + shift + noise * rng.normal(size=n))[:, None]

    return draw


def _two(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    y, shared = _normal(rng, n), 0.5 * rng.normal(size=n)
    return y, y[:, None] + shared[:, None] + rng.normal(size=(n, 2)) * [0.9, 0.3]


def _rare(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    y = (rng.random(n) < 0.05).astype(float)
    return y, (rng.random(n) < np.where(y == 1, 0.9, 0.02)).astype(float)[:, None]


def _heavy(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    y = MEAN + rng.standard_t(3, n)
    return y, (np.clip(y, -4, 5) + rng.normal(size=n))[:, None]


def _grouped(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    group = np.arange(n) % CLUSTERS
    y = MEAN + (rng.normal(size=CLUSTERS) * 0.45)[group] + 0.9 * rng.normal(size=n)
    taste = (rng.normal(size=CLUSTERS) * 0.3)[group]  # judges err by group, too
    return y, (y + taste + 0.5 * rng.normal(size=n))[:, None]


def _drifting(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    y, late = _normal(rng, n), np.arange(n) >= pilot
    return y, np.where(late, 0.6 * y + 1 + 0.6 * rng.normal(size=n), y + 0.6 * rng.normal(size=n))[:, None]


def _asymmetric(rng: np.random.Generator, n: int, pilot: int) -> tuple[Array, Array]:
    """The label is by how much output 1 is better; the judge leans to output 1, and says first, second or neither."""
    y = _normal(rng, n)
    felt = y + 0.7 + 0.6 * rng.normal(size=n)
    return y, np.where(felt > 0.3, 1.0, np.where(felt < -0.3, -1.0, 0.0))[:, None]


def _by_what_is_said(said: Array) -> Array:
    """Return the chance to come back, the larger the better a judge thinks of the unit."""
    return np.asarray(1 / (1 + np.exp(-1.5 - said[:, 0])))


WORLDS = {
    "informative": World(_heard(1.0, 0.0, 0.5)),
    "weak": World(_heard(1.0, 0.0, 2.0)),
    "uninformative": World(_heard(0.0, 0.0, 1.0)),
    "biased": World(_heard(1.4, 2.0, 0.8)),
    "anti-informative": World(_heard(-1.0, 0.0, 0.6)),
    "two correlated judges": World(_two, prices=(0.3, 1.0)),
    "rare event": World(_rare, truth=0.05),
    "heavy tails": World(_heavy),
    "clusters": World(_grouped, clusters=True),
    "drift": World(_drifting),
    "asymmetric outputs": World(_asymmetric),
    "labels lost": World(_heard(1.0, 0.0, 0.5), back=_by_what_is_said),
}


def units(world: str, size: str, replicate: int) -> tuple[Array, Array]:
    """Return labels [unit] and what judges say [unit, judge] of a pilot and, after it, of what there is to buy from."""
    n, pilot = SIZES[size].pilot + SIZES[size].units, SIZES[size].pilot
    rng = np.random.default_rng([zlib.crc32(world.encode()), int(size), replicate])
    return WORLDS[world].draw(rng, n, pilot)


def lost(world: str, size: str, replicate: int, said: Array) -> Array:
    """Return of which units a label would be lost, bool [unit]."""
    back, pilot = WORLDS[world].back, SIZES[size].pilot
    out = np.zeros(len(said), bool)
    if back is not None:
        rng = np.random.default_rng([zlib.crc32(world.encode()), int(size), replicate, 1])
        out[pilot:] = (rng.random(len(said)) > back(said))[pilot:]
    return out
