"""Discrepancies: how far counts depart from what a program expects, each a sum over annotators, pairs or items.

Sums of squares grow with any departure of their kind; realised at draws of the posterior they follow Gelman, Meng
and Stern (1996), Statistica Sinica 6, 733-807. Signed ones are score tests along one direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.checking.replication import Design, Expectation, Residuals, Tangent, sums

Array = NDArray[Any]

_LEFT = 1e-6  # share of a direction that must be left when utilities of items are taken out
_CLEAR = 1.0  # standard errors from a draw that make a majority clear
_LEAST = 1e-12


@dataclass(frozen=True)
class Discrepancy:
    """One statistic of residuals.

    Attributes
    ----------
    name
        As in tables of checks.
    parts
        (residuals, directions) -> [unit, draw]; the statistic is their sum.
    unit
        annotator, pair or item: whose the parts are; "": annotators where they are known, otherwise pairs.
    asks
        The question to the program.
    above, below
        What it means when the data exceed, or fall short of, what is expected. Without `below` only an excess
        speaks against the program.
    lacks
        (design, directions) -> why it cannot be computed, or "".
    """

    name: str
    parts: Callable[[Residuals, Directions], Array]
    unit: str
    asks: str
    above: str
    below: str = ""
    lacks: Callable[[Design, Directions], str] = lambda design, d: ""


class Directions:
    """Directions [cell, draw] along which residuals may lean, less what utilities of items can stand for.

    Those that are functions of the margins are so draw by draw: what was fitted has followed the chance of the data, so
    that residuals lean along functions of the fit even if the program is right, the more the more was fitted. Given
    the margins of a draw of the posterior they do not lean on average.

    Attributes
    ----------
    tangent
        What was taken out.
    along
        name -> direction; absent where the data lack it or nothing of it is left.
    """

    def __init__(self, expected: Expectation) -> None:
        design, margin = expected.design, expected.margin
        self.tangent = Tangent(expected)
        raw = {"calibration": margin**3}
        if design.first is not None:
            raw["order"] = design.first[:, None]
        for index, name in enumerate(design.data.covariate_names):
            raw[f"covariate {name}"] = design.covariates[:, [index]]
        weight = self.tangent.weight
        self.along: dict[str, Array] = {}
        for name, direction in raw.items():
            rest = self.tangent.without(direction)
            if (weight @ rest**2).sum() > _LEFT * (weight @ direction**2).sum():
                self.along[name] = rest
        if design.data.n_ties:
            size = np.abs(margin)
            self.along["ties"] = size - (expected.tie_v * size).sum(0) / expected.tie_v.sum(0)


def pair_fit(r: Residuals, d: Directions) -> Array:
    """Return squared standardised residuals of the pairs, utilities refitted: Pearson's chi-square."""
    return (r.design.pair @ d.tangent.refitted(r)) ** 2 / (r.design.pair @ r.v)


def form_fit(r: Residuals, d: Directions) -> Array:
    """Return `pair_fit` less what another curve of choice explains, taken off the pairs in proportion."""
    parts = pair_fit(r, d)
    curve = leaning("calibration")(r, d).sum(0) ** 2 if "calibration" in d.along else 0.0
    return parts * (1 - curve / np.maximum(parts.sum(0), _LEAST))


def item_totals(r: Residuals, d: Directions) -> Array:
    """Return squared standardised residuals of the total scores of the items."""
    sides = r.design.sides.T
    return (sides @ r.e) ** 2 / np.maximum(abs(sides) @ r.v, _LEAST)


def leaning(name: str) -> Callable[[Residuals, Directions], Array]:
    """Return the discrepancy that sums residuals along a direction: standard normal if there is nothing."""

    def parts(r: Residuals, d: Directions) -> Array:
        h = d.along[name]
        matrix = r.design.pair if r.design.annotator is None else r.design.annotator
        e, v = (r.ties, r.expected.tie_v) if name == "ties" else (r.e, r.v)
        return matrix @ (e * h) / np.sqrt(np.maximum((v * h**2).sum(0), _LEAST))

    return parts


def tastes(r: Residuals, d: Directions) -> Array:
    """Return squared residuals of the totals of items with each annotator: the score test of own utilities."""
    matrix, who = r.design.taste
    return _by_annotator(who, r) @ (matrix @ r.e) ** 2 / (2 * r.v.sum(0))


def own_tastes(r: Residuals, d: Directions) -> Array:
    """Return `tastes` less what a larger or smaller weight of the common utilities explains."""
    matrix, who = r.design.taste
    people = r.design.annotator
    slope = people @ (r.e * r.margin) / np.maximum(people @ (r.v * r.margin**2), _LEAST)
    rest = matrix @ r.e - (matrix @ (r.v * r.margin)) * slope[who]
    return _by_annotator(who, r) @ rest**2 / (2 * r.v.sum(0))


