"""The command `likelihood-ratio`: maximum-likelihood fits of nested programs, tested one against the next."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.shell import results, write_csv
from prefdensity.cli.table import reads_a_table

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons


@reads_a_table
def likelihood_ratio(
    data: "Comparisons",
    models: Annotated[
        list[str],
        typer.Option("--models", "-m", help="Models, each a case of a larger one.", metavar="MODEL..."),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for likelihood_ratio.csv and a report; none by default.")
    ] = None,
) -> None:
    """Fit nested models by maximum likelihood and test each against the next: AIC, chi-squared and p, as anova in R."""
    from prefdensity import inference
    from prefdensity.comparison.likelihood_ratio import likelihood_ratios
    from prefdensity.programs.loading import load_program
    from prefdensity.reporting.ratio_report import write_ratio_report

    programs = {program.name: program for program in map(load_program, [*models, *(more or [])])}
    posts = {name: inference.fit(program, data, method="mle", progress=False) for name, program in programs.items()}
    table = likelihood_ratios(posts, data)
    typer.echo(table.astype({"df": float}).to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}"))
    if out is not None:
        with results(out) as folder:
            write_csv(folder, likelihood_ratio=table)
            write_ratio_report(table, folder / "report.html", Path(data.source).name)
