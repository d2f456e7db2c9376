"""Annotator types: each annotator belongs to one of k camps with its own utilities.

    w ~ Dirichlet(2, ..., 2)                              k = 1..types
    u_k drawn from the utility layer, for each type
    z_j ~ Categorical(w)                                  j = 1..annotators, summed out exactly
    every judgement of annotator j uses u_{z_j}

    on="age":  tau ~ HalfNormal(1),  g_k ~ Normal(0, tau)     x_j the age of annotator j, in sds from the mean
               P(z_j = k) proportional to w_k exp(g_k x_j) in the place of w_k

What is known of annotators may say which camp they are of: a multinomial logistic regression. Several attributes add
up (on=["age", "language"]); categories are coded by contrasts of their levels that sum to 0, so w are the shares among
annotators in the middle of all that is regressed on.
Sites: w `type_weight` (type), `utility` (type, item); of what types are regressed on, tau `age_membership_spread`, g
`age_membership_offset` (type, contrast), and `age_membership` (type; of categories type, level), g less its mean over
types, which is all that enters. Identification: types are exchangeable; reports list them by falling weight. A handful
of judgements per annotator tells the types apart, without ids they hardly are. k = 1 is the program without types,
spread 0 the one without attributes. Cannot express: annotators between camps, or who change their mind.
Reference: Dumoulin et al. (2024), TMLR, on annotators treated as one; Chakraborty et al. (2024), arXiv 2402.08925;
Dayton and Macready (1988), JASA 83, 173-178, for classes that depend on covariates.
"""

import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from prefdensity.programs.cells import CODED, Cells, contrasts
from prefdensity.programs.effect_names import sites_of
from prefdensity.programs.layers import layer


def starts(data: Cells, restarts: int, seed: int, k: int = 2, on: tuple[str, ...] = ()) -> np.ndarray:
    """Return first guesses of every annotator's type, int [restart, annotator], whatever is known of them.

    The first ones cluster annotators by the leading directions of their scores (of items, or of features), the next by
    the scores themselves, the last quarter is random.
    """
    rng = np.random.default_rng(seed)
    score = _item_scores(data) if data.features is None else _feature_scores(data)
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


def _item_scores(data: Cells) -> np.ndarray:
    """Return what every annotator says of every item [annotator, item]."""
    assert data.annotator is not None
    assert data.outcome is not None
    who, a, b = (t.cpu().numpy() for t in (data.annotator, data.item_a, data.item_b))
    lead = (data.outcome[:, 0] - data.outcome[:, 1]).cpu().numpy()
    wins = np.zeros((data.n_annotators, data.n_items))
    seen = np.zeros_like(wins)
    for item, sign in ((a, 1.0), (b, -1.0)):
        np.add.at(wins, (who, item), sign * lead)
        np.add.at(seen, (who, item), data.total.cpu().numpy())
    return wins / (seen + 1.0)  # shrunk: one vote is not an opinion


def _feature_scores(data: Cells) -> np.ndarray:
    """Return what every annotator says of the leading directions of differences in features [annotator, direction].

    Items that are met once say nothing of who agrees with whom, their features do. There are fewer directions than
    annotators: in more, noise outweighs what they have in common.
    """
    assert data.annotator is not None
    assert data.outcome is not None
    assert data.features is not None
    apart = data.features[data.item_a] - data.features[data.item_b]
    values, vectors = torch.linalg.eigh(apart.T @ (data.total[:, None] * apart))
    most = max(2, data.n_annotators // 2)
    clear = values[-most:] > 1e-9 * values[-1]
    along = apart @ (vectors[:, -most:][:, clear] / values[-most:][clear].sqrt()) * data.total.sum().sqrt()
    zero, votes = along.new_zeros(data.n_annotators, along.shape[1]), data.total.new_zeros(data.n_annotators)
    lead = data.outcome[:, 0] - data.outcome[:, 1]
    said = zero.index_add(0, data.annotator, lead[:, None] * along)
    votes.index_add_(0, data.annotator, data.total)
    return (said / (votes[:, None] + 1.0)).cpu().numpy()  # type: ignore[no-any-return]


_SHARE = "share of annotators"


def _meanings(on: tuple[str, ...]) -> dict[str, str]:
    told = {"type_weight": _SHARE}
    for name in on:
        own, spread, _ = sites_of(name, "membership")
        told |= {own: f"log odds of a type by {name}", spread: f"standard deviation by {name}: log odds of a type"}
    return told


@layer(
    "types", unimodal=False, starts=starts, mends="tastes", meanings=_meanings,
    needs=lambda on: ("annotator", *on, *(f"{CODED}{name}" for name in on)),
    hyper=lambda on: tuple(sites_of(name, "membership")[1] for name in on),
)  # fmt: skip
def annotator_types(data: Cells, k: int = 2, on: tuple[str, ...] = ()) -> Tensor:
    weight: Tensor = pyro.sample("type_weight", dist.Dirichlet(torch.full((k,), 2.0)))
    if not on:
        return weight
    odds = weight.log() if weight.dim() == 1 else weight.log().reshape(len(weight), 1, k)
    for name in on:
        own, spread, offset = sites_of(name, "membership")
        x, levels = data.coded_of("annotator", name), data.levels(f"annotator.{name.removeprefix('annotator.')}")
        tau = pyro.sample(spread, dist.HalfNormal(1.0))
        with pyro.plate("type", k, dim=-2), pyro.plate(f"{name}_contrast", x.shape[-1], dim=-1):
            slope = pyro.sample(offset, dist.Normal(0.0, tau))  # centred: without priors nothing is said of tau
        apart = slope - slope.mean(-2, keepdim=True)
        if levels:
            with pyro.plate("type", k, dim=-2), pyro.plate(name, levels, dim=-1):
                pyro.deterministic(own, apart @ contrasts(levels).to(apart).T)
        else:
            with pyro.plate("type", k, dim=-1):
                pyro.deterministic(own, apart[..., 0])
        odds = odds + x @ slope.reshape(*odds.shape[:-2], k, x.shape[-1]).transpose(-1, -2)
    return odds.softmax(-1)  # [..., annotator, type]
