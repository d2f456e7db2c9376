"""The best Gaussian by fixed point: its integrals, its stationarity, and what it is for."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import prefdensity
from prefdensity.inference.arrow import Arrow
from prefdensity.inference.curvature import dense_hessian, local_curvature
from prefdensity.inference.fitting import viewed
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.laplace import laplace
from prefdensity.inference.mode import first_guess
from prefdensity.inference.quality import check_guide
from prefdensity.inference.variational import Expected, climb_from, nodes
from prefdensity.programs.loading import load_program


def table(items, people, rows, seed, ties=True, spread=1.0):
    rng = np.random.default_rng(seed)
    u, beta = spread * rng.normal(size=items), 1 + 0.5 * rng.normal(size=people)
    a = rng.integers(0, items, rows)
    b = (a + rng.integers(1, items, rows)) % items
    who = rng.integers(0, people, rows)
    outcome = np.where(rng.random(rows) < 1 / (1 + np.exp(-beta[who] * (u[a] - u[b]) - 0.3)), "a", "b")
    outcome = np.where(rng.random(rows) < (0.15 if ties else 0.0), "tie", outcome)
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": outcome, "annotator": who})
    return prefdensity.read(frame.astype({"item_a": str, "item_b": str, "annotator": str}), ordered=True), u


@pytest.mark.parametrize("sparing", [False, True])
@pytest.mark.parametrize("dimensions", range(1, 7))
def test_nodes_integrate_polynomials_of_degree_five(dimensions, sparing):
    at, weight = nodes(dimensions, sparing)
    for powers in itertools.product(range(6), repeat=dimensions):
        if sum(powers) > 5:
            continue
        exact = np.prod([0.0 if p % 2 else np.prod(np.arange(1, p, 2)) for p in powers])
        found = float(weight @ (at ** torch.tensor(powers)).prod(-1))
        assert found == pytest.approx(exact, abs=1e-10)


def expectations(view, mean, covariance, power):
    """Return E[density], E[gradient] and -E[Hessian] by nodes in all dimensions at once: a brute-force twin."""
    x, w = np.polynomial.hermite_e.hermegauss(power)
    e = torch.tensor(list(itertools.product(x, repeat=len(mean))), dtype=torch.float64)
    weight = torch.tensor(list(itertools.product(w / w.sum(), repeat=len(mean))), dtype=torch.float64).prod(-1)
    z = mean + e @ torch.linalg.cholesky(covariance).T
    slope, bend = dense_hessian(view.log_joint, z, view.work)
    return weight @ view.log_joint(z), weight @ slope, -(weight[:, None, None] * bend).sum(0)


@pytest.mark.parametrize("name", ["utility_scale(fixed=1)+davidson", "bradley_terry"])
def test_expectations_are_those_of_nodes_in_all_dimensions(name):
    data, _ = table(3, 2, 30, seed=1, ties="davidson" in name)
    view = viewed(load_program(name), data)
    local = local_curvature(view, first_guess(view))
    root = 0.15 * torch.randn(view.dimension, view.dimension, generator=torch.Generator().manual_seed(0)).double()
    covariance = root @ root.T + 0.02 * torch.eye(view.dimension, dtype=torch.float64)
    mean = 0.3 * torch.linspace(-1, 1, view.dimension, dtype=torch.float64)
    found = Expected(view, local, torch.empty(0, dtype=torch.int64))(mean, covariance)
    expected = expectations(view, mean, covariance, 5)
    assert found[0] == pytest.approx(float(expected[0]), abs=2e-4)
    torch.testing.assert_close(found[1], expected[1], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(found[2], expected[2], atol=5e-3, rtol=2e-3)


def test_the_fixed_point_is_stationary_and_its_bound_is_that_of_draws():
    data, _ = table(12, 6, 150, seed=2)
    view = viewed(load_program("utility_scale(fixed=1)+davidson+position_bias+crowd_bt"), data)
    found = laplace(view)
    best = climb_from(view, found).top()
    (spread,), z = best.spread, best.mode.z
    covariance = spread.frame() @ spread.frame().T
    local = local_curvature(view, z)
    value, gradient, target = Expected(view, local, torch.empty(0, dtype=torch.int64))(z, covariance)
    assert float(gradient @ covariance @ gradient) < 1e-2  # twice the nats that a step of the mean would gain
    torch.testing.assert_close(covariance @ target, torch.eye(len(z), dtype=z.dtype), atol=0.1, rtol=0)
    bound = value + spread.log_det + 0.5 * len(z) * (1 + LOG_2PI)
    assert best.mode.value == pytest.approx(bound, abs=1e-2)
    checked = check_guide(view, best, 4000, torch.Generator().manual_seed(0))
    drawn = check_guide(view, found, 4000, torch.Generator().manual_seed(0))

    def drawn_bound(guide):  # of its own draws, not of those that a check has moved
        z, log_q = guide.draw(40_000, torch.Generator().manual_seed(1))
        gap = view.log_joint_of(z) - log_q
        return float(gap.mean()), float(gap.std()) / 200

    by_mode, error = drawn_bound(found)
    assert bound > by_mode - 4 * error
    mean, error = drawn_bound(best)
    assert bound == pytest.approx(mean, abs=4 * error + 0.02)  # and the nodes' error
    assert checked.k_hat < drawn.k_hat + 0.2


@pytest.mark.parametrize(("rows", "few"), [(2000, True), (60, False)])
def test_few_nodes_serve_where_they_say_the_same(rows, few):
    data, _ = table(20, 10, rows, seed=3, ties=False, spread=1.5)
    view = viewed(load_program("reliability"), data)
    climb = climb_from(view, laplace(view))
    assert climb.expected.dimensions == 2  # a margin and a reliability
    assert climb.expected.sparing == few
    if few:
        covariance = torch.cholesky_inverse(climb.first.lower)
        exact, *_ = Expected(view, climb.expected.local, torch.tensor(view.hyper))(climb.first.mean, covariance)
        assert climb.expected(climb.first.mean, covariance)[0] == pytest.approx(exact, abs=0.01)


def test_sparse_tables_are_held_where_laplace_is_not():
    data, u = table(250, 3, 1500, seed=3, ties=False)
    by_mode = prefdensity.fit("bradley_terry", data, method="laplace", draws=400, progress=False)
    post = prefdensity.fit("bradley_terry", data, method="variational", draws=400, progress=False)
    assert post.status.method == "variational"
    assert post.status.elbo > by_mode.status.elbo + 0.1
    truth = u[[int(item) for item in post.items]]
    draws = post.draws["utility"] - post.draws["utility"].mean(1, keepdims=True)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    inside = np.mean((low < truth - truth.mean()) & (truth - truth.mean() < high))
    assert 0.84 < inside < 0.96  # 250 of .9: three standard errors, .019 each


@pytest.mark.slow
def test_many_annotators_of_few_votes_have_a_best_gaussian():
    """Their own entries are most of all coordinates, which elsewhere are kept apart."""
    data, _ = table(6, 600, 4800, 3, ties=False, spread=1.5)
    post = {name: prefdensity.fit("reliability", data, method=name, seed=0) for name in ("laplace", "variational")}
    view = viewed(load_program("reliability"), data)
    assert local_curvature(view, first_guess(view)).form is Arrow
    assert post["variational"].status.elbo > post["laplace"].status.elbo
    assert post["variational"].status.k_hat < max(0.7, post["laplace"].status.k_hat)


@pytest.mark.slow
def test_a_grid_of_hyperparameters_keeps_its_places():
    data, _ = table(5, 6, 150, seed=4)
    view = viewed(load_program("davidson+reliability"), data)
    found = laplace(view)
    best = climb_from(view, found).top()
    assert 1 < len(best.weight) <= len(found.weight)
    hyper = list(view.hyper)
    for base in best.base:
        assert float((found.base[:, hyper] - base[hyper]).norm(dim=-1).min()) < 1e-12
    ours, theirs = (check_guide(view, each, 1000, torch.Generator().manual_seed(0)) for each in (best, found))
    assert ours.elbo > theirs.elbo - 3 * np.hypot(ours.elbo_se, theirs.elbo_se)


def test_programs_without_local_curvature_are_refused_in_words():
    data, _ = table(6, 12, 200, seed=5)
    with pytest.raises(prefdensity.FitError, match="variational needs curvature by comparison"):
        prefdensity.fit("annotator_types+davidson", data, method="variational", restarts=1)
