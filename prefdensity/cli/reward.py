"""The command `reward`: what every response is worth, with its standard deviation."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.shell import require_ending, whole, write_rows

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.comparisons import Comparisons


class Estimand(StrEnum):
    """What a reward is."""

    program = "program"
    bradley_terry = "bradley-terry"


def reward(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons",
    estimand: Annotated[
        Estimand,
        typer.Option(
            help="program: the utility that the fit gives; bradley-terry: the reward that infinitely many votes would "
            "give, the fit standing in for votes that nobody gave, with sandwich errors."
        ),
    ] = Estimand.program,
    out: Annotated[Path, typer.Option(help="File to write: .csv, .jsonl or .parquet.", metavar="FILE")] = Path(
        "rewards.csv"
    ),
    report: Annotated[Path | None, typer.Option(help="Page to write about the rewards.", metavar="FILE.html")] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE")
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    refits: Annotated[
        int | None,
        typer.Option(help="Of bradley-terry: refits in the place of weights, for out-of-sample votes.", min=2),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Write what every response is worth, with its sd; FILE and its options must be those of the fit."""
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting.reward_report import write_reward_report
    from prefdensity.reward.table import reward_table

    require_ending(out)
    with whole(out):
        pass  # a file that cannot be written is better known before the work than after it
    post, notes = load_posterior(saved, model), []
    if estimand is Estimand.program:
        table = reward_table(post, data, level)
        called = f"utilities of {post.program_name}"
    else:
        from prefdensity.reward.fit import reward_of_table

        estimate = reward_of_table(post, data, refits=refits, seed=seed, progress=False if quiet else None)
        table = estimate.of_items(data, level)
        called = f"Bradley-Terry rewards with {post.program_name} behind them"
        notes = [estimate.worth(), *estimate.warnings]
    write_rows(table, out)
    _tell(table, called)
    for note in notes:
        typer.echo(note)
    typer.echo(f"wrote {out}: {len(table)} rows, {len(table.columns)} columns")
    if report is not None:
        written = write_reward_report(table, report, Path(data.source).name, called, level, notes)
        typer.echo(f"wrote {written}")


def _tell(table: "pd.DataFrame", called: str) -> None:
    items = table["item"].nunique()
    whose = f" to {table['prompt'].nunique():,} prompts" if "prompt" in table else ""
    sd = table["sd"]
    spread = f"; sd {sd.min():.3g} to {sd.max():.3g}, median {sd.median():.3g}" if sd.notna().any() else ""
    typer.echo(f"rewards of {items:,} responses{whose}: {called}{spread}")
