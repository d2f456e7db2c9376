"""Lambda from gradients of the last layer: against sums worked out here, and what it is worth in training."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from benchmarks.trainer import compared
from prefdensity.errors import DataError
from prefdensity.reward.losses import hinge, logistic, vr_margin_loss, vr_margin_rows
from prefdensity.reward.tuning import Covariances


def pairs(n=60, seed=0, p=4):
    """Features of labelled and of fresh pairs [row, feature], auxiliary probabilities [row] of both, and weights."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, p))
    return x, y, expit(2 * x[:, 0] + 1), expit(2 * y[:, 0]), rng.uniform(0.5, 2, n)


def gathered(theta, x, y, g, g_away, **more):
    weight = torch.tensor(theta, requires_grad=True)
    found = Covariances([weight])
    for rows in (slice(0, 25), slice(25, None)):  # batches of unequal size
        own = {name: None if value is None else torch.tensor(value[rows]) for name, value in more.items()}
        d, away = (torch.tensor(each[rows]) @ weight for each in (x, y))
        found.add(d, torch.tensor(g[rows]), away, torch.tensor(g_away[rows]), **own)
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_lambda_and_ratio_are_those_of_gradients_by_hand(weighted):
    x, y, g, g_away, weight = pairs()
    theta = np.array([0.4, -0.2, 0.1, 0.0])
    w = weight if weighted else np.ones(len(x))
    p, q = expit(x @ theta), expit(y @ theta)
    psi = (w * (p - 1))[:, None] * x
    c = w[:, None] * ((p - g)[:, None] * x - (q - g_away)[:, None] * y)
    best = (psi * c).sum() / (c * c).sum()
    found = gathered(theta, x, y, g, g_away, weights=weight if weighted else None).tuned()
    assert 0 < best < 1
    assert found.lambda_ == pytest.approx(best, rel=1e-9)
    ratio = (psi - best * c).var(0).sum() / psi.var(0).sum()
    assert found.ratio == pytest.approx(ratio, rel=1e-9)
    assert found.rows == 60
    assert found.n_effective(1000) == pytest.approx(1000 / ratio)
    assert f"1,000 labels are worth {1000 / ratio:,.0f}" in found.worth(1000)


def test_an_auxiliary_that_leans_the_wrong_way_is_not_used():
    x, y, g, g_away, _ = pairs()
    found = gathered(np.zeros(4), x, y, 1 - g, 1 - g_away).tuned()
    assert found.lambda_ == 0
    assert found.ratio == 1


def test_too_few_rows_and_no_gradients_are_refused():
    x, y, g, g_away, _ = pairs()
    with pytest.raises(DataError, match="tuned from 0 rows"):
        Covariances([torch.zeros(2)]).tuned()
    with pytest.raises(DataError, match="60 rows whose gradients have the squared size 0"):
        gathered(np.zeros(4), 0 * x, 0 * y, g, g_away).tuned()


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("loss", [logistic, hinge])
def test_rows_add_up_to_the_loss(loss, clip):
    rng = np.random.default_rng(1)
    d, away = (torch.tensor(each) for each in 2 * rng.normal(size=(2, 30)))
    g, g_away = (torch.tensor(each) for each in rng.uniform(0.1, 0.9, (2, 30)))
    weight = torch.tensor(rng.uniform(0.5, 2, 30))
    observed, taken = vr_margin_rows(d, g, away, g_away, loss=loss, weights=weight, clip=clip)
    for lambda_ in (0.0, 0.3, 1.0):
        total = vr_margin_loss(
            d, g, away, g_away, loss=loss, weights=weight, fresh_weights=weight, clip=clip, lambda_=lambda_
        ).total
        assert float((observed - lambda_ * taken).mean()) == pytest.approx(float(total), abs=1e-12)


@pytest.mark.slow
def test_camps_that_are_known_make_training_better():
    found = [compared(seed) for seed in range(20)]
    assert np.mean([tuned.ratio for tuned, _, _ in found]) <= 0.5
    assert sum(reduced < plain for _, plain, reduced in found) >= 18
