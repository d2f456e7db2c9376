"""Lapse: now and then a judgement is a blind guess among the outcomes offered.

    eps ~ Beta(1, 9)
    P(outcome) <- (1 - eps) P(outcome) + eps / outcomes

    by="annotator":  tau ~ HalfNormal(1),  e_j ~ Normal(0, 1),  logit eps_j = logit eps + tau e_j in the place of eps
    over="trial":    g ~ Normal(0, 0.5),  logit eps_j + g x in its place       x the trial, in sds from its mean

Site: eps `lapse`; by whom, eps_j `annotator_lapse`, tau `annotator_lapse_spread`, e `annotator_lapse_offset`, and so on
for other labels; over a number, for fatigue within a session, g `trial_lapse`, and so on for other numbers.
Identification: eps trades with the spread of utilities unless some pairs are near-certain; by whom,
those with few judgements shrink to the average. Ignoring lapses flattens the utilities of clear winners and losers.
Cannot express: lapses that come in runs.
Reference: Wichmann and Hill (2001), Perception & Psychophysics 63, 1293-1313, for psychometric functions.
"""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefdensity.programs.cells import Cells
from prefdensity.programs.effects import trend, varying
from prefdensity.programs.layers import layer

_WHAT = "share of judgements that are blind guesses"


@layer(
    "noise", hyper=["lapse"], null={"lapse": 0.0}, mends="lapses", varies={"lapse": _WHAT},
    meanings={"lapse": _WHAT},
)  # fmt: skip
def lapse(log_prob: Tensor, data: Cells, by: tuple[str, ...] = (), over: str = "") -> Tensor:
    rate = pyro.sample("lapse", dist.Beta(1.0, 9.0))
    logit = varying(data, by, "lapse", rate.log() - (-rate).log1p(), shown=torch.sigmoid)
    logit = (logit + trend(data, over, "lapse") if over else logit).unsqueeze(-1)
    return torch.logaddexp(logsigmoid(-logit) + log_prob, logsigmoid(logit) - math.log(log_prob.shape[-1]))
