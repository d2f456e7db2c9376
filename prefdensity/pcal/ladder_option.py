"""One ladder that may be bought from: what a pilot says of its rungs, and what money buys best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.judged.rungs import Rung
from prefdensity.pcal import criteria
from prefdensity.pcal.allocation import allocate, allocate_beside
from prefdensity.pcal.calibration import Bracket, brackets, learned, multipliers, residuals
from prefdensity.pcal.criteria import Criterion
from prefdensity.pcal.estimate import CrossFitted
from prefdensity.pcal.functionals import Functional
from prefdensity.pcal.intervals import PRIOR_EVENTS
from prefdensity.pcal.nuisances import folds_of

Array = NDArray[Any]

_LEAST = 1e-9  # probability of what is not to be bought any more


@dataclass(frozen=True, eq=False)
class LadderOption:
    """One ladder that may be bought from, and what a pilot says of it.

    Attributes
    ----------
    names, prices
        Of the rungs, from the label down; what each adds to the price.
    whole
        Variance of the criterion in one unit, of labels for everybody.
    left
        Variance that is left by what the next rung knows, of each rung: of the last, by free measures.
    learned
        Multipliers that an estimate learns from its labels: of every rung, and of free measures.
    kept, owned
        Units of earlier rounds that are kept, and of how many of them each rung was bought [rung].
    """

    names: tuple[str, ...]
    prices: Array
    whole: float
    left: Array
    learned: int
    kept: int
    owned: Array

    def probabilities(self, money: float, units: int) -> Array:
        """Return the best probabilities [rung] of new units, for what is spent on them: see `allocation.allocate`."""
        drops = np.diff(self.left, prepend=0.0)
        if not self.kept:
            return np.asarray(allocate([drops], self.prices, money / units)[0])
        return np.maximum(allocate_beside(drops, self.prices, money, units, self.owned), _LEAST)

    def share(self, p: Array, units: int) -> Array:
        """Return the probabilities [rung] of new units and those kept together, from those of the new ones."""
        return np.asarray((self.owned + units * p) / (self.kept + units))

    @property
    def labels_alone(self) -> LadderOption:
        """The ladder whose only rung is the label, with no use of free measures."""
        return replace(
            self, names=self.names[:1], prices=self.prices[:1], left=np.array([self.whole]), learned=0,
            owned=self.owned[:1],
        )  # fmt: skip

    @property
    def alone(self) -> bool:
        """Whether nothing but labels is used."""
        return len(self.names) == 1 and not self.learned

    def variance(self, p: Array, worse: float = 0.0) -> float:
        """Return the variance of the criterion in one unit at probabilities [rung] of all units.

        Where bought measures are `worse`, this share of what they tell beyond free ones is not told; of 1 they are
        useless.
        """
        left = self.left + worse * (self.left[-1] - self.left)
        return float(self.whole + left @ (1 / p - 1 / np.append(p[1:], 1.0)))


def learn_option(
    pilot: Measured, functional: Functional, nuisance: CrossFitted, criterion: Criterion, calibration: str, folds: int,
    seed: int,
) -> LadderOption:  # fmt: skip
    """Return what a pilot says of its ladder; arguments are those of `ladder_plan.ladder_plan`."""
    weight = pilot.labelled / pilot.label_probability
    theta = functional.start(pilot, weight)
    function = functional.label_function(theta)
    back = np.linalg.pinv(functional.slope(pilot, theta, weight)).T
    psi = functional.moment(pilot, np.nan_to_num(function.at_labels(pilot)), theta) @ back * pilot.labelled[:, None]
    names = functional.names(pilot)
    metric = criteria.metric(criterion, names, psi, weight)
    if np.linalg.matrix_rank(metric) > 1:
        raise DataError(f"criterion={criterion!r} is no single contrast; name one of {', '.join(names)}")
    expected = nuisance.cross_fit(pilot, function, folds_of(pilot, folds, seed))
    # what a rung leaves, as if every bracket had the same weight
    n = len(pilot)
    rungs = tuple(Rung(name, np.ones(n, bool), np.full(n, 1 / (2.0 + k))) for k, name in enumerate(pilot.ladder))[::-1]
    parts = brackets(rungs, [(functional.moment(pilot, h, theta) @ back,) for h in expected])
    matrices = multipliers(psi, weight, parts, calibration, metric)
    left = [
        criteria.size(residuals(psi, part, each), metric, weight) * _optimism(psi, part, pilot, calibration)
        for part, each in zip(parts, matrices, strict=True)
    ]
    whole = criteria.size(psi, metric, weight)
    assert pilot.prices is not None  # asked for before
    if functional.known_variance(pilot):  # as far as events tell: without any, nothing is known of what rungs gain
        yes = pilot.label[pilot.labelled].sum()
        trust = min(yes, pilot.labelled.sum() - yes)
        left = [(trust * each + PRIOR_EVENTS * whole) / (trust + PRIOR_EVENTS) for each in left]
    known = np.maximum.accumulate(np.minimum(left, whole))  # a richer rung knows all that a poorer one does
    count = learned(psi, parts, pilot.labelled, calibration)
    return LadderOption(pilot.ladder[::-1], pilot.prices[::-1], whole, known, count, 0, np.zeros(len(left)))


def _optimism(psi: Array, part: Bracket, pilot: Measured, calibration: str) -> float:
    """Return by how much more is left than it looks after multipliers were learned from the same labels."""
    labels = int(pilot.labelled.sum())
    return labels / max(labels - learned(psi, [part], pilot.labelled, calibration), 1)
