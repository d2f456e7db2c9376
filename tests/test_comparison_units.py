"""Comparison of programs: other units than comparisons, WAIC, refits in one batch, and what ArviZ is given."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_recovery import TRUTH, design, judged

import prefdensity
from prefdensity.comparison.compare import kfold
from prefdensity.comparison.elpd import loo, unit_log_lik
from prefdensity.data import simulate
from prefdensity.data.rating_table import Ratings
from prefdensity.errors import DataError
from prefdensity.inference import posteriors


@pytest.fixture(scope="module")
def az():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces 1.x on import
        arviz = pytest.importorskip("arviz")
    if not hasattr(arviz, "waic"):
        pytest.skip("written against ArviZ 0.x, which has waic; the exported groups are tested without it")
    return arviz


@pytest.fixture(scope="module")
def table():
    """400 judgements of 12 items with two features, in ten contexts."""
    linear = {name: value for name, value in TRUTH.items() if name != "utility"}
    data = judged("linear+position_bias+reliability", design(400, items=12, seed=3), linear, seed=4)
    return replace(data, contexts=tuple("abcdefghij"), context=np.arange(len(data)) % 10)


@pytest.fixture(scope="module")
def posts(table):
    return {name: prefdensity.fit(name, table, method="laplace") for name in ("linear", "linear+position_bias")}


@pytest.mark.parametrize(("unit", "times"), [("pair", 1), ("item", 2), ("context", 1)])
def test_units_share_out_the_whole_likelihood(posts, table, unit, times):
    """Every judgement belongs to one pair, one context and two items."""
    post = posts["linear"]
    one, _, count, index = unit_log_lik(post, table, "comparison")
    whole = (one[:, torch.as_tensor(index)] * torch.tensor(count)).sum(1)
    torch.testing.assert_close(unit_log_lik(post, table, unit)[0].sum(1), times * whole)


def test_of_types_of_judgements_each_is_left_out_by_the_mixture(table):
    """Nobody has a type there, so that what an annotator said elsewhere tells nothing of the next judgement's."""
    post = prefdensity.fit("comparison_types(k=2)", table.without_ties(), method="laplace", restarts=1, draws=300)
    u, weight, lost = post.draws["utility"], post.draws["type_weight"], table.outcome == 1
    margin = (u[..., table.item_a] - u[..., table.item_b]) * np.where(lost, -1, 1)
    exact = np.log((weight[..., None] / (1 + np.exp(-margin))).sum(1))
    found, _, _, index = unit_log_lik(post, table, "comparison")
    np.testing.assert_allclose(found.numpy()[:, index], exact, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("unit", ["item", "context"])
def test_left_out_units_are_the_ones_asked_for(posts, table, unit):
    """The definition, for the unit at place 3: the likelihood of its rows, averaged over the draws of a refit."""
    rows = (table.item_a == 3) | (table.item_b == 3) if unit == "item" else table.context == 3
    refit = prefdensity.fit("linear", table.take(~rows), method="laplace", draws=4000)
    u = refit.draws["utility"]
    margin = u[:, table.item_a[rows]] - u[:, table.item_b[rows]]
    each = -np.logaddexp(0, np.where(table.outcome[rows] == 0, -1, 1) * margin) * table.count[rows]
    exact = np.logaddexp.reduce(each.sum(1)) - np.log(len(u))
    found = loo(posts["linear"], table, unit=unit)
    assert found.labels[3] == (table.items if unit == "item" else table.contexts)[3]
    assert found.k_hat[3] < 0.7
    assert found.elpd_i[3] == pytest.approx(exact, abs=0.1)  # about 50 judgements; two Monte-Carlo averages


def test_contexts_of_one_comparison_are_comparisons(posts, table):
    alone = replace(table, contexts=tuple(map(str, range(len(table)))), context=np.arange(len(table)))
    by_context = unit_log_lik(posts["linear"], alone, "context")[0]
    one, _, count, index = unit_log_lik(posts["linear"], table, "comparison")
    torch.testing.assert_close(by_context, one[:, torch.as_tensor(index)] * torch.tensor(count))


def test_types_are_summed_out_of_a_contexts_density(table):
    post = prefdensity.fit("annotator_types+linear", table, method="laplace", draws=200)
    whole = unit_log_lik(post, table, "annotator")[0].sum(1)
    one = replace(table, contexts=("first", "rest"), context=(np.arange(len(table)) > 0).astype(int))
    without = unit_log_lik(post, table.take(np.arange(len(table)) > 0), "annotator")[0].sum(1)
    torch.testing.assert_close(unit_log_lik(post, one, "context")[0][:, 0], whole - without, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", ["context", "annotator", "item", "comparison"])
def test_kfold_agrees_with_loo(posts, table, unit):
    found = loo(posts["linear"], table, unit=unit)
    folds = 20 if unit == "comparison" else len(found.labels)
    folded = kfold("linear", table, unit=unit, folds=folds)
    assert folded.labels == found.labels
    assert (found.k_hat < 0.7).mean() > 0.8
    good = found.k_hat < 0.7
    assert abs((found.elpd_i - folded.elpd_i)[good] @ found.weight[good]) < 1.5


def test_refits_in_one_batch_are_those_of_fit(table):
    counts = np.stack([table.count * (table.context != k) for k in range(3)])
    program = prefdensity.load_program("linear+position_bias")
    for k, post in enumerate(posteriors(program, table, counts, draws=4000)):
        alone = prefdensity.fit(program, table.take(table.context != k), method="laplace", draws=4000)
        np.testing.assert_allclose(post.point["position_bias"], alone.point["position_bias"], atol=1e-7)
        np.testing.assert_allclose(post.point["weight"], alone.point["weight"], atol=1e-7)
        # 5 standard errors of the difference of two means of 4000 draws
        error = 5 * alone.draws["weight"].std(0) * np.sqrt(2 / 4000)
        assert (np.abs(post.draws["weight"].mean(0) - alone.draws["weight"].mean(0)) < error).all()
        np.testing.assert_allclose(post.draws["weight"].std(0), alone.draws["weight"].std(0), rtol=0.1)
        assert post.status.k_hat < 0.5


def test_units_that_fail_are_refitted(table):
    """A Gaussian process knows an item mostly by its own judgements, so importance sampling of items fails."""
    posts = {"gp": prefdensity.fit("gp", table)}
    rough, found = (
        prefdensity.compare(posts, table, unit="item", refit=refit, progress=False) for refit in (False, True)
    )
    bad = rough.elpds["gp"].k_hat > 0.7
    assert bad.sum() >= 3
    assert any(f"{bad.sum()} units of gp have k-hat above 0.7" in warning for warning in rough.warnings)
    assert found.table["bad_k"].item() == 0
    assert found.table["refitted"].item() == bad.sum()
    exact = kfold("gp", table, unit="item", folds=len(table.items)).elpd_i
    off = {name: np.abs(each.elpds["gp"].elpd_i - exact)[bad] for name, each in (("psis", rough), ("refit", found))}
    assert off["refit"].max() < 0.5 < off["psis"].max()
    np.testing.assert_array_equal(found.elpds["gp"].elpd_i[~bad], rough.elpds["gp"].elpd_i[~bad])


def test_waic_is_arvizs(posts, table, az):
    found = prefdensity.compare(posts, table, progress=False)
    for name, post in posts.items():
        theirs, ours = az.waic(found.to_arviz(name), pointwise=True), found.elpds[name]
        variance = ours.p_waic_i * (post.n_draws - 1) / post.n_draws  # theirs divides by the number of draws
        each = np.repeat(ours.lpd_i - variance, table.count.astype(int))
        np.testing.assert_allclose(np.ravel(theirs.waic_i), each, atol=1e-10)
        assert found.table.set_index("program").loc[name, "waic"] == pytest.approx(float(theirs.elpd_waic), abs=0.02)


def test_waic_says_when_it_is_rough(posts, table):
    by_context = prefdensity.compare(posts, table, unit="context", progress=False)
    assert (by_context.table["bad_waic"] > 0).all()
    assert any("WAIC of linear, linear+position_bias is rough" in warning for warning in by_context.warnings)
    by_one = prefdensity.compare(posts, table, progress=False)
    assert (by_one.table["bad_waic"] == 0).all()
    assert not any("WAIC" in warning for warning in by_one.warnings)
    assert by_one.table["waic"].to_numpy() == pytest.approx(by_one.table["elpd"].to_numpy(), abs=0.2)


@pytest.mark.parametrize("unit", ["comparison", "pair", "annotator", "context", "item"])
def test_arviz_computes_our_elpd_from_what_it_is_given(posts, table, az, unit):
    found = prefdensity.compare(posts, table, unit=unit, refit=False, progress=False)
    given = found.to_arviz("linear")
    ours = found.elpds["linear"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns of large k-hat
        theirs = az.loo(given, pointwise=True)
    times = ours.weight.astype(int)
    np.testing.assert_allclose(theirs.loo_i.values, np.repeat(ours.elpd_i, times), atol=1e-8)
    np.testing.assert_allclose(theirs.pareto_k.values, np.repeat(ours.k_hat, times), atol=1e-8)
    assert list(given.log_likelihood[unit].values) == list(np.repeat(ours.labels, times))


def distinct(post):
    """A posterior without repeated draws: where a tail begins at a tie, ArviZ leaves all of it out, we some of it."""
    keep = np.sort(np.unique(post.log_p, return_index=True)[1])
    draws = {name: values[keep] for name, values in post.draws.items()}
    return replace(post, draws=draws, log_p=post.log_p[keep], log_q=post.log_q[keep])


def test_arviz_ranks_programs_as_we_do(table, az):
    names = ("linear+position_bias", "linear", "linear+reliability", "bradley_terry")
    posts = {name: distinct(prefdensity.fit(name, table, method="laplace")) for name in names}
    found = prefdensity.compare(posts, table, refit=False, progress=False)
    assert found.table["bad_k"].sum() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its calls of pandas
        theirs = az.compare({name: found.to_arviz(name) for name in names}, ic="loo", method="stacking")
    ours = found.table.set_index("program")
    assert list(theirs.index) == list(ours.index)
    np.testing.assert_allclose(theirs["elpd_loo"], ours["elpd"], atol=1e-8)
    np.testing.assert_allclose(theirs["p_loo"], ours["p_loo"], atol=1e-8)
    np.testing.assert_allclose(theirs["elpd_diff"], -ours["elpd_diff"], atol=1e-8)
    # theirs divides variances by the number of comparisons, ours by one less
    np.testing.assert_allclose(theirs["dse"], ours["se_diff"], rtol=2e-3)
    np.testing.assert_allclose(theirs["weight"], ours["stacking"], atol=0.01)


def test_arviz_reads_the_saved_groups(posts, table, az, tmp_path):
    found = prefdensity.compare(posts, table, unit="context", progress=False)
    back = az.from_netcdf(found.save_arviz("linear", tmp_path / "linear.nc"))
    values = back.log_likelihood["judgements"]
    assert values.dims == ("chain", "draw", "context")
    np.testing.assert_array_equal(values.values[0], unit_log_lik(posts["linear"], table, "context")[0].numpy())
    np.testing.assert_array_equal(back.posterior["weight"].values[0], posts["linear"].draws["weight"])
    assert [path.name for path in tmp_path.iterdir()] == ["linear.nc"]


def test_evidence_of_ratings_and_of_comparisons_is_kept_apart(table):
    rng = np.random.default_rng(5)
    ratings = Ratings((1, 2, 3), rng.integers(12, size=30), rng.integers(3, size=30), rng.integers(8, size=30))
    rated = replace(table, ratings=ratings)
    posts = {name: prefdensity.fit(name, rated, method="laplace") for name in ("linear", "ratings+linear", "probit")}
    found = prefdensity.compare(posts, rated, progress=False)
    evidence = found.table.set_index("program")["log_evidence"]
    assert evidence.isna().to_dict() == {"linear": False, "ratings+linear": True, "probit": False}
    assert found.table.set_index("program")["elbo"].isna()["ratings+linear"]
    assert any("evidence of ratings+linear is that of comparisons and ratings" in line for line in found.warnings)
    alone = prefdensity.compare({"ratings+linear": posts["ratings+linear"]}, rated, progress=False)
    assert alone.table["log_evidence"].notna().all()
    assert not any("and ratings" in line for line in alone.warnings)


@pytest.mark.parametrize(
    ("program", "unit", "message"),
    [
        ("bradley_terry", "item", "bradley_terry knows an item nobody compared by its prior alone"),
        ("linear", "context", "name the context column"),
        ("linear", "prompt", "units are comparison, pair, item, annotator, context"),
    ],
)
def test_units_that_cannot_be_left_out(table, program, unit, message):
    data = replace(table, context=None, contexts=())
    post = prefdensity.fit(program, data, method="laplace", draws=200)
    with pytest.raises(DataError, match=message):
        loo(post, data, unit=unit)
    with pytest.raises(DataError, match=message):
        kfold(program, data, unit=unit)


def test_what_cannot_be_exported(posts, table):
    found = prefdensity.compare(posts, table, progress=False)
    with pytest.raises(DataError, match="'probit' was not compared; programs are linear, linear"):
        found.to_arviz("probit")
    tied = replace(table, outcome=np.where(np.arange(len(table)) < 5, 2, table.outcome).astype(np.int8))
    halves = tied.ties_as_half_wins()
    fits = {"linear": prefdensity.fit("linear", halves, method="laplace")}
    with pytest.raises(DataError, match="half a comparison has no log likelihood"):
        prefdensity.compare(fits, halves, progress=False).to_arviz("linear")


def test_the_table_of_items_says_that_comparisons_count_twice(posts, table):
    assert "A comparison counts with both of its items." in str(
        prefdensity.compare(posts, table, unit="item", refit=False, progress=False)
    )


def test_three_latents_per_annotator_are_not_integrated_on_a_grid():
    data = simulate.population(4, 3, 60, seed=1)[0]
    wild = "position_bias(by='annotator')+reliability+lapse(by='annotator')"
    post = prefdensity.fit(wild, data, method="laplace", draws=100, restarts=1, progress=False)
    with pytest.raises(DataError, match="too many latents per annotator"):
        loo(post, data, unit="annotator")
