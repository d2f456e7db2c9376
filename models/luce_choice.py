"""Luce's choice from a set: every alternative has a chance proportional to the exponential of its utility.

    P(i from S) = exp(u_i) / sum_{s in S} exp(u_s)        a ranking: one such choice after another, from what is left
    P(i best, j worst in S) ∝ exp(u_i - u_j)              a best-worst answer: a choice among ordered pairs

Identification: utilities up to a common shift, as in pairs; with two items it is `logit`. Luce's axiom makes choices
consistent across sizes of sets: fit each size by itself to doubt it. A reversed ranking (worst first) is not
Plackett-Luce unless there are two items. Cannot express: ties, similar items that share their votes (the red bus and
the blue bus).
Reference: Luce (1959), Individual Choice Behavior; Plackett (1975), Applied Statistics 24, 193-202; Marley and
Louviere (2005), J. Mathematical Psychology 49, 464-480.
"""

import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import by_outcome, luce


@layer("choice", outcomes=["a", "b"], luce=True, sets=True)
def luce_choice(margin: Tensor, data: Cells) -> Tensor:
    if data.choice is None:  # comparisons: choices from two
        return luce(margin, torch.zeros_like(margin))
    chosen = margin - data.log_sum_of_set(margin)
    return by_outcome(chosen, (-chosen.exp().clamp(max=1 - 1e-12)).log1p())
