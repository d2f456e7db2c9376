"""The ranking as leaderboards show it: ratings on an anchored scale, ranks that no later vote is likely to worsen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import pandas as pd

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.named import of_items
from prefdensity.data.report import tallies
from prefdensity.errors import DataError
from prefdensity.posterior.by_group import by_group
from prefdensity.posterior.courses import course_of, require_over
from prefdensity.posterior.posterior import Posterior, require_same_table

_SCALE = 400 / math.log(10)  # points for odds of e to one, as in chess


def leaderboard(
    post: Posterior,
    data: Comparisons | Choices,
    *,
    level: float = 0.95,
    anchor: Mapping[str, float] | None = None,
    organisation: Mapping[str, str] | None = None,
    by: str | None = None,
    over: str | None = None,
    at: Sequence[Any] | None = None,
) -> pd.DataFrame:
    """Return one row for each item, the best first; with `by` or `over` a board for each group, or for each date.

    Parameters
    ----------
    post
        A fit, of a program without types of annotators: these have a ranking each.
    data
        The comparisons, or choices from sets, that it was fitted to.
    level
        Posterior probability of the intervals.
    anchor
        One item and its rating, to keep boards of different months comparable; None: the mean rating is 1000.
    organisation
        Item -> who made it; items that are not in it have none.
    by
        A column of labels that the program reads, such as "category": see `Posterior.by`. The anchor has its rating in
        every group.
    over, at
        A number that the program reads, such as "date", and the dates or values that there is a board for, later ones
        than any in the table too: see `Posterior.over`. The anchor has its rating at every date; votes and win rates
        are those of the whole table.

    Returns
    -------
    Frame with group (if `by`), at (if `over`), rank, item, rating, minus and plus (to the ends of the interval), lower,
    upper, votes (judgements, or answers, about the item), win_rate (as in `item_table`), and organisation where it was
    given. A difference of 400 is a difference in utility of log 10: odds of ten to one under a logistic choice. `rank`
    is an upper bound: 1 and as many more as there are items whose interval lies wholly above.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, annotators have types, the program does not read `by` or `over`,
        both are given or `at` without `over`, or the anchor or a name of `organisation` is no item.
    """
    require_same_table(post, data)
    if post.utilities().ndim > 2:
        raise DataError("annotators of this fit have types, each with a ranking of its own; a leaderboard has one")
    require_over(over, at, by=by)
    base, value = _anchored(post, anchor)
    counted = _votes(data)
    made = None if organisation is None else of_items(organisation, post.items, "organisation")
    if by is None and over is None:
        return _board(post.summary(level=level), counted, base, value, made)
    parts = _in_groups(post, data, by, level) if by is not None else _at_dates(post, counted, str(over), at, level)
    boards = [_board(summary, votes, base, value, made) for _, summary, votes in parts]
    for (name, *_), board in zip(parts, boards, strict=True):
        board.insert(0, "at" if by is None else "group", name)
    return pd.concat(boards, ignore_index=True)


_Part = tuple[Any, pd.DataFrame, pd.DataFrame]  # what a board is of, its ranking with the best first, and its votes


def _votes(data: Comparisons | Choices) -> pd.DataFrame:
    """Return what a board tells of votes: item, votes, win_rate."""
    return tallies(data)[["item", data.JUDGED, "win_rate"]].rename(columns={data.JUDGED: "votes"})


def _in_groups(post: Posterior, data: Comparisons | Choices, by: str, level: float) -> list[_Part]:
    groups = by_group(post, by, level)
    rows, table = data.groups_of(groups.label), groups.table
    return [(name, table[table["group"] == name], _votes(data.take(rows == k))) for k, name in enumerate(groups.names)]


def _at_dates(post: Posterior, counted: pd.DataFrame, over: str, at: Sequence[Any] | None, level: float) -> list[_Part]:
    course = course_of(post, over, at, level)
    parts = course.groupby(course.columns[0], sort=False)
    return [(name, part.sort_values("mean", ascending=False), counted) for name, part in parts]


def _anchored(post: Posterior, anchor: Mapping[str, float] | None) -> tuple[str | None, float]:
    """Return the item that keeps its rating, or None, and its rating, or that of the mean."""
    base, value = None, 1000.0
    if anchor is not None:
        if (
            not isinstance(anchor, Mapping)
            or len(anchor) != 1
            or next(iter(anchor)) not in post.items
            or not isinstance(next(iter(anchor.values())), Real)
        ):
            raise DataError(
                f"anchor={anchor!r} must give one item of the table its rating: anchor={{{post.items[0]!r}: 1000}}"
            )
        base, value = next((item, float(rating)) for item, rating in anchor.items())
    return base, value


def _board(
    summary: pd.DataFrame,
    counted: pd.DataFrame,
    base: str | None,
    value: float,
    made: Mapping[str, str] | None,
) -> pd.DataFrame:
    """Return the board of one ranking, the best first."""
    summary = summary.set_index("item")
    mean = dict(zip(summary.index, summary["mean"].to_numpy(float), strict=True))
    shift = value - _SCALE * (mean[base] if base is not None else 0.0)
    board = pd.DataFrame({"item": summary.index})
    for name, column in (("rating", "mean"), ("lower", "lower"), ("upper", "upper")):
        board[name] = shift + _SCALE * summary[column].to_numpy(float)
    board["minus"], board["plus"] = board["rating"] - board["lower"], board["upper"] - board["rating"]
    above = board["lower"].to_numpy()[None, :] > board["upper"].to_numpy()[:, None]
    board.insert(0, "rank", 1 + above.sum(1))
    counted = counted.set_index("item")
    board["votes"] = counted.loc[board["item"], "votes"].to_numpy()
    board["win_rate"] = counted.loc[board["item"], "win_rate"].to_numpy()
    if made is not None:
        board["organisation"] = [str(made.get(item, "")) for item in board["item"]]
    order = ["rank", "item", "rating", "minus", "plus", "lower", "upper", "votes", "win_rate"]
    return board[[*order, *(["organisation"] if made is not None else [])]]
