"""Batches of pairs: the best first, then the best given those, with quotas, costs and no pair twice.

Gains only shrink as a batch grows (they are submodular, Nemhauser et al. 1978: the batch has at least 1 - 1/e of
the gain of the best one), so an old gain bounds a new one and few rows are ever looked at again (Minoux 1978).
The picks are those of a search over all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.selection.pair_sets import Block, PairSet

Array = NDArray[Any]


class Score(Protocol):
    """Scores [row, candidate] of a block of pairs: larger is better, -inf never to be chosen."""

    def __call__(self, block: Block) -> Array: ...  # noqa: D102


@dataclass(frozen=True)
class Pick:
    """A chosen pair, the row that it was found in, and its score when it was chosen."""

    a: int
    b: int
    row: int
    score: float


def greedy(
    pairs: PairSet,
    score: Score,
    n: int,
    *,
    learn: Callable[[Pick], None] | None = None,
    quota: int | None = None,
    report: Callable[[str, float, float], None] | None = None,
) -> list[Pick]:
    """Choose `n` pairs, each with the largest score per unit of cost among those left.

    Parameters
    ----------
    pairs
        Candidates.
    score
        Scores of candidates. Without `learn` they must not change; with it they must not grow.
    n
        Number of pairs.
    learn
        Called with each pick; what it changes is seen by later scores.
    quota
        Most pairs of the batch that any item may be in; None: any number.
    report
        Progress.

    Raises
    ------
    DataError
        If masks and quota leave fewer than `n` pairs.
    """
    search = _Search(pairs, score, quota)
    picks: list[Pick] = []
    while len(picks) < n:
        pick = search.next()
        if pick is None:
            limit = "" if quota is None else f" under a quota of {quota} pairs for each item"
            raise DataError(f"n={n} pairs are asked for and only {len(picks)} are possible{limit}; lower n")
        picks.append(pick)
        search.take(pick, changed=learn is not None)
        if learn is not None:
            learn(pick)
        if report is not None:
            report("choosing pairs", len(picks), n)
    return picks


class _Search:
    """The best candidate of every row, looked up again only where it may have changed."""

    def __init__(self, pairs: PairSet, score: Score, quota: int | None) -> None:
        self.pairs, self.score, self.quota = pairs, score, quota
        self.used = np.zeros(pairs.n_items, np.int64)
        self.closed = np.zeros(pairs.n_items, bool)
        self.taken: dict[int, list[int]] = {}
        self.best = np.full(pairs.n_rows, -np.inf)
        self.partner = np.zeros(pairs.n_rows, np.int64)
        self.fresh = np.ones(pairs.n_rows, bool)
        for block in pairs.blocks():
            self._enter(block)

    def next(self) -> Pick | None:
        """Return the best pair left."""
        while True:
            row = int(self.best.argmax())
            if self.best[row] == -np.inf:
                return None
            if self.fresh[row]:
                break
            width = min(self.pairs.refresh, len(self.best))
            leading = np.append(np.argpartition(self.best, -width)[-width:], row)  # among ties `row` may be left out
            self._enter(self.pairs.block(np.unique(leading[~self.fresh[leading]])))
        block = self.pairs.block(np.array([row]))
        b = int(self.partner[row])
        price = self.pairs.price(Block(block.row, block.a, np.array([[b]]), np.ones((1, 1), bool)))
        return Pick(int(block.a[0, 0]), b, row, float(self.best[row] * np.squeeze(price)))

    def take(self, pick: Pick, changed: bool) -> None:
        """Put a pair into the batch; `changed` says that the scores of others will not be what they were."""
        self.taken.setdefault(pick.row, []).append(pick.b)
        self.used[[pick.a, pick.b]] += 1
        if self.quota is not None:
            self.closed = self.used >= self.quota
        if changed:
            self.fresh[:] = False
        else:
            self.fresh[pick.row] = False
            self.fresh[self.closed[self.partner] | self.closed[self.pairs.first]] = False

    def _enter(self, block: Block) -> None:
        allowed = block.allowed
        if self.closed.any():
            allowed = allowed & ~(self.closed[block.a] | self.closed[block.b])
        for position in np.flatnonzero(np.isin(block.row, list(self.taken))):
            gone = self.taken[int(block.row[position])]
            allowed[position] &= ~np.isin(np.broadcast_to(block.b, allowed.shape)[position], gone)
        value = np.where(allowed, self.score(block) / self.pairs.price(block), -np.inf)
        at = value.argmax(1)
        rows = np.arange(len(at))
        self.best[block.row] = value[rows, at]
        self.partner[block.row] = np.broadcast_to(block.b, value.shape)[rows, at]
        self.fresh[block.row] = True
