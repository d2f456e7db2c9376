"""Davidson (1970): a tie is a third outcome, likeliest between equals.

    nu ~ LogNormal(0, 0.7)
    P(a) : P(b) : P(tie) = exp(margin/2) : exp(-margin/2) : nu

Site: nu `tie_strength`; between equal items ties have probability nu / (2 + nu), 1/3 at nu = 1.
Given that there is no tie it is exactly Bradley-Terry, so dropping ties loses information but does not
distort. Splitting ties by a coin flattens: slope 1 / (1 + nu/2) at margin 0.
Identification: needs some ties and some decisions. Cannot express: annotators who tie more than others.
Reference: Davidson (1970), JASA 65, 317-328.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.outcomes import luce


@layer(
    "choice",
    outcomes=["a", "b", "tie"],
    luce=True,
    mends=Mend("tie curve"),
    meanings={"tie_strength": "ties between equals: nu / (2 + nu) of judgements"},
)
def davidson(margin: Tensor, data: Cells) -> Tensor:
    tie_strength = pyro.sample("tie_strength", dist.LogNormal(0.0, 0.7))
    return luce(margin / 2, -margin / 2, tie_strength.log())
