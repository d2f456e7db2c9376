"""Bradley-Terry (1952): the odds that a beats b are the ratio of their worths.

    u_i ~ Normal(0, s),   s learned                       i = 1..items
    P(a beats b) = exp(u_a) / (exp(u_a) + exp(u_b))

The composition items + logit. The maximum-likelihood estimate exists if and only if no group of items is
undefeated by the rest; the prior decides how far such a group lies. Cannot express: ties, order effects,
lapses, annotators who differ, cycles.
Reference: Bradley and Terry (1952), Biometrika 39, 324-345; Ford (1957), Am. Math. Monthly 64, 28-33.
"""

from prefdensity.models.items import items
from prefdensity.models.logit import logit

from prefdensity.programs.compose import compose

bradley_terry = compose(items, logit, name="bradley_terry", story=__doc__)
