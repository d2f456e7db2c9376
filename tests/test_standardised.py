"""Features that are standardised as they are read, against the table that they stand for."""

import pickle

import numpy as np
import pytest
import torch
from prefdensity.models.linear import linear
from prefdensity.models.logit import logit

import prefdensity
from prefdensity.inference import reported, view
from prefdensity.posterior.sites import Sites, taken
from prefdensity.programs import apart, standardised as module
from prefdensity.programs.compose import compose
from prefdensity.programs.standardised import Standardised, standardised

ITEMS, FEATURES = 300, 7


def given(dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(ITEMS, FEATURES)) * 10.0 ** np.arange(-3, 4) + 5.0
    x[:, 3] = 2.0  # a constant feature
    return x.astype(dtype)


def both(monkeypatch, dtype=np.float32):
    table, unit = standardised(given(dtype), torch.float64)
    monkeypatch.setattr(module, "MANY", 0)
    monkeypatch.setattr(module, "_AT_ONCE", 50 * FEATURES)  # so that the last block is smaller
    lazy, same = standardised(given(dtype), torch.float64)
    assert isinstance(lazy, Standardised)
    assert not isinstance(table, Standardised)
    assert torch.equal(unit, same)
    return table, lazy


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_stands_for_the_table_in_whatever_a_layer_does(monkeypatch, dtype):
    table, lazy = both(monkeypatch, dtype)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 1, 1, FEATURES, generator=generator, dtype=torch.float64)
    to_items = torch.randn(ITEMS, 3, generator=generator, dtype=torch.float64)
    rows = torch.tensor([5, 0, 299, 5])
    for layer in (
        lambda x: weight @ x.T,
        lambda x: weight[0, 0, 0] @ x.T,
        lambda x: x @ weight[0, 0].T,
        lambda x: x @ weight[0, 0, 0],
        lambda x: x.T @ to_items,
        lambda x: to_items.T @ x,
        lambda x: torch.einsum("kf,if->ki", weight[:, 0, 0], x),
        lambda x: torch.einsum("...f,if->...i", weight, x),
        lambda x: torch.einsum("if,if->i", x, x),
        lambda x: x.permute(0, 1).transpose(1, 1) + x.detach(),
        lambda x: torch.relu(x @ weight[0, 0].T) + x[:, :1],
        lambda x: torch.nn.functional.linear(x, weight[:, 0, 0]),
        lambda x: torch.cdist(x, x[:5]),
        lambda x: x[rows] - x[rows.flip(0)],
        lambda x: x.index_select(-2, rows) - x.narrow(0, 2, 4),
        lambda x: x.index_select(1, rows[1:2]) + x[:, 2:3],
        lambda x: x.mT.transpose(0, 1) * 2.0,
        lambda x: x.new_zeros(2) + x.shape[0],
        lambda x: torch.cat([x, x[-1:].expand(3, FEATURES)]),
    ):
        torch.testing.assert_close(layer(lazy), layer(table), rtol=1e-10, atol=1e-10)
    assert np.array_equal(np.asarray(lazy), table.numpy())
    assert torch.equal(pickle.loads(pickle.dumps(lazy)).whole(), table)


def test_derivatives_are_those_by_the_table(monkeypatch):
    table, lazy = both(monkeypatch)

    def derivatives(x):
        weight = torch.linspace(-1.0, 1.0, FEATURES, dtype=torch.float64)[None].requires_grad_()
        (slope,) = torch.autograd.grad((weight @ x.T).sin().sum(), weight, create_graph=True)
        return slope.detach(), *torch.autograd.grad((slope**3).sum(), weight)

    for found, expected in zip(derivatives(lazy), derivatives(table), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_products_in_single_precision_are_off_by_rounding_alone(monkeypatch):
    """Means that are large beside spreads are taken off first: 5 against .001 here."""
    table, lazy = both(monkeypatch)
    weight = torch.ones(2, FEATURES, dtype=torch.float64)
    found, exact = weight @ lazy.in_single_precision().T, weight @ table.T
    assert found.dtype == torch.float64
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=5e-4)  # 5 has 2e-7 of rounding, a spread of .001 in units


def comparisons():
    rng = np.random.default_rng(1)
    a = rng.integers(ITEMS, size=800)
    b = (a + rng.integers(1, ITEMS, 800)) % ITEMS
    x = given(np.float32)
    reward = (x / x.std(0).clip(1e-9)) @ np.linspace(-0.5, 0.5, FEATURES)
    wins = rng.random(800) < 1 / (1 + np.exp(reward[b] - reward[a]))
    return prefdensity.Comparisons(
        items=tuple(map(str, range(ITEMS))), item_a=a, item_b=b, outcome=np.where(wins, 0, 1).astype(np.int8),
        count=np.ones(800), item_features=x, feature_names=tuple(f"x{k}" for k in range(FEATURES)),
    )  # fmt: skip


def test_a_fit_to_many_features_is_the_fit_to_their_table(monkeypatch):
    """With utilities that are worked out when somebody asks for them."""
    data, program = comparisons(), compose(linear, logit)
    plain = prefdensity.fit(program, data, progress=False)
    for place, name, most in (
        (module, "MANY", 0),
        (apart, "MANY", 0),
        (view, "_FEW", 0),
        (reported, "_KEPT", 1000 * ITEMS - 1),
    ):
        monkeypatch.setattr(place, name, most)
    post = prefdensity.fit(program, data, progress=False)
    assert isinstance(post.features, Standardised)
    assert isinstance(post.draws, Sites)
    assert set(post.draws.made) == {"utility"}
    assert post.draws.keys() == plain.draws.keys()
    for name, values in plain.draws.items():
        # margins are in single precision where the curvature is looked at, so draws are those to six digits
        np.testing.assert_allclose(post.draws[name], values, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(post.error[name], plain.error[name], rtol=0.02, atol=1e-3)
    held = post.draws["utility"]
    assert post.draws["utility"] is held
    frame = post.summary().set_index("item")["mean"]
    np.testing.assert_allclose(frame, plain.summary().set_index("item")["mean"][frame.index], atol=1e-5)
    asked = [(data.items[0], data.items[1])]
    np.testing.assert_allclose(post.predict(asked)["p_a"], plain.predict(asked)["p_a"], atol=1e-5)


def test_saved_and_read_it_is_a_posterior_like_others(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MANY", 0)
    monkeypatch.setattr(reported, "_KEPT", 0)
    post = prefdensity.fit(compose(linear, logit), comparisons(), progress=False)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    assert np.array_equal(np.asarray(again.features), np.asarray(post.features))
    for name, values in post.draws.items():
        assert np.array_equal(again.draws[name], values)


def test_sites_are_read_like_a_dictionary():
    calls = []
    made = Sites({"a": np.zeros((2, 3))}, {"b": lambda: calls.append(1) or np.arange(6.0).reshape(2, 3)})
    assert list(made) == ["a", "b"]
    assert len(made) == 2
    assert not calls
    assert np.array_equal(made["b"], np.arange(6.0).reshape(2, 3))
    turned = taken(made, {"b": 1}, np.array([2, 0, 1]))
    assert np.array_equal(turned["b"], [[2.0, 0.0, 1.0], [5.0, 3.0, 4.0]])
    assert np.array_equal(turned["a"], made["a"])
    more = made | {"b": np.ones(1), "c": np.ones(2)}
    assert list(more) == ["a", "b", "c"]
    assert more["b"] == 1
    assert type(pickle.loads(pickle.dumps(made))) is dict
    with pytest.raises(KeyError):
        made["d"]
