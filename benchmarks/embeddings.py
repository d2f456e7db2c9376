"""Rewards on embeddings, and leave-one-out of large tables.

    python -m benchmarks.embeddings rewards linear 100000x1024    # program, pairs x features
    python -m benchmarks.embeddings loo 5000x1000000              # Bradley-Terry, items x comparisons

Of rewards every answer is an item of its own; 100 people judge, at random. Printed are CPU seconds, the largest
resident memory of the process, k-hat, and the correlation of rewards with the truth.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.measuring import peak_memory
from prefdensity import Comparisons, fit, loo

PEOPLE, SPREAD = 100, 1.5  # annotators; standard deviation of rewards


def table(pairs: int, features: int) -> tuple[Any, np.ndarray]:
    """Return comparisons of answers with features of falling variance, and their rewards [answer]."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * pairs, features), dtype=np.float32)
    x *= np.arange(1, features + 1, dtype=np.float32) ** -0.5
    reward = x @ rng.standard_normal(features).astype(np.float32)
    reward *= SPREAD / reward.std()
    a, b = 2 * np.arange(pairs), 2 * np.arange(pairs) + 1
    wins = rng.random(pairs) < 1 / (1 + np.exp(reward[b] - reward[a]))
    data = Comparisons(
        items=tuple(map(str, range(2 * pairs))), item_a=a, item_b=b, outcome=np.where(wins, 0, 1).astype(np.int8),
        count=np.ones(pairs), annotators=tuple(map(str, range(PEOPLE))), annotator=rng.integers(0, PEOPLE, pairs),
        item_features=x, feature_names=tuple(f"x{k}" for k in range(features)),
    )  # fmt: skip
    return data, reward


def rewards(program: str, pairs: int, features: int) -> str:
    """Fit a program and say what it took."""
    data, reward = table(pairs, features)
    began = time.process_time()
    post = fit(program, data, progress=False)
    spent = time.process_time() - began
    peak = peak_memory()
    right = np.corrcoef(post.point["utility"], reward)[0, 1]
    return f"fit {spent:.1f} CPU s, {peak:.0f} MB, k-hat {post.status.k_hat:.2f}, correlation {right:.3f}"


def left_out(items: int, rows: int) -> str:
    """Leave every comparison out of a Bradley-Terry fit and say what it took."""
    rng = np.random.default_rng(5)
    utility, a = rng.normal(size=items), rng.integers(0, items, rows)
    b = (a + rng.integers(1, items, rows)) % items
    outcome = np.where(rng.random(rows) < 1 / (1 + np.exp(utility[b] - utility[a])), 0, 1).astype(np.int8)
    data = Comparisons(items=tuple(map(str, range(items))), item_a=a, item_b=b, outcome=outcome, count=np.ones(rows))
    post = fit("bradley_terry", data, progress=False)
    before, began = peak_memory(), time.process_time()
    found = loo(post, data)
    return (
        f"{found}: {time.process_time() - began:.1f} CPU s, {before:.0f} MB after the fit, {peak_memory():.0f} in all"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embeddings")
    commands = parser.add_subparsers(required=True, dest="command")
    of_rewards, of_loo = commands.add_parser("rewards"), commands.add_parser("loo")
    of_rewards.add_argument("program", help="such as linear, or linear+reliability")
    of_rewards.add_argument("size", help="PAIRSxFEATURES")
    of_loo.add_argument("size", help="ITEMSxROWS")
    options = parser.parse_args()
    one, other = map(int, options.size.split("x"))
    print(left_out(one, other) if options.command == "loo" else rewards(options.program, one, other))
