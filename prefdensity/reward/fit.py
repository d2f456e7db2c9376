"""A reward from comparisons, with fewer labels spent on what another model already knows.

`reward` takes judgements, an auxiliary model of them that need not be right, and pairs without labels; it returns
the Bradley-Terry reward that infinitely many judgements would give, with intervals that hold whether or not
Bradley-Terry or the auxiliary does. Reference: Ye et al. (2025), arXiv 2504.03784; the estimating equation, its
variance and the choice of lambda are set out in `prefdensity.reward.equation`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prefdensity.data.columns import feature_table
from prefdensity.data.comparisons import TIE, B, Comparisons
from prefdensity.errors import DataError, FitError
from prefdensity.inference.fitting import fits_without
from prefdensity.posterior.posterior import Posterior
from prefdensity.reward.auxiliary import Auxiliary, Viewpoint, folds_of, of_posterior, rows_in, stacked
from prefdensity.reward.convex import gram
from prefdensity.reward.equation import Equation, Fresh, Labelled
from prefdensity.reward.estimate import RewardEstimate, cautions
from prefdensity.reward.fresh_pairs import Exact, Sampled, probabilities

__all__ = ["Exact", "RewardEstimate", "Sampled", "reward", "reward_from_differences", "reward_of_table"]

Array = NDArray[Any]


def reward(
    data: Comparisons, auxiliary: Posterior | ArrayLike, fresh: Exact | Sampled, *,
    features: pd.DataFrame | None = None, lambda_: float | str = "auto", stack: bool = True, refits: int | None = None,
    weights: ArrayLike | None = None, cluster: str | ArrayLike | None = None, folds: int = 5, seed: int = 0,
    progress: bool | None = None,
) -> RewardEstimate:  # fmt: skip
    """Return the Bradley-Terry reward of items, or of features, by the augmented estimating equation.

    What is estimated is the projection of the annotators' preferences onto Bradley-Terry under the law of `fresh`;
    where Bradley-Terry is wrong it depends on that law. The auxiliary changes the variance only. It pays where
    Bradley-Terry is wrong and the auxiliary is less so; where Bradley-Terry holds nothing can be gained.

    Parameters
    ----------
    data
        Judgements; ties count as half a win for either side.
    auxiliary
        A program fitted to `data`, of outcomes a and b: its probabilities are made out of sample here. Or
        probabilities [comparison] that item_a is preferred, from elsewhere; `fresh` then has a column `auxiliary`.
    fresh
        Pairs without labels: `Exact`, a design that is summed, or `Sampled`, pairs drawn from it.
    features
        None: a utility for each item, about the mean of those that pairs connect. A frame by item: linear in columns.
    lambda_, stack
        How much of the auxiliary to use: "auto", the share of least variance; 1, as published; 0, none. Whether to use
        it also as recalibrated by a cross-fitted regression on features and its own logit, with a share of its own.
    refits
        None: out-of-sample probabilities of a program by importance-weighted leave-one-out; or the number of refits.
    weights
        [comparison], probability of the pair under the law of `fresh` over that with which it was labelled.
    cluster
        "annotator", "context" or labels [comparison]: judgements with the same one are not independent. With
        "annotator" intervals are for a population of annotators of whom these are a sample, otherwise for these.
    folds, seed, progress
        Of the recalibration and the refits; whether to show a progress bar (None: where a person watches).

    Raises
    ------
    DataError, FitError
        Naming the argument, and the row or item, that is not as announced; if not even maximum likelihood is finite.
    """
    rows, pairs = _judgements(data), fresh.labels(data.items)
    found = _auxiliary(data, auxiliary, fresh, refits, seed, progress)
    a, b = (pd.Index(data.items).get_indexer(pd.Index([labels[side] for labels in pairs])) for side in (0, 1))
    met = np.concatenate([data.item_a[rows], a]), np.concatenate([data.item_b[rows], b])
    design, basis, names = _design(data, met, features)
    pair, view, share = fresh.rows(found.share, np.random.default_rng(seed))
    code, away_code = _codes(data, cluster, fresh, found, pair, view)
    labelled = Labelled(
        (design[data.item_a] - design[data.item_b])[rows], _labels(data)[rows], found.labelled[rows],
        _weights(weights, len(data))[rows], None if code is None else code[rows],
    )  # fmt: skip
    pool = Fresh(
        (design[a] - design[b])[pair], found.fresh[pair, view], share, fresh.size(), away_code, away_code is not None
    )
    estimate = reward_from_differences(
        labelled, pool, names=names, lambda_=lambda_, stack=stack, folds=folds, seed=seed,
        same_labels=isinstance(auxiliary, Posterior), basis=basis,
    )  # fmt: skip
    return replace(estimate, warnings=(*estimate.warnings, *_rough(found)))


def _auxiliary(
    data: Comparisons, auxiliary: Posterior | ArrayLike, fresh: Exact | Sampled, refits: int | None, seed: int,
    progress: bool | None,
) -> Auxiliary:  # fmt: skip
    """Return what the auxiliary says of the judgements, out of sample, and of fresh pairs."""
    if isinstance(auxiliary, Posterior):
        parts = None if refits is None else fits_without(auxiliary, data, rows_in(data, refits, seed), seed, progress)
        return of_posterior(auxiliary, data, fresh.labels(data.items), parts=parts, progress=progress)
    given = probabilities(auxiliary, len(data), "auxiliary")
    return Auxiliary(given, fresh.auxiliary()[:, None], (Viewpoint(None, "neither", 1.0),))


def _rough(found: Auxiliary) -> list[str]:
    """Return what is to be known of leave-one-out by weights."""
    bad = 0 if found.k_hat is None else int((found.k_hat > 0.7).sum())
    if not bad:
        return []
    return [f"{bad} judgements have a k-hat above 0.7, so their leave-one-out probabilities are rough; set refits=5."]


def reward_of_table(post: Posterior, data: Comparisons, **options: Any) -> RewardEstimate:
    """Return the Bradley-Terry reward that a table and a fit of it call for; its `of_items` tells it by item.

    Linear in the item features where the table has them, else of items. The pairs meant are those of responses to one
    prompt, each prompt as often as it was judged, where every item has a prompt; else all pairs of items.

    Parameters
    ----------
    post, data
        A fit of a program of outcomes a and b, and its table.
    **options
        Of `reward`: ``lambda_``, refits, cluster, seed, progress, ...
    """
    features = None
    if data.item_features is not None:
        features = pd.DataFrame(data.item_features, index=list(data.items), columns=list(data.feature_names))
    fresh = Exact.uniform(data) if data.context_of_items() is None else Exact.of_reference(data)
    return reward(data, post, fresh, features=features, **options)


def reward_from_differences(
    labelled: Labelled,
    fresh: Fresh,
    *,
    names: tuple[str, ...] | None = None,
    lambda_: float | str = "auto",
    stack: bool = True,
    folds: int = 5,
    seed: int = 0,
    same_labels: bool = False,
    basis: Array | None = None,
) -> RewardEstimate:
    """Return the same from feature differences, for rewards that live outside a table of items.

    Parameters
    ----------
    labelled, fresh
        Feature differences [row, parameter], labels and auxiliary probabilities. Those of labelled rows must not
        come from a model that has seen their labels.
    names
        Of the parameters.
    lambda_, stack, folds, seed
        As in `reward`.
    same_labels
        The auxiliary was fitted to these labels (out of sample), rather than coming from elsewhere.
    basis
        [name, parameter]: what is reported is basis times the parameters; None: the parameters.
    """
    _require(labelled, fresh, lambda_)
    size = labelled.x.shape[-1]
    equation = Equation(labelled, fresh)
    if not equation.mle.exists:
        raise FitError(
            "no finite reward fits these judgements: some direction of the features, or some items, always win; "
            "give more judgements or fewer features"
        )
    recalibrated = 0.0
    if stack:
        fold = folds_of(len(labelled.z), folds, labelled.cluster, np.random.default_rng(seed))
        again = stacked(labelled, fresh, fold, same_labels)
        total = None if lambda_ == "auto" else float(lambda_)
        equation, share = equation.mixed((again[0].g, again[1].g), total)
        recalibrated = float(share)
    wanted = float(equation.efficiency.best()) if lambda_ == "auto" else float(lambda_)
    solution, used = equation.settle(wanted)
    kept = np.eye(size) if basis is None else basis
    return RewardEstimate(
        names=names or tuple(f"x{k + 1}" for k in range(size)),
        theta=kept @ solution.theta,
        covariance=kept @ equation.covariance(solution.theta, used) @ kept.T,
        lambda_=float(used),
        recalibrated=recalibrated,
        exists=bool(used == wanted),
        equation=equation,
        parameters=solution.theta,
        basis=kept,
        warnings=cautions(equation, wanted, float(used), lambda_ == "auto"),
    )


def _judgements(data: Comparisons) -> NDArray[np.int64]:
    """Return the row of every judgement: a row that stands for several comes as often."""
    if data.outcome is None:
        raise DataError("these pairs have no outcomes yet; a reward is learned from judgements")
    if (data.count % 1 != 0).any():
        raise DataError("counts are not whole numbers; leave ties as they are, they count as half a win here")
    return np.repeat(np.arange(len(data)), data.count.astype(int))


def _weights(weights: ArrayLike | None, size: int) -> Array:
    found = np.ones(size) if weights is None else np.asarray(weights, float)
    if found.shape != (size,):
        raise DataError(f"weights have shape {found.shape}; one for each of the {size} rows is needed")
    return found


def _labels(data: Comparisons) -> Array:
    z = np.ones(len(data))
    z[data.outcome == B] = 0.0
    z[data.outcome == TIE] = 0.5
    return z


def _design(
    data: Comparisons, met: tuple[Array, Array], features: pd.DataFrame | None
) -> tuple[Array, Array | None, tuple[str, ...]]:
    """Return features [item, parameter], what turns parameters into what is reported, and its names.

    `met` are both sides of all pairs, labelled or not.
    """
    if features is not None:
        names, values = feature_table(features, data.items)
        return values.astype(np.float64), None, names
    size = len(data.items)
    island = connected_components(coo_array((np.ones(len(met[0])), met), (size, size)), directed=False)[1]
    # utilities of what can be compared, such as responses to one prompt, add up to nothing: an orthonormal basis of
    # these leaves no direction without information
    contrasts = np.zeros((size, size - island.max() - 1))
    at = 0
    for items in (np.flatnonzero(island == k) for k in range(island.max() + 1)):
        few = len(items)
        contrasts[items, at : at + few - 1] = np.linalg.qr(np.eye(few)[:, :-1] - 1 / few)[0]
        at += few - 1
    return contrasts, contrasts, data.items


def _cluster(data: Comparisons, cluster: str | ArrayLike | None) -> Array | None:
    """Return a label [comparison] for every row, or None."""
    if cluster is None:
        return None
    if isinstance(cluster, str):
        known = {"annotator": (data.annotator, data.annotators), "context": (data.context, data.contexts)}
        if cluster not in known:
            raise DataError(f"cluster={cluster!r} is unknown; use 'annotator', 'context' or a label for every row")
        code, labels = known[cluster]
        if code is None:
            raise DataError(f"cluster={cluster!r} needs a table with a column for it")
        return np.array(labels)[code]
    found = np.asarray(cluster).astype(str)
    if found.shape != (len(data),):
        raise DataError(f"cluster has shape {found.shape}; one label for each of the {len(data)} judgements is needed")
    return found


def _codes(
    data: Comparisons,
    cluster: str | ArrayLike | None,
    fresh: Exact | Sampled,
    found: Auxiliary,
    pair: Array,
    view: Array,
) -> tuple[Array | None, Array | None]:
    """Return cluster codes of judgements, and of fresh pairs where these share the clusters of judgements."""
    labels = _cluster(data, cluster)
    away = None
    if "cluster" in fresh.pairs:
        if labels is None:
            raise DataError("fresh pairs have a column 'cluster', so cluster=... must say which judgements it means")
        away = fresh.pairs["cluster"].astype(str).to_numpy()[pair]
    elif isinstance(cluster, str) and cluster == "annotator" and found.views[0].annotator is not None:
        # what an annotator would say of fresh pairs is as random as the annotator
        away = np.array([each.annotator for each in found.views])[view]
    if labels is None:
        return None, None
    code = np.unique(labels if away is None else np.concatenate([labels, away]), return_inverse=True)[1]
    return code[: len(labels)], None if away is None else code[len(labels) :]


def _require(labelled: Labelled, fresh: Fresh, lambda_: float | str) -> None:
    n, p = _shape(labelled.x, "labelled.x")
    m, q = _shape(fresh.x, "fresh.x")
    if p != q:
        raise DataError(f"labelled pairs have {p} features and fresh pairs {q}; the same are needed")
    for name, values, size in (
        ("labelled.z", labelled.z, n), ("labelled.weight", labelled.weight, n), ("fresh.share", fresh.share, m),
    ):  # fmt: skip
        if np.shape(values) != (size,) or not np.isfinite(values).all():
            raise DataError(f"{name} holds {np.shape(values)} values; {size} finite numbers are needed")
    probabilities(labelled.g, n, "labelled.g")
    probabilities(fresh.g, m, "fresh.g")
    if not ((labelled.z >= 0) & (labelled.z <= 1)).all():
        raise DataError("labels lie between 0 and 1: 1 where a was preferred, 0 where b was, 1/2 for a tie")
    if not (labelled.weight > 0).all():
        raise DataError(f"weights must be positive; row {int(np.argmin(labelled.weight)) + 1} is not")
    if (fresh.share < 0).any() or not math.isclose(fresh.share.sum(), 1, abs_tol=1e-8):
        raise DataError(f"the shares of fresh pairs must add up to 1, not {fresh.share.sum():.6g}")
    if lambda_ != "auto" and not (isinstance(lambda_, int | float) and 0 <= lambda_ <= 1):
        raise DataError(f"lambda_={lambda_!r} must be 'auto' or lie between 0 and 1")
    values = np.linalg.eigvalsh(gram(labelled.weight, labelled.x))
    rank = int((values > 1e-10 * values[-1]).sum())
    if rank < p:
        raise DataError(
            f"the {n} labelled pairs inform {rank} directions of {p}: features are collinear or constant within "
            "pairs, or items fall into groups that were never compared"
        )


def _shape(x: Array, name: str) -> tuple[int, int]:
    if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
        raise DataError(f"{name} has shape {x.shape}; finite feature differences [pair, feature] are needed")
    return x.shape[0], x.shape[1]
