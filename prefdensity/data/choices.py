"""The table of choices from more than two items: rankings, top-k lists, best-of-set and best-worst answers.

A ranking is a sequence of choices, each from what is left (Plackett 1975, Applied Statistics 24, 193-202); a best-worst
answer is one choice among the ordered pairs of a set (Marley and Louviere 2005, J. Math. Psych. 49, 464-480). With
alternatives that are items, or ordered pairs of items, all of them are choices from a set, and a comparison is a choice
from a set of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from prefdensity.data.columns import EXACT, empty, encode_labels, feature_table, listed, numbers
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import Column, Held, Table
from prefdensity.data.missing import that_tell, whole_answers
from prefdensity.data.named import columns_of, read_attributes, read_named, require_free
from prefdensity.errors import DataError

_SKIPPED = "; answers that somebody skipped are dropped with missing='drop'"

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Choices(Table):
    """Choices from sets of `items`: which was best, and for best-worst answers which was worst.

    Attributes
    ----------
    items
        Labels, sorted; the codes below index them.
    sets
        The members of each choice's set: an array of arrays of sorted item codes, one for each choice.
    best
        int64 [choice]: the item chosen.
    worst
        int64 [choice] of best-worst answers; None: only the best was named.
    annotators, annotator
        Labels and int64 [choice], or None where nobody recorded who chose.
    answers, answer
        Labels and int64 [choice] of the rankings, or other answers, that the choices come from.
    feature_names, item_features
        Names and float64 [item, feature] in the users' units, or None.
    more
        Columns that users named; see `labels`, `column`.
    source
        Where the table came from.
    notes
        What was recoded or dropped on request, with counts.
    """

    items: tuple[str, ...]
    sets: NDArray[np.object_]
    best: NDArray[np.int64]
    worst: NDArray[np.int64] | None
    annotators: tuple[str, ...] = ()
    annotator: NDArray[np.int64] | None = None
    answers: tuple[str, ...] = ()
    answer: NDArray[np.int64] | None = None
    feature_names: tuple[str, ...] = ()
    item_features: NDArray[np.float64] | None = None
    more: tuple[Held, ...] = ()
    source: str = "data frame"
    notes: tuple[str, ...] = ()
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("best", "label", of="item", words="items"),
        Column("sets", "set", of="item", words="items"),
        Column("worst", "label", of="item", words="items"),
        Column("annotator", "label", words="annotators"),
        Column("answer", "label", words="answers"),
        Column("item_features", "number", per="item", words="feature_names"),
    )
    UNITS: ClassVar[tuple[str, ...]] = ("choice",)
    SETS: ClassVar[bool] = True
    JUDGED: ClassVar[str] = "answers"

    def __post_init__(self) -> None:
        object.__setattr__(self, "more", tuple(each.in_units(self.count) for each in self.more))

    # what programs may ask of a table, and choices do not have
    first = covariates = ratings = grade = item_measures = None
    covariate_names: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    measure_names: tuple[str, ...] = ()
    n_ties = 0.0

    def __len__(self) -> int:
        return len(self.best)

    def __repr__(self) -> str:
        people = f", {len(self.annotators)} annotators" if self.annotators else ""
        return f"Choices({self.n_answers} answers, {len(self)} choices, {len(self.items)} items{people})"

    @property
    def n_answers(self) -> int:
        """Rankings, or answers, that the choices come from."""
        return len(self.answers)

    @property
    def n_judgements(self) -> float:
        """Number of choices."""
        return float(len(self))

    @property
    def count(self) -> NDArray[np.float64]:
        """Ones [choice]: every choice stands for itself."""
        return np.ones(len(self))

    @classmethod
    def from_rankings(
        cls,
        frame: pd.DataFrame,
        *,
        answer: str,
        item: str = "item",
        rank: str = "rank",
        annotator: str | None = None,
        context: str | None = None,
        groups: Sequence[str] | Mapping[str, str] = (),
        numbers: Sequence[str] | Mapping[str, str] = (),
        item_features: pd.DataFrame | None = None,
        attributes: Mapping[str, pd.DataFrame] | None = None,
        missing: str = "error",
        source: str = "data frame",
    ) -> Choices:
        """Read rankings in long form: one row for each item of each answer, rank 1 the best.

        Items with an empty rank came after all ranked ones: a top-k list, or with rank 1 alone a choice of the best.

        Parameters
        ----------
        frame
            One row per answer and item.
        answer, item, rank
            Column names: which ranking the row belongs to, the item, and its rank (whole numbers from 1).
        annotator, context
            Columns with who answered, and the prompt or question, the same in all rows of an answer.
        groups, numbers
            Columns of further labels, and of numbers or dates, the same in all rows of an answer.
        item_features
            Numeric frame indexed by item label.
        attributes
            What is known of items, annotators and other labels. This and the two before as in `Comparisons.from_frame`.
        missing
            "error", or "drop": rows of no answer, answers with an empty item, annotator, context or column of `groups`
            or `numbers` in any row, and answers without a rank are dropped, and counted in `notes`.
        source
            Shown in errors.

        Raises
        ------
        DataError
            Naming the column and the answer: ties, gaps, items twice, fewer than two items, no rank at all.
        """
        asked = (annotator, context), (groups, numbers), item_features, missing, source
        table = _Table.read(frame, [answer, item, rank], {"a rank": lambda said: ~empty(said)}, *asked)
        ranks = _ranks(table.frame, rank, source)
        sets: list[NDArray[np.int64]] = []
        best: list[int] = []
        origin: list[int] = []
        for k, (name, rows) in enumerate(table.answers):
            given = ranks[rows]
            order = table.item[rows][np.argsort(np.where(np.isnan(given), np.inf, given), kind="stable")]
            ranked = _require_ranks(given, name, rank, source)
            told = range(min(ranked, len(order) - 1))
            sets += [np.sort(order[place:]) for place in told]
            best += [int(order[place]) for place in told]
            origin += [k for _ in told]
        return table.choices(sets, best, None, origin, attributes)

    @classmethod
    def from_best_worst(
        cls,
        frame: pd.DataFrame,
        *,
        answer: str,
        item: str = "item",
        pick: str = "pick",
        annotator: str | None = None,
        context: str | None = None,
        groups: Sequence[str] | Mapping[str, str] = (),
        numbers: Sequence[str] | Mapping[str, str] = (),
        item_features: pd.DataFrame | None = None,
        attributes: Mapping[str, pd.DataFrame] | None = None,
        missing: str = "error",
        source: str = "data frame",
    ) -> Choices:
        """Read best-worst (MaxDiff) answers in long form: one row for each item of each set.

        The column `pick` holds "best" and "worst" once in each answer and is empty elsewhere; the other arguments are
        those of `from_rankings`.

        Raises
        ------
        DataError
            Naming the column and the answer that has not exactly one best and one other worst item.
        """
        asked = (annotator, context), (groups, numbers), item_features, missing, source
        told = {word: lambda said, word=word: (said == word).to_numpy(bool) for word in ("best", "worst")}
        table = _Table.read(frame, [answer, item, pick], told, *asked)
        said = table.frame[pick]
        words = said.astype(object).where(~empty(said), None).to_numpy()
        unknown = sorted({str(word) for word in words if word is not None and word not in ("best", "worst")})
        if unknown:
            raise DataError(f"{source}: column {pick!r} holds {unknown[0]!r}; it takes 'best', 'worst' or nothing")
        sets: list[NDArray[np.int64]] = []
        ends: dict[str, list[int]] = {"best": [], "worst": []}
        for name, rows in table.answers:
            for word, found in ends.items():
                at = rows[words[rows] == word]
                if len(at) != 1:
                    skipped = "" if len(at) else _SKIPPED
                    raise DataError(
                        f"{source}: answer {name!r} names {len(at)} items {word!r} in {pick!r}, not one{skipped}"
                    )
                found.append(int(table.item[at[0]]))
            sets.append(np.sort(table.item[rows]))
        return table.choices(sets, ends["best"], ends["worst"], list(range(len(sets))), attributes)

    def judgement_of(self) -> NDArray[np.int64]:
        """Return the answer [choice] that each is from; best and worst of a set are an answer by themselves."""
        return np.arange(len(self)) if self.worst is not None or self.answer is None else self.answer

    def preferences(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the choice, the preferred item and the other [preference]: best over others, others over the worst."""
        row = np.repeat(np.arange(len(self)), [len(members) for members in self.sets])
        member = np.concatenate(list(self.sets))
        found = [(row, self.best[row], member)]
        if self.worst is not None:
            middle = member != self.best[row]
            found.append((row[middle], member[middle], self.worst[row[middle]]))
        row, over, under = map(np.concatenate, zip(*found, strict=True))
        kept = np.flatnonzero(over != under)
        kept = kept[row[kept].argsort(kind="stable")]
        return row[kept], over[kept], under[kept]

    def pairs(self) -> Comparisons:
        """Return the preferences that the choices imply: the best over every other, every other over the worst.

        They tell whether estimates exist. They are dependent: a program fitted to them is too sure.
        """
        _, over, under = self.preferences()
        return Comparisons(
            items=self.items,
            item_a=over,
            item_b=under,
            outcome=np.zeros(len(over), np.int8),
            count=np.ones(len(over)),
            source=self.source,
            notes=("pairs that choices from sets imply; they are dependent",),
        )


