"""Annotator types whose number is learned: a truncated Dirichlet process.

    alpha ~ Gamma(2, 2)
    v_k ~ Beta(1, alpha)                                  k = 1..most - 1
    w_k = v_k prod_{l<k} (1 - v_l),   the last w takes the rest
    u_k drawn from the utility layer, for each type;   z_j ~ Categorical(w), summed out exactly

Sites: alpha `concentration`, v `stick` (break), w `type_weight` (type), `utility` (type, item). About
alpha log(1 + annotators / alpha) types are expected. Identification: as annotator_types; types beyond those in use
keep their prior. The number of occupied types is not a consistent estimate of a true number, and grows
when annotators within a type differ. Cannot express: annotators between camps.
Reference: Sethuraman (1994), Statistica Sinica 4, 639-650; Ishwaran and James (2001), JASA 96, 161-173.
"""

import pyro
import pyro.distributions as dist
import torch
from prefdensity.models.annotator_types import starts
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "type_weight": "share of annotators",
    "concentration": "how readily new types are opened",
    "stick": "share of what the earlier types leave",
}


def _starts(data: Cells, restarts: int, seed: int, most: int = 5) -> object:
    return starts(data, restarts, seed, k=most)


@layer("types", needs=["annotator"], unimodal=False, starts=_starts, meanings=_MEANINGS)
def dirichlet_types(data: Cells, most: int = 5) -> Tensor:
    concentration = pyro.sample("concentration", dist.Gamma(2.0, 2.0))
    with pyro.plate("break", most - 1, dim=-1):
        stick = pyro.sample("stick", dist.Beta(1.0, concentration))
    left = torch.cat([torch.ones_like(stick[..., :1]), (-stick).log1p().cumsum(-1).exp()], -1)
    weight = left * torch.cat([stick, torch.ones_like(stick[..., :1])], -1)
    return pyro.deterministic("type_weight", weight)
