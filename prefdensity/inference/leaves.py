"""What a likelihood feels of the parameters in one comparison, and sums of its derivatives over comparisons."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.programs.cells import Cells


@dataclass(frozen=True, eq=False)
class LocalCells(Cells):
    """Cells whose gathers return per-cell leaves: the plate of every label has one entry per cell.

    `cells.sizes` are to say so.
    """

    margin: Tensor | None = None

    def contrast(self, utility: Tensor, by: str = "") -> Tensor:
        """Return the margins, whatever the utilities; contrasts by label were taken before."""
        assert self.margin is not None
        return utility if by else self.margin

    def of(self, name: str, table: Tensor) -> Tensor:
        """Return a table that has one entry per cell already."""
        return table

    def attribute(self, of: str, name: str) -> Tensor:
        """Return what is known of the label of every cell; of items it is as it was."""
        known = super().attribute(of, name)
        return known if of not in self.labels else known.index_select(0, self.labels[of])

    def shared(self, table: Tensor) -> Tensor:
        """Return a table that has entries per cell already."""
        return table

    def covariate_sum(self, effect: Tensor) -> Tensor:
        """Return sums that were taken before."""
        return effect

    def per_unit(self, effect: Tensor) -> Tensor:
        """Return what has no covariates any more as it is."""
        return effect


@dataclass(frozen=True, eq=False)
class Leaf:
    """A quantity with one value per fit and cell, J z of some coordinates z: what a likelihood feels of them.

    J is a dense `matrix` [comparison, size], or has +1 at the entry `plus` of each row (and -1 at `minus`), after
    which the entries may still be linear functions of z: `through` [entry, size]. `own`: the entries are those of
    annotators, so many for each.
    """

    at: slice
    value: Tensor  # [fit, comparison]
    plus: Tensor | None = None
    minus: Tensor | None = None
    through: Tensor | None = None
    matrix: Tensor | None = None
    own: int = 0

    @property
    def signed(self) -> list[tuple[Tensor, float]]:
        """The entries of z met in each comparison, and their signs."""
        return [(each, sign) for each, sign in ((self.plus, 1.0), (self.minus, -1.0)) if each is not None]

    @property
    def entries(self) -> int:
        """How many entries comparisons meet."""
        return self.at.stop - self.at.start if self.through is None else len(self.through)

    def pull(self, values: Tensor) -> Tensor:
        """Return J^T values [fit, size] of values [fit, comparison]."""
        if self.matrix is not None:
            return values @ self.matrix
        assert self.plus is not None
        out = values.new_zeros(len(values), self.entries).index_add(-1, self.plus, values)
        if self.minus is not None:
            out = out.index_add(-1, self.minus, -values)
        return out if self.through is None else out @ self.through

    def block(self, other: Leaf, values: Tensor) -> Tensor:
        """Return J^T diag(values) J_other [fit, size, size of other]."""
        if other.matrix is not None:
            return torch.stack([self.pull(values * column) for column in other.matrix.T], -1)
        if self.matrix is not None:
            return other.block(self, values).mT
        flat = values.new_zeros(len(values), self.entries * other.entries)
        for mine, sign in self.signed:
            for theirs, flip in other.signed:
                flat.index_add_(-1, mine * other.entries + theirs, sign * flip * values)
        out = flat.reshape(-1, self.entries, other.entries)
        if self.through is not None:
            out = self.through.T @ out
        return out if other.through is None else out @ other.through

    def within(self, other: Leaf, values: Tensor) -> Tensor:
        """Return what annotators' entries have in J^T diag(values) J_other [annotator, own, own of other]."""
        people = (self.at.stop - self.at.start) // self.own
        flat = values.new_zeros(people * self.own * other.own)
        for mine, sign in self.signed:
            for theirs, flip in other.signed:
                flat.index_add_(0, mine * other.own + theirs % other.own, sign * flip * values[0])
        return flat.reshape(people, self.own, other.own)
