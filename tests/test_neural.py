"""Network utilities recover a density from preferences (the toy of Dumoulin et al. 2024)."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import prefdensity
from prefdensity.density import toy


def recovered(program, size, judgements, seed, **options):
    """KL(p* || q) and TV on the points seen, the training loss and what the truth would have had."""
    domain = toy.domain(size)
    points, truth = np.ravel(domain.points), np.ravel(toy.preference(domain).probability)
    rng = np.random.default_rng(seed)
    a, b = rng.choice(size, (2, judgements), p=np.ravel(toy.pretrained(domain).probability))
    a, b = a[a != b], b[a != b]
    chance = truth[a] / (truth[a] + truth[b])
    wins = rng.random(len(a)) < chance
    labels, seen = np.array([f"{k:04d}" for k in range(size)]), np.unique(np.r_[a, b])
    frame = pd.DataFrame({"item_a": labels[a], "item_b": labels[b], "outcome": np.where(wins, "a", "b")})
    features = pd.DataFrame({"x": points[seen]}, index=labels[seen])
    data = prefdensity.Comparisons.from_frame(frame, item_features=features)
    post = prefdensity.fit(program, data, method="map", **options)
    found = np.exp(post.point["utility"] - post.point["utility"].max())
    found, known = found / found.sum(), truth[seen] / truth[seen].sum()
    kl = float((known * np.log(known / found)).sum())
    bayes = float(stats.bernoulli(chance).entropy().mean())
    return kl, 0.5 * np.abs(known - found).sum(), -post.status.log_likelihood / data.n_judgements, bayes


@pytest.mark.slow
def test_a_small_network_finds_both_modes():
    kl, tv, loss, bayes = recovered("neural(width=16, depth=2, input_scale=6.0)", 100, 2**12, 0, restarts=2)
    assert kl < 0.10
    assert tv < 0.20
    assert loss < bayes + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_recovery_at_the_published_size(seed):
    program = "neural(width=64, depth=3, input_scale=6.0)"
    kl, tv, loss, bayes = recovered(program, 1024, 2**15, seed, restarts=2)
    print(f"\nKL {kl:.4f}, TV {tv:.3f}, training loss {loss:.4f}, the truth's {bayes:.4f}")
    assert kl <= 0.012
    assert tv <= 0.06
    assert loss <= bayes + 0.006
