"""The standard deviation of utilities, learned: how far apart the items are.

    s ~ LogNormal(0, 1)
    u_i of the utility layer has standard deviation s a priori; s is common to all types

Site: s `utility_scale`; absent where it is given (`fixed`). Identification: from the spread of the estimated utilities
beyond their errors, so a few items say little and many say it sharply. Prior: 95 % of it lies in (.14, 7.1) logits; the
utilities of published tables have .3 to 2. A given scale too large exaggerates the leader, too small shrinks all.
Cannot express: some items far outside the rest (student_items does), or different scales for different types.
Reference: Stein (1956); Efron and Morris (1973), JASA 68, 117-130; Gelman (2006), Bayesian Analysis 1, 515-534.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {"utility_scale": "standard deviation, between items, of the utility"}


@layer("scale", hyper=["utility_scale"], meanings=_MEANINGS)
def utility_scale(data: Cells, fixed: float | None = None) -> Tensor:
    if fixed is not None:
        return torch.tensor(float(fixed))  # also for fixed=1
    return pyro.sample("utility_scale", dist.LogNormal(0.0, 1.0))
