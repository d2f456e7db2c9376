"""Laplace approximations: a Gaussian at the mode, or a mixture of them over a grid of hyperparameters.

A scale such as the spread of reliabilities bends the posterior of everything below it, and a joint Gaussian
misses that. Given the scale, the rest is nearly Gaussian; so the scale is laid on a grid around the mode of
its own (Laplace-approximated) marginal, and each grid point carries its conditional Gaussian (nested Laplace:
Rue, Martino and Chopin 2009, JRSS-B 71, 319-392; Tierney and Kadane 1986).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Climber, Mode, first_guess
from prefdensity.inference.precision import Gaussian, Precision
from prefdensity.inference.view import View

# The grid of hyperparameters: spacing in their posterior standard deviations, the relative density below
# which a point is left out, and the most points: what does not fit is left to k-hat to tell.
_SPACING = 0.75
_NEGLIGIBLE = 1e-5
_POINTS = 60
# The largest dimension of Gaussians that are kept for every point; larger ones are made again when needed.
_KEPT = 1000
# Draws whose density is worked out together.
_ROWS = 200


@dataclass(frozen=True)
class Mixture:
    """Gaussian components z = base + F e over the whole vector.

    Attributes
    ----------
    weight
        [component], sums to 1.
    base
        [component, dimension].
    spread
        Per component, the Gaussian about its base.
    mode
        Where the point estimate is: the conditional mode at the likeliest hyperparameters.
    """

    weight: Tensor
    base: Tensor
    spread: tuple[Gaussian, ...]
    converged: bool
    iterations: int
    mode: Mode

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""
        pick = torch.multinomial(self.weight.cpu(), draws, replacement=True, generator=generator)
        noise = torch.randn(draws, self.base.shape[-1], generator=generator, dtype=torch.float64).to(self.base)
        if len(self.weight) == 1:
            square = torch.linalg.vector_norm(noise, dim=-1) ** 2
            log_q = -0.5 * square - self.spread[0].log_det - 0.5 * noise.shape[-1] * LOG_2PI
            return self.spread[0].scale(noise).add_(self.base[0]), log_q
        z = torch.empty_like(noise)
        for k, spread in enumerate(self.spread):
            rows = (pick == k).to(z.device)
            if rows.any():
                z[rows] = self.base[k] + spread.scale(noise[rows])
        del noise  # as large as z
        return z, self._log_density(z)

    def _log_density(self, z: Tensor) -> Tensor:
        parts = [
            weight.log() - 0.5 * spread.square(z - base) - spread.log_det
            for weight, base, spread in zip(self.weight, self.base, self.spread, strict=True)
        ]
        return torch.stack(parts).logsumexp(0) - 0.5 * z.shape[-1] * LOG_2PI

    @property
    def log_q_error(self) -> float:
        """Standard error of log q that all draws share (nats): 0 unless the log determinant is an estimate."""
        return max(each.log_det_error for each in self.spread)

    @property
    def main(self) -> tuple[Tensor, Tensor]:
        """Base [dimension] and frame of the heaviest component: F [dimension, dimension], or scales [dimension]."""
        best = int(self.weight.argmax())
        return self.base[best], self.spread[best].frame()

    def log_evidence(self) -> float:
        """Return the Laplace estimate of log p(data), for a single component."""
        return self.mode.value + 0.5 * len(self.mode.z) * LOG_2PI + self.spread[0].log_det


@dataclass(frozen=True)
class _Joint:
    """Hyperparameters h = A e and the rest, given them: slope h + F e.

    `hyper` and `free` are their coordinates; A is `axes`; `inner` makes the Gaussian F e when it is needed: many
    large ones would not fit in memory side by side.
    """

    hyper: Tensor
    free: Tensor
    axes: Tensor
    slope: Tensor
    inner: Callable[[], Gaussian]
    log_det: float
    log_det_error: float

    def scale(self, noise: Tensor) -> Tensor:
        out = torch.empty_like(noise)
        out[:, self.hyper] = noise[:, self.hyper] @ self.axes.T
        out[:, self.free] = out[:, self.hyper] @ self.slope.T + self.inner().scale(noise[:, self.free])
        return out

    def square(self, x: Tensor) -> Tensor:
        inner, parts = self.inner(), []
        for part in x.split(_ROWS):
            hyper = part[:, self.hyper]
            outer = (torch.linalg.solve(self.axes, hyper.T) ** 2).sum(0)
            parts.append(outer + inner.square(part[:, self.free] - hyper @ self.slope.T))
        return torch.cat(parts)

    def covariance(self, x: Tensor) -> Tensor:
        hyper = self.axes @ (self.axes.T @ (x[self.hyper] + self.slope.T @ x[self.free]))
        out = torch.empty_like(x)
        out[self.hyper] = hyper
        out[self.free] = self.slope @ hyper + self.inner().covariance(x[self.free])
        return out

    def frame(self) -> Tensor:
        inner = self.inner().frame()
        size = len(self.hyper) + len(self.free)
        if inner.dim() == 1:
            scales = inner.new_empty(size)
            scales[self.free] = inner
            scales[self.hyper] = self.axes.norm(dim=1)
            return scales
        frame = inner.new_zeros(size, size)
        frame[self.hyper[:, None], self.hyper[None]] = self.axes
        frame[self.free[:, None], self.hyper[None]] = self.slope @ self.axes
        frame[self.free[:, None], self.free[None]] = inner
        return frame


def laplace(view: View, start: Tensor | None = None) -> Mixture:
    """Return the Laplace approximation reached from `start` (default the middle of the prior).

    Raises
    ------
    FitError
        If the posterior has no curvature in some direction at its mode, and is too large to mend.
    """
    start = first_guess(view) if start is None else start
    climber = Climber(view)
    if view.program.hyper and climber.local is not None:
        return _nested(view, tuple(view.sites[name].at.start for name in view.program.hyper), start)
    mode = climber.climb(start)
    spread = _gaussian(mode.precision or climber.curvature(mode.z)[2])
    one = torch.ones(1, dtype=mode.z.dtype, device=mode.z.device)
    return Mixture(one, mode.z[None], (spread,), mode.converged, mode.iterations, replace(mode, precision=None))


def _gaussian(precision: Precision) -> Gaussian:
    found = precision.gaussian()
    if found is None:
        raise FitError("the curvature at the mode is not that of a peak in every direction; use method='svi'")
    return found


@dataclass(frozen=True)
class _Point:
    """What was found at one value of the hyperparameters.

    `value` is their marginal log density, `slope` [free, hyper] how the conditional mode moves with them; `inner` makes
    the Gaussian of the rest, with its `log_det` and the standard error of that.
    """

    value: float
    mode: Mode
    slope: Tensor
    inner: Callable[[], Gaussian]
    log_det: float
    log_det_error: float


class _Profile:
    """The hyperparameters' marginal log density, by a Laplace approximation over the rest at each point."""

    def __init__(self, view: View, hyper: tuple[int, ...], start: Tensor) -> None:
        self.climber = Climber(view, fixed=hyper)
        self.hyper = list(hyper)
        self.start = start
        self.near: _Point | None = None  # where to start from
        self.last: Gaussian | None = None  # the last curvature
        self.iterations = 0

    def __call__(self, point: np.ndarray) -> _Point:
        """Return what is found at `point`, looked for from the last one."""
        climber = self.climber
        mode = climber.climb(self._guess(point), known=self.last)
        inner, cross = self._inner(mode)
        self.last = inner
        self.iterations += mode.iterations
        value = mode.value + inner.log_det + 0.5 * len(climber.free) * LOG_2PI
        mode = replace(mode, precision=None)  # it may be large, and many modes are kept
        kept = (lambda: inner) if len(mode.z) <= _KEPT else (lambda: self._inner(mode)[0])
        slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
        self.near = _Point(value, mode, slope, kept, inner.log_det, inner.log_det_error)
        return self.near

    def _guess(self, point: np.ndarray) -> Tensor:
        """Return where the conditional mode should be [dimension]."""
        z = self.start.clone() if self.near is None else self.near.mode.z.clone()
        goal = torch.as_tensor(point, dtype=z.dtype, device=z.device)
        moved = (goal - z[self.hyper]).clamp(-1.0, 1.0)  # a slope holds nearby
        z[self.hyper] = goal
        if self.near is not None:
            z[self.climber.free] += self.near.slope @ moved
        return z

    @torch.enable_grad()  # also when draws are weighed
    def _inner(self, mode: Mode) -> tuple[Gaussian, Tensor]:
        """Return the Gaussian of the rest given the hyperparameters, and minus the Hessian between the two."""
        precision = mode.precision or self.climber.curvature(mode.z)[2]
        rest, cross = precision.part(self.climber.free, self.climber.held)
        return _gaussian(rest), cross

    def loss(self, point: np.ndarray) -> float:
        """Minus the marginal log density, bounded to the range of a sensible scale."""
        return -self(np.clip(point, -8.0, 8.0)).value


