"""Rules that say which pairs to ask next, each as a score of pairs and, for batches, how to learn from a pick.

`RULES` says what each does. D-optimality is leverage: the gradient of log det of the information matrix with respect
to the weight of a pair is information times squared distance (Shen, Sun and Ton, arXiv 2502.04354, take it by
automatic differentiation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.selection.acquisition import d_gain, expected_information
from prefdensity.selection.greedy import Pick, Score, greedy
from prefdensity.selection.pair_metric import Metric, Strengths, information_matrix, whitened
from prefdensity.selection.pair_sets import Block, PairSet, pair_keys

Array = NDArray[Any]
Report = Callable[[str, float, float], None]
Learn = Callable[[Pick], None]

RULES = {
    "eig": "most expected information, each pair given those before it",
    "greedy_d_optimal": "most growth of the log determinant of the precision, each pair given those before it",
    "batch_bald": "most joint information of the batch, from the outcomes of the draws (no Gaussian step)",
    "bald": "most expected information, each pair on its own: near-duplicates fill a batch",
    "d_optimal": "largest leverage in the information matrix of all candidates",
    "past_aware_d_optimal": "largest leverage in the information matrix of all candidates and past judgements",
    "xtx": "largest leverage of the difference of features, whatever the scores",
    "coreset": "drawn by sensitivity for a coreset of logistic regression",
    "entropy": "most even prediction",
    "max_difference": "least even prediction",
    "random": "every candidate is as likely",
}
LEVERAGE = ("d_optimal", "past_aware_d_optimal", "xtx")
FROM_FEATURES = (*LEVERAGE, "coreset")

_CLUSTERS = 10
_SKETCH = 5000  # pairs that clusters are made from


@dataclass(frozen=True, eq=False)
class Situation:
    """What is known before a batch is chosen.

    Attributes
    ----------
    luce
        Strengths of the present scores.
    features
        float64 [item, feature] that scores are taken to be linear in, for `FROM_FEATURES`; for free scores `contrasts`.
    past
        float64 [feature, feature]: information of the judgements so far, or None.
    metric
        Makes the belief about scores; every call a new one, for learning changes it. None where there is none.
    ridge
        Added to the diagonal of information matrices.
    """

    luce: Strengths
    features: Array | None
    past: Array | None = None
    metric: Callable[[], Metric] | None = None
    ridge: float = 1e-6


def contrasts(n_items: int) -> Array:
    """Return the features of items with a score each, the last being the reference."""
    return np.eye(n_items, n_items - 1)


def choose(
    rule: str,
    pairs: PairSet,
    known: Situation,
    n: int,
    *,
    quota: int | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> list[Pick]:
    """Choose `n` pairs where Luce's rule holds between scores.

    Parameters
    ----------
    rule
        One of `RULES` but batch_bald, which needs the outcomes of draws (`selection_tables.choose_from_tables`).
    pairs
        Candidates.
    known
        Scores and what else the rule needs.
    n
        Number of pairs.
    quota
        Most pairs of the batch that any item may be in.
    seed
        Of random and coreset.
    report
        Progress.

    Returns
    -------
    Picks with the score of the rule: nats for eig, greedy_d_optimal and bald.
    """
    score, learn = _score(rule, pairs, known, seed)
    return greedy(pairs, score, n, learn=learn, quota=quota, report=report)


def _score(rule: str, pairs: PairSet, known: Situation, seed: int) -> tuple[Score, Learn | None]:
    luce = known.luce
    if rule == "random":
        return (lambda block: uniform_hash(pair_keys(block.a, block.b, pairs.n_items), seed)), None
    if rule == "entropy":
        return (lambda block: luce.information(block.a, block.b)), None
    if rule == "max_difference":
        return (lambda block: np.abs(luce.margin(block.a, block.b))), None
    if rule == "coreset":
        assert known.features is not None
        return _coreset(pairs, known.features, luce, seed), None
    if rule in LEVERAGE:
        return _leverage(rule, pairs, known), None
    if rule not in ("eig", "bald", "greedy_d_optimal"):
        raise DataError(f"rule={rule!r} is unknown; use {', '.join(RULES)}")
    if known.metric is None:
        raise DataError(f"rule={rule!r} needs a posterior with draws")
    metric = known.metric()

    def information(block: Block) -> Array:
        return expected_information(luce.margin(block.a, block.b), metric.variance(block))

    def determinant(block: Block) -> Array:
        return d_gain(luce.information(block.a, block.b), metric.variance(block))

    def learn(pick: Pick) -> None:
        metric.learn(pick.a, pick.b)

    if rule == "bald":
        return information, None
    return (information if rule == "eig" else determinant), learn


def _leverage(rule: str, pairs: PairSet, known: Situation) -> Score:
    features = known.features
    assert features is not None
    luce = None if rule == "xtx" else known.luce
    matrix = information_matrix(pairs, features, luce)
    if rule == "past_aware_d_optimal" and known.past is not None:
        matrix = matrix + known.past
    matrix = matrix + known.ridge * np.eye(len(matrix))
    metric = Metric(known.luce, whitened(features, matrix))
    if luce is None:
        return metric.variance
    return lambda block: luce.information(block.a, block.b) * metric.variance(block)


def uniform_hash(key: Array, seed: int) -> Array:
    """Return numbers in (0, 1) that depend on key and seed only, as good as random (SplitMix64, Steele et al. 2014).

    So a pair keeps its number however often, and in whatever block, it is looked at.
    """
    with np.errstate(over="ignore"):
        state = np.asarray(key, np.uint64) + np.uint64(seed % 2**64) * np.uint64(0xD1342543DE82EF95)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state = state ^ (state >> np.uint64(31))
    return ((state >> np.uint64(11)).astype(float) + 0.5) / 2**53


def _coreset(pairs: PairSet, features: Array, luce: Strengths, seed: int) -> Score:
    """Sample by sensitivity without replacement: Huggins, Campbell and Broderick (2016), arXiv 1605.06423, lemma 3.1.

    Clusters are symmetric (x and -x are the same pair, its sides exchanged) and come from one step of k-means on some
    pairs. The radius of the ball that weights lie in is taken to be the norm of the present least-squares weights.
    """
    rng = np.random.default_rng(seed)
    features = features - features.mean(0)
    some = pairs.sample(_SKETCH, rng)
    x = features[some.a] - features[some.b]
    x = np.concatenate([x, -x])
    start = x[rng.choice(len(x) // 2, min(_CLUSTERS, len(x) // 2), replace=False)]
    nearest = ((x**2).sum(1)[:, None] - 2 * x @ start.T + (start**2).sum(1)).argmin(1)
    filled = np.unique(nearest)
    centre = np.stack([x[nearest == k].mean(0) for k in filled])
    centre = np.concatenate([centre, -centre])
    share = np.tile([(nearest == k).mean() for k in filled], 2) / 2
    weights = np.linalg.lstsq(features, luce.score - luce.score.mean(), rcond=None)[0]
    radius = float(np.linalg.norm(weights))
    along, size = features @ centre.T, (centre**2).sum(1)
    plain = Metric(luce, features)

    def race(block: Block) -> Array:
        length = plain.variance(block)
        crowd = np.zeros(length.shape)
        for k in range(len(centre)):
            square = length - 2 * (along[block.a, k] - along[block.b, k]) + size[k]
            crowd += share[k] * np.exp(-radius * np.sqrt(np.maximum(square, 0)))
        # sensitivity is 1 / crowd up to a constant; the first arrivals at these rates are the sample
        arrival = -np.log(uniform_hash(pair_keys(block.a, block.b, pairs.n_items), seed)) * crowd
        return 1 / arrival

    return race
