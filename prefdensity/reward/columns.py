"""The table that variance-reduced preference training reads: chosen, rejected, a fresh pair, and probabilities.

Columns `prompt`, `chosen`, `rejected` are those of preference data sets everywhere. The fresh pair `a_1`, `a_2` are two
more responses to the same prompt, without label. `chosen_preference` is the auxiliary probability that chosen is
preferred to rejected, and `a_1_preference` that a_1 is to a_2; `rejected_preference` and `a_2_preference` are those of
the other order. `weight`, where labelled pairs were not drawn evenly, is how much the row counts: label, expectation
and fresh pair.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdensity.data.comparisons import TIE, B, Comparisons
from prefdensity.errors import DataError
from prefdensity.inference.fitting import fits_without
from prefdensity.posterior.psis import USABLE
from prefdensity.reward.auxiliary import of_rows, rows_in

if TYPE_CHECKING:
    from prefdensity.posterior.posterior import Posterior

Array = NDArray[Any]

SIDES = (("chosen_preference", "rejected_preference"), ("a_1_preference", "a_2_preference"))
_SUM = 1e-4  # how far the two orders may be from adding up to 1


def auxiliary_columns(
    data: Comparisons, post: Posterior, *, texts: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None, rows: Any = None, weights: ArrayLike | None = None,
    refits: int | None = None, seed: int = 0, progress: bool | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return judgements as a preference table with the probabilities of a fitted program.

    Each row gets one fresh pair of responses to its prompt, drawn evenly from the pairs of those judged for it, but
    never the row's own pair: an expectation of the pair that carries the label would only undo it, and without a
    bound. Without contexts all items answer one prompt. All probabilities of a row come from the program as if it had
    not seen the row's label: `chosen_preference` for who judged, `a_1_preference` averaged over the annotators.

    Training aims at the preference over pairs of responses drawn evenly for the prompts of `data`. Where labelled pairs
    were drawn otherwise, `weights` say so; without them it aims somewhere else, whatever the number of rows.

    Parameters
    ----------
    data
        Judgements without ties; items are responses, contexts are prompts.
    post
        A program of outcomes a and b fitted to `data`.
    texts, prompts
        Item -> text of the response, context -> text of the prompt; None: their labels.
    rows
        The rows that `data` were read from, with `chosen` and `rejected` as texts or messages: all their columns are
        kept, and `a_1` and `a_2` written as these are.
    weights
        [row], proportional to 1 / (probability with which the row's pair was drawn for its prompt); written as a column
        `weight` with mean 1. None: the pairs of a prompt were equally likely.
    refits
        None: leave-one-out by importance weights, from the one fit. A number: each row is predicted by that of as
        many refits that left it out; the way out where weights are unreliable.
    seed, progress
        Of the fresh pairs and the refits; whether to show a progress bar (None: where a person watches).

    Raises
    ------
    DataError
        For ties, weights that are not positive, or a prompt for which fewer than three responses were judged: two make
        one pair, the labelled one.

    Warns
    -----
    UserWarning
        If leave-one-out by importance weights is unreliable for some rows.
    """
    if data.outcome is None or (data.outcome == TIE).any() or (data.count != 1).any():
        raise DataError("a preference table has one judgement in a row and no ties; use without_ties() and no counts")
    weight = None if weights is None else _weights(weights, len(data))
    fresh = _fresh_pairs(data, np.random.default_rng(seed))
    parts = None if refits is None else fits_without(post, data, rows_in(data, refits, seed), seed, progress)
    found = of_rows(post, data, fresh, parts=parts, progress=progress)
    _warn_of_rough(found.k_hat)
    table = _as_preferences(data, found.labelled, fresh, found.fresh @ found.share, texts, prompts)
    table = table if rows is None else _beside(rows, data, table, fresh)
    return table if weight is None else table.assign(weight=weight)


def _warn_of_rough(k_hat: Array | None) -> None:
    bad = 0 if k_hat is None else int((k_hat > USABLE).sum())
    if k_hat is not None and bad:
        warnings.warn(
            f"{bad} of {len(k_hat)} rows have a k-hat above {USABLE}, so their leave-one-out probabilities are rough; "
            "set refits=5",
            stacklevel=3,
        )


def _as_preferences(
    data: Comparisons, labelled: Array, fresh: list[tuple[str, str]], aside: Array, texts: Mapping[str, str] | None,
    prompts: Mapping[str, str] | None,
) -> pd.DataFrame:  # fmt: skip
    """Return the table from probabilities that a is preferred [row], fresh pairs and theirs [row]."""
    won, lost = np.where(data.outcome == B, (data.item_b, data.item_a), (data.item_a, data.item_b))
    chosen = np.where(data.outcome == B, 1 - labelled, labelled)

    def text(labels: Any) -> list[str]:
        return [label if texts is None else texts[label] for label in labels]

    context = [""] * len(data) if data.context is None else [data.contexts[k] for k in data.context]
    return pd.DataFrame({
        "prompt": [label if prompts is None else prompts[label] for label in context],
        "chosen": text(data.items[k] for k in won),
        "rejected": text(data.items[k] for k in lost),
        "a_1": text(a for a, _ in fresh),
        "a_2": text(b for _, b in fresh),
        "chosen_preference": chosen,
        "rejected_preference": 1 - chosen,
        "a_1_preference": aside,
        "a_2_preference": 1 - aside,
    })  # fmt: skip


