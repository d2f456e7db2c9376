"""Exact optima against the measured tables and against closed forms; no sampling, so no false alarms."""

import itertools

import numpy as np
import pytest
from scipy.special import expit, ndtr

from prefdensity.density import policies, toy
from prefdensity.density.implicit import Domain, kl, normalise, tv
from prefdensity.density.misspecified import PBDE, law, optimum, target, win_rate, winner_density
from prefdensity.errors import DataError, FitError

GRID = toy.domain(800)
TRUTH, KINDS, BASE = toy.preference(GRID), toy.annotators(GRID), toy.pretrained(GRID)
DELTA = TRUTH.log_p[:, None] - TRUTH.log_p


def two_annotators(weights):
    return sum(w * law(u) for w, u in zip(weights, KINDS.log_p, strict=True))


# TV to narrow, wide, mixture, proposal; KL(narrow, wide, mixture || q), KL(q || mixture); mode, mean, sd
BLUR = {
    (0.4, 0.6): [0.886, 0.532, 0.486, 0.211, 2.463, 0.779, 0.780, 3.772, 1.49, 0.62, 3.16],
    (0.5, 0.5): [0.850, 0.612, 0.535, 0.196, 2.142, 1.013, 0.884, 4.818, -2.16, -0.04, 3.24],
}


@pytest.mark.parametrize("weights", BLUR)
def test_two_annotators_taken_for_one(weights):
    found = optimum(two_annotators(weights), BASE)
    assert found.residual < 1e-10
    assert found.steps <= 10
    q, mixed = found.density, toy.preference(GRID, weights)
    x, share = GRID.points, found.density.probability
    mean = share @ x
    expected = BLUR[weights]
    distances = [*tv(KINDS, q), tv(mixed, q), tv(BASE, q)]
    np.testing.assert_allclose(distances, expected[:4], atol=0.005)
    np.testing.assert_allclose([*kl(KINDS, q), kl(mixed, q), kl(q, mixed)], expected[4:8], atol=0.01)
    np.testing.assert_allclose(x[share.argmax()], expected[8], atol=0.013)  # half a cell
    np.testing.assert_allclose([mean, np.sqrt(share @ (x - mean) ** 2)], expected[9:], atol=0.006)


def test_the_two_laws_differ_though_the_ingredients_are_the_same():
    weight = BASE.probability
    gap = np.abs(two_annotators(toy.WEIGHTS) - law(TRUTH.log_p))
    assert weight @ gap @ weight == pytest.approx(0.22, abs=0.005)


def test_the_proposal_matters_little_here_and_only_under_misspecification():
    flat = normalise(np.zeros(800), GRID)
    table = two_annotators(toy.WEIGHTS)
    moved = tv(optimum(table, BASE).density, optimum(table, flat).density)
    assert moved == pytest.approx(0.028, abs=0.002)
    smooth = normalise(-np.abs(GRID.points) / 3, GRID)
    for proposal in (BASE, flat):
        assert tv(optimum(law(smooth.log_p), proposal).density, smooth) < 1e-8


IGNORED = {
    "lapse .02": (0.98 * expit(DELTA) + 0.01, 0.030, 0.006),
    "lapse .10": (0.90 * expit(DELTA) + 0.05, 0.133, 0.084),
    "lapse .30": (0.70 * expit(DELTA) + 0.15, 0.329, 0.374),
    "position .5": ((expit(DELTA + 0.5) + expit(DELTA - 0.5)) / 2, 0.014, 0.001),
    "position 1": ((expit(DELTA + 1) + expit(DELTA - 1)) / 2, 0.051, 0.010),
    "position 2": ((expit(DELTA + 2) + expit(DELTA - 2)) / 2, 0.149, 0.080),
    "temperature x .5": (expit(0.5 * DELTA), 0.182, 0.122),
    "temperature x 2": (expit(2 * DELTA), 0.275, 0.272),
    "temperatures .3, 3": ((expit(0.3 * DELTA) + expit(3 * DELTA)) / 2, 0.094, 0.051),
    "probit": (law(TRUTH.log_p, lambda d: ndtr(d / np.sqrt(2))), 0.058, 0.016),
}


