"""No-U-turn chains against exact distributions, and what they learn, cost and keep."""

import numpy as np
import pytest
import torch
from contract import table, vectors, view_of
from device import Device
from pyro.ops.stats import effective_sample_size
from scipy import integrate, stats

import prefdensity
from prefdensity.inference import chains
from prefdensity.inference.chains import Group, walk
from prefdensity.inference.fitting import viewed
from prefdensity.inference.nuts import StepSize, Trajectories
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program

ROOT = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.2, 2.0]])
PRECISION = np.linalg.inv(ROOT @ ROOT.T)
BENT = 0.7


def gaussian(w):
    return -0.5 * np.einsum("ci,ij,cj->c", w, PRECISION, w), -w @ PRECISION


def heavy(w, degrees=6):
    """Student's t with a correlation."""
    square = np.einsum("ci,ij,cj->c", w, PRECISION, w)
    steep = -(degrees + w.shape[1]) / (degrees + square)
    return -(degrees + w.shape[1]) / 2 * np.log1p(square / degrees), steep[:, None] * (w @ PRECISION)


def banana(w):
    """x and y - bent x^2 are standard normal."""
    off = w[:, 1] - BENT * w[:, 0] ** 2
    slope = np.stack([-w[:, 0] + off * 2 * BENT * w[:, 0], -off], 1)
    return -0.5 * w[:, 0] ** 2 - 0.5 * off**2, slope


def skew(w):
    """Flat on one side, steep on the other: log p = x - exp(x) - x^2 / 20."""
    return (w - np.exp(w) - w**2 / 20).sum(1), 1 - np.exp(w) - w / 10


def started(target, w, size, deepest, seed=0):
    return Trajectories(target, w, np.full(len(w), size), np.random.default_rng(seed), deepest)


def learned(trajectories, warmup, size=0.5):
    """Let chains learn their step."""
    step = StepSize(size)
    for _ in range(warmup):
        trajectories.sizes[:] = step.size
        trajectories.walk(1)
        step.learn(trajectories.acceptance.mean())
    trajectories.sizes[:] = step.averaged


def walked(target, start, draws, warmup=300, deepest=10):
    """Draws [chain, draw, dimension] after the step is learned."""
    trajectories = started(target, start, 0.5, deepest)
    learned(trajectories, warmup)
    return trajectories.walk(draws)


def off(w, truth):
    """How far means of w [chain, draw, figure] are from the truth, in Monte-Carlo standard errors."""
    size = effective_sample_size(torch.from_numpy(w), 0, 1).numpy()
    return np.abs(w.mean((0, 1)) - truth) / (w.std((0, 1)) / np.sqrt(size))


# --- exact


@pytest.mark.parametrize("deepest", [1, 2, 4])
@pytest.mark.parametrize("size", [0.3, 1.1])
def test_draws_of_a_bent_density_stay_draws_of_it(size, deepest):
    # chains are independent: Kolmogorov's distance of 12 figures has a p-value below 1e-5 once in 8,000 runs
    rng = np.random.default_rng(deepest)
    x, y = rng.standard_normal((2, 5000))
    w = np.stack([x, BENT * x**2 + y], 1)
    trajectories = started(banana, w, size, deepest, seed=1)
    end = trajectories.walk(3)[:, -1]
    assert (end != w).any(1).mean() > 0.5  # they have moved
    for each in (end[:, 0], end[:, 1] - BENT * end[:, 0] ** 2):
        assert stats.kstest(each, "norm").pvalue > 1e-5


def test_means_and_covariances_of_a_gaussian_are_found():
    # nine figures, each beyond five standard errors once in 1.7 million
    w = walked(gaussian, np.zeros((4, 3)) + np.arange(4)[:, None], 1000)
    upper = np.triu_indices(3)
    figures = np.concatenate([w, w[..., upper[0]] * w[..., upper[1]]], -1)
    assert (off(figures, np.r_[np.zeros(3), (ROOT @ ROOT.T)[upper]]) < 5).all()


def test_moments_of_a_bent_density_are_found():
    x, y = np.moveaxis(walked(banana, np.zeros((16, 2)), 500), -1, 0)
    figures = np.stack([x, y, x * x, x * y, y * y, x * x * y], -1)
    truth = [0, BENT, 1, 0, 3 * BENT**2 + 1, 3 * BENT]
    assert (off(figures, truth) < 5).all()


