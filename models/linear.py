"""Utilities that are linear in item features.

    w_f ~ Normal(0, s / sqrt(features))                  f = 1..features
    u_i = sum_f w_f x_if                                  x standardised over items

Sites: w `weight` (feature), per standard deviation of the feature, and the same per unit as the user measures it,
`weight_per_unit`; u `utility` (item). No intercept: only differences of utility enter. s, the scale layer's, is about
the sd of utilities whatever the number of features.
Identification: a feature (or combination) that never differs within a pair is set by its prior alone.
Cannot express: anything about an item that its features do not say.
Reference: Springall (1973), Applied Statistics 22, 59-68.
"""

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer

_MEANINGS = {
    "weight": "utility per standard deviation of the feature",
    "weight_per_unit": "utility per unit of the feature as given",
}


@layer("utility", needs=["features"], meanings=_MEANINGS)
def linear(data: Cells, scale: Tensor) -> Tensor:
    assert data.features is not None  # refused without item features
    assert data.feature_scale is not None
    n_features = data.features.shape[-1]
    with pyro.plate("feature", n_features, dim=-1):
        weight = pyro.sample("weight", dist.Normal(0.0, scale / n_features**0.5))
        pyro.deterministic("weight_per_unit", weight / data.feature_scale)
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", weight @ data.features.T)
