"""What `prefdensity fit` leaves: the fit first, which nothing that comes after it may lose."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prefdensity.cli.answer import show_ranking, show_verdict
from prefdensity.cli.shell import INTERRUPTED, staged, write_csv

if TYPE_CHECKING:
    from prefdensity.checking.report import CheckReport
    from prefdensity.cli.groups import Rankings
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior


def write_fit(
    post: Posterior, data: Comparisons | Choices, out: Path, level: float, reference: str | None, rankings: Rankings
) -> None:  # fmt: skip
    """Write a fit, its tables and its report, and say what it says.

    After Ctrl-C, during the fit or while it is checked, the fit and its tables are written, and the exit code says so.
    """
    from prefdensity.posterior.pairwise import differences
    from prefdensity.reporting.answer import cautions

    ranked = "utility" in post.draws  # a user's own program may know no single utility
    with staged(out) as folder:
        post.save(folder / "fit.nc")
        write_csv(folder, parameters=post.parameters(level=level))
        if ranked:
            write_csv(folder, summary=post.summary(level=level))
        if reference is not None:
            write_csv(folder, differences=differences(post, level, reference))
        rankings.write(folder)
        checked = _checked(post, data, folder / "report.html" if ranked else None, level, reference)
        written = sorted(path.name for path in folder.iterdir())
    if ranked:
        show_ranking(post, level)
    rankings.show()
    typer.echo("\n".join(post.quality()))
    typer.echo(f"wrote {out}: {', '.join(written)}")
    if checked is None:
        typer.echo("prefdensity: interrupted, so the fit is not checked; prefdensity report does so", err=True)
        raise typer.Exit(INTERRUPTED)
    said = [*post.quality(), checked.caution]
    for sentence in cautions(post, data, checked):
        if sentence not in said:  # once is enough
            typer.echo(f"warning: {sentence}", err=True)
    show_verdict(post, checked)
    if post.status.interrupted:
        raise typer.Exit(INTERRUPTED)


def _checked(
    post: Posterior, data: Comparisons | Choices, report: Path | None, level: float, reference: str | None
) -> CheckReport | None:
    """Check a fit and write its report, if there is one; None after Ctrl-C."""
    from prefdensity.checking.check import check
    from prefdensity.reporting.report import write_report

    try:
        checked = check(post, data)
        if report is not None:
            command = shlex.join(["prefdensity", *sys.argv[1:]])
            write_report(post, data, report, level=level, reference=reference, command=command, checked=checked)
    except KeyboardInterrupt:
        return None
    return checked
