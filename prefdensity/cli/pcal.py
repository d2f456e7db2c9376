"""The commands `pcal design` and `pcal estimate`: whom to label and compare, and what it tells in the end."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.cli.bundles import with_bundles
from prefdensity.cli.shell import require_writable, results
from prefdensity.errors import DataError
from prefdensity.programs.defaults import STUDIED
from prefdensity.words import share

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.judged.expectations import JudgeFit
    from prefdensity.judged.units import Judged
    from prefdensity.pcal.estimate import PcalEstimate
    from prefdensity.pcal.functionals import Functional
    from prefdensity.pcal.nuisances import Nuisance
    from prefdensity.pcal.plan import PcalDesign

_READING = "How to read the table"
_TARGET = "What to estimate"


class Target(StrEnum):
    """What is estimated."""

    linear = "linear"
    logistic = "logistic"
    poisson = "poisson"
    mean = "mean"
    quantile = "quantile"


class Dependent(StrEnum):
    """What to do with judges who depend on whether a label is bought."""

    refuse = "refuse"
    mask = "mask"
    keep = "keep"


class Calibration(StrEnum):
    """How much of the guesses is used."""

    scalar = "scalar"
    split = "split"  # type: ignore[assignment]  # str has a method of this name
    single = "single"
    identity = "identity"


def _option(flag: str, words: str, panel: str = _READING, metavar: str | None = "COLUMN") -> Any:
    return typer.Option(flag, help=words, metavar=metavar, rich_help_panel=panel)


Cost = Annotated[float, typer.Option(help="Price of a label with its preference; a preference costs 1.")]
NuisanceOption = Annotated[
    str,
    typer.Option(
        help=f"Model of labels and preferences: gaussian, linear, or a judge program such as {STUDIED[2]}. "
        "It never decides validity."
    ),
]
CalibrationOption = Annotated[Calibration, typer.Option(help="Multipliers of the nuisance.")]
Level = Annotated[float, typer.Option(help="Mass of the intervals.", min=0.01, max=0.999)]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a file of units is read."""

    covariate: Annotated[list[str] | None, _option("--covariate", "Numeric covariate; repeatable.")] = None
    output: Annotated[list[str] | None, _option("--output", "The two AI outputs, in order; default w1 and w2.")] = None
    preference: Annotated[
        list[str] | None, _option("--preference", "Column with a, b or tie (or 1 and 0); one for each judge.")
    ] = None
    judge: Annotated[
        list[str] | None, _option("--judge", "Column with who gave the verdict; one for each --preference.")
    ] = None
    labeller: Annotated[
        list[str] | None,
        _option(
            "--labeller",
            "Judge whose verdicts come with the label: a labeller who also compares, or one asked only where a label "
            "is bought. They are set aside and counted; repeatable.",
            metavar="JUDGE",
        ),
    ] = None
    label: Annotated[str, _option("--label", "Column of the label.")] = "label"

    def judged(self, frame: "pd.DataFrame", path: Path, cost: float | None, **more: Any) -> "Judged":
        """Return the units of a file; `more` is what else `Judged.from_frame` is told."""
        from prefdensity.judged.units import Judged

        return Judged.from_frame(
            frame, covariates=self.covariate or [], outputs=self.output or ["w1", "w2"],
            preference=self.preference or "preference", judge=self.judge or None, labellers=self.labeller or (),
            label=self.label, cost=cost, source=str(path), **more,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What is estimated, and what of it is to be precise."""

    target: Annotated[Target, typer.Option(help="What to estimate.", rich_help_panel=_TARGET)] = Target.linear
    probability: Annotated[
        float, _option("--probability", "Which quantile: the smallest label that reaches this share.", _TARGET, "P")
    ] = 0.5
    intercept: Annotated[
        bool, typer.Option("--intercept/--no-intercept", rich_help_panel=_TARGET, help="Of a regression.")
    ] = True
    criterion: Annotated[
        str, _option("--criterion", "What is to be precise: relative, trace, or a coefficient.", _TARGET, "WHAT")
    ] = "relative"

    @property
    def functional(self) -> "Functional":
        """What is estimated."""
        from prefdensity.pcal import functionals
        from prefdensity.pcal.quantiles import Quantile

        if self.target is Target.mean:
            return functionals.Mean()
        if self.target is Target.quantile:
            return Quantile((self.probability,))
        kind = {
            Target.linear: functionals.LinearRegression,
            Target.logistic: functionals.LogisticRegression,
            Target.poisson: functionals.PoissonRegression,
        }[self.target]
        return kind(intercept=self.intercept)


@dataclass(frozen=True, kw_only=True)
class Bought:
    """Where a file says how units were bought, and what to make of it."""

    cost: Annotated[float | None, typer.Option(help="Price of a label with its preference, to check spending.")] = None
    budget: Annotated[float | None, typer.Option(help="Mean cost of a unit that was allowed.")] = None
    dependent_judges: Annotated[
        Dependent,
        typer.Option(
            rich_help_panel=_READING,
            help="Where who judges, or what they say, depends on whether a label was bought: refuse the table, mask "
            "(leave out) all verdicts of such judges, or keep them; intervals are then not valid.",
        ),
    ] = Dependent.refuse
    buy: Annotated[
        str | None,
        _option(
            "--buy",
            "Column with what was asked for (label, preference, nothing), as design writes it: losses are "
            "then counted. Default: the column buy, where there is one.",
        ),
    ] = None
    weigh_returns: Annotated[
        bool,
        typer.Option(
            "--weigh-returns",
            rich_help_panel=_READING,
            help="Weigh by the chance, logistic in covariates, outputs and verdicts, that what was asked for came "
            "back; valid where loss depends on these only.",
        ),
    ] = False
    label_probability: Annotated[str, _option("--label-probability", "Column.")] = "label_probability"
    preference_probability: Annotated[str, _option("--preference-probability", "Column.")] = "preference_probability"
    stage: Annotated[str | None, _option("--stage", "Column of the batch that a unit was bought in.")] = None
    cluster: Annotated[str | None, _option("--cluster", "Column: units of a cluster are dependent.")] = None

    def judged(self, frame: "pd.DataFrame", path: Path, columns: Columns) -> "Judged":
        """Return the units of a file as they are to be used."""
        from prefdensity.pcal.nonresponse import weigh_returns

        table = columns.judged(
            frame, path, self.cost, buy=self.buy or ("buy" if "buy" in frame.columns else None), stage=self.stage,
            label_probability=self.label_probability, preference_probability=self.preference_probability,
            cluster=self.cluster,
        )  # fmt: skip
        return _usable(weigh_returns(table) if self.weigh_returns else table, self.dependent_judges)


@with_bundles
def design(
    pilot: Annotated[Path, typer.Argument(metavar="PILOT.csv", help="Units with labels and preferences.")],
    budget: Annotated[float, typer.Option(help="Mean cost of a unit, in preferences.")],
    cost: Cost,
    columns: Columns,
    aim: Aim,
    units: Annotated[
        Path | None,
        typer.Option(help="Units to buy from: covariates and outputs. Default: the design only.", metavar="FILE"),
    ] = None,
    constant: Annotated[bool, typer.Option("--constant", help="The same probabilities for all units.")] = False,
    floor: Annotated[float, typer.Option(help="Least probability of a label.")] = 0.02,
    nuisance: NuisanceOption = "gaussian",
    calibration: CalibrationOption = Calibration.scalar,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-design"),
) -> None:
    """Learn from a pilot whom to label and whom to compare; write who is to be bought, at what precision."""
    from prefdensity.data.files import read_rows
    from prefdensity.pcal.plan import pcal_design
    from prefdensity.reporting import pcal_plots
    from prefdensity.reporting.pcal_report import write_design_report

    require_writable(out)
    table = columns.judged(read_rows(pilot), pilot, cost)
    guess, fitted = _nuisance(nuisance, table, seed)
    plan = pcal_design(
        table, budget=budget, cost=cost, functional=aim.functional, nuisance=guess, criterion=aim.criterion,
        aware=not constant, calibration=calibration.value, floor=floor, seed=seed,
    )  # fmt: skip
    frame = table.to_frame()[list(table.features)] if units is None else read_rows(units)
    planned = plan.apply(frame) if units is None else plan.assign(frame, seed=seed)
    _show_design(plan, planned, aim.criterion, level)
    with results(out) as folder:
        if units is not None:
            planned.to_csv(folder / "units.csv", index=False)
        plan.curve(len(frame), plan.budgets(40), level).to_csv(folder / "curve.csv", index=False)
        first, second = table.features[-2:]
        pcal_plots.allocation(planned, (first, second)).savefig(folder / "allocation.svg")
        if plan.single:
            pcal_plots.cost_precision(plan, len(frame), level).savefig(folder / "curve.svg")
        write_design_report(plan, planned, folder / "report.html", pilot.name, level=level, judge=fitted)


def _show_design(plan: "PcalDesign", planned: "pd.DataFrame", criterion: str, level: float) -> None:
    """Say who is bought, at what price and precision."""
    p1, p2 = planned["label_probability"], planned["preference_probability"]
    spent = (plan.cost - 1) * p1.mean() + p2.mean()
    typer.echo(
        f"label {share(p1.mean())} of units, compare {share((p2 - p1).mean())} more, at {spent:.4g} a unit. "
        f"{plan.worth}"
    )
    if plan.single:
        length = plan.length(len(planned), level)
        typer.echo(f"{level:.0%} interval of {criterion} from {len(planned)} units: length {length:.4g}")


@with_bundles
def estimate(
    collected: Annotated[Path, typer.Argument(metavar="COLLECTED.csv", help="Units with what was bought for them.")],
    bought: Bought,
    columns: Columns,
    aim: Aim,
    population: Annotated[int | None, typer.Option(help="Size of the finite population drawn from.", min=1)] = None,
    nuisance: NuisanceOption = "gaussian",
    calibration: CalibrationOption = Calibration.scalar,
    level: Level = 0.9,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("pcal-estimate"),
) -> None:
    """Estimate from labels, preferences and unlabelled units; write tables and the comparison with labels alone.

    Intervals are valid whatever the nuisance says if three things hold. Purchases went by the probabilities of the
    table; verdicts were made the same way with and without a label (the same judges, who know the same); and what was
    bought came back. The table is tested for all three.
    """
    from prefdensity.data.files import read_rows
    from prefdensity.pcal.estimate import pcal

    require_writable(out)
    table = bought.judged(read_rows(collected), collected, columns)
    guess, fitted = _nuisance(nuisance, table, seed)
    found = pcal(
        table, aim.functional, guess, criterion=aim.criterion, calibration=calibration.value, level=level,
        population=population, budget=bought.budget, dependent_judges="keep", seed=seed,
    )  # fmt: skip
    typer.echo(found.summary().to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for name, count in table.aside:
        typer.echo(f"{count:,} verdicts of {name} are set aside")
    with results(out) as folder:
        _write_estimate(found, fitted, seed, folder, collected.name)
    for sentence in found.warnings:
        typer.echo(f"warning: {sentence}", err=True)


def _write_estimate(found: "PcalEstimate", judge: "JudgeFit | None", seed: int, folder: Path, title: str) -> None:
    """Write the tables, the picture and the page of an estimate."""
    from prefdensity.reporting import pcal_plots
    from prefdensity.reporting.pcal_report import write_estimate_report

    comparison, purchases = found.comparison(), found.purchases
    tables = {
        "estimate": found.summary(),
        "bands": found.bands(seed=seed),
        "comparison": comparison,
        "diagnostics": found.diagnostics(),
        "purchases_counts": purchases.counts,
        "purchases_tests": purchases.tests,
        "purchases_judges": purchases.judges,
        "residuals": found.residuals(),
        "influence": type(comparison)(found.influence, columns=list(found.names)),
    }
    if found.judged.cost is not None:
        tables["equal_cost"] = found.equal_cost()
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    pcal_plots.interval_comparison(comparison).savefig(folder / "comparison.svg")
    write_estimate_report(found, folder / "report.html", title, judge=judge)


def _usable(table: "Judged", dependent_judges: Dependent) -> "Judged":
    """Return the table as asked; a refusal in the words of the command line."""
    from prefdensity.pcal.purchase_checks import Purchases, usable

    if dependent_judges is Dependent.refuse and (breach := Purchases(table).breach) is not None:
        raise DataError(
            f"{breach}; name judges whose verdicts come with the label (--labeller), or leave out all verdicts of such "
            "judges (--dependent-judges mask)"
        )
    return usable(table, dependent_judges.value)


def _nuisance(name: str, table: "Judged", seed: int) -> "tuple[Nuisance, JudgeFit | None]":
    """Return a nuisance by name, and the fit behind it if it is a judge program."""
    from prefdensity.judged.fit import fit_judge
    from prefdensity.pcal.nuisances import GaussianNuisance, LinearNuisance
    from prefdensity.pcal.program_nuisance import MovedNuisance

    if name in ("gaussian", "linear"):
        return (GaussianNuisance() if name == "gaussian" else LinearNuisance()), None
    judge = fit_judge(name, table, method="laplace", seed=seed)
    return MovedNuisance(judge), judge
