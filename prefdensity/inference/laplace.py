"""Laplace approximations: a Gaussian at the mode, or a mixture of them over a grid of hyperparameters.

A scale such as the spread of reliabilities bends the posterior of everything below it, and a joint Gaussian
misses that. Given the scale, the rest is nearly Gaussian; so the scale is laid on a grid around the mode of
its own (Laplace-approximated) marginal, and each grid point carries its conditional Gaussian (nested Laplace:
Rue, Martino and Chopin 2009, JRSS-B 71, 319-392; Tierney and Kadane 1986).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Climber, Mode, factor, first_guess
from prefdensity.inference.view import View

# The grid of hyperparameters: spacing in their posterior standard deviations, the relative density below
# which a point is left out, and the most points: what does not fit is left to k-hat to tell.
_SPACING = 0.75
_NEGLIGIBLE = 1e-5
_POINTS = 60


@dataclass(frozen=True)
class Mixture:
    """Gaussian components z = base + F e over the whole vector.

    Attributes
    ----------
    weight
        [component], sums to 1.
    base, frame
        [component, dimension] and F [component, dimension, dimension] with F F^T the covariance.
    log_det
        log |det F| [component].
    mode
        Where the point estimate is: the conditional mode at the likeliest hyperparameters.
    """

    weight: Tensor
    base: Tensor
    frame: Tensor
    log_det: Tensor
    converged: bool
    iterations: int
    mode: Mode

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""
        pick = torch.multinomial(self.weight.cpu(), draws, replacement=True, generator=generator)
        noise = torch.randn(draws, self.base.shape[-1], generator=generator, dtype=torch.float64).to(self.base)
        z = torch.empty_like(noise)
        for k in range(len(self.weight)):
            rows = (pick == k).to(z.device)
            z[rows] = self.base[k] + noise[rows] @ self.frame[k].T
        if len(self.weight) > 1:
            return z, self._log_density(z)
        return z, -0.5 * (noise**2).sum(-1) - self.log_det[0] - 0.5 * z.shape[-1] * LOG_2PI

    def _log_density(self, z: Tensor) -> Tensor:
        parts = []
        for k in range(len(self.weight)):
            noise = torch.linalg.solve(self.frame[k], (z - self.base[k]).T)
            parts.append(self.weight[k].log() - 0.5 * (noise**2).sum(0) - self.log_det[k])
        return torch.stack(parts).logsumexp(0) - 0.5 * z.shape[-1] * LOG_2PI

    @property
    def main(self) -> tuple[Tensor, Tensor]:
        """Base [dimension] and frame [dimension, dimension] of the heaviest component."""
        best = int(self.weight.argmax())
        return self.base[best], self.frame[best]

    def log_evidence(self) -> float:
        """Return the Laplace estimate of log p(data), for a single component."""
        return self.mode.value + 0.5 * len(self.mode.z) * LOG_2PI + float(self.log_det[0])


def laplace(view: View, start: Tensor | None = None) -> Mixture:
    """Return the Laplace approximation reached from `start` (default the middle of the prior)."""
    start = first_guess(view) if start is None else start
    climber = Climber(view)
    if view.program.hyper and climber.local is not None:
        return _nested(view, tuple(view.sites[name].at.start for name in view.program.hyper), start)
    mode = climber.climb(start)
    frame, log_det = factor(climber.precision(mode.z))
    one = torch.ones(1, dtype=frame.dtype, device=frame.device)
    return Mixture(one, mode.z[None], frame[None], one * log_det, mode.converged, mode.iterations, mode)


class _Profile:
    """The hyperparameters' marginal log density, by a Laplace approximation over the rest at each point."""

    def __init__(self, view: View, hyper: tuple[int, ...], start: Tensor) -> None:
        self.climber = Climber(view, fixed=hyper)
        self.hyper = list(hyper)
        self.z = start
        self.iterations = 0

    def __call__(self, point: np.ndarray) -> tuple[float, Mode]:
        z = self.z.clone()
        z[self.hyper] = torch.as_tensor(point, dtype=z.dtype, device=z.device)
        mode = self.climber.climb(z)
        self.z = mode.z  # the next point starts from here
        self.iterations += mode.iterations
        free = self.climber.free
        _, log_det = factor(self.climber.precision(mode.z)[free[:, None], free[None]])
        return mode.value + log_det + 0.5 * len(free) * LOG_2PI, mode

    def loss(self, point: np.ndarray) -> float:
        """Minus the marginal log density, bounded to the range of a sensible scale."""
        return -self(np.clip(point, -8.0, 8.0))[0]


def _nested(view: View, hyper: tuple[int, ...], start: Tensor) -> Mixture:
    profile = _Profile(view, hyper, start)
    first = start[list(hyper)].cpu().numpy()
    simplex = first + np.vstack([np.zeros(len(hyper)), 0.7 * np.eye(len(hyper))])
    found = minimize(
        profile.loss, first, method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-3, "maxfev": 60 * len(hyper)},
    )  # fmt: skip
    axes = _axes(profile, found.x) * _SPACING
    points = _spread_out(profile, found.x, axes)
    values = np.array([value for value, _ in points])
    weight = np.exp(values - values.max())
    kept = [k for k in range(len(points)) if weight[k] > _NEGLIGIBLE]
    modes = [mode for _, mode in points]
    frames = [_component(profile, modes[k], axes) for k in kept]
    best = int(np.argmax(values))
    like = modes[best].z
    return Mixture(
        weight=torch.tensor(weight[kept] / weight[kept].sum()).to(like),
        base=torch.stack([modes[k].z for k in kept]),
        frame=torch.stack([frame for frame, _ in frames]),
        log_det=torch.tensor([log_det for _, log_det in frames]).to(like),
        converged=bool(found.success) and all(modes[k].converged for k in kept),
        iterations=profile.iterations,
        mode=modes[best],
    )


def _spread_out(profile: _Profile, peak: np.ndarray, axes: np.ndarray) -> list[tuple[float, Mode]]:
    """Return (log density, conditional mode) on a lattice about the peak, as far as the density reaches."""
    found: dict[tuple[int, ...], tuple[float, Mode]] = {}
    queue: list[tuple[tuple[int, ...], Tensor]] = [((0,) * len(peak), profile.z)]
    top = -math.inf
    while queue and len(found) < _POINTS:
        step, near = queue.pop(0)
        if step in found:
            continue
        profile.z = near  # climb from a neighbour's mode
        found[step] = value, mode = profile(peak + axes @ np.array(step))
        top = max(top, value)
        if value > top + math.log(_NEGLIGIBLE):
            around = [(*step[:d], step[d] + s, *step[d + 1 :]) for d in range(len(step)) for s in (1, -1)]
            queue += [(each, mode.z) for each in around]
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


def _component(profile: _Profile, mode: Mode, axes: np.ndarray) -> tuple[Tensor, float]:
    """Return F and log |det F| of the joint Gaussian: the hyperparameters by `axes`, the rest given them."""
    precision = profile.climber.precision(mode.z)
    free = profile.climber.free
    held = torch.tensor(profile.hyper, device=free.device)
    inner, log_det = factor(precision[free[:, None], free[None]])
    spread = torch.tensor(axes).to(precision)
    slope = -inner @ (inner.T @ precision[free[:, None], held[None]])  # d mode / d hyper
    frame = torch.zeros_like(precision)
    frame[held[:, None], held[None]] = spread
    frame[free[:, None], held[None]] = slope @ spread
    frame[free[:, None], free[None]] = inner
    return frame, log_det + math.log(abs(float(np.linalg.det(axes))))
