"""Score tests of what could be added: null points of all layers, closed forms, tails, gains."""

import functools
import tracemalloc
from dataclasses import replace

import contract
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import chi2, norm
from truths import logistic, simulated, table

import prefdensity
from prefdensity import layer
from prefdensity.checking import quadratic
from prefdensity.checking.extensions import extensions
from prefdensity.checking.quadratic import Spectrum, weighted_chi2_tail
from prefdensity.checking.score import Effects, holm, score_of, scores
from prefdensity.checking.sensitivity import Fit
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.cells import Cells
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import run
from prefdensity.programs.shelf import find
from prefdensity.programs.tabulate import cells_of

LAYERS = [find(name) for name in prefdensity.names() if isinstance(find(name), Layer)]
NULLED = [layer.name for layer in LAYERS if layer.null or layer.spread]


def likelihood(program, data, values):
    view = View(program, cells_of(data, program.outcomes, program.needs))
    drawn = view.values(contract.vectors(view, 3, seed=1))[0]
    met = view.run({name: values.get(name, drawn[name]) for name in drawn}, 3).met["outcome"]
    return drawn, met["fn"].log_prob(met["value"]).reshape(3, -1).sum(-1)


@pytest.mark.parametrize("name", NULLED)
@pytest.mark.parametrize("where", ["no spread", "no offsets"])
def test_at_its_null_point_a_layer_says_nothing(name, where):
    """The program with the layer has the likelihood of one without, whatever the rest is."""
    layer, program = find(name), load_program(name)
    data = contract.suited(program)
    drawn, _ = likelihood(program, data, {})
    silent = {site: torch.full_like(drawn[site], level) for site, level in layer.null.items()}
    for spread, offsets in layer.spread.items():
        zero = spread if where == "no spread" else offsets
        silent[zero] = torch.zeros_like(drawn[zero])
    drawn, found = likelihood(program, data, {**drawn, **silent})
    kept = [each for each in program.layers if each.name != name]
    others = [[]] if layer.stage != "choice" else [[find(each)] for each in ("logit", "probit", "davidson")]
    fits = []
    for other in others:
        try:
            fits.append(likelihood(compose(*kept, *other), data, {**drawn, **silent})[1])
        except ProgramError:
            continue
    assert min(float((each - found).abs().max()) for each in fits) < 1e-9
    steps = {site: torch.linspace(0.1, 0.3, value.numel()).reshape(value.shape) for site, value in silent.items()}
    moved = {site: value + steps[site] for site, value in silent.items()}
    assert float((likelihood(program, data, {**drawn, **moved})[1] - found).abs().min()) > 1e-6


def test_what_says_nothing_names_its_own_sites():
    for name in NULLED:
        layer, program = find(name), load_program(name)
        view = View(program, cells_of(contract.suited(program), program.outcomes, program.needs))
        assert {*layer.null, *layer.spread, *layer.spread.values()} <= set(view.sites)
        for spread, offsets in layer.spread.items():
            assert view.sites[spread].is_scalar
            fn = view.run(view.values(contract.vectors(view, 1))[0], 1).met[offsets]["fn"]
            assert (np.asarray(fn.mean) == 0).all()
            assert (np.asarray(fn.variance) == 1).all()


