"""The table of judged units: covariates, two AI outputs, preferences between them, and labels, not all of them bought.

Shapes use the words `unit` (rows), `covariate`, `judgement` (one verdict of one judge on one unit).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.errors import DataError

Array = NDArray[Any]

VERDICTS = ("a", "b", "tie")
A, B, TIE = 0, 1, 2
LABELLED, COMPARED, UNSEEN = 1, 2, 3  # the patterns

_CODES = {"a": A, "b": B, "tie": TIE, 1: A, 0: B, "1": A, "0": B}


@dataclass(frozen=True, eq=False)
class Judged:
    """Units with a label and preferences, with preferences only, or with neither.

    Purchases are nested: a unit with a label has a preference too. The probabilities of being bought are the
    analyst's own and known, may depend on covariates and outputs, never on preferences or labels.

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
    source: str = "data frame"

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        sizes = np.bincount(self.pattern, minlength=4)
        return (
            f"Judged({len(self)} units: {sizes[1]} labelled, {sizes[2]} with preferences only, {sizes[3]} with neither)"
        )

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        covariates: Sequence[str] = (),
        outputs: Sequence[str] = ("w1", "w2"),
        preference: str | Sequence[str] | None = "preference",
        label: str | None = "label",
        label_probability: str | None = None,
        preference_probability: str | None = None,
        verdicts: Mapping[Any, str] | None = None,
        cost: float | None = None,
        cluster: str | None = None,
        stage: str | None = None,
        source: str = "data frame",
    ) -> Judged:
        """Validate a data frame of judged units, one row each.

        Parameters
        ----------
        frame
            One row per unit; empty cells where no label or preference was bought.
        covariates, outputs
            Numeric columns; two outputs, on the scale of the label.
        preference
            Column with a (output 1 is closer to the truth), b or tie, or 1 and 0; several columns, one for each judge;
            None: nobody compared.
        label
            Numeric column; None: no labels yet, a table to plan for.
        label_probability, preference_probability
            Columns. Without them every unit must have a label and a preference (a pilot), or none (a table to plan
            for); both count as bought with probability 1 then.
        verdicts
            From values of the preference columns to "a", "b" or "tie".
        cost
            Price of a label with its preference, in preferences; above 1.
        cluster, stage
            Columns; see the attributes.
        source
            Shown in errors.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        judges = () if preference is None else (preference,) if isinstance(preference, str) else tuple(preference)
        if isinstance(covariates, str) or isinstance(outputs, str) or len(outputs) != 2:
            raise DataError(f"outputs={outputs!r} and covariates={covariates!r} must be lists of columns, two outputs")
        optional = (label, label_probability, preference_probability, cluster, stage)
        _require(frame, [*covariates, *outputs, *judges, *(name for name in optional if name)], source)
        if cost is not None and not 1 < cost < np.inf:
            raise DataError(f"cost={cost!r} must exceed 1, the price of a preference alone")
        y = np.full(len(frame), np.nan) if label is None else _numbers(frame, label, source, empty=True)
        votes = [_votes(frame, name, verdicts, source) for name in judges]
        asked = np.any([vote >= 0 for vote in votes], axis=0) if votes else np.zeros(len(frame), bool)
        bare = ~np.isnan(y) & ~asked
        if bare.any():
            raise DataError(f"{source} has a label but no preference in row {_first(bare)}; a label is bought with one")
        p1, p2 = _probabilities(frame, label_probability, preference_probability, y, asked, source)
        unit = [np.flatnonzero(vote >= 0) for vote in votes]
        return cls(
            covariates=_columns(frame, covariates, source),
            outputs=_columns(frame, outputs, source),
            label=y,
            judged=np.concatenate([*unit, np.zeros(0, np.int64)]),
            judge=np.repeat(np.arange(len(unit)), [len(each) for each in unit]),
            verdict=np.concatenate([*(vote[vote >= 0] for vote in votes), np.zeros(0, np.int64)]),
            features=(*map(str, covariates), *map(str, outputs)),
            label_probability=p1,
            preference_probability=p2,
            judges=judges or ("judge",),
            cost=cost,
            cluster=None if cluster is None else _groups(frame, cluster, source),
            stage=None if stage is None else _groups(frame, stage, source),
            source=source,
        )

    @property
    def labelled(self) -> Array:
        """Whether a label was bought [unit]."""
        return ~np.isnan(self.label)

    @property
    def compared(self) -> Array:
        """Whether a preference was bought [unit]."""
        asked = np.zeros(len(self), bool)
        asked[self.judged] = True
        return asked

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
        index = np.arange(len(self))[rows]
        place = np.full(len(self), -1)
        place[index] = np.arange(len(index))
        at = place[self.judged]
        kept = at >= 0
        names = ("covariates", "outputs", "label", "label_probability", "preference_probability", "cluster", "stage")
        chosen = rows if isinstance(rows, slice) else index
        picked = {name: getattr(self, name)[chosen] for name in names if getattr(self, name) is not None}
        return replace(self, judged=at[kept], judge=self.judge[kept], verdict=self.verdict[kept], **picked)

    def judged_as(self, verdict: int, judge: int = 0) -> Judged:
        """Return the units with one verdict each, the same for all."""
        n = len(self)
        return replace(self, judged=np.arange(n), judge=np.full(n, judge), verdict=np.full(n, verdict))

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame that `from_frame` reads back."""
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
        return frame


