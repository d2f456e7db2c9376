"""Units measured on a ladder of any length: free measures, then dearer ones, each bought with all below it, a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import column_names, empty as is_empty, shown
from prefdensity.errors import DataError
from prefdensity.judged.columns import (
    as_names,
    first_row,
    read_columns,
    read_groups,
    read_numbers,
    require_columns,
)
from prefdensity.judged.rungs import Rung

Array = NDArray[Any]

_MOST_CATEGORIES = 20
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
    source: str = "data frame"

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        said = ", ".join(f"{int(rung.bought.sum())} {rung.name}" for rung in self.rungs[::-1])
        return f"Measured({len(self)} units: {said})"

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        ladder: Mapping[str, str | Sequence[str]] | None = None,
        label: str = LABEL,
        minus: str | None = None,
        values: Mapping[str, float] | None = None,
        covariates: Sequence[str] = (),
        by: str | None = None,
        free: Sequence[str] = (),
        probabilities: Mapping[str, str] | None = None,
        prices: Mapping[str, float] | None = None,
        cluster: str | None = None,
        stage: str | None = None,
        source: str = "data frame",
    ) -> Measured:
        """Validate a data frame of units, one row each.

        Parameters
        ----------
        frame
            One row per unit; empty cells where nothing was bought.
        ladder
            Rungs between what is free and the label, from the poorest: their names, and the columns that each brings.
            Columns hold numbers or up to 20 different words, such as verdicts; on a rung that was bought some may be
            empty, as where the judges of a panel take turns.
        label
            Numeric column.
        minus
            Numeric column that is taken from the label: with two systems on the same units, their difference. Both have
            a value, or neither.
        values
            What words in the column of the label count, such as {"win": 1, "tie": 0.5, "loss": 0} for a win rate.
        by
            Column with words or numbers that name a subgroup. Covariates are then its indicators, "column=word", for
            all subgroups: `LinearRegression(intercept=False)` is about the mean in each, and
            `prefdensity.pcal.Solved.contrast` about their differences.
        covariates, free
            Numeric columns without empty cells.
        probabilities
            For each rung, and "label", the column with its probability. None: a pilot, where all is bought.
        prices
            What each rung, and "label", costs beyond the rungs below it.
        cluster, stage
            Columns.
        source
            Shown in errors.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        rungs = {name: as_names(columns) for name, columns in (ladder or {}).items()}
        if LABEL in rungs or not all(rungs.values()):
            raise DataError(f"ladder={dict(ladder or {})!r} needs columns for every rung, and none called {LABEL!r}")
        names = (*rungs, LABEL)
        chances = _named(probabilities, names, "probabilities")
        optional = [name for name in (cluster, stage, minus, by) if name]
        if by and covariates:
            raise DataError(f"by={by!r} makes the covariates; covariates={list(covariates)} cannot be given with it")
        bought = [column for columns in rungs.values() for column in columns]
        require_columns(frame, [*covariates, *free, *bought, label, *dict.fromkeys(chances), *optional], source)
        y = _label(frame, label, minus, values, source)
        names_of, x = _groups(frame, by, source) if by else (tuple(covariates), read_columns(frame, covariates, source))
        parts = [_measures(frame, columns, source) for columns in rungs.values()]
        seen = [_there(part) for part in parts] + [~np.isnan(y)]
        for (low, under), (high, above) in zip(
            zip(names, seen, strict=True), zip(names[1:], seen[1:], strict=False), strict=False
        ):
            if (above & ~under).any():
                row = first_row(above & ~under)
                raise DataError(f"{source} has {high} but no {low} in row {row}; a rung is bought with all below it")
        return cls(
            covariates=x, outputs=read_columns(frame, free, source),
            measures=tuple(parts), label=y, probabilities=_chances(frame, chances, names, seen, source), ladder=names,
            prices=_prices(prices, names), covariate_names=column_names([*names_of], source),
            cluster=None if cluster is None else read_groups(frame, cluster, source),
            stage=None if stage is None else read_groups(frame, stage, source), source=source,
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
        seen = [_there(part) for part in self.measures] + [self.labelled]
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
        names = ("covariates", "outputs", "label", "probabilities", "cluster", "stage")
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
        kept = [k for k, name in enumerate(self.ladder) if name not in names]
        return replace(
            self, ladder=tuple(self.ladder[k] for k in kept), measures=tuple(self.measures[k] for k in kept[:-1]),
            probabilities=self.probabilities[:, kept], prices=None if self.prices is None else self.prices[kept],
        )  # fmt: skip

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
        measures = tuple(np.where((reached > k)[:, None], part, np.nan) for k, part in enumerate(self.measures))
        label = np.where(reached == len(self.ladder), self.label, np.nan)
        return replace(self, measures=measures, label=label, probabilities=p)


def _label(
    frame: pd.DataFrame, label: str, minus: str | None, values: Mapping[str, float] | None, source: str
) -> Array:  # fmt: skip
    """Return the label [unit], NaN where it is empty."""
    columns = []
    for column in (label, minus) if minus else (label,):
        if values is not None:
            given = frame[column].reset_index(drop=True)
            none = is_empty(given)
            strange = ~none & ~given.isin(list(values)).to_numpy()
            if strange.any():
                row = first_row(strange)
                raise DataError(
                    f"{source}: column {column!r} holds {shown(given[row - 1])} in row {row}; values are known of "
                    f"{', '.join(map(repr, values))}"
                )
            columns.append(given.map(values).to_numpy(float))
        else:
            columns.append(read_numbers(frame, column, source, empty=True))
    if minus:
        alone = np.isnan(columns[0]) != np.isnan(columns[1])
        if alone.any():
            raise DataError(f"{source}: only one of {label!r} and {minus!r} has a value in row {first_row(alone)}")
        return np.asarray(columns[0] - columns[1])
    return columns[0]


def _groups(frame: pd.DataFrame, by: str, source: str) -> tuple[tuple[str, ...], Array]:
    """Return names of subgroups and their indicators [unit, group]."""
    code = read_groups(frame, by, source)
    first = [frame[by].iloc[int(np.argmax(code == k))] for k in range(int(code.max()) + 1)]
    if len(first) > _MOST_CATEGORIES:
        raise DataError(f"{source}: column {by!r} names {len(first)} subgroups; at most {_MOST_CATEGORIES} are taken")
    return tuple(f"{by}={value}" for value in first), np.eye(len(first))[code]


def _there(part: Array) -> Array:
    """Return whether a rung was bought [unit]."""
    return np.asarray(~np.isnan(part).any(1))


def _named(given: Mapping[str, Any] | None, names: tuple[str, ...], what: str) -> list[Any]:
    """Return what is given for each rung; nothing if nothing is."""
    if given is None:
        return []
    if set(given) != set(names):
        raise DataError(f"{what}={dict(given)!r} must name every rung and no other: {', '.join(names)}")
    return [given[name] for name in names]


def _prices(given: Mapping[str, float] | None, names: tuple[str, ...]) -> Array | None:
    prices = _named(given, names, "prices")
    wrong = [name for name, price in zip(names, prices, strict=bool(prices)) if not 0 < price < np.inf]
    if wrong:
        raise DataError(f"the price of {wrong[0]!r} must be positive; what is free belongs to free=, not to a rung")
    return np.array(prices, float) if prices else None


def _measures(frame: pd.DataFrame, columns: tuple[str, ...], source: str) -> Array:
    """Return the measures of a rung as numbers [unit, k], all NaN where every cell is empty."""
    parts, nothing = [], np.ones(len(frame), bool)
    for column in columns:
        given = frame[column].reset_index(drop=True)
        none = is_empty(given)
        nothing &= none
        part = _numbers_or_words(frame, column, given, none, source)
        part[none] = 0.0
        parts += [part, none.astype(float)[:, None]]
    out = np.hstack(parts)
    told = (out[~nothing] != 0).any(0)
    out = out[:, told] if told.any() else out[:, :1]
    out[nothing] = np.nan
    return out


def _numbers_or_words(frame: pd.DataFrame, column: str, given: pd.Series, none: Array, source: str) -> Array:
    """Return numbers [unit, 1], or one column for each of a few words."""
    as_number = pd.to_numeric(given.where(~none), errors="coerce").notna().to_numpy()
    if as_number[~none].all():
        return np.array(read_numbers(frame, column, source, empty=True)[:, None])
    if as_number.any():
        row = first_row(~as_number & ~none)
        raise DataError(
            f"{source}: column {column!r} holds {shown(given[row - 1])} in row {row} among numbers; numbers or words "
            "are needed, not both"
        )
    words = sorted({str(value) for value in given[~none]})
    if len(words) > _MOST_CATEGORIES:
        raise DataError(
            f"{source}: column {column!r} holds {len(words)} different words; up to {_MOST_CATEGORIES} are taken as "
            "categories, numbers as they are"
        )
    return np.column_stack([(given.astype(str) == word).to_numpy(float) for word in words])


def _chances(
    frame: pd.DataFrame, columns: list[str], names: tuple[str, ...], seen: list[Array], source: str
) -> Array:  # fmt: skip
    if not columns:
        for name, each in zip(names, seen, strict=True):
            if not each.all():
                raise DataError(
                    f"{source} has no {name} in row {first_row(~each)} and no probabilities; name the columns of the "
                    "probabilities that the rungs were bought with"
                )
        return np.ones((len(frame), len(names)))
    p = read_columns(frame, columns, source)
    for name, column, chance, each in zip(names, columns, p.T, seen, strict=True):
        wrong = ~((chance > 0) & (chance <= 1)) | ((chance == 1) & ~each)
        if wrong.any():
            row = first_row(wrong)
            raise DataError(
                f"{source}: column {column!r} holds {chance[row - 1]:g} in row {row}; a probability in (0, 1] is "
                f"needed, 1 only where {name} was bought"
            )
    for low, high, less, more in zip(names, names[1:], p.T, p.T[1:], strict=False):
        if (more > less).any():
            raise DataError(
                f"{source}: the probability of {high} exceeds that of {low} in row {first_row(more > less)}; a rung is "
                "bought with all below it"
            )
    return p
