"""Rewards on embeddings, and how long draws are waited for: `python -m benchmarks.embeddings METHOD SETTING`.

    python -m benchmarks.embeddings linear+reliability 5000x256       # a program, pairs x features
    python -m benchmarks.embeddings linear 20000x4096x1000x1000       # in batches of 1,000, 1,000 steps
    python -m benchmarks.embeddings loo 5000x1000000x1000             # Bradley-Terry: items x comparisons x draws
    python -m benchmarks.embeddings fit 5000x1000000x1000

Of rewards every answer is an item of its own; 100 people judge, at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measuring import answer, timed, versions
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


def rewards(program: str, pairs: int, features: int, batch: int = 0, steps: int = 0) -> Iterator[Any]:
    """Fit a program of rewards, if so in batches of comparisons by so many steps."""
    data, reward = table(pairs, features)
    how: dict[str, Any] = {"method": "svi", "batch": batch, "max_steps": steps} if batch else {}
    yield None
    post = fit(program, data, progress=False, **how)
    correlation = float(np.corrcoef(post.point["utility"], reward)[0, 1])
    yield {"k_hat": post.status.k_hat, "method": post.status.method, "correlation": correlation}


def by_draws(items: int, rows: int, draws: int, leave_out: bool) -> Iterator[Any]:
    """Fit Bradley-Terry with so many draws, or leave every comparison out of such a fit."""
    rng = np.random.default_rng(5)
    utility, a = rng.normal(size=items), rng.integers(0, items, rows)
    b = (a + rng.integers(1, items, rows)) % items
    outcome = np.where(rng.random(rows) < 1 / (1 + np.exp(utility[b] - utility[a])), 0, 1).astype(np.int8)
    data = Comparisons(items=tuple(map(str, range(items))), item_a=a, item_b=b, outcome=outcome, count=np.ones(rows))
    if leave_out:
        post = fit("bradley_terry", data, draws=draws, progress=False)
        yield None
        yield {"elpd": loo(post, data).elpd}
    else:
        yield None
        post = fit("bradley_terry", data, draws=draws, progress=False)
        yield {"k_hat": post.status.k_hat, "method": post.status.method}


def measure(method: str, setting: str) -> dict[str, Any]:
    """Run one method in this process."""
    sizes = tuple(map(int, setting.split("x")))
    steps = by_draws(*sizes, method == "loo") if method in ("loo", "fit") else rewards(method, *sizes)
    found = timed(steps)
    return found | found.pop("result") | {"version": versions("prefdensity")}


if __name__ == "__main__":
    answer(measure)