@pytest.mark.parametrize("effect", IGNORED)
def test_cost_of_ignoring(effect):
    table, distance, divergence = IGNORED[effect]
    found = optimum(table, BASE)
    assert found.residual < 1e-10
    assert tv(found.density, TRUTH) == pytest.approx(distance, abs=0.003)
    assert kl(TRUTH, found.density) == pytest.approx(divergence, abs=0.003)


POLICIES = {
    **{("dpo", beta): tv for beta, tv in ((1, 0.028), (4, 0.311), (16, 0.480))},
    **{("geometric", alpha): tv for alpha, tv in ((1, 0.0), (1 / 4, 0.313), (1 / 16, 0.482))},
    **{("ipo", tau): tv for tau, tv in ((0.1, 0.052), (0.5, 0.423), (1, 0.514))},
}


@pytest.mark.parametrize(("objective", "strength"), POLICIES)
def test_policies_are_not_the_density(objective, strength):
    aim = win_rate(law(TRUTH.log_p), BASE) if objective == "ipo" else TRUTH
    policy = getattr(policies, objective)(BASE, aim, strength)
    assert tv(policy, TRUTH) == pytest.approx(POLICIES[objective, strength], abs=0.003)


# --- closed forms, on a density that is nowhere tiny, so that log densities can be compared ---

X = np.linspace(-2, 2, 81)
LINE = Domain.grid(-2, 2, 81, rule="trapezoid")
P = normalise(np.sin(2 * X) - X**2 / 2, LINE)
PRIOR = normalise(-((X - 0.5) ** 2) / 3, LINE)
TILT = 1 + 0.3 * X**2


def same(found, log_density):
    np.testing.assert_allclose(found.log_p, normalise(log_density, LINE).log_p, atol=1e-8)


CLOSED = {
    "luce, dpo": (PBDE.luce(), PBDE.dpo(3.0, PRIOR), PRIOR.log_p + P.log_p / 3),
    "luce, geometric": (PBDE.luce(), PBDE.geometric(0.25, PRIOR), 0.25 * P.log_p + 0.75 * PRIOR.log_p),
    "luce, geometric 1": (PBDE.luce(), PBDE.geometric(1.0, PRIOR), P.log_p),
    "dpo, dpo": (PBDE.dpo(4.0, PRIOR), PBDE.dpo(4.0, PRIOR), P.log_p),
    "tempered, luce": (PBDE.tempered(2.5), PBDE.luce(), 2.5 * P.log_p),
    "length, luce": (PBDE.length_normalised(TILT, 3.0), PBDE.luce(), 3 * P.log_p / TILT),
    "length, length": (PBDE.length_normalised(TILT, 3.0), PBDE.length_normalised(TILT, 3.0), P.log_p),
    "biased, biased": (PBDE.covariate_bias(0.7, X), PBDE.covariate_bias(0.7, X), P.log_p),
    "biased, luce": (PBDE.covariate_bias(0.7, X), PBDE.luce(), P.log_p + 0.7 * X),
    "negative f": (PBDE(-TILT, X), PBDE(-TILT, X), P.log_p),
}


@pytest.mark.parametrize("case", CLOSED)
def test_targets(case):
    annotator, model, log_density = CLOSED[case]
    found = target(annotator, model, P)
    same(found, log_density)
    # the score of the target reproduces the annotators' preferences
    np.testing.assert_allclose(model.law(found), annotator.law(P), atol=1e-8)


def test_the_free_utility_of_a_pbde_is_its_score():
    for annotator in (PBDE.dpo(4.0, PRIOR), PBDE.length_normalised(TILT, 3.0), PBDE.covariate_bias(2.0, X)):
        same(optimum(annotator.law(P), PRIOR).density, annotator.score(P))


