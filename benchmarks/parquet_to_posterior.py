"""A whole job: 1M comparisons of 1,000 items in a Parquet file, read, compressed and fitted with intervals."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import pandas as pd
from bradley_terry import simulate


def main() -> None:
    truth, winner, loser = simulate(1000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.parquet"
        names = pd.Series([f"model-{i:04d}" for i in range(len(truth))])
        frame = pd.DataFrame({"item_a": names[winner].to_numpy(), "item_b": names[loser].to_numpy()})
        frame["outcome"] = "a"
        frame.to_parquet(path)
        del frame
        began, cpu = time.time(), time.process_time()
        import prefdensity as pf

        data = pf.read(path)
        read = time.time()
        table = pf.fit("bradley_terry", data, progress=False).summary()
        done = time.time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(table.head().to_string(index=False))
    spent = time.process_time() - cpu
    print(
        f"import and read {read - began:.2f} s, fit {done - read:.2f} s, in all {done - began:.2f} s wall"
    )
    print(f"{spent:.2f} s CPU, peak {peak:.0f} MB (with the making of the file)")


if __name__ == "__main__":
    main()
