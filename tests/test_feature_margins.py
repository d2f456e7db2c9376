"""Margins of utilities that are made from item features, against derivatives of the program itself."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from prefdensity.models.linear import linear
from prefdensity.models.logit import logit

import prefdensity
from prefdensity.inference import leaves
from prefdensity.inference.leaves import Leaf
from prefdensity.inference.margins import Margins, utility_tables
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
    monkeypatch.setattr(leaves, "_ENTRIES", 20 * 64)
    torch.testing.assert_close(leaf.block(leaf, values), block, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(leaf.covariance_with(leaf, covariance), variance, rtol=1e-5, atol=1e-7)
    assert not torch.equal(leaf.block(leaf, values), block)  # it was in single precision
