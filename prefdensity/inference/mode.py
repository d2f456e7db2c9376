"""The highest point of a log density, and the curvature there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.curvature import LocalCurvature, dense_hessian
from prefdensity.inference.view import View

# Largest dimension for which a dense Hessian is formed (200 MB in float64), and most work for one by
# repeated backward passes.
DENSE = 5000
_PASSES = 4e9
# Twice the nats left to climb at which one more Newton step ends within rounding of the top.
_CLOSE = 1e-6
# Curvature of a posterior below this (a standard deviation of 30) is no curvature: priors are tighter.
_FLAT = 1e-3
# No utility difference that a table can support is this large; a climb beyond it has no end.
_FAR = 40.0


@dataclass(frozen=True)
class Mode:
    """Where a climb ended.

    Attributes
    ----------
    z
        [dimension].
    value
        The objective there.
    converged, iterations
        Whether the gradient vanished, and after how many iterations.
    """

    z: Tensor
    value: float
    converged: bool
    iterations: int


def first_guess(view: View) -> Tensor:
    """Return where climbs start [dimension]: log odds of winning for items, the middle of the prior else."""
    z = view.prior(64, seed=0).mean(0)
    for site in view.sites.values():
        if site.is_identity:
            z[site.at] = _log_odds(view) if site.dims == ("item",) else 0.0
    return z


def _log_odds(view: View) -> Tensor:
    """Return the log odds [item] of winning against whoever was met, a tie half a win."""
    cells = view.cells
    assert cells.outcome is not None  # a view has data
    won, lost = cells.outcome[:, 0], cells.outcome[:, 1]
    half = (cells.total - won - lost) / 2
    wins = torch.ones(cells.n_items, dtype=view.dtype, device=view.device)
    losses = wins.clone()
    for mine, theirs, side in ((won, lost, cells.item_a), (lost, won, cells.item_b)):
        wins.index_add_(0, side, mine + half)
        losses.index_add_(0, side, theirs + half)
    return (wins / losses).log()


class Climber:
    """Climbs the posterior of a view (or its likelihood, for `prior=False`, or another objective).

    Some coordinates may be held `fixed`.

    Newton's method with exact derivatives where the program is local, L-BFGS otherwise.
    """

    def __init__(
        self,
        view: View,
        fixed: tuple[int, ...] = (),
        prior: bool = True,
        objective: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.view, self.prior = view, prior
        self.objective = objective or (view.log_joint if prior else view.log_likelihood)
        self.free = torch.tensor([k for k in range(view.dimension) if k not in fixed], device=view.device)
        self.gauge = None if prior else shift_gauge(view)
        local = LocalCurvature(view)
        small = view.dimension <= DENSE
        exact = objective is None and local.applies and small
        self.local = local if exact and local.holds(first_guess(view)) else None
        self.has_curvature = small and (self.local is not None or view.dimension * view.work <= _PASSES)

    def climb(self, start: Tensor) -> Mode:
        """Return the highest point reached from `start` [dimension]."""
        return self._quasi_newton(start) if self.local is None else self._newton(start)

    def precision(self, z: Tensor) -> Tensor:
        """Return minus the Hessian [dimension, dimension] at z."""
        if self.local is not None:
            return -self.local(z, self.prior)[2]
        return -dense_hessian(self.objective, z[None], self.view.work)[1][0]

    def _newton(self, z: Tensor) -> Mode:
        assert self.local is not None
        here = self.local(z, self.prior)
        for iteration in range(1, 101):
            step = self._step(here)
            gain = float(here[1] @ step)
            if gain < _CLOSE:
                return Mode(z + step, here[0] + gain / 2, True, iteration)
            size = 1.0
            while size > 1e-9:
                there = self.local(z + size * step, self.prior)
                if there[0] >= here[0] + 1e-4 * size * gain:
                    break
                size /= 2
            else:  # no ascent left that floating point can see
                return Mode(z, here[0], gain < 1e-4, iteration)
            z, here = z + size * step, there
            if not self.prior and float(z.abs().max()) > _FAR:
                break
        return Mode(z, here[0], False, iteration)

    def _step(self, here: tuple[float, Tensor, Tensor]) -> Tensor:
        """Return the Newton step [dimension] in the free coordinates."""
        _, gradient, hessian = here
        precision = -hessian if self.gauge is None else self.gauge - hessian
        if len(self.free) == len(gradient):
            return _ascent(precision, gradient)
        step = torch.zeros_like(gradient)
        step[self.free] = _ascent(precision[self.free[:, None], self.free[None]], gradient[self.free])
        return step

    def _quasi_newton(self, start: Tensor) -> Mode:
        view, free = self.view, self.free

        def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
            z = start.clone()
            z[free] = torch.tensor(x, dtype=view.dtype, device=view.device)
            z = z[None].requires_grad_()
            loss = -self.objective(z).sum()
            (gradient,) = torch.autograd.grad(loss, z)
            return float(loss.detach()), gradient[0, free].double().cpu().numpy()

        # a loss of thousands of nats: stop on the gradient, not on the relative change of the loss
        limits = {"maxiter": 5000, "maxfun": 8000, "gtol": 1e-5, "ftol": 1e-14, "maxcor": 30}
        found = minimize(downhill, start[free].double().cpu().numpy(), jac=True, method="L-BFGS-B", options=limits)
        z = start.clone()
        z[free] = torch.tensor(found.x, dtype=view.dtype, device=view.device)
        flat = float(np.abs(found.jac).max()) < 1e-4 * max(1.0, float(view.cells.total.sum()) ** 0.5)
        return Mode(z, -float(found.fun), bool(flat), int(found.nit))


def _ascent(precision: Tensor, gradient: Tensor) -> Tensor:
    """Solve precision x = gradient, damped until the matrix is positive definite."""
    damping, top = 0.0, float(precision.diagonal().abs().max())
    for _ in range(40):
        damped = precision.clone()
        damped.diagonal().add_(damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            return torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        damping = max(4 * damping, 1e-8 * top)
    raise FitError("the curvature of this program cannot be inverted on these data")


def shift_gauge(view: View) -> Tensor:
    """Return a matrix that fixes the common shift of item utilities, which the likelihood cannot see."""
    gauge = torch.zeros(view.dimension, view.dimension, dtype=view.dtype, device=view.device)
    for site in view.sites.values():
        if site.dims == ("item",):
            size = site.at.stop - site.at.start
            gauge[site.at, site.at] = float(view.cells.total.sum()) / size**2
    return gauge


def factor(precision: Tensor, floor: float = _FLAT) -> tuple[Tensor, float]:
    """Return F [dimension, dimension] with F F^T = precision^-1, and log |det F|.

    Directions of curvature below `floor` (a saddle, a rotation that changes nothing) get that of a unit prior.
    """
    lower, failed = torch.linalg.cholesky_ex(precision)
    if not failed and float(lower.diagonal().min()) ** 2 > floor:
        eye = torch.eye(len(precision), dtype=precision.dtype, device=precision.device)
        return torch.linalg.solve_triangular(lower.T, eye, upper=True), -float(lower.diagonal().log().sum())
    values, vectors = torch.linalg.eigh(precision)
    values = torch.where(values > floor, values, 1.0)
    return vectors * values.rsqrt(), -0.5 * float(values.log().sum())
