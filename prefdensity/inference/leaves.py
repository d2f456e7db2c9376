"""Local parameters of comparisons, and sums of derivatives over comparisons.

The log likelihood is a sum over comparisons, l(z) = sum_c l_c(m_c, h_c1, ..., h_cK), in which comparison c depends on
the parameters z through few numbers: the margin m_c = u_a - u_b and, say, its annotator's log weight or a common bias.
A `Leaf` is one of these, for all comparisons at once: h = J z_at, linear in the coordinates z_at of one site. With
first derivatives s = dl_c/dh_c and second derivatives w = d^2 l_c / dh_c dh'_c per comparison, the chain rule gives

    gradient of z_at              J^T s                    `pullback`
    Hessian of z_at and z_at'     J^T diag(w) J'           `block`, `own_blocks`
    Cov(h_c, h'_c)                row c of J Sigma J'^T    `covariance_with`, for z ~ N(., Sigma)

J is never formed where its rows are sparse. A row then is a sum of few terms, weight times entry: +1 at item a and -1
at item b of a margin. So a gradient is a scatter-add over comparisons, a Hessian one over pairs of terms; for margins
it is the weighted Laplacian of the comparison graph. Where utilities are linear in other coordinates (features,
a Gaussian process), J = T K with T sparse, and K, `through`, is applied to the sums; or J is formed, if it is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Weight = float | Tensor

_ENTRIES, _THERE = 2**18, 2**24  # of a dense matrix that are weighed at a time: what a cache holds, and elsewhere
# Products of the entries of more rows than the first are worked out in single precision, and summed in double, if they
# are as many as the second.
EXACT, _DEAR = 2000, 1e8


@dataclass(frozen=True, eq=False)
class Leaf:
    """A quantity with one value per fit and cell, J z of some coordinates z: what a likelihood feels of them.

    J is a dense `matrix` [comparison, size], a large one in single precision, or each of its rows has a few entries:
    `terms` has the places of the first of each row int64 [comparison] with their weights (a number, or [comparison]),
    those of the second, ... The entries may still be linear functions of z: `through` [entry, size]. `own`: the entries
    are those of annotators, so many for each.
    """

    at: slice
    value: Tensor  # [fit, comparison]
    terms: tuple[tuple[Tensor, Weight], ...] = ()
    through: Tensor | None = None
    matrix: Tensor | None = None
    own: int = 0

    @property
    def entries(self) -> int:
        """How many entries comparisons meet."""
        return self.at.stop - self.at.start if self.through is None else len(self.through)

    @property
    def jacobian(self) -> Tensor:
        """J itself [comparison, size]."""
        if self.matrix is not None:
            return self.matrix.to(self.value.dtype)
        count = self.value.shape[-1]
        return self.pullback(torch.eye(count, dtype=self.value.dtype, device=self.value.device))

    def pullback(self, values: Tensor) -> Tensor:
        """Return J^T values [fit, size] of values [fit, comparison]."""
        if self.matrix is not None:
            return product_of(values, self.matrix)
        out = values.new_zeros(len(values), self.entries)
        for place, weight in self.terms:
            out.index_add_(-1, place, _weighed(values, weight))
        return out if self.through is None else out @ self.through

    def pullback_by(self, values: Tensor, rows: Tensor, who: Tensor, groups: int) -> Tensor:
        """Return J^T values [group, size] of values [row] of some comparisons [row], group `who` [row] by group."""
        if self.matrix is not None:
            order = torch.stack([who, rows])
            shape = (groups, len(self.matrix))
            matrix = self.matrix.to(values.dtype)
            return torch.sparse.mm(torch.sparse_coo_tensor(order, values, shape, check_invariants=False), matrix)
        out = values.new_zeros(groups * self.entries)
        for place, weight in self.terms:
            some = weight[rows] if isinstance(weight, Tensor) else weight
            out.index_add_(0, who * self.entries + place[rows], _weighed(values, some))
        out = out.reshape(groups, self.entries)
        return out if self.through is None else out @ self.through

    def block(self, other: Leaf, values: Tensor) -> Tensor:
        """Return J^T diag(values) J_other [fit, size, size of other]."""
        if other.matrix is not None:
            return self._times(values, other.matrix)
        if self.matrix is not None:
            return other.block(self, values).mT
        flat = values.new_zeros(len(values), self.entries * other.entries)
        for mine, weight in self.terms:
            for theirs, their_weight in other.terms:
                weighed = _weighed(_weighed(values, weight), their_weight)
                flat.index_add_(-1, mine * other.entries + theirs, weighed)
        out = flat.reshape(-1, self.entries, other.entries)
        if self.through is not None:
            out = self.through.T @ out
        return out if other.through is None else out @ other.through

    def _times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Return J^T diag(values) M [fit, size, column] of a matrix M [comparison, column], some rows at a time."""
        if self.matrix is not None:
            return _weighed_product(self.matrix, values, matrix)
        out = values.new_zeros(len(values), self.entries, matrix.shape[1])
        if self.entries == 1:
            for _, weight in self.terms:
                out[:, 0] += product_of(_weighed(values, weight), matrix)
            return out if self.through is None else self.through.T @ out
        into, first = out.flatten(0, 1), self.entries * torch.arange(len(values), device=values.device)[:, None]
        for some in row_blocks(matrix):
            rows = matrix[some].to(values.dtype)
            column = torch.arange(len(rows), device=rows.device).expand(len(values), -1)
            for place, weight in self.terms:
                by = _weighed(values[:, some], weight[some] if isinstance(weight, Tensor) else weight)
                at = torch.stack([(first + place[some]).flatten(), column.flatten()])
                shape = len(into), len(rows)
                into.addmm_(torch.sparse_coo_tensor(at, by.flatten(), shape, check_invariants=False), rows)
        return out if self.through is None else self.through.T @ out

    def covariance_with(self, other: Leaf, covariance: Tensor) -> Tensor:
        """Return the covariance [comparison] of both leaves, given that of z [dimension, dimension]."""
        part = covariance[self.at, other.at]
        part = part if self.through is None else self.through @ part
        part = part if other.through is None else part @ other.through.T
        if self.matrix is not None and other.matrix is not None:
            dtype = _precision(self.matrix, other.matrix, part.dtype)
            part, out = part.to(dtype), part.new_empty(len(self.matrix))
            for some in row_blocks(self.matrix):
                mine, theirs = _both(self.matrix, other.matrix, some, dtype)
                out[some] = torch.einsum("cs,cs->c", mine @ part, theirs)
            return out
        if self.matrix is not None:
            left = part.T  # [entry, size]
            return sum((w * _paired(left, place, self.matrix) for place, w in other.terms), torch.zeros(()))
        if other.matrix is not None:
            return other.covariance_with(self, covariance)
        flat, size = part.flatten(), part.shape[1]
        pairs = ((a, v, b, w) for a, v in self.terms for b, w in other.terms)
        return sum((v * w * flat.index_select(0, a * size + b) for a, v, b, w in pairs), flat.new_zeros(()))

    def own_blocks(self, other: Leaf, values: Tensor) -> Tensor:
        """Return what annotators' entries have in J^T diag(values) J_other [annotator, own, own of other]."""
        people = (self.at.stop - self.at.start) // self.own
        flat = values.new_zeros(people * self.own * other.own)
        for mine, weight in self.terms:
            for theirs, their_weight in other.terms:
                weighed = _weighed(_weighed(values[0], weight), their_weight)
                flat.index_add_(0, mine * other.own + theirs % other.own, weighed)
        return flat.reshape(people, self.own, other.own)


