"""Estimators of a mean beside each other on the same units, at equal cost: coverage, length, CPU.

    python -m benchmarks.estimators --environments FOLDER --replicates 1000
    python -m benchmarks.estimators --worlds drift weak --sizes 60

Everyone has the same pilot, in which all is measured, pays for it, and keeps its labels. With the money that is left
`labels only` buys labels; `ladder` plans from the pilot, buys, and takes both as one purchase, `ladder by rounds` as
two between which judges may change; GLIDE buys by its cost-optimal sampler, and GLIDE, ppi-python and evalstats
estimate from that purchase. Without the environment of the peers they are left out.

Where labels are lost, everyone pays for them; ours weigh by the chance of coming back.

Lengths are told twice: as the methods give them, and at equal coverage, all intervals of a method stretched about their
middles until nine in ten of them hold the truth. A method that leaves out what few labels cost gives shorter intervals
that hold less often; the second length is what it tells.

The bar: no longer than the best of the others by more than 1 % and twice its Monte-Carlo error. A method whose coverage
is short by more than .02 (.03 at 60 labels) and twice its error is no interval to be compared with as given; where that
is the ladder, its place is taken by the ladder by rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.estimator_worlds import CLUSTERS, LABEL, LEVEL, SIZES, WORLDS, Array, lost, units
from benchmarks.measuring import ENVIRONMENT, ROOT
from prefdensity.errors import FitError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import ladder, ladder_plan, pooled, together, weigh_returns
from prefdensity.pcal.allocation import draw

RESAMPLES = 400  # behind the error of lengths at equal coverage


@dataclass(frozen=True)
class Draw:
    """One draw of a world: the pilot and what there is to buy from, all seen, and whose label would be lost [unit]."""

    pilot: Measured
    pool: Measured
    lost: Array

    def came(self, bought: Measured, reached: Array) -> Measured:
        """Return what came back of what was bought: with `reached` rungs of a unit, all but lost labels."""
        return bought.lost(reached - (self.lost & (reached == len(bought.ladder)))) if self.lost.any() else bought


def table(world: str, size: str, replicate: int) -> Draw:
    """Return the pilot and what there is to buy from, all seen."""
    y, said = units(world, size, replicate)
    names = [f"judge {k}" for k in range(said.shape[1])]
    frame = pd.DataFrame(dict(zip(names, said.T, strict=True))).assign(label=y, cluster=np.arange(len(y)) % CLUSTERS)
    prices = {**dict(zip(names, WORLDS[world].prices, strict=True)), "label": LABEL}
    cluster = "cluster" if WORLDS[world].clusters else None
    every = Measured.from_frame(frame, ladder={name: name for name in names}, prices=prices, cluster=cluster)
    pilot = SIZES[size].pilot
    return Draw(every.take(slice(0, pilot)), every.take(slice(pilot, None)), lost(world, size, replicate, said)[pilot:])


def interval(found: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the only interval."""
    return float(found["lower"].iloc[0]), float(found["upper"].iloc[0])


def estimated(table: Measured, calibration: str = "scalar") -> tuple[float, float]:
    """Return the interval of a ladder, weighed for what never came back."""
    weighed = table if table.asked is None else weigh_returns(table)
    return interval(ladder(weighed, calibration=calibration, level=LEVEL).summary())


def labels_only(draws: Draw, size: str, seed: int) -> tuple[float, float]:
    """Return the interval of labels alone, all money spent on them."""
    given = SIZES[size]
    p = np.array([given.money / LABEL / given.units])
    bare = [each.without(*each.ladder[:-1]) for each in (draws.pilot, draws.pool)]
    reached = 1 - draw(np.tile(p, (given.units, 1)), seed)
    return estimated(together([bare[0], draws.came(bare[1].bought(p, reached), reached)]), "none")


def planned(draws: Draw, size: str, seed: int, kept: bool) -> tuple[Measured, Measured]:
    """Return the pilot and what was bought by a plan from it: the rungs that it chose."""
    given, pilot, pool = SIZES[size], draws.pilot, draws.pool
    plan = ladder_plan(pilot, money=given.money, units=given.units, kept=pilot if kept else None, level=LEVEL)
    option, p = plan.best()
    skipped = set(pool.ladder) - set(option.names)
    reached = len(p) - draw(np.tile(p, (given.units, 1)), seed)
    return pilot.without(*skipped), draws.came(pool.without(*skipped).bought(p[::-1], reached), reached)


def as_one(draws: Draw, size: str, seed: int) -> tuple[float, float]:
    """Return the interval of a ladder, the pilot and what it led to taken as bought at once: judges do not change."""
    return estimated(pooled(planned(draws, size, seed, kept=True)))


def by_rounds(draws: Draw, size: str, seed: int) -> tuple[float, float]:
    """Return the interval of a ladder, the pilot a round of its own: judges may change."""
    return estimated(together(planned(draws, size, seed, kept=False)))


METHODS = {"labels only": labels_only, "ladder": as_one, "ladder by rounds": by_rounds}


def ours(world: str, size: str, replicates: int) -> pd.DataFrame:
    """Return one row per method and replicate: method, replicate, lower, upper, seconds."""
    rows = []
    for replicate in range(replicates):
        draws = table(world, size, replicate)
        for name, method in METHODS.items():
            began = time.process_time()
            try:
                ends = method(draws, size, replicate)
            except FitError:  # a rate with no event among all labels
                ends = (np.nan, np.nan)
            rows.append((name, replicate, *ends, time.process_time() - began))
    return pd.DataFrame(rows, columns=["method", "replicate", "lower", "upper", "seconds"])


