"""The command line: `prefdensity models`, `describe`, `fit`, `report`.

Heavy libraries load inside the commands, so that ``prefdensity --help`` answers at once.
"""

import functools
import inspect
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity import __version__
from prefdensity.errors import DataError, PrefDensityError

if TYPE_CHECKING:
    from prefdensity.comparisons import Comparisons
    from prefdensity.posterior import Posterior
    from prefdensity.programs import Program

_READING = "How to read FILE"
_INTERRUPTED = 130  # what shells report for Ctrl-C

app = typer.Typer(
    name="prefdensity",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Annotator models of pairwise preferences: read comparisons, fit a model, report what it says.",
    epilog="Start with: prefdensity fit example:citations --model bradley_terry",
)


class Ties(StrEnum):
    """What becomes of ties in the table."""

    error = "error"
    half = "half"
    drop = "drop"


class Method(StrEnum):
    """How the posterior is computed."""

    auto = "auto"
    laplace = "laplace"
    svi = "svi"
    nuts = "nuts"
    map = "map"
    mle = "mle"


def main() -> None:
    """Run the command line."""
    app()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"prefdensity {__version__}")
        raise typer.Exit()


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def _one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the manners of the shell: a mendable error is one sentence on stderr and exit code 2."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of a pipe left: typer ends quietly
        except PrefDensityError as error:
            _fail(str(error))
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}")
        except KeyboardInterrupt:
            typer.echo("prefdensity: interrupted before there was a fit, so none was written", err=True)
            raise typer.Exit(_INTERRUPTED) from None

    return run


def _fail(sentence: str) -> None:
    typer.echo(f"prefdensity: {sentence}", err=True)
    raise typer.Exit(2) from None


def _option(flag: str, words: str, metavar: str | None = "COLUMN", **more: Any) -> Any:
    return typer.Option(flag, help=words, metavar=metavar, rich_help_panel=_READING, **more)


def _table(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table of comparisons (csv, tsv, jsonl, parquet), or example:citations, example:baseball, "
            "example:puddings, example:annotators.",
        ),
    ],
    format: Annotated[
        str | None, _option("--format", "Public format such as arena; else one comparison a row.", "NAME")
    ] = None,
    format_option: Annotated[
        list[str] | None,
        _option("--format-option", "Argument of the format, as in both_bad=tie; repeatable.", "NAME=VALUE"),
    ] = None,
    item_a: Annotated[str | None, _option("--item-a", "Column of one item.")] = None,
    item_b: Annotated[str | None, _option("--item-b", "Column of the other item.")] = None,
    outcome: Annotated[str | None, _option("--outcome", "Column of the judgement: a, b or tie.")] = None,
    annotator: Annotated[str | None, _option("--annotator", "Column of who judged.")] = None,
    context: Annotated[str | None, _option("--context", "Column of the prompt or question.")] = None,
    count: Annotated[str | None, _option("--count", "Column of how many judgements a row holds.")] = None,
    ordered: Annotated[
        bool, _option("--ordered", "item_a was shown first (left, at home) in every row.", None)
    ] = False,
    first: Annotated[str | None, _option("--first", "Column of the side shown first: a, b, neither.")] = None,
    label: Annotated[
        list[str] | None,
        _option("--label", "Meaning of an outcome, as in model_a=a (a, b, tie, drop); repeatable.", "OLD=NEW"),
    ] = None,
    missing: Annotated[str | None, _option("--missing", "Rows with empty cells: error, drop.", "WHAT")] = None,
    covariate: Annotated[
        list[str] | None, _option("--covariate", "Numeric column; positive speaks for item_a; repeatable.")
    ] = None,
    item_features: Annotated[
        Path | None,
        _option("--item-features", "Table with one row per item: its label, then numbers.", "FILE"),
    ] = None,
    ties: Annotated[
        Ties, _option("--ties", "error: the model must explain them; half: half a win each; drop.", None)
    ] = Ties.error,
) -> "Comparisons":
    """Read the table as the options say; what was not said is left to the reader's defaults."""
    from prefdensity.readers import read

    given: dict[str, Any] = {
        "item_a": item_a,
        "item_b": item_b,
        "outcome": outcome,
        "annotator": annotator,
        "context": context,
        "count": count,
        "ordered": ordered or None,
        "first": first,
        "labels": _pairs("--label", label, "model_a=a"),
        "missing": missing,
        "covariates": covariate or None,
        "item_features": item_features,
    }
    said = {name: value for name, value in given.items() if value is not None}
    said |= _pairs("--format-option", format_option, "both_bad=tie") or {}
    data = read(file, format=format, **said)
    if ties is Ties.half:
        return data.ties_as_half_wins()
    return data.without_ties() if ties is Ties.drop else data


def _pairs(flag: str, given: list[str] | None, example: str) -> dict[str, str] | None:
    pairs = {}
    for text in given or []:
        name, sign, value = text.rpartition("=")
        if not sign:
            raise DataError(f"{flag} {text} has no '='; write it as in {flag} {example}")
        pairs[name] = value
    return pairs or None