def test_policies_are_targets():
    np.testing.assert_allclose(policies.dpo(PRIOR, P, 3.0).log_p, target(*CLOSED["luce, dpo"][:2], P).log_p)
    regularised = policies.kl_regularised(PRIOR, P.log_p + 7.0, 3.0)
    np.testing.assert_allclose(regularised.log_p, policies.dpo(PRIOR, P, 3.0).log_p, atol=1e-12)
    flat = normalise(np.zeros(81), LINE)
    same(policies.dpo(flat, P, 1.0), P.log_p)
    blended = target(*CLOSED["luce, geometric"][:2], P)
    np.testing.assert_allclose(policies.geometric(PRIOR, P, 0.25).log_p, blended.log_p, atol=1e-12)
    rate = win_rate(law(P.log_p), PRIOR)
    ratio = policies.ipo(PRIOR, rate, 0.5).log_p - PRIOR.log_p
    np.testing.assert_allclose(ratio - ratio[0], (rate - rate[0]) / 0.5, atol=1e-12)
    assert np.ptp(ratio) < 1 / 0.5


def test_the_regularised_policy_maximises_its_objective():
    best = policies.kl_regularised(PRIOR, np.sin(X), 0.4)

    def value(policy):
        return policy.probability @ np.sin(X) - 0.4 * kl(policy, PRIOR)

    for bump in (np.cos(X), X, X**2):
        assert value(normalise(best.log_p + 0.05 * bump, LINE)) < value(best)


@pytest.mark.parametrize("beta", [0.3, 2.0, 5.0])
def test_temperature_is_the_sharpness_of_a_normal_density(beta):
    grid = Domain.grid(-30, 30, 4000)
    p = normalise(-(grid.points**2) / 2, grid)
    q = target(PBDE.tempered(beta), PBDE.luce(), p)
    assert kl(p, q) == pytest.approx((beta - 1 - np.log(beta)) / 2, abs=1e-8)


def test_a_position_effect_and_a_lapse_are_fitted_exactly_where_only_two_points_differ():
    two = Domain.items(["good", "bad"])
    p = normalise([1.3, 0.0], two)
    flat = normalise([0.0, 0.0], two)
    lapsed = 0.8 * law(p.log_p) + 0.1
    found = optimum(lapsed, flat).density.log_p
    assert found[0] - found[1] == pytest.approx(np.log(lapsed[0, 1] / lapsed[1, 0]), abs=1e-8)
    b, e = 0.9, np.exp(1.3)
    ordered = (law(p.log_p, lambda d: expit(d + b)) + law(p.log_p, lambda d: expit(d - b))) / 2
    found = optimum(ordered, flat).density.log_p
    formula = 1.3 + np.log((e + np.cosh(b)) / (1 + e * np.cosh(b)))
    assert found[0] - found[1] == pytest.approx(formula, abs=1e-8)


def test_length_mismatch():
    # all strings of two tokens, 1 to 10 long: P(length) falls by .75 each, the first token has probability .7
    strings = [s for n in range(1, 11) for s in itertools.product((0, 1), repeat=n)]
    length = np.array([len(s) for s in strings])
    ones = np.array([sum(s) for s in strings])
    every = Domain.items(["".join(map(str, s)) for s in strings])
    p = normalise(length * np.log(0.75) + (length - ones) * np.log(0.7) + ones * np.log(0.3), every)
    assert p.probability @ length == pytest.approx(3.40, abs=0.005)
    by_length = PBDE.length_normalised(length, 10)

    q = target(by_length, PBDE.luce(), p)
    assert [q.probability @ length, tv(p, q), kl(p, q)] == pytest.approx([9.12, 0.830, 6.67], abs=0.005)
    q = target(PBDE.luce(), by_length, p)
    assert [q.probability @ length, tv(p, q), kl(p, q)] == pytest.approx([1.63, 0.416, 1.31], abs=0.005)
    constant = 10 / length * q.log_p - p.log_p
    np.testing.assert_allclose(constant, -10.293, atol=0.001)  # a tilt by length that normalisation forces
    assert tv(target(by_length, by_length, p), p) < 1e-9


