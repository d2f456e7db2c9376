"""From a pilot table to a design: who should be labelled, who compared, and what precision that buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

from prefdensity.errors import DataError
from prefdensity.judged.units import BUY, Judged
from prefdensity.pcal import criteria
from prefdensity.pcal.allocation import allocate, allocate_worst_case, draw, require_budget
from prefdensity.pcal.calibration import Bracket, multipliers, residuals
from prefdensity.pcal.functionals import Functional, LinearRegression
from prefdensity.pcal.nuisances import FittedNuisance, GaussianNuisance, Nuisance, folds_of

Array = NDArray[Any]

_ROBUST = ("average", "worst")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Labels of a pilot beside what the nuisance expects of them, as influence values.

    Attributes
    ----------
    psi, after, before
        psi1 (anything where there is no label), and its expectations out of fold [unit, parameter].
    weight
        S1/p1 in the pilot [unit].
    calibration
        Of the estimate to come.
    """

    psi: Array
    after: Array
    before: Array
    weight: Array
    calibration: str

    def left(self, first: Array, second: Array, metric: Array) -> tuple[float, float]:
        """Return tr(Q .) of the residuals after and before the preferences, weighted by `first` and `second` [unit]."""
        parts = [
            Bracket("preferences", first, first, (self.after,)),
            Bracket("unlabelled", second, second, (self.before,)),
        ]
        matrices = multipliers(self.psi, self.weight, parts, self.calibration, metric)
        told, untold = (
            criteria.size(residuals(self.psi, part, each), metric, self.weight * part.variance)
            for part, each in zip(parts, matrices, strict=True)
        )
        return told, untold

    def variance(self, p1: Array, p2: Array, metric: Array) -> float:
        """Return tr(Q Sigma) of purchases at these probabilities [unit]."""
        return criteria.size(self.psi, metric, self.weight) + sum(self.left(1 / p1 - 1 / p2, 1 / p2 - 1, metric))


