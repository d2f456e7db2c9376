"""Strength habits: annotators differ in how readily they call a preference strong.

    tau ~ HalfNormal(1)
    e_j ~ Normal(0, 1),   h_j = tau e_j                   j = 1..annotators
    P(grade) <- proportional to exp(h_j (k - 1)) P(grade),    k its strength, 1 the weakest and for a tie

Sites: tau `strength_habit_spread`, e `strength_habit_offset` (annotator), h `strength_habit` (annotator), in logits for
each step of strength. The two sides keep their odds within a strength. Identification: the prior mean 0 of h leaves
the average habit to the rule of the grades (graded unless another is named). Cannot express: annotators who shun the
middle of the scale, annotators who call ties more often (tie_habits).
Reference: Agresti (1992), Applied Statistics 41, 287-297, with partial pooling of the use of the scale.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import luce

_MEANINGS = {
    "strength_habit": "logits in favour of one strength more, for this annotator; 0 average",
    "strength_habit_spread": "standard deviation of strength habits between annotators",
}


@layer(
    "noise", needs=["annotator", "grades"], hyper=["strength_habit_spread"],
    spread={"strength_habit_spread": "strength_habit_offset"}, meanings=_MEANINGS,
)  # fmt: skip
def strength_habits(log_prob: Tensor, data: Cells) -> Tensor:
    spread = pyro.sample("strength_habit_spread", dist.HalfNormal(1.0))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("strength_habit_offset", dist.Normal(0.0, 1.0))
        habit = pyro.deterministic("strength_habit", spread * offset)
    own, strongest = data.of("annotator", habit), len(data.outcomes) // 2
    above = [max(strongest - min(k, len(data.outcomes) - 1 - k) - 1, 0) for k in range(len(data.outcomes))]
    return luce(*(column + k * own for k, column in zip(above, log_prob.unbind(-1), strict=True)))
