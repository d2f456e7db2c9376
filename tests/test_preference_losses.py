"""Margin losses against their formulae and against each other."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit

from prefdensity.errors import DataError
from prefdensity.reward.losses import (
    CLIP,
    cdpo,
    chi_po_margin,
    dpo_margin,
    dr_dpo,
    expected_loss,
    hinge,
    ipo,
    kl_dpo,
    logistic,
    r3m,
    ramp,
    rdpo,
    ropo,
    soft_label,
    vr_margin_loss,
)

D = torch.linspace(-6, 6, 41, dtype=torch.float64)


def batch(seed=0, rows=50, fresh=70):
    rng = np.random.default_rng(seed)
    d, away = (torch.tensor(rng.normal(size=size) * 2) for size in (rows, fresh))
    g, g_away = (torch.tensor(rng.uniform(0.02, 0.98, size)) for size in (rows, fresh))
    return d, g, away, g_away, torch.tensor(rng.integers(0, 2, rows).astype(float))


def test_the_logistic_loss_is_a_tilt_plus_soft_cross_entropy():
    d, g, away, g_away, z = batch()
    total = vr_margin_loss(d, g, away, g_away, z=z, clip=None).total
    tilt = -((z - g) * d).mean() + (torch.nn.functional.softplus(away) - g_away * away).mean()
    assert abs(float(total - tilt)) < 1e-12


@pytest.mark.parametrize("loss", [logistic, hinge, ramp, partial(ipo, beta=0.4), partial(ropo, alpha=2.0)])
def test_swapping_the_responses_changes_nothing(loss):
    d, g, away, g_away, z = batch()
    one = vr_margin_loss(d, g, away, g_away, z=z, loss=loss, lambda_=0.7)
    two = vr_margin_loss(-d, 1 - g, -away, 1 - g_away, z=1 - z, loss=loss, lambda_=0.7)
    for a, b in zip(one, two, strict=True):
        assert abs(float(a - b)) < 1e-12


@pytest.mark.parametrize("loss", [logistic, hinge, ramp])
def test_the_auxiliary_terms_cancel_on_the_same_pairs(loss):
    d, g, _, _, _ = batch()
    terms = vr_margin_loss(d, g, d, g, loss=loss)
    assert abs(float(terms.total - loss(d).mean())) < 1e-12
    away = vr_margin_loss(d, g, -d, g, loss=loss, lambda_=0.0)
    assert float(away.total) == float(loss(d).mean())


def test_weights_multiply_labelled_rows():
    d, g, away, g_away, z = batch()
    weight = torch.ones_like(d)
    weight[0] = 3.0
    repeated = [torch.cat([each, each[:1], each[:1]]) for each in (d, g, z)]
    one = vr_margin_loss(d, g, away, g_away, z=z, weights=weight)
    two = vr_margin_loss(*repeated[:2], away, g_away, z=repeated[2])
    assert float(one.observed) == pytest.approx(float(two.observed) * 52 / 50, rel=1e-12)
    assert float(one.expected) == pytest.approx(float(two.expected) * 52 / 50, rel=1e-12)


def test_fresh_weights_multiply_fresh_pairs():
    d, g, away, g_away, _ = batch()
    weight = torch.ones_like(away)
    weight[0] = 2.0
    one = vr_margin_loss(d, g, away, g_away, fresh_weights=weight)
    two = vr_margin_loss(d, g, torch.cat([away, away[:1]]), torch.cat([g_away, g_away[:1]]))
    assert float(one.fresh) == pytest.approx(float(two.fresh) * 71 / 70, rel=1e-12)
    assert float(one.expected) == float(two.expected)


def test_a_clip_bounds_the_pull_of_labelled_margins():
    g, away, g_away = torch.tensor([0.2]), torch.zeros(1), torch.tensor([0.5])
    far = [float(vr_margin_loss(torch.tensor([d]), g, away, g_away, clip=3.0).total) for d in (5.0, 500.0)]
    free = [float(vr_margin_loss(torch.tensor([d]), g, away, g_away, clip=None).total) for d in (5.0, 500.0)]
    given = [float(vr_margin_loss(torch.tensor([d]), g, away, g_away).total) for d in (CLIP, 500.0)]
    assert given[0] == pytest.approx(given[1])
    assert far[0] == pytest.approx(far[1])
    assert free[1] < free[0] - 300
    near = torch.tensor([2.0])
    assert float(vr_margin_loss(near, g, away, g_away, clip=3.0).total) == pytest.approx(
        float(vr_margin_loss(near, g, away, g_away, clip=None).total)
    )


def test_the_variance_reduced_gradient_is_unbiased_for_any_auxiliary():
    # the mean over labels and over fresh pairs of the design, exactly: 8 pairs, both labels
    rng = np.random.default_rng(1)
    truth, g = (torch.tensor(rng.uniform(0.1, 0.9, 8)) for _ in "ab")
    x, theta = torch.tensor(rng.normal(size=(8, 3))), torch.tensor(rng.normal(size=3), requires_grad=True)
    d = x @ theta
    for loss in (logistic, ramp):
        plain = expected_loss(d, truth, loss).mean()
        reduced = vr_margin_loss(d, g, d, g, z=truth, loss=loss).total  # losses are linear in the label
        torch.testing.assert_close(
            *(torch.autograd.grad(each, theta, retain_graph=True)[0] for each in (reduced, plain)), atol=1e-12, rtol=0
        )


def test_peers_are_tilts_of_dpo():
    e = 0.2
    torch.testing.assert_close(cdpo(D, e), (1 - e) * logistic(D) + e * logistic(-D))
    torch.testing.assert_close(rdpo(D, e), ((1 - e) * logistic(D) - e * logistic(-D)) / (1 - 2 * e))
    torch.testing.assert_close(soft_label(D, torch.tensor(1 - e)), cdpo(D, e))
    # rDPO: expectation over flipped labels is the loss of the clean ones
    torch.testing.assert_close((1 - e) * rdpo(D, e) + e * rdpo(-D, e), logistic(D))
    for peer in (cdpo, rdpo):
        torch.testing.assert_close(peer(D, 0.0), logistic(D))


def test_ipo_hinge_and_ramp():
    beta = 0.25
    h = D / beta
    torch.testing.assert_close(ipo(D, beta), (h - 1 / (2 * beta)) ** 2)
    torch.testing.assert_close(ipo(D, beta) - ipo(-D, beta), -2 * h / beta)
    np.testing.assert_allclose(hinge(D), np.maximum(0, 1 - D.numpy()))
    np.testing.assert_allclose(ramp(D), np.clip(1 - D.numpy(), 0, 1.5))


def test_dr_dpo_is_dpo_without_robustness_and_ignores_outliers_with_it():
    assert float(dr_dpo(D, 1e7)) == pytest.approx(float(logistic(D).mean()), rel=1e-5)
    d = D.clone().requires_grad_()
    dr_dpo(d, 0.5).backward()
    weight = torch.softmax(-logistic(D) / 0.5, 0)
    torch.testing.assert_close(d.grad, -weight * (-D).sigmoid())


def test_kl_dpo_is_dpo_at_its_worst_weights():
    assert float(kl_dpo(D, 1e7)) == pytest.approx(float(logistic(D).mean()), rel=1e-5)
    assert float(kl_dpo(D, 1e-3)) == pytest.approx(float(logistic(D).max()), abs=0.01)
    loss, rng = logistic(D).numpy(), np.random.default_rng(0)

    def at(w):
        return w @ loss - 0.5 * np.sum(w * np.log(w * len(w)))

    worst = np.exp(loss / 0.5) / np.exp(loss / 0.5).sum()
    assert float(kl_dpo(D, 0.5)) == pytest.approx(at(worst), rel=1e-12)
    assert all(at(rng.dirichlet(np.full(len(loss), 5.0))) < at(worst) for _ in range(200))


def test_chi_po_is_the_margin_of_its_own_optimal_policy():
    # under chi-squared and KL regularisation the optimal policy solves r = beta (z + log z) + constant
    reward, beta = torch.tensor([0.3, -0.2, 0.9, 0.1], dtype=torch.float64), 0.7
    reference = torch.tensor([0.4, 0.3, 0.1, 0.2], dtype=torch.float64)

    def ratios(constant):
        return torch.tensor(
            [brentq(lambda t, r=r: beta * (np.exp(t) + t) - r + constant, -60, 6) for r in reward.tolist()]
        )

    shift = brentq(lambda c: float((reference * ratios(c).exp()).sum()) - 1, -5, 5)
    log_ratio = ratios(shift).double()
    policy, ref = log_ratio + reference.log(), reference.log()
    i, j = torch.triu_indices(4, 4, 1)
    margin = chi_po_margin(policy[i], policy[j], ref[i], ref[j], beta, largest_reward=1.0)
    torch.testing.assert_close(margin, reward[i] - reward[j], atol=1e-6, rtol=0)
    far = chi_po_margin(policy[i] + 3, policy[j], ref[i], ref[j], beta, largest_reward=1.0)
    assert float(far.max()) == 2.0


def test_ropo_gradient_vanishes_for_pairs_that_look_flipped():
    a = 3.0
    d = D.clone().requires_grad_()
    ropo(d, a).sum().backward()
    p = expit(-D.numpy())
    expected = -4 * a / (1 + a) ** 2 * p * (1 + a * (1 - p))
    np.testing.assert_allclose(d.grad, expected, rtol=1e-12)


@pytest.mark.parametrize("penalty", [0.05, 0.3, 0.8])
def test_r3m_is_the_least_over_shifts_of_the_margin(penalty):
    shift = torch.linspace(-5, 15, 20_001, dtype=torch.float64)
    every = logistic(D[:, None] + shift) + penalty * shift.abs()
    torch.testing.assert_close(r3m(D, penalty), every.min(1).values, atol=1e-6, rtol=0)
    d = D.clone().requires_grad_()
    r3m(d, penalty).sum().backward()
    torch.testing.assert_close(d.grad, -(-D).sigmoid().clamp(max=penalty))  # no pair pulls harder than the penalty


def test_margin_of_a_log_linear_policy_is_that_of_its_reward():
    rng = np.random.default_rng(0)
    phi, theta, beta = rng.normal(size=(6, 3)), rng.normal(size=3), 0.3
    reference = rng.dirichlet(np.ones(6))
    log_p = np.log(reference) + phi @ theta / beta
    log_p -= np.logaddexp.reduce(log_p)
    policy, ref = torch.tensor(log_p), torch.tensor(np.log(reference))
    d = dpo_margin(policy[:3], policy[3:], ref[:3], ref[3:], beta)
    np.testing.assert_allclose(d, (phi[:3] - phi[3:]) @ theta, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dpo_margin(D, D, None, D, 0.1), "ref_chosen is missing"),
        (lambda: dpo_margin(D, D, D, D[:2], 0.1), "ref_rejected has shape"),
        (lambda: dpo_margin(D, D, D, D, 0.0), "beta=0.0 must be positive"),
        (lambda: vr_margin_loss(D, D, D, D), "auxiliary probability of labelled pair 1 is -6"),
        (lambda: vr_margin_loss(D, D[:3], D, D), "labelled margins have shape"),
        (lambda: vr_margin_loss(D, D.sigmoid(), D, torch.ones_like(D)), "fresh pair 1 is 1; it must lie strictly"),
        (lambda: vr_margin_loss(D, D.sigmoid(), D, D.sigmoid(), lambda_=2), "lambda_=2 must lie between 0 and 1"),
        (lambda: vr_margin_loss(D, D.sigmoid(), D, D.sigmoid(), clip=0), "clip=0 must be positive"),
        (lambda: rdpo(D, 0.5), "flips=0.5 must lie between 0 and 1/2"),
        (lambda: cdpo(D, -0.1), "smoothing=-0.1"),
        (lambda: r3m(D, 1.0), "penalty=1.0 must lie between 0 and 1"),
        (lambda: dr_dpo(D, 0), "temperature=0 must be positive"),
        (lambda: kl_dpo(D, -1), "temperature=-1 must be positive"),
        (lambda: chi_po_margin(D, D, D, None, 0.1, 1.0), "ref_rejected is missing"),
        (lambda: chi_po_margin(D, D, D, D, 0.1, 0), "largest_reward=0 must be positive"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(DataError, match=message):
        call()
