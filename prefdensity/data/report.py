"""What to know about a table before fitting: sizes, ties, order, components, separation, odd data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import TIE, A, B, Comparisons, of_two
from prefdensity.data.look_alikes import look_alikes
from prefdensity.data.remarks import Remark
from prefdensity.errors import DataError
from prefdensity.shown import Telling
from prefdensity.words import share

# Fewer judgements than this leave an item or annotator to the prior.
_FEW = 5
# With so many decided answers, one that takes either side at random is all on one side once in 500 times.
_SAME_SIDE = 10
# Standard deviations from a half at which the share won by the first shown is remarked on.
_FAR = 4.0
# Share of repeated judgements that is worth a remark; a random design has a few.
_REPEATED = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class DataReport(Telling):
    """Facts about a table of comparisons; `print` it.

    Attributes
    ----------
    source, notes
        Where the table came from, and what was dropped or recoded on request.
    n_judgements, n_items, n_annotators, n_contexts, n_pairs
        Sizes; judgements are weighted by `count`, pairs are distinct and unordered.
    labels
        What labels beside items and annotators name (contexts, category, ...) -> how many there are.
    tie_share
        Share of ties among the judgements.
    both_orders, first_share
        Share of the pairs seen in both orders, and share of decided judgements that the first shown won;
        None where the order is unknown.
    n_components
        Groups of items without any comparison between them.
    items
        item, judgements, wins, losses, ties, component, undefeated, winless. The last two mark members of the
        groups of `undefeated` and `winless`.
    annotators
        annotator, judgements, tie_share, first_share (of the decided judgements; NaN where there are none).
    remarks
        What a careful statistician would say.
    """

    source: str
    notes: tuple[str, ...]
    n_judgements: float
    n_items: int
    n_annotators: int
    n_contexts: int
    n_pairs: int
    tie_share: float
    both_orders: float | None
    first_share: float | None
    n_components: int
    labels: dict[str, int]
    items: pd.DataFrame
    annotators: pd.DataFrame
    remarks: tuple[Remark, ...]

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

    def to_frame(self) -> pd.DataFrame:
        """Return the table of items."""
        return self.items

    def __str__(self) -> str:
        lines = [f"{self.n_judgements:,.0f} judgements of {self.n_items:,} items ({self.source})"]
        lines.append(f"  ties          {share(self.tie_share)}")
        possible = self.n_items * (self.n_items - 1) // 2
        parts = f"{self.n_components:,} component(s)"
        lines.append(f"  pairs         {self.n_pairs:,} of {possible:,}, in {parts}")
        if self.first_share is None or self.both_orders is None:
            lines.append("  order shown   unknown")
        else:
            lines.append(f"  order shown   the first won {share(self.first_share)} of the decided judgements")
            lines.append(f"                {share(self.both_orders)} of the pairs were seen in both orders")
        lines.append(f"  per item      {_spread(self.items['judgements'])} judgements")
        if self.n_annotators:
            each = _spread(self.annotators["judgements"])
            lines.append(f"  annotators    {self.n_annotators:,}, {each} judgements each")
        lines += [f"  {name:<13} {size:,}" for name, size in self.labels.items()]
        lines += [f"  note          {note}" for note in self.notes]
        lines.append("Warnings:" if self.warnings else "Nothing to warn of.")
        return "\n".join(lines + [f"- {warning}" for warning in self.warnings])


def describe(data: Comparisons) -> DataReport:
    """Return what to know about `data` before fitting.

    Raises
    ------
    DataError
        If the pairs have no outcomes yet; for choices from sets.

    Examples
    --------
    >>> import prefdensity
    >>> describe(prefdensity.read("example:citations")).n_judgements
    3727.0
    """
    if of_two(data, "describe").outcome is None:
        raise DataError("these pairs have no outcomes yet; a report needs judgements")
    data = data.take(data.count > 0)
    pair = _pair(data)
    items = _item_frame(data)
    annotators = _annotator_frame(data)
    both_orders, first_share, order_remarks = _order(data, pair)
    n_components = int(components(data).max()) + 1
    words = {data.plural(name): labels for name, labels in data.vocabularies().items()}
    labels = {name: len(each) for name, each in words.items() if name not in ("items", "annotators")}
    return DataReport(
        source=data.source,
        notes=data.notes,
        n_judgements=data.n_judgements,
        n_items=len(data.items),
        n_annotators=len(data.annotators),
        n_contexts=len(data.contexts),
        labels=labels,
        n_pairs=int(pair.max()) + 1,
        tie_share=data.n_ties / data.n_judgements,
        both_orders=both_orders,
        first_share=first_share,
        n_components=n_components,
        items=items,
        annotators=annotators,
        remarks=(
            *(Remark(says, concerns="item") for says in existence_warnings(data)),
            *map(Remark, look_alikes(words)),
            *_thin(items, "item", "their utilities rest on the prior"),
            *_thin(annotators, "annotator", "little can be said about them"),
            *map(Remark, _one_sided(data)),
            *order_remarks,
            *_dependence(data),
        ),
    )


def components(data: Comparisons) -> NDArray[np.int64]:
    """Return int64 [item]: numbers of the groups of items that comparisons, also indirect ones, connect.

    Utilities of different groups cannot be compared: only a prior relates them.
    """
    judged = data.count > 0
    return _connected(data.item_a[judged], data.item_b[judged], len(data.items), directed=False)


def strong_groups(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of items within which everyone beat everyone, directly or through others.

    A tie counts as a win of either side. One group that holds all items is the condition for a finite and
    unique maximum-likelihood estimate (Ford 1957, American Mathematical Monthly 64, 28-33; with ties
    Davidson 1970).
    """
    label, _, _ = _strong(data)
    return _members(label, np.ones(label.max() + 1, bool), data.items)


