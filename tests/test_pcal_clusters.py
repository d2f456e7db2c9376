"""Intervals from clusters: corrections, degrees of freedom, and what few of them allow."""

import numpy as np
import pytest
from scipy.linalg import block_diag, sqrtm
from scipy.stats import norm, t as student
from test_pcal_intervals import only_labels, regression

from prefdensity.errors import DataError
from prefdensity.pcal import LinearNuisance, Mean, pcal
from prefdensity.pcal.intervals import cluster_degrees, corrected, degrees, effective, spread

# --- few labels, clusters -------------------------------------------------------------------------------------------


def test_clusters_are_corrected_as_bell_and_mccaffrey_do():
    rng = np.random.default_rng(7)
    sizes = rng.integers(1, 9, 12)
    cluster = np.repeat(np.arange(12), sizes)
    x = np.column_stack([rng.normal(size=len(cluster)), rng.normal(size=12)[cluster], np.ones(len(cluster))])
    y = rng.normal(size=len(cluster))
    inverse = np.linalg.inv(x.T @ x)
    error = y - x @ inverse @ x.T @ y
    values = (x * error[:, None]) @ inverse * len(x)
    found = spread(corrected(values, x, np.ones(len(x)), cluster), cluster)
    blocks = [x[cluster == c] for c in range(12)]
    adjust = block_diag(*(np.linalg.inv(sqrtm(np.eye(len(b)) - b @ inverse @ b.T)).real for b in blocks))
    sums = np.array([(adjust @ error)[cluster == c] @ b for c, b in enumerate(blocks)])
    np.testing.assert_allclose(found, inverse @ sums.T @ sums @ inverse, rtol=1e-8)


@pytest.mark.parametrize("effect", [0.0, 0.8])
def test_degrees_by_cluster_are_bell_and_mccaffrey_s(effect):
    """From whole residual makers, errors correlated within clusters as residuals are by loops over their pairs.

    Residuals that alternate in a cluster have no correlation.
    """
    rng = np.random.default_rng(12)
    cluster = np.repeat(np.arange(9), [2, 2, 4, 4, 6, 8, 8, 10, 12])
    n = len(cluster)
    x = np.column_stack([rng.normal(size=n), rng.normal(size=9)[cluster], np.ones(n)])
    inverse = np.linalg.inv(x.T @ x)
    error = np.tile([1.0, -1.0], n // 2) + 0.01 * rng.normal(size=n) + effect * rng.normal(size=9)[cluster]
    error -= x @ inverse @ x.T @ error
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j and cluster[i] == cluster[j]]
    within = max(np.mean([error[i] * error[j] for i, j in pairs]) / np.mean(error**2), 0.0)
    assert (within > 0.1) == (effect > 0)
    working = (1 - within) * np.eye(n) + within * (cluster[:, None] == cluster)
    found = cluster_degrees((x * error[:, None]) @ inverse * n, x, np.ones(n), cluster)
    maker = np.eye(n) - x @ inverse @ x.T
    for parameter in range(3):
        pulls = []
        for c in range(9):
            mine = cluster == c
            lift = np.linalg.inv(sqrtm(np.eye(mine.sum()) - x[mine] @ inverse @ x[mine].T)).real
            pulls.append(maker[mine].T @ lift @ x[mine] @ inverse[:, parameter])
        gram = np.array(pulls) @ working @ np.array(pulls).T
        assert found[parameter] == pytest.approx(np.trace(gram) ** 2 / (gram**2).sum(), rel=1e-8)


def test_one_cluster_that_tells_all_leaves_one_degree():
    """A slope that two of six clusters bear, one the mirror of the other, has one contrast behind it."""
    cluster = np.repeat(np.arange(6), 4)
    x = np.column_stack([np.where(cluster == 0, 1.0, np.where(cluster == 1, -1.0, 0.0)), cluster > 1])
    error = np.random.default_rng(3).normal(size=24)
    found = cluster_degrees(x * error[:, None], x, np.ones(24), cluster)
    assert found[0] == pytest.approx(1.0, abs=1e-6)


def test_degrees_by_equal_clusters_are_their_number_less_one():
    """Errors wholly shared or not at all: for a mean of equal clusters both give the t of their means."""
    rng = np.random.default_rng(13)
    for shared in (0.0, 3.0):
        value = rng.normal(size=(14, 5)) + shared * rng.normal(size=(14, 1))
        values = (value - value.mean()).reshape(-1, 1)
        found = cluster_degrees(values, np.ones((70, 1)), np.ones(70), np.repeat(np.arange(14), 5))
        assert found[0] == pytest.approx(13, rel=1e-8)


def test_degrees_are_satterthwaite_s_under_equal_variances_in_a_pattern():
    """Two patterns of purchases, one weighted unequally: v1 and v2 with their own degrees, by hand."""
    rng = np.random.default_rng(8)
    group = np.repeat([0, 1], [30, 70])
    scale = np.where(group == 0, rng.uniform(1, 3, 100), 2.0)[:, None]
    values = scale * np.where(group == 0, 1.0, 0.3)[:, None] * rng.choice([-1.0, 1.0], (100, 1))
    first, second = (scale[group == 0] ** 2).sum(), 70 * 0.6**2
    of_first = first**2 / (scale[group == 0] ** 4).sum()
    expected = (first + second) ** 2 / (first**2 / of_first + second**2 / 70) * 29 / 30
    assert degrees(values, scale, group, 30)[0] == pytest.approx(expected)
    assert effective(np.ones(12), np.repeat([0, 1, 2], 4)) == 3


def test_an_outlier_does_not_take_all_degrees():
    """Means of 60 labels: 59 degrees whatever they are, and no critical value of Cauchy's."""
    label = np.append(np.random.default_rng(9).normal(size=59), 1000.0)
    found = pcal(only_labels(label), Mean(), LinearNuisance())
    assert found.df[0] == pytest.approx(59)
    assert 2 < found.critical(0.9)[0] < 2.6


def test_skewed_means_have_longer_intervals_by_hall_s_expansion():
    label = np.random.default_rng(10).exponential(size=80)
    found = pcal(only_labels(label), Mean(), LinearNuisance())
    z = norm.ppf(0.95)
    gamma = ((label - label.mean()) ** 3).mean() / label.std() ** 3
    longer = 1 + gamma**2 / 80 * (z**4 + 2 * z**2 - 3) / 18
    assert found.critical(0.9)[0] == pytest.approx(student.ppf(0.95, 79) * longer)
    row = found.contrast({"mean": 1.0}, against=found.summary()["upper"][0])
    assert row["p_value"] == pytest.approx(0.1)
    assert row[["lower", "upper"]].tolist() == pytest.approx(found.summary()[["lower", "upper"]].iloc[0].tolist())


def test_few_clusters_are_said_and_very_few_refused():
    rng = np.random.default_rng(9)
    with pytest.raises(DataError, match="4 clusters have a label; at least 5"):
        pcal(regression(rng, 80, 1, 4)[0], nuisance=LinearNuisance())
    said = pcal(regression(rng, 160, 2, 8)[0], nuisance=LinearNuisance()).warnings
    assert any("only 8 clusters with labels for 3 parameters" in each for each in said)
    many = pcal(regression(rng, 1200, 2, 40)[0], nuisance=LinearNuisance()).warnings
    assert not any("clusters" in each for each in many)
