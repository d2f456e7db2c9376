"""Laplace approximations: a Gaussian at a mode, or a mixture of them over a grid of hyperparameters, for every mode.

A mode's height says nothing of its width, so modes are weighed by their evidence, each by its own Laplace
approximation (Tierney and Kadane 1986). Those that stand make one mixture, and are told to the reader.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.basins import images, straightened
from prefdensity.inference.batch import climb, small
from prefdensity.inference.climber import Climber
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.mode import Mode, first_guess
from prefdensity.inference.nested import Nested, Watch, nested
from prefdensity.inference.precision import Dense, gaussian_of
from prefdensity.inference.profile import profile_of
from prefdensity.inference.starts import distinct, search
from prefdensity.inference.view import View
from prefdensity.progress import Report

# A mode this many nats of evidence below the best holds less than 1 in 1,000 of the posterior.
NEGLIGIBLE = 7.0
MOST = 4  # modes of restarts that are weighed
# Modes closer than this in every coordinate are one; as are modes whose evidence is the same, which are copies under
# a symmetry that the prior does not break (mirrors are no copies: their priors differ).
NEAR, _COPY = 0.5, 1e-3


def laplace(view: View, start: Tensor | None = None, watch: Watch | None = None) -> Mixture:
    """Return the Laplace approximation reached from `start` (default the middle of the prior).

    Raises
    ------
    FitError
        If the posterior has no curvature in some direction at its mode, and is too large to mend.
    """
    start = first_guess(view) if start is None else start
    if view.hyper:
        profile = profile_of(view, start)
        found = nested(profile, start.cpu()[list(view.hyper)], watch)
        profile.last = None  # it may be large, and the points hold on to the profile
        return of_nested(found)
    return at_mode(_mode(view, start))


def _mode(view: View, start: Tensor) -> Mode:
    """Return the mode reached from `start` [dimension], with its curvature."""
    batch = small(view)
    if batch is not None:
        every = torch.arange(view.dimension, device=view.device)
        top = climb(batch, start[None], torch.zeros(1, dtype=torch.int64), every)
        if bool(torch.isfinite(top.value[0])):
            return Mode(top.z[0], float(top.value[0]), bool(top.converged[0]), top.iterations, Dense(top.precision[0]))
    climber = Climber(view)
    mode = climber.climb(start)
    return mode if mode.precision else replace(mode, precision=climber.curvature(mode.z)[2])


def at_mode(mode: Mode) -> Mixture:
    """Return the Gaussian at a mode whose curvature is known."""
    assert mode.precision is not None
    spread = gaussian_of(mode.precision)
    one = torch.ones(1, dtype=mode.z.dtype, device=mode.z.device)
    evidence = mode.value + 0.5 * len(mode.z) * LOG_2PI + spread.log_det
    mode = replace(mode, precision=None)
    return Mixture(one, mode.z[None], (spread,), mode.converged, mode.iterations, mode, evidence, spread)


def of_nested(found: Nested) -> Mixture:
    """Return the mixture of the Gaussians on a grid of hyperparameters."""
    values = torch.tensor([point.value for point in found.points], dtype=torch.float64)
    best = found.peak.mode
    return Mixture(
        weight=values.softmax(0).to(best.z),
        base=torch.stack([point.mode.z for point in found.points]),
        spread=tuple(found.joint(point) for point in found.points),
        converged=found.converged,
        iterations=found.iterations,
        mode=best,
        log_evidence=found.log_evidence,
        whole=found.joint(found.peak, whole=True),
    )


def weighed(view: View, restarts: int, seed: int, report: Report) -> tuple[list[Mixture], tuple[float, ...]]:
    """Return the Laplace approximation of every mode that is not negligible, that of most evidence first.

    Modes are those that `restarts` climbs reach, the mirror images of the best of them, what is reached from it with
    nobody upside down, and where one of these is better still, the same from there. Also returned are the heights that
    the climbs reached, if there are several.

    Raises
    ------
    FitError
        As `laplace` does at the best mode.
    """
    heights: tuple[float, ...] = ()
    if restarts == 1:
        found = [_alone(view, laplace(view))]
    else:
        modes = search(view, restarts, seed, report)
        heights = tuple(mode.value for mode in modes)
        found = [_alone(view, laplace(view, modes[0].z))]
        for mode in distinct(modes, MOST)[1:]:
            _add(view, mode.z, found)
    looked_at: list[Mixture] = []
    while _best(found) not in looked_at:
        looked_at.append(_best(found))
        for image in images(view, looked_at[-1].mode.z):
            _add(view, image, found, looked_at[-1])
        for start, own in straightened(view, looked_at[-1].mode.z):
            _add(view, Climber(view, fixed=(*own, *view.hyper)).climb(start).z, found)
    top = _best(found).log_evidence
    kept = [each for each in found if each.log_evidence > top - NEGLIGIBLE]
    return sorted(kept, key=lambda each: -each.log_evidence), heights


def highest(view: View, restarts: int, seed: int, report: Report) -> list[Mode]:
    """Return the modes that climbs and the mirror images of the best one reach, highest first: without curvature."""
    modes = search(view, restarts, seed, report)
    climber = Climber(view)
    mirrored = [climber.climb(image) for image in images(view, modes[0].z)]
    return sorted([*modes, *mirrored], key=lambda mode: -mode.value)


def _best(found: list[Mixture]) -> Mixture:
    return max(found, key=lambda each: each.log_evidence)


class _Ended(Exception):
    """A search leads to nothing new, or to what is negligible."""


def _add(view: View, start: Tensor, found: list[Mixture], mirrored: Mixture | None = None) -> None:
    """Add to `found` what is reached from `start`, the image of `mirrored`, if it is another mode and not negligible.

    The search ends as soon as that is clear.
    """
    least, looked = _best(found).log_evidence - NEGLIGIBLE, False

    def watch(mode: Mode, most: float) -> None:
        nonlocal looked
        if not looked and any(_leads_to(view, each, mode) for each in found if each is not mirrored):
            raise _Ended
        looked = True
        if most < least or (mirrored is not None and bool(mirrored.nearer(mode.z[None], start))):
            raise _Ended

    try:
        other = _alone(view, laplace(view, start, watch))
    except (FitError, _Ended):  # no peak: the modes that are peaks stand
        return
    if other.log_evidence > least and not any(_same(other, each) for each in found):
        found.append(other)


def _leads_to(view: View, known: Mixture, mode: Mode) -> bool:
    """Say whether a conditional mode is that of a known one, were hyperparameters the same."""
    climber, start = Climber(view, fixed=view.hyper), known.mode.z.clone()
    start[climber.held] = mode.z[climber.held]
    there = climber.climb(start).z
    return float((there - mode.z).abs().max()) < NEAR


def _alone(view: View, found: Mixture) -> Mixture:
    """Return an approximation without what lies nearer to a mirror image of its mode, and is counted there.

    Where hyperparameters do not let a mode be, a climb from there ends in the other.
    """
    for image in images(view, found.mode.z):
        own = found.nearer(found.base, image)
        if not own.any():  # it holds nothing beside the other
            return laplace(view, found.base[found.weight.argmax()])
        found = found.only(own)
    return found


def _same(one: Mixture, other: Mixture) -> bool:
    near = float((one.mode.z - other.mode.z).abs().max()) < NEAR
    return near or abs(one.log_evidence - other.log_evidence) < _COPY
