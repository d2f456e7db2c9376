"""Is what is wrong named first, and what is right left alone? `python -m benchmarks.diagnosis [WORLD ...] --tables N`.

Of a world with one thing wrong, tables are drawn anew, the simple program is fitted, and `check` or `audit`, whichever
is the door for it, must name the true cause first. Of programs that are right (`--right`, by name, or all of them)
nothing may be accused by either. A line is printed for each table, and the shares at the end.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import prefdensity
from benchmarks.diagnosis_worlds import RIGHT, WORLDS, World, drawn
from prefdensity import Comparisons

REPLICATES = 60


def told(door: str, program: str, data: Comparisons) -> list[str]:
    """Return what a check or an audit of a program accuses, what comes first first."""
    post = prefdensity.fit(program, data, method="laplace", draws=400, progress=False)
    if door == "audit":
        return [f"{each.name}: {each.who}" for each in prefdensity.audit(post, data).found]
    report = prefdensity.check(post, data, replicates=REPLICATES)
    off = [] if report.verdict == "stands" else [report.headline]
    return [f"{each.name} ({each.check})" for each in report.causes] or off


def named(world: World, seed: int) -> tuple[bool, bool, list[str]]:
    """Return whether the true cause is first, whether anything is accused, and what is."""
    found = told(world.door, world.program, world.draw(np.random.default_rng([seed, 77])))  # type: ignore[arg-type]
    return bool(found) and any(cause in found[0] for cause in world.causes), bool(found), found


def accused(program: str, seed: int) -> list[str]:
    """Return what is said against a program that is right."""
    data = drawn(program, np.random.default_rng([seed, 55]))
    return [*told("check", program, data), *told("audit", program, data)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(WORLDS)}; with --right of {', '.join(RIGHT)}")
    parser.add_argument("--right", action="store_true", help="programs that are right in the place of worlds")
    parser.add_argument("--tables", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first table")
    asked = parser.parse_args()
    seeds = range(asked.seed, asked.seed + asked.tables)
    known = RIGHT if asked.right else tuple(WORLDS)
    for name in asked.names or known:
        if name not in known:
            parser.error(f"no {name!r}; there are {', '.join(known)}")
        first, any_ = 0, 0
        started = time.process_time()
        for seed in seeds:
            if asked.right:
                found = accused(name, seed)
            else:
                right, _, found = named(WORLDS[name], seed)
                first += right
            any_ += bool(found)
            print(f"  {name} {seed}: {'; '.join(found) or 'nothing'}", flush=True)
        seconds = (time.process_time() - started) / len(seeds)
        cause = "" if asked.right else f"the true cause first in {first}, "
        print(f"{name}: {cause}something accused in {any_} of {len(seeds)}; {seconds:.1f} CPU s each", flush=True)


if __name__ == "__main__":
    sys.exit(main())
