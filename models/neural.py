"""Neural utilities: a small network of item features.

    h_0 = input_scale x                                   x standardised features of the item
    h_k = tanh(W_k h_{k-1} + b_k)                         k = 1..depth, `width` units each
    u   = amplitude w . h_depth
    W_k, b_k, w ~ Normal(0, 1 / fan-in)

Sites: W and b of all layers in a row, standardised, `neural_hidden_offset` (hidden_weight); w, standardised,
`neural_last_offset` (unit); u `utility` (item). A large input_scale lets utilities bend quickly.
Identification: weights never are (units can be exchanged), utilities are, up to a shift.
No Gaussian holds the hidden weights: a fit puts them at modes, by default of eight networks that each climb a posterior
with other weights of the judgements, and the rest has its posterior given them. method="map" gives one network.
Cannot express: how sure it is as well as gp, which is the calibrated way to smooth utilities of few features.
Reference: Dumoulin et al. (2024), arXiv 2311.14115, section 4; Neal (1996), Bayesian Learning for Neural Networks;
Daxberger et al. (2021), Laplace Redux, arXiv 2106.14806; Pearce et al. (2020), AISTATS, anchored ensembles.
"""

from itertools import pairwise

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer(
    "utility",
    needs=["features"],
    unimodal=False,
    at_mode=["neural_hidden_offset"],
    meanings={"utility": "log preference density of the item, up to a constant"},
)
def neural(data: Cells, width: int = 16, depth: int = 2, input_scale: float = 3.0, amplitude: float = 5.0) -> Tensor:
    assert data.features is not None  # refused without item features
    sizes = [data.features.shape[-1], *[width] * depth]
    with pyro.plate("hidden_weight", sum((a + 1) * b for a, b in pairwise(sizes)), dim=-1):
        offset = pyro.sample("neural_hidden_offset", dist.Normal(0.0, 1.0))
    with pyro.plate("unit", width, dim=-1):
        last = pyro.sample("neural_last_offset", dist.Normal(0.0, 1.0))
    hidden, start, scale = data.features, 0, input_scale
    for fan_in, fan_out in pairwise(sizes):
        stop = start + fan_in * fan_out
        weight = offset[..., start:stop].reshape(*offset.shape[:-1], fan_in, fan_out)
        hidden = torch.tanh((scale * (hidden @ weight) + offset[..., None, stop : stop + fan_out]) / fan_in**0.5)
        start, scale = stop + fan_out, 1.0
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", amplitude * (hidden @ last[..., None]).squeeze(-1) / width**0.5)
