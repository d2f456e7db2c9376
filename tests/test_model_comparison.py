"""Comparison of programs: leave-one-out against exact refits, ArviZ and closed forms."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import prefdensity
from prefdensity.comparison.compare import kfold, pseudo_bma_weights, stacking_weights
from prefdensity.comparison.elpd import loo, standard_error, unit_log_lik
from prefdensity.data import simulate
from prefdensity.errors import DataError
from prefdensity.posterior.psis import smooth
from prefdensity.reporting import plots


@pytest.fixture(scope="module")
def table():
    return simulate.population(6, 8, 240, seed=1, reliability_sd=0.5, position_bias=0.4)[0]


def refit_elpd(program, data, unit_of_row, unit, kind):
    """The definition: fit without the unit, average its likelihood over the posterior."""
    out = unit_of_row == unit
    post = prefdensity.fit(program, data.take(~out), draws=2000, method="laplace")
    log_lik, _, _, index = unit_log_lik(post, data.take(out), kind, held_out=True)
    values = (log_lik.logsumexp(0) - np.log(len(log_lik))).numpy()
    return values[unit] if kind == "annotator" else values[index].sum()


def test_comparison_loo_equals_exact_refits(table):
    post = prefdensity.fit("bradley_terry+position_bias", table, draws=4000)
    found = loo(post, table)
    rows = np.random.default_rng(0).choice(len(table), 25, replace=False)
    exact = np.array([refit_elpd(post.program, table, np.arange(len(table)), r, "comparison") for r in rows])
    assert np.abs(found.elpd_i[rows] - exact).max() < 0.03
    assert abs((found.elpd_i[rows] - exact).sum()) < 0.15


@pytest.mark.parametrize(
    "program",
    [
        "bradley_terry",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("reliability", "annotator_types(k=2)")),
    ],
)
def test_annotator_loo_equals_exact_refits(table, program):
    post = prefdensity.fit(program, table, draws=4000)
    found = loo(post, table, unit="annotator")
    exact = np.array(
        [refit_elpd(program, table, table.annotator, j, "annotator") for j in range(len(table.annotators))]
    )
    good = found.k_hat < 0.5
    assert good.sum() >= 4
    assert np.abs(found.elpd_i - exact)[good].max() < 0.35  # 30 judgements a unit; two Monte-Carlo averages


@pytest.mark.slow
def test_two_hundred_refits_agree_within_half_a_nat_in_total():
    data = simulate.population(8, 20, 1200, seed=3, tie_strength=1.0, position_bias=0.3)[0]
    post = prefdensity.fit("davidson+position_bias", data, draws=4000)
    found = loo(post, data)
    rows = np.random.default_rng(0).choice(len(data), 200, replace=False)
    exact = np.array([refit_elpd(post.program, data, np.arange(len(data)), r, "comparison") for r in rows])
    off = found.elpd_i[rows] - exact
    print(f"\nleft out {len(rows)} times: off by {off.sum():.3f} nats in total, by {np.abs(off).max():.4f} at most")
    assert abs(off.sum()) < 0.5


@pytest.mark.slow
def test_loo_is_arvizs_on_nuts_draws():
    data = prefdensity.read("example:baseball")
    long = data.take(np.repeat(np.arange(len(data)), data.count.astype(int)))
    data = replace(long, count=np.ones(len(long)))
    post = prefdensity.fit("bradley_terry", data, method="nuts", draws=600, warmup=300, chains=2, progress=False)
    # a chain may stay where it is, and ties in a tail are left out there and kept here: draws that do not repeat
    first = np.sort(np.unique(post.draws["utility"], axis=0, return_index=True)[1])[:1000]
    post = replace(post, draws={name: values[first] for name, values in post.draws.items()})
    log_lik, _, _, index = unit_log_lik(post, data, "comparison")
    rows = log_lik[:, torch.as_tensor(index)].numpy().reshape(2, 500, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces 1.x on import
        import arviz as az
    if not hasattr(az, "InferenceData") or int(az.__version__.split(".")[0]) >= 1:
        pytest.skip("written against ArviZ 0.x; the smoothing itself is tested against stored values")
    idata = az.from_dict(posterior={"x": np.zeros((2, 500))}, log_likelihood={"outcome": rows})
    theirs = az.loo(idata, pointwise=True, reff=1.0)
    ours = loo(post, data)
    np.testing.assert_allclose(ours.elpd_i, theirs.loo_i.values, atol=1e-8)
    np.testing.assert_allclose(ours.k_hat, theirs.pareto_k.values, atol=1e-8)


def test_the_error_of_a_sum_is_that_of_its_units():
    """sqrt(n) times the standard deviation of n units, with n - 1; what counts twice is two units."""
    values, count = np.array([-0.2, -1.0, -0.7, -2.5]), np.array([1, 3, 2, 1])
    rows = np.repeat(values, count)
    expected = np.sqrt(7) * rows.std(ddof=1)
    assert standard_error(rows, np.ones(7)) == pytest.approx(expected, rel=1e-12)
    assert standard_error(values, count.astype(float)) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(standard_error(values[:1], np.ones(1)))  # one unit tells no error


def test_types_are_summed_out_of_a_comparisons_density(table):
    """p(y_n | rest, draw) by Bayes' rule on whole likelihoods with and without the comparison."""
    post = prefdensity.fit("annotator_types(k=2)", table, draws=200)
    log_lik, _, _, index = unit_log_lik(post, table, "comparison")
    whole = unit_log_lik(post, table, "annotator")[0].sum(1)
    for row in (0, 7, 100):
        rest = table.take(np.arange(len(table)) != row)
        without = unit_log_lik(post, rest, "annotator")[0].sum(1)
        torch.testing.assert_close(log_lik[:, index[row]], whole - without, rtol=1e-9, atol=1e-9)


