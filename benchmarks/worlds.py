"""Simulated tables with known truth, in numpy alone: environments of peers import this too."""

from __future__ import annotations

import numpy as np

ANNOTATORS = 5000
TYPES, SHARES = 3, (0.5, 0.3, 0.2)
SPREAD = 0.6  # standard deviation of reliability; at .4, 200 judgements tell it to a correlation of .927 at best


def simulate(n_items: int, n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true utilities, and winner and loser of random pairs."""
    rng = np.random.default_rng(1)
    utility = rng.normal(size=n_items)
    a = rng.integers(0, n_items, n_rows)
    b = (a + rng.integers(1, n_items, n_rows)) % n_items
    wins = rng.random(n_rows) < 1 / (1 + np.exp(utility[b] - utility[a]))
    return utility, np.where(wins, a, b), np.where(wins, b, a)


def counts(n_items: int, winner: np.ndarray, loser: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return unordered pairs (i < j) with wins of i and of j."""
    low, high = np.minimum(winner, loser), np.maximum(winner, loser)
    key, inverse = np.unique(low * n_items + high, return_inverse=True)
    first = np.bincount(inverse, winner == low, len(key))
    total = np.bincount(inverse, minlength=len(key))
    return key // n_items, key % n_items, first, total - first


def annotated(what: str, n_items: int, n_rows: int, n_annotators: int) -> dict[str, np.ndarray]:
    """Return a table judged by annotators of different `what` ("reliability" or "types"), and its truth.

    Returns
    -------
    item_a, item_b, annotator, wins (of item_a) [row]; utility [item] or [type, item]; reliability [annotator], or
    type [annotator].
    """
    rng = np.random.default_rng(2)
    a = rng.integers(0, n_items, n_rows)
    b = (a + rng.integers(1, n_items, n_rows)) % n_items
    who = rng.integers(0, n_annotators, n_rows)
    if what == "reliability":
        utility = rng.normal(size=n_items)
        truth = {"utility": utility, "reliability": rng.normal(1.0, SPREAD, n_annotators)}
        margin = truth["reliability"][who] * (utility[a] - utility[b])
    else:
        kind = rng.choice(TYPES, n_annotators, p=SHARES)
        utility = rng.normal(size=(TYPES, n_items))
        truth = {"utility": utility, "type": kind}
        margin = utility[kind[who], a] - utility[kind[who], b]
    wins = rng.random(n_rows) < 1 / (1 + np.exp(-margin))
    return truth | {"item_a": a, "item_b": b, "annotator": who, "wins": wins}
