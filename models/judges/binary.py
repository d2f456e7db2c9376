"""Binary labels: logistic regression on the covariates and the two AI outputs.

    a ~ Normal(0, 1),   b_f ~ Normal(0, 1)                 f = 1..features (covariates and both outputs)
    P(y_i = larger label) = 1 / (1 + exp(-(a + b . z_i)))

Sites: a `intercept`, b `coefficient` (feature). Identification: both labels occur. A judge without noise would reveal
the label wherever the outputs differ, so give the judge noise (distance) or lapses. Cannot express: a third label.
Reference: Gelman, Jakulin, Pittau and Su (2008), Annals of Applied Statistics 2, 1360-1383, for weak priors.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from prefdensity.programs.judged_cells import JudgedCells, regression
from prefdensity.programs.layers import layer

_MEANINGS = {
    "intercept": "logit of the larger label, for an average unit",
    "coefficient": "logits for one sd of this feature",
}


@layer("label", needs=["two levels"], meanings=_MEANINGS)
def binary(data: JudgedCells) -> Tensor:
    assert data.level is not None  # refused without levels
    return logsigmoid(data.at_points(regression(data)) * (2 * data.level - 1))
