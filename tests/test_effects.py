"""The grammar of effects: by whom, in compositions and in Python, with the densities of the programs before it."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from contract import vectors, view_of
from prefdensity.models.covariate import covariate
from prefdensity.models.position_bias import position_bias
from scipy.optimize import minimize
from scipy.stats import chi2
from typer.testing import CliRunner

import prefdensity
from prefdensity import Comparisons
from prefdensity.cli.main import app
from prefdensity.data.declared import Column, Held
from prefdensity.errors import ProgramError
from prefdensity.inference.curvature import dense_hessian, local_curvature
from prefdensity.inference.fitting import viewed
from prefdensity.inference.mode import first_guess
from prefdensity.inference.prior import log_prior
from prefdensity.programs.loading import load_program, shipped

# Log joint densities at three vectors of z, as programs with a layer for each by whom gave them.
BEFORE = {
    "position_bias(by='annotator')+reliability+davidson": (
        -399.03126684433965,
        -181.29299594003388,
        -188.2007389701856,
    ),
    "position_bias(by='annotator')+lapse": (-313.18180154390484, -82.52517876363034, -81.22134925638106),
    "tastes+reliability+probit+position_bias": (-346.087988489843, -1203.411030106545, -68960.83690465438),
    "ties+rao_kupper": (-353.17357899614757, -142.94621049183587, -122.47607799210303),
    "strengths+adjacent_categories+ties": (-441.47356574552146, -195.66217562735667, -300.666387796675),
    "covariate+reliability(scales='margin')": (-326.9742361033073, -90.11989338619429, -69.7470188627938),
    "lapse+davidson": (-338.5685070458585, -111.63899498323619, -120.70899722147504),
    "reliability": (-306.83383413404806, -105.08652530743078, -107.5053879419365),
}


@pytest.mark.parametrize("name", BEFORE)
def test_densities_are_those_of_the_layers_before(name):
    view, _ = view_of(name)
    expected = torch.tensor(BEFORE[name], dtype=torch.float64)
    torch.testing.assert_close(view.log_joint(vectors(view, 3)), expected, rtol=0, atol=1e-10)


def test_a_composition_says_what_a_call_says():
    for written, made in (
        ("position_bias(by='annotator')", position_bias(by="annotator")),
        ("position_bias(by=['annotator', 'category'])", position_bias(by=("annotator", "category"))),
        ("covariate('length', by='annotator')", covariate("length", by="annotator")),
        ("covariate(name='length')", covariate("length")),
    ):
        (layer,) = load_program(written).given
        assert layer == made
        assert shipped(made.label).layers == shipped(written).layers
    assert position_bias(by="annotator").label == "position_bias(by='annotator')"
    assert position_bias(by="annotator").bare() == position_bias


def test_what_a_layer_declares_follows_its_options():
    assert position_bias.needs == ("first",)
    by_both = position_bias(by=["annotator", "category"])
    assert by_both.needs == ("first", "annotator", "category")
    assert by_both.hyper == ("annotator_position_bias_spread", "category_position_bias_spread")
    assert by_both.spread["category_position_bias_spread"] == "category_position_bias_offset"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("tastes(by=3)", "by of tastes is 3; it must be a name in quotes, or a list"),
        ("tastes(by=[])", "must be a name in quotes"),
        ("tastes(by=['annotator', 'annotator'])", "a list of different ones"),
        ("position_bias(who='annotator')", "has no argument 'who'; it takes by"),
        ("covariate(by='annotator')", "name the covariate whose effect varies by annotator"),
        ("covariate('length', name='length')", "is given 'name' twice"),
        ("lapse('annotator', 'trial', 'x')", "lapse takes 2 arguments, not 3: by, over"),
        ("tastes+tastes", "two margin layers"),
        ("tastes+tastes(by='category')+annotator_types", "both split"),
    ],
)
def test_bad_arguments_are_refused_in_words(written, message):
    with pytest.raises(ProgramError, match=re.escape(message)):
        load_program(written)


PEOPLE, ITEMS, EACH = 40, 5, 60
AGE = np.linspace(20.0, 70.0, PEOPLE)
TONGUE = np.array(["de", "fr", "it", ""], dtype=object)[np.arange(PEOPLE) % 4]
BY_AGE = np.array([0.8, -0.5, 0.0, 0.3, -0.6])
BY_TONGUE = {"de": [0.9, 0, 0, 0, 0], "fr": [0, -0.9, 0, 0, 0.5], "it": [0, 0, 0, 0, 0], "": [0, 0.9, 0, -0.9, 0]}
WORTH = np.array([0.6, 0.2, 0.0, -0.3, -0.5])


def panel(seed=0, tongue=True):
    """A frame of judgements of 40 people whose age and language matter, and what is known of them."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(PEOPLE), EACH)
    a = rng.integers(ITEMS, size=len(who))
    b = (a + rng.integers(1, ITEMS, size=len(who))) % ITEMS
    x = (AGE - AGE.mean()) / AGE.std()
    u = WORTH + x[:, None] * BY_AGE + (np.array([BY_TONGUE[each] for each in TONGUE]) if tongue else 0.0)
    won = rng.random(len(who)) < 1 / (1 + np.exp(u[who, b] - u[who, a]))
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": np.where(won, "a", "b"), "annotator": who}).astype(str)
    frame["category"] = rng.choice(["code", "prose", "maths"], len(frame))
    known = pd.DataFrame({"age": AGE, "tongue": TONGUE}, index=[str(k) for k in range(PEOPLE)])
    return Comparisons.from_frame(
        frame, annotator="annotator", groups=["category"], attributes={"annotator": known.replace("", None)}
    )


