"""Pictures of a posterior; each function returns a matplotlib `Figure` that no global state holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from prefdensity.data.report import describe
from prefdensity.errors import PrefDensityError
from prefdensity.reporting.canvas import (
    COLOURS,
    FAINT,
    INK,
    RULE,
    axis_words,
    clean,
    intervals,
    item_labels,
    row_figure,
    shorten,
)
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from prefdensity.checking.report import CheckReport
    from prefdensity.comparison.ranking import Comparison
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_VERDICTS = {"as expected": COLOURS[0], "doubtful": COLOURS[4], "contradicted": COLOURS[1]}
_FARTHEST = 8.0  # standard deviations drawn


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
    panels, items = _panels(post, level, most)
    figure, axes = row_figure(len(items), len(panels))
    for index, (ax, (title, frame)) in enumerate(zip(axes, panels, strict=True)):
        intervals(ax, frame["mean"], frame["lower"], frame["upper"], COLOURS[index % len(COLOURS)], frame["safe"])
        ax.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
        _panel_title(ax, title)
    item_labels(axes[0], items)
    whole = f"; {_cut(items, post)}" if len(items) < len(post.items) else ""
    bars = "" if panels[0][1]["lower"].isna().all() else f", with {level:.0%} intervals"
    if not all(frame["safe"].all() for _, frame in panels):
        bars += "; hollow: not shown to be safe"
    _caption(figure, f"utility, 0 = average item{bars}{whole}")
    return figure


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
    panels, items = _panels(post, level, most)
    last = max(int(frame["rank_upper"].max()) for _, frame in panels)
    figure, axes = row_figure(len(items), len(panels))
    for index, (ax, (title, frame)) in enumerate(zip(axes, panels, strict=True)):
        rows = np.arange(len(frame))
        ax.barh(
            rows,
            frame["rank_upper"] - frame["rank_lower"] + 0.8,
            left=frame["rank_lower"] - 0.4,
            height=0.55,
            color=COLOURS[index % len(COLOURS)],
        )
        ax.set_xticks(np.unique(np.linspace(1, last, min(last, 7)).round()))
        ax.set_xlim(0.4, last + 0.6)
        _panel_title(ax, title)
    item_labels(axes[0], items)
    _caption(figure, f"rank, 1 = best ({level:.0%} of the posterior)")
    return figure


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
    figure = Figure(figsize=(side + 3.0, side + 1.9), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(share, cmap="RdBu", vmin=0, vmax=1)
    clean(ax)
    size = 9 if len(items) <= 25 else 8
    labels: dict[str, Any] = {"labels": [shorten(item, 30) for item in items], "parse_math": False}
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


def annotators(post: Posterior, data: Comparisons, most: int = 40) -> Figure:
    """Draw what the fit says of each annotator: every number of theirs, or their type, otherwise what was counted.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons that it was fitted to.
    most
        Number of annotators drawn by name; with more, the two ends of the first scale are drawn.
    """
    if not data.annotators:
        raise PrefDensityError("the table does not say who judged, so annotators cannot be drawn")
    if personal(post):
        return _numbers(post, personal(post), most)
    if post.dims.get("type_probability") == ("annotator", "type"):
        return _type_shares(post.draws["type_probability"].mean(axis=0), post.annotators, most)
    return _habits(describe(data).annotators)


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
    figure = Figure(figsize=(7, 3), layout="constrained")
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


def calibration(table: pd.DataFrame) -> Figure:
    """Draw how often favourites win against how often the program says so, with the range of replicated tables.

    Parameters
    ----------
    table
        From `prefdensity.checking.check.calibration`.
    """
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
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


def _panels(post: Posterior, level: float, most: int) -> tuple[list[tuple[str, pd.DataFrame]], list[str]]:
    """Return one frame for each type in a common order of items, and that order."""
    summary = post.summary(level=level)
    if "type" not in summary:
        items = list(summary["item"][:most])
        return [("", summary.set_index("item").loc[items])], items
    weight = post.draws["type_weight"].mean(axis=0)  # a small type must not set the order
    weighted = summary["mean"] * weight[summary["type"].to_numpy() - 1]
    means = weighted.groupby(summary["item"], sort=False).sum()
    items = list(means.sort_values(ascending=False, kind="stable").index[:most])
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


def _numbers(post: Posterior, sites: dict[str, str], most: int) -> Figure:
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


def _type_shares(share: NDArray[np.float64], names: tuple[str, ...], most: int) -> Figure:
    """Draw one column for each annotator, split by type, grouped by the leading type."""
    leading = share.argmax(axis=1)
    order = np.lexsort((-share.max(axis=1), leading))
    figure = Figure(figsize=(7.5, 3.0), layout="constrained")
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
        labels = [shorten(names[i], 16) for i in order]
        ax.set_xticks(range(len(order)), labels=labels, rotation=90, fontsize=7, parse_math=False)
    else:
        ax.set_xticks([])
    ax.margins(0)
    ax.legend(frameon=False, fontsize=9, ncols=share.shape[1], loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _habits(table: pd.DataFrame) -> Figure:
    """Draw each annotator's shares against the number of judgements, with the range that chance explains."""
    decided = table["judgements"] * (1 - table["tie_share"])
    panels = [
        ("share of ties", table["tie_share"], table["judgements"]),
        ("share for the side shown first", table["first_share"], decided),
    ]
    drawn = [panel for panel in panels if panel[1].fillna(0).any()]
    figure = Figure(figsize=(7.5 if len(drawn) > 1 else 4.5, 3.2), layout="constrained")
    if not drawn:  # no ties, order unknown: how much each one judged is all there is
        ax = figure.subplots()
        ax.hist(table["judgements"], bins="auto", color=COLOURS[0])
        axis_words(ax, "judgements", "annotators")
        clean(ax)
        return figure
    for ax, (name, share, trials) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _funnel(ax, share.to_numpy(), trials.to_numpy())
        axis_words(ax, "judgements" if name == "share of ties" else "decided judgements", name)
    return figure


def _funnel(ax: Axes, share: NDArray[np.float64], trials: NDArray[np.float64]) -> None:
    known = trials > 0
    share, trials = share[known], trials[known]
    pooled = float(np.average(share, weights=trials))
    sizes = np.geomspace(trials.min(), max(trials.max(), trials.min() + 1), 100)
    reach = 2.58 * np.sqrt(pooled * (1 - pooled) / sizes)
    ax.fill_between(sizes, pooled - reach, pooled + reach, color=RULE, linewidth=0, label="99% by chance")
    ax.axhline(pooled, color=FAINT, linewidth=0.8)
    many = len(share) > 1000  # as pixels: a vector file of so many dots is large and slow
    ax.plot(trials, share, "o", color=COLOURS[0], markersize=4.5, alpha=0.7, markeredgewidth=0, rasterized=many)
    ax.set_ylim(-0.03, 1.03)
    clean(ax)
    ax.legend(frameon=False, fontsize=8, loc="best")
