"""Calibration of nuisances: exact identities of the brackets and their multipliers, under every pattern."""

import numpy as np
import pytest
from scipy.optimize import minimize

from prefdensity.judged.rungs import Rung
from prefdensity.pcal.calibration import Bracket, brackets, influence, multipliers

CALIBRATIONS = ("none", "identity", "scalar", "single", "split")


def both(p1, p2, labelled, compared, after, before):
    """Return the brackets of labels and preferences."""
    return brackets((Rung("label", labelled, p1), Rung("preferences", compared, p2)), (after, before))


def random_problem(seed=0, n=300, d=3):
    """Arbitrary psi1 and wrong psi2, psi3, with probabilities that depend on the unit."""
    rng = np.random.default_rng(seed)
    psi1 = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    psi2 = psi1 @ rng.normal(size=(d, d)) * 0.4 + rng.normal(size=(n, d))
    psi3 = 0.5 * psi2 + 0.3 * psi1 + rng.normal(size=(n, d))
    p2 = rng.uniform(0.3, 1, n)
    return psi1, psi2, psi3, p2 * rng.uniform(0.1, 1, n), p2


def under_every_pattern(psi1, psi2, psi3, p1, p2):
    """Return for patterns 1, 2, 3: their probabilities [unit], S1/p1 [unit] and the brackets."""
    n = len(psi1)
    for probability, labelled, compared in ((p1, 1, 1), (p2 - p1, 0, 1), (1 - p2, 0, 0)):
        s1, s2 = np.full(n, bool(labelled)), np.full(n, bool(compared))
        yield probability, s1 / p1, both(p1, p2, s1, s2, (psi2,), (psi3,))


def exact_moments(problem, matrices):
    """Return the exact E[w phi], and E[w^2 phi phi'] over patterns and units, for given multipliers."""
    psi1 = problem[0]
    mean, square = 0.0, 0.0
    for probability, weight, parts in under_every_pattern(*problem):
        phi = influence(psi1, weight, parts, matrices)
        mean = mean + probability[:, None] * phi
        square = square + (phi * probability[:, None]).T @ phi / len(psi1)
    return mean, square


def gram(k, a, b):
    return (a * k[:, None]).T @ b / len(a)


def test_brackets_are_mean_zero_uncorrelated_and_have_the_variances_said():
    psi1, _, _, p1, p2 = problem = random_problem()
    first, cross, squares = 0.0, 0.0, [0.0, 0.0]
    for probability, weight, parts in under_every_pattern(*problem):
        z2, z3 = (part.weight for part in parts)
        first = first + np.abs([probability * z2, probability * z3]) * np.sign([z2, z3])
        cross = cross + probability * z2 * z3
        squares = [s + probability * z**2 for s, z in zip(squares, (z2, z3), strict=True)]
        np.testing.assert_allclose((weight * z2)[weight > 0], ((1 / p1 - 1 / p2) / p1)[weight > 0], atol=1e-10)
    np.testing.assert_allclose(first, 0, atol=1e-12)
    np.testing.assert_allclose(cross, 0, atol=1e-12)
    np.testing.assert_allclose(squares, [part.variance for part in parts], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_variance_formulas_hold_for_wrong_nuisances(calibration):
    psi1, psi2, psi3, p1, p2 = problem = random_problem()
    u, v = 1 / p1 - 1 / p2, 1 / p2 - 1
    parts = [Bracket("2", u, u, (psi2,)), Bracket("3", v, v, (psi3,))]
    matrices = multipliers(psi1, np.ones(len(psi1)), parts, calibration)
    mean, found = exact_moments(problem, matrices)
    np.testing.assert_allclose(mean, psi1, atol=1e-12)  # unbiased unit by unit
    label_only = gram(1 / p1, psi1, psi1)
    if calibration == "none":
        expected = label_only
    elif calibration == "identity":  # E psi1 psi1' + E u r2 r2' + E v r3 r3'
        expected = (
            gram(np.ones_like(u), psi1, psi1) + gram(u, psi1 - psi2, psi1 - psi2) + gram(v, psi1 - psi3, psi1 - psi3)
        )
    elif calibration == "single":  # label-only less C G^-1 C'
        c = gram(u, psi1, psi2) + gram(v, psi1, psi3)
        expected = label_only - c @ np.linalg.solve(gram(u, psi2, psi2) + gram(v, psi3, psi3), c.T)
    elif calibration == "split":
        expected = label_only
        for k, psi in ((u, psi2), (v, psi3)):
            expected = expected - gram(k, psi1, psi) @ np.linalg.solve(gram(k, psi, psi), gram(k, psi1, psi).T)
    else:  # one number each minimises tr Q Sigma
        q = np.linalg.inv(gram(np.ones_like(u), psi1, psi1))
        best = minimize(
            lambda m: np.trace(q @ exact_moments(problem, [[m[0] * np.eye(3)], [m[1] * np.eye(3)]])[1]),
            [1.0, 1.0],
            tol=1e-14,
        )
        assert np.trace(q @ found) == pytest.approx(best.fun, rel=1e-10)
        return
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_calibrations_are_ordered_as_proved():
    problem = random_problem(4)
    psi1, psi2, psi3, p1, p2 = problem
    u, v = 1 / p1 - 1 / p2, 1 / p2 - 1
    parts = [Bracket("2", u, u, (psi2,)), Bracket("3", v, v, (psi3,))]
    sigma = {
        name: exact_moments(problem, multipliers(psi1, np.ones(len(psi1)), parts, name))[1] for name in CALIBRATIONS
    }
    for smaller, larger in (("split", "single"), ("single", "none"), ("split", "scalar")):
        assert np.linalg.eigvalsh(sigma[larger] - sigma[smaller]).min() > -1e-10
    assert np.trace(sigma["identity"]) > np.trace(sigma["none"])  # these nuisances are wrong enough to harm


def test_a_dictionary_is_at_least_as_good_as_each_of_its_nuisances():
    psi1, psi2, psi3, p1, p2 = random_problem(5)
    other2, other3, u, v = psi3 + psi1, psi2 - psi1, 1 / p1 - 1 / p2, 1 / p2 - 1
    sigma = {}
    for name, after, before in (
        ("one", (psi2,), (psi3,)),
        ("other", (other2,), (other3,)),
        ("both", (psi2, other2), (psi3, other3)),
    ):
        parts = [Bracket("2", u, u, after), Bracket("3", v, v, before)]
        matrices = multipliers(psi1, np.ones(len(psi1)), parts, "split")
        sigma[name] = 0.0
        for labelled, compared, p in ((1, 1, p1), (0, 1, p2 - p1), (0, 0, 1 - p2)):
            s1, s2 = np.full(len(p), bool(labelled)), np.full(len(p), bool(compared))
            phi = influence(psi1, s1 / p1, both(p1, p2, s1, s2, after, before), matrices)
            sigma[name] = sigma[name] + gram(p, phi, phi)
    for name in ("one", "other"):
        assert np.linalg.eigvalsh(sigma[name] - sigma["both"]).min() > -1e-10


def test_brackets_without_weight_are_dropped():
    n = 4
    half, one, true = np.full(n, 0.5), np.ones(n), np.ones(n, bool)
    guess = (np.ones((n, 1)),)
    assert [b.name for b in both(half, half, true, true, guess, guess)] == ["unlabelled"]
    assert [b.name for b in both(half, one, true, true, guess, guess)] == ["preferences"]
    assert both(one, one, true, true, guess, guess) == []
