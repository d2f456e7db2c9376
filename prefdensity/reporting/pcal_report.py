"""Self-contained HTML pages about a design, and about a preference-calibrated estimate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefdensity.reporting import pcal_plots
from prefdensity.reporting.pages import Page, Part, Section, number, svg
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Picture, Words, plain
from prefdensity.words import share

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.judged.expectations import JudgeFit
    from prefdensity.pcal.estimate import PcalEstimate
    from prefdensity.pcal.plan import PcalDesign

_ALONE = "labels only"
_KINDS = {_ALONE: "plain", "labels and unlabelled": "third", "labels and free measures": "third"}
_BUYING = (
    "Buy by lot with the probabilities that units.csv (or PcalDesign.assign) gives, keep these columns, and leave "
    "cells empty where nothing was bought; then estimate from the whole list.",
)
_BOUGHT = (
    "What was planned, asked for and came back, and whether who judges, or what they say, depends on a label being "
    "bought. What depends on the label itself beyond covariates, outputs and verdicts cannot be seen."
)
_RESIDUALS = (
    "Labels less what the nuisance expects of them, by group; |z| above 3 speaks against the nuisance. That costs "
    "length and never validity: no warning."
)
_STANDS = "No test of the purchases speaks against the plan."
_FINE = "Report the PCAL intervals, and say how purchases were made."
_WARNED = "Settle the warnings first: whether an interval is valid rests on how purchases and verdicts were made."


def write_design_report(
    design: PcalDesign,
    planned: pd.DataFrame,
    path: str | os.PathLike[str],
    title: str,
    *,
    level: float = 0.9,
    judge: JudgeFit | None = None,
) -> Path:
    """Write a self-contained page about a design: who is bought, at what precision.

    Parameters
    ----------
    design
        From `pcal_design`.
    planned
        From `PcalDesign.apply` or `PcalDesign.assign`: the units to buy from.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    level
        Mass of the intervals.
    judge
        The program that the design believes, if it is one.

    Returns
    -------
    Path
        The file written.
    """
    p1, p2 = (planned[f"{name}_probability"].to_numpy(float) for name in ("label", "preference"))
    spent = (design.cost - 1) * p1.mean() + p2.mean()
    headline = [
        f"Label {share(p1.mean())} of {len(planned):,} units and compare {share((p2 - p1).mean())} more, at "
        f"{spent:.4g} a unit (a preference costs 1, a label with its preference {design.cost:g}).",
        design.worth,
    ]
    outputs = (design.pilot.features[-2], design.pilot.features[-1])
    seen = (
        f"Above the units by their probability of a label: on average {share(p1.mean())} are labelled, "
        f"{share((p2 - p1).mean())} compared only. Below both probabilities by the distance of the outputs."
    )
    allocation = svg(pcal_plots.allocation(planned, outputs), "allocation")
    drawn = Picture(allocation, "Who is bought: shares of the units, and how they vary with the outputs.", seen)
    sections = []
    if design.single:
        length = design.length(len(planned), level)
        headline.append(f"The {level:.0%} interval that this design aims at will be about {length:.4g} long.")
        curve = svg(pcal_plots.cost_precision(design, len(planned), level), "curve")
        says = "What another budget would buy: the length of the interval, and what the budget is spent on."
        seen = f"The length falls with the budget; at {design.budget:g} a unit, which is marked, it is {length:.4g}."
        sections.append(Section("Budget and precision", parts=[Picture(curve, says, seen)]))
    page = Page(
        title, "plan of purchases", headline, plot=drawn, next=_BUYING, sections=[*sections, *_about(judge, level)]
    )
    return page.write(path)


def write_estimate_report(
    estimate: PcalEstimate,
    path: str | os.PathLike[str],
    title: str,
    *,
    judge: JudgeFit | None = None,
) -> Path:
    """Write a self-contained page about an estimate: intervals, what preferences added, what to distrust.

    Parameters
    ----------
    estimate
        From `pcal`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    judge
        The program behind the nuisance, if it is one.

    Returns
    -------
    Path
        The file written.
    """
    comparison, warned = estimate.comparison(), estimate.warnings
    found = f"{len(warned)} warning{'s' if len(warned) > 1 else ''}: read below before the numbers."
    page = Page(
        title,
        "estimate from labels and preferences",
        _headline(estimate, comparison),
        verdict=[found if warned else _STANDS],
        next=[_WARNED if warned else _FINE],
        stands=None if warned else True,
        plot=against_labels(comparison, estimate.level),
        cautions=warned,
        sections=[*_evidence(estimate, comparison), *_about(judge, estimate.level)],
    )
    return page.write(path)


def _evidence(estimate: PcalEstimate, comparison: pd.DataFrame) -> list[Section]:
    """Return the tables behind an estimate: other intervals, how purchases went, what the nuisance is worth."""
    checked = estimate.purchases
    purchases = [
        plain("Bought and returned.", checked.counts),
        plain("Tests of the purchases: small p-values speak against the plan.", checked.tests),
        plain("Judges: shares of the compared units that they judged.", checked.judges),
    ]
    without = "The same purchases, without preferences and from labels alone."
    multipliers = "Multipliers, weights, precision and spending."
    return [
        Section("Intervals", parts=[plain(without, comparison)]),
        Section("Purchases", [_BOUGHT], purchases),
        Section("Diagnostics", parts=[plain(multipliers, estimate.diagnostics())]),
        Section("Calibration residuals", parts=[plain(_RESIDUALS, estimate.residuals())]),
    ]


def against_labels(comparison: pd.DataFrame, level: float) -> Part:
    """Return the intervals of all methods, drawn in half lengths of that of labels alone."""
    alone = comparison[comparison["method"] == _ALONE].set_index("parameter").loc[comparison["parameter"]]
    half = ((alone["upper"] - alone["lower"]) / 2).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        low, middle, high = (
            ((comparison[name].to_numpy() - alone["estimate"].to_numpy()) / half).tolist()
            for name in ("lower", "estimate", "upper")
        )
    rows = comparison.to_dict("records")
    ends = [f"{number(row['lower'])} to {number(row['upper'])}" for row in rows]
    values = [row["estimate"] for row in rows]
    columns: list[PageColumn] = [
        Words("parameter", [row["parameter"] for row in rows], names=True, under=[row["method"] for row in rows]),
        Bars("scale: labels only", low, middle, high, kinds=[_KINDS.get(row["method"], "") for row in rows]),
        Numbers(f"{level:.0%} interval", values, [number(value) for value in values], ends),
    ]
    caption = (
        f"Estimates with {level:.0%} intervals, drawn so that the interval of labels only reaches from -1 to 1: "
        "parameters differ in scale, and shorter is better."
    )
    return PageTable(caption, columns, len(rows))


def _headline(estimate: PcalEstimate, comparison: pd.DataFrame) -> list[str]:
    """Return what preferences were worth, at equal cost where it is known, and what was bought."""
    judged, out = estimate.judged, []
    if judged.cost is not None:
        shares = _shares(estimate.equal_cost()["ratio"].to_numpy())
        out.append(
            f"{estimate.level:.0%} intervals are {shares} as long as had the same money gone to labels alone, at "
            f"{judged.cost:g} a label with its preference (unlabelled units used in both)."
        )
    labelled, more = int(judged.labelled.sum()), int((judged.compared & ~judged.labelled).sum())
    se = comparison.pivot_table(index="parameter", columns="method", values="se", sort=False)
    same = _shares((se["PCAL"] / se["labels only"]).to_numpy())
    out.append(
        f"{labelled:,} labels, {more:,} preferences without a label and {len(judged) - labelled - more:,} units with "
        f"neither give intervals {same} as long as the labels alone, whose cost is less"
        f"{'' if judged.cost is not None else '; give the cost of a label for a comparison at equal money'}."
    )
    for name, count in judged.aside:
        out.append(f"{count:,} verdicts of {name} are set aside: they are not used as preferences.")
    return out


def _shares(ratio: NDArray[np.float64]) -> str:
    low, high = f"{ratio.min():.0%}", f"{ratio.max():.0%}"
    return low if low == high else f"{low} to {high}"


def _about(judge: JudgeFit | None, level: float) -> list[Section]:
    if judge is None:
        return []
    return [Section("The judge", parts=[plain(judge.gain(), judge.summary(level))])]