@functools.cache
def small(seed=3, people=12, each=40, items=5):
    """Annotators with a leaning of their own to the first item, on sides drawn at random."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    a = rng.integers(items, size=len(who))
    b = (a + rng.integers(1, items, size=len(who))) % items
    first = rng.choice([-1, 1], len(who))
    u, own = rng.normal(size=items), 0.3 + 0.5 * rng.normal(size=people)
    won = rng.random(len(who)) < logistic(u[a] - u[b] + own[who] * first)
    data = replace(table(who, a, b, (~won).astype(np.int8)), first=first.astype(np.int8))
    return prefdensity.fit("bradley_terry+utility_scale(fixed=1.5)", data, method="laplace", draws=100), data


def found_by(post, data, name):
    ways, _ = extensions(post.program, data)
    (extension,) = (way[0] for way in ways if way[0].layer.label == name)
    return extension


def by_hand(post, data):
    """Residuals, variances and the projection off utilities with a normal prior, by plain linear algebra."""
    u = post.point["utility"]
    x = np.eye(len(u))[data.item_a] - np.eye(len(u))[data.item_b]
    p = logistic(x @ u)
    h = x.T @ ((p * (1 - p))[:, None] * x) + np.eye(len(u)) / 1.5**2
    return (data.outcome == 0) - p, p * (1 - p), x, h


def test_one_effect_is_the_lagrange_multiplier_test():
    """Rao's statistic of an order effect beside utilities with a prior, by hand."""
    post, data = small()
    e, v, x, h = by_hand(post, data)
    first = data.first.astype(float)
    cross = x.T @ (v * first)
    expected = (e @ first) ** 2 / (v @ first**2 - cross @ np.linalg.solve(h, cross))
    found = score_of(Fit(post, data), found_by(post, data, "position_bias"))
    assert found.df == 1
    assert found.statistic == pytest.approx(expected, rel=0.02)
    assert found.p == pytest.approx(chi2.sf(expected, 1), rel=0.1)
    assert found.gain == pytest.approx(found.statistic / 2 - 1)


def test_a_spread_has_the_covariance_of_linear_algebra():
    post, data = small()
    e, v, x, h = by_hand(post, data)
    per = np.eye(12)[data.annotator] * data.first[:, None]
    effects = Effects(Fit(post, data), found_by(post, data, "position_bias(by='annotator')"))
    many = np.flatnonzero(~effects.single)
    cross = x.T @ (v[:, None] * per)
    expected = per.T @ (v[:, None] * per) - cross.T @ np.linalg.solve(h, cross)
    bent = effects.bent[many]
    np.testing.assert_allclose(effects.covariance(many) - bent @ bent.T, expected, rtol=1e-6, atol=1e-6)
    assert 0 < np.trace(bent @ bent.T) < 0.03 * np.trace(expected)  # of order 1 / judgements
    np.testing.assert_allclose(effects.score[many], per.T @ e, atol=0.1)
    assert effects.single.sum() == 1


@pytest.mark.parametrize("program", ["bradley_terry", "davidson", "crowd_bt", "bradley_terry+tastes", "gp"])
def test_jacobians_are_those_of_differences(program):
    """What rows feel is found by running, also of utilities that are functions of other sites."""
    program = load_program(program)
    data = contract.suited(program)
    post = prefdensity.fit(program, data, method="map")
    fit = Fit(post, data)
    step = 1e-6 * torch.linspace(-1, 1, len(fit.z), dtype=torch.float64).cos()
    step[np.setdiff1d(np.arange(len(fit.z)), fit.felt)] = 0.0
    there, back = (fit._own(fit.z + sign * step).detach().numpy() for sign in (1, -1))
    np.testing.assert_allclose(fit.slopes @ step.numpy()[fit.felt], (there - back) / 2, atol=1e-13, rtol=1e-4)


def test_tails_of_quadratic_forms():
    for df in (2.0, 7.0):
        for tail in (0.7, 0.1, 1e-3, 1e-7):
            found = weighted_chi2_tail(3 * chi2.isf(tail, df), np.array([3.0]), np.array([df]))
            assert found == pytest.approx(tail, rel=0.05)
    weight, size = np.array([5.0, 1.0, 0.2]), np.array([1.0, 2.0, 3.0])
    sample = np.random.default_rng(0).chisquare(size, (400_000, 3)) @ weight
    for tail in (0.5, 0.1, 0.01):
        assert weighted_chi2_tail(float(np.quantile(sample, 1 - tail)), weight, size) == pytest.approx(tail, rel=0.06)


