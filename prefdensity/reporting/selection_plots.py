"""Pictures of selection studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from prefdensity.reporting.canvas import COLOURS, FAINT, INK, RULE

if TYPE_CHECKING:
    from prefdensity.selection.study import SelectionStudy

_PLAIN = {"random": "#000000", "entropy": COLOURS[1]}


def learning_curves(study: SelectionStudy) -> Figure:
    """Draw what is still wrong, 1 - correlation with the truth, against the number of labels.

    The bands are two standard errors over simulations; rules are paired, so their differences are surer than that.

    Parameters
    ----------
    study
        From `selection_study`.
    """
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    ax = figure.subplots()
    table = study.table
    others = [rule for rule in dict.fromkeys(table["rule"]) if rule not in _PLAIN]
    colour = _PLAIN | dict(zip(others, [c for c in COLOURS if c not in _PLAIN.values()] * len(others), strict=False))
    for rule in [*_PLAIN, *others]:
        part = table[table["rule"] == rule]
        error, reach = 1 - part["correlation"], 2 * part["se"]
        style, width = "--" if rule in _PLAIN else "-", 2.2 if rule == study.winner else 1.3
        ax.plot(part["labels"], error, f"o{style}", markersize=3.5, linewidth=width, color=colour[rule], label=rule)
        if rule in (study.winner, "entropy"):  # more bands than two hide each other
            ax.fill_between(part["labels"], error - reach, error + reach, color=colour[rule], alpha=0.12, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    ax.set_xticks(sorted(set(table["labels"])))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.spines[:].set_visible(False)
    ax.grid(color=RULE, linewidth=0.7)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.set_xlabel("labels", fontsize=9, color=FAINT)
    ax.set_ylabel("1 - Spearman correlation with the true rewards", fontsize=9, color=FAINT)
    ax.legend(frameon=False, fontsize=9)
    ax.set_title(study.verdict(), fontsize=8, color=FAINT, loc="left", wrap=True)
    return figure
