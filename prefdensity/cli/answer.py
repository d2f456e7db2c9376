"""What the command line says of a fit: the ranking, the verdict, and what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from prefdensity.words import percent

if TYPE_CHECKING:
    from prefdensity.checking.report import CheckReport
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior
    from prefdensity.reporting.cost import CostReport


def show_verdict(post: Posterior, checked: CheckReport) -> None:
    """End with what a stranger wants to know, in three lines: who leads, what the data say against it, what to try."""
    from prefdensity.reporting.answer import closing

    typer.echo("\n" + "\n".join(closing(post, checked)))


def show_costs(found: CheckReport, post: Posterior, data: Comparisons | Choices, seed: int = 0) -> list[CostReport]:
    """Print what a program costs by the first that answers each finding; return what is said, the first's first."""
    from prefdensity.reporting.cost import cost

    if data.SETS:
        typer.echo("note: --cost tells of comparisons of two, and not of choices from sets", err=True)
        return []
    told = []
    for cause in (each for each in found.causes if each.remedies):
        told.append(cost(post, data.pairs(), cause.remedies[0], seed=seed))
        typer.echo(f"\n{cause.name}. {told[-1]}")
    return told


def show_ranking(post: Posterior, level: float, most: int = 10) -> None:
    """Print the leading rows of the ranking."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    summary = post.summary(level=level)
    labels = ["type", "item"] if "type" in summary else ["item"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in labels:
        table.add_column(column, overflow="fold")
    for column in ("utility", f"{level:.0%} interval", "rank", "P(best)"):
        table.add_column(column, justify="right", no_wrap=True)
    noted = summary["note"].any()
    if noted:
        table.add_column("note", overflow="fold")
    shown = summary.groupby("type").head(most // 2) if "type" in summary else summary.head(most)
    for row in shown.to_dict("records"):
        table.add_row(
            *(Text(str(row[label])) for label in labels),  # Text: a name is not markup
            f"{row['mean']:z.2f}",
            _span(row["lower"], row["upper"], "z.2f"),
            _span(row["rank_lower"], row["rank_upper"], "d"),
            percent(row["p_best"]),
            *([row["note"]] if noted else []),
        )
    Console().print(table)
    if len(summary) > len(shown):
        typer.echo(f"{len(summary) - len(shown)} more in summary.csv")


def _span(lower: float, upper: float, form: str) -> str:
    if lower != lower:
        return "–"
    return f"{lower:{form}}" if lower == upper else f"{lower:{form}} to {upper:{form}}"
