"""Pictures of the study of wrong judge models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from prefdensity.reporting.canvas import COLOURS, FAINT, INK, RULE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def lengths(table: pd.DataFrame) -> Figure:
    """Draw mean interval lengths against those of labels alone under the design that knows the judge.

    One panel per true judge: nuisances down, filled marks for a design that knows the judge and open ones for a design
    that takes him to be noise-free; right of the line preferences do harm.

    Parameters
    ----------
    table
        Of a `pcal.study.JudgeStudy`.
    """
    return _panels(table, "length", "interval length")


def coverage(table: pd.DataFrame) -> Figure:
    """Draw the coverage of 90 % intervals, panels and marks as in `lengths`, with two Monte-Carlo standard errors."""
    return _panels(table, "coverage", "coverage of 90% intervals")


def _panels(table: pd.DataFrame, value: str, label: str) -> Figure:
    truths, kinds = list(dict.fromkeys(table["truth"])), list(dict.fromkeys(table["nuisance"]))[::-1]
    columns = min(4, len(truths))
    rows = -(-len(truths) // columns)
    figure = Figure(figsize=(3.0 * columns + 1.5, (0.3 * len(kinds) + 1) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for ax, truth in zip(axes, truths, strict=False):
        part = table[table["truth"] == truth]
        _marks(ax, part, value, kinds)
        if value == "length":
            alone = part[(part["calibration"] == "label_only") & (part["design"] == "knows")]["length"].mean()
            ax.axvline(alone, color=FAINT, linewidth=0.9)
        else:
            ax.axvline(0.9, color=FAINT, linewidth=0.9)
        ax.set_title(truth.replace("_", " "), fontsize=9, color=INK, loc="left")
        ax.set_xlabel(label, fontsize=8, color=FAINT)
        ax.set_yticks(range(len(kinds)), kinds)
        ax.spines[:].set_visible(False)
        ax.grid(axis="x", color=RULE, linewidth=0.7)
        ax.tick_params(length=0, labelsize=8, labelcolor=INK)
    for ax in axes[len(truths) :]:
        ax.set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _marks(ax: Axes, part: pd.DataFrame, value: str, kinds: list[str]) -> None:
    for k, how in enumerate(("identity", "scalar", "split", "dictionary")):
        for design in dict.fromkeys(part["design"]):
            some = part[(part["calibration"] == how) & (part["design"] == design)].set_index("nuisance").loc[kinds]
            known = design == "knows"
            place = np.arange(len(kinds)) + 0.15 * (k - 1.5)
            ax.errorbar(
                some[value], place, xerr=2 * some[f"{value}_se"], fmt="o", markersize=3.5,
                linewidth=0.8, color=COLOURS[k], markerfacecolor=COLOURS[k] if known else "white",
                label=how if known else None,
            )  # fmt: skip
