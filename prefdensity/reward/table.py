"""Rewards of responses as a table: what a fitted program says of each, by itself and within its prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.posterior.people import tallies
from prefdensity.posterior.posterior import Posterior, require_same_table

Array = NDArray[Any]

_COLUMNS = ("item", "prompt", "type", "reward", "sd", "lower", "upper", "advantage", "advantage_sd", "p_best")


def reward_table(post: Posterior, data: Comparisons, level: float = 0.9) -> pd.DataFrame:
    """Return the reward of every response: the utility that a fitted program gives it.

    Parameters
    ----------
    post
        A fit of a program with utilities.
    data
        The comparisons that it was fitted to; items are responses, contexts are prompts.
    level
        Posterior mass of the intervals.

    Returns
    -------
    One row for each item (and type of annotators), the greatest reward first: item; prompt, where each item belongs to
    one context; type; reward, sd, lower, upper (0 is the average item); advantage and advantage_sd (reward less the
    mean of the responses to the prompt) and p_best (the chance to be the best of them), where prompts are known;
    judgements, win_rate.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, or the program has no utilities.
    """
    require_same_table(post, data)
    summary = post.summary(level=level)
    found = summary.rename(columns={"mean": "reward"}).drop(columns="p_best")
    prompt = data.context_of_items()
    if prompt is not None:
        draws = post.utilities()
        draws = draws[:, None] if draws.ndim == 2 else draws
        within = draws - means_within(draws, prompt)
        found = found.merge(_against_prompt(within, draws, prompt, post, "type" in summary), how="left")
    return with_counts(found, data)


def _against_prompt(within: Array, draws: Array, prompt: Array, post: Posterior, typed: bool) -> pd.DataFrame:
    """Return advantage, its sd and the chance to be the best of the prompt, for each item and type."""
    best = np.full((*draws.shape[:2], prompt.max() + 1), -np.inf)
    for k in range(draws.shape[2]):
        best[..., prompt[k]] = np.maximum(best[..., prompt[k]], draws[..., k])
    leads = draws >= best[..., prompt]
    parts = []
    for kind in range(draws.shape[1]):
        own = within[:, kind]
        part = pd.DataFrame({"item": list(post.items), "advantage": own.mean(0)})
        part["advantage_sd"] = own.std(0, ddof=1) if len(own) > 1 else np.nan
        part["p_best"] = np.nan if post.is_point else leads[:, kind].mean(0)
        parts.append(part.assign(type=kind + 1) if typed else part)
    return pd.concat(parts, ignore_index=True)


def means_within(values: Array, group: Array) -> Array:
    """Return the mean [..., item] over the items of each item's group."""
    order = np.argsort(group, kind="stable")
    _, starts, place, size = np.unique(group[order], return_index=True, return_inverse=True, return_counts=True)
    means = np.add.reduceat(values[..., order], starts, axis=-1) / size
    found = np.empty_like(values)
    found[..., order] = means[..., place]
    return found


def with_counts(found: pd.DataFrame, data: Comparisons) -> pd.DataFrame:
    """Return the table with prompts and what was counted, its columns in order."""
    prompt = data.context_of_items()
    if prompt is not None:
        of = {item: data.contexts[k] for item, k in zip(data.items, prompt, strict=True)}
        found = found.assign(prompt=found["item"].map(of))
    counted = tallies(data).set_index("item").loc[found["item"], ["judgements", "win_rate"]].reset_index(drop=True)
    return pd.concat([found[[name for name in _COLUMNS if name in found]].reset_index(drop=True), counted], axis=1)
