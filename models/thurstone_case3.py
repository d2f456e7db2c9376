"""Thurstone's case III: every item is felt with noise of its own, so utilities are distributions.

    tau ~ HalfNormal(0.5)
    e_i ~ Normal(0, 1),   log s_i = tau e_i               i = 1..items
    P(a beats b) = Phi(margin / sqrt(s_a^2 + s_b^2))

Sites: tau `noise_spread`, e `noise_offset` (item), s `item_noise` (item). s_i = 1 for all is probit (case V).
Identification: the common scale of utilities and noise is fixed by the prior mean 0 of log s; s_i is learned only
through pairs whose utilities differ, against at least two rivals. Cannot express: one person's consistency with
himself (the noise is drawn anew each time; compare with annotator_types), ties, lapses.
Reference: Thurstone (1927), Psychological Review 34, 273-286, case III; Siththaranjan et al. (2024), ICLR, for rewards.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor
from torch.special import log_ndtr

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import by_outcome

_MEANINGS = {
    "item_noise": "standard deviation with which this item's utility is felt; 1 average",
    "noise_spread": "standard deviation, between items, of the logarithm of the noise",
}


@layer("choice", outcomes=["a", "b"], unimodal=False, spread={"noise_spread": "noise_offset"}, meanings=_MEANINGS)
def thurstone_case3(margin: Tensor, data: Cells) -> Tensor:
    spread = pyro.sample("noise_spread", dist.HalfNormal(0.5))
    with pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("noise_offset", dist.Normal(0.0, 1.0))
        noise = pyro.deterministic("item_noise", (spread * offset).exp())
    noise_a, noise_b = data.sides(noise)
    z = margin / (noise_a**2 + noise_b**2).sqrt()
    return by_outcome(log_ndtr(z), log_ndtr(-z))
