"""Whole jobs, files first: `python -m benchmarks.end_to_end METHOD SETTING`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.measuring import answer, timed, versions

# job -> its package, and the size of its table
JOBS = {
    "import prefdensity": ("prefdensity", "-"),
    "import prefdensity.fit": ("prefdensity", "-"),
    "import pyro": ("pyro-ppl", "-"),
    "import numpyro.infer": ("numpyro", "-"),
    "import choix": ("choix", "-"),
    "import evalica": ("evalica", "-"),
    "import sklearn.linear_model": ("scikit-learn", "-"),
    "import arena_rank.models.bradley_terry": ("arena-rank", "-"),
    "import crowdkit.aggregation": ("crowd-kit", "-"),
    "Parquet to ranking": ("prefdensity", "1000x1000000"),
    "Parquet to report": ("prefdensity", "20x100000"),
}


def write_table(path: str, size: str) -> None:
    """Write a Parquet file of simulated votes (in a process of its own: the measured one only reads)."""
    import pandas as pd

    from benchmarks.worlds import simulate

    n_items, n_rows = map(int, size.split("x"))
    _, winner, loser = simulate(n_items, n_rows)
    names = pd.Series([f"model-{i:05d}" for i in range(n_items)])
    pd.DataFrame(
        {"item_a": names[winner].to_numpy(), "item_b": names[loser].to_numpy(), "outcome": "a"}
    ).to_parquet(path)  # fmt: skip


def importing(name: str) -> Iterator[None]:
    """Import a module; `prefdensity.fit` is a name that imports when it is used."""
    yield None
    if name == "prefdensity.fit":
        _ = import_module("prefdensity").fit
    else:
        import_module(name)
    yield None


def ranking(size: str, report: bool) -> Iterator[None]:
    """Read a Parquet file and fit it, to a ranking with intervals or to a report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        code = f"from benchmarks.end_to_end import write_table; write_table({str(path)!r}, {size!r})"
        subprocess.run([sys.executable, "-c", code], check=True)
        yield None
        import prefdensity as pf

        data = pf.read(path)
        post = pf.fit("bradley_terry", data, progress=False)
        post.summary()
        if report:
            pf.write_report(post, data, Path(folder) / "report.html")
        yield None


def measure(method: str, size: str) -> dict[str, Any]:
    """Run one job in this process; its import counts."""
    verb, _, name = method.partition(" ")
    steps = importing(name) if verb == "import" else ranking(size, report=method.endswith("report"))
    return timed(steps) | {"version": versions(JOBS[method][0])}


if __name__ == "__main__":
    answer(measure)
