"""Pictures and pages about plans for a ladder of measurements."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from prefdensity.reporting.canvas import COLOURS, FAINT
from prefdensity.reporting.pages import Page, Section, number, svg
from prefdensity.reporting.parts import Picture, Points, plain
from prefdensity.reporting.pcal_plots import bare
from prefdensity.reporting.pcal_report import against_labels

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.pcal.ladder import LadderEstimate
    from prefdensity.pcal.ladder_option import LadderOption
    from prefdensity.pcal.ladder_plan import LadderPlan

_WAYS = {
    "labels_only": ("labels only", COLOURS[6]),
    "labels_and_free": ("labels and free measures", COLOURS[4]),
    "ladder": ("ladder", COLOURS[0]),
}
CHECKLIST = (
    "Buy by lot, in the numbers of the list: the probabilities are part of the estimate.",
    "Measure in the same way whatever else is bought of a unit: the same people and models, who know the same.",
    "Keep the column of probabilities; leave cells empty where nothing was bought.",
    "Look after what does not come back: intervals hold if nothing is lost.",
    "The pilot speaks for units like its own; if the judges are worse elsewhere, intervals are longer, not wrong.",
)
KEPT = "What was bought before stays in the estimate: units and judges must be as they were then."


def cost_curve(plan: LadderPlan, curve: pd.DataFrame) -> Figure:
    """Draw the half length of the interval against the money, of the plan and of what it is set beside.

    Parameters
    ----------
    plan
        Whose money is marked.
    curve
        From `LadderPlan.curve`.
    """
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    ax = figure.subplots()
    for column, (name, colour) in _WAYS.items():
        ax.plot(curve["money"], curve[column], color=colour, label=name)
    ax.plot([plan.money], [plan.half()], "o", color=COLOURS[1])
    ax.set(xscale="log", yscale="log")
    ax.set_xlabel("money", fontsize=9, color=FAINT)
    ax.set_ylabel(f"half length of the {plan.level:.0%} interval", fontsize=9, color=FAINT)
    bare(ax)
    figure.legend(frameon=False, fontsize=9, ncols=3, loc="outside upper center")
    return figure


def headline(plan: LadderPlan) -> list[str]:
    """Return what a plan says, in sentences: what is bought, at what precision, against labels alone."""
    option = plan.best()[0]
    list_ = plan.shopping().to_dict("records")
    ways = plan.ways().set_index("way")["half"]
    bought = ", ".join(f"{row['units']:,.0f} {row['what']} for {row['cost']:,.4g}" for row in list_)
    best = min(ways["labels only"], ways["labels and free measures"])
    return [
        f"For {plan.money:,.6g}: {bought}.",
        f"Expected: +- {ways['ladder']:.3g} ({plan.level:.0%} interval). The same money spent on labels only gives +- "
        f"{ways['labels only']:.3g}, on labels beside the free measures +- {ways['labels and free measures']:.3g}"
        + (f"; the ladder is {1 - ways['ladder'] / best:.0%} shorter than the better one." if len(list_) > 1 else "."),
        *_useless(plan, option, ways["ladder, judges useless"]),
    ]


def _useless(plan: LadderPlan, option: LadderOption, half: float) -> list[str]:
    """Return what a plan rests on in a sentence each: judges that are asked, or that nothing beside labels is."""
    if len(option.names) > 1:
        return [f"If what is bought beside labels told nothing after all, the interval would be +- {half:.3g}."]
    out = ["For this money nothing beside labels is worth its price."] if len(plan.pilot.ladder) > 1 else []
    if option.alone and plan.options[1].learned:
        out.append("So few labels cannot tell how to weigh the free measures: estimate without them.")
    return out


def write_plan_report(plan: LadderPlan, curve: pd.DataFrame, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about a plan: the shopping list, precision, prices, what it rests on.

    Parameters
    ----------
    plan
        From `prefdensity.pcal.ladder_plan`.
    curve
        From `LadderPlan.curve`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    """
    option = plan.best()[0]
    ladder = ", ".join(option.names[::-1])
    seen = (
        f"Half lengths fall with the money; at {plan.money:,.6g}, which is marked, the ladder gives {plan.half():.3g}."
    )
    drawn = Picture(
        svg(cost_curve(plan, curve), "curve"),
        f"More or less money, from {plan.units:,} units; the plan is marked.",
        seen,
    )
    sections = [
        Section("Shopping list", parts=[plain(f"The ladder that is bought from: {ladder}.", plan.shopping())]),
        Section("At equal cost", parts=[plain("What the same money gives: labels bought, half lengths.", plan.ways())]),
        *(_judges(plan) if len(plan.pilot.ladder) > 1 else []),
        Section("What it rests on", parts=[Points((*CHECKLIST, KEPT) if option.kept else CHECKLIST)]),
    ]
    page = Page(
        title, "plan for a ladder of measurements", headline(plan), plot=drawn, next=CHECKLIST[:1], sections=sections
    )
    return page.write(path)


def _judges(plan: LadderPlan) -> list[Section]:
    """Return what judges may cost, and what is lost if they are worse than they looked."""
    prices = "Break-even prices: what a rung may add to the price before it is no longer worth having."
    worse = (
        "Half lengths if this share of what bought measures told in the pilot is not told in the end: as planned, had "
        "it been known (best), and without any judge."
    )
    return [
        Section("Prices", parts=[plain(prices, plan.break_even())]),
        Section("If the judges are worse", parts=[plain(worse, plan.worse())]),
    ]


def write_ladder_report(estimate: LadderEstimate, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about an estimate from a ladder: intervals, and whether purchases went by the plan.

    Parameters
    ----------
    estimate
        From `prefdensity.pcal.ladder`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    """
    comparison, warned = estimate.comparison(), estimate.warnings
    se = comparison.pivot_table(index="parameter", columns="method", values="se", sort=False)
    ratio = se["ladder"] / se["labels only"]
    low, high = f"{ratio.min():.0%}", f"{ratio.max():.0%}"
    table = estimate.summary()
    first = table.iloc[0]
    estimated, ends = number(first["estimate"], 4), [number(first[name], 4) for name in ("lower", "upper")]
    known = f"The estimate of {first['parameter']} is {estimated} ({' to '.join(ends)})"
    page = Page(
        title,
        "estimate from a ladder of measurements",
        [
            f"{known}{f'; {len(table) - 1} more parameters are below' if len(table) > 1 else ''}.",
            f"{estimate.level:.0%} intervals are {low if low == high else f'{low} to {high}'} as long as those of the "
            "same labels alone.",
        ],
        verdict=list(warned) or ["No test of the purchases speaks against the plan."],
        next=["Settle the warnings before using the intervals." if warned else "Report the intervals of the ladder."],
        stands=None if warned else True,
        plot=against_labels(comparison, estimate.level),
        sections=[
            Section("Intervals", parts=[plain("The same purchases, by how much of them is used.", comparison)]),
            Section("Purchases", parts=[plain("Small p-values speak against the plan.", estimate.purchase_tests())]),
            Section("What it rests on", parts=[Points(CHECKLIST[:4])]),
        ],
    )
    return page.write(path)