def _reads_a_table(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_table`, and hand it the table as `data`."""
    reading = inspect.signature(_table).parameters
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "data"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        data = _table(**{name: given.pop(name) for name in reading})
        command(data=data, **given)

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *reading.values())]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@app.command(epilog="Example: prefdensity models davidson")
@_one_sentence
def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Model whose story to print.")] = None,
) -> None:
    """List the annotator models, or tell the story of one: what it assumes and cannot express."""
    from prefdensity.programs import load_program, names

    if name is not None:
        typer.echo(load_program(name).doc.strip())
        return
    known = names()
    for each in known:
        typer.echo(f"{each:<{max(map(len, known))}}  {load_program(each).summary}")
    typer.echo("\nJoin them with +: davidson+position_bias+reliability, annotator_types(k=3)+davidson.")


@app.command(epilog="Example: prefdensity describe votes.csv --item-a left --item-b right --outcome winner")
@_one_sentence
@_reads_a_table
def describe(data: "Comparisons") -> None:
    """Say what a table holds, and what to know before fitting it."""
    typer.echo(str(data.report()))


@app.command(epilog="Example: prefdensity fit votes.csv --model davidson+position_bias --ordered")
@_one_sentence
@_reads_a_table
def fit(
    data: "Comparisons",
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="One of 'prefdensity models', several joined by +, or a .py file."),
    ],
    method: Annotated[Method, typer.Option(help="Inference; auto: the cheapest good one.")] = Method.auto,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    draws: Annotated[int, typer.Option(help="Posterior draws to keep, per chain for nuts.", min=100)] = 1000,
    restarts: Annotated[int | None, typer.Option(help="Starting points, against local modes.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("prefdensity-fit"),
    chains: Annotated[int, typer.Option(help="Markov chains of nuts.", min=1)] = 4,
    warmup: Annotated[int, typer.Option(help="Steps of each chain before its draws.", min=1)] = 500,
    threads: Annotated[int, typer.Option(help="CPU threads to use.", min=1)] = 1,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save progress in, and to resume a long fit from.")
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Fit an annotator model; write the fit, two tables and a report that opens in a browser."""
    from prefdensity import inference
    from prefdensity.programs import load_program

    with _staged(out):
        pass  # a folder that cannot be written is better known before the fit than after it
    program = load_program(model)
    post = inference.fit(
        program,
        data,
        method=method.value,
        seed=seed,
        device=device,
        draws=draws,
        restarts=restarts,
        chains=chains,
        warmup=warmup,
        threads=threads,
        progress=False if quiet else None,
        checkpoint=checkpoint,
    )
    _write_fit(post, data, program, out, level)
    if "interrupted" in post.status.message:
        raise typer.Exit(_INTERRUPTED)


def _write_fit(post: "Posterior", data: "Comparisons", program: "Program", out: Path, level: float) -> None:
    from prefdensity.report import write_report

    ranked = "utility" in post.draws  # a user's own program may know no single utility
    with _staged(out) as folder:
        folder.mkdir()
        post.save(folder / "fit.nc")
        post.parameters(level=level).to_csv(folder / "parameters.csv", index=False)
        if ranked:
            post.summary(level=level).to_csv(folder / "summary.csv", index=False)
            page = folder / "report.html"
            write_report(post, data, page, level=level, command=_typed(), program=program)
        written = sorted(path.name for path in folder.iterdir())
    if ranked:
        _show_ranking(post, level)
    typer.echo("\n".join(post.quality()))
    typer.echo(f"wrote {out}: {', '.join(written)}")
    for sentence in dict.fromkeys([*data.report().warnings, *post.status.warnings]):
        typer.echo(f"warning: {sentence}", err=True)


@app.command(epilog="Example: prefdensity report results/fit.nc votes.csv --ordered")
@_one_sentence
@_reads_a_table
def report(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons",
    out: Annotated[
        Path | None, typer.Option(help="File to write; report.html beside FIT.nc by default.", metavar="FILE")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE"),
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
) -> None:
    """Write the report of a saved fit again; FILE and its options must be those of the fit."""
    from prefdensity.posterior import load_posterior
    from prefdensity.programs import load_program
    from prefdensity.report import write_report

    post = load_posterior(saved)
    if post.program.endswith(".py") and model is None:
        raise DataError(f"{saved} was fitted with the file {post.program}; give it again with --model")
    program = load_program(model) if model else None
    target = out or saved.with_name("report.html")
    typer.echo(f"wrote {write_report(post, data, target, title, level=level, program=program)}")


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield a path to build a folder at; what was built there becomes `out` when all of it succeeded."""
    home = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not home.is_dir():
        raise DataError(f"{home} is a file; --out names a folder")
    if not os.access(home, os.W_OK | os.X_OK):
        raise DataError(f"{home} may not be written to; choose another --out")
    with tempfile.TemporaryDirectory(prefix=".prefdensity-", dir=home) as scratch:
        folder = Path(scratch) / "new"
        yield folder
        if not folder.exists():
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        if not out.exists():
            folder.rename(out)
        else:
            for path in sorted(folder.iterdir()):
                os.replace(path, out / path.name)


def _typed() -> str:
    return shlex.join(["prefdensity", *sys.argv[1:]])


def _show_ranking(post: "Posterior", level: float, most: int = 10) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prefdensity.report import percent

    summary = post.summary(level=level)
    labels = ["type", "item"] if "type" in summary else ["item"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in labels:
        table.add_column(column, overflow="fold")
    for column in ("utility", f"{level:.0%} interval", "rank", "P(best)"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = summary.groupby("type").head(most // 2) if "type" in summary else summary.head(most)
    for row in shown.to_dict("records"):
        table.add_row(
            *(Text(str(row[label])) for label in labels),  # Text: a name is not markup
            f"{row['mean']:z.2f}",
            _span(row["lower"], row["upper"], "z.2f"),
            _span(row["rank_lower"], row["rank_upper"], "d"),
            percent(row["p_best"]),
        )
    Console().print(table)
    if len(summary) > len(shown):
        typer.echo(f"{len(summary) - len(shown)} more in summary.csv")


def _span(lower: float, upper: float, form: str) -> str:
    if lower != lower:
        return "–"
    return f"{lower:{form}}" if lower == upper else f"{lower:{form}} to {upper:{form}}"