def test_moments_of_a_skew_density_are_those_of_quadrature():
    def moment(power):
        return integrate.quad(lambda x: x**power * np.exp(x - np.exp(x) - x**2 / 20), -40, 6, epsabs=1e-12)[0]

    w = walked(skew, np.zeros((16, 1)), 1000)
    figures = np.concatenate([w, w**2, w**3], -1)
    assert (off(figures, np.array([moment(1), moment(2), moment(3)]) / moment(0)) < 5).all()


def test_short_trajectories_sample_a_correlated_heavy_tail():
    w = walked(heavy, np.full((64, 3), 3.0), 100, warmup=40, deepest=3).reshape(-1, 3)
    # x' P x / 3 is F(3, 6); 6,400 draws are worth some 2,000: Kolmogorov's distance beyond .045 once in 10,000
    square = np.einsum("ci,ij,cj->c", w, PRECISION, w) / 3
    assert stats.kstest(square, stats.f(3, 6).cdf).statistic < 0.045
    assert stats.kstest(w[:, 0], stats.t(6).cdf).statistic < 0.045


def test_the_step_is_learned_for_the_acceptance_that_is_aimed_at():
    trajectories = started(gaussian, np.zeros((4, 3)), 20.0, 10)
    learned(trajectories, 200, size=20.0)
    heard = []
    for _ in range(200):
        trajectories.walk(1)
        heard.append(trajectories.acceptance.mean())
    assert 0.7 < np.mean(heard) < 0.95  # 800 of them, an sd of .2 each
    assert 0.3 < trajectories.sizes[0] < 3


def test_where_there_is_no_density_trajectories_diverge_and_chains_stay_inside():
    def half(w):
        inside = w[:, 0] > 0
        return np.where(inside, -w[:, 0], np.nan), np.where(inside[:, None], -np.ones_like(w), np.nan)

    trajectories = started(half, np.ones((20, 1)), 0.5, 10)
    w = trajectories.walk(200)
    assert (w > 0).all()
    assert 0 < trajectories.divergences < 4000


# --- what a walk costs, learns and keeps


def counted(view):
    """Count passes of a view's density by how many vectors each has."""
    passes, log_joint = [], view.log_joint

    def joint(z):
        passes.append(len(z))
        return log_joint(z)

    view.log_joint = joint
    return passes


def small(rows=40):
    return viewed(load_program("bradley_terry"), table(rows=rows, seed=1))


def groups(view, count, scale=0.3):
    base = torch.zeros(view.dimension, dtype=view.dtype, device=view.device)
    return [Group(base, torch.full_like(base, scale), vectors(view, count, scale=0.3).to(base))]


def test_a_walk_costs_what_is_known_in_advance(monkeypatch):
    monkeypatch.setattr(chains, "captured", lambda function, example: function)
    view = small()
    passes = counted(view)
    walk(view, groups(view, 8, 1e-3), draws=5, warmup=6, seed=0, deepest=3, enough=lambda z: False, rounds=3)
    # seven steps a transition in coordinates in which every trajectory is too short, and one look after each change
    assert len(passes) <= 7 * (6 + 3 * 5) + 3
    assert set(passes) == {8}


def test_chains_do_not_wait_for_the_deepest_tree_of_each_transition():
    leaves, target = [], banana

    def seen(w):
        leaves.append(len(w))
        return target(w)

    trajectories = started(seen, np.zeros((16, 2)), 0.2, 8)
    kept, alone = trajectories._finish, []

    def finish(rows):
        alone.append(trajectories._leaves[rows].copy())
        kept(rows)

    trajectories._finish = finish
    trajectories.walk(200)
    steps = np.concatenate(alone).sum() / 16  # of a chain
    assert len(leaves) < 1.3 * steps


