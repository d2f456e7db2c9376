"""Newton's method for many densities of one program at once: tables of counts of their own, or coordinates held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.inference.curvature import dense_hessian, local_curvature
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, cholesky
from prefdensity.inference.prior import Given, Prior, bending, log_prior
from prefdensity.inference.view import View

# What is small: dimensions, and cell evaluations of a density.
_TOGETHER, _WORK = 200, 20_000
_ITERATIONS = 100
# Twice the nats left to climb at which one more Newton step ends within rounding of the top.
_CLOSE = 1e-10
_SMALLEST = 1e-9  # of a step
_ROUNDING = 1e-12  # relative error of a log density


class Batch:
    """The log joint densities of one program, on its view's table or on tables that share its cells.

    `counts` [table, row]: how often each row of the view's table counts in each.
    """

    def __init__(self, view: View, counts: Tensor | None = None) -> None:
        self.view, self.counts = view, counts
        self.outcome: Tensor | None = None
        if counts is not None:
            cells = view.cells
            assert cells.term is not None  # cells come from a table
            flat = counts.new_zeros(len(counts), len(cells) * len(cells.outcomes))
            flat.index_add_(1, cells.term, counts)
            outcome = flat.reshape(len(counts), 1, len(cells), len(cells.outcomes))
            # laid out outcome by outcome, like the tables of `outcomes.by_outcome`
            self.outcome = outcome.transpose(-1, -2).contiguous().transpose(-1, -2)
        self.local = local_curvature(view, first_guess(view))

    def log_joint(self, z: Tensor, tables: Tensor) -> Tensor:
        """Return log p(z, table) [row] of z [row, dimension] for the tables [row]."""
        if self.outcome is None:
            return self.view.log_joint(z)
        values, total = self.view.values(z)
        met = self.view.run(values, len(z)).met
        for name in self.view.sites:
            total = total + met[name]["fn"].log_prob(met[name]["value"]).flatten(1).sum(-1)
        return total + met["outcome"]["fn"].log_prob(self.outcome[tables]).flatten(1).sum(-1)

    def slopes(self, z: Tensor, tables: Tensor, prior: Prior | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return value [row], gradient [row, dimension] and Hessian [row, dimension, dimension].

        `prior`: the log prior there, if it is known.
        """
        if self.local is not None:
            outcome = None if self.outcome is None else self.outcome[tables]
            return self.local.batch(z, prior or log_prior(self.view, z), outcome)
        gradient, hessian = dense_hessian(lambda x: self.log_joint(x, tables), z, self.view.work)
        with torch.no_grad():
            return self.log_joint(z, tables), gradient, hessian


def is_small(view: View) -> bool:
    """Whether the densities of a view are worked out many together."""
    return view.dimension <= _TOGETHER and view.work <= _WORK


def small(view: View) -> Batch | None:
    """Return the one density of a view so small that its curvature costs no more than a slope; None of others."""
    if view.program.type_layer is not None or not is_small(view):
        return None
    batch = Batch(view)
    return batch if batch.local is not None and batch.local.form is Dense else None


@dataclass(frozen=True)
class Summits:
    """Where the climbs ended: z [row, dimension], its value [row], minus the Hessian [row, dimension, dimension].

    Where a row started at no density, or at no derivatives, its value is -inf.
    """

    z: Tensor
    value: Tensor
    precision: Tensor
    converged: Tensor
    iterations: int


def climb(batch: Batch, z: Tensor, tables: Tensor, free: Tensor, held: tuple[int, ...] = ()) -> Summits:
    """Climb from z [row, dimension] in the coordinates `free`, all but those `held`, every row for its own table.

    A device is waited for twice in each round: for whether curvature needs damping, and which rows are left.
    """
    z = z.clone()
    rows, size = z.shape
    stays = batch.local is not None and set(bending(batch.view)) <= set(held)
    given = Given(batch.view, z) if stays else None  # scalars that others hang on are held
    value = z.new_full((rows,), -torch.inf)
    step, gain, share = torch.zeros_like(z), z.new_zeros(rows), z.new_ones(rows)
    eye = torch.eye(size, dtype=z.dtype, device=z.device)
    precision = eye.repeat(rows, 1, 1)
    converged = torch.zeros(rows, dtype=torch.bool, device=z.device)
    left, tables, iteration = torch.arange(rows, device=z.device), tables.to(z.device), 0
    while len(left) and iteration < _ITERATIONS:
        iteration += 1
        ahead = z + share[:, None] * step  # all rows: what is given is given for all
        here, known = ahead[left], None if given is None else given(ahead).at(left)
        there, gradient, hessian = batch.slopes(here, tables[left], known)
        rose = there >= value[left] + 1e-4 * share[left] * gain[left] - _ROUNDING * there.abs()
        rose &= torch.isfinite(there) & torch.isfinite(hessian).flatten(1).all(-1) & torch.isfinite(gradient).all(-1)
        up, up_all = rose[:, None], rose[:, None, None]
        share[left] = torch.where(rose, 1.0, share[left] / 2)
        z[left], value[left] = torch.where(up, here, z[left]), torch.where(rose, there, value[left])
        precision[left] = torch.where(up_all, -hessian, precision[left])
        slope = torch.where(up, gradient[:, free], 0.0)
        onward = _steps(torch.where(up_all, -hessian, eye), slope, free)
        step[left[:, None], free] = torch.where(up, onward, step[left][:, free])
        gain[left] = torch.where(rose, (slope * onward).sum(-1), gain[left])
        done = rose & (gain[left] < _CLOSE)
        z[left] += torch.where(done[:, None], step[left], 0.0)
        value[left] += torch.where(done, gain[left] / 2, 0.0)
        converged[left] = done
        left = left[~done & (share[left] > _SMALLEST) & torch.isfinite(value[left])]
    if stays and held:
        log_prior(batch.view, z).add_rows_to(precision, -1.0)
    return Summits(z, value, precision, converged, iteration)


def _steps(precision: Tensor, slope: Tensor, free: Tensor) -> Tensor:
    """Return Newton steps [row, free] up slopes [row, free], the curvature damped until it is positive definite."""
    inner = precision[:, free[:, None], free[None]]
    lower, failed = cholesky(inner)
    damping = 1e-6 * inner.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    while failed.any():
        inner = inner + (damping * failed)[:, None, None] * torch.eye(len(free), device=inner.device).to(inner)
        damping = 4 * damping
        lower, failed = cholesky(inner)
    return torch.cholesky_solve(slope[..., None], lower)[..., 0]
