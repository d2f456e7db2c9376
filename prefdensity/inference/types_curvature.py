"""Exact second derivatives for programs whose annotators have hidden types.

Annotator j is of type k with probability pi_k, and then has log likelihood l_jk(z), the sum over their comparisons.
The types are summed out:

    l(z) = sum_j log sum_k pi_k exp l_jk          responsibilities  r_jk = pi_k exp l_jk / sum_m pi_m exp l_jm

With the scores s_jk, gradients of log pi_k + l_jk in z, the gradient and the Hessian are (Louis 1982, JRSS-B 44,
226-233)

    g = sum_jk r_jk s_jk                                                   (Fisher's identity)
    H = sum_jk r_jk d^2 (log pi_k + l_jk)  +  sum_j Cov_r_j(s_jk)

The first term of H is minus the information of complete data, in which types were known: comparisons are independent,
leaves give it as in `prefdensity.inference.curvature`, and utilities of different types do not meet, so it is an
`Arrow` with a block for each type. The second, the missing information, is of the scores s_jk [annotator, support]:
only annotators whose type is in doubt have any, and each adds r_jk (1[k = m] - r_jm) s_jk s_jm^T over pairs of types.

Minus H need not be positive definite far from a mode. Steps then take away a share of the missing information only,
or use complete data alone, which is a generalised EM step and climbs; near the mode they are Newton's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.inference.arrow import Arrow
from prefdensity.inference.felt import Felt, at_once
from prefdensity.inference.leaves import Leaf, derivatives_of
from prefdensity.inference.locality import confirmed, sites_of
from prefdensity.inference.margins import Margins
from prefdensity.inference.precision import DENSE, Dense, Gaussian, Precision, as_slice
from prefdensity.inference.prior import Prior, log_prior
from prefdensity.inference.site import Site
from prefdensity.inference.view import View

# An annotator whose type is known to this is taken to have it; entries of scores formed at a time.
_SURE = 1e-10
_SCORES = 20_000_000
# Nats that a step of EM may still promise where Newton's method takes over.
_FAR = 10.0
# On a saddle a step takes away as much of the missing information as leaves a peak, and this share of that, found in so
# many turns: steps of EM are short where it is nearly all.
_INSIDE, _TURNS = 0.9, 8


@dataclass(frozen=True, eq=False)
class TypesPrecision:
    """Minus a Hessian that need not be positive definite, and that of the complete data, which is.

    Attributes
    ----------
    complete
        Of the complete data: types meet only what they share.
    missing
        Gives what doubt about the types takes away [dimension, dimension]; None where there is no doubt.
    """

    factors: ClassVar[bool] = True

    complete: Arrow
    missing: Callable[[], Tensor | None]

    @cached_property
    def doubt(self) -> Tensor | None:
        """What `missing` gives, once."""
        return self.missing()

    @cached_property
    def whole(self) -> Precision:
        """Minus the Hessian."""
        missing = self.doubt
        return self.complete if missing is None else Dense(self.complete.dense().sub_(missing))

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        return self.whole.times(x)

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`; on a saddle with less of the doubt, and far from the top the step of an EM algorithm."""
        step = self.complete.newton_step(gradient, damping)
        if damping > 0 or step is None or float(gradient @ step) > _FAR:
            return step
        newton = self.whole.newton_step(gradient, 0.0)
        if newton is None and self.doubt is not None:
            newton = Dense(self.complete.dense() - self._share(step) * self.doubt).newton_step(gradient, 0.0)
        return step if newton is None else newton

    def _share(self, start: Tensor) -> float:
        """Return a share of `doubt` without which the matrix is just positive definite: by the method of powers."""
        assert self.doubt is not None
        at = start
        for _ in range(_TURNS):
            ahead = self.complete.newton_step(self.doubt @ at, 0.0)
            assert ahead is not None
            at = ahead / torch.linalg.vector_norm(ahead)
        return _INSIDE * float((at @ self.complete.times(at[None])[0]) / (at @ self.doubt @ at))

    def largest_diagonal(self) -> float:
        """See `Precision`."""
        return self.complete.largest_diagonal()

    def partition(self, free: Tensor, held: Tensor) -> tuple[Precision, Tensor]:
        """See `Precision`; none of `held` is felt by the judgements, so doubt about the types leaves it alone."""
        complete, cross = self.complete.partition(free, held)
        assert isinstance(complete, Arrow)

        def missing() -> Tensor | None:
            everything = self.doubt
            at = as_slice(free)
            return None if everything is None else everything[at][:, at]

        return TypesPrecision(complete, missing), cross

    def gaussian(self) -> Gaussian | None:
        """See `Precision`."""
        return self.whole.gaussian()


