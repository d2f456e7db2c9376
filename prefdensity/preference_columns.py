"""The table that variance-reduced preference training reads: chosen, rejected, a fresh pair, and probabilities.

Columns `prompt`, `chosen`, `rejected` are those of preference data sets everywhere. The fresh pair `a_1`, `a_2` are two
more responses to the same prompt, without label. `chosen_preference` is the auxiliary probability that chosen is
preferred to rejected, and `a_1_preference` that a_1 is to a_2; `rejected_preference` and `a_2_preference` are those of
the other order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.comparisons import TIE, B, Comparisons
from prefdensity.errors import DataError
from prefdensity.estimators.auxiliary import of_posterior

if TYPE_CHECKING:
    from prefdensity.posterior import Posterior
    from prefdensity.programs import Program

Array = NDArray[Any]

SIDES = (("chosen_preference", "rejected_preference"), ("a_1_preference", "a_2_preference"))
_SUM = 1e-4  # how far the two orders may be from adding up to 1


def auxiliary_columns(
    data: Comparisons,
    post: Posterior,
    *,
    texts: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None,
    program: Program | None = None,
    refits: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return judgements as a preference table with the probabilities of a fitted program.

    `chosen_preference` comes from the program as if it had not seen the row's own label, for the annotator who
    judged; `a_1_preference` is averaged over the annotators. Each row gets one fresh pair of responses to its
    prompt, drawn evenly from those judged for it; without contexts all items answer one prompt.

    Parameters
    ----------
    data
        Judgements without ties; items are responses, contexts are prompts.
    post
        A program of outcomes a and b fitted to `data`.
    texts, prompts
        Item -> text of the response, context -> text of the prompt; None: their labels.
    program
        Needed for posteriors of a user's file.
    refits
        As in `prefdensity.estimators.reward`.
    seed
        Of the fresh pairs and the refits.
    progress
        Show a progress bar; None: where a person watches.

    Raises
    ------
    DataError
        For ties, or a prompt for which fewer than two responses were judged.
    """
    if data.outcome is None or (data.outcome == TIE).any() or (data.count != 1).any():
        raise DataError("a preference table has one judgement in a row and no ties; use without_ties() and no counts")
    fresh = _fresh_pairs(data, np.random.default_rng(seed))
    found = of_posterior(post, data, fresh, program, folds=refits, seed=seed, progress=progress)
    won, lost = np.where(data.outcome == B, (data.item_b, data.item_a), (data.item_a, data.item_b))
    chosen = np.where(data.outcome == B, 1 - found.labelled, found.labelled)
    aside = found.fresh @ found.share

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


def symmetrised(first: Any, second: Any) -> Array:
    """Return (P(x over y) + 1 - P(y over x)) / 2 of a judge asked in both orders: free of its bias to a position.

    A judge that leans to the side shown first and is asked chosen-first only tells the label, and biases the reward.
    """
    return (np.asarray(first, float) + 1 - np.asarray(second, float)) / 2


def require_columns(row: Mapping[str, Any], where: str) -> None:
    """Raise `DataError` unless a row of a preference table has a fresh pair and probabilities that add up.

    The probabilities of the other order may be left out.
    """
    for name in ("a_1", "a_2", "a_1_preference", "chosen_preference"):
        if row.get(name) is None:
            raise DataError(
                f"{where} has no {name!r}; variance-reduced training needs a_1, a_2, a_1_preference and "
                "chosen_preference (lambda_=0 trains without)"
            )
    if row["a_1"] == row["a_2"]:
        raise DataError(f"{where}: a_1 and a_2 are the same response; a fresh pair needs two")
    for name, other in SIDES:
        p = float(row[name])
        if not 0 < p < 1:
            raise DataError(f"{where}: {name} is {p:g}; it must lie strictly between 0 and 1")
        if row.get(other) is not None and abs(p + float(row[other]) - 1) > _SUM:
            raise DataError(
                f"{where}: {name} and {other} add up to {p + float(row[other]):.4g}, not 1; average the two orders "
                "(prefdensity.preference_columns.symmetrised)"
            )


def _fresh_pairs(data: Comparisons, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Return a pair of distinct responses to the prompt of every row."""
    context = np.zeros(len(data), int) if data.context is None else data.context
    both = np.unique(np.stack([np.repeat(context, 2), np.stack([data.item_a, data.item_b], 1).ravel()]), axis=1)
    responses = {k: both[1, both[0] == k] for k in np.unique(context)}
    return [(data.items[a], data.items[b]) for a, b in (rng.choice(responses[k], 2, replace=False) for k in context)]
