"""Reliability: annotators differ in how much utilities matter to them, and one may even vote upside down.

    tau ~ HalfNormal(0.5)
    e_j ~ Normal(0, 1),   beta_j = 1 + tau e_j            j = 1..annotators
    margin <- beta_j * margin

Sites: tau `reliability_spread`, e `reliability_offset` (annotator), beta `reliability` (annotator). beta = 0 is a
coin-flipper, beta < 0 a contrarian. What is wanted is multiplied, tastes included, and biases of the situation
(position, covariates) are not: scales="margin" multiplies them too. Identification: (beta, u) -> (c beta, u/c) would
leave the likelihood alone; the prior mean 1 of beta fixes the unit, so utilities are those of the average annotator.
Two modes: (beta, u) -> (-beta, -u) leaves it alone too, so there may be a second explanation, the ranking upside down
by contrarians; it stands where a few people vote little, and one a lot. With few judgements per annotator beta_j
shrinks towards 1. Cannot express: annotators who want different things.
Reference: per-annotator temperature, cf. Chen, Bennett, Collins-Thompson and Horvitz (2013), WSDM, for the sign.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.mirrors import Mirror, Values

_MEANINGS = {
    "reliability": "weight of utilities in this annotator's judgements; 1 average, 0 coin-flipper, < 0 contrarian",
    "reliability_spread": "standard deviation of reliability between annotators",
    "reliability_offset": "standardised reliability",
}


def _beta(values: Values) -> Tensor:
    return 1 + values["reliability_spread"] * values["reliability_offset"]


def _upside_down(values: Values, who: Tensor) -> dict[str, Tensor]:
    away = torch.where(who, -_beta(values), _beta(values)) - 1
    spread = away.square().mean(-1, keepdim=True).sqrt().clamp_min(0.1)  # offsets about as large as their prior says
    return {"reliability_spread": spread, "reliability_offset": away / spread}


def _place(scales: str = "wants") -> str:
    if scales not in ("wants", "margin"):
        raise ProgramError(f"scales={scales!r} of reliability must be 'wants' (no bias) or 'margin' (all)")
    return "weight" if scales == "wants" else "whole"


@layer(
    "margin", needs=["annotator"], hyper=["reliability_spread"], sets=True, place=_place,
    spread={"reliability_spread": "reliability_offset"},
    mirror=Mirror(_upside_down, lambda values: _beta(values) < 0, "contrarian"), meanings=_MEANINGS,
    mends=[
        "care",
        Mend("order", rank=1, options={"scales": "wants"}),
        Mend("order habits", rank=1, beside="order", options={"scales": "margin"}),
    ],
)  # fmt: skip
def reliability(margin: Tensor, data: Cells, scales: str = "wants") -> Tensor:
    spread = pyro.sample("reliability_spread", dist.HalfNormal(0.5))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        # non-centred: the posterior then has no infinite peak at spread 0
        offset = pyro.sample("reliability_offset", dist.Normal(0.0, 1.0))
        beta = pyro.deterministic("reliability", 1 + spread * offset)
    return margin * data.of("annotator", beta)
