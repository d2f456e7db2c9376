"""Student labels: linear in the features with heavy tails, so that single odd labels pull less.

    a ~ Normal(0, 1),   b_f ~ Normal(0, 1)                 f = 1..features (covariates and both outputs)
    s ~ HalfNormal(1),  nu ~ Gamma(2, 0.1)
    y_i ~ StudentT(nu, a + b . z_i, s)                     in standard deviations of the observed labels

Sites: a `intercept`, b `coefficient` (feature), s `label_sd` (the scale), nu `degrees_of_freedom`. Identification: as
for gaussian; large nu is gaussian. Cannot express: skewed residuals, bounds, rounding, curvature.
Reference: Juarez and Steel (2010), Journal of Business & Economic Statistics 28, 52-66, for the prior of nu.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells, regression
from prefdensity.programs.layers import layer

_MEANINGS = {
    "intercept": "expected label of an average unit, in sd of the labels from their mean",
    "coefficient": "sd of labels for one sd of this feature",
    "label_sd": "residual scale of labels, in sd of the labels",
    "degrees_of_freedom": "weight of the tails: below 10 heavy, above 30 Gaussian",
}


@layer("label", meanings=_MEANINGS)
def student(data: JudgedCells) -> Tensor:
    mean = regression(data)
    scale = pyro.sample("label_sd", dist.HalfNormal(1.0))
    nu = pyro.sample("degrees_of_freedom", dist.Gamma(2.0, 0.1))
    return dist.StudentT(nu, data.at_points(mean), scale).log_prob(data.label)
