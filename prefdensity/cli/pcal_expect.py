"""The command `pcal expect`: what a program of comparisons expects of the verdict on every unit."""

from pathlib import Path
from typing import Annotated, Any

import typer

from prefdensity.cli.shell import require_writable, results, write_csv
from prefdensity.errors import DataError
from prefdensity.programs.defaults import LONGEST


def _option(flag: str, words: str, metavar: str = "COLUMN") -> Any:
    return typer.Option(flag, help=words, metavar=metavar)


def expect(
    file: Annotated[Path, typer.Argument(metavar="UNITS.csv", help="Units, with the verdicts that were bought.")],
    program: Annotated[str, typer.Option(help=f"Program of the verdicts, such as {LONGEST}.")],
    item_a: Annotated[str, _option("--item-a", "The first item that was compared.")] = "item_a",
    item_b: Annotated[str, _option("--item-b", "The second.")] = "item_b",
    outcome: Annotated[
        str, _option("--outcome", "What was preferred: a, b or tie; empty where not bought.")
    ] = "outcome",
    annotator: Annotated[str | None, _option("--annotator", "Who judged.")] = None,
    group: Annotated[list[str] | None, _option("--group", "Label that the program reads; repeatable.")] = None,
    number: Annotated[list[str] | None, _option("--number", "Number or date that it reads; repeatable.")] = None,
    attributes: Annotated[
        list[str] | None,
        _option("--attributes", "What is known of annotators or others, a file by label; repeatable.", "WHOM=FILE"),
    ] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="The first item is shown first.")] = False,
    folds: Annotated[
        int, typer.Option(help="Folds of units: no verdict is in what is expected of its own.", min=2)
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-expect"),
) -> None:
    """Write the units with two measures more: the verdict that a program expects, and that of who judged.

    Give `expected` to plan and measure as free (--free expected), and `expected_of` with the verdict (--rung
    crowd=vote+expected_of).
    """
    from prefdensity.data.files import read_rows
    from prefdensity.judged.verdicts import expect_verdicts

    require_writable(out)
    known = {}
    for text in attributes or ():
        whom, _, path = text.partition("=")
        if not (whom and path):
            raise DataError(f"--attributes {text} must be WHOM=FILE, such as annotator=people.csv")
        table = read_rows(Path(path))
        known[whom] = table.set_index(table.columns[0])
    units = read_rows(file)
    columns: dict[str, Any] = {"groups": group or (), "numbers": number or (), "attributes": known or None}
    if annotator is not None:
        columns["annotator"] = annotator
    found = expect_verdicts(
        program, units, folds=folds, seed=seed, item_a=item_a, item_b=item_b, outcome=outcome, ordered=ordered,
        source=str(file), **columns,
    )  # fmt: skip
    with results(out) as folder:
        write_csv(folder, units=units.assign(**{name: found[name] for name in ("expected", "expected_of")}))
