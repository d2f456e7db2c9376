"""Rewards of responses as a table: the utilities of a fit, or a Bradley-Terry reward with robust errors."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.errors import DataError
from prefdensity.reward import Exact, reward, reward_of_table, reward_table

PROMPTS, RESPONSES = 12, 3


@pytest.fixture(scope="module")
def table():
    """Votes about three responses to each of twelve prompts, whose rewards are linear in two features."""
    rng = np.random.default_rng(8)
    features = rng.normal(size=(PROMPTS * RESPONSES, 2))
    truth = features @ [1.5, -1.0]
    rows = []
    for prompt in range(PROMPTS):
        for _ in range(40):
            a, b = prompt * RESPONSES + rng.choice(RESPONSES, 2, replace=False)
            won = rng.random() < 1 / (1 + np.exp(truth[b] - truth[a]))
            rows.append((f"r{a:02}", f"r{b:02}", "a" if won else "b", f"q{prompt:02}", f"w{rng.integers(3)}"))
    frame = pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "context", "annotator"])
    known = pd.DataFrame(features, index=[f"r{k:02}" for k in range(len(features))], columns=["length", "tone"])
    return frame, known, pd.Series(truth - truth.mean(), index=known.index)


@pytest.fixture(scope="module")
def linear(table):
    frame, known, _ = table
    data = prefdensity.read(frame, item_features=known)
    return prefdensity.fit("linear", data, seed=0), data


def test_rewards_are_the_utilities_and_advantages_those_within_a_prompt(table, linear):
    post, data = linear
    found = reward_table(post, data)
    draws = post.utilities()
    place = [post.items.index(item) for item in found["item"]]
    np.testing.assert_allclose(found["reward"], draws.mean(0)[place])
    np.testing.assert_allclose(found["sd"], draws.std(0, ddof=1)[place])
    assert found["reward"].is_monotonic_decreasing
    by_prompt = found.groupby("prompt")
    np.testing.assert_allclose(by_prompt["advantage"].sum(), 0, atol=1e-9)
    np.testing.assert_allclose(by_prompt["p_best"].sum(), 1)
    own = [k for k, item in enumerate(post.items) if item in ("r00", "r01", "r02")]
    within = draws[:, own] - draws[:, own].mean(1, keepdims=True)
    row = found.set_index("item").loc["r01"]
    assert row["prompt"] == "q00"
    assert row["advantage"] == pytest.approx(within[:, 1].mean())
    assert row["advantage_sd"] == pytest.approx(within[:, 1].std(ddof=1))
    assert row["p_best"] == pytest.approx((draws[:, own].argmax(1) == 1).mean())
    assert found["judgements"].sum() == 2 * len(data)
    # 36 rewards that rest on two weights: their errors go together, so the bound is on the worst of two directions
    error = (found.set_index("item")["reward"] - table[2]) / found.set_index("item")["sd"]
    assert error.abs().max() < 4


def test_a_bradley_terry_reward_is_that_of_the_estimating_equation(linear):
    post, data = linear
    known = pd.DataFrame(data.item_features, index=list(data.items), columns=list(data.feature_names))
    again = reward(data, post, Exact.of_reference(data), features=known, seed=0)
    np.testing.assert_array_equal(reward_of_table(post, data, seed=0).theta, again.theta)
    found = again.of_items(data, level=0.95)
    design = (known - known.mean()).loc[found["item"]].to_numpy()
    np.testing.assert_allclose(found["reward"], design @ again.theta)
    middle, low, high = again.contrast(design[0])
    assert found.loc[0, ["reward", "lower", "upper"]].tolist() == pytest.approx([middle, low, high])
    same = known.loc[["r00", "r01", "r02"]]
    middle, low, high = again.contrast((same.loc["r01"] - same.mean()).to_numpy(), level=0.95)
    row = found.set_index("item").loc["r01"]
    assert row["advantage"] == pytest.approx(middle)
    assert row["advantage_sd"] * 1.959964 == pytest.approx((high - low) / 2, rel=1e-6)
    assert "p_best" not in found


def test_responses_that_only_their_prompt_connects_have_rewards_within_it():
    rng = np.random.default_rng(2)
    rows = []
    for k in range(360):
        a, b = rng.choice(RESPONSES, 2, replace=False)
        won = rng.random() < 1 / (1 + np.exp(0.7 * (b - a)))
        rows.append((f"r{k % 6}.{a}", f"r{k % 6}.{b}", "a" if won else "b", f"q{k % 6}"))
    frame = pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "context"])
    data = prefdensity.read(frame)
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    found = reward_of_table(post, data, lambda_=0, stack=False).of_items(data).set_index("item")
    for _, own in frame.groupby("context"):
        part = prefdensity.read(own)
        alone = prefdensity.fit("bradley_terry", part, method="mle", progress=False)
        utility = pd.Series(alone.utilities().mean(0), alone.items)
        pd.testing.assert_series_equal(
            found.loc[utility.index, "advantage"], utility - utility.mean(), atol=1e-5, check_names=False
        )
    np.testing.assert_allclose(found["reward"], found["advantage"], atol=1e-9)
    np.testing.assert_allclose(found["sd"], found["advantage_sd"], atol=1e-9)


def test_items_of_many_prompts_have_no_prompt_of_their_own(table):
    frame, _, _ = table
    data = prefdensity.read(frame.assign(context=np.arange(len(frame)) % 7), context="context")
    assert data.context_of_items() is None
    few = prefdensity.read("example:citations")
    post = prefdensity.fit("bradley_terry", few, seed=0)
    estimate = reward_of_table(post, few)
    found = estimate.of_items(few)
    assert "prompt" not in found
    np.testing.assert_allclose(found.set_index("item")["reward"].loc[list(few.items)], estimate.theta)
    np.testing.assert_allclose(found.set_index("item")["sd"].loc[list(few.items)], estimate.se)
    with pytest.raises(DataError, match="neither of the items of the table nor of its features"):
        estimate.of_items(prefdensity.read("example:baseball"))
    with pytest.raises(DataError, match="not the table"):
        reward_table(post, prefdensity.read("example:baseball"))


def test_each_type_has_rewards_of_its_own():
    data, _ = prefdensity.simulate.population(5, 10, 400, seed=1, n_types=2, type_weight=[0.6, 0.4])
    post = prefdensity.fit("annotator_types(k=2)", data, seed=0)
    found = reward_table(post, data)
    assert found.groupby("type")["item"].nunique().tolist() == [5, 5]


def test_the_command_writes_rewards_a_page_and_the_next_batch_within_prompts(table, linear, tmp_path, monkeypatch):
    frame, known, _ = table
    post, _ = linear
    monkeypatch.chdir(tmp_path)
    post.save("fit.nc")
    frame.to_csv("votes.csv", index=False)
    known.to_csv("features.csv", index_label="item")
    how = ["votes.csv", "--item-features", "features.csv"]
    run = CliRunner().invoke
    said = run(main.app, ["reward", "fit.nc", *how, "--report", "rewards.html"])
    assert said.exit_code == 0, said.output
    assert said.stdout.startswith("rewards of 36 responses to 12 prompts: utilities of linear; sd ")
    written = pd.read_csv("rewards.csv")
    assert written.columns.tolist() == ["item", "prompt", "reward", "sd", "lower", "upper", "advantage", "advantage_sd",
                                        "p_best", "judgements", "win_rate"]  # fmt: skip
    page = (tmp_path / "rewards.html").read_text()
    assert "The rewards of 36 responses to 12 prompts spread" in page
    assert all(item in page for item in known.index)
    robust = run(main.app, ["reward", "fit.nc", *how, "--estimand", "bradley-terry", "--out", "bt.parquet", "--quiet"])
    assert robust.exit_code == 0, robust.output
    assert "judgements worth" in robust.stdout
    assert len(pd.read_parquet("bt.parquet")) == 36
    assert run(main.app, ["reward", "fit.nc", *how, "--out", "rewards.txt"]).exit_code == 2
    batch = ["select", *how, "--fit", "fit.nc", "--candidates", "within", "--again", "--n", "4", "--out", "next.csv"]
    assert run(main.app, batch).exit_code == 0
    chosen, of = pd.read_csv("next.csv"), written.set_index("item")["prompt"]
    assert (of[chosen["item_a"]].to_numpy() == of[chosen["item_b"]].to_numpy()).all()