@dataclass(frozen=True, eq=False)
class _FeltByType:
    """What comparisons feel, were everybody of one type: by type and comparison, their log likelihood and its slopes.

    `curved` has its second derivatives by two leaves, the first being none behind the second.
    """

    leaves: list[Leaf]
    log_prob: Tensor
    slope: list[Tensor]
    curved: dict[tuple[int, int], Tensor]


@dataclass(frozen=True, eq=False)
class _Weights:
    """Logarithms of the types' weights [type], their slopes [type, entry] and curvatures [type, entry, entry]."""

    log: Tensor
    slope: Tensor
    curved: Tensor


class TypesCurvature:
    """Value, gradient and curvature of one density [dimension] with types, or were they given."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.assignment: Tensor | None = None
        self.utility = _only(view, "utility")
        self.weight = _only(view, "types")
        away = [self.utility.name, self.weight.name, *sites_of(view, "scale")]  # a scale is felt by the utilities alone
        self.others = [site for name, site in view.sites.items() if name not in away]
        if self.utility.batch[:1] != (view.n_types,) or not self.utility.is_identity or view.n_types < 2:
            raise ProgramError("types of annotators have no utilities of their own")
        self.margins = view.memo.setdefault("margins of types", Margins(view, self.utility, view.n_types))
        if not {each.stage for each in view.program.layers}.isdisjoint({"rating", "behaviour"}):
            raise ProgramError("utilities of types are not compared as they are")
        if view.dimension > DENSE:
            raise ProgramError(f"its {view.dimension} parameters are too many for a matrix")
        self.felt = Felt(view, self.others)
        if not all(part.is_shared for part in self.felt.parts):
            raise ProgramError("beside types, a comparison feels entries of its own items or annotator")

    def knowing(self, assignment: Tensor) -> TypesCurvature:
        """Return the same were types known: `assignment` [1, type, annotator]."""
        other = copy.copy(self)
        other.assignment = assignment
        return other

    def __call__(self, z: Tensor) -> tuple[float, Tensor, TypesPrecision]:
        """Return value, gradient [dimension] and minus the Hessian of the log joint density."""
        felt, weights = self._felt(z), self._weights(z)
        cells = self.view.cells
        assert cells.annotator is not None
        table = z.new_zeros(self.view.n_types, cells.n_annotators)
        joint = table.index_add_(-1, cells.annotator, felt.log_prob) + weights.log[:, None]
        responsibility = joint.softmax(0) if self.assignment is None else self.assignment[0]
        value = (joint.logsumexp(0) if self.assignment is None else (responsibility * joint).sum(0)).sum()
        prior = log_prior(self.view, z[None])
        gradient, complete = self._complete(felt, weights, responsibility, prior)

        def missing() -> Tensor | None:
            return None if self.assignment is not None else self._missing(felt, weights, responsibility)

        return float(value + prior.value[0]), gradient, TypesPrecision(complete, missing)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """Coordinates of each type's utilities [type, utility], and of what types share [shared]."""
        own, shared = self._apart(torch.arange(self.view.dimension, device=self.view.device))
        return own, shared

    def _apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return of x [dimension] what is of each type's utilities [type, utility], and what types share [shared]."""
        at = self.utility.at
        return x[at].reshape(self.view.n_types, -1), torch.cat([x[: at.start], x[at.stop :]])

    def _beside(self, at: slice) -> slice:
        """Return where coordinates that types share lie among what they share."""
        away = self.margins.size * self.view.n_types if at.start >= self.utility.at.stop else 0
        return slice(at.start - away, at.stop - away)

    @cached_property
    def _judged(self) -> tuple[Tensor, Tensor]:
        """Whether annotators judged anything [annotator], and who did not [idle]."""
        cells = self.view.cells
        judged = torch.zeros(cells.n_annotators, dtype=torch.bool, device=self.view.device)
        judged[cells.annotator] = True
        return judged, torch.nonzero(~judged).flatten()

    @torch.enable_grad()  # also when draws are weighed
    def _felt(self, z: Tensor) -> _FeltByType:
        """Return what comparisons feel, were everybody of one type, and derivatives of their log likelihoods by it."""
        cells, types = self.view.cells, self.view.n_types
        leaves = [self.margins.leaf(z[self.utility.at].reshape(types, -1), slice(0, self.margins.size))]
        leaves += [replace(leaf, value=leaf.value.expand(types, -1)) for leaf in self.felt.leaves(z[None])]
        assert cells.outcome is not None  # a view has data
        totals, firsts, seconds = [], [], []
        step = at_once(z.device)
        for start in range(0, max(1, len(cells)), step):
            rows = slice(start, start + step)
            free = [leaf.value[:, rows].detach().clone().requires_grad_() for leaf in leaves]
            total = (cells.outcome[rows] * self.felt.log_prob(free[0], free[1:], rows)).sum(-1)
            first, second = derivatives_of(total, free)
            totals.append(total.detach())
            firsts.append(first)
            seconds.append(second)
        return _FeltByType(
            leaves,
            torch.cat(totals, -1),
            [torch.cat(slopes, -1) for slopes in zip(*firsts, strict=True)],
            {pair: torch.cat([second[pair] for second in seconds], -1) for pair in seconds[0]},
        )

    @torch.enable_grad()
    def _weights(self, z: Tensor) -> _Weights:
        """Return the logarithms of the types' weights, and their derivatives."""
        part = z[self.weight.at].detach().repeat(self.view.n_types, 1).requires_grad_()  # a copy for each type
        log = self.weight.transform(part).log().diagonal()
        (slope,) = torch.autograd.grad(log.sum(), part, create_graph=True)
        curved = [torch.autograd.grad(each.sum(), part, retain_graph=True)[0] for each in slope.T]
        return _Weights(log.detach(), slope.detach(), torch.stack(curved, 1))

    def _complete(
        self, felt: _FeltByType, weights: _Weights, responsibility: Tensor, prior: Prior
    ) -> tuple[Tensor, Arrow]:
        """Return gradient and minus the Hessian of complete data, weighted by `responsibility`, and of the prior."""
        cells, at = self.view.cells, self._beside(self.weight.at)
        assert cells.annotator is not None
        by, share = responsibility.index_select(-1, cells.annotator), responsibility.sum(-1)
        gradient = prior.gradient[0].clone()
        for k, (leaf, slope) in enumerate(zip(felt.leaves, felt.slope, strict=True)):
            pulled = leaf.pullback(by * slope)
            gradient[leaf.at if k else self.utility.at] += pulled.sum(0) if k else pulled.flatten()
        gradient[self.weight.at] += share @ weights.slope
        tip, arm, corner = self._of_prior(prior)
        for (k, m), values in felt.curved.items():
            mine, theirs = felt.leaves[k], felt.leaves[m]
            block = mine.block(theirs, by * values)
            if m == 0:
                tip -= block
            elif k == 0:
                arm[..., self._beside(theirs.at)] -= block
            else:
                corner[self._beside(mine.at), self._beside(theirs.at)] -= block.sum(0)
                if k != m:
                    corner[self._beside(theirs.at), self._beside(mine.at)] -= block.sum(0).T
        corner[at, at] -= (share[:, None, None] * weights.curved).sum(0)
        return gradient, Arrow(tip, arm, corner, *self._order)

    def _of_prior(self, prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
        """Return minus the Hessian of the prior: of types, of types and what they share, and of what they share."""
        own, shared = self._apart(prior.diagonal[0])
        tip, corner = torch.diag_embed(-own), torch.diag(-shared)
        arm = own.new_zeros(*own.shape, len(shared))
        for k, (row,) in prior.rows:
            own, shared = self._apart(row)
            at = self._beside(slice(k, k + 1)).start
            arm[..., at] -= own
            corner[at] -= shared
            corner[:, at] -= shared
            corner[at, at] += row[k]
        return tip, arm, corner

    def _missing(self, felt: _FeltByType, weights: _Weights, responsibility: Tensor) -> Tensor | None:
        """Return the covariance of annotators' scores under their types' probabilities, summed over annotators."""
        cells, types, size = self.view.cells, self.view.n_types, self.view.dimension
        assert cells.annotator is not None
        judged, idle_at = self._judged
        doubt = torch.nonzero(judged & (responsibility.amax(0) < 1 - _SURE)).flatten()
        if not len(doubt) and not len(idle_at):
            return None
        out = responsibility.new_zeros(size, size)
        idle = responsibility[:, idle_at]  # who judged nothing has a score of the weights alone
        spread = torch.diag(idle.sum(-1)) - idle @ idle.T
        out[self.weight.at, self.weight.at] = weights.slope.T @ spread @ weights.slope
        at = [self._support(k) for k in range(types)]
        for some in doubt.split(max(1, _SCORES // (len(at[0]) * types))):
            place = torch.full((cells.n_annotators,), -1, device=out.device)
            place[some] = torch.arange(len(some), device=out.device)
            rows = torch.nonzero(place[cells.annotator] >= 0).flatten()
            who, share = place[cells.annotator[rows]], responsibility[:, some]
            score = [self._scores(felt, weights, k, rows, who, len(some)) for k in range(types)]
            for k in range(types):
                for m in range(k + 1):
                    both = share[k] * (float(k == m) - share[m])
                    block = (score[k].T * both) @ score[m]
                    out[at[k][:, None], at[m][None]] += block
                    if k != m:
                        out[at[m][:, None], at[k][None]] += block.T
        return out

    def _support(self, k: int) -> Tensor:
        """Return the coordinates that a score of type k has: its utilities, what all types share, the weights."""
        own, _ = self._order
        everything = torch.arange(self.view.dimension, device=self.view.device)
        return torch.cat([own[k], *(everything[site.at] for site in self.others), everything[self.weight.at]])

    def _scores(self, felt: _FeltByType, weights: _Weights, k: int, rows: Tensor, who: Tensor, people: int) -> Tensor:
        """Return the scores [annotator, support] of some annotators, were they of type k."""
        starts, start = {}, self.margins.size
        for site in self.others:
            starts[site.at.start] = start
            start += site.at.stop - site.at.start
        out = weights.slope.new_zeros(people, start + weights.slope.shape[1])
        out[:, start:] = weights.slope[k]
        for m, (leaf, slope) in enumerate(zip(felt.leaves, felt.slope, strict=True)):
            start = starts[leaf.at.start] if m else 0
            out[:, start : start + leaf.at.stop - leaf.at.start] += leaf.pullback_by(slope[k, rows], rows, who, people)
        return out


def types_curvature(view: View, z: Tensor) -> TypesCurvature | None:
    """Return the curvature of a program with types, checked at z [dimension]; None where it does not apply.

    See `locality.confirmed`.
    """
    return confirmed(view, TypesCurvature, z, "a comparison feels more than the entries of its own items and type")


def _only(view: View, stage: str) -> Site:
    """Return the one site that the layer of a stage samples."""
    found = sites_of(view, stage)
    if len(found) != 1:
        raise ProgramError(f"{stage} are made of {len(found)} sites, {', '.join(found)}")
    return view.sites[found[0]]
