"""The log prior of a program with its derivatives: given the scalars, the entries of every site are independent.

So its Hessian is a row for each scalar and a diagonal for each other site.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prefdensity.inference.view import Site, View


def log_prior_rows(view: View, z: Tensor) -> tuple[Tensor, Tensor, list[tuple[Site, Tensor]]]:
    """Return value [fit], gradient [fit, dimension] of the log prior and per site what its Hessian needs.

    Of a scalar that is its row [fit, dimension], 0 where an earlier scalar's row has it. Given the scalars, the
    entries of any other site are independent: [fit, dimension] holds its diagonal.
    """
    free = z.detach().requires_grad_()
    log_prior = _log_prior(view, free)
    (gradient,) = torch.autograd.grad(log_prior.sum(), free, create_graph=True)
    if not gradient.requires_grad:
        return log_prior.detach(), gradient.detach(), []
    rows: list[tuple[Site, Tensor]] = []
    for site in view.sites.values():
        (row,) = torch.autograd.grad(gradient[:, site.at].sum(), free, retain_graph=True)
        for earlier in (each for each, _ in rows if each.is_scalar):
            row[:, earlier.at] = 0.0
        rows.append((site, row))
    return log_prior.detach(), gradient.detach(), rows


def _log_prior(view: View, z: Tensor) -> Tensor:
    """Return the log prior alone, running the program on one cell."""
    values, total = view.values(z)
    met = view.run(values, len(z), view.cells.head(1)).met
    for name in view.sites:
        total = total + met[name]["fn"].log_prob(met[name]["value"]).flatten(1).sum(-1)
    return total


def add_rows(hessian: Tensor, rows: list[tuple[Site, Tensor]]) -> None:
    """Add the Hessian of the log prior, as `log_prior_rows` has it, to one [fit, dimension, dimension]."""
    for site, row in rows:
        if site.is_scalar:
            k = site.at.start
            hessian[:, k] += row
            hessian[:, :, k] += row
            hessian[:, k, k] -= row[:, k]
        else:
            hessian.diagonal(dim1=-2, dim2=-1)[:, site.at] += row[:, site.at]
