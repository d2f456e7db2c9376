"""Plackett-Luce: a ranking is a sequence of Luce choices, the best first, each from what is left.

    u_i ~ Normal(0, s),   s learned                       i = 1..items
    P(i_1 before i_2 before ... i_m) = prod_r exp(u_{i_r}) / sum_{s >= r} exp(u_{i_s})

The composition items + luce_choice, for `prefdensity.Choices`. Top-k lists stop after k choices. Cannot express: ties,
people who differ (add annotator_types or reliability), rankings made from the bottom up.
Reference: Plackett (1975), Applied Statistics 24, 193-202; Hunter (2004), Annals of Statistics 32, 384-406.
"""

from prefdensity.models.items import items
from prefdensity.models.luce_choice import luce_choice

from prefdensity.programs.compose import compose

plackett_luce = compose(items, luce_choice, name="plackett_luce", story=__doc__)
