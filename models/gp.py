"""Utilities as a smooth function of item features: a Gaussian process.

    e_i ~ Normal(0, s)                                    i = 1..items
    u = L e,   L L' the Matern-5/2 correlation of the standardised features at `lengthscale`

Sites: e `gp_offset` (item), u `utility` (item). s, the scale layer's, is the amplitude in logits; lengthscale is
in standard deviations of the features: compare values of it by evidence or elpd.
Identification: only differences enter; far from all items the answer is the prior. Meant for up to about 2,000 items.
Of log densities with long tails, where no mass is, the tails set s: utility_scale(fixed=8.0) holds it.
Cannot express: items with equal features and different utilities, or utilities that jump.
Reference: Chu and Ghahramani (2005), ICML, 137-144; Rasmussen and Williams (2006), ch. 4.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


def matern(features: Tensor, lengthscale: float) -> Tensor:
    """Return the Matern-5/2 correlation [item, item] of features [item, feature]."""
    distance = 5**0.5 * torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist") / lengthscale
    return (1 + distance + distance**2 / 3) * (-distance).exp()


@layer("utility", needs=["features"], meanings={"utility": "log preference density of the item, up to a constant"})
def gp(data: Cells, scale: Tensor, lengthscale: float = 0.5) -> Tensor:
    assert data.features is not None  # refused without item features
    correlation = matern(data.features, lengthscale)
    correlation.diagonal().add_(1e-6)  # equal features would make it singular
    with pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("gp_offset", dist.Normal(0.0, scale))
        return pyro.deterministic("utility", offset @ torch.linalg.cholesky(correlation).T)
