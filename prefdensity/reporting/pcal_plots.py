"""Pictures of designs and preference-calibrated estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from prefdensity import words
from prefdensity.reporting.canvas import COLOURS, FAINT, INK, RULE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from prefdensity.pcal.plan import PcalDesign

_METHODS = {"labels only": COLOURS[6], "labels and unlabelled": COLOURS[4], "PCAL": COLOURS[0]}
_BINS = 10


def allocation(planned: pd.DataFrame, outputs: tuple[str, str]) -> Figure:
    """Draw who is bought: units by their probability of a label, and by how far apart their outputs are.

    Parameters
    ----------
    planned
        From `PcalDesign.apply`, with label_probability and preference_probability.
    outputs
        Names of the columns with the outputs.
    """
    figure = Figure(figsize=(4.6, 6.0), layout="constrained")  # narrow: phones show it whole
    left, right = figure.subplots(2, 1, sharey=True)
    p1, p2 = (planned[f"{name}_probability"].to_numpy(float) for name in ("label", "preference"))
    order = np.lexsort((p2, p1))[::-1]
    share = (np.arange(len(p1)) + 0.5) / len(p1)
    left.stackplot(
        share, p1[order], (p2 - p1)[order], (1 - p2)[order], colors=(COLOURS[0], COLOURS[5], RULE), linewidth=0,
        labels=[
            f"{what} {words.share(part.mean())}"
            for what, part in (("label", p1), ("preference only", p2 - p1), ("nothing", 1 - p2))
        ],
    )  # fmt: skip
    left.set(xlim=(0, 1), ylim=(0, 1))
    left.set_xlabel("units, by their probability of a label", fontsize=9, color=FAINT)
    left.set_ylabel("probability of being bought", fontsize=9, color=FAINT)
    first, second = (planned[name].to_numpy(float) for name in outputs)  # a table just read may hold words
    gap = np.abs(first - second)
    parts = np.array_split(np.argsort(gap, kind="stable"), min(_BINS, len(gap)))
    at = [gap[rows].mean() for rows in parts]
    for p, colour in ((p1, COLOURS[0]), (p2, COLOURS[5])):
        right.plot(at, [p[rows].mean() for rows in parts], "o-", color=colour, markersize=3.5)
    right.set_xlabel(f"distance |{outputs[0]} - {outputs[1]}| (tenths of the units)", fontsize=9, color=FAINT)
    for ax in (left, right):
        bare(ax)
    tight = {"columnspacing": 1.2, "handlelength": 1.2}  # readers' fonts are wider than ours
    figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside upper center", **tight)
    return figure


def cost_precision(design: PcalDesign, n: int, level: float = 0.9) -> Figure:
    """Draw the length of the interval against the budget, and what it is spent on.

    Parameters
    ----------
    design
        Of a single contrast, for the length to be one.
    n
        Units to be bought from.
    level
        Mass of the interval.
    """
    table = design.curve(n, design.budgets(40), level)
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    above.plot(table["budget"], table["length"], color=COLOURS[0])
    above.plot([design.budget], [design.length(n, level)], "o", color=COLOURS[1])
    above.set_ylabel(f"length of the {level:.0%} interval", fontsize=9, color=FAINT)
    below.plot(table["budget"], table["label_probability"], color=COLOURS[2], label="label")
    below.plot(table["budget"], table["preference_probability"], color=COLOURS[3], label="preference")
    below.set_ylabel("share of units", fontsize=9, color=FAINT)
    below.set_xlabel("budget: mean cost of a unit, in preferences", fontsize=9, color=FAINT)
    below.legend(frameon=False, fontsize=9)
    for ax in (above, below):
        bare(ax)
        ax.set_ylim(bottom=0)
    return figure


def interval_comparison(table: pd.DataFrame) -> Figure:
    """Draw the intervals of labels only, labels and unlabelled units, and PCAL, parameter by parameter.

    Parameters
    ----------
    table
        From `PcalEstimate.comparison`.
    """
    names = list(dict.fromkeys(table["parameter"]))
    # one panel each: parameters differ in scale
    figure = Figure(figsize=(6.4, 0.7 + 0.75 * len(names)), layout="constrained")
    axes: Any = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for ax, name in zip(axes, names, strict=True):
        part = table[table["parameter"] == name].set_index("method")
        for row, (method, colour) in enumerate(_METHODS.items()):
            each = part.loc[method]
            ax.plot([each["lower"], each["upper"]], [-row, -row], color=colour, linewidth=2)
            ax.plot([each["estimate"]], [-row], "o", color=colour, markersize=4, label=method)
        ax.set_yticks([])
        ax.margins(x=0.05, y=0.35)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, color=INK)
        bare(ax)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=3, loc="outside upper center")
    return figure


def bare(ax: Axes) -> None:
    """Leave of the frame of a picture only a faint grid."""
    ax.spines[:].set_visible(False)
    ax.grid(color=RULE, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
