"""The learned scale of utilities: against quadrature, long grids, held likelihoods; what is said of prior tails."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import prefdensity
from prefdensity import ProgramError, fit, load_program
from prefdensity.inference.laplace import laplace
from prefdensity.inference.view import View
from prefdensity.posterior.outlying import _peakedness, alike, far_out, grouped, unit_error
from prefdensity.programs.tabulate import cells_of


def played(utility, each, seed, outcome=None):
    """A round robin, every pair met `each` times."""
    utility = np.asarray(utility, float)
    a, b = np.triu_indices(len(utility), 1)
    a, b = np.repeat(a, each), np.repeat(b, each)
    lost = np.random.default_rng(seed).random(len(a)) > 1 / (1 + np.exp(utility[b] - utility[a]))
    return prefdensity.Comparisons(
        items=tuple(f"i{k}" for k in range(len(utility))),
        item_a=a,
        item_b=b,
        outcome=lost.astype(np.int8) if outcome is None else np.full(len(a), outcome, np.int8),
        count=np.ones(len(a)),
    )


def two_items(won, lost):
    """Log evidence, posterior mean and sd of the scale of two items, by quadrature over log scale and difference."""
    log_s = np.linspace(-6, 5, 1500)
    z = np.linspace(-9, 9, 3000)  # of the difference, in its own prior standard deviations
    d = np.sqrt(2) * np.exp(log_s)[:, None] * z
    given = np.exp(-won * np.logaddexp(0, -d) - lost * np.logaddexp(0, d)) @ stats.norm.pdf(z) * (z[1] - z[0])
    joint = given * stats.norm.pdf(log_s)
    total = np.trapezoid(joint, log_s)
    mean = np.trapezoid(joint * np.exp(log_s), log_s) / total
    return np.log(total), mean


@pytest.mark.parametrize(("won", "lost"), [(7, 2), (40, 0), (100, 100)])
def test_two_items_by_quadrature(won, lost):
    data = replace(played([0, 0], 2, 0), outcome=np.array([0, 1], np.int8), count=np.array([won, lost], float))
    data = data.take(data.count > 0)
    post = fit("bradley_terry", data, method="laplace", draws=4000, seed=1)
    evidence, mean = two_items(won, lost)
    assert post.status.log_evidence == pytest.approx(evidence, abs=0.05)
    scale = post.draws["utility_scale"]
    # a log-normal tail: the mean of 4,000 draws has a standard error of about sd / 60, with room for resampling
    assert abs(scale.mean() - mean) < 4 * scale.std() / np.sqrt(1000)


def test_a_given_scale_is_the_layers_without_its_site():
    data = played([1, 0.2, 0, -1], 12, 1)
    post = fit("bradley_terry+utility_scale(fixed=1.5)", data, method="laplace")
    assert "utility_scale" not in post.draws
    learned = fit("bradley_terry", data, method="laplace")
    assert learned.parameters()["parameter"].tolist() == ["utility_scale"]
    whole, real = (fit(f"utility_scale(fixed={one})", data, method="laplace", seed=0) for one in ("1", "1.0"))
    np.testing.assert_array_equal(whole.draws["utility"], real.draws["utility"])
    with pytest.raises(ProgramError, match="fixed of utility_scale is -1; it must be a positive number"):
        fit("utility_scale(fixed=-1)", data)


def test_the_scale_is_one_for_all_types_and_found_whatever_the_units():
    data = played([2, 1, 0, -1, -2], 30, 2)
    judged = replace(data, annotators=("p", "q"), annotator=np.arange(len(data)) % 2)
    views = {
        name: View(load_program(name), cells_of(judged, load_program(name).outcomes, load_program(name).needs))
        for name in ("annotator_types+davidson", "dirichlet_types", "comparison_types")
    }  # fmt: skip
    for view in views.values():
        assert view.sites["utility_scale"].is_scalar
        assert len(view.hyper) == 1


@pytest.mark.parametrize("sd", [0.3, 3.0])
def test_many_items_tell_the_scale_and_a_joint_gaussian_carries_it(sd):
    utility = np.random.default_rng(3).normal(0, sd, 150)
    data = played(utility, 2, 4)
    found = laplace(View(load_program("bradley_terry"), cells_of(data, ("a", "b"), ())))
    assert len(found.weight) == 1
    post = fit("bradley_terry", data, method="laplace", seed=0)
    scale = post.draws["utility_scale"]
    assert post.status.k_hat < 0.7
    assert abs(scale.mean() - sd) < 4 * (scale.std() + sd / np.sqrt(2 * 150))
    assert scale.std() < 0.12 * sd


def test_a_wide_and_a_sharp_hyperparameter_settle_together():
    # 4 items hardly tell the scale of utilities, 250 people tell the spread of reliabilities
    rng = np.random.default_rng(14)
    beta, utility = 1 + 0.5 * rng.normal(size=250), np.array([1.2, 0.2, -0.4, -1.0])
    who, a = np.arange(4000) % 250, rng.integers(0, 4, 4000)
    b = (a + rng.integers(1, 4, 4000)) % 4
    lost = rng.random(4000) > 1 / (1 + np.exp(-beta[who] * (utility[a] - utility[b])))
    data = prefdensity.Comparisons(
        items=tuple("abcd"), item_a=a, item_b=b, outcome=lost.astype(np.int8), count=np.ones(4000),
        annotators=tuple(f"p{k}" for k in range(250)), annotator=who,
    )  # fmt: skip
    view = View(load_program("reliability"), cells_of(data, ("a", "b"), ("annotator",)))
    found = laplace(view)
    assert found.converged
    sd = found.whole.frame()[list(view.hyper)].norm(dim=1)
    assert sd.max() > 2.5 * sd.min()


def test_mle_does_not_feel_the_scale_and_does_not_report_it():
    data = played([1, 0.2, 0, -1], 12, 5)
    found = fit("bradley_terry", data, method="mle")
    given = fit("bradley_terry+utility_scale(fixed=0.01)", data, method="mle")
    np.testing.assert_allclose(found.point["utility"], given.point["utility"], atol=1e-8)
    assert list(found.draws) == ["utility"]


def test_map_is_the_conditional_mode_and_not_the_spike_at_scale_zero():
    data = played([1, 0.2, 0, -1], 12, 6)
    found = fit("bradley_terry", data, method="map")
    assert float(found.point["utility_scale"]) > 0.2
    given = fit(f"utility_scale(fixed={float(found.point['utility_scale'])})", data, method="map")
    np.testing.assert_allclose(found.point["utility"], given.point["utility"], atol=1e-5)


def test_a_far_item_keeps_its_place_under_student_utilities():
    utility = [6, 0.8, 0.4, 0.2, 0, -0.1, -0.3, -0.5, -0.9]
    data = played(utility, 40, 7)
    plain, heavy = (fit(name, data, method="laplace", seed=0) for name in ("bradley_terry", "student_items"))
    assert "scales out, far for normal utilities" in plain.summary().set_index("item").loc["i0", "note"]
    assert heavy.status.log_evidence > plain.status.log_evidence
    assert heavy.draws["utility_scale"].mean() < plain.draws["utility_scale"].mean()


def test_a_posterior_in_the_tail_of_its_prior_is_told():
    data = played([0, 0, 0, 0], 400, 8, outcome=0)
    data = replace(data, first=np.ones(len(data), np.int8))  # whoever is shown first wins, always
    post = fit("position_bias+utility_scale(fixed=0.1)", data, method="laplace")
    (told,) = [each for each in post.status.warnings if "tail of its prior" in each]
    assert told.startswith("position_bias lies in the tail of its prior: its posterior median is ")
    assert "99 % of the prior is between -1.2" in told or "99 % of the prior is between -1.3" in told
    fair = replace(played([0.5, 0, 0, -0.5], 50, 9), first=np.ones(300, np.int8))
    assert not [each for each in fit("position_bias", fair).status.warnings if "tail of its prior" in each]


@pytest.mark.parametrize("method", ["laplace", "mle"])
def test_linear_weights_are_also_told_in_the_users_units(method):
    rng = np.random.default_rng(10)
    grams, share = 1000 * rng.random(8), rng.random(8)
    data = played(0.004 * grams - 1.5 * share, 40, 10)
    data = replace(data, feature_names=("grams", "share"), item_features=np.stack([grams, share], 1))
    table = fit("linear", data, method=method, seed=0).parameters().set_index(["parameter", "index"])
    for name, x in (("grams", grams), ("share", share)):
        per_sd, per_unit = table.loc[("weight", name), "mean"], table.loc[("weight_per_unit", name), "mean"]
        assert per_sd == pytest.approx(x.std() * per_unit, rel=1e-6)
    # 1,120 judgements; five posterior standard deviations
    for name, truth in (("grams", 0.004), ("share", -1.5)):
        row = table.loc[("weight_per_unit", name)]
        assert abs(row["mean"] - truth) < 5 * row["sd"]


def test_far_items_are_called_so_at_the_stated_rate():
    rng = np.random.default_rng(11)
    called = np.array([(far_out(rng.normal(size=(1, 10))) > 0).any() for _ in range(2000)])
    # known utilities are called more often than their draws, which errors make more normal
    assert 0.10 < called.mean() < 0.18
    many = np.array([(far_out(rng.normal(size=(1, 60))) > 0).any() for _ in range(500)])
    assert many.mean() < 0.05
    heavy = np.array([(far_out(rng.standard_t(2, (1, 60))) > 0).any() for _ in range(500)])
    assert heavy.mean() > 0.9
    far = np.r_[6.0, -7.0, rng.normal(size=9)]  # two on either side hide each other from a rule by standard deviations
    assert (far_out(far[None])[:2] > 4).all()
    assert (far_out(far[None])[2:] == 0).all()
    assert (far_out(np.array([[9.0, 0.0, 0.0]])) == 0).all()  # of three items nobody can say


def test_the_statistic_of_kurtosis_is_that_of_scipy():
    for seed in range(20):
        utility = np.random.default_rng(seed).gamma(0.3 + seed, size=6 + seed)
        assert _peakedness(utility) == pytest.approx(stats.kurtosistest(utility).statistic, rel=1e-12)


def test_groups_of_items_are_told_where_they_are_and_hardly_ever_where_not():
    rng = np.random.default_rng(12)
    for count in (6, 10, 40):
        normal = np.array([grouped(rng.normal(size=count)) for _ in range(1000)])
        assert normal.mean() < 0.03 + 4 * np.sqrt(0.03 * 0.97 / 1000)
    two = np.array([grouped(np.repeat([-1.5, 1.5], 5) + rng.normal(0, 0.3, 10)) for _ in range(300)])
    assert two.mean() > 0.9
    data = played(np.repeat([-1.5, 1.5], 5) + rng.normal(0, 0.1, 10), 20, 13)
    note = fit("bradley_terry", data, method="laplace").summary()["note"]
    assert "fall in groups" in note[0]
    assert not note[1:].any()


def test_items_that_are_hardly_told_apart_are_called_so_at_the_leader():
    rng = np.random.default_rng(14)
    noise = rng.normal(size=(400, 10))
    assert alike(noise + 0.5 * rng.normal(size=10))  # separation .2
    assert not alike(noise + 3 * rng.normal(size=10))  # separation .9
    data = played(rng.normal(0, 0.05, 8), 10, 15)
    summary = fit("bradley_terry", data, method="laplace").summary()
    assert "hardly told apart: P(best) depends" in summary["note"][0]
    assert summary["note"][1:].eq("hardly told apart").all()
    assert not fit("bradley_terry", data, method="mle").summary()["note"].any()  # which has no prior


def test_the_error_of_a_common_unit_is_told_where_it_is_what_is_unknown():
    rng = np.random.default_rng(16)
    place, noise = rng.normal(size=12), rng.normal(size=(4000, 12))
    unit = np.exp(rng.normal(0, 0.2, (4000, 1)))
    assert unit_error(unit * place + 0.05 * noise) == pytest.approx(unit.std(), rel=0.1)
    assert unit_error(3.0 + unit * place) == pytest.approx(unit.std(), rel=0.1)  # from wherever they are counted
    assert unit_error(np.exp(rng.normal(0, 0.1, (4000, 1))) * place + 0.01 * noise) == 0  # known to a tenth
    assert unit_error(place + noise) == 0  # unknown in all directions alike
    assert unit_error(np.ones((5, 3))) == 0


def test_few_annotators_of_unlike_reliability_leave_the_unit_unknown_and_many_fix_it():
    rng = np.random.default_rng(17)
    utility, notes = 2.5 * rng.normal(size=8), {}
    for people, each in ((5, 120), (60, 60)):
        care = np.repeat(1 + 0.4 * rng.normal(size=people), each)
        a, b = np.array([rng.choice(8, 2, replace=False) for _ in care]).T
        lost = rng.random(len(care)) > 1 / (1 + np.exp(-care * (utility[a] - utility[b])))
        data = prefdensity.Comparisons(
            items=tuple(f"i{k}" for k in range(8)), item_a=a, item_b=b, outcome=lost.astype(np.int8),
            count=np.ones(len(a)), annotators=tuple(f"p{k}" for k in range(people)),
            annotator=np.repeat(np.arange(people), each),
        )  # fmt: skip
        notes[people] = fit("reliability", data, method="laplace", seed=0).summary()["note"]
    assert notes[5].str.contains("unit hardly known").all()
    assert not notes[60].str.contains("unit").any()
