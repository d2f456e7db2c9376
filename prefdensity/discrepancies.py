"""Discrepancies: where counts may depart from what a program expects, each a sum over annotators, pairs or items.

Squared ones (Gelman, Meng and Stern 1996, Statistica Sinica 6, 733-807) grow with any departure of their kind; signed
ones are score tests along one direction, made blind to what utilities of items can stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.replication import Design, Expectation, Residuals, Tangent, sums

Array = NDArray[Any]

_SAME = 1e-6  # share of a direction that must be left when utilities of items are taken out


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
        annotator, pair or item: who the parts belong to.
    signed
        Both signs speak against the program; otherwise only large values do.
    question
        What it asks of the program.
    lacks
        Why it cannot be computed for a design, or "".
    """

    name: str
    parts: Callable[[Residuals, Directions], Array]
    unit: str
    signed: bool
    question: str
    lacks: Callable[[Design, Directions], str] = lambda design, d: ""


class Directions:
    """Directions [cell] in which residuals may lean, less what utilities of items can stand for.

    Attributes
    ----------
    tangent
        What is taken out.
    along
        name -> direction; absent where nothing of it is left, or the data lack it.
    """

    def __init__(self, expected: Expectation) -> None:
        design, margin = expected.design, expected.margin.mean(1)
        self.tangent = Tangent(expected)
        raw = {"calibration": margin**3}
        if design.first is not None:
            raw["order"] = design.first
        for index, name in enumerate(design.data.covariate_names):
            raw[f"covariate {name}"] = design.covariates[:, index]  # type: ignore[index]
        weight, self.along = self.tangent.weight, {}
        for name, direction in raw.items():
            rest = self.tangent.without(direction)
            if (weight * rest**2).sum() > _SAME * (weight * direction**2).sum():
                self.along[name] = rest
        if design.data.n_ties:
            size = np.abs(margin)
            self.along["ties"] = size - np.average(size, weights=expected.tie_v.mean(1))


def pair_fit(r: Residuals, d: Directions) -> Array:
    """Return squared standardised residuals of the pairs, utilities refitted: chi-square."""
    return (r.design.pair @ d.tangent.refitted(r)) ** 2 / (r.design.pair @ r.v)


def form(r: Residuals, d: Directions) -> Array:
    parts=pair_fit(r,d)
    return np.vstack([parts, -leaning("calibration")(r,d).sum(0)**2])


def item_totals(r: Residuals, d: Directions) -> Array:
    """Return squared standardised residuals of the total scores of the items."""
    sides = r.design.sides.T
    return (sides @ r.e) ** 2 / (abs(sides) @ r.v)


def leaning(name: str) -> Callable[[Residuals, Directions], Array]:
    """Return the discrepancy that sums residuals along a direction, as a standard normal if there is nothing."""

    def parts(r: Residuals, d: Directions) -> Array:
        h = d.along[name][:, None]
        matrix = r.design.pair if r.design.annotator is None else r.design.annotator
        e, v = (r.ties, r.expected.tie_v) if name == "ties" else (r.e, r.v)
        return matrix @ (e * h) / np.sqrt((v * h**2).sum(0))

    return parts


def tastes(r: Residuals, d: Directions) -> Array:
    """Return squared residuals of each annotator's totals of items: the score test of own utilities."""
    matrix, who = r.design.taste
    return sums(who, r.design.annotator.shape[0]) @ (matrix @ r.e) ** 2 / (2 * r.v.sum(0))


def own_tastes(r: Residuals, d: Directions) -> Array:
    """Return `tastes` less what a larger or smaller weight of the utilities explains."""
    matrix, who = r.design.taste
    people = r.design.annotator
    slope, size = people @ (r.e * r.margin), people @ (r.v * r.margin**2)
    lean = (matrix @ (r.v * r.margin)) / np.maximum(size, 1e-12)[who]
    return sums(who, people.shape[0]) @ (matrix @ r.e - lean * slope[who]) ** 2 / (2 * r.v.sum(0))


def slopes(r: Residuals, d: Directions) -> Array:
    """Return squared standardised slopes of residuals on margins, by annotator: the score test of reliability."""
    people = r.design.annotator
    return (people @ (r.e * r.margin)) ** 2 / np.maximum(people @ (r.v * r.margin**2), 1e-12)


def accuracy(r: Residuals, d: Directions) -> Array:
    """Return squared standardised excess agreement with the program's favourites, by annotator."""
    people = r.design.annotator
    return (people @ (r.e * np.sign(r.margin))) ** 2 / np.maximum(people @ r.v, 1e-12)


def order_habits(r: Residuals, d: Directions) -> Array:
    """Return squared standardised leanings to the side shown first, by annotator, about their mean."""
    return _spread(r.design, r.e * r.design.first[:, None], r.v * r.design.first[:, None] ** 2)


def tie_habits(r: Residuals, d: Directions) -> Array:
    """Return squared standardised excess numbers of ties, by annotator, about their mean."""
    return _spread(r.design, r.ties, r.expected.tie_v)


def _spread(design: Design, e: Array, v: Array) -> Array:
    people = design.annotator
    total, size = people @ e, people @ v
    mean = total.sum(0) / np.maximum(size.sum(0), 1e-12)
    return (total - mean * size) ** 2 / np.maximum(size, 1e-12)


def agreement(r: Residuals, d: Directions) -> Array:
    """Return by pair the share of judgements of two annotators on one pair that agree."""
    within, _, pair = r.design.repeats
    of_pair = sums(pair, len(r.design.pair_items))
    same = _agreeing(r.design.pair, r.count) - of_pair @ _agreeing(within, r.count)
    return same / shared(r.design)


