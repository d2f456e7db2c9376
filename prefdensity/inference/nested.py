"""Hyperparameters and the rest given them: nested Laplace approximations.

A scale such as the spread of reliabilities bends the posterior of everything below it, and a joint Gaussian
misses that. Given the scale, the rest is nearly Gaussian; so the scale is laid on a grid around the mode of
its own (Laplace-approximated) marginal, and each grid point carries its conditional Gaussian (Rue, Martino and
Chopin 2009, JRSS-B 71, 319-392; Tierney and Kadane 1986). Where a scale is so sharply known that it bends
nothing, one joint Gaussian holds it and the rest. Hyperparameters are a handful: where to look for them is worked out
on the CPU, wherever the rest is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mixture import Joint
from prefdensity.inference.mode import Mode
from prefdensity.inference.precision import Gaussian

# The grid of hyperparameters: spacing in their posterior standard deviations, how far it reaches in steps, the relative
# density below which a point is left out, and the most points: what does not fit is left to k-hat to tell. Beyond its
# reach so many steps are taken at once, at most.
_SPACING = 0.75
_REACH = 7
_NEGLIGIBLE = 1e-5
_POINTS, _AHEAD = 60, 3
# One posterior standard deviation that moves the hyperparameters (mostly logarithms) by less than this bends nothing.
_SHARP = 0.15
# The peak of their marginal: distance of the first finite differences, the longest step, in how many standard
# deviations a last step may land, after how many rounds at most; the least distance of finite differences.
FIRST, _LONGEST, _LAST, _ROUNDS, _FINEST = 0.5, 1.5, 0.4, 12, 0.01
# The most nats that the search for the peak gains over where it starts; and what is reckoned with on the way: so many
# times what a parabola promises, and so much.
_GAIN, _PROMISE, _MORE = 15.0, 1.25, 0.5
_BOUND = 8.0  # of a sensible scale: its logarithm
_FLATTEST = 0.25  # curvature of a marginal below which steps towards its peak do not follow it


# Told of every place on the way to a peak and of the most log evidence (nats) to be expected there; it may raise what
# ends the search.
Watch = Callable[[Mode, float], None]


@dataclass(frozen=True)
class Point:
    """What was found at one value of the hyperparameters, `at` [hyper] (on the CPU).

    `value` is their marginal log density, `slope` [free, hyper] how the conditional mode moves with them; `inner` makes
    the Gaussian of the rest, with its `log_det` and the standard error of that.
    """

    at: Tensor
    value: float
    mode: Mode
    slope: Tensor
    inner: Callable[[], Gaussian]
    log_det: float
    log_det_error: float


class Marginal(Protocol):
    """The marginal log density of the hyperparameters, of one table or of several.

    Attributes
    ----------
    held, free
        Coordinates of the hyperparameters, and of the rest.
    iterations
        Steps that were taken so far.
    """

    held: Tensor
    free: Tensor
    iterations: int

    def __call__(self, h: Tensor, tables: Tensor) -> list[Point]:
        """Return what is found at h [row, hyper] for the tables [row], both on the CPU."""

    def first(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return where to start for the peak of a single table, instead of h [hyper], and how far apart to look."""


@dataclass(frozen=True)
class Nested:
    """Points of the hyperparameters' grid, or their one peak.

    Attributes
    ----------
    points
        With their marginal log densities.
    axes
        A of the Gaussian around every point [hyper, hyper].
    full
        The same for a single Gaussian in the place of the grid.
    log_dets
        Log |det| of both.
    peak
        The highest point of the marginal.
    log_evidence
        Sum over the grid, and Laplace approximation where there is none (nats).
    hyper, free
        Coordinates.
    """

    points: list[Point]
    axes: Tensor
    full: Tensor
    log_dets: tuple[float, float]
    peak: Point
    log_evidence: float
    converged: bool
    iterations: int
    hyper: Tensor
    free: Tensor

    def joint(self, point: Point, whole: bool = False) -> Joint:
        """Return the joint Gaussian about a point, or the one in the place of the grid, the rest given its place."""
        spread, log_det = (self.full if whole else self.axes), self.log_dets[whole] + point.log_det
        return Joint(self.hyper, self.free, spread, point.slope, point.inner, log_det, point.log_det_error)


def nested(marginal: Marginal, start: Tensor, watch: Watch | None = None) -> Nested:
    """Return the nested approximation reached from the hyperparameters `start` [hyper]."""
    if watch is not None:
        (point,) = marginal(start[None], torch.zeros(1, dtype=torch.int64))
        watch(point.mode, point.value + _GAIN)
    return _grids(marginal, *_peak_of_one(marginal, start, watch))[0]


