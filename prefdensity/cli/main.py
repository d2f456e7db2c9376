"""The command line: `prefdensity models`, `formats`, `describe`, `fit`, `check`, `report`.

Heavy libraries load inside the commands, so that ``prefdensity --help`` answers at once.
"""

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefdensity.cli.annotate import annotate
from prefdensity.cli.answer import show_costs, show_ranking, show_verdict
from prefdensity.cli.audit import audit
from prefdensity.cli.bundles import with_bundles
from prefdensity.cli.formats import formats
from prefdensity.cli.groups import Asked, Rankings
from prefdensity.cli.ladder import measure, plan, update
from prefdensity.cli.leaderboard import leaderboard, tables
from prefdensity.cli.pcal import design, estimate
from prefdensity.cli.pcal_expect import expect
from prefdensity.cli.policies import policies
from prefdensity.cli.ratio import likelihood_ratio
from prefdensity.cli.reward import reward
from prefdensity.cli.select import battles, select, select_study
from prefdensity.cli.shell import INTERRUPTED, one_sentence, require_item, require_writable, results, staged, write_csv
from prefdensity.cli.study import judge_study, study
from prefdensity.cli.table import reads_a_table
from prefdensity.errors import DataError
from prefdensity.programs.defaults import FIRST, LONGER, LONGEST, TIES, WITH_ARGUMENTS
from prefdensity.version import __version__

if TYPE_CHECKING:
    from prefdensity.checking.report import CheckReport
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

app = typer.Typer(
    name="prefdensity",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Annotator models of pairwise preferences: read comparisons, fit a model, report what it says.",
    epilog=f"Start with: prefdensity fit example:citations --model {FIRST}",
)


class Method(StrEnum):
    """How the posterior is computed."""

    auto = "auto"
    laplace = "laplace"
    ep = "ep"
    variational = "variational"
    svi = "svi"
    nuts = "nuts"
    map = "map"
    mle = "mle"


Cost = Annotated[
    bool, typer.Option("--cost", help="Fit the first model that answers each finding; say what yours costs by it.")
]
Reference = Annotated[
    str | None,
    typer.Option(help="Item from which differences are counted, in the report and between groups.", metavar="ITEM"),
]


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


@app.command(epilog=f"Example: prefdensity models {TIES}")
@one_sentence
def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Model whose story to print.")] = None,
) -> None:
    """List the annotator models, or tell the story of one: what it assumes and cannot express."""
    if name is not None:
        from prefdensity.programs.loading import load_program

        typer.echo(load_program(name).doc.strip())
        return
    from prefdensity.programs.listing import summaries

    known = summaries()
    for each, summary in known.items():
        typer.echo(f"{each:<{max(map(len, known))}}  {summary}")
    typer.echo(f"\nJoin them with +: {LONGEST}, {WITH_ARGUMENTS}.")


app.command(epilog="Example: prefdensity formats arena")(one_sentence(formats))


@app.command(epilog="Example: prefdensity describe votes.csv --item-a left --item-b right --outcome winner")
@one_sentence
@reads_a_table
def describe(data: "Comparisons | Choices") -> None:
    """Say what a table holds, and what to know before fitting it."""
    from prefdensity.data import report

    typer.echo(str(report.describe(data)))


