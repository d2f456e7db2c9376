"""The commands `judge-study` and `pcal study`: what a wrong judge costs, and estimators in a world of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from prefdensity.cli.shell import leave, require_writable, results


def judge_study(
    truths: Annotated[str | None, typer.Option(help="True judges, with commas; default all.")] = None,
    nuisances: Annotated[str | None, typer.Option(help="Nuisances, with commas; default all.")] = None,
    replicates: Annotated[int, typer.Option(help="Replicates in all.", min=2)] = 500,
    pilots: Annotated[int, typer.Option(help="Pilot tables that they share.", min=1)] = 5,
    units: Annotated[int, typer.Option(help="Units of a replicate.", min=100)] = 5000,
    budget: Annotated[float, typer.Option(help="Mean cost of a unit; a preference costs 1.", min=0.01)] = 3.0,
    cost: Annotated[float, typer.Option(help="Cost of a label with its preference.", min=1.01)] = 10.0,
    shift: Annotated[float, typer.Option(help="By how much output 2 is too high; 0: symmetric, as published.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="Folder for table.csv, pictures and a report.")] = Path("judge-study"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Simulate what a wrong model of the judge costs: lengths, coverage, bias of a coefficient under a budget."""
    from prefdensity.pcal import study
    from prefdensity.reporting import study_plots
    from prefdensity.reporting.study_report import write_study_report

    require_writable(out)
    found = study.judge_study(
        truths=tuple(study.TRUTHS) if truths is None else [name.strip() for name in truths.split(",")],
        nuisances=study.NUISANCES if nuisances is None else [name.strip() for name in nuisances.split(",")],
        replicates=replicates,
        pilots=pilots,
        units=units,
        budget=budget,
        cost=cost,
        shift=shift,
        seed=seed,
        jobs=jobs,
        progress=False if quiet else None,
    )
    typer.echo(str(found))
    with results(out) as folder:
        found.table.to_csv(folder / "table.csv", index=False)
        title = "What a wrong model of the judge costs"
        write_study_report(found.table, found.settings, folder / "report.html", title, found.notes)
        study_plots.lengths(found.table).savefig(folder / "lengths.svg")
        study_plots.coverage(found.table).savefig(folder / "coverage.svg")
    leave(found.notes)


def study(
    world: Annotated[
        Path, typer.Option(metavar="FILE.py", help="Says how units come about: see the guide; it is run.")
    ],
    money: Annotated[float, typer.Option(help="To be spent beside the pilot.")],
    units: Annotated[int, typer.Option(help="Units to buy from.", min=2)],
    pilot: Annotated[int, typer.Option(help="Units that are wholly measured first.", min=10)] = 100,
    replicates: Annotated[int, typer.Option(help="Draws of all units.", min=2)] = 200,
    level: Annotated[float, typer.Option(help="Mass of the intervals.", min=0.01, max=0.999)] = 0.9,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)] = 0,
    out: Annotated[Path, typer.Option(help="Folder for table.csv and a report.")] = Path("pcal-study"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")] = False,
) -> None:
    """Measure labels only, ladders and estimators of one's own in a world: coverage and length at equal cost."""
    from prefdensity.pcal.world_study import LadderWorld, world_study
    from prefdensity.reporting.study_report import write_world_study_report

    require_writable(out)
    found = world_study(
        LadderWorld.read(world), pilot=pilot, money=money, units=units, replicates=replicates, level=level, seed=seed,
        progress=False if quiet else None,
    )  # fmt: skip
    typer.echo(str(found))
    with results(out) as folder:
        found.table.to_csv(folder / "table.csv", index=False)
        write_world_study_report(found, folder / "report.html", world.stem)
    leave(found.notes)