def peers(world: str, size: str, replicates: int, python: Path) -> pd.DataFrame:
    """Return the same of the peers, from their environment."""
    words = [str(python), "-m", "benchmarks.estimator_peers", world, size, str(replicates)]
    done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return pd.DataFrame([json.loads(line) for line in done.stdout.splitlines()])


def summary(rows: pd.DataFrame, truth: float) -> pd.DataFrame:
    """Return one row per method: lengths over labels only and their errors, coverage, failed, seconds."""
    inside = (rows["lower"] <= truth) & (truth <= rows["upper"])
    length, missed = widths(rows, truth)
    out = []
    for name, mine in rows.assign(inside=inside).groupby("method", sort=False):
        there = length[name].notna().to_numpy()
        out.append((name, *ratio(length[name], length["labels only"]), *fair(length, missed, str(name), "labels only"),
                    mine["inside"].to_numpy()[there].mean(), (~there).sum(), mine["seconds"].mean()))  # fmt: skip
    names = ["method", "length", "error", "fair", "fair_error", "coverage", "failed", "seconds"]
    return pd.DataFrame(out, columns=names).set_index("method")


def widths(rows: pd.DataFrame, truth: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return lengths, and by how much intervals must be stretched to hold the truth [replicate, method]."""
    length = rows["upper"] - rows["lower"]
    missed = (rows["upper"] + rows["lower"] - 2 * truth).abs() / length.where(length > 0)
    each = rows.assign(length=length, missed=missed)
    first, second = (each.pivot(index="replicate", columns="method", values=name) for name in ("length", "missed"))
    return first, second


def fair(length: pd.DataFrame, missed: pd.DataFrame, one: str, other: str) -> tuple[float, float]:
    """Return the ratio of mean lengths at equal coverage, and its Monte-Carlo error, by resampling replicates."""
    kept = length[[one, other]].notna().all(axis=1).to_numpy()
    size = [(length[name].to_numpy()[kept], missed[name].to_numpy()[kept]) for name in (one, other)]
    rng, n = np.random.default_rng(0), int(kept.sum())
    draws = [np.arange(n), *rng.integers(n, size=(RESAMPLES, n))]
    found = [[a[rows].mean() * np.quantile(b[rows], LEVEL) for a, b in size] for rows in draws]
    every = np.array([mine / theirs for mine, theirs in found])
    return float(every[0]), float(every[1:].std())


def ratio(one: Array, other: Array) -> tuple[float, float]:
    """Return the ratio of mean lengths over replicates where both have one, and its Monte-Carlo error."""
    pair = pd.concat([one, other], axis=1).dropna().to_numpy()
    value = pair[:, 0].mean() / pair[:, 1].mean()
    rest = pair[:, 0] - value * pair[:, 1]
    return float(value), float(rest.std() / pair[:, 1].mean() / len(pair) ** 0.5)


def against_the_best(rows: pd.DataFrame, table: pd.DataFrame, size: str, truth: float) -> list[tuple[str, ...]]:
    """Return cells of the bar, as given and at equal coverage: ours, the best of the others, their ratio, verdict."""
    length, missed = widths(rows, truth)
    off = 0.03 if size == "60" else 0.02
    error = (LEVEL * (1 - LEVEL) / len(length)) ** 0.5
    covers = (table["coverage"] > LEVEL - off - 2 * error) & (table["failed"] < 0.01 * len(length))
    mine = "ladder" if covers["ladder"] else "ladder by rounds"
    others = [name for name in length if not name.startswith("ladder") and (covers[name] or name == "labels only")]
    out = []
    for how, best in (
        ("as given", table.loc[others, "length"].idxmin()),
        ("at equal coverage", table.loc[others, "fair"].idxmin()),
    ):
        one = ratio(length[mine], length[best]) if how == "as given" else fair(length, missed, mine, str(best))
        out.append((mine, str(best), how, f"{one[0]:.3f} ({one[1]:.3f})", _verdict(*one)))
    return out


def main() -> None:
    """Print one row per world and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), metavar="WORLD")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES), metavar="LABELS")
    parser.add_argument("--environments", type=Path, metavar="FOLDER", help="where the peers' environments are")
    said = parser.parse_args()
    python = None if said.environments is None else said.environments / "estimators" / "bin" / "python"
    print("| world | labels | method | length over labels only | at equal coverage | coverage | failed | CPU ms |")
    print("|---|---|---|---|---|---|---|---|")
    bars, versions = [], ""
    for size in said.sizes:
        for world in said.worlds:
            rows = ours(world, size, said.replicates)
            if python is not None:
                theirs = peers(world, size, said.replicates, python)
                each = theirs.drop_duplicates("method")
                versions = ", ".join(f"{a} {b}" for a, b in zip(each["method"], each["version"], strict=True))
                rows = pd.concat([rows, theirs], ignore_index=True)
            found = summary(rows, WORLDS[world].truth)
            for name, row in found.iterrows():
                print(
                    f"| {world} | {size} | {name} | {row['length']:.3f} ({row['error']:.3f}) | "
                    f"{row['fair']:.3f} ({row['fair_error']:.3f}) | {row['coverage']:.3f} | {row['failed']:.0f} | "
                    f"{1000 * row['seconds']:.2f} |", flush=True,
                )  # fmt: skip
            bars += [(world, size, *each) for each in against_the_best(rows, found, size, WORLDS[world].truth)]
    print("\n| world | labels | ours | best of the others | lengths | ours over it | bar |")
    print("|---|---|---|---|---|---|---|")
    for cells in bars:
        print(f"| {' | '.join(cells)} |")
    print(f"\n{said.replicates} replicates. {versions}")


def _verdict(value: float, error: float) -> str:
    return "shorter" if value < 1 - 2 * error else "met" if value <= 1.01 + 2 * error else "missed"


if __name__ == "__main__":
    main()
