"""Preference-calibrated estimates from units of which some have labels, some preferences, some neither.

Dong, Hou, Wu and Zhang (2026), arXiv 2601.13458; with one multiplier for each bracket (see `calibration`), K-fold
nuisances, and every stage's labels used. Consistent, with valid intervals, for known probabilities of being bought,
whatever the nuisances are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from prefdensity.errors import DataError, FitError
from prefdensity.estimators.calibration import Bracket, brackets, influence, multipliers
from prefdensity.estimators.functionals import Functional, LinearRegression
from prefdensity.estimators.nuisances import GaussianNuisance, Nuisance, folds
from prefdensity.judged import Judged

Array = NDArray[Any]

_STEPS = 100
_MAX_T_DRAWS = 100_000


@dataclass(frozen=True, eq=False)
class Stage:
    """The estimate from one stage alone.

    Attributes
    ----------
    rows
        bool [unit] of the whole table.
    theta
        [parameter].
    psi
        psi1 at theta [unit of the stage, parameter], 0 without label.
    weight
        S1/p1 [unit of the stage].
    parts, matrices
        The brackets, with psi2 and psi3 at theta, and their multipliers.
    influence
        [unit of the stage, parameter], mean 0.
    """

    rows: Array
    theta: Array
    psi: Array
    weight: Array
    parts: list[Bracket]
    matrices: list[list[Array]]
    influence: Array


@dataclass(frozen=True, eq=False)
class PcalEstimate:
    """An estimate with its influence values.

    Attributes
    ----------
    names, theta
        Parameters and their estimates [parameter].
    covariance
        Of the estimates [parameter, parameter].
    influence
        [unit, parameter]: theta - truth is about their mean; covariance is their spread, by cluster if there are any.
    calibration, level
        As asked for; mass of the intervals.
    judged
        The table.
    stages
        Estimates from the single stages, which `theta` averages by inverse variance.
    after, before
        E[h(Y) | x, w, preferences] and E[h(Y) | x, w] [unit, k], out of fold, of each nuisance.
    population
        Size of the finite population that is spoken of; None: infinite.
    budget
        Mean cost of a unit that was allowed; None: not said.
    """

    names: tuple[str, ...]
    theta: Array
    covariance: Array
    influence: Array
    calibration: str
    level: float
    judged: Judged
    functional: Functional
    stages: list[Stage]
    after: tuple[Array, ...]
    before: tuple[Array, ...]
    population: int | None
    budget: float | None

    def __repr__(self) -> str:
        return f"PcalEstimate({', '.join(self.names)}; {self.judged!r})"

    @cached_property
    def standard_error(self) -> Array:
        """Standard errors [parameter]."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    def summary(self, level: float | None = None) -> pd.DataFrame:
        """Return one row per parameter: parameter, estimate, se, lower, upper (Wald)."""
        return _table(self.names, self.theta, self.standard_error, norm.ppf(0.5 + self._level(level) / 2))

    def bands(self, level: float | None = None, seed: int = 0) -> pd.DataFrame:
        """Return intervals that hold for all parameters at once: max-t by a Gaussian multiplier bootstrap.

        The bootstrap of influence values with Gaussian multipliers is Gaussian with their correlation: so it is drawn.
        """
        se = self.standard_error
        correlation = self.covariance / np.outer(se, se)
        root = np.linalg.cholesky(correlation + 1e-12 * np.eye(len(se)))
        draws = np.random.default_rng(seed).normal(size=(_MAX_T_DRAWS, len(se))) @ root.T
        return _table(self.names, self.theta, se, float(np.quantile(np.abs(draws).max(1), self._level(level))))

    def comparison(self, level: float | None = None) -> pd.DataFrame:
        """Return what the same purchases tell without preferences, and from the labels alone.

        One row per method ("labels only", "labels and unlabelled", "PCAL") and parameter, as in `summary`.
        """
        from prefdensity.estimators.diagnostics import without_preferences

        quantile = norm.ppf(0.5 + self._level(level) / 2)
        rows = []
        for name, each in without_preferences(self).items():
            rows.append(_table(self.names, *each, quantile).assign(method=name))
        rows.append(self.summary(level).assign(method="PCAL"))
        return pd.concat(rows, ignore_index=True)[["method", "parameter", "estimate", "se", "lower", "upper"]]

    def diagnostics(self) -> pd.DataFrame:
        """Return one row per quantity: quantity, value, meaning. See also `residuals` and `warnings`."""
        from prefdensity.estimators.diagnostics import diagnose

        return diagnose(self)

    def residuals(self) -> pd.DataFrame:
        """Return calibration residuals of the first nuisance by verdict, judge and probability of a label.

        One row per group: group, labelled, residual (mean of h less its expectation, first column), se, z.
        """
        from prefdensity.estimators.diagnostics import residuals_by_group

        return residuals_by_group(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before the intervals are used."""
        from prefdensity.estimators.diagnostics import warn

        return warn(self)

    def _level(self, level: float | None) -> float:
        level = self.level if level is None else level
        if not 0 < level < 1:
            raise DataError(f"level={level!r} must lie strictly between 0 and 1")
        return level


def pcal(
    judged: Judged,
    functional: Functional | None = None,
    nuisance: Nuisance | Sequence[Nuisance] | None = None,
    *,
    calibration: str = "scalar",
    n_folds: int = 5,
    level: float = 0.9,
    population: int | None = None,
    budget: float | None = None,
    seed: int = 0,
) -> PcalEstimate:
    """Estimate a functional of covariates and labels from labels, preferences and unlabelled units together.

    Parameters
    ----------
    judged
        The table. Stages are estimated apart and averaged by inverse variance; nuisances learn from all of them.
    functional
        What to estimate; None: `LinearRegression()`.
    nuisance
        Where conditional expectations come from; several are a dictionary, combined as `calibration` says; None:
        `GaussianNuisance()`.
    calibration
        "scalar", "split", "single", "identity" or "none" (labels only); see `calibration.multipliers`. All but
        "identity" are never longer than labels only in large samples, whatever the nuisances are.
    n_folds
        Folds of the nuisances; clusters stay together.
    level
        Mass of the intervals.
    population
        Size of the finite population that the units were drawn from without replacement, if it is what the estimate
        speaks of.
    budget
        Mean cost of a unit that was allowed, to be warned when more was spent.
    seed
        Of the folds.

    Returns
    -------
    PcalEstimate

    Raises
    ------
    DataError
        If the table cannot tell the parameters: too few labels, linearly dependent covariates, a population smaller
        than the table or with clusters.
    FitError
        If the estimating equation has no root.
    """
    functional = functional or LinearRegression()
    recipes = _recipes(nuisance)
    names = functional.names(judged)
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie strictly between 0 and 1")
    _require_labels(judged, len(names))
    _require_population(judged, population)
    start = functional.start(judged, judged.labelled / judged.label_probability)
    function = functional.label_function(start)
    after, before = _expectations(recipes, judged, function, calibration, n_folds, seed)
    stages = [_solve_stage(judged, functional, start, rows, after, before, calibration) for rows in _stage_rows(judged)]
    theta, values = _average(stages, judged)
    covariance = spread(values, judged.cluster)
    if population is not None:
        full = np.concatenate([stage.psi * np.sqrt(stage.weight)[:, None] for stage in stages])
        covariance = covariance - full.T @ full / len(judged) / population
    return PcalEstimate(
        names,
        theta,
        covariance,
        values,
        calibration,
        level,
        judged,
        functional,
        stages,
        after,
        before,
        population,
        budget,
    )


def spread(values: Array, cluster: Array | None) -> Array:
    """Return the covariance of a mean of influence values [unit, parameter], by cluster where there are any."""
    n = len(values)
    if cluster is not None:
        sums = np.zeros((int(cluster.max()) + 1, values.shape[1]))
        np.add.at(sums, cluster, values)
        values = sums[np.unique(cluster)]
        values = values * np.sqrt(len(values) / max(len(values) - 1, 1))
    return np.asarray(values.T @ values / n**2)


def solve(
    judged: Judged,
    functional: Functional,
    start: Array,
    after: tuple[Array, ...],
    before: tuple[Array, ...],
    calibration: str,
    rows: Array | None = None,
) -> Stage:
    """Return the root of the calibrated estimating equation of one stage.

    Multipliers are those at `start`. For functionals of the label itself the root is exact; for others (quantiles)
    it is one Newton step, for the expectations were made at `start`.
    """
    weight = judged.labelled / judged.label_probability
    function = functional.label_function(start)
    labels = np.nan_to_num(function.at_labels(judged))
    theta, matrices, step = start, None, np.inf
    back = np.linalg.pinv(functional.slope(judged, start, weight)).T

    def psi_of(h: Array, theta: Array) -> Array:
        return functional.moment(judged, h, theta) @ back

    for _ in range(_STEPS if function.is_label else 2):
        psi = psi_of(labels, theta) * judged.labelled[:, None]
        guesses = [tuple(psi_of(h, theta) for h in each) for each in (after, before)]
        parts = brackets(
            judged.label_probability, judged.preference_probability, judged.labelled, judged.compared, *guesses
        )
        matrices = matrices or multipliers(psi, weight, parts, calibration)
        values = influence(psi, weight, parts, matrices)
        step = values.mean(0)
        if not function.is_label or np.abs(step).max() <= 1e-12 * (1 + np.abs(theta).max()):
            theta = theta + step
            break
        theta = theta + _newton(judged, functional, theta, back, weight, parts, matrices, step)
    if not np.isfinite(theta).all() or (function.is_label and np.abs(step).max() > 1e-8 * (1 + np.abs(theta).max())):
        raise FitError(f"{type(functional).__name__} has no root near the estimate from labels alone; buy more labels")
    everything = np.ones(len(judged), bool) if rows is None else rows
    return Stage(everything, theta, psi, weight, parts, matrices or [], values - values.mean(0))


def _newton(
    judged: Judged, functional: Functional, theta: Array, back: Array, weight: Array, parts: list[Bracket],
    matrices: list[list[Array]], step: Array,
) -> Array:  # fmt: skip
    """Return the Newton step that sets the mean influence `step` to 0: weighted as the brackets weigh."""
    slope = back.T @ functional.information(judged, theta, weight)
    for part, each in zip(parts, matrices, strict=True):
        slope = slope - sum(each) @ back.T @ functional.information(judged, theta, part.weight)
    return np.asarray(np.linalg.lstsq(slope, step, rcond=None)[0])


def _solve_stage(
    judged: Judged, functional: Functional, start: Array, rows: Array, after: tuple[Array, ...],
    before: tuple[Array, ...], calibration: str,
) -> Stage:  # fmt: skip
    if rows.all():
        return solve(judged, functional, start, after, before, calibration, rows)
    picked = [tuple(each[rows] for each in part) for part in (after, before)]
    return solve(judged.take(rows), functional, start, picked[0], picked[1], calibration, rows)


def _average(stages: list[Stage], judged: Judged) -> tuple[Array, Array]:
    """Return the inverse-variance average of stages and its influence values [unit, parameter]."""
    if len(stages) == 1:
        return stages[0].theta, stages[0].influence
    precision = [np.linalg.pinv(spread(each.influence, _cluster(judged, each.rows)), hermitian=True) for each in stages]
    total = np.linalg.pinv(sum(precision), hermitian=True)
    theta = total @ sum(each @ stage.theta for each, stage in zip(precision, stages, strict=True))
    values = np.empty((len(judged), len(theta)))
    for each, stage in zip(precision, stages, strict=True):
        values[stage.rows] = len(judged) / stage.rows.sum() * stage.influence @ (total @ each).T
    return theta, values


def _cluster(judged: Judged, rows: Array) -> Array | None:
    return None if judged.cluster is None else judged.cluster[rows]


def _stage_rows(judged: Judged) -> list[Array]:
    if judged.stage is None:
        return [np.ones(len(judged), bool)]
    return [judged.stage == each for each in np.unique(judged.stage)]


def _recipes(nuisance: Nuisance | Sequence[Nuisance] | None) -> tuple[Nuisance, ...]:
    if nuisance is None:
        return (GaussianNuisance(),)
    recipes = tuple(nuisance) if isinstance(nuisance, Sequence) else (nuisance,)
    if not recipes or not all(isinstance(each, Nuisance) for each in recipes):
        raise DataError("nuisance must be a Nuisance, such as GaussianNuisance(), or a list of them")
    return recipes


def _expectations(
    recipes: tuple[Nuisance, ...], judged: Judged, function: Any, calibration: str, n_folds: int, seed: int
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    if calibration == "none":
        empty = function(judged.take(slice(0, 1)), np.zeros((1, 1))).shape[-1]
        zero = np.zeros((len(judged), empty))
        return (zero,), (zero,)
    fold = folds(judged, n_folds, seed)
    found = [recipe.cross_fit(judged, function, fold) for recipe in recipes]
    for after, before in found:
        if not (np.isfinite(after).all() and np.isfinite(before).all()):
            raise FitError("a nuisance predicts values that are not finite; look at what it was fitted to")
    return tuple(after for after, _ in found), tuple(before for _, before in found)


def _require_labels(judged: Judged, size: int) -> None:
    for rows in _stage_rows(judged):
        count = int(judged.labelled[rows].sum())
        if count <= size:
            where = "" if judged.stage is None else f" of stage {int(judged.stage[rows][0])}"
            raise DataError(
                f"{count} units{where} have a label; more than {size}, the number of parameters, are needed"
            )


def _require_population(judged: Judged, population: int | None) -> None:
    if population is None:
        return
    if population < len(judged):
        raise DataError(f"population={population} is smaller than the {len(judged)} units drawn from it")
    if judged.cluster is not None:
        raise DataError("a finite population is for units drawn one by one; clusters have no such correction here")


def _table(names: tuple[str, ...], theta: Array, se: Array, quantile: float) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "parameter": names,
            "estimate": theta,
            "se": se,
            "lower": theta - quantile * se,
            "upper": theta + quantile * se,
        }
    )
