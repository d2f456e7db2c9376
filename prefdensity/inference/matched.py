"""Mixtures with the moments of a posterior: expectation propagation at every place of a grid of scales.

Given the scales, `prefdensity.inference.propagation` finds a Gaussian and its evidence; each place has the weight of
its own. The grid of a Laplace approximation is too fine where it takes large scales for rare, and ends too early.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.inference.curvature import local_curvature
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mixture import Joint, Mixture, Remainder
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, Gaussian
from prefdensity.inference.prior import Given, log_prior
from prefdensity.inference.propagation import Place, Propagation
from prefdensity.inference.remainder import left_out
from prefdensity.inference.view import View

_LARGEST = 2_000  # coordinates of a matrix that is renewed a hundred times
_FELT = 3  # numbers that a comparison feels, at most
# Spacing of the grid in standard deviations of a scale's posterior where it has its peak, and at most, in its units.
_SPACING, _LONGEST = 0.6, 0.75
# Width of the Gaussians about places of a grid, in distances between these: so much less than those of a Laplace
# approximation, which weights correct, that the whole is hardly wider for it.
_WITHIN = 0.4
_COUNTS, _PLACES = 9.0, 60  # nats below the top at which places of a grid still count, and how many there may be
_SHARE = 1e-3  # of a place of the grid from which on it is asked what it leaves out

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


def propagated(view: View, found: Mixture) -> Mixture | None:
    """Return the mixture with the moments of the posterior, from a Laplace approximation.

    None: it has no grid of scales, by which all the rest would be normal, or nothing settles.
    """
    grid = all(isinstance(spread, Joint) for spread in found.spread) and len(found.spread) > 1
    local = local_curvature(view, found.mode.z)
    if local is None or (view.hyper and not grid):
        return None
    run = Propagation(view, local, view.hyper, found.mode.z)
    lattice = _lattice(run, found) if grid else _alone(run, found)
    if lattice is None:
        return None
    places = lattice.places
    evidence = torch.tensor([place.log_evidence for place in places], dtype=torch.float64)
    joint = found.spread[0]
    spread = tuple(_joined(view, run, place, joint, lattice.within) for place in places)
    top, weight = int(evidence.argmax()), evidence.softmax(0)
    return replace(
        found,
        weight=weight.to(found.base),
        base=torch.stack([place.mean for place in places]),
        spread=spread,
        iterations=sum(place.rounds for place in places),
        mode=replace(found.mode, z=places[top].mean),
        log_evidence=float(evidence.logsumexp(0)) + lattice.log_cell,
        whole=_joined(view, run, places[top], found.whole, None),
        matched=True,
        remainder=_remainder(run, places, weight),
    )


@dataclass(frozen=True)
class _Lattice:
    """Places of a grid, the axes [hyper, hyper] of the Gaussian of scales about each, and the log volume of a cell.

    The volume is what log evidence gains over that of the rest at a place.
    """

    places: list[Place]
    within: Tensor | None
    log_cell: float


def _alone(run: Propagation, found: Mixture) -> _Lattice | None:
    place = run(found.base[0])
    return None if place is None else _Lattice([place], None, 0.0)


def _lattice(run: Propagation, found: Mixture) -> _Lattice | None:
    """Return the grid about the first place of that of a Laplace approximation, along the same axes.

    None: at its first place nothing settles.
    """
    first = found.spread[0]
    assert isinstance(first, Joint)
    h = found.base[:, first.hyper]
    wide = (torch.linalg.solve(first.axes, (h - h[0]).T).round() != 0).any(1)
    start = run(found.base[0])
    if start is None:
        return None
    stretch = _stretch(run, start, first.axes, wide)
    axes = first.axes * stretch
    origin: Step = (0,) * len(wide)
    done: dict[Step, Place] = {origin: start}
    while wave := _next(done, torch.nonzero(wide).flatten().tolist()):
        for step, near in wave.items():
            away = axes @ torch.tensor(step, dtype=axes.dtype, device=axes.device)
            place = _beside(run, done[near], found.base[0, run.held] + away)
            if place is None:
                return None
            done[step] = place
    at_first = float(run.view.log_joint(found.base[:1])[0]) + 0.5 * len(first.free) * LOG_2PI + first.inner().log_det
    cell = found.log_evidence + float(found.weight[0].log()) - at_first + float(stretch.log().sum())
    return _Lattice(list(done.values()), axes * torch.where(wide, _WITHIN, 1.0), cell)


def _stretch(run: Propagation, start: Place, axes: Tensor, wide: Tensor) -> Tensor:
    """Return by how much steps along axes are lengthened [hyper]: to so many standard deviations, and no further."""
    out = torch.ones_like(axes[0])
    for k in torch.nonzero(wide).flatten().tolist():
        sides = [_beside(run, start, start.mean[run.held] + side * axes[:, k]) for side in (1, -1)]
        if any(side is None for side in sides):
            continue
        curved = 2 * start.log_evidence - sum(side.log_evidence for side in sides if side is not None)
        longest = max(1.0, _LONGEST / float(axes[:, k].norm()))
        out[k] = min(longest, max(1.0, _SPACING / max(curved, 1e-12) ** 0.5))
    return out


def _next(done: dict[Step, Place], wide: list[int]) -> dict[Step, Step]:
    """Return steps beside places that still count, each with the one that it is beside."""
    least = max(place.log_evidence for place in done.values()) - _COUNTS
    wave: dict[Step, Step] = {}
    for step, place in done.items():
        for axis, side in itertools.product(wide, (1, -1)):
            near = (*step[:axis], step[axis] + side, *step[axis + 1 :])
            if place.log_evidence > least and near not in done and len(done) + len(wave) < _PLACES:
                wave.setdefault(near, step)
    return wave


def _beside(run: Propagation, near: Place, h: Tensor) -> Place | None:
    """Return the place at scales h [hyper], reached from one near by."""
    start = near.mean.clone()
    start[run.held] = h
    return run(start, near.terms) or run(start)


def _joined(view: View, run: Propagation, place: Place, spread: Gaussian, axes: Tensor | None) -> Gaussian:
    """Return the Gaussian of the scales of a place of the grid and of the rest given them; `axes`: for the scales'."""
    inner = run.gaussian(place)
    if not isinstance(spread, Joint):
        return inner
    hessian = place.mean.new_zeros(1, view.dimension, view.dimension)
    log_prior(view, place.mean[None]).add_to(hessian)
    cross = -hessian[0][run.free.at[:, None], spread.hyper[None]]
    slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
    axes = spread.axes if axes is None else axes
    log_det = inner.log_det + float(torch.linalg.slogdet(axes)[1])
    return replace(spread, axes=axes, slope=slope, inner=lambda: inner, log_det=log_det, log_det_error=0.0)


def _remainder(run: Propagation, places: list[Place], weight: Tensor) -> Remainder | None:
    """Return what places leave out, those that hardly count nothing; None where comparisons are too many to tell."""
    found = [left_out(run, place) if share > _SHARE else None for place, share in zip(places, weight, strict=True)]
    told = [each for each in found if each is not None]
    if len(told) < int((weight > _SHARE).sum()):
        return None
    nothing = torch.zeros_like(told[0][0])
    terms = torch.stack([nothing if each is None else each[0] for each in found], 1)
    return Remainder(terms, weight.new_tensor([0.0 if each is None else each[1] for each in found]).to(terms))
