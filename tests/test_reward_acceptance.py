"""Simulations of the variance-reduced reward with 500 replicates: minutes. Bars hold at the seeds given here."""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.special import expit

from benchmarks.reward import CHUNK, coverage, policies, predicted, run
from benchmarks.reward_worlds import AUXILIARIES, FITTED_RIDGE, FIXED, WORLDS, draw, leaderboard, world
from prefdensity.posterior.psis import smooth
from prefdensity.reward.convex import curvature, moment, solve
from prefdensity.reward.equation import Equation, Fresh, Labelled

pytestmark = pytest.mark.slow

R = 500
at = cache(world)


@cache
def exact(name, use="raw", n=400):
    return run(at(name), AUXILIARIES, n, R, use=use)


@pytest.mark.parametrize(
    ("name", "auxiliary", "lambda_", "bar"),
    [
        ("cyclic", "oracle", 1.0, 0.55), ("cyclic", "fitted", 1.0, 0.68), ("cyclic", "judge", 1.0, 0.62),
        ("nonlinear", "oracle", 1.0, 0.58), ("nonlinear", "fitted", 1.0, 0.70), ("cyclic-mod", "oracle", 1.0, 0.82),
        ("cyclic-mod", "judge", "auto", 0.93), ("annotator", "oracle", 1.0, 0.25), ("annotator", "fitted", 1.0, 0.40),
    ],
)  # fmt: skip
def test_a_good_auxiliary_reduces_the_error(name, auxiliary, lambda_, bar):
    assert exact(name)[auxiliary, lambda_].ratio <= bar


@pytest.mark.parametrize("name", WORLDS)
def test_tuned_and_recalibrated_are_never_worse_with_an_exact_design(name):
    for auxiliary in AUXILIARIES:
        assert exact(name)[auxiliary, "auto"].ratio <= 1.03, auxiliary
        for lambda_ in (1.0, "auto"):
            assert exact(name, "recalibrated")[auxiliary, lambda_].ratio <= 1.04, (auxiliary, lambda_)


def held_by_both(w, n, layout="exact"):
    """Both auxiliaries with a tuned lambda each: never much worse than none, nor than the better of the two."""
    raw, again, both = (run(w, AUXILIARIES, n, R, layout, ("auto",), use) for use in ("raw", "recalibrated", "both"))
    for key, found in both.items():
        assert found.ratio <= 1.02 + 2 * found.ratio_se, key
        better = min(raw[key], again[key], key=lambda each: each.ratio)
        lost = (found.error - better.error) / found.mle_error.mean()
        assert lost.mean() <= 0.02 + 2 * lost.std(ddof=1) / np.sqrt(len(lost)), key


@pytest.mark.parametrize("name", WORLDS)
def test_a_lambda_each_keeps_the_gain_of_the_better_auxiliary(name):
    held_by_both(at(name), 400)


@pytest.mark.parametrize("count", [8, 25])
def test_a_lambda_each_keeps_it_on_leaderboards(count):
    held_by_both(leaderboard(count), 300)


@pytest.mark.parametrize("layout", ["fresh:400", "fresh:6400"])
@pytest.mark.parametrize("name", WORLDS)
def test_tuned_and_recalibrated_are_never_worse_with_fresh_pairs(name, layout):
    tuned = run(at(name), AUXILIARIES, 400, R, layout, ("auto",))
    again = run(at(name), AUXILIARIES, 400, R, layout, ("auto",), "recalibrated")
    for auxiliary in AUXILIARIES:
        assert tuned[auxiliary, "auto"].ratio <= 1.03, auxiliary
        assert again[auxiliary, "auto"].ratio <= 1.04, auxiliary


@pytest.mark.parametrize("name", WORLDS)
def test_the_error_is_the_one_that_theory_predicts(name):
    for auxiliary in FIXED:
        ratio = exact(name)[auxiliary, 1.0].ratio / predicted(at(name), auxiliary)
        assert 0.85 <= ratio <= 1.15, auxiliary


@pytest.mark.parametrize("name", ["cyclic", "nonlinear"])
def test_one_fresh_pair_for_each_label_gains_nothing(name):
    assert 0.90 <= run(at(name), ["oracle"], 400, R, "fresh:400", (1.0,))["oracle", 1.0].ratio <= 1.12


@pytest.mark.parametrize("n", [400, 1200])
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_cover(name, n):
    low, high = (0.92, 0.98) if n == 400 else (0.93, 0.97)
    for use in ("raw", "recalibrated", "both"):
        for key, found in exact(name, use, n).items():
            assert low <= found.coverage() <= high, (key, use)
            assert low <= found.mle_coverage() <= high


