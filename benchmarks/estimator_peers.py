"""Peers of `benchmarks.estimators` on its draws: GLIDE buys by its cost-optimal sampler, and ppi-python and evalstats
estimate from what it bought. Run in the environment of the peers; prints one JSON line per estimate.

    python -m benchmarks.estimator_peers WORLD SIZE REPLICATES
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import evalstats
import numpy as np
from glide.estimators import ASIMeanEstimator
from glide.samplers import CostOptimalRandomSampler
from ppi_py import ppi_mean_ci
from scipy.stats import norm

from benchmarks.estimator_worlds import LABEL, LEVEL, SIZES, WORLDS, Array, lost, units


def glide(y: Array, said: Array, chance: Array) -> tuple[float, float]:
    """Return the interval of active statistical inference, power-tuned."""
    found = ASIMeanEstimator().estimate(y, said, chance, confidence_level=LEVEL).confidence_interval
    return found.lower_bound, found.upper_bound


def ppi(y: Array, said: Array, chance: Array) -> tuple[float, float]:
    """Return the interval of PPI++."""
    labelled, heard = ~np.isnan(y), chance > 0
    lower, upper = ppi_mean_ci(y[labelled], said[labelled], said[heard & ~labelled], alpha=1 - LEVEL)
    return float(lower[0]), float(upper[0])


def evalstats_interval(y: Array, said: Array, chance: Array) -> tuple[float, float]:
    """Return the interval of evalstats, by its closed form."""
    labelled, heard = ~np.isnan(y), chance > 0
    found = evalstats.ppi.correct(
        np.mean, Y_lab=y[labelled], Y_hat_lab=said[labelled], Y_hat_unlab=said[heard & ~labelled], alpha=1 - LEVEL,
        compute_pvalue=False, backend="analytic", rng=0,
    )  # fmt: skip
    return found.ci_low, found.ci_high


def labels(y: Array) -> tuple[float, float]:
    """Return the textbook interval of labels alone."""
    seen = y[~np.isnan(y)]
    half = norm.isf((1 - LEVEL) / 2) * seen.std(ddof=1) / len(seen) ** 0.5
    return float(seen.mean() - half), float(seen.mean() + half)


METHODS: dict[str, tuple[str, Callable[[Array, Array, Array], tuple[float, float]]]] = {
    "GLIDE": ("glide-py", glide),
    "PPI++": ("ppi-python", ppi),
    "evalstats": ("evalstats", evalstats_interval),
}


def bought(world: str, size: str, replicate: int) -> tuple[Array, Array, Array]:
    """Return labels, NaN where not bought, what the dearest judge says, and probabilities of a label; 0: left alone.

    The pilot is kept, as labels for sure. The peers hear one judge.
    """
    y, said = units(world, size, replicate)
    judge, price, given = said[:, -1], WORLDS[world].prices[-1], SIZES[size]
    sampler = CostOptimalRandomSampler().fit(y[: given.pilot], judge[: given.pilot])
    chance, drawn = sampler.sample(given.units, LABEL, price, given.money, random_seed=replicate)
    y, chance = y.copy(), np.concatenate([np.ones(given.pilot), chance])
    y[given.pilot :][drawn != 1] = np.nan
    y[lost(world, size, replicate, said)] = np.nan
    return y, judge, chance


def _estimate(
    method: Callable[[Array, Array, Array], tuple[float, float]], y: Array, said: Array, chance: Array
) -> tuple[float, float]:
    """Return the interval of a method; where every unit that is heard has a label nothing is left to predict."""
    return labels(y) if not np.isnan(y[chance > 0]).any() else method(y, said, chance)


def main() -> None:
    """Print an estimate per line: method, replicate, lower, upper, CPU seconds, version."""
    world, size, replicates = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for replicate in range(replicates):
        try:
            table: tuple[Array, Array, Array] | None = bought(world, size, replicate)
        except ValueError:  # a pilot without any event has no variance to design with
            table = None
        for name, (package, method) in METHODS.items():
            began = time.process_time()
            try:
                lower, upper = (np.nan, np.nan) if table is None else _estimate(method, *table)
            except (ValueError, ZeroDivisionError):
                lower = upper = np.nan
            row = {"method": name, "replicate": replicate, "lower": float(lower), "upper": float(upper)}
            print(json.dumps(row | {"seconds": time.process_time() - began, "version": version(package)}))


if __name__ == "__main__":
    main()