def test_effects_of_attributes_come_back():
    data = panel()
    post = prefdensity.fit("bradley_terry+tastes(on=['age', 'tongue'])", data, method="laplace", progress=False)
    assert post.status.trusted
    found = post.draws["age_taste"] - post.draws["age_taste"].mean(-1, keepdims=True)
    z = (found.mean(0) - (BY_AGE - BY_AGE.mean())) / found.std(0)
    assert (z**2).sum() < chi2.isf(1e-3, ITEMS - 1) * ITEMS / (ITEMS - 1)
    # levels about the middle of all levels, an empty cell being one of its own
    words = post.labels_of["annotator.tongue"]
    assert set(words) == {"de", "fr", "it", "(missing)"}
    truth = np.array([BY_TONGUE["" if word == "(missing)" else word] for word in words])
    truth = truth - truth.mean(0)
    levels = post.draws["tongue_taste"]
    np.testing.assert_allclose(levels.sum(1), 0, atol=1e-9)
    levels, truth = (each - each.mean(-1, keepdims=True) for each in (levels, truth))
    z = (levels.mean(0) - truth) / levels.std(0)
    assert (z**2).mean() < 2.2  # 12 numbers that are free, of 20
    rows = post.parameters().set_index(["parameter", "index"])
    said = rows.loc[("tongue_taste", "de, 0"), "mean"]
    assert said == pytest.approx(post.draws["tongue_taste"].mean(0)[words.index("de"), 0])


def test_pooled_effects_lie_between_none_and_the_likelihoods():
    data = panel(1)
    name = "bradley_terry+tastes(on='tongue')"
    free = prefdensity.fit(name, data, method="mle", progress=False)
    pooled = prefdensity.fit(name, data, method="laplace", progress=False)
    assert free.unfelt == ("utility_scale", "tongue_taste_spread")
    assert free.status.n_parameters == 4 + 3 * 4  # of items and contrasts, without their common shifts
    sizes = [np.ptp(post.draws["tongue_taste"].mean(0), axis=1).mean() for post in (pooled, free)]
    assert 0.5 * sizes[1] < sizes[0] < sizes[1]
    plain = prefdensity.fit("bradley_terry", data, method="mle", progress=False)
    assert free.status.log_likelihood > plain.status.log_likelihood + 50


def test_maximum_likelihood_is_that_of_dummy_coding():
    """The likelihood of contrasts is that of a logistic regression with an indicator of each level but one."""
    data = panel(2)
    post = prefdensity.fit("bradley_terry+tastes(on='tongue')", data, method="mle", progress=False)
    words, level = post.labels_of["annotator.tongue"], data.column("tongue", "annotator").values[data.annotator]
    sides = np.eye(ITEMS)[data.item_a] - np.eye(ITEMS)[data.item_b]
    design = np.hstack([sides[:, 1:], *((level == k)[:, None] * sides[:, 1:] for k in range(1, len(words)))])
    sign = np.where(data.outcome == 0, 1.0, -1.0)

    def loss(w):
        margin = sign * (design @ w)
        return np.logaddexp(0, -margin).sum(), -(design.T @ (sign / (1 + np.exp(margin))))

    best = minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 1e-15})
    assert post.status.log_likelihood == pytest.approx(-best.fun, abs=1e-6)
    table = post.point["tongue_taste"]
    apart = (table - table[:, :1])[1:] - (table - table[:, :1])[:1]
    np.testing.assert_allclose(apart[:, 1:].ravel(), best.x[ITEMS - 1 :], atol=1e-4)


SEVERAL = [
    "tastes(on=['age', 'tongue'])",
    "tastes(by='category', on='age')+reliability",
    "tastes(by=['annotator', 'category'])",
    "tastes+tastes(by='category')+position_bias(by=['annotator', 'tongue'])",
    "reliability(by='tongue')+lapse(by='annotator')",
    "ties(by=['annotator', 'category'])",
    "covariate('length', by='annotator')",
]


def wide():
    """The panel with an order, ties and a covariate."""
    data, rng = panel(3), np.random.default_rng(3)
    outcome = np.where(rng.random(len(data)) < 0.2, 2, data.outcome).astype(np.int8)
    first, length = rng.choice([-1, 1], len(data)).astype(np.int8), rng.normal(size=(len(data), 1))
    return replace(data, outcome=outcome, first=first, covariates=length, covariate_names=("length",)).take(slice(300))