@pytest.mark.parametrize("name", ["bt", "cyclic", "mixture", "annotator"])
def test_intervals_of_another_level_cover(name):
    for use in ("raw", "recalibrated", "both"):
        found = exact(name, use, 1200)
        for auxiliary in ("oracle", "fitted", "judge", "random"):  # good, of the same votes, mediocre, useless
            for lambda_ in (1.0, "auto"):
                assert abs(found[auxiliary, lambda_].coverage(0.90) - 0.90) <= 0.02, (auxiliary, lambda_, use)


@pytest.mark.parametrize("name", WORLDS)
def test_expected_gain_is_the_gain(name):
    for key, found in exact(name).items():
        if found.ratio <= 1.4 and key[1] == 1.0:
            assert abs(found.expected.mean() - found.ratio) <= 0.10, key


def test_a_failure_is_flagged_and_tuning_falls_back():
    w = at("bt")
    small = run(w, ["inverted"], 60, R, lambdas=(1.0, "auto"))
    assert small["inverted", 1.0].fallback.mean() > 0.02
    assert np.isfinite(small["inverted", 1.0].theta).all()
    assert abs(exact("bt")["inverted", "auto"].ratio - 1) <= 0.02


def left_out(p, z):
    """P(a) [..., row] of draws p [..., draw, row], weighted as if the row's own label z [..., row] were unknown."""
    weight, _ = smooth(torch.as_tensor(np.swapaxes(-np.log(np.where(z[..., None, :] == 1, p, 1 - p)), -1, -2).copy()))
    return np.einsum("...rs,...sr->...r", weight.exp().numpy(), p)


def leave_one_out_runs(w, n):
    """Ratio and coverage with the auxiliary of one Bayesian fit: harmonic means on labelled pairs, lambda = 1."""
    theta, mle, se, draws = [], [], [], 200
    for chunk in range(R // CHUNK):
        sample = draw(w, n, CHUNK, seed=chunk)
        wide = w.wide[sample.index]
        unit = [(wide, np.ones(n))]
        mode = solve(unit, moment(sample.z, wide), FITTED_RIDGE).theta
        precision = curvature(unit, mode) + FITTED_RIDGE * np.eye(w.wide.shape[1])
        noise = np.random.default_rng(chunk).normal(size=(CHUNK, draws, w.wide.shape[1]))
        root = np.linalg.cholesky(np.linalg.inv(precision))
        post = mode[:, None] + noise @ np.swapaxes(root, -1, -2)
        g = left_out(expit(post @ np.swapaxes(wide, -1, -2)), sample.z)
        fresh = np.stack([expit(each @ w.wide.T).mean(0) for each in post])
        equation = Equation(Labelled(w.d[sample.index], sample.z, g, np.ones(n)), Fresh(w.d, fresh, w.design))
        found, used = equation.settle(1.0)
        theta.append(found.theta)
        mle.append(equation.mle.theta)
        se.append(np.sqrt(np.diagonal(equation.covariance(found.theta, used), axis1=-2, axis2=-1)))
    theta, mle, se = map(np.concatenate, (theta, mle, se))
    error = ((theta - w.target) ** 2).sum(-1).mean() / ((mle - w.target) ** 2).sum(-1).mean()
    return error, coverage(theta, se, w.target, 0.95)


@pytest.mark.parametrize(("name", "bar"), [("cyclic", 0.94), ("annotator", 0.93)])
def test_leave_one_out_serves_as_well_as_refits(name, bar):
    ratio, covered = leave_one_out_runs(at(name), 400)
    assert abs(ratio - exact(name)["fitted", 1.0].ratio) <= 0.05
    assert covered >= bar


@pytest.mark.parametrize("name", ["cyclic", "nonlinear"])
def test_the_policy_is_better_at_equal_distance(name):
    w = world(name, prompts=60, responses=8, p=20, scales=(2, 2))
    found = run(w, ["judge"], 200, R, lambdas=("auto",))["judge", "auto"]
    assert policies(w, found, beta=0.1).beats >= 0.80


@pytest.mark.parametrize("name", ["cyclic", "nonlinear"])
def test_regret_falls_with_the_error(name):
    found = exact(name)["judge", "auto"]
    assert policies(at(name), found, beta=1.0).regret_ratio == pytest.approx(found.ratio, rel=0.05)
