"""The grid of hyperparameters on marginals whose integral, mean and spread are known."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import prefdensity
from prefdensity.data import simulate
from prefdensity.inference.batch import Batch, climb
from prefdensity.inference.mode import Mode
from prefdensity.inference.nested import FIRST, Point, nested
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of


@dataclass
class Known:
    """A marginal of hyperparameters by its log density, with nothing else to infer."""

    log_density: object
    size: int
    iterations: int = 0

    def __post_init__(self):
        self.held, self.free = torch.arange(self.size), torch.arange(self.size, self.size)

    def first(self, h):
        return h, torch.full_like(h, FIRST)

    def __call__(self, h, tables):
        nothing = torch.zeros(0, self.size, dtype=torch.float64)
        found = [float(self.log_density(each.numpy())) for each in h]
        return [
            Point(each, value, Mode(each, value, True, 1), nothing, lambda: None, 0.0, 0.0)
            for each, value in zip(h, found, strict=True)
        ]


def on_grid(found):
    """Places [point, hyper] and weights [point] that add up to 1."""
    value = np.array([point.value for point in found.points])
    weight = np.exp(value - value.max())
    return np.stack([point.mode.z.numpy() for point in found.points]), weight / weight.sum()


@pytest.mark.parametrize("sd", [[0.4], [0.9], [0.3, 0.8]])
def test_a_gaussian_is_summed_up_exactly(sd):
    """Sums at three quarters of a standard deviation are integrals to 1e-14; the tail beyond 4.5 holds 7e-6.

    The 60 points of two hyperparameters reach 3.3 standard deviations, beyond which there is .0047.
    """
    size, mean = len(sd), np.linspace(0.3, -0.6, len(sd))
    mixed = 0.6 if size == 2 else 0.0
    covariance = np.diag(np.square(sd)) + mixed * np.prod(sd) * (1 - np.eye(size))
    law = stats.multivariate_normal(mean, covariance)
    found = nested(Known(lambda h: law.logpdf(h) - 3.5, size), torch.zeros(size, dtype=torch.float64))
    assert found.converged
    assert found.log_evidence == pytest.approx(
        -3.5 if size == 1 else -3.5 + math.log1p(-0.0047), abs=1e-4 if size == 1 else 5e-4
    )
    place, weight = on_grid(found)
    np.testing.assert_allclose(weight @ place, mean, atol=1e-3)
    np.testing.assert_allclose(
        np.cov(place.T, aweights=weight, ddof=0), covariance.squeeze(), rtol=2e-3 if size == 1 else 0.05
    )
    np.testing.assert_allclose(found.full @ found.full.T, covariance, rtol=1e-6)
    if size == 1:  # three quarters of a standard deviation apart, until one hundred-thousandth of the peak
        np.testing.assert_allclose(np.diff(np.sort(place[:, 0])) / sd[0], 0.75, rtol=1e-6)
        assert len(place) == 13
        assert np.abs(place[:, 0] - mean[0]).max() / sd[0] == pytest.approx(4.5, rel=1e-2)


def test_a_skewed_marginal_is_followed_into_its_tail():
    """The logarithm of a variance of which little is known: a log gamma, by quadrature."""

    def log_density(h):
        return 0.8 * h[0] - 0.8 * math.exp(h[0])

    exact, _ = integrate.quad(lambda x: math.exp(log_density([x])), -60, 10)
    found = nested(Known(log_density, 1), torch.ones(1, dtype=torch.float64))
    assert found.log_evidence == pytest.approx(math.log(exact), abs=2e-4)
    place, _ = on_grid(found)
    assert place.min() < -10


def test_what_is_known_sharply_needs_no_grid():
    law = stats.multivariate_normal([0.2, -0.1], np.diag([0.05**2, 0.6**2]))
    found = nested(Known(lambda h: law.logpdf(h) + 2, 2), torch.zeros(2, dtype=torch.float64))
    place, _ = on_grid(found)
    assert np.ptp(place[:, 0]) < 1e-6
    assert len(place) == 13
    assert found.log_evidence == pytest.approx(2.0, abs=1e-4)


def test_a_climb_from_where_there_is_no_density_ends_there():
    program = load_program("thurstone_case3")
    view = View(program, cells_of(simulate.population(4, 3, 60, seed=1)[0], program.outcomes, program.needs))
    start = torch.zeros(2, view.dimension, dtype=torch.float64)
    start[0] = math.nan
    free = torch.tensor([k for k in range(view.dimension) if k not in view.hyper])
    top = climb(Batch(view), start, torch.zeros(2, dtype=torch.int64), free, view.hyper)
    assert top.value[0] == -math.inf
    assert top.converged.tolist() == [False, True]


def test_a_slope_that_leads_to_no_density_is_not_followed():
    """Items felt with unequal noise: from one spread of it to the next, slopes lead where choices are impossible."""
    data, truth = simulate.population(6, 12, 900, seed=3, reliability_sd=0.4, position_bias=0.4, lapse=0.05)
    post = prefdensity.fit("thurstone_case3", data, method="laplace", draws=100, restarts=1, progress=False)
    assert post.status.converged
    assert np.corrcoef(post.utilities().mean(0), truth.utilities[0])[0, 1] > 0.9
