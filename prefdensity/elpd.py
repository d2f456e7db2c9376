"""Leave-one-out predictive density by unit: a comparison, a pair of items, or an annotator.

Units answer different questions and are never mixed: one more judgement by a known annotator, the verdict on a
pair nobody compared, or everything that an unknown annotator will say. For an annotator his own latents are
integrated out (Gronau and Wagenmakers 2019; Merkle, Furr and Rabe-Hesketh 2019); conditional likelihoods would make
importance sampling fail by design.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.cells import Cells
from prefdensity.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.posterior import Posterior, require_same_table
from prefdensity.psis import USABLE, smooth
from prefdensity.tables import outcome_tables, program_of

if TYPE_CHECKING:
    from prefdensity.programs import Program

UNITS = ("comparison", "pair", "annotator")
_NODES = {1: 33, 2: 13}  # grid points for annotators' latents, by how many an annotator has
_BLOCK = 4000  # units smoothed at a time


@dataclass(frozen=True, eq=False)
class Elpd:
    """Expected log predictive density, unit by unit.

    Attributes
    ----------
    unit
        comparison, pair or annotator.
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
    """

    unit: str
    labels: tuple[str, ...]
    elpd_i: NDArray[np.float64]
    lpd_i: NDArray[np.float64]
    k_hat: NDArray[np.float64]
    weight: NDArray[np.float64]

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

    def __str__(self) -> str:
        text = f"elpd {self.elpd:.1f} (se {self.se:.1f}), p_loo {self.p_loo:.1f}, over {len(self.elpd_i)} {self.unit}s"
        return text + (f"; k-hat above {USABLE} for {self.n_bad} of them" if self.n_bad else "; every k-hat is usable")


def standard_error(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the standard error of sum(weight * values), each unit of weight an independent draw."""
    n = weight.sum()
    if n <= 1:
        return math.nan
    mean = weight @ values / n
    return float(np.sqrt(n * (weight @ (values - mean) ** 2) / (n - 1)))


def loo(post: Posterior, data: Comparisons, unit: str = "comparison", program: Program | None = None) -> Elpd:
    """Return the leave-one-out density of the data that `post` was fitted to, by Pareto-smoothed importance sampling.

    Raises
    ------
    DataError
        For an unknown unit, other data than were fitted, annotators where there are none, or a posterior mode.
    """
    require_same_table(post, data)
    if post.is_point or post.status.method == "mle":
        raise DataError(f"{post.status.method} gives no posterior; fit with laplace, svi or nuts to compare programs")
    log_lik, labels, weight, index = unit_log_lik(post, data, unit, program)
    parts = []
    for block in log_lik.split(_BLOCK, dim=1):
        log_weight, k_hat = smooth(-block.T.contiguous())
        elpd = (log_weight + block.T).logsumexp(-1)
        parts.append(torch.stack([elpd, block.logsumexp(0) - math.log(len(block)), k_hat]))
    elpd, lpd, k_hat = torch.cat(parts, 1).numpy()[:, index]
    return Elpd(unit, labels, elpd, lpd, k_hat, weight)


