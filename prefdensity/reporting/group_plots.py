"""Rankings of groups side by side: a panel for each, with the same items in the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from prefdensity.reporting.canvas import COLOURS, FAINT, RULE, clean, intervals, item_labels, new_figure, placed
from prefdensity.reporting.labels import shorten

if TYPE_CHECKING:
    from prefdensity.posterior.by_group import Groups

_ROW, _MARGINS = 0.2, 0.9  # inches


@placed
def groups(found: Groups, most: int = 25, columns: int = 5) -> Figure:
    """Draw the utilities of the items in every group, with their intervals, against their mean over groups.

    Parameters
    ----------
    found
        Rankings by group, as `post.by` returns them.
    most
        Number of items drawn, those of the highest mean over groups.
    columns
        Panels in a row.
    """
    table = found.table
    common = table.groupby("item")["mean"].mean().sort_values(ascending=False)
    items = list(common.index[:most])
    across = min(columns, len(found.names))
    down = -(-len(found.names) // across)
    height = down * (_MARGINS + _ROW * max(len(items), 4))
    figure = new_figure(2.4 + 1.7 * across, height)
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(found.names) :]:
        ax.set_visible(False)
    for k, (name, ax) in enumerate(zip(found.names, axes.flat, strict=False)):
        own = table[table["group"] == name].set_index("item").loc[items]
        clean(ax)
        ax.grid(axis="y", color=RULE, linewidth=0.7)
        intervals(ax, own["mean"], own["lower"], own["upper"], COLOURS[k % len(COLOURS)])
        ax.plot(common[items], np.arange(len(items)), "|", color=FAINT, markersize=7, zorder=1)
        ax.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
        ax.set_title(shorten(name, 24), fontsize=9, loc="left", parse_math=False)
    axes[0, 0].set_ylim(len(items) - 0.4, -0.6)
    for row in axes:
        item_labels(row[0], items)
    whole = f"; {len(items)} of {len(common)} items" if len(items) < len(common) else ""
    words = f"utility by {found.label}, 0 = average item, with {found.level:.0%} intervals; bars: mean of groups{whole}"
    figure.supxlabel(words, fontsize=9, color=FAINT)
    return figure
