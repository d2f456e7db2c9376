"""Labels or preferences: lengths beside the published archive, and time beside networks as published.

    python -m benchmarks.pcal --replicates 100      # the whole grid of budgets for labels at 5, 10 and 20
    python -m benchmarks.pcal --peer 5              # time and lengths beside the networks, both in this process

Lengths are those of 90% intervals of the first coefficient, n = 20,000, a pilot of 2,000; CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from benchmarks import pcal_peer
from prefdensity.judged.simulate import COEFFICIENT, JudgedWorld, buy
from prefdensity.judged.units import Judged
from prefdensity.pcal import LinearRegression, pcal, pcal_design
from prefdensity.pcal.allocation import draw

REGRESSION = LinearRegression(intercept=False)
Z = norm.ppf(0.95)
PILOTS = 10

# lengths in the authors' archive: constant, covariate-aware, labels and unlabelled, labels only
ARCHIVE = {
    (5, 1): (0.776, 0.662, 0.803, 0.833), (5, 2): (0.547, 0.478, 0.570, 0.588),
    (5, 3): (0.450, 0.413, 0.470, 0.480), (5, 4): (0.399, 0.389, 0.412, 0.416),
    (10, 1): (1.073, 0.924, 1.150, 1.180), (10, 2): (0.736, 0.626, 0.803, 0.832),
    (10, 3): (0.597, 0.516, 0.655, 0.679), (10, 4): (0.517, 0.460, 0.571, 0.589),
    (10, 5): (0.466, 0.427, 0.513, 0.526), (10, 6): (0.434, 0.405, 0.471, 0.480),
    (10, 7): (0.412, 0.392, 0.438, 0.445), (10, 8): (0.395, 0.384, 0.412, 0.416),
    (10, 9): (0.383, 0.381, 0.391, 0.392), (20, 1): (1.553, 1.315, 1.655, 1.667),
    (20, 3): (0.815, 0.707, 0.926, 0.964), (20, 5): (0.623, 0.539, 0.718, 0.746),
    (20, 10): (0.456, 0.422, 0.513, 0.526), (20, 19): (0.377, 0.376, 0.381, 0.382),
}  # fmt: skip


def purchase(full: Judged, p1: Any, p2: Any, rng: np.random.Generator) -> Judged:
    """Buy at an exact cost."""
    p = np.broadcast_to(np.stack([p1, p2], -1), (len(full), 2))
    return buy(full, p1, p2, draw(p, rng) + 1)


def cell(cost: float, budget: float, n: int, replicates: int) -> dict[str, tuple[float, float, float]]:
    """Return by method: mean length, coverage of all coefficients, mean cost."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for pilot in range(PILOTS):
        world = JudgedWorld.draw(pilot)
        pilot_units = world.units(2000, np.random.default_rng([pilot, 1]), cost)
        designs = {
            name: pcal_design(
                pilot_units, budget=budget, cost=cost, functional=REGRESSION, criterion="x1", aware=name == "aware"
            )
            for name in ("constant", "aware")
        }
        for replicate in range(max(1, replicates // PILOTS)):
            full = world.units(n, np.random.default_rng([pilot, 2, replicate]), cost)
            rng = np.random.default_rng([pilot, 3, replicate])
            tables = {name: purchase(full, *design.probabilities(full), rng) for name, design in designs.items()}
            tables["unlabelled"] = tables["labels"] = purchase(full, budget / cost, budget / cost, rng)
            for name, table in tables.items():
                found = pcal(table, REGRESSION, calibration="none" if name == "labels" else "scalar")
                half = Z * found.standard_error
                covered = float((np.abs(found.theta - COEFFICIENT) <= half).mean())
                rows.setdefault(name, []).append((2 * half[0], covered, table.spent))
    return {name: tuple(np.mean(values, 0)) for name, values in rows.items()}  # type: ignore[misc]


def grid(costs: list[int], n: int, replicates: int) -> None:
    """Print the table: ours, then the archive, for every whole budget below a label."""
    print(f"n = {n:,}, {replicates} replicates over {PILOTS} pilots; in brackets the archived length (100 replicates)")
    print("| label | budget | constant | covariate-aware | labels and unlabelled | labels only | coverage | cost |")
    print("|---|---|---|---|---|---|---|---|")
    started = time.process_time()
    for cost in costs:
        for budget in range(1, cost):
            found = cell(cost, budget, n, replicates)
            archived = ARCHIVE.get((cost, budget), (None,) * 4)
            lengths = [
                f"{found[name][0]:.3f}" + (f" ({old:.3f})" if old is not None else "")
                for name, old in zip(("constant", "aware", "unlabelled", "labels"), archived, strict=True)
            ]
            covered = "/".join(f"{found[name][1]:.2f}" for name in ("constant", "aware"))
            spent = "/".join(f"{found[name][2]:.3f}" for name in ("constant", "aware"))
            print(f"| {cost} | {budget} | {' | '.join(lengths)} | {covered} | {spent} |", flush=True)
    print(f"{time.process_time() - started:.0f} CPU seconds")


def timed(work: Callable[[], Any], times: int = 1) -> tuple[Any, float]:
    """Return the result of `work` and its CPU seconds, the mean of `times` runs."""
    started = time.process_time()
    for _ in range(times):
        found = work()
    return found, (time.process_time() - started) / times


def beside_the_peer(n: int, replicates: int, budget: float = 3.0, cost: float = 10.0) -> None:
    """Print CPU seconds of stage 1 and of a cross-fit, and mean lengths, for networks and for closed forms."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = JudgedWorld.draw(0)
    pilot = world.units(2000, np.random.default_rng([0, 1]), cost)
    full = world.units(n, np.random.default_rng([0, 2]), cost)

    def plan(aware: bool) -> tuple[Any, Any]:
        design = pcal_design(pilot, budget=budget, cost=cost, functional=REGRESSION, criterion="x1", aware=aware)
        return design, design.probabilities(full)

    print(f"n = {n:,}, budget {budget:g}, label at {cost:g}, {replicates} replicates; CPU seconds, one thread")
    print("| design | part | networks | closed forms | ratio |")
    print("|---|---|---|---|---|")
    for aware in (False, True):
        name = "covariate-aware" if aware else "constant"
        learn = pcal_peer.network_design if aware else pcal_peer.constant_design
        theirs, slow = timed(functools.partial(learn, pilot, budget, cost))
        plan(aware)  # the first call imports
        (design, _), fast = timed(functools.partial(plan, aware), 20)
        print(f"| {name} | stage 1 | {slow:.2f} | {fast:.4f} | {slow / fast:,.0f} |", flush=True)
        slow, fast, lengths = 0.0, 0.0, []
        for replicate in range(replicates):
            fresh = world.units(n, np.random.default_rng([0, 3, replicate]), cost)
            rng = np.random.default_rng([0, 4, replicate])
            table = purchase(fresh, *design.probabilities(fresh), rng)
            ours, seconds = timed(functools.partial(pcal, table, REGRESSION), 3)
            fast += seconds / replicates
            table = purchase(fresh, *_probabilities(theirs, fresh), rng)
            (_, se), seconds = timed(functools.partial(pcal_peer.estimate, table, 300 if aware else 200))
            slow += seconds / replicates
            lengths.append((2 * Z * se[0], 2 * Z * ours.standard_error[0], table.spent))
        print(f"| {name} | cross-fit | {slow:.2f} | {fast:.4f} | {slow / fast:,.0f} |")
        length = np.mean(lengths, 0)
        print(f"| {name} | length (cost) | {length[0]:.3f} ({length[2]:.3f}) | {length[1]:.3f} ({budget:.3f}) | |")


def _probabilities(design: Any, units: Judged) -> tuple[Any, Any]:
    """Return p1 and p2 of a peer's design."""
    if isinstance(design, np.ndarray):
        return design[0], min(design[0] + design[1], 1.0)
    with torch.no_grad():
        a = design(torch.tensor(np.hstack([units.covariates, units.outputs]), dtype=torch.float32)).double().numpy()
    a = a / a.sum(1, keepdims=True)
    return a[:, 0], np.minimum(a[:, 0] + a[:, 1], 1.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100, help="of every cell of the grid")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--costs", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--peer", type=int, default=0, help="replicates beside the networks, instead of the grid")
    said = parser.parse_args()
    if said.peer:
        beside_the_peer(said.n, said.peer)
    else:
        grid(said.costs, said.n, said.replicates)
