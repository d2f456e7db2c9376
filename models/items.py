"""One utility per item, independent a priori.

    u_i ~ Normal(0, s)                  i = 1..items

Site: u `utility` (item); s is the scale layer's, learned unless it is given (utility_scale). Reading: exp(u) is the
implicit preference density up to a constant under the logit rule. Identification: only differences enter the
likelihood; the prior fixes the shift, reports centre the utilities.
Cannot express: what an item's utility owes to its features, or that annotators differ.
Reference: Zermelo (1929); Bradley and Terry (1952), Biometrika 39, 324-345.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("utility", mends="features", meanings={"utility": "log preference density of the item, up to a constant"})
def items(data: Cells, scale: Tensor) -> Tensor:
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.sample("utility", dist.Normal(0.0, scale))
