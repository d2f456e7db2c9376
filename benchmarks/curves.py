"""What more rows, items, annotators, features and draws cost: CPU seconds and memory over two decades of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.results import markdown

ROWS = {n: f"1000x{n}" for n in (10_000, 31_623, 100_000, 316_228, 1_000_000)}
ITEMS = {n: f"{n}x1000000" for n in (100, 316, 1000, 3162, 10_000)}
ANNOTATORS = {n: f"reliability:100x200000x{n}" for n in (50, 158, 500, 1581, 5000)}
FEATURES = {n: f"5000x{n}" for n in (10, 32, 100, 316, 1000)}
FIT_DRAWS = {n: f"1000x100000x{n}" for n in (100, 316, 1000, 3162, 10_000)}
LEFT_DRAWS = {n: f"1000x30000x{n}" for n in (100, 316, 1000, 3162, 10_000)}
LEFT_ROWS = {n: f"1000x{n}x1000" for n in (3162, 10_000, 31_623, 100_000, 316_228)}
# what grows, module, method, and the settings by its size
AXES = (
    ("rows", "bradley_terry", "prefdensity, mode + covariance", ROWS),
    ("rows", "bradley_terry", "prefdensity, whole fit", ROWS),
    ("items", "bradley_terry", "prefdensity, mode + covariance", ITEMS),
    ("items", "bradley_terry", "prefdensity, whole fit", ITEMS),
    ("annotators", "annotators", "prefdensity, laplace", ANNOTATORS),
    ("features", "embeddings", "linear", FEATURES),
    ("features", "embeddings", "linear+reliability", FEATURES),
    ("draws", "embeddings", "fit", FIT_DRAWS),
    ("draws", "embeddings", "loo", LEFT_DRAWS),
    ("rows", "embeddings", "loo", LEFT_ROWS),
)
HEAD = ("what grows", "job", "sizes", "engine", "fit CPU s", "peak MB", "exponent of time", "exponent of memory")


def curves(run: Any) -> str:
    """Measure along each axis."""
    floor = run.measure("end_to_end", "import prefdensity.fit", "-").get("memory", 0.0)
    lines = [
        [axis, method, *line({n: run.measure(module, method, setting) for n, setting in settings.items()}, floor)]
        for axis, module, method, settings in AXES
    ]
    return (
        "Rows: plain Bradley-Terry, 1,000 items. Items: the same, 1M rows. Annotators: reliability by laplace, "
        "100 items, 200k rows. Features: rewards of 10,000 answers in 5,000 pairs, 100 people. Draws: a whole fit of "
        "1,000 items and 100k rows, and leave-one-out of 30k of them; its rows at 1,000 draws. A whole fit goes from "
        "laplace to svi where the check of the approximation fails. An exponent is the slope of log cost on log size "
        "by least squares over two decades, in brackets over the last one; memory is counted above the "
        f"{floor:.0f} MB that an import takes.\n\n" + markdown(HEAD, lines)
    )


def line(found: dict[int, dict[str, Any]], floor: float) -> list[str]:
    """Return sizes, engines, CPU seconds, memory, and their exponents."""
    done = {n: each for n, each in found.items() if "skipped" not in each}
    if len(done) < 3:
        return ["fewer than three ended", "", "", "", "", ""]
    size = np.array(list(done), float)
    seconds, memory = (np.array([each[name] for each in done.values()]) for name in ("fit", "memory"))
    return [
        ", ".join(f"{n:,.0f}" for n in size), ", ".join(each.get("method", "laplace") for each in done.values()),
        ", ".join(f"{s:.2f}" for s in seconds), ", ".join(f"{m:.0f}" for m in memory),
        _exponents(size, seconds), _exponents(size, memory - floor),
    ]  # fmt: skip


def _exponents(size: np.ndarray, cost: np.ndarray) -> str:
    """Return d log cost / d log size, and in brackets that of the last decade; costs of nothing say nothing."""
    size, cost = np.log(size[cost > 0]), np.log(cost[cost > 0])
    last = size > max(size, default=0.0) - 2.31  # ln 10, and a little
    return f"{_slope(size, cost)} ({_slope(size[last], cost[last])})"


def _slope(x: np.ndarray, y: np.ndarray) -> str:
    return f"{np.polyfit(x, y, 1)[0]:.2f}" if len(x) > 1 else "-"
