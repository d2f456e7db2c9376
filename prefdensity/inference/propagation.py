"""Expectation propagation: Gaussians with the moments of a posterior whose comparisons feel a margin and little else.

Where judgements are few for the parameters, a Gaussian at the mode is too narrow, and so is the one of the highest
evidence bound; both say too little for large scales of utilities, under which margins are most skewed. A comparison c
feels h_c: its margin, and with some programs one or two numbers that all share, such as an order effect. Its likelihood
is replaced by t_c(h) = s_c exp(nu_c h - h Lambda_c h / 2) such that q(z) = prior x product of all t_c has the mean and
covariance of h_c that it would have were t_c the likelihood itself (Minka 2001, UAI 17, 362-369). Without t_c what is
felt is normal (the cavity), so these moments and their norm Z_c are integrals in one to three dimensions. All t_c are
renewed at once until nothing moves. The evidence is the integral of q,

    log Z = sum_c log s_c + log of the integral of prior(z) exp(sum_c nu_c h_c - h_c Lambda_c h_c / 2),

which for logistic and probit likelihoods is nearly exact (Kuss and Rasmussen 2005, JMLR 6, 1679-1704). Scales keep
their grid, each place of it with the weight of its own evidence.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.curvature import Block, LocalCurvature, local_curvature, matrix_of
from prefdensity.inference.felt import PASS
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.leaves import Leaf, derivatives_of
from prefdensity.inference.mixture import Joint, Mixture
from prefdensity.inference.mode import first_guess
from prefdensity.inference.precision import Dense, Gaussian, Triangle
from prefdensity.inference.prior import Given, log_prior
from prefdensity.inference.view import View

_ROUNDS, _SETTLED = 40, 1e-4  # rounds at most; nats, and standard deviations of margins, that a last one may move
_DAMPED, _HALF = 8, 0.5  # rounds from which on approximations move by so much of the way
_LARGEST = 2_000  # coordinates of a matrix that is renewed a hundred times
# Numbers that a comparison feels, at most; and Gauss and Hermite's nodes along those that all comparisons share, which
# are known better than margins.
_FELT, _OTHERS = 3, 5
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


@dataclass(frozen=True)
class _Sites:
    """What stands for the likelihoods: log t_c(h) = const + pull_c h - h precision_c h / 2 of what c feels, h.

    `precision` [comparison, felt, felt], `pull` [felt, comparison].
    """

    precision: Tensor
    pull: Tensor

    def log_density(self, felt: Tensor) -> Tensor:
        """Return log t [comparison], without its constant, of what is felt [felt, comparison]."""
        return (felt * (self.pull - 0.5 * _times(self.precision, felt))).sum(0)

    def towards(self, other: _Sites, share: float) -> _Sites:
        """Return what lies so far on the way to others."""
        return _Sites(
            self.precision + share * (other.precision - self.precision), self.pull + share * (other.pull - self.pull)
        )


@dataclass(frozen=True)
class _Margins:
    """Normal laws of what comparisons feel: `mean` [felt, comparison], `precision` [comparison, felt, felt]."""

    mean: Tensor
    precision: Tensor

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor) -> _Margins:
        """Return those of means and covariances [comparison, felt, felt]."""
        sure = _SURE * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
        return cls(mean, torch.linalg.inv(covariance + sure))

    def without(self, sites: _Sites) -> _Margins | None:
        """Return the laws without the sites: the cavities; None where one is no law."""
        precision = self.precision - sites.precision
        lower, failed = torch.linalg.cholesky_ex(precision)
        if bool(failed.any()):
            return None
        pull = _times(self.precision, self.mean) - sites.pull
        return _Margins(torch.cholesky_solve(pull.T[..., None], lower)[..., 0].T, precision)

    def over(self, cavity: _Margins) -> _Sites:
        """Return the sites by which cavities become these."""
        pull = _times(self.precision, self.mean) - _times(cavity.precision, cavity.mean)
        return _Sites(self.precision - cavity.precision, pull)

    @property
    def log_mass(self) -> Tensor:
        """Log of what exp(pull h - h precision h / 2) holds [comparison], but for powers of 2 pi."""
        square = (self.mean * _times(self.precision, self.mean)).sum(0)
        return 0.5 * (square - torch.linalg.slogdet(self.precision)[1])

    @property
    def frame(self) -> Tensor:
        """Lower R with R R^T the covariance [comparison, felt, felt]."""
        return torch.linalg.cholesky(torch.linalg.inv(self.precision))

    @property
    def deviation(self) -> Tensor:
        """[felt, comparison]."""
        return torch.linalg.inv(self.precision).diagonal(dim1=-2, dim2=-1).sqrt().T


def _times(matrix: Tensor, felt: Tensor) -> Tensor:
    """Return matrices [comparison, felt, felt] times vectors [felt, comparison]."""
    return torch.einsum("cjk,kc->jc", matrix, felt)


def _blocks(leaves: list[Leaf], values: Tensor) -> list[Block]:
    return [(leaves[j], leaves[k], values[None, :, j, k]) for j, k in _pairs(len(leaves))]


def _covariances(leaves: list[Leaf], covariance: Tensor) -> Tensor:
    """Return the covariances [comparison, felt, felt] of what is felt, given that of z [dimension, dimension]."""
    count = leaves[0].value.shape[-1]
    out = covariance.new_empty(count, len(leaves), len(leaves))
    for j, k in _pairs(len(leaves)):
        out[:, j, k] = out[:, k, j] = leaves[j].covariance_with(leaves[k], covariance).expand(count)
    return out


def _pairs(size: int) -> list[tuple[int, int]]:
    return list(itertools.combinations_with_replacement(range(size), 2))


class Propagation:
    """Expectation propagation on a view, with its scales held.

    Attributes
    ----------
    held, free
        Coordinates of the scales, and of the rest.
    """

    def __init__(self, view: View, local: LocalCurvature, held: tuple[int, ...], near: Tensor) -> None:
        self.view, self.local = view, local
        everything = torch.arange(view.dimension, device=view.device)
        self.held = torch.tensor(held, dtype=torch.int64, device=view.device)
        self.free = everything[~torch.isin(everything, self.held)]
        reach, count = _LOOKED
        felt = self._felt(near)[1]
        looks = torch.linspace(-reach, reach, count, dtype=view.dtype, device=view.device)
        curved = [self._bent(torch.cat([look.expand(1, felt.shape[1]), felt[1:]]))[1][:, 0, 0] for look in looks]
        self._sharpest = (-torch.stack(curved).amin(0)).clamp_min(0.0).sqrt()

    def __call__(self, start: Tensor) -> _Found | None:
        """Return the Gaussian that is reached from a mode `start` [dimension]; None: nothing settles."""
        prior = Given(self.view, start[None])
        at_start, (leaves, felt) = prior(start[None]), self._felt(start)
        own = -at_start.diagonal[0, self.free]
        pull = at_start.gradient[0, self.free] + own * start[self.free]
        nothing = start.clone()
        nothing[self.free] = 0.0
        at_zero = self._felt(nothing)[1]
        sites = self._at_mode(felt)
        before, seen = math.inf, felt
        for turn in range(_ROUNDS):
            (pairs,) = matrix_of(_blocks(leaves, sites.precision), start[None])
            lower, failed = torch.linalg.cholesky_ex(self._of_free(pairs) + own.diag())
            if failed:
                return None
            covariance = torch.cholesky_inverse(lower)
            by_all = torch.zeros_like(start)
            for leaf, slope in zip(leaves, sites.pull - _times(sites.precision, at_zero), strict=True):
                by_all[leaf.at] += leaf.pullback(slope[None])[0]
            mean = start.clone()
            mean[self.free] = covariance @ (pull + by_all[self.free])
            here = _Margins.of(self._felt(mean)[1], _covariances(leaves, self._whole(covariance)))
            away = here.without(sites)
            if away is None:
                return None
            log_norm, tilted = self._moments(away)
            log_det = -float(lower.diagonal().log().sum())
            log_scale = log_norm - here.log_mass + away.log_mass
            evidence = float((log_scale + sites.log_density(here.mean)).sum() + prior(mean[None]).value[0])
            evidence += 0.5 * len(self.free) * LOG_2PI + log_det
            moved = float(((here.mean - seen).abs() / here.deviation).max())
            if not math.isfinite(evidence):
                return None
            if abs(evidence - before) < _SETTLED and moved < _SETTLED**0.5:
                return _Found(mean, Triangle(lower, log_det), evidence, turn + 1)
            before, seen = evidence, here.mean
            sites = sites.towards(tilted.over(away), 1.0 if turn < _DAMPED else _HALF)
        return None

    def _of_free(self, matrix: Tensor) -> Tensor:
        return matrix[self.free[:, None], self.free[None]]

    def _whole(self, matrix: Tensor) -> Tensor:
        out = matrix.new_zeros(self.view.dimension, self.view.dimension)
        out[self.free[:, None], self.free[None]] = matrix
        return out

    def _felt(self, z: Tensor) -> tuple[list[Leaf], Tensor]:
        """Return what comparisons feel at z [dimension], the margin first, and its values [felt, comparison]."""
        leaves = self.local.leaves(z[None])
        return leaves, torch.cat([leaf.value for leaf in leaves])

    def _log_likelihood(self, felt: list[Tensor], rows: slice) -> Tensor:
        """Return the log likelihood [node, comparison] of some comparisons at what they feel, each such a table."""
        assert self.view.cells.outcome is not None  # a view has data
        margin, *others = felt
        return (self.view.cells.outcome[rows] * self.local.felt.log_prob(margin, others, rows)).sum(-1)

    def _at_mode(self, felt: Tensor) -> _Sites:
        """Return the parabolas that touch log likelihoods at what is felt [felt, comparison], none upside down."""
        slope, curved = self._bent(felt)
        values, vectors = torch.linalg.eigh(-curved)
        precision = (vectors * values.clamp_min(_LEAST).unsqueeze(-2)) @ vectors.mT
        return _Sites(precision, slope + _times(precision, felt))

    def _bent(self, felt: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes [felt, comparison] and second derivatives [comparison, felt, felt] of log likelihoods."""
        free = [each[None].detach().clone().requires_grad_() for each in felt]
        with torch.enable_grad():
            first, second = derivatives_of(self._log_likelihood(free, slice(None)), free)
        curved = felt.new_zeros(felt.shape[1], len(felt), len(felt))
        for (j, k), value in second.items():
            curved[:, j, k] = curved[:, k, j] = value[0]
        return torch.cat(first), curved

    def _moments(self, cavity: _Margins) -> tuple[Tensor, _Margins]:
        """Return the log norms [comparison] of likelihoods times cavities, and the laws with their moments."""
        frame = cavity.frame
        apart = min(_APART, _STEP / float((frame[:, 0, 0] * self._sharpest).max().clamp_min(_LEAST)))
        x, weight = (each.to(frame) for each in _nodes(apart, len(cavity.mean)))
        step, parts = max(1, PASS // len(x)), []
        for start in range(0, len(frame), step):
            rows = slice(start, start + step)
            felt = cavity.mean[:, rows] + torch.einsum("nk,cjk->njc", x, frame[rows])
            density = weight[:, None] + self._log_likelihood(list(felt.unbind(1)), rows)
            norm = density.logsumexp(0)
            share = (density - norm).exp()
            mean = torch.einsum("nc,njc->jc", share, felt)
            off = felt - mean
            parts.append((norm, mean, torch.einsum("nc,njc,nkc->cjk", share, off, off)))
        norm, mean, covariance = (
            torch.cat(each, axis) for each, axis in zip(zip(*parts, strict=True), (0, 1, 0), strict=True)
        )
        return norm, _Margins(mean, torch.linalg.inv(covariance))


def _nodes(apart: float, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return nodes [node, dimension] of the standard normal law, so far apart along the first, and log weights."""
    count = math.ceil(_REACH / apart)
    first = apart * np.arange(-count, count + 1)
    others, weight = np.polynomial.hermite_e.hermegauss(_OTHERS)
    lines = [(first, -0.5 * first**2), *[(others, np.log(weight))] * (dimensions - 1)]
    at = torch.tensor(list(itertools.product(*(line for line, _ in lines))), dtype=torch.float64)
    weights = torch.tensor(list(itertools.product(*(own for _, own in lines))), dtype=torch.float64)
    return at, weights.sum(-1).log_softmax(0)


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
