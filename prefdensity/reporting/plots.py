"""Pictures of a posterior; each function returns a matplotlib `Figure` that no global state holds.

Each takes `title=`, and `ax=`: axes of a figure of your own, in whose place it draws, with all its panels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from prefdensity.data.report import describe
from prefdensity.errors import PrefDensityError
from prefdensity.reporting.annotator_plots import activity, habits, numbers, type_shares
from prefdensity.reporting.canvas import (
    COLOURS,
    FAINT,
    INK,
    RULE,
    axis_words,
    clean,
    intervals,
    item_labels,
    item_order,
    new_figure,
    placed,
    require_drawable,
    row_figure,
)
from prefdensity.reporting.course_plots import course as course
from prefdensity.reporting.group_plots import groups as groups
from prefdensity.reporting.labels import distinct
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from prefdensity.checking.report import CheckReport
    from prefdensity.comparison.ranking import Comparison
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_VERDICTS = {"as expected": COLOURS[0], "doubtful": COLOURS[4], "contradicted": COLOURS[1]}
_FARTHEST = 8.0  # standard deviations drawn


@placed
def ranking(post: Posterior, level: float = 0.9, most: int = 60) -> Figure:
    """Draw the utilities of the items, best first, with their intervals; annotator types side by side.

    Parameters
    ----------
    post
        A fit.
    level
        Posterior mass of the intervals.
    most
        Number of leading items drawn.
    """
    figure, panels, items = _item_rows(post, level, most)
    for ax, frame, colour in panels:
        intervals(ax, frame["mean"], frame["lower"], frame["upper"], colour, frame["safe"])
        ax.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    whole = f"; {_cut(items, post)}" if len(items) < len(post.items) else ""
    bars = "" if panels[0][1]["lower"].isna().all() else f", with {level:.0%} intervals"
    if not all(frame["safe"].all() for _, frame, _ in panels):
        bars += "; hollow: not shown to be safe"
    _caption(figure, f"utility, 0 = average item{bars}{whole}")
    return figure


@placed
def rank_intervals(post: Posterior, level: float = 0.9, most: int = 60) -> Figure:
    """Draw the ranks that each item may well have: items whose bars overlap are not clearly ordered.

    Parameters
    ----------
    post
        A fit.
    level
        Posterior mass of the intervals.
    most
        Number of leading items drawn.
    """
    figure, panels, _ = _item_rows(post, level, most)
    last = max(int(frame["rank_upper"].max()) for _, frame, _ in panels)
    for ax, frame, colour in panels:
        width = frame["rank_upper"] - frame["rank_lower"] + 0.8
        ax.barh(np.arange(len(frame)), width, left=frame["rank_lower"] - 0.4, height=0.55, color=colour)
        ax.set_xticks(np.unique(np.linspace(1, last, min(last, 7)).round()))
        ax.set_xlim(0.4, last + 0.6)
    _caption(figure, f"rank, 1 = best ({level:.0%} of the posterior)")
    return figure


@placed
def win_heatmap(post: Posterior, most: int = 40) -> Figure:
    """Draw how often the row item is preferred to the column item, items best first.

    Ties count half; neither item is shown first; the annotator is drawn from the fitted population.

    Parameters
    ----------
    post
        A fit.
    most
        Number of leading items drawn.
    """
    _, items = _panels(post, 0.9, most)
    share = post.win_probabilities(items).to_numpy(copy=True)
    np.fill_diagonal(share, np.nan)
    side = min(max(0.3 * len(items), 2.2), 7.0)
    figure = new_figure(side + 3.0, side + 1.9)
    ax = figure.subplots()
    image = ax.imshow(share, cmap="RdBu", vmin=0, vmax=1)
    clean(ax)
    size = 9 if len(items) <= 25 else 8
    labels: dict[str, Any] = {"labels": distinct(items, 30), "parse_math": False}
    ax.set_yticks(range(len(items)), fontsize=size, **labels)
    ax.set_xticks(range(len(items)), fontsize=size, rotation=90, **labels)
    if len(items) < len(post.items):
        ax.set_title(_cut(items, post), fontsize=9, color=FAINT, loc="left")
    if len(items) <= 12:
        _write_shares(ax, share)
    bar = figure.colorbar(image, ax=ax, shrink=min(1.0, 2.5 / side), aspect=14, ticks=[0, 0.5, 1])
    bar.set_label("row preferred to column", fontsize=9, color=FAINT)
    bar.ax.tick_params(labelsize=9, length=0, labelcolor=FAINT)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


@placed
def annotators(post: Posterior, data: Comparisons | Choices, most: int = 40) -> Figure:
    """Draw what the fit says of each annotator: every number of theirs, or their type, otherwise what was counted.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons, or choices from sets, that it was fitted to.
    most
        Number of annotators drawn by name; with more, the two ends of the first scale are drawn.
    """
    from prefdensity.posterior.posterior import require_same_table  # which loads torch, as whoever has a fit did

    require_same_table(post, data)
    if not data.annotators:
        raise PrefDensityError("the table does not say who judged, so annotators cannot be drawn")
    if personal(post):
        return numbers(post, personal(post), most)
    if post.dims.get("type_probability") == ("annotator", "type"):
        return type_shares(post.draws["type_probability"].mean(axis=0), post.annotators, most)
    table = describe(data).annotators
    return activity(table, data.JUDGED) if data.SETS else habits(table)


def personal(post: Posterior) -> dict[str, str]:
    """Return site -> meaning of what the program says in one number of each annotator, standardised ones left out."""
    own = (name for name, dims in post.dims.items() if dims == ("annotator",) and not name.endswith("_offset"))
    return {name: post.meanings[name] for name in own if name in post.meanings}


def annotator_caption(post: Posterior) -> str:
    """Return what `annotators` draws, in a sentence."""
    own = personal(post)
    if own:
        said = [f"{name.replace('_', ' ')}: {meaning}" for name, meaning in own.items()]
        return f"{'; '.join(said)}. The line is the mean of all."
    if "type_probability" in post.dims:
        return "Which type each annotator belongs to, one column for each, grouped by the leading type."
    return "Habits of the annotators as counted in the data, one dot each; the program takes them as alike."


@placed
def elbo_trace(post: Posterior) -> Figure:
    """Draw the evidence lower bound along the optimisation; restarts as marks at its end.

    Parameters
    ----------
    post
        A fit by `svi`.
    """
    trace = np.asarray(post.status.elbo_trace, float)
    if trace.size == 0:
        raise PrefDensityError(f"method {post.status.method} records no ELBO along the way; method svi does")
    figure = new_figure(7, 3)
    ax = figure.subplots()
    ax.plot(trace, color=COLOURS[0], linewidth=1.2)
    others = [value for value in post.status.restart_values if np.isfinite(value)]
    if len(others) > 1:
        end = [len(trace) - 1] * len(others)
        ax.plot(end, others, "_", color=COLOURS[1], markersize=14, label="end of each restart")
        ax.legend(frameon=False, fontsize=9, loc="lower right")
    # the first steps fall from a great height and would flatten the part that shows convergence
    settled = np.concatenate([trace[len(trace) // 10 :], others])
    low, high = float(settled.min()), float(settled.max())
    room = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)
    axis_words(ax, "recorded step", "ELBO (nats)")
    ax.ticklabel_format(axis="y", useOffset=False)
    clean(ax)
    ax.grid(axis="y", color=RULE, linewidth=0.7)
    return figure


@placed
def check(report: CheckReport) -> Figure:
    """Draw how far the data lie from what the program expects, one row for each check that was possible.

    Parameters
    ----------
    report
        From `prefdensity.check`.
    """
    table = report.table[report.table["verdict"] != "not available"]
    z = np.clip(table["z"].to_numpy(), -_FARTHEST, _FARTHEST)
    figure, (ax,) = row_figure(len(table))
    ax.axvspan(-2, 2, color=RULE, zorder=0)
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    for verdict, colour in _VERDICTS.items():
        rows = np.flatnonzero(table["verdict"] == verdict)
        ax.hlines(rows, 0, z[rows], color=colour, linewidth=2.2, alpha=0.45)
        ax.plot(z[rows], rows, "o", color=colour, markersize=5.5, label=verdict, clip_on=False)
    for mark, far in ((">", np.flatnonzero(z == _FARTHEST)), ("<", np.flatnonzero(z == -_FARTHEST))):
        ax.plot(z[far], far, mark, color=COLOURS[1], markersize=8, clip_on=False)
    item_labels(ax, list(table["check"]))
    ax.set_xlim(-_FARTHEST, _FARTHEST)
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    _caption(figure, f"data minus expected, in standard deviations of replicated tables (arrows: beyond {_FARTHEST:g})")
    return figure


@placed
def calibration_curve(table: pd.DataFrame) -> Figure:
    """Draw how often favourites win against how often the program says so, with the range of replicated tables.

    Parameters
    ----------
    table
        From `prefdensity.checking.check.calibration_curve`.
    """
    whence = "the calibration_curve of what prefdensity.check(...) returned"
    require_drawable(table, "table", ("predicted", "observed", "lower", "upper"), whence)
    figure = new_figure(4.6, 3.8)
    ax = figure.subplots()
    ax.plot([0.5, 1], [0.5, 1], color=FAINT, linewidth=0.8)
    x = table["predicted"]
    ax.vlines(x, table["lower"], table["upper"], color=RULE, linewidth=7, label="90% of replicated tables")
    off = (table["observed"] < table["lower"]) | (table["observed"] > table["upper"])
    for rows, colour in ((table[~off], COLOURS[0]), (table[off], COLOURS[1])):
        ax.plot(rows["predicted"], rows["observed"], "o", color=colour, markersize=5)
    clean(ax)
    axis_words(ax, "probability of the favourite", "how often it wins (ties count half)")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


@placed
def comparison(found: Comparison) -> Figure:
    """Draw how far each program's predictive density lies below the best one's, with two standard errors.

    Parameters
    ----------
    found
        From `prefdensity.compare`.
    """
    table = found.table
    figure, (ax,) = row_figure(len(table))
    gap, reach = table["elpd_diff"].to_numpy(), 2 * table["se_diff"].to_numpy()
    intervals(ax, gap, gap - reach, gap + reach, COLOURS[0])
    ax.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    item_labels(ax, list(table["program"]))
    short = ", too short for the closest" if found.caution else ""
    _caption(figure, f"elpd against the best (nats), by {found.unit}, ± 2 se{short}")
    return figure


def _item_rows(
    post: Posterior, level: float, most: int
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame, str]], list[str]]:
    """Return a figure with a row for each item, a panel with frame and colour for each type, and the items."""
    panels, items = _panels(post, level, most)
    figure, axes = row_figure(len(items), len(panels))
    item_labels(axes[0], items)
    for ax, (title, _) in zip(axes, panels, strict=True):
        _panel_title(ax, title)
    colours = (COLOURS[index % len(COLOURS)] for index in range(len(panels)))
    return figure, [(ax, frame, colour) for ax, (_, frame), colour in zip(axes, panels, colours, strict=True)], items


def _panels(post: Posterior, level: float, most: int) -> tuple[list[tuple[str, pd.DataFrame]], list[str]]:
    """Return one frame for each type in a common order of items, and that order."""
    summary = post.summary(level=level)
    if "type" not in summary:
        items = item_order(post, summary)[:most]
        return [("", summary.set_index("item").loc[items])], items
    items = item_order(post, summary)[:most]
    parts = summary.groupby("type", sort=False)
    return [(f"type {name}", part.set_index("item").loc[items]) for name, part in parts], items


def _cut(items: list[str], post: Posterior) -> str:
    return f"first {len(items)} of {len(post.items)} items"


def _caption(figure: Figure, words: str) -> None:
    """Label the x axis, or all of them together."""
    if len(figure.axes) == 1:
        figure.axes[0].set_xlabel(words, fontsize=9, color=FAINT)
    else:
        figure.supxlabel(words, fontsize=9, color=FAINT)


def _panel_title(ax: Axes, title: str) -> None:
    if title:
        ax.set_title(title, fontsize=10, color=INK, loc="left")


def _write_shares(ax: Axes, share: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(np.isfinite(share)):
        value = share[row, column]
        colour = "white" if abs(value - 0.5) > 0.32 else INK
        ax.text(column, row, percent(value).rstrip("%"), ha="center", va="center", fontsize=8, color=colour)
