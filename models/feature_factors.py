"""Feature factors: annotators weigh features differently along a few directions that all share.

    sigma ~ HalfNormal(1)
    b_rf ~ Normal(0, 1),  s_rj ~ Normal(0, 1)             r = 1..rank, f = 1..features, j = 1..annotators
    v_r = X b_r / sqrt(features)
    u_j = u + sigma sum_r s_rj v_r;   margin <- margin + sigma sum_r s_rj (v_ra - v_rb)

x standardised over items. What sets annotators apart are a few rewards of features, of which everyone has a mixture of
their own: for embeddings, where nobody's judgements would tell hundreds of weights, and for answers judged once.
Sites: sigma `feature_factor_scale`, b_1 `feature_factor1_weight` (feature), s_1 `feature_factor1_score` (annotator)...
Identification: b and s only up to a rotation of the factors and their signs, so read predictions, never b or s alone;
chains that turn do not agree, method "variational" settles. Cannot express: camps with nobody in between
(annotator_types does), weights of everyone's own (feature_tastes).
Reference: Bose et al. (2025), arXiv 2504.14439, and Shenfeld et al. (2025), arXiv 2503.06358, for factorised rewards;
Salakhutdinov and Mnih (2008), NeurIPS, for the prior.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


def _meanings(rank: int) -> dict[str, str]:
    told = {"feature_factor_scale": "standard deviation of utility along one factor"}
    for r in range(1, rank + 1):
        of = (f"feature_factor{r}_weight", f"feature_factor{r}_score")
        told |= dict.fromkeys(of, "not identified by itself; predict pairs instead")
    return told


@layer("margin", place="wants", needs=["annotator", "features"], unimodal=False, tall=True, meanings=_meanings)
def feature_factors(margin: Tensor, data: Cells, rank: int = 1) -> Tensor:
    assert data.features is not None  # refused without item features
    n_features = data.features.shape[-1]
    scale = pyro.sample("feature_factor_scale", dist.HalfNormal(1.0))
    for r in range(1, rank + 1):
        with pyro.plate("feature", n_features, dim=-1):
            weight = pyro.sample(f"feature_factor{r}_weight", dist.Normal(0.0, 1.0))
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            score = pyro.sample(f"feature_factor{r}_score", dist.Normal(0.0, 1.0))
        along = data.feature_contrast(weight / n_features**0.5)
        margin = margin + scale * data.of("annotator", score) * along
    return margin
