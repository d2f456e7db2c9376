"""Preference-calibrated estimates: closed forms and limits, what is said beside them, and what bad input is told."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, t

import prefdensity
from prefdensity.errors import DataError, FitError
from prefdensity.judged.simulate import JudgedWorld, TrueJudge, buy
from prefdensity.judged.units import Judged
from prefdensity.pcal import (
    ConfusionJudge,
    EstimatingEquation,
    GaussianNuisance,
    GivenNuisance,
    LinearNuisance,
    LinearRegression,
    LogisticRegression,
    Mean,
    PoissonRegression,
    Quantile,
    RegressorNuisance,
    pcal,
)

LINEAR = LinearRegression(intercept=False)
CALIBRATIONS = ("none", "identity", "scalar", "single", "split")


# --- the estimator against closed forms ---------------------------------------------------------------------------


def bought(n=3000, seed=1, judge="noise_free", p1=0.25, p2=0.7, world=0):
    full = JudgedWorld.draw(world, judge).units(n, seed)
    rng = np.random.default_rng(seed)
    first = np.clip(p1 * np.exp(0.3 * full.covariates[:, 0]), 0.05, 0.6)
    second = np.clip(np.maximum(p2 * np.exp(0.1 * full.outputs[:, 0] / 5), first), 0, 0.95)
    coin = rng.random(n)
    return buy(full, first, second, np.where(coin < first, 1, np.where(coin < second, 2, 3))), full


def hat(x):
    """Return the diagonal of the hat matrix."""
    return ((x @ np.linalg.inv(x.T @ x)) * x).sum(1)


def test_identity_is_least_squares_on_pseudo_outcomes():
    judged, _ = bought()
    rng = np.random.default_rng(0)
    mu3 = judged.outputs.mean(1) + rng.normal(size=len(judged))
    mu2 = mu3 + rng.normal(size=len(judged))
    found = pcal(judged, LINEAR, GivenNuisance(mu2, mu3), calibration="identity")
    p1, p2 = judged.label_probability, judged.preference_probability
    pseudo = mu3 + judged.compared / p2 * (mu2 - mu3) + np.nan_to_num(judged.labelled / p1 * (judged.label - mu2))
    expected, *_ = np.linalg.lstsq(judged.covariates, pseudo, rcond=None)
    np.testing.assert_allclose(found.theta, expected, rtol=1e-10)
    bread = np.linalg.inv(judged.covariates.T @ judged.covariates / len(judged))
    psi = judged.covariates * (pseudo - judged.covariates @ expected)[:, None] @ bread
    psi /= np.sqrt(1 - hat(judged.covariates))[:, None]  # HC2
    np.testing.assert_allclose(found.covariance, psi.T @ psi / len(judged) ** 2, rtol=1e-8)


def test_no_calibration_is_weighted_least_squares_on_labels():
    judged, _ = bought()
    seen = judged.labelled
    root = np.sqrt(1 / judged.label_probability[seen])
    expected, *_ = np.linalg.lstsq(judged.covariates[seen] * root[:, None], judged.label[seen] * root, rcond=None)
    np.testing.assert_allclose(pcal(judged, LINEAR, calibration="none").theta, expected, rtol=1e-10)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_with_every_label_all_calibrations_are_least_squares(calibration):
    full = JudgedWorld.draw(0).units(400, 2)
    expected, *_ = np.linalg.lstsq(np.column_stack([full.covariates, np.ones(400)]), full.label, rcond=None)
    found = pcal(full, calibration=calibration)
    np.testing.assert_allclose(found.theta, expected, rtol=1e-9)
    assert found.names == ("x1", "x2", "x3", "x4", "x5", "intercept")


def generalised(kind, n=500):
    full = JudgedWorld.draw(0).units(n, 3)
    rng = np.random.default_rng(4)
    eta = full.covariates @ [0.4, -0.3, 0.2, 0.0, 0.5] - 0.2
    label = rng.poisson(np.exp(eta)) if kind is PoissonRegression else rng.random(n) < 1 / (1 + np.exp(-eta))
    object.__setattr__(full, "label", label.astype(float))
    return full


@pytest.mark.parametrize("kind", [LogisticRegression, PoissonRegression])
def test_generalised_linear_models_solve_their_score(kind):
    full = generalised(kind)
    found = pcal(full, kind(), LinearNuisance())
    x = np.column_stack([full.covariates, np.ones(len(full))])
    mean = kind().mean(x @ found.theta)
    np.testing.assert_allclose(x.T @ (full.label - mean) / len(x), 0, atol=1e-10)
    slope = kind().mean_slope(x @ found.theta)
    bread = np.linalg.inv((x * slope[:, None]).T @ x)
    leverage = hat(x * np.sqrt(slope)[:, None])
    meat = (x * ((full.label - mean) ** 2 / (1 - leverage))[:, None]).T @ x  # HC2
    np.testing.assert_allclose(found.covariance, bread @ meat @ bread, rtol=1e-8)


def test_an_estimating_equation_of_ones_own_is_the_built_in_one():
    judged, _ = bought()
    own = EstimatingEquation(
        lambda x, w, y, theta: x * (y - (x * theta).sum(-1))[..., None], np.zeros(5), judged.features[:5]
    )
    found, built_in = pcal(judged, own), pcal(judged, LINEAR)
    # one Newton step, with the slope of the labelled units, against the root: a hundredth of a standard error
    np.testing.assert_allclose(found.theta, built_in.theta, atol=0.2 * built_in.standard_error.max())
    np.testing.assert_allclose(found.standard_error, built_in.standard_error, rtol=0.1)


def test_a_moment_of_the_square_gives_the_variance():
    full = JudgedWorld.draw(0).units(500, 2)
    second = EstimatingEquation(
        lambda x, w, y, theta: np.stack([y - theta[0], (y - theta[0]) ** 2 - theta[1]], -1),
        [0.0, 200.0],
        ("mean", "variance"),
    )
    found = pcal(full, second)
    np.testing.assert_allclose(found.theta, [full.label.mean(), full.label.var()], rtol=1e-6)


def test_quantiles_of_a_census_are_quantiles():
    full = JudgedWorld.draw(0).units(2001, 2)
    found = pcal(full, Quantile((0.25, 0.5, 0.9)))
    np.testing.assert_allclose(
        found.theta, np.quantile(full.label, [0.25, 0.5, 0.9]), atol=0.1 * found.standard_error.min()
    )
    density = norm.pdf(norm.ppf(0.5), 0, full.label.std())
    assert found.standard_error[1] == pytest.approx(0.5 / density / np.sqrt(2001), rel=0.15)


def test_preferences_shorten_quantiles_and_means():
    judged, _ = bought(6000)
    for functional in (Quantile((0.5,)), Mean()):
        lengths = [pcal(judged, functional, calibration=name).standard_error[0] for name in ("scalar", "none")]
        assert lengths[0] < 0.9 * lengths[1]


def test_collinear_nuisances_and_features_do_not_matter():
    judged, _ = bought()
    one = pcal(judged, LINEAR, GaussianNuisance(), calibration="split")
    two = pcal(judged, LINEAR, [GaussianNuisance(), GaussianNuisance()], calibration="split")
    np.testing.assert_allclose(two.theta, one.theta, rtol=1e-5)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-4, atol=1e-9)


def test_regressors_are_copied_and_fold_by_fold():
    class Offset:
        """Predicts the mean of what it saw: predictions name the fold."""

        def fit(self, x, y):
            assert not hasattr(self, "mean")
            self.mean = y.mean()

        def predict(self, x):
            return np.full(len(x), self.mean)

    judged, _ = bought(600)
    recipe = RegressorNuisance(Offset())
    found = pcal(judged, LINEAR, recipe, folds=4)
    assert len(np.unique(found.expected[0][0])) == 4
    assert not hasattr(recipe.regressor, "mean")


def test_boosted_trees_serve_as_nuisance():
    boosting = pytest.importorskip("sklearn.ensemble").HistGradientBoostingRegressor
    judged, _ = bought(6000)
    recipe = RegressorNuisance(boosting(max_iter=40, max_leaf_nodes=8, random_state=0))
    trees = pcal(judged, LINEAR, recipe)
    labels = pcal(judged, LINEAR, calibration="none")
    assert (trees.standard_error < 0.95 * labels.standard_error).all()
    both = pcal(judged, LINEAR, [recipe, GaussianNuisance()], calibration="scalar")
    assert both.standard_error.sum() < trees.standard_error.sum()


def test_no_label_predicts_itself():
    judged, _ = bought(400)
    base = pcal(judged, LINEAR, LinearNuisance(), seed=3)
    row = int(np.flatnonzero(judged.labelled)[7])
    changed = judged.take(slice(None))
    changed.label[row] += 1e6
    after = pcal(changed, LINEAR, LinearNuisance(), seed=3)
    same = base.expected[0][0] == after.expected[0][0]
    assert same[row]
    assert not same.all()


def test_clusters_of_copies_have_the_errors_of_one():
    judged, _ = bought(500)
    rows = np.repeat(np.arange(500), 2)
    copies = judged.take(np.arange(500))
    doubled = Judged(**{**vars(copies), **{name: getattr(copies, name)[rows] for name in (
        "covariates", "outputs", "label", "label_probability", "preference_probability")},
        "judged": np.flatnonzero(copies.compared[rows]), "judge": np.zeros(2 * copies.compared.sum(), int),
        "verdict": copies.votes[:, 0][rows][copies.compared[rows]], "cluster": rows})  # fmt: skip
    guess = copies.outputs.mean(1)
    one = pcal(copies, LINEAR, GivenNuisance(guess, guess), calibration="identity")
    two = pcal(doubled, LINEAR, GivenNuisance(guess[rows], guess[rows]), calibration="identity")
    np.testing.assert_allclose(two.theta, one.theta, rtol=1e-9)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-8)
    alone = pcal(replace(copies, cluster=np.arange(500)), LINEAR, GivenNuisance(guess, guess), calibration="identity")
    np.testing.assert_allclose(two.df, alone.df, rtol=1e-8)
    np.testing.assert_allclose(alone.covariance, one.covariance, rtol=1e-8)


def test_a_census_of_a_finite_population_has_no_error():
    full = JudgedWorld.draw(0).units(300, 2)
    found = pcal(full, LINEAR, population=300)
    np.testing.assert_allclose(found.covariance, 0, atol=1e-12)
    half = pcal(full, LINEAR, population=600)
    np.testing.assert_allclose(half.covariance, pcal(full, LINEAR).covariance / 2, rtol=1e-9)


def test_stages_count_by_what_their_plans_buy():
    judged, _ = bought(2000)
    staged = Judged(**{**vars(judged), "stage": (np.arange(2000) >= 700).astype(int)})
    alone = [pcal(judged.take(staged.stage == s), LINEAR, calibration="none") for s in (0, 1)]
    labels = pcal(staged, LINEAR, calibration="none")
    # labels alone: the variance of a stage is in proportion to its mean of 1 / p1, whatever the labels are
    rows = [staged.stage == s for s in (0, 1)]
    share = np.array([row.sum() / (1 / judged.label_probability[row]).mean() for row in rows])
    share /= share.sum()
    np.testing.assert_allclose(labels.theta, share @ [each.theta for each in alone], rtol=1e-8)
    covariance = sum(s**2 * each.covariance for s, each in zip(share, alone, strict=True))
    np.testing.assert_allclose(labels.covariance, covariance, rtol=1e-8)
    together = pcal(staged, LINEAR)
    assert (together.standard_error < min(each.standard_error.min() for each in alone) * 1.2).all()


def test_bands_are_wider_by_what_max_t_says():
    judged, _ = bought()
    found = pcal(judged, LINEAR)
    width = (found.bands(0.9)["upper"] - found.theta) / found.standard_error
    # near-independent coordinates: Sidak; Monte-Carlo error of 100,000 draws is .01
    assert norm.isf(t.sf(width.iloc[0], found.df[0])) == pytest.approx(norm.ppf(0.5 + 0.9**0.2 / 2), abs=0.03)
    one = pcal(judged, Mean())
    assert one.bands(0.9)["upper"][0] == pytest.approx(one.summary(0.9)["upper"][0], abs=0.02 * one.standard_error[0])


# --- what is said beside the estimate -----------------------------------------------------------------------------


def test_the_comparison_shows_what_preferences_add():
    judged, _ = bought(8000)
    table = pcal(judged, LINEAR).comparison()
    se = table.pivot(index="parameter", columns="method", values="se")
    # conditional on the covariates that happened to be labelled, unlabelled units gain little beside them
    assert (se["PCAL"] < 0.9 * se["labels and unlabelled"]).all()
    assert se["labels and unlabelled"].sum() < se["labels only"].sum()
    alone = pcal(judged, LINEAR, calibration="none").summary()
    np.testing.assert_allclose(table[table["method"] == "labels only"]["estimate"], alone["estimate"], rtol=1e-9)


def test_a_good_fit_warns_of_nothing_and_a_wrong_judge_is_found_out():
    judged, _ = bought(8000)
    good = pcal(judged, LINEAR)
    assert good.warnings == ()
    values = good.diagnostics().set_index("quantity")["value"]
    assert values["multiplier of preferences"] == pytest.approx(1, abs=0.1)
    assert values["variance against promise: x1"] == pytest.approx(1, abs=0.15)
    wrong, _ = bought(8000, judge=TrueJudge(flip=0.4))
    trusting = pcal(wrong, LINEAR, GaussianNuisance(ConfusionJudge()), calibration="identity")
    said = " ".join(trusting.warnings)
    assert "preferences explain less than the nuisance claims" in said
    assert "times as long as from labels only" in said
    assert trusting.residuals().set_index("group").loc["judge: the higher output", "z"] ** 2 > 25


def test_overspending_is_said():
    judged, _ = bought(3000)
    planned = (9 * judged.label_probability + judged.preference_probability).mean()
    fine = pcal(judged, LINEAR, budget=planned)  # independent draws spend a little more or less
    assert not any("over the budget" in each for each in fine.warnings)
    over = pcal(judged, LINEAR, budget=planned - 0.01)
    assert any("over the budget" in each for each in over.warnings)


def test_few_labels_and_heavy_weights_are_said():
    judged, full = bought(300)
    probability = np.full(300, 0.6)
    probability[5] = 0.004
    pattern = np.where(np.arange(300) % 2 == 0, 1, 3)
    pattern[5] = 1
    heavy = pcal(buy(full, probability, probability, pattern), LINEAR, LinearNuisance())
    assert any("one unit carries" in each for each in heavy.warnings)
    assert any("effective labels" in each for each in heavy.warnings)


def test_ties_everywhere_leave_labels_and_unlabelled_units():
    judged, full = bought()
    tied = buy(full.judged_as(2), judged.label_probability, judged.preference_probability, judged.pattern)
    found = pcal(tied, LINEAR)
    np.testing.assert_allclose(found.expected[0][0], found.expected[1][0], atol=1e-10)
    assert np.isfinite(found.theta).all()


def test_designs_at_both_ends_can_be_estimated():
    full = JudgedWorld.draw(0).units(1000, 2)
    for p1, p2, pattern in ((0.5, 0.5, [1, 3]), (0.5, 1.0, [1, 2])):
        judged = buy(full, np.full(1000, p1), np.full(1000, p2), np.resize(pattern, 1000))
        for calibration in CALIBRATIONS:
            assert (pcal(judged, LINEAR, calibration=calibration).standard_error > 0).all()


def with_label(judged, value):
    label = judged.label.copy()
    label[judged.labelled] = value
    return Judged(**{**vars(judged), "label": label})


@pytest.mark.parametrize(
    ("change", "options", "error", "says"),
    [
        (
            lambda j: buy(j, j.label_probability, j.preference_probability, np.full(len(j), 2)),
            {},
            DataError,
            "0 units have a label",
        ),
        (
            lambda j: Judged(**{**vars(j), "covariates": j.covariates[:, [0, 1, 2, 3, 3]]}),
            {},
            DataError,
            "'x5' is a linear combination",
        ),
        (
            lambda j: Judged(**{**vars(j), "covariates": j.covariates * [1, 0, 1, 1, 1]}),
            {},
            DataError,
            "'x2' is 0 for every",
        ),
        (lambda j: j, {"calibration": "best"}, DataError, "there is no calibration 'best'"),
        (lambda j: j, {"level": 1.0}, DataError, "level=1.0"),
        (lambda j: j, {"folds": 1}, DataError, "folds=1 must lie between"),
        (lambda j: j, {"population": 10}, DataError, "population=10 is smaller"),
        (lambda j: j, {"nuisance": []}, DataError, "nuisance must be"),
        (lambda j: j, {"nuisance": GivenNuisance([1.0], [1.0])}, DataError, "after has 1 rows"),
        (
            lambda j: j,
            {"nuisance": [LinearNuisance(), LinearNuisance()], "calibration": "single"},
            DataError,
            "one nuisance",
        ),
        (lambda j: j, {"functional": LogisticRegression()}, DataError, "labels between 0 and 1"),
        (lambda j: j, {"functional": PoissonRegression()}, DataError, "not negative"),
        (lambda j: with_label(j, 1.0), {"functional": LogisticRegression()}, FitError, "no finite estimate"),
        (lambda j: with_label(j, 1.0), {"functional": Quantile()}, FitError, "need labels that differ"),
        (lambda j: j, {"functional": LinearRegression((), intercept=False)}, DataError, "no parameter"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(change, options, error, says):
    judged, _ = bought(400)
    with pytest.raises(error, match=says):
        pcal(change(judged), **({"functional": LINEAR} | options))


def test_bad_arguments_are_refused_where_they_are_made():
    with pytest.raises(DataError, match="strictly between 0 and 1"):
        Quantile((0.5, 1.0))
    with pytest.raises(DataError, match="2 numbers for 1 parameters"):
        EstimatingEquation(lambda x, w, y, theta: y, [0, 0], ("mean",))
    with pytest.raises(AttributeError):
        _ = prefdensity.pcal.nothing
