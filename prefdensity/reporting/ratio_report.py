"""A self-contained HTML page about likelihood-ratio tests: which program is large enough for the table."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefdensity.reporting.pages import Page, Section, number
from prefdensity.reporting.parts import Numbers, PageColumn, PageTable, Points, Words

if TYPE_CHECKING:
    import pandas as pd

_SMALL = 0.05  # a p-value below it speaks against the smaller program
_READING = (
    "Twice the gain in log likelihood is compared with a chi-squared distribution, whose degrees of freedom are the "
    "parameters that the larger program has more (Wilks 1938). A small p-value says that the smaller one misses much.",
    "AIC (Akaike 1974) is twice the parameters less twice the log likelihood; the least is expected to predict best.",
    "The deviance is twice the log likelihood that is lost to the observed shares of each distinct comparison.",
    "All of it is for many judgements, and takes those of one annotator as independent.",
)


def write_ratio_report(table: pd.DataFrame, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about likelihood-ratio tests.

    Parameters
    ----------
    table
        Of `prefdensity.likelihood_ratios`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.

    Returns
    -------
    Path
        The file written.
    """
    rows: list[dict[str, Any]] = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
    pairs = list(zip(rows, rows[1:], strict=False))
    enough = rows[0]["program"]
    for _, large in pairs:
        enough = large["program"] if large["p"] < _SMALL else enough
    least = table["program"].iloc[int(table["aic"].argmin())]
    page = Page(
        title,
        f"likelihood-ratio tests of {len(table)} programs, maximum likelihood",
        [_tested(*pair) for pair in pairs],
        verdict=[f"The least AIC, {number(table['aic'].min(), 6)}, has {least}."],
        next=[f"Fit {enough}, and let check say what the data hold against it."],
        plot=_table(table, "Each program tested against the smaller one above it.", _SHORT),
        sections=[
            Section("Programs", parts=[_table(table, "Fits and tests, the fewest parameters first.", _SHOWN)]),
            Section("How to read this", parts=[Points(_READING)]),
        ],
    )
    return page.write(path)


def _tested(small: dict[str, Any], large: dict[str, Any]) -> str:
    """Return what one test says, in a sentence."""
    against = large["p"] < _SMALL
    said = f"is {'too small' if against else 'enough'} beside {large['program']}"
    ratio = f"likelihood ratio {number(large['chi2'])} on {large['df']} df, p {p_value(large['p'])}"
    return f"{small['program']} {said}: {ratio}."


def p_value(p: float) -> str:
    """Return a p-value in words."""
    return "below 0.001" if p < 0.001 else number(p, 2)


_SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", "{:.0f}".format),
    "log_likelihood": ("log likelihood", "{:,.2f}".format),
    "aic": ("AIC", "{:,.2f}".format),
    "deviance": ("deviance", "{:,.2f}".format),
    "df": ("df", "{:.0f}".format),
    "chi2": ("chi2", number),
    "p": ("p", p_value),
}
_SHORT = {name: _SHOWN[name] for name in ("aic", "df", "chi2", "p")}


def _table(table: pd.DataFrame, caption: str, shown: Mapping[str, tuple[str, Callable[[float], str]]]) -> PageTable:
    columns: list[PageColumn] = [Words("program", table["program"].tolist(), names=True)]
    for name, (heading, form) in shown.items():
        values = table[name].astype(float).tolist()
        texts = ["–" if math.isnan(value) else form(value).replace("-", "−") for value in values]
        columns.append(Numbers(heading, values, texts))
    return PageTable(caption, columns, len(table))
