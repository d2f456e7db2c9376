"""The command `reward`: what every response is worth, with its standard deviation."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.cli.shell import require_ending, whole, write_rows
from prefdensity.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior


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
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Features of other answers, judged or not: rewards of these are written, by a program whose utilities "
            "follow from features.",
            metavar="FILE",
        ),
    ] = None,
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

    _require_judged(answers, {"--estimand bradley-terry": estimand is Estimand.bradley_terry, "--report": report})
    require_ending(out)
    with whole(out):
        pass  # a file that cannot be written is better known before the work than after it
    post, show = load_posterior(saved, model), False if quiet else None
    notes: list[str] = []
    if answers is not None:
        table = _of_answers(post, data, answers, level, show)
        called = f"utilities of {post.program_name}, 0 is the average response judged"
    elif estimand is Estimand.program:
        table = reward_table(post, data, level)
        called = f"utilities of {post.program_name}"
    else:
        table, notes = _whatever_the_fit(post, data, level, refits=refits, seed=seed, progress=show)
        called = f"Bradley-Terry rewards with {post.program_name} behind them"
    write_rows(table, out)
    _tell(table, called)
    for note in notes:
        typer.echo(note)
    typer.echo(f"wrote {out}: {len(table)} rows, {len(table.columns)} columns")
    if report is not None:
        typer.echo(f"wrote {write_reward_report(table, report, Path(data.source).name, called, level, notes)}")


def _require_judged(answers: Path | None, asked: dict[str, Any]) -> None:
    for name, given in asked.items():
        if answers is not None and given:
            raise DataError(f"{name} is about the responses that were judged; leave it out beside --answers")


def _whatever_the_fit(
    post: "Posterior", data: "Comparisons", level: float, **asked: Any
) -> "tuple[pd.DataFrame, list[str]]":
    from prefdensity.reward.fit import reward_of_table

    estimate = reward_of_table(post, data, **asked)
    return estimate.of_items(data, level), [estimate.worth(), *estimate.warnings]


def _of_answers(
    post: "Posterior", data: "Comparisons", answers: Path, level: float, show: bool | None
) -> "pd.DataFrame":
    from prefdensity.data.feature_files import label_table
    from prefdensity.reward.table import rewards

    return rewards(post, data, label_table(answers, per="answer"), level=level, progress=show)


def _tell(table: "pd.DataFrame", called: str) -> None:
    items = table["item"].nunique()
    whose = f" to {table['prompt'].nunique():,} prompts" if "prompt" in table else ""
    sd = table["sd"]
    spread = f"; sd {sd.min():.3g} to {sd.max():.3g}, median {sd.median():.3g}" if sd.notna().any() else ""
    typer.echo(f"rewards of {items:,} responses{whose}: {called}{spread}")
