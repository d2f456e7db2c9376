"""100M comparisons of 10,000 items (1M distinct cells) in a Parquet file, streamed into counts and fitted."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT, peak_memory

ITEMS, CELLS, GROUP = 10_000, 1_000_000, 1_000_000


def write(path: Path, rows: int, seed: int = 0) -> None:
    """Write the file row group by row group; utilities are standard normal draws of the seed."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(seed)
    utility = rng.standard_normal(ITEMS)
    pair = rng.choice(ITEMS * (ITEMS - 1) // 2, CELLS, replace=False)
    # the pairs (high, low) with low < high, numbered high * (high - 1) / 2 + low
    high = ((1 + np.sqrt(1 + 8.0 * pair)) // 2).astype(np.int64)
    low = pair - high * (high - 1) // 2
    names = pa.array([f"model-{k:05d}" for k in range(ITEMS)])
    verdicts = pa.array(["b", "a"])
    schema = pa.schema([(name, pa.string()) for name in ("item_a", "item_b", "outcome")])
    with parquet.ParquetWriter(path, schema) as file:
        for start in range(0, rows, GROUP):
            # every cell once in each turn of CELLS rows, so that all of them occur
            cell = rng.permutation(CELLS)[: min(GROUP, rows - start)]
            a, b = high[cell], low[cell]
            won = rng.random(len(cell)) < 1 / (1 + np.exp(utility[b] - utility[a]))
            codes = (a.astype(np.int32), b.astype(np.int32), won.astype(np.int32))
            columns = [v.take(pa.array(c)) for v, c in zip((names, names, verdicts), codes, strict=True)]
            file.write_table(pa.table(columns, schema=schema), row_group_size=GROUP)
    np.save(path.with_suffix(".npy"), utility)


def measure(path: Path, fit: bool) -> None:
    """Read (and fit) the file in this process and print time and memory."""
    import prefdensity as pf

    began, cpu = time.perf_counter(), time.process_time()
    data = pf.read(path)
    wall, spent = time.perf_counter() - began, time.process_time() - cpu
    rows = data.n_judgements
    print(f"read: {rows:.0f} rows into {len(data)} distinct ones of {len(data.items)} items, {wall:.1f} s wall, "
          f"{spent:.1f} s CPU: {rows / wall / 1e6:.2f}M rows/s wall, {rows / spent / 1e6:.2f}M rows per CPU second, "
          f"peak {peak_memory():.0f} MB (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")  # fmt: skip
    if not fit:
        return
    began, cpu = time.perf_counter(), time.process_time()
    post = pf.fit("bradley_terry", data, method="auto", progress=False)
    wall, spent = time.perf_counter() - began, time.process_time() - cpu
    truth = np.load(path.with_suffix(".npy"))[[int(item[-5:]) for item in data.items]]
    r = np.corrcoef(post.utilities().mean(0), truth)[0, 1]
    print(f"fit ({post.status.method}): {wall:.1f} s wall, {spent:.1f} s CPU, peak {peak_memory():.0f} MB, "
          f"correlation with the truth {r:.4f}")  # fmt: skip


def main() -> None:
    """Write the file in a temporary folder, and measure in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--no-fit", action="store_true")
    parser.add_argument("--file", type=Path, help="measure this file (written by this script) in this process")
    asked = parser.parse_args()
    if asked.file:
        measure(asked.file, not asked.no_fit)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        write(path, asked.rows)
        print(f"file of {path.stat().st_size / 1e6:.0f} MB", flush=True)
        again = ["--no-fit"] if asked.no_fit else []
        command = [sys.executable, "-m", "benchmarks.larger_than_memory", "--file", path, *again]
        subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
