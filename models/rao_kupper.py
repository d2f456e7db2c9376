"""Rao-Kupper (1967): a tie is a difference too small to notice.

    theta - 1 ~ LogNormal(-0.5, 0.7)
    P(a) = p_a / (p_a + theta p_b),   P(b) = p_b / (p_b + theta p_a),   P(tie) = the rest,   p = exp(u)

Site: theta - 1 `tie_excess`; log(theta) is the threshold of notice in utility units. With margin m and
c = log(theta): P(a) = logistic(m - c), P(tie) = (theta^2 - 1) P(a) P(b). Dropping ties sharpens the utilities:
slope 2 theta / (1 + theta) at margin 0. Ties against |margin| tell it from Davidson.
Identification: needs some ties and some decisions. Cannot express: annotators who tie more than others.
Reference: Rao and Kupper (1967), JASA 62, 194-204.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.outcomes import by_outcome


@layer(
    "choice",
    outcomes=["a", "b", "tie"],
    luce=True,
    mends=Mend("tie curve", rank=1),
    meanings={"tie_excess": "theta - 1; utilities closer than log(theta) often tie"},
)
def rao_kupper(margin: Tensor, data: Cells) -> Tensor:
    tie_excess = pyro.sample("tie_excess", dist.LogNormal(-0.5, 0.7))
    threshold = tie_excess.log1p()
    log_a, log_b = logsigmoid(margin - threshold), logsigmoid(-margin - threshold)
    log_tie = (tie_excess * (tie_excess + 2)).log() + log_a + log_b  # theta^2 - 1 without cancellation
    return by_outcome(log_a, log_b, log_tie)
