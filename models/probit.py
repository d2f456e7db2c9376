"""Probit choice: each item's utility is felt with independent unit normal noise (Thurstone's case V).

    P(a beats b) = Phi(margin / sqrt(2))

No parameter. Identification: the unit of utility is the noise of one item. Under this rule exp(u) is not a
density; logit utilities are about 1.2 times these. Cannot express: ties, lapses.
Reference: Thurstone (1927), Psychological Review 34, 273-286; Mosteller (1951), Psychometrika 16, 3-9.
"""

from torch import Tensor
from torch.special import log_ndtr

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import by_outcome


@layer("choice", outcomes=["a", "b"], mends="curve")
def probit(margin: Tensor, data: Cells) -> Tensor:
    z = margin * 0.5**0.5
    return by_outcome(log_ndtr(z), log_ndtr(-z))
