"""Neural utilities: a small network of item features.

    h_0 = input_scale x                                   x standardised features of the item
    h_k = tanh(W_k h_{k-1} + b_k)                         k = 1..depth, `width` units each
    u   = amplitude w . h_depth
    W_k, b_k, w ~ Normal(0, 1 / fan-in)

Sites: the weights of all layers in a row, standardised, `neural_offset` (weight); u `utility` (item). A large
input_scale lets utilities bend quickly. Identification: weights never are (units can be exchanged), utilities are, up
to a shift. Fit it with method "map": the posterior of the weights has many modes, no Gaussian holds it, and other
methods will flag themselves; gp is the calibrated way to smooth utilities. Cannot express: how sure it is.
Reference: Dumoulin et al. (2024), arXiv 2311.14115, section 4; Neal (1996), Bayesian Learning for Neural Networks.
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
    meanings={"utility": "log preference density of the item, up to a constant"},
)
def neural(data: Cells, width: int = 16, depth: int = 2, input_scale: float = 3.0, amplitude: float = 5.0) -> Tensor:
    assert data.features is not None  # refused without item features
    sizes = [data.features.shape[-1], *[width] * depth]
    count = sum((a + 1) * b for a, b in pairwise(sizes)) + width
    with pyro.plate("weight", count, dim=-1):
        offset = pyro.sample("neural_offset", dist.Normal(0.0, 1.0))
    hidden, start = input_scale * data.features, 0
    for fan_in, fan_out in pairwise(sizes):
        stop = start + fan_in * fan_out
        weight = offset[..., start:stop].reshape(*offset.shape[:-1], fan_in, fan_out)
        hidden = torch.tanh((hidden @ weight + offset[..., None, stop : stop + fan_out]) / fan_in**0.5)
        start = stop + fan_out
    last = offset[..., start:].reshape(*offset.shape[:-1], width, 1)
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", amplitude * (hidden @ last).squeeze(-1) / width**0.5)