def _beside(rows: Any, data: Comparisons, table: pd.DataFrame, fresh: list[tuple[str, str]]) -> pd.DataFrame:
    """Return the user's rows with the columns of the fresh pairs and of probabilities beside them."""
    frame = rows.reset_index(drop=True) if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    added = table.columns[3:]
    absent = [name for name in ("chosen", "rejected") if name not in frame]
    double = [name for name in added if name in frame]
    if len(frame) != len(data) or absent or double:
        why = f"have no column {absent[0]!r}" if absent else f"have a column {double[0]!r}" if double else "are others"
        raise DataError(f"rows {why}: they must be the {len(data)} rows that were read, with chosen and rejected")
    won, lost = np.where(data.outcome == B, (data.item_b, data.item_a), (data.item_a, data.item_b))
    cells: dict[int, tuple[str, Any]] = {}
    for name, items in (("chosen", won), ("rejected", lost)):
        for row, (item, cell) in enumerate(zip(items, frame[name], strict=True)):
            if cells.setdefault(item, (str(cell), cell))[0] != str(cell):
                raise DataError(
                    f"{name} of row {row + 1} is another text than that of {data.items[item]!r} before: rows must be "
                    "those that were read, in their order"
                )
    place = {label: k for k, label in enumerate(data.items)}
    for k, name in enumerate(("a_1", "a_2")):
        frame[name] = [cells[place[pair[k]]][1] for pair in fresh]
    return frame.assign(**{name: table[name] for name in added[2:]})


def symmetrised(first: Any, second: Any) -> Array:
    """Return (P(x over y) + 1 - P(y over x)) / 2 of a judge asked in both orders: free of its bias to a position.

    A judge that leans to the side shown first and is asked chosen-first only tells the label, and biases the reward.
    """
    return (np.asarray(first, float) + 1 - np.asarray(second, float)) / 2


def require_columns(row: Mapping[str, Any], where: str) -> None:
    """Raise `DataError` unless a row of a preference table has a fresh pair and probabilities that add up.

    The probabilities of the other order and the weight may be left out.
    """
    for name in ("a_1", "a_2", "a_1_preference", "chosen_preference"):
        if row.get(name) is None:
            raise DataError(
                f"{where} has no {name!r}; variance-reduced training needs a_1, a_2, a_1_preference and "
                "chosen_preference (lambda_=0 trains without)"
            )
    for name in ("a_1", "a_2"):
        if not isinstance(row[name], str) and not (isinstance(row[name], list) and row[name]):
            raise DataError(f"{where}: {name} is {row[name]!r}; it must be a text or a list of messages")
        if isinstance(row.get("chosen", row[name]), str) != isinstance(row[name], str):
            raise DataError(f"{where}: of {name} and chosen one is a text and one a list of messages; use one kind")
    if row["a_1"] == row["a_2"]:
        raise DataError(f"{where}: a_1 and a_2 are the same response; a fresh pair needs two")
    for name, other in SIDES:
        p = _number(row, name, where)
        if not 0 < p < 1:
            raise DataError(f"{where}: {name} is {p:g}; it must lie strictly between 0 and 1")
        if row.get(other) is None:
            continue
        total = p + _number(row, other, where)
        if not abs(total - 1) <= _SUM:
            raise DataError(
                f"{where}: {name} and {other} add up to {total:.4g}, not 1; average the two orders "
                "(prefdensity.preference_columns.symmetrised)"
            )
    if "weight" in row and not 0 < _number(row, "weight", where) < math.inf:
        raise DataError(f"{where}: weight is {row['weight']}; it must be positive and finite")


def _number(row: Mapping[str, Any], name: str, where: str) -> float:
    try:
        return float(row[name])
    except (TypeError, ValueError):
        raise DataError(f"{where}: {name} is {row[name]!r}; it must be a number") from None


def _weights(weights: ArrayLike, size: int) -> Array:
    """Return weights [row] with mean 1."""
    try:
        found = np.asarray(weights, float)
    except (TypeError, ValueError):
        raise DataError("weights must hold numbers, one for each row") from None
    if found.shape != (size,):
        raise DataError(f"weights have shape {found.shape}; one for each of the {size} rows is needed")
    bad = np.flatnonzero(~((found > 0) & np.isfinite(found)))
    if len(bad):
        raise DataError(f"the weight of row {bad[0] + 1} is {found[bad[0]]:g}; it must be positive and finite")
    return found / found.mean()


def _fresh_pairs(data: Comparisons, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return for every row a pair of distinct responses to its prompt, in either order, other than its own pair."""
    context = np.zeros(len(data), int) if data.context is None else data.context
    both = np.unique(np.stack([np.repeat(context, 2), np.stack([data.item_a, data.item_b], 1).ravel()]), axis=1)
    prompts, start, size = np.unique(both[0], return_index=True, return_counts=True)
    few = np.flatnonzero(size < 3)
    if len(few):
        where = "these judgements have" if data.context is None else f"prompt {data.contexts[prompts[few[0]]]!r} has"
        raise DataError(
            f"{where} {size[few[0]]} responses ({len(few)} of {len(prompts)} prompts have fewer than 3): the only pair "
            "is the labelled one, and a fresh pair must be another; leave such prompts out, judge a third response, or "
            "train with lambda_=0, which needs no fresh pairs"
        )
    responses = {prompt: both[1, s : s + n] for prompt, s, n in zip(prompts, start, size, strict=True)}
    found = []
    for k, own in zip(context, np.stack([data.item_a, data.item_b], 1), strict=True):
        pair = rng.choice(responses[k], 2, replace=False)
        while set(pair) == set(own):  # one pair of three or more: even over the others once it is drawn again
            pair = rng.choice(responses[k], 2, replace=False)
        found.append((data.items[pair[0]], data.items[pair[1]]))
    return found
