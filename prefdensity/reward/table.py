"""Rewards of responses as a table: what a fitted program says of each, by itself and within its prompt."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import index_labels
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.report import tallies
from prefdensity.posterior.described import utilities_of
from prefdensity.posterior.draws import require_fit, require_level
from prefdensity.posterior.posterior import Posterior, require_same_table

Array = NDArray[Any]

_SAID = ["reward", "sd", "lower", "upper"]
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


def rewards(
    post: Posterior, data: Comparisons, features: pd.DataFrame, *, level: float = 0.9, progress: bool | None = None
) -> pd.DataFrame:
    """Return rewards of answers that nobody need have judged, from a fit whose utilities follow from features.

    Answers are read block by block, and no table of their draws is kept.

    Parameters
    ----------
    post, data
        A fit, such as one of `linear`, and the comparisons that it was fitted to, in whose units features are read.
    features
        Numbers of the answers, a row each, indexed by label: the columns of the fit.
    level
        Posterior mass of the intervals.
    progress
        A progress bar (None: where a person watches).

    Returns
    -------
    One row for each answer (and type of annotators), in the order given: item, type, reward, sd, lower, upper. 0 is the
    average item of `data` under every draw, so rewards of several tables compare. Of a point estimate (map) the reward
    alone.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, utilities do not follow from features alone, a column is missing or
        not finite, or `level` is no probability.
    """
    require_fit(post)
    require_level(level)
    zero = post.draws["utility"].mean(-1, keepdims=True) if "utility" in post.draws else np.zeros(1)
    tails = [(1 - level) / 2, (1 + level) / 2]
    parts = []
    for _, utilities in utilities_of(post, data, features, progress=progress):
        own = utilities - zero
        ends = np.quantile(own, tails, axis=0) if post.n_draws > 1 else np.full((2, *own.shape[1:]), np.nan)
        sd = own.std(0, ddof=1) if post.n_draws > 1 else ends[0]
        parts.append(np.stack([own.mean(0), sd, *ends], -1))
    found = np.concatenate(parts, -2)
    labels = index_labels(features.index, "the features of the answers")
    if found.ndim == 2:
        return _of_answers(found, labels)
    kinds = {k + 1: _of_answers(found[k], labels) for k in post.types_by_size()}
    return pd.concat([frame.assign(type=k) for k, frame in kinds.items()], ignore_index=True)[["item", "type", *_SAID]]


def _of_answers(found: Array, labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=_SAID).assign(item=labels)[["item", *_SAID]]


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
