"""DPO's behaviour: annotators compare how much likelier items are under their density than under a reference.

    Omega_i = beta (log p_i - log q_i),        P(a preferred to b) = sigmoid(Omega_a - Omega_b)

q is the reference policy, its log probabilities the item measure `log_reference`, and beta is fixed. Direct preference
optimisation trains a policy p as if annotators behaved so; its optimum is the density of this program. The utilities
are log p. Identification: beta and q are assumed, never learned: annotators who follow Luce's rule with density r give
the same preferences, and p is then proportional to q r^(1 / beta). Cannot express: a reference that differs between
annotators.
Reference: Rafailov et al. (2023), arXiv 2305.18290; Dumoulin et al. (2024), TMLR, arXiv 2311.14115.
"""

from torch import Tensor

from prefdensity.errors import require_positive
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("behaviour", needs=["measures"])
def dpo(utility: Tensor, data: Cells, beta: float = 1.0, reference: str = "log_reference") -> Tensor:
    require_positive(beta=beta)
    return beta * (utility - data.measure(reference))
