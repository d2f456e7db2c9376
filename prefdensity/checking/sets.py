"""Checks of choices from sets: what was chosen against what a fitted program expects, alternative by alternative.

Within a set the counts of its alternatives are multinomial: with p the probabilities, n choices and m = log p less its
mean in the set, the residuals e = count - n p have Cov(e, sum e m) = n p m and Var(sum e m) = n sum p m^2. So the score
tests of pairs serve here with n p in the place of the variance. An alternative is an item, or of best-worst answers an
ordered pair of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from prefdensity.checking.replication import Design, Expectation, Residuals, sums
from prefdensity.data.choices import Choices
from prefdensity.programs.tabulate import cells_of

Array = NDArray[Any]

_LEAST = 1e-12


class SetDesign(Design):
    """Who chose from which sets how often; a cell is one alternative of one set (of one annotator).

    Attributes
    ----------
    data, outcomes, cells, total, who, annotator
        As of `Design`; `total` is the number of choices from the alternative's set.
    choice
        [cell]: the set that the alternative belongs to; cells of a set lie side by side.
    sides
        Sparse [cell, item]: +1 for the item chosen, and of best-worst answers -1 for the worst.
    alike
        Sparse [alternative, cell], which sums over annotators, and the distinct set [alternative] of each.
    """

    def __init__(self, data: Choices, outcomes: tuple[str, ...], needs: Sequence[str] = ()) -> None:
        cells = cells_of(data, outcomes, ("annotator", *needs))
        assert cells.choice is not None  # these are sets
        self.data, self.outcomes, self.cells, self.total = data, outcomes, cells, cells.total.numpy()  # type: ignore[assignment]
        self.choice, a, b = cells.choice.numpy(), cells.item_a.numpy(), cells.item_b.numpy()
        rows, one = np.arange(len(cells)), np.ones(len(cells))
        self.sides = sp.csr_array((one, (rows, a)), (len(cells), len(data.items)))
        if data.worst is not None:
            self.sides = self.sides - sp.csr_array((one, (rows, b)), self.sides.shape)
        self.who: Any = None if cells.annotator is None else cells.annotator.numpy()
        self.annotator: Any = None if self.who is None else sums(self.who, len(data.annotators))
        self.size = np.bincount(self.choice)
        members = np.split(a, self.size.cumsum()[:-1])
        self.sets = sorted({tuple(np.unique(each).tolist()) for each in members})
        place = {each: k for k, each in enumerate(self.sets)}
        of_cell = np.repeat([place[tuple(np.unique(each).tolist())] for each in members], self.size)
        items = len(data.items)
        keys, alternative = np.unique((of_cell * items + a) * items + b, return_inverse=True)
        self.alike, self.set_of = sums(alternative), keys // items**2
        self.of_cell = of_cell

    @cached_property
    def taste(self) -> tuple[Any, Array]:
        """Sparse [annotator with item, cell] of the sides, and the annotator of each row."""
        cell, item = self.sides.nonzero()
        keys, rows = np.unique(self.who[cell] * len(self.data.items) + item, return_inverse=True)
        signs = np.asarray(self.sides[cell, item]).ravel()
        return sp.csr_array((signs, (rows, cell)), (len(keys), len(self.total))), keys // len(self.data.items)

    def units(self, unit: str) -> pd.DataFrame:
        """Return labels and numbers of choices of all annotators, sets or items."""
        each = self.total / self.size[self.choice]  # a choice counts once, not for each alternative
        if unit == "annotator":
            return pd.DataFrame({unit: self.data.annotators, "judgements": self.annotator @ each})
        if unit == "item":
            member = (abs(self.sides).T @ sums(self.choice).T > 0).astype(float)
            return pd.DataFrame({unit: self.data.items, "judgements": member @ (sums(self.choice) @ each)})
        names = [", ".join(self.data.items[k] for k in each) for each in self.sets]
        return pd.DataFrame({"set": names, "judgements": sums(self.of_cell, len(self.sets)) @ each})

    def expected(self, log_p: Array) -> Expectation:
        """Return what log probabilities [outcome, cell, draw] expect."""
        return SetExpectation(self, log_p)

    def residuals(self, expected: Expectation, count: Array) -> Residuals:
        """Return counts [1, cell, draw] against an expectation."""
        return SetResiduals(expected, count)

    def drawn(self, expected: Expectation, rng: np.random.Generator) -> Array:
        """Draw counts [1, cell, draw] of the alternatives, set by set."""
        p = expected.score
        start = self.size.cumsum() - self.size
        left, rest = np.round(self.total[start])[:, None].astype(np.int64), np.ones((len(start), p.shape[1]))
        left = np.broadcast_to(left, rest.shape).copy()
        count = np.zeros_like(p)
        for k in range(self.size.max()):  # the k-th alternative of every set that has one, given those before
            has = np.flatnonzero(self.size > k)
            rows = start[has] + k
            share = np.clip(p[rows] / np.maximum(rest[has], 1e-300), 0, 1)
            share[self.size[has] == k + 1] = 1.0
            count[rows] = rng.binomial(left[has], share)
            left[has] -= count[rows].astype(np.int64)
            rest[has] -= p[rows]
        return count[None]

    @property
    def observed(self) -> Array:
        """How often each alternative was chosen [1, cell, 1]."""
        assert self.cells.outcome is not None
        return self.cells.outcome.numpy()[None, :, :1]


class SetExpectation(Expectation):
    """What draws of the posterior expect of each alternative."""

    @cached_property
    def score(self) -> Array:
        """Probability that the alternative is chosen from its set [cell, draw]."""
        return np.exp(self.log_p[0])

    @cached_property
    def v(self) -> Array:
        """Choices expected [cell, draw], which stand for variances; see the top of this file."""
        return np.maximum(self.design.total[:, None] * self.score, _LEAST)

    @cached_property
    def margin(self) -> Array:
        """Log probability of the alternative less its mean in the set [cell, draw]."""
        assert isinstance(self.design, SetDesign)
        log_p = np.maximum(self.log_p[0], -700.0)
        return log_p - (sums(self.design.choice) @ (self.score * log_p))[self.design.choice]


class SetResiduals(Residuals):
    """Counts [1, cell, draw] of alternatives against an expectation."""

    @cached_property
    def e(self) -> Array:
        """Choices above expectation [cell, draw]."""
        return self.count[0] - self.design.total[:, None] * self.expected.score


def choice_fit(r: Residuals, d: Any) -> Array:
    """Return Pearson's chi-square of the alternatives of each set."""
    design = r.design
    assert isinstance(design, SetDesign)
    return sums(design.set_of, len(design.sets)) @ ((design.alike @ r.e) ** 2 / (design.alike @ r.v))
