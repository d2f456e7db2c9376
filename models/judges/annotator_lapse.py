"""Judges' own lapses: each judge guesses blindly now and then, some more than others.

    l ~ Normal(-2, 1),   tau ~ HalfNormal(0.7)
    e_j ~ Normal(0, 1),  eps_j = 1 / (1 + exp(-(l + tau e_j)))           j = 1..annotators
    P(verdict) <- (1 - eps_j) P(verdict) + eps_j / verdicts

Sites: l `lapse_logit`, tau `lapse_spread`, e `lapse_offset` (annotator), eps `annotator_lapse` (annotator).
Identification: eps trades with sharpness unless some units are clear; judges with few verdicts shrink to the average.
Cannot express: lapses that come in runs.
Reference: Wichmann and Hill (2001), Perception & Psychophysics 63, 1293-1313, with partial pooling.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.judged_cells import JudgedCells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "lapse_logit": "logit of the average judge's share of blind guesses",
    "lapse_spread": "sd between judges of the logit of that share",
    "annotator_lapse": "share of this judge's verdicts that are blind guesses",
}


@layer("noise", needs=["annotator"], meanings=_MEANINGS)
def annotator_lapse(log_prob: Tensor, data: JudgedCells) -> Tensor:
    centre = pyro.sample("lapse_logit", dist.Normal(-2.0, 1.0))
    spread = pyro.sample("lapse_spread", dist.HalfNormal(0.7))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("lapse_offset", dist.Normal(0.0, 1.0))
        own = pyro.deterministic("annotator_lapse", torch.sigmoid(centre + spread * offset))
    rate = data.of("annotator", own).unsqueeze(-1)
    return torch.logaddexp((-rate).log1p() + log_prob, rate.log() - math.log(log_prob.shape[-1]))
