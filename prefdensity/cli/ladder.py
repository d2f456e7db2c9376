"""The commands `pcal plan`, `update` and `measure`: what to buy for the money, the next round, what it tells."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.cli.shell import require_writable, results, write_csv
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.judged.measured import Measured
    from prefdensity.pcal.functionals import Functional
    from prefdensity.pcal.ladder import LadderEstimate
    from prefdensity.pcal.ladder_plan import LadderPlan


class LadderTarget(StrEnum):
    """What is estimated."""

    mean = "mean"
    linear = "linear"
    logistic = "logistic"


Rungs = Annotated[
    list[str] | None,
    typer.Option(
        "--rung", metavar="NAME=COLUMN+COLUMN",
        help="A measure between what is free and the label: its name and columns; repeat from the cheapest up.",
    ),
]  # fmt: skip
Prices = Annotated[
    list[str],
    typer.Option("--price", metavar="NAME=MONEY", help="What a rung, or label, adds to the price; one for each."),
]
Free = Annotated[
    list[str] | None, typer.Option("--free", metavar="COLUMN", help="Free measure, numbers or words; repeatable.")
]
Covariates = Annotated[
    list[str] | None,
    typer.Option("--covariate", metavar="COLUMN", help="Covariate of a regression, numbers or words; repeatable."),
]
By = Annotated[
    str | None, typer.Option("--by", metavar="COLUMN", help="Subgroups: the mean in each; not with --covariate.")
]
Between = Annotated[
    str | None,
    typer.Option(
        "--between", metavar="FIRST,SECOND",
        help="Columns of the systems compared, the label for the first: their utilities and ranks.",
    ),
]  # fmt: skip
Money = Annotated[float, typer.Option(help="To be spent, in the currency of the prices.")]
Units = Annotated[int, typer.Option(help="New units to buy from.", min=2)]
Want = Annotated[float | None, typer.Option(help="Half length of the interval that is wanted: what money it needs.")]
Minus = Annotated[
    str | None, typer.Option("--minus", metavar="COLUMN", help="Taken from the label: the difference of two systems.")
]
Values = Annotated[
    list[str] | None,
    typer.Option("--value", metavar="WORD=NUMBER", help="What a word of the label counts: win=1, tie=.5, loss=0."),
]
Label = Annotated[str, typer.Option("--label", metavar="COLUMN", help="Column of the label.")]
TargetOption = Annotated[LadderTarget, typer.Option("--target", help="What to estimate.")]
Criterion = Annotated[str, typer.Option("--criterion", metavar="WHAT", help="The coefficient that is to be precise.")]
Level = Annotated[float, typer.Option(help="Mass of the intervals.", min=0.01, max=0.999)]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)]


def plan(
    pilot: Annotated[Path, typer.Argument(metavar="PILOT.csv", help="Units where all was measured, and a label.")],
    money: Money,
    units: Units,
    price: Prices,
    rung: Rungs = None,
    free: Free = None,
    covariate: Covariates = None,
    label: Label = "label",
    minus: Minus = None,
    value: Values = None,
    by: By = None,
    between: Between = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="The pilot stays in the estimate, for its units and judges are like the rest."),
    ] = False,
    target: TargetOption = LadderTarget.mean,
    criterion: Criterion = "relative",
    want: Want = None,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-plan"),
) -> None:
    """Learn from a pilot what to buy for the money: a shopping list, its precision, break-even prices."""
    from prefdensity.pcal.ladder_plan import ladder_plan

    require_writable(out)
    rungs = _rungs(rung)
    table = _measured(
        pilot, rungs, free, covariate, label, minus=minus, values=_values(value), by=by, between=_between(between),
        prices=_prices(price, (*rungs, "label")),
    )  # fmt: skip
    found = ladder_plan(
        table, money=money, units=units, kept=table if keep else None, functional=_functional(target, by, between),
        criterion=criterion, level=level, seed=seed,
    )  # fmt: skip
    _write_plan(found, want, seed, out, pilot.name)


def update(
    collected: Annotated[
        Path, typer.Argument(metavar="COLLECTED.csv", help="All rounds so far, with what was bought.")
    ],
    money: Money,
    units: Units,
    price: Prices,
    rung: Rungs = None,
    free: Free = None,
    covariate: Covariates = None,
    label: Label = "label",
    minus: Minus = None,
    value: Values = None,
    by: By = None,
    between: Between = None,
    stage: Annotated[str | None, typer.Option("--stage", metavar="COLUMN", help="The round of a unit.")] = None,
    target: TargetOption = LadderTarget.mean,
    criterion: Criterion = "relative",
    want: Want = None,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-update"),
) -> None:
    """Plan the next round from all rounds so far: money goes where they have not bought enough.

    Probabilities are in columns NAME_probability. What was bought counts in the precision that is expected, as
    `pcal measure --pool` takes all rounds as one purchase.
    """
    from prefdensity.pcal.ladder_plan import ladder_plan
    from prefdensity.pcal.rounds import apart, pooled

    require_writable(out)
    rungs = _rungs(rung)
    table = _measured(
        collected, rungs, free, covariate, label, minus=minus, values=_values(value), by=by, between=_between(between),
        prices=_prices(price, (*rungs, "label")), stage=stage, probabilities=_chances(rungs),
    )  # fmt: skip
    kept = pooled(apart(table))
    found = ladder_plan(
        kept, money=money, units=units, kept=kept, functional=_functional(target, by, between), criterion=criterion,
        level=level, seed=seed,
    )  # fmt: skip
    _write_plan(found, want, seed, out, collected.name)


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


def measure(
    collected: Annotated[Path, typer.Argument(metavar="COLLECTED.csv", help="Units with what was bought for them.")],
    rung: Rungs = None,
    free: Free = None,
    covariate: Covariates = None,
    label: Label = "label",
    minus: Minus = None,
    value: Values = None,
    by: By = None,
    between: Between = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="COLUMN", help="Units of a cluster are dependent.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="COLUMN", help="The batch that a unit was bought in.")
    ] = None,
    pool: Annotated[
        bool,
        typer.Option("--pool", help="With --stage: units and judges are alike in all rounds, which are one purchase."),
    ] = False,
    against: Annotated[
        float | None,
        typer.Option(
            help="With --stage, as rounds: say whether each estimate is decided to be above or below this value, by "
            "intervals that hold at every look."
        ),
    ] = None,
    target: TargetOption = LadderTarget.mean,
    criterion: Criterion = "relative",
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-measure"),
) -> None:
    """Estimate from all rungs of a ladder; probabilities are in columns NAME_probability, as plan writes them."""
    from prefdensity.pcal.ladder import ladder
    from prefdensity.pcal.ranks import ranks
    from prefdensity.pcal.rounds import apart, pooled
    from prefdensity.reporting.ladder_report import write_ladder_report

    if against is not None and stage is None:
        raise DataError("--against is for rounds; name the column of the round with --stage")
    if pool and (stage is None or against is not None):
        raise DataError("--pool needs --stage, and is for one look: it does not go with --against")
    require_writable(out)
    rungs = _rungs(rung)
    table = _measured(
        collected, rungs, free, covariate, label, minus=minus, values=_values(value), by=by, between=_between(between),
        probabilities=_chances(rungs), cluster=cluster, stage=stage,
    )  # fmt: skip
    functional = _functional(target, by, between)
    used = pooled(apart(table)) if pool else table
    found = ladder(used, functional, criterion=criterion, level=level, seed=seed)
    if stage is not None:
        _warn_of_drift(table, functional, pool)
    typer.echo(found.summary().to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    with results(out) as folder:
        found.summary().to_csv(folder / "estimate.csv", index=False)
        found.comparison().to_csv(folder / "comparison.csv", index=False)
        found.purchase_tests().to_csv(folder / "purchases.csv", index=False)
        write_ladder_report(found, folder / "report.html", collected.name)
        if between is not None:
            write_csv(folder, ranks=ranks(found))
        if stage is not None and not pool:
            _rounds(found, against, folder)
    for sentence in found.warnings:
        typer.echo(f"warning: {sentence}", err=True)


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


def _measured(
    path: Path, rungs: dict[str, list[str]], free: list[str] | None, covariates: list[str] | None, label: str,
    **columns: Any,
) -> "Measured":  # fmt: skip
    """Return the table of a file; columns may be paths into nested cells, as in logs of evaluations."""
    from prefdensity.data.files import read_rows
    from prefdensity.data.nesting import flattened
    from prefdensity.judged.measured import Measured

    chances = columns.get("probabilities") or {}
    single = [columns.get(name) for name in ("minus", "by", "cluster", "stage")]
    every = [*sum(rungs.values(), []), *(free or ()), *(covariates or ()), label, *chances.values(), *single,
             *(columns.get("between") or ())]  # fmt: skip
    wanted = [name for name in every if name]
    frame = flattened(read_rows(path, known=frozenset(wanted)), wanted, str(path), [])
    return Measured.from_frame(
        frame, ladder=rungs, free=free or (), covariates=covariates or (), label=label, source=str(path), **columns
    )


def _chances(rungs: dict[str, list[str]]) -> dict[str, str]:
    """Return the columns of probabilities, as plan writes them."""
    return {name: f"{name}_probability" for name in (*rungs, "label")}


def _between(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    first, _, second = given.partition(",")
    if not (first and second):
        raise DataError(f"--between {given} must be FIRST,SECOND, two columns")
    return first.strip(), second.strip()


def _functional(target: LadderTarget, by: str | None, between: str | None) -> "Functional":
    from prefdensity.pcal import functionals

    if between is not None:
        return functionals.BradleyTerry()
    if by is not None:
        return functionals.LinearRegression(intercept=False)
    return {
        LadderTarget.mean: functionals.Mean,
        LadderTarget.linear: functionals.LinearRegression,
        LadderTarget.logistic: functionals.LogisticRegression,
    }[target]()


def _rungs(given: list[str] | None) -> dict[str, list[str]]:
    """Return columns by rung, from NAME=COLUMN+COLUMN."""
    out: dict[str, list[str]] = {}
    for text in given or ():
        name, _, columns = text.partition("=")
        if not (name and columns) or name in out:
            raise DataError(f"--rung {text} must be NAME=COLUMN or NAME=COLUMN+COLUMN, each name once")
        out[name] = columns.split("+")
    return out


def _numbers(option: str, given: list[str] | None, example: str) -> dict[str, float]:
    """Return numbers by name, from NAME=NUMBER."""
    out = {}
    for text in given or ():
        name, _, number = text.rpartition("=")
        try:
            out[name] = float(number)
        except ValueError:
            raise DataError(f"{option} {text} must be NAME=NUMBER, such as {example}") from None
    return out


def _values(given: list[str] | None) -> dict[str, float] | None:
    return _numbers("--value", given, "win=1") or None


def _prices(given: list[str], names: tuple[str, ...]) -> dict[str, float]:
    out = _numbers("--price", given, "crowd=0.5")
    for name in out:
        if name not in names:
            raise DataError(f"--price {name}={out[name]:g} names no rung; these are {', '.join(names)}")
    missing = [name for name in names if name not in out]
    if missing:
        raise DataError(f"{missing[0]} has no price; give --price {missing[0]}=MONEY")
    return out
