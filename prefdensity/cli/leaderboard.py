"""The commands that write tables to show: `leaderboard` in one of five languages, `tables` as csv."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.groups import At, Over, require_over, told
from prefdensity.cli.shell import require_item, staged, write_csv
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons

_FIT = typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")


def leaderboard(
    saved: Annotated[Path, _FIT],
    data: "Comparisons | Choices",
    language: Annotated[
        str, typer.Option("--as", help="markdown, json, latex, html or csv.", metavar="LANGUAGE")
    ] = "markdown",
    anchor: Annotated[
        str | None,
        typer.Option(help="An item and its rating, as in gpt-4=1114; the mean is 1000 else.", metavar="ITEM=RATING"),
    ] = None,
    organisations: Annotated[
        Path | None, typer.Option(help="Table whose first column names items and the second who made them.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="A board for each group of a column that the fit reads.", metavar="COLUMN")
    ] = None,
    over: Over = None,
    at: At = None,
    title: Annotated[str, typer.Option(help="Caption.")] = "Leaderboard",
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.95,
    out: Annotated[Path | None, typer.Option(help="File to write; otherwise it is printed.", metavar="FILE")] = None,
) -> None:
    """Write the ranking of a saved fit as a leaderboard; FILE and its options must be those of the fit."""
    from prefdensity.posterior.leaderboard import leaderboard as board_of
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting.board import written
    from prefdensity.reporting.pages import write_page

    require_over(over, at, by)
    board = board_of(
        load_posterior(saved), data, level=level, anchor=_anchor(anchor), organisation=_makers(organisations), by=by,
        over=over, at=at or None,
    )  # fmt: skip
    text = written(board, language, title)
    if out is None:
        typer.echo(text, nl=False)
        return
    typer.echo(f"wrote {write_page(text, out)}")


def _anchor(given: str | None) -> dict[str, float] | None:
    if given is None:
        return None
    item, _, rating = given.rpartition("=")
    try:
        return {item: float(rating)}
    except ValueError:
        raise DataError(f"--anchor {given} has no rating; write it as in --anchor gpt-4=1114") from None


def _makers(path: Path | None) -> dict[str, str] | None:
    from prefdensity.data.feature_files import label_table

    if path is None:
        return None
    table = label_table(path)
    column = table.iloc[:, 0]
    return {str(item): str(maker) for item, maker in zip(table.index, column.fillna(""), strict=True)}


def tables(
    saved: Annotated[Path, _FIT],
    data: "Comparisons | Choices",
    reference: Annotated[
        str | None, typer.Option(help="Item to which differences are taken; all pairs else.", metavar="ITEM")
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    by: Annotated[
        str | None, typer.Option(help="A ranking for each group too, of a column that the fit reads.", metavar="COLUMN")
    ] = None,
    over: Over = None,
    at: At = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("prefdensity-tables"),
) -> None:
    """Write tables of a saved fit as csv: differences of pairs, quasi-variances, items, annotators."""
    from prefdensity.posterior.pairwise import differences, quasi_variances
    from prefdensity.posterior.people import annotator_table, item_table
    from prefdensity.posterior.posterior import load_posterior, require_same_table

    post = load_posterior(saved)
    require_same_table(post, data)
    require_item(reference, post.items)
    found = {"differences": differences(post, level, reference), "quasi_variances": quasi_variances(post)}
    found["items"] = item_table(post, data)
    if data.annotators:
        found["annotators"] = annotator_table(post, data)
    rankings = told(post, by, over, at, level, reference)
    with staged(out) as folder:
        write_csv(folder, **found)
        rankings.write(folder)
        written = sorted(path.name for path in folder.iterdir())
    rankings.show()
    typer.echo(f"wrote {out}: {', '.join(written)}")
