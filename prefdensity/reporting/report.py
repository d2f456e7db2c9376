"""One self-contained HTML page about a fit: what was found, how sure it is, and what to distrust."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from prefdensity.checking.check import check
from prefdensity.checking.report import CheckReport
from prefdensity.data.choices_report import ChoicesReport
from prefdensity.data.remarks import spread
from prefdensity.data.report import DataReport, describe
from prefdensity.posterior.draws import require_spread
from prefdensity.posterior.posterior import require_same_table
from prefdensity.reporting import found, judges, plots, ranking
from prefdensity.reporting.answer import answer, cautions, verdict
from prefdensity.reporting.canvas import item_order
from prefdensity.reporting.cost import COSTS, CostReport, costs_table
from prefdensity.reporting.pages import Page, Part, Section, number, svg, unrooted
from prefdensity.reporting.parts import Code, Listing, Numbers, PageColumn, PageTable, Picture, Points, Words
from prefdensity.words import share

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_ROWS = 300  # rows of parameters that the page shows; parameters.csv has them all
_STANDS = {"stands": True, "in doubt": None, "contradicted": False}


def write_report(
    post: Posterior,
    data: Comparisons | Choices,
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    level: float = 0.9,
    reference: str | None = None,
    command: str | None = None,
    checked: CheckReport | None = None,
    costs: Sequence[CostReport] = (),
) -> Path:
    """Write a self-contained HTML report, which opens offline and prints; return its path.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons, or choices from sets, that it was fitted to.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page; the source of the data by default.
    level
        Posterior mass of the intervals.
    reference
        Item from which differences are counted; None: every two, of many items from the leader.
    command
        Shell command that reproduces the fit; the Python call is always shown.
    checked
        What `check` found of this fit; worked out here if it is not given.
    costs
        What `cost` says of the program beside others that answer findings, to be told with them.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, or the reference is no item, or the fit has no spread to count by.
    """
    require_same_table(post, data)
    if reference is not None:
        require_spread(post, level, reference)
    checked = checked or check(post, data)
    summary, apart = post.summary(level=level), ranking.apart(post, level, reference)
    page = Page(
        title=title or os.path.basename(data.source),
        about=f"{unrooted(post.program_name)} by {post.status.method}, {data.n_judgements:,.0f} judgements",
        answer=_plainly(data, answer(post, checked)),
        verdict=_plainly(data, [verdict(checked)]),
        next=_plainly(data, [checked.advice]),
        stands=_STANDS[checked.verdict],
        plot=ranking.first_rows(summary, level),
        cautions=_plainly(data, cautions(post, data, checked)),
        sections=[each for each in _sections(post, data, level, checked, costs, summary, apart, command) if each.parts],
    )
    return page.write(path)


def _plainly(data: Comparisons | Choices, sentences: Sequence[str]) -> list[str]:
    """Return sentences in which files are called by their last name alone."""
    return [unrooted(said.replace(data.source, os.path.basename(data.source))) for said in sentences]


def _sections(
    post: Posterior, data: Comparisons | Choices, level: float, checked: CheckReport, costs: Sequence[CostReport],
    summary: pd.DataFrame, apart: list[Part], command: str | None,
) -> list[Section]:  # fmt: skip
    order = item_order(post, summary)
    off = [*found.suspicions(checked), *found.additions(checked), found.departures(checked), found.calibration(checked)]
    elbo = [_elbo(post)] if len(post.status.elbo_trace) > 1 else []
    return [
        Section("Ranking", parts=[ranking.ranking(post, data, summary, level)]),
        Section("Differences", parts=apart),
        Section("Who beats whom", parts=[ranking.wins(post, order)]),
        Section("Check", [unrooted(said) for said in (checked.headline, *checked.warnings)], off),
        Section("What it costs", [COSTS], [costs_table(each) for each in costs]),
        Section("Annotators", parts=judges.annotators(post, data) if data.annotators else []),
        Section("Other parameters", parts=_parameters(post, level)),
        Section("Quality of the fit", parts=[Points(post.quality()), *elbo, Listing(_settings(post, data))]),
        Section("How to read this", parts=[Points(_reading(post, level))]),
        Section("The data", parts=[Listing(_facts(data))]),
        Section("To reproduce", parts=[Code([unrooted(each) for each in (command, _call(post)) if each])]),
    ]


def _parameters(post: Posterior, level: float) -> list[Part]:
    """Return all that is no utility and belongs to nobody in particular."""
    table = post.parameters(level=level)
    personal = [name for name, dims in post.dims.items() if "annotator" in dims]
    shown = table[~table["parameter"].isin(personal)].head(_ROWS)
    left = len(table) - len(shown)
    note = f"{left:,} more rows, one for each annotator and the like, are in parameters.csv (or post.parameters())."
    rows = shown.to_dict("records")
    if not rows:
        return [Points([note])] if left else []
    names = [f"{row['parameter']} [{row['index']}]" if row["index"] != "" else row["parameter"] for row in rows]
    columns: list[PageColumn] = [
        Words("parameter", names, names=True),
        Numbers(
            f"mean, {level:.0%} interval", [row["mean"] for row in rows], [number(row["mean"]) for row in rows],
            [ranking.span(row["lower"], row["upper"]) for row in rows],
        ),
        Numbers("sd", [row["sd"] for row in rows], [number(row["sd"], 2) for row in rows]),
        Words("meaning", [row["meaning"] for row in rows], long=True),
    ]  # fmt: skip
    if shown["note"].any():
        columns.append(Words("note", [row["note"] for row in rows]))
    return [PageTable("What the program leaves unknown beside utilities.", columns, len(rows), note if left else "")]


def _elbo(post: Posterior) -> Part:
    trace = post.status.elbo_trace
    late = trace[-max(len(trace) // 10, 2) :]
    seen = (
        f"ELBO from {trace[0]:.1f} to {trace[-1]:.1f} nats; over the last tenth it moves between {min(late):.1f} and "
        f"{max(late):.1f}."
    )
    caption = "Evidence lower bound during the optimisation: it should have levelled off."
    return Picture(svg(plots.elbo_trace(post), "elbo"), caption, seen)


def _reading(post: Posterior, level: float) -> list[str]:
    """Return what the words of the page mean."""
    likelihood = (
        " This is a maximum-likelihood fit: there are no priors, and intervals, ranks and P(best) are those of the "
        "estimate's asymptotic normal distribution."
    )
    mass = f"{level:.0%}"
    said = {
        "Utility": "is the strength of preference for an item, on the scale of the choice rule, with the average item "
        "at 0: only differences between items matter.",
        f"The {mass} interval": f"holds the utility with probability {mass}, given the program and its priors. It does "
        "not cover a program that is wrong for these annotators." + (likelihood if post.status.method == "mle" else ""),
        "The rank": "interval says which places an item may well have; P(best) is the probability of the first place.",
        "Items cannot be told apart": "here if the one with the lower mean is the better one with probability above "
        "5%.",
        "Differences": "of all rows lie in their intervals at once with the probability given; the interval of one row "
        "by itself is shorter, and right for a pair that was chosen before looking.",
        "A check": "compares a statistic of the data with tables that the fitted program makes; tail is the share of "
        "these that depart as far, z the distance in their standard deviations (of cube roots, for sums of squares). "
        "They rank evidence and are no p-values. A suspicion names what would bring about such a departure; whether "
        "another program predicts better is for a comparison to say.",
        "k-hat": "measures how well the approximation fits the posterior: below 0.5 good, below 0.7 usable, above it "
        "the intervals are not to be trusted. The ELBO bounds the log evidence from below; restarts that end far apart "
        "found different answers, and the best one is reported.",
    }
    return [Markup("<b>{}</b> {}").format(name, text) for name, text in said.items()]


def _facts(data: Comparisons | Choices) -> dict[str, str]:
    about = describe(data)
    pairs = about.n_items * (about.n_items - 1) // 2
    each = about.JUDGED
    rows = {
        "source": os.path.basename(about.source),
        **(_of_sets(about) if isinstance(about, ChoicesReport) else {}),
        **(_of_pairs(about) if isinstance(about, DataReport) else {}),
        "items": f"{about.n_items:,}, with {spread(about.items[each])} {each} each",
        "pairs": f"{about.n_pairs:,} of {pairs:,} compared, in {about.n_components:,} connected group(s)",
        "annotators": f"{about.n_annotators:,}, with {spread(about.annotators[each])} {each} each"
        if about.n_annotators
        else "not recorded",
        "notes": unrooted("; ".join(about.notes).replace(about.source, os.path.basename(about.source))),
    }
    return {name: value for name, value in rows.items() if value}


def _of_sets(about: ChoicesReport) -> dict[str, str]:
    return {
        "answers": f"{about.n_answers:,}, read as {about.n_judgements:,.0f} choices",
        "sets": f"{spread(about.sets['items'])} items, of which {spread(about.sets['places'])} places are told",
    }


def _of_pairs(about: DataReport) -> dict[str, str]:
    ties = f"{share(about.tie_share)} of them" if about.tie_share else "no"
    return {
        "judgements": f"{about.n_judgements:,.0f}, {ties} ties",
        "contexts": f"{about.n_contexts:,}" if about.n_contexts else "not recorded",
        "order shown": "not recorded" if about.both_orders is None else about.said_of_first,
    }


def _call(post: Posterior) -> str:
    asked = {"method": post.status.asked, "seed": post.status.seed, **post.status.settings}
    how = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    return f"prefdensity.fit({post.program_name!r}, data, {how})"


def _settings(post: Posterior, data: Comparisons | Choices) -> dict[str, str]:
    status = post.status
    rows = {
        "program": unrooted(post.program_name),
        "method": status.method + (", importance-corrected" if status.corrected else ""),
        "settled": ("yes: " if status.converged else "no: ") + status.message,
        "k-hat": number(status.k_hat),
        "ELBO": number(status.elbo, 6) + (f" ± {number(status.elbo_se, 2)}" if status.elbo_se else ""),
        "log evidence": number(status.log_evidence, 6),
        "R-hat": number(status.r_hat, 4),
        "effective draws": number(status.effective, 4)
        + (f" of {status.proposals:,} proposals" if status.proposals else ""),
        "restarts": ", ".join(number(value, 6) for value in status.restart_values[1:] and status.restart_values),
        "log likelihood": number(status.log_likelihood, 6),
        "draws": f"{post.n_draws:,}",
        "steps": f"{status.steps:,}",
        "time": f"{number(status.seconds)} seconds on {status.device}",
        "seed": str(status.seed),
        "data": f"{os.path.basename(data.source)}, fingerprint {data.fingerprint()}",
        "versions": ", ".join(f"{name} {version}" for name, version in status.versions.items()),
    }
    return {name: value for name, value in rows.items() if value not in ("", "–")}