@dataclass(frozen=True)
class _Table:
    """A long frame with its vocabulary: rows of each answer, item codes, and columns that are alike in each answer."""

    frame: pd.DataFrame
    items: tuple[str, ...]
    item: NDArray[np.int64]
    alike: tuple[Held, ...]
    answers: list[tuple[str, NDArray[np.int64]]]
    features: dict[str, Any]
    source: str
    notes: list[str]

    @classmethod
    def read(
        cls,
        frame: pd.DataFrame,
        columns: list[str],
        told: Mapping[str, Callable[[pd.Series], NDArray[np.bool_]]],
        asked: tuple[str | None, str | None],
        named: tuple[Sequence[str] | Mapping[str, str], Sequence[str] | Mapping[str, str]],
        item_features: pd.DataFrame | None,
        missing: str,
        source: str,
    ) -> _Table:
        """Return what a frame holds; `told` finds in the last of its columns what every answer says somewhere."""
        groups, figures = columns_of("groups", named[0]), columns_of("numbers", named[1])
        require_free(groups, "groups")
        require_free(figures, "numbers")
        groups |= {name: column for name, column in zip(("annotator", "context"), asked, strict=True) if column}
        for column in [*columns, *groups.values(), *figures.values()]:
            if column not in frame.columns:
                raise DataError(f"{source} has no column {column!r}; it has {listed(frame.columns)}")
        if len(frame) == 0:
            raise DataError(f"{source} has no rows; at least one answer is needed")
        notes: list[str] = []
        frame = frame.reset_index(drop=True)
        frame = whole_answers(frame, columns[0], {"item": columns[1]} | groups | figures, missing, source, notes)
        told_by = {what: tells(frame[columns[2]]) for what, tells in told.items()}
        frame = that_tell(frame, columns[0], told_by, missing, source, notes)
        items, (item,) = encode_labels(frame, (columns[1],), source)
        names, (answer,) = encode_labels(frame, (columns[0],), source)
        alike = read_named(frame, groups, figures, source)
        order = np.argsort(answer, kind="stable")
        rows = np.split(order, np.flatnonzero(np.diff(answer[order])) + 1)
        for name, members in zip(names, rows, strict=True):
            _require_set(name, item[members], items, [each.at(members) for each in alike], source)
        features = {}
        if item_features is not None:
            features = dict(zip(("feature_names", "item_features"), feature_table(item_features, items), strict=True))
        return cls(frame, items, item, alike, list(zip(names, rows, strict=True)), features, source, notes)

    def choices(
        self,
        sets: list[NDArray[np.int64]],
        best: list[int],
        worst: list[int] | None,
        origin: list[int],
        attributes: Mapping[str, pd.DataFrame] | None,
    ) -> Choices:
        """Return choices, each from one of the answers."""
        rows = np.array([members[0] for _, members in self.answers])[origin]
        columns = {each.column.name: each.at(rows) for each in self.alike}
        who = columns.pop("annotator", None)
        data = Choices(
            items=self.items,
            sets=_ragged(sets),
            best=np.array(best),
            worst=None if worst is None else np.array(worst),
            annotators=() if who is None else who.words,
            annotator=None if who is None else who.values,
            answers=tuple(name for name, _ in self.answers),
            answer=np.array(origin),
            more=tuple(columns.values()),
            source=self.source,
            **self.features,
        )
        more, notes = read_attributes(attributes or {}, data.vocabularies(), self.source)
        return replace(data, more=(*data.more, *more), notes=(*self.notes, *notes))