@app.command(epilog=f"Example: prefdensity fit votes.csv --model {LONGER} --ordered")
@one_sentence
@reads_a_table
@with_bundles
def fit(
    data: "Comparisons | Choices",
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="One of 'prefdensity models', several joined by +, or a .py file."),
    ],
    asked: Asked,
    method: Annotated[Method, typer.Option(help="Inference; auto: the cheapest good one.")] = Method.auto,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    draws: Annotated[int, typer.Option(help="Posterior draws to keep, per chain for nuts.", min=100)] = 1000,
    restarts: Annotated[int | None, typer.Option(help="Starting points, against local modes.", min=1)] = None,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("prefdensity-fit"),
    batch: Annotated[int | None, typer.Option(help="Comparisons that a step of svi reads; else all.", min=1)] = None,
    chains: Annotated[int, typer.Option(help="Markov chains of nuts.", min=1)] = 4,
    warmup: Annotated[int, typer.Option(help="Steps of each chain before its draws.", min=1)] = 500,
    threads: Annotated[int, typer.Option(help="CPU threads to use.", min=1)] = 1,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to save progress in, and to resume a long fit from.")
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    reference: Reference = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Fit an annotator model; write the fit, two tables and a report that opens in a browser."""
    from prefdensity.inference import fitting
    from prefdensity.programs.loading import load_program

    require_item(reference, data.items)
    if reference is not None and method is Method.map:
        raise DataError("--method map has no spread, so no differences from --reference; use another method")
    require_writable(out)
    post = fitting.fit(
        asked.of(load_program(model), method is not Method.mle), data, method=method.value, seed=seed, device=device,
        draws=draws, restarts=restarts, batch=batch, chains=chains, warmup=warmup, threads=threads,
        progress=False if quiet else None, checkpoint=checkpoint,
    )  # fmt: skip
    _write_fit(post, data, out, level, reference, asked.told(post, level, reference))


def _write_fit(
    post: "Posterior", data: "Comparisons | Choices", out: Path, level: float, reference: str | None, rankings: Rankings
) -> None:  # fmt: skip
    """Write a fit, its tables and its report, and say what it says.

    After Ctrl-C, during the fit or while it is checked, the fit and its tables are written, and the exit code says so.
    """
    from prefdensity.posterior.pairwise import differences
    from prefdensity.reporting.answer import cautions

    ranked = "utility" in post.draws  # a user's own program may know no single utility
    with staged(out) as folder:
        post.save(folder / "fit.nc")
        write_csv(folder, parameters=post.parameters(level=level))
        if ranked:
            write_csv(folder, summary=post.summary(level=level))
        if reference is not None:
            write_csv(folder, differences=differences(post, level, reference))
        rankings.write(folder)
        checked = _checked(post, data, folder / "report.html" if ranked else None, level, reference)
        written = sorted(path.name for path in folder.iterdir())
    if ranked:
        show_ranking(post, level)
    rankings.show()
    typer.echo("\n".join(post.quality()))
    typer.echo(f"wrote {out}: {', '.join(written)}")
    if checked is None:
        typer.echo("prefdensity: interrupted, so the fit is not checked; prefdensity report does so", err=True)
        raise typer.Exit(INTERRUPTED)
    said = [*post.quality(), checked.caution]
    for sentence in cautions(post, data, checked):
        if sentence not in said:  # once is enough
            typer.echo(f"warning: {sentence}", err=True)
    show_verdict(post, checked)
    if post.status.interrupted:
        raise typer.Exit(INTERRUPTED)


def _checked(
    post: "Posterior", data: "Comparisons | Choices", report: Path | None, level: float, reference: str | None
) -> "CheckReport | None":
    """Check a fit and write its report, if there is one; None after Ctrl-C."""
    from prefdensity.checking.check import check
    from prefdensity.reporting.report import write_report

    try:
        checked = check(post, data)
        if report is not None:
            command = shlex.join(["prefdensity", *sys.argv[1:]])
            write_report(post, data, report, level=level, reference=reference, command=command, checked=checked)
    except KeyboardInterrupt:
        return None
    return checked


@app.command(epilog="Example: prefdensity report results/fit.nc votes.csv --ordered")
@one_sentence
@reads_a_table
def report(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons | Choices",
    out: Annotated[
        Path | None, typer.Option(help="File to write; report.html beside FIT.nc by default.", metavar="FILE")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE"),
    ] = None,
    level: Annotated[float, typer.Option(help="Posterior mass of intervals.", min=0.01, max=0.999)] = 0.9,
    reference: Reference = None,
    cost: Cost = False,
) -> None:
    """Write the report of a saved fit again; FILE and its options must be those of the fit."""
    from prefdensity.checking.check import check
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting.report import write_report

    post = load_posterior(saved, model)
    require_item(reference, post.items)
    checked = check(post, data)
    costs = show_costs(checked, post, data) if cost else []
    target = out or saved.with_name("report.html")
    written = write_report(post, data, target, title, level=level, reference=reference, checked=checked, costs=costs)
    typer.echo(f"wrote {written}")
    show_verdict(post, checked)


@app.command(epilog="Example: prefdensity check results/fit.nc votes.csv --ordered")
@one_sentence
@reads_a_table
def check(
    saved: Annotated[Path, typer.Argument(metavar="FIT.nc", help="A fit saved by 'prefdensity fit'.")],
    data: "Comparisons | Choices",
    replicates: Annotated[int, typer.Option(help="Tables to replicate from the fit.", min=20)] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the replicated tables.", min=0)] = 0,
    cost: Cost = False,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", help="The .py file of the fit, if it was one.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for check.csv, suspects.csv and two pictures; with --cost a report too.")
    ] = None,
) -> None:
    """Say what the data hold against a fit, who shows it, and which model to try; FILE must be that of the fit."""
    from prefdensity.checking import check
    from prefdensity.posterior.posterior import load_posterior
    from prefdensity.reporting import plots
    from prefdensity.reporting.answer import next_step
    from prefdensity.reporting.report import write_report

    post = load_posterior(saved, model)
    found = check.check(post, data, replicates=replicates, seed=seed)
    typer.echo(str(found))
    typer.echo(next_step(found))
    costs = show_costs(found, post, data, seed) if cost else []
    tables = {"check": found.table, "suspects": found.suspects()}
    tables |= {f"cost_{k}": told.table for k, told in enumerate(costs, 1)}
    if out is not None:
        with results(out) as folder:
            write_csv(folder, **tables)
            if costs:
                write_report(post, data, folder / "report.html", checked=found, costs=costs)
            plots.check(found).savefig(folder / "check.svg")
            plots.calibration_curve(found.calibration_curve).savefig(folder / "calibration.svg")


@app.command(epilog=f"Example: prefdensity compare votes.csv --models {TIES} {LONGER} --ordered")
@one_sentence
@reads_a_table
def compare(
    data: "Comparisons | Choices",
    models: Annotated[
        list[str],
        typer.Option("--models", "-m", help="Models to compare, one after the other.", metavar="MODEL..."),
    ],
    more: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            help="What to leave out: comparison (of rankings, choice; the default), pair, item, annotator (somebody "
            "new), context, or another label such as a column of --group."
        ),
    ] = None,
    refit: Annotated[bool, typer.Option(help="Refit without the units that importance sampling fails on.")] = True,
    method: Annotated[Method, typer.Option(help="Inference; auto: the cheapest good one.")] = Method.auto,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for compare.csv and a picture; none by default.")] = None,
    arviz: Annotated[
        bool, typer.Option("--arviz", help="Put the fits with log likelihoods into the folder too, for az.from_netcdf.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Fit several models and say which predicts better: leave-one-out density with paired differences."""
    from prefdensity.comparison import compare
    from prefdensity.inference import fitting
    from prefdensity.programs.loading import load_program
    from prefdensity.reporting import plots

    if arviz and out is None:
        raise DataError("--arviz writes files: name a folder for them with --out")
    show = False if quiet else None
    programs = {program.name: program for program in map(load_program, [*models, *(more or [])])}
    posts = {
        name: fitting.fit_wholly(program, data, method=method.value, seed=seed, progress=show)
        for name, program in programs.items()
    }
    found = compare.compare(posts, data, unit=unit, refit=refit, seed=seed, progress=show)
    typer.echo(str(found))
    if out is not None:
        with results(out) as folder:
            write_csv(folder, compare=found.table)
            plots.comparison(found).savefig(folder / "compare.svg")
            for name in posts if arviz else ():
                found.save_arviz(name, folder / f"{name.replace('/', '_')}.nc")


