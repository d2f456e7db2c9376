"""Tables of who judged and of what was judged: what they did, and what the fit says of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import TIE, A, Comparisons, of_two
from prefdensity.data.report import describe
from prefdensity.errors import DataError
from prefdensity.posterior.posterior import Posterior, require_same_table

_FEW = 5  # judgements that say little of somebody
_RARE = 1e-3  # a chance at which somebody is flagged
_ANY = 0.01  # a chance that anybody is flagged for agreeing less, if all agree equally often


def judges_of(data: Comparisons) -> NDArray[np.int64]:
    """Return who judged [row].

    Raises
    ------
    DataError
        If nobody recorded who, or these pairs have not been judged.
    """
    data = of_two(data, "what annotators did")
    if data.annotator is None or data.outcome is None:
        raise DataError("who judged is not known; name the annotator column with annotator=... when reading")
    return data.annotator


def annotator_table(post: Posterior, data: Comparisons) -> pd.DataFrame:
    """Return one row for each annotator: what they did, how far they agree with the ranking, what the fit says of them.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons that it was fitted to.

    Returns
    -------
    Frame with annotator, judgements, tie_share, first_share (of decided judgements, the one shown first), agreement (of
    decided judgements, those for the item of the higher mean utility), the posterior mean of every parameter that is
    one number for each annotator, p_type_1, p_type_2, ... where annotators have types, and flag: what a look is worth.
    With types, agreement is with the annotator's likeliest type.

    Raises
    ------
    DataError
        If nobody recorded who judged, or `data` is not the table that was fitted.
    """
    require_same_table(post, data)
    who = judges_of(data)
    frame = describe(data).annotators.copy()
    share = post.draws.get("type_probability")
    table = post.utilities().mean(0)
    if table.ndim == 2 and share is not None and share.shape[1] == len(data.annotators):
        utility = table[share.mean(0).argmax(1)][who]
    else:
        utility = np.broadcast_to(table if table.ndim == 1 else table.mean(0), (len(data), len(data.items)))
    rows = np.arange(len(data))
    ahead = utility[rows, data.item_a] - utility[rows, data.item_b]
    decided = (data.outcome != TIE) & (ahead != 0)
    agrees = decided & ((ahead > 0) == (data.outcome == A))
    size = np.bincount(who, data.count * decided, len(data.annotators))
    right = np.bincount(who, data.count * agrees, len(data.annotators))
    place = {name: k for k, name in enumerate(data.annotators)}
    code = np.array([place[name] for name in frame["annotator"]])
    with np.errstate(invalid="ignore"):
        frame["agreement"] = (right / size)[code]
    for name, values in _of_annotators(post, data).items():
        frame[name] = values[code]
    whole = np.maximum(np.round(size), 1).astype(int)
    against = bdtr(np.minimum(right, whole), whole, 0.5) < _RARE
    few = frame["judgements"].to_numpy() < _FEW
    first = frame["first_share"].to_numpy(float) if "first_share" in frame else np.full(len(frame), np.nan)
    one_side = np.isin(first, (0, 1)) & (size[code] >= 10)
    pooled = right.sum() / max(size.sum(), 1)
    less = bdtr(np.minimum(right, whole), whole, pooled) < _ANY / len(size)
    flags = {
        "few judgements": few,
        "always the same side": one_side,
        "against the ranking": against[code],
        "agrees less than others": (less & ~against)[code],
    }
    frame["flag"] = [", ".join(words for words, rows in flags.items() if rows[k]) for k in range(len(frame))]
    return frame


def _of_annotators(post: Posterior, data: Comparisons) -> dict[str, np.ndarray]:
    """Return the posterior means [annotator] of what is one number for each of them, and P(type)."""
    found = {}
    for name, axes in post.dims.items():
        if name.endswith("_offset") or name not in post.draws:
            continue
        values = post.draws[name]
        if axes == ("annotator",) and values.shape[1] == len(data.annotators):
            found[name] = values.mean(0)
        elif name == "type_probability" and axes == ("annotator", "type"):
            for k, column in enumerate(values.mean(0).T, 1):
                found[f"p_type_{k}"] = column
    return found


def tallies(data: Comparisons | Choices) -> pd.DataFrame:
    """Return one row for each item: what `describe` counts of it."""
    return describe(data).items.drop(columns=["component", "undefeated", "winless"])


def item_table(post: Posterior, data: Comparisons | Choices) -> pd.DataFrame:
    """Return one row for each item: what was counted of it, and the mean utility; the best first.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons, or choices from sets, that it was fitted to.

    Returns
    -------
    Frame with item, judgements, wins, losses, ties, win_rate (ties half) and utility; of choices from sets item,
    answers (times shown), best, worst (times placed first and last), mean_rank, win_rate (share of the others in its
    sets that it was placed above) and utility. Of types of annotators the utility is the mean over types.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted.

    Examples
    --------
    >>> import prefdensity
    >>> data = prefdensity.read("example:puddings")
    >>> item_table(prefdensity.fit("davidson", data, method="mle"), data).round(3).head(2)
      item  judgements   wins  losses  ties  win_rate  utility
    0    6       241.0   99.0    78.0  64.0     0.544    0.201
    1    2       258.0  102.0    97.0  59.0     0.510    0.044
    """
    require_same_table(post, data)
    counted = tallies(data)
    utility = post.utilities().mean(0)
    utility = utility if utility.ndim == 1 else utility.mean(0)
    counted["utility"] = counted["item"].map(dict(zip(post.items, utility, strict=True)))
    return counted.sort_values("utility", ascending=False, ignore_index=True)
