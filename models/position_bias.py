"""Position bias: being shown first (left, at home) adds to the margin.

    b ~ Normal(0, 0.5)
    margin <- margin + b * first,        first = +1 if side a was shown first, -1 if b, 0 if neither

Site: b `position_bias`, in logits: +0.5 turns an even pair into .62 against .38 for the one shown first.
Identification: needs a recorded order that is not a function of the items (both orders, or a random one).
Ignoring it under random order flattens utilities, slope sech^2(b/2) at margin 0; under a fixed order it biases.
Cannot express: annotators with different biases.
Reference: Davidson and Beaver (1977), Biometrics 33, 693-702.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer(
    "margin",
    needs=["first"],
    null={"position_bias": 0.0},
    mends="order",
    meanings={"position_bias": "logits in favour of the item shown first"},
)
def position_bias(margin: Tensor, data: Cells) -> Tensor:
    assert data.first is not None  # refused without a recorded order
    bias = pyro.sample("position_bias", dist.Normal(0.0, 0.5))
    return margin + bias * data.first
