"""Gaussian-process utilities recover a density from preferences alone (the toy of Dumoulin et al. 2024)."""

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.density import toy

DOMAIN = toy.domain(400)
POINTS = np.linspace(-10, 10, 401)[:-1] + 0.025
TRUTH = np.ravel(toy.preference(DOMAIN, toy.WEIGHTS).probability)
PROPOSAL = np.ravel(toy.pretrained(DOMAIN).probability)
PROGRAM = f"gp(lengthscale={1 / POINTS.std():.4f})"  # lengthscale 1 in the units of the domain


def judged(n, seed):
    """Pairs from the proposal, judged by Luce's rule."""
    rng = np.random.default_rng(seed)
    a, b = rng.choice(400, (2, n), p=PROPOSAL)
    a, b = a[a != b], b[a != b]
    labels = [f"{k:03d}" for k in range(400)]
    wins = rng.random(len(a)) < TRUTH[a] / (TRUTH[a] + TRUTH[b])
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": np.where(wins, "a", "b")})
    frame[["item_a", "item_b"]] = frame[["item_a", "item_b"]].map(lambda k: labels[k])
    missing = set(labels) - set(frame["item_a"]) - set(frame["item_b"])
    kept = [k for k in range(400) if labels[k] not in missing]
    features = pd.DataFrame({"x": POINTS[kept]}, index=[labels[k] for k in kept])
    return prefdensity.Comparisons.from_frame(frame, item_features=features), kept


def recovered(n, seed):
    """KL(p* || q), TV, and whether the 90 % interval covers the mass of the left mode, on the items that were seen."""
    data, kept = judged(n, seed)
    post = prefdensity.fit(PROGRAM, data, draws=400, method="laplace")
    density = prefdensity.density.of(post)
    truth = TRUTH[kept] / TRUTH[kept].sum()
    found = np.ravel(density.mean().probability)
    left = POINTS[kept] < 0
    band = density.interval(left)
    kl = float((truth * np.log(truth / found)).sum())
    return kl, 0.5 * np.abs(truth - found).sum(), bool(band.lower <= truth[left].sum() <= band.upper)


def test_a_density_is_recovered_from_a_few_thousand_preferences():
    kl, tv, _ = recovered(2**12, 0)
    assert kl < 0.10
    assert tv < 0.20


@pytest.mark.slow
def test_recovery_at_the_published_sizes():
    sizes = (2**9, 2**11, 2**13, 2**15)
    runs = np.array([[recovered(n, 100 + seed) for seed in range(5)] for n in sizes], float)
    mean = runs[..., 0].mean(1)
    widest, covered = runs[-1, :, 1].max(), int(runs[..., 2].sum())
    print(f"\nmean KL {mean.round(4)}, largest TV at 2^15 {widest:.3f}, covered {covered} of 20")
    assert (mean <= [0.24, 0.10, 0.03, 0.012]).all()
    assert (np.diff(mean) < 0).all()
    assert widest <= 0.08
    assert covered >= 16
