"""A first look at an approximation by slopes of few log weights: closed forms, and tables where it decides."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import digamma, polygamma

import prefdensity
from prefdensity import Comparisons
from prefdensity.inference.displacement import Displacement, displacement, errors_of_displaced
from prefdensity.inference.laplace import laplace
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.mode import Mode, prior_draws
from prefdensity.inference.precision import Axes, Dense, Triangle
from prefdensity.inference.quality import check_guide, check_mixture
from prefdensity.inference.safety import Quantities
from prefdensity.inference.tails import _of_scalars
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(base, precision):
    """One Gaussian as an approximation."""
    mode = Mode(base, 0.0, True, 0)
    spread = Dense(precision).gaussian()
    return Mixture(torch.ones(1, dtype=base.dtype), base[None], (spread,), True, 0, mode, 0.0, spread)


class LogGamma:
    """Logarithms of independent Gamma(a) variables: their density has its mode at log a and its mean at digamma(a)."""

    def __init__(self, shape, size):
        self.shape, self.dimension, self.work, self.sizes = shape, size, size, {"worth": size}
        self.mixture = gaussian(
            torch.full((size,), float(np.log(shape)), dtype=torch.float64),
            shape * torch.eye(size, dtype=torch.float64),
        )
        self.off = float((digamma(shape) - np.log(shape)) / np.sqrt(polygamma(1, shape)))  # posterior sds

    def log_joint_of(self, z):
        return (self.shape * z - z.exp()).sum(-1)

    def slopes_of(self, z):
        return self.log_joint_of(z), self.shape - z.exp()

    def constrain(self, z):
        return {"worth": z}, {"worth": ("item",)}


def test_the_means_of_many_skew_posteriors_are_found_where_no_weight_serves():
    target = LogGamma(20.0, 900)
    z, log_q, pick = target.mixture.drawn(64, torch.Generator().manual_seed(0))
    assert float((target.log_joint_of(z) - log_q).std()) > 1.8  # weights would leave 1 in 25 proposals effective
    found = displacement(target, target.mixture, z, pick)
    sd = float(polygamma(1, 20.0)) ** 0.5
    assert found.serves(target.mixture, z.std(0))
    assert float(found.first.mean()) / sd == pytest.approx(target.off, abs=0.01)  # -.113; 900 errors of .05 together
    left = (found.first / sd - target.off).square().mean().sqrt()
    assert float(left) < 0.03
    assert float(left) == pytest.approx(float((found.noise / sd).square().mean().sqrt()), rel=0.25)


def test_what_is_displaced_has_the_means_and_errors_that_hold():
    target = LogGamma(20.0, 900)
    checked = check_mixture(target, target.mixture, 1000, torch.Generator().manual_seed(0))
    sd = float(polygamma(1, 20.0)) ** 0.5
    off = (checked.z.mean(0) - float(digamma(20.0))).abs() / sd
    error = checked.error["worth"]
    assert checked.tempering == 0
    # a bound for nineteen of twenty: 900 of them, three standard errors
    assert float((off < error).double().mean()) > 0.928
    assert float(off.mean()) < abs(target.off) / 2
    assert float(error.max()) < 0.25


def test_a_term_that_moves_a_coordinate_by_more_than_its_deviation_is_not_added():
    shape = 0.2
    target = LogGamma(shape, 1)
    z, _, pick = target.mixture.drawn(4000, torch.Generator().manual_seed(0))
    found = displacement(target, target.mixture, z, pick)
    off = float(digamma(shape) - np.log(shape))  # -3.7, or -1.6 sds of the Gaussian at the mode
    assert float(found.first) < 2 * off  # in expectation 1 - exp(1 / (2 shape)), -11.2: further off than before
    assert float(found.first**2) > 2 * float(found.noise**2)
    assert not found.serves(target.mixture, z.std(0))


def test_an_approximation_that_is_right_is_left_alone():
    size = 900
    exact = gaussian(normal(size), torch.diag(torch.linspace(1, 9, size, dtype=torch.float64)))

    class Same:
        dimension = work = size
        sizes: ClassVar = {"u": size}

        def log_joint_of(self, z):
            return exact.log_density(z)

        def slopes_of(self, z):
            return self.log_joint_of(z), -(z - exact.base[0]) * torch.linspace(1, 9, size, dtype=torch.float64)

        def constrain(self, z):
            return {"u": z}, {"u": ("item",)}

    checked = check_mixture(Same(), exact, 1000, torch.Generator().manual_seed(0))
    assert torch.equal(checked.z, exact.draw(1000, torch.Generator().manual_seed(0))[0])
    # Monte-Carlo error alone: 1.96 / sqrt(1000)
    torch.testing.assert_close(checked.error["u"], torch.full((size,), 0.0620, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_response_of_a_mixture_is_the_covariance_with_a_function():
    precision = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    spread = Dense(precision).gaussian(), Dense(3 * precision).gaussian()
    base = torch.tensor([[0.0, 0.0], [1.5, -1.0]], dtype=torch.float64)
    mixture = Mixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        base,
        spread,
        True,
        0,
        Mode(base[0], 0.0, True, 0),
        0.0,
        spread[0],
    )
    z, log_q, pick = mixture.drawn(200_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_q, mixture.log_density(z))
    value, slope = z[:, 0] ** 2 + z[:, 1], torch.stack([2 * z[:, 0], torch.ones_like(z[:, 1])], 1)
    found = mixture.response(pick, slope, value)
    plain = ((z - z.mean(0)) * (value - value.mean())[:, None]).mean(0)
    torch.testing.assert_close(found, plain, atol=0.02, rtol=0)  # four Monte-Carlo errors of the plain one


@pytest.mark.parametrize("form", ["triangle", "axes"])
def test_both_forms_of_a_gaussian_are_its_precision(form):
    root = normal(30, 30)
    precision = root @ root.T / 30 + torch.eye(30, dtype=torch.float64)
    if form == "axes":  # a saddle, which gets the curvature of a unit prior in that direction
        values, vectors = torch.linalg.eigh(precision)
        precision = vectors @ torch.diag(torch.cat([-values[:1], values[1:]])) @ vectors.T
        values[0] = 1.0
        expected = vectors @ torch.diag(values) @ vectors.T
    else:
        expected = precision
    found = Dense(precision).gaussian()
    assert isinstance(found, Axes if form == "axes" else Triangle)
    x = normal(7, 30, seed=1)
    torch.testing.assert_close(found.square(x), ((x @ expected) * x).sum(-1))
    torch.testing.assert_close(found.covariance(x[0]), torch.linalg.solve(expected, x[0]))
    torch.testing.assert_close(found.frame() @ found.frame().T, torch.linalg.inv(expected))
    torch.testing.assert_close(found.scale(x), x @ found.frame().T)
    assert found.log_det == pytest.approx(-0.5 * float(torch.linalg.slogdet(expected)[1]), abs=1e-9)


def sparse_table(items, rows, seed):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=items)
    a = rng.integers(0, items, rows)
    b = (a + rng.integers(1, items, rows)) % items
    wins = rng.random(rows) < 1 / (1 + np.exp(u[b] - u[a]))
    names = np.array([f"item {k}" for k in range(items)])
    frame = pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": np.where(wins, "a", "b")})
    data = Comparisons.from_frame(frame)
    return data, u[[int(item.split()[1]) for item in data.items]]


def test_slopes_are_those_of_the_density():
    data, _ = sparse_table(40, 2500, seed=0)  # as many comparisons as are worked out in single precision
    view = View(load_program("bradley_terry"), cells_of(data, ("a", "b")))
    z = 0.5 * normal(5, view.dimension)
    value, slope = view.slopes_of(z)
    free = z.clone().requires_grad_()
    exact = view.log_joint(free)
    (steep,) = torch.autograd.grad(exact.sum(), free)
    torch.testing.assert_close(value, exact.detach(), atol=1e-3, rtol=0)
    torch.testing.assert_close(slope, steep, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(view.log_joint_of(z), exact.detach(), atol=1e-3, rtol=0)


def test_a_thousand_items_with_few_comparisons_are_held_without_a_stochastic_step():
    data, truth = sparse_table(1000, 10_000, seed=5)
    post = prefdensity.fit("bradley_terry", data, progress=False)
    assert post.status.method == "variational"
    assert post.status.trusted
    draws = post.draws["utility"] - post.draws["utility"].mean(1, keepdims=True)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    truth = truth - truth.mean()
    assert 0.87 < np.mean((low < truth) & (truth < high)) < 0.93  # three standard errors, .0095 each
    assert post.marks("utility")["safe"].mean() > 0.9


def test_a_look_and_all_weights_agree_where_weights_serve():
    data, _ = sparse_table(120, 40_000, seed=2)
    view = View(load_program("bradley_terry"), cells_of(data, ("a", "b")))
    found = laplace(view)
    ours = check_mixture(view, found, 2000, torch.Generator().manual_seed(0))
    weights = check_guide(view, found, 2000, torch.Generator().manual_seed(1))
    assert ours.tempering == 0
    assert weights.tempering == 1
    unit = weights.z.std(0)
    off = (ours.z.mean(0) - weights.z.mean(0)) / unit
    # either mean has an error of 1 / sqrt(2000), weighed ones a little more: 121 times, five errors
    assert float(off.abs().max()) < 5 * (2.2 / 2000) ** 0.5
    assert ours.log_evidence == pytest.approx(weights.log_evidence, abs=4 * np.hypot(ours.elbo_se, weights.elbo_se))


def test_errors_are_those_of_what_is_left_of_the_displacement():
    view = LogGamma(20.0, 5)
    z = view.mixture.draw(1000, torch.Generator().manual_seed(0))[0]
    zero = torch.zeros(5, dtype=z.dtype)
    first, second = (torch.tensor(each, dtype=z.dtype) * z.std(0) for each in ([0, 0.5, -0.5, 0, 0], [0, 0, 0, 0.3, 0]))
    seen = Displacement(first, second, zero, zero, zero, zero)
    plain = 1.96 / 1000**0.5
    for added, off in ((True, [0, 0, 0, 0.3, 0]), (False, [0, 0.5, 0.5, 0.3, 0])):
        error = errors_of_displaced(view, z, seen, added, 1000)["worth"]
        assert error.tolist() == pytest.approx(np.hypot(off, plain).tolist(), rel=0.1)  # the sd is that of 256 draws
    noise = Displacement(zero, zero, 0.1 * z.std(0), zero, zero, zero)
    noisy = errors_of_displaced(view, z, noise, True, 1000)["worth"]
    assert noisy.tolist() == pytest.approx([np.hypot(1.96 * 0.1, plain)] * 5, rel=0.1)


def test_ranks_are_those_of_sorting_twice():
    table = normal(6, 50)
    view = type(
        "Utilities",
        (),
        {"sizes": {"utility": 50}, "constrain": lambda self, z: ({"utility": z}, {"utility": ("item",)})},
    )()
    ranks = Quantities.at(view, table).values["rank"]
    torch.testing.assert_close(ranks, (-table).argsort(-1).argsort(-1).to(table.dtype))


def test_prior_draws_of_scalars_are_those_of_whole_vectors():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({
        "item_a": np.array(["x", "y"])[rng.integers(0, 2, 60)], "item_b": "z",
        "outcome": np.array(["a", "b", "tie"])[rng.integers(0, 3, 60)], "annotator": rng.integers(0, 4, 60).astype(str),
    })  # fmt: skip
    found = load_program("davidson+reliability")
    view = View(found, cells_of(Comparisons.from_frame(frame), found.outcomes, found.needs))
    whole, alone = prior_draws(view, 4000, seed=3), _of_scalars(view)
    for name, site in view.sites.items():
        if site.is_scalar:
            for p in (0.05, 0.5, 0.95):
                share = float((whole[:, site.at].flatten() < alone[name].quantile(p)).double().mean())
                assert share == pytest.approx(p, abs=0.04)  # four errors of a difference of two samples


def test_the_density_of_a_mixture_is_the_sum_of_its_components_however_many_dimensions():
    for size in (4, 60):  # of few dimensions all components are looked at together
        base, root = normal(3, size), normal(3, size, size, seed=1) / size**0.5
        precision = root @ root.mT + torch.eye(size, dtype=torch.float64)
        weight = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        parts = [gaussian(each, by) for each, by in zip(base, precision, strict=True)]
        spread = tuple(part.spread[0] for part in parts)
        mixture = Mixture(weight, base, spread, True, 0, parts[0].mode, 0.0, spread[0])
        components = torch.distributions.MultivariateNormal(base, precision_matrix=precision)
        z = normal(500, size, seed=2)
        exact = (components.log_prob(z[:, None]) + weight.log()).logsumexp(-1)
        torch.testing.assert_close(mixture.log_density(z), exact, rtol=1e-10, atol=1e-9)
