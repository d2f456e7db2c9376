"""How the margins of comparisons come from the one site that utilities are made of.

Utilities are linear in the entries of that site: they are these entries, or, from features, K times them. Margins
T u, with T the differences of comparisons, are then T K times the entries. That matrix [comparison, entry] is formed
where it has fewer numbers than a table of all pairs of items; otherwise K [item, entry], and T is applied to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from prefdensity.inference.leaves import Leaf, product
from prefdensity.inference.site import Site
from prefdensity.inference.view import View
from prefdensity.programs.cells import Cells
from prefdensity.programs.tables import plain

_TOGETHER = 2**23  # utilities that are read in one run


class Margins:
    """The margins of a view's comparisons by the entries of a site, of `types` types alike."""

    def __init__(self, view: View, site: Site, types: int = 1) -> None:
        self.view, self.site, self.types = view, site, types
        self.size = (site.at.stop - site.at.start) // types

    def leaf(self, raw: Tensor, at: slice) -> Leaf:
        """Return what comparisons feel of entries raw [row, size], which lie `at` some place."""
        cells = self.view.cells
        terms = ((cells.item_a, 1.0), (cells.item_b, -1.0))
        if self.as_they_are:
            return Leaf(at, cells.contrast(raw), terms)
        at_zero, matrix = self._matrix
        if matrix is not None:
            return Leaf(at, at_zero + product(raw, matrix), matrix=matrix)
        return Leaf(at, at_zero + cells.contrast(raw @ self._through.T), terms, through=self._through)

    @cached_property
    def as_they_are(self) -> bool:
        """Whether the entries of the site are compared as they are, and not functions of them."""
        if not self.site.is_identity or self.size != self.view.cells.n_items:
            return False
        view = self.view
        z = torch.linspace(-1.0, 1.0, view.dimension, dtype=view.dtype, device=view.device).sin()
        return torch.equal(utility_tables(view, z[None])[0].flatten(), z[self.site.at])

    @cached_property
    def _through(self) -> Tensor:
        """Utilities per unit of each entry [item, entry]."""
        if self._are_features:
            return self.view.cells.features  # type: ignore[return-value]
        return self._per_unit(lambda tables: tables).T.contiguous()

    @cached_property
    def _matrix(self) -> tuple[Tensor, Tensor | None]:
        """Margins [comparison] at 0, and per unit of each entry [comparison, entry] where these are fewer numbers."""
        cells = self.view.cells
        at_zero = cells.contrast(self._tables(self._zero)[0])
        if len(cells) * self.size > cells.n_items**2:
            return at_zero, None
        if self._are_features:
            return at_zero, self.view.differences[:-1]
        return at_zero, self._per_unit(cells.contrast).T.contiguous()

    @cached_property
    def _are_features(self) -> bool:
        """Whether an entry's unit is worth what the items' features say: a guess that saves as many runs as entries."""
        features, at = self.view.cells.features, self.site.at
        if features is None or not self.site.is_identity or features.shape != (self.view.cells.n_items, self.size):
            return False
        z = self._zero.repeat(2, 1)
        z[:, at.start : at.start + self.size] = torch.linspace(-9.0, 9.0, 2 * self.size).sin().reshape(2, -1).to(z)
        utility = self._tables(torch.cat([z, self._zero]))
        expected = z[:, at.start : at.start + self.size] @ features.T
        return bool(torch.allclose(utility[:2] - utility[2], expected, rtol=1e-9, atol=1e-9))

    @property
    def _zero(self) -> Tensor:
        return torch.zeros(1, self.view.dimension, dtype=self.view.dtype, device=self.view.device)

    def _tables(self, z: Tensor) -> Tensor:
        """Return the utilities [fit, item] of the first type."""
        return utility_tables(self.view, z)[:, 0]

    def _per_unit(self, read: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what is read of utilities [fit, item] per unit of each entry of their site [entry, ...]."""
        first, out = self.site.at.start, []
        start = read(self._tables(self._zero))
        step = max(1, _TOGETHER // (self.view.cells.n_items * self.types))
        for some in torch.arange(first, first + self.size).split(step):
            z = self._zero.repeat(len(some), 1)
            z[torch.arange(len(some)), some] = 1.0
            out.append(read(self._tables(z)) - start)
        return torch.cat(out)


@torch.no_grad()
def utility_tables(view: View, z: Tensor) -> Tensor:
    """Return the utilities [fit, type, item] that the program computes at z [fit, dimension]."""
    few = view.cells.head(1)
    listening = _Listening(**{name: getattr(few, name) for name in few.__dataclass_fields__})
    view.run(view.values(z)[0], len(z), listening)
    return plain(listening.heard[0]).reshape(len(z), -1, view.cells.n_items)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _Listening(Cells):
    """Cells that keep the utilities which they are asked to contrast."""

    heard: list[Tensor] = field(default_factory=list)

    def contrast(self, utility: Tensor, by: str = "") -> Tensor:
        self.heard.append(utility)
        return super().contrast(utility, by)
