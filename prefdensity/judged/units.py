"""The table of judged units: covariates, two AI outputs, preferences between them, and labels, not all of them bought.

Shapes use the words `unit` (rows), `covariate`, `judgement` (one verdict of one judge on one unit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import column_names
from prefdensity.data.declared import Column, Held, Table
from prefdensity.errors import DataError
from prefdensity.judged.columns import (
    BUY as BUY,
    COMPARED as COMPARED,
    LABELLED as LABELLED,
    TIE as TIE,
    UNSEEN as UNSEEN,
    VERDICTS as VERDICTS,
    A as A,
    B as B,
    as_names,
    first_row,
    read_bought,
    read_columns,
    read_groups,
    read_judgements,
    read_numbers,
    read_probabilities,
    read_votes,
    require_columns,
)
from prefdensity.judged.rungs import Rung

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Judged(Table):
    """Units with a label and preferences, with preferences only, or with neither.

    Purchases are nested: a unit with a label has a preference too. The probabilities of being bought are the
    analyst's own and known, may depend on covariates and outputs, never on preferences or labels.

    Verdicts must be made the same way whether or not a label is bought: the same judges, asked in the same shares,
    who know the same. A second judge asked only where a label is bought, or a labeller who also compares, belongs to
    `labellers`: a verdict that comes with the label is part of what the label brings, and is never used where there
    is no label. Everything that is bought must also come back, or be lost for reasons that are seen
    (`prefdensity.pcal.weigh_returns`). `prefdensity.pcal.Purchases` tests both.

    Attributes
    ----------
    covariates
        float64 [unit, covariate], without intercept: the functional adds it.
    outputs
        float64 [unit, 2]: what the two AI systems say the label is.
    label
        float64 [unit], NaN where not bought.
    judged, judge, verdict
        int64 [judgement]: the unit, who judged, and 0 (output 1 is closer to the truth), 1 (output 2) or 2 (tie).
    features, judges
        Names of covariates, then outputs; names of judges.
    label_probability, preference_probability
        float64 [unit]: P(label bought) and P(preference bought), 0 < the first <= the second <= 1.
    cost
        Price of a label with its preference; a preference alone costs 1. None: not said.
    cluster
        int64 [unit]: units of one cluster are dependent. None: units are independent.
    stage
        int64 [unit]: the batch that a unit was bought in. None: all in one.
    asked
        bool [unit]: whether a preference was bought, where some verdicts are set aside. None: where there is a verdict.
    bought
        int64 [unit]: the pattern that was asked for, whether or not it came back. None: not said.
    returned
        float64 [unit, 2]: estimated chances that a label and a preference asked for come back, which the
        probabilities hold already. None: everything counts as come back.
    aside
        Judges whose verdicts are set aside, and how many these are.
    more
        Columns beyond these, as of other tables; none are read.
    source
        Where the table came from.
    """

    covariates: Array
    outputs: Array
    label: Array
    judged: Array
    judge: Array
    verdict: Array
    features: tuple[str, ...]
    label_probability: Array
    preference_probability: Array
    judges: tuple[str, ...] = ("judge",)
    cost: float | None = None
    cluster: Array | None = None
    stage: Array | None = None
    asked: Array | None = None
    bought: Array | None = None
    returned: Array | None = None
    aside: tuple[tuple[str, int], ...] = ()
    more: tuple[Held, ...] = ()
    source: str = "data frame"
    UNITS: ClassVar[tuple[str, ...]] = ("unit",)
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("covariates", "number"),
        Column("outputs", "number"),
        Column("label", "number"),
        Column("label_probability", "number"),
        Column("preference_probability", "number"),
        Column("cluster", "ordered"),
        Column("stage", "ordered"),
        Column("asked", "ordered"),
        Column("bought", "ordered"),
        Column("returned", "number"),
        Column("judged", "ordered", per="judgement"),
        Column("judge", "label", per="judgement", words="judges"),
        Column("verdict", "outcome", per="judgement", levels=VERDICTS),
    )

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        sizes = np.bincount(self.pattern, minlength=4)
        return (
            f"Judged({len(self)} units: {sizes[1]} labelled, {sizes[2]} with preferences only, {sizes[3]} with neither)"
        )

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, covariates: Sequence[str] = (), outputs: Sequence[str] = ("w1", "w2"),
        preference: str | Sequence[str] | None = "preference", judge: str | Sequence[str] | None = None,
        labellers: Sequence[str] = (), label: str | None = "label", label_probability: str | None = None,
        preference_probability: str | None = None, verdicts: Mapping[Any, str] | None = None,
        cost: float | None = None, cluster: str | None = None, stage: str | None = None, buy: str | None = None,
        source: str = "data frame",
    ) -> Judged:  # fmt: skip
        """Validate a data frame of judged units, one row each.

        Parameters
        ----------
        frame, source
            One row per unit; empty cells where no label or preference was bought. Its name in errors.
        covariates, outputs
            Numeric columns; two outputs, on the scale of the label.
        preference
            Column with a (output 1 is closer to the truth), b or tie, or 1 and 0; several columns, one for each judge;
            None: nobody compared.
        judge
            Column with who gave the verdict, one for each preference column; None: each preference column is a judge.
        labellers
            Judges whose verdicts come with the label; they are set aside and counted. See the class.
        label
            Numeric column; None: no labels yet, a table to plan for.
        label_probability, preference_probability
            Columns. Without them every unit must have a label and a preference (a pilot), or none (a table to plan
            for); both count as bought with probability 1 then.
        verdicts
            From values of the preference columns to "a", "b" or "tie".
        cost
            Price of a label with its preference, in preferences; above 1.
        cluster, stage, buy
            Columns; see the attributes. Of `buy` what was asked for: label, preference or nothing, as
            `Design.assign` writes it.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        columns, people = as_names(preference), as_names(judge)
        _require_columns(covariates, outputs, columns, people, cost)
        optional = [name for name in (label, label_probability, preference_probability, cluster, stage, buy) if name]
        require_columns(frame, [*covariates, *outputs, *columns, *people, *optional], source)
        y = np.full(len(frame), np.nan) if label is None else read_numbers(frame, label, source, empty=True)
        votes = [read_votes(frame, name, verdicts, source) for name in columns]
        asked = np.any([vote >= 0 for vote in votes], axis=0) if votes else np.zeros(len(frame), bool)
        _require_compared(~np.isnan(y) & ~asked, source)
        bought = None if buy is None else read_bought(frame, buy, ~np.isnan(y), asked, source)
        p1, p2 = read_probabilities(frame, label_probability, preference_probability, y, asked, bought, source)
        judges, judged, who, verdict = read_judgements(frame, columns, people, votes, source)
        table = cls(
            covariates=read_columns(frame, covariates, source), outputs=read_columns(frame, outputs, source), label=y,
            judged=judged, judge=who, verdict=verdict, features=column_names([*covariates, *outputs], source),
            label_probability=p1, preference_probability=p2, judges=judges or ("judge",), cost=cost,
            cluster=None if cluster is None else read_groups(frame, cluster, source),
            stage=None if stage is None else read_groups(frame, stage, source), bought=bought, source=source,
        )  # fmt: skip
        return table.set_aside(labellers) if labellers else table

    @property
    def labelled(self) -> Array:
        """Whether a label was bought [unit]."""
        return ~np.isnan(self.label)

    @property
    def compared(self) -> Array:
        """Whether a preference was bought [unit]."""
        return self.voted if self.asked is None else self.asked

    @property
    def voted(self) -> Array:
        """Whether there is a verdict, one that is not set aside [unit]."""
        voted = np.zeros(len(self), bool)
        voted[self.judged] = True
        return voted

    @property
    def covariate_names(self) -> tuple[str, ...]:
        """Names of the columns of `covariates`."""
        return self.features[:-2]

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The ladder: a label, which comes with a preference, and a preference alone."""
        return (
            Rung("label", self.labelled, self.label_probability),
            Rung("preferences", self.compared, self.preference_probability),
        )

    @property
    def pattern(self) -> Array:
        """int64 [unit]: 1 label and preference, 2 preference only, 3 neither."""
        return np.where(self.labelled, LABELLED, np.where(self.compared, COMPARED, UNSEEN))

    @property
    def votes(self) -> Array:
        """int64 [unit, judge]: the verdict, -1 where the judge was not asked."""
        table = np.full((len(self), len(self.judges)), -1)
        table[self.judged, self.judge] = self.verdict
        return table

    @property
    def spent(self) -> float:
        """Mean cost of a unit, in preferences.

        Raises
        ------
        DataError
            If the table does not know what a label costs.
        """
        if self.cost is None:
            raise DataError("what was spent depends on the price of a label; give cost= to Judged.from_frame")
        return float((self.cost - 1) * self.labelled.mean() + self.compared.mean())

    def take(self, rows: slice | Array) -> Judged:
        """Return some units, in that order, with their judgements; a slice shares memory with the table."""
        chosen = self.holding(each.at(rows) for each in self.columns)
        index = np.arange(len(self))[rows]
        count = np.bincount(index, minlength=len(self))  # a unit may be taken several times, each with its judgements
        times = count[self.judged]
        kept = np.repeat(np.arange(len(self.judged)), times)
        copy = np.arange(len(kept)) - np.repeat(np.cumsum(times) - times, times)
        at = np.argsort(index, kind="stable")[(np.cumsum(count) - count)[self.judged[kept]] + copy]
        return replace(chosen, judged=at, judge=self.judge[kept], verdict=self.verdict[kept])

    def judged_as(self, verdict: int, judge: int = 0) -> Judged:
        """Return the units with one verdict each, the same for all."""
        n = len(self)
        return replace(self, judged=np.arange(n), judge=np.full(n, judge), verdict=np.full(n, verdict), asked=None)

    def set_aside(self, judges: Sequence[str]) -> Judged:
        """Return the table without the verdicts of some judges, which are counted in `aside`.

        What was bought stays as it is: a unit whose verdicts are all set aside tells what its covariates tell.

        Raises
        ------
        DataError
            For a judge that the table does not know.
        """
        judges = as_names(judges)
        for name in judges:
            if name not in self.judges:
                raise DataError(f"{self.source} has no judge {name!r}; its judges are {', '.join(self.judges)}")
        kept_judges = [index for index, name in enumerate(self.judges) if name not in judges]
        place = np.full(len(self.judges), -1)
        place[kept_judges] = np.arange(len(kept_judges))
        kept = place[self.judge] >= 0
        counts = np.bincount(self.judge, minlength=len(self.judges))
        return replace(
            self, judged=self.judged[kept], judge=place[self.judge[kept]], verdict=self.verdict[kept],
            judges=tuple(self.judges[index] for index in kept_judges), asked=self.compared,
            aside=(*self.aside, *((name, int(counts[self.judges.index(name)])) for name in judges)),
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame that `from_frame` reads back; verdicts that are set aside are not in it."""
        frame = pd.DataFrame(np.column_stack([self.covariates, self.outputs]), columns=list(self.features))
        votes = self.votes
        for index, name in enumerate(self.judges):
            frame[name] = np.array([*VERDICTS, None], dtype=object)[votes[:, index]]
        frame["label"] = self.label
        frame["label_probability"] = self.label_probability
        frame["preference_probability"] = self.preference_probability
        for name in ("cluster", "stage"):
            if getattr(self, name) is not None:
                frame[name] = getattr(self, name)
        if self.bought is not None:
            frame["buy"] = np.array(BUY, dtype=object)[self.bought - 1]
        return frame


def _require_columns(
    covariates: Sequence[str],
    outputs: Sequence[str],
    preference: tuple[str, ...],
    judge: tuple[str, ...],
    cost: float | None,
) -> None:
    if isinstance(covariates, str) or isinstance(outputs, str) or len(outputs) != 2:
        raise DataError(f"outputs={outputs!r} and covariates={covariates!r} must be lists of columns, two outputs")
    if judge and len(judge) != len(preference):
        raise DataError(f"judge={judge!r} names {len(judge)} columns for {len(preference)} of preferences")
    if cost is not None and not 1 < cost < np.inf:
        raise DataError(f"cost={cost!r} must exceed 1, the price of a preference alone")


def _require_compared(bare: Array, source: str) -> None:
    """Refuse units [unit] that have a label and no preference."""
    if bare.any():
        row = first_row(bare)
        raise DataError(f"{source} has a label but no preference in row {row}; a label is bought with one")
