"""People who weigh features differently: as the formula has it, by curvature, recovered, and for answers never seen."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference.climber import Climber
from prefdensity.inference.curvature import LocalCurvature
from prefdensity.inference.fitting import viewed
from prefdensity.programs.loading import load_program


def heads(seed, people=30, each=40, features=5, own=1.0, answers=0):
    """Votes of people with weights [person, feature] of their own; of so many answers, or of each judged once."""
    rng = np.random.default_rng(seed)
    rows = people * each
    x = rng.standard_normal((answers or 2 * rows, features)) * rng.uniform(0.5, 3, features) + 1
    weight = (rng.standard_normal(features) + own * rng.standard_normal((people, features))) / features**0.5 / x.std(0)
    if answers:
        a = rng.integers(answers, size=rows)
        b = (a + rng.integers(1, answers, rows)) % answers
    else:
        a, b = 2 * np.arange(rows), 2 * np.arange(rows) + 1
    who = np.repeat(np.arange(people), each)
    margin = ((x[a] - x[b]) * weight[who]).sum(1)
    lost = rng.random(rows) >= 1 / (1 + np.exp(-margin))
    data = Comparisons(
        items=tuple(map(str, range(len(x)))), item_a=a, item_b=b, outcome=lost.astype(np.int8), count=np.ones(rows),
        annotators=tuple(f"w{k:02}" for k in range(people)), annotator=who, item_features=x,
        feature_names=tuple(f"f{k}" for k in range(features)),
    )  # fmt: skip
    return data, weight


@pytest.mark.parametrize("program", ["linear+feature_tastes+davidson", "bradley_terry+feature_tastes+reliability"])
def test_it_is_fitted_by_what_each_comparison_feels(program):
    data, _ = heads(0, people=8, each=20, answers=12)
    climber = Climber(viewed(load_program(program), data))
    assert isinstance(climber.local, LocalCurvature)  # which is checked against an automatic derivative


def test_people_who_are_alike_get_no_weights_of_their_own():
    data, _ = heads(1, people=10, own=0.0)
    post = prefdensity.fit("linear+feature_tastes", data, method="laplace", seed=0, progress=False)
    assert post.draws["annotator_weight_spread"].mean() < 0.35
    plain = prefdensity.fit("linear", data, seed=0, progress=False)
    assert np.corrcoef(plain.point["weight"], post.draws["weight"].mean(0))[0, 1] > 0.99


def test_what_is_learned_of_somebody_holds_for_other_answers():
    """Weights of people come out, and say of pairs nobody has judged who prefers which."""
    data, weight = heads(2, people=20, each=100)
    post = prefdensity.fit("linear+feature_tastes", data, seed=0, progress=False)
    x = data.item_features
    found = post.draws["annotator_weight"] + post.draws["weight"][:, None]
    assert np.corrcoef(found.mean(0).ravel(), (weight * x.std(0)).ravel())[0, 1] > 0.85
    rng = np.random.default_rng(5)
    fresh = pd.DataFrame(
        rng.standard_normal((40, 5)) * x.std(0) + x.mean(0), index=[f"n{k}" for k in range(40)],
        columns=list(data.feature_names),
    )  # fmt: skip
    known = prefdensity.described(post, data, fresh, progress=False)
    pairs = [(f"n{k}", f"n{k + 1}") for k in range(0, 40, 2)]
    right = []
    for k, name in enumerate(data.annotators):
        margin = (fresh.to_numpy()[::2] - fresh.to_numpy()[1::2]) @ weight[k]
        right += list((known.predict(pairs, annotator=name)["p_a"] > 0.5) == (margin > 0))
    alike = np.tile((known.predict(pairs)["p_a"] > 0.5).to_numpy(), 20) == np.concatenate([
        (fresh.to_numpy()[::2] - fresh.to_numpy()[1::2]) @ one > 0 for one in weight
    ])  # fmt: skip
    assert np.mean(right) > np.mean(alike) + 0.05
    assert np.mean(right) > 0.8


def test_answers_of_a_table_are_as_if_they_had_been_in_it():
    """The program of `described` reads the same features: of judged answers it says what the fit says."""
    data, _ = heads(3, people=6, each=30, answers=20)
    post = prefdensity.fit("linear+feature_tastes", data, draws=200, seed=0, progress=False)
    table = pd.DataFrame(data.item_features, index=list(data.items), columns=list(data.feature_names))
    known = prefdensity.described(post, data, table, draws=200, progress=False)
    pairs = [("0", "7"), ("3", "11")]
    pd.testing.assert_frame_equal(known.predict(pairs, annotator="w02"), post.predict(pairs, annotator="w02"))


def test_other_labels_weigh_features_too(tmp_path):
    data, _ = heads(4, people=6, each=40, answers=15)
    votes = pd.DataFrame({
        "item_a": np.array(data.items)[data.item_a], "item_b": np.array(data.items)[data.item_b],
        "outcome": np.where(data.outcome == 0, "a", "b"), "panel": np.array(["x", "y", "z"])[data.annotator % 3],
    })  # fmt: skip
    features = pd.DataFrame(data.item_features, index=list(data.items), columns=list(data.feature_names))
    read = prefdensity.read(votes, item_features=features, groups="panel")
    post = prefdensity.fit("linear+feature_tastes(by='panel')", read, seed=0, progress=False)
    assert post.draws["panel_weight"].shape[1:] == (3, 5)
    post.save(tmp_path / "fit.nc")
    back = prefdensity.load_posterior(tmp_path / "fit.nc")
    np.testing.assert_array_equal(back.draws["panel_weight"], post.draws["panel_weight"])
    assert post.by("panel").utilities.shape[1:] == (3, 15)


@pytest.mark.slow
def test_intervals_of_peoples_weights_cover():
    """Forty tables of twelve people: a false alarm in one of a thousand runs, tables being independent."""
    shares = []
    for seed in range(40):
        data, weight = heads(100 + seed, people=12, each=50, features=4, own=0.8)
        post = prefdensity.fit("linear+feature_tastes", data, seed=0, progress=False)
        found = post.draws["annotator_weight"] + post.draws["weight"][:, None]
        lower, upper = np.quantile(found, [0.05, 0.95], axis=0)
        truth = weight * data.item_features.std(0)
        shares.append(((lower < truth) & (truth < upper)).mean())
    shares = np.array(shares)
    error = shares.std(ddof=1) / len(shares) ** 0.5
    print(f"\ncoverage {shares.mean():.3f} +- {error:.3f}")
    assert abs(shares.mean() - 0.9) < stats.t(len(shares) - 1).isf(0.0005) * error
