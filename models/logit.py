"""Logistic choice: Luce's rule for two alternatives.

    P(a beats b) = 1 / (1 + exp(-margin)),        margin = u_a - u_b (+ what margin layers add)

No parameter. Identification: the unit of utility is one logit; temperature is not separately identified,
it is the sharpness of the density. Cannot express: ties, lapses.
Reference: Luce (1959), Individual Choice Behavior.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import by_outcome


@layer("choice", outcomes=["a", "b"], luce=True)
def logit(margin: Tensor, data: Cells) -> Tensor:
    log_a = logsigmoid(margin)
    return by_outcome(log_a, log_a - margin)