def self_agreement(r: Residuals, d: Directions) -> Array:
    """Return by annotator the share of repeated judgements of one pair that agree."""
    within, who, _ = r.design.repeats
    return sums(who, r.design.annotator.shape[0]) @ _agreeing(within, r.count) / repeated(r.design)


def shared(design: Design) -> float:
    """Return how many two judgements of one pair by two annotators there are."""
    return _meetings(design.pair, design) - repeated(design)


def repeated(design: Design) -> float:
    """Return how many two judgements of one pair by one annotator there are."""
    return _meetings(design.repeats[0], design)


def _meetings(matrix: Any, design: Design) -> float:
    size = matrix @ design.total
    return float((size * (size - 1)).sum())


def _agreeing(matrix: Any, count: Array) -> Array:
    sizes = [matrix @ of_outcome for of_outcome in count]
    return np.sum([size * (size - 1) for size in sizes], axis=0)


def cycles(r: Residuals, d: Directions) -> Array:
    """Return by item the share of triads that majorities send round in a circle, of those all strictly decided."""
    triads, ends = r.design.triads, r.design.pair_items
    circular, decided = _circles(r.design.pair, triads, r.count)
    i, j, k = ends[triads[:, 0], 0], ends[triads[:, 0], 1], ends[triads[:, 1], 1]
    size = len(r.design.data.items)
    return sum(sums(items, size) @ circular for items in (i, j, k)) / (3 * np.maximum(decided, 1))


def own_cycles(r: Residuals, d: Directions) -> Array:
    """Return by annotator the share of triads that the annotator's own majorities send round in a circle."""
    triads, (within, who, _) = r.design.own_triads, r.design.repeats
    circular, decided = _circles(within, triads, r.count)
    return sums(who[triads[:, 0]], r.design.annotator.shape[0]) @ circular / np.maximum(decided, 1)


def _circles(matrix: Any, triads: Array, count: Array) -> tuple[Array, Array]:
    """Return whether triads are circular [triad, draw], and how many are strictly decided [draw]."""
    lead = np.sign(matrix @ (count[0] - count[1])).astype(np.int8)
    ij, jk, ik = (lead[edge] for edge in triads.T)
    decided = (ij != 0) & (jk != 0) & (ik != 0)
    return (decided & (ij == jk) & (ij == -ik)).astype(float), decided.sum(0)


def _without(attribute: str, sentence: str) -> Callable[[Design, Directions], str]:
    return lambda design, d: sentence if getattr(design, attribute) is None else ""


_NOBODY = "who judged is not recorded"


def _lacks_people(design: Design, d: Directions) -> str:
    if design.annotator is None:
        return _NOBODY
    return "" if len(design.data.annotators) > 1 else "there is one annotator"


def _lacks_order(design: Design, d: Directions) -> str:
    if design.first is None:
        return "which item was shown first is not recorded"
    return "" if "order" in d.along else "which item was shown first follows from the items"


def _lacks_ties(design: Design, d: Directions) -> str:
    return "" if design.data.n_ties else "there are no ties"


def _lacks_repeats(design: Design, d: Directions) -> str:
    return _lacks_people(design, d) or ("" if repeated(design) else "no annotator judged a pair twice")


def _either(*lacks: Callable[[Design, Directions], str]) -> Callable[[Design, Directions], str]:
    return lambda design, d: next(filter(None, (lack(design, d) for lack in lacks)), "")


CATALOGUE = (
    Discrepancy("pair fit", pair_fit, "pair", False, "Do shares of wins of each pair follow?"),
    Discrepancy("form", form, "pair", False, "Do shares of wins of each pair follow?"),
    Discrepancy("item totals", item_totals, "item", False, "Do the items win as often as expected?"),
    Discrepancy(
        "cycles",
        cycles,
        "item",
        False,
        "Do majorities go round in circles (a beats b beats c beats a)?",
        lambda design, d: "" if len(design.triads) else "no three items were all compared with each other",
    ),
    Discrepancy("order", leaning("order"), "annotator", True, "Does the item shown first win more?", _lacks_order),
    Discrepancy("calibration", leaning("calibration"), "annotator", True, "Do clear favourites win?"),
    Discrepancy("tastes", tastes, "annotator", False, "Do annotators favour the same items?", _lacks_people),
    Discrepancy("own tastes", own_tastes, "annotator", False, "beyond reliability?", _lacks_people),
    Discrepancy("slopes", slopes, "annotator", False, "Do utilities weigh the same?", _lacks_people),
    Discrepancy("accuracy", accuracy, "annotator", False, "agree with favourites?", _lacks_people),
    Discrepancy("order habits", order_habits, "annotator", False, "?", _either(_lacks_people, _lacks_order)),
    Discrepancy("ties", leaning("ties"), "annotator", True, "Do ties fall off?", _lacks_ties),
    Discrepancy("tie habits", tie_habits, "annotator", False, "tie?", _either(_lacks_people, _lacks_ties)),
    Discrepancy("agreement", agreement, "pair", True, "agree?", _lacks_people),
    Discrepancy("self-agreement", self_agreement, "annotator", True, "agree?", _lacks_repeats),
    Discrepancy(
        "own cycles",
        own_cycles,
        "annotator",
        True,
        "contradict?",
        lambda design, d: _lacks_people(design, d) or ("" if len(design.own_triads) else "no annotator ..."),
    ),
)
