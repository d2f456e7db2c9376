"""The command `policies`: what policies trained from a fit do to each kind of annotator."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.groups import At, Over, require_over
from prefdensity.cli.shell import require_ending, whole, write_rows
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior


def policies(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons",
    by: Annotated[
        str | None,
        typer.Option(help="Groups are of this column, which the model reads; otherwise types.", metavar="COLUMN"),
    ] = None,
    over: Over = None,
    at: At = None,
    group_fit: Annotated[
        list[str] | None,
        typer.Option(
            "--group-fit", help="A group and the fit to its votes alone, with the same items; repeatable.",
            metavar="NAME=FIT.nc",
        ),
    ] = None,
    nats: Annotated[
        list[float] | None,
        typer.Option(help="KL divergence of policies from the reference; repeatable.", metavar="NATS"),
    ] = None,
    caution: Annotated[float, typer.Option(help="Quantile of rewards that the pessimistic policy goes by.")] = 0.1,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    out: Annotated[
        Path, typer.Option(help="File to write: .csv, .jsonl or .parquet.", metavar="FILE")
    ] = Path("policies.csv"),
    probabilities: Annotated[
        Path | None,
        typer.Option(help="File for the probability of every response under every policy.", metavar="FILE"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Page to write about the policies.", metavar="FILE.html")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="The .py file of the fits, if it was one.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
) -> None:  # fmt: skip
    """Say what a policy trained for the average does to each group, beside others as far from the reference.

    FILE and its options must be those of the fit; items are responses, contexts are prompts, the reference is even.
    """
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting.policy_report import write_policy_report
    from prefdensity.reward.policies import compare_policies

    _require_files(out, *([probabilities] if probabilities else []))
    require_over(over, at, by)
    groups = _groups(by, over, group_fit, model)
    found = compare_policies(
        load_posterior(saved, model), data, groups, over=over, at=at or None, nats=nats or None, caution=caution,
        level=level, seed=seed,
    )  # fmt: skip
    typer.echo(str(found))
    write_rows(found.table, out)
    typer.echo(f"wrote {out}: {len(found.table)} rows, {len(found.table.columns)} columns")
    if probabilities is not None:
        write_rows(found.probabilities, probabilities)
        typer.echo(f"wrote {probabilities}: {len(found.probabilities)} rows")
    if report is not None:
        title = Path(data.source).name
        typer.echo(f"wrote {write_policy_report(found.table, found.verdict(), report, title, level, found.notes)}")


def _require_files(*paths: Path) -> None:
    """Refuse files that cannot be written: that is better known before the work than after it."""
    for path in paths:
        require_ending(path)
        with whole(path):
            pass


def _groups(
    by: str | None, over: str | None, fits: list[str] | None, model: Path | None
) -> "str | dict[str, Posterior] | None":
    from prefdensity.posterior.posterior import load_posterior

    if not fits:
        return by
    if over is not None:
        raise DataError(f"--over {over} and --group-fit both say what is told apart; give one of them")
    if by is not None:
        raise DataError(f"--by {by} and --group-fit both say what groups are; give one of them")
    found = {}
    for each in fits:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise DataError(f"--group-fit {each} must be a name, = and a fit, as in helpful=helpful/fit.nc")
        if name in found:
            raise DataError(f"--group-fit names {name!r} twice; give each group one fit")
        found[name] = load_posterior(path, model)
    return found
