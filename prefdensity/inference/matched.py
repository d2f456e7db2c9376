"""Mixtures with the moments of a posterior: expectation propagation at every place of a grid of scales.

Given the scales, `prefdensity.inference.propagation` finds a Gaussian and its evidence; each place has the weight of
its own. The grid of a Laplace approximation is too fine where it takes large scales for rare, and ends too early.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.inference.curvature import local_curvature
from prefdensity.inference.mixture import Joint, Mixture, Remainder
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, Gaussian
from prefdensity.inference.prior import Given, log_prior
from prefdensity.inference.propagation import Place, Propagation
from prefdensity.inference.remainder import is_told, left_out
from prefdensity.inference.view import View

_LARGEST = 2_000  # coordinates of a matrix that is renewed a hundred times
_FELT = 3  # numbers that a comparison feels, at most
# Spacing of the grid in standard deviations of a scale's posterior where it has its peak, and at most, in its units
# (mostly logarithms).
_SPACING, _LONGEST = 0.8, 0.75
# How often standard deviations are looked for; by how many of them, and to how many times, a look may move; by how much
# their logarithms may have changed at the last; and how little evidence may be curved along one.
_LOOKS, _FARTHEST, _ALIKE, _FLATTEST = 2, 3.0, 0.4, 0.1
_WITHIN = 0.4  # width of the Gaussians about places of a grid, in distances between these
_COUNTS, _PLACES = 9.0, 150  # nats below the top at which places of a grid still count, and how many there may be
_SHARE = 0.05  # of a place of the grid from which on it is asked what it leaves out

Step = tuple[int, ...]


def has_propagation(view: View) -> bool:
    """Whether comparisons of a view feel little beside their margins, and all is normal given its scales."""
    if view.program.type_layer is not None or view.cells.ratings is not None or view.dimension > _LARGEST:
        return False
    start = first_guess(view)
    local = local_curvature(view, start)
    if local is None or local.form is not Dense or not all(part.is_shared for part in local.felt.parts):
        return False
    if sum(part.quantities for part in local.felt.parts) >= _FELT:
        return False
    return Given(view, start[None]).is_normal


def tells_errors(view: View) -> bool:
    """Whether a mixture with the moments of the posterior can tell what it leaves out."""
    local = local_curvature(view, first_guess(view))
    return local is not None and is_told(len(view.cells), 1 + sum(part.quantities for part in local.felt.parts))


def propagated(view: View, found: Mixture) -> Mixture | None:
    """Return the mixture with the moments of the posterior, from a Laplace approximation.

    None: nothing settles, or the grid of scales is too large.
    """
    local = local_curvature(view, found.mode.z)
    if local is None:
        return None
    run = Propagation(view, local, view.hyper, found.mode.z)
    grid = _grid(run, found.mode.z, found.whole)
    if grid is None:
        return None
    places, evidence = list(grid.places.values()), grid.log_evidence
    spread = tuple(_joined(view, run, place, found.whole, grid.axes * _WITHIN) for place in places)
    top, weight = int(evidence.argmax()), grid.log_weight.softmax(0)
    return replace(
        found,
        weight=weight.to(found.base),
        base=torch.stack([place.mean for place in places]),
        spread=spread,
        iterations=sum(place.rounds for place in places),
        mode=replace(found.mode, z=places[top].mean),
        log_evidence=float(evidence.logsumexp(0)) + float(torch.linalg.slogdet(grid.axes)[1]),
        whole=_joined(view, run, places[top], found.whole, grid.axes / _SPACING),
        matched=True,
        remainder=_remainder(run, places, weight),
    )


@dataclass(frozen=True)
class _Grid:
    """Places by their steps, and the axes [hyper, hyper] of the grid: its columns are these steps."""

    places: dict[Step, Place]
    axes: Tensor

    @property
    def log_evidence(self) -> Tensor:
        """Of each place [place]."""
        return torch.tensor([place.log_evidence for place in self.places.values()], dtype=torch.float64)

    @property
    def log_weight(self) -> Tensor:
        """What places weigh [place] if Gaussians about them are not to make the whole wider.

        That is their evidence less what these blur: half their variance times the second derivative of the density.
        """
        weight = self.log_evidence
        for k, (step, place) in enumerate(self.places.items()):
            for axis in range(len(step)):
                sides = [self.places.get(_step(step, axis, side)) for side in (1, -1)]
                if all(sides):
                    up, down = (side.log_evidence - place.log_evidence for side in sides if side is not None)
                    weight[k] -= _WITHIN**2 / 2 * (up + down + ((up - down) / 2) ** 2)
        return weight


def _grid(run: Propagation, start: Tensor, whole: Gaussian) -> _Grid | None:
    """Return the grid about a mode `start` [dimension], along the axes of its Laplace approximation."""
    first = run(start)
    if first is None:
        return None
    if not isinstance(whole, Joint):
        return _Grid({(): first}, start.new_zeros(0, 0))
    surveyed = _surveyed(run, first, whole.axes)
    if surveyed is None:
        return None
    first, axes = surveyed
    done: dict[Step, Place] = {(0,) * len(run.held): first}
    while wave := _next(done):
        if len(done) + len(wave) > _PLACES:
            return None
        for step, near in wave.items():
            away = axes @ torch.tensor(step, dtype=axes.dtype, device=axes.device)
            place = _beside(run, done[near], first.mean[run.held] + away, done.get(_beyond(near, step)))
            if place is None:
                return None
            done[step] = place
    return _Grid(done, axes)


def _surveyed(run: Propagation, first: Place, axes: Tensor) -> tuple[Place, Tensor] | None:
    """Return a place near the peak of the evidence, and the axes of the grid: in standard deviations of scales there.

    From `first`, and the axes of another approximation.
    """
    for _ in range(_LOOKS):
        shift, stretch = torch.zeros_like(axes[0]), torch.ones_like(axes[0])
        for k, axis in enumerate(axes.T):
            sides = [_beside(run, first, first.mean[run.held] + side * axis) for side in (1, -1)]
            up, down = (math.nan if side is None else side.log_evidence - first.log_evidence for side in sides)
            curved = max(-(up + down), _FLATTEST)
            if not math.isfinite(curved):
                return None
            shift[k] = min(max((up - down) / 2 / curved, -_FARTHEST), _FARTHEST)
            stretch[k] = min(max(curved**-0.5, 1 / _FARTHEST), _FARTHEST)
        moved = _beside(run, first, first.mean[run.held] + axes @ shift)
        if moved is None:
            return None
        first, axes = moved, axes * stretch
        if float(stretch.log().abs().max()) < _ALIKE:
            break
    step = (axes.norm(dim=0) * _SPACING).clamp_max(_LONGEST)
    return first, axes * (step / axes.norm(dim=0))


def _next(done: dict[Step, Place]) -> dict[Step, Step]:
    """Return steps beside places that still count, each with the one that it is beside."""
    least = max(place.log_evidence for place in done.values()) - _COUNTS
    wave: dict[Step, Step] = {}
    for step, place in done.items():
        for axis, side in itertools.product(range(len(step)), (1, -1)):
            near = _step(step, axis, side)
            if place.log_evidence > least and near not in done:
                wave.setdefault(near, step)
    return wave


def _step(step: Step, axis: int, by: int) -> Step:
    return (*step[:axis], step[axis] + by, *step[axis + 1 :])


def _beyond(near: Step, step: Step) -> Step:
    """Return the step on the other side of `near` than `step`."""
    return tuple(2 * n - s for n, s in zip(near, step, strict=True))


def _beside(run: Propagation, near: Place, h: Tensor, beyond: Place | None = None) -> Place | None:
    """Return the place at scales h [hyper], reached from one near by, and one as far beyond it."""
    start = near.mean.clone()
    start[run.held] = h
    terms = near.terms if beyond is None else beyond.terms.towards(near.terms, 2.0)
    return run(start, terms) or run(start)


def _joined(view: View, run: Propagation, place: Place, spread: Gaussian, axes: Tensor) -> Gaussian:
    """Return the Gaussian of the scales of a place of the grid, by their axes, and of the rest given them."""
    inner = run.gaussian(place)
    if not isinstance(spread, Joint):
        return inner
    hessian = place.mean.new_zeros(1, view.dimension, view.dimension)
    log_prior(view, place.mean[None]).add_to(hessian)
    cross = -hessian[0][run.free.at[:, None], spread.hyper[None]]
    slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
    log_det = inner.log_det + float(torch.linalg.slogdet(axes)[1])
    return replace(spread, axes=axes, slope=slope, inner=lambda: inner, log_det=log_det, log_det_error=0.0)


def _remainder(run: Propagation, places: list[Place], weight: Tensor) -> Remainder | None:
    """Return what places leave out, those that hardly count as much as the nearest other.

    None: comparisons are too many to tell.
    """
    asked = torch.nonzero(weight >= min(_SHARE, float(weight.max()))).flatten().tolist()
    told = [each for each in (left_out(run, places[k]) for k in asked) if each is not None]
    if len(told) < len(asked):
        return None
    h = torch.stack([place.mean[run.held] for place in places])
    nearest = torch.cdist(h, h[asked]).argmin(1).tolist() if len(run.held) else [0]
    terms = torch.stack([told[k][0] for k in nearest], 1)
    return Remainder(terms, weight.new_tensor([told[k][1] for k in nearest]).to(terms))
