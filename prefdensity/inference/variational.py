"""The best Gaussian for a program whose curvature is local, by a deterministic fixed point.

Of q = N(m, S), a comparison feels the means and covariances of a few numbers alone: its margin, the reliability of
who judged. So the expectations of its log likelihood and of its derivatives are integrals in one to a few dimensions,
which nodes and weights give without chance. The evidence bound is highest where S^-1 = -E q[Hessian] and E q[gradient]
= 0 (Opper and Archambeau 2009, Neural Computation 21, 786-792): the precision is set to the former and the mean takes
a Newton step with it, by halves where the bound would fall (natural gradients; Khan and Lin 2017, AISTATS).

The prior of an entry hangs on the scalars above it, so its expectation is one over the entry and these.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.curvature import (
    LocalCurvature,
    local_curvature,
    matrix_of,
    summed,
)
from prefdensity.inference.felt import at_once
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mixture import Joint, Mixture
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, Free, Gaussian, Triangle, cholesky, steepened, told_by
from prefdensity.inference.prior import Prior, bending, log_prior
from prefdensity.inference.view import View

# Nodes along each of one dimension and of two, whose every corner is a node.
_NODES = {1: 9, 2: 5}
# Nodes along an entry and each of the scalars that its prior hangs on, by the number of these; there may be no more.
_PRIOR_NODES = (9, 5, 3, 3)
_ROUNDS, _ENOUGH = 60, 1e-2  # nats that may be left to gain
_SMALLEST = 1e-3  # of a step
_BETWEEN = -1.0, 0.8  # share of the turn before in the next
_SURE = 1e-14  # variance of what is known
_MATRIX = 2000  # coordinates of one matrix, where annotators' own entries could be kept apart
_COUNTS = 1e-3  # share of a Laplace approximation's place of the grid from which on it is kept


@dataclass(frozen=True)
class Best:
    """A Gaussian: its mean [dimension], the precision of the free coordinates, and its evidence bound (nats).

    `inner` is the Gaussian of the free coordinates about the mean; `target` minus the expected Hessian [dimension,
    dimension], coordinates that are held among them.
    """

    mean: Tensor
    precision: Tensor
    inner: Triangle
    target: Tensor
    bound: float
    rounds: int


def nodes(dimensions: int, sparing: bool = False) -> tuple[Tensor, Tensor]:
    """Return nodes [node, dimension] and weights [node] of the standard normal law, exact up to degree 5 or more.

    Products of Gauss and Hermite's in one dimension and, unless `sparing`, in two; beyond, 2 d^2 + 1 nodes on the axes
    and between two of them (McNamee and Stenger 1967, Numerische Mathematik 10, 327-344).
    """
    if dimensions in _NODES and not (sparing and dimensions > 1):
        x, w = np.polynomial.hermite_e.hermegauss(_NODES[dimensions])
        axes = torch.tensor(list(itertools.product(x, repeat=dimensions)), dtype=torch.float64)
        weights = torch.tensor(list(itertools.product(w / w.sum(), repeat=dimensions)), dtype=torch.float64)
        return axes, weights.prod(-1)
    d = dimensions
    eye = torch.eye(d, dtype=torch.float64)
    along = math.sqrt(d + 2) * torch.cat([eye, -eye])
    pairs = [eye[i] * s + eye[j] * t for i, j in itertools.combinations(range(d), 2) for s in (1, -1) for t in (1, -1)]
    between = math.sqrt((d + 2) / 2) * torch.stack(pairs)
    shares = [2 / (d + 2)] + [(4 - d) / (2 * (d + 2) ** 2)] * len(along) + [1 / (d + 2) ** 2] * len(between)
    return torch.cat([0 * eye[:1], along, between]), torch.tensor(shares, dtype=torch.float64)


class Expected:
    """Expectations of a log joint density under Gaussians with some coordinates held.

    Attributes
    ----------
    sparing
        See `nodes`.
    dimensions
        How many numbers comparisons felt at the last place.
    """

    def __init__(self, view: View, local: LocalCurvature, held: Tensor, sparing: bool = False) -> None:
        self.view, self.local, self.sparing, self.dimensions = view, local, sparing, 0
        self.free = Free.beside(held, view.dimension)
        self.above = [k for k in bending(view) if k in set(self.free.at.tolist())]

    def at_mode(self, z: Tensor) -> Tensor:
        """Return minus the Hessian of the free coordinates at z [dimension]."""
        hessian = self.local.batch(z[None], log_prior(self.view, z[None]))[2][0]
        return self.free.of(-hessian)

    def __call__(self, mean: Tensor, covariance: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return E q[log p] (nats), E q[gradient] [dimension] and -E q[Hessian] [dimension, dimension]."""
        whole = self.free.among(covariance)
        leaves = self.local.leaves(mean[None])
        count = len(self.view.cells)
        own = [leaf.covariance_with(leaf, whole).expand(count) for leaf in leaves]
        felt = [k for k, variance in enumerate(own) if bool((variance > _SURE).any())]
        beside = [
            [leaves[j].covariance_with(leaves[k], whole).expand(count) for k in felt[:i]] for i, j in enumerate(felt)
        ]
        root = _roots([[*row, own[j]] for row, j in zip(beside, felt, strict=True)])
        self.dimensions = len(felt)
        at, weight = (each.to(mean) for each in nodes(len(felt), self.sparing))
        step = max(1, at_once(mean.device) // len(at))
        parts = []
        for start in range(0, max(1, count), step):
            rows = slice(start, start + step)
            shift = [mean.new_zeros(())] * len(leaves)
            for k, of in zip(felt, root, strict=True):
                shift[k] = at[:, : len(of)] @ torch.stack([each[rows] for each in of])
            parts.append(self.local.derivatives(leaves, rows, shift, weight[:, None]))
        value, gradient, blocks = summed(leaves, parts, mean[None])
        hessian = matrix_of(blocks, mean[None])
        prior = self._prior(mean, whole)
        prior.add_to(hessian)
        return float(value[0] + prior.value[0]), (gradient + prior.gradient)[0], hessian[0].neg_()

    def _prior(self, mean: Tensor, whole: Tensor) -> Prior:
        above = torch.tensor(self.above, dtype=torch.int64, device=mean.device)
        x, w = np.polynomial.hermite_e.hermegauss(_PRIOR_NODES[len(self.above)])
        size = len(above) + 1
        at = torch.tensor(list(itertools.product(x, repeat=size)), dtype=torch.float64).to(mean)
        weight = torch.tensor(list(itertools.product(w / w.sum(), repeat=size)), dtype=torch.float64).prod(-1).to(mean)
        lower = torch.linalg.cholesky(whole[above[:, None], above[None]])
        along = torch.linalg.solve_triangular(lower, whole[above], upper=False)  # [above, dimension]
        rest = (whole.diagonal() - along.square().sum(0)).clamp_min(0.0).sqrt()
        rest[above] = 0.0
        z = mean + at[:, :-1] @ along + at[:, -1:] * rest
        return log_prior(self.view, z).averaged(weight)


def _roots(covariance: list[list[Tensor]]) -> list[list[Tensor]]:
    """Return Cholesky factors of covariances, entry by entry [comparison], from the lower half of them.

    What has no variance has no root.
    """
    size = len(covariance)
    root: list[list[Tensor]] = [[] for _ in range(size)]
    for i in range(size):
        for j in range(i + 1):
            left = covariance[i][j] - sum((root[i][k] * root[j][k] for k in range(j)), torch.zeros(()))
            if i == j:
                root[i].append(left.clamp_min(0.0).sqrt())
            else:
                root[i].append(torch.where(root[j][j] > 1e-12, left / root[j][j].clamp_min(1e-12), 0.0))
    return root


@dataclass(frozen=True)
class _Place:
    """A Gaussian with the Cholesky factor of its precision, and what is expected there; see `Best`."""

    mean: Tensor
    lower: Tensor
    bound: float
    gradient: Tensor
    target: Tensor


def best(expected: Expected, here: _Place, precision: Tensor) -> Best:
    """Return the best Gaussian reached from a place, that of a precision of the free coordinates."""
    free, gain = expected.free.at, 0.0
    size, done, share = 1.0, 0, 0.5
    last: _Turn | None = None
    while done < _ROUNDS and size > _SMALLEST:
        done += 1
        turn = _Turn.at(here, precision, expected)
        back = 0.0 if last is None else turn.share_of(last)
        aim = turn.target if last is None else turn.target - back * (turn.target - last.target)
        mixed = aim if size == 1.0 else (1 - size) * precision + size * aim
        lower, failed = cholesky(mixed)
        there = None
        if not failed:
            step = torch.cholesky_solve(here.gradient[free, None], lower)[:, 0]
            turn = replace(turn, mean=here.mean[free] + step)
            if last is not None:
                step = step - back * (turn.mean - last.mean)
            mean = here.mean.clone()
            mean[free] += size * step
            there = _at(expected, mean, lower)
        if there is None or not there.bound > here.bound - _ENOUGH:
            size, last = size / 2, None
            continue
        last = turn
        before, gain = gain, abs(there.bound - here.bound)
        if before > 0:  # gains fall by the same share at every turn
            share = min(gain / before, 0.9)
        here, precision = there, mixed
        if size == 1.0 and gain * share / (1 - share) < _ENOUGH:
            break
        size = min(1.0, 2 * size)
    return Best(
        here.mean, precision, Triangle(here.lower, float(told_by(here.lower)[1])), here.target, here.bound, done
    )


@dataclass(frozen=True)
class _Turn:
    """Where a turn of the fixed point leads: a `target` of the precision and a `mean` of the free coordinates.

    `off`: how far that is, with the precision for a unit.
    """

    target: Tensor
    mean: Tensor
    off: Tensor

    @classmethod
    def at(cls, here: _Place, precision: Tensor, expected: Expected) -> _Turn:
        target, slope = expected.free.of(here.target), here.gradient[expected.free.at]
        scale = target.diagonal().rsqrt()
        off = (scale[:, None] * (target - precision) * scale).flatten() / math.sqrt(2)
        step = torch.linalg.solve_triangular(here.lower, slope[:, None], upper=False)[:, 0]
        return cls(target, here.mean[expected.free.at], torch.cat([off, step]))

    def share_of(self, before: _Turn) -> float:
        """Return how much of the turn before to take away from this one: what turns back and forth is then at its end.

        Anderson (1965), Journal of the ACM 12, 547-560.
        """
        turned = self.off - before.off
        return float(((self.off @ turned) / turned.square().sum().clamp_min(1e-300)).clamp(*_BETWEEN))


def _at(expected: Expected, mean: Tensor, lower: Tensor) -> _Place:
    value, gradient, target = expected(mean, torch.cholesky_inverse(lower))
    entropy = 0.5 * len(lower) * (1 + LOG_2PI) - float(lower.diagonal().log().sum())
    return _Place(mean, lower, value + entropy, gradient, target)


def has_best(view: View) -> bool:
    """Whether the best Gaussian of a view can be found here: its curvature is local, and fits a matrix."""
    if view.program.type_layer is not None:
        return False
    local = local_curvature(view, first_guess(view))
    return local is not None and (local.form is Dense or view.dimension <= _MATRIX)


@dataclass(frozen=True)
class Climb:
    """The way from a Laplace approximation to the best Gaussians; `first` is where the first of them starts.

    `spread`: the Gaussians on the way, the best ones in the place of those that they start from: there is no more room
    than for one of each.
    """

    found: Mixture
    spread: list[Gaussian]
    expected: Expected
    precision: Tensor
    first: _Place

    @property
    def gain(self) -> float:
        """The nats of evidence bound that one step of the mean promises."""
        slope = self.first.gradient[self.expected.free.at]
        return 0.5 * float(slope @ torch.cholesky_solve(slope[:, None], self.first.lower)[:, 0])

    def top(self) -> Mixture:
        """Return the mixture of the best Gaussians.

        Hyperparameters keep their grid, each place of it with the weight of its own bound; where they are so sharply
        known that there is no grid they are coordinates like others.
        """
        found, expected, spread = self.found, self.expected, self.spread
        part = best(expected, self.first, self.precision)
        change = part.mean - self.first.mean, part.precision - self.precision
        means, bounds, rounds = [], [], []
        for k, base in enumerate(found.base):
            if k:
                part = best(expected, *_start(expected, base, spread[k], *change))
            means.append(part.mean)
            bounds.append(part.bound)
            rounds.append(part.rounds)
            spread[k] = part.inner if expected.free.all else _joined(part, spread[k], expected)
        bound = torch.tensor(bounds, dtype=torch.float64)
        top = int(bound.argmax())
        return replace(
            found,
            weight=bound.softmax(0).to(found.base),
            base=torch.stack(means),
            spread=tuple(spread),
            converged=max(rounds) < _ROUNDS,
            iterations=sum(rounds),
            mode=replace(found.mode, z=means[top], value=bounds[top]),
            whole=spread[top],
        )


def climb_from(view: View, found: Mixture) -> Climb | None:
    """Return the way from a Laplace approximation; None: the program's curvature is not local, or too large."""
    if not has_best(view):
        return None
    local = local_curvature(view, found.mode.z)
    assert local is not None
    grid = len(found.weight) > 1
    if grid and not all(isinstance(spread, Joint) for spread in found.spread):
        return None
    held = torch.tensor(view.hyper if grid else (), dtype=torch.int64, device=view.device)
    expected = Expected(view, local, held)
    if len(expected.above) >= len(_PRIOR_NODES):
        return None
    kept = found.only(found.weight > _COUNTS) if grid else found
    first, precision = _start(expected, kept.base[0], kept.spread[0])
    if expected.dimensions == 2:  # nine nodes serve as well as 25 where the bound is the same at the widest Gaussian
        sparing = Expected(view, local, held, sparing=True)
        base, spread = max(zip(kept.base, kept.spread, strict=True), key=lambda each: each[1].log_det)
        by_all, by_few = (_start(each, base, spread)[0].bound for each in (expected, sparing))
        if abs(by_all - by_few) < _ENOUGH:
            expected, first = sparing, _start(sparing, kept.base[0], kept.spread[0])[0]
    return Climb(replace(kept, spread=()), list(kept.spread), expected, precision, first)


def _start(
    expected: Expected, base: Tensor, spread: Gaussian, shift: Tensor | float = 0.0, more: Tensor | float = 0.0
) -> tuple[_Place, Tensor]:
    """Return where a climb starts, with its precision: a mode, both changed, what is flat there with a unit prior's.

    `spread`: the Laplace approximation about the mode.
    """
    inner = spread.inner() if isinstance(spread, Joint) and not expected.free.all else None
    known = inner.lower @ inner.lower.mT if isinstance(inner, Triangle) else expected.at_mode(base)
    precision = known + more
    lower, failed = cholesky(precision)
    if failed:  # noise that is mixed in has no curvature to speak of somewhere
        precision = steepened(precision)
        lower = torch.linalg.cholesky(precision)
    return _at(expected, base + shift, lower), precision


def _joined(part: Best, joint: Gaussian, expected: Expected) -> Joint:
    """Return the Gaussian of hyperparameters of a place of the grid and the rest, the best one given them."""
    assert isinstance(joint, Joint)
    cross = part.target[expected.free.at[:, None], joint.hyper[None]]
    slope = -torch.stack([part.inner.covariance(column) for column in cross.T], 1)
    log_det = part.inner.log_det + float(torch.linalg.slogdet(joint.axes)[1])
    inner = part.inner  # the part has two matrices more
    return replace(joint, slope=slope, inner=lambda: inner, log_det=log_det, log_det_error=0.0)
