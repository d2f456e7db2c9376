"""Self-contained HTML pages about a design, and about a preference-calibrated estimate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefdensity.reporting import pcal_plots
from prefdensity.reporting.pages import render, svg, write_page
from prefdensity.version import __version__
from prefdensity.words import share

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

    from prefdensity.judged.expectations import JudgeFit
    from prefdensity.pcal.estimate import PcalEstimate
    from prefdensity.pcal.plan import Design


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page: its heading, a sentence or caption, a picture, a table."""

    heading: str
    says: str
    figure: Markup | None = None
    table: pd.DataFrame | None = None


def write_design_report(
    design: Design,
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
        From `Design.apply` or `Design.assign`: the units to buy from.
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
        f"{spent:.4g} a unit (a preference costs 1, a label with its preference {design.cost:g}). {design.worth}"
    ]
    outputs = (design.pilot.features[-2], design.pilot.features[-1])
    allocation = svg(pcal_plots.allocation(planned, outputs), "allocation")
    sections = [Section("Who is bought", "Shares of the units, and how they vary with the outputs.", allocation)]
    if design.single:
        length = design.length(len(planned), level)
        headline.append(f"The {level:.0%} interval that this design aims at will be about {length:.4g} long.")
        curve = svg(pcal_plots.cost_precision(design, len(planned), level), "curve")
        says = "What another budget would buy: the length of the interval, and what the budget is spent on."
        sections.append(Section("Budget and precision", says, curve))
    return _write(path, title, headline, (), sections + _about(judge, level))


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
    comparison = estimate.comparison()
    picture = svg(pcal_plots.interval_comparison(comparison), "comparison")
    checked = estimate.purchases
    bought = (
        "What was planned, asked for and came back, and whether who judges, or what they say, depends on a label being "
        "bought. What depends on the label itself beyond covariates, outputs and verdicts cannot be seen."
    )
    sections = [
        Section("Intervals", "The same purchases, without preferences and from labels alone.", picture, comparison),
        Section("Purchases", bought, None, checked.counts),
        Section("Purchases: what was seen", "Small p-values speak against the plan.", None, checked.tests),
        Section("Purchases: judges", "Shares of the compared units that they judged.", None, checked.judges),
        Section("Diagnostics", "Multipliers, weights, precision and spending.", None, estimate.diagnostics()),
        Section(
            "Calibration residuals",
            "Labels less what the nuisance expects of them, by group; |z| above 3 speaks against the nuisance. That "
            "costs length and never validity: no warning.",
            None,
            estimate.residuals(),
        ),
    ]
    return _write(
        path, title, _headline(estimate, comparison), estimate.warnings, sections + _about(judge, estimate.level)
    )


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
    return [] if judge is None else [Section("The judge", judge.gain(), None, judge.summary(level))]


def _write(
    path: str | os.PathLike[str], title: str, headline: list[str], warnings: tuple[str, ...], sections: list[Section]
) -> Path:
    contents = {
        "title": title, "version": __version__, "headline": headline, "warnings": warnings,
        "sections": sections,
    }  # fmt: skip
    return write_page(render("pcal.html.jinja", contents), path)
