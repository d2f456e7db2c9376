"""Answers known by their features alone, pairs within prompts, and beliefs that learn without moving the items."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.errors import DataError
from prefdensity.posterior.described import described
from prefdensity.reward import rewards
from prefdensity.selection.candidates import candidate_pairs, with_items
from prefdensity.selection.pair_metric import Metric, Strengths
from prefdensity.selection.pair_sets import AllPairs, Block

ITEMS, JUDGED, FEATURES = 40, 16, 3


def answers(seed=0):
    """Votes about sixteen answers to four prompts, and the features of forty answers to ten."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ITEMS, FEATURES)) * [1, 5, 0.2] + 3
    utility = x @ [0.8, -0.2, 3.0]
    one = rng.integers(JUDGED, size=300)
    two = 4 * (one // 4) + (one % 4 + rng.integers(1, 4, size=300)) % 4
    names = [f"a{k:02}" for k in range(ITEMS)]
    votes = pd.DataFrame({
        "item_a": [names[k] for k in one], "item_b": [names[k] for k in two],
        "outcome": np.where(rng.random(300) < expit(utility[one] - utility[two]), "a", "b"),
        "context": [f"p{k // 4}" for k in one], "annotator": [f"w{k}" for k in rng.integers(4, size=300)],
    })  # fmt: skip
    return votes, pd.DataFrame(x, index=names, columns=["long", "kind", "odd"])


def written(features, folder):
    """Files of the votes, of features of the answers that were judged, and of those of the others."""
    votes, judged, others = (folder / f"{name}.csv" for name in ("votes", "judged", "others"))
    answers()[0].to_csv(votes, index=False)
    features.iloc[:JUDGED].to_csv(judged, index_label="item")
    features.iloc[JUDGED:].to_csv(others, index_label="item")
    return votes, judged, others


@pytest.fixture(scope="module")
def fitted():
    votes, features = answers()
    data = prefdensity.read(votes, item_features=features)
    return prefdensity.fit("linear", data, seed=0, progress=False), data, features


def test_utilities_are_those_of_the_weights(fitted):
    post, data, features = fitted
    found = described(post, data, features, draws=1000, progress=False)
    assert found.items == tuple(features.index)
    exact = post.draws["weight_per_unit"] @ features[list(data.feature_names)].to_numpy().T
    np.testing.assert_allclose(found.utilities(), exact - exact.mean(1, keepdims=True), atol=1e-8)
    judged = [found.items.index(item) for item in post.items]
    own = found.utilities()[:, judged]
    np.testing.assert_allclose(own - own.mean(1, keepdims=True), post.utilities(), atol=1e-8)
    pairs = [("a00", "a02"), ("a01", "a03")]
    pd.testing.assert_frame_equal(found.predict(pairs), post.predict(pairs))
    some = described(post, data, features, draws=100, progress=False)
    np.testing.assert_array_equal(some.draws["utility"], found.draws["utility"][::10])


def test_selection_takes_them_as_it_takes_items_of_a_fit(fitted):
    post, data, features = fitted
    prompt = {item: f"p{k // 4}" for k, item in enumerate(features.index)}
    whole = prefdensity.fit("linear", with_items(data, features.index, features), seed=0, progress=False)
    known = described(post, data, features, draws=1000, progress=False)
    for rule in ("eig", "greedy_d_optimal", "entropy"):
        batch = prefdensity.select(known, None, 12, rule, data=data, group=prompt, progress=False)
        assert [prompt[a] == prompt[b] for a, b in zip(batch["item_a"], batch["item_b"], strict=True)] == [True] * 12
        assert batch["item_a"].isin(features.index[JUDGED:]).any()
        other = prefdensity.select(whole, None, 12, rule, data=data, group=prompt, draws=1000, progress=False)
        gain = [each.attrs["gain"] for each in (batch, other)]
        assert gain[0] == pytest.approx(gain[1], rel=0.15)  # another standardisation of features, hence another prior
    bits = prefdensity.select(known, n=5, rule="random", group=prompt, progress=False)
    assert bits.attrs["candidates"] == 10 * 6


def test_noise_and_people_of_the_program_stay(fitted):
    votes, features = answers()
    data = prefdensity.read(votes, item_features=features)
    post = prefdensity.fit("linear+reliability+flips", data, method="laplace", draws=200, seed=0, progress=False)
    known = described(post, data, features, draws=200, progress=False)
    pairs = [("a00", "a02"), ("a05", "a07")]
    for who in ("w0", "w3"):
        pd.testing.assert_frame_equal(known.predict(pairs, annotator=who), post.predict(pairs, annotator=who))


@pytest.fixture(scope="module")
def typed(fitted):
    _, data, _ = fitted
    return prefdensity.fit("linear+annotator_types(k=2)", data, method="laplace", draws=300, seed=0, progress=False)


def test_types_have_utilities_of_their_own(fitted, typed):
    _, data, features = fitted
    known = described(typed, data, features, draws=300, progress=False)
    assert known.utilities().shape == (300, 2, ITEMS)
    pairs = [("a00", "a02"), ("a05", "a07")]
    pd.testing.assert_frame_equal(known.predict(pairs), typed.predict(pairs))
    pd.testing.assert_frame_equal(known.predict(pairs, annotator="w1"), typed.predict(pairs, annotator="w1"))
    batch = prefdensity.select(known, "all", 5, "eig", data=data, progress=False)
    assert batch["item_b"].isin(features.index[JUDGED:]).any()


def test_rewards_of_judged_answers_are_those_of_the_fit(fitted, typed):
    post, data, features = fitted
    found = rewards(post, data, features, level=0.8, progress=False)
    assert list(found["item"]) == list(features.index)
    own = post.summary(level=0.8).set_index("item")
    both = found.set_index("item").loc[own.index]
    np.testing.assert_allclose(
        both[["reward", "sd", "lower", "upper"]], own[["mean", "sd", "lower", "upper"]], atol=1e-8
    )
    parts = [rewards(post, data, part, level=0.8, progress=False) for part in (features[:5], features[5:])]
    pd.testing.assert_frame_equal(
        pd.concat(parts, ignore_index=True), found
    )  # 0 does not hang on who else is asked about
    kinds = rewards(typed, data, features, progress=False).set_index(["item", "type"])
    told = typed.summary().set_index(["item", "type"])
    np.testing.assert_allclose(kinds.loc[told.index, "reward"], told["mean"], atol=1e-8)
    mode = prefdensity.fit("linear", data, method="map", progress=False)
    assert rewards(mode, data, features)[["sd", "lower", "upper"]].isna().all(axis=None)


@pytest.mark.parametrize("program", ["neural(width=2)", "utility_scale(fixed=1.5)+linear"])
def test_programs_with_no_scale_or_another_are_asked_about_answers(program, fitted):
    """What is known of utilities, draw by draw, needs no spread of them."""
    data = fitted[1]
    post = prefdensity.fit(program, data, method="laplace", seed=0, progress=False)
    known = pd.DataFrame(data.item_features, index=list(data.items), columns=list(data.feature_names))
    found = prefdensity.described(post, data, known, draws=post.n_draws)
    pairs = [(data.items[0], data.items[1]), (data.items[2], data.items[5])]
    np.testing.assert_allclose(found.predict(pairs)["p_a"], post.predict(pairs)["p_a"], rtol=1e-6)


def test_rewards_say_what_is_wrong(fitted):
    post, data, features = fitted
    with pytest.raises(DataError, match="level=2 must lie between 0 and 1"):
        rewards(post, data, features, level=2)
    with pytest.raises(DataError, match="have no rows"):
        rewards(post, data, features[:0])
    with pytest.raises(DataError, match="no column 'odd'"):
        rewards(post, data, features.drop(columns="odd"))
    with pytest.raises(DataError, match="must be a data frame indexed by answer, not a ndarray"):
        rewards(post, data, features.to_numpy())


@pytest.mark.parametrize(
    "column", [1j, pd.Timestamp("2024-01-01"), "red", np.nan, np.inf], ids=["complex", "date", "word", "nan", "inf"]
)
def test_features_of_answers_are_read_as_strictly_as_those_of_items(fitted, column):
    post, data, features = fitted
    wrong = features.assign(odd=features["odd"].astype(object).where(features.index != "a30", column))
    said = "column 'odd' must hold finite numbers, and holds .* for answer 'a30'"
    with pytest.raises(DataError, match=said):
        rewards(post, data, wrong)
    with pytest.raises(DataError, match=said):
        described(post, data, wrong)
    with pytest.raises(DataError, match="column 'odd' must hold finite numbers, and holds"):
        with_items(data, features.index, wrong)
    every = features.assign(odd=column)
    with pytest.raises(DataError, match="must hold finite numbers"):
        rewards(post, data, every)
    with pytest.raises(DataError, match="the label of row 1"):
        rewards(post, data, features.set_axis([None, *features.index[1:]]))


def test_command_writes_rewards_of_answers_that_nobody_judged(fitted, tmp_path):
    post, data, features = fitted
    votes, judged, others = written(features, tmp_path)

    def run(*more):
        asked = ("reward", post.save(tmp_path / "fit.nc"), votes, "--item-features", judged, "--answers", others)
        asked = (*asked, "--out", tmp_path / "rewards.csv", "-q", *more)
        return CliRunner().invoke(main.app, [str(each) for each in asked])

    said = run()
    assert said.exit_code == 0, said.output
    assert "rewards of 24 responses" in said.output
    expected = rewards(post, data, features.iloc[JUDGED:])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rewards.csv"), expected, check_exact=False)
    wrong = run("--estimand", "bradley-terry")
    assert wrong.exit_code == 2
    assert "leave it out beside --answers" in wrong.stderr


def test_what_features_do_not_say_is_refused(fitted):
    post, data, features = fitted
    votes, _ = answers()
    plain = prefdensity.read(votes)
    items = prefdensity.fit("bradley_terry", plain, progress=False)
    with pytest.raises(DataError, match="'utility' is each item's own"):
        described(items, plain, features)
    with pytest.raises(DataError, match="no column 'odd'"):
        described(post, data, features.drop(columns="odd"))
    with pytest.raises(DataError, match="holds nan for answer 'a03'"):
        described(post, data, features.drop(index="a03").reindex(features.index))
    with pytest.raises(DataError, match="one label twice"):
        described(post, data, pd.concat([features, features]))
    with pytest.raises(DataError, match="not"):
        described(post, plain, features)


def test_pairs_within_groups_are_listed_one_by_one():
    rng = np.random.default_rng(3)
    items = tuple(f"i{k}" for k in range(30))
    group = {item: f"g{rng.integers(6)}" for item in items}
    cost = {item: 1.0 + k for k, item in enumerate(items)}
    gone = [(items[k], items[k + 1]) for k in range(29)]
    found = candidate_pairs(items, None, group=group, exclude=gone, cost=cost).listed()
    code = np.array([int(group[item][1:]) for item in items])
    every = AllPairs(30, code, "within", np.array([k * 30 + k + 1 for k in range(29)]), np.arange(1.0, 31)).listed()
    assert {*zip(found.a, found.b, strict=True)} == {*zip(every.a, every.b, strict=True)}
    np.testing.assert_array_equal(found.cost, 2.0 + found.a + found.b)
    assert (found.a < found.b).all()
    assert candidate_pairs(items).n_rows == 29  # without groups all pairs, never listed


def test_prompts_of_the_votes_are_groups_by_default(fitted):
    post, data, _ = fitted
    assert prefdensity.select(post, n=4, data=data, again=True, progress=False).attrs["candidates"] == 4 * 6
    assert prefdensity.select(post, "all", 4, data=data, again=True, progress=False).attrs["candidates"] == 120
    assert prefdensity.select(post, n=4, progress=False).attrs["candidates"] == 120


@pytest.mark.parametrize("rows", [np.arange(5, 25), np.arange(29)])
def test_learning_is_conditioning_a_gaussian(rows):
    rng = np.random.default_rng(1)
    z, score = rng.normal(size=(30, 6)), rng.normal(size=30)
    metric, precision = Metric(Strengths(score), z), np.eye(6)
    pairs = AllPairs(30)
    for _ in range(20):  # more directions than there are dimensions
        a, b = rng.choice(30, 2, replace=False)
        metric.learn(a, b)
        x, p = z[a] - z[b], expit(score[a] - score[b])
        precision = precision + p * (1 - p) * np.outer(x, x)
    block = pairs.block(rows)
    covariance = z @ np.linalg.inv(precision) @ z.T
    own = np.diag(covariance)
    exact = own[block.a] + own[block.b] - 2 * covariance[block.a, block.b]
    np.testing.assert_allclose(np.where(block.allowed, metric.variance(block), 0), np.where(block.allowed, exact, 0),
                               atol=1e-10)  # fmt: skip
    a, b = np.array([[3], [8]]), np.array([[9], [20]])
    listed = Block(np.arange(2), a, b, np.ones((2, 1), bool))
    np.testing.assert_allclose(metric.variance(listed), own[a] + own[b] - 2 * covariance[a, b], atol=1e-10)
    prior = ((z[a] - z[b]) ** 2).sum(-1)
    np.testing.assert_allclose(metric.afresh().variance(listed), prior, atol=1e-10)


def test_command_asks_a_fit_to_the_votes_about_the_answers_of_a_table(fitted, tmp_path):
    """Features of unjudged answers alone are in the table; the fit is that of the votes, saved or new."""
    post, data, features = fitted
    votes, judged, others = written(features, tmp_path)
    features.iloc[JUDGED:].assign(odd="much").to_csv(tmp_path / "words.csv", index_label="item")

    def run(*more):
        asked = ("select", votes, "--item-features", judged, "--candidates", "all", *more)
        return CliRunner().invoke(main.app, [str(each) for each in (*asked, "--n", 6, "-q")])

    said = run("--model", "linear", "--items", others)
    assert said.exit_code == 0, said.output
    expected = prefdensity.select(described(post, data, features, progress=False), "all", 6, data=data, progress=False)
    found = pd.read_csv(io.StringIO(said.stdout))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=False)
    assert expected["item_b"].isin(features.index[JUDGED:]).any()
    saved = run("--fit", post.save(tmp_path / "fit.nc"), "--items", others)
    assert saved.stdout == said.stdout
    wrong = run("--model", "linear", "--items", tmp_path / "words.csv")
    assert wrong.exit_code == 2
    assert re.search("holds 'much' for answer 'a16'", wrong.stderr)
    assert len(wrong.stderr.strip().splitlines()) == 1