def _nested(view: View, hyper: tuple[int, ...], start: Tensor) -> Mixture:
    profile = _Profile(view, hyper, start)
    first = start[list(hyper)].cpu().numpy()
    peak, settled = _peak(profile, first)
    axes = _axes(profile, peak) * _SPACING
    points = _spread_out(profile, peak, axes)
    profile.last = None  # it may be large, and the points hold on to the profile
    values = np.array([point.value for point in points])
    weight = np.exp(values - values.max())
    kept = [k for k in range(len(points)) if weight[k] > _NEGLIGIBLE]
    best = points[int(np.argmax(values))].mode
    return Mixture(
        weight=torch.tensor(weight[kept] / weight[kept].sum()).to(best.z),
        base=torch.stack([points[k].mode.z for k in kept]),
        spread=tuple(_joint(profile.climber, points[k], axes) for k in kept),
        converged=settled and all(points[k].mode.converged for k in kept),
        iterations=profile.iterations,
        mode=best,
    )


def _peak(profile: _Profile, first: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the hyperparameters' marginal mode, and whether the search settled."""
    if len(first) == 1:
        found = minimize_scalar(
            lambda x: profile.loss(np.array([x])), (first[0], first[0] + 0.7), options={"xtol": 0.01}
        )
        return np.clip([found.x], -8.0, 8.0), bool(found.success)
    simplex = first + np.vstack([np.zeros(len(first)), 0.7 * np.eye(len(first))])
    found = minimize(
        profile.loss, first, method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-3, "maxfev": 60 * len(first)},
    )  # fmt: skip
    return found.x, bool(found.success)


