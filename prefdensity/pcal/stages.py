"""The calibrated estimating equation of one batch of purchases, and the average of batches by what was planned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import FitError
from prefdensity.judged.rungs import Purchased
from prefdensity.pcal.calibration import Bracket, brackets, influence, learned, multipliers, residuals
from prefdensity.pcal.criteria import size
from prefdensity.pcal.functionals import Functional
from prefdensity.pcal.intervals import cluster_degrees, corrected

Array = NDArray[Any]
Expected = tuple[tuple[Array, ...], ...]  # E[h | seen on the next rung] [unit, k] for each rung and nuisance

_STEPS = 100


@dataclass(frozen=True, eq=False)
class CalibrationRule:
    """How nuisances are used.

    Attributes
    ----------
    calibration
        See `calibration.multipliers`.
    metric
        Q [parameter, parameter] of tr(Q Sigma), which "scalar" makes small.
    """

    calibration: str
    metric: Array


@dataclass(frozen=True, eq=False)
class Stage:
    """The estimate from one stage alone.

    Attributes
    ----------
    rows
        bool [unit] of the whole table.
    share
        Of the stage in the average.
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
    corrected
        The same as large as the errors of few labels: see `intervals.corrected`.
    full
        psi1 times the root of its weight, corrected too: their spread is that of a census.
    scale
        Standard deviations of the values under a working model of errors, but for one factor in each pattern of
        purchases [unit of the stage, parameter].
    df
        Degrees of freedom [parameter] by clusters; None without them, or without errors of the label.
    """

    rows: Array
    share: float
    theta: Array
    psi: Array
    weight: Array
    parts: list[Bracket]
    matrices: list[list[Array]]
    influence: Array
    corrected: Array
    full: Array
    scale: Array
    df: Array | None


def solve_stages(
    judged: Purchased, functional: Functional, start: Array, expected: Expected, rule: CalibrationRule
) -> list[Stage]:
    """Return the estimate of every stage, each with its share."""
    every = stage_rows(judged)
    expected = _moved(judged, functional, start, expected, rule, every)
    parts = shares(judged, functional, start, expected, rule, every)
    out = []
    for rows, share in zip(every, parts, strict=True):
        mine = tuple(tuple(each[rows] for each in guesses) for guesses in expected)
        part = judged if rows.all() else judged.take(rows)
        out.append(_solve(part, functional, start, mine, rule, rows, float(share)))
    return out


def _moved(
    judged: Purchased, functional: Functional, start: Array, expected: Expected, rule: CalibrationRule,
    every: list[Array],
) -> Expected:  # fmt: skip
    """Return expectations moved in each stage to the mean of its labels.

    A judge who is milder in one stage than in another is so no error of the guesses there: multipliers speak of what
    goes with labels within a stage.
    """
    used = rule.calibration not in ("none", "identity") and functional.root_information(judged, start) is not None
    if len(every) == 1 or not used:
        return expected
    label = functional.label_function(start).at_labels(judged)
    weight = judged.labelled / judged.label_probability

    def moved(guess: Array) -> Array:
        out = np.array(guess)
        for rows in every:
            seen = rows & judged.labelled
            out[rows] += np.average(label[seen] - guess[seen], axis=0, weights=weight[seen])
        return out

    return tuple(tuple(map(moved, guesses)) for guesses in expected)


def stage_rows(judged: Purchased) -> list[Array]:
    """Return the units of each stage, bool [unit]."""
    if judged.stage is None:
        return [np.ones(len(judged), bool)]
    return [judged.stage == each for each in np.unique(judged.stage)]


def shares(
    judged: Purchased, functional: Functional, start: Array, expected: Expected, rule: CalibrationRule,
    every: list[Array],
) -> Array:  # fmt: skip
    """Return how much each stage counts [stage]: by the precision that its plan buys for the criterion.

    What labels and preferences explain is measured over all stages together. Variances estimated stage by stage would
    go along with the estimates where labels are skewed, and pull their average to one side.
    """
    if len(every) == 1:
        return np.ones(1)
    weight = judged.labelled / judged.label_probability
    back = np.linalg.pinv(functional.slope(judged, start, weight)).T
    psi, parts = _influences(judged, functional, start, back, expected)
    left = size(psi, rule.metric, weight)
    variance = np.full(len(every), left)
    for part, each in zip(parts, multipliers(psi, weight, parts, rule.calibration, rule.metric), strict=True):
        told = size(residuals(psi, part, each), rule.metric, weight)
        variance += [part.variance[rows].mean() * told for rows in every]
    precision = np.array([rows.sum() for rows in every]) / np.maximum(variance, 1e-300)
    return np.asarray(precision / precision.sum())


def average(stages: list[Stage], judged: Purchased) -> tuple[Array, Array]:
    """Return the average of stages and its corrected influence values [unit, parameter]."""
    if len(stages) == 1:
        return stages[0].theta, stages[0].corrected
    theta = np.sum([stage.share * stage.theta for stage in stages], axis=0)
    values = np.empty((len(judged), len(theta)))
    for stage in stages:
        values[stage.rows] = len(judged) / stage.rows.sum() * stage.share * stage.corrected
    return theta, values


def _influences(
    judged: Purchased, functional: Functional, theta: Array, back: Array, expected: Expected
) -> tuple[Array, list[Bracket]]:
    """Return psi1 [unit, parameter] at theta, 0 where there is no label, and the brackets."""
    labels = np.nan_to_num(functional.label_function(theta).at_labels(judged))
    psi = functional.moment(judged, labels, theta) @ back * judged.labelled[:, None]
    guesses = [tuple(functional.moment(judged, h, theta) @ back for h in each) for each in expected]
    return psi, brackets(judged.rungs, guesses)


def _solve(
    judged: Purchased, functional: Functional, start: Array, expected: Expected, rule: CalibrationRule, rows: Array,
    share: float,
) -> Stage:  # fmt: skip
    """Return the root of the calibrated estimating equation of one stage.

    Multipliers are those at `start`. For functionals of the label itself the root is exact; for others it is one
    Newton step, for the expectations were made at `start`.
    """
    weight = judged.labelled / judged.label_probability
    of_label = functional.root_information(judged, start) is not None
    back = np.linalg.pinv(functional.slope(judged, start, weight)).T
    psi, parts = _influences(judged, functional, start, back, expected)
    matrices = multipliers(psi, weight, parts, rule.calibration, rule.metric)
    values = influence(psi, weight, parts, matrices)
    theta, step = start + (0.0 if of_label else values.mean(0)), np.zeros(len(start))
    for _ in range(_STEPS if of_label else 0):
        slope = _Equation(judged, functional, theta, back).slope(weight, parts, matrices)
        step = np.linalg.lstsq(slope, values.mean(0), rcond=None)[0]
        theta = theta + step
        psi, parts = _influences(judged, functional, theta, back, expected)
        values = influence(psi, weight, parts, matrices)
        if np.abs(step).max() <= 1e-12 * (1 + np.abs(theta).max()):
            break
    if not np.isfinite(theta).all() or np.abs(step).max() > 1e-8 * (1 + np.abs(theta).max()):
        raise FitError(f"{type(functional).__name__} has no root near the estimate from labels alone; buy more labels")
    values = values - values.mean(0)
    at = _Equation(judged, functional, theta, back)
    lost = learned(psi, parts, judged.labelled, rule.calibration)
    large = at.corrected(values, weight, parts, matrices, lost)
    full = at.corrected(psi * np.sqrt(weight)[:, None], weight, [], [], 0)
    df = at.cluster_degrees(values, weight, parts, matrices)
    scale = at.scale(weight, parts, matrices)
    return Stage(rows, share, theta, psi, weight, parts, matrices, values, large, full, scale, df)


@dataclass(frozen=True, eq=False)
class _Equation:
    """The estimating equation of a table at theta, scaled by `back`, the inverse slope of all units."""

    judged: Purchased
    functional: Functional
    theta: Array
    back: Array

    def slope(self, weight: Array, parts: list[Bracket], matrices: list[list[Array]]) -> Array:
        """Return minus the derivative of the mean influence [parameter, parameter]: weighted as the brackets weigh."""

        def information(weight: Array) -> Array:
            return np.asarray((self.root * weight[:, None]).T @ self.root / len(self.root))

        slope = self.back.T @ information(weight)
        for part, each in zip(parts, matrices, strict=True):
            slope = slope - sum(each) @ self.back.T @ information(part.weight)
        return np.asarray(slope)

    def corrected(
        self, values: Array, weight: Array, parts: list[Bracket], matrices: list[list[Array]], lost: int
    ) -> Array:
        """Return influence values [unit, parameter] as large as their errors, at the slope of the labels at hand.

        Multipliers, `lost` for each parameter, are regressions over labels: they use up degrees of freedom.
        """
        labels = int((weight > 0).sum())
        if self.of_label:
            values, root, pull = self._scaled(values, weight, parts, matrices)
            values = corrected(values, root, pull, self.judged.cluster)
        else:
            lost += len(self.theta)
        return np.asarray(values / np.sqrt(max(1 - lost / labels, 1 / labels)))

    def cluster_degrees(
        self, values: Array, weight: Array, parts: list[Bracket], matrices: list[list[Array]]
    ) -> Array | None:
        """Return degrees of freedom [parameter] by clusters; None without clusters, or without errors r e."""
        if self.judged.cluster is None or not self.of_label:
            return None
        return cluster_degrees(*self._scaled(values, weight, parts, matrices), self.judged.cluster)

    def scale(self, weight: Array, parts: list[Bracket], matrices: list[list[Array]]) -> Array:
        """Return standard deviations [unit, parameter] of values r k e for errors e of one size."""
        pull = np.abs(_pull(weight, parts, matrices))[:, None]
        if not self.of_label:
            return np.asarray(np.repeat(pull, len(self.theta), axis=1))
        slope = np.linalg.pinv(self.slope(weight, parts, matrices))
        return np.asarray(np.abs(self.root @ self.back @ slope.T) * pull)

    @cached_property
    def of_label(self) -> bool:
        """Whether there is an r."""
        return self.functional.root_information(self.judged, self.theta) is not None

    @cached_property
    def root(self) -> Array:
        """Roots r [unit, parameter] of the functional."""
        return np.asarray(self.functional.root_information(self.judged, self.theta))

    def _scaled(
        self, values: Array, weight: Array, parts: list[Bracket], matrices: list[list[Array]]
    ) -> tuple[Array, Array, Array]:
        """Return values at the slope of the labels at hand, r [unit, parameter], how often a moment counts [unit]."""
        slope = np.linalg.pinv(self.slope(weight, parts, matrices))
        return values @ slope.T, self.root, _pull(weight, parts, matrices)


def _pull(weight: Array, parts: list[Bracket], matrices: list[list[Array]]) -> Array:
    """Return how often the moment of a unit counts [unit], brackets and all."""
    for part, each in zip(parts, matrices, strict=True):
        weight = weight - part.weight * np.mean(np.diag(sum(each)))
    return weight
