"""Densities are asked of the program: of copies under other names, of users' own layers, of plain functions."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import log_ndtr, softmax
from torch.nn.functional import logsigmoid

import prefdensity
from prefdensity import Program, compose, layer, load_program
from prefdensity.data.simulate import population
from prefdensity.density import implicit
from prefdensity.density.asking import Question, run_in_circles, wants
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs.outcomes import by_outcome, observe

PLAIN = load_program("utility_scale(fixed=1.0)+bradley_terry")
DATA = population(5, 6, 400, seed=4, reliability_sd=0.4)[0]


def held(program, data=DATA, draws=100):
    """A posterior of made-up draws: what a density is made of does not matter to how it is asked."""
    post = prefdensity.fit(program, data, method="laplace", draws=draws, restarts=1, progress=False)
    rng = np.random.default_rng(0)
    moved = {n: v + 0.5 * rng.normal(size=v.shape) if (v <= 0).any() else v for n, v in post.draws.items()}
    return replace(post, draws=moved)


@layer("margin", needs=["annotator"], tall=True)
def own_likings(margin, data):
    """What annotators like, written without a word on its place among margins."""
    with pyro.plate("annotator", data.n_annotators, dim=-2), pyro.plate("item", data.n_items, dim=-1):
        liking = pyro.sample("liking", dist.Normal(0.0, 0.7))
    return margin + 2 * data.contrast(liking, by="annotator")


@layer("margin", needs=["first"])
def left_hand(margin, data):
    return margin + pyro.sample("left", dist.Normal(0.3, 0.5)) + 0.2 * data.first


@layer("margin", needs=["annotator"], hyper=["spread"], place="weight")
def heed(margin, data):
    spread = pyro.sample("spread", dist.HalfNormal(0.5))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("heed", dist.Normal(0.2, 1.0))
    return margin * data.of("annotator", (spread * offset).exp())


@layer("margin", place="wants", unimodal=False)
def whirl(margin, data):
    with pyro.plate("item", data.n_items, dim=-1):
        angle = pyro.sample("angle", dist.Normal(0.0, 1.0))
    a, b = data.sides(angle)
    return margin + 0.05 * (a - b).sin()


@layer("choice", outcomes=["a", "b"])
def odds(margin, data):
    return by_outcome(logsigmoid(margin), logsigmoid(-margin))


@layer("choice", outcomes=["a", "b"])
def steep_odds(margin, data):
    return by_outcome(logsigmoid(2 * margin), logsigmoid(-2 * margin))


def test_what_annotators_like_is_found_by_asking():
    post = held(compose(PLAIN, own_likings))
    each = post.draws["utility"][:, None] + 2 * post.draws["liking"]
    found = implicit.of(post, by="annotator")
    np.testing.assert_allclose(found.p, softmax(each, -1), rtol=1e-10)
    np.testing.assert_allclose(implicit.of(post).p, softmax(each, -1).mean(1), rtol=1e-10)
    geometric = implicit.of(post, aggregate="mean_utility").p
    np.testing.assert_allclose(geometric, softmax(each.mean(1), -1), rtol=1e-10)
    one = implicit.of(post, annotator=post.annotators[2])
    np.testing.assert_allclose(one.p, found.p[:, 2], rtol=1e-12)
    assert one.dims == ("draw", "point")
    with pytest.raises(DataError, match="annotator: 'Zoe' is no annotator of the fit"):
        implicit.of(post, annotator="Zoe")
    with pytest.raises(DataError, match="give one of the two"):
        implicit.of(post, annotator=post.annotators[0], by="annotator")


def test_how_much_somebody_cares_is_theirs_and_not_everybodys():
    post = held(compose(PLAIN, heed))
    u, spread = post.draws["utility"], post.draws["spread"].reshape(-1, 1)
    weight = np.exp(spread * post.draws["heed"])
    np.testing.assert_allclose(implicit.of(post).p, softmax(u, -1), rtol=1e-10)
    each = implicit.of(post, by="annotator").p
    np.testing.assert_allclose(each, softmax(weight[..., None] * u[:, None], -1), rtol=1e-10)
    middle = implicit.of(post, by="average").p
    np.testing.assert_allclose(middle, softmax(np.exp(0.2 * spread) * u, -1), rtol=1e-10)


def test_somebody_new_is_drawn_from_the_population():
    post = held("reliability", draws=4000)
    u, spread = post.draws["utility"], np.abs(post.draws["annotator_reliability_spread"]).reshape(-1, 1)
    found = implicit.of(replace(post, draws=post.draws | {"annotator_reliability_spread": spread[:, 0]}), by="new").p
    slope = np.log(found[:, 0] / found[:, 1]) / (u[:, 0] - u[:, 1])
    standard = (slope - 1) / spread[:, 0]  # of reliability 1 + spread * Normal(0, 1), each draw its own
    assert abs(standard.mean()) < 4 / 4000**0.5
    assert abs(standard.std() - 1) < 4 / 8000**0.5


def test_biases_of_the_situation_are_no_wants():
    ordered = replace(DATA, first=np.where(np.arange(len(DATA)) % 3, 1, -1).astype(np.int8))
    post = held(compose(PLAIN, left_hand), ordered)
    np.testing.assert_allclose(implicit.of(post).p, softmax(post.draws["utility"], -1), rtol=1e-10)
    assert implicit.curl_share(post).max() == 0


def test_any_cycles_are_found_and_left_out():
    post = held(compose(PLAIN, whirl))
    u, angle = post.draws["utility"], post.draws["angle"]
    margin = u[:, :, None] - u[:, None] + 0.05 * np.sin(angle[:, :, None] - angle[:, None])
    potential = margin.mean(-1)
    np.testing.assert_allclose(implicit.of(post).p, softmax(potential, -1), rtol=1e-10)
    rest = margin - (potential[:, :, None] - potential[:, None])
    share = (rest**2).sum((1, 2)) / (margin**2).sum((1, 2))
    np.testing.assert_allclose(implicit.curl_share(post), share, rtol=1e-8)
    assert (share > 0).all()


def test_luces_rule_is_found_by_running_the_choice():
    post = held(compose(PLAIN.given[0], PLAIN.given[1], odds))
    np.testing.assert_allclose(implicit.of(post).p, softmax(post.draws["utility"], -1), rtol=1e-10)
    other = replace(post, fitted=compose(PLAIN.given[0], PLAIN.given[1], steep_odds))
    with pytest.raises(ProgramError, match="exp\\(utility\\) is not a density"):
        implicit.of(other)
    np.testing.assert_allclose(implicit.of(other, temperature=0.5).p, softmax(2 * post.draws["utility"], -1))


def plain(curve):
    def model(data):
        with pyro.plate("item", data.n_items, dim=-1):
            worth = pyro.sample("worth", dist.Normal(0.0, 1.0))
        margin = data.contrast(worth)
        observe(by_outcome(curve(margin), curve(-margin)), data)

    return Program("plain", model, outcomes=("a", "b"), unimodal=True)


def normal_curve(margin):
    return torch.special.log_ndtr(margin)


def test_a_plain_function_has_a_density_where_its_odds_follow_luces_axiom():
    post = held(plain(logsigmoid))
    assert "utility" not in post.draws
    np.testing.assert_allclose(implicit.of(post).p, softmax(post.draws["worth"], -1), rtol=1e-10)
    probit = replace(post, fitted=plain(normal_curve))
    assert run_in_circles(Question(probit, ()))  # log odds of normal curves do not add up
    worth = post.draws["worth"][0]
    gap = [log_ndtr(worth[a] - worth[b]) - log_ndtr(worth[b] - worth[a]) for a, b in ((0, 1), (1, 2), (2, 0))]
    assert abs(sum(gap)) > 1e-3
    with pytest.raises(ProgramError, match="not a density"):
        implicit.of(probit)
    with pytest.raises(ProgramError, match="plain function"):
        implicit.of(probit, temperature=1.0)


def test_a_behaviour_allows_no_likings_of_ones_own():
    post = held(compose(PLAIN, own_likings))
    tempered = replace(post, fitted=compose(PLAIN, own_likings, "tempered"))
    with pytest.raises(ProgramError, match="own_likings acts on what tempered"):
        implicit.of(tempered)
    assert [each.stage for each in wants(tempered)] == ["scale", "utility", "margin"]


def test_domains_beyond_the_items_are_for_programs_that_read_features_alone():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(5, 2))
    data = replace(DATA, item_features=features, feature_names=("x", "y"))
    grid = implicit.Domain.grid((-1, -1), (1, 1), (3, 4))
    neural = held("neural(width=3, depth=1)", data)
    found = implicit.of(neural, grid)
    assert found.log_p.shape == (100, 12)
    # the items' own features give the items' own density
    at_items = implicit.Domain.samples(neural.features, np.zeros(5))
    ratio = implicit.of(neural).log_p - implicit.normalise(implicit.of(neural, at_items).log_p, at_items).log_p
    np.testing.assert_allclose(ratio - ratio[:, :1], 0, atol=1e-9)
    for name, site in (("gp", "gp_offset"), ("linear+tastes", "annotator_taste_offset"), ("bradley_terry", "utility")):
        with pytest.raises(DataError, match=f"at its 5 items only.*{site}"):
            implicit.of(held(name, data), grid)
