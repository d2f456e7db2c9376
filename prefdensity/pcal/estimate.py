"""Preference-calibrated estimates from units of which some have labels, some preferences, some neither.

Dong, Hou, Wu and Zhang (2026), arXiv 2601.13458; with one multiplier for each bracket (see `calibration`), K-fold
nuisances, and every stage's labels used. Consistent, with valid intervals, for known probabilities of being bought,
whatever the nuisances are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.errors import DataError, FitError
from prefdensity.judged.rungs import Purchased
from prefdensity.judged.units import Judged
from prefdensity.pcal.criteria import Criterion, metric
from prefdensity.pcal.diagnostics import diagnose, residuals_by_group, warn, without_preferences
from prefdensity.pcal.equal_cost import equal_cost as at_equal_cost
from prefdensity.pcal.functionals import Functional, LabelFunction, LinearRegression
from prefdensity.pcal.nuisances import GaussianNuisance, Nuisance, folds_of
from prefdensity.pcal.purchase_checks import Purchases, usable
from prefdensity.pcal.solved import Solved, assemble
from prefdensity.pcal.stages import CalibrationRule, Expected, stage_rows

Array = NDArray[Any]

FEWEST_CLUSTERS = 5


@dataclass(frozen=True, eq=False)
class PcalEstimate(Solved):
    """An estimate, and the questions to it: intervals, what preferences were worth, what to beware of.

    Attributes are those of `solved.Solved`.
    """

    def __repr__(self) -> str:
        return f"PcalEstimate({', '.join(self.names)}; {self.judged!r})"

    def comparison(self, level: float | None = None) -> pd.DataFrame:
        """Return what the same purchases tell without preferences, and from the labels alone.

        One row per method ("labels only", "labels and unlabelled", "PCAL") and parameter, as in `summary`; an end
        that so few labels cannot give is infinite.
        """
        methods = without_preferences(self) | {"PCAL": self}
        rows = [each.table(each.critical(level)).assign(method=name) for name, each in methods.items()]
        return pd.concat(rows, ignore_index=True)[["method", "parameter", "estimate", "se", "lower", "upper"]]

    def equal_cost(self) -> pd.DataFrame:
        """Return what preferences are worth: intervals beside those of the same money spent on labels alone.

        One row per parameter: parameter, se, se_without, ratio; see `equal_cost.equal_cost`.
        """
        return at_equal_cost(self)

    def diagnostics(self) -> pd.DataFrame:
        """Return one row per quantity: quantity, value, meaning. See also `residuals` and `warnings`."""
        return diagnose(self)

    def residuals(self) -> pd.DataFrame:
        """Return calibration residuals of the first nuisance by verdict, judge and probability of a label.

        One row per group: group, labelled, residual (mean of h less its expectation, first column), se, z.
        """
        return residuals_by_group(self)

    @cached_property
    def purchases(self) -> Purchases:
        """What was planned, asked for and came back, and whether verdicts depend on what was bought."""
        return Purchases(self.judged)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before the intervals are used."""
        return (*warn(self), *self.purchases.warnings)


def pcal(
    judged: Judged, functional: Functional | None = None, nuisance: Nuisance | Sequence[Nuisance] | None = None, *,
    criterion: Criterion = "relative", calibration: str = "scalar", folds: int = 5, level: float = 0.9,
    population: int | None = None, budget: float | None = None, dependent_judges: str = "refuse", seed: int = 0,
) -> PcalEstimate:  # fmt: skip
    """Estimate a functional of covariates and labels from labels, preferences and unlabelled units together.

    Parameters
    ----------
    judged
        The table. Stages are estimated apart and averaged by what their plans tell (see `stages.shares`); nuisances
        learn from all of them.
    functional
        What to estimate; None: `LinearRegression()`.
    nuisance
        Where conditional expectations come from; several are a dictionary, combined as `calibration` says; None:
        `GaussianNuisance()`.
    criterion
        What "scalar" multipliers and the shares of stages make precise, as in `pcal_design`: give the same here for
        intervals as short as the design promised.
    calibration
        "scalar", "split", "single", "identity" or "none" (labels only); see `calibration.multipliers`. All but
        "identity" are never longer than labels only in large samples, whatever the nuisances are.
    folds
        Folds of the nuisances; clusters stay together.
    level
        Mass of the intervals.
    population
        Size of the finite population that the units were drawn from without replacement, if it is what the estimate
        speaks of.
    budget
        Mean cost of a unit that was allowed, to be warned when more was spent.
    dependent_judges
        What to do where who judges, or what they say, depends on whether a label is bought: "refuse" the table,
        "mask" all verdicts of such judges, or "keep" them, in the knowledge that intervals are then not valid. See
        `purchase_checks.usable`.
    seed
        Of the folds.

    Returns
    -------
    PcalEstimate

    Raises
    ------
    DataError
        If the table cannot tell the parameters: too few labels or clusters, linearly dependent covariates, a
        population smaller than the table or with clusters.
    FitError
        If the estimating equation has no root, or an interval has no end.
    """
    judged = usable(judged, dependent_judges)
    solved = solve(
        judged, functional or LinearRegression(), _recipes(nuisance), criterion, calibration, folds, level,
        population, budget, seed,
    )  # fmt: skip
    return PcalEstimate(**{each.name: getattr(solved, each.name) for each in fields(solved)})


