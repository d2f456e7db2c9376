"""What the command line says of groups: a ranking for each, which differences are real, tables and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from prefdensity.posterior.by_group import Groups


def show_groups(found: Groups) -> None:
    """Print the leaders of every group and the differences that are real."""
    typer.echo(f"\n{found}")


def write_groups(found: Groups, folder: Path) -> None:
    """Write groups.csv, group_differences.csv and groups.svg into a folder."""
    from prefdensity.reporting.board import spreadsheet_safe
    from prefdensity.reporting.group_plots import groups

    spreadsheet_safe(found.table).to_csv(folder / "groups.csv", index=False)
    spreadsheet_safe(found.differences).to_csv(folder / "group_differences.csv", index=False)
    groups(found).savefig(folder / "groups.svg")
