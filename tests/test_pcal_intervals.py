"""Intervals of preference-calibrated estimates where normal theory fails: rates, quantiles, few labels, clusters."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gaussian_kde, norm

from prefdensity.errors import DataError, FitError
from prefdensity.judged.simulate import COEFFICIENT, JudgedWorld, buy
from prefdensity.judged.units import Judged
from prefdensity.pcal import GivenNuisance, LinearNuisance, LinearRegression, Mean, Quantile, pcal, pcal_design
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.intervals import wilson

Z = norm.ppf(0.95)


def table(label, covariates, rng, p1=0.25, p2=0.7, right=0.9, cluster=None):
    """Buy labels and preferences in exact numbers; a judge is right with a probability, outputs know the label."""
    n, sd = len(label), label.std() + 1e-9
    outputs = label[:, None] + sd * rng.normal(0.1, 1, (n, 2)) * [0.8, 1.2]
    first = np.abs(outputs[:, 0] - label) <= np.abs(outputs[:, 1] - label)
    said = np.where(rng.random(n) < right, first, ~first)
    coin = rng.permutation(n) / n
    asked = np.flatnonzero(coin < p2)
    return Judged(
        covariates=covariates, outputs=outputs, label=np.where(coin < p1, label, np.nan), judged=asked,
        judge=np.zeros(len(asked), int), verdict=np.where(said, 0, 1)[asked],
        features=(*(f"x{j}" for j in range(covariates.shape[1])), "w1", "w2"), label_probability=np.full(n, p1),
        preference_probability=np.full(n, p2), cluster=cluster,
    )  # fmt: skip


def only_labels(label, cluster=None):
    """Return a table of which every unit is labelled."""
    rng = np.random.default_rng(0)
    return table(np.asarray(label, float), np.zeros((len(label), 0)), rng, 1.0, 1.0, cluster=cluster)


# --- rates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "labels"), [(0, 80), (1, 80), (17, 50), (80, 80)])
def test_a_rate_of_labels_alone_has_wilson_s_limits(events, labels):
    found = pcal(only_labels(np.arange(labels) < events), Mean(), LinearNuisance()).summary().iloc[0]
    rate = events / labels
    roots = np.roots([1 + Z**2 / labels, -2 * rate - Z**2 / labels, rate**2])  # (rate - p)^2 = z^2 p (1 - p) / n
    np.testing.assert_allclose([found["lower"], found["upper"]], np.sort(roots), atol=1e-12)


@pytest.mark.parametrize("event", [0.0, 1.0])
def test_no_event_is_no_certainty(event):
    rng = np.random.default_rng(1)
    judged = table(np.full(400, event), rng.normal(size=(400, 1)), rng, 0.2)
    found = pcal(judged, Mean(), LinearNuisance())
    row = found.summary().iloc[0]
    assert row["estimate"] == event
    assert row["upper"] - row["lower"] == pytest.approx(Z**2 / 80 / (1 + Z**2 / 80), rel=1e-9)
    assert np.isfinite(found.bands()[["lower", "upper"]].to_numpy()).all()
    assert len(found.comparison()) == 3


def test_an_estimate_outside_has_limits_inside():
    rng = np.random.default_rng(2)
    judged = table((rng.random(300) < 0.01).astype(float), np.zeros((300, 0)), rng, 0.3)
    guess = np.where(judged.labelled, 0.2, -0.2)  # whatever is given, limits stay those of a rate
    row = pcal(judged, Mean(), GivenNuisance(guess, guess), calibration="identity").summary().iloc[0]
    assert not 0 <= row["estimate"] <= 1
    assert 0 <= row["lower"] < row["upper"] <= 1


@pytest.mark.parametrize(("outside", "edge"), [(-0.02, 0.0), (1.02, 1.0)])
def test_an_estimate_outside_has_the_limits_of_the_nearest_rate(outside, edge):
    assert wilson(outside, 50, Z) == wilson(edge, 50, Z)


def test_preferences_are_worth_labels_as_far_as_events_tell():
    """The variance ratio against labels alone, pulled to 1 by two more events of which nothing is known."""
    rng = np.random.default_rng(11)
    label = (rng.random(3000) < 0.04).astype(float)
    judged = table(label, np.zeros((3000, 0)), rng, right=0.99)
    found = pcal(judged, Mean(), LinearNuisance())
    weight, rate = found.label_weight, found.label_weight @ np.nan_to_num(judged.label) / found.label_weight.sum()
    events = int(np.nansum(judged.label))
    assert 15 < events < 60
    ratio = found.covariance[0, 0] / (rate * (1 - rate) * (weight**2).sum() / 3000**2)
    assert ratio < 0.8
    expected = judged.labelled.sum() / ((events * ratio + 2) / (events + 2))
    assert found.effective_labels == pytest.approx(expected, rel=0.01)


def test_equal_labels_that_are_no_rate_are_refused():
    with pytest.raises(FitError, match="all labels are 3"):
        pcal(only_labels(np.full(40, 3.0)), Mean())


def test_wilson_of_a_census_is_the_rate():
    assert wilson(0.3, np.inf, Z) == pytest.approx((0.3, 0.3))


# --- quantiles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_a_quantile_of_labels_alone_inverts_the_score_test(p):
    label = np.random.default_rng(3).standard_t(2, 150)
    found = pcal(only_labels(label), Quantile((p,)), LinearNuisance()).summary().iloc[0]
    value = np.sort(label)
    score = (np.arange(151) / 150 - p) / np.sqrt(p * (1 - p) / 150)  # below all labels, then at each
    kept = [v for k, v in enumerate(value) if score[k + 1] >= -Z and score[k] <= Z]
    assert (found["lower"], found["upper"]) == (min(kept), max(kept))
    assert found["estimate"] == value[int(np.ceil(p * 150)) - 1]


def test_the_density_behind_errors_of_quantiles_is_a_kernel_estimate():
    """A Gaussian kernel as wide as Silverman says at the effective number of labels, by SciPy."""
    rng = np.random.default_rng(5)
    full = JudgedWorld.draw(0).units(2000, 3)
    weight = rng.gamma(2.0, size=2000)
    found = Quantile((0.1, 0.5, 0.8))
    theta = found.start(full, weight)
    expected = gaussian_kde(full.label, "silverman", weights=weight)(theta)
    np.testing.assert_allclose(np.diag(found.slope(full, theta, weight)), expected, rtol=1e-3)
    # a peak is lower the wider the kernel: of two values it is 1 / (width sqrt(2 pi)) / 2
    object.__setattr__(full, "label", np.where(np.arange(2000) < 1000, -1000.0, 1000.0))
    density = found.slope(full, np.array([1000.0]), np.ones(2000))[0, 0]
    assert density == pytest.approx(0.5 / (1.06 * 1000 * 2000**-0.2 * np.sqrt(2 * np.pi)), rel=1e-6)


def test_a_quantile_over_stages_weighs_what_brackets_add_as_their_stage():
    """By hand: the smallest label at which the share, labels and guesses weighed by stage, reaches p."""
    rng = np.random.default_rng(7)
    label = rng.normal(size=600)
    early = np.arange(600) < 200
    p1 = np.where(early, 0.8, 0.1)
    judged = replace(
        table(label, np.zeros((600, 0)), rng, 1.0, 1.0), label=np.where(rng.random(600) < p1, label, np.nan),
        label_probability=p1, stage=(~early).astype(int),
    )  # fmt: skip
    guess = np.where(early, 0.5, 0.3) + 0.2 * (label < 0)
    found = pcal(judged, Quantile((0.5,)), GivenNuisance(guess, guess), calibration="identity")
    scale, w = found.stage_weight, judged.labelled / p1
    assert scale[early][0] > 2 * scale[~early][0]
    values = np.sort(label[judged.labelled])
    score = [(scale * (w * ((label <= y) - 0.5) - (w - 1) * (guess - 0.5))).sum() for y in values]
    assert found.summary()["estimate"].iloc[0] == values[np.argmax(np.array(score) >= 0)]


def test_quantiles_of_ratings_are_ratings():
    rng = np.random.default_rng(4)
    rating = rng.choice([1.0, 2, 3, 4, 5], 800, p=[0.05, 0.1, 0.25, 0.45, 0.15])
    row = pcal(table(rating, np.zeros((800, 0)), rng), Quantile((0.5,)), LinearNuisance()).summary().iloc[0]
    assert (row["estimate"], row["lower"], row["upper"]) == (4, 4, 4)


def test_clusters_of_copies_have_the_quantile_of_one():
    label = np.random.default_rng(5).normal(size=120)
    one = pcal(only_labels(label), Quantile((0.3,)), LinearNuisance())
    two = pcal(only_labels(np.repeat(label, 2), np.repeat(np.arange(120), 2)), Quantile((0.3,)), LinearNuisance())
    lower, upper = two.functional.limits(two, np.array([Z]))
    assert (lower[0], upper[0]) == tuple(one.summary()[["lower", "upper"]].iloc[0])
    assert two.df[0] == pytest.approx(119)
    assert np.isinf(one.df[0])


def test_an_extreme_quantile_of_few_labels_is_refused():
    label = np.random.default_rng(6).lognormal(size=60)
    for p, end in ((0.99, "upper"), (0.01, "lower")):
        with pytest.raises(FitError, match=f"quantile {p:g} has no {end} end: 60 labels"):
            pcal(only_labels(label), Quantile((p,)), LinearNuisance())


def regression(rng, n=240, d=12, groups=0, skewed=False):
    """Return a table with d covariates, with `groups` the first constant within clusters of unequal size.

    Effects of clusters are exponential where `skewed`.
    """
    x = rng.normal(size=(n, d))
    error, cluster = rng.normal(size=n), None
    if groups:
        share = np.exp(0.6 * rng.normal(size=groups))
        cluster = np.repeat(np.arange(groups), rng.multinomial(n - 4 * groups, share / share.sum()) + 4)
        x[:, 0] = rng.normal(size=groups)[cluster]
        effect = rng.exponential(size=groups) - 1 if skewed else rng.normal(size=groups)
        error = 0.8 * error + 0.6 * effect[cluster]
    beta = np.linspace(-1, 1, d + 1)
    return table(np.column_stack([x, np.ones(n)]) @ beta + error, x, rng, cluster=cluster), beta


def test_warnings_know_the_number_of_parameters():
    judged, _ = regression(np.random.default_rng(10), 140)
    assert any(
        "only 35 effective labels for 13 parameters" in e for e in pcal(judged, nuisance=LinearNuisance()).warnings
    )
    split = pcal(regression(np.random.default_rng(10))[0], nuisance=LinearNuisance(), calibration="split").warnings
    assert any("learns 26 multipliers for each parameter from 60 effective labels" in each for each in split)


# --- the criterion ------------------------------------------------------------------------------------------------


def uneven(world, n, seed):
    """Return units whose labels err more where the first covariate is large, and the judge's word on them."""
    units = world.units(n, seed, 10.0)
    size = 0.4 + 0.9 * np.abs(units.covariates[:, 0])
    mean = units.covariates @ COEFFICIENT
    label = mean + (units.label - mean) * size
    return replace(units, label=label, verdict=np.where(world.judge.probability(label, units.outputs) >= 0.5, 0, 1))