def slopes(r: Residuals, d: Directions) -> Array:
    """Return squared standardised slopes of residuals on margins by annotator: the score test of reliability."""
    people = r.design.annotator
    return (people @ (r.e * r.margin)) ** 2 / np.maximum(people @ (r.v * r.margin**2), _LEAST)


def accuracy(r: Residuals, d: Directions) -> Array:
    """Return squared standardised excess agreement with the program's favourites, by annotator."""
    people = r.design.annotator
    return (people @ (r.e * np.sign(r.margin))) ** 2 / np.maximum(people @ r.v, _LEAST)


def order_habits(r: Residuals, d: Directions) -> Array:
    """Return squared standardised leanings to the side shown first by annotator, about their mean."""
    first = r.design.first[:, None]
    return _spread(r, r.e * first, r.v * first**2)


def tie_habits(r: Residuals, d: Directions) -> Array:
    """Return squared standardised excess numbers of ties by annotator, about their mean."""
    return _spread(r, r.ties, r.expected.tie_v)


def _spread(r: Residuals, e: Array, v: Array) -> Array:
    total, size = r.design.annotator @ e, r.design.annotator @ v
    mean = total.sum(0) / np.maximum(size.sum(0), _LEAST)
    return (total - mean * size) ** 2 / np.maximum(size, _LEAST)


def _by_annotator(who: Array, r: Residuals) -> Any:
    return sums(who, r.design.annotator.shape[0])


def agreement(r: Residuals, d: Directions) -> Array:
    """Return by pair the mean correlation of residuals of two annotators who judge the same pair."""
    design = r.design
    within, _, pair = design.repeats
    e = d.tangent.refitted(r)
    apart = (design.pair @ e) ** 2 - sums(pair, len(design.pair_items)) @ (within @ e) ** 2
    return apart / (shared(design) * _unit_variance(r))


def self_agreement(r: Residuals, d: Directions) -> Array:
    """Return by annotator the mean correlation of residuals of two judgements of the same pair."""
    within, who, _ = r.design.repeats
    apart = (within @ r.e) ** 2 - within @ r.squares
    return _by_annotator(who, r) @ apart / (repeated(r.design) * _unit_variance(r))


def _unit_variance(r: Residuals) -> Array:
    return r.v.sum(0) / r.design.total.sum()


def shared(design: Design) -> float:
    """Return how many ordered pairs of judgements of one pair of items come from two annotators."""
    return _meetings(design.pair, design) - repeated(design)


def repeated(design: Design) -> float:
    """Return how many ordered pairs of judgements of one pair of items come from one annotator."""
    return _meetings(design.repeats[0], design)


def _meetings(matrix: Any, design: Design) -> float:
    size = matrix @ design.total
    return float((size * (size - 1)).sum())


def cycles(r: Residuals, d: Directions) -> Array:
    """Return by item the share of triads that majorities send round in a circle, of those all strictly decided."""
    return _cycles_of_items(r, 0.0)


def clear_cycles(r: Residuals, d: Directions) -> Array:
    """Return `cycles` of which every majority lies a standard error or more from a draw."""
    return _cycles_of_items(r, _CLEAR)


def _cycles_of_items(r: Residuals, clear: float) -> Array:
    triads, ends, size = r.design.triads, r.design.pair_items, len(r.design.data.items)
    circular, decided = _circles(r.design.pair, triads, r, clear)
    i, j, k = ends[triads[:, 0], 0], ends[triads[:, 0], 1], ends[triads[:, 1], 1]
    return sum(sums(items, size) @ circular for items in (i, j, k)) / (3 * np.maximum(decided, 1))


def own_cycles(r: Residuals, d: Directions) -> Array:
    """Return by annotator the share of triads that the annotator's own answers send round in a circle."""
    within, who, _ = r.design.repeats
    circular, decided = _circles(within, r.design.own_triads, r, 0.0)
    return _by_annotator(who[r.design.own_triads[:, 0]], r) @ circular / np.maximum(decided, 1)


def _circles(matrix: Any, triads: Array, r: Residuals, clear: float) -> tuple[Array, Array]:
    """Return whether triads are circular [triad, draw], and how many are strictly decided [draw]."""
    lead = matrix @ (r.count[0] - r.count[1])
    side = np.sign(lead).astype(np.int8)
    is_clear = np.abs(lead) >= clear * np.sqrt(matrix @ r.design.total)[:, None]
    ij, jk, ik = (side[edge] for edge in triads.T)
    decided = (ij != 0) & (jk != 0) & (ik != 0)
    circular = decided & (ij == jk) & (ij == -ik) & is_clear[triads].all(1)
    return circular.astype(float), decided.sum(0)
