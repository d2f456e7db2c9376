"""Exact second derivatives of a program's log density.

`LocalCurvature` uses that a comparison feels the parameters only through its own margin, its annotator's
entries and the scalars: with those as separate leaves per cell, a handful of backward passes gives every
second derivative, and scatter-adds assemble the Hessian. A check against an automatic Hessian-vector product
decides whether that holds for a program; `dense_hessian` serves the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.cells import Cells
from prefdensity.inference.view import View, first_cells
from prefdensity.running import Substitute, environment

Objective = Callable[[Tensor], Tensor]

# Rows of the Hessian per batched backward pass, in cell evaluations.
_BACKWARD = 20_000_000
# Cells on which locality is checked: it is a property of the program, not of the data.
_PROBE = 2000


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


@dataclass(frozen=True, eq=False)
class _LocalCells(Cells):
    """Cells whose gathers return per-cell leaves: every annotator plate has one entry per cell."""

    margin: Tensor | None = None

    def contrast(self, utility: Tensor) -> Tensor:
        assert self.margin is not None
        return self.margin

    def of_annotator(self, table: Tensor) -> Tensor:
        return table


class LocalCurvature:
    """Gradient and Hessian of one density [dimension] for programs that are local in the sense above."""

    def __init__(self, view: View) -> None:
        self.view = view
        names = {layer.stage for layer in view.program.layers}
        self.utility = _utility_sites(view) if names and "types" not in names else []
        local = [s for n, s in view.sites.items() if n not in self.utility]
        self.applies = bool(self.utility) and all(
            s.is_scalar or (s.dims == ("annotator",) and not s.event) for s in local
        )
        self.local = local
        self.identity = self.applies and self._is_item_table()

    def _is_item_table(self) -> bool:
        sites = [self.view.sites[name] for name in self.utility]
        return len(sites) == 1 and sites[0].dims == ("item",) and sites[0].is_identity

    def holds(self, z: Tensor) -> bool:
        """Check the Hessian against an automatic Hessian-vector product at z [dimension], on a few cells."""
        if len(self.view.cells) > _PROBE:
            few = View(self.view.program, first_cells(self.view.cells, _PROBE))
            return LocalCurvature(few).holds(z)
        direction = torch.linspace(-1.0, 1.0, len(z), dtype=z.dtype, device=z.device).sin()
        _, _, hessian = self(z, prior=True)
        free = z.detach()[None].requires_grad_()
        (gradient,) = torch.autograd.grad(self.view.log_joint(free).sum(), free, create_graph=True)
        (product,) = torch.autograd.grad((gradient[0] * direction).sum(), free)
        scale = product.abs().max().clamp_min(1e-12)
        return bool((hessian @ direction - product[0]).abs().max() < 1e-8 * scale)

    def __call__(self, z: Tensor, prior: bool = True) -> tuple[float, Tensor, Tensor]:
        """Return value, gradient [dimension] and Hessian [dimension, dimension] of the log joint density.

        Of the log likelihood alone for `prior=False`.
        """
        value, gradient, hessian = self._likelihood(z)
        if prior:
            prior_value, prior_gradient, prior_hessian = self._prior(z)
            return value + prior_value, gradient + prior_gradient, hessian + prior_hessian
        return value, gradient, hessian

    def _leaves(self, z: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return the margin and site leaves [comparison], and the Jacobian [item, d] of the utility table."""
        cells = self.view.cells
        if self.identity:
            table = z[self.view.sites[self.utility[0]].at]
            jacobian = torch.empty(0)
        else:
            index = self._utility_index()
            table = self._table(z[index], z)
            jacobian = torch.autograd.functional.jacobian(lambda part: self._table(part, z), z[index], vectorize=True)
        leaves = {}
        for site in self.local:
            raw = z[site.at]
            spread = raw.expand(len(cells)) if site.is_scalar else cells.of_annotator(raw)
            leaves[site.name] = spread.clone().requires_grad_()
        return cells.contrast(table).detach().requires_grad_(), leaves, jacobian

    def _utility_index(self) -> Tensor:
        parts = [torch.arange(self.view.sites[n].at.start, self.view.sites[n].at.stop) for n in self.utility]
        return torch.cat(parts).to(self.view.device)

    def _table(self, part: Tensor, z: Tensor) -> Tensor:
        """Return utilities [item] as a function of the utility sites' entries."""
        full = z.detach().index_put((self._utility_index(),), part)
        seen: dict[str, Tensor] = {}

        @dataclass(frozen=True, eq=False)
        class Listening(Cells):
            def contrast(self, utility: Tensor) -> Tensor:
                seen["utility"] = utility
                return super().contrast(utility)

        values, _ = self.view.values(full[None])
        cells = self.view.cells
        self.view.run(values, 1, Listening(**{k: getattr(cells, k) for k in cells.__dataclass_fields__}))
        return seen["utility"].reshape(-1)

    def _likelihood(self, z: Tensor) -> tuple[float, Tensor, Tensor]:
        view, cells = self.view, self.view.cells
        margin, leaves, jacobian = self._leaves(z)
        values, _ = view.values(z[None])
        for site in self.local:
            values[site.name] = site.transform(leaves[site.name]).reshape(1, 1, -1)
        fields = {k: getattr(cells, k) for k in cells.__dataclass_fields__}
        local = _LocalCells(**{**fields, "n_annotators": len(cells)}, margin=margin.reshape(1, 1, -1))
        outcome = view.run(values, 1, local).met["outcome"]
        total = outcome["fn"].log_prob(outcome["value"]).sum()
        tensors = [margin, *leaves.values()]
        first = torch.autograd.grad(total, tensors, create_graph=True)
        second: dict[tuple[int, int], Tensor] = {}
        for k, slope in enumerate(first):
            rest = torch.autograd.grad(slope.sum(), tensors[k:], retain_graph=True, allow_unused=True)
            for j, part in enumerate(rest, start=k):
                second[k, j] = torch.zeros_like(slope) if part is None else part
        gradient, hessian = self._assemble([g.detach() for g in first], second, jacobian)
        return float(total.detach()), gradient, hessian

    def _assemble(
        self, first: list[Tensor], second: dict[tuple[int, int], Tensor], jacobian: Tensor
    ) -> tuple[Tensor, Tensor]:
        view, cells = self.view, self.view.cells
        gradient = torch.zeros(view.dimension, dtype=view.dtype, device=view.device)
        hessian = torch.zeros(view.dimension, view.dimension, dtype=view.dtype, device=view.device)
        # a slice where there is one: copying a block through an index costs as much as computing it
        where = view.sites[self.utility[0]].at if self.identity else self._utility_index()

        def pull(per_item: Tensor) -> Tensor:
            return per_item if self.identity else jacobian.T @ per_item

        gradient[where] = pull(_divergence(cells, first[0]))
        block = _laplacian(cells, second[0, 0])
        if isinstance(where, slice):
            hessian[where, where] = block
        else:
            hessian[where[:, None], where[None]] = jacobian.T @ block @ jacobian
        for k, site in enumerate(self.local, start=1):
            gradient[site.at] = _collect(cells, site.is_scalar, first[k], cells.n_annotators)
            cross = pull(_item_by(cells, second[0, k], site.is_scalar))
            hessian[where, site.at] = cross
            hessian[site.at, where] = cross.T
            for j, other in enumerate(self.local[k - 1 :], start=k):
                part = _cross(cells, second[k, j], site.is_scalar, other.is_scalar)
                hessian[site.at, other.at] = part
                hessian[other.at, site.at] = part.T
        return gradient, hessian

    def _prior(self, z: Tensor) -> tuple[float, Tensor, Tensor]:
        """Second derivatives of the prior: given the scalars, the entries of a site are independent."""
        view = self.view
        free = z.detach()[None].requires_grad_()
        log_prior = _log_prior(view, free)
        (gradient,) = torch.autograd.grad(log_prior.sum(), free, create_graph=True)
        hessian = torch.zeros(view.dimension, view.dimension, dtype=view.dtype, device=view.device)
        if not gradient.requires_grad:
            return float(log_prior.detach()), gradient[0].detach(), hessian
        for site in view.sites.values():
            (row,) = torch.autograd.grad(gradient[0, site.at].sum(), free, retain_graph=True)
            if site.is_scalar:
                hessian[site.at.start] = row[0]
                hessian[:, site.at.start] = row[0]
            else:
                hessian.diagonal()[site.at] = row[0, site.at]
        return float(log_prior.detach()), gradient[0].detach(), hessian


