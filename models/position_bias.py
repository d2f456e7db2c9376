"""Position bias: being shown first (left, at home) adds to the margin.

    b ~ Normal(0, 0.5)
    margin <- margin + b * first,        first = +1 if side a was shown first, -1 if b, 0 if neither

    by="annotator":  tau ~ HalfNormal(0.5),  e_j ~ Normal(0, 1),  b_j = b + tau e_j in the place of b

Site: b `position_bias`, in logits: +0.5 turns an even pair into .62 against .38 for the one shown first; by whom, b_j
`annotator_position_bias`, tau `annotator_position_bias_spread`, e `annotator_position_bias_offset`, and so on for
other labels. Identification: needs a recorded order that is not a function of the items (both orders, or a random
one); by whom, several judgements of each, or b_j shrinks towards b.
Ignoring it under random order flattens utilities, slope sech^2(b/2) at margin 0; under a fixed order it biases.
Cannot express: a bias that depends on how close the items are.
Reference: Davidson and Beaver (1977), Biometrics 33, 693-702, with partial pooling by whom.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.effects import varying
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend

_WHAT = "logits in favour of the item shown first"


@layer(
    "margin",
    needs=["first"],
    null={"position_bias": 0.0},
    varies={"position_bias": _WHAT},
    mends=["order", Mend("order habits", instead_of="order", options={"by": ("annotator",)})],
    meanings={"position_bias": _WHAT},
)
def position_bias(margin: Tensor, data: Cells, by: tuple[str, ...] = ()) -> Tensor:
    assert data.first is not None  # refused without a recorded order
    bias = pyro.sample("position_bias", dist.Normal(0.0, 0.5))
    return margin + varying(data, by, "position_bias", bias, 0.5) * data.first
