"""Pictures of annotators: their numbers, their types, their habits, with the names of those who stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from prefdensity.reporting.canvas import (
    COLOURS,
    FAINT,
    INK,
    RULE,
    axis_words,
    clean,
    intervals,
    item_labels,
    new_figure,
    row_figure,
)
from prefdensity.reporting.labels import distinct, shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from prefdensity.posterior.posterior import Posterior

_NAMED = 6  # of those outside, written beside their dots
_RARE = 0.01  # share of pictures in which chance alone puts somebody outside


def numbers(post: Posterior, sites: dict[str, str], most: int) -> Figure:
    """Draw the numbers of each annotator with their intervals, a panel for each site, the highest first."""
    order = post.draws[next(iter(sites))].mean(axis=0).argsort(kind="stable")[::-1]
    size = len(order)
    if size > most:
        order = np.concatenate([order[: most // 2], order[size - most // 2 :]])
    cut = "" if len(order) == size else f"; {len(order) // 2} highest and lowest of {size}"
    figure, axes = row_figure(len(order), len(sites), share_x=False)
    for ax, name in zip(axes, sites, strict=True):
        draws = post.draws[name]
        mean, (lower, upper) = draws.mean(axis=0), np.quantile(draws[:, order], [0.05, 0.95], axis=0)
        intervals(ax, mean[order], lower, upper, COLOURS[0])
        if len(draws) == 1:  # a point fit has no intervals
            ax.collections[0].remove()
        ax.axvline(mean.mean(), color=FAINT, linewidth=0.8, zorder=1)
        if len(order) < size:
            ax.axhline(len(order) // 2 - 0.5, color=INK, linewidth=0.8)
        ax.set_xlabel(f"{name.replace('_', ' ')}, 90% intervals{cut}", fontsize=9, color=FAINT)
    item_labels(axes[0], [post.annotators[i] for i in order])
    return figure


def type_shares(share: NDArray[np.float64], names: tuple[str, ...], most: int) -> Figure:
    """Draw one column for each annotator, split by type, grouped by the leading type."""
    leading = share.argmax(axis=1)
    order = np.lexsort((-share.max(axis=1), leading))
    figure = new_figure(7.5, 3.0)
    ax = figure.subplots()
    edges = np.arange(len(order) + 1) - 0.5
    floor = np.zeros(len(order))
    for kind in range(share.shape[1]):
        top = floor + share[order, kind]
        colour = COLOURS[kind % len(COLOURS)]
        ax.stairs(top, edges, baseline=floor, fill=True, color=colour, label=f"type {kind + 1}")
        floor = top
    clean(ax)
    axis_words(ax, f"{len(order)} annotators", "probability of type")
    if len(order) <= most:
        labels = distinct([names[i] for i in order], 20)
        ax.set_xticks(range(len(order)), labels=labels, rotation=90, fontsize=7, parse_math=False)
    else:
        ax.set_xticks([])
    ax.margins(0)
    ax.legend(frameon=False, fontsize=9, ncols=share.shape[1], loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def activity(table: pd.DataFrame, judged: str) -> Figure:
    """Draw how many judgements, or answers, annotators gave."""
    figure = new_figure(4.6, 2.9)
    ax = figure.subplots()
    ax.hist(table[judged], bins="auto", color=COLOURS[0])
    axis_words(ax, judged, "annotators")
    clean(ax)
    return figure


def habits(table: pd.DataFrame) -> Figure:
    """Draw each annotator's shares against the number of judgements, with the range that chance explains."""
    decided = table["judgements"] * (1 - table["tie_share"])
    panels = [
        ("share of ties", table["tie_share"], table["judgements"]),
        ("share for the side shown first", table["first_share"], decided),
    ]
    drawn = [panel for panel in panels if panel[1].fillna(0).any()]
    if not drawn:  # no ties, order unknown: how much each one judged is all there is
        return activity(table, "judgements")
    figure = new_figure(4.6, 2.9 * len(drawn))  # narrow: phones show it whole
    for ax, (name, share, trials) in zip(figure.subplots(len(drawn), squeeze=False)[:, 0], drawn, strict=True):
        _funnel(ax, share.to_numpy(), trials.to_numpy(), table["annotator"].to_numpy())
        axis_words(ax, "judgements" if name == "share of ties" else "decided judgements", name)
    return figure


def _funnel(ax: Axes, share: NDArray[np.float64], trials: NDArray[np.float64], names: NDArray[np.object_]) -> None:
    known = trials > 0
    share, trials, names = share[known], trials[known], names[known]
    pooled = float(np.average(share, weights=trials))
    sizes = np.geomspace(trials.min(), max(trials.max(), trials.min() + 1), 100)
    far = -ndtri(_RARE / 2 / len(share))  # of all of them, not of one
    reach = far * np.sqrt(pooled * (1 - pooled) / sizes)
    ax.fill_between(sizes, pooled - reach, pooled + reach, color=RULE, linewidth=0, label="by chance")
    ax.axhline(pooled, color=FAINT, linewidth=0.8)
    many = len(share) > 1000  # as pixels: a vector file of so many dots is large and slow
    away = (share - pooled) / np.sqrt(max(pooled * (1 - pooled), 1e-12) / trials)
    out = np.abs(away) > far
    for rows, colour in ((~out, COLOURS[0]), (out, COLOURS[1])):
        ax.plot(
            trials[rows], share[rows], "o", color=colour, markersize=4.5, alpha=0.7, markeredgewidth=0, rasterized=many
        )
    for k in [k for k in np.abs(away).argsort()[::-1] if out[k]][:_NAMED]:
        right = trials[k] > (trials.min() + trials.max()) / 2
        ax.annotate(
            shorten(names[k], 20), (trials[k], share[k]), (-5 if right else 5, 0), textcoords="offset points",
            ha="right" if right else "left", va="center", fontsize=8, color=INK, parse_math=False,
        )  # fmt: skip
    ax.set_ylim(-0.03, 1.03)
    clean(ax)
    ax.legend(frameon=False, fontsize=8, loc="best")
