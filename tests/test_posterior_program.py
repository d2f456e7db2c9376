"""A posterior's file and its program: which one it takes back, and what it refuses."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
from test_posterior_file import BASEBALL, questions

import prefdensity
from prefdensity import layer
from prefdensity.errors import ProgramError


@pytest.fixture(scope="module")
def simple():
    return prefdensity.fit("bradley_terry", BASEBALL, method="laplace")


OTHERS = {
    "davidson": "site tie_strength was never drawn",
    "student_items": "site utility is StudentT by item, and Normal by item was fitted",
    "utility_scale(fixed=1.0)": "has no site utility_scale",
    "thurstone": "gives other probabilities under the same draw",
    "lapse": "site lapse was never drawn",
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_program_that_was_not_fitted_is_refused(simple, tmp_path, other):
    saved = simple.save(tmp_path / "fit.nc")
    with pytest.raises(ProgramError, match=f"is not the program that was fitted.*: it.? .*{OTHERS[other]}"):
        prefdensity.load_posterior(saved, other)


EDITED = """from prefdensity import compose, layer
import pyro, pyro.distributions as dist

@layer("margin", needs=["first"])
def my_bias(margin, data):
    return margin {sign} pyro.sample("my_bias", dist.Normal(0.0, {width})) * data.first

PROGRAM = compose("bradley_terry", my_bias)
"""


@pytest.mark.parametrize(
    ("sign", "width", "said"), [("-", 0.5, "other probabilities"), ("+", 0.6, "the prior of my_bias is another")]
)
def test_an_edited_file_is_found_out(tmp_path, sign, width, said):
    path = tmp_path / "mine.py"
    path.write_text(EDITED.format(sign="+", width=0.5))
    ordered = replace(BASEBALL, first=np.ones(len(BASEBALL), np.int8))
    post = prefdensity.fit(path, ordered, method="laplace", draws=100)
    saved = post.save(tmp_path / "fit.nc")
    given = prefdensity.load_posterior(saved, path).predict([("Boston", "Detroit")], first="a")
    pd.testing.assert_frame_equal(given, post.predict([("Boston", "Detroit")], first="a"))
    path.write_text(EDITED.format(sign=sign, width=width))
    with pytest.raises(ProgramError, match=said):
        prefdensity.load_posterior(saved, path)


def test_a_layer_with_a_shipped_name_is_not_the_shipped_one(tmp_path):
    """Same name, same site, other mathematics: what its author fitted, before and after a file."""

    @layer("margin", needs=["first"])
    def position_bias(margin, data):
        return margin - 2 * pyro.sample("position_bias", dist.Normal(0.0, 0.5)) * data.first

    ordered = replace(BASEBALL, first=np.ones(len(BASEBALL), np.int8))
    own = prefdensity.fit(prefdensity.compose("bradley_terry", position_bias), ordered, method="laplace", draws=100)
    assert own.program_name == "bradley_terry+position_bias"
    asked = own.predict([("Boston", "Detroit")], first="a")["p_a"][0]
    u, bias = own.draws["utility"], own.draws["position_bias"]
    b, d = (own.items.index(name) for name in ("Boston", "Detroit"))
    assert asked == pytest.approx((1 / (1 + np.exp(-(u[:, b] - u[:, d] - 2 * bias)))).mean(), rel=1e-12)
    saved = own.save(tmp_path / "fit.nc")
    with pytest.raises(ProgramError, match="not made of shipped layers alone"):
        prefdensity.load_posterior(saved).predict([("Boston", "Detroit")])
    with pytest.raises(ProgramError, match="other probabilities"):
        prefdensity.load_posterior(saved, "bradley_terry+position_bias")


def test_a_latent_site_without_draws_is_an_error(simple):
    """It would be drawn from its prior without a word."""
    lost = replace(simple, event_dims={name: n for name, n in simple.event_dims.items() if name != "utility"})
    for ask in questions(lost, simple):
        with pytest.raises(ProgramError, match="the site 'utility' of bradley_terry has no draws"):
            ask()


def test_a_scale_that_maximum_likelihood_has_no_use_for_is_no_loss(tmp_path):
    post = prefdensity.fit("bradley_terry", BASEBALL, method="mle")
    assert post.unfelt == ("utility_scale",)
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.win_probabilities(), post.win_probabilities())


def test_a_posterior_travels_with_its_program(simple):
    again = pickle.loads(pickle.dumps(simple))
    pd.testing.assert_frame_equal(again.win_probabilities(), simple.win_probabilities())