@pytest.mark.parametrize("name", SEVERAL)
def test_crossed_and_regressed_effects_have_exact_curvature(name):
    view = viewed(load_program(f"davidson+{name}"), wide())
    local = local_curvature(view, first_guess(view))
    assert local is not None, view.memo
    z = 0.5 * torch.randn(1, view.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient, hessian = dense_hessian(view.log_joint, z, view.work)
    value, slope, second = local.batch(z, log_prior(view, z))
    torch.testing.assert_close(value, view.log_joint(z), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(second, hessian, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("name", SEVERAL)
def test_the_likelihood_is_the_same_with_sides_swapped(name):
    data = wide()
    one, other = (viewed(load_program(f"davidson+{name}"), each) for each in (data, data.swapped()))
    z = vectors(one, 2)
    torch.testing.assert_close(other.log_joint(z), one.log_joint(z), atol=1e-9, rtol=0)


def test_somebody_is_asked_about_by_what_is_known_of_them(tmp_path):
    data = panel(4)
    post = prefdensity.fit("bradley_terry+tastes(on=['age', 'tongue'])", data, method="laplace", progress=False)
    post = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    german = post.predict([("0", "1")], at={"annotator.tongue": "de"})["p_a"][0]
    missing = post.predict([("0", "1")], at={"annotator.tongue": "(missing)"})["p_a"][0]
    middle = post.predict([("0", "1")])["p_a"][0]
    assert german > middle > missing
    u = post.draws["utility"]
    by_hand = u[:, 0] - u[:, 1] + post.draws["tongue_taste"][:, 0, 0] - post.draws["tongue_taste"][:, 0, 1]
    word = post.labels_of["annotator.tongue"][0]
    said = post.predict([("0", "1")], at={"annotator.tongue": word})["p_a"][0]
    assert said == pytest.approx((1 / (1 + np.exp(-by_hand))).mean(), rel=1e-10)
    young, old = (prefdensity.density.of(post, annotator=who).mean().p for who in ("0", str(PEOPLE - 1)))
    assert young[1] / young[0] > old[1] / old[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tastes(by='topic')", "needs the column 'topic', and the table was read with category"),
        ("tastes(on='height')", "needs the column 'height'"),
        ("tastes(on='annotator.height')", "needs to know 'height' of every annotator"),
        ("tastes(on='once')", "regresses on 'once', and the data have one value of it"),
    ],
)
def test_columns_that_are_not_there_are_asked_for(name, message):
    data = panel()
    data = replace(data, more=(*data.more, Held(Column("once", "label"), np.zeros(len(data), np.int64), ("x",))))
    with pytest.raises(ProgramError, match=re.escape(message)):
        prefdensity.fit(name, data)


def test_spanish_speakers_and_barcelona(shared_data):
    """Dittrich, Hatzinger and Katzenbeisser (1998): log likelihood -3964.4 without, -3925.1 with who speaks Spanish."""
    data = prefdensity.read(shared_data / "cems.csv", groups=["spanish"])
    plain, free = (
        prefdensity.fit(name, data, method="mle", progress=False)
        for name in ("davidson", "davidson+tastes(on='spanish')")
    )
    assert plain.status.log_likelihood == pytest.approx(-3964.37812, abs=1e-4)
    assert free.status.log_likelihood == pytest.approx(-3925.1, abs=0.05)
    pooled = prefdensity.fit("davidson+tastes(on='spanish')", data, method="laplace", progress=False)
    place = {name: k for k, name in enumerate(data.items)}

    def effect(post):
        table = post.draws["spanish_taste"].mean(0)
        apart = table[0] - table[1]  # good less poor
        return apart[place["Barcelona"]] - apart[place["Stockholm"]]

    assert free.labels_of["spanish"] == ("good", "poor")
    assert effect(free) == pytest.approx(1.618, abs=0.005)
    assert 0 < effect(pooled) < effect(free)


def test_spanish_speakers_and_barcelona_in_one_command(shared_data, tmp_path):
    ask = ["fit", str(shared_data / "cems.csv"), "--group", "spanish", "--model", "davidson", "--by", "spanish"]
    found = {}
    for method in ("mle", "laplace"):
        out = tmp_path / method
        done = CliRunner().invoke(
            app, [*ask, "--reference", "Stockholm", "--method", method, "--out", str(out), "--quiet"]
        )
        assert done.exit_code == 0, done.output
        rows = pd.read_csv(out / "group_differences.csv").set_index(["item", "group_a", "group_b"])
        found[method] = rows.loc[("Barcelona", "good", "poor")]
    assert found["mle"]["difference"] == pytest.approx(1.618, abs=0.005)
    assert 0 < found["laplace"]["difference"] < found["mle"]["difference"]
    assert found["mle"]["real"]
    assert found["laplace"]["real"]
