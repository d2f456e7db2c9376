"""The table of comparisons: validated columns, one vocabulary, no silent repair.

Shapes use the words `comparison` (rows as recorded), `item`, `annotator`, `feature`, `covariate`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import EXACT, column_names, encode_labels, feature_table, numbers, require_columns
from prefdensity.data.comparison_columns import (
    OUTCOMES as OUTCOMES,
    TIE as TIE,
    A as A,
    B as B,
    drop_missing,
    first_codes,
    kept_pairs,
    outcome_codes,
    read_counts,
    require_both_signs,
    require_flat,
    require_sides,
    signed_columns,
)
from prefdensity.data.grades import grade_codes, mirror
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prefdensity.data.rating_table import Ratings


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Pairwise judgements of `items`, side a against side b.

    Attributes
    ----------
    items
        Labels, sorted; the codes below index them.
    item_a, item_b
        int64 [comparison]. Sides as recorded; they mean nothing unless `first` is known.
    outcome
        int8 [comparison]: 0 a wins, 1 b wins, 2 tie. None for candidate pairs not yet judged.
    count
        float64 [comparison]: how many judgements the row stands for (halves arise only from
        `ties_as_half_wins`).
    grades, grade
        Outcomes with their strength, from the strongest for side a to the strongest for side b (a2, a1, tie, b1, b2),
        and int64 [comparison], or None where strengths of preference were not recorded.
    annotators, annotator
        Labels and int64 [comparison], or None where nobody recorded who judged.
    contexts, context
        Labels and int64 [comparison] of the prompt or question, or None.
    first
        int8 [comparison]: +1 item_a was shown first, -1 item_b was, 0 neither; None = unknown.
    feature_names, item_features
        Names and float64 [item, feature] in the users' units, or None.
    covariate_names, covariates
        Names and float64 [comparison, covariate], or None; positive values speak for side a.
    covariate_scale
        float64 [covariate]: the root mean square over judgements (1 for a covariate that is always 0), in which
        programs measure covariates. Parts of a table keep that of the whole.
    measure_names, item_measures
        Names and float64 [item, measure] of what is known of items and is no feature, or None: lengths, log
        probabilities under a reference policy.
    ratings
        Ratings of the same items (`prefdensity.with_ratings`), or None.
    source, notes
        Where the table came from; what was dropped or recoded on request, with counts.
    """

    items: tuple[str, ...]
    item_a: NDArray[np.int64]
    item_b: NDArray[np.int64]
    outcome: NDArray[np.int8] | None
    count: NDArray[np.float64]
    grades: tuple[str, ...] = ()
    grade: NDArray[np.int64] | None = None
    annotators: tuple[str, ...] = ()
    annotator: NDArray[np.int64] | None = None
    contexts: tuple[str, ...] = ()
    context: NDArray[np.int64] | None = None
    first: NDArray[np.int8] | None = None
    feature_names: tuple[str, ...] = ()
    item_features: NDArray[np.float64] | None = None
    covariate_names: tuple[str, ...] = ()
    covariates: NDArray[np.float64] | None = None
    covariate_scale: NDArray[np.float64] | None = None
    measure_names: tuple[str, ...] = ()
    item_measures: NDArray[np.float64] | None = None
    ratings: Ratings | None = None
    source: str = "data frame"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.covariates is not None and self.covariate_scale is None:
            object.__setattr__(self, "covariate_scale", _root_mean_square(self.covariates, self.count))

    def __len__(self) -> int:
        return len(self.item_a)

    def __repr__(self) -> str:
        people = f", {len(self.annotators)} annotators" if self.annotators else ""
        return f"Comparisons({self.n_judgements:g} judgements, {len(self.items)} items{people})"

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        item_a: str = "item_a",
        item_b: str = "item_b",
        outcome: str | None = "outcome",
        strength: str | None = None,
        strength_centre: float | None = None,
        higher: str | None = None,
        annotator: str | None = "annotator",
        context: str | None = "context",
        count: str | None = "count",
        ordered: bool = False,
        first: str | None = "first",
        labels: Mapping[Any, str] | None = None,
        missing: str = "error",
        identical: str = "error",
        covariates: Sequence[str] = (),
        item_features: pd.DataFrame | None = None,
        item_measures: pd.DataFrame | None = None,
        source: str = "data frame",
    ) -> Comparisons:
        """Validate a data frame of comparisons, one row each.

        Parameters
        ----------
        frame
            One row per comparison, or per `count` comparisons with the same outcome.
        item_a, item_b, outcome
            Column names. `outcome` holds a, b or tie, or values that `labels` translates; None: the sign of
            `strength` says who won.
        strength
            Column of the strength of preference: 1, 2, ... where a side won, 0 or empty at a tie; or, with
            outcome=None, signed: positive for side a, negative for side b, 0 a tie. None: strengths are not read.
        strength_centre, higher
            Of a signed strength: the value that is a tie, or lies between the sides (default 0; 4 for a scale from 1
            to 7, 50 for a slider to 100), and which side, "a" or "b", values above it speak for. A centre other than 0
            leaves no default for `higher`. Without a centre the column must hold both signs.
        annotator, context, count, first
            Column names. The names given here as defaults are used if the frame has them; any other
            name must exist. None: ignore. `first` says which side was shown first: a, b or neither.
        ordered
            True: `item_a` is the one shown first (or on the left, or at home) in every row.
        labels
            From values of the outcome column to "a", "b", "tie", or "drop" (dropped and counted in `notes`).
        missing
            "error", or "drop": rows with an empty item, outcome, annotator or context are dropped and counted.
        identical
            "error", or "drop": rows that compare an item with itself are dropped and counted.
        covariates
            Numeric columns that describe a comparison; positive values speak for side a.
        item_features
            Numeric frame indexed by item label, one row for each item of the table.
        item_measures
            The same for what programs of behaviour read by name, such as `length` and `log_reference`.
        source
            Shown in reports and errors.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        rows = checked_rows(
            frame, item_a=item_a, item_b=item_b, outcome=outcome, strength=strength, strength_centre=strength_centre,
            higher=higher, annotator=annotator, context=context, count=count, ordered=ordered, first=first,
            labels=labels, missing=missing, identical=identical, covariates=covariates, source=source,
        )  # fmt: skip
        bare = strength if outcome is None and strength_centre is None else None
        return rows.completed(item_features, item_measures, bare)

    def completed(
        self, item_features: pd.DataFrame | None, item_measures: pd.DataFrame | None, signed: str | None = None
    ) -> Comparisons:
        """Return the table with what is known of its items; refuse one without a judgement, or of one sign only.

        `signed` is the column of a signed strength whose centre nobody said.
        """
        if not len(self):
            raise DataError(f"{self.source}: no row is left: {', '.join(self.notes)}")
        if len(self.items) == 1:
            raise DataError(f"{self.source} has one item only, {self.items[0]!r}; comparisons need at least two")
        total = self.count.sum()
        if total == 0:
            raise DataError(f"{self.source}: every count is 0; at least one comparison is needed")
        if not total < EXACT:
            raise DataError(f"{self.source}: the counts add up to {total:.3g}; so many judgements cannot be counted")
        if self.grades == ("tie",):
            raise DataError(f"{self.source}: every row is a tie, so there is no strength of preference to read")
        if signed is not None and self.outcome is not None:
            require_both_signs(self.outcome, signed, self.source)
        arrays: dict[str, Any] = {}
        if item_features is not None:
            arrays["feature_names"], arrays["item_features"] = feature_table(item_features, self.items)
        if item_measures is not None:
            found = feature_table(item_measures, self.items, "item_measures")
            arrays["measure_names"], arrays["item_measures"] = found
        return replace(self, **arrays)

    @property
    def n_judgements(self) -> float:
        """Number of judgements: the sum of the counts."""
        return float(self.count.sum())

    @property
    def n_ties(self) -> float:
        """Number of ties, 0 for pairs not yet judged."""
        return 0.0 if self.outcome is None else float(self.count[self.outcome == TIE].sum())

    def wins(self) -> NDArray[np.float64]:
        """Return float64 [item, item]: how often the row item beat the column item; ties are left out."""
        if self.outcome is None:
            raise DataError("these pairs have no outcomes yet")
        size = len(self.items)
        table = np.zeros((size, size))
        won, lost = self.outcome == A, self.outcome == B
        np.add.at(table, (self.item_a[won], self.item_b[won]), self.count[won])
        np.add.at(table, (self.item_b[lost], self.item_a[lost]), self.count[lost])
        return table

    def ties_as_half_wins(self) -> Comparisons:
        """Return the table with each tie split into half a win for either side (counted in `notes`).

        A convention of leaderboards, not a model of ties: Davidson and Rao-Kupper are models.
        """
        if self.outcome is None:
            raise DataError("these pairs have no outcomes yet")
        if self.grade is not None:
            raise DataError("half a win has no strength; call without_strength() first (--strength-dropped)")
        tie = self.outcome == TIE
        rows = np.concatenate([np.arange(len(self)), np.flatnonzero(tie)])
        halves = self.take(rows)
        outcome, count = halves.outcome.copy(), halves.count.copy()  # type: ignore[union-attr]
        is_tie = outcome == TIE
        count[is_tie] /= 2
        outcome[is_tie] = A
        outcome[len(self) :] = B
        note = f"{self.n_ties:g} ties counted as half a win for either side, on request"
        return replace(halves, outcome=outcome, count=count, notes=(*self.notes, note))

    def without_ties(self) -> Comparisons:
        """Return the table without its ties (counted in `notes`).

        Under Rao-Kupper ties this sharpens the utilities; under Davidson ties it is exactly Bradley-Terry.
        """
        if self.outcome is None:
            raise DataError("these pairs have no outcomes yet")
        kept = self.outcome != TIE
        if not kept.any():
            raise DataError("every comparison is a tie; without them nothing is left")
        note = f"{self.n_ties:g} ties dropped on request"
        data = replace(self.take(np.flatnonzero(kept)), notes=(*self.notes, note))
        if data.grade is None or "tie" not in data.grades:
            return data
        middle = len(data.grades) // 2
        grades = (*data.grades[:middle], *data.grades[middle + 1 :])
        return replace(data, grades=grades, grade=data.grade - (data.grade > middle))

    def questions(self) -> NDArray[np.int64]:
        """Return int64 [comparison]: numbers of the distinct questions, each one pair put to one annotator.

        Two rows ask the same if all that is recorded of them agrees but the answer: annotator, pair, which item was
        shown first, context and covariates.
        """
        side = np.where(self.item_a < self.item_b, 1, -1)
        columns: dict[str, NDArray[Any] | None] = {
            "low": np.minimum(self.item_a, self.item_b),
            "high": np.maximum(self.item_a, self.item_b),
            "annotator": self.annotator,
            "context": self.context,
            "first": None if self.first is None else self.first * side,
        }
        for index, name in enumerate(self.covariate_names):
            columns[f"covariate {name}"] = self.covariates[:, index] * side  # type: ignore[index]
        recorded = pd.DataFrame({name: values for name, values in columns.items() if values is not None})
        return np.asarray(recorded.groupby(list(recorded), sort=False).ngroup(), np.int64)

    def repeats_once(self) -> Comparisons:
        """Return the table with the first answer to each of its `questions` (what goes is counted in `notes`).

        An annotator who is asked again mostly repeats what they said; counted as if it were news, that makes
        intervals too short.

        Raises
        ------
        DataError
            If nobody recorded who judged, there are no outcomes yet, or ties were made half wins before.
        """
        if self.outcome is None:
            raise DataError("these pairs have no outcomes yet")
        if self.annotator is None:
            raise DataError("who repeats a judgement is not known; name the annotator column with annotator=...")
        if (self.count != np.round(self.count)).any():
            raise DataError("half a win repeats nothing; call repeats_once() before ties_as_half_wins()")
        said = np.flatnonzero(self.count > 0)
        earliest = np.unique(self.questions()[said], return_index=True)[1]
        kept = self.take(said[np.sort(earliest)])
        gone = self.n_judgements - len(kept)
        note = f"{gone:g} judgements that repeat an annotator's earlier one of the same pair dropped on request"
        return replace(kept, count=np.ones(len(kept)), notes=(*self.notes, note))

    def without_strength(self) -> Comparisons:
        """Return the table with grades collapsed to a, b and tie (counted in `notes`): who won alone counts."""
        if self.grade is None:
            raise DataError(f"{self.source} records no strengths of preference")
        note = (
            f"{self.n_judgements - self.n_ties:g} judgements of {len(self.grades) // 2} strengths of preference "
            "collapsed to a and b on request"
        )
        return replace(self, grades=(), grade=None, notes=(*self.notes, note))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Comparisons:
        """Return the comparisons at `rows`, with the whole vocabulary kept."""
        names = ("item_a", "item_b", "outcome", "count", "grade", "annotator", "context", "first", "covariates")
        picked = {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(self, **picked)

    def swapped(self) -> Comparisons:
        """Return the same judgements with the sides exchanged: the likelihood must not notice."""
        outcome = None
        if self.outcome is not None:
            outcome = np.array([B, A, TIE], np.int8)[self.outcome]
        return replace(
            self,
            item_a=self.item_b,
            item_b=self.item_a,
            outcome=outcome,
            grade=None if self.grade is None else np.array(mirror(self.grades))[self.grade],
            first=None if self.first is None else -self.first,
            covariates=None if self.covariates is None else -self.covariates,
        )

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame that `from_frame` reads back."""
        labels = np.array(self.items, dtype=object)
        columns: dict[str, Any] = {"item_a": labels[self.item_a], "item_b": labels[self.item_b]}
        if self.outcome is not None:
            columns["outcome"] = np.array(OUTCOMES, dtype=object)[self.outcome]
        if self.grade is not None:
            columns["strength"] = np.array([int(g[1:]) if g != "tie" else 0 for g in self.grades])[self.grade]
        if self.annotator is not None:
            columns["annotator"] = np.array(self.annotators, dtype=object)[self.annotator]
        if self.context is not None:
            columns["context"] = np.array(self.contexts, dtype=object)[self.context]
        if self.first is not None:
            columns["first"] = np.array(["b", "neither", "a"], dtype=object)[self.first + 1]
        columns["count"] = self.count
        for index, name in enumerate(self.covariate_names):
            columns[name] = self.covariates[:, index]  # type: ignore[index]
        return pd.DataFrame(columns)

    def fingerprint(self) -> str:
        """Return a short hash of everything a fit can see, to recognise the table again."""
        digest = hashlib.sha256()
        for labels in (self.items, self.annotators, self.feature_names, self.covariate_names):
            digest.update("\x1f".join(labels).encode() + b"\x1e")
        for name in (
            "item_a",
            "item_b",
            "outcome",
            "count",
            "annotator",
            "first",
            "item_features",
            "covariates",
        ):
            value = getattr(self, name)
            digest.update(name.encode() + (b"-" if value is None else np.ascontiguousarray(value).tobytes()))
        if self.grade is not None:
            digest.update(b"grades" + "\x1f".join(self.grades).encode() + self.grade.tobytes())
        if self.item_measures is not None:
            digest.update(b"measures" + "\x1f".join(self.measure_names).encode() + self.item_measures.tobytes())
        if self.ratings is not None:
            digest.update(b"ratings" + self.ratings.fingerprint())
        return digest.hexdigest()[:16]


