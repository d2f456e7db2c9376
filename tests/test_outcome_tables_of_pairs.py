"""What pairs tell, by tables of outcome probabilities: of one, of some together, of those to come."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit
from test_acquisition import every_pair

from prefdensity.selection.acquisition import (
    d_gain,
    entropy,
    expected_information,
    mutual_information,
    target_information,
)
from prefdensity.selection.outcome_belief import JointOutcomes, OutcomeBelief
from prefdensity.selection.pair_sets import ListedPairs, pair_keys
from prefdensity.selection.pair_tables import choose_from_tables, survey

# --- outcome tables ------------------------------------------------------------------------------------------------


def tables(n_items=7, draws=200, seed=0, scale=1.0, ties=False):
    rng = np.random.default_rng(seed)
    utility = scale * rng.standard_normal((draws, n_items))
    a, b = every_pair(n_items)
    margin = utility[:, a] - utility[:, b]
    parts = [np.exp(margin / 2), np.exp(-margin / 2)] + ([np.ones_like(margin)] if ties else [])
    weight = np.stack(parts, -1)
    return ListedPairs(a, b, n_items), weight / weight.sum(-1, keepdims=True), utility


@pytest.mark.parametrize("ties", [False, True])
def test_first_information_of_tables_is_exact_and_later_ones_shrink(ties):
    _, prob, _ = tables(ties=ties)
    belief, every = OutcomeBelief(prob), np.arange(prob.shape[1])
    np.testing.assert_allclose(belief.information(every), mutual_information(prob), rtol=1e-10)
    before, gain = belief.information(every), belief.d_gain(every)
    for row in (3, 3, 11):
        belief.learn(row)
        after, later = belief.information(every), belief.d_gain(every)
        assert (after <= before + 1e-12).all()
        assert (later <= gain + 1e-12).all()
        assert after[row] < 0.95 * before[row]
        before, gain = after, later


@pytest.mark.parametrize("ties", [False, True])
def test_determinant_of_tables_is_that_of_margins_when_little_is_unknown(ties):
    pairs, prob, utility = tables(scale=0.02, ties=ties)
    # all margins are near 0, where a judgement tells 1/4 of a margin, and with Davidson ties (nu = 1) 1/6
    information = 1 / 6 if ties else 1 / 4
    belief, covariance = OutcomeBelief(prob), np.cov(utility.T)
    x = np.eye(7)[pairs.a] - np.eye(7)[pairs.b]
    for row in (0, 5):
        variance = np.einsum("pi,ij,pj->p", x, covariance, x)
        np.testing.assert_allclose(belief.d_gain(np.arange(21)), d_gain(information, variance), rtol=2e-3)
        belief.learn(row)
        along = covariance @ x[row]
        covariance -= np.outer(along, along) * information / (1 + information * variance[row])


def test_joint_information_is_that_of_all_outcomes():
    _, prob, _ = tables(n_items=4, draws=40)
    joint = JointOutcomes(prob, np.random.default_rng(0))
    batch, total = [0, 3, 4], 0.0
    for row in batch:
        total += joint.information(np.array([row]))[0]
        joint.learn(row)
    marginal = kept = 0.0
    for outcomes in itertools.product(range(2), repeat=3):
        like = np.prod([prob[:, row, k] for row, k in zip(batch, outcomes, strict=True)], axis=0)
        marginal -= like.mean() * np.log(like.mean())
    kept = sum(entropy(prob[:, row]).mean() for row in batch)
    assert joint.total == pytest.approx(marginal - kept, rel=1e-10)
    assert total == pytest.approx(joint.total, rel=1e-12)


def test_joint_information_from_drawn_outcomes(monkeypatch):
    _, prob, _ = tables(n_items=6, draws=100)
    exact = JointOutcomes(prob, np.random.default_rng(0))
    for row in range(10):
        exact.learn(row)
    monkeypatch.setattr("prefdensity.selection.outcome_belief._CONFIGURATIONS", 64)
    drawn = []
    for seed in range(40):
        joint = JointOutcomes(prob, np.random.default_rng(seed))
        for row in range(10):
            joint.learn(row)
        drawn.append(joint.total)
    # 64 configurations of 2^10; mean of 40 within 4 standard errors
    assert abs(np.mean(drawn) - exact.total) < 4 * np.std(drawn, ddof=1) / 40**0.5


@pytest.mark.parametrize("rule", ["eig", "greedy_d_optimal"])
def test_a_shortlist_gives_the_batch_of_the_whole(rule, monkeypatch):
    pairs, prob, _ = tables(n_items=30, draws=64)

    def look(some):
        return prob[:, np.searchsorted(pair_keys(pairs.a, pairs.b, 30), pair_keys(some.a, some.b, 30))]

    seen = survey(pairs, look, 64)
    whole, exact = choose_from_tables(rule, pairs, seen, look, 12)
    assert exact
    monkeypatch.setattr("prefdensity.selection.pair_tables._SHORTLIST", 48)
    short, exact = choose_from_tables(rule, pairs, seen, look, 12)
    assert exact
    assert [(pick.a, pick.b, pick.row) for pick in short] == [(pick.a, pick.b, pick.row) for pick in whole]
    # sums over other blocks of pairs round otherwise
    np.testing.assert_allclose([pick.score for pick in short], [pick.score for pick in whole], rtol=1e-12)


def test_target_information_is_part_of_the_total():
    rng = np.random.default_rng(0)
    margin = rng.standard_normal((60, 1, 9))
    reliability = np.exp(rng.standard_normal((60, 40, 1)))
    p = expit(margin * reliability)
    prob = np.stack([p, 1 - p], -1)
    total, target = mutual_information(prob.reshape(-1, 9, 2)), target_information(prob)
    assert (target < total).all()
    known = np.repeat(prob[:, :1], 40, 1)
    np.testing.assert_allclose(target_information(known), mutual_information(known.reshape(-1, 9, 2)), rtol=1e-10)


def test_information_agrees_with_nested_monte_carlo_of_pyro():
    import pyro
    import pyro.distributions as dist
    from pyro.contrib.oed.eig import nmc_eig

    margin, sd = 0.8, 1.5

    def model(design):
        with pyro.plate_stack("plate", design.shape[:-1]):
            theta = pyro.sample("theta", dist.Normal(torch.full(design.shape[:-1], margin), sd))
            return pyro.sample("y", dist.Bernoulli(logits=design[..., 0] * theta))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        nested = nmc_eig(model, torch.ones(1, 1), "y", "theta", N=20_000, M=500)
    # standard error .003, upward bias below .001
    assert float(nested) == pytest.approx(float(expected_information(margin, sd**2)), abs=0.012)
