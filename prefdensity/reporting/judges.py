"""Parts of a report about annotators: what they did, what the fit says of them, who stands out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefdensity.posterior.people import annotator_table
from prefdensity.reporting import plots
from prefdensity.reporting.pages import Part, number, svg
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Picture, Points, Words
from prefdensity.words import percent, share

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_MOST = 1000  # rows; annotators.csv has them all
_NAMED = 12
_SHARES = {
    "agreement": "agreement", "hit_rate": "hit rate", "tie_share": "ties", "first_share": "first shown wins",
}  # fmt: skip
_MEANING = {
    "judgements": "agreement is the share of their decided judgements that are for the item of the higher utility",
    "answers": "agreement is the share of what their answers prefer of two that is for the item of the higher utility, "
    "hit rate that of their answers whose best is the item of the highest utility in its set",
}


def annotators(post: Posterior, data: Comparisons | Choices) -> list[Part]:
    """Return who stands out, a row for each annotator, and a picture of their habits where these are all there is."""
    table = annotator_table(post, data)
    table = table.assign(flagged=table["flag"] != "").sort_values(
        ["flagged", data.JUDGED], ascending=False, kind="stable"
    )
    flagged = table[table["flagged"]]
    found: list[Part] = []
    if len(flagged):
        named = [f"{row['annotator']}: {row['flag']}" for row in flagged.head(_NAMED).to_dict("records")]
        if len(flagged) > _NAMED:
            named.append(f"and {len(flagged) - _NAMED:,} more, first in the table")
        found.append(Points(named))
    found.append(_table(post, table, data.JUDGED))
    habits = not data.SETS and bool(table["tie_share"].fillna(0).any() or table["first_share"].notna().any())
    if habits and not plots.personal(post) and "type_probability" not in post.dims:
        drawn = svg(plots.annotators(post, data), "annotators")
        out = ", ".join(flagged["annotator"].head(5)) or "nobody"
        seen = f"Annotators as dots by their number of judgements; flagged in the table: {out}."
        found.append(Picture(drawn, plots.annotator_caption(post), seen))
    return found


def _table(post: Posterior, table: pd.DataFrame, judged: str) -> Part:
    shown = table.head(_MOST)
    columns: list[PageColumn] = [Words("annotator", shown["annotator"].tolist(), names=True)]
    for name in (each for each in plots.personal(post) if each in shown):
        columns += _own(post, name, shown)
    votes = shown[judged].tolist()
    columns.append(Numbers(judged, votes, [f"{value:,.10g}" for value in votes]))
    for name, heading in _SHARES.items():
        if name in shown and shown[name].notna().any():
            values = shown[name].tolist()
            columns.append(Numbers(heading, values, [share(value) for value in values]))
    for name in (each for each in shown.columns if each.startswith("p_type_")):
        values = shown[name].tolist()
        columns.append(Numbers(f"P(type {name.removeprefix('p_type_')})", values, [percent(value) for value in values]))
    if shown["flagged"].any():
        columns.append(Words("flag", shown["flag"].tolist(), filters=True, long=True))
    flags = int(table["flagged"].sum())
    meaning = f"{plots.annotator_caption(post)} " if plots.personal(post) else ""
    order = f"{flags:,} flagged, these" if flags else "none flagged, the busiest"
    caption = f"{meaning}{len(table):,} annotators, {order} first; {_MEANING[judged]}."
    left = len(table) - len(shown)
    note = f"{left:,} more rows are written by prefdensity tables (or prefdensity.annotator_table)." if left else ""
    return PageTable(caption, columns, len(shown), note)


def _own(post: Posterior, name: str, shown: pd.DataFrame) -> list[PageColumn]:
    """Return a number of each annotator with its interval, as a bar and in digits."""
    place = {label: k for k, label in enumerate(post.annotators)}
    rows = [place[label] for label in shown["annotator"]]
    draws, words = post.draws[name][:, rows], name.replace("_", " ")
    middle = draws.mean(0)
    spread = len(draws) > 1
    lower, upper = np.quantile(draws, [0.05, 0.95], axis=0) if spread else (np.full(len(rows), np.nan),) * 2
    heading = f"{words}, 90% interval" if spread else words
    return [
        Bars(heading, lower.tolist(), middle.tolist(), upper.tolist(), zero=float(post.draws[name].mean())),
        Numbers(words, middle.tolist(), [number(value) for value in middle]),
    ]