def test_hidden_context_makes_the_fit_jump_where_expected_utility_does_not():
    # utility x below .8; above it 0 or 2x with even odds, for each alternative apart
    grid = Domain.grid(0, 1, 500)
    x = grid.points
    values = np.stack([np.where(x < 0.8, x, 0), np.where(x < 0.8, x, 2 * x)])
    wins = sum((a[:, None] > b) + 0.5 * (a[:, None] == b) for a in values for b in values) / 4
    flat = normalise(np.zeros(500), grid)
    closed = np.where(x < 0.8, x + 0.1, 0.275 + 0.25 * x)
    np.testing.assert_allclose(win_rate(wins, flat), closed, atol=1e-3)
    found = optimum(wins.clip(1e-6, 1 - 1e-6), flat)
    assert found.residual < 1e-10
    assert (np.diff(found.density.log_p[np.argsort(closed)]) > -1e-9).all()
    utility = found.density.log_p - flat.probability @ found.density.log_p
    edge = np.searchsorted(x, 0.8)
    # 2.767 and -.132 in the limit of a fine grid
    assert [utility[edge - 1], utility[edge]] == pytest.approx([2.756, -0.130], abs=0.002)


def test_the_histogram_of_winners_is_a_tempered_density():
    grid = Domain.grid(-2, 2, 2000)
    p = normalise(np.sin(2 * grid.points) - grid.points**2 / 2, grid)
    flat = normalise(np.zeros(2000), grid)
    table = law(p.log_p)
    winners = winner_density(table, flat)
    np.testing.assert_allclose(winners.p, 2 * flat.p * win_rate(table, flat), rtol=1e-12)
    tempering = win_rate(table, flat) / ((table * table.T) @ flat.probability)
    slopes = [np.gradient(each.log_p, grid.points)[1:-1] for each in (p, winners)]
    np.testing.assert_allclose(slopes[0], tempering[1:-1] * slopes[1], atol=1e-4)
    assert tempering.min() > 1.2
    assert tv(winners, p) > 0.05


def test_unequal_types_of_judgements_can_prefer_in_a_circle():
    around = [0, 1, 2], [1, 2, 0]
    first, second = law([-0.5, 0.0, 0.5]), law([0.78, 0.0, -0.78])
    circle = (0.6 * first + 0.4 * second)[around]
    np.testing.assert_allclose(circle, [0.5008, 0.5008, 0.5081], atol=5e-5)
    # two types of equal weight cannot: sigmoid(c) + sigmoid(d) > 1 if and only if c + d > 0
    u, v = np.random.default_rng(0).normal(size=(2, 200))
    np.testing.assert_array_equal(law(u) + law(v) > 1, law(u + v) > 0.5)


# --- refusals ---


def test_a_behaviour_that_identifies_nothing_is_refused():
    for f in (X, np.where(X > 0, 1.0, 0.0), 0.0):
        with pytest.raises(DataError, match="second density"):
            PBDE(f)
    # the second density, for a sign that changes at 0: it swaps the masses of the two sides
    sign, right = np.where(X > 0, 1.0, -1.0), P.mass(X > 0)
    other = P.log_p + np.log((1 - right) / right) / sign
    assert np.exp(other + LINE.log_volume).sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(law(sign * other), law(sign * P.log_p), atol=1e-12)


def test_no_optimum_no_answer():
    three = Domain.items("xyz")
    flat = normalise(np.zeros(3), three)
    with pytest.raises(FitError, match="always win"):
        optimum(np.array([[0.5, 1, 1], [0, 0.5, 0.5], [0, 0.5, 0.5]]), flat)
    with pytest.raises(DataError, match="these are not"):
        optimum(np.full((3, 3), 0.6), flat)
    with pytest.raises(DataError, match="shape"):
        optimum(np.full((2, 2), 0.5), flat)
    with pytest.raises(DataError, match="vanishes"):
        optimum(np.full((3, 3), 0.5), normalise([0.0, 0.0, -np.inf], three))
    with pytest.raises(DataError, match="beta"):
        policies.dpo(flat, flat, 0.0)
    with pytest.raises(DataError, match="reference and preference"):
        policies.dpo(flat, P, 1.0)