def test_annotators_latents_are_integrated_as_by_quadrature(table):
    post = prefdensity.fit("reliability", table, draws=100)
    log_lik = unit_log_lik(post, table, "annotator")[0].numpy()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    draw, who = 3, 2
    rows = table.take(table.annotator == who)
    margin = post.draws["utility"][draw][rows.item_a] - post.draws["utility"][draw][rows.item_b]
    sign = np.where(rows.outcome == 0, 1, -1)
    beta = 1 + post.draws["annotator_reliability_spread"][draw] * nodes
    each = -np.logaddexp(0, -sign[:, None] * beta * margin[:, None]).sum(0)
    expected = np.log((weights / weights.sum()) @ np.exp(each))
    assert abs(log_lik[draw, who] - expected) < 1e-3


def test_kfold_agrees_with_loo_on_a_simple_program(table):
    post = prefdensity.fit("bradley_terry", table)
    found = loo(post, table)
    folded = kfold("bradley_terry", table, unit="comparison", folds=20)
    assert abs(found.elpd - folded.elpd) < 1.5


def test_the_true_program_wins_and_the_table_says_so():
    data = simulate.population(8, 30, 3000, seed=5, position_bias=0.8)[0]
    posts = {name: prefdensity.fit(name, data) for name in ("bradley_terry", "bradley_terry+position_bias")}
    found = prefdensity.compare(posts, data, progress=False)
    assert list(found.table["program"]) == ["bradley_terry+position_bias", "bradley_terry"]
    second = found.table.iloc[1]
    assert second["elpd_diff"] < -4 * second["se_diff"] < 0
    assert found.table["stacking"].iloc[0] > 0.9
    assert found.table["stacking"].sum() == pytest.approx(1)
    assert "clearly better" in str(found)


def test_small_gaps_are_said_to_be_no_evidence_however_small_their_errors():
    """Nested programs of which the larger adds nothing, and one that is far behind."""
    data = simulate.population(8, 30, 3000, seed=6, position_bias=0.8)[0]
    names = ("bradley_terry", "bradley_terry+position_bias", "bradley_terry+position_bias+lapse")
    found = prefdensity.compare({name: prefdensity.fit(name, data) for name in names}, data, progress=False)
    gaps = found.table.set_index("program")["elpd_diff"]
    assert gaps["bradley_terry"] < -4 < gaps.nlargest(2).iloc[1]
    second = found.table["program"][1]
    assert f"se_diff is too small where elpd differs by less than 4 ({second}):" in str(found)
    assert "not clearly better than" in str(found)
    far = replace(found, table=found.table[found.table["program"].isin([found.table["program"][0], "bradley_terry"])])
    assert far.caution == ""
    assert "too short for the closest" in plots.comparison(found).axes[0].get_xlabel()
    assert "too short" not in plots.comparison(far).axes[0].get_xlabel()


