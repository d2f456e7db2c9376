"""A posterior in ArviZ: named axes, independent draws, what it summarises."""

import warnings

import numpy as np
import pytest
from contract import table
from test_posterior_file import BASEBALL

import prefdensity
from prefdensity.data.simulate import population


@pytest.fixture(scope="module")
def simple():
    return prefdensity.fit("bradley_terry", BASEBALL, method="laplace")


@pytest.fixture
def arviz():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # arviz 0.23 announces its next version when imported
        return pytest.importorskip("arviz")


def posterior_group(tree):
    return tree["posterior"].dataset if hasattr(tree["posterior"], "dataset") else tree["posterior"]


def test_arviz_gets_named_axes(arviz):
    data = population(5, 4, 500, seed=2, tie_strength=0.6, n_types=2)[0]
    post = prefdensity.fit("annotator_types+davidson", data, method="laplace", draws=200)
    exported = posterior_group(post.to_arviz())
    assert exported["utility"].dims == ("chain", "draw", "type", "item")
    assert list(exported["utility"].coords["item"].values) == list(data.items)
    assert exported["type_probability"].dims == ("chain", "draw", "annotator", "type")
    assert list(exported.coords["annotator"].values) == list(data.annotators)
    assert exported["tie_strength"].dims == ("chain", "draw")
    assert exported.attrs["sampler"] == "guide"
    dealt = exported["utility"].values
    np.testing.assert_array_equal(dealt.reshape(-1, *dealt.shape[2:]), post.draws["utility"])


def test_arviz_judges_independent_draws(arviz, simple, caplog):
    frame = arviz.summary(simple.to_arviz())
    assert frame["r_hat"].astype(float).between(0.99, 1.03).all()
    assert (frame["ess_bulk"].astype(float) > 300).all()
    assert not caplog.records


def test_arviz_summarises_what_it_gets(arviz):
    post = prefdensity.fit("bradley_terry", BASEBALL, method="nuts", draws=200, warmup=100, chains=2)
    exported = post.to_arviz()
    frame = arviz.summary(exported, var_names=["utility"])
    assert len(frame) == 7
    assert any("Boston" in row for row in frame.index)
    assert float(arviz.rhat(exported)["utility"].max()) < 1.2
    assert posterior_group(exported).attrs["sampler"] == "nuts"
    assert posterior_group(exported)["utility"].shape == (2, 200, 7)
    mean = frame["mean"].astype(float).to_numpy()
    np.testing.assert_allclose(mean, post.draws["utility"].mean(0), atol=0.006)  # arviz rounds


def test_draws_of_features_are_named(arviz):
    post = prefdensity.fit("linear", table(rows=60), method="laplace", draws=100)
    exported = posterior_group(post.to_arviz())
    assert exported["weight"].dims == ("chain", "draw", "feature")
    assert list(exported.coords["feature"].values) == ["f", "g"]
