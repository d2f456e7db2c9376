"""Leave-one-out predictive density by unit: a comparison, a pair of items, an item, an annotator, or a context.

Units answer different questions and are never mixed: one more judgement by a known annotator, the verdict on a
pair nobody compared, on an item nobody compared, everything that an unknown annotator will say, or all that is said
about a new prompt. For an annotator his own latents are integrated out (Gronau and Wagenmakers 2019; Merkle, Furr and
Rabe-Hesketh 2019); conditional likelihoods would make importance sampling fail by design. For the same reason items
are left out of programs of item features only: elsewhere a new item is known by its prior alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import require_table
from prefdensity.errors import DataError
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.posterior.psis import USABLE, left_out
from prefdensity.posterior.questions import draws_of, given_to, sites_of
from prefdensity.programs.cells import Cells
from prefdensity.programs.tables import by_entry, entries
from prefdensity.programs.tabulate import cells_of
from prefdensity.shown import Telling
from prefdensity.words import counted

if TYPE_CHECKING:
    from prefdensity.programs.layers import Program

WAIC_VARIANCE = 0.4  # beyond this a unit's WAIC is not reliable (Vehtari, Gelman and Gabry 2017, section 2.2)
_NODES = {1: 33, 2: 13}  # grid points for annotators' latents, by how many an annotator has
_BLOCK = 1000  # units smoothed at a time
_AT_ONCE = 1_000_000  # draws x outcomes x judgements worked out at a time


@dataclass(frozen=True, eq=False, repr=False)
class Elpd(Telling):
    """Expected log predictive density, unit by unit.

    Attributes
    ----------
    unit
        comparison, pair, item, choice, annotator, context, or another label of the data.
    labels
        Of the units; row numbers for comparisons.
    elpd_i
        [unit] log predictive density of the unit (nats) when it is left out.
    lpd_i
        [unit] the same when it is not left out.
    k_hat
        [unit] Pareto shape of the importance weights; above .7 the value is not reliable.
    weight
        [unit] how many judgements (comparison) or 1.
    p_waic_i
        [unit] posterior variance of the unit's log likelihood, the penalty of WAIC; NaN where there were only refits,
        or sites are at modes.
    """

    unit: str
    labels: tuple[str, ...]
    elpd_i: NDArray[np.float64]
    lpd_i: NDArray[np.float64]
    k_hat: NDArray[np.float64]
    weight: NDArray[np.float64]
    p_waic_i: NDArray[np.float64]

    @property
    def elpd(self) -> float:
        """Sum over units (nats); higher is better."""
        return float(self.weight @ self.elpd_i)

    @property
    def se(self) -> float:
        """Standard error of the sum over a population of units (ddof 1)."""
        return standard_error(self.elpd_i, self.weight)

    @property
    def p_loo(self) -> float:
        """Effective number of parameters."""
        return float(self.weight @ (self.lpd_i - self.elpd_i))

    @property
    def n_bad(self) -> int:
        """Units whose k-hat is above .7."""
        return int((self.k_hat > USABLE).sum())

    @property
    def waic(self) -> float:
        """The same sum by the widely applicable information criterion (Watanabe 2010): a cross-check (nats)."""
        return float(self.weight @ (self.lpd_i - self.p_waic_i))

    @property
    def n_bad_waic(self) -> int:
        """Units whose log likelihood varies too much for WAIC: p_waic above .4."""
        return int((self.p_waic_i > WAIC_VARIANCE).sum())

    def to_frame(self) -> pd.DataFrame:
        """Return one row per unit: the unit, elpd, lpd, k_hat, p_waic, weight."""
        columns = {"elpd": self.elpd_i, "lpd": self.lpd_i, "k_hat": self.k_hat, "p_waic": self.p_waic_i}
        return pd.DataFrame({self.unit: self.labels, **columns, "weight": self.weight})

    def __str__(self) -> str:
        text, units = f"elpd {self.elpd:.1f} (se {self.se:.1f})", f"over {counted(len(self.elpd_i), self.unit)}"
        if np.isnan(self.p_loo):  # of folds there are no weights
            return f"{text}, {units}; by refits without them"
        text = f"{text}, p_loo {self.p_loo:.1f}, {units}"
        return text + (f"; k-hat above {USABLE} for {self.n_bad} of them" if self.n_bad else "; every k-hat is usable")


def standard_error(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the standard error of sum(weight * values), each unit of weight an independent draw."""
    n = weight.sum()
    if n <= 1:
        return math.nan
    mean = weight @ values / n
    return float(np.sqrt(n * (weight @ (values - mean) ** 2) / (n - 1)))


