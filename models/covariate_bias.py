"""Covariate bias: length, style or anything else about a comparison adds to the margin.

    g_c ~ Normal(0, 0.5)                                  c = 1..covariates
    margin <- margin + sum_c g_c x_c,     x_c in favour of side a (for length: log length of a minus that of b)

Site: g `covariate_effect` (covariate), in logits per unit of the covariate; give covariates on a scale where a
unit is a large difference. Identification: a covariate that is a property of the items is confounded with their
utilities; it needs items seen with several values (one model, many answers), or utilities from features.
Cannot express: annotators who care differently about the covariate.
Reference: Chiang et al. (2024), ICML, on style control; Springall (1973), Applied Statistics 22, 59-68.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.cells import Cells
from prefdensity.programs import layer


@layer("margin", needs=["covariates"], meanings={"covariate_effect": "logits per unit of the covariate"})
def covariate_bias(margin: Tensor, data: Cells) -> Tensor:
    assert data.covariates is not None  # refused without covariates
    with pyro.plate("covariate", data.covariates.shape[-1], dim=-1):
        effect = pyro.sample("covariate_effect", dist.Normal(0.0, 0.5))
    return margin + data.covariate_sum(effect)
