"""`reward` on tables of comparisons: auxiliaries of every kind, and what is said about bad input."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from test_reward import problem

import prefdensity
from benchmarks import reward_worlds
from prefdensity.errors import DataError
from prefdensity.posterior.psis import smooth
from prefdensity.reward import Exact, Sampled, reward, reward_from_differences
from prefdensity.reward.auxiliary import stacked


@pytest.mark.parametrize(("outcome", "left"), [(1.0, 7 / 12), (0.0, 8 / 12)])
def test_leave_one_out_of_a_conjugate_posterior_is_exact(outcome, left):
    draws = np.random.default_rng(0).beta(8, 5, size=20_000)  # Beta(1, 1) after 7 wins of 11
    log_lik = torch.as_tensor(np.log(draws if outcome else 1 - draws))
    weight, k_hat = smooth(-log_lik[None])
    assert float(weight[0].exp() @ torch.as_tensor(draws)) == pytest.approx(left, abs=0.005)
    assert float(k_hat) < 0.7


@pytest.fixture(scope="module")
def table():
    data, _ = prefdensity.simulate.population(
        n_items=5, n_annotators=20, n_comparisons=600, seed=4, n_types=2, type_weight=[0.6, 0.4], utility_sd=2.0
    )
    return data


@pytest.fixture(scope="module")
def types(table):
    return prefdensity.fit("annotator_types(k=2)", table, seed=0, progress=False)


def test_types_of_annotators_as_auxiliary(table, types):
    found = reward(table, types, Exact.uniform(table))
    plain = reward(table, types, Exact.uniform(table), lambda_=0)
    frame = found.summary()
    assert list(frame.columns) == ["name", "estimate", "se", "lower", "upper", "rank_lower", "rank_upper"]
    assert set(frame["name"]) == set(table.items)
    assert abs(found.theta.sum()) < 1e-10
    assert np.abs(found.theta - plain.theta).max() < 3 * plain.se.max()
    assert found.expected_gain() < 0.7  # whose vote it is explains much of it
    own, away = found.influence()
    np.testing.assert_allclose(own.sum(0) + away.sum(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.sqrt((plain.influence()[0] ** 2).sum(0)), plain.se, rtol=0.02)


def test_a_population_of_annotators_is_less_certain_than_these(table, types):
    these, population = (reward(table, types, Exact.uniform(table), cluster=each) for each in (None, "annotator"))
    assert np.trace(population.covariance) > 4 * np.trace(these.covariance)
    assert (population.se / these.se).max() > 3  # where the camps disagree, how many of each there are is most of it
    assert population.equation.fresh.tied
    who = np.unique(table.annotator, return_inverse=True)[1]
    own, away = population.equation.influence(population.parameters, population.lambda_)
    total = np.stack([own[who == k].sum(0) + away[population.equation.fresh.cluster == k].sum(0) for k in range(20)])
    covariance = population.equation.covariance(population.parameters, population.lambda_)
    np.testing.assert_allclose(np.cov(total.T) * 20, covariance)
    with pytest.raises(DataError, match="share clusters"):
        population.fresh_pairs_needed(0.5)


def test_fresh_pairs_of_a_prompt_are_not_independent_of_its_judgements(table):
    rng = np.random.default_rng(0)
    prompt = rng.integers(40, size=len(table)).astype(str)
    pairs = pd.DataFrame({"item_a": ["item1", "item2"] * 300, "item_b": ["item3", "item5"] * 300, "auxiliary": 0.6})
    tied = Sampled(pairs.assign(cluster=rng.integers(40, size=600).astype(str)))
    g = np.full(len(table), 0.6)
    found = reward(table, g, tied, cluster=prompt, stack=False, lambda_=0.5)
    assert found.equation.fresh.tied
    assert len(np.unique(found.equation.fresh.cluster)) == 40
    with pytest.raises(DataError, match="cluster=... must say which judgements"):
        reward(table, g, tied)


def test_refits_and_leave_one_out_agree(table):
    post = prefdensity.fit("bradley_terry", table, seed=0, progress=False)
    loo, refits = (reward(table, post, Exact.uniform(table), stack=False, lambda_=1, refits=k) for k in (None, 4))
    np.testing.assert_allclose(loo.theta, refits.theta, atol=0.5 * loo.se.min())
    pairs = pd.DataFrame({"item_a": ["item1", "item2"] * 300, "item_b": ["item3", "item5"] * 300})
    sampled = reward(table, post, Sampled(pairs), stack=False)
    assert sampled.equation.fresh.size == 600


def test_given_probabilities_items_and_features_agree(table):
    rng = np.random.default_rng(0)
    g = rng.uniform(0.2, 0.8, len(table))
    fresh = Exact.uniform(table)
    fresh = Exact(fresh.pairs.assign(auxiliary=rng.uniform(0.2, 0.8, 10)))
    items = reward(table, g, fresh, stack=False, lambda_=0.7)
    dummies = pd.DataFrame(np.eye(5)[:, 1:], index=list(table.items), columns=list(table.items[1:]))
    linear = reward(table, g, fresh, stack=False, lambda_=0.7, features=dummies)
    np.testing.assert_allclose(items.theta[1:] - items.theta[0], linear.theta, atol=1e-8)
    contrast = np.array([-1.0, 1, 0, 0, 0])
    np.testing.assert_allclose(items.contrast(contrast), [linear.theta[0], *linear.interval()[0]], atol=1e-8)
    middle, lower, upper = items.win_probability(contrast)
    assert lower < middle < upper
    assert middle == pytest.approx(expit(linear.theta[0]))


def test_counts_are_repeated_rows(table):
    frame = table.to_frame()
    g = pd.Series(np.random.default_rng(0).uniform(0.2, 0.8, len(frame)))
    del frame["annotator"]
    merged = prefdensity.Comparisons.from_frame(frame.assign(count=2))
    double = prefdensity.Comparisons.from_frame(pd.concat([frame, frame]).reset_index(drop=True))
    fresh = Exact(Exact.uniform(merged).pairs.assign(auxiliary=0.4))
    one = reward(merged, g, fresh, stack=False, lambda_=1)
    two = reward(double, pd.concat([g, g]), fresh, stack=False, lambda_=1)
    np.testing.assert_allclose(one.theta, two.theta, atol=1e-9)


def test_a_program_fitted_to_counts(table):
    merged = prefdensity.Comparisons.from_frame(table.to_frame().drop(columns="annotator").assign(count=2))
    post = prefdensity.fit("bradley_terry", merged, seed=0, progress=False)
    found = reward(merged, post, Exact.uniform(merged), stack=False)
    assert found.n == 1200
    assert np.isfinite(found.se).all()


def test_ties_count_half_a_win_for_either_side(table):
    frame = table.to_frame().drop(columns="annotator")
    tied = frame.assign(outcome=np.where(np.arange(len(frame)) % 10 == 0, "tie", frame["outcome"]))
    data = prefdensity.Comparisons.from_frame(tied)
    fresh = Exact(Exact.uniform(data).pairs.assign(auxiliary=0.5))
    found = reward(data, np.full(len(data), 0.5), fresh, stack=False, lambda_=0)
    halves = np.zeros((5, 5))
    for a, b, outcome in tied[["item_a", "item_b", "outcome"]].itertuples(index=False):
        i, j = data.items.index(a), data.items.index(b)
        halves[i, j] += {"a": 1, "b": 0, "tie": 0.5}[outcome]
        halves[j, i] += {"a": 0, "b": 1, "tie": 0.5}[outcome]
    p = expit(found.theta[:, None] - found.theta)
    np.testing.assert_allclose(((halves + halves.T) * p).sum(1), halves.sum(1), atol=1e-6)
    with pytest.raises(DataError, match="counts are not whole numbers"):
        reward(data.ties_as_half_wins(), np.full(660, 0.5), fresh)


def test_a_program_of_the_same_labels_is_never_turned_upside_down():
    # its left-out probabilities lean against their label; a negative coefficient would take that for information
    sample = reward_worlds.draw(reward_worlds.world("cyclic"), 400, 10)
    against, without, along = (sample.equation(name) for name in ("inverted", "half", "oracle"))
    bounded = stacked(against.labelled, against.fresh, sample.fold, same_labels=True)
    plain = stacked(without.labelled, without.fresh, sample.fold, same_labels=True)
    for one, two in zip(bounded, plain, strict=True):
        np.testing.assert_allclose(one.g, two.g, atol=1e-9)
    free, kept = (stacked(along.labelled, along.fresh, sample.fold, same_labels=each) for each in (False, True))
    np.testing.assert_array_equal(free[0].g, kept[0].g)
    turned = stacked(against.labelled, against.fresh, sample.fold, same_labels=False)
    np.testing.assert_allclose(turned[0].g, free[0].g, atol=1e-9)


def test_a_flipped_judge_is_put_right_by_stacking():
    w = reward_worlds.world("cyclic")
    sample = reward_worlds.draw(w, 1200, 20)
    flipped, right = (sample.equation(name, use="recalibrated") for name in ("inverted", "oracle"))
    np.testing.assert_allclose(flipped.solve(1.0).theta, right.solve(1.0).theta, atol=1e-6)
    assert flipped.efficiency.ratio(1.0).mean() < 0.6


# -- what is said about bad input --


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auxiliary": 1.0}, "auxiliary is 1 in row 1; probabilities must lie strictly between 0 and 1"),
        ({"auxiliary": np.full(3, 0.5)}, "auxiliary has shape"),
        ({"fresh": lambda d: Exact.uniform(d)}, "fresh pairs need a column 'auxiliary'"),
        (
            {"fresh": lambda d: Exact(Exact.uniform(d).pairs.assign(weight=1.0, auxiliary=0.5))},
            "must add up to 1, not 10",
        ),
        ({"fresh": lambda d: Exact(pd.DataFrame({"item_a": ["x"]}))}, "no column 'item_b'"),
        (
            {"fresh": lambda d: Sampled(pd.DataFrame({"item_a": ["x"], "item_b": ["item1"]}))},
            "fresh pair 1 names 'x', which no judgement does",
        ),
        ({"lambda_": 1.5}, "lambda_=1.5 must be 'auto' or lie between"),
        ({"cluster": "prompt"}, "cluster='prompt' is unknown"),
        ({"cluster": "context"}, "needs a table with a column"),
        ({"weights": np.zeros(600)}, "weights must be positive; row 1"),
        ({"weights": np.ones(3)}, "weights have shape"),
        ({"features": "collinear"}, "inform 1 directions of 2"),
        ({"folds": 1}, "folds=1 must lie between"),
    ],
)
def test_bad_input_gets_one_sentence(change, message, table):
    design = Exact(Exact.uniform(table).pairs.assign(auxiliary=0.5))
    given = {"auxiliary": 0.5, "fresh": lambda _: design, "lambda_": 1.0} | change
    g = given.pop("auxiliary")
    fresh = given.pop("fresh")
    if given.get("features") == "collinear":
        one = np.arange(5.0)
        given["features"] = pd.DataFrame({"u": one, "v": 2 * one}, index=list(table.items))
    with pytest.raises(DataError, match=message):
        reward(table, np.full(len(table), g) if np.ndim(g) == 0 else g, fresh(table), **given)


def test_programs_that_cannot_serve_are_refused(table):
    davidson = prefdensity.fit("davidson", table, seed=0, progress=False)
    with pytest.raises(DataError, match="a reward needs a program of a and b only"):
        reward(table, davidson, Exact.uniform(table))


def test_warnings_name_what_to_do(table):
    e = problem(n=200, m=200)
    few = reward_from_differences(e.labelled, e.fresh, lambda_=1, stack=False)
    assert any("Little or no variance reduction is expected with 200 fresh pairs for 200" in w for w in few.warnings)
    assert any('use lambda_="auto" or stack=True' in w for w in few.warnings)  # a random auxiliary
    tuned = reward_from_differences(e.labelled, e.fresh, stack=False)
    assert tuned.warnings == ()
    coded = replace(e.labelled, cluster=np.arange(200) % 10)
    assert any("only 10 clusters" in w for w in reward_from_differences(coded, e.fresh, stack=False).warnings)
    heavy = replace(e.labelled, weight=np.full(200, 1.5))
    assert any("weights average 1.50" in w for w in reward_from_differences(heavy, e.fresh, stack=False).warnings)
