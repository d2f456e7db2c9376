"""Counts against what a fitted program expects, for the data and for tables replicated from the posterior.

Arrays here are numpy, draws last: sums over annotators or pairs are then products with sparse matrices. A program is
run where it was fitted; its log probabilities, and nothing else, are copied to the CPU, pass by pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import factorized

from prefdensity.data.grades import pooled, verdicts
from prefdensity.posterior.outcome_tables import OutcomeTable, outcome_tables
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

Array = NDArray[Any]

_LEAST = 1e-12  # variance below which nothing was uncertain
_MOST_PATHS = 100_000


class Design:
    """Who compared what how often: the part of a table that replication leaves as it is.

    Attributes
    ----------
    data, outcomes, cells
        The table, the outcomes of the program (grades of one verdict taken together), and the distinct comparisons:
        apart by annotator, order and covariates wherever these are known.
    total
        [cell]: judgements.
    sides
        Sparse [cell, item]: +1 for item_a, -1 for item_b.
    pair, pair_items
        Sparse [pair, cell], which sums over cells, and int [pair, 2].
    who, annotator
        [cell] and sparse [annotator, cell], or None.
    first, covariates
        [cell] and [cell, covariate], or None.
    """

    def __init__(self, data: Comparisons, outcomes: tuple[str, ...], needs: Sequence[str] = ()) -> None:
        outcomes = verdicts(outcomes)
        read = [need for need in needs if need not in ("grades", "ratings")]  # strengths together, comparisons alone
        cells = cells_of(data, outcomes, ("annotator", "first", "covariates", *read))
        a, b, size = cells.item_a.numpy(), cells.item_b.numpy(), len(data.items)
        self.data, self.outcomes, self.cells, self.total = data, outcomes, cells, cells.total.numpy()
        rows, one = np.arange(len(cells)), np.ones(len(cells))
        self.sides = sp.csr_array((np.r_[one, -one], (np.r_[rows, rows], np.r_[a, b])), (len(cells), size))
        keys, self.pair_of = np.unique(a * size + b, return_inverse=True)
        self.pair, self.pair_items = sums(self.pair_of), np.stack(np.divmod(keys, size), 1)
        self.who: Any = None if cells.annotator is None else cells.annotator.numpy()
        self.annotator: Any = None if self.who is None else sums(self.who, len(data.annotators))
        self.first: Any = None if cells.first is None else cells.first.numpy()
        self.covariates: Any = None if cells.covariates is None else cells.covariates.numpy()

    @property
    def observed(self) -> Array:
        """Counts [outcome, cell, 1] of the table itself."""
        assert self.cells.outcome is not None
        return self.cells.outcome.numpy().T[:, :, None]

    def units(self, unit: str) -> pd.DataFrame:
        """Return labels and numbers of judgements of all annotators, pairs or items."""
        if unit == "annotator":
            return pd.DataFrame({unit: self.data.annotators, "judgements": self.annotator @ self.total})
        if unit == "item":
            return pd.DataFrame({unit: self.data.items, "judgements": abs(self.sides).T @ self.total})
        names = np.array(self.data.items, object)[self.pair_items]
        return pd.DataFrame({"item_a": names[:, 0], "item_b": names[:, 1], "judgements": self.pair @ self.total})

    def expected(self, log_p: Array) -> Expectation:
        """Return what log probabilities [outcome, cell, draw] expect."""
        return Expectation(self, log_p)

    def residuals(self, expected: Expectation, count: Array) -> Residuals:
        """Return counts [outcome, cell, draw] against an expectation."""
        return Residuals(expected, count)

    def drawn(self, expected: Expectation, rng: np.random.Generator) -> Array:
        """Draw counts [outcome, cell, draw] like the probabilities, binomial by binomial."""
        p = expected.p
        left = np.broadcast_to(np.round(self.total)[:, None].astype(np.int64), p.shape[1:])
        rest = np.ones(p.shape[1:])
        counts = []
        for share in p[:-1]:
            counts.append(rng.binomial(left, np.clip(share / np.maximum(rest, 1e-300), 0, 1)))
            left, rest = left - counts[-1], rest - share
        return np.stack([*counts, left]).astype(float)

    @cached_property
    def taste(self) -> tuple[Any, Array]:
        """Sparse [annotator with item, cell] of the sides, and the annotator of each row."""
        size = len(self.data.items)
        a, b = self.cells.item_a.numpy(), self.cells.item_b.numpy()
        keys, rows = np.unique(np.r_[self.who * size + a, self.who * size + b], return_inverse=True)
        signs, cells = np.repeat([1.0, -1.0], len(a)), np.tile(np.arange(len(a)), 2)
        return sp.csr_array((signs, (rows, cells)), (len(keys), len(a))), keys // size

    @cached_property
    def repeats(self) -> tuple[Any, Array, Array]:
        """Sparse [annotator with pair, cell], which sums over cells; the annotator and the pair of each row."""
        keys, rows = np.unique(self.who * len(self.pair_items) + self.pair_of, return_inverse=True)
        return sums(rows), *np.divmod(keys, len(self.pair_items))

    @cached_property
    def triads(self) -> Array:
        """Rows of `pair` [triad, 3] that judge items i < j < k: as ij, jk, ik."""
        return triads(self.pair_items)

    @cached_property
    def own_triads(self) -> Array:
        """Rows of `repeats` [triad, 3] of one annotator, like `triads`."""
        _, who, pair = self.repeats
        return triads(who[:, None] * len(self.data.items) + self.pair_items[pair])


def sums(group: Array, size: int | None = None) -> Any:
    """Return the sparse matrix [group, cell] that sums cells within groups."""
    shape = (group.max() + 1 if size is None else size, len(group))
    return sp.csr_array((np.ones(len(group)), (group, np.arange(len(group)))), shape)


def triads(edges: Array) -> Array:
    """Return rows (ij, jk, ik) [triad, 3] of sorted edges [edge, 2], each with a smaller node first.

    At most `_MOST_PATHS` paths i-j-k are tried, a random sample where there are more.
    """
    first, second = edges.T
    start = np.searchsorted(first, second)
    onward = np.searchsorted(first, second, side="right") - start
    ends = onward.cumsum()
    if ends[-1] <= _MOST_PATHS:
        path = np.arange(ends[-1])
    else:
        path = np.unique(np.random.default_rng(0).integers(ends[-1], size=_MOST_PATHS))
    ij = np.searchsorted(ends, path, side="right")
    jk = start[ij] + path - (ends - onward)[ij]
    size = edges.max() + 1
    key, wanted = first * size + second, first[ij] * size + second[jk]
    ik = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    return np.stack([ij, jk, ik], 1)[key[ik] == wanted]


class Expectation:
    """What draws of the posterior expect in each cell.

    A judgement scores 1 for side a, 0 for side b and 1/2 for a tie.

    Attributes
    ----------
    log_p
        [outcome, cell, draw].
    """

    def __init__(self, design: Design, log_p: Array) -> None:
        self.design, self.log_p = design, log_p

    @cached_property
    def p(self) -> Array:
        """Outcome probabilities [outcome, cell, draw]."""
        return np.exp(self.log_p)

    @cached_property
    def score(self) -> Array:
        """Mean score of one judgement [cell, draw]."""
        return self.p[0] + self.p[2] / 2 if len(self.p) == 3 else self.p[0]

    @cached_property
    def v(self) -> Array:
        """Variance [cell, draw] of the score summed over the judgements of a cell."""
        square = self.p[0] + self.p[2] / 4 if len(self.p) == 3 else self.p[0]
        return np.maximum(self.design.total[:, None] * (square - self.score**2), _LEAST)

    @cached_property
    def tie_v(self) -> Array:
        """Variance [cell, draw] of the number of ties."""
        return np.maximum(self.design.total[:, None] * self.p[2] * (1 - self.p[2]), _LEAST)

    @cached_property
    def margin(self) -> Array:
        """Log odds [cell, draw] of side a against side b."""
        return self.log_p[0] - self.log_p[1]


class Tangent:
    """What utilities of the items can stand for, near a fit: directions and residuals are made blind to it.

    Without this, a discrepancy in the data is smaller than in replicated tables, to which nothing was fitted.
    """

    def __init__(self, expected: Expectation) -> None:
        self.design, self.weight = expected.design, expected.v.mean(1)
        sides = self.design.sides
        information = (sides.T @ sp.diags_array(self.weight) @ sides).tocsc()
        ridge = 1e-9 * information.diagonal().max()  # utilities have no zero
        self.solve = factorized(information + ridge * sp.eye_array(information.shape[0], format="csc"))

    def without(self, direction: Array) -> Array:
        """Return directions [cell, draw] less their projection, in the metric of the variances."""
        sides = self.design.sides
        return direction - sides @ self.solve(sides.T @ (self.weight[:, None] * direction))

    def refitted(self, r: Residuals) -> Array:
        """Return the residuals [cell, draw] after one Newton step of the utilities."""
        sides = self.design.sides
        return r.e - r.v * (sides @ self.solve(sides.T @ r.e))


class Residuals:
    """Counts [outcome, cell, draw] (one draw for the data, which are the same under all) against an expectation."""

    def __init__(self, expected: Expectation, count: Array) -> None:
        self.design, self.expected, self.count = expected.design, expected, count
        self.v, self.margin = expected.v, expected.margin

    @cached_property
    def e(self) -> Array:
        """LayerScore above expectation [cell, draw]."""
        score = self.count[0] + self.count[2] / 2 if len(self.count) == 3 else self.count[0]
        return score - self.design.total[:, None] * self.expected.score

    @cached_property
    def squares(self) -> Array:
        """Squared departures of single scores from their expectation, summed within cells [cell, draw]."""
        mean = self.expected.score
        values = (1.0, 0.0, 0.5)[: len(self.count)]
        return np.sum([n * (value - mean) ** 2 for n, value in zip(self.count, values, strict=True)], axis=0)

    @cached_property
    def ties(self) -> Array:
        """Ties above expectation [cell, draw]."""
        return self.count[2] - self.design.total[:, None] * self.expected.p[2]


def replications(post: Posterior, design: Design, replicates: int, seed: int) -> Iterator[tuple[Residuals, Residuals]]:
    """Yield residuals of the data and of replicated data, draws spread over the posterior, in bounded memory.

    Each replicated table comes from one draw: annotators stay themselves, those of hidden types have a type
    drawn given what they said. The data are held against the same draw and types.
    """
    rng = np.random.default_rng(seed)
    index = np.linspace(0, post.n_draws - 1, replicates).round().astype(int)
    thinned = replace(post, draws={name: values[index] for name, values in post.draws.items()})
    for table in outcome_tables(thinned, design.cells, seed=seed):
        expected = design.expected(_known(table, thinned, design, rng))
        ours, theirs = (design.residuals(expected, each) for each in (design.observed, design.drawn(expected, rng)))
        yield ours, theirs


def _known(table: OutcomeTable, post: Posterior, design: Design, rng: np.random.Generator) -> Array:
    """Return log probabilities [outcome, cell, draw], with a type drawn for each annotator where there are types."""
    log_prob = table.log_prob.cpu().numpy()
    if log_prob.shape[1] == 1:
        chosen = log_prob[:, 0]
    else:
        below = post.draws["type_probability"][table.draws].cumsum(-1)[..., :-1]
        kind = (rng.random((*below.shape[:2], 1)) > below).sum(-1)[:, design.who]  # [draw, cell]
        chosen = np.take_along_axis(log_prob, kind[:, None, :, None], 1)[:, 0]
    return np.ascontiguousarray(pooled(chosen, post.outcomes).transpose(2, 1, 0))
