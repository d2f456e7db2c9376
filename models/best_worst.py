"""Best-worst scaling (MaxDiff): of the items shown, the pair that lies furthest apart is named.

    u_i ~ Normal(0, s),   s learned                       i = 1..items
    P(i best, j worst in S) = exp(u_i - u_j) / sum_{k != l in S} exp(u_k - u_l)

The composition items + luce_choice, for `prefdensity.Choices.from_best_worst`. With two items it is Bradley-Terry with
margins counted twice. Cannot express: a best and a worst that are picked one after the other from different utilities.
Reference: Marley and Louviere (2005), J. Mathematical Psychology 49, 464-480, the maxdiff model.
"""

from prefdensity.models.items import items
from prefdensity.models.luce_choice import luce_choice

from prefdensity.programs.compose import compose

best_worst = compose(items, luce_choice, name="best_worst", story=__doc__)
