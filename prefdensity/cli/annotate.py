"""The command `annotate`: the rows of a table with what a fit says of each label."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.shell import INTERRUPTED, require_ending, whole, write_rows
from prefdensity.cli.table import Said, reads_a_table

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5  # labels that most look flipped


@reads_a_table
def annotate(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    table: Said,
    out: Annotated[Path, typer.Option(help="File to write: .csv, .jsonl or .parquet.", metavar="FILE")] = Path(
        "annotated.csv"
    ),
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE"),
    ] = None,
    refits: Annotated[int, typer.Option(help="Most refits, for labels that cannot be left out by weights.", min=0)] = 5,
    prefix: Annotated[str, typer.Option(help="Put before the names of the new columns.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Write the rows of FILE with what a saved fit says of each label: flipped or not, soft label, weight.

    FILE and its options must be those of the fit.
    """
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reward.annotate import annotate as annotated

    require_ending(out)
    with whole(out):
        pass  # a file that cannot be written is better known before the work than after it
    try:
        found = annotated(
            table.source, load_posterior(saved, model), ties=table.ties.value, repeats=table.repeats.value,
            refits=refits, prefix=prefix, seed=seed, progress=False if quiet else None, **table.reading,
        )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo(f"prefdensity: interrupted, so {out} was not written", err=True)
        raise typer.Exit(INTERRUPTED) from None
    write_rows(found, out)
    _tell(found, prefix)
    typer.echo(f"wrote {out}: {len(found)} rows, {len(found.columns)} columns")
    for note in found.attrs["notes"]:
        typer.echo(f"note: {note}", err=True)


def _tell(found: "pd.DataFrame", prefix: str) -> None:
    """Print how many labels are expected to be flipped, and which most look it."""
    chance = found[f"{prefix}p_flipped"].astype(float)
    if not chance.notna().any():
        return
    likely = int((chance > 0.5).sum())
    typer.echo(
        f"flipped labels: {chance.sum():.1f} expected among {int(chance.notna().sum())} rows; "
        f"{likely} with a probability above one half"
    )
    for row in chance.nlargest(_SHOWN).index:
        typer.echo(f"  row {row + 1}: probability {chance[row]:.3f}")