def test_expected_gains_are_those_of_new_judgements():
    """Effects of known covariance: the gain said beforehand against that of the estimate at the truth, on average."""
    rng = np.random.default_rng(1)
    value, t = rng.gamma(2, 5, 60), 0.1
    said, true = [], []
    for _ in range(400):
        theta = rng.normal(size=60) * t**0.5
        s = value * theta + rng.normal(size=60) * value**0.5
        guess, gain = Spectrum(value, np.ones(60), value, s**2).effects()
        estimate = guess * s / (1 + guess * value)
        said.append(gain)
        true.append(value @ (theta * estimate - estimate**2 / 2))
    error = np.std(np.subtract(said, true)) / 20
    assert np.mean(said) == pytest.approx(np.mean(true), abs=3 * error + 0.1)
    assert np.mean(true) > 10


def test_large_matrices_are_known_by_products(monkeypatch):
    rng = np.random.default_rng(2)
    value = rng.gamma(2, 1, 300)
    vectors = np.linalg.qr(rng.normal(size=(300, 300)))[0]
    v = (vectors * value) @ vectors.T
    score = vectors @ (rng.normal(size=300) * np.sqrt(value + 0.3 * value**2))
    whole = quadratic.spectrum(score, lambda x: v @ x, lambda: v)
    monkeypatch.setattr(quadratic, "_WHOLE", 10)
    few = quadratic.spectrum(score, lambda x: v @ x, lambda: v)
    assert few.total == pytest.approx(whole.total, rel=1e-8)
    assert few.mean == pytest.approx(whole.mean, rel=0.03)
    assert few.effects() == pytest.approx(whole.effects(), rel=0.1)
    assert norm.isf(few.tail()) == pytest.approx(norm.isf(whole.tail()), abs=0.3)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.5]).tolist() == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@layer("margin", needs=["annotator"], spread={"mood": "day"})
def moods(margin, data):
    """Moods: who judges leans to the item that comes first in the alphabet, or away from it."""
    spread = pyro.sample("mood", dist.HalfNormal(0.5))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        offset = pyro.sample("day", dist.Normal(0.0, 1.0))
    return margin + spread * data.of("annotator", offset)


@layer("margin", null={"push": 0.0})
def pushy(margin, data):
    """Pushy: says nothing at 1, whatever it declares."""
    return margin * pyro.sample("push", dist.Normal(1.0, 0.5))


def test_layers_of_ones_own_are_tried():
    data = simulated("luce", 1)
    lean = np.random.default_rng(0).normal(size=30)[data.annotator] * np.where(data.item_a < data.item_b, 1, -1)
    turned = np.random.default_rng(1).random(len(data)) < 0.5 * np.abs(np.tanh(lean))
    outcome = np.where(turned, (lean < 0).astype(np.int8), data.outcome).astype(np.int8)
    data = replace(data, outcome=outcome)
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=100)
    found, untried = scores(post, data, [moods, pushy])
    best = max(found, key=lambda each: each.gain)
    assert best.extension.layer is moods
    assert best.p < 1e-6
    assert "says something where it declares to say nothing" in untried["pushy"]
    assert untried["intransitive"] == "declares no point at which it says nothing"
    assert untried["ties"].startswith("ties is about ties")
    report = prefdensity.check(post, data, layers=[moods], replicates=20)
    assert report.steps["layer"][0] == "moods"
    assert "moods: " in str(report)


def test_what_needs_other_arguments_is_left_out():
    """Of all covariates together nothing varies by annotator; that of one alone would."""
    data = contract.suited(load_program("covariate"), rows=60)
    post = prefdensity.fit("covariate", data, method="laplace", draws=100)
    untried = scores(post, data)[1]
    assert untried["covariate"] == "is in the program"
    assert untried["ties"] == "it has other outcomes, a, b, tie"


@layer("utility")
def alike(data):
    """Alike: no item is worth more than another."""
    return torch.zeros(data.n_items)


