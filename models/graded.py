"""Graded preferences: how strongly one side is preferred is read off the same margin, through more cuts.

    theta - 1 ~ LogNormal(-0.5, 0.7),   c_1 = log(theta)    with ties;   c_1 = 0 without
    c_{k+1} - c_k ~ LogNormal(0, 0.7)                       k = 1..strengths - 1
    P(a preferred, with strength k or more) = sigmoid(margin - c_k),   for b: sigmoid(-margin - c_k)

Sites: theta - 1 `tie_excess`, the differences of cuts `strength_step`, and the cuts c above 0 `strength_cut`. The
cumulative logit with cuts symmetric about 0, so that exchanging the sides only turns the margin; with one strength
it is Rao-Kupper (ties) or Bradley-Terry (none). Identification: the logistic noise sets the unit, the symmetry the
origin; position_bias moves it. Strengths that nobody used are no grades. A judgement tells more than who won alone
would. Cannot express: annotators who use the scale differently (strengths does), strengths that
speak of confidence rather than of distance.
Reference: Agresti (1992), Applied Statistics 41, 287-297; Tutz (1986), J. Mathematical Psychology 30, 306-316.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import pad

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import cumulative_logit

_MEANINGS = {
    "tie_excess": "theta - 1; utilities closer than log(theta) often tie",
    "strength_step": "margin between one strength of preference and the next",
    "strength_cut": "margin beyond which the next stronger grade, or more, is likelier than not",
}


@layer("choice", needs=["grades"], outcomes=["a", "b", "tie"], luce=True, meanings=_MEANINGS)
def graded(margin: Tensor, data: Cells) -> Tensor:
    strengths, ties = divmod(len(data.outcomes), 2)
    cut = margin.new_zeros(1, 1)
    if ties:
        cut = cut + pyro.sample("tie_excess", dist.LogNormal(-0.5, 0.7)).log1p().unsqueeze(-1)
    if strengths > 1:
        with pyro.plate("gap", strengths - 1, dim=-1):
            step = pyro.sample("strength_step", dist.LogNormal(0.0, 0.7))
        cut = cut + pad(data.shared(step).cumsum(-1), (1, 0))
    if strengths + ties > 1:
        with pyro.plate("cut", strengths - 1 + ties, dim=-1):
            pyro.deterministic("strength_cut", cut[..., 1 - ties :].squeeze(-2))
    below = -cut.flip(-1)[..., : strengths - 1 + ties]  # without ties the cut at 0 counts once
    return cumulative_logit(torch.cat([below, cut], -1), -margin)
