"""What to buy for the money: a shopping list over the rungs of a ladder, from a pilot and prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import t

from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.judged.rungs import Rung
from prefdensity.pcal import criteria
from prefdensity.pcal.allocation import allocate, draw
from prefdensity.pcal.calibration import brackets, multipliers, residuals
from prefdensity.pcal.criteria import Criterion
from prefdensity.pcal.estimate import CrossFitted
from prefdensity.pcal.functionals import Functional, Mean
from prefdensity.pcal.ladder import RungRegression
from prefdensity.pcal.nuisances import folds_of

Array = NDArray[Any]

_MOST_RUNGS = 8


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
    """

    names: tuple[str, ...]
    prices: Array
    whole: float
    left: Array

    def probabilities(self, budget: float) -> Array:
        """Return the best probabilities [rung] at a mean cost of a unit: see `allocation.allocate`."""
        return np.asarray(allocate([np.diff(self.left, prepend=0.0)], self.prices, budget)[0])

    def variance(self, p: Array) -> float:
        """Return the variance of the criterion in one unit at probabilities [rung]."""
        return float(self.whole + self.left @ (1 / p - 1 / np.append(p[1:], 1.0)))

    def variance_if_useless(self, p: Array) -> float:
        """Return it where bought measures tell nothing that free ones do not."""
        return float(self.whole + self.left[-1] * (1 / p[0] - 1))


@dataclass(frozen=True, eq=False)
class LadderPlan:
    """What a pilot says of every ladder that its rungs allow, at their prices.

    Attributes
    ----------
    options
        All ladders with some of the rungs below the label, or none.
    money
        To be spent on `units`.
    units
        How many there are to buy from; free measures are had for all.
    level
        Mass of intervals.
    parameters
        How many are estimated.
    pilot
        The table learned from.
    """

    options: tuple[LadderOption, ...]
    money: float
    units: int
    level: float
    parameters: int
    pilot: Measured

    def __repr__(self) -> str:
        return f"LadderPlan({self.money:g} on {self.units:,} units: half length {self.half():.3g})"

    def __str__(self) -> str:
        tables = (
            each.to_string(index=False, float_format=lambda x: f"{x:.4g}") for each in (self.shopping(), self.ways())
        )
        return "\n".join([repr(self), *tables])

    def to_frame(self) -> pd.DataFrame:
        """Return the shopping list."""
        return self.shopping()

    def best(self, money: float | None = None) -> tuple[LadderOption, Array]:
        """Return the ladder with the shortest interval for the money, and its probabilities [rung].

        Raises
        ------
        DataError
            If the money buys no more labels than there are parameters.
        """
        return self._best(self.options, self.money if money is None else money)

    def shopping(self) -> pd.DataFrame:
        """Return the shopping list: what, price, units, cost; from the poorest rung to the label."""
        option, p = self.best()
        table = pd.DataFrame({"what": option.names, "price": option.prices, "units": p * self.units})[::-1]
        return table.assign(cost=table["price"] * table["units"]).reset_index(drop=True)

    def half(self, money: float | None = None) -> float:
        """Return the expected half length of the interval."""
        option, p = self.best(money)
        return self._half(option.variance(p), p)

    def ways(self) -> pd.DataFrame:
        """Return what the same money buys: way, labels, half, loss.

        "labels only" uses nothing else, "labels and free measures" is prediction-powered inference, "ladder" is the
        plan, "ladder, judges useless" what is left of it if all that is bought beside labels tells nothing.
        """
        bare = next(each for each in self.options if len(each.names) == 1)
        option, p = self.best()
        alone = self._best([bare], self.money)[1]
        rows = [
            ("labels only", alone[0], bare.whole / alone[0]),
            ("labels and free measures", alone[0], bare.variance(alone)),
            ("ladder", p[0], option.variance(p)),
            ("ladder, judges useless", p[0], option.variance_if_useless(p)),
        ]
        table = pd.DataFrame(rows, columns=["way", "labels", "half"])
        table["half"] = [self._half(variance, np.array([share])) for _, share, variance in rows]
        return table.assign(labels=table["labels"] * self.units)

    def curve(self, moneys: ArrayLike) -> pd.DataFrame:
        """Return one row per sum of money: money, ladder, labels_and_free, labels_only (half lengths)."""
        rows = []
        for money in np.asarray(moneys, float):
            half = replace(self, money=float(money)).ways().set_index("way")["half"]
            rows.append((float(money), half["ladder"], half["labels and free measures"], half["labels only"]))
        return pd.DataFrame(rows, columns=["money", "ladder", "labels_and_free", "labels_only"])

    def moneys(self, count: int) -> Array:
        """Return sums of money from the least that can be planned with to labels for all, evenly spaced in ratio."""
        return np.geomspace(*self._range, count)

    def money_for(self, half: float) -> float:
        """Return the least money for an interval of this half length.

        Raises
        ------
        DataError
            If labels for all units are not enough.
        """
        least, most = self._range
        if self.half(most) > half:
            raise DataError(
                f"an interval of +- {half:g} needs more units: labels for all {self.units:,} give +- "
                f"{self.half(most):.3g}"
            )
        if self.half(least) <= half:
            return float(least)
        return float(brentq(lambda money: self.half(money) - half, least, most, xtol=1e-9 * most))

    def break_even(self) -> pd.DataFrame:
        """Return for each rung below the label: what, price, break_even.

        At its break-even price (what it adds to the rungs below) the best ladder with it is no better than the best
        without: 0 where it is worth nothing.
        """
        names = self.pilot.ladder[:-1]
        rows = []
        for name, price in zip(names, self.pilot.prices, strict=False):  # type: ignore[arg-type]
            rows.append((name, float(price), self._break_even(name)))
        return pd.DataFrame(rows, columns=["what", "price", "break_even"])

    def assign(self, count: int, *, seed: int = 0) -> pd.DataFrame:
        """Return who is bought what, for `count` units: buy (the dearest rung, or "nothing") and probabilities.

        Numbers are those planned, to one unit; probabilities are columns named after the rungs.
        """
        option, p = self.best()
        level = draw(np.tile(p, (count, 1)), seed)
        table = pd.DataFrame({"buy": np.array([*option.names, "nothing"], dtype=object)[level]})
        for name, chance in zip(option.names[::-1], p[::-1], strict=True):
            table[f"{name}_probability"] = chance
        return table

    @property
    def _range(self) -> tuple[float, float]:
        """Return the least money for labels beyond the parameters, and the price of labels for all."""
        prices = [each.prices.sum() for each in self.options]
        return (self.parameters + 2) * max(prices) * (1 + 1e-9), min(prices) * self.units

    def _break_even(self, name: str) -> float:
        place = {each.names: each for each in self.options}
        mine = [each for each in place.values() if name in each.names]
        rest = [each for each in place.values() if name not in each.names]
        without = self._variance(rest)

        def gain(price: float) -> float:
            at = [replace(each, prices=np.where([n == name for n in each.names], price, each.prices)) for each in mine]
            return self._variance(at) / without - 1

        least, most = 1e-9 * float(mine[0].prices.sum()), float(sum(self.pilot.prices))  # type: ignore[arg-type]
        if gain(least) >= -1e-12:
            return 0.0
        return float(brentq(gain, least, most)) if gain(most) > 0 else most

    def _variance(self, options: Sequence[LadderOption]) -> float:
        option, p = self._best(options, self.money)
        return option.variance(p)

    def _best(self, options: Sequence[LadderOption], money: float) -> tuple[LadderOption, Array]:
        if not (np.isfinite(money) and money > 0):
            raise DataError(f"money={money!r} must be positive")
        found = [(each, each.probabilities(money / self.units)) for each in options]
        enough = [(each, p) for each, p in found if p[0] * self.units > self.parameters + 1]
        if not enough:
            need = (self.parameters + 2) * min(each.prices.sum() for each in options)
            raise DataError(
                f"money={money:g} buys too few labels for {self.parameters} parameters; {need:g} are needed"
            )
        return min(enough, key=lambda pair: pair[0].variance(pair[1]))

    def _half(self, variance: float, p: Array) -> float:
        labels = p[0] * self.units
        critical = t.ppf(0.5 + self.level / 2, labels - self.parameters)
        return float(critical * np.sqrt(variance / self.units))


