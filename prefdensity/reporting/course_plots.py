"""Utilities over time: a line with its band for each of the leading items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from prefdensity.reporting.canvas import COLOURS, FAINT, axis_words, clean, new_figure, placed, require_drawable
from prefdensity.reporting.labels import shorten

if TYPE_CHECKING:
    import pandas as pd


@placed
def course(found: pd.DataFrame, most: int = 7) -> Figure:
    """Draw utilities with their intervals over the number in the first column.

    Parameters
    ----------
    found
        As `post.over` returns them.
    most
        Number of items drawn: those that are best at some time for the surest, then those of the highest mean.
    """
    require_drawable(found, "found", ("item", "mean", "lower", "upper", "p_best"), "what post.over(...) returned")
    over = found.columns[0]
    leading = found.groupby("item", sort=False).agg(p_best=("p_best", "max"), mean=("mean", "mean"))
    items = list(leading.sort_values(["p_best", "mean"], ascending=False).index[:most])
    figure = new_figure(6.8, 4.2)
    ax = figure.subplots()
    clean(ax)
    for k, item in enumerate(items):
        own, colour = found[found["item"] == item], COLOURS[k % len(COLOURS)]
        ax.fill_between(own[over], own["lower"], own["upper"], color=colour, alpha=0.15, linewidth=0)
        ax.plot(own[over], own["mean"], color=colour, linewidth=1.6, label=shorten(item, 24))
    ax.axhline(0, color=FAINT, linewidth=0.8, zorder=1)
    legend = ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)
    axis_words(ax, str(over), "utility, 0 = average item" if len(items) else "utility")
    return figure
