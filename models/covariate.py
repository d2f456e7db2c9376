"""Covariates: length, style or anything else about a comparison adds to the margin.

    h_c ~ Normal(0, 0.5),   g_c = h_c / s_c               c = 1..covariates, s_c the root mean square of x_c
    margin <- margin + sum_c g_c x_c,     x_c in favour of side a (for length: log length of a minus that of b)

    covariate("length", by="annotator"): of one,  tau ~ HalfNormal(0.5),  e_j ~ Normal(0, 1),  h_j = h + tau e_j

Sites: h `covariate_offset` (covariate), in logits per root mean square, so that the prior does not depend on units; g
`covariate_effect` (covariate), in logits per unit as given; of one named "length" `length_offset`, `length_effect`, and
by whom `annotator_length_effect` with its `_spread` (per root mean square) and `_offset`. Identification: a covariate
that is a property of the items is confounded with their utilities; it needs items seen with several values (one model,
many answers), or utilities from features; by whom, several judgements of each. Cannot express: effects that level off.
Reference: Chiang et al. (2024), ICML, on style control; Springall (1973), Applied Statistics 22, 59-68.
"""

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.effect_names import declared
from prefdensity.programs.effects import varying
from prefdensity.programs.layers import layer

_EFFECT, _STANDARD = "logits per unit of the covariate", "logits per root mean square of the covariate"


def _said(name: str, by: tuple[str, ...]) -> dict[str, Any]:
    if by and not name:
        raise ProgramError(f"name the covariate whose effect varies by {by[0]}: covariate('...', by={by[0]!r})")
    return declared(f"{name}_effect", by, _EFFECT)


@layer(
    "margin", mends="covariates",
    needs=lambda name, by: ["covariates", *_said(name, by)["needs"]],
    hyper=lambda name, by: _said(name, by)["hyper"],
    null=lambda name: {f"{name or 'covariate'}_offset": 0.0},
    spread=lambda name, by: _said(name, by)["spread"],
    meanings=lambda name, by: _said(name, by)["meanings"] | {
        f"{name or 'covariate'}_effect": _EFFECT, f"{name or 'covariate'}_offset": _STANDARD,
    },
)  # fmt: skip
def covariate(margin: Tensor, data: Cells, name: str = "", by: tuple[str, ...] = ()) -> Tensor:
    assert data.covariates is not None  # refused without covariates
    if name:
        x, unit = data.covariate(name)
        effect = pyro.sample(f"{name}_offset", dist.Normal(0.0, 0.5))
        pyro.deterministic(f"{name}_effect", effect / unit)
        return margin + x * varying(data, by, f"{name}_effect", effect, 0.5, shown=lambda own: own / unit)
    with pyro.plate("covariate", data.covariates.shape[-1], dim=-1):
        effect = pyro.sample("covariate_offset", dist.Normal(0.0, 0.5))
        pyro.deterministic("covariate_effect", data.per_unit(effect))
    return margin + data.covariate_sum(effect)
