"""The commands `pcal plan`, `update` and `measure`: what to buy for the money, the next round, what it tells."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.cli.bundles import with_bundles
from prefdensity.cli.ladder_options import Collected, Ladder, Level, Purchase, Seed, Stage
from prefdensity.cli.shell import require_writable, results, write_csv
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.judged.measured import Measured
    from prefdensity.pcal.functionals import Functional
    from prefdensity.pcal.ladder import LadderEstimate
    from prefdensity.pcal.ladder_plan import LadderPlan


@with_bundles
def plan(
    pilot: Annotated[Path, typer.Argument(metavar="PILOT.csv", help="Units where all was measured, and a label.")],
    purchase: Purchase,
    ladder: Ladder,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="The pilot stays in the estimate, for its units and judges are like the rest."),
    ] = False,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-plan"),
) -> None:
    """Learn from a pilot what to buy for the money: a shopping list, its precision, break-even prices."""
    require_writable(out)
    table = ladder.table(pilot, prices=purchase.prices(ladder.names))
    found = purchase.plan(table, table if keep else None, ladder, level, seed)
    _write_plan(found, purchase.want, seed, out, pilot.name)


@with_bundles
def update(
    collected: Annotated[
        Path, typer.Argument(metavar="COLLECTED.csv", help="All rounds so far, with what was bought.")
    ],
    purchase: Purchase,
    ladder: Ladder,
    stage: Stage = None,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-update"),
) -> None:
    """Plan the next round from all rounds so far: money goes where they have not bought enough.

    Probabilities are in columns NAME_probability. What was bought counts in the precision that is expected, as
    `pcal measure --pool` takes all rounds as one purchase.
    """
    from prefdensity.pcal.rounds import apart, pooled

    require_writable(out)
    prices = purchase.prices(ladder.names)
    kept = pooled(apart(ladder.table(collected, prices=prices, stage=stage, probabilities=ladder.chances)))
    _write_plan(purchase.plan(kept, kept, ladder, level, seed), purchase.want, seed, out, collected.name)


def _write_plan(found: "LadderPlan", want: float | None, seed: int, out: Path, title: str) -> None:
    """Say what a plan says, and write its tables, picture and report."""
    from prefdensity.reporting.ladder_report import cost_curve, headline, write_plan_report

    for sentence in headline(found):
        typer.echo(sentence)
    if len(found.pilot.ladder) > 1:
        for row in found.break_even().to_dict("records"):
            typer.echo(f"{row['what']} at {row['price']:.4g} breaks even at {row['break_even']:.4g}")
    if want is not None:
        typer.echo(f"+- {want:g} needs {found.money_for(want):,.6g}")
    curve = found.curve(found.moneys(30))
    with results(out) as folder:
        found.shopping().to_csv(folder / "shopping.csv", index=False)
        found.ways().to_csv(folder / "ways.csv", index=False)
        found.break_even().to_csv(folder / "break_even.csv", index=False)
        found.worse().to_csv(folder / "worse.csv", index=False)
        found.assign(found.units, seed=seed).to_csv(folder / "units.csv", index=False)
        curve.to_csv(folder / "curve.csv", index=False)
        cost_curve(found, curve).savefig(folder / "curve.svg")
        write_plan_report(found, curve, folder / "report.html", title)


@with_bundles
def measure(
    collected: Annotated[Path, typer.Argument(metavar="COLLECTED.csv", help="Units with what was bought for them.")],
    bought: Collected,
    ladder: Ladder,
    against: Annotated[
        float | None,
        typer.Option(
            help="Test each estimate against this value. With --stage, as rounds: say whether it is decided to be "
            "above or below, by intervals that hold at every look."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="COLUMN",
            help="Further column of labels of the same units, estimated as --label is; repeatable. Intervals of all "
            "then hold together.",
        ),
    ] = None,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-measure"),
) -> None:
    """Estimate from all rungs of a ladder; probabilities are in columns NAME_probability, as plan writes them."""
    from prefdensity.pcal.ladder import ladder as estimated
    from prefdensity.reporting.ladder_report import write_ladder_report

    if bought.pool and bought.stage is None:
        raise DataError("--pool needs --stage")
    require_writable(out)
    table = bought.table(collected, ladder)
    asked: dict[str, Any] = {"criterion": ladder.criterion, "level": level, "seed": seed}
    found = estimated(bought.used(table), ladder.functional, **asked)
    if bought.stage is not None:
        _warn_of_drift(table, ladder.functional, bought.pool)
    typer.echo(found.summary().to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    with results(out) as folder:
        found.summary().to_csv(folder / "estimate.csv", index=False)
        found.comparison().to_csv(folder / "comparison.csv", index=False)
        write_ladder_report(found, folder / "report.html", collected.name)
        _asked_for(found, ladder, folder)
        if bought.stage is not None and not bought.pool:
            _rounds(found, against, folder)
        elif against is not None:
            _tests(found, against, folder)
        if metric:
            labels = [replace(ladder, label=name) for name in (ladder.label, *metric)]
            _metrics(
                {each.label: estimated(bought.used(bought.table(collected, each)), each.functional, **asked)
                 for each in labels}, folder,
            )  # fmt: skip
    for sentence in found.warnings:
        typer.echo(f"warning: {sentence}".replace("of coming back,", "of coming back (--weigh-returns),"), err=True)


def _asked_for(found: "LadderEstimate", ladder: Ladder, folder: Path) -> None:
    """Write the tables that a target, or the table of purchases, brings with it."""
    from prefdensity.pcal.nonresponse import losses
    from prefdensity.pcal.ranks import ranks

    write_csv(folder, purchases=found.purchase_tests())
    if found.judged.asked is not None:
        write_csv(folder, losses=losses(found.judged))
    if ladder.between is not None:
        write_csv(folder, ranks=ranks(found))
    if ladder.by is not None:
        write_csv(folder, differences=found.differences())


def _tests(found: "LadderEstimate", against: float, folder: Path) -> None:
    """Say and write the p-values of one look."""
    tests = found.p_values(against)
    for name, p_value in tests.items():
        typer.echo(f"{name} against {against:g}: p {p_value:.2g}")
    write_csv(folder, tests=tests.rename_axis("parameter").reset_index().assign(against=against))


def _metrics(found: "dict[str, LadderEstimate]", folder: Path) -> None:
    """Say and write intervals of several metrics that hold together."""
    from prefdensity.pcal.ranks import jointly

    table = jointly(found)
    typer.echo("all at once:")
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    write_csv(folder, metrics=table)


def _rounds(found: "LadderEstimate", against: float | None, folder: Path) -> None:
    """Write what holds at every look, and whether rounds drift; say what is decided."""
    from prefdensity.pcal.rounds import anytime, decided, drift

    anytime(found).to_csv(folder / "anytime.csv", index=False)
    if against is not None:
        for name, said in decided(found, against).items():
            typer.echo(f"{name}: {said if said == 'open' else f'{said} {against:g}'}, at every look")
    if len(found.stages) > 1:
        drift(found).to_csv(folder / "drift.csv", index=False)


def _warn_of_drift(table: "Measured", functional: "Functional", pool: bool) -> None:
    """Say where labels given a judge differ between the rounds that have enough labels to tell."""
    from prefdensity.pcal.ladder import ladder
    from prefdensity.pcal.rounds import apart, drift, together

    fewest = len(functional.names(table)) + 2
    rounds = [each for each in apart(table) if each.labelled.sum() >= fewest]
    if len(rounds) < 2:
        return
    tests = drift(ladder(together(rounds), functional))
    so = "leave out --pool" if pool else "the estimate speaks of the rounds on average"
    for row in tests[tests["p_value"] < 0.01].to_dict("records"):
        typer.echo(
            f"warning: labels given {row['what']} differ between rounds (p {row['p_value']:.1g}): a judge or the units "
            f"changed; {so}",
            err=True,
        )
