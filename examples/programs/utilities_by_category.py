"""Utilities by category: what is best at code need not be best at prose.

tau ~ HalfNormal(1);   e_ci ~ Normal(0, 1)               c = 1..categories, i = 1..items
u_c = u + tau e_c;     margin <- margin + tau (e_ca - e_cb)
"""

import pyro
import pyro.distributions as dist

from prefdensity import compose, layer


@layer("margin", place="wants", needs=["category"], hyper=["category_spread"], tall=True)
def by_category(margin, data):
    spread = pyro.sample("category_spread", dist.HalfNormal(1.0))
    with pyro.plate("category", data.size("category"), dim=-2), pyro.plate("item", data.size("item"), dim=-1):
        offset = pyro.sample("category_offset", dist.Normal(0.0, 1.0))
    return margin + spread * data.contrast(offset, by="category")


PROGRAM = compose("davidson", "reliability", by_category)
