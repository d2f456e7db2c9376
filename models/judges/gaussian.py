"""Gaussian labels: linear in the covariates and the two AI outputs.

    a ~ Normal(0, 1),   b_f ~ Normal(0, 1)                 f = 1..features (covariates and both outputs)
    s ~ HalfNormal(1)
    y_i ~ Normal(a + b . z_i, s)                           in standard deviations of the observed labels

Sites: a `intercept`, b `coefficient` (feature), s `label_sd`. Identification: some labelled units; verdicts of units
without a label add what they say through the judge. Cannot express: outliers, bounds, rounding, curvature.
Reference: Gelman and Hill (2007), Data Analysis Using Regression, chapter 18.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells, regression
from prefdensity.programs.layers import layer

_MEANINGS = {
    "intercept": "expected label of an average unit, in sd of the labels from their mean",
    "coefficient": "sd of labels for one sd of this feature",
    "label_sd": "residual sd of labels, in sd of the labels",
}


@layer("label", meanings=_MEANINGS)
def gaussian(data: JudgedCells) -> Tensor:
    mean = regression(data)
    sd = pyro.sample("label_sd", dist.HalfNormal(1.0))
    return dist.Normal(data.at_points(mean), sd).log_prob(data.label)
