"""Flips: now and then the opposite of what was meant is recorded.

    eps ~ Beta(1, 9), or `rate` where it is known
    eps ~ Beta(1 + wrong, 9 + checked - wrong) where so many of the labels that were checked by hand were wrong
    P(a) <- (1 - eps) P(a) + eps P(b), and the same for b; a tie stays a tie, and a strength keeps its size

Site: eps `flip_rate`; absent where the rate is given alone. Identification: eps trades with the spread of utilities, as
for lapse, unless some pairs are near-certain: where no judgement can be predicted well, nothing but labels checked by
hand tells the rate. Cannot express: who flips (crowd_bt does).
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
def flips(log_prob: Tensor, data: Cells, rate: float | None = None, wrong: int = 0, checked: int = 0) -> Tensor:
    if rate is not None and not rate < 0.5:
        raise ProgramError(
            f"rate={rate} of flips must be below 1/2: beyond, the opposite is recorded more often than not"
        )
    if not 0 <= wrong <= checked or checked and rate is not None:
        raise ProgramError(
            f"flips(wrong={wrong}, checked={checked}): of labels checked so many were found wrong, or give rate= alone"
        )
    said = dist.Beta(1.0 + wrong, 9.0 + checked - wrong)
    eps = pyro.sample("flip_rate", said) if rate is None else log_prob.new_tensor(rate)
    eps = eps.unsqueeze(-1)
    return torch.logaddexp((-eps).log1p() + log_prob, eps.log() + log_prob.index_select(-1, data.mirror))
