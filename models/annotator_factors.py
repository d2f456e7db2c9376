"""Annotator factors: utilities differ between annotators along a few dimensions that all share.

    sigma ~ HalfNormal(1)
    v_ri ~ Normal(0, 1),   w_rj ~ Normal(0, 1)            r = 1..rank, i = 1..items, j = 1..annotators
    u_j = u + sigma sum_r w_rj v_r;   margin <- margin + sigma sum_r w_rj (v_ra - v_rb)

Sites: sigma `factor_scale`, v `factor_loading` (factor, item), w `factor_score` (annotator within factor); each
annotator adds sigma V'w to the utility. Identification: v and w only up to a rotation of the factors (and their
signs), so read predictions or the products, never v or w alone. Between one taste for all (sigma = 0) and tastes of
everyone's own (tastes). Cannot express: camps with nobody in between.
Reference: Boeckenholt (2006), Psychometrika 71, 615-629; Salakhutdinov and Mnih (2008), NeurIPS, for the prior.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "factor_scale": "standard deviation of utility along one factor",
    "factor_loading": "not identified by itself; predict pairs instead",
    "factor_score": "not identified by itself; predict pairs instead",
}


@layer("margin", place="wants", needs=["annotator"], unimodal=False, tall=True, meanings=_MEANINGS)
def annotator_factors(margin: Tensor, data: Cells, rank: int = 1) -> Tensor:
    scale = pyro.sample("factor_scale", dist.HalfNormal(1.0))
    with pyro.plate("factor", rank, dim=-2):
        with pyro.plate("item", data.n_items, dim=-1):
            loading = pyro.sample("factor_loading", dist.Normal(0.0, 1.0))
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            score = pyro.sample("factor_score", dist.Normal(0.0, 1.0))
    terms = data.of("annotator", score) * data.contrast(loading)
    return margin + scale * terms.sum(-2, keepdim=True)
