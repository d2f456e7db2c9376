"""Expectation propagation: Gaussians with the moments of a posterior whose comparisons feel their margins alone.

Where judgements are few for the parameters, a Gaussian at the mode is too narrow, and so is the one of the highest
evidence bound; both say too little for large scales of utilities, under which margins are most skewed. Here the
likelihood of each comparison c is replaced by t_c(m) = s_c exp(nu_c m - tau_c m^2 / 2) of its margin m such that
q(z) = prior x product of all t_c has the mean and variance of m that it would have were t_c the likelihood itself
(Minka 2001, UAI 17, 362-369). Without t_c the margin is normal (the cavity), so these moments and their norm Z_c are
integrals in one dimension. All t_c are renewed at once until nothing moves. The evidence is the integral of q,

    log Z = sum_c log s_c + log of the integral of prior(z) exp(sum_c nu_c m_c - tau_c m_c^2 / 2),

which for logistic and probit likelihoods is nearly exact (Kuss and Rasmussen 2005, JMLR 6, 1679-1704). Scales keep
their grid, each place of it with the weight of its own evidence.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.inference.curvature import LocalCurvature, local_curvature, matrix_of
from prefdensity.inference.felt import PASS
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.leaves import derivatives_of
from prefdensity.inference.mixture import Joint, Mixture
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, Gaussian, Triangle
from prefdensity.inference.prior import Given, log_prior
from prefdensity.inference.view import View

_ROUNDS, _SETTLED = 40, 1e-4  # rounds at most; nats, and standard deviations of margins, that a last one may move
_DAMPED, _HALF = 8, 0.5  # rounds from which on approximations move by so much of the way
_LARGEST = 2_000  # coordinates of a matrix that is renewed a hundred times
_SURE = 1e-12  # variance of a margin that nothing can change, such as that of two answers with the same features
_LEAST = 1e-6  # curvature of a comparison's approximation to begin with
# The trapezoidal rule, whose error falls exponentially with the distance of nodes for what is analytic (Trefethen and
# Weideman 2014, SIAM Review 56, 385-458): that distance at most, in standard deviations of the cavity and in those that
# the likelihood would have where it is most curved; and how far nodes reach.
_APART, _STEP, _REACH = 0.9, 0.7, 6.5
# Width of the Gaussians about places of a grid, in distances between these: so much less than those of a Laplace
# approximation, which weights correct, that the whole is hardly wider for it.
_WITHIN = 0.4
_COUNTS, _PLACES = 9.0, 60  # nats below the top at which places of a grid still count, and how many there may be
_LOOKED = 8.0, 33  # margins at which it is looked how curved: from minus to plus the first, so many


@dataclass(frozen=True)
class _Found:
    """A Gaussian: its mean [dimension], the free coordinates about it, and the log evidence (nats)."""

    mean: Tensor
    inner: Triangle
    log_evidence: float
    rounds: int


class Propagation:
    """Expectation propagation on a view, with its scales held.

    Attributes
    ----------
    held, free
        Coordinates of the scales, and of the rest.
    """

    def __init__(self, view: View, local: LocalCurvature, held: tuple[int, ...]) -> None:
        self.view, self.local = view, local
        everything = torch.arange(view.dimension, device=view.device)
        self.held = torch.tensor(held, dtype=torch.int64, device=view.device)
        self.free = everything[~torch.isin(everything, self.held)]
        reach, count = _LOOKED
        margin = torch.linspace(-reach, reach, count, dtype=view.dtype, device=view.device)
        curved = [self._bent(each.expand(len(view.cells)))[1] for each in margin]
        self._sharpest = (-torch.stack(curved).amin(0)).clamp_min(0.0).sqrt()

    def __call__(self, start: Tensor) -> _Found | None:
        """Return the Gaussian that is reached from a mode `start` [dimension]; None: nothing settles."""
        prior = Given(self.view, start[None])
        at_start, leaf = prior(start[None]), self.local.leaves(start[None])[0]
        own = -at_start.diagonal[0, self.free]
        pull = at_start.gradient[0, self.free] + own * start[self.free]
        nothing = start.clone()
        nothing[self.free] = 0.0
        at_zero = self.local.leaves(nothing[None])[0].value[0]
        tau, nu = self._at_mode(leaf.value[0])
        before, seen = math.inf, leaf.value[0]
        for turn in range(_ROUNDS):
            (pairs,) = matrix_of([(leaf, leaf, tau[None])], start[None])
            lower, failed = torch.linalg.cholesky_ex(self._of_free(pairs) + own.diag())
            if failed:
                return None
            covariance = torch.cholesky_inverse(lower)
            by_all = torch.zeros_like(start)
            by_all[leaf.at] = leaf.pullback((nu - tau * at_zero)[None])[0]
            mean = start.clone()
            mean[self.free] = covariance @ (pull + by_all[self.free])
            margin = self.local.leaves(mean[None])[0].value[0]
            variance = leaf.covariance_with(leaf, self._whole(covariance)).expand(len(margin)).clamp_min(_SURE)
            precise = 1 / variance - tau  # of the cavity
            if not bool((precise > 0).all()):
                return None
            cavity, middle = 1 / precise, (margin / variance - nu) / precise
            log_norm, first, second = self._moments(middle, cavity)
            log_scale = log_norm - 0.5 * ((variance / cavity).log() + margin**2 / variance - middle**2 / cavity)
            exponent = (nu * margin - 0.5 * tau * margin**2).sum() + prior(mean[None]).value[0]
            log_det = -float(lower.diagonal().log().sum())
            evidence = float(log_scale.sum() + exponent) + 0.5 * len(self.free) * LOG_2PI + log_det
            moved = float(((margin - seen).abs() / variance.sqrt()).max())
            if not math.isfinite(evidence):
                return None
            if abs(evidence - before) < _SETTLED and moved < _SETTLED**0.5:
                return _Found(mean, Triangle(lower, log_det), evidence, turn + 1)
            before, seen, by = evidence, margin, 1.0 if turn < _DAMPED else _HALF
            tau = tau + by * (1 / second - precise - tau)
            nu = nu + by * (first / second - middle * precise - nu)
        return None

    def _of_free(self, matrix: Tensor) -> Tensor:
        return matrix[self.free[:, None], self.free[None]]

    def _whole(self, matrix: Tensor) -> Tensor:
        out = matrix.new_zeros(self.view.dimension, self.view.dimension)
        out[self.free[:, None], self.free[None]] = matrix
        return out

    def _log_likelihood(self, margin: Tensor, rows: slice) -> Tensor:
        """Return the log likelihood [node, comparison] of some comparisons at margins [node, comparison]."""
        assert self.view.cells.outcome is not None  # a view has data
        return (self.view.cells.outcome[rows] * self.local.felt.log_prob(margin, [], rows)).sum(-1)

    def _at_mode(self, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Return tau and nu [comparison] of the parabolas that touch log likelihoods at margins [comparison]."""
        slope, curved = self._bent(margin)
        tau = (-curved).clamp_min(_LEAST)
        return tau, slope + tau * margin

    def _bent(self, margin: Tensor) -> tuple[Tensor, Tensor]:
        """Return the first and second derivative [comparison] of log likelihoods at margins [comparison]."""
        free = [margin.detach().clone().requires_grad_()]
        with torch.enable_grad():
            (slope,), curved = derivatives_of(self._log_likelihood(free[0][None], slice(None)), free)
        return slope, curved.get((0, 0), torch.zeros_like(slope))

    def _moments(self, middle: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log norm of likelihood times cavity, and its mean and variance, all [comparison]."""
        deviation = variance.sqrt()
        apart = min(_APART, _STEP / float((deviation * self._sharpest).max().clamp_min(_LEAST)))
        count = math.ceil(_REACH / apart)
        x = apart * torch.arange(-count, count + 1, dtype=middle.dtype, device=middle.device)[:, None]
        weight = (-0.5 * x**2).log_softmax(0)
        step, parts = max(1, PASS // len(x)), []
        for start in range(0, len(middle), step):
            rows = slice(start, start + step)
            margin = middle[rows] + x * deviation[rows]
            density = weight + self._log_likelihood(margin, rows)
            norm = density.logsumexp(0)
            share = (density - norm).exp()
            mean = (share * margin).sum(0)
            parts.append(torch.stack([norm, mean, (share * (margin - mean) ** 2).sum(0)]))
        log_norm, first, second = torch.cat(parts, 1)
        return log_norm, first, second


def has_propagation(view: View) -> bool:
    """Whether comparisons of a view feel their margins alone, and all the rest is normal given its scales."""
    if view.program.type_layer is not None or view.cells.ratings is not None or view.dimension > _LARGEST:
        return False
    start = first_guess(view)
    local = local_curvature(view, start)
    if local is None or local.form is not Dense or local.felt.parts:
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
    run = Propagation(view, local, view.hyper)
    steps = _steps(found) if grid else torch.zeros(1, 0)
    there = _places(run, found, steps)
    if there is None:
        return None
    places = [place for place, _ in there]
    evidence = torch.tensor([place.log_evidence for place in places], dtype=torch.float64)
    within = _axes(found) * torch.where(_wide(steps), _WITHIN, 1.0) if grid else None
    spread = tuple(_joined(view, run, *each, within) for each in there)
    top = int(evidence.argmax())
    return replace(
        found,
        weight=evidence.softmax(0).to(found.base),
        base=torch.stack([place.mean for place in places]),
        spread=spread,
        iterations=sum(place.rounds for place in places),
        mode=replace(found.mode, z=places[top].mean),
        log_evidence=float(evidence.logsumexp(0)) + _cell(view, found),
        whole=_joined(view, run, places[top], found.whole, None),
        matched=True,
    )


def _axes(found: Mixture) -> Tensor:
    """Return A of the Gaussian [hyper, hyper] of the scales about every place of a grid; its axes are steps of it."""
    first = found.spread[0]
    assert isinstance(first, Joint)
    return first.axes


def _steps(found: Mixture) -> Tensor:
    """Return how many steps places of a grid are from its first along each axis [place, hyper]."""
    first = found.spread[0]
    assert isinstance(first, Joint)
    h = found.base[:, first.hyper]
    return torch.linalg.solve(first.axes, (h - h[0]).T).T.round()


def _wide(steps: Tensor) -> Tensor:
    """Return which axes [hyper] have places along them."""
    return (steps != 0).any(0)


def _places(run: Propagation, found: Mixture, steps: Tensor) -> list[tuple[_Found, Gaussian]] | None:
    """Return what is found at each place of a grid, and beyond it while that counts, with the Gaussian there before.

    None: somewhere nothing settles.
    """
    done: dict[tuple[float, ...], tuple[_Found, Gaussian]] = {}
    wide = torch.nonzero(_wide(steps)).flatten().tolist()
    wave = dict(zip(map(tuple, steps.tolist()), zip(found.base, found.spread, strict=True), strict=True))
    while wave:
        for step, (base, spread) in wave.items():
            place = run(base)
            if place is None:
                return None
            done[step] = place, spread
        least = max(place.log_evidence for place, _ in done.values()) - _COUNTS
        wave = {}
        for step, (place, spread) in done.items():
            for axis, side in itertools.product(wide, (1, -1)):
                near = (*step[:axis], step[axis] + side, *step[axis + 1 :])
                if place.log_evidence > least and near not in done and len(done) + len(wave) < _PLACES:
                    base = place.mean.clone()
                    base[run.held] += side * _axes(found)[:, axis]
                    wave[near] = base, spread
    return list(done.values())


def _joined(view: View, run: Propagation, place: _Found, spread: Gaussian, axes: Tensor | None) -> Gaussian:
    """Return the Gaussian of the scales of a place of the grid and of the rest given them; `axes`: for the scales'."""
    if not isinstance(spread, Joint):
        return place.inner
    hessian = place.mean.new_zeros(1, view.dimension, view.dimension)
    log_prior(view, place.mean[None]).add_to(hessian)
    cross = -hessian[0][run.free[:, None], spread.hyper[None]]
    slope = -torch.stack([place.inner.covariance(column) for column in cross.T], 1)
    axes = spread.axes if axes is None else axes
    log_det = place.inner.log_det + float(torch.linalg.slogdet(axes)[1])
    return replace(spread, axes=axes, slope=slope, inner=lambda: place.inner, log_det=log_det, log_det_error=0.0)


def _cell(view: View, found: Mixture) -> float:
    """Return by how much the log evidence of a Laplace approximation is more than that of the rest at its places."""
    if not view.hyper:
        return 0.0
    first = found.spread[0]
    assert isinstance(first, Joint)
    there = float(view.log_joint(found.base[:1])[0]) + 0.5 * len(first.free) * LOG_2PI + first.inner().log_det
    return found.log_evidence + float(found.weight[0].log()) - there
