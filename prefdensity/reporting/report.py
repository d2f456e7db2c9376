"""One self-contained HTML page about a fit: what was found, how sure it is, and what to distrust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefdensity.checking.check import check
from prefdensity.checking.report import CheckReport
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.report import describe
from prefdensity.posterior.posterior import require_same_table
from prefdensity.reporting import plots
from prefdensity.reporting.pages import number, render, svg, write_page
from prefdensity.version import __version__
from prefdensity.words import percent, share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from prefdensity.data.choices import Choices
    from prefdensity.data.report import DataReport
    from prefdensity.posterior.posterior import Posterior

_ROWS = 200  # rows of a table that the page shows; summary.csv has them all
_ROWS_OF_TYPE = 20
_DOUBT = 0.05  # an item is a rival while the probability that it beats the leader exceeds this


def write_report(
    post: Posterior,
    data: Comparisons,
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    level: float = 0.9,
    command: str | None = None,
    checked: CheckReport | None = None,
) -> Path:
    """Write a self-contained HTML report: no scripts, no links, opens offline.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons that it was fitted to.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page; the source of the data by default.
    level
        Posterior mass of the intervals.
    command
        Shell command that reproduces the fit; the Python call is always shown.
    checked
        What `check` found of this fit; worked out here if it is not given.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted.
    """
    require_same_table(post, data)
    checked = checked or check(post, data)
    figures = _figures(post, data, level) | _check_figures(checked)
    drawn = {name: svg(figure, name) for name, figure in figures.items()}
    page = render(
        "report.html.jinja",
        _contents(post, data, level)
        | {"lead": lead(post, checked), "cautions": cautions(post, data, checked)}
        | {"figures": drawn, "title": title or os.path.basename(data.source), "command": command, "checked": checked},
    )
    return write_page(page, path)


def lead(post: Posterior, checked: CheckReport) -> list[str]:
    """Return who leads, how sure that is, and what the data say against the program, what matters most first.

    Parameters
    ----------
    post
        A fit.
    checked
        What `check` found. Claims of a program that the data contradict are worded as such.
    """
    warned = ["The fit failed its own checks: read the warnings before these numbers."] if post.troubles() else []
    if checked.verdict == "contradicted":
        return [checked.headline, *leaders(post, checked), *warned]
    often = " So much doubt falls on some one in twenty programs that are right."
    return [*leaders(post), *warned, checked.headline + (often if checked.verdict == "in doubt" else "")]


def leaders(post: Posterior, contradicted: CheckReport | None = None) -> list[str]:
    """Return who leads and how sure that is, in sentences; one paragraph for each annotator type, the largest first.

    Parameters
    ----------
    post
        A fit.
    contradicted
        A check that contradicts the program: then these are no more than what the program would say.
    """
    summary, draws = post.summary(), post.utilities()
    supposing = f"if {post.program_name} were right, " if contradicted else ""
    if draws.ndim == 2:
        only = _leader(post, summary, draws, supposing)
        return [only[0].upper() + only[1:] if supposing else only]
    weight = post.draws["type_weight"].mean(0)
    whose = "Annotators" if "type_probability" in post.draws else "Judgements"
    said = []
    for k in post.types_by_size():
        leader = _leader(post, summary[summary["type"] == k + 1], draws[:, k], supposing)
        said.append(f"{whose} of type {k + 1} ({percent(weight[k])}): {leader}")
    return said


def _leader(post: Posterior, summary: pd.DataFrame, draws: NDArray[np.float64], supposing: str) -> str:
    """Return who leads among the draws [draw, item]; in the conditional mood after `supposing`."""
    has, is_best, is_worse, cannot = (
        ("would have", "be the best", "would be worse", "could not")
        if supposing
        else ("has", "is the best", "is worse", "cannot")
    )
    name, size = summary["item"].iloc[0], len(summary)
    called = supposing + (f"item {name}" if supposing else f"Item {name}") if name.isdigit() else supposing + name
    if post.is_point:
        return f"{called} {has} the highest estimate of {size} items; a point fit does not say how sure this is."
    sure = percent(summary["p_best"].iloc[0])
    first = f"{called} {has} the highest utility of {size} items, and {is_best} with probability {sure}."
    beats = (draws > draws[:, [post.items.index(name)]]).mean(axis=0)
    rivals = [post.items[i] for i in beats.argsort(kind="stable")[::-1] if beats[i] > _DOUBT]
    if not rivals:
        return f"{first} Every other item {is_worse} with probability {1 - _DOUBT:.0%} or more."
    named = ", ".join(rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
    many = "1 item" if len(rivals) == 1 else f"{len(rivals)} items"
    doubt = f"better with probability above {_DOUBT:.0%}"
    return f"{first} {many} {cannot} be told apart from it ({doubt}): {named}."


def cautions(post: Posterior, data: Comparisons | Choices, checked: CheckReport | None = None) -> list[str]:
    """Return what to read before relying on a fit, each sentence once, what matters most first.

    Parameters
    ----------
    post, data
        A fit and the table that it was fitted to; what its program accounts for is no matter of concern.
    checked
        What `check` found; what it does not bear out is not said.
    """
    against = [checked.caution] if checked and checked.caution else []
    passed = checked.table["check"][checked.table["verdict"] == "as expected"].tolist() if checked else []
    of_data = data.warnings if data.SETS else describe(data.pairs()).given(_known(post), passed)
    return list(dict.fromkeys([*against, *post.troubles(), *of_data, *post.status.warnings]))


def _contents(post: Posterior, data: Comparisons, level: float) -> dict[str, Any]:
    about, summary, parameters = describe(data), post.summary(level=level), post.parameters(level=level)
    personal = [name for name, dims in post.dims.items() if "annotator" in dims]
    shared = parameters[~parameters["parameter"].isin(personal)].head(_ROWS)
    shown = summary.groupby("type").head(_ROWS_OF_TYPE) if "type" in summary else summary.head(_ROWS)
    return {
        "facts": _facts(about),
        "summary": shown.to_dict("records"),
        "typed": "type" in summary,
        "noted": bool(summary["note"].any() or parameters["note"].any()),
        "left_out": len(summary) - len(shown),
        "method": post.status.method,
        "parameters": shared.to_dict("records"),
        "parameters_left_out": len(parameters) - len(shared),
        "annotator_caption": plots.annotator_caption(post),
        "quality": post.quality(),
        "settings": _settings(post, data),
        "level": f"{level:.0%}",
        "doubt": f"{_DOUBT:.0%}",
        "call": _call(post),
        "version": __version__,
    }


def _facts(about: DataReport) -> dict[str, str]:
    pairs = about.n_items * (about.n_items - 1) // 2
    ties = f"{share(about.tie_share)} of them" if about.tie_share else "no"
    rows = {
        "source": about.source,
        "judgements": f"{about.n_judgements:,.0f}, {ties} ties",
        "items": f"{about.n_items:,}, with {_spread(about.items)} judgements each",
        "pairs": f"{about.n_pairs:,} of {pairs:,} compared, in {about.n_components:,} connected group(s)",
        "annotators": f"{about.n_annotators:,}, with {_spread(about.annotators)} judgements each"
        if about.n_annotators
        else "not recorded",
        "contexts": f"{about.n_contexts:,}" if about.n_contexts else "not recorded",
        "order shown": "not recorded"
        if about.first_share is None
        else f"the first won {share(about.first_share)} of the decided judgements",
        "notes": "; ".join(about.notes),
    }
    return {name: value for name, value in rows.items() if value}


def _spread(table: pd.DataFrame) -> str:
    sizes = table["judgements"]
    return f"{sizes.min():,.0f} to {sizes.max():,.0f} (median {sizes.median():,.0f})"


def _known(post: Posterior) -> set[str]:
    """Return what a program knows of, in the words of `Remark`: its needs, and items if these are free."""
    free = "utility" in post.event_dims  # drawn for each item, not made of its features
    return {*post.program.needs, "item"} if free else set(post.program.needs)


def _call(post: Posterior) -> str:
    asked = {"method": post.status.method, "seed": post.status.seed, **post.status.settings}
    how = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    return f"prefdensity.fit({post.program_name!r}, data, {how})"


def _settings(post: Posterior, data: Comparisons) -> dict[str, str]:
    status = post.status
    rows = {
        "program": post.program_name,
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
        "data": f"{data.source}, fingerprint {data.fingerprint()}",
        "versions": ", ".join(f"{name} {version}" for name, version in status.versions.items()),
    }
    return {name: value for name, value in rows.items() if value not in ("", "–")}


def _figures(post: Posterior, data: Comparisons, level: float) -> dict[str, Figure]:
    figures = {"ranking": plots.ranking(post, level=level), "wins": plots.win_heatmap(post)}
    if not post.is_point:
        figures["ranks"] = plots.rank_intervals(post, level=level)
    if data.annotators:
        figures["annotators"] = plots.annotators(post, data)
    if len(post.status.elbo_trace) > 1:
        figures["elbo"] = plots.elbo_trace(post)
    return figures


def _check_figures(checked: CheckReport) -> dict[str, Figure]:
    return {"checks": plots.check(checked), "calibration": plots.calibration(checked.calibration)}