def ladder_plan(
    pilot: Measured,
    *,
    money: float,
    units: int,
    functional: Functional | None = None,
    nuisance: CrossFitted | None = None,
    criterion: Criterion = "relative",
    calibration: str = "scalar",
    level: float = 0.9,
    folds: int = 5,
    seed: int = 0,
) -> LadderPlan:
    """Learn from a pilot how to spend money on the rungs of a ladder, rungs left out among the choices.

    What a rung tells is measured on the pilot's labels, out of fold and after calibration. A label may so be bought
    without the rungs below it, where these are not worth their price.

    Parameters
    ----------
    pilot
        Units with all rungs, and prices.
    money
        To be spent, in the currency of the prices.
    units
        To buy from.
    functional, nuisance, criterion, calibration, level, folds, seed
        As in `ladder.ladder`; the criterion must be one contrast for half lengths: a parameter's name, where there are
        several.

    Raises
    ------
    DataError
        If the pilot has no prices or too few labels, or the criterion is not one contrast.
    """
    functional, nuisance = functional or Mean(), nuisance or RungRegression()
    names = functional.names(pilot)
    if pilot.prices is None:
        raise DataError("a plan needs prices; give prices= to Measured.from_frame, of every rung and of the label")
    if len(pilot.ladder) > _MOST_RUNGS:
        raise DataError(f"{len(pilot.ladder)} rungs are too many to try all ladders of; at most {_MOST_RUNGS}")
    if pilot.labelled.sum() <= len(names) + 1:
        raise DataError(f"the pilot has {pilot.labelled.sum()} labels; more than {len(names) + 1} are needed")
    if units < 2:
        raise DataError(f"units={units!r} must be at least 2")
    inner = pilot.ladder[:-1]
    skips = [skip for size in range(len(inner) + 1) for skip in combinations(inner, size)]
    options = tuple(
        _option(pilot.without(*skip), functional, nuisance, criterion, calibration, folds, seed) for skip in skips
    )
    plan = LadderPlan(options, money, units, level, len(names), pilot)
    plan.best()
    return plan


def _option(
    pilot: Measured, functional: Functional, nuisance: CrossFitted, criterion: Criterion, calibration: str, folds: int,
    seed: int,
) -> LadderOption:  # fmt: skip
    """Return what a pilot says of its ladder."""
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
        criteria.size(residuals(psi, part, each), metric, weight) for part, each in zip(parts, matrices, strict=True)
    ]
    whole = criteria.size(psi, metric, weight)
    assert pilot.prices is not None  # asked for before
    return LadderOption(pilot.ladder[::-1], pilot.prices[::-1], whole, np.minimum(left, whole))
