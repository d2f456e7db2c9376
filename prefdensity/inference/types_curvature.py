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

Minus H need not be positive definite far from a mode. Steps then use complete data alone, which is a generalised EM
step and climbs; near the mode they are Newton's.
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
from prefdensity.inference.felt import Felt
from prefdensity.inference.leaves import Leaf
from prefdensity.inference.locality import confirmed, sites_of
from prefdensity.inference.margins import Margins
from prefdensity.inference.precision import DENSE, Dense, Gaussian, Precision
from prefdensity.inference.prior import log_prior
from prefdensity.inference.site import Site
from prefdensity.inference.view import View

# An annotator whose type is known to this is taken to have it; entries of scores formed at a time.
_SURE = 1e-10
_SCORES = 20_000_000
# Nats that a step of EM may still promise where Newton's method takes over.
_FAR = 1.0


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
        return self.complete if missing is None else Dense(self.complete.dense() - missing)

    def times(self, x: Tensor) -> Tensor:
        """See `Precision`."""
        return self.whole.times(x)

    def newton_step(self, gradient: Tensor, damping: float) -> Tensor | None:
        """See `Precision`; far from the top, or on a saddle, the step of an EM algorithm."""
        step = self.complete.newton_step(gradient, damping)
        if damping > 0 or step is None or float(gradient @ step) > _FAR:
            return step
        newton = self.whole.newton_step(gradient, 0.0)
        return step if newton is None else newton

    def largest_diagonal(self) -> float:
        """See `Precision`."""
        return self.complete.largest_diagonal()

    def partition(self, free: Tensor, held: Tensor) -> tuple[Precision, Tensor]:
        """See `Precision`; none of `held` is felt by the judgements, so doubt about the types leaves it alone."""
        complete, cross = self.complete.partition(free, held)

        def missing() -> Tensor | None:
            everything = self.doubt
            return None if everything is None else everything[free[:, None], free[None]]

        return TypesPrecision(complete, missing), cross

    def gaussian(self) -> Gaussian | None:
        """See `Precision`."""
        return self.whole.gaussian()


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
        leaves, free, cell, log_weight = self._run(z)
        cells = self.view.cells
        assert cells.annotator is not None
        table = cell.detach().new_zeros(*cell.shape[:-1], cells.n_annotators)
        joint = table.index_add(-1, cells.annotator, cell.detach()) + log_weight.detach()[:, None]
        responsibility = joint.softmax(0) if self.assignment is None else self.assignment[0]
        value = (joint.logsumexp(0) if self.assignment is None else (responsibility * joint).sum(0)).sum()
        gradient, hessian = self._complete(z, leaves, free, cell, responsibility)
        prior = log_prior(self.view, z[None])
        prior.add_to(hessian[None])

        @torch.enable_grad()  # also when draws are weighed
        def missing() -> Tensor | None:
            return None if self.assignment is not None else self._missing(z, leaves, free, cell, responsibility)

        precision = TypesPrecision(self._apart(-hessian), missing)
        return float(value + prior.value[0]), gradient + prior.gradient[0], precision

    def _apart(self, matrix: Tensor) -> Arrow:
        """Return a matrix [dimension, dimension] without entries between types as an arrow."""
        outer, shared = self._order
        tip = torch.stack([matrix[at[:, None], at[None]] for at in outer])
        arm = torch.stack([matrix[at[:, None], shared[None]] for at in outer])
        return Arrow(tip, arm, matrix[shared[:, None], shared[None]], outer, shared)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """Coordinates of each type's utilities [type, utility], and of what types share [shared]."""
        everything = torch.arange(self.view.dimension, device=self.view.device)
        outer = torch.stack([everything[self._of_type(k)] for k in range(self.view.n_types)])
        return outer, everything[~torch.isin(everything, outer)]

    @cached_property
    def _judged(self) -> tuple[Tensor, Tensor]:
        """Whether annotators judged anything [annotator], and who did not [idle]."""
        cells = self.view.cells
        judged = torch.zeros(cells.n_annotators, dtype=torch.bool, device=self.view.device)
        judged[cells.annotator] = True
        return judged, torch.nonzero(~judged).flatten()

    def _run(self, z: Tensor) -> tuple[list[Leaf], list[Tensor], Tensor, Tensor]:
        """Return leaves [type, comparison], free copies, log likelihoods [type, comparison], log weights [type]."""
        cells, types = self.view.cells, self.view.n_types
        leaves = [self.margins.leaf(z[self.utility.at].reshape(types, -1), slice(0, self.margins.size))]
        leaves += [replace(leaf, value=leaf.value.expand(types, -1)) for leaf in self.felt.leaves(z[None])]
        free = [leaf.value.detach().clone().requires_grad_() for leaf in leaves]
        assert cells.outcome is not None  # a view has data
        cell = (cells.outcome * self.felt.log_prob(free[0], free[1:])).sum(-1)
        return leaves, free, cell, self._log_weight(z[self.weight.at].detach())

    def _of_type(self, k: int) -> slice:
        start = self.utility.at.start + k * self.margins.size
        return slice(start, start + self.margins.size)

    def _complete(
        self, z: Tensor, leaves: list[Leaf], free: list[Tensor], cell: Tensor, responsibility: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return gradient and Hessian of the likelihood of complete data, weighted by `responsibility`."""
        cells, types = self.view.cells, range(self.view.n_types)
        assert cells.annotator is not None
        gradient, hessian = torch.zeros_like(z), z.new_zeros(len(z), len(z))
        weighted = (cell * responsibility.index_select(-1, cells.annotator)).sum()
        first = torch.autograd.grad(weighted, free, create_graph=True)
        for at, (leaf, slope) in enumerate(zip(leaves, first, strict=True)):
            pulled = leaf.pullback(slope.detach())
            if at == 0:
                gradient[self.utility.at] = pulled.flatten()
            else:
                gradient[leaf.at] += pulled.sum(0)
            second = torch.autograd.grad(slope.sum(), free[at:], retain_graph=True, allow_unused=True)
            for other, values in zip(leaves[at:], second, strict=True):
                if values is None:
                    continue
                block = leaf.block(other, values.detach())
                if at > 0:
                    hessian[leaf.at, other.at] += block.sum(0)
                    if other is not leaf:
                        hessian[other.at, leaf.at] += block.sum(0).T
                    continue
                for k in types:
                    mine = self._of_type(k)
                    theirs = mine if other is leaf else other.at
                    hessian[mine, theirs] += block[k]
                    if other is not leaf:
                        hessian[theirs, mine] += block[k].T
        share = responsibility.sum(-1)
        part = z[self.weight.at].detach()
        gradient[self.weight.at] = torch.autograd.functional.jacobian(lambda x: share @ self._log_weight(x), part)
        hessian[self.weight.at, self.weight.at] = torch.autograd.functional.hessian(
            lambda x: share @ self._log_weight(x), part
        )
        return gradient, hessian

    def _log_weight(self, part: Tensor) -> Tensor:
        return self.weight.transform(part).log()  # type: ignore[no-any-return]

    def _missing(
        self, z: Tensor, leaves: list[Leaf], free: list[Tensor], cell: Tensor, responsibility: Tensor
    ) -> Tensor | None:
        """Return the covariance of annotators' scores under their types' probabilities, summed over annotators."""
        cells, types = self.view.cells, self.view.n_types
        assert cells.annotator is not None
        judged, idle_at = self._judged
        doubt = torch.nonzero(judged & (responsibility.amax(0) < 1 - _SURE)).flatten()
        if not len(doubt) and not len(idle_at):
            return None
        out = z.new_zeros(len(z), len(z))
        scores = [score.detach() for score in torch.autograd.grad(cell.sum(), free)]
        slope = torch.autograd.functional.jacobian(self._log_weight, z[self.weight.at].detach())
        idle = responsibility[:, idle_at]  # who judged nothing has a score of the weights alone
        spread = torch.diag(idle.sum(-1)) - idle @ idle.T
        out[self.weight.at, self.weight.at] = slope.T @ spread @ slope
        at = [self._support(k) for k in range(types)]
        for some in doubt.split(max(1, _SCORES // (len(at[0]) * types))):
            place = torch.full((cells.n_annotators,), -1, device=z.device)
            place[some] = torch.arange(len(some), device=z.device)
            rows = torch.nonzero(place[cells.annotator] >= 0).flatten()
            who, share = place[cells.annotator[rows]], responsibility[:, some]
            table = [
                self._scores(leaves, [each[k, rows] for each in scores], rows, who, len(some)) for k in range(types)
            ]
            for k in range(types):
                table[k][:, len(at[k]) - slope.shape[1] :] = slope[k]
            for k in range(types):
                for m in range(types):
                    both = share[k] * (float(k == m) - share[m])
                    out[at[k][:, None], at[m][None]] += (table[k].T * both) @ table[m]
        return out

    def _support(self, k: int) -> Tensor:
        """Return the coordinates that a score of type k has: its utilities, what all types share, the weights."""
        parts = [self._of_type(k), *(site.at for site in self.others), self.weight.at]
        everything = torch.arange(self.view.dimension, device=self.view.device)
        return torch.cat([everything[part] for part in parts])

    def _scores(self, leaves: list[Leaf], slopes: list[Tensor], rows: Tensor, who: Tensor, people: int) -> Tensor:
        """Return the scores [annotator, support] of some annotators, were they of the type of these slopes."""
        size = len(self._support(0))
        out = slopes[0].new_zeros(people, size)
        starts, start = {}, self.margins.size
        for site in self.others:
            starts[site.at.start] = start
            start += site.at.stop - site.at.start
        for k, (leaf, slope) in enumerate(zip(leaves, slopes, strict=True)):
            start = starts[leaf.at.start] if k else 0
            out[:, start : start + leaf.at.stop - leaf.at.start] += leaf.pullback_by(slope, rows, who, people)
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
