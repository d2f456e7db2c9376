"""Tastes in features: annotators, categories or kinds of people weigh what sets items apart differently.

    tau ~ HalfNormal(1),  e_jf ~ Normal(0, 1)             j = 1..annotators, f = 1..features
    w_j = tau e_j / sqrt(features)
    u_j = u + X w_j;   margin <- margin + sum_f w_jf (x_af - x_bf)

x standardised over items, so that tau is about the sd over items of what is one's own, whatever the number of features.
by="annotator" unless something else is said; several labels (by=["annotator", "category"]) add up.
Sites: tau `annotator_weight_spread`, w `annotator_weight` (annotator, feature), per standard deviation of the feature
and beside the weights that all share, e `annotator_weight_offset`; and so on for other labels. What is learned of
somebody holds for items that nobody has judged, which is what tastes for single items cannot say.
Identification: several judgements of each about pairs that differ in the feature; spread 0 is the program without.
For few features: everyone has as many weights. Of embeddings take the leading principal components, or let
feature_factors learn the directions. Cannot express: camps (annotator_types does).
Reference: Evgeniou, Pontil and Toubia (2007), Marketing Science 26, 805-818; Boeckenholt (2006), Psychometrika 71.
"""

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.effect_names import declared, sites_of
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend


def _said(by: tuple[str, ...]) -> dict[str, Any]:
    return declared("weight", by, "utility per standard deviation of the feature")


@layer(
    "margin", place="wants", tall=True, sets=True, mends=Mend("tastes", rank=1), needs=lambda by: ("features", *by),
    hyper=lambda by: _said(by)["hyper"], spread=lambda by: _said(by)["spread"],
    meanings=lambda by: _said(by)["meanings"],
)  # fmt: skip
def feature_tastes(margin: Tensor, data: Cells, by: tuple[str, ...] = ("annotator",)) -> Tensor:
    assert data.features is not None  # refused without item features
    n_features = data.features.shape[-1]
    for label in by:
        own, spread, offset = sites_of(label, "weight")
        tau = pyro.sample(spread, dist.HalfNormal(1.0))
        with pyro.plate(label, data.size(label), dim=-2), pyro.plate("feature", n_features, dim=-1):
            away = pyro.sample(offset, dist.Normal(0.0, 1.0)) / n_features**0.5
            pyro.deterministic(own, tau * away)
        margin = margin + tau * data.feature_contrast(away, by=label)
    return margin