def _ragged(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.object_]:
    """Return an array of arrays, also where all are of one length."""
    found = np.empty(len(parts), dtype=object)
    for k, each in enumerate(parts):
        found[k] = each
    return found


def _require_set(
    name: str, members: NDArray[np.int64], items: tuple[str, ...], alike: Sequence[Held], source: str
) -> None:
    if len(members) < 2:
        raise DataError(f"{source}: answer {name!r} has one item only; a choice needs two or more")
    codes, times = np.unique(members, return_counts=True)
    if times.max() > 1:
        raise DataError(f"{source}: answer {name!r} has item {items[codes[times.argmax()]]!r} {times.max()} times")
    for each in alike:
        if len(np.unique(each.values)) > 1:
            what = each.column.name
            one = "one person's" if what == "annotator" else "alike in all of its rows"
            raise DataError(f"{source}: answer {name!r} has more than one {what}; an answer is {one}")


def _ranks(frame: pd.DataFrame, rank: str, source: str) -> NDArray[np.float64]:
    """Return ranks [row], NaN where there is none."""
    expected = "ranks, whole numbers from 1, or nothing for items that came after all ranked ones"

    def whole(x: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (x >= 1) & (x == np.round(x)) & (x < EXACT)

    return numbers(frame[rank], source, valid=whole, expected=expected, blank=True)


def _require_ranks(given: NDArray[np.float64], name: str, rank: str, source: str) -> int:
    """Return how many items are ranked; refuse ties and gaps."""
    ranked = np.sort(given[~np.isnan(given)])
    if len(ranked) == 0:
        raise DataError(f"{source}: answer {name!r} ranks nothing in {rank!r}{_SKIPPED}")
    if not np.array_equal(ranked, np.arange(1, len(ranked) + 1)):
        kind = "two items of one rank" if len(np.unique(ranked)) < len(ranked) else "a gap"
        raise DataError(
            f"{source}: answer {name!r} has {kind} in {rank!r}; ranks must be 1, 2, 3, ... without ties (Plackett-Luce "
            "has none)"
        )
    return len(ranked)
