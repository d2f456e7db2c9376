"""The marginal density of hyperparameters, point by point: a Laplace approximation over all the rest at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.batch import Batch, Summits, climb
from prefdensity.inference.climber import Climber
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Mode
from prefdensity.inference.nested import FIRST, Point
from prefdensity.inference.precision import Dense, Gaussian, gaussian_of
from prefdensity.inference.prior import bending, likeliest
from prefdensity.inference.view import View

# The largest dimension of Gaussians that are kept for every point; larger ones are made again when needed.
_KEPT = 1000
# Points are worked out together up to this dimension, and this many cell evaluations for each.
_TOGETHER, _WORK = 200, 20_000


class Profile:
    """The hyperparameters' marginal log density, by a Laplace approximation over the rest at each point."""

    def __init__(self, view: View, start: Tensor, climber: Climber | None = None) -> None:
        self.view = view
        self.climber = climber or Climber(view, fixed=view.hyper)
        self.free, self.held = self.climber.free, self.climber.held
        self.start = start
        self.known: dict[int, list[Point]] = {}  # what was found for each table
        self.last: Gaussian | None = None  # the last curvature
        self._made: tuple[Mode, Gaussian] | None = None
        self.iterations = 0

    def __call__(self, h: Tensor, tables: Tensor) -> list[Point]:
        """Return what is found at h [row, hyper] for the tables [row], looked for from what is near."""
        found = []
        for each in h:
            found.append(self._point(self._guess(each, 0)))
            self.known.setdefault(0, []).append(replace(found[-1], inner=_forgotten))
        return found

    def first(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the peak may be [hyper], and how far apart to look there, from what is found at h [hyper]."""
        h, apart = h.clone(), torch.full_like(h, FIRST)
        felt = torch.isin(self.held, self.held.new_tensor(bending(self.view)))
        small = self.view.dimension <= _TOGETHER and self.view.work <= _WORK
        if small or not felt.any():  # points are cheap, or the rest says nothing of them
            return h, apart
        (point,) = self(h[None], torch.zeros(1, dtype=torch.int64))
        assert self.last is not None
        frame, spread = self.last.frame(), torch.zeros_like(point.mode.z)
        spread[self.free] = frame if frame.dim() == 1 else torch.linalg.vector_norm(frame, dim=-1)
        h[felt], deviation = likeliest(self.view, point.mode.z, spread, self.held[felt])
        apart[felt] = (2 * deviation).clamp_max(FIRST)
        return h, apart

    def _point(self, guess: Tensor) -> Point:
        mode = self.climber.climb(guess, known=self.last)
        inner, cross = self._inner(mode)
        self.last = inner
        self.iterations += mode.iterations
        value = mode.value + inner.log_det + 0.5 * len(self.free) * LOG_2PI
        mode = replace(mode, precision=None)  # it may be large, and many modes are kept
        self._made = mode, inner
        kept = (lambda: inner) if len(mode.z) <= _KEPT else (lambda: self._again(mode))
        slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
        return Point(value, mode, slope, kept, inner.log_det, inner.log_det_error)

    def _again(self, mode: Mode) -> Gaussian:
        """Return the Gaussian at a mode; the last one is kept."""
        if self._made is None or self._made[0] is not mode:
            self._made = mode, self._inner(mode)[0]
        return self._made[1]

    def _guess(self, h: Tensor, table: int) -> Tensor:
        """Return where the conditional mode should be [dimension]."""
        z = self._nearest(h, table)
        if known := self.known.get(table):
            near = self._near(known, h)
            z[self.free] += near.slope @ (h - near.mode.z[self.held]).clamp(-1.0, 1.0)  # a slope holds nearby
        return z

    def _nearest(self, h: Tensor, table: int) -> Tensor:
        """Return the nearest conditional mode that is known, or the start, at these hyperparameters [dimension]."""
        known = self.known.get(table)
        z = (self._near(known, h).mode.z if known else self.start).clone()
        z[self.held] = h
        return z

    def _near(self, known: list[Point], h: Tensor) -> Point:
        away = torch.stack([point.mode.z[self.held] for point in known]) - h
        return known[int(away.square().sum(-1).argmin())]

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
        everything = torch.arange(view.dimension, device=view.device)
        self.held = torch.tensor(view.hyper, dtype=torch.int64, device=view.device)
        self.free = everything[~torch.isin(everything, self.held)]
        self.start = start
        self.known = {}
        self.iterations = 0

    def __call__(self, h: Tensor, tables: Tensor) -> list[Point]:
        """See `Profile`."""
        top = self._climbed(h, tables, self._guess)
        lost = torch.nonzero(~torch.isfinite(top.value)).flatten()
        if len(lost):  # a slope that did not hold led to where there is no density
            again = self._climbed(h[lost], tables[lost], self._nearest)
            if not torch.isfinite(again.value).all():
                raise FitError("no mode of the program is found given its hyperparameters; fit with method='svi'")
            top.z[lost], top.value[lost] = again.z, again.value
            top.precision[lost], top.converged[lost] = again.precision, again.converged
        inner = top.precision[:, self.free[:, None], self.free[None]]
        cross = top.precision[:, self.free[:, None], self.held[None]]
        found = []
        reached = zip(tables.tolist(), top.value.tolist(), top.converged.tolist(), strict=True)
        for k, (table, value, converged) in enumerate(reached):
            mode = Mode(top.z[k], value, converged, 0)
            found.append(self._found(mode, inner[k], cross[k]))
            self.known.setdefault(table, []).append(found[-1])
        return found

    def _climbed(self, h: Tensor, tables: Tensor, guess: Callable[[Tensor, int], Tensor]) -> Summits:
        guesses = [guess(each, k) for each, k in zip(h, tables.tolist(), strict=True)]
        top = climb(self.batch, torch.stack(guesses), tables, self.free)
        self.iterations += top.iterations
        return top

    def _found(self, mode: Mode, precision: Tensor, cross: Tensor) -> Point:
        inner = Dense(precision).gaussian()
        value = mode.value + inner.log_det + 0.5 * len(self.free) * LOG_2PI
        slope = -torch.stack([inner.covariance(column) for column in cross.T], 1)
        return Point(value, mode, slope, lambda: inner, inner.log_det, 0.0)


def profile_of(view: View, start: Tensor) -> Profile:
    """Return the profile of a view, points worked out together where they are small."""
    if view.program.type_layer is None and view.dimension <= _TOGETHER and view.work <= _WORK:
        batch = Batch(view)
        if batch.local is not None and batch.local.form is Dense:
            return BatchProfile(view, start, batch)
    return Profile(view, start)


def _forgotten() -> Gaussian:
    raise AssertionError("a Gaussian that was not kept")
