"""Ladders of measurements: identities under every pattern, allocations, two rungs as published, PPI, plans."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import ttest_ind

from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.judged.rungs import Rung
from prefdensity.judged.simulate import JudgedWorld, buy
from prefdensity.pcal import GivenNuisance, LinearRegression, Mean, Quantile, RungRegression, ladder, ladder_plan, pcal
from prefdensity.pcal.allocation import allocate, allocate_beside, draw
from prefdensity.pcal.calibration import brackets, influence, multipliers

PRICES = {"model": 0.02, "crowd": 0.6, "panel": 2.0, "label": 8.0}


LADDER = {"model": "model", "crowd": ["crowd"], "panel": ["first", "second"]}


def units(n, seed, worth=1.0):
    """Return a frame where all is seen: a free score, then a model, words of a crowd, two of a panel, a label."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = 2 + 0.8 * x + rng.gamma(4, 0.5, n) - 2
    part = worth * (y - y.mean())
    crowd = np.where(part + rng.normal(size=n) > 0.5, "good", "bad").astype(object)
    first = part + 0.5 * rng.normal(size=n)
    second = part + 0.5 * rng.normal(size=n)
    second[rng.random(n) < 0.3] = np.nan  # not every one of a panel is asked
    return pd.DataFrame(
        {"x": x, "score": 0.3 * part + rng.normal(size=n), "model": 0.6 * part + rng.normal(size=n), "crowd": crowd,
         "first": first, "second": second, "label": y}
    )  # fmt: skip


def measured(frame, **options):
    return Measured.from_frame(frame, ladder=LADDER, covariates=["x"], free=["score"], prices=PRICES, **options)


def bought(n, seed, p=(0.9, 0.6, 0.35, 0.2), worth=1.0):
    """Return a table of what was bought in exact numbers, with probabilities from the poorest rung to the label."""
    chances = np.tile(p[::-1], (n, 1))
    return measured(units(n, seed, worth)).bought(np.array(p), 4 - draw(chances, seed))


# --- identities ---------------------------------------------------------------------------------------------------


def test_brackets_of_four_rungs_are_uncorrelated_and_vanish_in_the_mean():
    """Exact expectations over the five patterns, for arbitrary guesses: identities to 1e-10."""
    rng = np.random.default_rng(0)
    n, d = 200, 3
    psi = rng.normal(size=(n, d))
    guesses = [(rng.normal(size=(n, d)),) for _ in range(4)]
    p = np.sort(rng.uniform(0.05, 1, (n, 4)), axis=1)  # from the label down
    matrices = [[rng.normal(size=(d, d))] for _ in range(4)]
    mean, square = np.zeros((n, d)), np.zeros((d, d))
    expected = psi.T @ psi / n
    for reached in range(5):
        chance = np.append(p, np.ones((n, 1)), 1)[:, reached] - (p[:, reached - 1] if reached else 0.0)
        rungs = [Rung(str(k), np.full(n, reached <= k), p[:, k]) for k in range(4)]
        parts = brackets(rungs, guesses)
        seen = np.full(n, reached == 0)
        value = influence(psi * seen[:, None], seen / p[:, 0], parts, matrices)
        mean += chance[:, None] * value
        square += (chance[:, None] * value).T @ value / n
    np.testing.assert_allclose(mean, psi, atol=1e-10)
    for part, (matrix,) in zip(parts, matrices, strict=True):
        rest = psi - part.guesses[0] @ matrix.T
        expected += (part.variance[:, None] * rest).T @ rest / n
    np.testing.assert_allclose(square, expected, atol=1e-10)  # E[psi psi'] + sum E[variance rest rest']