def loo(post: Posterior, data: Comparisons | Choices, *, unit: str | None = None) -> Elpd:
    """Return the leave-one-out density of the data that `post` was fitted to, by Pareto-smoothed importance sampling.

    Raises
    ------
    DataError
        For an unknown unit or one that the data or the program do not have, other data than were fitted, or a
        posterior mode.
    """
    require_same_table(post, data)
    if post.is_point or post.status.method == "mle":
        raise DataError(f"{post.status.method} gives no posterior; fit with laplace, svi or nuts to compare programs")
    blocks, labels, weight, index = _log_lik_blocks(post, data, unit)
    # one piece, for many small ones would keep the memory of large ones apart
    found = torch.empty(4, int(index.max()) + 1, dtype=torch.float64, device=post.device)
    at = 0
    for each in (part for block in blocks for part in block.split(_BLOCK, dim=1)):
        found[:, at : at + each.shape[1]] = _smoothed(each)
        at += each.shape[1]
    elpd, lpd, k_hat, variance = found.cpu().numpy()[:, index]
    if post.at_mode:
        k_hat, variance = np.full_like(k_hat, math.inf), np.full_like(variance, math.nan)
    return Elpd(unit or data.UNITS[0], labels, elpd, lpd, k_hat, weight, variance)


def _smoothed(log_lik: Tensor) -> Tensor:
    """Return elpd, lpd, k-hat and variance [4, unit] of log likelihoods [draw, unit]."""
    by_unit = log_lik.T.contiguous()
    elpd, k_hat = left_out(by_unit)
    lpd = by_unit.logsumexp(-1) - math.log(len(log_lik))
    away = by_unit - by_unit.mean(-1, keepdim=True)  # `var` takes three times as long
    variance = away.square_().sum(-1) / (len(log_lik) - 1)
    return torch.stack([elpd, lpd, k_hat, variance])


