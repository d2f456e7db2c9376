"""Intransitivity: beside its utility an item has a style that beats some styles and loses to others.

    kappa ~ HalfNormal(0.5)
    blade_i, chest_i ~ Normal(0, 1)                       i = 1..items
    margin <- margin + kappa (blade_a chest_b - blade_b chest_a)

Sites: kappa `curl_scale`, `blade` and `chest` (item): rock, paper and scissors lie at three angles of this plane.
Identification: blade and chest only up to transformations of the plane that keep areas; kappa > 0.4 with a clear gain
in elpd speaks for cycles. Where cycles are real no scalar utility and no implicit density stands for the judgements.
Cannot express: cycles in more than one plane.
Reference: Chen and Joachims (2016), WSDM, 227-236; Causeur and Husson (2005), J. Stat. Plan. Inference 135, 245-259.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "curl_scale": "logits of the part of a margin that goes round in circles",
    "blade": "not identified by itself; predict pairs instead",
    "chest": "not identified by itself; predict pairs instead",
}


@layer("margin", place="wants", unimodal=False, mends="circles", meanings=_MEANINGS)
def intransitive(margin: Tensor, data: Cells) -> Tensor:
    scale = pyro.sample("curl_scale", dist.HalfNormal(0.5))
    with pyro.plate("item", data.n_items, dim=-1):
        blade = pyro.sample("blade", dist.Normal(0.0, 1.0))
        chest = pyro.sample("chest", dist.Normal(0.0, 1.0))
    (blade_a, blade_b), (chest_a, chest_b) = data.sides(blade), data.sides(chest)
    return margin + scale * (blade_a * chest_b - blade_b * chest_a)
