"""Policies on finite response sets: identities between one stage, two stages, regret and win rate."""

import numpy as np
import pandas as pd
import pytest

import prefdensity
from benchmarks import reward_worlds
from prefdensity.errors import DataError
from prefdensity.reward import Exact, policy_learning
from prefdensity.reward.convex import margins


def test_one_stage_is_two_stage_for_log_linear_policies():
    w = reward_worlds.world("cyclic", prompts=8, responses=4, p=3)
    sample = reward_worlds.draw(w, 200, 4)
    e = sample.equation("judge")
    beta = 0.3
    theta = e.solve(1.0).theta
    two = policy_learning.two_stage(np.einsum("xyp,rp->rxy", w.features, theta), w.reference, beta)
    one, exists = policy_learning.one_stage(w.features, w.reference, e.labelled, e.fresh, beta)
    assert exists.all()
    np.testing.assert_allclose(one, two, atol=1e-10)
    pairs = w.cells[:50]
    margin = policy_learning.dpo_margin(two, w.reference, pairs, beta)
    np.testing.assert_allclose(margin, margins(w.d[:50], theta), atol=1e-10)


def test_regret_is_lost_value_and_its_second_order_form():
    w = reward_worlds.world("bt", prompts=10, responses=4, p=3)
    reward_, beta = w.features @ w.target, 0.5
    best = policy_learning.two_stage(reward_, w.reference, beta)
    step = 1e-3 * np.random.default_rng(0).normal(size=3)
    near = policy_learning.two_stage(w.features @ (w.target + step), w.reference, beta)
    lost = policy_learning.regret(near, reward_, w.reference, beta)
    value = [policy_learning.value(each, reward_, w.reference, beta) for each in (best, near)]
    assert lost == pytest.approx(value[0] - value[1], abs=1e-12)
    centred = w.features - np.einsum("xy,xyp->xp", best, w.features)[:, None]
    spread = np.einsum("xy,xyp,xyq->pq", best, centred, centred) / len(best)
    assert lost == pytest.approx(step @ spread @ step / (2 * beta), rel=0.02)


def test_win_rates_and_policies_at_equal_distance():
    w = reward_worlds.world("cyclic", prompts=10, responses=4, p=3)
    ref = w.reference
    assert policy_learning.win_rate(ref, ref, w.preference) == pytest.approx(0.5)
    rewards = np.stack([w.features @ w.target, 4 * w.features @ w.target])
    at = policy_learning.at_kl(rewards, ref, 0.4)
    np.testing.assert_allclose(policy_learning.kl(at, ref), 0.4, atol=1e-6)
    np.testing.assert_allclose(at[0], at[1], atol=1e-5)  # the scale of a reward does not matter at equal KL
    with pytest.raises(DataError, match="no policy of this reward"):
        policy_learning.at_kl(rewards, ref, 50.0)
    with pytest.raises(DataError, match="reference probabilities"):
        policy_learning.two_stage(rewards, ref * 2, 1.0)


def test_responses_to_prompts_make_an_exact_design():
    frame = pd.DataFrame({
        "item_a": ["p1a", "p1a", "p2a"], "item_b": ["p1b", "p1c", "p2b"], "outcome": ["a", "b", "a"],
        "context": ["p1", "p1", "p2"],
    })  # fmt: skip
    data = prefdensity.Comparisons.from_frame(frame)
    reference = {"p1a": 0.5, "p1b": 0.3, "p1c": 0.2, "p2a": 0.6, "p2b": 0.4}
    pairs = Exact.of_reference(data, reference).pairs.set_index(["item_a", "item_b"])["weight"]
    assert pairs["p1a", "p1c"] == pytest.approx(2 / 3 * 0.5 * 0.2)
    assert pairs["p2b", "p2a"] == pytest.approx(1 / 3 * 0.6 * 0.4)
    assert pairs.sum() == pytest.approx(1)
    with pytest.raises(DataError, match="no probability of 'p1b'"):
        Exact.of_reference(data, {"p1a": 1.0})
