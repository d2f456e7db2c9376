"""Tempered behaviour: annotators of density p weigh its logarithm by beta.

    P(a preferred to b) = sigmoid(beta (log p_a - log p_b)),        beta fixed, 1 is Luce's rule

The utilities are log p. Identification: beta is assumed, never learned. Preferences tell beta log p alone, so any other
beta gives the same predictions and the density p^(beta / other): temperature is the sharpness of the density.
Utilities of prior scale s at beta are those of Bradley-Terry of scale beta s, divided by beta. Cannot express:
annotators of unequal temperature (reliability).
Reference: Dumoulin et al. (2024), TMLR, arXiv 2311.14115.
"""

from torch import Tensor

from prefdensity.errors import require_positive
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("behaviour")
def tempered(utility: Tensor, data: Cells, beta: float = 1.0) -> Tensor:
    require_positive(beta=beta)
    return beta * utility
