"""Thurstone-Mosteller (case V): a beats b when its noisy utility is the larger one.

    u_i ~ Normal(0, s),   s learned                       i = 1..items
    P(a beats b) = Phi((u_a - u_b) / sqrt(2))

The composition items + probit; a unit of utility is about 1.2 logits.
Practically not distinguishable from Bradley-Terry on real tables. Cannot express: ties, order effects,
lapses, annotators who differ, cycles.
Reference: Thurstone (1927), Psychological Review 34, 273-286; Mosteller (1951), Psychometrika 16, 3-9.
"""

from prefdensity.models.items import items
from prefdensity.models.probit import probit

from prefdensity.programs.compose import compose

thurstone = compose(items, probit, name="thurstone", story=__doc__)