def derivatives_of(total: Tensor, free: list[Tensor]) -> tuple[list[Tensor], dict[tuple[int, int], Tensor]]:
    """Return slopes of log likelihoods by what comparisons feel, and second derivatives by two of them.

    Each has the shape of what is felt, and is felt by one comparison alone.
    """
    # a site that shapes the priors of others alone has no slope here
    first = torch.autograd.grad(total.sum(), free, create_graph=True, materialize_grads=True)
    curved: dict[tuple[int, int], Tensor] = {}
    for k, slope in enumerate(first):
        if not slope.requires_grad:
            continue
        second = torch.autograd.grad(slope.sum(), free[k:], retain_graph=True, allow_unused=True)
        curved |= {(k, k + m): value.detach() for m, value in enumerate(second) if value is not None}
    return [slope.detach() for slope in first], curved


def product(z: Tensor, matrix: Tensor) -> Tensor:
    """Return z [fit, size] times the rows of a dense matrix [comparison, size], as [fit, comparison]."""
    out = z.new_empty(len(z), len(matrix))
    for some in row_blocks(matrix):
        out[:, some] = z @ matrix[some].to(z.dtype).T
    return out


def product_of(values: Tensor, matrix: Tensor) -> Tensor:
    """Return values [fit, comparison] times a dense matrix [comparison, size], as [fit, size]."""
    out = values.new_zeros(len(values), matrix.shape[1])
    for some in row_blocks(matrix):
        out += values[:, some] @ matrix[some].to(values.dtype)
    return out


def _paired(table: Tensor, place: Tensor, matrix: Tensor) -> Tensor:
    """Return the products [comparison] of rows of a table [entry, size] with those of a matrix [comparison, size]."""
    if len(table) == 1:
        return product(table, matrix)[0]
    out = table.new_empty(len(matrix))
    for some in row_blocks(matrix):
        out[some] = torch.einsum("cs,cs->c", table[place[some]], matrix[some].to(table.dtype))
    return out


def _weighed_product(left: Tensor, values: Tensor, right: Tensor) -> Tensor:
    """Return left^T diag(values) right [fit, column, column] of matrices [comparison, column]."""
    out = values.new_zeros(len(values), left.shape[1], right.shape[1])
    dtype = _precision(left, right, values.dtype)
    for some in row_blocks(right, len(values)):
        mine, theirs = _both(left, right, some, dtype)
        out += mine.T @ (values[:, some, None].to(dtype) * theirs)
    return out


def _both(one: Tensor, other: Tensor, some: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return some rows of two matrices, which may be the same, in a precision."""
    rows = one[some].to(dtype)
    return rows, rows if other is one else other[some].to(dtype)


def row_blocks(matrix: Tensor, fits: int = 1) -> list[slice]:
    """Return the rows of a dense matrix, so many at a time that they are worked out together for `fits` fits."""
    size = _ENTRIES if matrix.device.type == "cpu" else _THERE
    step = max(1, size // (fits * matrix.shape[1]))
    return [slice(start, start + step) for start in range(0, len(matrix), step)]


def _precision(one: Tensor, other: Tensor, usual: torch.dtype) -> torch.dtype:
    return torch.float32 if len(one) > EXACT and one.numel() * other.shape[1] > _DEAR else usual


def _weighed(values: Tensor, weight: Weight) -> Tensor:
    return values if isinstance(weight, float) and weight == 1.0 else values * weight