def delivered(pilots, replicates, make, criterion="x1", n=4000):
    """Return promised and delivered lengths, and those with the default criterion [pilot, replicate]."""
    linear, out = LinearRegression(intercept=False), []
    for pilot in range(pilots):
        world = JudgedWorld.draw(50 + pilot)
        design = pcal_design(make(world, 1000, pilot), budget=3, cost=10, functional=linear, criterion=criterion)
        for replicate in range(replicates):
            full = make(world, n, np.random.default_rng([1, pilot, replicate]))
            p1, p2 = design.probabilities(full)
            bought = buy(full, p1, p2, draw(np.stack([p1, p2], 1), np.random.default_rng([2, pilot, replicate])) + 1)
            lengths = [design.length(n)]
            for each in (criterion, "relative"):
                found = pcal(bought, linear, criterion=each).summary()
                lengths.append(found["upper"][0] - found["lower"][0])
            out.append(lengths)
    return np.array(out).T


def test_the_criterion_is_what_multipliers_make_precise():
    promised, asked, default = delivered(3, 4, uneven)
    assert asked.mean() < 0.98 * default.mean()
    assert (promised > 0).all()


def test_an_unknown_criterion_is_refused():
    judged, _ = regression(np.random.default_rng(11), 300, 2)
    with pytest.raises(DataError, match="criterion='age' must be 'relative'"):
        pcal(judged, criterion="age")


