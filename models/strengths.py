"""Strength habits: annotators (or categories, ...) differ in how readily a preference is called strong.

    tau ~ HalfNormal(1)
    e_j ~ Normal(0, 1),   h_j = tau e_j                   j = 1..annotators
    P(grade) <- proportional to exp(h_j (k - 1)) P(grade),    k its strength, 1 the weakest and for a tie

by="annotator" unless another label is named. Sites: tau `annotator_strengths_spread`, e `annotator_strengths_offset`
(annotator), h `annotator_strengths` (annotator), in logits for each step of strength, and so on for other labels. The
two sides keep their odds within a strength. Identification: the prior mean 0 of h leaves the average habit to the rule
of the grades (graded unless another is named). Cannot express: annotators who shun the middle of the scale, annotators
who call ties more often (ties).
Reference: Agresti (1992), Applied Statistics 41, 287-297, with partial pooling of the use of the scale.
"""

from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.effects import varying
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import luce


@layer("noise", needs=["grades"], varies={"strengths": "logits in favour of one strength more; 0 average"})
def strengths(log_prob: Tensor, data: Cells, by: tuple[str, ...] = ("annotator",)) -> Tensor:
    own, strongest = varying(data, by, "strengths", 0.0), len(data.outcomes) // 2
    above = [max(strongest - min(k, len(data.outcomes) - 1 - k) - 1, 0) for k in range(len(data.outcomes))]
    return luce(*(column + k * own for k, column in zip(above, log_prob.unbind(-1), strict=True)))
