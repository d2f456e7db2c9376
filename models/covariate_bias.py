"""Covariate bias: length, style or anything else about a comparison adds to the margin.

    h_c ~ Normal(0, 0.5),   g_c = h_c / s_c               c = 1..covariates, s_c the root mean square of x_c
    margin <- margin + sum_c g_c x_c,     x_c in favour of side a (for length: log length of a minus that of b)

Sites: h `covariate_offset` (covariate), in logits per root mean square, so that the prior does not depend on units; g
`covariate_effect` (covariate), in logits per unit as given. Identification: a covariate that is a property of the items
is confounded with their utilities; it needs items seen with several values (one model, many answers), or utilities
from features. Cannot express: annotators who care differently about the covariate.
Reference: Chiang et al. (2024), ICML, on style control; Springall (1973), Applied Statistics 22, 59-68.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {"covariate_effect": "logits per unit of the covariate", "covariate_offset": "standardised effect"}


@layer("margin", needs=["covariates"], null={"covariate_offset": 0.0}, mends="covariates", meanings=_MEANINGS)
def covariate_bias(margin: Tensor, data: Cells) -> Tensor:
    assert data.covariates is not None  # refused without covariates
    with pyro.plate("covariate", data.covariates.shape[-1], dim=-1):
        effect = pyro.sample("covariate_offset", dist.Normal(0.0, 0.5))
        pyro.deterministic("covariate_effect", data.per_unit(effect))
    return margin + data.covariate_sum(effect)