@dataclass(frozen=True, eq=False)
class PcalDesign:
    """Probabilities of buying labels and preferences, learned from a pilot.

    Attributes
    ----------
    budget, cost, floor
        Mean cost of a unit allowed, price of a label with its preference, least probability of a label.
    aware
        Whether probabilities depend on covariates and outputs.
    drops
        Variance of the criterion, in one unit, that a label takes away beyond a preference, and a preference beyond
        covariates and outputs; a negative one says that the nuisance harms.
    functional, theta, back, criterion
        What is estimated, its pilot estimate, the inverse slope, and Q of tr(Q Sigma).
    evidence
        What the pilot's labels say of the nuisance.
    expectation
        The nuisance fitted to the pilot.
    robust
        "average" or "worst" over posterior draws of the nuisance.
    pilot
        The table learned from.
    """

    budget: float
    cost: float
    floor: float
    aware: bool
    drops: tuple[float, float]
    functional: Functional
    theta: Array
    back: Array
    criterion: Array
    evidence: Evidence
    expectation: FittedNuisance
    robust: str
    pilot: Judged

    def __repr__(self) -> str:
        p1, p2 = (p.mean() for p in self.probabilities(self.pilot))
        return (
            f"PcalDesign(budget {self.budget:g} at {self.cost:g} a label: labels {p1:.3f}, preferences {p2:.3f} of "
            "units)"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return the pilot's units with the probabilities that they would have: see `apply`."""
        return self.apply(self.pilot.to_frame()[list(self.pilot.features)])

    def probabilities(self, units: Judged) -> tuple[Array, Array]:
        """Return P(label) and P(preference) [unit] for these units, at a mean cost of exactly the budget."""
        prices = (self.cost - 1, 1.0)
        if not self.aware:
            p = allocate([self.drops], prices, self.budget, self.floor)
        else:
            drops = self.unit_drops(units)
            if self.robust == "worst" and len(drops) > 1:
                p = allocate_worst_case(drops, prices, self.budget, self.floor)[0]
            else:
                p = allocate(drops.mean(0), prices, self.budget, self.floor)
        p1, p2 = np.broadcast_to(p, (len(units), 2)).T
        return p1.copy(), p2.copy()

    def unit_drops(self, units: Judged) -> Array:
        """Return the two drops of each unit [draw, unit, 2]: how they vary is the nuisance's, their size the pilot's.

        Against the worst draw the pilot gives their sum only: how it divides is what the draws disagree on.
        """
        pull = _pull(self.functional, self.theta, self.back, self.criterion)
        shape, mean = _shape(self.expectation, pull, units), _shape(self.expectation, pull, self.pilot)
        mean = mean.mean((0, 1))
        if self.robust == "worst" and len(shape) > 1:
            return np.asarray(shape * (sum(self.drops) / mean.sum()))
        return np.asarray(shape * (np.array(self.drops) / np.where(mean > 0, mean, 1.0)))

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with columns label_probability and preference_probability.

        Raises
        ------
        DataError
            If a covariate or output of the pilot is missing or not a number.
        """
        names = self.pilot.features
        units = Judged.from_frame(
            frame,
            covariates=names[:-2],
            outputs=names[-2:],
            preference=None,
            label=None,
            source="the table to plan for",
        )
        p1, p2 = self.probabilities(units)
        return frame.assign(label_probability=p1, preference_probability=p2)

    def assign(self, frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
        """Return `apply` with a column buy: label, preference or nothing, drawn at the cost planned."""
        planned = self.apply(frame)
        p = planned[["label_probability", "preference_probability"]].to_numpy()
        return planned.assign(buy=np.array(BUY, dtype=object)[draw(p, seed)])

    def variance(self) -> float:
        """Return tr(Q Sigma): n times the variance of the criterion.

        It is that of `pcal` with the same criterion and calibration, at the design's probabilities of the pilot's
        units and their own residuals: wrong where the nuisance says they lie it costs precision, not the promise.
        """
        return self.evidence.variance(*self.probabilities(self.pilot), self.criterion)

    @property
    def single(self) -> bool:
        """Whether the criterion is the variance of one contrast, so that an interval has a length."""
        return int(np.linalg.matrix_rank(self.criterion)) == 1

    @property
    def worth(self) -> str:
        """What preferences are worth, in a sentence."""
        label, preference = self.drops
        share = max(preference, 0.0) / max(label + preference, 1e-300)
        said = f"A preference explains {share:.0%} of the variance that covariates and outputs leave"
        p1, p2 = self.probabilities(self.pilot)
        return f"{said}{'' if (p2 - p1).max() > 1e-9 else ', too little for its price: labels only'}."

    def length(self, n: int, level: float = 0.9) -> float:
        """Return the length of the interval for the criterion from n units.

        Raises
        ------
        DataError
            If the criterion is not a single contrast.
        """
        if not self.single:
            raise DataError("an interval has a length for one contrast only; give criterion= a parameter or a contrast")
        return float(2 * ndtri(0.5 + level / 2) * np.sqrt(self.variance() / n))

    def curve(self, n: int, budgets: ArrayLike, level: float = 0.9) -> pd.DataFrame:
        """Return the cost-precision curve: budget, label_probability, preference_probability, variance, length.

        Variance is that of the criterion times n; the length is there for a single contrast.
        """
        rows = []
        for budget in np.asarray(budgets, float):
            each = self.at(float(budget))
            p1, p2 = (float(p.mean()) for p in each.probabilities(self.pilot))
            rows.append((float(budget), p1, p2, each.variance()))
        table = pd.DataFrame(rows, columns=["budget", "label_probability", "preference_probability", "variance"])
        if self.single:
            table["length"] = 2 * ndtri(0.5 + level / 2) * np.sqrt(table["variance"] / n)
        return table

    def budgets(self, count: int) -> Array:
        """Return budgets from the floor (or a hundredth of a label) to labels for all, evenly spaced in ratio."""
        least = max(self.floor * self.cost, self.cost / 100) * (1 + 1e-9)
        return np.geomspace(least, self.cost, count)

    def at(self, budget: float) -> PcalDesign:
        """Return the design at another budget; a floor that it cannot pay is an error."""
        require_budget(budget, self.cost, self.floor)
        return replace(self, budget=budget)

    def budget_for(self, length: float, n: int, level: float = 0.9) -> float:
        """Return the smallest budget whose interval for the criterion, from n units, is as short as `length`.

        Raises
        ------
        DataError
            If n labels are not enough.
        """
        least = max(self.floor * self.cost, 1e-6 * self.cost) * (1 + 1e-9)
        shortest = self.at(self.cost).length(n, level)
        if shortest > length:
            raise DataError(f"an interval of {length:g} needs more units: {n} labels give {shortest:.3g}")
        if self.at(least).length(n, level) <= length:
            return float(least)
        return float(brentq(lambda b: self.at(b).length(n, level) - length, least, self.cost, xtol=1e-10))


def pcal_design(
    pilot: Judged, *, budget: float, cost: float | None = None, functional: Functional | None = None,
    nuisance: Nuisance | None = None, criterion: str | Sequence[float] | ArrayLike = "relative", aware: bool = True,
    calibration: str = "scalar", floor: float = 0.02, robust: str = "average", folds: int = 5, seed: int = 0,
) -> PcalDesign:  # fmt: skip
    """Learn from a pilot how to spend a budget on labels and preferences of further units.

    What a preference explains is measured on the pilot's labels, out of fold and after calibration: a nuisance that
    claims too much, or a judge who knows nothing, is found out, and labels alone are bought. How this varies over
    units is taken from the nuisance.

    Parameters
    ----------
    pilot
        Units with labels and preferences.
    budget
        Mean cost of a unit, in preferences.
    cost
        Price of a label with its preference; None: that of the pilot table.
    functional, nuisance
        As in `pcal`; one nuisance.
    criterion
        Q of tr(Q Sigma): a parameter's name; "trace", the sum of variances; "relative", the sum of variances
        relative to those of labels for everybody; a contrast [parameter]; or a matrix.
    aware
        Probabilities may depend on covariates and outputs; otherwise they are the same for all.
    calibration
        That of the estimate to come.
    floor
        Least probability of a label.
    robust
        "average" over posterior draws of an uncertain nuisance, or "worst": the best for the least favourable.
    folds, seed
        Of the nuisances.

    Raises
    ------
    DataError
        If the pilot cannot tell the parameters, or the budget is not positive or cannot pay the floor.
    """
    functional, nuisance = functional or LinearRegression(), nuisance or GaussianNuisance()
    cost = pilot.cost if cost is None else cost
    if cost is None or not 1 < cost < np.inf:
        raise DataError(f"cost={cost!r} must exceed 1: the price of a label with its preference, in preferences")
    if robust not in _ROBUST:
        raise DataError(f"robust={robust!r} must be one of {', '.join(_ROBUST)}")
    require_budget(budget, cost, floor)
    names = functional.names(pilot)
    if pilot.labelled.sum() <= len(names):
        raise DataError(f"the pilot has {pilot.labelled.sum()} labels; more than {len(names)} are needed")
    theta = functional.start(pilot, pilot.labelled / pilot.label_probability)
    back, evidence = _evidence(pilot, functional, nuisance, theta, calibration, folds_of(pilot, folds, seed))
    metric = criteria.metric(criterion, names, evidence.psi, evidence.weight)
    told, untold = evidence.left(np.ones(len(pilot)), np.ones(len(pilot)), metric)
    return PcalDesign(
        budget, cost, floor, aware, (told, untold - told), functional, theta, back, metric, evidence,
        nuisance.fit(pilot), robust, pilot,
    )  # fmt: skip


def _evidence(
    pilot: Judged, functional: Functional, nuisance: Nuisance, theta: Array, calibration: str, fold: Array
) -> tuple[Array, Evidence]:
    """Return what turns moments into influence, and that of the labels and of what the nuisance expects of them."""
    weight = pilot.labelled / pilot.label_probability
    function = functional.label_function(theta)
    back = np.linalg.pinv(functional.slope(pilot, theta, weight)).T
    psi = functional.moment(pilot, np.nan_to_num(function.at_labels(pilot)), theta) @ back * pilot.labelled[:, None]
    guesses = nuisance.cross_fit(pilot, function, fold)
    after, before = (functional.moment(pilot, h, theta) @ back for h in guesses)
    return back, Evidence(psi, after, before, weight, calibration)


def _pull(functional: Functional, theta: Array, back: Array, metric: Array) -> Any:
    """Return a function from units to q [unit], the squared influence of one unit of h; 1 if h has several columns."""
    function = functional.label_function(theta)

    def pull(units: Judged) -> tuple[Array, bool]:
        width = function(units.take(slice(0, 1)), np.zeros((1, 1))).shape[-1]
        if width > 1:
            return np.ones(len(units)), False
        zero = functional.moment(units, np.zeros((len(units), 1)), theta)
        toward = (functional.moment(units, np.ones((len(units), 1)), theta) - zero) @ back
        return np.einsum("ui,ij,uj->u", toward, metric, toward), function.is_label

    return pull


def _shape(expectation: FittedNuisance, pull: Any, units: Judged) -> Array:
    """Return how the drops vary over units [draw, unit, 2]: q, times the variances that the nuisance knows."""
    q, of_label = pull(units)
    if of_label and hasattr(expectation, "variance_drop"):
        drop = expectation.variance_drop(units)
        return np.stack([q * drop.left, q * drop.explained], -1)
    return np.stack([q, q], -1)[None]
