"""Rankings beside the one of a fit, for each group and over a date: tables, pictures, and what is printed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.shell import write_csv
from prefdensity.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.posterior.by_group import Groups
    from prefdensity.posterior.posterior import Posterior
    from prefdensity.programs.layers import Program


Over = Annotated[str | None, typer.Option(help="How it changes over this column, one of --number.", metavar="COLUMN")]
At = Annotated[
    list[str] | None,
    typer.Option(help="With --over, a date or number to tell it at, later ones too; repeatable.", metavar="VALUE"),
]


@dataclass(frozen=True)
class Rankings:
    """What was asked for, or None: rankings of groups, and how utilities change over a number."""

    groups: "Groups | None" = None
    course: "pd.DataFrame | None" = None

    def show(self) -> None:
        """Print the leaders of every group and the differences that are real; who leads first and last."""
        if self.groups is not None:
            typer.echo(f"\n{self.groups}")
        if self.course is not None:
            over = self.course.columns[0]
            ends = self.course[self.course[over].isin(self.course[over].iloc[[0, -1]])]
            leaders = ends.sort_values("mean", ascending=False).groupby(over, sort=False).head(3).sort_values(over)
            typer.echo(f"\nThe best three at either end of {over}, out of {self.course['item'].nunique()}:")
            typer.echo(leaders.to_string(index=False, float_format="{:.2f}".format))

    def write(self, folder: Path) -> None:
        """Write groups.csv, group_differences.csv and groups.svg, or course.csv and course.svg, into a folder."""
        if self.groups is not None:
            from prefdensity.reporting.group_plots import groups

            write_csv(folder, groups=self.groups.table, group_differences=self.groups.differences)
            groups(self.groups).savefig(folder / "groups.svg")
        if self.course is not None:
            from prefdensity.reporting.course_plots import course

            write_csv(folder, course=self.course)
            course(self.course).savefig(folder / "course.svg")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Rankings to be told beside the one of the fit."""

    by: Annotated[
        str | None,
        typer.Option(
            help="A ranking for each group of this column, one of --group: partially pooled, or each by itself with "
            "--method mle.",
            metavar="COLUMN",
        ),
    ] = None
    over: Over = None
    at: At = None

    def of(self, program: "Program", pooled: bool) -> "Program":
        """Return a program whose utilities differ by what is asked, `pooled` partially."""
        from prefdensity.programs.loading import changing, reading

        require_over(self.over, self.at)
        program = program if self.by is None else reading(program, self.by, "by" if pooled else "on")
        return program if self.over is None else changing(program, self.over)

    def told(self, post: "Posterior", level: float, reference: str | None) -> Rankings:
        """Return what a fit says of it."""
        return told(post, self.by, self.over, self.at, level, reference)


def told(
    post: "Posterior", by: str | None, over: str | None, at: list[str] | None, level: float, reference: str | None
) -> Rankings:
    """Return the rankings that a fit tells by groups and over a number, where these are asked for."""
    require_over(over, at)
    groups = None if by is None else post.by(by, level, reference)
    return Rankings(groups, None if over is None else post.over(over, at or None, level, reference))


def require_over(over: str | None, at: list[str] | None, by: str | None = None) -> None:
    """Refuse values of no column, and, where one of the two is told, groups beside dates."""
    if at and over is None:
        raise DataError("--at asks about dates or numbers of a column; name it with --over")
    if over is not None and by is not None:
        raise DataError(f"--by {by} and --over {over} both say what is told apart; give one of them")
