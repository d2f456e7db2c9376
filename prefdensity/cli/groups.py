"""What the command line says of groups: a ranking for each, which differences are real, tables and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prefdensity.cli.shell import write_csv

if TYPE_CHECKING:
    from prefdensity.posterior.by_group import Groups


def show_groups(found: Groups) -> None:
    """Print the leaders of every group and the differences that are real."""
    typer.echo(f"\n{found}")


def write_groups(found: Groups, folder: Path) -> None:
    """Write groups.csv, group_differences.csv and groups.svg into a folder."""
    from prefdensity.reporting.group_plots import groups

    write_csv(folder, groups=found.table, group_differences=found.differences)
    groups(found).savefig(folder / "groups.svg")
