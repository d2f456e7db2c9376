"""What all pictures share: colours, figures of rows, labels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prefdensity.data.columns import listed
from prefdensity.errors import DataError, require_whole
from prefdensity.reporting.labels import distinct

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefdensity.posterior.draws import Draws

# Okabe and Ito: told apart by colour-blind readers and in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, FAINT, RULE = "#222222", "#666666", "#e6e6e6"
_ROW, _MARGINS = 0.2, 1.1  # inches
_PLACE: ContextVar[Any] = ContextVar("drawn into", default=None)  # the part of a figure that is to be drawn into
P = ParamSpec("P")
# What pictures are drawn of, by the name of its type, and where users have it from.
_WHENCE = {
    "Posterior": "a fit, as prefdensity.fit(...) returns it",
    "CheckReport": "what prefdensity.check(...) returned",
    "Comparison": "what prefdensity.compare(...) returned",
    "Groups": "rankings by group, as post.by(...) returns them",
    "DataFrame": "a data frame",
}


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches, or the part of the user's own figure that is to be drawn into."""
    place = _PLACE.get()
    return place if place is not None else Figure(figsize=(width, height), layout="constrained")


def placed(draw: Callable[P, Figure]) -> Callable[..., Figure]:
    """Give a picture `ax=`, axes of a figure of the user's in whose place it is drawn, and `title=`.

    What it is drawn of must be what its signature says, which a `DataError` tells.
    """
    asked = inspect.signature(draw)

    @functools.wraps(draw)
    def drawn(*args: Any, ax: Axes | None = None, title: str | None = None, **given: Any) -> Figure:
        for name, value in asked.bind(*args, **given).arguments.items():
            _require(name, value, str(asked.parameters[name].annotation))
        if ax is None:
            figure = draw(*args, **given)
        else:
            figure = _in_place(ax)
            token = _PLACE.set(figure)
            try:
                draw(*args, **given)
            finally:
                _PLACE.reset(token)
        if title is not None:
            figure.suptitle(title, fontsize=11, color=INK)
        return figure

    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ("ax", "title")]
    drawn.__signature__ = asked.replace(parameters=[*asked.parameters.values(), *more])  # type: ignore[attr-defined]
    return drawn


def _require(name: str, value: Any, annotation: str) -> None:
    """Refuse an argument of a picture that is not of the type of its annotation."""
    kind = annotation.rpartition(".")[2]
    if kind == "int":
        require_whole(name, value, 1)
    elif kind in _WHENCE and kind not in {each.__name__ for each in type(value).__mro__}:
        raise DataError(f"{name} must be {_WHENCE[kind]}, and this is a {type(value).__name__}")


def require_drawable(frame: pd.DataFrame, name: str, columns: Sequence[str], whence: str) -> None:
    """Refuse a frame without the columns that a picture is drawn of."""
    lacking = [each for each in columns if each not in frame]
    if lacking:
        raise DataError(
            f"{name} has no column {lacking[0]!r}; it must be {whence}, and its columns are {listed(frame.columns, 8)}"
        )


def _in_place(ax: Axes) -> Any:
    """Return the part of a figure where axes were, which are taken away: a picture may have several panels."""
    spec, figure = (ax.get_subplotspec(), ax.get_figure()) if isinstance(ax, Axes) else (None, None)
    if spec is None or figure is None:
        raise DataError("ax=... must be axes of a grid, as of figure.subplots() or add_subplot()")
    ax.remove()
    return figure.add_subfigure(spec)


def row_figure(rows: int, panels: int = 1, share_x: bool = True) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a line for each of so many rows, and its panels."""
    width = 6.8 if panels == 1 else 3.0 + 2.2 * panels
    figure = new_figure(width, _MARGINS + _ROW * max(rows, 4))
    axes = figure.subplots(1, panels, sharey=True, sharex=share_x, squeeze=False)[0]
    for ax in axes:
        clean(ax)
        ax.grid(axis="y", color=RULE, linewidth=0.7)
    axes[0].set_ylim(rows - 0.4, -0.6)
    return figure, axes


def intervals(ax: Axes, mean: Any, lower: Any, upper: Any, colour: str, safe: Any = True) -> None:
    """Draw means with their intervals, row by row; hollow where not shown to be safe."""
    rows, safe = np.arange(len(mean)), np.broadcast_to(safe, len(mean))
    ax.hlines(rows, lower, upper, color=colour, linewidth=2.2, alpha=0.45)
    ax.plot(np.asarray(mean)[safe], rows[safe], "o", color=colour, markersize=4.5)
    ax.plot(np.asarray(mean)[~safe], rows[~safe], "o", color=colour, markersize=4.5, markerfacecolor="white")


def item_labels(ax: Axes, items: list[str]) -> None:
    """Write the names of the rows."""
    ax.set_yticks(range(len(items)), labels=distinct(items), fontsize=9, parse_math=False)


def item_order(post: Draws, summary: pd.DataFrame) -> list[str]:
    """Return the items of a ranking, the best first; of several types, by the mean over types by their weights."""
    if "type" not in summary:
        return list(summary["item"])
    weight = post.draws["type_weight"].mean(axis=0)  # a small type must not set the order
    weighted = summary["mean"] * weight[summary["type"].to_numpy() - 1]
    means = weighted.groupby(summary["item"], sort=False).sum()
    return list(means.sort_values(ascending=False, kind="stable").index)


def axis_words(ax: Axes, x: str, y: str) -> None:
    """Name both axes."""
    ax.set_xlabel(x, fontsize=9, color=FAINT)
    ax.set_ylabel(y, fontsize=9, color=FAINT)


def clean(ax: Axes) -> None:
    """Take away what frames the picture."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=9, labelcolor=INK)
    ax.tick_params(axis="x", labelcolor=FAINT)
    ax.set_axisbelow(True)