def unit_log_lik(
    post: Posterior, data: Comparisons, unit: str, program: Program | None = None, held_out: bool = False
) -> tuple[Tensor, tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """Return log likelihoods [draw, term], unit labels, unit weights [unit], and the term of each unit [unit].

    Equal comparisons share a term. With types, a comparison or pair is predicted from what its annotators said
    elsewhere: in these data, or, when the data were `held_out` of the fit, in those that were fitted.
    """
    if unit not in UNITS:
        raise DataError(f"there is no unit {unit!r}; units are {', '.join(UNITS)}")
    program = program_of(post, program)
    if unit == "annotator":
        if data.annotator is None:
            raise DataError("unit='annotator' needs to know who judged; name the annotator column")
        cells = data.cells(post.outcomes, (*program.needs, "annotator"))
        log_lik = _by_annotator(post, cells, program)
        return log_lik, data.annotators, np.ones(len(data.annotators)), np.arange(len(data.annotators))
    cells = data.cells(post.outcomes, program.needs)
    assert cells.term is not None
    assert cells.outcome is not None  # the data have outcomes
    if unit == "comparison":
        found, index = np.unique(cells.term.numpy(), return_inverse=True)
        group = torch.full((cells.outcome.numel(),), -1)
        group[torch.as_tensor(found)] = torch.arange(len(found))
        log_lik = _by_group(post, cells, program, group.reshape(len(cells), -1), one=True, held_out=held_out)
        return log_lik, tuple(map(str, range(1, len(data) + 1))), data.count, index
    key = cells.item_a * len(data.items) + cells.item_b
    found, inverse = torch.unique(key, return_inverse=True)
    group = inverse[:, None].expand(-1, len(post.outcomes))
    labels = tuple(f"{data.items[k // len(data.items)]} - {data.items[k % len(data.items)]}" for k in found.tolist())
    log_lik = _by_group(post, cells, program, group, one=False, held_out=held_out)
    return log_lik, labels, np.ones(len(found)), np.arange(len(found))


def _by_group(post: Posterior, cells: Cells, program: Program, group: Tensor, one: bool, held_out: bool) -> Tensor:
    """Return log p(one judgement, or all judgements, of the group | the rest, draw) [draw, group]."""
    assert cells.outcome is not None
    inside = (group >= 0) & (cells.outcome > 0)
    cell, outcome = inside.nonzero(as_tuple=True)
    to = group[cell, outcome]
    size = int(to.max()) + 1
    count = torch.ones(len(to), dtype=torch.float64) if one else cells.outcome[cell, outcome]
    rows = []
    for table in outcome_tables(post, cells, program):
        term = table.log_prob[:, :, cell, outcome] * count  # [draw, type, term]
        if table.log_weight is None:
            rows.append(term.new_zeros(len(term), size).index_add(1, to, term[:, 0]))
            continue
        assert cells.annotator is not None  # types are refused without annotators
        key = to * cells.n_annotators + cells.annotator[cell]
        found, inverse = torch.unique(key, return_inverse=True)
        part = term.new_zeros(*term.shape[:2], len(found)).index_add(-1, inverse, term)
        who = found % cells.n_annotators
        if held_out:
            rest = torch.tensor(post.draws["type_probability"][table.draws]).log().transpose(1, 2)[..., who]
        else:
            whole = _type_sums(cells, table.log_prob) + table.log_weight[..., None]
            rest = whole.index_select(-1, who) - part
        # log p(an annotator's part of the group | his other judgements), his type summed out
        conditional = (rest + part).logsumexp(1) - rest.logsumexp(1)
        rows.append(part.new_zeros(len(part), size).index_add(1, found // cells.n_annotators, conditional))
    return torch.cat(rows)


def _by_annotator(post: Posterior, cells: Cells, program: Program) -> Tensor:
    """Return log p(all judgements of annotator | draw) [draw, annotator], his own latents integrated out."""
    own = [name for name in post.event_dims if "annotator" in post.dims[name]]
    given = [name for name in post.event_dims if name not in own]
    if not own:
        return torch.cat(
            [_annotator_sums(cells, t.log_prob, t.log_weight) for t in outcome_tables(post, cells, program)]
        )
    if len(own) > 2 or any(post.dims[name] != ("annotator",) for name in own):
        raise DataError(
            f"{post.program} has too many latents per annotator to integrate here; use kfold(unit='annotator')"
        )
    total = torch.full((post.n_draws, cells.n_annotators), -math.inf, dtype=torch.float64)
    for values, log_width in _grid(post, own):
        parts = []
        for t in outcome_tables(post, cells, program, given=given, values=values):
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
    return table[:, 0] if log_weight is None else (table + log_weight[..., None]).logsumexp(1)


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
