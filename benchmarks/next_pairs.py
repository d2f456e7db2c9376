"""What to ask next, at the sizes of an arena and of a pool of answers: seconds and memory.

    python -m benchmarks.next_pairs battles 150x30000        # models x votes: a design of 1,000 battles
    python -m benchmarks.next_pairs pairs 100000x1024        # answers x features: the next 100 pairs within prompts

The answers, ten to a prompt, have features of 32 bits, and 2,000 votes about some of them are fitted. Printed are CPU
seconds and the largest resident memory of the process so far.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

import prefdensity as pf
from benchmarks.measuring import peak_memory

BATTLES, TOP = 1000, 5
PAIRS, VOTES, PER_PROMPT = 100, 2000, 10


class Clock:
    """CPU seconds between what is told."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def tell(self, what: str) -> None:
        now = time.process_time()
        print(f"{what}: {now - self.last:.1f} CPU s, peak {peak_memory():,.0f} MB", flush=True)
        self.last = now


def _votes(names: np.ndarray, utility: np.ndarray, a: np.ndarray, b: np.ndarray, rng) -> pd.DataFrame:
    won = rng.random(len(a)) < 1 / (1 + np.exp(utility[b] - utility[a]))
    return pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": np.where(won, "a", "b")})


def battles(models: int, votes: int) -> None:
    """Time the design of battles, of all models and of those that may be the best."""
    rng = np.random.default_rng(0)
    a = rng.integers(models, size=votes)
    b = (a + rng.integers(1, models, votes)) % models
    names = np.array([f"model {k}" for k in range(models)])
    data = pf.read(_votes(names, rng.normal(size=models), a, b, rng))
    clock = Clock()
    post = pf.fit("bradley_terry", data, progress=False)
    clock.tell("fit")
    for top in (None, TOP):
        found = pf.battle_design(post, BATTLES, top=top, progress=False)
        clock.tell(f"{int(found['battles'].sum())} battles of {len(found)} pairs, top {top or 'of all'}")


def pairs(answers: int, features: int) -> None:
    """Time the next pairs among those within prompts of a pool of answers."""
    rng = np.random.default_rng(0)
    names = np.array([f"answer {k}" for k in range(answers)])
    x = pd.DataFrame(rng.standard_normal((answers, features), dtype=np.float32), index=names)
    utility = x.to_numpy() @ rng.standard_normal(features).astype(np.float32) / features**0.5
    one = rng.integers(min(VOTES, answers), size=VOTES)
    two = PER_PROMPT * (one // PER_PROMPT) + (one + rng.integers(1, PER_PROMPT, VOTES)) % PER_PROMPT
    clock = Clock()
    data = pf.read(_votes(names, utility, one, two, rng), item_features=x)
    clock.tell("read")
    post = pf.fit("linear", data, progress=False)
    clock.tell("fit")
    pool = pf.described(post, data, x, progress=False)
    clock.tell("utilities of all answers")
    prompt = {name: f"prompt {k // PER_PROMPT}" for k, name in enumerate(names)}
    found = pf.select(pool, n=PAIRS, data=data, group=prompt, progress=False)
    clock.tell(f"{len(found)} of {found.attrs['candidates']:,} pairs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.next_pairs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["battles", "pairs"])
    parser.add_argument("size", help="MODELSxVOTES, or ANSWERSxFEATURES in whole prompts of ten")
    options = parser.parse_args()
    {"battles": battles, "pairs": pairs}[options.command](*map(int, options.size.split("x")))
