"""Expectation propagation: Gaussians with the moments of a posterior whose comparisons feel a margin and little else.

Where judgements are few for the parameters, a Gaussian at the mode is too narrow, and so is the one of the highest
evidence bound; both say too little for large scales of utilities, under which margins are most skewed. A comparison c
feels h_c: its margin, and with some programs one or two numbers that all share, such as an order effect. Its likelihood
is replaced by t_c(h) = s_c exp(nu_c h - h Lambda_c h / 2) such that q(z) = prior x product of all t_c has the mean and
covariance of h_c that it would have were t_c the likelihood itself (Minka 2001, UAI 17, 362-369). Without t_c what is
felt is normal (the cavity), so these moments and their norm Z_c are integrals in one to three dimensions. All t_c are
renewed at once until nothing moves. The evidence is the integral of q,

    log Z = sum_c log s_c + log of the integral of prior(z) exp(sum_c nu_c h_c - h_c Lambda_c h_c / 2),

which for logistic and probit likelihoods is nearly exact (Kuss and Rasmussen 2005, JMLR 6, 1679-1704).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.curvature import Block, LocalCurvature, matrix_of
from prefdensity.inference.felt import at_once
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.leaves import Leaf, derivatives_of
from prefdensity.inference.precision import Free, Triangle, cholesky
from prefdensity.inference.prior import Given
from prefdensity.inference.terms import Laws, Terms, pairs, times
from prefdensity.inference.view import View

_ROUNDS, _SETTLED = 40, 1e-4  # rounds at most; nats, and standard deviations of margins, that a last one may move
_DAMPED, _HALF = 8, 0.5  # rounds from which on approximations move by so much of the way
# Gauss and Hermite's nodes along what all comparisons share, which is known better than margins.
_OTHERS = 5
_MATRICES = 2**14  # whose axes are found together: an accelerator's libraries refuse more than twice as many
_LEAST = 1e-6  # curvature of a comparison's approximation to begin with
# The trapezoidal rule, whose error falls exponentially with the distance of nodes for what is analytic (Trefethen and
# Weideman 2014, SIAM Review 56, 385-458): that distance at most, in standard deviations of the cavity and in those that
# the likelihood would have where it is most curved; and how far nodes reach.
_APART, _STEP, _REACH = 0.9, 0.7, 6.5
_LOOKED = 8.0, 33  # margins at which it is looked how curved: from minus to plus the first, so many
_TWO_AND_TWO = ("ij", "kl"), ("ik", "jl"), ("il", "jk")  # of four


@dataclass(frozen=True)
class Place:
    """Where expectation propagation settles while scales are held.

    Attributes
    ----------
    mean
        Of the Gaussian [dimension].
    terms
        What stands for the likelihoods.
    cavity
        What comparisons feel without their own term.
    log_evidence
        Nats.
    rounds
        How many it took.
    """

    mean: Tensor
    terms: Terms
    cavity: Laws
    log_evidence: float
    rounds: int


class _Product(Protocol):
    """A normal prior of the free coordinates times the terms of comparisons."""

    def __call__(self, terms: Terms) -> tuple[Tensor, Tensor, float] | None:
        """Return its mean [free], the covariances [comparison, felt, felt] of what is felt, and log |F|, if it is."""


@dataclass(frozen=True)
class _Prior:
    """The normal prior of the free coordinates, and how what is felt [felt, comparison] hangs on them.

    `precision` [free]; `pull` [free], the slope of its log density where they are 0; `at_zero`, what is felt there.
    """

    free: Free
    precision: Tensor
    pull: Tensor
    leaves: list[Leaf]
    at_zero: Tensor

    def precision_with(self, terms: Terms) -> Tensor:
        """Return the precision [free, free] of the product with terms."""
        each = pairs(len(self.leaves))
        blocks: list[Block] = [(self.leaves[j], self.leaves[k], terms.precision[None, :, j, k]) for j, k in each]
        (found,) = matrix_of(blocks, self.precision.new_zeros(1, self.free.size))
        return self.free.of(found) + self.precision.diag()


class _ByCoordinates:
    """By the precision of the free coordinates: see `_Product`."""

    def __init__(self, prior: _Prior) -> None:
        self.prior = prior

    def __call__(self, terms: Terms) -> tuple[Tensor, Tensor, float] | None:
        prior, free = self.prior, self.prior.free
        lower, failed = cholesky(prior.precision_with(terms))
        if failed:
            return None
        by_all = prior.pull.new_zeros(free.size)
        for leaf, slope in zip(prior.leaves, terms.slope(prior.at_zero), strict=True):
            by_all[leaf.at] += leaf.pullback(slope[None])[0]
        covariance = torch.cholesky_inverse(lower)
        mean, whole = covariance @ (prior.pull + by_all[free.at]), free.among(covariance)
        felt = whole.new_empty(*terms.precision.shape)
        for j, k in pairs(len(prior.leaves)):
            felt[:, j, k] = felt[:, k, j] = prior.leaves[j].covariance_with(prior.leaves[k], whole)
        return mean, felt, -float(lower.diagonal().log().sum())


class _ByComparisons:
    """By the covariance of what is felt: comparisons are fewer than coordinates. See `_Product`."""

    def __init__(self, prior: _Prior, jacobian: Tensor) -> None:
        self.prior, self.jacobian = prior, jacobian
        flat = self.jacobian.flatten(0, 1)
        self.covariance = (flat / prior.precision) @ flat.T
        self.mean = prior.pull / prior.precision
        self.felt = prior.at_zero + self.jacobian @ self.mean

    def __call__(self, terms: Terms) -> tuple[Tensor, Tensor, float] | None:
        # with K = cov(h) and S the precision of terms, (K^-1 + S)^-1 = (1 + K S)^-1 K
        shape, prior = self.felt.shape, self.prior
        by_terms = torch.einsum("ajc,cjk->akc", self.covariance.unflatten(1, shape), terms.precision).flatten(1)
        factor, pivots = torch.linalg.lu_factor(by_terms + torch.eye(len(by_terms)).to(by_terms))
        pull = self.felt.flatten() + self.covariance @ terms.pull.flatten()
        found = torch.linalg.lu_solve(factor, pivots, torch.cat([self.covariance, pull[:, None]], 1))
        felt = found[:, -1].reshape(shape)
        blocks = found[:, :-1].reshape(*shape, *shape).diagonal(dim1=1, dim2=3).permute(2, 0, 1)
        mean = self.mean + (terms.slope(felt).flatten() @ self.jacobian.flatten(0, 1)) / prior.precision
        log_det = prior.precision.log().sum() + factor.diagonal().abs().log().sum()
        return mean, (blocks + blocks.mT) / 2, -0.5 * float(log_det)


class Propagation:
    """Expectation propagation on a view, with its scales held.

    Attributes
    ----------
    held, free
        Coordinates of the scales, and those of the rest.
    """

    def __init__(self, view: View, local: LocalCurvature, held: tuple[int, ...], near: Tensor) -> None:
        self.view, self.local, self._near = view, local, near
        self.held = torch.tensor(held, dtype=torch.int64, device=view.device)
        self.free = Free.beside(self.held, view.dimension)
        reach, count = _LOOKED
        felt = self._felt(near)[1]
        looks = torch.linspace(-reach, reach, count, dtype=view.dtype, device=view.device)
        curved = [self._bent(torch.cat([look.expand(1, felt.shape[1]), felt[1:]]))[1][:, 0, 0] for look in looks]
        self._sharpest = (-torch.stack(curved).amin(0)).clamp_min(0.0).sqrt()

    def __call__(self, start: Tensor, terms: Terms | None = None) -> Place | None:
        """Return where it settles, the scales being those of `start` [dimension]; None: nowhere.

        It begins with `terms`, or else with the parabolas that touch log likelihoods at `start`.
        """
        prior = Given(self.view, start[None])
        normal = self._prior(prior, start)
        few = normal.at_zero.numel() < len(normal.pull)
        product: _Product = _ByComparisons(normal, self.jacobian) if few else _ByCoordinates(normal)
        terms = terms or self._at_mode(self._felt(start)[1])
        before, seen = math.inf, normal.at_zero
        for turn in range(_ROUNDS):
            found = product(terms)
            if found is None:
                return None
            mean, covariance, log_det = start.clone(), *found[1:]
            mean[self.free.at] = found[0]
            here = Laws.of(self._felt(mean)[1], covariance)
            away = here.without(terms)
            if away is None:
                return None
            log_norm, tilted = self.moments(away)
            log_scale = log_norm - here.log_mass + away.log_mass
            evidence = float((log_scale + terms.log_density(here.mean)).sum() + prior(mean[None]).value[0])
            evidence += 0.5 * len(self.free.at) * LOG_2PI + log_det
            moved = float(((here.mean - seen).abs() / here.deviation).max())
            if not math.isfinite(evidence):
                return None
            if abs(evidence - before) < _SETTLED and moved < _SETTLED**0.5:
                return Place(mean, terms, away, evidence, turn + 1)
            before, seen = evidence, here.mean
            terms = terms.towards(tilted.over(away), 1.0 if turn < _DAMPED else _HALF)
        return None

    def gaussian(self, place: Place) -> Triangle:
        """Return the Gaussian of the free coordinates about the mean of a place."""
        normal = self._prior(Given(self.view, place.mean[None]), place.mean)
        lower = torch.linalg.cholesky(normal.precision_with(place.terms))
        return Triangle(lower, -float(lower.diagonal().log().sum()))

    @cached_property
    def jacobian(self) -> Tensor:
        """What is felt per unit of each free coordinate [felt, comparison, free]."""
        leaves, felt = self._felt(self._near)
        out = felt.new_zeros(*felt.shape, self.free.size)
        for rows, leaf in zip(out, leaves, strict=True):
            rows[:, leaf.at] = leaf.jacobian
        return out[..., self.free.at]

    def _prior(self, prior: Given, at: Tensor) -> _Prior:
        """Return the prior of the free coordinates about z [dimension], as a Gaussian."""
        known, free = prior(at[None]), self.free.at
        precision = -known.diagonal[0, free]
        nothing = at.clone()
        nothing[free] = 0.0
        leaves, at_zero = self._felt(nothing)
        return _Prior(self.free, precision, known.gradient[0, free] + precision * at[free], leaves, at_zero)

    def _felt(self, z: Tensor) -> tuple[list[Leaf], Tensor]:
        """Return what comparisons feel at z [dimension], the margin first, and its values [felt, comparison]."""
        leaves = self.local.leaves(z[None])
        return leaves, torch.cat([leaf.value for leaf in leaves])

    def _log_likelihood(self, felt: list[Tensor], rows: slice) -> Tensor:
        """Return the log likelihood [node, comparison] of some comparisons at what they feel, each such a table."""
        assert self.view.cells.outcome is not None  # a view has data
        margin, *others = felt
        return (self.view.cells.outcome[rows] * self.local.felt.log_prob(margin, others, rows)).sum(-1)

    def _at_mode(self, felt: Tensor) -> Terms:
        """Return the parabolas that touch log likelihoods at what is felt [felt, comparison], none upside down."""
        slope, curved = self._bent(felt)
        found = [torch.linalg.eigh(some) for some in (-curved).split(_MATRICES)]
        values, vectors = (torch.cat(each) for each in zip(*found, strict=True))
        precision = (vectors * values.clamp_min(_LEAST).unsqueeze(-2)) @ vectors.mT
        return Terms(precision, slope + times(precision, felt))

    def _bent(self, felt: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes [felt, comparison] and second derivatives [comparison, felt, felt] of log likelihoods."""
        free = [each[None].detach().clone().requires_grad_() for each in felt]
        with torch.enable_grad():
            first, second = derivatives_of(self._log_likelihood(free, slice(None)), free)
        curved = felt.new_zeros(felt.shape[1], len(felt), len(felt))
        for (j, k), value in second.items():
            curved[:, j, k] = curved[:, k, j] = value[0]
        return torch.cat(first), curved

    def moments(self, cavity: Laws) -> tuple[Tensor, Laws]:
        """Return the log norms [comparison] of likelihoods times cavities, and the laws with their moments."""
        parts = []
        for norm, share, felt in self._tilted(cavity):
            mean = torch.einsum("nc,njc->jc", share, felt)
            off = felt - mean
            parts.append((norm, mean, torch.einsum("nc,njc,nkc->cjk", share, off, off)))
        norm, mean, covariance = (
            torch.cat(each, axis) for each, axis in zip(zip(*parts, strict=True), (0, 1, 0), strict=True)
        )
        return norm, Laws(mean, torch.linalg.inv(covariance))

    def cumulants(self, cavity: Laws, law: Laws) -> tuple[Tensor, Tensor]:
        """Return the third [comparison, felt, felt, felt] and the fourth cumulants of likelihoods times cavities.

        Of what is felt in the units in which `law`, that of their moments, is standard normal.
        """
        third, fourth, start = [], [], 0
        for _, share, felt in self._tilted(cavity):
            rows = slice(start, start + share.shape[1])
            off = (felt - law.mean[:, rows]).movedim(-1, 0)  # [comparison, node, felt]
            unit = torch.linalg.solve_triangular(law.frame[rows], off.mT, upper=False)
            weighed = share.T[:, None] * unit
            third.append(torch.einsum("cin,cjn,ckn->cijk", weighed, unit, unit))
            fourth.append(torch.einsum("cin,cjn,ckn,cln->cijkl", weighed, unit, unit, unit))
            start = rows.stop
        eye = torch.eye(len(law.mean)).to(law.mean)
        normal = sum(torch.einsum(f"{first},{second}->ijkl", eye, eye) for first, second in _TWO_AND_TWO)
        return torch.cat(third), torch.cat(fourth) - normal

    def _tilted(self, cavity: Laws) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield likelihoods times cavities of some comparisons after others: see `moments`.

        Their log norms [comparison], how much of them each node holds [node, comparison], and what is felt there
        [node, felt, comparison].
        """
        frame = cavity.frame
        apart = min(_APART, _STEP / float((frame[:, 0, 0] * self._sharpest).max().clamp_min(_LEAST)))
        x, weight = (each.to(frame) for each in _nodes(apart, len(cavity.mean)))
        step = max(1, at_once(frame.device) // len(x))
        for start in range(0, len(frame), step):
            rows = slice(start, start + step)
            felt = cavity.mean[:, rows] + torch.einsum("nk,cjk->njc", x, frame[rows])
            density = weight[:, None] + self._log_likelihood(list(felt.unbind(1)), rows)
            norm = density.logsumexp(0)
            yield norm, (density - norm).exp(), felt


def _nodes(apart: float, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return nodes [node, dimension] of the standard normal law, so far apart along the first, and log weights."""
    count = math.ceil(_REACH / apart)
    first = apart * np.arange(-count, count + 1)
    others, weight = np.polynomial.hermite_e.hermegauss(_OTHERS)
    lines = [(first, -0.5 * first**2), *[(others, np.log(weight))] * (dimensions - 1)]
    at = torch.tensor(list(itertools.product(*(line for line, _ in lines))), dtype=torch.float64)
    weights = torch.tensor(list(itertools.product(*(own for _, own in lines))), dtype=torch.float64)
    return at, weights.sum(-1).log_softmax(0)
