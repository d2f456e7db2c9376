"""Sets of candidate pairs, walked block by block: all pairs of items are never listed.

A row is an item whose candidates are the items after it, or one listed pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError

Array = NDArray[Any]

_BLOCK = 1 << 18  # pairs in a block: what fits a processor's cache matters more than fewer calls


@dataclass(frozen=True, eq=False)
class Block:
    """Some candidate pairs.

    Attributes
    ----------
    row
        int64 [row].
    a, b
        int64 item codes that broadcast to [row, candidate]; a < b where `allowed`.
    allowed
        bool [row, candidate].
    """

    row: Array
    a: Array
    b: Array
    allowed: Array


def pair_keys(a: Array, b: Array, n_items: int) -> Array:
    """Return one number for each unordered pair."""
    return np.minimum(a, b) * np.int64(n_items) + np.maximum(a, b)


@dataclass(eq=False)
class AllPairs:
    """All pairs of `n_items` items, or those within or across groups such as prompts, less some.

    Attributes
    ----------
    n_items
        Number of items.
    group
        int64 [item], or None for one group.
    side
        all, within (both items of one group) or across (of two groups).
    without
        Sorted `pair_keys` of pairs that are no candidates.
    cost
        float64 [item]: a pair costs the sum; None: every pair costs 1.
    """

    n_items: int
    group: Array | None = None
    side: str = "all"
    without: Array = field(default_factory=lambda: np.empty(0, np.int64))
    cost: Array | None = None

    refresh = 16  # rows worth looking at again together

    @property
    def n_rows(self) -> int:
        """The last item has no item after it."""
        return self.n_items - 1

    @property
    def first(self) -> Array:
        """Item a of each row."""
        return np.arange(self.n_rows)

    def block(self, row: Array) -> Block:
        """Return the candidates of some items, ascending; columns start after the first of them."""
        start = int(row[0]) + 1
        a, b = row[:, None], np.arange(start, self.n_items)
        allowed = b > a
        if self.group is not None and self.side != "all":
            same = self.group[a] == self.group[b]
            allowed &= same if self.side == "within" else ~same
        if len(self.without):
            low, high = np.searchsorted(self.without, [row * self.n_items, (row + 1) * self.n_items])
            for position, (i, j) in enumerate(zip(low, high, strict=True)):
                allowed[position, self.without[i:j] % self.n_items - start] = False
        return Block(row, a, b, allowed)

    def blocks(self) -> Iterator[Block]:
        """Yield all candidates."""
        start = 0
        while start < self.n_rows:
            stop = min(start + max(1, _BLOCK // (self.n_items - start)), self.n_rows)
            yield self.block(np.arange(start, stop))
            start = stop

    def price(self, block: Block) -> Array | float:
        """Return what the pairs cost."""
        return 1.0 if self.cost is None else self.cost[block.a] + self.cost[block.b]

    def sample(self, size: int, rng: np.random.Generator) -> ListedPairs:
        """Return `size` candidates drawn without replacement (all of them when there are no more)."""
        total = sum(int(block.allowed.sum()) for block in self.blocks())
        if total <= size:
            return self.listed()
        chosen, seen = np.sort(rng.choice(total, size, replace=False, shuffle=False)), 0
        parts = []
        for block in self.blocks():
            here = np.flatnonzero(block.allowed)
            low, high = np.searchsorted(chosen, [seen, seen + len(here)])
            parts.append(self._at(block, here[chosen[low:high] - seen]))
            seen += len(here)
        return self._joined(parts)

    def listed(self) -> ListedPairs:
        """Return all candidates one by one."""
        return self._joined([self._at(block, np.flatnonzero(block.allowed)) for block in self.blocks()])

    def _at(self, block: Block, place: Array) -> Array:
        row, column = np.divmod(place, len(block.b))
        return np.stack([block.row[row], block.b[column]])

    def _joined(self, parts: list[Array]) -> ListedPairs:
        a, b = np.concatenate(parts, 1)
        return ListedPairs(a, b, self.n_items, None if self.cost is None else self.cost[a] + self.cost[b])


@dataclass(eq=False)
class ListedPairs:
    """Pairs given one by one, a < b, each once.

    Attributes
    ----------
    a, b
        int64 [pair].
    n_items
        Number of items.
    cost
        float64 [pair], or None: every pair costs 1.
    """

    a: Array
    b: Array
    n_items: int
    cost: Array | None = None

    refresh = 256

    @property
    def n_rows(self) -> int:
        """Number of pairs."""
        return len(self.a)

    @property
    def first(self) -> Array:
        """Item a of each row."""
        return self.a

    def block(self, row: Array) -> Block:
        """Return some of the pairs."""
        return Block(row, self.a[row][:, None], self.b[row][:, None], np.ones((len(row), 1), bool))

    def blocks(self) -> Iterator[Block]:
        """Yield all pairs."""
        size = _BLOCK // 64  # items' vectors are gathered pair by pair
        for start in range(0, self.n_rows, size):
            yield self.block(np.arange(start, min(start + size, self.n_rows)))

    def price(self, block: Block) -> Array | float:
        """Return what the pairs cost."""
        return 1.0 if self.cost is None else self.cost[block.row][:, None]

    def sample(self, size: int, rng: np.random.Generator) -> ListedPairs:
        """Return `size` of the pairs drawn without replacement (all of them when there are no more)."""
        if self.n_rows <= size:
            return self
        return self.take(np.sort(rng.choice(self.n_rows, size, replace=False)))

    def listed(self) -> ListedPairs:
        """Return itself."""
        return self

    def take(self, row: Array) -> ListedPairs:
        """Return some of the pairs."""
        return ListedPairs(self.a[row], self.b[row], self.n_items, None if self.cost is None else self.cost[row])


PairSet = AllPairs | ListedPairs


def count(pairs: PairSet) -> int:
    """Return the number of candidates."""
    return sum(int(block.allowed.sum()) for block in pairs.blocks())


def require_enough(pairs: PairSet, n: int) -> int:
    """Return the number of candidates.

    Raises
    ------
    DataError
        If there are fewer than `n`.
    """
    found = count(pairs)
    if found == 0:
        raise DataError("no candidate pair is left once masked and already judged pairs are taken out; give others")
    if found < n:
        raise DataError(
            f"n={n} pairs are asked for and only {found} candidates are valid; lower n, give more, let pairs that were "
            "judged be asked again (again, --again), or deal battles, where pairs meet several times (battle_design)"
        )
    return found
