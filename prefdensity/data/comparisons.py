"""The table of comparisons: validated columns, one vocabulary, no silent repair.

Shapes use the words `comparison` (rows as recorded), `item`, `annotator`, `feature`, `covariate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from prefdensity.data.columns import EXACT, feature_table
from prefdensity.data.comparison_columns import (
    COLUMNS,
    OUTCOMES as OUTCOMES,
    TIE as TIE,
    A as A,
    B as B,
    exported,
    require_both_signs,
)
from prefdensity.data.declared import KEPT, ROW, Column, Held, Table, require_table, said, same_key, short_hash
from prefdensity.data.named import read_attributes
from prefdensity.data.reading import Reading
from prefdensity.errors import DataError
from prefdensity.shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from prefdensity.data.rating_table import Ratings


_SHOWN = 5  # rows in a notebook


@dataclass(frozen=True, eq=False)
class Comparisons(Table):
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
    more
        Columns that users named: further labels and numbers of rows, attributes of labels; see `labels`, `column`.
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
    more: tuple[Held, ...] = ()
    ratings: Ratings | None = None
    source: str = "data frame"
    notes: tuple[str, ...] = ()
    COLUMNS: ClassVar[tuple[Column, ...]] = COLUMNS
    UNITS: ClassVar[tuple[str, ...]] = ("comparison", "pair", "item")

    def __post_init__(self) -> None:
        if self.covariates is not None and self.covariate_scale is None:
            object.__setattr__(self, "covariate_scale", _root_mean_square(self.covariates, self.count))
        object.__setattr__(self, "more", tuple(each.in_units(self.count) for each in self.more))

    def __len__(self) -> int:
        return len(self.item_a)

    def __repr__(self) -> str:
        people = f", {len(self.annotators)} annotators" if self.annotators else ""
        return f"Comparisons({self.n_judgements:g} judgements, {len(self.items)} items{people})"

    def _repr_html_(self) -> str:
        return shown("\n".join([repr(self), *self.notes]), self.head(_SHOWN).to_frame())

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, *, item_features: pd.DataFrame | None = None,
        item_measures: pd.DataFrame | None = None, attributes: Mapping[str, pd.DataFrame] | None = None,
        **columns: Any,
    ) -> Comparisons:  # fmt: skip
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
            "error", or "drop": rows with an empty item, outcome, annotator, context, or column of `groups` or `numbers`
            are dropped and counted.
        identical
            "error", or "drop": rows that compare an item with itself are dropped and counted.
        covariates
            Numeric columns that describe a comparison; positive values speak for side a.
        groups
            Columns of further labels that programs may read, such as ["category", "language"]; or a mapping from the
            name that programs call it to the column.
        numbers
            Columns of numbers or dates that programs may read, in the same way; of dates (2024-05-31, or ISO 8601
            times) the days since 1970.
        item_features
            Numeric frame indexed by item label, one row for each item of the table.
        item_measures
            The same for what programs of behaviour read by name, such as `length` and `log_reference`.
        attributes
            From what labels name ("item", "annotator", "context", a name of `groups`) to a frame indexed by them, of
            numbers, dates or categories that programs may read.
        source
            Shown in reports and errors.

        Raises
        ------
        DataError
            Naming the column, the row (counted from 1, without the header) and what would be right.
        """
        reading = Reading(**columns)
        return cls(**reading.rows(frame)).completed(item_features, item_measures, attributes, reading.signed)

    def completed(
        self,
        item_features: pd.DataFrame | None,
        item_measures: pd.DataFrame | None,
        attributes: Mapping[str, pd.DataFrame] | None = None,
        signed: str | None = None,
    ) -> Comparisons:
        """Return the table with what is known of its labels; refuse one without a judgement, or of one sign only.

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
        more, notes = read_attributes(attributes or {}, self.vocabularies(), self.source)
        return replace(self, more=(*self.more, *more), notes=(*self.notes, *notes), **arrays)

    @property
    def n_judgements(self) -> float:
        """Number of judgements: the sum of the counts."""
        return float(self.count.sum())

    @property
    def n_ties(self) -> float:
        """Number of ties, 0 for pairs not yet judged."""
        return 0.0 if self.outcome is None else float(self.count[self.outcome == TIE].sum())

    def units(self, unit: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Return the units [row, 1] of every row, [row, 2] for its two items, and the labels of all units."""
        size = len(self.items)
        if unit == "item":
            return np.stack([self.item_a, self.item_b], 1), self.items
        if unit != "pair":
            return super().units(unit)
        low, high = np.minimum(self.item_a, self.item_b), np.maximum(self.item_a, self.item_b)
        found, of_row = np.unique(low * size + high, return_inverse=True)
        return of_row[:, None], tuple(f"{self.items[k // size]} - {self.items[k % size]}" for k in found.tolist())

    def context_of_items(self) -> NDArray[np.int64] | None:
        """Return the context [item] that each item was judged in; None without contexts, or if an item is in several.

        Responses to prompts are such items; models that answered many prompts are not.
        """
        if self.context is None:
            return None
        item, context = np.r_[self.item_a, self.item_b], np.r_[self.context, self.context]
        found = np.full(len(self.items), -1)
        found[item] = context
        return found if (found >= 0).all() and (found[item] == context).all() else None

    def preferences(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the row, the preferred item and the other [preference] of all rows that are no ties."""
        outcome = self.judged()
        row = np.flatnonzero(outcome != TIE)
        over, under = self.item_a[row], self.item_b[row]
        won = outcome[row] == A
        return row, np.where(won, over, under), np.where(won, under, over)

    def judged(self) -> NDArray[np.int8]:
        """Return the outcomes; refuse pairs that nobody has judged."""
        if self.outcome is None:
            raise DataError("these pairs have no outcomes yet")
        return self.outcome

    def pairs(self) -> Comparisons:
        """Return the table: its judgements are preferences between two."""
        return self

    def wins(self) -> NDArray[np.float64]:
        """Return float64 [item, item]: how often the row item beat the column item; ties are left out."""
        row, over, under = self.preferences()
        table = np.zeros((len(self.items), len(self.items)))
        np.add.at(table, (over, under), self.count[row])
        return table

    def ties_as_half_wins(self) -> Comparisons:
        """Return the table with each tie split into half a win for either side (counted in `notes`).

        A convention of leaderboards, not a model of ties: Davidson and Rao-Kupper are models.
        """
        self.judged()
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
        kept = self.judged() != TIE
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
        shown first, context, further labels and covariates. Numbers that speak for no side, such as a date, tell when
        it was asked.
        """
        alike = said(self.swapped(self.item_a > self.item_b), "outcome")
        asked = [each for each in alike if (each.column.kind, each.column.on_swap) != ("number", KEPT)]
        return pd.factorize(same_key(asked)[0])[0].astype(np.int64)

    def fingerprint(self) -> str:
        """Return a short hash of everything a fit can see, to recognise the table again."""
        whole = super().fingerprint()
        return whole if self.ratings is None else short_hash([whole, self.ratings.fingerprint()])

    def repeats_once(self) -> Comparisons:
        """Return the table with the first answer to each of its `questions` (what goes is counted in `notes`).

        An annotator who is asked again mostly repeats what they said; counted as if it were news, that makes
        intervals too short.

        Raises
        ------
        DataError
            If nobody recorded who judged, there are no outcomes yet, or ties were made half wins before.
        """
        self.judged()
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

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame that `from_frame` reads back, without what describes items and other labels."""
        frame: dict[str, Any] = {}
        for each in self.columns:
            if each.column.per == ROW:
                frame |= exported(each)
        return pd.DataFrame(frame)


def _root_mean_square(columns: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the root mean square [column], 1 where it is 0; of the largest value first, which may overflow squared."""
    top = np.abs(columns).max(0, initial=0.0)
    top = np.where(top > 0, top, 1.0)
    mean = (count @ (columns / top) ** 2) / max(float(count.sum()), 1.0)
    return np.asarray(top * np.sqrt(np.where(mean > 0, mean, 1.0)))


def of_two(data: Any, what: str) -> Comparisons:
    """Return the comparisons of a table; `what` is asked of them, and choices from sets are none.

    Raises
    ------
    DataError
        For choices from sets, and for what is no table that was read.
    """
    require_table(data)
    if data.SETS:
        raise DataError(f"{what} is for comparisons of two, and these are choices from sets")
    found: Comparisons = data.pairs()
    return found
