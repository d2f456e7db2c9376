"""Pairs without labels on which the auxiliary stands in: a design that is summed, or draws from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError

Array = NDArray[Any]


def probabilities(values: ArrayLike, size: int, name: str) -> Array:
    """Return probabilities [size] strictly between 0 and 1, or raise `DataError` naming the row."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        raise DataError(f"{name} must hold numbers: the probability that item_a is preferred") from None
    if found.shape != (size,):
        raise DataError(f"{name} has shape {found.shape}; one probability for each of {size} pairs is needed")
    bad = np.flatnonzero(~((found > 0) & (found < 1)))
    if len(bad):
        raise DataError(
            f"{name} is {found[bad[0]]:g} in row {bad[0] + 1}; probabilities must lie strictly between 0 and 1"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Pairs:
    pairs: pd.DataFrame

    def __post_init__(self) -> None:
        missing = [name for name in self._columns() if name not in self.pairs.columns]
        if missing:
            raise DataError(f"fresh pairs have no column {missing[0]!r}; they need {', '.join(self._columns())}")
        if len(self.pairs) == 0:
            raise DataError("there are no fresh pairs")

    @staticmethod
    def _columns() -> tuple[str, ...]:
        return ("item_a", "item_b")

    def labels(self, items: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the pairs as labels, all of them in `items`."""
        known = set(items)
        found = [(str(a), str(b)) for a, b in self.pairs[["item_a", "item_b"]].itertuples(index=False)]
        for row, pair in enumerate(found):
            unknown = next((label for label in pair if label not in known), None)
            if unknown is not None:
                raise DataError(f"fresh pair {row + 1} names {unknown!r}, which no judgement does")
        return found

    def auxiliary(self) -> Array:
        """Return the column of given probabilities."""
        if "auxiliary" not in self.pairs:
            raise DataError(
                "probabilities were given for the judgements only: fresh pairs need a column 'auxiliary' with the "
                "probability that item_a is preferred"
            )
        return probabilities(self.pairs["auxiliary"], len(self.pairs), "the column 'auxiliary' of fresh pairs")


@dataclass(frozen=True, eq=False)
class Exact(_Pairs):
    """The whole design, to be summed rather than sampled.

    Attributes
    ----------
    pairs
        Columns item_a, item_b, weight (adding up to 1), and auxiliary where probabilities are given.
    """

    @staticmethod
    def _columns() -> tuple[str, ...]:
        return ("item_a", "item_b", "weight")

    @classmethod
    def uniform(cls, data: Comparisons) -> Exact:
        """Return all pairs of items, each as likely."""
        found = list(combinations(data.items, 2))
        frame = pd.DataFrame(found, columns=["item_a", "item_b"])
        return cls(frame.assign(weight=1 / len(found)))

    @classmethod
    def of_reference(cls, data: Comparisons, reference: Mapping[str, float] | None = None) -> Exact:
        """Return all pairs of responses to the same prompt (context), drawn twice from a reference policy.

        Prompts count as often as they were judged. A pair of one response with itself says nothing and adds nothing,
        but keeps its share.

        Parameters
        ----------
        data
            Judgements with contexts; an item belongs to the context it was judged in.
        reference
            Response label -> probability given its prompt; None: all responses judged for a prompt are equally likely.
        """
        if data.context is None:
            raise DataError("Exact.of_reference needs to know the prompt of a judgement; name the context column")
        code = np.repeat(data.context, 2)
        item = np.stack([data.item_a, data.item_b], 1).ravel()
        found = np.unique(np.stack([code, item]), axis=1)
        share = np.bincount(data.context, data.count, len(data.contexts)) / data.n_judgements
        rows = []
        for prompt in np.unique(found[0]):
            labels = [data.items[k] for k in found[1, found[0] == prompt]]
            p = _policy(labels, reference, data.contexts[prompt])
            rows += [(a, b, share[prompt] * p[i] * p[j]) for i, a in enumerate(labels) for j, b in enumerate(labels)]
        return cls(pd.DataFrame(rows, columns=["item_a", "item_b", "weight"]))

    def size(self) -> float:
        """Return infinity: a sum has no sampling error."""
        return math.inf

    def rows(self, views: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Return pair, view and share of every pair judged in every way, the ways having shares `views` [view]."""
        weight = self.pairs["weight"].to_numpy(float)
        if not (weight >= 0).all() or not math.isclose(weight.sum(), 1, abs_tol=1e-8):
            raise DataError(f"the weights of an exact design must add up to 1, not {weight.sum():.6g}")
        pair, view = (each.ravel() for each in np.indices((len(weight), len(views))))
        return pair, view, (weight[:, None] * views).ravel()


@dataclass(frozen=True, eq=False)
class Sampled(_Pairs):
    """Pairs drawn from the law of the labelled ones, and independent of them.

    Attributes
    ----------
    pairs
        Columns item_a, item_b; auxiliary where probabilities are given; cluster where pairs share a prompt or the like
        with judgements of that `cluster` label, so that they are not independent.
    """

    def size(self) -> float:
        """Return the number of pairs."""
        return float(len(self.pairs))

    def rows(self, views: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Return pair, view and share, each pair judged in one way drawn with probabilities `views` [view]."""
        count = len(self.pairs)
        return np.arange(count), rng.choice(len(views), count, p=views / views.sum()), np.full(count, 1 / count)


def _policy(labels: list[str], reference: Mapping[str, float] | None, prompt: str) -> Array:
    if reference is None:
        return np.full(len(labels), 1 / len(labels))
    missing = next((label for label in labels if label not in reference), None)
    if missing is not None:
        raise DataError(f"the reference gives no probability of {missing!r}")
    p = np.array([float(reference[label]) for label in labels])
    if not (p > 0).all() or not math.isclose(p.sum(), 1, abs_tol=1e-6):
        raise DataError(f"reference probabilities of the responses to {prompt!r} must be positive and add up to 1")
    return p
