"""One self-contained HTML page about a fit: what was found, how sure it is, and what to distrust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import prefdensity
from prefdensity import plots
from prefdensity.checks import CheckReport, check
from prefdensity.pages import number, render, svg, write_page
from prefdensity.posterior import require_same_table
from prefdensity.words import percent, share

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from prefdensity.comparisons import Comparisons
    from prefdensity.data_report import DataReport
    from prefdensity.posterior import Posterior
    from prefdensity.programs import Program

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
    program: Program | None = None,
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
    program
        Needed when the fit is of a program from a user's file; files are never run unasked.

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
    checked = check(post, data, program=program)
    figures = _figures(post, data, level, program) | _check_figures(checked)
    drawn = {name: svg(figure, name) for name, figure in figures.items()}
    page = render(
        "report.html.jinja",
        _contents(post, data, level)
        | {"figures": drawn, "title": title or os.path.basename(data.source), "command": command, "checked": checked},
    )
    return write_page(page, path)


def headline(post: Posterior) -> list[str]:
    """Return who leads and how sure that is, in sentences; one paragraph for each annotator type.

    Parameters
    ----------
    post
        A fit.
    """
    summary, draws = post.summary(), post.utilities()
    if draws.ndim == 2:
        return [_leader(post, summary, draws)]
    size = post.draws["type_probability"].mean(axis=(0, 1))
    said = []
    for k in range(draws.shape[1]):
        leader = _leader(post, summary[summary["type"] == k + 1], draws[:, k])
        said.append(f"Annotators of type {k + 1} ({percent(size[k])}): {leader}")
    return said


def _leader(post: Posterior, summary: pd.DataFrame, draws: NDArray[np.float64]) -> str:
    name, size = summary["item"].iloc[0], len(summary)
    called = f"Item {name}" if name.isdigit() else name
    if post.is_point:
        return f"{called} has the highest estimate of {size} items; a point fit does not say how sure this is."
    sure = percent(summary["p_best"].iloc[0])
    lead = f"{called} has the highest utility of {size} items, and is the best with probability {sure}."
    beats = (draws > draws[:, [post.items.index(name)]]).mean(axis=0)
    rivals = [post.items[i] for i in beats.argsort(kind="stable")[::-1] if beats[i] > _DOUBT]
    if not rivals:
        return f"{lead} Every other item is worse with probability {1 - _DOUBT:.0%} or more."
    named = ", ".join(rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
    many = "1 item" if len(rivals) == 1 else f"{len(rivals)} items"
    doubt = f"better with probability above {_DOUBT:.0%}"
    return f"{lead} {many} cannot be told apart from it ({doubt}): {named}."


def _contents(post: Posterior, data: Comparisons, level: float) -> dict[str, Any]:
    about, summary, parameters = data.report(), post.summary(level=level), post.parameters(level=level)
    personal = [name for name, dims in post.dims.items() if "annotator" in dims]
    shared = parameters[~parameters["parameter"].isin(personal)].head(_ROWS)
    shown = summary.groupby("type").head(_ROWS_OF_TYPE) if "type" in summary else summary.head(_ROWS)
    return {
        "headline": headline(post),
        "warnings": _cautions(post, about),
        "facts": _facts(about),
        "summary": shown.to_dict("records"),
        "typed": "type" in summary,
        "left_out": len(summary) - len(shown),
        "method": post.status.method,
        "parameters": shared.to_dict("records"),
        "parameters_left_out": len(parameters) - len(shared),
        "annotator_caption": _annotator_caption(post),
        "quality": post.quality(),
        "settings": _settings(post, data),
        "level": f"{level:.0%}",
        "doubt": f"{_DOUBT:.0%}",
        "call": _call(post),
        "version": prefdensity.__version__,
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


def _annotator_caption(post: Posterior) -> str:
    if "reliability" in post.dims:
        return "Weight of the utilities in judgements: 1 average, 0 coin-flipper, below 0 contrarian."
    if "type_probability" in post.dims:
        return "Which type each annotator belongs to, one column for each, grouped by the leading type."
    return "Habits of the annotators as counted in the data, one dot each; the program takes them as alike."


def _cautions(post: Posterior, about: DataReport) -> list[str]:
    """Return what to say before anything else; a fit that failed its own checks says so first."""
    status = post.status
    failed = [] if status.trusted else post.quality()
    return list(dict.fromkeys([*failed, *about.warnings, *status.warnings]))


def _call(post: Posterior) -> str:
    asked = {"method": post.status.method, "seed": post.status.seed, **post.status.settings}
    how = ", ".join(f"{name}={value!r}" for name, value in asked.items() if value is not None)
    return f"prefdensity.fit({post.program!r}, data, {how})"


def _settings(post: Posterior, data: Comparisons) -> dict[str, str]:
    status = post.status
    rows = {
        "program": post.program,
        "method": status.method + (", importance-corrected" if status.corrected else ""),
        "settled": ("yes: " if status.converged else "no: ") + status.message,
        "k-hat": number(status.k_hat),
        "ELBO": number(status.elbo, 6) + (f" ± {number(status.elbo_se, 2)}" if status.elbo_se else ""),
        "log evidence": number(status.log_evidence, 6),
        "R-hat": number(status.r_hat, 4),
        "effective draws": number(status.effective, 4),
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


def _figures(post: Posterior, data: Comparisons, level: float, program: Program | None) -> dict[str, Figure]:
    figures = {"ranking": plots.ranking(post, level=level), "wins": plots.win_heatmap(post, program=program)}
    if not post.is_point:
        figures["ranks"] = plots.rank_intervals(post, level=level)
    if data.annotators:
        figures["annotators"] = plots.annotators(post, data)
    if len(post.status.elbo_trace) > 1:
        figures["elbo"] = plots.elbo_trace(post)
    return figures


def _check_figures(checked: CheckReport) -> dict[str, Figure]:
    return {"checks": plots.check(checked), "calibration": plots.calibration(checked.calibration)}