class CrossFitted(Protocol):
    """What a nuisance must do for an estimate."""

    def cross_fit(self, judged: Any, function: LabelFunction, fold: Array) -> tuple[Array, ...]:
        """Return E[h | seen on the next rung] [unit, k] for each rung from the label down, from the other folds."""


def solve(
    judged: Any, functional: Functional, recipes: Sequence[CrossFitted], criterion: Criterion, calibration: str,
    folds: int, level: float, population: int | None, budget: float | None, seed: int,
) -> Solved:  # fmt: skip
    """Return the solved estimate of any table of purchases; arguments and errors are those of `pcal`."""
    names = functional.names(judged)
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie strictly between 0 and 1")
    _require_labels(judged, len(names))
    _require_population(judged, population)
    weight = judged.labelled / judged.label_probability
    start = functional.start(judged, weight)
    function = functional.label_function(start)
    back = np.linalg.pinv(functional.slope(judged, start, weight)).T
    psi = functional.moment(judged, np.nan_to_num(function.at_labels(judged)), start) @ back * judged.labelled[:, None]
    if not (psi.any() or functional.known_variance(judged)):
        raise FitError(f"all labels are {judged.label[judged.labelled][0]:g}; an interval needs labels that differ")
    rule = CalibrationRule(calibration, metric(criterion, names, psi, weight))
    expected = _expectations(recipes, judged, function, calibration, folds, seed)
    found = assemble(judged, functional, start, expected, rule, level, population, budget)
    found.summary()  # an interval without an end is refused here
    return found


def _recipes(nuisance: Nuisance | Sequence[Nuisance] | None) -> tuple[Nuisance, ...]:
    if nuisance is None:
        return (GaussianNuisance(),)
    recipes = tuple(nuisance) if isinstance(nuisance, Sequence) else (nuisance,)
    if not recipes or not all(isinstance(each, Nuisance) for each in recipes):
        raise DataError("nuisance must be a Nuisance, such as GaussianNuisance(), or a list of them")
    return recipes


def _expectations(
    recipes: Sequence[CrossFitted], judged: Any, function: LabelFunction, calibration: str, folds: int, seed: int
) -> Expected:
    if calibration == "none":
        empty = function(judged.take(slice(0, 1)), np.zeros((1, 1))).shape[-1]
        return ((np.zeros((len(judged), empty)),),) * len(judged.rungs)
    fold = folds_of(judged, folds, seed)
    found = [recipe.cross_fit(judged, function, fold) for recipe in recipes]
    if not all(np.isfinite(each).all() for guesses in found for each in guesses):
        raise FitError("a nuisance predicts values that are not finite; look at what it was fitted to")
    return tuple(zip(*found, strict=True))


def _require_labels(judged: Purchased, size: int) -> None:
    for rows in stage_rows(judged):
        count = int(judged.labelled[rows].sum())
        if count <= size:
            where = "" if judged.stage is None else f" of stage {int(judged.stage[rows][0])}"
            raise DataError(
                f"{count} units{where} have a label; more than {size}, the number of parameters, are needed"
            )
    if judged.cluster is None:
        return
    clusters = len(np.unique(judged.cluster[judged.labelled]))
    if clusters < FEWEST_CLUSTERS:
        raise DataError(
            f"{clusters} clusters have a label; at least {FEWEST_CLUSTERS} are needed to tell how much they differ"
        )


def _require_population(judged: Purchased, population: int | None) -> None:
    if population is None:
        return
    if population < len(judged):
        raise DataError(f"population={population} is smaller than the {len(judged)} units drawn from it")
    if judged.cluster is not None:
        raise DataError("a finite population is for units drawn one by one; clusters have no such correction here")
