"""Votes that a ranking needs, by how battles are dealt: recorded votes replayed, `python -m benchmarks.arena FOLDER`.

FOLDER holds the real sets (csv). Rules ask for battles among those whose votes are left, are given recorded votes of
them in random order, and refit; all fits are the same program's. Printed is how many votes it takes until the order by
posterior means has Kendall's tau .9 with that of all votes, beside uniform battles of the same seeds (ratios of
geometric means, with standard errors of the paired logarithms).

Peers, from their papers: the rule of Chatbot Arena (Chiang et al. 2024, arXiv 2403.04132, eq. 9: the drop of the
standard error of the pair's own rate) and ASAP (Mikhailiuk et al. 2020, arXiv 2004.05691: expected information under a
Gaussian belief, dealt along minimum spanning trees).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.special import expit
from scipy.stats import kendalltau

import prefdensity as pf
from prefdensity.selection.acquisition import expected_information

GROWTH, TAU = 0.12, 0.9  # of the votes between two fits; what is to be reached
TOPICS = 4  # of ukpconvarg, the first by name

Pairs = np.ndarray  # [pair, 2] codes of items
Rule = Callable[["pf.Posterior", Pairs, np.ndarray, int, np.random.Generator], np.ndarray]  # -> indices of pairs


def uniform(post, pairs: Pairs, asked, n: int, rng) -> np.ndarray:
    return rng.integers(len(pairs), size=n)


def arena(post, pairs: Pairs, asked, n: int, rng) -> np.ndarray:
    u = post.utilities().mean(0)
    p = expit(u[pairs[:, 0]] - u[pairs[:, 1]])
    held = np.maximum(asked, 1)
    drop = np.sqrt(p * (1 - p)) * (1 / np.sqrt(held) - 1 / np.sqrt(held + 1))
    return rng.choice(len(pairs), n, p=drop / drop.sum())


def asap(post, pairs: Pairs, asked, n: int, rng) -> np.ndarray:
    u = post.utilities()
    margin = u[:, pairs[:, 0]] - u[:, pairs[:, 1]]
    told = expected_information(margin.mean(0), margin.var(0))
    price, size = 1 + told.max() - told, u.shape[1]
    place = {(int(a), int(b)): k for k, (a, b) in enumerate(pairs)}
    chosen, left = [], np.arange(len(pairs))
    while len(chosen) < n and len(left):
        one, two = pairs[left].T
        tree = minimum_spanning_tree(coo_array((price[left], (one, two)), (size, size)).tocsr()).tocoo()
        edges = np.array([place[int(a), int(b)] for a, b in zip(tree.row, tree.col, strict=True)])
        chosen += list(rng.permutation(edges))
        left = np.setdiff1d(left, edges)
    chosen = chosen[:n]
    return np.concatenate([chosen, uniform(post, pairs, asked, n - len(chosen), rng)]).astype(int)


def _frame(post, pairs: Pairs) -> pd.DataFrame:
    names = np.array(post.items)
    return pd.DataFrame({"item_a": names[pairs[:, 0]], "item_b": names[pairs[:, 1]]})


def _places(post, pairs: Pairs, found: pd.DataFrame) -> np.ndarray:
    at = pd.Index(post.items)
    a, b = at.get_indexer(found["item_a"]), at.get_indexer(found["item_b"])
    keys = pd.Index(pairs[:, 0] * len(at) + pairs[:, 1])
    return np.asarray(keys.get_indexer(np.minimum(a, b) * len(at) + np.maximum(a, b)))


def battles(post, pairs: Pairs, asked, n: int, rng) -> np.ndarray:
    design = pf.battle_design(post, n, candidates=_frame(post, pairs), seed=int(rng.integers(2**31)), progress=False)
    return rng.permutation(np.repeat(_places(post, pairs, design), design["battles"]))


def eig(post, pairs: Pairs, asked, n: int, rng) -> np.ndarray:
    few = min(n, len(pairs))
    batch = pf.select(post, _frame(post, pairs), few, "eig", progress=False)
    return np.concatenate([_places(post, pairs, batch), uniform(post, pairs, asked, n - few, rng)])


RULES: dict[str, Rule] = {"uniform": uniform, "arena": arena, "asap": asap, "eig": eig, "battles": battles}


class Replay:
    """One table's votes, and how many a rule needs."""

    def __init__(self, data: pf.Comparisons, program: str) -> None:
        self.data, self.program = data, program
        low, high = np.minimum(data.item_a, data.item_b), np.maximum(data.item_a, data.item_b)
        self.key = low * len(data.items) + high
        self.known, self.of_row = np.unique(self.key, return_inverse=True)
        self.pairs = np.stack(np.divmod(self.known, len(data.items)), 1)
        self.truth = self.means(np.arange(len(data)))[0]

    def means(self, rows: np.ndarray, seed: int = 0):
        post = pf.fit(self.program, self.data.take(np.sort(rows)), method="laplace", seed=seed, progress=False)
        return post.utilities().mean(0), post

    def votes_needed(self, rule: Rule, seed: int) -> float:
        rng = np.random.default_rng(seed)
        queue = [list(rng.permutation(rows)) for rows in np.split(np.argsort(self.of_row, kind="stable"), self._ends)]
        asked = np.zeros(len(queue), int)
        taken = self._give(queue, asked, rng.integers(len(queue), size=len(self.data.items)), rng)
        before = (0.0, 1.0)
        while True:
            means, post = self.means(np.array(taken), seed)
            tau = kendalltau(means, self.truth).statistic
            if tau >= TAU or len(taken) == len(self.data):
                share = (TAU - before[0]) / max(tau - before[0], 1e-9)  # between two fits, on the scale of logarithms
                return float(np.exp((1 - share) * np.log(before[1]) + share * np.log(len(taken))))
            before = (max(tau, 0.0), float(len(taken)))
            n = min(max(len(self.data.items) // 2, int(GROWTH * len(taken))), len(self.data) - len(taken))
            left = np.flatnonzero([len(each) > 0 for each in queue])
            wanted = left[rule(post, self.pairs[left], asked[left], n, rng)]
            taken += self._give(queue, asked, wanted, rng)

    @property
    def _ends(self) -> np.ndarray:
        return np.bincount(self.of_row).cumsum()[:-1]

    def _give(self, queue, asked, wanted, rng) -> list[int]:
        """Take a recorded vote for each pair that is asked for; where none is left, of any pair that has one."""
        given = []
        for k in wanted:
            if not queue[k]:
                left = np.flatnonzero([len(each) > 0 for each in queue])
                if not len(left):
                    break
                k = rng.choice(left)
            given.append(int(queue[k].pop()))
            asked[k] += 1
        return given


def sets(folder: Path):
    """Yield name, votes and program."""
    yield "llmfao", pf.read(folder / "llmfao.csv"), "davidson"
    yield "physical_strength", pf.read(folder / "physical_strength.csv"), "bradley_terry"
    votes = pd.read_csv(folder / "ukpconvarg.csv.gz")
    for topic in sorted(votes["topic"].unique())[:TOPICS]:
        yield f"ukp {topic}", pf.read(votes[votes["topic"] == topic]), "davidson"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", default="", help="sets whose names begin so")
    options = parser.parse_args()
    within: dict[str, list[float]] = {}  # topics of ukpconvarg together
    for name, data, program in sets(options.folder):
        if not name.startswith(options.only):
            continue
        began, replay = time.process_time(), Replay(data, program)
        needed = {}
        for each, rule in RULES.items():
            needed[each] = np.log([replay.votes_needed(rule, seed) for seed in range(options.seeds)])
            if name.startswith("ukp"):
                within.setdefault(each, []).extend(needed[each])
        print(f"{_told(name, len(data), needed)} | {time.process_time() - began:.0f} CPU s", flush=True)
    if within:
        print(_told("ukp, topics together", 0, {each: np.array(found) for each, found in within.items()}))


def _told(name: str, votes: int, needed: dict[str, np.ndarray]) -> str:
    """Return votes needed, over those of uniform battles, and how far `battle_design` is behind the best other rule."""
    said = []
    for each, found in needed.items():
        middle, error = _paired(found - needed["uniform"])
        said.append(f"{each} {np.exp(found.mean()):.0f} ({np.exp(middle):.3f}, s.e. {error:.3f})")
    best = min((each for each in needed if each != "battles"), key=lambda each: needed[each].mean())
    behind, error = _paired(needed["battles"] - needed[best])
    of = f", {votes} votes" if votes else ""
    return f"{name}{of} | {' | '.join(said)} | battles over {best}: {np.exp(behind):.3f} (s.e. {error:.3f})"


def _paired(off: np.ndarray) -> tuple[float, float]:
    return float(off.mean()), float(off.std(ddof=1) / np.sqrt(len(off))) if len(off) > 1 else np.nan


if __name__ == "__main__":
    main()
