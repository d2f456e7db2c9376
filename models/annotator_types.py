"""Annotator types: each annotator belongs to one of k camps with its own utilities.

    w ~ Dirichlet(2, ..., 2)                              k = 1..types
    u_k drawn from the utility layer, for each type
    z_j ~ Categorical(w)                                  j = 1..annotators, summed out exactly
    every judgement of annotator j uses u_{z_j}

Sites: w `type_weight` (type), `utility` (type, item). Identification: types are exchangeable; reports list them
by falling weight. A handful of judgements per annotator tells the types apart, without ids they hardly are.
k = 1 is the program without types. Cannot express: annotators between camps, or who change their mind.
Reference: Dumoulin et al. (2024), TMLR, on annotators treated as one; Chakraborty et al. (2024), arXiv 2402.08925.
"""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import layer


def starts(data: Cells, restarts: int, seed: int, k: int = 2) -> np.ndarray:
    """Return first guesses of every annotator's type, int [restart, annotator].

    The first ones cluster annotators by the leading directions of their item scores, the next by the scores themselves,
    the last quarter is random.
    """
    rng = np.random.default_rng(seed)
    assert data.annotator is not None
    assert data.outcome is not None
    who, a, b = (t.cpu().numpy() for t in (data.annotator, data.item_a, data.item_b))
    lead = (data.outcome[:, 0] - data.outcome[:, 1]).cpu().numpy()
    wins = np.zeros((data.n_annotators, data.n_items))
    seen = np.zeros_like(wins)
    for item, sign in ((a, 1.0), (b, -1.0)):
        np.add.at(wins, (who, item), sign * lead)
        np.add.at(seen, (who, item), data.total.cpu().numpy())
    score = wins / (seen + 1.0)  # shrunk: one vote is not an opinion
    score += 1e-6 * rng.standard_normal(score.shape)  # k-means++ divides by zero among equal annotators
    left, size, _ = np.linalg.svd(score - score.mean(0), full_matrices=False)
    leading = left[:, :k] * size[:k]  # where camps differ stands out from the noise of single items
    guesses = rng.integers(0, k, (restarts, data.n_annotators))
    groups = min(k, data.n_annotators)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty cluster is a poor start, and one of several
        for r in range(restarts - restarts // 4):
            table = leading if r < (restarts + 1) // 2 else score
            guesses[r] = kmeans2(table, groups, minit="++", rng=rng)[1] if groups > 1 else 0
    return guesses


@layer(
    "types",
    needs=["annotator"],
    unimodal=False,
    starts=starts,
    mends="tastes",
    meanings={"type_weight": "share of annotators"},
)
def annotator_types(data: Cells, k: int = 2) -> Tensor:
    return pyro.sample("type_weight", dist.Dirichlet(torch.full((k,), 2.0)))
