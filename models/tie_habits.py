"""Tie habits: annotators differ in how readily they call a tie.

    tau ~ HalfNormal(1)
    e_j ~ Normal(0, 1),   h_j = tau e_j                   j = 1..annotators
    P(a) : P(b) : P(tie) <- P(a) : P(b) : exp(h_j) P(tie)

Sites: tau `tie_habit_spread`, e `tie_habit_offset` (annotator), h `tie_habit` (annotator), in logits. With davidson
it is Davidson's rule with nu_j = nu exp(h_j): decided judgements keep their odds. Identification: the prior mean 0 of
h leaves the average habit to the tie rule; a tie rule is needed (davidson unless another is named).
Cannot express: annotators who tie on some kinds of pairs only.
Reference: Davidson (1970), JASA 65, 317-328, with partial pooling of nu over annotators.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import luce

_MEANINGS = {
    "tie_habit": "logits in favour of a tie, for this annotator; 0 average",
    "tie_habit_spread": "standard deviation of tie habits between annotators",
}


@layer(
    "noise", needs=["annotator"], hyper=["tie_habit_spread"], ties=True,
    spread={"tie_habit_spread": "tie_habit_offset"}, mends="tie habits", meanings=_MEANINGS,
)  # fmt: skip
def tie_habits(log_prob: Tensor, data: Cells) -> Tensor:
    spread = pyro.sample("tie_habit_spread", dist.HalfNormal(1.0))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("tie_habit_offset", dist.Normal(0.0, 1.0))
        habit = pyro.deterministic("tie_habit", spread * offset)
    own = data.of("annotator", habit)
    each = zip(data.outcomes, log_prob.unbind(-1), strict=True)
    return luce(*(column + own if outcome == "tie" else column for outcome, column in each))
