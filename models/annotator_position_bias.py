"""Annotators' own position biases: some judges favour what they see first, others what they see last.

    b   ~ Normal(0, 0.5),   tau ~ HalfNormal(0.5)
    e_j ~ Normal(0, 1),     b_j = b + tau e_j             j = 1..annotators
    margin <- margin + b_j * first,      first = +1 if side a was shown first, -1 if b, 0 if neither

Sites: b `position_bias`, tau `position_bias_spread`, e `position_bias_offset` (annotator), b_j
`annotator_position_bias` (annotator), all in logits. Identification: as for position_bias, and several judgements per
annotator; with few, b_j shrinks towards b. Cannot express: a bias that depends on how close the items are.
Reference: Davidson and Beaver (1977), Biometrics 33, 693-702, with partial pooling over annotators.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend

_MEANINGS = {
    "position_bias": "logits in favour of the item shown first, for the average annotator",
    "position_bias_spread": "standard deviation of position bias between annotators",
    "annotator_position_bias": "logits in favour of the item shown first, for this annotator",
}


@layer(
    "margin", needs=["annotator", "first"], hyper=["position_bias_spread"],
    null={"position_bias": 0.0}, spread={"position_bias_spread": "position_bias_offset"}, meanings=_MEANINGS,
    mends=Mend("order habits", instead_of="order"),
)  # fmt: skip
def annotator_position_bias(margin: Tensor, data: Cells) -> Tensor:
    assert data.first is not None  # refused without a recorded order
    bias = pyro.sample("position_bias", dist.Normal(0.0, 0.5))
    spread = pyro.sample("position_bias_spread", dist.HalfNormal(0.5))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("position_bias_offset", dist.Normal(0.0, 1.0))
        own = pyro.deterministic("annotator_position_bias", bias + spread * offset)
    return margin + data.of("annotator", own) * data.first
