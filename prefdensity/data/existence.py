"""Which items comparisons relate, and whether estimates exist: components, strong groups, who never lost or won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import A, B, Comparisons
from prefdensity.words import some


def components(data: Comparisons) -> NDArray[np.int64]:
    """Return int64 [item]: numbers of the groups of items that comparisons, also indirect ones, connect.

    Utilities of different groups cannot be compared: only a prior relates them.
    """
    judged = data.count > 0
    return _connected(data.item_a[judged], data.item_b[judged], len(data.items), directed=False)


def strong_groups(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of items within which everyone beat everyone, directly or through others.

    A tie counts as a win of either side. One group that holds all items is the condition for a finite and
    unique maximum-likelihood estimate (Ford 1957, American Mathematical Monthly 64, 28-33; with ties
    Davidson 1970).
    """
    label, _, _ = _standing(data)
    return _members(label, np.ones(label.max() + 1, bool), data.items)


def undefeated(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of `strong_groups` that beat others and that no other beat or tied.

    Without a prior their utilities run away upwards.
    """
    label, top, _ = _standing(data)
    return _members(label, top, data.items)


def winless(data: Comparisons) -> list[tuple[str, ...]]:
    """Return the groups of `strong_groups` that others beat and that beat or tied no other.

    Without a prior their utilities run away downwards.
    """
    label, _, bottom = _standing(data)
    return _members(label, bottom, data.items)


def connections(data: Comparisons) -> dict[str, NDArray[Any]]:
    """Return by item its component, and whether it is of a group that is undefeated, or winless."""
    label, top, bottom = _standing(data)
    return {"component": components(data), "undefeated": top[label], "winless": bottom[label]}


def pair_numbers(data: Comparisons) -> NDArray[np.int64]:
    """Return int64 [comparison]: the distinct unordered pairs, numbered from 0."""
    low, high = np.minimum(data.item_a, data.item_b), np.maximum(data.item_a, data.item_b)
    return pd.factorize(low * len(data.items) + high)[0].astype(np.int64)


def _standing(data: Comparisons) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the strong group of each item, and which groups are undefeated and winless."""
    judged = data.count > 0
    item_a, item_b, outcome = data.item_a[judged], data.item_b[judged], data.judged()[judged]
    winner = np.concatenate([item_a[outcome != B], item_b[outcome != A]])
    loser = np.concatenate([item_b[outcome != B], item_a[outcome != A]])
    label = _connected(winner, loser, len(data.items), connection="strong")
    (won, lost), between = np.zeros((2, label.max() + 1), bool), label[winner] != label[loser]
    won[label[winner[between]]] = True
    lost[label[loser[between]]] = True
    return label, won & ~lost, lost & ~won


def _connected(start: NDArray[np.int64], end: NDArray[np.int64], size: int, **how: Any) -> NDArray[np.int64]:
    """Return the component of each of `size` places of a graph; see SciPy."""
    from scipy.sparse import csgraph, csr_matrix  # 20 MB and a third of a second, which not every fit needs

    graph = csr_matrix((np.ones(len(start), np.int32), (start, end)), shape=(size, size))
    return csgraph.connected_components(graph, **how)[1].astype(np.int64)


def _members(label: NDArray[np.int64], wanted: NDArray[np.bool_], items: Sequence[str]) -> list[tuple[str, ...]]:
    groups: dict[int, list[str]] = {}
    for item in np.flatnonzero(wanted[label]):
        groups.setdefault(int(label[item]), []).append(items[int(item)])
    return [tuple(group) for group in groups.values()]


def existence_warnings(data: Comparisons) -> list[str]:
    """Return sentences on items that no comparison relates, and on items that are undefeated or winless."""
    label, *ends = _standing(data)
    if label.max() == 0:  # everyone beat everyone, directly or through others
        return []
    warnings = []
    part = components(data)
    if part.max() > 0:
        warnings.append(_apart(data, part))
    top, bottom = (_members(label, wanted, data.items) for wanted in ends)
    if top or bottom:
        found = [
            f"{len(groups):,} {kind} the rest ({some(map(_joined, groups))})"
            for groups, kind in ((top, "never lost to or tied with"), (bottom, "never beat or tied with"))
            if groups
        ]
        warnings.append(
            f"Of the items, or groups of items, {' and '.join(found)}: no finite maximum-likelihood "
            f"estimate exists; with a prior the prior sets how far they lie from the rest."
        )
    return warnings


def _apart(data: Comparisons, part: NDArray[np.int64]) -> str:
    """Say that items fall into groups: those of answers to prompts are no accident, and need no names."""
    size = int(part.max()) + 1
    context = data.context_of_items()
    if context is not None:
        return (
            f"Every item belongs to one of {len(np.unique(context)):,} contexts, and was compared within it alone, in "
            f"{size:,} groups: the data rank items of one group only, and the prior alone relates those of several."
        )
    names = np.array(data.items, dtype=object)
    groups = sorted((tuple(names[part == k]) for k in range(size)), key=len, reverse=True)
    return (
        f"The items fall into {size:,} groups that were never compared with each other ({some(map(_joined, groups))}): "
        "differences between groups are set by the prior alone."
    )


def _joined(group: Sequence[str]) -> str:
    return " + ".join(group[:3]) + (" + ..." if len(group) > 3 else "")
