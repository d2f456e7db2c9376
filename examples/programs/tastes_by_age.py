"""Tastes by age: what an item gains or loses per standard deviation of the annotators' age.

g_i ~ Normal(0, 1)                                       i = 1..items
margin <- margin + age_j (g_a - g_b)                     j who judged
"""

import pyro
import pyro.distributions as dist

from prefdensity import compose, layer


@layer("margin", place="wants", needs=["annotator.age"], meanings={"age_slope": "utility per sd of age"})
def by_age(margin, data):
    with pyro.plate("item", data.size("item"), dim=-1):
        slope = pyro.sample("age_slope", dist.Normal(0.0, 1.0))
    return margin + data.number("annotator.age") * data.contrast(slope)


PROGRAM = compose("davidson", "reliability", by_age)
