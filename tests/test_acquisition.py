"""Scores, kernels and greedy batches against closed forms, automatic differentiation and searches without tricks."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import expit

from prefdensity.errors import DataError
from prefdensity.selection.acquisition import (
    d_gain,
    expected_information,
    fisher_information,
    information_by_quadrature,
    mutual_information,
)
from prefdensity.selection.greedy import greedy
from prefdensity.selection.pair_metric import Metric, Strengths, information_matrix, past_information, whitened
from prefdensity.selection.pair_sets import AllPairs, ListedPairs, count, pair_keys, require_enough
from prefdensity.selection.rules import RULES, Situation, choose, contrasts, uniform_hash

METRIC_RULES = [rule for rule in RULES if rule != "batch_bald"]


def situation(n_items, n_features=8, seed=0, **more):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_items, n_features))
    score = features @ rng.normal(size=n_features) * 0.5
    past = more.pop("past", None)
    precision = np.eye(n_features) + (0 if past is None else past)
    metric = lambda: Metric.from_precision(score, features, precision)  # noqa: E731
    return Situation(Strengths(score), features, past, metric, **more)


def codes(picks):
    return [(pick.a, pick.b) for pick in picks]


def every_pair(n_items):
    return np.triu_indices(n_items, 1)


def autograd_leverage(features, score, a, b, ridge=0.0, past=0.0, dtype=torch.float64):
    """The rule as its authors state it: gradient of log det of the weighted information matrix at weights of one."""
    x = torch.tensor(features[a] - features[b], dtype=dtype)
    p = torch.sigmoid(torch.tensor(score[a] - score[b], dtype=dtype))
    weight = torch.ones(len(a), dtype=dtype, requires_grad=True)
    each = (p * (1 - p))[:, None, None] * x[:, :, None] * x[:, None, :]
    matrix = (weight[:, None, None] * each).sum(0) + ridge * torch.eye(x.shape[1], dtype=dtype)
    torch.logdet(matrix + torch.as_tensor(past, dtype=dtype)).backward()
    return weight.grad.numpy()


def leverage(known, pairs):
    metric = Metric(known.luce, whitened(known.features, information_matrix(pairs, known.features, known.luce)))
    return [known.luce.information(block.a, block.b) * metric.variance(block) for block in pairs.blocks()]


# --- leverage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_leverage_is_the_gradient_of_the_log_determinant(dtype, rtol):
    known = situation(24)
    a, b = every_pair(24)
    (found,) = leverage(known, ListedPairs(a, b, 24))
    exact = autograd_leverage(known.features, known.luce.score, a, b, dtype=dtype)
    np.testing.assert_allclose(found[:, 0], exact, rtol=rtol)


@pytest.mark.parametrize("n_items", [60, 200])
@pytest.mark.parametrize("rule", ["d_optimal", "past_aware_d_optimal", "xtx"])
def test_the_top_100_are_those_of_automatic_differentiation(rule, n_items):
    rng = np.random.default_rng(3)
    known = situation(n_items, 16, seed=n_items)
    past = past_information(known.features, known.luce, *rng.integers(n_items, size=(2, 300)), np.ones(300))
    known = Situation(known.luce, known.features, past)
    a, b = every_pair(n_items)
    score = np.zeros(n_items) if rule == "xtx" else known.luce.score
    matrix = past if rule == "past_aware_d_optimal" else 0.0
    ridge = 0.25e-6 if rule == "xtx" else 1e-6  # every weight is 1/4 of one where scores are equal
    exact = autograd_leverage(known.features, score, a, b, ridge, matrix)
    top = np.argsort(-exact, kind="stable")[:100]
    assert set(codes(choose(rule, AllPairs(n_items), known, 100))) == set(zip(a[top], b[top], strict=True))


def test_leverages_sum_to_the_number_of_features_and_stay_below_one():
    known = situation(70, 12)
    found = leverage(known, AllPairs(70))
    values = np.concatenate([value[block.allowed] for value, block in zip(found, AllPairs(70).blocks(), strict=True)])
    assert len(values) == 70 * 69 / 2
    assert values.sum() == pytest.approx(12, rel=1e-12)
    assert values.min() >= 0
    assert values.max() <= 1


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("side", ["all", "within", "across"])
def test_the_laplacian_is_the_sum_over_pairs(side, weighted):
    known = situation(53, 5)
    group = np.arange(53) % 7
    pairs = AllPairs(53, group, side, without=pair_keys(np.arange(10), np.arange(10) + 7, 53))
    a, b = every_pair(53)
    same = group[a] == group[b]
    kept = {"all": np.ones(len(a), bool), "within": same, "across": ~same}[side]
    kept &= ~((a < 10) & (b == a + 7))
    x = (known.features[a] - known.features[b])[kept]
    v = fisher_information((known.luce.score[a] - known.luce.score[b])[kept]) if weighted else np.ones(kept.sum())
    found = information_matrix(pairs, known.features, known.luce if weighted else None)
    np.testing.assert_allclose(found, (x.T * v) @ x, rtol=1e-11, atol=1e-11)
    assert count(pairs) == kept.sum()
    listed = pairs.listed()
    np.testing.assert_array_equal(pair_keys(listed.a, listed.b, 53), pair_keys(a[kept], b[kept], 53))


@pytest.mark.parametrize("scale", [1.0, 60.0, 2000.0])
def test_information_from_strengths(scale):
    score = np.array([0.0, 0.3, -0.7, 1.0, 1.4]) * scale
    a, b = every_pair(5)
    exact = expit(score[a] - score[b]) * expit(score[b] - score[a])
    np.testing.assert_allclose(Strengths(score + 5).information(a, b), exact, rtol=1e-11)
    np.testing.assert_allclose(fisher_information(score[a] - score[b]), exact, rtol=1e-12)


# --- batches -------------------------------------------------------------------------------------------------------


def dense(score, n):
    """All scores sorted, ties by position."""
    return np.argsort(-score, kind="stable")[:n]


@pytest.mark.parametrize("n", [1, 40, 703])
def test_streamed_choice_is_the_dense_one(n, monkeypatch):
    monkeypatch.setattr("prefdensity.selection.pair_sets._BLOCK", 100)  # 38 items do not fill whole blocks
    known = situation(38)
    a, b = every_pair(38)
    rounded = np.round(known.luce.score[a] - known.luce.score[b], 1)  # with many ties

    def score(block):
        return -np.abs(np.round(known.luce.margin(block.a, block.b), 1))

    picks = greedy(AllPairs(38), score, n)
    order = dense(-np.abs(rounded), n)
    assert [pick.score for pick in picks] == pytest.approx(list(-np.abs(rounded)[order]))
    assert len(set(codes(picks))) == n
    with pytest.raises(DataError, match="704 pairs are asked for and only 703 are possible"):
        greedy(AllPairs(38), score, 704)


@pytest.mark.parametrize("gain", ["determinant", "information"])
def test_lazy_greedy_is_the_search_over_all_pairs(gain):
    known = situation(60)
    a, b = every_pair(60)
    covariance = np.eye(8)
    x, margin = known.features[a] - known.features[b], known.luce.score[a] - known.luce.score[b]
    v, expected = fisher_information(margin), []
    for _ in range(40):
        variance = np.einsum("pf,fg,pg->p", x, covariance, x)
        score = d_gain(v, variance) if gain == "determinant" else expected_information(margin, variance)
        score[[k for k, _ in expected]] = -np.inf
        k = int(score.argmax())
        expected.append((k, score[k]))
        along = covariance @ x[k]
        covariance -= np.outer(along, along) * v[k] / (1 + v[k] * variance[k])
    rule = "greedy_d_optimal" if gain == "determinant" else "eig"
    for pairs in (AllPairs(60), ListedPairs(a, b, 60)):
        picks = choose(rule, pairs, known, 40)
        assert codes(picks) == [(a[k], b[k]) for k, _ in expected]
        np.testing.assert_allclose([pick.score for pick in picks], [score for _, score in expected], rtol=1e-8)


def test_gains_telescope_and_greedy_beats_top_k_beats_random():
    found = {"greedy_d_optimal": [], "bald": [], "random": []}
    for seed in range(12):
        known = situation(80, 10, seed)
        for rule, values in found.items():
            picks = choose(rule, AllPairs(80), known, 30, seed=seed)
            a, b = np.array(codes(picks)).T
            whole = np.eye(10) + past_information(known.features, known.luce, a, b, np.ones(30))
            values.append(np.linalg.slogdet(whole)[1] / 2)
            if rule == "greedy_d_optimal":
                assert sum(pick.score for pick in picks) == pytest.approx(values[-1], rel=1e-10)
    assert np.mean(found["greedy_d_optimal"]) > np.mean(found["bald"]) > np.mean(found["random"])
    assert all(np.greater(found["greedy_d_optimal"], found["bald"]))


@pytest.mark.parametrize("rule", METRIC_RULES)
def test_no_pair_twice_none_masked_and_quotas_hold(rule):
    known = situation(30)
    group = np.arange(30) % 5
    masked = pair_keys(*np.array([(0, 6), (1, 7), (20, 29)]).T, 30)
    pairs = AllPairs(30, group, "across", np.sort(masked))
    picks = choose(rule, pairs, known, 25, quota=2, seed=4)
    a, b = np.array(codes(picks)).T
    assert (a < b).all()
    assert (group[a] != group[b]).all()
    assert len(set(codes(picks))) == 25
    assert not np.isin(pair_keys(a, b, 30), masked).any()
    assert np.bincount(np.concatenate([a, b])).max() <= 2
    same = choose(rule, pairs.listed(), known, 25, quota=2, seed=4)
    if rule != "coreset":  # its clusters come from a sample of pairs, drawn by position
        assert codes(same) == codes(picks)


@pytest.mark.parametrize("rule", ["eig", "greedy_d_optimal", "bald", "d_optimal", "xtx", "entropy", "max_difference"])
def test_choice_ignores_order_of_items_and_constants(rule):
    known = situation(25)
    base = {frozenset(pair) for pair in codes(choose(rule, AllPairs(25), known, 12))}
    order = np.random.default_rng(1).permutation(25)
    features, score = known.features[order] + 3.0, known.luce.score[order] - 7.0
    moved = Situation(
        Strengths(score), features, None, lambda: Metric.from_precision(score, features, np.eye(features.shape[1]))
    )
    found = {frozenset((int(order[a]), int(order[b]))) for a, b in codes(choose(rule, AllPairs(25), moved, 12))}
    assert found == base


def test_costs_divide_scores():
    known = situation(40)
    cost = np.random.default_rng(0).uniform(1, 4, 40)
    pairs = AllPairs(40, cost=cost)
    picks = choose("bald", pairs, known, 10)
    a, b = every_pair(40)
    metric = known.metric()
    value = expected_information(known.luce.margin(a, b), ((metric.z[a] - metric.z[b]) ** 2).sum(1))
    top = dense(value / (cost[a] + cost[b]), 10)
    assert codes(picks) == list(zip(a[top], b[top], strict=True))
    np.testing.assert_allclose([pick.score for pick in picks], value[top])
    assert codes(choose("bald", pairs.listed(), known, 10)) == codes(picks)


def test_degenerate_pools():
    flat = Situation(Strengths(np.zeros(6)), contrasts(6), None, lambda: Metric(Strengths(np.zeros(6)), np.eye(6)))
    for rule in METRIC_RULES:
        assert len(choose(rule, AllPairs(6), flat, 15)) == 15  # constant scores, every pair
        pair = Situation(Strengths(np.array([0.0, 1.0])), contrasts(2), None, lambda: Metric.from_draws(np.eye(2)))
        assert codes(choose(rule, AllPairs(2), pair, 1)) == [(0, 1)]
    few = situation(5, 12)  # fewer items than features
    assert len(choose("d_optimal", AllPairs(5), few, 10)) == 10


@pytest.mark.parametrize("rule", ["d_optimal", "xtx"])
def test_singular_features_without_a_ridge_are_refused(rule):
    known = situation(20, 4)
    for features, words in (
        (np.column_stack([known.features, np.ones(20)]), "feature 5 is the same"),
        (np.column_stack([known.features, known.features[:, :2].sum(1)]), "do not span their 5 features"),
    ):
        bare = Situation(known.luce, features, ridge=0.0)
        with pytest.raises(DataError, match=words):
            choose(rule, AllPairs(20), bare, 5)
        assert len(choose(rule, AllPairs(20), Situation(known.luce, features), 5)) == 5


def test_too_few_pairs_are_refused():
    empty = AllPairs(3, without=pair_keys(*np.array([(0, 1), (0, 2), (1, 2)]).T, 3))
    with pytest.raises(DataError, match="no candidate pair is left"):
        require_enough(empty, 1)
    with pytest.raises(DataError, match="n=4 pairs are asked for and only 3"):
        require_enough(AllPairs(3), 4)
    with pytest.raises(DataError, match="only 1 are possible under a quota of 1"):
        choose("random", AllPairs(3), situation(3), 2, quota=1)


def test_memory_does_not_grow_with_the_pairs():
    known = situation(5000, 64)
    tracemalloc.start()
    choose("d_optimal", AllPairs(5000), known, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # 12.5 million pairs: one number for each would be 100 MB


def test_hashes_are_uniform_and_seeds_independent():
    # five tests at 1 in 1,000: a false alarm in 200 sets of seeds
    from scipy import stats

    for seed in range(4):
        assert stats.kstest(uniform_hash(np.arange(20_000), seed), "uniform").pvalue > 1e-3
    one, other = (uniform_hash(np.arange(20_000), seed) for seed in (0, 1))
    assert stats.pearsonr(one, other).pvalue > 1e-3


def test_a_sample_is_uniform_over_candidates():
    pairs = AllPairs(9, np.arange(9) % 3, "across")
    rng = np.random.default_rng(0)
    seen = np.zeros(81)
    for _ in range(2000):
        drawn = pairs.sample(5, rng)
        assert drawn.n_rows == 5
        seen[pair_keys(drawn.a, drawn.b, 9)] += 1
    hits = seen[pair_keys(pairs.listed().a, pairs.listed().b, 9)]
    assert hits.sum() == 10_000
    spread = 2000 * (5 / 27) * (1 - 5 / 27)
    # 27 counts within 4 standard deviations: a false alarm in 600 seeds
    assert np.abs(hits - 10_000 / 27).max() < 4 * spread**0.5


# --- expected information ------------------------------------------------------------------------------------------


def test_information_table_against_quadrature():
    rng = np.random.default_rng(0)
    margin, sd = rng.uniform(0, 20, 4000), np.exp(rng.uniform(-6, 5, 4000))
    exact, found = information_by_quadrature(margin, sd**2), expected_information(margin, sd**2)
    assert np.abs(found - exact).max() < 1e-4
    np.testing.assert_allclose(found[exact > 1e-12], exact[exact > 1e-12], rtol=0.02)
    np.testing.assert_array_equal(found, expected_information(-margin, sd**2))


def test_the_two_quadratures_agree_and_match_simulation():
    from prefdensity.selection.acquisition import _narrow, _wide

    margin = np.linspace(0, 12, 40)
    np.testing.assert_allclose(_narrow(margin, np.full(40, 0.4)), _wide(margin, np.full(40, 0.4)), atol=1e-12)
    p = expit(1.0 + 2.0 * np.random.default_rng(1).standard_normal(400_000))
    prob = np.stack([p, 1 - p], -1)[:, None]
    # standard error 3e-4
    assert mutual_information(prob)[0] == pytest.approx(float(information_by_quadrature([1.0], [4.0])[0]), abs=1.2e-3)


def test_limits_of_expected_information():
    margin = np.array([0.0, 1.0, 3.0])
    small = expected_information(margin, np.full(3, 1e-8))
    np.testing.assert_allclose(small, 0.5 * fisher_information(margin) * 1e-8, rtol=1e-5)
    assert expected_information(0.0, 9.0) == pytest.approx(0.333, abs=5e-4)
    assert d_gain(0.25, 9.0) == pytest.approx(0.589, abs=5e-4)
    wide = expected_information(0.0, 1e10)
    assert 0.69 < wide < np.log(2)
    assert expected_information(2.0, 0.0) == 0
    grid = expected_information(*np.meshgrid(np.linspace(0, 12, 25), np.linspace(0.01, 8, 400) ** 2))
    assert np.diff(grid, axis=0).min() > 0  # grows with the variance, so old gains bound new ones
    assert grid.max() < np.log(2)


def test_draws_approach_the_gaussian():
    rng = np.random.default_rng(0)
    known = situation(12)
    errors = []
    for size in (50, 500, 50_000):
        weight = rng.standard_normal((size, 8))
        draws = known.luce.score + weight @ known.features.T
        a, b = every_pair(12)
        p = expit(draws[:, a] - draws[:, b])
        exact = expected_information(
            known.luce.score[a] - known.luce.score[b], ((known.features[a] - known.features[b]) ** 2).sum(1)
        )
        errors.append(np.abs(mutual_information(np.stack([p, 1 - p], -1)) - exact).max())
    assert errors[2] < 0.01 < errors[0]
    assert errors[2] < errors[1] < errors[0]
