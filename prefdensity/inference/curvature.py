"""Exact second derivatives of a program's log density.

The log posterior is f(z) = sum_c l_c + log p(z). Comparison c depends on z through few local parameters, its leaves
h_ck = (J_k z)_c (`prefdensity.inference.leaves`), so with l_c a function of K + 1 numbers

    gradient    g = sum_k J_k^T s_k + g_prior                s_k  [comparison]   dl_c / dh_ck
    Hessian     H = sum_kl J_k^T diag(w_kl) J_l + H_prior    w_kl [comparison]   d^2 l_c / dh_ck dh_cl

s and w come from K + 1 backward passes over all comparisons, whatever the dimension of z: leaves of different
comparisons do not meet, so the Hessian of sum_c l_c by all leaves is diagonal in c, and the gradient of sum_c s_ck is
row k of it for every comparison at once. Given the scalars, the prior's entries are independent: H_prior is a diagonal
and a row for each scalar (`prefdensity.inference.prior`). That is `LocalCurvature`.

H has an entry where two coordinates meet in a comparison. It is kept as its zeros allow: a full matrix; annotators'
blocks and a border (`Arrow`); a sparse matrix known by its products (`Sparse`).

What the leaves are is found by running the program (`prefdensity.inference.felt`). That they are all of it is checked
by an automatic Hessian-vector product at one point (`prefdensity.inference.locality`). Other programs get
`dense_hessian`, a backward pass for each coordinate.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.inference.arrow import Arrow
from prefdensity.inference.felt import Felt, at_once
from prefdensity.inference.krylov import Pattern, Sparse
from prefdensity.inference.leaves import Leaf, derivatives_of
from prefdensity.inference.locality import confirmed, sites_of
from prefdensity.inference.margins import Margins
from prefdensity.inference.precision import DENSE, Dense, Precision
from prefdensity.inference.prior import Prior, log_prior
from prefdensity.inference.view import View

Objective = Callable[[Tensor], Tensor]

# Rows of the Hessian per batched backward pass, in cell evaluations.
_BACKWARD = 20_000_000
_SMALL = 500  # dimension up to which nothing but a matrix is worth while


def dense_hessian(objective: Objective, z: Tensor, work: int) -> tuple[Tensor, Tensor]:
    """Return gradient [fit, dimension] and Hessian [fit, dimension, dimension] by repeated backward passes.

    `work` is the number of cell evaluations of one density; it bounds the memory of a pass.
    """
    z = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(z).sum(), z, create_graph=True)
    dimension = z.shape[-1]
    step = max(1, min(dimension, _BACKWARD // (work * len(z))))
    rows = []
    for start in range(0, dimension, step):
        index = torch.arange(start, min(start + step, dimension), device=z.device)
        pick = torch.zeros(len(index), *z.shape, dtype=z.dtype, device=z.device)
        pick[torch.arange(len(index)), :, index] = 1.0
        (part,) = torch.autograd.grad(gradient, z, pick, retain_graph=True, is_grads_batched=True)
        rows.append(part.detach())
    return gradient.detach(), torch.cat(rows).movedim(0, 1)


Block = tuple[Leaf, Leaf, Tensor]  # two leaves and the second derivatives [fit, comparison]
# Of some comparisons: their log likelihood [fit], its slopes by leaf, its second derivatives by two, [fit, comparison].
Derivatives = tuple[Tensor, list[Tensor], dict[tuple[int, int], Tensor]]


class LocalCurvature:
    """Value, gradient and curvature of one density [dimension], for programs that are local in the sense above.

    Raises
    ------
    ProgramError
        If what comparisons feel cannot be told, or nothing can keep so large a matrix.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        utility = _utility(view)
        self.utility = view.sites[utility]
        self.margins = view.memo.setdefault("margins", Margins(view, self.utility))
        away = [utility, *sites_of(view, "scale")]  # a scale is felt by the utilities alone
        self.felt = Felt(view, [site for name, site in view.sites.items() if name not in away])
        self._pattern: Pattern | None = None
        if self.form is None:
            raise ProgramError(f"its {view.dimension} parameters are too many for a matrix")

    @cached_property
    def form(self) -> type[Dense] | type[Arrow] | type[Sparse] | None:
        """How a precision is kept: annotators apart where they are many; None where nothing can keep it."""
        size, people = self.view.dimension, self.view.cells.n_annotators
        own = sum(part.site.at.stop - part.site.at.start for part in self.felt.parts if part.is_own)
        if size <= _SMALL or (own == 0 and size <= DENSE):
            return Dense
        if own > size / 2 and size - own <= DENSE and own * (size - own + own // people) <= DENSE**2:
            return Arrow
        if size <= DENSE:
            return Dense
        spread = any(part.is_shared and part.weights is not None for part in self.felt.parts)
        return Sparse if self.margins.as_they_are and not spread else None

    def __call__(self, z: Tensor) -> tuple[float, Tensor, Precision]:
        """Return value, gradient [dimension] and minus the Hessian of the log joint density."""
        if self.form is Dense:
            value, gradient, hessian = self.batch(z[None], log_prior(self.view, z[None]))
            return float(value[0]), gradient[0], Dense(-hessian[0])
        value, gradient, blocks = self._likelihood(z[None], None)
        prior = log_prior(self.view, z[None])
        build = self._arrow if self.form is Arrow else self._sparse
        return float(value[0] + prior.value[0]), (gradient + prior.gradient)[0], build(blocks, prior)

    def batch(self, z: Tensor, prior: Prior, outcome: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return values [fit], gradients [fit, dimension], Hessians [fit, dimension, dimension] at z [fit, dimension].

        `prior`: the log prior there; `outcome`: see `log_likelihood`.
        """
        value, gradient, hessian = self.log_likelihood(z, outcome)
        prior.add_to(hessian)
        return value + prior.value, gradient + prior.gradient, hessian

    def log_likelihood(self, z: Tensor, outcome: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same of the log likelihood alone.

        `outcome` [fit, 1, comparison, outcome]: counts of each fit, instead of those of the view's table.
        """
        value, gradient, blocks = self._likelihood(z, outcome)
        return value, gradient, matrix_of(blocks, z)

    def _arrow(self, blocks: list[Block], prior: Prior) -> Arrow:
        """Return minus the Hessian with the annotators' entries apart."""
        out = _ArrowSum(*self._order, self.view.dtype)
        for first, second, values in blocks:
            out.take_likelihood(first, second, values)
        out.take_prior(prior)
        return Arrow(out.blocks, out.border, out.corner, out.own_at, out.rest_at)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """Return the coordinates of annotators' entries [annotator, own] and of the rest [rest]."""
        everything = torch.arange(self.view.dimension, device=self.view.device)
        own = [
            everything[part.site.at].reshape(self.view.cells.n_annotators, -1)
            for part in self.felt.parts if part.is_own
        ]  # fmt: skip
        own_at = torch.cat(own, 1)
        stays = torch.ones_like(everything, dtype=torch.bool)
        stays[own_at] = False
        return own_at, everything[stays]

    def _sparse(self, blocks: list[Block], prior: Prior) -> Sparse:
        """Return minus the Hessian, each entry that any comparison touches."""
        if self._pattern is None:
            self._pattern = self._touched(blocks, prior)
        entries: list[Tensor] = []
        for leaf, other, values in blocks:
            for k, (_, weight) in enumerate(leaf.terms):
                for _, their_weight in other.terms[k if other is leaf else 0 :]:
                    entries.append(-weight * their_weight * values[0])
        return self._pattern.fill(torch.cat([*entries, -prior.diagonal[0], *(-row[0] for _, row in prior.rows)]))

    def _touched(self, blocks: list[Block], prior: Prior) -> Pattern:
        """Return the places of these entries; they are the same everywhere."""
        places: list[tuple[Tensor, Tensor]] = []
        for leaf, other, _ in blocks:
            for k, (mine, _) in enumerate(leaf.terms):
                for theirs, _ in other.terms[k if other is leaf else 0 :]:
                    places.append((mine + leaf.at.start, theirs + other.at.start))
        everything = torch.arange(self.view.dimension, device=self.view.device)
        places.append((everything, everything))
        places += [(torch.full_like(everything, k), everything) for k, _ in prior.rows]
        rows, columns = zip(*places, strict=True)
        return Pattern(torch.cat(rows), torch.cat(columns), self.view.dimension)

    def leaves(self, z: Tensor) -> list[Leaf]:
        """Return what comparisons feel at z [fit, dimension], the margin of utilities first."""
        return [self.margins.leaf(z[:, self.utility.at], self.utility.at), *self.felt.leaves(z)]

    def _likelihood(self, z: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor, list[Block]]:
        leaves = self.leaves(z)
        nothing = [torch.zeros((), dtype=z.dtype, device=z.device)] * len(leaves)
        step = max(1, at_once(z.device) // len(z))
        parts = [
            self.derivatives(leaves, slice(start, start + step), nothing, torch.ones_like(z[:1, :1]), counts)
            for start in range(0, max(1, len(self.view.cells)), step)
        ]
        return summed(leaves, parts, z)

    def derivatives(
        self, leaves: list[Leaf], rows: slice, shift: list[Tensor], weight: Tensor, counts: Tensor | None = None
    ) -> Derivatives:
        """Return the log likelihood [fit] of some comparisons, and its derivatives by leaves [fit, comparison].

        Averaged over nodes about the leaves: each is moved by `shift` [node, comparison], which counts `weight`
        [node, 1]. Many nodes are for one fit.
        """
        free = [leaf.value[:, rows].detach().clone().requires_grad_() for leaf in leaves]
        count = max(len(free[0]), len(weight))
        margin, *felt = ((each + by).expand(count, -1) for each, by in zip(free, shift, strict=True))
        outcome = self.view.cells.outcome if counts is None else counts.squeeze(-3)
        assert outcome is not None  # a view has data
        total = (outcome[..., rows, :] * self.felt.log_prob(margin, felt, rows)).sum(-1) * weight
        first, curved = derivatives_of(total, free)
        value = total.detach().sum(-1)
        return value if len(value) == len(free[0]) else value.sum(0, keepdim=True), first, curved


class _ArrowSum:
    """An `Arrow` from which second derivatives are taken, one block after the other."""

    def __init__(self, own_at: Tensor, rest_at: Tensor, dtype: torch.dtype) -> None:
        people, own = own_at.shape
        zeros = functools.partial(torch.zeros, dtype=dtype, device=own_at.device)
        self.own_at, self.rest_at = own_at, rest_at
        self.blocks, self.border = zeros(people, own, own), zeros(people, own, len(rest_at))
        self.corner = zeros(len(rest_at), len(rest_at))
        # of each coordinate, its place among its annotator's own or among the rest
        self.place = torch.empty(own_at.numel() + len(rest_at), dtype=torch.int64, device=own_at.device)
        self.place[own_at] = torch.arange(own, device=own_at.device)
        self.place[rest_at] = torch.arange(len(rest_at), device=own_at.device)
        self.is_own = torch.zeros_like(self.place, dtype=torch.bool)
        self.is_own[own_at] = True

    def _of(self, leaf: Leaf) -> slice:
        start = int(self.place[leaf.at.start])
        return slice(start, start + (leaf.own or leaf.at.stop - leaf.at.start))

    def take_likelihood(self, first: Leaf, second: Leaf, values: Tensor) -> None:
        """Take the second derivatives by two leaves, those of comparisons being values [1, comparison]."""
        one, two = (first, second) if first.own or not second.own else (second, first)
        mine, theirs = self._of(one), self._of(two)
        if one.own and two.own:
            block = one.own_blocks(two, values)
            self.blocks[:, mine, theirs] -= block
            if one is not two:
                self.blocks[:, theirs, mine] -= block.mT
        elif one.own:
            self.border[:, mine, theirs] -= one.block(two, values)[0].reshape(len(self.own_at), one.own, -1)
        else:
            block = one.block(two, values)[0]
            self.corner[mine, theirs] -= block
            if one is not two:
                self.corner[theirs, mine] -= block.T

    def take_prior(self, prior: Prior) -> None:
        """Take those of the log prior."""
        self.blocks.diagonal(dim1=-2, dim2=-1).sub_(prior.diagonal[0, self.own_at])
        self.corner.diagonal().sub_(prior.diagonal[0, self.rest_at])
        for k, (row,) in prior.rows:
            at = int(self.place[k])
            self.corner[at] -= row[self.rest_at]
            self.corner[:, at] -= row[self.rest_at]
            self.corner[at, at] += row[k]
            self.border[..., at] -= row[self.own_at]


def summed(leaves: list[Leaf], parts: list[Derivatives], z: Tensor) -> tuple[Tensor, Tensor, list[Block]]:
    """Return value [fit], gradient [fit, dimension] and second derivatives of a likelihood, from those of its parts."""
    totals, firsts, seconds = zip(*parts, strict=True)
    gradient = torch.zeros_like(z)
    for leaf, *slopes in zip(leaves, *firsts, strict=True):
        gradient[:, leaf.at] += leaf.pullback(torch.cat(slopes, -1))
    blocks = [
        (leaves[k], leaves[m], torch.cat([second[k, m] for second in seconds], -1)) for k, m in sorted(seconds[0])
    ]
    return sum(totals, z.new_zeros(len(z))), gradient, blocks


def matrix_of(blocks: list[Block], z: Tensor) -> Tensor:
    """Return the Hessian [fit, dimension, dimension] of a likelihood."""
    hessian = z.new_zeros(len(z), z.shape[-1], z.shape[-1])
    for leaf, other, values in blocks:
        block = leaf.block(other, values)
        hessian[:, leaf.at, other.at] += block
        if other is not leaf:
            hessian[:, other.at, leaf.at] += block.mT
    return hessian


def local_curvature(view: View, z: Tensor) -> LocalCurvature | None:
    """Return the curvature of a local program, checked at z [dimension]; None for others (see `locality.confirmed`)."""
    return confirmed(view, LocalCurvature, z, "a comparison feels more than the entries of its own items and annotator")


def _utility(view: View) -> str:
    """Return the one site that utilities are made of."""
    stages = {each.stage for each in view.program.layers}
    if "utility" not in stages or not view.cells.pairwise:
        raise ProgramError("the program is not a composition of layers for comparisons")
    if stages & {"types", "rating"}:  # types sum annotators up, ratings see utilities outside comparisons
        raise ProgramError("comparisons are not judged one by one")
    found = sites_of(view, "utility")
    if len(found) != 1:
        raise ProgramError(f"utilities are made of several sites, {', '.join(found)}")
    return found[0]
