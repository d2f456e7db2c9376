"""Layers written plainly, as one would for one fit, are as exact and as fast as those that use what cells offer."""

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from prefdensity.models.reliability import reliability
from torch.nn.functional import one_hot

import prefdensity
from prefdensity.errors import ProgramError
from prefdensity.inference import curvature
from prefdensity.inference.climber import Climber
from prefdensity.inference.curvature import dense_hessian, local_curvature
from prefdensity.inference.fitting import viewed
from prefdensity.inference.mode import first_guess, prior_draws
from prefdensity.inference.prior import log_prior
from prefdensity.inference.view import View
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import layer
from prefdensity.programs.tables import by_entry, entries


def table(items=6, people=9, rows=500, seed=0, kinds=True):
    """Votes with ties, an order, and kinds of items that two camps like differently."""
    rng = np.random.default_rng(seed)
    u, beta, kind = rng.normal(size=items), 1 + 0.4 * rng.normal(size=people), np.arange(items) % 3
    taste = 0.7 * rng.normal(size=(people, 3))
    a = rng.integers(0, items, rows)
    b = (a + rng.integers(1, items, rows)) % items
    who = rng.integers(0, people, rows)
    margin = beta[who] * (u[a] - u[b] + taste[who, kind[a]] - taste[who, kind[b]]) + 0.3
    outcome = np.where(rng.random(rows) < 1 / (1 + np.exp(-margin)), "a", "b")
    outcome = np.where(rng.random(rows) < 0.15, "tie", outcome)
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": outcome, "annotator": who}).astype(
        {"item_a": str, "item_b": str, "annotator": str}
    )
    measures = pd.DataFrame({"item": [str(k) for k in range(items)], "kind": kind})
    return prefdensity.read(frame, ordered=True, item_measures=measures if kinds else None)


DATA = table()
TASTE = {"place": "wants", "needs": ["annotator"], "hyper": ["annotator_taste_spread"], "tall": True}
WEIGHT = {
    "place": "weight",
    "needs": ["annotator"],
    "hyper": ["annotator_reliability_spread"],
    "mirror": reliability.mirror,
}
BIAS = {"needs": ["annotator", "first"], "hyper": ["annotator_position_bias_spread"]}


def tastes_by(read):
    @layer("margin", **TASTE)
    def tastes(margin, data):
        spread = pyro.sample("annotator_taste_spread", dist.HalfNormal(1.0))
        with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("item", data.n_items, dim=-1):
            offset = pyro.sample("annotator_taste_offset", dist.Normal(0.0, 1.0))
        return margin + read(spread, offset, data)

    return tastes


def weights_by(read):
    @layer("margin", **WEIGHT)
    def weights(margin, data):
        spread = pyro.sample("annotator_reliability_spread", dist.HalfNormal(0.5))
        with pyro.plate("judge", data.n_annotators, dim=-1):
            offset = pyro.sample("annotator_reliability_offset", dist.Normal(0.0, 1.0))
        return margin * read(1 + spread * offset, data)

    return weights


def biases_by(read):
    @layer("margin", **BIAS)
    def biases(margin, data):
        bias = pyro.sample("position_bias", dist.Normal(0.0, 0.5))
        spread = pyro.sample("annotator_position_bias_spread", dist.HalfNormal(0.5))
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            offset = pyro.sample("annotator_position_bias_offset", dist.Normal(0.0, 1.0))
        return margin + read(bias + spread * offset, data) * data.first

    return biases


def after(spread, offset, data):
    return spread * (offset[..., data.annotator, data.item_a] - offset[..., data.annotator, data.item_b])


def before(spread, offset, data):
    own = spread * offset
    return own[data.annotator, data.item_a] - own[data.annotator, data.item_b]


def flat(spread, offset, data):
    own, row = (spread * offset).flatten(-2), data.annotator * data.n_items
    return own.index_select(-1, row + data.item_a) - own.index_select(-1, row + data.item_b)


def summed(beta, data):
    return beta @ one_hot(data.annotator, data.n_annotators).to(beta).T


