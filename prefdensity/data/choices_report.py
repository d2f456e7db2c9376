"""What to know about choices from sets before fitting: who was shown how often, and placed where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from prefdensity.data.choices import Choices
from prefdensity.data.declared import said, same_key
from prefdensity.data.remarks import Remark, TableReport, common, spread
from prefdensity.words import counted, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Share of repeated answers that is worth a remark; a random design has a few.
_REPEATED = 0.01
_SAYS = ("best", "worst", "answer")  # columns of what was answered; others say what was asked


@dataclass(frozen=True, eq=False, repr=False)
class ChoicesReport(TableReport):
    """Facts about rankings and other choices from sets; `print` it.

    Attributes
    ----------
    n_answers
        Rankings, or other answers; `n_judgements` are the choices that they are read as.
    n_pairs, n_components
        Of the preferences that the choices imply (`Choices.pairs`).
    sets
        Frame [answer]: answer, items (that it was given about), places (of these that it tells).
    items
        item, answers (whose set it was in: times it was shown), best (times it was placed first), worst (times it was
        placed last; empty where no answer tells who is last), mean_rank (1: the best of its set), win_rate (of the
        other items of its sets, the share that it was placed above), component, undefeated, winless. Items of an answer
        that nothing tells apart share the mean of their places.
    annotators
        annotator, answers, choices.

    Others are those of `remarks.TableReport`.
    """

    n_answers: int
    sets: pd.DataFrame
    JUDGED: ClassVar[str] = Choices.JUDGED

    def facts(self) -> list[tuple[str, str]]:
        """Return answers, sizes of their sets, and what they imply."""
        possible = self.n_items * (self.n_items - 1) // 2
        read = f"read as {counted(self.n_judgements, 'choice')}"
        return [
            ("", f"{counted(self.n_answers, 'answer')} about {counted(self.n_items, 'item')}, {read} ({self.source})"),
            ("sets", f"{spread(self.sets['items'])} items"),
            ("places told", f"{spread(self.sets['places'])} of a set"),
            ("pairs", f"{self.n_pairs:,} of {possible:,} implied, in {counted(self.n_components, 'component')}"),
        ]


def describe_choices(data: Choices) -> ChoicesReport:
    """Return what to know about choices from sets; see `describe`."""
    found = placed(data)
    return ChoicesReport(
        **common(data, data.pairs(), _item_frame(data, found), _annotator_frame(data), _repeats(data)),
        n_answers=len(found["first"]),
        sets=pd.DataFrame({"answer": _names(data), "items": found["size"], "places": found["told"]}),
    )


def placed(data: Choices) -> dict[str, NDArray[Any]]:
    """Return where answers place the members of their sets.

    Returns
    -------
    By name: first, size and told [answer], the row of its first choice, the members of its set and the places of these
    that it tells; answer, item and rank [member], 1 the best, members that nothing tells apart at the mean of their
    places.
    """
    unit, size = data.judgement_of(), np.array([len(members) for members in data.sets])
    order = np.lexsort((-size, unit))  # an answer goes on to choose from what is left
    first = order[np.r_[True, np.diff(unit[order]) > 0]]
    whole = size[first]
    answer, item = np.repeat(np.arange(len(first)), whole), np.concatenate(list(data.sets[first]))
    rank = np.full(len(item), np.nan)
    key, width = answer * len(data.items) + item, len(data.items)
    of = np.searchsorted(unit[first], unit)  # answers by their place among those that are there
    rank[np.searchsorted(key, of * width + data.best)] = whole[of] - size + 1
    if data.worst is not None:
        rank[np.searchsorted(key, of * width + data.worst)] = whole[of]
    told = np.bincount(answer, ~np.isnan(rank), len(first)).astype(np.int64)
    left = whole * (whole + 1) / 2 - np.bincount(answer, np.nan_to_num(rank), len(first))
    rank = np.where(np.isnan(rank), (left / np.maximum(whole - told, 1))[answer], rank)
    told = np.where(whole - told == 1, whole, told)  # of one that is left the place is told as well
    return {"first": first, "size": whole, "told": told, "answer": answer, "item": item, "rank": rank}


def _names(data: Choices) -> list[str]:
    """Return what the answers that are there are called, in the order of `placed`."""
    unit = np.unique(data.judgement_of())
    if data.answer is None:
        return [str(row + 1) for row in unit]
    return [data.answers[k] for k in (data.answer[unit] if data.worst is not None else unit)]


def _item_frame(data: Choices, found: dict[str, NDArray[Any]]) -> pd.DataFrame:
    item, rank, size, count = found["item"], found["rank"], found["size"][found["answer"]], len(data.items)
    answers = np.bincount(item, minlength=count).astype(np.float64)
    others = np.bincount(item, size - 1, count)
    last = np.bincount(item, rank == size, count).astype(np.float64)

    def each(total: NDArray[Any], of: NDArray[Any]) -> NDArray[np.float64]:
        return np.divide(total, of, out=np.full(count, np.nan), where=of > 0)

    return pd.DataFrame(
        {
            "item": data.items,
            "answers": answers,
            "best": np.bincount(item, rank == 1, count).astype(np.float64),
            "worst": last if last.any() else np.full(count, np.nan),
            "mean_rank": each(np.bincount(item, rank, count), answers),
            "win_rate": each(np.bincount(item, size - rank, count), others),
        }
    )


def _annotator_frame(data: Choices) -> pd.DataFrame:
    size = len(data.annotators)
    who = np.zeros(0, np.int64) if data.annotator is None else data.annotator
    answers = np.unique(np.stack([who, data.judgement_of()[: len(who)]]), axis=1)[0]
    columns = {"answers": np.bincount(answers, minlength=size), "choices": np.bincount(who, minlength=size)}
    return pd.DataFrame({"annotator": data.annotators} | {k: each.astype(np.float64) for k, each in columns.items()})


def _repeats(data: Choices) -> list[Remark]:
    """Return a remark on annotators who were asked about one set more than once."""
    if data.annotator is None:
        return []
    first = placed(data)["first"]
    asked = [each.at(first) for each in said(data) if each.column.name not in _SAYS and each.column.kind != "number"]
    repeats = len(first) - len(np.unique(same_key(asked)[0]))
    if repeats < _REPEATED * len(first):
        return []
    told = (
        f"{counted(repeats, 'answer')} ({share(repeats / len(first))}) about a set that the same annotator had answered"
    )
    return [Remark(f"{told} before: the same question asked again tells less than a fresh one.")]
