"""Candidate pairs in the users' words: labels, prompts, masks and costs become sets of codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import encode_labels, feature_table, listed, numbers, these_columns
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.named import meant, of_items
from prefdensity.errors import DataError
from prefdensity.selection.pair_sets import AllPairs, ListedPairs, PairSet, pair_keys

Array = NDArray[Any]
Pairs = pd.DataFrame | Iterable[tuple[str, str]]

EVERY = ("all", "within", "across")


@dataclass(frozen=True)
class Vocabulary:
    """Item labels and their codes."""

    items: tuple[str, ...]

    def codes(self, labels: Iterable[Any], where: str) -> Array:
        """Return the codes of labels.

        Raises
        ------
        DataError
            Naming the first unknown label and its row.
        """
        names, (code,) = encode_labels(pd.DataFrame({"item": pd.Series(list(labels))}), ("item",), where)
        found = pd.Index(self.items).get_indexer(pd.Index(names))[code]
        if (found < 0).any():
            row = int((found < 0).argmax())
            name = names[code[row]]
            raise DataError(
                f"{where}: row {row + 1} holds {name!r}, an item that the fit does not know; {meant(name, self.items)}"
            )
        return np.asarray(found, np.int64)

    def pairs(self, pairs: Pairs, where: str) -> tuple[Array, Array]:
        """Return the codes of both sides, in the order given.

        Raises
        ------
        DataError
            For a missing column, an unknown item, or an item paired with itself.
        """
        frame = pairs if isinstance(pairs, pd.DataFrame) else _framed(pairs, where)
        for column in ("item_a", "item_b"):
            if column not in frame:
                raise DataError(f"{where} have no column {column!r}; their columns are {listed(frame)}")
        a, b = (self.codes(frame[column], where) for column in ("item_a", "item_b"))
        if (a == b).any():
            row = int((a == b).argmax())
            raise DataError(f"{where}: row {row + 1} pairs {self.items[a[row]]!r} with itself; remove it")
        return a, b

    def numbers(self, values: Mapping[str, float], what: str) -> Array:
        """Return positive numbers [item] from a mapping of labels.

        Raises
        ------
        DataError
            For an item without a number, or one that is not positive and finite, and for what is no item.
        """
        known = of_items(values, self.items, what, every=True)
        column = pd.Series([known[item] for item in self.items], index=list(self.items), name="cost", dtype=object)
        return numbers(column, what, valid=lambda x: x > 0, expected="positive and finite numbers", where="for item")


def candidate_pairs(
    items: tuple[str, ...],
    candidates: str | Pairs | None = None,
    *,
    group: Mapping[str, str] | None = None,
    exclude: Pairs | None = None,
    past: tuple[Array, Array] | None = None,
    cost: Mapping[str, float] | None = None,
) -> PairSet:
    """Return the candidates as a set of codes of `items`.

    Parameters
    ----------
    items
        Vocabulary.
    candidates
        all, within (pairs of one group), across (pairs of two groups), or pairs: a frame with item_a and item_b (and
        perhaps cost) or tuples. Doubles, sides exchanged or not, count once. None: within groups, or all without any.
    group
        item -> its prompt or other group, for within and across.
    exclude
        Pairs that must not be asked, whichever side is which.
    past
        Codes of both sides of pairs that must not be asked again.
    cost
        item -> what it costs to read; a pair costs the sum. Not with a cost column.

    Raises
    ------
    DataError
        Naming the argument or row and what would be right.
    """
    words = Vocabulary(items)
    without = [np.empty(0, np.int64)]
    if exclude is not None:
        without.append(pair_keys(*words.pairs(exclude, "the excluded pairs"), len(items)))
    if past is not None:
        without.append(pair_keys(*past, len(items)))
    gone = np.unique(np.concatenate(without))
    of_item = None if cost is None else words.numbers(cost, "cost")
    if candidates is None:
        candidates = "all" if group is None else "within"
    if not isinstance(candidates, str):
        return _listed(words, candidates, gone, of_item)
    if candidates not in EVERY:
        raise DataError(f"candidates={candidates!r} is unknown; use {', '.join(EVERY)}, or pairs of items")
    if candidates == "all":
        return AllPairs(len(items), without=gone, cost=of_item)
    if group is None:
        raise DataError(f"candidates={candidates!r} needs the group of every item, such as its prompt (group=...)")
    of = of_items(group, items, "group", every=True)
    code = pd.factorize(pd.Series([str(of[item]) for item in items]))[0].astype(np.int64)
    if candidates == "within":
        return _within(code, gone, of_item)
    return AllPairs(len(items), code, candidates, gone, of_item)


def prompts_of(data: Comparisons) -> dict[str, str] | None:
    """Return the prompt of every response, where each was judged for one; None otherwise."""
    code = data.context_of_items()
    return None if code is None else {item: data.contexts[k] for item, k in zip(data.items, code, strict=True)}


def _within(code: Array, gone: Array, of_item: Array | None) -> ListedPairs:
    """Return the pairs of items of one group [item], one by one: few, where groups are prompts."""
    order = np.argsort(code, kind="stable")
    parts = []
    for own in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        one, two = np.triu_indices(len(own), 1)
        parts.append(np.stack([own[one], own[two]]))
    a, b = np.concatenate(parts, 1)
    if len(gone):
        left = ~np.isin(pair_keys(a, b, len(code)), gone)
        a, b = a[left], b[left]
    return ListedPairs(a, b, len(code), None if of_item is None else of_item[a] + of_item[b])


def _framed(pairs: Iterable[tuple[str, str]], where: str) -> pd.DataFrame:
    if not isinstance(pairs, Iterable):
        raise DataError(f"{where}: {pairs!r} is no list of pairs of items")
    pairs = list(pairs)
    odd = (
        row for row, pair in enumerate(pairs) if isinstance(pair, str) or not isinstance(pair, Sized) or len(pair) != 2
    )
    wrong = next(odd, None)
    if wrong is not None:
        raise DataError(f"{where}: {pairs[wrong]!r} in row {wrong + 1} is not a pair of two items")
    return pd.DataFrame(pairs, columns=["item_a", "item_b"])


def _listed(words: Vocabulary, candidates: Pairs, gone: Array, of_item: Array | None) -> ListedPairs:
    if not isinstance(candidates, pd.DataFrame):
        candidates = _framed(candidates, "the candidate pairs")
    if len(candidates) == 0:
        raise DataError("the candidate pairs are empty; give at least one")
    a, b = words.pairs(candidates, "the candidate pairs")
    low, high = np.minimum(a, b), np.maximum(a, b)
    key, first = np.unique(pair_keys(a, b, len(words.items)), return_index=True)
    first = np.sort(first[~np.isin(key, gone)])
    cost = None if of_item is None else of_item[low] + of_item[high]
    if "cost" in candidates:
        if of_item is not None:
            raise DataError("cost= and a column 'cost' of the candidates both say what a pair costs; give one")
        costs = candidates["cost"].reset_index(drop=True)
        cost = numbers(costs, "the candidate pairs", valid=lambda x: x > 0, expected="positive and finite costs")
    return ListedPairs(low[first], high[first], len(words.items), None if cost is None else cost[first])


def with_items(data: Comparisons, items: Iterable[str], item_features: pd.DataFrame | None = None) -> Comparisons:
    """Return the votes with a vocabulary that also holds `items`, so that a fit knows items nobody has judged.

    Parameters
    ----------
    data
        Votes so far.
    items
        Labels to add; those already there stay.
    item_features
        Numbers of every item, indexed by label; needed when the votes have features.

    Raises
    ------
    DataError
        If the votes have features and the new items have none, or what is no finite number.
    """
    given = pd.DataFrame({"item": pd.Series(list(items), dtype=object)})
    added, _ = encode_labels(given, ("item",), "the items to add")
    labels = tuple(sorted({*data.items, *added}))
    if labels == data.items:
        return data
    position = pd.Index(labels).get_indexer(pd.Index(data.items))
    features = None
    described = next((each for each in data.more if each.column.per == "item"), None)
    if data.item_measures is not None or described is not None:
        raise DataError("the votes have item measures or attributes, which new items lack; read the votes without them")
    if data.item_features is not None:
        if item_features is None:
            raise DataError("the votes have item features; give those of the new items too (item_features=...)")
        _, features = feature_table(these_columns(item_features, data.feature_names, "item_features"), labels)
    rated = data.ratings and replace(data.ratings, item=position[data.ratings.item])
    return replace(
        data, items=labels, item_a=position[data.item_a], item_b=position[data.item_b], item_features=features,
        ratings=rated,
    )  # fmt: skip
