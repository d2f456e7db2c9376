"""Ordinal labels: a few ordered levels, cut from a latent logistic regression.

    b_f ~ Normal(0, 1)                                     f = 1..features (covariates and both outputs)
    p ~ Dirichlet(1, ..., 1),   c_k = logit(p_1 + ... + p_k)
    P(y_i <= level k) = 1 / (1 + exp(-(c_k - b . z_i)))

Sites: b `coefficient` (feature), p `level_share` (level): the shares of the levels among units of average features.
Identification: every level occurs among the labels. Cannot express: levels that spread more for some units.
Reference: McCullagh (1980), JRSS-B 42, 109-142; Betancourt (2019), Ordinal Regression, for the prior on the cuts.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from prefdensity.programs.judged_cells import JudgedCells, regression
from prefdensity.programs.layers import layer

_MEANINGS = {
    "coefficient": "logits of a higher label for one sd of this feature",
    "level_share": "share of this level among units of average features",
}


@layer("label", needs=["levels"], meanings=_MEANINGS)
def ordinal(data: JudgedCells) -> Tensor:
    assert data.level is not None  # refused without levels
    mean = data.at_points(regression(data, intercept=False))
    share = pyro.sample("level_share", dist.Dirichlet(torch.ones(data.n_levels)))
    below = share.cumsum(-1)[..., :-1].clamp(1e-12, 1 - 1e-12)
    cut = below.log() - (-below).log1p()
    cut = cut if cut.dim() == 1 else cut.squeeze(-2)  # the fit plate's singleton
    upper = pad(cut, (0, 1), value=1e3).index_select(-1, data.level) - mean
    lower = pad(cut, (1, 0), value=-1e3).index_select(-1, data.level) - mean
    return logsigmoid(upper) + logsigmoid(-lower) + torch.log1p(-torch.exp(lower - upper))
