"""Cells: the distinct comparisons with outcome counts, as tensors. Programs see nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.comparisons import OUTCOMES
from prefdensity.errors import DataError
from prefdensity.grades import mirror

if TYPE_CHECKING:
    from prefdensity.choices import Choices
    from prefdensity.comparisons import Comparisons

# Above this many possible keys a sort is cheaper than a table of all of them.
_DENSE_KEYS = 1 << 25
# The columns of `Cells`, [comparison, ...].
PER_COMPARISON = ("item_a", "item_b", "annotator", "first", "covariates", "total", "choice", "outcome")


@dataclass(frozen=True, eq=False)
class RatingCells:
    """Distinct ratings: `item` [rating], `annotator` [rating] or None, counts `level` [rating, level]."""

    item: Tensor
    annotator: Tensor | None
    level: Tensor


@dataclass(frozen=True, eq=False)
class Cells:
    """Distinct comparisons, oriented so that `item_a` < `item_b`, with a count for each outcome.

    Attributes
    ----------
    item_a, item_b
        int64 [comparison].
    annotator
        int64 [comparison], or None.
    first
        [comparison]: +1 item_a shown first, -1 item_b, 0 neither or unknown; None = order not recorded.
    covariates
        [comparison, covariate], or None; positive values speak for side a. A unit is the covariate's root mean square.
    covariate_scale
        That root mean square in the users' units [covariate], or None.
    features
        Standardised [item, feature], or None.
    feature_scale
        Their standard deviations over items in the users' units [feature], 1 for a constant one; or None.
    measures
        name -> [item], in the users' units.
    outcome
        Counts [comparison, outcome]; None asks a program to simulate.
    total
        Judgements in each cell [comparison].
    choice
        For choices from more than two items: int64 [comparison], the choice set in which this row is one alternative
        (see `prefdensity.choices`); None: every row is a comparison of its own.
    ratings
        Ratings of the same items, or None.
    outcomes, n_items, n_annotators
        The outcome labels in order, and the sizes of the plates.
    term
        int64 [row]: cell * outcomes + outcome of every row of the table, for readers of the table; programs have no
        use for it.
    """

    item_a: Tensor
    item_b: Tensor
    total: Tensor
    outcomes: tuple[str, ...]
    n_items: int
    n_annotators: int = 0
    annotator: Tensor | None = None
    first: Tensor | None = None
    covariates: Tensor | None = None
    covariate_scale: Tensor | None = None
    features: Tensor | None = None
    feature_scale: Tensor | None = None
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    outcome: Tensor | None = None
    term: Tensor | None = None
    choice: Tensor | None = None
    ratings: RatingCells | None = None

    def __len__(self) -> int:
        return len(self.item_a)

    @property
    def mirror(self) -> Tensor:
        """The place of each outcome once the sides are exchanged, int64 [outcome]."""
        return torch.tensor(mirror(self.outcomes), device=self.item_a.device)

    @cached_property
    def rows(self) -> Tensor:
        """0, 1, ...: int64 [comparison]. Kept, for a plate asks for it in every run."""
        return torch.arange(len(self), device=self.item_a.device)

    def measure(self, name: str) -> Tensor:
        """Return what is known of the items under this name [item]."""
        if name not in self.measures:
            raise DataError(f"there is no item measure {name!r}; the data have {', '.join(self.measures) or 'none'}")
        return self.measures[name]

    def contrast(self, utility: Tensor) -> Tensor:
        """Return u_a - u_b [..., comparison] of a table [..., item]."""
        return self._read(utility, self.item_a) - self._read(utility, self.item_b)

    def of_annotator(self, table: Tensor) -> Tensor:
        """Return the entry [..., comparison] of a table [..., annotator] for who judged."""
        assert self.annotator is not None  # a program that needs annotators is refused without them
        return self._read(table, self.annotator)

    def shared(self, table: Tensor) -> Tensor:
        """Return a table [..., entry] that every comparison reads whole, as [..., comparison or 1, entry]."""
        return table.unsqueeze(-2)

    def sides(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries [..., comparison] of a table [..., item] for side a and side b."""
        return self._read(table, self.item_a), self._read(table, self.item_b)

    def annotator_contrast(self, table: Tensor) -> Tensor:
        """Return t_ja - t_jb [..., comparison] of a table [..., annotator, item], j being who judged."""
        assert self.annotator is not None  # refused without annotators
        flat = table.flatten(-2)
        row = self.annotator * self.n_items
        margin = self._read(flat, row + self.item_a) - self._read(flat, row + self.item_b)
        return margin.unsqueeze(-2) if table.dim() > 2 else margin  # keep the fit plate at dim -3

    def covariate_sum(self, effect: Tensor) -> Tensor:
        """Return the sum of covariates times effects [..., covariate], per comparison [..., comparison]."""
        assert self.covariates is not None  # refused without covariates
        return effect @ self.covariates.T

    def per_unit(self, effect: Tensor) -> Tensor:
        """Return effects [..., covariate] of one unit as the users measure covariates."""
        assert self.covariate_scale is not None  # refused without covariates
        return effect / self.covariate_scale

    def log_sum_of_set(self, score: Tensor) -> Tensor:
        """Return log sum exp of scores [..., comparison] over the alternatives of each row's choice set."""
        assert self.choice is not None
        sets = int(self.choice[-1]) + 1
        index = self.choice.expand(score.shape)
        top = score.detach().new_full((*score.shape[:-1], sets), -torch.inf)
        top = top.scatter_reduce(-1, index, score.detach(), "amax")
        shifted = (score - entries(top, self.choice)).exp()
        total = torch.zeros_like(top).scatter_add(-1, index, shifted)
        return entries(total.log() + top, self.choice)

    def head(self, rows: int) -> Cells:
        """Return the first `rows` cells only: one is enough to run a program for its latent sites."""
        return self.at(slice(rows))

    def take(self, rows: Tensor) -> Cells:
        """Return the cells at `rows`, ascending; choice sets are numbered anew, and readers of the table lose it."""
        part = replace(self.at(rows), term=None)
        if part.choice is None:
            return part
        return replace(part, choice=torch.unique_consecutive(part.choice, return_inverse=True)[1])

    def at(self, rows: Tensor | slice) -> Cells:
        """Return the cells at `rows` as they are; see `take` for choice sets."""
        columns = {name: getattr(self, name) for name in PER_COMPARISON if getattr(self, name) is not None}
        # what was laid out outcome by outcome stays so
        return replace(self, **{name: held.movedim(0, -1)[..., rows].movedim(-1, 0) for name, held in columns.items()})

    def without_outcomes(self) -> Cells:
        """Return the same cells with nothing observed: programs then simulate."""
        return replace(self, outcome=None)

    def in_single_precision(self) -> Cells:
        """Return the same cells, whose comparisons are worked out in single precision: half the memory to move."""
        assert self.outcome is not None  # for likelihoods
        return replace(self, outcome=self.outcome.float())

    def each(self, change: Callable[[Tensor], Tensor]) -> Cells:
        """Return the same cells with every tensor changed, such as moved to another device."""
        changed: dict[str, Any] = {
            name: change(held) for name, held in vars(self).items() if name != "rows" and isinstance(held, Tensor)
        }
        measures = {name: change(values) for name, values in self.measures.items()}
        ratings = self.ratings and replace(
            self.ratings, **{name: change(held) for name, held in vars(self.ratings).items() if held is not None}
        )
        return replace(self, **changed, measures=measures, ratings=ratings)

    def _read(self, table: Tensor, index: Tensor) -> Tensor:
        return entries(table if self.outcome is None else table.to(self.outcome.dtype), index)


