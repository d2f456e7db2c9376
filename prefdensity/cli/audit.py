"""The command `audit`: votes that look as if they were cast to move the ranking, and the ranking without them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.shell import staged

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons


def audit(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons | Choices",
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit anew without the rows that carry the findings; show both rankings.")
    ] = False,
    weigh: Annotated[
        bool, typer.Option("--weigh", help="With --refit, count these rows for what is expected of them instead.")
    ] = False,
    finding: Annotated[
        list[str] | None,
        typer.Option(help="With --refit, mend this finding alone; repeatable.", metavar="FINDING"),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for findings.csv, rows.csv, and with --refit ranking.csv and votes.csv.")
    ] = None,
) -> None:
    """Look for votes cast to move a ranking; say which rows carry each finding, and what to do about it."""
    from prefdensity.checking.audit import audit as look
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting.board import spreadsheet_safe

    found = look(load_posterior(saved, model), data)
    typer.echo(str(found))
    tables = {"findings": found.findings, "rows": found.rows}
    if refit and found.found:
        mended = found.weighed(finding or None) if weigh else found.without(finding or None)
        tables["ranking"] = found.ranking(mended)
        how = "with less of them" if weigh else "without them"
        typer.echo(f"\nThe ranking with these votes, and {how}:")
        typer.echo(tables["ranking"].to_string(index=False, float_format="{:.2f}".format))
    if out is not None:
        with staged(out) as folder:
            for name, table in tables.items():
                spreadsheet_safe(table).to_csv(folder / f"{name}.csv", index=False)
            if "ranking" in tables and not mended.SETS:
                mended.pairs().to_frame().to_csv(folder / "votes.csv", index=False)  # to be read again
            written = sorted(each.name for each in folder.glob("*.csv"))
        typer.echo(f"wrote {out}: {', '.join(written)}")
