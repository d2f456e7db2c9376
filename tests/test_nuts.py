"""Laplace and SVI against long Markov chains: means and spreads of all differences between items."""

import numpy as np
import pytest
import torch
from pyro.ops.stats import effective_sample_size

import prefdensity
from prefdensity.data.comparisons import Comparisons

BASEBALL = prefdensity.read("example:baseball")


def differences(post):
    """All contrasts u_i - u_j [draw, pair]."""
    u = post.draws["utility"]
    i, j = np.triu_indices(u.shape[1], 1)
    return u[:, i] - u[:, j]


def effective(values, chains):
    """Effective sample size [column] of the mean, and a bound of it for the standard deviation."""
    shaped = torch.tensor(values).reshape(chains, -1, values.shape[1])
    squares = (shaped - shaped.mean((0, 1))) ** 2
    sizes = [effective_sample_size(x, chain_dim=0, sample_dim=1).numpy() for x in (shaped, squares)]
    return np.minimum(sizes[0], len(values)), np.minimum(sizes[1], len(values))


def gaps(post, chains):
    """Largest difference of means in sds, and of sds in shares, over all contrasts."""
    exact, found = differences(chains), differences(post)
    sd = exact.std(0)
    mean_gap = np.abs(found.mean(0) - exact.mean(0)) / sd
    return mean_gap.max(), np.abs(found.std(0) / sd - 1).max()


@pytest.fixture(scope="module")
def short_chains():
    return prefdensity.fit("bradley_terry", BASEBALL, method="nuts", draws=600, warmup=150, chains=2, seed=1)


def test_chains_are_healthy(short_chains):
    status = short_chains.status
    assert status.converged
    assert status.r_hat < 1.01
    assert status.divergences == 0
    assert status.effective > 400
    assert short_chains.n_draws == 1200
    assert status.chains == 2
    assert "the chains agree" in " ".join(short_chains.quality())


@pytest.mark.parametrize("method", ["laplace", "svi"])
def test_approximations_agree_with_chains_within_monte_carlo_error(short_chains, method):
    # 42 standardised gaps, each beyond 5 once in 1.7 million: false alarm 2e-5
    post = prefdensity.fit("bradley_terry", BASEBALL, method=method, draws=4000)
    exact, found = differences(short_chains), differences(post)
    of_mean, of_spread = effective(exact, 2)
    sd = exact.std(0)
    mean_error = sd * np.sqrt(1 / of_mean + 1 / 4000)
    assert (np.abs(found.mean(0) - exact.mean(0)) < 5 * mean_error).all()
    spread_error = np.sqrt(0.5 / of_spread + 0.5 / 4000)
    assert (np.abs(found.std(0) / sd - 1) < 5 * spread_error).all()


def llmfao_cut(folder):
    """500 judgements of 59 assistants: thin data, a few judgements per item and ties."""
    data = prefdensity.read(folder / "llmfao.csv", annotator=None)
    return data.take(np.random.default_rng(0).permutation(len(data))[:500])


LONG = {"baseball": ("bradley_terry", 2000), "llmfao": ("davidson", 2000)}


@pytest.fixture(scope="module")
def long_chains():
    kept = {}

    def run(name, data: Comparisons):
        program, draws = LONG[name]
        if name not in kept:
            kept[name] = prefdensity.fit(program, data, method="nuts", draws=draws, warmup=400, chains=4)
        return kept[name]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", ["laplace", "svi"])
@pytest.mark.parametrize("name", LONG)
def test_agreement_with_long_chains(shared_data, long_chains, name, method, capsys):
    data = BASEBALL if name == "baseball" else llmfao_cut(shared_data)
    chains = long_chains(name, data)
    assert chains.n_draws >= 8000
    assert chains.status.r_hat < 1.01
    post = prefdensity.fit(LONG[name][0], data, method=method, draws=8000)
    mean_gap, spread_gap = gaps(post, chains)
    with capsys.disabled():
        print(f"\n{name}, {method}: means within {mean_gap:.3f} sd, sds within {spread_gap:.1%}")
    assert mean_gap < 0.1
    assert spread_gap < 0.1
