"""What to buy for the money: a shopping list over the rungs of a ladder, from a pilot and prices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

from prefdensity.errors import DataError
from prefdensity.judged.measured import LABEL, Measured
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.criteria import Criterion
from prefdensity.pcal.estimate import CrossFitted
from prefdensity.pcal.functionals import Functional, Mean
from prefdensity.pcal.ladder import RungRegression
from prefdensity.pcal.ladder_option import LadderOption, learn_option

Array = NDArray[Any]

_MOST_RUNGS, _MOST_ORDERED = 8, 4


@dataclass(frozen=True, eq=False)
class LadderPlan:
    """What a pilot says of every ladder that its rungs allow, at their prices.

    Attributes
    ----------
    options
        All ladders with some of the rungs below the label, or none, in every order where that is free; the first is
        labels alone, without the free measures.
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
        return self._half(option, p)

    def ways(self) -> pd.DataFrame:
        """Return what the same money buys: way, labels, half.

        "labels only" uses nothing else, "labels and free measures" is prediction-powered inference, "ladder" is the
        plan, "ladder, judges useless" what is left of it if all that is bought beside labels tells nothing. Labels that
        are kept from earlier rounds count everywhere.
        """
        option, p = self.best()
        labels, free = ((each, each.probabilities(self.money, self.units)) for each in self._alone)
        rows = [("labels only", *labels, 0.0), ("labels and free measures", *free, 0.0), ("ladder", option, p, 0.0),
                ("ladder, judges useless", option, p, 1.0)]  # fmt: skip
        table = [(way, each.owned[0] + q[0] * self.units, self._half(each, q, worse)) for way, each, q, worse in rows]
        return pd.DataFrame(table, columns=["way", "labels", "half"])

    def worse(self, shares: ArrayLike = (0.0, 0.25, 0.5, 0.75, 1.0)) -> pd.DataFrame:
        """Return what is lost if the judges are worse than they looked: worse, half, best, labels_and_free.

        Parameters
        ----------
        shares
            Of what bought measures told in the pilot beyond free ones, that they do not tell in the end.

        Returns
        -------
        DataFrame
            half: of the interval that the plan then gives; best: had it been known; labels_and_free: had no judge been
            asked.
        """
        option, p = self.best()
        bare = self._alone[1]
        without = self._half(bare, bare.probabilities(self.money, self.units))
        rows = []
        for worse in np.asarray(shares, float):
            if not 0 <= worse <= 1:
                raise DataError(f"shares hold {worse:g}; what is not told lies between 0 and 1")
            left = [replace(each, left=each.left + worse * (each.left[-1] - each.left)) for each in self.options]
            known, best = self._best(left, self.money)
            rows.append((float(worse), self._half(option, p, worse), self._half(known, best), without))
        return pd.DataFrame(rows, columns=["worse", "half", "best", "labels_and_free"])

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
        return (self.parameters + 2) * min(prices) * (1 + 1e-9), min(prices) * self.units

    def _break_even(self, name: str) -> float:
        mine = [each for each in self.options if name in each.names]
        without = self._shortest([each for each in self.options if name not in each.names])

        def gain(price: float) -> float:
            at = [replace(each, prices=np.where([n == name for n in each.names], price, each.prices)) for each in mine]
            return self._shortest(at) / without - 1

        least, most = 1e-9 * float(mine[0].prices.sum()), float(sum(self.pilot.prices))  # type: ignore[arg-type]
        if gain(least) >= -1e-12:
            return 0.0
        return float(brentq(gain, least, most)) if gain(most) > 0 else most

    @property
    def _alone(self) -> tuple[LadderOption, LadderOption]:
        """Labels without the free measures, and with them."""
        return self.options[0], self.options[1]

    def _shortest(self, options: Sequence[LadderOption]) -> float:
        return self._half(*self._best(options, self.money))

    def _best(self, options: Sequence[LadderOption], money: float) -> tuple[LadderOption, Array]:
        if not (np.isfinite(money) and money > 0):
            raise DataError(f"money={money!r} must be positive")
        found = [(each, each.probabilities(money, self.units)) for each in options]
        best = min(found, key=lambda pair: self._half(*pair))
        if not np.isfinite(self._half(*best)):
            need = (self.parameters + 2) * min(each.prices.sum() for each in options)
            raise DataError(
                f"money={money:g} buys too few labels for {self.parameters} parameters; {need:g} are needed"
            )
        return best

    def _half(self, option: LadderOption, p: Array, worse: float = 0.0) -> float:
        """Return the half length at probabilities [rung] of new units; infinite with too few labels for one.

        Student's t knows how few labels there are, and multipliers learned from them take their share.
        """
        labels = option.owned[0] + p[0] * self.units
        if labels <= self.parameters + 1 + option.learned:
            return np.inf
        variance = option.variance(option.share(p, self.units), worse) * labels / (labels - option.learned)
        critical = stdtrit(labels - self.parameters, 0.5 + self.level / 2)
        return float(critical * np.sqrt(variance / (option.kept + self.units)))


def ladder_plan(
    pilot: Measured, *, money: float, units: int, kept: Measured | None = None, functional: Functional | None = None,
    nuisance: CrossFitted | None = None, criterion: Criterion = "relative", calibration: str = "scalar",
    level: float = 0.9, folds: int = 5, seed: int = 0,
) -> LadderPlan:  # fmt: skip
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
        To buy from, new ones.
    kept
        What was bought before and stays in the estimate, of units like the new ones (see `rounds.pooled`), such as the
        pilot itself; None: nothing. It counts in the intervals, and new money goes where it is missing.
    functional, nuisance, criterion, calibration, level, folds, seed
        As in `ladder.ladder`; the criterion must be one contrast for half lengths: a parameter's name, where there are
        several.

    Raises
    ------
    DataError
        If the pilot has no prices or too few labels, or these do not vary, or the criterion is not one contrast.
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
    if kept is not None and kept.ladder != pilot.ladder:
        raise DataError(f"kept has another ladder than the pilot: {kept.ladder}, not {pilot.ladder}")
    owned = np.zeros(len(pilot.ladder)) if kept is None else kept.probabilities.sum(0)
    options = tuple(
        replace(
            learn_option(pilot.only(*rungs), functional, nuisance, criterion, calibration, folds, seed),
            kept=0 if kept is None else len(kept),
            owned=owned[[pilot.ladder.index(name) for name in (*rungs, LABEL)]][::-1],
        )
        for rungs in _ladders(pilot, kept)
    )
    plan = LadderPlan((options[0].labels_alone, *options), money, units, level, len(names), pilot)
    plan.best()
    if not plan._shortest(plan.options[:1]) > 0:
        raise DataError(
            "the labels of the pilot do not vary, so nothing tells what any rung is worth; label more units"
        )
    return plan


def _ladders(pilot: Measured, kept: Measured | None) -> Iterator[tuple[str, ...]]:
    """Yield the rungs of every ladder that may be bought, from the shortest: what is no better is not bought.

    Rungs come in every order where the pilot allows it and they are few: which judge to ask first is part of the plan.
    """
    inner = pilot.ladder[:-1]
    free = len(inner) <= _MOST_ORDERED and pilot.any_order and (kept is None or kept.any_order)
    for size in range(len(inner) + 1):
        yield from (permutations if free else combinations)(inner, size)