READS = {
    "tastes": [(tastes_by, after), (tastes_by, before), (tastes_by, flat)],
    "reliability": [
        (weights_by, lambda beta, data: beta[..., data.annotator]),
        (weights_by, lambda beta, data: beta[data.annotator]),
        (weights_by, lambda beta, data: beta.index_select(-1, data.annotator)),
        (weights_by, lambda beta, data: torch.gather(beta, -1, data.annotator.expand(*beta.shape[:-1], -1))),
        (weights_by, summed),
    ],
    "position_bias(by='annotator')": [(biases_by, lambda own, data: own[data.annotator])],
}


@pytest.mark.parametrize(
    ("shipped", "write", "read"), [(name, *each) for name, several in READS.items() for each in several]
)
def test_a_plain_copy_is_the_shipped_layer(shipped, write, read):
    expected = prefdensity.fit(f"davidson+{shipped}", DATA, method="laplace", draws=400)
    found = prefdensity.fit(compose("davidson", write(read)), DATA, method="laplace", draws=400)
    for name in set(expected.point) & set(found.point):
        np.testing.assert_allclose(found.point[name], expected.point[name], atol=1e-8)
        np.testing.assert_allclose(found.draws[name], expected.draws[name], atol=1e-8)
    assert found.status.log_evidence == pytest.approx(expected.status.log_evidence, abs=1e-8)
    assert found.status.k_hat == pytest.approx(expected.status.k_hat, abs=1e-8)
    assert "passes" not in found.status.message


@layer("margin", place="wants", needs=["annotator", "measures"], hyper=["kind_spread"], tall=True)
def kinds(margin, data):
    """Utilities of kinds of items differ between annotators; kinds are whole numbers in a column."""
    spread, kind = pyro.sample("kind_spread", dist.HalfNormal(1.0)), data.measure("kind").long()
    with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("kind", 3, dim=-1):
        taste = pyro.sample("kind_taste", dist.Normal(0.0, 1.0))
    own = spread * taste
    return margin + own[data.annotator, kind[data.item_a]] - own[data.annotator, kind[data.item_b]]


@layer("margin", place="wants", needs=["annotator", "measures"], hyper=["pull"])
def deep(margin, data):
    """Three plates: what people of two tempers make of each kind of item, by annotator."""
    pull, kind = pyro.sample("pull", dist.HalfNormal(1.0)), data.measure("kind").long()
    temper = (data.first > 0).long()
    with pyro.plate("temper", 2, dim=-3), pyro.plate("annotator", data.n_annotators, dim=-2):
        with pyro.plate("kind", 3, dim=-1):
            taste = pyro.sample("deep_taste", dist.Normal(0.0, 1.0))
    read = taste[temper, data.annotator, kind[data.item_a]] - taste[temper, data.annotator, kind[data.item_b]]
    return margin + pull * read


