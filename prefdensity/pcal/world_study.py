"""Estimators in a world of one's own: coverage, length and error at equal cost, of ours and of any that is given.

A world is a file of Python that says how units come about and what they cost. Every estimator has the same pilot and
the same money; it buys from the same units, and says its interval.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.errors import DataError, FitError, require_whole
from prefdensity.judged.measured import Measured
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.ladder import ladder
from prefdensity.pcal.ladder_plan import ladder_plan
from prefdensity.pcal.rounds import pooled, together
from prefdensity.programs.loading import import_file
from prefdensity.progress import progress as progress_bar
from prefdensity.shown import Tabled
from prefdensity.words import shortened
from prefdensity.workers import gathered

Interval = tuple[float, float, float]  # estimate, lower, upper
Estimator = Callable[[Measured, Measured, float, float, int], Interval]  # of a pilot, units, money, level and a seed


@dataclass(frozen=True)
class LadderWorld:
    """How units come about, and what they cost.

    Attributes
    ----------
    draw
        From a generator and a number of units to a data frame of them, all measured: the column "label", and those of
        `ladder` and `free`.
    truth
        The mean of labels.
    ladder, prices, free, cluster
        As in `Measured.from_frame`.
    estimators
        By name: functions of the pilot, the units, money, mass of the interval and a seed, that return estimate, lower
        and upper end. The units are all measured: an estimator uses what it buys of them, by `Measured.bought`.
    """

    draw: Callable[[np.random.Generator, int], pd.DataFrame]
    truth: float
    ladder: Mapping[str, Any]
    prices: Mapping[str, float]
    free: tuple[str, ...] = ()
    cluster: str | None = None
    estimators: Mapping[str, Estimator] | None = None

    @classmethod
    def read(cls, path: Path) -> LadderWorld:
        """Return the world that a file defines by `draw`, `truth`, `ladder`, `prices`, and what else there is.

        The file is run: it is to be trusted as any program is.

        Raises
        ------
        DataError
            If there is no such file, or it does not define them.
        ProgramError
            If it cannot be run.
        """
        if not path.is_file():
            raise DataError(f"there is no file {path} to read a world from")
        module: ModuleType = import_file(path.resolve())
        needed = ("draw", "truth", "ladder", "prices")
        missing = [name for name in needed if not hasattr(module, name)]
        if missing:
            raise DataError(f"{path} does not define {missing[0]}; a world needs {', '.join(needed)}")
        more = {name: getattr(module, name) for name in ("free", "cluster", "estimators") if hasattr(module, name)}
        return cls(*(getattr(module, name) for name in needed), **more)

    def units(self, rng: np.random.Generator, n: int) -> Measured:
        """Return units, all measured."""
        frame = self.draw(rng, n)
        if not isinstance(frame, pd.DataFrame):
            raise DataError(f"draw must return a data frame of units, and returned a {type(frame).__name__}")
        if len(frame) != n:
            raise DataError(f"draw returned {len(frame)} units where {n} were asked for")
        return Measured.from_frame(
            frame, ladder=self.ladder, prices=self.prices, free=self.free, cluster=self.cluster, source="the world"
        )


@dataclass(frozen=True, eq=False, repr=False)
class WorldStudy(Tabled):
    """Results of `world_study`.

    Attributes
    ----------
    table
        One row per estimator: estimator, bias, rmse, length, ratio (of the length to that of labels only), coverage,
        their Monte-Carlo errors bias_se, length_se, coverage_se, failed (replicates without an interval), seconds (CPU,
        of one replicate).
    settings
        What was asked for, and how many replicates there are.
    notes
        How many draws there are, where Ctrl-C ended the study.
    """

    table: pd.DataFrame
    settings: dict[str, Any]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        table = self.table.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return "\n".join([table, *self.notes])


def world_study(
    world: LadderWorld,
    *,
    pilot: int = 100,
    money: float,
    units: int,
    replicates: int = 200,
    level: float = 0.9,
    seed: int = 0,
    progress: bool | None = None,
) -> WorldStudy:
    """Measure our estimators and those of a world on the same draws, at equal cost.

    Ours are "labels only"; "labels and free measures"; "ladder", which plans from the pilot and takes all as one
    purchase; and "ladder by rounds", which holds where judges change after the pilot.

    Parameters
    ----------
    world
        How units come about, and estimators beside ours.
    pilot
        Units that everyone has measured wholly, and keeps.
    money, units
        To be spent beside the pilot, and units to buy from.
    replicates
        Pilots and units drawn anew.
    level
        Mass of the intervals.
    seed
        Of everything random.
    progress
        Show a progress bar on stderr; None: if it is a terminal.

    Returns
    -------
    WorldStudy. After Ctrl-C that of the draws that are complete, if they are two or more.

    Raises
    ------
    DataError
        For fewer than 2 replicates, or a name of an estimator that ours have.
    """
    if not isinstance(world, LadderWorld):
        raise DataError(f"world must be a LadderWorld, and this is a {type(world).__name__}")
    taken = [name for name in world.estimators or {} if name in _OURS]
    if taken:
        raise DataError(f"an estimator of the world is called {taken[0]!r}, as one of ours; call it something else")
    for name, value, least in (
        ("replicates", replicates, 2),
        ("pilot", pilot, 2),
        ("units", units, 2),
        ("seed", seed, 0),
    ):
        require_whole(name, value, least)
    asked = (world, pilot, money, units, level, seed)
    with progress_bar(progress) as report:
        draws, notes = gathered((_draw(*asked, k) for k in range(replicates)), replicates, 2, "draws", report)
    columns = ["estimator", "replicate", "estimate", "lower", "upper", "seconds"]
    settings = {"pilot": pilot, "money": money, "units": units, "replicates": len(draws), "level": level, "seed": seed}
    return WorldStudy(_summary(pd.DataFrame(sum(draws, []), columns=columns), world.truth), settings, notes)


def _draw(
    world: LadderWorld, pilot: int, money: float, units: int, level: float, seed: int, number: int
) -> list[tuple[Any, ...]]:
    """Return the interval of every estimator in one draw, and the CPU seconds that it took."""
    rng = np.random.default_rng([seed, number])
    first, rest = world.units(rng, pilot), world.units(rng, units)
    rows = []
    for name, estimator in (_OURS | dict(world.estimators or {})).items():
        began = time.process_time()
        try:
            found = _interval(name, estimator(first, rest, money, level, number))
        except FitError:  # such as a rate without any event
            found = (np.nan,) * 3
        rows.append((name, number, *found, time.process_time() - began))
    return rows


def _interval(name: str, found: Any) -> Interval:
    """Return what an estimator said; refuse what is no interval."""
    try:
        estimate, lower, upper = map(float, found)
    except (TypeError, ValueError):
        said = shortened(repr(found))
        raise DataError(
            f"the estimator {name!r} returned {said}; it must return estimate, lower and upper end"
        ) from None
    return estimate, lower, upper


def _summary(rows: pd.DataFrame, truth: float) -> pd.DataFrame:
    there = rows.dropna(subset=["lower", "upper"])
    there = there.assign(
        error=there["estimate"] - truth, length=there["upper"] - there["lower"],
        covered=((there["lower"] <= truth) & (truth <= there["upper"])).astype(float),
    )  # fmt: skip
    by = there.groupby("estimator", sort=False)
    root = by.size() ** 0.5
    table = pd.DataFrame({"bias": by["error"].mean(), "rmse": by["error"].apply(lambda e: float((e**2).mean() ** 0.5))})
    table["length"], table["coverage"] = by["length"].mean(), by["covered"].mean()
    table.insert(3, "ratio", table["length"] / table["length"].get("labels only", np.nan))
    table["bias_se"], table["length_se"] = by["error"].std() / root, by["length"].std() / root
    table["coverage_se"] = (table["coverage"] * (1 - table["coverage"])) ** 0.5 / root
    every = rows.groupby("estimator", sort=False)
    table = table.reindex(every.size().index)
    table["failed"], table["seconds"] = (
        every.size() - by.size().reindex(table.index, fill_value=0),
        every["seconds"].mean(),
    )
    return table.reset_index()


def _ends(found: Any) -> Interval:
    row = found.summary().iloc[0]
    return float(row["estimate"]), float(row["lower"]), float(row["upper"])


def _labels(pilot: Measured, units: Measured, money: float, level: float, seed: int, calibration: str) -> Interval:
    bare = [each.without(*each.ladder[:-1]) for each in (pilot, units)]
    assert bare[1].prices is not None  # a world has prices
    p = np.minimum([money / float(bare[1].prices[0]) / len(units)], 1.0)
    second = bare[1].bought(p, 1 - draw(np.tile(p, (len(units), 1)), seed))
    return _ends(ladder(pooled([bare[0], second]), calibration=calibration, level=level))


def _labels_only(pilot: Measured, units: Measured, money: float, level: float, seed: int) -> Interval:
    return _labels(pilot, units, money, level, seed, "none")


def _with_free(pilot: Measured, units: Measured, money: float, level: float, seed: int) -> Interval:
    return _labels(pilot, units, money, level, seed, "scalar")


def _planned(
    pilot: Measured, units: Measured, money: float, level: float, seed: int, keep: bool
) -> tuple[list[Measured], str]:
    """Return the pilot and what is bought by a plan from it, and how free measures are used."""
    kept = pilot if keep else None
    option, p = ladder_plan(pilot, money=money, units=len(units), kept=kept, level=level).best()
    rungs = option.names[:0:-1]
    reached = len(p) - draw(np.tile(p, (len(units), 1)), seed)
    rounds = [pilot.only(*rungs), units.only(*rungs).bought(p[::-1], reached)]
    return rounds, "none" if option.alone else "scalar"


def _ladder(pilot: Measured, units: Measured, money: float, level: float, seed: int) -> Interval:
    rounds, calibration = _planned(pilot, units, money, level, seed, keep=True)
    return _ends(ladder(pooled(rounds), calibration=calibration, level=level))


def _by_rounds(pilot: Measured, units: Measured, money: float, level: float, seed: int) -> Interval:
    rounds, calibration = _planned(pilot, units, money, level, seed, keep=False)
    return _ends(ladder(together(rounds), calibration=calibration, level=level))


_OURS: dict[str, Estimator] = {
    "labels only": _labels_only,
    "labels and free measures": _with_free,
    "ladder": _ladder,
    "ladder by rounds": _by_rounds,
}
