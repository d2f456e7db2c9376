"""The options of ladders that `pcal plan`, `update` and `measure` share: the table of units, the aim, the purchase."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.judged.measured import Measured
    from prefdensity.pcal.functionals import Functional
    from prefdensity.pcal.ladder_plan import LadderPlan


class LadderTarget(StrEnum):
    """What is estimated."""

    mean = "mean"
    linear = "linear"
    logistic = "logistic"


def _option(flag: str, words: str, metavar: str = "COLUMN") -> Any:
    return typer.Option(flag, help=words, metavar=metavar)


Level = Annotated[float, typer.Option(help="Mass of the intervals.", min=0.01, max=0.999)]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0)]
Stage = Annotated[str | None, _option("--stage", "The round, or batch, that a unit was bought in.")]


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How a file of units is read as a ladder of measures, and what is estimated from it."""

    rung: Annotated[
        list[str] | None,
        _option(
            "--rung",
            "A measure between what is free and the label: its name and columns; repeat from the cheapest up.",
            "NAME=COLUMN+COLUMN",
        ),
    ] = None
    free: Annotated[list[str] | None, _option("--free", "Free measure, numbers or words; repeatable.")] = None
    covariate: Annotated[
        list[str] | None, _option("--covariate", "Covariate of a regression, numbers or words; repeatable.")
    ] = None
    label: Annotated[str, _option("--label", "Column of the label.")] = "label"
    minus: Annotated[str | None, _option("--minus", "Taken from the label: the difference of two systems.")] = None
    value: Annotated[
        list[str] | None,
        _option("--value", "What a word of the label counts: win=1, tie=.5, loss=0.", "WORD=NUMBER"),
    ] = None
    by: Annotated[str | None, _option("--by", "Subgroups: the mean in each; not with --covariate.")] = None
    between: Annotated[
        str | None,
        _option(
            "--between",
            "Columns of the systems compared, the label for the first: their utilities and ranks.",
            "FIRST,SECOND",
        ),
    ] = None
    target: Annotated[LadderTarget, typer.Option(help="What to estimate.")] = LadderTarget.mean
    criterion: Annotated[str, _option("--criterion", "The coefficient that is to be precise.", "WHAT")] = "relative"

    @property
    def rungs(self) -> dict[str, list[str]]:
        """Columns by rung, from NAME=COLUMN+COLUMN."""
        out: dict[str, list[str]] = {}
        for text in self.rung or ():
            name, _, columns = text.partition("=")
            if not (name and columns) or name in out:
                raise DataError(f"--rung {text} must be NAME=COLUMN or NAME=COLUMN+COLUMN, each name once")
            out[name] = columns.split("+")
        return out

    @property
    def names(self) -> tuple[str, ...]:
        """What is bought: the rungs, then the label."""
        return (*self.rungs, "label")

    @property
    def chances(self) -> dict[str, str]:
        """The columns of probabilities, as plan writes them."""
        return {name: f"{name}_probability" for name in self.names}

    @property
    def functional(self) -> "Functional":
        """What is estimated."""
        from prefdensity.pcal import functionals

        if self.between is not None:
            return functionals.BradleyTerry()
        if self.by is not None:
            return functionals.Means()
        return {
            LadderTarget.mean: functionals.Mean,
            LadderTarget.linear: functionals.LinearRegression,
            LadderTarget.logistic: functionals.LogisticRegression,
        }[self.target]()

    def table(self, path: Path, **said: Any) -> "Measured":
        """Return the table of a file; columns may be paths into nested cells, as in logs of evaluations.

        `said` is what else `Measured.from_frame` is told: prices, probabilities, cluster, stage, buy.
        """
        from prefdensity.data.files import read_rows
        from prefdensity.data.nesting import flattened
        from prefdensity.judged.measured import Measured

        free, covariates, between = self.free or (), self.covariate or (), _between(self.between)
        rungs, chances = self.rungs, said.get("probabilities") or {}
        single = [self.minus, self.by, said.get("cluster"), said.get("stage"), said.get("buy")]
        every = [*sum(rungs.values(), []), *free, *covariates, self.label, *chances.values(), *single, *(between or ())]
        wanted = [name for name in every if name]
        frame = flattened(read_rows(path, known=frozenset(wanted)), wanted, str(path), [])
        if "buy" in said:  # as plan writes it
            said["buy"] = said["buy"] or ("buy" if "buy" in frame.columns else None)
        return Measured.from_frame(
            frame, ladder=rungs, free=free, covariates=covariates, label=self.label, minus=self.minus,
            values=_numbers("--value", self.value, "win=1") or None, by=self.by, between=between, source=str(path),
            **said,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Collected:
    """How a file says what was bought, and what came back of it."""

    cluster: Annotated[str | None, _option("--cluster", "Units of a cluster are dependent.")] = None
    stage: Stage = None
    pool: Annotated[
        bool,
        typer.Option("--pool", help="With --stage: units and judges are alike in all rounds, which are one purchase."),
    ] = False
    buy: Annotated[
        str | None,
        _option(
            "--buy",
            "The dearest rung that was asked for, as plan writes it: what never came back is counted. Default: the "
            "column buy, where there is one.",
        ),
    ] = None
    weigh_returns: Annotated[
        bool,
        typer.Option(
            "--weigh-returns",
            help="Weigh by the chance, logistic in what was seen of a unit, that what was asked for came back.",
        ),
    ] = False

    def table(self, path: Path, ladder: Ladder) -> "Measured":
        """Return the table of a file, as it was bought."""
        return ladder.table(
            path, probabilities=ladder.chances, cluster=self.cluster, stage=self.stage, buy=self.buy
        )  # fmt: skip

    def used(self, table: "Measured") -> "Measured":
        """Return the table as it is estimated from: rounds put together, and weighed, where that is asked for."""
        from prefdensity.pcal.nonresponse import weigh_returns
        from prefdensity.pcal.rounds import apart, pooled

        found = pooled(apart(table)) if self.pool else table
        return weigh_returns(found) if self.weigh_returns else found


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """What can be bought, at which prices, for how much."""

    money: Annotated[float, typer.Option(help="To be spent, in the currency of the prices.")]
    units: Annotated[int, typer.Option(help="New units to buy from.", min=2)]
    price: Annotated[
        list[str], _option("--price", "What a rung, or label, adds to the price; one for each.", "NAME=MONEY")
    ]
    want: Annotated[
        float | None, typer.Option(help="Half length of the interval that is wanted: what money it needs.")
    ] = None

    def prices(self, names: tuple[str, ...]) -> dict[str, float]:
        """Return the price of each of what is bought."""
        out = _numbers("--price", self.price, "crowd=0.5")
        for name in out:
            if name not in names:
                raise DataError(f"--price {name}={out[name]:g} names no rung; these are {', '.join(names)}")
        missing = [name for name in names if name not in out]
        if missing:
            raise DataError(f"{missing[0]} has no price; give --price {missing[0]}=MONEY")
        return out

    def plan(self, pilot: "Measured", kept: "Measured | None", ladder: Ladder, level: float, seed: int) -> "LadderPlan":
        """Return what to buy, as learned from a pilot; what is kept counts in the precision that is expected."""
        from prefdensity.pcal.ladder_plan import ladder_plan

        return ladder_plan(
            pilot, money=self.money, units=self.units, kept=kept, functional=ladder.functional,
            criterion=ladder.criterion, level=level, seed=seed,
        )  # fmt: skip


def _between(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    first, _, second = given.partition(",")
    if not (first and second):
        raise DataError(f"--between {given} must be FIRST,SECOND, two columns")
    return first.strip(), second.strip()


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
