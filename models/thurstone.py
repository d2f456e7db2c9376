"""Thurstone-Mosteller (case V): a beats b when its noisy utility is the larger one.

    u_i ~ Normal(0, 1)                                    i = 1..items
    P(a beats b) = Phi((u_a - u_b) / sqrt(2))

The composition items(prior_scale=1.0) + probit; prior scale 1 because a probit unit is about 1.2 logits.
Practically not distinguishable from Bradley-Terry on real tables. Cannot express: ties, order effects,
lapses, annotators who differ, cycles.
Reference: Thurstone (1927), Psychological Review 34, 273-286; Mosteller (1951), Psychometrika 16, 3-9.
"""

from prefdensity.models.items import items
from prefdensity.models.probit import probit

from prefdensity.programs import compose

thurstone = compose(items(prior_scale=1.0), probit, name="thurstone", story=__doc__)
