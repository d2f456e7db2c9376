"""Choosing 100 pairs among all pairs of N items: the published algorithm and ours, in CPU seconds and memory.

The published one (Shen, Sun and Ton, arXiv 2502.04354) is written here from its statement: a weight of one for every
candidate, log det of the weighted information matrix, its gradient by automatic differentiation, the 100 largest.
Each run has a process of its own, one thread, and 8 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time

import numpy as np

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
FEATURES, BATCH, CAP = 64, 100, 8 << 30
PAST = 200


def pool(n_items: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_items)
    features = rng.standard_normal((n_items, FEATURES))
    return features, features @ rng.standard_normal(FEATURES) * 0.2


def some_pairs(n_items: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.triu_indices(n_items, 1)
    kept = np.sort(np.random.default_rng(0).choice(len(a), size, replace=False)) if size < len(a) else slice(None)
    return a[kept], b[kept]


def published(n_items: int, listed: int | None, past: bool) -> list:
    """Autograd through the log determinant, as stated: one matrix for every candidate."""
    import torch

    features, score = (torch.tensor(each, dtype=torch.float32) for each in pool(n_items))
    a, b = some_pairs(n_items, listed or n_items**2)
    yield
    x, p = features[a] - features[b], torch.sigmoid(score[a] - score[b])
    weight = torch.ones(len(a), requires_grad=True)
    information = (weight * p * (1 - p))[:, None, None] * (x[:, :, None] * x[:, None, :])
    matrix = information.sum(0) + 1e-6 * torch.eye(FEATURES)
    if past:
        seen, of = x[:PAST], (p * (1 - p))[:PAST]
        matrix = matrix + (of[:, None, None] * seen[:, :, None] * seen[:, None, :]).sum(0)
    torch.logdet(matrix).backward()
    top = weight.grad.topk(BATCH).indices
    yield sorted(zip(a[top].tolist(), b[top].tolist(), strict=True))


def ours(rule: str, n_items: int, listed: int | None, past: bool) -> list:
    from prefdensity.selection.acquisition import expected_information
    from prefdensity.selection.pair_metric import Metric, Strengths, past_information
    from prefdensity.selection.pair_sets import AllPairs, ListedPairs
    from prefdensity.selection.rules import Situation, choose

    expected_information(0.0, 1.0)  # its table is made once in a process, in about a second
    features, score = pool(n_items)
    pairs = AllPairs(n_items) if listed is None else ListedPairs(*some_pairs(n_items, listed), n_items)
    seen = some_pairs(n_items, listed or n_items**2) if past else None
    yield
    luce = Strengths(score)
    matrix = None if seen is None else past_information(features, luce, seen[0][:PAST], seen[1][:PAST], np.ones(PAST))
    known = Situation(luce, features, matrix, lambda: Metric.from_precision(score, features, np.eye(FEATURES)))
    yield sorted((pick.a, pick.b) for pick in choose(rule, pairs, known, BATCH))


def resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def measure(who: str, n_items: int, listed: int | None, rule: str) -> None:
    """Run in a process of its own and print one line of JSON; memory is the peak above what was there before."""
    resource.setrlimit(resource.RLIMIT_DATA, (CAP, CAP))
    past = rule.startswith("past")
    steps = published(n_items, listed, past) if who == "published" else ours(rule, n_items, listed, past)
    next(steps)
    before, done, peak = resident(), threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.process_time()
    chosen = next(steps)
    seconds = time.process_time() - start
    done.set()
    watcher.join()
    print(json.dumps({"cpu": seconds, "mb": max(peak[0] - before, 0), "chosen": chosen}))


def run(who: str, n_items: int, listed: int | None, rule: str) -> dict | str:
    command = [sys.executable, __file__, "--measure", who, str(n_items), str(listed or 0), rule]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | THREADS)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
        return "out of memory" if "memory" in last.lower() or done.returncode < 0 else last[:60]
    return json.loads(done.stdout)


def row(n_items: int, listed: int | None, rule: str, largest: int) -> str:
    size = listed or n_items * (n_items - 1) // 2
    theirs = (
        "-" if rule.startswith("greedy") or rule == "eig" or size > largest else run("published", n_items, listed, rule)
    )
    mine = run("ours", n_items, listed, rule)
    assert isinstance(mine, dict), mine
    cells = [rule, "all" if listed is None else "listed", f"{n_items:,}", f"{size:,}"]
    cells += [theirs, ""] if isinstance(theirs, str) else [f"{theirs['cpu']:.3f}", f"{theirs['mb']:.0f}"]
    cells += [f"{mine['cpu']:.4f}", f"{mine['mb']:.0f}"]
    same = "" if isinstance(theirs, str) else len({*map(tuple, theirs["chosen"])} & {*map(tuple, mine["chosen"])})
    return "| " + " | ".join(map(str, [*cells, same])) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 500, 1000, 2000, 5000, 10_000])
    parser.add_argument("--largest", type=int, default=500_000, help="most pairs to try the published algorithm on")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        who, n_items, listed, rule = options.measure
        measure(who, int(n_items), int(listed) or None, rule)
        return
    print(f"{platform.processor() or platform.machine()}, one thread, {FEATURES} features, batch of {BATCH}\n")
    print("| rule | pairs | items | candidates | published CPU s | MB | ours CPU s | MB | same of 100 |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n_items in options.sizes:
        print(row(n_items, None, "d_optimal", options.largest), flush=True)
    for listed in (1000, 20_000, 100_000):
        print(row(500, listed, "past_aware_d_optimal", options.largest), flush=True)
    for rule in ("greedy_d_optimal", "eig"):
        for n_items in options.sizes:
            print(row(n_items, None, rule, options.largest), flush=True)


if __name__ == "__main__":
    main()