def entries(table: Tensor, index: Tensor) -> Tensor:
    """Return table[..., index] of a table [..., entry] and an index [place], as [..., place]."""
    # gather: on the CPU index_select takes ten times as long for a batch of tables, and fancy indexing longer
    return table.gather(-1, index.expand(*table.shape[:-1], -1))


def compress(
    data: Comparisons,
    outcomes: tuple[str, ...] = OUTCOMES,
    needs: Sequence[str] = ("annotator", "first", "covariates"),
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Cells:
    """Collapse equal comparisons into cells with outcome counts.

    Parameters
    ----------
    data
        The table.
    outcomes
        The outcomes to count; a tie in `data` needs "tie" among them. The grades of `data` take their place where
        `needs` has "grades".
    needs
        Which of annotator, first, covariates keep comparisons apart, and what else programs read; the rest is
        forgotten.
    dtype, device
        Of the real tensors (default float64) and of all tensors.
    """
    dtype = dtype or torch.float64
    flip = data.item_a > data.item_b
    item_a = np.where(flip, data.item_b, data.item_a)
    item_b = np.where(flip, data.item_a, data.item_b)
    sign = np.where(flip, -1, 1)
    annotator = data.annotator if "annotator" in needs else None
    first = data.first * sign if "first" in needs and data.first is not None else None
    covariates = None
    if "covariates" in needs and data.covariates is not None:
        assert data.covariate_scale is not None  # wherever there are covariates
        covariates = data.covariates / data.covariate_scale * sign[:, None]
    keys = [(item_a, len(data.items)), (item_b, len(data.items))]
    if annotator is not None:
        keys.append((annotator, len(data.annotators)))
    if first is not None:
        keys.append((first + 1, 3))
    if covariates is not None:
        for column in covariates.T:
            levels, codes = np.unique(column, return_inverse=True)
            keys.append((codes, len(levels)))
    rows, cell = _group(keys)
    total = np.bincount(cell, data.count, len(rows))
    labels, code = _judged(data, outcomes, "grades" in needs)
    outcomes = outcomes if labels is OUTCOMES else labels
    counts: np.ndarray = np.zeros((len(rows), len(outcomes)))
    term = None
    if code is not None:
        judged, size = np.where(flip, np.array(mirror(labels))[code], code), len(labels)
        counts = np.bincount(cell * size + judged, data.count, size * len(rows)).reshape(-1, size)[:, : len(outcomes)]
        term = cell * len(outcomes) + judged

    def real(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=dtype, device=device)

    def integer(values: np.ndarray | None) -> Tensor | None:
        return None if values is None else torch.tensor(values, dtype=torch.int64, device=device)

    return Cells(
        item_a=integer(item_a[rows]),  # type: ignore[arg-type]
        item_b=integer(item_b[rows]),  # type: ignore[arg-type]
        total=real(total),  # type: ignore[arg-type]
        outcomes=outcomes,
        n_items=len(data.items),
        n_annotators=len(data.annotators),
        annotator=integer(None if annotator is None else annotator[rows]),
        first=real(None if first is None else first[rows]),
        covariates=real(None if covariates is None else covariates[rows]),
        covariate_scale=real(None if covariates is None else data.covariate_scale),
        features=real(None if data.item_features is None else standardised(data.item_features)),
        feature_scale=real(None if data.item_features is None else spread(data.item_features)),
        measures={name: real(values) for name, values in measures(data).items()},  # type: ignore[misc]
        # laid out outcome by outcome, like the tables of `outcomes.by_outcome`
        outcome=None if code is None else real(np.ascontiguousarray(counts.T)).T,  # type: ignore[union-attr]
        term=integer(term),
        ratings=_rating_cells(data, dtype, device) if "ratings" in needs else None,
    )


def measures(data: Comparisons | Choices) -> dict[str, np.ndarray]:
    """Return the item measures of a table by name, each [item]."""
    return {} if data.item_measures is None else dict(zip(data.measure_names, data.item_measures.T, strict=True))


def _judged(data: Comparisons, outcomes: tuple[str, ...], graded: bool) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Return the labels of judgements and the place of each row's among them."""
    if not graded or not data.grades:
        return OUTCOMES, data.outcome
    if outcomes not in (OUTCOMES, data.grades):
        raise DataError(
            f"{data.source} has the grades {', '.join(data.grades)}, and these were fitted: {', '.join(outcomes)}"
        )
    return data.grades, None if data.outcome is None else data.grade


def _rating_cells(data: Comparisons, dtype: torch.dtype, device: str) -> RatingCells:
    ratings = data.ratings
    assert ratings is not None  # a program that needs ratings is refused without them
    keys = [(ratings.item, len(data.items))]
    if ratings.annotator is not None:
        keys.append((ratings.annotator, len(data.annotators)))
    rows, cell = _group(keys)
    size = len(ratings.levels)
    counts = np.bincount(cell * size + ratings.level, minlength=len(rows) * size).reshape(-1, size)
    who = ratings.annotator
    return RatingCells(
        item=torch.tensor(ratings.item[rows], device=device),
        annotator=None if who is None else torch.tensor(who[rows], device=device),
        level=torch.tensor(counts, dtype=dtype, device=device),
    )


def standardised(features: np.ndarray) -> np.ndarray:
    """Return features [item, feature] with mean 0 and standard deviation 1; constant ones become 0."""
    return np.asarray((features - features.mean(0)) / spread(features))


def spread(features: np.ndarray) -> np.ndarray:
    """Return the standard deviations [feature] of features [item, feature]; 1 of constant ones."""
    found = features.std(0)
    return np.where(found > 0, found, 1.0)


def _group(keys: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the row of one member of each group of equal keys, and the group of each row."""
    key = np.zeros(len(keys[0][0]), np.int64)
    size = 1
    for codes, levels in keys:
        if size * levels >= 2**62:
            found, key = np.unique(key, return_inverse=True)
            size = len(found)
        key, size = key * levels + codes, size * levels
    if size > _DENSE_KEYS:
        _, rows, group = np.unique(key, return_index=True, return_inverse=True)
        return rows, group
    row_of = np.full(size, -1, np.int64)
    row_of[key] = np.arange(len(key))
    present = np.flatnonzero(row_of >= 0)
    group_of = np.empty(size, np.int64)
    group_of[present] = np.arange(len(present))
    return row_of[present], group_of[key]