def test_a_seed_gives_the_same_draws():
    view = small()
    one, same, other = (walk(view, groups(view, 3), draws=10, warmup=10, seed=s, deepest=5).z for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_many_draws_teach_coordinates_without_correlation_and_few_their_spread_alone():
    view = small()
    size, rng = view.dimension, np.random.default_rng(0)
    frame = torch.from_numpy(rng.standard_normal((size, size)))
    for count in (8 * size, 20 * size):
        density = chains._Density(view, [Group(torch.zeros(size).double(), frame, torch.zeros(2, size).double())])
        w = rng.standard_normal((2, count // 2, size)) * np.arange(1, size + 1) + 3
        z = density.z(w).flatten(0, 1)
        density.learn(w)
        ((base, learned),) = density.frames
        torch.testing.assert_close(base, z.mean(0))
        if count > 10 * size:
            torch.testing.assert_close(learned @ learned.T, torch.cov(z.T))
        else:
            directions = learned / frame
            torch.testing.assert_close(directions, directions[:1].expand(size, -1))
            expected = torch.from_numpy(w.reshape(-1, size).var(0) * count + 5) / (count + 5)
            torch.testing.assert_close(directions[0], expected.sqrt())


@pytest.mark.parametrize("dense", [True, False])
def test_groups_walk_in_coordinates_of_their_own(dense):
    view = small()
    size = view.dimension
    base, scale = vectors(view, 2, scale=0.2), torch.tensor([0.5, 0.05], dtype=view.dtype)
    frames = [torch.diag(s.expand(size)) if dense else s.expand(size) for s in scale]
    z = vectors(view, 5, seed=3)
    density = chains._Density(view, [Group(base[k], frames[k], z[:n]) for k, n in enumerate((2, 3))])
    w = density.w(z)
    torch.testing.assert_close(density.z(w), z)
    value, slope = density(w)
    free = z.clone().requires_grad_()
    expected = view.log_joint(free)
    (steep,) = torch.autograd.grad(expected.sum(), free)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(slope, steep * scale[[0, 0, 1, 1, 1], None], rtol=1e-10)


def test_passes_are_of_bounded_memory():
    view = small()
    expected = chains._Density(view, groups(view, 5))(vectors(view, 5).numpy())
    view._room = 2 * view._held
    passes = counted(view)
    density = chains._Density(view, groups(view, 5))
    for found, of in zip(density(vectors(view, 5).numpy()), expected, strict=True):
        np.testing.assert_allclose(found, of, rtol=1e-12)
    assert max(passes) == 2


def interrupted_after(count):
    """What a walk tells of its progress, until somebody presses Ctrl-C."""

    def report(done):
        if done == count:
            raise KeyboardInterrupt

    return report


def test_ctrl_c_keeps_the_draws_of_all_chains():
    view = small()
    how = {"warmup": 10, "seed": 0, "deepest": 4}
    found = walk(view, groups(view, 3), draws=100, report=interrupted_after(40), **how)
    assert found.interrupted
    assert found.z.shape == (3, 30, view.dimension)
    whole = walk(view, groups(view, 3), draws=100, **how)
    assert torch.equal(found.z, whole.z[:, :30])
    with pytest.raises(KeyboardInterrupt):
        walk(view, groups(view, 3), draws=100, report=interrupted_after(12), **how)


def test_ctrl_c_in_a_fit_by_nuts_is_told(monkeypatch):
    data = table(rows=40, seed=1)
    monkeypatch.setattr(chains, "_Density", interrupting(chains._Density, 1000))
    post = prefdensity.fit("bradley_terry", data, method="nuts", draws=1000, warmup=20, progress=False)
    assert 4 * 4 <= post.n_draws < 4000
    assert post.n_draws % 4 == 0
    assert "interrupted after" in " ".join(post.quality())
    assert not post.status.converged
    assert post.status.steps == post.n_draws


def interrupting(kind, calls):
    """A density at whose so-many-th call somebody presses Ctrl-C."""

    class Interrupting(kind):
        left = calls

        def __call__(self, w):
            type(self).left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return super().__call__(w)

    return Interrupting


# --- on a device


def test_chains_on_the_device_are_those_of_the_cpu_and_wait_twice_for_a_step():
    view, _ = view_of("davidson")
    here = walk(view, groups(view, 3), draws=15, warmup=5, seed=1, deepest=4)
    with Device() as device:
        there = View(view.program, view.cells.to("cuda"))
        found = walk(there, groups(there, 3), draws=15, warmup=5, seed=1, deepest=4)
        torch.testing.assert_close(found.z.cpu(), here.z, rtol=1e-6, atol=1e-6)
        density = chains._Density(there, groups(there, 3))
        w = np.zeros((3, view.dimension))
        density(w)
        device.clear()
        density(w)
        assert device.syncs.total() == 2  # where the chains are, and what the density is there
        assert device.launches.total() <= 8
