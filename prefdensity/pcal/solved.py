"""A solved estimate: stages averaged, influence values, and what limits are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from prefdensity.errors import DataError, FitError
from prefdensity.pcal.functionals import Functional
from prefdensity.pcal.intervals import (
    clustered,
    critical,
    degrees,
    effective,
    inflation,
    skewness,
    spread,
    two_sided,
)
from prefdensity.pcal.stages import CalibrationRule, Expected, Stage, average, solve_stages

Array = NDArray[Any]

_MAX_T_DRAWS = 100_000
_FARTHEST = 8.0  # z, beyond which a p-value is 1e-15


@dataclass(frozen=True, eq=False)
class Solved:
    """A solved estimate with its influence values: what is asked of `PcalEstimate` is worked out from it.

    Attributes
    ----------
    names, theta
        Parameters and their estimates [parameter].
    covariance
        Of the estimates [parameter, parameter].
    influence
        [unit, parameter]: theta - truth is about their mean; covariance is their spread, by cluster if there are any.
        They are as large as the errors of few labels (HC2, CR2).
    df, skewness
        Degrees of freedom of the variances, infinite where the variance is known, and skewness of the estimates
        [parameter], 0 by cluster and where limits know it.
    rule, level
        How nuisances are used; mass of the intervals.
    judged
        The table: a `prefdensity.judged.units.Judged`, or any `prefdensity.judged.rungs.Purchased`.
    start
        The estimate from labels alone [parameter], where nuisances were asked.
    stages
        Estimates from the single stages, which `theta` averages by their shares.
    expected
        E[h(Y) | seen on the next rung] [unit, k], out of fold, for each rung and nuisance: of a table with labels and
        preferences, given covariates, outputs and preferences, then given covariates and outputs.
    population
        Size of the finite population that is spoken of; None: infinite.
    budget
        Mean cost of a unit that was allowed; None: not said.
    """

    names: tuple[str, ...]
    theta: Array
    covariance: Array
    influence: Array
    df: Array
    skewness: Array
    rule: CalibrationRule
    level: float
    judged: Any
    functional: Functional
    start: Array
    stages: list[Stage]
    expected: Expected
    population: int | None
    budget: float | None

    @cached_property
    def standard_error(self) -> Array:
        """Standard errors [parameter]."""
        return np.asarray(np.sqrt(np.maximum(np.diag(self.covariance), 0.0)))  # a census rounds to either side of 0

    @property
    def calibration(self) -> str:
        """As asked for."""
        return self.rule.calibration

    @cached_property
    def stage_weight(self) -> Array:
        """How often a unit counts [unit], for the share of its stage in the average; 1 on average."""
        out = np.empty(len(self.judged))
        for stage in self.stages:
            out[stage.rows] = stage.share * len(out) / stage.rows.sum()
        return out

    @cached_property
    def label_weight(self) -> Array:
        """S1/p1 times the weight of the stage [unit]."""
        return np.asarray(self.stage_weight * self.judged.labelled / self.judged.label_probability)

    @property
    def effective_labels(self) -> float:
        """Number of independent labels 0 and 1 that would tell a rate as well; infinite for a census."""
        return self.effective_labels_among(np.ones(len(self.judged), bool), 0)

    def effective_labels_among(self, member: Array, index: int) -> float:
        """Return the same for the rate of a subgroup, bool [unit], that is the parameter of this index."""
        weight, label = self.label_weight * member, np.nan_to_num(self.judged.label)
        unit = (weight**2).sum() / member.sum() ** 2
        rate = weight @ label / max(weight.sum(), 1e-300)
        yes, no = (weight[label == side] for side in (1.0, 0.0))
        events = min(effective(side[side > 0]) if side.any() else 0.0 for side in (yes, no))
        values = np.concatenate([s.influence[:, index] * self.stage_weight[s.rows] for s in self.stages])
        rows = np.concatenate([np.flatnonzero(s.rows) for s in self.stages])
        sums = clustered(values, None if self.judged.cluster is None else self.judged.cluster[rows])
        variance = (sums**2).sum() / len(weight) ** 2
        if self.judged.cluster is not None:
            variance = variance * len(sums) / (len(sums) - 1)
        binomial, of = np.array([rate * (1 - rate) * unit]), np.array([events])
        times = float(inflation(np.array([variance]), binomial, of)[0])
        left = times / effective(weight[weight > 0]) - (0.0 if self.population is None else 1 / self.population)
        return 1 / left if left > 0 else np.inf

    def __str__(self) -> str:
        return f"{self!r}\n{self.to_frame().to_string(index=False, float_format=lambda x: f'{x:.4g}')}"

    def to_frame(self) -> pd.DataFrame:
        """Return `summary`, with infinite ends where labels are too few for two."""
        return self.table(self.critical(None))

    def summary(self, level: float | None = None) -> pd.DataFrame:
        """Return one row per parameter: parameter, estimate, se, lower, upper.

        Limits are those of Student's t with `df` degrees of freedom; Wilson's for a rate; of an inverted test for a
        quantile.

        Raises
        ------
        FitError
            If labels are too few for an interval with two ends.
        """
        table = self.table(self.critical(level))
        for end in ("lower", "upper"):
            for name in table["parameter"][~np.isfinite(table[end])]:
                raise FitError(
                    f"the interval of {name} has no {end} end: {int(self.judged.labelled.sum())} labels are too few "
                    "for it; buy more, or ask for a quantile nearer to the middle"
                )
        return table

    def contrast(self, weights: Mapping[str, float], against: float = 0.0, level: float | None = None) -> pd.Series:
        """Return a weighted sum of parameters: estimate, se, lower, upper, and the p-value of its being `against`.

        With the degrees of freedom of the parameter in it that has fewest.

        Parameters
        ----------
        weights
            By parameter, such as {"segment=b": 1, "segment=a": -1} for a difference; others have none.
        against
            What is tested.
        level
            Mass of the interval; None: that of the estimate.

        Raises
        ------
        DataError
            For a parameter that is not there, or no weight.
        """
        for name in weights:
            if name not in self.names:
                raise DataError(f"there is no parameter {name!r}; parameters are {', '.join(self.names)}")
        w = np.array([weights.get(name, 0.0) for name in self.names], float)
        if not w.any():
            raise DataError("a contrast needs a weight that is not 0")
        value, error = float(w @ self.theta), float(np.sqrt(max(w @ self.covariance @ w, 0.0)))
        df = float(self.df[w != 0].min())
        skew = float(skewness(self.influence @ w)) if self.skewness.any() else 0.0
        half = float(critical(self._normal(level), np.asarray(df), np.asarray(skew))) * error
        p_value = two_sided((value - against) / error, df, skew) if error > 0 else float(value == against)
        found = {"estimate": value, "se": error, "lower": value - half, "upper": value + half, "p_value": p_value}
        return pd.Series(found)

    def differences(self, level: float | None = None) -> pd.DataFrame:
        """Return every difference of two parameters, such as subgroups: first, second, and the columns of `contrast`.

        Each interval and p-value is for its difference alone.
        """
        pairs = list(combinations(self.names, 2))
        rows = [self.contrast({one: 1.0, other: -1.0}, level=level) for one, other in pairs]
        table = pd.DataFrame(rows, columns=["estimate", "se", "lower", "upper", "p_value"])
        names = pd.DataFrame(pairs, columns=["first", "second"])
        return pd.concat([names, table.reset_index(drop=True)], axis=1)

    def p_values(self, against: float = 0.0) -> pd.Series:
        """Return for each parameter the p-value of its being `against`: the interval of mass 1 - p ends there."""
        found = []
        for index, name in enumerate(self.names):
            side = "lower" if self.theta[index] > against else "upper"

            def beyond(z: float, index: int = index, side: str = side) -> float:
                return abs(self.theta[index] - against) - abs(
                    self.theta[index] - float(self.table(self.as_normal(np.full(len(self.names), z)))[side][index])
                )

            end = _FARTHEST if beyond(_FARTHEST) > 0 else brentq(beyond, 0.0, _FARTHEST) if beyond(0.0) > 0 else 0.0
            found.append((name, 2 * float(ndtr(-end))))
        return pd.Series(dict(found), name="p_value")

    def bands(self, level: float | None = None, *, seed: int = 0) -> pd.DataFrame:
        """Return intervals that hold for all parameters at once: max-t by a Gaussian multiplier bootstrap.

        The bootstrap of influence values with Gaussian multipliers is Gaussian with their correlation: so it is drawn.
        An end that so few labels cannot give is infinite.
        """
        se = np.where(self.standard_error > 0, self.standard_error, 1.0)
        correlation = self.covariance / np.outer(se, se)
        root = np.linalg.cholesky(correlation + 1e-12 * np.eye(len(se)))
        draws = np.random.default_rng(seed).normal(size=(_MAX_T_DRAWS, len(se))) @ root.T
        most = float(np.quantile(np.abs(draws).max(1), self.mass(level)))
        return self.table(self.as_normal(most))

    def table(self, critical: Array) -> pd.DataFrame:
        """Return parameter, estimate, se, lower, upper for critical values [parameter]."""
        lower, upper = self.functional.limits(self, critical)
        columns = {"estimate": self.theta, "se": self.standard_error, "lower": lower, "upper": upper}
        return pd.DataFrame({"parameter": self.names, **columns})

    def critical(self, level: float | None) -> Array:
        """Return the critical values [parameter] at a level; None: that of the estimate."""
        return self.as_normal(self._normal(level))

    def as_normal(self, z: ArrayLike) -> Array:
        """Return the critical values [parameter] that stand for z of a normal: see `intervals.critical`."""
        return critical(z, self.df, self.skewness)

    def _normal(self, level: float | None) -> float:
        return float(ndtri(0.5 + self.mass(level) / 2))

    def mass(self, level: float | None) -> float:
        """Return the mass of intervals, that of the estimate for None."""
        level = self.level if level is None else level
        if not 0 < level < 1:
            raise DataError(f"level={level!r} must lie strictly between 0 and 1")
        return level


def assemble(
    judged: Any, functional: Functional, start: Array, expected: Expected, rule: CalibrationRule, level: float,
    population: int | None, budget: float | None,
) -> Solved:  # fmt: skip
    """Return the estimate that given expectations lead to; see `estimate.pcal`."""
    stages = solve_stages(judged, functional, start, expected, rule)
    theta, values = average(stages, judged)
    covariance = spread(values, judged.cluster)
    if population is not None:
        full = np.concatenate([stage.full for stage in stages])
        covariance = covariance - full.T @ full / len(judged) / population
    df = _degrees(judged, functional, values, stages)
    simple = judged.cluster is None and not functional.known_variance(judged)
    skew = skewness(values) if simple else np.zeros_like(df)
    found = Solved(
        functional.names(judged), theta, covariance, values, df, skew, rule, level, judged, functional, start, stages,
        expected, population, budget,
    )  # fmt: skip
    return replace(found, theta=functional.settle(found))


def _degrees(judged: Any, functional: Functional, values: Array, stages: list[Stage]) -> Array:
    size = values.shape[1]
    if judged.cluster is None:
        if functional.known_variance(judged):
            return np.full(size, np.inf)
        scale, group = np.empty_like(values), judged.pattern.copy()
        for number, stage in enumerate(stages):
            scale[stage.rows] = stage.scale
            group[stage.rows] += number * (len(judged.rungs) + 1)
        return degrees(values, scale, group, int(judged.labelled.sum()))
    parts = [(s.share**2 * np.diag(spread(s.corrected, judged.cluster[s.rows])), s.df) for s in stages]
    if functional.known_variance(judged) or any(df is None for _, df in parts):
        labels = judged.labelled / judged.label_probability
        return np.full(size, max(effective(labels, judged.cluster) - size, 1.0))
    # of a sum of independent variances (Satterthwaite)
    fourth = np.sum([v**2 / df for v, df in parts if df is not None], axis=0)
    return np.asarray(np.sum([v for v, _ in parts], axis=0) ** 2 / np.maximum(fourth, 1e-300))
