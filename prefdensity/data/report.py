"""What to know about a table before fitting: sizes, ties, order, components, separation, odd data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.choices import Choices
from prefdensity.data.choices_report import describe_choices
from prefdensity.data.comparisons import TIE, A, B, Comparisons
from prefdensity.data.declared import require_table
from prefdensity.data.existence import pair_numbers
from prefdensity.data.remarks import Remark, TableReport, common
from prefdensity.errors import DataError
from prefdensity.words import counted, share, some

# With so many decided answers, one that takes either side at random is all on one side once in 500 times.
_SAME_SIDE = 10
# Standard deviations from a half at which the share won by the first shown is remarked on.
_FAR = 4.0
# Share of repeated judgements that is worth a remark; a random design has a few.
_REPEATED = 0.01


@dataclass(frozen=True, eq=False, repr=False)
class DataReport(TableReport):
    """Facts about a table of comparisons; `print` it.

    Attributes
    ----------
    n_contexts
        How many contexts there are.
    tie_share
        Share of ties among the judgements.
    both_orders, first_share
        Share of the pairs seen in both orders, and share of decided judgements that the first shown won;
        None where the order is unknown, or nothing was decided.
    items
        item, judgements, wins, losses, ties, win_rate (ties half, empty where nobody judged), component, undefeated,
        winless.
    annotators
        annotator, judgements, tie_share, first_share (of the decided judgements; NaN where there are none).

    Others are those of `remarks.TableReport`.
    """

    n_contexts: int
    tie_share: float
    both_orders: float | None
    first_share: float | None
    JUDGED: ClassVar[str] = Comparisons.JUDGED

    @property
    def said_of_first(self) -> str:
        """What being shown first went with, where the order is known."""
        if self.first_share is None:
            return "known, but no judgement was decided"
        return f"the first won {share(self.first_share)} of the decided judgements"

    def facts(self) -> list[tuple[str, str]]:
        """Return ties, pairs and the order shown."""
        possible = self.n_items * (self.n_items - 1) // 2
        rows = [
            ("", f"{counted(self.n_judgements, 'judgement')} of {counted(self.n_items, 'item')} ({self.source})"),
            ("ties", share(self.tie_share)),
            ("pairs", f"{self.n_pairs:,} of {possible:,}, in {counted(self.n_components, 'component')}"),
        ]
        if self.both_orders is None:
            return [*rows, ("order shown", "unknown")]
        return [
            *rows,
            ("order shown", self.said_of_first),
            ("", f"{share(self.both_orders)} of the pairs were seen in both orders"),
        ]


def describe(data: Comparisons | Choices) -> TableReport:
    """Return what to know about `data` before fitting: a `DataReport`, or of choices from sets a `ChoicesReport`.

    Raises
    ------
    DataError
        If the pairs have no outcomes yet, or this is no table.

    Examples
    --------
    >>> import prefdensity
    >>> describe(prefdensity.read("example:citations")).n_judgements
    3727.0
    """
    require_table(data)
    sets: Any = data
    return describe_choices(sets) if data.SETS else describe_pairs(data.pairs())


def tallies(data: Comparisons | Choices) -> pd.DataFrame:
    """Return one row for each item: what `describe` counts of it."""
    return describe(data).items.drop(columns=["component", "undefeated", "winless"])


def describe_pairs(data: Comparisons) -> DataReport:
    """Return what to know about comparisons; see `describe`."""
    if data.outcome is None:
        raise DataError("these pairs have no outcomes yet; a report needs judgements")
    data = data.take(data.count > 0)
    both_orders, first_share, order_remarks = _order(data, pair_numbers(data))
    own = [*map(Remark, _one_sided(data)), *order_remarks, *_dependence(data)]
    return DataReport(
        **common(data, data, _item_frame(data), _annotator_frame(data), own),
        n_contexts=len(data.contexts),
        tie_share=data.n_ties / data.n_judgements,
        both_orders=both_orders,
        first_share=first_share,
    )


def _item_frame(data: Comparisons) -> pd.DataFrame:
    def total(code: int, side: NDArray[np.int64]) -> NDArray[np.float64]:
        return _sums(side, data.count * (data.outcome == code), len(data.items))

    wins = total(A, data.item_a) + total(B, data.item_b)
    losses = total(B, data.item_a) + total(A, data.item_b)
    ties = total(TIE, data.item_a) + total(TIE, data.item_b)
    judgements = wins + losses + ties
    columns = {"item": data.items, "judgements": judgements, "wins": wins, "losses": losses, "ties": ties}
    won = np.divide(wins + ties / 2, judgements, out=np.full(len(wins), np.nan), where=judgements > 0)
    return pd.DataFrame(columns | {"win_rate": won})


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
    return [f"{len(names):,} annotator(s) always decide {side}, {_SAME_SIDE} times or more ({some(names)})."]


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
