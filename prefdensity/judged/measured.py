"""Units measured on a ladder of any length: free measures, then dearer ones, each bought with all below it, a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import column_names
from prefdensity.errors import DataError
from prefdensity.judged.columns import as_names, first_row, read_groups, require_columns
from prefdensity.judged.measures import (
    by_rung,
    came,
    read_asked,
    read_chances,
    read_features,
    read_label,
    read_measures,
    read_prices,
    read_sides,
    read_subgroups,
)
from prefdensity.judged.rungs import Rung

Array = NDArray[Any]

LABEL = "label"


@dataclass(frozen=True, eq=False)
class Measured:
    """Units of which everyone has free measures, some have dearer ones, and some a label.

    Purchases are nested: whoever is measured on a rung is measured on all rungs below it. The probabilities of being
    bought are the analyst's own and known; given them, who is bought on a rung may depend on what was seen below it
    only. A measure must be made the same way whatever is bought besides. With no rung but the label this is
    prediction-powered inference (Angelopoulos et al. 2023) with the free measures as proxies.

    Attributes
    ----------
    covariates
        float64 [unit, covariate] of the target, without intercept.
    outputs
        float64 [unit, k]: free measures that are no covariates, such as a score of a model.
    measures
        float64 [unit, k] for each rung but the label, from the poorest; NaN where it was not bought.
    label
        float64 [unit], NaN where not bought.
    probabilities
        float64 [unit, rung]: of being bought, from the poorest rung to the label.
    asked
        bool [unit, rung]: what was asked for, come back or not; None: not said, and everything counts as come back.
    returned
        float64 [unit, rung]: estimated chances that a rung that is asked for comes back, which the probabilities hold
        already. None: none are estimated.
    ladder
        Names of the rungs, from the poorest to "label".
    prices
        Of what a rung adds, in money; None: not said.
    covariate_names
        Of the columns of `covariates`.
    cluster, stage
        int64 [unit]; see `Judged`.
    source
        Where the table came from.
    """

    covariates: Array
    outputs: Array
    measures: tuple[Array, ...]
    label: Array
    probabilities: Array
    ladder: tuple[str, ...]
    prices: Array | None
    covariate_names: tuple[str, ...]
    cluster: Array | None = None
    stage: Array | None = None
    asked: Array | None = None
    returned: Array | None = None
    source: str = "data frame"

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        said = ", ".join(f"{int(rung.bought.sum())} {rung.name}" for rung in self.rungs[::-1])
        return f"Measured({len(self)} units: {said})"

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, ladder: Mapping[str, str | Sequence[str]] | None = None, label: str = LABEL,
        minus: str | None = None, values: Mapping[str, float] | None = None, covariates: Sequence[str] = (),
        by: str | None = None, between: tuple[str, str] | None = None, free: Sequence[str] = (),
        probabilities: Mapping[str, str] | None = None, prices: Mapping[str, float] | None = None,
        cluster: str | None = None, stage: str | None = None, buy: str | None = None, source: str = "data frame",
    ) -> Measured:  # fmt: skip
        """Validate a data frame of units, one row each.

        Parameters
        ----------
        frame
            One row per unit; empty cells where nothing was bought.
        ladder
            Rungs between what is free and the label, from the poorest: names, and the columns that each brings: numbers
            or up to 20 different words, such as verdicts; some may be empty where a rung was bought.
        label, minus
            Numeric columns: the label, and what is taken from it, as of two systems on the same units; both or neither.
        values
            What words of the label count, such as {"win": 1, "tie": 0.5, "loss": 0} for a win rate.
        by
            Column of subgroups; covariates are then indicators "column=word" of all of them, for `Means` of each.
        between
            Two columns that name the items of a comparison, of which the label is the share for the first, for
            `BradleyTerry`; covariates are then 1 and -1 for the items compared.
        covariates, free
            Columns without empty cells, of numbers or of up to 20 words: indicators "column=word", of covariates for
            all but the first word in their order.
        probabilities, prices
            For each rung and "label": the column of its probability (None: a pilot, all bought), its price.
        cluster, stage, buy, source
            Columns, as in the attributes; of `buy` the dearest rung asked for, or "nothing", as `LadderPlan.assign`
            writes it; what errors call the frame.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        rungs = _rungs(ladder or {})
        names = (*rungs, LABEL)
        chances = by_rung(probabilities, names, "probabilities")
        _require_one_source(covariates, by, between)
        optional = [name for name in (cluster, stage, minus, by, buy, *(between or ())) if name]
        inner = sum(map(list, rungs.values()), [])
        require_columns(frame, [*covariates, *free, *inner, label, *dict.fromkeys(chances), *optional], source)
        y = read_label(frame, label, minus, values, source)
        names_of, x = _covariates(frame, covariates, by, between, source)
        parts = [read_measures(frame, columns, source) for columns in rungs.values()]
        seen = [came(part) for part in parts] + [~np.isnan(y)]
        _require_rising(names, seen, source)
        asked = None if buy is None else read_asked(frame, buy, names, seen, source)
        wanted = seen if asked is None else [*asked.T]
        return cls(
            covariates=x, outputs=read_features(frame, free, source, baseline=False)[1],
            measures=tuple(parts), label=y, probabilities=read_chances(frame, chances, names, wanted, source),
            ladder=names, prices=read_prices(prices, names), covariate_names=column_names([*names_of], source),
            cluster=None if cluster is None else read_groups(frame, cluster, source),
            stage=None if stage is None else read_groups(frame, stage, source), asked=asked, source=source,
        )  # fmt: skip

    @property
    def labelled(self) -> Array:
        """Whether a label was bought [unit]."""
        return ~np.isnan(self.label)

    @property
    def label_probability(self) -> Array:
        """P(label) [unit]."""
        return np.asarray(self.probabilities[:, -1])

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The ladder, from the label down."""
        seen = [came(part) for part in self.measures] + [self.labelled]
        every = [Rung(n, s, p) for n, s, p in zip(self.ladder, seen, self.probabilities.T, strict=True)]
        return tuple(every[::-1])

    @property
    def pattern(self) -> Array:
        """int64 [unit]: how many rungs were not bought; 0 with a label."""
        return np.asarray(np.sum([~rung.bought for rung in self.rungs], axis=0))

    @property
    def spent(self) -> float:
        """What was spent in all, in money.

        Raises
        ------
        DataError
            If the table does not know the prices.
        """
        if self.prices is None:
            raise DataError("what was spent depends on the prices; give prices= to Measured.from_frame")
        counts = [rung.bought.sum() for rung in self.rungs[::-1]]
        return float(np.dot(counts, self.prices))

    def known(self, rung: int) -> Array:
        """Return 1, covariates, free measures and those of the `rung` poorest rungs [unit, feature], 0 if not seen."""
        parts = [np.ones((len(self), 1)), self.covariates, self.outputs, *self.measures[:rung]]
        return np.nan_to_num(np.hstack(parts))

    def take(self, rows: slice | Array) -> Measured:
        """Return some units, in that order."""
        names = ("covariates", "outputs", "label", "probabilities", "cluster", "stage", "asked", "returned")
        picked = {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(self, measures=tuple(part[rows] for part in self.measures), **picked)

    def without(self, *names: str) -> Measured:
        """Return the table without some rungs: what they measured is not used, and not paid for.

        Raises
        ------
        DataError
            For a rung that the ladder does not have, or the label.
        """
        for name in names:
            if name not in self.ladder[:-1]:
                raise DataError(f"{name!r} is no rung that can be left out; these are {', '.join(self.ladder[:-1])}")
        return self._with_rungs([k for k, name in enumerate(self.ladder) if name not in names])

    def _with_rungs(self, kept: Sequence[int]) -> Measured:
        """Return the table with the rungs of these places, the label last."""
        of_rungs = {name: getattr(self, name) for name in ("probabilities", "asked", "returned")}
        return replace(
            self, ladder=tuple(self.ladder[k] for k in kept), measures=tuple(self.measures[k] for k in kept[:-1]),
            prices=None if self.prices is None else self.prices[list(kept)],
            **{name: each[:, list(kept)] for name, each in of_rungs.items() if each is not None},
        )  # fmt: skip

    @property
    def any_order(self) -> bool:
        """Whether rungs below the label were bought together, so that none need be below another."""
        return bool((np.ptp(self.probabilities[:, :-1], axis=1) == 0).all()) if len(self.ladder) > 2 else True

    def only(self, *names: str) -> Measured:
        """Return the table with these rungs below the label, in this order from the poorest.

        Raises
        ------
        DataError
            For a rung that the ladder does not have, or another order where rungs were not bought together.
        """
        inner = self.ladder[:-1]
        kept = self.without(*(name for name in inner if name not in names))
        for name in names:
            if name not in inner:
                raise DataError(f"{name!r} is no rung of this ladder; these are {', '.join(inner)}")
        if names == kept.ladder[:-1]:
            return kept
        if not kept.any_order:
            raise DataError(f"rungs that were not bought together have one order, {', '.join(kept.ladder[:-1])}")
        order = [kept.ladder.index(name) for name in names]
        return kept._with_rungs([*order, len(order)])

    def bought(self, probabilities: Array, reached: Array) -> Measured:
        """Return a table where all was seen as it would look had only this been bought.

        Parameters
        ----------
        probabilities
            [unit, rung] or [rung], from the poorest rung to the label.
        reached
            How many rungs were bought [unit], from none to all.
        """
        p = np.broadcast_to(probabilities, (len(self), len(self.ladder))).astype(float)
        return replace(self, probabilities=p, asked=None, returned=None)._reached(reached)

    def lost(self, reached: Array) -> Measured:
        """Return a table of which only so many rungs came back [unit] of what was asked for: the rest is lost."""
        seen = np.column_stack([rung.bought for rung in self.rungs[::-1]])
        return replace(self._reached(reached), asked=seen if self.asked is None else self.asked)

    def _reached(self, reached: Array) -> Measured:
        measures = tuple(np.where((reached > k)[:, None], part, np.nan) for k, part in enumerate(self.measures))
        label = np.where(reached >= len(self.ladder), self.label, np.nan)
        return replace(self, measures=measures, label=label)


def _rungs(ladder: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the columns of every rung."""
    rungs = {name: as_names(columns) for name, columns in ladder.items()}
    if LABEL in rungs or not all(rungs.values()):
        raise DataError(f"ladder={dict(ladder)!r} needs columns for every rung, and none called {LABEL!r}")
    return rungs