def _log_prior(view: View, z: Tensor) -> Tensor:
    """Return the log prior alone, running the program on one cell."""
    values, total = view.values(z)
    met = view.run(values, len(z), first_cells(view.cells, 1)).met
    for name in view.sites:
        total = total + met[name]["fn"].log_prob(met[name]["value"]).flatten(1).sum(-1)
    return total


def _utility_sites(view: View) -> list[str]:
    """Return the sites sampled by the utility layer: those met when it runs alone."""
    layer = next(each for each in view.program.layers if each.stage == "utility")
    with environment(view.dtype, seed=0), Substitute({}) as seen:
        layer(view.cells)
    return [name for name in seen.met if name in view.sites]


def _divergence(cells: Cells, flow: Tensor) -> Tensor:
    """Return [item]: sum of flow [comparison] into side a minus into side b."""
    out = flow.new_zeros(cells.n_items)
    return out.index_add(0, cells.item_a, flow).index_add(0, cells.item_b, -flow)


def _laplacian(cells: Cells, weight: Tensor) -> Tensor:
    """Return [item, item] sum of weight (e_a - e_b)(e_a - e_b)^T."""
    n, weight = cells.n_items, weight.detach()
    out = weight.new_zeros(n * n)
    out.scatter_add_(0, cells.item_a * n + cells.item_b, -weight)
    out.scatter_add_(0, cells.item_b * n + cells.item_a, -weight)
    diagonal = weight.new_zeros(n).index_add(0, cells.item_a, weight).index_add(0, cells.item_b, weight)
    out[:: n + 1] += diagonal
    return out.reshape(n, n)


def _collect(cells: Cells, is_scalar: bool, values: Tensor, n_annotators: int) -> Tensor:
    if is_scalar:
        return values.sum()[None]
    assert cells.annotator is not None  # the site has an annotator plate
    return values.new_zeros(n_annotators).index_add(0, cells.annotator, values)


def _item_by(cells: Cells, values: Tensor, is_scalar: bool) -> Tensor:
    """Return [item, 1 or annotator]: cross derivatives between item utilities and a site."""
    if is_scalar:
        return _divergence(cells, values)[:, None]
    n, m = cells.n_items, cells.n_annotators
    assert cells.annotator is not None
    into_a = torch.bincount(cells.item_a * m + cells.annotator, values.detach(), n * m)
    into_b = torch.bincount(cells.item_b * m + cells.annotator, values.detach(), n * m)
    return (into_a - into_b).reshape(n, m)


def _cross(cells: Cells, values: Tensor, left_scalar: bool, right_scalar: bool) -> Tensor:
    """Return the block of two sites that are scalars or indexed by annotator."""
    if left_scalar and right_scalar:
        return values.sum()[None, None]
    per_annotator = _collect(cells, False, values, cells.n_annotators)
    if not left_scalar and not right_scalar:
        return torch.diag(per_annotator)
    return per_annotator[None, :] if left_scalar else per_annotator[:, None]
