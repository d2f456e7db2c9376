"""The marginal density of hyperparameters, point by point: a Laplace approximation over all the rest at each."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.batch import Batch, Summits, climb, is_small, small
from prefdensity.inference.climber import Climber
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Mode
from prefdensity.inference.nested import FIRST, Point
from prefdensity.inference.precision import FLAT, Dense, Gaussian, Triangle, cholesky, gaussian_of, told_by
from prefdensity.inference.prior import bending, likeliest
from prefdensity.inference.view import View

# Numbers of the Gaussians of points that are kept side by side; others are made again whenever they are needed.
_KEPT = 60_000_000
# How far a change of slope is followed, in distances between the points where it was seen.
_FURTHER = 3.0
_LEFT = 1e-12  # nats below the top at which a conditional mode is found


class Profile:
    """The hyperparameters' marginal log density, by a Laplace approximation over the rest at each point."""

    def __init__(self, view: View, start: Tensor, climber: Climber | None = None) -> None:
        self.view = view
        self.climber = climber or Climber(view, fixed=view.hyper)
        self.free, self.held = self.climber.free, self.climber.held
        self.start = start
        self.known: dict[int, list[Point]] = {}  # what was found for each table
        self.last: Gaussian | None = None  # the last curvature
        self._kept: list[weakref.ref[Gaussian]] = []
        self._made: tuple[Mode, Gaussian] | None = None
        self.iterations = 0

    def __call__(self, h: Tensor, tables: Tensor) -> list[Point]:
        """Return what is found at h [row, hyper] for the tables [row], looked for from what is near."""
        found = []
        for each, there in zip(h, h.to(self.start), strict=True):
            found.append(self._point(each, self._guess(each, there, 0)))
            self.known.setdefault(0, []).append(replace(found[-1], inner=_forgotten))
        return found

    def first(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the peak may be [hyper], and how far apart to look there, from what is found at h [hyper]."""
        h, apart = h.clone(), torch.full_like(h, FIRST)
        felt = torch.tensor([k in bending(self.view) for k in self.view.hyper])
        if is_small(self.view) or not felt.any():  # points are cheap, or the rest says nothing of them
            return h, apart
        (point,) = self(h[None], torch.zeros(1, dtype=torch.int64))
        assert self.last is not None
        frame, spread = self.last.frame(), torch.zeros_like(point.mode.z)
        spread[self.free] = frame if frame.dim() == 1 else torch.linalg.vector_norm(frame, dim=-1)
        best, deviation = likeliest(self.view, point.mode.z, spread, self.held[felt.to(self.held.device)])
        h[felt], apart[felt] = best.cpu(), (2 * deviation).clamp_max(FIRST).cpu()
        return h, apart

    def _point(self, at: Tensor, guess: Tensor) -> Point:
        mode = self.climber.climb(guess, known=self.last, left=_LEFT)
        inner, cross = self._inner(mode)
        self.last = inner
        self.iterations += mode.iterations
        value = mode.value + inner.log_det + 0.5 * len(self.free) * LOG_2PI
        mode = replace(mode, precision=None)  # it may be large, and many modes are kept
        self._made = mode, inner
        kept = (lambda: inner) if self._is_kept(inner) else (lambda: self._again(mode))
        slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
        return Point(at, value, mode, slope, kept, inner.log_det, inner.log_det_error)

    def _is_kept(self, inner: Gaussian) -> bool:
        """Say whether there is room for one more Gaussian beside those that somebody still holds, and count it."""
        self._kept = [each for each in self._kept if each() is not None]
        if (len(self._kept) + 1) * len(self.free) ** 2 > _KEPT:
            return False
        self._kept.append(weakref.ref(inner))
        return True

    def _again(self, mode: Mode) -> Gaussian:
        """Return the Gaussian at a mode; the last one is kept."""
        if self._made is None or self._made[0] is not mode:
            self._made = mode, self._inner(mode)[0]
        return self._made[1]

    def _guess(self, h: Tensor, there: Tensor, table: int) -> Tensor:
        """Return where the conditional mode should be [dimension], at h on the CPU, `there` where the rest is."""
        z = self._nearest(h, there, table)
        known = self.known.get(table)
        if not known:
            return z
        near, *others = self._near(known, h)
        way = (there - near.mode.z[self.held]).clamp(-1.0, 1.0)  # a slope holds nearby
        z[self.free] += near.slope @ way
        for other in others:  # and changes as it did between the two
            between = near.mode.z[self.held] - other.mode.z[self.held]
            share = (way @ between) / (between @ between).clamp_min(1e-300)
            z[self.free] += 0.5 * share.clamp(-_FURTHER, _FURTHER) * ((near.slope - other.slope) @ way)
        return z

    def _nearest(self, h: Tensor, there: Tensor, table: int) -> Tensor:
        """Return the nearest conditional mode that is known, or the start, at these hyperparameters [dimension]."""
        known = self.known.get(table)
        z = (self._near(known, h)[0].mode.z if known else self.start).clone()
        z[self.held] = there
        return z

    def _near(self, known: list[Point], h: Tensor) -> list[Point]:
        """Return the nearest points, two at most."""
        away = (torch.stack([point.at for point in known]) - h).square().sum(-1)
        return [known[k] for k in away.argsort()[:2].tolist()]

    @torch.enable_grad()  # also when draws are weighed
    def _inner(self, mode: Mode) -> tuple[Gaussian, Tensor]:
        """Return the Gaussian of the rest given the hyperparameters, and minus the Hessian between the two."""
        precision = mode.precision or self.climber.curvature(mode.z)[2]
        rest, cross = self.climber.parts(precision)
        return gaussian_of(rest), cross


class BatchProfile(Profile):
    """The same for small programs, all points of all tables together."""

    def __init__(self, view: View, start: Tensor, batch: Batch) -> None:
        self.view, self.batch = view, batch
        rest = [k for k in range(view.dimension) if k not in view.hyper]
        self.held, self.free = (torch.tensor(at, dtype=torch.int64).to(view.device) for at in (view.hyper, rest))
        self.start = start
        self.known = {}
        self.iterations = 0

    def __call__(self, h: Tensor, tables: Tensor) -> list[Point]:
        """See `Profile`."""
        top = self._climbed(h, tables, self._guess)
        inner = _Inner(top, self.free, self.held)
        lost = [k for k, value in enumerate(inner.value) if not math.isfinite(value)]
        if lost:  # a slope that did not hold led to where there is no density
            again = self._climbed(h[lost], tables[lost], self._nearest)
            top.z[lost], top.value[lost] = again.z, again.value
            top.precision[lost], top.converged[lost] = again.precision, again.converged
            inner = _Inner(top, self.free, self.held)
            if not all(map(math.isfinite, inner.value)):
                raise FitError("no mode of the program is found given its hyperparameters; fit with method='svi'")
        found = []
        for k, table in enumerate(tables.tolist()):
            gaussian, slope = inner.at(k)
            mode = Mode(top.z[k], inner.value[k], bool(inner.converged[k]), 0)
            value = mode.value + gaussian.log_det + 0.5 * len(self.free) * LOG_2PI
            found.append(Point(h[k], value, mode, slope, functools.partial(_itself, gaussian), gaussian.log_det, 0.0))
            self.known.setdefault(table, []).append(found[-1])
        return found

    def _climbed(self, h: Tensor, tables: Tensor, guess: Callable[[Tensor, Tensor, int], Tensor]) -> Summits:
        rows = zip(h, h.to(self.start), tables.tolist(), strict=True)
        top = climb(self.batch, torch.stack([guess(*each) for each in rows]), tables, self.free, self.view.hyper)
        self.iterations += top.iterations
        return top


class _Inner:
    """The Gaussians of the rest given hyperparameters, those of all points factored together and read at once."""

    def __init__(self, top: Summits, free: Tensor, held: Tensor) -> None:
        self.precision = top.precision[:, free[:, None], free[None]]
        self.cross = top.precision[:, free[:, None], held[None]]
        self.lower, failed = cholesky(self.precision)
        self.slope = -torch.cholesky_solve(self.cross, self.lower)
        told = torch.stack(
            [top.value, top.converged.to(top.value), failed.to(top.value), *told_by(self.lower).unbind(-1)]
        )
        self.value, self.converged, self._failed, self._least, self._log_det = told.tolist()

    def at(self, k: int) -> tuple[Gaussian, Tensor]:
        """Return the Gaussian of point k, and how its mode moves with the hyperparameters [free, hyper]."""
        if not self._failed[k] and self._least[k] > FLAT:
            return Triangle(self.lower[k], self._log_det[k]), self.slope[k]
        mended = Dense(self.precision[k]).gaussian()
        return mended, -torch.stack([mended.covariance(column) for column in self.cross[k].T], 1)


def _itself(gaussian: Gaussian) -> Gaussian:
    return gaussian


def profile_of(view: View, start: Tensor) -> Profile:
    """Return the profile of a view, points worked out together where they are small."""
    batch = small(view)
    return Profile(view, start) if batch is None else BatchProfile(view, start, batch)


def _forgotten() -> Gaussian:
    raise AssertionError("a Gaussian that was not kept")
