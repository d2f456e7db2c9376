"""Climbing a log density to its highest point, and the curvature there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.curvature import LocalCurvature, dense_hessian, local_curvature
from prefdensity.inference.mode import Mode, first_guess
from prefdensity.inference.precision import DENSE, Dense, Gaussian, Precision
from prefdensity.inference.traced import Function, captured
from prefdensity.inference.types_curvature import TypesCurvature, types_curvature
from prefdensity.inference.view import View
from prefdensity.programs.running import environment

# Most work (cell evaluations) for a Hessian by repeated backward passes.
_PASSES = 4e9
# Twice the nats left to climb at which one more Newton step ends within rounding of the top.
_CLOSE = 1e-6
# A curvature serves another step while each leaves at most this share of the nats that were left (factoring a new one
# costs as much as several steps); the last step with the curvature of where it starts leaves less than this share.
_PACE, _FRESH = 0.1, 1e-8
_LONG = 2.0  # twice the nats that a long step gains
# Relative error of the sum over a large table.
_ROUNDING = 1e-14
# No coordinate moves farther in one step: curvature that says so fades, as that of a type's weight near 0, and where it
# leads there may be none.
_STRIDE = 20.0
# Iterations of a quasi-Newton climb whose gain tells what is left to climb.
_LOOK = 100
# No utility difference that a table can support is this large; a climb beyond it has no end.
_FAR = 40.0


class Climber:
    """Climbs the posterior of a view (or its likelihood, for `prior=False`; or as if types were known).

    Some coordinates may be held `fixed`, and the log density may have a `tilt` [dimension] added to its slope.

    Newton's method with exact derivatives where the program is local, L-BFGS otherwise.
    """

    def __init__(
        self,
        view: View,
        fixed: tuple[int, ...] = (),
        prior: bool = True,
        tilt: Tensor | None = None,
    ) -> None:
        self.view, self.prior, self.tilt = view, prior, tilt
        self.objective = view.log_joint if prior else view.log_likelihood
        if tilt is not None:
            self.objective = lambda z: view.log_joint(z) + z @ tilt
        self.free = torch.tensor([k for k in range(view.dimension) if k not in fixed], device=view.device)
        self.held = torch.tensor(fixed, dtype=torch.int64, device=view.device)
        small = view.dimension <= DENSE
        self.gauge = None if prior or not small else shift_gauge(view)
        self.local = self._local(small) if tilt is None else None
        self._parts: tuple[Precision, tuple[Precision, Tensor]] | None = None
        self._run: Function | None = None  # a graph of what L-BFGS asks for, once it was asked
        self.has_curvature = self.local is not None or (small and view.dimension * view.work <= _PASSES)

    def knowing(self, assignment: Tensor) -> Climber:
        """Return a climber of the same posterior were annotators' types known: `assignment` [1, type, annotator]."""
        other = copy.copy(self)
        other._run = None
        other.objective = lambda z: torch.stack(self.view.log_parts(z, assignment)).sum(0)
        other.local = self.local.knowing(assignment) if isinstance(self.local, TypesCurvature) else None
        return other

    def _local(self, small: bool) -> LocalCurvature | TypesCurvature | None:
        """Return the exact curvature of a program that has one."""
        if self.view.program.type_layer is not None:
            return types_curvature(self.view, first_guess(self.view)) if self.prior else None
        return local_curvature(self.view, first_guess(self.view)) if self.prior or small else None

    def climb(self, start: Tensor, most: int = 100, known: Gaussian | None = None, left: float = 0.0) -> Mode:
        """Return the highest point reached from `start` [dimension], in at most so many steps of Newton's method.

        `known`: the Gaussian of a curvature of the free coordinates near by, to try first. `left`: nats that may be
        left to climb.
        """
        return self._quasi_newton(start, left) if self.local is None else self._newton(start, most, known, left)

    def curvature(self, z: Tensor) -> tuple[float, Tensor, Precision]:
        """Return value, gradient [dimension] and minus the Hessian at z [dimension].

        Without a prior the common shift of utilities, which the likelihood cannot see, is given some curvature.
        """
        if self.local is not None and self.prior:
            return self.local(z)
        if isinstance(self.local, LocalCurvature):
            assert self.gauge is not None
            value, gradient, hessian = (each[0] for each in self.local.log_likelihood(z[None]))
            return float(value), gradient, Dense(self.gauge - hessian)
        gradient, hessian = dense_hessian(self.objective, z[None], self.view.work)
        gauge = 0.0 if self.gauge is None else self.gauge
        return float(self.objective(z[None]).detach()), gradient[0], Dense(gauge - hessian[0])

    def _newton(self, z: Tensor, most: int, known: Gaussian | None, left: float) -> Mode:
        precision: Precision | None = None  # at z
        if known is None:
            value, gradient, precision = self.curvature(z)
            solve, pace, again = self._solver(precision), _FRESH, precision.factors
        else:
            value, gradient, _ = self._slope(z)
            solve, pace, again = self._within(known.covariance), _PACE, True
        step = solve(gradient)
        gain, slow = float(gradient @ step), False
        for iteration in range(1, most + 1):
            near = precision is None and gain * max(pace, gain) < left
            if near or max(gain, gain * pace / _FRESH) < _CLOSE:
                return Mode(z + step, value + gain / 2, True, iteration, precision)
            size, least = 1.0, 1e-9 if precision is not None else 0.1
            # where curvatures serve one long step each, the next one is made at once: it has the slope as well
            look = self.curvature if slow and gain > _LONG and iteration < most else self._slope
            while size > least:
                there = look(z + size * step)
                if there[0] >= value + 1e-4 * size * gain - _ROUNDING * abs(value):
                    break
                size /= 2
            else:
                if precision is not None:  # no ascent left that floating point can see
                    return Mode(z, value, gain < 1e-4, iteration, precision)
                size, there = 0.0, (value, gradient, None)  # the curvature had changed too much
            z, (value, gradient, precision) = z + size * step, there
            if iteration == most or (not self.prior and float(z.abs().max()) > _FAR):
                break
            before, pace = gain, 1.0
            if again and size == 1:
                step = solve(gradient)
                gain = float(gradient @ step)
                pace = gain / before
            slow = not pace < _PACE
            if slow or precision is not None:
                if precision is None:
                    _, gradient, precision = self.curvature(z)
                solve, pace, again = self._solver(precision), _FRESH, precision.factors
                step = solve(gradient)
                gain = float(gradient @ step)
        return Mode(z, value, False, most, precision)

    def _slope(self, z: Tensor) -> tuple[float, Tensor, None]:
        """Return value and gradient [dimension] at z [dimension], and no curvature."""
        free = z.detach()[None].requires_grad_()
        value = self.objective(free).sum()
        (gradient,) = torch.autograd.grad(value, free)
        return float(value.detach()), gradient[0], None

    def _solver(self, precision: Precision) -> Callable[[Tensor], Tensor]:
        """Return what makes a Newton step [dimension] in the free coordinates of a gradient [dimension]."""
        rest = self.parts(precision)[0] if len(self.held) else precision
        return self._within(lambda gradient: _ascent(rest, gradient))

    def parts(self, precision: Precision) -> tuple[Precision, Tensor]:
        """Return the part of the free coordinates and [free, held], the last ones kept with their factor."""
        if self._parts is None or self._parts[0] is not precision:
            self._parts = precision, precision.partition(self.free, self.held)
        return self._parts[1]

    def _within(self, solve: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return `solve` of the free coordinates, with 0 for those held, and no longer than is to be believed."""

        def whole(gradient: Tensor) -> Tensor:
            step = torch.zeros_like(gradient)
            step[self.free] = solve(gradient[self.free])
            return step

        def believed(gradient: Tensor) -> Tensor:
            step = whole(gradient) if len(self.held) else solve(gradient)
            return step * (_STRIDE / step.abs().amax().clamp_min(_STRIDE))

        return believed

    @torch.enable_grad()
    def _free_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the value at z [dimension], and its gradient in the free coordinates [free]."""
        z = z[None].requires_grad_()
        value = self.objective(z).sum()
        return value.detach(), torch.autograd.grad(value, z)[0][0, self.free]

    def _quasi_newton(self, start: Tensor, left: float) -> Mode:
        from scipy.optimize import minimize  # 20 MB and a fifth of a second that most fits do without

        view, free = self.view, self.free

        def downhill(x: np.ndarray) -> tuple[float, np.ndarray]:
            z[free] = torch.tensor(x, dtype=view.dtype, device=view.device)
            value, gradient = run(z)
            return -float(value), -gradient.double().cpu().numpy()

        heights: list[float] = []

        def watch(intermediate_result: Any) -> None:
            heights.append(-float(intermediate_result.fun))
            if len(heights) > _LOOK and heights[-1] - heights[-1 - _LOOK] < left:
                raise StopIteration

        # a loss of thousands of nats: stop on the gradient, not on the relative change of the loss
        z = start.clone()
        limits = {"maxiter": 5000, "maxfun": 8000, "gtol": 1e-5, "ftol": 1e-14, "maxcor": 30}
        with environment(view.dtype, device=view.device):  # a graph makes tensors as the program did
            run = self._run = self._run or captured(self._free_slope, (start,))
            found = minimize(
                downhill, start[free].double().cpu().numpy(), jac=True, method="L-BFGS-B", options=limits,
                callback=watch,
            )  # fmt: skip
        z[free] = torch.tensor(found.x, dtype=view.dtype, device=view.device)
        flat = float(np.abs(found.jac).max()) < 1e-4 * max(1.0, float(view.cells.total.sum()) ** 0.5)
        near = len(heights) > _LOOK and heights[-1] - heights[-1 - _LOOK] < left
        return Mode(z, -float(found.fun), bool(flat or near), int(found.nit))


def _ascent(precision: Precision, gradient: Tensor) -> Tensor:
    """Solve precision x = gradient, damped until the matrix is positive definite."""
    damping = 0.0
    for _ in range(40):
        step = precision.newton_step(gradient, damping)
        if step is not None:
            return step
        damping = 4 * damping or 1e-4 * precision.largest_diagonal()
    raise FitError("the curvature of this program cannot be inverted on these data")


def shifts(view: View) -> list[slice]:
    """Return where z holds numbers of all items, whose common shift the likelihood cannot see."""
    away = 0.3 * torch.arange(view.dimension, dtype=view.dtype, device=view.device).sin()
    found = []
    for site in view.sites.values():
        if site.dims[-1:] == ("item",):
            size = (site.batch + site.event)[-1]
            found += [slice(start, start + size) for start in range(site.at.start, site.at.stop, size)]
    if not found:
        return []
    moved = away.repeat(len(found) + 1, 1)
    for row, at in zip(moved[1:], found, strict=True):
        row[at] += 1.0
    here, *there = view.log_likelihood(moved).detach().tolist()
    return [at for at, value in zip(found, there, strict=True) if abs(value - here) < 1e-9 * max(1.0, abs(here))]


def shift_gauge(view: View) -> Tensor:
    """Return a matrix that fixes what `shifts` names."""
    gauge = torch.zeros(view.dimension, view.dimension, dtype=view.dtype, device=view.device)
    for at in shifts(view):
        gauge[at, at] = float(view.cells.total.sum()) / (at.stop - at.start) ** 2
    return gauge
