"""Flips: now and then the opposite of what was meant is recorded.

    eps ~ Beta(1, 9), or `rate` where it is known
    P(a) <- (1 - eps) P(a) + eps P(b), and the same for b; a tie stays a tie, and a strength keeps its size

Site: eps `flip_rate`; absent where the rate is given. Identification: eps trades with the spread of utilities, as for
lapse, unless some pairs are near-certain: where no judgement can be predicted well the rate is what the prior says, and
one that is known from labels checked by hand should be given. Cannot express: who flips (crowd_bt does).
Reference: Natarajan, Dhillon, Ravikumar and Tewari (2013), NeurIPS 26, on classification with flipped labels.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer(
    "noise", hyper=["flip_rate"],
    meanings={"flip_rate": "share of judgements whose opposite was recorded"},
)  # fmt: skip
def flips(log_prob: Tensor, data: Cells, rate: float | None = None) -> Tensor:
    if rate is not None and not rate < 0.5:
        raise ProgramError(
            f"rate={rate} of flips must be below 1/2: beyond, the opposite is recorded more often than not"
        )
    eps = pyro.sample("flip_rate", dist.Beta(1.0, 9.0)) if rate is None else log_prob.new_tensor(rate)
    eps = eps.unsqueeze(-1)
    return torch.logaddexp((-eps).log1p() + log_prob, eps.log() + log_prob.index_select(-1, data.mirror))