def test_stacking_finds_the_optimum_of_a_known_problem():
    # two programs, each right for half of the units: equal weights by symmetry
    elpd = np.log(np.array([[0.8, 0.2] * 50, [0.2, 0.8] * 50]))
    np.testing.assert_allclose(stacking_weights(elpd, np.ones(100)), [0.5, 0.5], atol=1e-6)
    # a program that is worse everywhere gets nothing
    elpd = np.log(np.array([[0.8] * 10, [0.4] * 10]))
    np.testing.assert_allclose(stacking_weights(elpd, np.ones(10)), [1, 0], atol=1e-6)
    assert pseudo_bma_weights(elpd, np.ones(10), seed=0)[0] > 0.99
    even = np.stack(
        [np.full(10, -1.0), np.full(10, -1.1)]
    )  # units that all say the same leave nothing to the bootstrap
    assert pseudo_bma_weights(even, np.ones(10), seed=0)[0] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-12)


def test_pareto_smoothing_reproduces_stored_values():
    """Values of arviz.psislw 0.23.4 for these log weights."""
    log_weight = torch.linspace(-3, 3, 200, dtype=torch.float64).sinh() / 3
    smoothed, k_hat = smooth(log_weight)
    assert float(smoothed.logsumexp(-1)) == pytest.approx(0, abs=1e-12)
    assert float(k_hat) == pytest.approx(STORED_K, abs=1e-10)


STORED_K = 0.29025336701987875


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, d: prefdensity.compare({}, d), "nothing to compare"),
        (lambda p, d: prefdensity.compare([p], d), "compare takes name -> posterior"),
        (lambda p, d: prefdensity.compare({"davidson": "davidson"}, d), "compare takes name -> posterior"),
        (lambda p, d: prefdensity.compare({"p": p}, d, unit="row"), "no unit 'row'"),
        (lambda p, d: prefdensity.compare({"p": p}, d.take(np.arange(10))), "not the table"),
        (lambda p, d: prefdensity.compare({"m": prefdensity.fit("bradley_terry", d, method="map")}, d), "no posterior"),
        (lambda p, d: kfold("bradley_terry", d, folds=1), "folds must be a whole number of at least 2, not 1"),
    ],
)
def test_bad_input_is_one_sentence(table, change, message):
    post = prefdensity.fit("bradley_terry", table, draws=200)
    with pytest.raises(DataError, match=message):
        change(post, table)


def test_an_unknown_judge_needs_judges():
    data = prefdensity.read("example:citations")
    with pytest.raises(DataError, match="who judged"):
        prefdensity.compare({"p": prefdensity.fit("bradley_terry", data)}, data, unit="annotator")


@pytest.mark.slow
def test_real_votes_prefer_unequal_annotators(shared_data):
    """The figures on the llmfao votes that docs/how-to/checking-and-comparing.md quotes."""
    votes = prefdensity.read(shared_data / "llmfao.csv", ordered=True)
    unequal = "davidson+position_bias+reliability"
    for data, plain, richer, gain, se in (
        (votes, "davidson", unequal, 244, 27),
        (votes.without_ties(), "bradley_terry", "bradley_terry+position_bias+reliability", 309, 27),
        (votes, unequal, f"{unequal}+ties", 653, 31),
    ):
        posts = {name: prefdensity.fit(name, data) for name in (plain, richer)}
        found = prefdensity.compare(posts, data, progress=False)
        print(f"\n{found}")
        assert found.table["program"].tolist() == [richer, plain]
        assert found.table["elpd_diff"].iloc[1] == pytest.approx(-gain, abs=5)
        assert found.table["se_diff"].iloc[1] == pytest.approx(se, abs=2)