def nested_many(marginal: Marginal, start: Tensor) -> list[Nested]:
    """Return the nested approximation of each table, reached from `start` [table, hyper]."""
    return _grids(marginal, *_peak(marginal, start, torch.full_like(start, FIRST)))


def summit(marginal: Marginal, start: Tensor) -> Mode:
    """Return the conditional mode at the highest point of the marginal, reached from `start` [hyper]."""
    peak, _, settled = _peak_of_one(marginal, start)
    mode = marginal(peak, torch.zeros(1, dtype=torch.int64))[0].mode
    return replace(mode, converged=mode.converged and bool(settled[0]), iterations=marginal.iterations)


def _peak_of_one(marginal: Marginal, start: Tensor, watch: Watch | None = None) -> tuple[Tensor, Tensor, Tensor]:
    first, apart = marginal.first(start)
    return _peak(marginal, first[None], apart[None], watch)


def _peak(
    marginal: Marginal, start: Tensor, apart: Tensor, watch: Watch | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mode of each table's marginal [table, hyper], minus the Hessian there, and whether it was reached.

    Newton's method from finite differences, whose distances, `apart` [table, hyper] at first, become the standard
    deviations found. `watch`: of the way of a single table.
    """
    tables, size = start.shape
    stencil = _stencil(size).to(start)
    at, apart = start.clone(), apart.clamp(_FINEST, FIRST)
    curvature = torch.eye(size).to(start).expand(tables, size, size).clone()
    settled = torch.zeros(tables, dtype=torch.bool, device=start.device)
    for _ in range(_ROUNDS):
        left = torch.nonzero(~settled).flatten()
        h = at[left, None] + stencil * apart[left, None]
        found = marginal(h.flatten(0, 1), left.repeat_interleave(len(stencil)))
        value = start.new_tensor([point.value for point in found]).reshape(len(left), -1)
        slope, curvature[left] = _differences(value, apart[left])
        values, vectors = torch.linalg.eigh(curvature[left])
        along = (vectors.mT @ slope.unsqueeze(-1)).squeeze(-1)
        step = (vectors @ (along / values.clamp_min(_FLATTEST)).unsqueeze(-1)).squeeze(-1)
        step = step * (_LONGEST / step.norm(dim=-1, keepdim=True)).clamp_max(1.0)
        far = (along.square() / values.clamp_min(_FLATTEST)).sum(-1).sqrt()
        deviation = curvature[left].diagonal(dim1=-2, dim2=-1).clamp_min(_FLATTEST).rsqrt()
        fine = apart[left] < 2 * deviation
        # hyperparameters are mostly logarithms, whose marginals leave a parabola with the square of the way
        bent = step**2 + apart[left] ** 2
        settled[left] = (far < _LAST) & fine.all(-1) | (bent < _LAST * deviation).all(-1)
        if watch is not None:
            watch(found[0].mode, float(value[0, 0] + _PROMISE * far[0] ** 2 / 2 + _volume(curvature[0])) + _MORE)
        at[left] = (at[left] + step).clamp(-_BOUND, _BOUND)
        apart[left] = deviation.clamp(_FINEST, FIRST)
        if settled.all():
            break
    return at, curvature, settled


def _volume(curvature: Tensor) -> Tensor:
    """Return the log of what a peak of this curvature [hyper, hyper] holds, over its height."""
    return 0.5 * len(curvature) * LOG_2PI + torch.linalg.slogdet(_widths(curvature))[1]


def _stencil(size: int) -> Tensor:
    """Return where a quadratic [point, hyper] is read off: 0, each e_i and -e_i, each e_i + e_j."""
    eye = torch.eye(size, dtype=torch.float64)
    pairs = [eye[i] + eye[j] for i, j in itertools.combinations(range(size), 2)]
    return torch.stack([torch.zeros(size, dtype=torch.float64), *eye, *-eye, *pairs])


def _differences(value: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient [table, hyper] and minus the Hessian [table, hyper, hyper] from values on the stencil."""
    size = apart.shape[-1]
    top, up, down = value[:, 0], value[:, 1 : size + 1], value[:, size + 1 : 2 * size + 1]
    slope, second = (up - down) / (2 * apart), (up + down - 2 * top[:, None]) / apart**2
    hessian = torch.diag_embed(second)
    for k, (i, j) in enumerate(itertools.combinations(range(size), 2)):
        both = value[:, 2 * size + 1 + k]
        mixed = both - up[:, i] - up[:, j] + top
        hessian[:, i, j] = hessian[:, j, i] = mixed / (apart[:, i] * apart[:, j])
    return slope, -hessian


def _widths(curvature: Tensor) -> Tensor:
    """Return A of the Gaussian [table, hyper, hyper] about a peak of this curvature."""
    values, vectors = torch.linalg.eigh(curvature)
    # a nearly flat marginal is the prior's: no wider than a unit scale on the log or logit
    return vectors * values.clamp_min(1.0).rsqrt().unsqueeze(-2)


def _grids(marginal: Marginal, peak: Tensor, curvature: Tensor, settled: Tensor) -> list[Nested]:
    """Return the grid of each table, around the peak of its marginal (see `_peak`)."""
    full = _widths(curvature)
    wide = full.norm(dim=-2) > _SHARP
    found: list[dict[tuple[int, ...], Point]] = [{} for _ in peak]
    wave = [_lattice(each) for each in wide.tolist()]
    while any(wave):
        rows = [(k, step) for k, steps in enumerate(wave) for step in steps]
        tables = torch.tensor([k for k, _ in rows])
        steps = torch.tensor([step for _, step in rows]).to(peak)
        h = peak[tables] + _SPACING * (full[tables] @ steps.unsqueeze(-1)).squeeze(-1)
        for (k, step), point in zip(rows, marginal(h, tables), strict=True):
            found[k][step] = point
        wave = [_further(each, few) for each, few in zip(found, wide.tolist(), strict=True)]
    return [_nested(marginal, list(each.values()), full[k], wide[k], bool(settled[k])) for k, each in enumerate(found)]


def _lattice(wide: list[bool]) -> list[tuple[int, ...]]:
    """Return the steps of a grid along the wide axes, the peak first, then outward and one side after the other."""
    sides = [range(-_REACH, _REACH + 1) if each else range(1) for each in wide]
    inside = [step for step in itertools.product(*sides) if math.hypot(*step) <= _REACH]
    nearest = sorted(inside, key=lambda step: math.hypot(*step))[:_POINTS]
    return sorted(nearest, key=lambda step: (min(step) < 0, math.hypot(*step)))


def _further(found: dict[tuple[int, ...], Point], wide: list[bool]) -> list[tuple[int, ...]]:
    """Return the steps beside the outermost points that still count."""
    if len(found) >= _POINTS or not any(wide):
        return []
    least = max(point.value for point in found.values()) + math.log(_NEGLIGIBLE)
    beside: dict[tuple[int, ...], None] = {}
    for step, point in found.items():
        for d in range(len(step)):
            for s in (1, -1):
                if not wide[d] or point.value <= least or _beside(step, d, s) in found:
                    continue
                before = found.get(_beside(step, d, -s), point).value
                for k in range(1, 1 + _ahead(point.value - least, before - point.value)):
                    beside[_beside(step, d, k * s)] = None
    return list(beside)[: _POINTS - len(found)]


def _beside(step: tuple[int, ...], axis: int, by: int) -> tuple[int, ...]:
    return (*step[:axis], step[axis] + by, *step[axis + 1 :])


def _ahead(height: float, fall: float) -> int:
    """Return how many steps to take at once from so high above what is left out, the last one having fallen so far."""
    return max(1, min(_AHEAD, math.ceil(height / fall))) if fall > 0 else 1


def _nested(marginal: Marginal, points: list[Point], full: Tensor, wide: Tensor, settled: bool) -> Nested:
    values = torch.tensor([point.value for point in points], dtype=torch.float64)
    axes = full * torch.where(wide, _SPACING, 1.0)
    log_dets = float(torch.linalg.slogdet(axes)[1]), float(torch.linalg.slogdet(full)[1])
    # a cell of the grid for the wide axes, the whole Gaussian for the sharp ones
    cell = log_dets[0] + 0.5 * int((~wide).sum()) * LOG_2PI
    kept = [point for point in points if point.value > float(values.max()) + math.log(_NEGLIGIBLE)]
    return Nested(
        points=kept,
        axes=axes.to(points[0].mode.z),
        full=full.to(points[0].mode.z),
        log_dets=log_dets,
        peak=points[0],
        log_evidence=float(values.logsumexp(0)) + cell,
        converged=settled and all(point.mode.converged for point in kept),
        iterations=marginal.iterations,
        hyper=marginal.held,
        free=marginal.free,
    )