app.command(epilog="Example: prefdensity leaderboard results/fit.nc votes.csv --as markdown --anchor gpt-4=1114")(
    one_sentence(reads_a_table(leaderboard))
)
app.command(epilog="Example: prefdensity tables results/fit.nc votes.csv --out tables")(
    one_sentence(reads_a_table(tables))
)
app.command(epilog="Example: prefdensity annotate results/fit.nc votes.csv --out labels.csv")(one_sentence(annotate))
app.command(epilog="Example: prefdensity reward results/fit.nc pairs.jsonl --format chosen_rejected --out rewards.csv")(
    one_sentence(reads_a_table(reward))
)
app.command(epilog="Example: prefdensity policies results/fit.nc votes.csv --by country --report policies.html")(
    one_sentence(reads_a_table(policies))
)
app.command(epilog="Example: prefdensity audit results/fit.nc votes.csv --annotator judge --refit --out audit")(
    one_sentence(reads_a_table(audit))
)
app.command(
    "likelihood-ratio",
    epilog=f"Example: prefdensity likelihood-ratio votes.csv --models {TIES} {LONGER} --ordered",
)(one_sentence(likelihood_ratio))
app.command(epilog=f"Example: prefdensity select votes.csv --model {FIRST} --n 20 --out next.csv")(one_sentence(select))
app.command(epilog=f"Example: prefdensity battles votes.csv --model {FIRST} --n 1000 --top 5 --out battles.csv")(
    one_sentence(battles)
)
app.command("select-study", epilog="Example: prefdensity select-study --world linear --seeds 20 --out study")(
    one_sentence(select_study)
)
app.command(
    "judge-study",
    epilog="Example: prefdensity judge-study --truths noise_free,contrarian_40 --replicates 100 --out judge-study",
)(one_sentence(judge_study))

pcal = typer.Typer(
    no_args_is_help=True, help="Labels or preferences under a budget: design a purchase, estimate from it."
)
pcal.command(epilog="Example: prefdensity pcal design pilot.csv --covariate age --budget 3 --cost 10 --units rest.csv")(
    one_sentence(design)
)
pcal.command(epilog="Example: prefdensity pcal estimate collected.csv --covariate age")(one_sentence(estimate))
pcal.command(
    epilog="Example: prefdensity pcal plan pilot.csv --rung crowd=vote --price crowd=0.5 --price label=10 --money 500 "
    "--units 4000"
)(one_sentence(plan))
pcal.command(
    epilog="Example: prefdensity pcal update collected.csv --rung crowd=vote --price crowd=0.5 --price label=10 "
    "--money 500 --units 4000"
)(one_sentence(update))
pcal.command(epilog="Example: prefdensity pcal measure collected.csv --rung crowd=vote")(one_sentence(measure))
pcal.command(epilog=f"Example: prefdensity pcal expect units.csv --program {LONGEST} --annotator who --ordered")(
    one_sentence(expect)
)
pcal.command(epilog="Example: prefdensity pcal study --world world.py --money 1000 --units 5000")(one_sentence(study))
app.add_typer(pcal, name="pcal")
