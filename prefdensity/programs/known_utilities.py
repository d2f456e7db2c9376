"""Utilities that are known, draw by draw, whatever made them: a layer in the place of one that reads item features."""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("utility", meanings={"utility": "log preference density of the item, up to a constant"})
def known_utilities(data: Cells) -> Tensor:
    """Take the utilities of items as they are; for a posterior, which always has draws of them, never for a fit."""
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.sample("utility", dist.Normal(0.0, 1.0))  # type: ignore[no-any-return]
