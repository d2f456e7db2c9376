"""Types without ids: every judgement comes from one of k camps, and nobody recorded who judged.

    w ~ Dirichlet(2, ..., 2)                              k = 1..types
    u_k drawn from the utility layer, for each type
    P(outcome) = sum_k w_k P(outcome | u_k), anew for every judgement

Sites: w `type_weight` (type), `utility` (type, item). Identification: from the pattern of pair probabilities only, so
at least 5 items for two types and many judgements per pair; with ids annotator_types needs a handful per
annotator. Types are exchangeable and reported by falling weight. Cannot express: that an annotator agrees with himself.
Reference: Dumoulin et al. (2024), TMLR (arXiv 2311.14115); Zhang et al. (2022), arXiv 2201.13132, on identification.
"""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


@layer("types", unimodal=False, per="comparison", mends="mixture", meanings={"type_weight": "share of judgements"})
def comparison_types(data: Cells, k: int = 2) -> Tensor:
    return pyro.sample("type_weight", dist.Dirichlet(torch.full((k,), 2.0)))
