"""Geometric behaviour: what annotators compare, and a reference, average geometrically to the density p.

    Omega_i = log p_i / alpha + (1 - 1 / alpha) log q_i,        P(a preferred to b) = sigmoid(Omega_a - Omega_b)

so that p is proportional to exp(Omega)^alpha q^(1 - alpha). q is the reference policy, its log probabilities the item
measure `log_reference`, and alpha is fixed: 1 is Luce's rule, towards 0 the density is the reference whatever is
preferred. The utilities are log p. Identification: alpha and q are assumed, never learned. Cannot express: a reference
that differs between annotators.
Reference: Dumoulin et al. (2024), TMLR, arXiv 2311.14115.
"""

from torch import Tensor

from prefdensity.errors import require_positive
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("behaviour", needs=["measures"])
def geometric(utility: Tensor, data: Cells, alpha: float = 1.0, reference: str = "log_reference") -> Tensor:
    require_positive(alpha=alpha)
    return utility / alpha + (1 - 1 / alpha) * data.measure(reference)
