"""Distances between densities, matching and aggregating types, and two theorems on estimates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from prefdensity.density import implicit, toy
from prefdensity.density.implicit import (
    Domain,
    expected_kl,
    information,
    js,
    kl,
    kl_bound,
    log_ratio,
    match,
    normalise,
    tv,
)
from prefdensity.errors import DataError

LINE = Domain.grid(-8, 8, 1600)


def normal(mean, sd):
    return normalise(-(((LINE.points - mean) / sd) ** 2) / 2, LINE)


def draws(count=60, points=7, seed=0, types=()):
    rng = np.random.default_rng(seed)
    return normalise(rng.normal(size=(count, *types, points)), Domain.items([f"i{k}" for k in range(points)]))


def test_distances_between_normals():
    p, q = normal(0, 1), normal(1, 1)
    assert kl(p, q) == pytest.approx(0.5, abs=1e-9)
    assert kl(normal(0, 1), normal(0, 0.5)) == pytest.approx(np.log(0.5) + 2 - 0.5, abs=1e-9)
    assert tv(p, q) == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=1e-4)
    assert tv(p, q) == tv(q, p)
    assert 0 < js(p, q) == pytest.approx(js(q, p))
    np.testing.assert_allclose(log_ratio(p, q), 0.5 - LINE.points, atol=1e-9)
    far = (
        normalise(np.where(LINE.points < 0, 0.0, -np.inf), LINE),
        normalise(np.where(LINE.points > 0, 0.0, -np.inf), LINE),
    )
    assert kl(*far) == np.inf
    assert kl(*far, clip=30) == pytest.approx(30)
    assert js(*far) == pytest.approx(np.log(2))
    assert tv(*far) == pytest.approx(1)
    assert kl(p, p) == tv(p, p) == 0
    assert js(p, p) == pytest.approx(0, abs=1e-15)


def test_distances_repeat_the_shorter_one():
    typed, truth = draws(types=(2,)), draws(count=2, seed=9)
    truth = replace(truth, dims=("type", "point"), groups=("1", "2"))
    found = tv(typed, truth)
    assert found.shape == (60, 2)
    one = replace(truth, log_p=truth.log_p[1], dims=("point",), groups=())
    assert found[3, 1] == tv(replace(typed, log_p=typed.log_p[3, 1], dims=("point",), groups=()), one)
    np.testing.assert_allclose(js(one, typed), js(typed, one))
    with pytest.raises(DataError, match="axes"):
        tv(draws(count=2), truth)
    with pytest.raises(DataError, match="one domain"):
        kl(draws(), draws(points=5))


def test_types_are_matched():
    truth = replace(draws(count=3, seed=4), dims=("type", "point"), groups=("a", "b", "c"))
    rng = np.random.default_rng(0)
    order = np.stack([rng.permutation(3) for _ in range(40)])
    noisy = truth.log_p[order] + 0.05 * rng.normal(size=(40, 3, 7))
    matched, index = match(normalise(noisy, truth.domain), truth)
    assert matched.groups == ("a", "b", "c")
    assert tv(matched, truth).max() < 0.1
    np.testing.assert_array_equal(np.take_along_axis(order, index, -1), np.tile(np.arange(3), (40, 1)))
    extra = normalise(np.concatenate([noisy, rng.normal(size=(40, 1, 7)) * 3], 1), truth.domain)
    assert tv(match(extra, truth)[0], truth).max() < 0.1
    two = replace(truth, log_p=truth.log_p[:2], groups=("a", "b"))
    with pytest.raises(DataError, match="fewer types"):
        match(two, truth)
    with pytest.raises(DataError, match="a truth"):
        match(draws(), truth)


def test_aggregates():
    kinds, weights = toy.annotators(LINE), (0.4, 0.6)
    mixed, averaged = implicit.mixture(kinds, weights), implicit.mean_utility(kinds, weights)
    np.testing.assert_allclose(mixed.p, 0.4 * kinds.p[0] + 0.6 * kinds.p[1])
    np.testing.assert_allclose(averaged.log_p, normalise(0.4 * kinds.log_p[0] + 0.6 * kinds.log_p[1], LINE).log_p)
    assert tv(mixed, averaged) > 0.5  # they are different things
    np.testing.assert_allclose(implicit.mixture(kinds, (0, 1)).log_p, kinds.log_p[1])
    for bad in ((0.5, 0.6), (-0.5, 1.5)):
        with pytest.raises(DataError, match="probabilities"):
            implicit.mixture(kinds, bad)
    with pytest.raises(DataError, match="do not fit"):
        implicit.mean_utility(mixed, weights)


# --- two theorems ---


def test_hoeffding_bounds_the_divergence():
    rng = np.random.default_rng(3)
    items = Domain.items([str(k) for k in range(12)])
    p = normalise(rng.normal(size=(1000, 12)) * rng.exponential(2, (1000, 1)), items)
    q = normalise(p.log_p + rng.normal(size=(1000, 12)) * rng.exponential(2, (1000, 1)), items)
    assert (kl(p, q) <= kl_bound(p, q)).all()
    two = [normalise([s, 0.0], Domain.items("xy")) for s in (0.01, -0.01)]
    assert kl(*two) == pytest.approx(kl_bound(*two), rel=1e-3)  # and no smaller constant would do


def newton(first, second, total, won, items):
    """Maximum-likelihood utilities [replicate, item] of many Bradley-Terry tables at once."""
    u = np.zeros((len(won), items))
    contrast = np.eye(items)[first] - np.eye(items)[second]  # [pair, item]
    for _ in range(12):
        win = expit(u @ contrast.T)
        slope = np.einsum("rp,pi,pj->rij", total * win * (1 - win), contrast, contrast) + 1.0
        u += np.linalg.solve(slope, ((won - total * win) @ contrast)[..., None])[..., 0]
    return u


def test_information_predicts_the_divergence():
    # 200 replicates: the mean of KL has a relative standard error of .033, so 1 +- .15 is 4.5 of them
    rng = np.random.default_rng(7)
    p = normalise(rng.normal(size=10), Domain.items("abcdefghij"))
    first, second = np.array(list(itertools.combinations(range(10), 2))).T
    total = rng.multinomial(20_000, np.full(45, 1 / 45), size=200)
    won = rng.binomial(total, expit(p.log_p[first] - p.log_p[second]))
    found = normalise(newton(first, second, total, won, 10), p.domain)
    counts = np.full((10, 10), 20_000 / 45)
    ratio = kl(p, found).mean() / expected_kl(p, information(p, counts))
    assert 0.85 < ratio < 1.15
    with pytest.raises(DataError, match="symmetric"):
        information(p, np.triu(counts))