# --- coverage -----------------------------------------------------------------------------------------------------


def coverage(make, functional, truth, replicates, seed=0, criterion="relative"):
    """Return the share of 90 % intervals that hold the truth [parameter], and their mean width."""
    inside, width = [], []
    for replicate in range(replicates):
        judged = make(np.random.default_rng([seed, replicate]))
        found = pcal(judged, functional, LinearNuisance(), folds=3)
        lower, upper = functional.limits(found, found.critical(None))
        inside.append((lower <= truth) & (truth <= upper))
        width.append(upper - lower)
    print(np.mean(inside, 0).round(3), np.mean(width, 0).round(3), np.min(width, 0))
    return np.mean(inside, 0), np.array(width)


LABELS = {
    "ratings": lambda eta, rng: np.clip(np.round(3.6 + 1.1 * (eta + 0.8 * rng.normal(size=len(eta)))), 1, 5),
    "rounded": lambda eta, rng: np.round(4 * (eta + 0.8 * rng.normal(size=len(eta)))) / 2,
    "lognormal": lambda eta, rng: np.exp(eta + 0.8 * rng.normal(size=len(eta))),
    "t3": lambda eta, rng: eta + 0.7 * rng.standard_t(3, len(eta)),
    "zero_inflated": lambda eta, rng: np.where(rng.random(len(eta)) < 0.35, 0, np.exp(eta + rng.normal(size=len(eta)))),
    "bimodal": lambda eta, rng: eta / 2 + np.where(rng.random(len(eta)) < 0.5, -2, 2) + rng.normal(size=len(eta)) / 3,
}