def exact(program, data=DATA):
    """Compare the curvature that is summed up over comparisons with repeated backward passes, away from the mode."""
    view = viewed(program, data)
    local = local_curvature(view, first_guess(view))
    assert local is not None, view.memo["spread"]
    z = 0.5 * torch.randn(2, view.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient, hessian = dense_hessian(view.log_joint, z, view.work)
    value, slope, second = local.batch(z, log_prior(view, z))
    torch.testing.assert_close(value, view.log_joint(z), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(second, hessian, rtol=1e-10, atol=1e-9)
    return local


def test_tables_read_by_columns_of_whole_numbers_are_exact():
    local = exact(compose("davidson", kinds))
    assert [part.quantities for part in local.felt.parts if part.site.name == "kind_taste"] == [1]
    exact(compose("davidson", kinds, weights_by(lambda beta, data: beta[data.annotator])))


def test_three_plates_are_read_in_their_place():
    program = compose("davidson", "position_bias", deep)
    exact(program)
    post = prefdensity.fit(program, DATA, method="laplace", draws=200)
    assert post.draws["deep_taste"].shape == (200, 2, 9, 3)


def test_three_plates_go_with_types():
    # by hand: given their types, annotators' judgements have the densities of the program without types
    program = compose("davidson", "position_bias", "annotator_types", deep)
    view, alone = viewed(program, DATA), viewed(compose("davidson", "position_bias", deep), DATA)
    z = prior_draws(view, 3, seed=2)
    values, _ = view.values(z)
    outcome = view.run(values, 3).met["outcome"]["fn"]
    by_type = outcome.type_log_lik(view.cells.outcome)
    for k in range(2):
        one = {name: value for name, value in values.items() if name != "type_weight"}
        one["utility"] = one["utility"][:, k : k + 1]
        cells = alone.run(one, 3).met["outcome"]["fn"].log_prob(alone.cells.outcome)
        expected = torch.zeros(3, 1, 9, dtype=torch.float64).index_add_(-1, view.cells.annotator, cells)
        torch.testing.assert_close(by_type[:, k : k + 1], expected)


@layer("margin", place="wants", needs=["annotator"])
def centred(margin, data):
    """Of an annotator a comparison feels all the others, through their mean."""
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        own = pyro.sample("own", dist.Normal(0.0, 1.0))
    return margin * (1 + 0.1 * (own - own.mean(-1, keepdim=True))[data.annotator])


def test_what_is_not_local_says_so_and_what_it_costs():
    view = viewed(compose("davidson", centred), DATA)
    assert local_curvature(view, first_guess(view)) is None
    assert "more than the entries" in view.memo["spread"]


def mixed_up(margin, data):
    with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
    return margin + torch.stack([offset[data.annotator, data.item_a], -offset[data.annotator, data.item_b]]).sum(0)


def axes_lost(margin, data):
    with pyro.plate("factor", 3, dim=-2), pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("offset", dist.Normal(0.0, 1.0))
    return margin + data.contrast(offset).sum(-2)


def test_axes_that_are_lost_are_one_error_that_says_how_to_write_it():
    viewed(compose("davidson", layer("margin", needs=["annotator"])(mixed_up)), DATA)  # stacked on the left: fine
    with pytest.raises(ProgramError, match=r"axes_lost gives other values .* keepdim=True"):
        prefdensity.fit(compose("davidson", layer("margin")(axes_lost)), DATA)


def test_a_discrete_site_that_is_indexed_plainly_is_refused():
    @layer("margin", place="weight", needs=["annotator"])
    def contrary(margin, data):
        with pyro.plate("annotator", data.n_annotators, dim=-1):
            z = pyro.sample("contrary", dist.Bernoulli(0.1))
        return margin * (1 - 2 * z[..., data.annotator])

    with pytest.raises(ProgramError, match="discrete site 'contrary'"):
        prefdensity.fit(compose("davidson", contrary), DATA)


@pytest.mark.parametrize(("shipped", "write", "read"), [(name, *several[0]) for name, several in READS.items()])
def test_a_plain_copy_goes_the_same_way(shipped, write, read, monkeypatch):
    """The same engine, by as many passes over the data with exact derivatives and without."""
    passes = dict.fromkeys(["derivatives", "log_joint"], 0)

    def count(place, name):
        real = getattr(place, name)

        def counted(*args, **kwargs):
            passes[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(place, name, counted)

    count(curvature.LocalCurvature, "derivatives")
    count(View, "log_joint")
    ways = []
    for program in (f"davidson+{shipped}", compose("davidson", write(read))):
        status = prefdensity.fit(program, DATA, draws=400, progress=False).status
        ways.append((status.method, dict(passes), status.k_hat))
        passes.update(dict.fromkeys(passes, 0))
    (engine, counts, k_hat), plain = ways
    assert counts["derivatives"] > 5
    assert plain[:2] == (engine, counts)
    assert plain[2] == pytest.approx(k_hat, abs=1e-6)


def test_the_curvature_is_found_once(monkeypatch):
    calls = []
    before = curvature.LocalCurvature.__init__

    def counted(self, view):
        calls.append(len(view.cells))
        before(self, view)

    monkeypatch.setattr(curvature.LocalCurvature, "__init__", counted)
    view = viewed(compose("davidson", kinds), DATA)
    Climber(view)
    Climber(view, fixed=view.hyper)
    assert len(calls) == 1


@pytest.mark.parametrize("shape", [(4, 1, 7), (4, 7), (4, 2, 7), (1, 1, 7), (4, 1, 1)])
def test_a_table_that_lies_entry_by_entry_is_read_like_any_other(shape):
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    index = torch.arange(7 * shape[-1]).flip(0) % shape[-1]
    lying = by_entry(values)
    assert torch.equal(lying, values)
    assert lying.movedim(0, -1).is_contiguous()
    assert torch.equal(entries(lying, index), values[..., index])
