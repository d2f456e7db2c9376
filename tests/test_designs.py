"""Allocations against a general optimiser, sampling, and designs learned from pilots."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from prefdensity.errors import DataError
from prefdensity.judged.simulate import JudgedWorld
from prefdensity.pcal import LinearNuisance, LinearRegression, Quantile, pcal_design
from prefdensity.pcal.allocation import allocate, allocate_worst_case, draw


def slsqp(drops, prices, budget, floor):
    """The same problem by sequential quadratic programming."""
    n, size = drops.shape
    prices = np.asarray(prices)
    cost = np.tile(prices / n, n)

    def inside(p):
        return np.diff(p.reshape(n, size), axis=1).ravel()

    difference = np.zeros((n * (size - 1), n * size))
    for row in range(n * (size - 1)):
        unit, level = divmod(row, size - 1)
        difference[row, unit * size + level : unit * size + level + 2] = -1, 1
    found = minimize(
        lambda p: (drops.ravel() / p).mean(), np.full(n * size, budget / prices.sum()),
        jac=lambda p: -drops.ravel() / p**2 / (n * size), bounds=[(max(floor, 1e-4), 1)] * (n * size), method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda p: budget - cost @ p, "jac": lambda p: -cost},
                     {"type": "ineq", "fun": inside, "jac": lambda p: difference}],
        options={"ftol": 1e-16, "maxiter": 2000},
    )  # fmt: skip
    return found.x.reshape(n, size)


def value(drops, p):
    return (drops / p).sum(1).mean()


@pytest.mark.parametrize("seed", range(12))
def test_allocations_equal_slsqp(seed):
    rng = np.random.default_rng(seed)
    n, size = ((1, 2), (6, 2), (5, 4))[seed % 3]
    drops = rng.gamma(0.7, size=(n, size)) + 0.01
    prices = rng.uniform(0.5, 8, size)
    budget, floor = prices.sum() * rng.uniform(0.15, 0.9), 0.05
    p = allocate(drops, prices, budget, floor)
    best = slsqp(drops, prices, budget, floor)
    assert (p @ prices).mean() == pytest.approx(budget, rel=1e-12)
    assert (np.diff(p, axis=1) >= -1e-15).all()
    assert ((p >= floor) & (p <= 1)).all()
    assert value(drops, p) <= value(drops, best) * (1 + 1e-8)
    assert value(drops, p) == pytest.approx(value(drops, best), rel=1e-8)


def test_the_constant_allocation_is_its_closed_form():
    label, preference, tau, c = 83.6, 143.0, 3.0, 10.0
    r, s = np.sqrt(label / (c - 1)), np.sqrt(preference)
    p = allocate([[label, preference]], (c - 1, 1.0), tau)[0]
    np.testing.assert_allclose(p, np.array([r, s]) * tau / ((c - 1) * r + s), rtol=1e-12)
    # all preferences: the rest goes into labels
    np.testing.assert_allclose(allocate([[1.0, 100.0]], (9, 1), 3.0)[0], [2 / 9, 1.0], rtol=1e-12)


@pytest.mark.parametrize("preference", [0.0, -5.0, 8.0])
def test_preferences_that_explain_too_little_are_not_bought(preference):
    # worth it only if preference * (c - 1) > label
    p = allocate([[100.0, preference]], (9.0, 1.0), 3.0)[0]
    np.testing.assert_allclose(p, [0.3, 0.3], rtol=1e-12)


def test_more_than_everything_buys_everything():
    np.testing.assert_array_equal(allocate([[1.0, 2.0]], (9.0, 1.0), 10.0), [[1, 1]])
    np.testing.assert_array_equal(allocate([[1.0, 2.0]], (9.0, 1.0), 25.0), [[1, 1]])


@pytest.mark.parametrize("drops", [np.zeros((3, 2)), -np.ones((3, 2))])
def test_nothing_to_gain_spends_evenly(drops):
    np.testing.assert_allclose(allocate(drops, (9.0, 1.0), 3.0), 0.3)


@pytest.mark.parametrize("floor", [0.02, 0.1, 0.2])
def test_nobody_falls_below_the_floor(floor):
    """Of one level: the square root of what is gained, the floor where that is less; the others share the rest."""
    drops = np.array([100.0, 81.0, 1e-6, 1e-8])[:, None]
    p = allocate(drops, (1.0,), 0.3, floor)[:, 0]
    left = 4 * 0.3 - 2 * floor
    np.testing.assert_allclose(p, [left * 10 / 19, left * 9 / 19, floor, floor], rtol=1e-12)
    without = allocate(drops, (1.0,), 0.3)[:, 0]
    assert without[2] < 1e-3


def test_one_unit_with_everything_to_gain_does_not_starve_the_rest():
    drops = np.zeros((50, 2))
    drops[0] = 1.0
    p = allocate(drops, (9.0, 1.0), 3.0, 0.02)
    assert p[0].tolist() == [1, 1]
    assert (p @ [9.0, 1.0]).mean() == pytest.approx(3.0, rel=1e-12)


@pytest.mark.parametrize(("budget", "floor", "says"), [(0.0, 0.0, "must be positive"), (-1.0, 0.0, "must be positive"),
                                                       (np.nan, 0.0, "must be positive"), (1.0, 0.5, "costs 5 a unit"),
                                                       (1.0, 1.5, "must lie in")])  # fmt: skip
def test_impossible_budgets_are_refused(budget, floor, says):
    with pytest.raises(DataError, match=says):
        allocate([[1.0, 2.0]], (9.0, 1.0), budget, floor)


def test_the_worst_case_has_its_certificate():
    rng = np.random.default_rng(2)
    quality = rng.uniform(0, 0.7, size=(12, 1))
    size = rng.gamma(2.0, size=(1, 30)) * 100
    drops = np.stack([(1 - quality) * size, quality * size], -1)
    p, worst, bound = allocate_worst_case(drops, (9.0, 1.0), 3.0, 0.02)
    assert (p @ [9.0, 1.0]).mean() == pytest.approx(3.0, rel=1e-10)
    assert bound <= worst <= bound * (1 + 2e-3)
    average = allocate(drops.mean(0), (9.0, 1.0), 3.0, 0.02)
    assert worst <= (drops / average).sum(2).mean(1).max()


def test_systematic_draws_keep_probabilities_and_cost():
    rng = np.random.default_rng(0)
    p2 = rng.uniform(0.2, 1, 400)
    p = np.stack([p2 * rng.uniform(0.1, 1, 400), p2], 1)
    reps = 4000
    taken, costs = np.zeros((400, 2)), []
    for seed in range(reps):
        level = draw(p, seed)
        bought = np.stack([level == 0, level <= 1], 1)
        taken += bought
        costs.append((bought @ [9.0, 1.0]).sum())
    z = (taken / reps - p) / np.sqrt(p * (1 - p) / reps + 1e-12)
    assert np.abs(z[p < 1 - 1e-9]).max() < 4.8  # 800 looks: one false alarm in 800
    assert np.abs(np.array(costs) - (p @ [9.0, 1.0]).sum()).max() < 2.5 * 9


@pytest.fixture(scope="module")
def pilot():
    return JudgedWorld.draw(0).units(2000, 1)


LINEAR = LinearRegression(intercept=False)


def test_the_design_is_near_the_best_one(pilot):
    constant = pcal_design(pilot, budget=3.0, functional=LINEAR, criterion="x1", aware=False)
    assert constant.length(20_000) == pytest.approx(0.543, rel=0.04)  # the efficiency bounds; a pilot estimates them
    aware = pcal_design(pilot, budget=3.0, functional=LINEAR, criterion="x1")
    assert aware.length(20_000) == pytest.approx(0.458, rel=0.06)
    assert aware.length(20_000) < constant.length(20_000)


def test_the_cost_precision_curve_falls_and_turns_back(pilot):
    design = pcal_design(pilot, budget=3.0, functional=LINEAR, criterion="x1")
    curve = design.curve(20_000, [1, 2, 4, 8])
    assert (np.diff(curve["length"]) < 0).all()
    budget = design.budget_for(curve["length"][1], 20_000)
    assert budget == pytest.approx(2.0, rel=1e-6)
    with pytest.raises(DataError, match="needs more units"):
        design.budget_for(1e-3, 20_000)


def test_tables_are_planned_and_drawn_at_the_budget(pilot):
    design = pcal_design(pilot, budget=3.0, functional=LINEAR, criterion="x1")
    new = JudgedWorld.draw(0).units(3000, 9).to_frame().drop(columns=["judge", "label"])
    planned = design.assign(new, seed=4)
    cost = 9 * planned["label_probability"] + planned["preference_probability"]
    assert cost.mean() == pytest.approx(3.0, rel=1e-12)
    spent = 10 * (planned["buy"] == "label") + (planned["buy"] == "preference")
    assert spent.sum() == pytest.approx(9000, abs=25)
    with pytest.raises(DataError, match="no column 'w2'"):
        design.apply(new.drop(columns="w2"))


@pytest.mark.parametrize("aware", [False, True])
def test_a_budget_above_the_price_of_labels_labels_everybody(pilot, aware):
    p1, p2 = pcal_design(pilot, budget=12.0, functional=LINEAR, criterion="x1", aware=aware).probabilities(pilot)
    assert (p1 == 1).all()
    assert (p2 == 1).all()


@pytest.mark.parametrize("aware", [False, True])
def test_a_judge_without_information_sells_nothing(pilot, aware):
    rng = np.random.default_rng(3)
    deaf = pilot.judged_as(0)
    object.__setattr__(deaf, "verdict", rng.integers(0, 2, len(pilot)))
    design = pcal_design(deaf, budget=3.0, functional=LINEAR, aware=aware)
    p1, p2 = design.probabilities(deaf)
    np.testing.assert_allclose(p1, p2, rtol=1e-9)


def test_ties_everywhere_sell_nothing(pilot):
    design = pcal_design(pilot.judged_as(2), budget=3.0, functional=LINEAR)
    p1, p2 = design.probabilities(pilot)
    np.testing.assert_allclose(p1, p2, rtol=1e-9)


def test_other_nuisances_and_functionals_plan_too(pilot):
    linear = pcal_design(pilot, budget=3.0, functional=LINEAR, nuisance=LinearNuisance(), criterion=np.eye(5)[0])
    assert linear.length(20_000) < 0.5
    median = pcal_design(pilot, budget=3.0, functional=Quantile(), criterion="trace")
    p1, p2 = median.probabilities(pilot)
    assert p1.mean() < p2.mean()
    assert np.ptp(p1) == 0
    whole = pcal_design(pilot, budget=30.0, functional=LINEAR)
    assert (np.array(whole.probabilities(pilot)) == 1).all()


@dataclass
class Unsure:
    """A nuisance whose judge may be excellent or useless."""

    inner: object
    labels_only = True

    def fit(self, train):
        return self

    def variance_drop(self, units):
        drop = self.inner.variance_drop(units)
        total = drop.explained + drop.left
        quality = np.array([[0.0], [0.3], [1.0]])
        return type(drop)(quality * drop.explained, total - quality * drop.explained)


def test_a_design_for_the_worst_judge_buys_more_labels(pilot):
    fine = pcal_design(pilot, budget=3.0, functional=LINEAR, criterion="x1")
    shares = []
    for robust in ("average", "worst"):
        each = type(fine)(**{**vars(fine), "expectation": Unsure(fine.expectation), "robust": robust})
        shares.append(each.probabilities(pilot)[0].mean())
    assert shares[1] > shares[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0.0}, "budget=0.0 must be positive"),
        ({"budget": 0.1, "floor": 0.05}, "costs 0.5 a unit"),
        ({"cost": 0.5}, "must exceed 1"),
        ({"criterion": "x9"}, "criterion='x9'"),
        ({"criterion": -np.eye(5)}, "positive semidefinite"),
        ({"robust": "best"}, "one of average, worst"),
        ({"functional": LinearRegression(("x9",))}, "no covariate 'x9'"),
    ],
)
def test_bad_designs_are_refused(pilot, options, says):
    with pytest.raises(DataError, match=says):
        pcal_design(pilot, **({"budget": 3.0, "functional": LINEAR} | options))


def test_frames_survive(pilot):
    frame = pd.DataFrame(pilot.covariates, columns=list(pilot.features[:-2])).assign(w1=0.0, w2=1.0, note="kept")
    planned = pcal_design(pilot, budget=3.0, functional=LINEAR).apply(frame)
    assert planned["note"].eq("kept").all()
