"""Reliability: annotators differ in how much utilities matter to them, and one may even vote upside down.

    tau ~ HalfNormal(0.5)
    e_j ~ Normal(0, 1),   beta_j = 1 + tau e_j            j = 1..annotators
    margin <- beta_j * margin
    over="trial":  g ~ Normal(0, 0.5),  beta_j exp(g x) in the place of beta_j   x the trial, in sds from its mean

by="annotator" unless another label is named; over a number, for fatigue or practice within a session, leaves out by
whom unless that is named too. Sites: tau `annotator_reliability_spread`, e `annotator_reliability_offset` (annotator),
beta `annotator_reliability` (annotator), and so on for other labels; g `trial_reliability` and so on for other numbers.
beta = 0 is a coin-flipper, beta < 0 a contrarian. What is wanted is multiplied, tastes included, and biases of the
situation (position, covariates) are not: scales="margin" multiplies them too. Identification: (beta, u) -> (c beta,
u/c) would leave the likelihood alone; the prior mean 1 of beta fixes the unit, so utilities are those of the
average annotator. Two modes: (beta, u) -> (-beta, -u) leaves it alone too, so there may be a second explanation, the
ranking upside down by contrarians; it stands where a few people vote little, and one a lot. With few judgements per
annotator beta_j shrinks towards 1. Cannot express: annotators who want different things, or who tire unequally.
Reference: per-annotator temperature, cf. Chen, Bennett, Collins-Thompson and Horvitz (2013), WSDM, for the sign.
"""

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.effect_names import sites_of
from prefdensity.programs.effects import trend, varying
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.mirrors import Mirror, Values

_WHAT = "weight of utilities in a judgement; 1 average, 0 coin-flipper, < 0 contrarian"
_, _SPREAD, _OFFSET = sites_of("annotator", "reliability")


def _beta(values: Values) -> Tensor:
    return 1 + values[_SPREAD] * values[_OFFSET]


def _upside_down(values: Values, who: Tensor) -> dict[str, Tensor]:
    away = torch.where(who, -_beta(values), _beta(values)) - 1
    spread = away.square().mean(-1, keepdim=True).sqrt().clamp_min(0.1)  # offsets about as large as their prior says
    return {_SPREAD: spread, _OFFSET: away / spread}


_MIRROR = Mirror(_upside_down, lambda values: _beta(values) < 0, "contrarian")


def _mirror(by: tuple[str, ...]) -> Mirror | None:
    return _MIRROR if by == ("annotator",) else None


def _place(scales: str) -> str:
    if scales not in ("wants", "margin"):
        raise ProgramError(f"scales={scales!r} of reliability must be 'wants' (no bias) or 'margin' (all)")
    return "weight" if scales == "wants" else "whole"


@layer(
    "margin", sets=True, place=_place, mirror=_mirror, varies={"reliability": _WHAT},
    mends=[
        Mend("care", options={"by": ("annotator",)}),
        Mend("order", rank=1, options={"scales": "wants"}, adds=False),
        Mend("order habits", rank=1, beside="order", options={"scales": "margin"}, adds=False),
    ],
)  # fmt: skip
def reliability(
    margin: Tensor, data: Cells, by: tuple[str, ...] = ("annotator",), scales: str = "wants", over: str = ""
) -> Tensor:
    weight = varying(data, by, "reliability", 1.0, 0.5)
    if over:
        weight = weight * trend(data, over, "reliability").exp()
    return margin * weight