def _spread_out(profile: _Profile, peak: np.ndarray, axes: np.ndarray) -> list[_Point]:
    """Return what is found on a lattice about the peak, as far as the density reaches."""
    found: dict[tuple[int, ...], _Point] = {}
    queue: list[tuple[tuple[int, ...], _Point | None]] = [((0,) * len(peak), profile.near)]
    top = -math.inf
    while queue and len(found) < _POINTS:
        # along a line to one end first, so that the last curvature stays near
        step, near = queue.pop(-1 if len(peak) == 1 else 0)
        if step in found:
            continue
        profile.near = near  # climb from a neighbour's mode
        found[step] = here = profile(peak + axes @ np.array(step))
        top = max(top, here.value)
        if here.value > top + math.log(_NEGLIGIBLE):
            around = [(*step[:d], step[d] + s, *step[d + 1 :]) for d in range(len(step)) for s in (1, -1)]
            queue += [(each, here) for each in around]
    return list(found.values())


def _axes(profile: _Profile, peak: np.ndarray) -> np.ndarray:
    """Return A with A A^T the covariance of the hyperparameters, from finite differences at their mode."""
    size, step = len(peak), 0.25
    eye = np.eye(size) * step
    top = profile.loss(peak)
    curvature = np.empty((size, size))
    for i in range(size):
        for j in range(i, size):
            if i == j:
                second = profile.loss(peak + eye[i]) + profile.loss(peak - eye[i]) - 2 * top
            else:
                both = [profile.loss(peak + s * eye[i] + t * eye[j]) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
                second = (both[0] - both[1] - both[2] + both[3]) / 4
            curvature[i, j] = curvature[j, i] = second / step**2
    values, vectors = np.linalg.eigh(curvature)
    # a nearly flat marginal is the prior's: no wider than a unit scale on the log or logit
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1.0)))


def _joint(climber: Climber, point: _Point, axes: np.ndarray) -> _Joint:
    """Return the joint Gaussian: the hyperparameters by `axes`, the rest given them."""
    spread = torch.tensor(axes).to(point.slope)
    log_det = point.log_det + float(torch.linalg.slogdet(spread)[1])
    return _Joint(climber.held, climber.free, spread, point.slope, point.inner, log_det, point.log_det_error)
