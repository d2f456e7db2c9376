"""Tails that are written by functions of SciPy, against the laws themselves."""

import numpy as np
import pytest
from scipy import stats

from prefdensity.checking.votes import _beta_binomial, tail


@pytest.mark.parametrize("size", [1, 2, 7, 400])
@pytest.mark.parametrize("share", [1e-6, 0.03, 0.5, 0.97])
def test_tails_of_votes_are_binomial_above_the_mean(size, share):
    seen = np.arange(size + 1.0)
    expected = np.full(size + 1, share * size)
    told = np.where(seen > expected + 1, stats.binom.sf(seen - 1, size, share), 1.0)
    np.testing.assert_allclose(tail(seen, np.full(size + 1, float(size)), expected), told, rtol=1e-9)


def test_no_votes_are_no_tail():
    assert tail(0.0, 0.0, 0.0) == 1.0


@pytest.mark.parametrize(("n", "a", "b"), [(3, 0.2, 5.0), (50, 2.0, 2.0), (400, 1e-4, 3.0)])
def test_correlated_votes_are_beta_binomial(n, a, b):
    k = np.arange(n + 1)
    np.testing.assert_allclose(_beta_binomial(k, n, a, b), stats.betabinom.pmf(k, n, a, b), rtol=1e-8)
