"""Margins of utilities that are made from item features, against derivatives of the program itself."""

import dataclasses

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from prefdensity.models.linear import linear
from prefdensity.models.logit import logit
from prefdensity.models.reliability import reliability

import prefdensity
from prefdensity.errors import ProgramError
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


def weighed(product):
    """Return a layer of utilities that weigh features so."""

    @layer("utility", needs=["features"])
    def plainly(data):
        """Weights of features that all share."""
        with pyro.plate("feature", data.features.shape[-1], dim=-1):
            weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
        with pyro.plate("item", data.n_items, dim=-1):
            return pyro.deterministic("utility", product(data.features, weight))

    return plainly


PRODUCTS = {
    "@": lambda x, weight: x @ weight,
    "matmul": torch.matmul,
    "mv": lambda x, weight: x.mv(weight),
    "scaled": lambda x, weight: x @ (0.5 * weight) * 2.0,
}


def with_features(data, features):
    return dataclasses.replace(
        data, item_features=data.item_features[:, :features], feature_names=data.feature_names[:features]
    )


@pytest.mark.parametrize("features", [1, FEATURES])
@pytest.mark.parametrize("way", list(PRODUCTS))
def test_features_times_weights_are_read_as_for_one_fit(way, features):
    data = with_features(of_two_people(), features)
    found, expected = (
        prefdensity.fit(compose(weighed(product), "logit"), data, method="laplace", progress=False)
        for product in (PRODUCTS[way], lambda x, weight: weight @ x.T)
    )
    assert "passes" not in found.status.message
    np.testing.assert_allclose(found.draws["weight"], expected.draws["weight"], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.draws["utility"], expected.draws["utility"], rtol=1e-6, atol=1e-8)


def shared(contrast):
    """Return a layer of weights of features that all share, beside utilities of items, whose contrasts are so."""

    @layer("margin", needs=["features"])
    def beside(margin, data):
        """What features say within each comparison."""
        with pyro.plate("feature", FEATURES, dim=-1):
            weight = pyro.sample("weight", dist.Normal(0.0, 1.0))
        return margin + contrast(data, weight)

    return beside


def by_rows(data, weight):
    x = data.features
    return (x[data.item_a] - x[data.item_b]) @ weight


def by_items(data, weight):
    utility = data.features @ weight
    return utility[data.item_a] - utility[data.item_b]


@pytest.mark.parametrize("contrast", [by_rows, by_items])
def test_differences_of_features_times_weights_are_margins(contrast):
    data = of_two_people()
    views = []
    for way in (contrast, lambda data, weight: data.feature_contrast(weight)):
        program = compose("items", shared(way), "logit")
        views.append(View(program, cells_of(data, program.outcomes, program.needs)))
    z = torch.randn(3, views[0].dimension, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for found, expected in zip(*(view.log_parts(z) for view in views), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def by_einsum(data, weight):
    return torch.einsum("...f,cf->...c", weight, data.features[data.item_a] - data.features[data.item_b])


def by_two(data, weight):
    """Written for the two annotators that there are."""
    own = torch.stack([weight[..., k, :] for k in range(2)], -2)
    return data.contrast(own @ data.features.T, by="annotator")


@pytest.mark.parametrize("layers", [(shared(by_rows),), (shared(by_einsum),), (own_weights(by_two),)])
def test_a_layer_that_cannot_be_shown_one_comparison_alone_is_fitted_by_passes(layers):
    """Torch has an error of its own for most of what goes wrong there; beside items it ended the fit."""
    data = of_two_people()
    post = prefdensity.fit(compose("items", *layers, "logit"), data, method="laplace", progress=False)
    assert "passes over the table" in post.status.message
    name = "weight" if "weight" in post.draws else "own_weight"
    way = shared if name == "weight" else own_weights
    by = {} if name == "weight" else {"by": "annotator"}
    usual = compose("items", way(lambda data, weight: data.feature_contrast(weight, **by)), "logit")
    expected = prefdensity.fit(usual, data, method="laplace", progress=False)
    assert "passes over the table" not in expected.status.message
    # one Gaussian and the same seed: what is left is where two searches end
    error = expected.draws[name].std(0) / np.sqrt(expected.n_draws)
    assert (np.abs(post.draws[name].mean(0) - expected.draws[name].mean(0)) < 5 * error).all()


def test_a_product_of_tables_of_one_factor_is_no_product_by_a_vector():
    """Scores [annotator, factor] times loadings [factor, item], with one factor."""

    @layer("margin", needs=["annotator"])
    def factors(margin, data):
        """One factor of tastes."""
        with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("factor", 1, dim=-1):
            score = pyro.sample("score", dist.Normal(0.0, 1.0))
        with pyro.plate("factor", 1, dim=-2), pyro.plate("item", data.n_items, dim=-1):
            loading = pyro.sample("loading", dist.Normal(0.0, 1.0))
        return margin + data.contrast(score @ loading, by="annotator")

    data, program = of_two_people(), compose("bradley_terry", factors)
    view = View(program, cells_of(data, program.outcomes, program.needs))
    z = torch.randn(3, view.dimension, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    met = view.run(view.values(z)[0], 3).met
    score, loading = met["score"]["value"][:, :, 0], met["loading"]["value"].reshape(3, -1)
    own = score[:, view.cells.annotator] * (loading[:, view.cells.item_a] - loading[:, view.cells.item_b])
    utility = met["utility"]["value"].reshape(3, -1)
    expected = utility[:, view.cells.item_a] - utility[:, view.cells.item_b] + own
    found = met["outcome"]["fn"].outcome_log_prob
    torch.testing.assert_close((found[..., 0] - found[..., 1]).reshape(3, -1), expected)


def test_the_layer_that_fails_is_named():
    """And what it may do instead: the layers before it are not at fault."""
    layer = shared(lambda data, weight: data.contrast(torch.einsum("f,if->i", weight, data.features)))
    with pytest.raises(ProgramError, match="^beside gives other values .* data.feature_contrast"):
        prefdensity.fit(compose("items", layer, "logit"), of_two_people())
