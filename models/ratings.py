"""Ratings beside preferences: the same utilities answer both "which?" and "how good, on this scale?".

    c_1 ~ Normal(0, 3),   c_{k+1} - c_k ~ LogNormal(0, 1)                k = 1..levels - 2
    log a_j ~ Normal(0, 0.5),   b_j ~ Normal(0, 1)                        j = 1..annotators (a, b = 1, 0 if unknown)
    P(rating of item i by j <= k) = sigmoid(c_k - a_j u_i - b_j)

Sites: c `rating_cut` (from `rating_cut_first` and `rating_step`), a `rating_slope` and b `rating_shift`
(annotator). Identification: comparisons set the unit of utility (one logit of choice), ratings add a location that
the cuts absorb: only differences of utilities are learned. Ratings relate items that were never compared.
Cannot express: camps among the raters, a rating that depends on what was rated before.
Reference: McCullagh (1980), JRSS-B 42, 109-142 (cumulative logit); Samejima (1969), Psychometrika Monograph 17.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor
from torch.nn.functional import pad

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer
from prefdensity.programs.outcomes import Judgements, cumulative_logit
from prefdensity.programs.tables import entries

_MEANINGS = {
    "rating_cut_first": "utility at which the lowest rating is as likely as all others",
    "rating_step": "distance between one cut and the next",
    "rating_cut": "utility at which this rating or a lower one is as likely as a higher one",
    "rating_slope": "how much utilities matter to this annotator's ratings, relative to choices",
    "rating_shift": "how generous this annotator is, in logits",
}


@layer("rating", needs=["ratings"], unimodal=False, meanings=_MEANINGS)
def ratings(utility: Tensor, data: Cells) -> None:
    if data.ratings is None:  # prediction of comparisons
        return
    item, who, level = data.ratings.item, data.ratings.annotator, data.ratings.level
    first = pyro.sample("rating_cut_first", dist.Normal(0.0, 3.0))
    rise = first.new_zeros(1)
    if level.shape[-1] > 2:  # with two levels there is one cut
        with pyro.plate("gap", level.shape[-1] - 2, dim=-1):
            step = pyro.sample("rating_step", dist.LogNormal(0.0, 1.0))
        rise = pad(step.cumsum(-1), (1, 0))
    with pyro.plate("cut", level.shape[-1] - 1, dim=-1):
        cut = pyro.deterministic("rating_cut", first + rise)
    score = entries(utility, item)
    if who is not None:
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            slope = pyro.sample("rating_slope", dist.LogNormal(0.0, 0.5))
            shift = pyro.sample("rating_shift", dist.Normal(0.0, 1.0))
        score = entries(slope, who) * score + entries(shift, who)
    with pyro.plate("rating", len(item), dim=-1):
        pyro.sample("rating", Judgements(cumulative_logit(cut.unsqueeze(-2), score), level.sum(-1)), obs=level)
