"""Adjacent-categories logit: graded preferences as Davidson sees ties, every grade with a weight of its own.

    nu ~ LogNormal(0, 0.7) (a tie),    w_1 = 1,  w_k ~ LogNormal(0, 0.7)            k = 2..strengths
    P(a by k) : P(b by k) : P(tie) = w_k exp(s_k margin) : w_k exp(-s_k margin) : nu
    s_k = k / 2 with ties, k - 1/2 without: equal steps of the log odds between one grade and the next

Sites: nu `tie_strength`, w `strength_weight`. With one strength it is Davidson (ties) or Bradley-Terry (none), as
graded is Rao-Kupper. Identification: among the weakest preferences the odds are those of Bradley-Terry, which sets
the unit; strengths that nobody used are no grades.
Cannot express: annotators who use the scale differently (strengths does), unequal steps of the log odds.
Reference: Agresti (1992), Applied Statistics 41, 287-297.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import luce

_MEANINGS = {
    "tie_strength": "ties between equals, relative to the weakest preference for either side",
    "strength_weight": "this strength between equals, relative to the weakest",
}


@layer("choice", needs=["grades"], outcomes=["a", "b", "tie"], luce=True, meanings=_MEANINGS)
def adjacent_categories(margin: Tensor, data: Cells) -> Tensor:
    strengths, ties = divmod(len(data.outcomes), 2)
    log_weight = [torch.zeros_like(margin)]
    if strengths > 1:
        with pyro.plate("gap", strengths - 1, dim=-1):
            weight = pyro.sample("strength_weight", dist.LogNormal(0.0, 0.7))
        log_weight += data.shared(weight).log().unbind(-1)
    step = [(k + 1) / 2 if ties else k + 0.5 for k in range(strengths)]
    for_a = [s * margin + w for s, w in zip(step, log_weight, strict=True)]
    for_b = [-s * margin + w for s, w in zip(step, log_weight, strict=True)]
    tie = [pyro.sample("tie_strength", dist.LogNormal(0.0, 0.7)).log()] if ties else []
    return luce(*reversed(for_a), *tie, *for_b)
