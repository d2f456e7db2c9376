"""Ideal points: an annotator prefers what lies near the place that is ideal for him.

    sigma ~ HalfNormal(1)
    g_ri ~ Normal(0, 1),   w_rj ~ Normal(0, 1)            r = 1..dim, i = 1..items, j = 1..annotators
    u_ji = u_i - sigma |g_i - w_j|^2
    margin <- margin - sigma (|g_a - w_j|^2 - |g_b - w_j|^2)

Sites: sigma `ideal_scale`, g `place` (axis, item), w `ideal` (annotator within axis); u is what all agree on (valence).
Identification: places and ideals only up to rotations, reflections and shifts of the space; distances are learned.
Unlike annotator_factors an annotator can want the middle. Cannot express: annotators with two ideals.
Reference: Coombs (1964), A Theory of Data; De Soete, Carroll and DeSarbo (1986), J. Math. Psych. 30, 28-41.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "ideal_scale": "how fast utility falls with squared distance",
    "place": "not identified by itself; predict pairs instead",
    "ideal": "not identified by itself; predict pairs instead",
}


@layer("margin", place="wants", needs=["annotator"], unimodal=False, tall=True, meanings=_MEANINGS)
def ideal_points(margin: Tensor, data: Cells, dim: int = 1) -> Tensor:
    scale = pyro.sample("ideal_scale", dist.HalfNormal(1.0))
    with pyro.plate("axis", dim, dim=-2):
        with pyro.plate("item", data.n_items, dim=-1):
            place = pyro.sample("place", dist.Normal(0.0, 1.0))
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            ideal = pyro.sample("ideal", dist.Normal(0.0, 1.0))
    (place_a, place_b), own = data.sides(place), data.of("annotator", ideal)
    nearer = (place_b - own) ** 2 - (place_a - own) ** 2
    return margin + scale * nearer.sum(-2, keepdim=True)