def test_where_all_items_are_alike_nothing_scales_their_margins():
    data = contract.table(rows=60)
    post = prefdensity.fit(compose(alike, "position_bias"), data, method="laplace", draws=100)
    found, untried = scores(post, data)
    assert untried["reliability"].endswith("it changes no probability here")
    assert "position_bias(by='annotator')" in [each.extension.layer.label for each in found]


def test_what_takes_the_place_of_a_layer_keeps_its_sites():
    """Own position biases beside a common one that the program has: the common one is not asked again."""
    post, data = small()
    post = prefdensity.fit("bradley_terry+position_bias", data, method="laplace", draws=100)
    found = {each.extension.layer.label: each for each in scores(post, data)[0]}
    own = found["position_bias(by='annotator')"]
    assert own.df == 0
    assert own.extension.out.name == "position_bias"
    assert own.p < 0.01
    assert own.variance**0.5 == pytest.approx(0.5, abs=0.2)


def test_the_end_of_a_range_has_one_side():
    post = prefdensity.fit("bradley_terry", simulated("lapse", 4), method="laplace", draws=100)
    found = score_of(Fit(post, simulated("lapse", 4)), found_by(post, simulated("lapse", 4), "lapse"))
    assert found.p == pytest.approx(norm.sf(found.statistic**0.5))
    assert found.p < 0.01


def test_beyond_the_end_of_a_range_nothing_speaks_for_it():
    """Where clear favourites win more often than a curve says there are no lapses, least of all such as change."""
    rng = np.random.default_rng(0)
    u = np.array([-0.8, -0.4, 0.0, 0.4, 0.8])
    frame = pd.DataFrame({"a": rng.integers(5, size=3000), "b": rng.integers(5, size=3000)}).query("a != b")
    sure = norm.cdf(np.abs(u[frame["a"]] - u[frame["b"]]) ** 2 / 1.1)
    won = (rng.random(len(frame)) < sure) == (frame["a"] > frame["b"])
    frame["won"], frame["trial"] = np.where(won, "a", "b"), rng.integers(50, size=len(frame))
    data = Comparisons.from_frame(frame.astype({"a": str, "b": str}), item_a="a", item_b="b", outcome="won",
                                  numbers=["trial"])  # fmt: skip
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=100)
    found = {each.extension.layer.label: each for each in scores(post, data)[0]}
    assert found["lapse"].statistic > 10
    assert found["lapse"].p > 0.99
    assert found["lapse(over='trial')"].p > 0.05
    assert found["lapse(over='trial')"].gain < 1


@pytest.mark.parametrize("seed", [0, 1])
def test_what_was_fitted_to_chance_is_not_held_against_a_program(seed):
    """Tastes of 30 annotators follow the chance of their judgements; a curve of choice it is not."""
    data = simulated("own utilities", seed)
    post = prefdensity.fit("bradley_terry+tastes", data, method="laplace", draws=200)
    report = prefdensity.check(post, data)
    assert report.verdict == "stands"
    assert abs(report.table.set_index("check").loc["calibration", "z"]) < 2.5


@layer("margin", needs=["category"], spread={"turn": "swing"})
def turns(margin, data):
    """Turns: items are worth more in one category, less in another."""
    spread = pyro.sample("turn", dist.HalfNormal(0.5))
    with pyro.plate("category", data.size("category"), dim=-2), pyro.plate("item", data.n_items, dim=-1):
        offset = pyro.sample("swing", dist.Normal(0.0, 1.0))
    return margin + spread * data.contrast(offset, by="category")


