"""Drift: utilities that rise or fall with time, in straight lines.

d_i ~ Normal(0, 1)                                       i = 1..items
margin <- margin + t (d_a - d_b)                         t the date, in standard deviations from its mean
"""

import pyro
import pyro.distributions as dist

from prefdensity import compose, layer


@layer("margin", place="wants", needs=["date"], meanings={"drift": "utility per standard deviation of the date"})
def drift(margin, data):
    with pyro.plate("item", data.size("item"), dim=-1):
        slope = pyro.sample("drift", dist.Normal(0.0, 1.0))
    return margin + data.number("date") * data.contrast(slope)


PROGRAM = compose("davidson", "reliability", drift)
