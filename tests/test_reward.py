"""The augmented estimating equation: identities first, then its behaviour over replicates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from scipy.special import expit

from benchmarks import reward_worlds
from benchmarks.reward import predicted, run
from prefdensity.errors import FitError
from prefdensity.reward import reward_from_differences
from prefdensity.reward.convex import margins, moment, solve
from prefdensity.reward.equation import Equation, Fresh, Labelled
from prefdensity.reward.losses import ipo, vr_margin_loss


def problem(seed=0, n=300, m=500, p=4, exact=False):
    rng = np.random.default_rng(seed)
    x, away = rng.normal(size=(n, p)), rng.normal(size=(m, p))
    truth = rng.normal(size=p)
    z = (rng.random(n) < expit(x @ truth + np.sin(3 * x[:, 0]))).astype(float)
    share = rng.dirichlet(np.ones(m)) if exact else np.full(m, 1 / m)
    return Equation(
        Labelled(x, z, rng.uniform(0.05, 0.95, n), np.ones(n)),
        Fresh(away, rng.uniform(0.05, 0.95, m), share, math.inf if exact else m),
    )


# -- the algebra --


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_the_solution_minimises_the_three_term_loss(lambda_):
    e = problem()
    one, away = e.labelled, e.fresh
    fixed = [torch.tensor(each) for each in (one.x, one.g, away.x, away.g, one.z)]

    def loss(theta):
        t = torch.tensor(theta, requires_grad=True)
        x, g, y, h, z = fixed
        total = vr_margin_loss(x @ t, g, y @ t, h, z=z, lambda_=lambda_, clip=None).total
        return float(total.detach()), torch.autograd.grad(total, t)[0].numpy()

    theta, exists = e.solve(lambda_)
    assert exists
    assert np.abs(loss(theta)[1]).max() < 1e-12
    np.testing.assert_allclose(minimize(loss, np.zeros(4), jac=True, tol=1e-12).x, theta, atol=1e-5)


def two_auxiliaries(seed, quality):
    """A problem whose two auxiliaries lie between the truth and noise."""
    e, rng = problem(seed, n=400, m=600, exact=True), np.random.default_rng([seed, 1])
    truth = np.linalg.lstsq(e.labelled.x, np.where(e.labelled.z == 1, 1.5, -1.5), rcond=None)[0]
    made = []
    for each in quality:
        near = [
            expit(each * (x @ truth + np.sin(3 * x[:, 0])) + rng.normal(size=len(x))) for x in (e.labelled.x, e.fresh.x)
        ]
        made.append(near)
    return Equation(replace(e.labelled, g=made[0][0]), replace(e.fresh, g=made[0][1])), tuple(made[1])


def test_two_auxiliaries_with_a_lambda_each_are_one_between_them():
    e, (g, away_g) = two_auxiliaries(2, (1.0, 0.3))
    one, away = e.labelled, e.fresh
    for total in (0.4, 1.0):
        mixed, share = e.mixed((g, away_g), total)
        first, second = total * (1 - share), total * share
        theta = mixed.solve(total).theta
        p, q = expit(one.x @ theta), expit(away.x @ theta)
        own = ((p - one.z) - first * (p - one.g) - second * (p - g)) @ one.x / 400
        fresh = (away.share * (first * (q - away.g) + second * (q - away_g))) @ away.x
        np.testing.assert_allclose(own + fresh, 0, atol=1e-9)


@pytest.mark.parametrize("quality", [(1.0, 0.3), (0.2, 1.0), (1.0, -1.0), (-1.0, -0.5), (0.8, 0.8), (1.0, 1.0)])
@pytest.mark.parametrize("total", [None, 0.0, 0.5, 1.0])
def test_the_mixture_of_two_auxiliaries_has_the_least_variance(quality, total):
    e, other = two_auxiliaries(3, quality)
    mixed, share = e.mixed(other, total)

    def variance(equation, lambda_):
        return float(equation.efficiency.ratio(lambda_))

    used = float(mixed.efficiency.best()) if total is None else total
    found = variance(mixed, used)
    for part in np.linspace(0, 1, 21):
        g, away = ((1 - part) * a + part * b for a, b in zip((e.labelled.g, e.fresh.g), other, strict=True))
        there = Equation(replace(e.labelled, g=g), replace(e.fresh, g=away))
        for lambda_ in np.linspace(0, 1, 21) if total is None else (total,):
            assert variance(there, lambda_) >= found - 1e-9, (part, lambda_)
    assert 0 <= share <= 1


def test_the_same_auxiliary_twice_is_that_auxiliary():
    e = problem(n=200)
    mixed, _ = e.mixed((e.labelled.g, e.fresh.g), None)
    np.testing.assert_allclose(mixed.labelled.g, e.labelled.g, atol=1e-12)
    assert float(mixed.efficiency.best()) == pytest.approx(float(e.efficiency.best()), abs=1e-9)


def test_recalibration_does_not_take_the_gain_of_an_auxiliary_away():
    """Twenty items and few votes: a recalibration of 20 coefficients spoils what knows the truth."""
    rng, count, ratios = np.random.default_rng(4), 20, []
    a, b = (each.ravel() for each in np.nonzero(~np.eye(count, dtype=bool)))
    skew = rng.normal(size=(count, count))
    truth = expit(0.4 * (u := rng.normal(size=count))[a] - 0.4 * u[b] + 1.5 * (skew - skew.T)[a, b] / np.sqrt(2))
    basis = np.linalg.qr(np.eye(count)[:, :-1] - 1 / count)[0]
    x, share = basis[a] - basis[b], np.full(len(a), 1 / len(a))
    for _ in range(12):
        rows = rng.integers(len(a), size=400)
        z = (rng.random(400) < truth[rows]).astype(float)
        labelled, fresh = Labelled(x[rows], z, truth[rows], np.ones(400)), Fresh(x, truth, share)
        raw, both = (reward_from_differences(labelled, fresh, stack=stack) for stack in (False, True))
        assert "recalibrated" in both.worth() or both.recalibrated == 0
        assert "recalibrated" not in raw.worth()
        ratios.append(both.expected_gain() / raw.expected_gain())
    assert max(ratios) <= 1 + 1e-9  # never expected to be worse
    assert raw.expected_gain() < 0.9  # there is a gain to lose


@pytest.mark.parametrize("lambda_", [0.0, 0.4, 1.0])
def test_swapping_the_sides_changes_neither_estimate_nor_variance(lambda_):
    e = problem(n=200)
    one, away = e.labelled, e.fresh
    flip = np.random.default_rng(1).random(200) < 0.5
    swapped = Equation(
        replace(one, x=np.where(flip[:, None], -one.x, one.x), z=np.where(flip, 1 - one.z, one.z),
                g=np.where(flip, 1 - one.g, one.g)),
        replace(away, x=-away.x, g=1 - away.g),
    )  # fmt: skip
    theta, _ = e.solve(lambda_)
    np.testing.assert_allclose(swapped.solve(lambda_).theta, theta, atol=1e-12)
    np.testing.assert_allclose(swapped.covariance(theta, lambda_), e.covariance(theta, lambda_), atol=1e-14)
    assert swapped.efficiency.best() == pytest.approx(float(e.efficiency.best()), abs=1e-12)


def test_the_squared_loss_has_its_closed_form():
    e, beta = problem(), 0.5
    c = 1 / (2 * beta)
    one, away = e.labelled, e.fresh
    gram = away.x.T @ (away.share[:, None] * away.x)
    side = (away.share * (2 * away.g - 1)) @ away.x + 2 * np.mean((one.z - one.g)[:, None] * one.x, 0)
    h = c * np.linalg.solve(gram, side)  # theta of log-ratios, margin = beta * h
    t = torch.tensor(beta * h, requires_grad=True)
    x, g, y, k, z = (torch.tensor(each) for each in (one.x, one.g, away.x, away.g, one.z))
    total = vr_margin_loss(x @ t, g, y @ t, k, z=z, loss=lambda d: ipo(d, beta), clip=None).total
    assert float(torch.autograd.grad(total, t)[0].abs().max()) < 1e-12


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_an_auxiliary_that_is_the_fit_itself_changes_nothing(exact, lambda_):
    e = problem(exact=exact)
    theta = e.mle.theta
    own = Equation(replace(e.labelled, g=expit(e.labelled.x @ theta)), replace(e.fresh, g=expit(e.fresh.x @ theta)))
    np.testing.assert_allclose(own.solve(lambda_).theta, theta, atol=1e-8)


def test_lambda_zero_is_maximum_likelihood():
    e = problem()
    x, z = e.labelled.x, e.labelled.z
    fit = minimize(lambda t: np.mean(np.logaddexp(0, x @ t) - z * (x @ t)), np.zeros(4), tol=1e-12)
    np.testing.assert_allclose(e.mle.theta, fit.x, atol=1e-5)
    assert np.abs(x.T @ (expit(x @ e.mle.theta) - z)).max() < 1e-9


@pytest.mark.parametrize("name", reward_worlds.WORLDS)
def test_the_oracle_on_the_exact_design_gives_the_projection(name):
    w = reward_worlds.world(name)
    # each cell once as labelled pair with its probability as label: the population
    e = Equation(Labelled(w.d, w.g, np.clip(w.g, 1e-9, 1 - 1e-9), w.design * len(w.g)), Fresh(w.d, w.g, w.design))
    for lambda_ in (0.0, 1.0):
        np.testing.assert_allclose(e.solve(lambda_).theta, w.target, atol=1e-8)
    slope = moment(w.design * (expit(margins(w.d, w.target)) - w.g), w.d)
    assert np.abs(slope).max() < 1e-10


def test_any_auxiliary_is_unbiased_on_the_population():
    w = reward_worlds.world("cyclic")
    for name in ("judge", "half", "random", "inverted"):
        g = w.auxiliary(name)
        e = Equation(Labelled(w.d, w.g, g, w.design * len(g)), Fresh(w.d, g, w.design))
        np.testing.assert_allclose(e.solve(1.0).theta, w.target, atol=1e-8)


def test_drift_weights_reach_the_projection_under_the_other_sampler():
    w = reward_worlds.world("cyclic")
    tilt = np.exp(0.7 * np.random.default_rng(3).normal(size=w.reference.shape))
    other = w.reference * tilt / (w.reference * tilt).sum(1, keepdims=True)
    x, a, b = w.cells.T
    q = other[x, a] * other[x, b] / len(other)
    target = solve([(w.d, q)], moment(q * w.g, w.d)).theta
    assert np.abs(target - w.target).max() > 0.01
    for name in ("judge", "half", "inverted"):
        g = w.auxiliary(name)
        weighted = Equation(Labelled(w.d, w.g, g, q / w.design * w.design * len(g)), Fresh(w.d, g, q))
        np.testing.assert_allclose(weighted.solve(1.0).theta, target, atol=1e-10)


def test_replicates_are_solved_as_they_are_alone():
    sample = reward_worlds.draw(reward_worlds.world("cyclic"), 200, 3, "fresh:300")
    e = sample.equation("judge")
    lam = e.efficiency.best()
    found, _ = e.settle(lam)
    for r in range(3):
        one, away = e.labelled, e.fresh
        alone = Equation(
            Labelled(one.x[r], one.z[r], one.g[r], one.weight), Fresh(away.x[r], away.g[r], away.share, away.size)
        )
        assert float(alone.efficiency.best()) == pytest.approx(lam[r], abs=1e-12)
        np.testing.assert_allclose(alone.solve(lam[r]).theta, found.theta[r], atol=1e-10)
        np.testing.assert_allclose(
            alone.covariance(found.theta[r], lam[r]), e.covariance(found.theta, lam)[r], atol=1e-14
        )


# -- variance --


def test_influence_values_are_derivatives_of_the_estimate():
    e, lambda_ = problem(n=60, m=80), 0.3
    theta, exists = e.solve(lambda_)
    assert exists
    own, away = e.influence(theta, lambda_)
    np.testing.assert_allclose(own.sum(0) + away.sum(0), 0, atol=1e-10)
    step = 1e-5
    for row in (0, 17):
        weight = np.ones(60)
        weight[row] += step  # the row counts a little more
        moved = Equation(replace(e.labelled, weight=weight), e.fresh).solve(lambda_).theta
        np.testing.assert_allclose((moved - theta) / step, own[row], atol=1e-5)


def test_efficiency_is_that_of_margins_from_other_rows():
    """Against refits without each row: at fitted margins the score looks a tenth smaller, and more."""
    e = problem(n=60, m=400, p=5, exact=True)
    one, away, theta = e.labelled, e.fresh, e.mle.theta
    one = replace(one, g=expit(one.x @ theta / 2 + np.random.default_rng(1).normal(size=60)))
    e = Equation(one, replace(away, g=expit(away.x @ theta / 2)))
    p = np.empty(60)
    for row in range(60):
        rest = np.delete(np.arange(60), row)
        without = Labelled(one.x[rest], one.z[rest], one.g[rest], one.weight[rest])
        p[row] = expit(one.x[row] @ Equation(without, away).mle.theta)

    def traces(p):
        fit = expit(one.x @ theta)
        bread = np.linalg.inv((one.x * (fit * (1 - fit))[:, None]).T @ one.x / 60)
        score, own = ((p - each)[:, None] * one.x for each in (one.z, one.g))
        score, own = score - score.mean(0), own - own.mean(0)
        return [np.trace(bread @ (a.T @ b) @ bread) / 60 / 59 for a, b in ((score, score), (score, own), (own, own))]

    exact, naive = traces(p), traces(expit(one.x @ theta))
    found = e.efficiency
    assert naive[0] < 0.8 * exact[0]
    np.testing.assert_allclose([found.score, found.cross, found.control], exact, rtol=0.08)  # one Newton step each
    assert float(found.best()) == pytest.approx(exact[1] / exact[2], rel=0.08)


def test_rows_that_share_a_cluster_count_once():
    e = problem(n=100, m=200, exact=True)
    one = e.labelled
    twice = [np.repeat(each, 2, 0) for each in (one.x, one.z, one.g, one.weight)]
    double = Labelled(*twice, np.repeat(np.arange(100), 2))
    both = Equation(double, e.fresh)
    theta = e.solve(0.5).theta
    np.testing.assert_allclose(both.solve(0.5).theta, theta, atol=1e-10)
    np.testing.assert_allclose(both.covariance(theta, 0.5), e.covariance(theta, 0.5), atol=1e-12)
    naive = Equation(replace(double, cluster=None), e.fresh)
    # taken for independent they halve the variance, but for n / (n - 1)
    half = e.covariance(theta, 0.5) * (200 / 199) / (100 / 99) / 2
    np.testing.assert_allclose(naive.covariance(theta, 0.5), half, rtol=1e-9)


def test_fresh_pairs_needed_is_what_the_expected_gain_says():
    w = reward_worlds.world("cyclic")
    sample = reward_worlds.draw(w, 400, 1, "exact")
    e = sample.equation("judge")
    one = Labelled(e.labelled.x[0], e.labelled.z[0], e.labelled.g[0], e.labelled.weight)
    found = reward_from_differences(one, e.fresh, stack=False)
    for ratio in (0.6, 0.7, 0.9):
        m = found.fresh_pairs_needed(ratio)
        f = found.equation.efficiency
        best = float(np.clip(f.cross / (f.labelled + f.pair / m), 0, 1))
        assert found.expected_gain(best, m) == pytest.approx(ratio, abs=1e-9)
    assert found.fresh_pairs_needed(0.05) == math.inf
    assert found.n_effective == pytest.approx(400 / found.expected_gain())


# -- existence --


def test_separated_labels_are_refused():
    x = np.random.default_rng(0).normal(size=(50, 2))
    one = Labelled(x, (x[:, 0] > 0).astype(float), np.full(50, 0.5), np.ones(50))
    assert not Equation(one, Fresh(x, one.g, np.full(50, 0.02))).mle.exists
    with pytest.raises(FitError, match="no finite reward"):
        reward_from_differences(one, Fresh(x, one.g, np.full(50, 0.02)), stack=False)


def test_existence_agrees_with_a_linear_programme():
    seen = set()
    w = reward_worlds.world("bt")
    for seed in range(30):
        sample = reward_worlds.draw(w, 30, 1, "fresh:30", seed=seed)
        e = sample.equation("inverted")
        e = Equation(
            Labelled(e.labelled.x[0], e.labelled.z[0], e.labelled.g[0], e.labelled.weight),
            Fresh(e.fresh.x[0], e.fresh.g[0], e.fresh.share, 30),
        )
        t, y = e.target(1.0), e.fresh.x
        # the objective falls without end along u iff mean (u'y)^+ - t'u < 0
        result = linprog(
            np.r_[-t, e.fresh.share], A_ub=np.c_[y, -np.eye(30)], b_ub=np.zeros(30),
            bounds=[(-1, 1)] * 5 + [(0, None)] * 30,
        )  # fmt: skip
        assert bool(e.solve(1.0).exists) == (result.fun > -1e-9)
        seen.add(bool(result.fun > -1e-9))
    assert seen == {True, False}


def test_without_a_solution_lambda_is_lowered_and_said():
    w = reward_worlds.world("bt")
    for seed in range(20):
        sample = reward_worlds.draw(w, 60, 1, "exact", seed=seed)
        e = sample.equation("inverted")
        one = Labelled(e.labelled.x[0], e.labelled.z[0], e.labelled.g[0], e.labelled.weight)
        if not e.solve(1.0).exists.all() and e.mle.exists.all():
            break
    found = reward_from_differences(one, e.fresh, lambda_=1.0, stack=False)
    assert not found.exists
    assert found.lambda_ < 1
    assert np.isfinite(found.theta).all()
    assert "no finite solution exists" in found.warnings[0]


def test_error_and_coverage_are_those_predicted():
    # false alarms: about 1 in 10,000 for the ratio (4 standard errors), 1 in 1,000 for coverage of 5 * 120 intervals
    w = reward_worlds.world("cyclic")
    found = run(w, ["oracle"], 400, 120, lambdas=(1.0,))["oracle", 1.0]
    assert abs(found.ratio - predicted(w, "oracle")) < 4 * found.ratio_se + 0.04
    assert abs(found.coverage() - 0.95) < 0.04
    assert abs(found.mle_coverage() - 0.95) < 0.04
