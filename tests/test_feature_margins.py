"""Margins of utilities that are made from item features, against derivatives of the program itself."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from prefdensity.models.linear import linear
from prefdensity.models.logit import logit
from prefdensity.models.reliability import reliability

import prefdensity
from prefdensity.inference import leaves, view as module
from prefdensity.inference.leaves import Leaf
from prefdensity.inference.margins import Margins, utility_tables
from prefdensity.inference.prior import log_prior
from prefdensity.inference.view import View
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import layer
from prefdensity.programs.tabulate import cells_of

FEATURES, ITEMS, ROWS = 3, 40, 60


@layer("utility", needs=["features"])
def halved(data):
    """Half of what features say."""
    with pyro.plate("feature", data.features.shape[-1], dim=-1):
        weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", 0.5 * weight @ data.features.T)


@layer("utility", needs=["features"])
def shifted(data):
    """What features say of somebody who likes everything a little more than the last."""
    with pyro.plate("feature", data.features.shape[-1], dim=-1):
        weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", weight @ data.features.T + torch.linspace(0.0, 1.0, data.n_items))


def table():
    rng = np.random.default_rng(3)
    a = rng.integers(ITEMS, size=ROWS)
    return prefdensity.Comparisons(
        items=tuple(map(str, range(ITEMS))), item_a=a, item_b=(a + rng.integers(1, ITEMS, ROWS)) % ITEMS,
        outcome=rng.integers(2, size=ROWS).astype(np.int8), count=np.ones(ROWS),
        item_features=rng.gamma(2.0, size=(ITEMS, FEATURES)), feature_names=("x", "y", "z"),
    )  # fmt: skip


@pytest.mark.parametrize("utility", [linear, halved, shifted])
def test_margins_by_weights_are_the_derivatives_of_margins(utility):
    """Whether features are what a weight is worth is a guess: where it is wrong, the program is run."""
    program = compose(utility, logit)
    view = View(program, cells_of(table(), program.outcomes, program.needs))
    site = view.sites["weight"]
    z = torch.linspace(-1.0, 1.0, view.dimension, dtype=torch.float64)
    leaf = Margins(view, site).leaf(z[None, site.at], site.at)
    expected = view.cells.contrast(utility_tables(view, z[None])[0])
    torch.testing.assert_close(leaf.value, expected, rtol=1e-12, atol=1e-12)
    steps = torch.eye(view.dimension, dtype=torch.float64)[site.at]
    slopes = view.cells.contrast(utility_tables(view, z + steps)[:, 0]) - expected
    torch.testing.assert_close(leaf.matrix, slopes.T, rtol=1e-9, atol=1e-9)


def test_large_products_in_single_precision_are_those_in_double(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(500, 20, generator=generator, dtype=torch.float64)
    leaf = Leaf(slice(0, 20), torch.zeros(1, 500, dtype=torch.float64), matrix=matrix)
    values = torch.rand(1, 500, generator=generator, dtype=torch.float64)
    covariance = torch.linalg.inv(matrix.T @ matrix)
    block, variance = leaf.block(leaf, values), leaf.covariance_with(leaf, covariance)
    torch.testing.assert_close(block[0], matrix.T @ (values[0, :, None] * matrix), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, ((matrix @ covariance) * matrix).sum(-1), rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(leaves, "_DEAR", 0)
    monkeypatch.setattr(leaves, "EXACT", 0)
    monkeypatch.setattr(leaves, "_ENTRIES", 20 * 64)
    torch.testing.assert_close(leaf.block(leaf, values), block, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(leaf.covariance_with(leaf, covariance), variance, rtol=1e-5, atol=1e-7)
    assert not torch.equal(leaf.block(leaf, values), block)  # it was in single precision


@layer("utility", needs=["features"])
def residual(data):
    """What features say, and something of each item's own."""
    with pyro.plate("feature", data.features.shape[-1], dim=-1):
        weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.sample("utility", dist.Normal(weight @ data.features.T, 1.0))


@layer("utility", needs=["features"])
def saturating(data):
    """More of a feature says less and less."""
    with pyro.plate("feature", data.features.shape[-1], dim=-1):
        weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.deterministic("utility", torch.tanh(weight @ data.features.T))


def of_many_items(utility, monkeypatch):
    """Return a view of 30 comparisons of 60 items or fewer, which counts its features as many."""
    monkeypatch.setattr(module, "_FEW", 0)
    program = compose(utility, reliability, logit)
    return View(program, cells_of(of_two_people(), program.outcomes, program.needs))


def of_two_people():
    """30 comparisons of 60 items by two annotators."""
    rng, rows = np.random.default_rng(4), 30
    return prefdensity.Comparisons(
        items=tuple(map(str, range(2 * rows))), item_a=2 * np.arange(rows) + 1, item_b=2 * np.arange(rows),
        outcome=rng.integers(2, size=rows).astype(np.int8), count=np.ones(rows),
        item_features=rng.gamma(2.0, size=(2 * rows, FEATURES)), feature_names=("x", "y", "z"),
        annotators=("Ann", "Bob"), annotator=rng.integers(2, size=rows),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("utility", "linear_in_features", "without_items"),
    [
        (linear, True, True),
        (halved, True, True),
        (shifted, False, True),
        (saturating, False, True),
        (residual, False, False),
    ],
)
def test_items_are_left_out_of_runs_that_say_the_same_without_them(
    utility, linear_in_features, without_items, monkeypatch
):
    found = of_many_items(utility, monkeypatch)
    assert found._judged.n_items == (31 if linear_in_features else 60)
    assert found.few.n_items == (2 if without_items else 60)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(3, found.dimension, generator=generator, dtype=torch.float64)
    for mine, whole in zip(found.log_parts(z), found.log_parts(z, cells=found.cells), strict=True):
        torch.testing.assert_close(mine, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        log_prior(found, z).value, found.log_parts(z, cells=found.cells)[0], rtol=1e-12, atol=1e-12
    )


def own_weights(contrast):
    """Return a layer of each annotator's own weights of features, whose contrasts are worked out so."""

    @layer("margin", needs=["annotator", "features"])
    def own(margin, data):
        """Weights of features by annotator."""
        with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("feature", FEATURES, dim=-1):
            weight = pyro.sample("own_weight", dist.Normal(0.0, 1.0))
        return margin + contrast(data, weight)

    return own


WRITTEN = {
    "T": lambda data, weight: data.contrast(weight @ data.features.T, by="annotator"),
    "t": lambda data, weight: data.contrast(weight @ data.features.t(), by="annotator"),
    "mT": lambda data, weight: data.contrast(torch.matmul(weight, data.features.mT), by="annotator"),
}


@pytest.mark.parametrize("way", list(WRITTEN))
def test_features_may_be_read_as_a_table_of_items(way):
    """One comparison is looked at with features of its own, and a layer need not know of it."""
    data = of_two_people()
    found, expected = (
        prefdensity.fit(compose("linear", own_weights(contrast), "logit"), data, method="laplace", progress=False)
        for contrast in (WRITTEN[way], lambda data, weight: data.feature_contrast(weight, by="annotator"))
    )
    assert "passes" not in found.status.message  # its curvature is that of single comparisons
    np.testing.assert_allclose(found.draws["own_weight"], expected.draws["own_weight"], rtol=1e-6, atol=1e-8)