def test_multipliers_of_four_rungs_are_the_best():
    rng = np.random.default_rng(1)
    psi = rng.normal(size=(500, 1))
    guesses = [(psi * c + rng.normal(size=(500, 1)),) for c in (0.9, 0.5, 0.3, 0.1)]
    p = np.array([0.1, 0.3, 0.5, 0.8])
    rungs = [Rung(str(k), np.ones(500, bool), np.full(500, p[k])) for k in range(4)]
    parts = brackets(rungs, guesses)
    found = [float(each[0][0, 0]) for each in multipliers(psi, np.ones(500), parts, "split")]

    def variance(m):
        rest = (
            ((psi - part.guesses[0] * c) ** 2 * part.variance[:, None]).mean() for part, c in zip(parts, m, strict=True)
        )
        return sum(rest)

    np.testing.assert_allclose(found, minimize(variance, np.zeros(4), tol=1e-12).x, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_four_rungs_are_allocated_as_by_slsqp(seed):
    rng = np.random.default_rng(seed)
    drops, prices = rng.uniform(0.05, 3, 4), rng.uniform(0.2, 5, 4)
    budget = rng.uniform(0.1, 0.7) * prices.sum()
    p = allocate([drops], prices, budget)[0]
    steps = [{"type": "ineq", "fun": lambda q, k=k: q[k + 1] - q[k]} for k in range(3)]
    steps.append({"type": "eq", "fun": lambda q: q @ prices - budget})
    best = minimize(
        lambda q: (drops / q).sum(), np.full(4, budget / prices.sum()), jac=lambda q: -drops / q**2,
        bounds=[(1e-6, 1)] * 4, constraints=steps, method="SLSQP", options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip
    assert p @ prices == pytest.approx(budget, rel=1e-12)
    assert (drops / p).sum() <= best.fun * (1 + 1e-8)
    np.testing.assert_allclose(p, best.x, atol=1e-5)  # at a flat optimum the value is known better than the place


@pytest.mark.parametrize("seed", range(4))
def test_purchases_beside_what_is_owned_are_allocated_as_by_slsqp(seed):
    rng = np.random.default_rng(seed)
    drops, prices, owned = rng.uniform(0.05, 3, 4), rng.uniform(0.2, 5, 4), np.sort(rng.uniform(0, 100, 4))
    money = rng.uniform(0.1, 0.7) * prices.sum() * 200
    p = allocate_beside(drops, prices, money, 200, owned)
    steps = [{"type": "ineq", "fun": lambda q, k=k: q[k + 1] - q[k]} for k in range(3)]
    steps.append({"type": "eq", "fun": lambda q: q @ prices - money / 200})
    best = minimize(
        lambda q: (drops / (owned / 200 + q)).sum(), np.full(4, money / 200 / prices.sum()),
        jac=lambda q: -drops / (owned / 200 + q) ** 2, bounds=[(0, 1)] * 4, constraints=steps, method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip
    assert 200 * p @ prices == pytest.approx(money, rel=1e-12)
    assert (np.diff(p) >= -1e-12).all()
    assert (drops / (owned / 200 + p)).sum() <= best.fun * (1 + 1e-8)
    np.testing.assert_allclose(
        allocate_beside(drops, prices, money, 200, np.zeros(4)), allocate([drops], prices, money / 200)[0], atol=1e-8
    )


def test_the_budget_is_met_to_one_purchase():
    p = np.array([0.1234, 0.2345, 0.4567, 0.789])
    reached = draw(np.tile(p, (997, 1)), 3)
    counts = [(reached <= k).sum() for k in range(4)]
    assert np.abs(counts - 997 * p).max() < 1


# --- one and two rungs --------------------------------------------------------------------------------------------


def test_two_rungs_are_labels_and_preferences():
    """The same brackets and guesses: estimates, errors and degrees of `pcal` on a table of judged units."""
    full = JudgedWorld.draw(2, "lapse").units(800, 3)
    rng = np.random.default_rng(4)
    judged = buy(full, 0.2, 0.6, draw(np.tile([0.2, 0.6], (800, 1)), rng) + 1)
    guesses = rng.normal(size=(2, 800)) + full.label / 2

    class Given:
        def cross_fit(self, table, function, fold):
            return tuple(guesses[:, :, None])

    frame = judged.to_frame().rename(columns={"judge": "said"})
    names = judged.covariate_names
    table = Measured.from_frame(
        frame, ladder={"preference": "said"}, covariates=names, free=["w1", "w2"],
        probabilities={"preference": "preference_probability", "label": "label_probability"},
    )  # fmt: skip
    one = pcal(judged, LinearRegression(), GivenNuisance(*guesses))
    two = ladder(table, LinearRegression(), Given())
    np.testing.assert_allclose(two.theta, one.theta, rtol=1e-12)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-12)
    np.testing.assert_allclose(two.df, one.df, rtol=1e-12)


def test_labels_and_a_free_score_are_prediction_powered_inference():
    """The mean with power-tuning: labels less lambda (their scores less all scores), and its variance."""
    rng = np.random.default_rng(5)
    n, n_labels = 4000, 400
    score = rng.normal(size=n)
    y = score + rng.normal(size=n)
    seen = rng.permutation(n) < n_labels
    frame = pd.DataFrame({"score": score, "label": np.where(seen, y, np.nan), "p": n_labels / n})

    class Score:
        def cross_fit(self, table, function, fold):
            return (table.outputs,)

    table = Measured.from_frame(frame, free=["score"], probabilities={"label": "p"})
    found = ladder(table, Mean(), Score())
    number = float(found.stages[0].matrices[0][0][0, 0])
    centred, other = score[seen] - y[seen].mean(), y[seen] - y[seen].mean()
    assert number == pytest.approx((centred @ other) / (centred @ centred))
    estimate = y[seen].mean() - number * (score[seen].mean() - score.mean())
    assert found.theta[0] == pytest.approx(estimate, rel=1e-12)
    variance = np.var(y - number * score, where=seen) / n_labels + number**2 * np.var(score) / n
    variance += 2 * number * np.cov(y[seen] - number * score[seen], score[seen])[0, 1] / n
    assert found.standard_error[0] == pytest.approx(np.sqrt(variance), rel=0.02)  # less the degrees of few labels


def test_every_rung_shortens_the_interval_and_a_useless_ladder_costs_nothing():
    table = bought(4000, 6)
    lengths = [ladder(table.without(*names)).standard_error[0] for names in (
        ("model", "crowd", "panel"), ("crowd", "panel"), ("panel",), ()
    )]  # fmt: skip
    assert all(more < less for less, more in pairwise(lengths))
    found = ladder(bought(4000, 7, worth=0.0))
    table = found.comparison().set_index("method")["se"]
    assert table["ladder"] < 1.02 * table["labels only"]
    assert not found.warnings


def test_where_nothing_is_free_unlabelled_units_say_nothing():
    """Means of labels outside a fold fall where those within rise: no multiplier is to be learned from that."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"label": rng.normal(size=500)})
    table = Measured.from_frame(frame).bought(np.array([0.1]), 1 - draw(np.tile([0.1], (500, 1)), 3))
    found = ladder(table)
    y = table.label[table.labelled]
    assert found.theta[0] == pytest.approx(y.mean(), rel=1e-12)
    assert found.standard_error[0] == pytest.approx(y.std(ddof=1) / len(y) ** 0.5, rel=1e-9)


def test_functionals_and_clusters_go_with_ladders():
    table = bought(1500, 8)
    for functional in (LinearRegression(), Quantile((0.5,))):
        found = ladder(table, functional)
        assert np.isfinite(found.summary()[["lower", "upper"]].to_numpy()).all()
    from sklearn.linear_model import LinearRegression as Line

    lines = ladder(table, nuisance=RungRegression(Line()))
    assert lines.theta[0] == pytest.approx(ladder(table).theta[0], rel=1e-8)  # a regressor like the default


def test_a_measure_made_otherwise_where_more_is_bought_is_seen():
    frame = units(3000, 9)
    table = measured(frame)
    reached = 4 - draw(np.tile([0.2, 0.35, 0.6, 0.9], (3000, 1)), 9)
    frame["model"] += 0.4 * (reached == 4)  # whoever knows that there is a label sees more
    broken = measured(frame).bought(np.array([0.9, 0.6, 0.35, 0.2]), reached)
    assert not ladder(table.bought(np.array([0.9, 0.6, 0.35, 0.2]), reached)).warnings
    assert any("a measure is made otherwise" in each for each in ladder(broken).warnings)


@pytest.mark.slow
def test_intervals_of_four_rungs_cover():
    """1,000 replicates of 400 units, 80 labels, skewed: standard error .0095."""
    inside = []
    for seed in range(1000):
        row = ladder(bought(400, 1000 + seed)).summary().iloc[0]
        inside.append(row["lower"] <= 2 <= row["upper"])
    print(np.mean(inside))
    assert abs(np.mean(inside) - 0.9) <= 0.03


# --- targets ------------------------------------------------------------------------------------------------------


def test_subgroups_and_their_differences():
    """With labels for all: means, their Welch difference, simultaneous intervals wider than single ones."""
    rng = np.random.default_rng(30)
    segment = np.repeat(["short", "long", "odd"], [60, 90, 50])
    label = rng.normal(size=200) + np.where(segment == "long", 0.5, 0.0)
    frame = pd.DataFrame({"segment": segment, "label": label})
    found = ladder(Measured.from_frame(frame, by="segment"), LinearRegression(intercept=False))
    means = frame.groupby("segment")["label"].mean()
    assert list(found.names) == [f"segment={name}" for name in means.index]
    np.testing.assert_allclose(found.theta, means, atol=1e-10)
    row = found.contrast({"segment=long": 1, "segment=short": -1})
    welch = ttest_ind(label[segment == "long"], label[segment == "short"], equal_var=False)
    assert row["estimate"] / row["se"] == pytest.approx(welch.statistic, rel=1e-6)
    assert row["p_value"] == pytest.approx(welch.pvalue, rel=0.3)  # other degrees of freedom
    assert found.contrast({"segment=long": 1}, against=float(means["long"]))["p_value"] == pytest.approx(1.0)
    bands, single = found.bands(), found.summary()
    assert (bands["upper"] - bands["lower"] > 1.1 * (single["upper"] - single["lower"])).all()
    with pytest.raises(DataError, match="no parameter 'segment=new'"):
        found.contrast({"segment=new": 1.0})
    with pytest.raises(DataError, match="needs a weight that is not 0"):
        found.contrast({})


def test_a_win_rate_and_a_difference_of_two_systems():
    frame = pd.DataFrame({"said": ["win", "tie", "loss", "win"] * 20, "one": np.arange(80.0), "two": 1.0})
    won = ladder(Measured.from_frame(frame, label="said", values={"win": 1, "tie": 0.5, "loss": 0}))
    assert won.theta[0] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    apart = ladder(Measured.from_frame(frame, label="one", minus="two"))
    assert apart.theta[0] == pytest.approx(38.5)
    with pytest.raises(DataError, match="column 'said' holds 'loss' in row 3; values are known of 'win', 'tie'"):
        Measured.from_frame(frame, label="said", values={"win": 1, "tie": 0.5})
    with pytest.raises(DataError, match="only one of 'one' and 'two' has a value in row 6"):
        Measured.from_frame(frame.assign(two=frame["two"].where(frame.index != 5)), label="one", minus="two")
    with pytest.raises(DataError, match="by='said' makes the covariates"):
        Measured.from_frame(frame, label="one", by="said", covariates=["two"])


# --- what is refused ----------------------------------------------------------------------------------------------


def test_bad_tables_are_named():
    frame = units(40, 13)
    with pytest.raises(DataError, match="has no label in row 3 and no probabilities"):
        measured(frame.assign(label=frame["label"].where(frame.index != 2)))
    with pytest.raises(DataError, match="has panel but no crowd in row 5"):
        measured(frame.assign(crowd=frame["crowd"].where(frame.index != 4)))
    with pytest.raises(DataError, match="prices=.* must name every rung and no other: model, crowd, panel, label"):
        Measured.from_frame(frame, ladder=LADDER, prices={"label": 2.0})
    with pytest.raises(DataError, match="price of 'crowd' must be positive"):
        Measured.from_frame(frame, ladder=LADDER, prices=PRICES | {"crowd": 0.0})
    with pytest.raises(DataError, match="'judge' is no rung that can be left out"):
        measured(frame).without("judge")
    with pytest.raises(DataError, match="column 'model' holds 'good' in row 4 among numbers"):
        measured(frame.assign(model=frame["model"].astype(object).where(frame.index != 3, "good")))
    with pytest.raises(DataError, match="buys too few labels"):
        ladder_plan(measured(units(100, 14)), money=5.0, units=1000)
    chances = {name: f"p {name}" for name in PRICES}
    wrong = frame.assign(**{"p model": 1.0, "p crowd": 0.5, "p panel": 0.6, "p label": 0.2})
    with pytest.raises(DataError, match="probability of panel exceeds that of crowd in row 1"):
        measured(wrong, probabilities=chances)
