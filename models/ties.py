"""Tie habits: annotators (or categories, ...) differ in how readily a tie is called.

    tau ~ HalfNormal(1)
    e_j ~ Normal(0, 1),   h_j = tau e_j                   j = 1..annotators
    P(a) : P(b) : P(tie) <- P(a) : P(b) : exp(h_j) P(tie)

by="annotator" unless another label is named. Sites: tau `annotator_ties_spread`, e `annotator_ties_offset` (annotator),
h `annotator_ties` (annotator), in logits, and so on for other labels. With davidson it is Davidson's rule with
nu_j = nu exp(h_j): decided judgements keep their odds. Identification: the prior mean 0 of h leaves the average habit
to the tie rule; a tie rule is needed (davidson unless another is named).
Cannot express: annotators who tie on some kinds of pairs only.
Reference: Davidson (1970), JASA 65, 317-328, with partial pooling of nu.
"""

from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.effects import varying
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend
from prefdensity.programs.outcomes import luce


@layer(
    "noise", ties=True, varies={"ties": "logits in favour of a tie; 0 average"},
    mends=Mend("tie habits", options={"by": ("annotator",)}),
)  # fmt: skip
def ties(log_prob: Tensor, data: Cells, by: tuple[str, ...] = ("annotator",)) -> Tensor:
    own = varying(data, by, "ties", 0.0)
    each = zip(data.outcomes, log_prob.unbind(-1), strict=True)
    return luce(*(column + own if outcome == "tie" else column for outcome, column in each))
