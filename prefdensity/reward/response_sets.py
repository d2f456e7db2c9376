"""Responses to prompts, each item in one set, with reference probabilities: policies over them as vectors [item]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.named import of_items
from prefdensity.errors import DataError

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


class ResponseSets:
    """Sets of responses.

    Attributes
    ----------
    prompt
        int64 [item]: which prompt each answers.
    count, size
        Number of prompts, and of items.
    reference
        Probabilities [item] that add up to 1 for each prompt.
    a, b
        int64 [pair]: all pairs of responses to one prompt, each once.
    """

    def __init__(self, prompt: Codes, reference: Array) -> None:
        self.prompt, self.count, self.size = prompt, int(prompt.max()) + 1, len(prompt)
        self.reference = reference / self.total(reference)[prompt]

    @classmethod
    def of(
        cls, items: tuple[str, ...], prompt: Codes | None, prompts: tuple[str, ...],
        reference: Mapping[str, float] | None,
    ) -> ResponseSets:  # fmt: skip
        """Return the sets of the items of a table, with reference numbers by label; None: even.

        Raises
        ------
        DataError
            For an item without a positive number, and a prompt with one response only.
        """
        code = np.zeros(len(items), np.int64) if prompt is None else prompt
        size = np.bincount(code)
        if (size == 1).any():
            alone = items[int(np.flatnonzero(size[code] == 1)[0])]
            raise DataError(f"item {alone!r} is the only response to its prompt: there is no policy to choose")
        weight = np.ones(len(items))
        known = {} if reference is None else of_items(reference, items, "reference", every=True)
        for k, item in enumerate(known and items):
            if not isinstance(known[item], Real) or not 0 < known[item] < np.inf:
                raise DataError(f"reference must hold a positive number for every item, and for {item!r} it does not")
            weight[k] = known[item]
        return cls(code, weight)

    def total(self, values: Array) -> Array:
        """Return sums [..., prompt] of values [..., item]."""
        found = np.add.reduceat(values[..., self._order], self._starts, axis=-1)
        return np.asarray(found)

    @cached_property
    def _order(self) -> Codes:
        return np.argsort(self.prompt, kind="stable")

    @cached_property
    def _starts(self) -> Codes:
        return np.searchsorted(self.prompt[self._order], np.arange(self.count))

    @cached_property
    def _pairs(self) -> tuple[Codes, Codes]:
        parts = []
        for own in np.split(self._order, self._starts[1:]):
            a, b = np.triu_indices(len(own), 1)
            parts.append(np.stack([own[a], own[b]]))
        a, b = np.concatenate(parts, 1)
        return a, b

    @property
    def a(self) -> Codes:  # noqa: D102
        return self._pairs[0]

    @property
    def b(self) -> Codes:  # noqa: D102
        return self._pairs[1]

    @property
    def furthest(self) -> float:
        """Mean KL of a policy that is sure of one response to each prompt, where it is nearest to the reference."""
        most = np.full(self.count, 0.0)
        np.maximum.at(most, self.prompt, self.reference)
        return float(-np.log(most).mean())

    def above_reference(self, reward: Array) -> Array:
        """Return rewards [..., item] less what the reference gets at the prompt."""
        return np.asarray(reward - self.total(reward * self.reference)[..., self.prompt])

    def tilted(self, logits: Array) -> Array:
        """Return policies [..., item] proportional to reference * exp(logits)."""
        highest = np.maximum.reduceat(logits[..., self._order], self._starts, axis=-1)
        weight = self.reference * np.exp(logits - highest[..., self.prompt])
        return np.asarray(weight / self.total(weight)[..., self.prompt])

    def best_of(self, reward: Array) -> Callable[[float], Array]:
        """Return what makes the policy [item] of taking the best by reward [item] of n responses of the reference."""
        order = np.lexsort([reward, self.prompt])
        share = self.reference[order]
        starts = self._starts
        up_to = np.cumsum(share)
        up_to -= np.repeat(up_to[starts] - share[starts], np.diff([*starts, self.size]))
        up_to = np.minimum(up_to, 1.0)
        below = np.maximum(up_to - share, 0.0)
        below[starts] = 0.0

        def make(n: float) -> Array:
            found = np.empty(self.size)
            found[order] = up_to**n - below**n
            return found / self.total(found)[self.prompt]

        return make

    def kl(self, policy: Array) -> float:
        """Return the mean over prompts of KL(policy || reference)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(policy > 0, policy * np.log(policy / self.reference), 0.0)
        return float(terms.sum() / self.count)

    def mean(self, policy: Array, values: Array) -> Array:
        """Return the mean over prompts of values [..., item] under a policy [item]."""
        return np.asarray(values @ policy / self.count)

    def win_rate(self, policy: Array, prefer: Array) -> Array:
        """Return how often a response of the policy is preferred to one of the reference.

        Parameters
        ----------
        policy
            [item].
        prefer
            P(a is preferred to b) [..., pair]; the same response wins half.
        """
        a, b, q = self.a, self.b, self.reference
        forth, back = policy[a] * q[b], policy[b] * q[a]
        return np.asarray((prefer @ (forth - back) + back.sum() + (policy @ q) / 2) / self.count)
