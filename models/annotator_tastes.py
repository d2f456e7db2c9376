"""Tastes: every annotator has utilities of his own, scattered around those of the population.

    tau ~ HalfNormal(1)
    e_ji ~ Normal(0, 1)                                   j = 1..annotators, i = 1..items
    u_j = u + tau e_j;   margin <- margin + tau (e_ja - e_jb)

Sites: tau `taste_spread`, e `taste_offset` (annotator, item). With u `utility` the population's mean:
exp(u) is a geometric mean of the annotators' densities. Identification: needs several judgements per annotator;
spread 0 is the program without it. Cannot express: camps (annotator_types does), or unequal reliability.
Reference: hierarchical Bayes for paired comparisons, cf. Boeckenholt (2006), Psychometrika 71, 615-629.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend

_MEANINGS = {"taste_spread": "standard deviation, between annotators, of the utility of an item"}


@layer(
    "margin", place="wants", needs=["annotator"], hyper=["taste_spread"], tall=True, sets=True,
    spread={"taste_spread": "taste_offset"}, mends=Mend("tastes", rank=1), meanings=_MEANINGS,
)  # fmt: skip
def annotator_tastes(margin: Tensor, data: Cells) -> Tensor:
    spread = pyro.sample("taste_spread", dist.HalfNormal(1.0))
    with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("taste_offset", dist.Normal(0.0, 1.0))
    return margin + spread * data.contrast(offset, by="annotator")
