"""Lapse: now and then a judgement is a blind guess among the outcomes offered.

    eps ~ Beta(1, 9)
    P(outcome) <- (1 - eps) P(outcome) + eps / outcomes

Site: eps `lapse`. Identification: eps trades with the spread of utilities unless some pairs are near-certain.
Ignoring lapses flattens the utilities of clear winners and losers. Cannot express: who lapses.
Reference: Wichmann and Hill (2001), Perception & Psychophysics 63, 1293-1313, for psychometric functions.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer(
    "noise", hyper=["lapse"], null={"lapse": 0.0}, mends="lapses",
    meanings={"lapse": "share of judgements that are blind guesses"},
)  # fmt: skip
def lapse(log_prob: Tensor, data: Cells) -> Tensor:
    rate = pyro.sample("lapse", dist.Beta(1.0, 9.0)).unsqueeze(-1)
    guess = rate.log() - math.log(log_prob.shape[-1])
    return torch.logaddexp((-rate).log1p() + log_prob, guess)