def _first(wrong: Array) -> int:
    return int(np.flatnonzero(wrong)[0]) + 1


def _require(frame: pd.DataFrame, columns: list[str], source: str) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{source} has no column {missing[0]!r}; its columns are {', '.join(map(str, frame.columns))}")
    twice = [name for name in columns if columns.count(name) > 1 or (frame.columns == name).sum() > 1]
    if twice:
        raise DataError(f"{source}: the column {twice[0]!r} is named or given twice; every role needs its own column")
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one unit is needed")


def _numbers(frame: pd.DataFrame, column: str, source: str, empty: bool = False) -> Array:
    given = frame[column]
    value = pd.to_numeric(given, errors="coerce").to_numpy(float, na_value=np.nan)
    wrong = np.isinf(value) | (np.isnan(value) & (given.notna().to_numpy() if empty else True))
    if wrong.any():
        row = _first(wrong)
        raise DataError(
            f"{source}: column {column!r} holds {given.iloc[row - 1]!s} in row {row}; finite numbers are needed"
        )
    return value


def _columns(frame: pd.DataFrame, columns: Sequence[str], source: str) -> Array:
    parts = [_numbers(frame, name, source) for name in columns]
    return np.column_stack(parts) if parts else np.zeros((len(frame), 0))


def _votes(frame: pd.DataFrame, column: str, verdicts: Mapping[Any, str] | None, source: str) -> Array:
    """Return the code of each verdict [unit], -1 where the cell is empty."""
    given, codes = frame[column], dict(_CODES)
    if verdicts is not None:
        strange = [meaning for meaning in verdicts.values() if meaning not in VERDICTS]
        if strange:
            raise DataError(f"verdicts maps to {strange[0]!r}; a verdict is one of {', '.join(VERDICTS)}")
        codes = {value: VERDICTS.index(meaning) for value, meaning in verdicts.items()}
    out = np.full(len(frame), -1)
    for row, value in enumerate(given):
        if pd.isna(value):
            continue
        if value not in codes:
            raise DataError(
                f"{source}: column {column!r} holds {value!r} in row {row + 1}; "
                f"{'known are ' + ', '.join(map(repr, codes)) if verdicts else 'a, b or tie, or 1 and 0, are needed'}"
            )
        out[row] = codes[value]
    return out


def _probabilities(
    frame: pd.DataFrame, first: str | None, second: str | None, label: Array, asked: Array, source: str
) -> tuple[Array, Array]:
    labelled = ~np.isnan(label)
    if first is None or second is None:
        if (first or second) is not None:
            raise DataError("label_probability and preference_probability belong together; give both or none")
        if not (labelled.all() or not asked.any()):
            missing = _first(~labelled)
            raise DataError(
                f"{source} has no label in row {missing} and no probabilities; give the columns label_probability and "
                "preference_probability that labels and preferences were bought with"
            )
        return np.ones(len(frame)), np.ones(len(frame))
    p1, p2 = _numbers(frame, first, source), _numbers(frame, second, source)
    for name, p in ((first, p1), (second, p2)):
        wrong = ~((p > 0) & (p <= 1))
        if wrong.any():
            row = _first(wrong)
            raise DataError(f"{source}: column {name!r} holds {p[row - 1]:g} in row {row}; it must lie in (0, 1]")
    if (p1 > p2).any():
        row = _first(p1 > p2)
        raise DataError(
            f"{source}: {first!r} {p1[row - 1]:g} exceeds {second!r} {p2[row - 1]:g} in row {row}; "
            "a label is bought with a preference"
        )
    for name, p, bought in ((first, p1, labelled), (second, p2, asked)):
        wrong = (p == 1) & ~bought
        if wrong.any():
            raise DataError(f"{source}: {name!r} is 1 in row {_first(wrong)}, where nothing was bought")
    return p1, p2


def _groups(frame: pd.DataFrame, column: str, source: str) -> Array:
    empty = frame[column].isna().to_numpy()
    if empty.any():
        raise DataError(f"{source}: column {column!r} is empty in row {_first(empty)}; every unit needs one")
    return np.asarray(pd.factorize(frame[column], sort=True)[0], np.int64)
