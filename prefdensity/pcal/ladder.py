"""Estimates from a ladder of measurements of any length: free measures, dearer ones, labels.

The estimating equation is that of labels and preferences (`prefdensity.pcal.estimate`) with one bracket for each rung:
monotone missingness with known probabilities (Robins, Rotnitzky and Zhao 1994). With no rung but the label it is
prediction-powered inference with a tuned multiplier (Angelopoulos, Duchi and Zrnic 2023).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.judged.measured import Measured
from prefdensity.pcal.criteria import Criterion
from prefdensity.pcal.diagnostics import few
from prefdensity.pcal.estimate import CrossFitted, solve
from prefdensity.pcal.functionals import Functional, LabelFunction, Mean
from prefdensity.pcal.nonresponse import losses
from prefdensity.pcal.nuisances import least_squares
from prefdensity.pcal.purchase_checks import score_test
from prefdensity.pcal.solved import Solved, assemble
from prefdensity.words import counted

Array = NDArray[Any]

_ALARMS = 0.026  # of all tests of a valid table together


@dataclass(frozen=True, eq=False)
class RungRegression:
    """E[h(Y) | what is seen up to a rung] by regression over labelled units, for every rung.

    Regressions leave a fold out, but all have the mean of all labels: means of labels outside a fold fall where those
    within rise, and where a rung tells little that would be most of what a guess says. Slopes are of least squares
    within rounds, between which a judge may become milder.

    Attributes
    ----------
    regressor
        Anything with `fit(X, y)` and `predict(X)`, not fitted; None: least squares.
    """

    regressor: Any = None

    def cross_fit(self, judged: Measured, function: LabelFunction, fold: Array) -> tuple[Array, ...]:
        """Return expectations [unit, k] for each rung from the label down, given what is seen on the next one."""
        target, out = function.at_labels(judged), []
        mean = target[judged.labelled].mean(0)
        for rung in range(len(judged.ladder))[::-1]:
            known = judged.known(rung)
            guess = np.empty_like(target)
            for each in np.unique(fold):
                train, test = judged.labelled & (fold != each), fold == each
                away = mean - target[train].mean(0)
                x, y = known[train], target[train]
                if self.regressor is None and judged.stage is not None:
                    x, y = (_within(part, judged.stage[train]) for part in (x, y))
                guess[test] = self._predict(x, y, known[test]) + away
            out.append(guess)
        return tuple(out)

    def _predict(self, train: Array, target: Array, test: Array) -> Array:
        if self.regressor is None:
            return np.asarray(test @ least_squares(train, target))
        columns = []
        for column in target.T:  # the intercept, the first feature, is the regressor's own business
            fitted = copy.deepcopy(self.regressor).fit(train[:, 1:], column)
            columns.append(np.asarray(fitted.predict(test[:, 1:]), float).reshape(-1))
        return np.column_stack(columns)


def _within(values: Array, stage: Array) -> Array:
    """Return values [unit, k] as if all stages [unit] had the same mean."""
    out = values + values.mean(0)
    for each in np.unique(stage):
        out[stage == each] -= values[stage == each].mean(0)
    return np.asarray(out)


@dataclass(frozen=True, eq=False)
class LadderEstimate(Solved):
    """An estimate from a ladder; attributes are those of `solved.Solved`, whose questions it answers."""

    def __repr__(self) -> str:
        return f"LadderEstimate({', '.join(self.names)}; {self.judged!r})"

    def comparison(self, level: float | None = None) -> pd.DataFrame:
        """Return what the same labels tell alone, with the free measures (PPI), and with the whole ladder.

        One row per method and parameter, as in `summary`.
        """
        label = self.judged.without(*self.judged.ladder[:-1])
        last, rule = self.expected[-1:], self.rule
        methods: dict[str, Solved] = {
            name: assemble(label, self.functional, self.start, last, each, self.level, self.population, None)
            for name, each in (("labels only", replace(rule, calibration="none")), ("labels and free measures", rule))
        }
        methods["ladder"] = self
        rows = [each.table(each.critical(level)).assign(method=name) for name, each in methods.items()]
        return pd.concat(rows, ignore_index=True)[["method", "parameter", "estimate", "se", "lower", "upper"]]

    def purchase_tests(self) -> pd.DataFrame:
        """Return tests of purchases against their probabilities: rung, planned, bought, test, p_value.

        For every rung, of the number bought, and of whether who was bought goes with what was seen below: covariates,
        free measures, and the rungs below, which a measure made otherwise where more is bought gives away.
        """
        table, rows = self.judged, []
        one = np.ones((len(table), 1))
        among, below = np.ones(len(table), bool), np.ones(len(table))
        for index, rung in enumerate(table.rungs[::-1]):
            chance, came = rung.probability / below, rung.bought
            seen = table.known(index)[among, 1:]
            spread = seen.std(0)
            seen = (seen - seen.mean(0))[:, spread > 0] / spread[spread > 0]
            cluster = None if table.cluster is None else table.cluster[among]
            numbers = (rung.name, float((chance * among).sum()), int(came.sum()))
            tests = {"number": (one[among, :0], one[among]), "what was seen below": (one[among], seen)}
            for name, (about, tested) in tests.items():
                p_value = score_test(came[among], chance[among], about, tested, cluster)[2]
                rows.append((*numbers, name, p_value))
            among, below = came, rung.probability
        return pd.DataFrame(rows, columns=["rung", "planned", "bought", "test", "p_value"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before the intervals are used."""
        tests = self.purchase_tests()
        wrong = tests[tests["p_value"] < _ALARMS / len(tests)].to_dict("records")
        said = [
            f"{counted(row['bought'], row['rung'])} were bought where {row['planned']:,.0f} were planned "
            f"({row['test']}: p {row['p_value']:.1g}): what was bought did not come back, the probabilities are not "
            "those bought by, or a measure is made otherwise where more is bought; intervals need all three"
            for row in wrong
        ]
        return (*few(self), *said, *self._lost())

    def _lost(self) -> list[str]:
        """Return what never came back of what was asked for, and what that may do."""
        table = self.judged
        if table.asked is None:
            return []
        out = []
        for row in losses(table).to_dict("records"):
            lost = row["asked"] - row["came"]
            if not lost:
                continue
            off = "" if np.isnan(row["off"]) else (
                f"; labels that are lost for their own value are repaired by nothing: one standard deviation above "
                f"the others, they would move a mean of labels by {row['off']:.2g}"
            )  # fmt: skip
            how = "weights hold for losses by what was seen" if table.returned is not None else (
                "weigh by the chance of coming back, or nothing about a unit may go with its loss"
            )  # fmt: skip
            tested = " and it goes with what was seen of them" if row["p_value"] < _ALARMS else ""
            out.append(
                f"{lost:,} of {counted(row['asked'], row['rung'])} asked for never came back{tested}: {how}{off}"
            )
        return out


def ladder(
    measured: Measured,
    functional: Functional | None = None,
    nuisance: CrossFitted | Sequence[CrossFitted] | None = None,
    *,
    criterion: Criterion = "relative",
    calibration: str = "scalar",
    folds: int = 5,
    level: float = 0.9,
    population: int | None = None,
    seed: int = 0,
) -> LadderEstimate:
    """Estimate a functional of covariates and labels from all rungs of a ladder together.

    Parameters
    ----------
    measured
        What was bought.
    functional
        What to estimate; None: `Mean()`.
    nuisance
        Where conditional expectations come from, one or several; None: `RungRegression()`.
    criterion, calibration, folds, level, population, seed
        As in `prefdensity.pcal.pcal`.

    Raises
    ------
    DataError, FitError
        As `prefdensity.pcal.pcal`.
    """
    recipes = (RungRegression(),) if nuisance is None else nuisance
    recipes = tuple(recipes) if isinstance(recipes, Sequence) else (recipes,)
    solved = solve(
        measured, functional or Mean(), recipes, criterion, calibration, folds, level, population, None, seed
    )
    return LadderEstimate(**{each.name: getattr(solved, each.name) for each in fields(solved)})
