"""What a posterior says and how it is kept: tables, predictions, files."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import reference
from contract import layers_of, table

import prefdensity
from prefdensity.data.simulate import population
from prefdensity.errors import DataError

BASEBALL = prefdensity.read("example:baseball")
FULL = "davidson+position_bias+reliability"


@pytest.fixture(scope="module")
def simple():
    return prefdensity.fit("bradley_terry", BASEBALL, method="laplace")


@pytest.fixture(scope="module")
def rich():
    data = population(5, 4, 800, seed=2, tie_strength=0.6, position_bias=0.5, reliability_sd=0.4)[0]
    return prefdensity.fit(FULL, data, method="laplace", draws=400)


@pytest.fixture(scope="module")
def typed():
    data = population(5, 9, 1200, seed=3, n_types=2, type_weight=[0.3, 0.7])[0]
    return prefdensity.fit("annotator_types", data, method="laplace", draws=400)


def test_summary_is_the_ranking(simple):
    frame = simple.summary()
    assert list(frame) == ["item", "mean", "lower", "upper", "sd", "rank_lower", "rank_upper", "p_best",
                           "safe", "note"]  # fmt: skip
    assert set(frame["item"]) == set(BASEBALL.items)
    assert frame["mean"].is_monotonic_decreasing
    assert frame["mean"].sum() == pytest.approx(0, abs=1e-12)
    assert frame["p_best"].sum() == pytest.approx(1)
    assert ((frame["lower"] < frame["mean"]) & (frame["mean"] < frame["upper"])).all()
    assert frame["rank_lower"].min() == 1
    assert frame["rank_upper"].max() == 7
    u = simple.draws["utility"] - simple.draws["utility"].mean(1, keepdims=True)
    np.testing.assert_array_equal(simple.utilities(), u)
    k = simple.items.index(frame["item"][0])
    assert frame["sd"][0] == pytest.approx(u[:, k].std(ddof=1))
    ranks = 1 + (u > u[:, [k]]).sum(1)
    assert frame["p_best"][0] == (ranks == 1).mean()
    assert frame["rank_upper"][0] == np.sort(ranks)[int(np.ceil(0.95 * len(ranks))) - 1]


def test_intervals_nest_as_the_level_grows(simple):
    narrow, wide = (simple.summary(level).set_index("item") for level in (0.5, 0.99))
    assert (wide["lower"] < narrow["lower"]).all()
    assert (wide["upper"] > narrow["upper"]).all()
    assert (wide["rank_lower"] <= narrow["rank_lower"]).all()
    assert (wide["rank_upper"] >= narrow["rank_upper"]).all()
    u = simple.utilities()[:, simple.items.index("Boston")]
    inside = (u > narrow.loc["Boston", "lower"]) & (u < narrow.loc["Boston", "upper"])
    assert inside.mean() == pytest.approx(0.5, abs=0.01)
    for level in (0, 1, -0.5, 90):
        with pytest.raises(DataError, match="must lie between 0 and 1, like 0.9"):
            simple.summary(level)


def test_draws_of_another_shift_give_the_same_tables(simple):
    shift = np.random.default_rng(0).normal(size=(simple.n_draws, 1))
    moved = replace(simple, draws=simple.draws | {"utility": simple.draws["utility"] + shift})
    pd.testing.assert_frame_equal(moved.summary(), simple.summary())
    pd.testing.assert_frame_equal(moved.predict([("Boston", "Detroit")]), simple.predict([("Boston", "Detroit")]))


def test_parameters_are_all_that_is_not_an_items_utility(rich):
    frame = rich.parameters()
    assert list(frame) == ["parameter", "index", "mean", "lower", "upper", "sd", "safe", "note", "meaning"]
    own = {"tie_strength", "position_bias", "annotator_reliability_spread", "annotator_reliability"}
    assert set(frame["parameter"]) == own | {"utility_scale"}
    people = frame[frame["parameter"] == "annotator_reliability"]
    assert list(people["index"]) == list(rich.annotators)
    assert (frame["meaning"].str.len() > 10).all()
    row = frame.set_index("parameter").loc["position_bias"]
    assert row["index"] == ""
    assert row["mean"] == pytest.approx(rich.draws["position_bias"].mean())
    assert row["lower"] < row["mean"] < row["upper"]


PAIRS = [("item1", "item2"), ("item5", "item3")]


def draws_as_sites(post, k):
    return {name: values[k] for name, values in post.draws.items()}


@pytest.mark.parametrize("first", ["a", "b", "neither"])
def test_predictions_are_those_of_the_numpy_twin(rich, first):
    found = rich.predict(PAIRS, annotator="annotator2", first=first, level=0.8)
    data = replace(
        table(n_items=5, n_annotators=4, rows=4),
        item_a=np.array([0, 4]),
        item_b=np.array([1, 2]),
        annotator=np.array([1, 1]),
        first=np.full(2, {"a": 1, "b": -1, "neither": 0}[first], np.int8),
        count=np.ones(2),
        outcome=None,
    )
    layers = layers_of(prefdensity.load_program(FULL))
    share = np.array([reference.probabilities(layers, draws_as_sites(rich, k), data)[0] for k in range(rich.n_draws)])
    for k, outcome in enumerate(("a", "b", "tie")):
        np.testing.assert_allclose(found[f"p_{outcome}"], share[..., k].mean(0), rtol=1e-10)
        np.testing.assert_allclose(found[f"p_{outcome}_lower"], np.quantile(share[..., k], 0.1, axis=0), rtol=1e-10)
        np.testing.assert_allclose(found[f"p_{outcome}_upper"], np.quantile(share[..., k], 0.9, axis=0), rtol=1e-10)


def test_predictions_of_sides_mirror_each_other(rich):
    swapped = [(b, a) for a, b in PAIRS]
    for annotator in (None, "annotator3"):
        one = rich.predict(PAIRS, annotator=annotator, first="a")
        two = rich.predict(swapped, annotator=annotator, first="b")
        np.testing.assert_allclose(one["p_a"], two["p_b"], rtol=1e-12)
        np.testing.assert_allclose(one["p_tie"], two["p_tie"], rtol=1e-12)
        np.testing.assert_allclose(one[["p_a", "p_b", "p_tie"]].sum(axis=1), 1, rtol=1e-12)
    shown = rich.predict(PAIRS, first="a")["p_a"]
    assert (shown > rich.predict(PAIRS, first="neither")["p_a"]).all()
    assert (shown > rich.predict(PAIRS, first="b")["p_a"]).all()


def test_an_unknown_annotator_is_drawn_from_the_population(rich):
    # reliability 1 + spread e with a fresh e for each draw; five standard errors of 400 draws
    found = rich.predict(PAIRS)
    rng = np.random.default_rng(0)
    weight = 1 + rich.draws["annotator_reliability_spread"][:, None] * rng.normal(size=(rich.n_draws, 500))
    u = rich.draws["utility"]
    for row, (a, b) in enumerate(((0, 1), (4, 2))):
        margin = weight * (u[:, a] - u[:, b])[:, None]
        share = reference.davidson(margin, {"tie_strength": rich.draws["tie_strength"][:, None]})[0]
        assert found["p_a"][row] == pytest.approx(share.mean(), abs=5 * share.std() / np.sqrt(rich.n_draws))
    assert rich.predict(PAIRS, seed=1).equals(rich.predict(PAIRS, seed=1))
    assert not rich.predict(PAIRS, seed=1).equals(rich.predict(PAIRS, seed=2))


def test_types_are_listed_by_falling_weight(typed):
    frame = typed.summary()
    assert list(frame["type"]) == [1] * 5 + [2] * 5
    for _, part in frame.groupby("type"):
        assert part["mean"].is_monotonic_decreasing
        assert part["mean"].sum() == pytest.approx(0, abs=1e-12)
        assert part["p_best"].sum() == pytest.approx(1)
    weight = typed.parameters().set_index("parameter").loc["type_weight"]
    assert list(weight["index"]) == ["1", "2"]
    assert weight["mean"].is_monotonic_decreasing
    assert weight["mean"].sum() == pytest.approx(1)
    share = typed.draws["type_probability"]
    assert share.shape == (400, 9, 2)
    np.testing.assert_allclose(share.sum(-1), 1, rtol=1e-10)


def test_predictions_with_types_mix_over_them(typed):
    u, share = typed.draws["utility"], typed.draws["type_probability"]
    win = 1 / (1 + np.exp(u[:, :, 1] - u[:, :, 0]))  # [draw, type], item1 against item2
    known = typed.predict([("item1", "item2")], annotator="annotator4")["p_a"][0]
    assert known == pytest.approx((win * share[:, 3]).sum(1).mean(), rel=1e-10)
    unknown = typed.predict([("item1", "item2")])["p_a"][0]
    assert unknown == pytest.approx((win * typed.draws["type_weight"]).sum(1).mean(), rel=1e-10)


@pytest.mark.parametrize("which", ["simple", "rich", "typed"])
def test_win_probabilities_are_antisymmetric(which, request):
    post = request.getfixturevalue(which)
    table = post.win_probabilities()
    assert list(table.index) == list(table.columns) == list(post.items)
    np.testing.assert_allclose(table + table.T, 1, rtol=1e-12)
    np.testing.assert_array_equal(np.diag(table), 0.5)
    few = post.win_probabilities(post.items[2::-1])
    assert few.iloc[0, 1] == pytest.approx(table.loc[post.items[2], post.items[1]], abs=0.05)
    if which != "rich":  # no annotator to draw
        found = post.predict([(post.items[0], post.items[1])])["p_a"][0]
        assert table.iloc[0, 1] == pytest.approx(found, abs=0.05)


def test_a_mode_has_no_intervals():
    post = prefdensity.fit("davidson+lapse", table(("a", "b", "tie")), method="map")
    frame = post.summary()
    assert post.is_point
    assert frame["mean"].notna().all()
    assert frame[["sd", "lower", "upper", "p_best"]].isna().all(axis=None)
    assert list(frame["rank_lower"]) == list(frame["rank_upper"]) == [1, 2, 3, 4, 5]
    assert post.parameters()[["sd", "lower", "upper"]].isna().all(axis=None)
    assert any("no intervals" in line for line in post.quality())


def test_maximum_likelihood_reports_the_estimate():
    post = prefdensity.fit("bradley_terry", BASEBALL, method="mle")
    frame = post.summary().set_index("item")
    u = post.point["utility"]
    for item, value in zip(post.items, u - u.mean(), strict=True):
        assert frame.loc[item, "mean"] == value
    assert post.status.k_hat is None
    assert (frame["sd"] > 0).all()


def test_errors_name_the_culprit(simple, rich):
    for pairs in ([("Boston", "Chicago")], [("Chicago", "Boston")]):
        with pytest.raises(DataError, match="pairs: 'Chicago' is no item of the fit; there are Baltimore, Boston"):
            simple.predict(pairs)
    with pytest.raises(DataError, match="annotator: 'nobody' is no annotator of the fit; there are annotator1"):
        rich.predict(PAIRS, annotator="nobody")
    with pytest.raises(DataError, match="first='left' is unknown; use 'a', 'b' or 'neither'"):
        rich.predict(PAIRS, first="left")
    with pytest.raises(DataError, match="there are no pairs to predict"):
        simple.predict([])
    with pytest.raises(DataError, match="has no site 'utility'"):
        replace(simple, draws={"other": np.zeros((3, 2))}).utilities()


def same(one, two):
    for name in ("draws", "point"):
        mine, theirs = getattr(one, name), getattr(two, name)
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[k], theirs[k]) for k in mine)
    assert np.array_equal(one.log_p, two.log_p)
    assert np.array_equal(one.log_q, two.log_q)
    assert one.program.name == two.program.name
    assert one.program.layers == two.program.layers
    for name in ("program_name", "items", "annotators", "outcomes", "dims", "event_dims", "status", "meanings",
                 "feature_names", "n_comparisons", "data_source", "data_fingerprint"):  # fmt: skip
        assert getattr(one, name) == getattr(two, name), name
    assert one.features is two.features is None or np.array_equal(one.features, two.features)
    return True


@pytest.mark.parametrize("which", ["simple", "rich", "typed"])
def test_what_is_saved_is_what_is_loaded(which, request, tmp_path):
    post = request.getfixturevalue(which)
    path = post.save(tmp_path / "fit.nc")
    again = prefdensity.load_posterior(path)
    assert same(post, again)
    pd.testing.assert_frame_equal(again.summary(), post.summary())
    assert again.quality() == post.quality()
    assert [file.name for file in tmp_path.iterdir()] == ["fit.nc"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("method", ["map", "mle", "svi", "nuts"])
def test_fits_of_every_method_can_be_saved(method, tmp_path):
    settings = {"nuts": {"draws": 100, "warmup": 30, "chains": 2}, "svi": {"max_steps": 200}}.get(method, {})
    post = prefdensity.fit("bradley_terry", BASEBALL, method=method, **settings)
    assert same(post, prefdensity.load_posterior(post.save(tmp_path / "fit.nc")))


def test_features_travel_with_the_posterior(tmp_path):
    post = prefdensity.fit("linear", table(rows=60), method="laplace", draws=100)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    assert same(post, again)
    assert again.predict([("i0", "i1")]).equals(post.predict([("i0", "i1")]))
    assert set(post.parameters().query("parameter != 'utility_scale'")["index"]) == {"f", "g"}