def units_of(
    data: Comparisons | Choices, unit: str | None, program: Program
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the units [row, k] of every row, and the labels of all units; None: each row is one.

    Raises
    ------
    DataError
        For an unknown unit, or one that the data or the program do not have.
    """
    require_table(data)
    if unit == "item" and "features" not in program.needs:
        raise DataError(
            f"unit='item' is for programs of item features: {program.name} knows an item nobody compared by its "
            "prior alone; leave out pairs instead"
        )
    return data.units(unit or data.UNITS[0])


def unit_log_lik(
    post: Posterior, data: Comparisons | Choices, unit: str | None = None, held_out: bool = False
) -> tuple[Tensor, tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """Return log likelihoods [draw, term], unit labels, unit weights [unit], and the term of each unit [unit].

    Equal comparisons share a term. With types, a comparison, pair, item or context is predicted from what its
    annotators said elsewhere: in these data, or, when the data were `held_out` of the fit, in those that were fitted.
    """
    blocks, labels, weight, index = _log_lik_blocks(post, data, unit, held_out)
    return torch.cat(list(blocks), 1), labels, weight, index


def _log_lik_blocks(
    post: Posterior, data: Comparisons | Choices, unit: str | None, held_out: bool = False
) -> tuple[Iterator[Tensor], tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """Return what `unit_log_lik` does, the log likelihoods in blocks of terms, each made when it is asked for."""
    program = post.program
    units, labels = units_of(data, unit, program)
    if unit == "annotator":
        cells = cells_of(data, post.outcomes, (*program.needs, "annotator"))
        return iter([_by_annotator(post, cells)]), labels, np.ones(len(labels)), np.arange(len(labels))
    cells = cells_of(data, post.outcomes, program.needs)
    assert cells.term is not None  # the data have outcomes
    term = cells.term.numpy()
    if unit in (None, data.UNITS[0]):
        found, index = np.unique(term, return_inverse=True)
        groups = _Groups(found, np.arange(len(found)), np.ones(len(found)), len(found))
        return _by_group(post, cells, groups, held_out), labels, data.count, index
    size = len(cells) * len(post.outcomes)
    key, inverse = np.unique(units * size + term[:, None], return_inverse=True)
    count: NDArray[Any] = np.bincount(inverse.ravel(), np.repeat(data.count, units.shape[1]))
    groups = _Groups(key % size, key // size, count, len(labels))
    return _by_group(post, cells, groups, held_out), labels, np.ones(len(labels)), np.arange(len(labels))


def pointwise_log_lik(
    post: Posterior, data: Comparisons | Choices, unit: str | None = None
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Return labels [unit] and log likelihoods [draw, unit], a comparison that counts n times given n times.

    Raises
    ------
    DataError
        As in `loo`, and for comparisons that count by halves.
    """
    require_same_table(post, data)
    log_lik, labels, weight, index = unit_log_lik(post, data, unit)
    if not np.array_equal(weight, np.round(weight)):
        raise DataError("half a comparison has no log likelihood of its own; export another unit, such as pair")
    repeated = np.repeat(np.arange(len(labels)), weight.astype(np.int64))
    return tuple(labels[k] for k in repeated), log_lik.cpu().numpy()[:, index[repeated]]


@dataclass(frozen=True)
class _Groups:
    """Which judgements belong to which of `size` groups: term (cell and outcome), group and count, each [entry].

    Entries of a group are side by side, groups in their order.
    """

    term: NDArray[np.int64]
    to: NDArray[np.int64]
    count: NDArray[np.float64]
    size: int

    def blocks(self, most: int) -> Iterator[_Groups]:
        """Yield all groups in blocks of up to `most` entries, a group whole."""
        ends = np.searchsorted(self.to, np.arange(self.size), side="right")  # of each group's entries
        first = entry = 0
        while first < self.size:
            last = max(first + 1, int(np.searchsorted(ends, entry + most, side="right")))
            some = slice(entry, ends[last - 1])
            yield _Groups(self.term[some], self.to[some] - first, self.count[some], last - first)
            first, entry = last, int(ends[last - 1])


def _by_group(post: Posterior, cells: Cells, groups: _Groups, held_out: bool) -> Iterator[Tensor]:
    """Yield log p(judgements of the group | all others, draw) [draw, group], block by block of groups."""
    elsewhere = None
    if post.program.annotators_have_types:
        assert cells.annotator is not None  # types are refused without annotators
        elsewhere = _known_of_types(post, cells, held_out)
    outcomes = len(post.outcomes)
    held = sites_of(post, post.drawn)
    held |= {name: by_entry(every) for name, every in held.items() if name not in post.at_mode}
    for block in groups.blocks(max(1, _AT_ONCE // (post.n_draws * outcomes))):
        if not len(block.to):  # labels of which these data have no row
            yield torch.zeros(post.n_draws, block.size, dtype=torch.float64, device=post.device)
            continue
        rows, cell = _rows_with(cells, torch.as_tensor(block.term // outcomes))
        alone = np.array_equal(block.to, np.arange(block.size))  # an entry for each group
        few, out = cells.take(rows), []
        places = np.stack([block.term % outcomes * len(few) + cell.numpy(), cell.numpy(), block.to])
        place, cell, to = torch.as_tensor(places).to(post.device)
        count = torch.as_tensor(block.count).to(post.device)
        for table in outcome_tables(post, few, held=held):
            by_outcome = table.log_prob.movedim(-1, 2).flatten(2)  # as it is stored
            term = entries(by_outcome, place).mul_(count)  # [draw, type, entry]
            if elsewhere is None:
                out.append(term[:, 0] if alone else term.new_zeros(len(term), block.size).index_add_(1, to, term[:, 0]))
            else:
                who = table.annotator[cell]  # type: ignore[index]
                out.append(_with_types(term, to, who, elsewhere[table.draws], block.size, held_out))
        yield torch.cat(out) if len(out) > 1 else out[0]


def _rows_with(cells: Cells, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells [row] that tell of those `wanted` [entry], whole choice sets, and the row of each of these."""
    rows = wanted.unique()
    if cells.choice is not None:
        rows = torch.nonzero(torch.isin(cells.choice, cells.choice[rows])).flatten()
    return rows, torch.searchsorted(rows, wanted)


def _known_of_types(post: Posterior, cells: Cells, held_out: bool) -> Tensor:
    """Return log p(type of annotator, all they said | draw) [draw, type, annotator], or of what was fitted alone."""
    if held_out:
        return draws_of(post, "type_probability").log().transpose(1, 2)
    cells = cells.to(post.device)
    tables = outcome_tables(post, cells)
    return torch.cat([_type_sums(cells, each.log_prob) + each.log_weight for each in tables])  # type: ignore[operator]


def _with_types(term: Tensor, to: Tensor, who: Tensor, elsewhere: Tensor, size: int, held_out: bool) -> Tensor:
    """Return log p(judgements of the group | all others) [draw, group] of entries [draw, type, entry] by `who`."""
    people = elsewhere.shape[-1]
    found, inverse = torch.unique(to * people + who, return_inverse=True)
    part = term.new_zeros(*term.shape[:2], len(found)).index_add(-1, inverse, term)
    rest = elsewhere.index_select(-1, found % people)
    rest = rest if held_out else rest - part
    # log p(an annotator's part of the group | his other judgements), his type summed out
    conditional = (rest + part).logsumexp(1) - rest.logsumexp(1)
    return part.new_zeros(len(part), size).index_add(1, found // people, conditional)


def _by_annotator(post: Posterior, cells: Cells) -> Tensor:
    """Return log p(all judgements of annotator | draw) [draw, annotator], his own latents integrated out."""
    given, cells = given_to(post, cells, ["annotator"]), cells.to(post.device)
    own = [name for name in post.event_dims if name not in given]
    if not own:
        return torch.cat([_annotator_sums(cells, t.log_prob, t.log_weight) for t in outcome_tables(post, cells)])
    if len(own) > 2 or any(len(post.dims[name]) != 1 for name in own):
        raise DataError(
            f"{post.program_name} has too many latents per annotator to integrate here; use kfold(unit='annotator')"
        )
    total = torch.full((post.n_draws, cells.n_annotators), -math.inf, dtype=torch.float64, device=post.device)
    for values, log_width in _grid(post, own):
        parts = []
        for t in outcome_tables(post, cells, given=given, values=values):
            parts.append(_annotator_sums(cells, t.log_prob, t.log_weight) + t.log_prior[:, None] + log_width)
        total = torch.logaddexp(total, torch.cat(parts))
    return total


def _type_sums(cells: Cells, log_prob: Tensor) -> Tensor:
    """Return the log likelihood [draw, type, annotator] of everything an annotator said."""
    assert cells.outcome is not None
    assert cells.annotator is not None  # cells were made with both
    cell = (log_prob * cells.outcome).sum(-1)
    return cell.new_zeros(*cell.shape[:2], cells.n_annotators).index_add(-1, cells.annotator, cell)


def _annotator_sums(cells: Cells, log_prob: Tensor, log_weight: Tensor | None) -> Tensor:
    table = _type_sums(cells, log_prob)
    return table[:, 0] if log_weight is None else (table + log_weight).logsumexp(1)


def _grid(post: Posterior, own: list[str]) -> list[tuple[dict[str, Tensor], float]]:
    """Return grid points for an annotator's latents and their log widths: wider than anyone fitted so far."""
    axes = []
    for name in own:
        seen = post.draws[name]
        middle, reach = float(seen.mean()), 1.3 * float(np.abs(seen - seen.mean()).max())
        axes.append(np.linspace(middle - reach, middle + reach, _NODES[len(own)]))
    log_width = sum(math.log(axis[1] - axis[0]) for axis in axes)
    size = len(post.annotators)
    return [
        (
            {name: torch.full((size,), float(x), dtype=torch.float64) for name, x in zip(own, point, strict=True)},
            log_width,
        )
        for point in itertools.product(*axes)
    ]