def undefeated(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of `strong_groups` that beat others and that no other beat or tied.

    Without a prior their utilities run away upwards.
    """
    label, top, _ = _strong(data)
    return _members(label, top, data.items)


def winless(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of `strong_groups` that others beat and that beat or tied no other.

    Without a prior their utilities run away downwards.
    """
    label, _, bottom = _strong(data)
    return _members(label, bottom, data.items)


def _strong(data: Comparisons) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the strong group of each item, and which groups are undefeated and winless."""
    if data.outcome is None:
        raise DataError("these pairs have no outcomes yet")
    judged = data.count > 0
    item_a, item_b, outcome = data.item_a[judged], data.item_b[judged], data.outcome[judged]
    winner = np.concatenate([item_a[outcome != B], item_b[outcome != A]])
    loser = np.concatenate([item_b[outcome != B], item_a[outcome != A]])
    label = _connected(winner, loser, len(data.items), connection="strong")
    (won, lost), between = np.zeros((2, label.max() + 1), bool), label[winner] != label[loser]
    won[label[winner[between]]] = True
    lost[label[loser[between]]] = True
    return label, won & ~lost, lost & ~won


def _connected(start: NDArray[np.int64], end: NDArray[np.int64], size: int, **how: Any) -> NDArray[np.int64]:
    """Return the component of each of `size` places of a graph; see SciPy."""
    from scipy.sparse import csgraph, csr_matrix  # 20 MB and a third of a second, which not every fit needs

    graph = csr_matrix((np.ones(len(start), np.int32), (start, end)), shape=(size, size))
    return csgraph.connected_components(graph, **how)[1].astype(np.int64)


def _members(label: NDArray[np.int64], wanted: NDArray[np.bool_], items: Sequence[str]) -> list[tuple[str, ...]]:
    groups: dict[int, list[str]] = {}
    for item in np.flatnonzero(wanted[label]):
        groups.setdefault(int(label[item]), []).append(items[int(item)])
    return [tuple(group) for group in groups.values()]


def _pair(data: Comparisons) -> NDArray[np.int64]:
    """Return int64 [comparison]: the distinct unordered pairs, numbered from 0."""
    low, high = np.minimum(data.item_a, data.item_b), np.maximum(data.item_a, data.item_b)
    return pd.factorize(low * len(data.items) + high)[0].astype(np.int64)


def _item_frame(data: Comparisons) -> pd.DataFrame:
    def total(code: int, side: NDArray[np.int64]) -> NDArray[np.float64]:
        return _sums(side, data.count * (data.outcome == code), len(data.items))

    wins = total(A, data.item_a) + total(B, data.item_b)
    losses = total(B, data.item_a) + total(A, data.item_b)
    ties = total(TIE, data.item_a) + total(TIE, data.item_b)
    label, top, bottom = _strong(data)
    return pd.DataFrame(
        {
            "item": data.items,
            "judgements": wins + losses + ties,
            "wins": wins,
            "losses": losses,
            "ties": ties,
            "component": components(data),
            "undefeated": top[label],
            "winless": bottom[label],
        }
    )


def _annotator_frame(data: Comparisons) -> pd.DataFrame:
    size = len(data.annotators)
    judgements, tie_share, first_share = np.zeros(size), np.full(size, np.nan), np.full(size, np.nan)
    if data.annotator is not None:
        judgements = _sums(data.annotator, data.count, size)
        ties = _sums(data.annotator, data.count * (data.outcome == TIE), size)
        np.divide(ties, judgements, out=tie_share, where=judgements > 0)
    if data.annotator is not None and data.first is not None:
        first, decided = _by_side(data, data.annotator, size)
        np.divide(first, decided, out=first_share, where=decided > 0)
    columns = {"annotator": data.annotators, "judgements": judgements}
    return pd.DataFrame(columns | {"tie_share": tie_share, "first_share": first_share})


def _by_side(data: Comparisons, unit: NDArray[np.int64], size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return [unit]: wins of the item shown first (of side a where the order is unknown), and of how many."""
    first = np.ones(len(data)) if data.first is None else data.first
    decided = data.count * ((data.outcome != TIE) & (first != 0))
    won = decided * ((data.outcome == A) == (first > 0))
    return _sums(unit, won, size), _sums(unit, decided, size)


def _sums(unit: NDArray[np.int64], weight: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.bincount(unit, weight, size).astype(np.float64)


def _order(data: Comparisons, pair: NDArray[np.int64]) -> tuple[float | None, float | None, list[Remark]]:
    """Return the share of pairs seen in both orders, the share won by the first shown, and remarks."""
    if data.first is None or not data.first.any():
        return None, None, []
    low_first = (data.item_a < data.item_b) == (data.first > 0)
    seen = np.zeros((2, pair.max() + 1), bool)
    for order, rows in enumerate((low_first, ~low_first)):
        seen[order, pair[rows & (data.first != 0)]] = True
    both = seen.all(0)
    (won,), (decided,) = _by_side(data, np.zeros(len(data), np.int64), 1)
    remarks = []
    if not both.any():
        said = "No pair was seen in both orders: only the model tells an effect of the order from quality."
        remarks.append(Remark(said, concerns="first"))
    if decided > 0 and abs(won - decided / 2) > _FAR * np.sqrt(decided / 4):
        said = (
            f"The item shown first won {share(won / decided)} of {decided:,.0f} decided judgements, far from half: a "
            "program that knows no effect of the order lays that on the items."
        )
        remarks.append(Remark(said, answered_by="first", tested_by="order"))
    return float(both.mean()), float(won / decided) if decided > 0 else None, remarks


def existence_warnings(data: Comparisons) -> list[str]:
    """Return sentences on items that no comparison relates, and on items that are undefeated or winless."""
    label, *ends = _strong(data)
    if label.max() == 0:  # everyone beat everyone, directly or through others
        return []
    warnings = []
    part = components(data)
    if part.max() > 0:
        names = np.array(data.items, dtype=object)
        groups = sorted((tuple(names[part == k]) for k in range(part.max() + 1)), key=len, reverse=True)
        warnings.append(
            f"The items fall into {len(groups):,} groups that were never compared with each other "
            f"({_some(map(_joined, groups))}): differences between groups are set by the prior alone."
        )
    top, bottom = (_members(label, wanted, data.items) for wanted in ends)
    if top or bottom:
        found = [
            f"{len(groups):,} {kind} the rest ({_some(map(_joined, groups))})"
            for groups, kind in ((top, "never lost to or tied with"), (bottom, "never beat or tied with"))
            if groups
        ]
        warnings.append(
            f"Of the items, or groups of items, {' and '.join(found)}: no finite maximum-likelihood "
            f"estimate exists; with a prior the prior sets how far they lie from the rest."
        )
    return warnings


def _thin(table: pd.DataFrame, kind: str, meaning: str) -> list[Remark]:
    few = table[kind][table["judgements"] < _FEW]
    if len(few) == 0:
        return []
    said = f"{len(few):,} {kind}(s) with fewer than {_FEW} judgements ({_some(few)}): {meaning}."
    return [Remark(said, concerns=kind)]


def _one_sided(data: Comparisons) -> list[str]:
    """Warn of one outcome throughout, else of annotators who always answer the same side."""
    codes = np.unique(data.outcome)  # type: ignore[arg-type]
    if len(codes) == 1 and codes[0] == TIE:
        return ["Every judgement is a tie: nothing tells the items apart."]
    if len(codes) == 1 and data.n_judgements >= _SAME_SIDE:
        known = data.first is not None
        order = "the recorded order cannot be right" if known else "the sides say nothing about the order"
        return [f"Every outcome is {'ab'[codes[0]]!r}, as in a file that lists the winner first: {order}."]
    if data.annotator is None:
        return []
    first, decided = _by_side(data, data.annotator, len(data.annotators))
    same = (decided >= _SAME_SIDE) & ((first == 0) | (first == decided))
    names = [data.annotators[index] for index in np.flatnonzero(same)]
    side = "the same side" if data.first is None else "for the first shown, or always for the second"
    if not names:
        return []
    return [f"{len(names):,} annotator(s) always decide {side}, {_SAME_SIDE} times or more ({_some(names)})."]


def _dependence(data: Comparisons) -> list[Remark]:
    remarks = []
    if data.context is not None:
        sizes = np.bincount(data.context, data.count, len(data.contexts))
        sizes = sizes[sizes > 0]
        if sizes.max() > 1:
            said = (
                f"{data.n_judgements:,.0f} judgements come from {len(sizes):,} contexts, up to "
                f"{sizes.max():,.0f} from one: they are not independent, so compare models by context."
            )
            remarks.append(Remark(said))
    if data.annotator is not None:
        repeats = data.n_judgements - len(np.unique(data.questions()))
        if repeats >= _REPEATED * data.n_judgements:
            where = " in the same context" if data.context is not None else ""
            said = (
                f"{repeats:,.0f} judgements ({share(repeats / data.n_judgements)}) repeat a pair that the same "
                f"annotator judged before{where}: they carry less than fresh ones. If it was the same question, count "
                "them once: data.repeats_once() (--repeats once)."
            )
            remarks.append(Remark(said, tested_by="self-agreement"))
    return remarks


def _joined(group: Sequence[str]) -> str:
    return " + ".join(group[:3]) + (" + ..." if len(group) > 3 else "")


def _some(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _spread(sizes: pd.Series) -> str:
    return f"{sizes.min():,.0f} to {sizes.max():,.0f} (median {sizes.median():,.0f})"