def checked_rows(
    frame: pd.DataFrame,
    *,
    item_a: str = "item_a",
    item_b: str = "item_b",
    outcome: str | None = "outcome",
    strength: str | None = None,
    strength_centre: float | None = None,
    higher: str | None = None,
    annotator: str | None = "annotator",
    context: str | None = "context",
    count: str | None = "count",
    ordered: bool = False,
    first: str | None = "first",
    labels: Mapping[Any, str] | None = None,
    missing: str = "error",
    identical: str = "error",
    covariates: Sequence[str] = (),
    source: str = "data frame",
) -> Comparisons:
    """Return the rows of a table, or of a part of one, each checked: `from_frame` without demands on the whole."""
    if not isinstance(ordered, bool):
        raise DataError(f"ordered={ordered!r} is unknown; True says that item_a was shown first in every row")
    if outcome is None:
        frame, outcome, strength = signed_columns(frame, strength, strength_centre, higher, source)
    elif strength_centre is not None or higher is not None:
        raise DataError("strength_centre and higher are for a signed strength, which needs outcome=None")
    columns = {"item_a": item_a, "item_b": item_b, "outcome": outcome}
    given = {"annotator": annotator, "context": context, "count": count, "first": first}
    for role, name in given.items():
        if name is not None and (name != role or name in frame.columns):
            columns[role] = name
    if strength is not None:
        columns["strength"] = strength
    require_columns(frame, columns, source)
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one comparison is needed")
    if ordered and "first" in columns:
        raise DataError(
            f"ordered=True and the column {columns['first']!r} both say which item was shown first; give one"
        )
    frame = frame.reset_index(drop=True)  # so that the index keeps row numbers when rows are dropped
    covariates = (covariates,) if isinstance(covariates, str) else tuple(covariates)
    require_flat(frame, columns, source)
    notes: list[str] = []
    frame = drop_missing(frame, columns, missing, source, notes)
    frame, codes = outcome_codes(frame, columns["outcome"], (item_a, item_b), labels, source, notes)
    items, (side_a, side_b) = encode_labels(frame, (item_a, item_b), source)
    kept = kept_pairs(items, side_a, side_b, frame.index, identical, source, notes)
    if not kept.all():
        frame, codes = frame[kept], codes[kept]
        items, (side_a, side_b) = encode_labels(frame, (item_a, item_b), source)
    require_sides(frame[columns["outcome"]], codes, items, side_a, side_b, labels, source)
    arrays: dict[str, Any] = {}
    if "strength" in columns:
        arrays["grades"], arrays["grade"] = grade_codes(frame[columns["strength"]], codes, source)
    for role, plural in (("annotator", "annotators"), ("context", "contexts")):
        if role in columns:
            arrays[plural], (arrays[role],) = encode_labels(frame, (columns[role],), source)
    if "first" in columns:
        arrays["first"] = first_codes(frame, columns["first"], source)
    elif ordered:
        arrays["first"] = np.ones(len(frame), np.int8)
    if covariates:
        for name in covariates:
            require_columns(frame, {"covariates": name}, source)
        arrays["covariate_names"] = column_names(covariates, source)
        arrays["covariates"] = np.column_stack([numbers(frame[name], source) for name in covariates])
    return Comparisons(
        items=items,
        item_a=side_a,
        item_b=side_b,
        outcome=codes,
        count=read_counts(frame, columns.get("count"), source),
        source=source,
        notes=tuple(notes),
        **arrays,
    )


def _root_mean_square(columns: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square [column], 1 where it is 0; of the largest value first, which may overflow squared."""
    top = np.abs(columns).max(0, initial=0.0)
    top = np.where(top > 0, top, 1.0)
    mean = (count @ (columns / top) ** 2) / max(float(count.sum()), 1.0)
    return np.asarray(top * np.sqrt(np.where(mean > 0, mean, 1.0)))
