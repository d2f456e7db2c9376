"""Tables of who judged and of what was judged: what they did, and what the fit says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr

from prefdensity.data.choices import Choices
from prefdensity.data.choices_report import placed
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import require_table
from prefdensity.data.report import describe, tallies
from prefdensity.errors import DataError
from prefdensity.posterior.posterior import Posterior, require_same_table

_FEW = 5  # judgements that say little of somebody
_RARE = 1e-3  # a chance at which somebody is flagged
_ANY = 0.01  # a chance that anybody is flagged for agreeing less, if all agree equally often


def judges_of(data: Comparisons | Choices) -> NDArray[np.int64]:
    """Return who judged [row].

    Raises
    ------
    DataError
        If nobody recorded who, or these pairs have not been judged.
    """
    require_table(data)
    if data.annotator is None or (not data.SETS and data.pairs().outcome is None):
        raise DataError("who judged is not known; name the annotator column with annotator=... when reading")
    return data.annotator


def annotator_table(post: Posterior, data: Comparisons | Choices) -> pd.DataFrame:
    """Return one row for each annotator: what they did, how far they agree with the ranking, what the fit says of them.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons, or choices from sets, that it was fitted to.

    Returns
    -------
    Frame with annotator, judgements, tie_share, first_share (of decided judgements, the one shown first), agreement (of
    decided judgements, those for the item of the higher mean utility), the posterior mean of every parameter that is
    one number for each annotator, p_type_1, p_type_2, ... where annotators have types, and flag: what a look is worth.
    With types, agreement is with the annotator's likeliest type.

    Of rankings and other choices from sets: annotator, answers, choices, agreement (of the preferences between two
    items that their answers tell, those for the item of the higher utility), hit_rate (of their answers, those whose
    best is the item of the highest utility in its set), and the rest as above. The preferences of one answer hang
    together, so it counts once for flags: whether most of them are for the ranking. Of somebody who answers at random
    that is as likely as the opposite.

    Raises
    ------
    DataError
        If nobody recorded who judged, or `data` is not the table that was fitted.
    """
    require_same_table(post, data)
    who = judges_of(data)
    frame = describe(data).annotators.copy()
    place = {name: k for k, name in enumerate(data.annotators)}
    code = np.array([place[name] for name in frame["annotator"]])
    told = _told(post, data, who)

    def total(name: str) -> NDArray[np.float64]:
        return np.bincount(told["who"], told["count"] * told[name], len(place))[code]

    with np.errstate(invalid="ignore"):
        frame["agreement"] = total("agreeing") / total("preferences")
        if data.SETS:
            frame["hit_rate"] = total("hit") / frame[data.JUDGED]
    for name, values in _of_annotators(post, data).items():
        frame[name] = values[code]
    frame["flag"] = _flags(frame, data.JUDGED, total("right"), total("decided"))
    return frame


def _told(post: Posterior, data: Comparisons | Choices, who: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return by judgement, or answer, who gave it, its count, and how the preferences that it tells lie to the ranking.

    These are how many agree, of how many between items of different utilities; whether most are on one side, and on
    that of the ranking; and whether its first place is the best of its set.
    """
    row, over, under = data.preferences()
    utility = _ranking_of(post, len(data.annotators))
    own = who if len(utility) > 1 else np.zeros_like(who)
    ahead = utility[own[row], over] - utility[own[row], under]
    _, first, judgement = np.unique(data.judgement_of(), return_index=True, return_inverse=True)
    agreeing, against = (np.bincount(judgement[row], sign * ahead > 0, len(first)) for sign in (1, -1))
    hit = np.zeros(len(first))
    if data.SETS:
        sets: Any = data
        first = placed(sets)["first"]
        best = over == sets.best[row]
        hit = np.bincount(row, best & (ahead < 0), len(data))[first] == 0
    return {
        "who": who[first], "count": data.count[first], "agreeing": agreeing, "preferences": agreeing + against,
        "decided": agreeing != against, "right": agreeing > against, "hit": hit,
    }  # fmt: skip


def _ranking_of(post: Posterior, size: int) -> NDArray[np.float64]:
    """Return mean utilities [annotator, item], those of their likeliest type; [1, item] where all have one ranking."""
    share = post.draws.get("type_probability")
    table = post.utilities().mean(0)
    if table.ndim == 2 and share is not None and share.shape[1] == size:
        return np.asarray(table[share.mean(0).argmax(1)])
    return np.atleast_2d(table if table.ndim == 1 else table.mean(0))


def _flags(frame: pd.DataFrame, judged: str, right: NDArray[Any], size: NDArray[Any]) -> list[str]:
    """Return what a look at each annotator is worth, by how many judgements are for the ranking, of how many."""
    whole = np.maximum(np.round(size), 1).astype(int)
    against = bdtr(np.minimum(right, whole), whole, 0.5) < _RARE
    first = frame["first_share"].to_numpy(float) if "first_share" in frame else np.full(len(frame), np.nan)
    less = bdtr(np.minimum(right, whole), whole, right.sum() / max(size.sum(), 1)) < _ANY / len(size)
    flags = {
        f"few {judged}": frame[judged].to_numpy() < _FEW,
        "always the same side": np.isin(first, (0, 1)) & (size >= 10),
        "against the ranking": against,
        "agrees less than others": less & ~against,
    }
    return [", ".join(words for words, rows in flags.items() if rows[k]) for k in range(len(frame))]


def _of_annotators(post: Posterior, data: Comparisons | Choices) -> dict[str, np.ndarray]:
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
