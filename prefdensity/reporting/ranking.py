"""Parts of a report about items: the ranking, differences between two, who beats whom."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from prefdensity.posterior.pairwise import differences, quasi_variances
from prefdensity.posterior.people import item_table
from prefdensity.reporting.canvas import item_order
from prefdensity.reporting.labels import shorten
from prefdensity.reporting.pages import Part, number, signed
from prefdensity.reporting.parts import Bars, Heat, Numbers, PageColumn, PageTable, Words
from prefdensity.words import percent, share

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_FIRST = 8  # items on the first screen
_MOST = 2000  # rows of a table; files have them all
_SQUARE = 25  # items of the heat map
_EVERY_TWO = 30  # items up to which every two are set against each other


def span(lower: float, upper: float, form: str = ".2f") -> str:
    """Return an interval in words, a dash where there is none."""
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return "–"
    low, high = signed(lower, form), signed(upper, form)
    return low if low == high else f"{low} to {high}"


def first_rows(summary: pd.DataFrame, level: float) -> Part:
    """Return the leading items of a ranking, of each type where there are types, as a table that is its own plot.

    Parameters
    ----------
    summary
        Of `Posterior.summary`.
    level
        Posterior mass of its intervals.
    """
    typed = "type" in summary
    kinds = summary["type"].nunique() if typed else 1
    each = max(2, _FIRST // kinds)
    shown = summary.groupby("type", sort=False).head(each) if typed else summary.head(each)
    items = summary["item"].nunique()
    left = items - min(each, items)
    kind = [f"type {name}" for name in shown["type"]] if typed else None
    columns = [Words("item", shown["item"].tolist(), names=True, under=kind), *_utility(shown, level)]
    first = f"{each} of {items:,} items{' of each type' if typed else ''}"
    caption = f"The first {first}. " if left else "The answer at a glance. "
    return PageTable(caption + _caption(summary, level), columns, len(shown))


def ranking(post: Posterior, data: Comparisons | Choices, summary: pd.DataFrame, level: float) -> Part:
    """Return all rows of a ranking with ranks, P(best), and what was counted of each item.

    Parameters
    ----------
    post, data
        A fit and its table.
    summary
        Of `Posterior.summary`, at this `level`.
    level
        Posterior mass of the intervals.
    """
    shown = summary.head(_MOST)
    rows = shown.to_dict("records")
    columns: list[PageColumn] = [
        *_named(shown),
        *_utility(shown, level),
        Numbers(
            "rank",
            [row["rank_lower"] for row in rows],
            [span(row["rank_lower"], row["rank_upper"], ".0f") for row in rows],
        ),
        Numbers("P(best)", [row["p_best"] for row in rows], [percent(row["p_best"]) for row in rows]),
        Numbers("sd", [row["sd"] for row in rows], [number(row["sd"], 2) for row in rows]),
    ]
    counted = item_table(post, data).set_index("item").loc[shown["item"]]
    votes, rate = counted[data.JUDGED].tolist(), counted["win_rate"].tolist()
    columns.append(Numbers(data.JUDGED, votes, [f"{value:,.10g}" for value in votes]))
    columns.append(Numbers("win rate", rate, [share(value) for value in rate]))
    if "mean_rank" in counted:
        place = counted["mean_rank"].tolist()
        columns.append(Numbers("mean rank", place, [number(value) for value in place]))
    if shown["note"].any():
        columns.append(Words("note", [row["note"] for row in rows], long=True))
    left = len(summary) - len(shown)
    note = f"{left:,} more rows are in summary.csv (or post.summary())." if left else ""
    return PageTable(_caption(summary, level), columns, len(shown), note)


def apart(post: Posterior, level: float, reference: str | None = None) -> list[Part]:
    """Return how far apart items are, and variances of single items that say it of any two; nothing without spread.

    Parameters
    ----------
    post
        A fit.
    level
        Posterior mass of the intervals: of all differences at once, and of items by themselves.
    reference
        Item from which differences are counted; None: every two, of many items from the leader.
    """
    if post.is_point:
        return []
    few = 2 < len(post.items) <= _EVERY_TWO
    return [_pairs(post, level, reference), *([_quasi(post, level)] if few else [])]


def _pairs(post: Posterior, level: float, reference: str | None) -> Part:
    every = reference is None and len(post.items) <= _EVERY_TWO
    base = reference if reference is not None else item_order(post, post.summary())[0]
    found = differences(post, level, None if every else base)
    rows = found.to_dict("records")
    middle, lower, upper = ([row[name] for row in rows] for name in ("difference", "lower_all", "upper_all"))
    columns: list[PageColumn] = [Words("item", [row["item_a"] for row in rows], names=True)]
    columns.append(Words("other item", [row["item_b"] for row in rows], filters=every))
    if "type" in found:
        columns.append(Words("type", [str(row["type"]) for row in rows], filters=True))
    columns += [
        Bars(f"difference, {level:.0%} for all at once", lower, middle, upper),
        Numbers(
            "difference",
            middle,
            [signed(value) for value in middle],
            [span(*ends) for ends in zip(lower, upper, strict=True)],
        ),
        Numbers(
            f"{level:.0%} by itself", [row["lower"] for row in rows], [span(row["lower"], row["upper"]) for row in rows]
        ),
        Numbers("P(greater)", [row["p_greater"] for row in rows], [percent(row["p_greater"]) for row in rows]),
    ]
    clear = sum(low > 0 or high < 0 for low, high in zip(lower, upper, strict=True))
    what = "every two items" if every else f"each other item and {shorten(base)}"
    caption = (
        f"Differences in utility between {what}: {clear:,} of {len(rows):,} are clear of 0, with {level:.0%} "
        "probability for all of them together."
    )
    more = "" if every else "Every two are written by prefdensity tables (or prefdensity.differences)."
    return PageTable(caption, columns, len(rows), more)


def _quasi(post: Posterior, level: float) -> Part:
    """Return quasi-standard deviations, with intervals of single items that readers compare without a reference."""
    found = quasi_variances(post)
    rows, reach = found.to_dict("records"), NormalDist().inv_cdf((1 + level) / 2)
    middle, variance = [row["estimate"] for row in rows], [row["quasi_sd"] ** 2 for row in rows]
    ends = [reach * row["quasi_sd"] for row in rows]
    columns = [
        *_named(found),
        Bars(
            f"utility ± {reach:.2f} quasi sd", [value - end for value, end in zip(middle, ends, strict=True)], middle,
            [value + end for value, end in zip(middle, ends, strict=True)],
        ),
        Numbers("utility", middle, [signed(value) for value in middle]),
        Numbers("quasi sd", [row["quasi_sd"] for row in rows], [number(row["quasi_sd"]) for row in rows]),
        Numbers("quasi variance", variance, [number(value) for value in variance]),
    ]  # fmt: skip
    caption = (
        "Quasi-variances: that of one item and that of another add up to the variance of their difference, here to "
        f"within {found['worst_error'].max():.1%} of its standard deviation."
    )
    return PageTable(caption, columns, len(rows))


def wins(post: Posterior, items: list[str]) -> Part:
    """Return how often the row item is preferred to the column item, as a heat map that is a table.

    Parameters
    ----------
    post
        A fit.
    items
        In the order of the ranking; the first are shown.
    """
    shown = items[:_SQUARE]
    shares = post.win_probabilities(shown).to_numpy()
    texts = [[percent(value).rstrip("%") for value in row] for row in shares]
    cut = "" if len(shown) == len(items) else f" The first {len(shown)} of {len(items):,} items."
    caption = (
        "Percent of times that the row item is preferred to the column item, whose number is that of its row; ties "
        f"count half, neither is shown first, the annotator is drawn from the fitted population.{cut}"
    )
    return Heat(caption, shown, shares, texts, "{row} is preferred to {column} with probability {share}.")


def _named(frame: pd.DataFrame) -> list[PageColumn]:
    names: list[PageColumn] = [Words("item", frame["item"].tolist(), names=True)]
    if "type" in frame:
        names.append(Words("type", [str(kind) for kind in frame["type"]], filters=True))
    return names


def _utility(frame: pd.DataFrame, level: float) -> list[PageColumn]:
    middle, lower, upper = (frame[name].tolist() for name in ("mean", "lower", "upper"))
    point = frame["lower"].isna().all()
    under = None if point else [span(*ends) for ends in zip(lower, upper, strict=True)]
    heading = "utility" if point else f"utility, {level:.0%} interval"
    return [
        Bars(heading, lower, middle, upper, frame["safe"].tolist()),
        Numbers("utility", middle, [signed(value) for value in middle], under),
    ]


def _caption(summary: pd.DataFrame, level: float) -> str:
    said = "Utility of each item, the best first; 0 is the average item"
    said += "" if summary["lower"].isna().all() else f"; lines are {level:.0%} intervals"
    return said + ("." if summary["safe"].all() else "; hollow: not shown to be safe.")