def test_effects_by_any_label_are_seen():
    """A ranking that turns round between categories, by a layer of one's own."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(6, size=900), "b": rng.integers(6, size=900)}).query("a != b")
    frame["category"] = rng.choice(list("xyz"), len(frame))
    u = dict(zip("xyz", rng.normal(size=(3, 6)), strict=True))
    d = [u[c][a] - u[c][b] for a, b, c in zip(frame["a"], frame["b"], frame["category"], strict=True)]
    frame["won"] = np.where(rng.random(len(frame)) < logistic(np.array(d)), "a", "b")
    data = Comparisons.from_frame(frame.astype(str), item_a="a", item_b="b", outcome="won", groups=["category"])
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=100)
    (found,) = [each for each in scores(post, data, [turns])[0] if each.extension.layer is turns]
    assert found.p < 1e-6
    assert found.gain > 10


FIXED = {
    "utility_scale": 1.0, "annotator_reliability_spread": 0.5, "annotator_taste_spread": 0.7,
    "annotator_ties_spread": 0.8, "tie_strength": 0.6, "position_bias": 0.4,
}  # fmt: skip


def drawn_from(program, seed, items=7, people=25, rows=900):
    """A table of 25 annotators drawn from a program at given scales, all else from its prior."""
    rng, program = np.random.default_rng(seed), load_program(program)
    a = rng.integers(items, size=rows)
    b = (a + rng.integers(1, items, size=rows)) % items
    data = table(np.r_[np.arange(people), rng.integers(people, size=rows - people)], a, b, np.zeros(rows, np.int8))
    data = replace(data, first=rng.choice([-1, 1], rows).astype(np.int8))
    cells = Cells(
        item_a=torch.tensor(a), item_b=torch.tensor(b), total=torch.ones(rows, dtype=torch.float64),
        outcomes=program.outcomes, sizes={"item": items, "annotator": people},
        labels={"annotator": torch.tensor(data.annotator)}, first=torch.tensor(data.first).double(),
    )  # fmt: skip
    met = run(program, cells, {}, 1, seed=seed).met
    fixed = {name: torch.full_like(met[name]["value"], value) for name, value in FIXED.items() if name in met}
    outcome = run(program, cells, fixed, 1, seed=seed).met["outcome"]["value"].reshape(rows, -1).argmax(-1)
    return replace(data, outcome=outcome.numpy().astype(np.int8))


@pytest.mark.slow
def test_right_programs_are_left_alone(capsys):
    """Tables drawn from six programs, most with latents of annotators: 1 in 20 accused of anything by all checks.

    Bar: P(8 or more of 60 at 1 in 20) = .01.
    """
    programs = [
        "bradley_terry+reliability", "crowd_bt", "bradley_terry+tastes", "annotator_types", "ties",
        "davidson+position_bias",
    ]  # fmt: skip
    accused = {}
    for program in programs:
        for seed in range(10):
            data = drawn_from(program, seed)
            post = prefdensity.fit(program, data, method="laplace", draws=200)
            accused[program, seed] = prefdensity.check(post, data, seed=seed).headline
    found = {key: said for key, said in accused.items() if not said.startswith("Nothing here speaks against")}
    with capsys.disabled():
        print(found)
    assert len(found) < 8


def test_memory_does_not_grow_with_what_is_estimated_times_the_effects():
    rng = np.random.default_rng(0)
    a = rng.integers(12, size=6000)
    votes = pd.DataFrame(
        {
            "item_a": a,
            "item_b": (a + rng.integers(1, 12, size=6000)) % 12,
            "outcome": rng.choice(["a", "b"], 6000),
            "annotator": rng.integers(2000, size=6000),
            "category": rng.integers(60, size=6000),
        }
    )
    data = prefdensity.read(votes.astype(str), annotator="annotator", groups=["category"])
    post = prefdensity.fit("bradley_terry+tastes(by='category')", data, method="map")
    ways = [each for way in extensions(post.program, data, ())[0] for each in way]
    tastes = next(each for each in ways if each.layer.label == "tastes(by=['category', 'annotator'])")
    fit = Fit(post, data, tastes.program.needs)
    tracemalloc.start()
    score_of(fit, tastes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # 732 numbers are estimated and 23,000 effects tried: one number for each two would be 135 MB