def _require_one_source(covariates: Sequence[str], by: str | None, between: tuple[str, str] | None) -> None:
    """Refuse two of what makes the covariates."""
    made = [f"{name}={value!r}" for name, value in (("by", by), ("between", between)) if value]
    if len(made) > 1 or (made and covariates):
        other = made[1] if len(made) > 1 else f"covariates={list(covariates)}"
        raise DataError(f"{made[0]} makes the covariates; {other} cannot be given with it")


def _covariates(
    frame: pd.DataFrame, covariates: Sequence[str], by: str | None, between: tuple[str, str] | None, source: str
) -> tuple[Sequence[str], Array]:
    """Return the names and values [unit, covariate] of columns, of subgroups, or of the items compared."""
    if by:
        return read_subgroups(frame, by, source)
    if between:
        return read_sides(frame, between, source)
    return read_features(frame, covariates, source, baseline=True)


def _require_rising(names: Sequence[str], seen: Sequence[Array], source: str) -> None:
    """Refuse a rung that came [unit] without the one below it."""
    for (low, under), (high, above) in pairwise(zip(names, seen, strict=True)):
        if (above & ~under).any():
            row = first_row(above & ~under)
            raise DataError(f"{source} has {high} but no {low} in row {row}; a rung is bought with all below it")
