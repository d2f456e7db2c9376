"""The command `prefdensity formats`: what public formats there are, and what each leaves to say."""

from typing import Annotated

import typer


def formats(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Format whose options to tell.")] = None,
) -> None:
    """List the public formats that --format reads, or tell the options and columns of one."""
    from prefdensity.data.formats import FORMATS
    from prefdensity.data.recipes import described

    if name is not None:
        typer.echo("\n".join(described(name)))
        return
    for each, about in FORMATS.items():
        typer.echo(f"{each:<{max(map(len, FORMATS))}}  {about.story.split('. ')[0].rstrip('.')}")
        for option, choice in about.options.items():
            values = "|".join(choice.values) or "TEXT"
            typer.echo(f"{'':<{max(map(len, FORMATS))}}    --format-option {option}={values}")
    typer.echo(
        "\nEvery option of reading changes a format: --outcome vote names another column. Tables of no format are "
        "described by the same options: see 'prefdensity describe --help'."
    )