RIGHT = {"ratings": 0.9, "rounded": 0.15, "lognormal": 0.5, "t3": 0.9, "zero_inflated": 0.9, "bimodal": 0.5}


QUANTILES = (0.1, 0.5, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_quantiles_cover(kind):
    """1,000 replicates of 300 units, 75 labels; a coarse scale may cover more often, for its sets are coarse."""
    rng = np.random.default_rng(99)
    many = np.sort(LABELS[kind](0.8 * rng.normal(size=1_000_000), rng))
    truth = np.array([many[int(np.ceil(p * len(many))) - 1] for p in QUANTILES])

    def make(rng):
        x = rng.normal(size=(300, 1))
        return table(LABELS[kind](0.8 * x[:, 0], rng), x, rng, right=RIGHT[kind])

    found, _ = coverage(make, Quantile(QUANTILES), truth, 1000)
    assert (found >= 0.87).all()  # standard error .0095
    if kind in ("lognormal", "t3"):
        assert (found <= 0.93).all()


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "right"), [(80, 0.9), (300, 0.9), (300, 0.5)])
def test_rare_rates_cover(labels, right):
    """A rate of 1 %, 1,000 replicates, a fifth of units labelled: no width is 0.

    80 labels hold .8 events: what they say jumps from .81 to .95, and no interval can cover .90.
    """

    def make(rng):
        x = rng.normal(size=(5 * labels, 1))
        p = 0.01 * np.exp(x[:, 0] - 0.5)  # mean .01
        return table((rng.random(len(x)) < p).astype(float), x, rng, 0.2, right=right)

    found, width = coverage(make, Mean(), 0.01, 1000)
    assert width.min() > 0
    assert found[0] >= 0.87
    if labels > 100:
        assert found[0] <= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "d", "groups", "skewed"),
    [(240, 12, 0, False), (400, 2, 10, False), (400, 2, 20, False), (400, 2, 20, True)],
)
def test_few_labels_and_clusters_cover(n, d, groups, skewed):
    """1,000 replicates; labels for a quarter."""
    beta = regression(np.random.default_rng(0), n, d, groups)[1]
    found, _ = coverage(lambda rng: regression(rng, n, d, groups, skewed)[0], LinearRegression(), beta, 1000)
    assert (np.abs(found - 0.9) <= 0.03).all()


@pytest.mark.slow
def test_stages_of_skewed_labels_cover():
    """A pilot of 60 labels and a batch of 60 among 240; weights by estimated precision cover .77 here."""

    def make(rng):
        n = 300
        label = rng.exponential(size=n) ** 2
        judged = table(label, np.zeros((n, 0)), rng)
        first, p1, p2 = np.arange(n) < 60, np.full(n, 0.25), np.full(n, 0.7)
        p1[first], p2[first] = 1.0, 1.0
        pattern = np.where(first, 1, judged.pattern)
        full = Judged(**{**vars(judged.judged_as(0)), "label": label, "judge": np.zeros(n, int)})
        return Judged(**{**vars(buy(full, p1, p2, pattern)), "stage": (~first).astype(int)})

    found, _ = coverage(make, Mean(), 2.0, 1000)
    assert found[0] >= 0.87


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda world, n, seed: world.units(n, seed, 10.0), uneven])
def test_delivered_intervals_are_as_long_as_promised(make):
    """50 pilots of 1,000 units and 10 replicates each."""
    promised, asked, default = delivered(50, 10, make)
    print(promised.mean(), asked.mean(), default.mean())
    assert asked.mean() == pytest.approx(promised.mean(), rel=0.03)
