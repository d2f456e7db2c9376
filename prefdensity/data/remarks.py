"""What is told of any table before it is fitted: its facts, and remarks with the programs that they are true of."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.existence import connections, existence_warnings, pair_numbers
from prefdensity.data.look_alikes import look_alikes
from prefdensity.shown import Telling
from prefdensity.words import counted, some

# Fewer judgements than this leave an item or annotator to the prior.
_FEW = 5


@dataclass(frozen=True)
class Remark:
    """What a careful statistician would say of a table, and of which programs it is true.

    Attributes
    ----------
    says
        The sentence.
    concerns
        Only programs that know of this: "item" where each item has a utility of its own, or a label or column of the
        table such as "annotator"; "" all programs.
    answered_by
        Programs that know of this account for what the sentence warns of; "" none does.
    tested_by
        The check of a fit that tells whether it matters to the program; "" none does.
    """

    says: str
    concerns: str = ""
    answered_by: str = ""
    tested_by: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class TableReport(Telling):
    """Facts about a table; `print` it.

    Attributes
    ----------
    source, notes
        Where the table came from, and what was dropped or recoded on request.
    n_judgements, n_items, n_annotators, n_pairs
        Sizes; judgements are weighted by `count`, pairs are distinct and unordered.
    labels
        What labels beside items and annotators name (contexts, category, ...) -> how many there are.
    n_components
        Groups of items without any comparison between them.
    items, annotators
        Frames, a row for each; the second column is how many judgements, or answers, there are about the item, or by
        the annotator. Of items, undefeated and winless mark members of the groups of `existence.undefeated` and
        `winless`.
    remarks
        What a careful statistician would say.
    """

    source: str
    notes: tuple[str, ...]
    n_judgements: float
    n_items: int
    n_annotators: int
    n_pairs: int
    n_components: int
    labels: dict[str, int]
    items: pd.DataFrame
    annotators: pd.DataFrame
    remarks: tuple[Remark, ...]
    JUDGED: ClassVar[str] = ""  # the second column of items and annotators

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to read before fitting any program."""
        return tuple(remark.says for remark in self.remarks)

    def given(self, known: Collection[str], passed: Collection[str] = ()) -> tuple[str, ...]:
        """Return the sentences that are true of a program, by what it knows of and the checks it passed."""
        return tuple(
            remark.says
            for remark in self.remarks
            if (not remark.concerns or remark.concerns in known)
            and remark.answered_by not in known
            and remark.tested_by not in passed
        )

    def _each(self, table: pd.DataFrame) -> str:
        """Return how many judgements, or answers, the rows of a table have."""
        said = spread(table[self.JUDGED])
        return f"{said} {self.JUDGED.removesuffix('s') if said == '1' else self.JUDGED}"

    def to_frame(self) -> pd.DataFrame:
        """Return the table of items."""
        return self.items

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """Return what is told of this kind of table alone, by a word each; the first has none."""

    def __str__(self) -> str:
        rows = [*self.facts(), ("per item", self._each(self.items))]
        if self.n_annotators:
            rows.append(("annotators", f"{self.n_annotators:,}, {self._each(self.annotators)} each"))
        rows += [(name, f"{size:,}") for name, size in self.labels.items()]
        rows += [("note", note) for note in self.notes]
        lines = [rows[0][1], *(f"  {name:<13} {said}" for name, said in rows[1:])]
        lines.append("Warnings:" if self.warnings else "Nothing to warn of.")
        return "\n".join(lines + [f"- {warning}" for warning in self.warnings])


def common(
    data: Comparisons | Choices,
    implied: Comparisons,
    items: pd.DataFrame,
    annotators: pd.DataFrame,
    own: Iterable[Remark],
) -> dict[str, Any]:
    """Return the fields of a report that tables of any kind have.

    Parameters
    ----------
    data, implied
        The table, and the preferences between two that it tells.
    items, annotators
        What was counted of each.
    own
        Remarks on tables of this kind alone, which come last.
    """
    items = items.assign(**connections(implied))
    words = {data.plural(name): labels for name, labels in data.vocabularies().items()}
    return {
        "source": data.source,
        "notes": data.notes,
        "n_judgements": data.n_judgements,
        "n_items": len(items),
        "n_annotators": len(annotators),
        "n_pairs": int(pair_numbers(implied).max()) + 1,
        "n_components": int(items["component"].max()) + 1,
        "labels": {name: len(each) for name, each in words.items() if name not in ("items", "annotators", data.JUDGED)},
        "items": items,
        "annotators": annotators,
        "remarks": (
            *(Remark(says, concerns="item") for says in existence_warnings(implied)),
            *map(Remark, look_alikes(words)),
            *_thin(items, "item", data.JUDGED, "their utilities rest on the prior"),
            *_thin(annotators, "annotator", data.JUDGED, "little can be said about them"),
            *own,
        ),
    }


def _thin(table: pd.DataFrame, kind: str, judged: str, meaning: str) -> list[Remark]:
    """Return a remark on the rows of items, or annotators, with few judgements, or answers, if there are any."""
    few = table[kind][table[judged] < _FEW]
    if len(few) == 0:
        return []
    said = f"{counted(len(few), kind)} with fewer than {_FEW} {judged} ({some(few)}): {meaning}."
    return [Remark(said, concerns=kind)]


def spread(sizes: pd.Series) -> str:
    """Return the least, the greatest and the median of numbers, or the one that all are."""
    if len(sizes) and sizes.min() == sizes.max():
        return f"{sizes.min():,.0f}"
    return f"{sizes.min():,.0f} to {sizes.max():,.0f} (median {sizes.median():,.0f})"
