"""Densities on domains, summarised, and read off fits."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import softmax

import prefdensity
from prefdensity.density import implicit
from prefdensity.density.implicit import Domain, kl, match, normalise, tv
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs.compose import compose

LINE = Domain.grid(-8, 8, 1600)
STANDARD = normalise(-(LINE.points**2) / 2, LINE)


def draws(count=60, points=7, seed=0, types=()):
    rng = np.random.default_rng(seed)
    return normalise(rng.normal(size=(count, *types, points)), Domain.items([f"i{k}" for k in range(points)]))


# --- domains ---


@pytest.mark.parametrize("rule", ["midpoint", "trapezoid"])
def test_grids_integrate(rule):
    line = Domain.grid(-9, 9, 400, rule)
    assert np.exp(line.log_volume).sum() == pytest.approx(18)
    found = normalise(stats.norm.logpdf(line.points) + 3, line)
    np.testing.assert_allclose(found.log_p, stats.norm.logpdf(line.points), atol=1e-12)
    plane = Domain.grid((-9, -8), (9, 8), (90, 80), rule)
    assert plane.shape == (90, 80)
    assert plane.points.shape == (7200, 2)
    correlated = stats.multivariate_normal([0.5, 0], [[1, 0.6], [0.6, 1]])
    found = normalise(correlated.logpdf(plane.points), plane)
    np.testing.assert_allclose(found.log_p, correlated.logpdf(plane.points), atol=1e-9)
    assert (np.diff(found.domain.points[:, 0].reshape(plane.shape), axis=1) == 0).all()  # first axis slowest


def test_items_are_a_softmax():
    u = np.array([[1000.0, 1000.0, 998.0], [-5.0, 0.0, 2.0]])
    found = normalise(u, Domain.items("xyz"))
    np.testing.assert_allclose(found.p, softmax(u, -1))
    np.testing.assert_allclose(normalise(u - 7, Domain.items("xyz")).log_p, found.log_p)
    np.testing.assert_array_equal(found.p, found.probability)


def test_importance_sampling():
    # log Z of 20,000 draws has standard error .004; five of those are allowed
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1.5, (20_000, 2))
    samples = Domain.samples(x, stats.norm.logpdf(x, 0, 1.5).sum(1))
    u = np.stack([-(x**2).sum(1) / 2, -((x - 0.5) ** 2).sum(1) / 2])
    found = normalise(u, samples)
    np.testing.assert_allclose(u[:, 0] - found.log_p[:, 0], np.log(2 * np.pi), atol=0.02)
    assert (found.k_hat < 0.5).all()
    assert (found.effective > 8000).all()
    assert found.mean().k_hat == found.k_hat.max()
    inside = (x**2).sum(1) < 1
    assert found.mass(inside)[0] == pytest.approx(1 - np.exp(-0.5), abs=0.02)


def test_importance_sampling_that_misses_is_refused():
    # the proposal covers one bump of two: the effective sample size does not notice, k-hat does
    x = np.random.default_rng(2).normal(-2.5, 0.5, 4000)
    samples = Domain.samples(x, stats.norm.logpdf(x, -2.5, 0.5))
    bumps = np.logaddexp(stats.norm.logpdf(x, -2.5, 0.5), stats.norm.logpdf(x, 2.5, 1))
    with pytest.raises(DataError, match="k-hat of the importance weights is .* above 0.7"):
        normalise(bumps, samples)
    flagged = normalise(bumps, samples, worst_k_hat=np.inf)
    assert flagged.k_hat > 0.7
    assert flagged.effective > 3500


def test_bad_domains_are_refused():
    for bad in ([], ["x", "x"]):
        with pytest.raises(DataError, match="distinct labels"):
            Domain.items(bad)
    for ends in ((1, 0, 5), (0, np.inf, 5), (0, 1, 1)):
        with pytest.raises(DataError, match="finite ends"):
            Domain.grid(*ends)
    with pytest.raises(DataError, match="rule"):
        Domain.grid(0, 1, 5, "simpson")
    with pytest.raises(DataError, match="log_q"):
        Domain.samples(np.zeros((3, 2)), np.zeros(2))


def test_bad_log_densities_are_refused():
    with pytest.raises(DataError, match="cannot have shape"):
        normalise(np.zeros(4), Domain.items("xyz"))
    with pytest.raises(DataError, match="cannot have shape"):
        normalise(np.zeros((2, 3)), Domain.items("xyz"), dims=("point",))
    for bad in (np.nan, np.inf):
        with pytest.raises(DataError, match="no finite positive integral"):
            normalise([0.0, bad, 0.0], Domain.items("xyz"))
    with pytest.raises(DataError, match="no finite positive integral"):
        normalise(np.full(3, -np.inf), Domain.items("xyz"))


def test_functions_of_the_points():
    np.testing.assert_array_equal(normalise(lambda x: -(x**2) / 2, LINE).log_p, STANDARD.log_p)
    assert normalise(lambda x: -(x**2) / 2, LINE).dims == ("point",)


# --- summaries ---


def test_the_two_means_are_the_best_summaries():
    many = draws()
    rng = np.random.default_rng(5)
    for best, loss in (
        (many.mean(), lambda q: kl(many, q).mean()),
        (
            many.geometric(),
            lambda q: np.mean([kl(q, replace(many, log_p=each, dims=("point",))) for each in many.log_p]),
        ),
    ):
        assert best.dims == ("point",)
        assert best.probability.sum() == pytest.approx(1)
        for _ in range(20):
            other = normalise(best.log_p + 0.1 * rng.normal(size=7), best.domain)
            assert loss(other) > loss(best)


def test_mass_of_a_region():
    many = draws(count=500)
    region = np.array([True, True, False, False, False, True, False])
    share = many.probability[:, region].sum(1)
    found = many.interval(region, 0.8)
    np.testing.assert_allclose(found, [share.mean(), *np.quantile(share, [0.1, 0.9])])
    typed = draws(count=50, types=(3,))
    assert typed.interval(region).lower.shape == (3,)
    left = LINE.points < 0
    assert STANDARD.mass(left) == pytest.approx(0.5)
    with pytest.raises(DataError, match="no draws"):
        STANDARD.interval(left)
    with pytest.raises(DataError, match="no spread"):
        draws(count=1).interval(region)
    with pytest.raises(DataError, match="boolean mask"):
        many.mass([0, 1])
    with pytest.raises(DataError, match="level"):
        many.interval(region, 90)


def test_frames():
    frame = draws(types=(2,)).to_frame()
    assert list(frame.columns) == ["type", "item", "density", "lower", "upper"]
    assert frame["type"].tolist() == ["1"] * 7 + ["2"] * 7
    assert frame.groupby("type")["density"].sum().tolist() == pytest.approx([1, 1])
    assert (frame["lower"] < frame["density"]).all()
    exact = STANDARD.to_frame()
    assert list(exact.columns) == ["x", "density", "lower", "upper"]
    assert exact["lower"].isna().all()
    plane = normalise(np.zeros(6), Domain.grid((0, 0), (1, 1), (2, 3))).to_frame()
    assert list(plane.columns) == ["x1", "x2", "density", "lower", "upper"]


# --- read off fits ---


PLAIN = "utility_scale(fixed=1.0)+bradley_terry"  # whose one site is the utility
PLAIN_LAYERS = prefdensity.load_program(PLAIN)


@pytest.fixture(scope="module")
def citations():
    return prefdensity.fit("bradley_terry", prefdensity.read("example:citations"), method="laplace", draws=400)


@pytest.fixture(scope="module")
def camps():
    data, truth = prefdensity.simulate.population(6, 24, 1500, seed=3, n_types=2, type_weight=[0.6, 0.4])
    return prefdensity.fit("annotator_types", data, method="laplace", draws=200), data, truth


def test_density_of_a_fit(citations):
    found = implicit.of(citations)
    np.testing.assert_allclose(found.draws, softmax(citations.draws["utility"], -1))
    assert found.domain.labels == citations.items
    assert repr(found) == "Density(400 draws, 4 points)"
    ranking = citations.summary()["item"].tolist()
    frame = found.mean().to_frame()
    assert frame.sort_values("density", ascending=False)["item"].tolist() == ranking
    best = np.array([label == ranking[0] for label in citations.items])
    mean, lower, upper = found.interval(best)
    assert lower < mean < upper
    assert kl(found, found.mean()).mean() < kl(found, found.geometric()).mean()


def test_points_are_found_by_their_labels(citations):
    turned = Domain.items(citations.items[::-1])
    np.testing.assert_allclose(implicit.of(citations, turned).log_p[:, ::-1], implicit.of(citations).log_p)
    with pytest.raises(DataError, match="at its 4 items only"):
        implicit.of(citations, Domain.items("abcd"))
    numbered = replace(citations, items=("-1.5", "-0.5", "0.5", "1.5"))
    line = Domain.grid(-2, 2, 4)
    found = implicit.of(numbered, line)
    np.testing.assert_array_equal(found.log_p, implicit.of(citations).log_p)  # cells of volume 1
    np.testing.assert_allclose(implicit.of(numbered, Domain.grid(-2, 2, 4)).probability.sum(-1), 1)


def test_three_densities_of_annotators_who_differ(camps):
    post, data, truth = camps
    kinds = implicit.of(post, by="type")
    assert kinds.dims == ("draw", "type", "point")
    np.testing.assert_allclose(kinds.p, softmax(post.draws["utility"], -1))
    weight = post.draws["type_weight"]
    mixed, averaged = implicit.of(post), implicit.of(post, aggregate="mean_utility")
    np.testing.assert_allclose(mixed.p, (weight[..., None] * kinds.p).sum(1))
    log_p = (weight[..., None] * kinds.log_p).sum(1)
    np.testing.assert_allclose(averaged.p, softmax(log_p, -1))
    pooled = implicit.of(prefdensity.fit("bradley_terry", data, method="laplace", draws=200))
    assert tv(mixed.mean(), averaged.mean()) > 0.02
    assert tv(mixed.mean(), pooled.mean()) > 0.02
    truths = normalise(truth.utilities, kinds.domain, ("type", "point"))
    matched, _ = match(kinds, truths)
    assert (tv(matched.mean(), truths) < 0.1).all()


def test_density_of_each_annotator(camps):
    post, _, truth = camps
    found, kinds = implicit.of(post, by="annotator"), implicit.of(post, by="type")
    assert found.groups == post.annotators
    share = post.draws["type_probability"]
    np.testing.assert_allclose(found.p[7, 3], share[7, 3] @ kinds.p[7])
    np.testing.assert_allclose(found.probability.sum(-1), 1)
    averaged = implicit.of(post, by="annotator", aggregate="mean_utility")
    np.testing.assert_allclose(averaged.p[7, 3], softmax(share[7, 3] @ kinds.log_p[7]))
    own = normalise(truth.utilities[truth.annotator_type], found.domain, ("annotator", "point"))
    assert np.median(tv(found.mean(), own)) < 0.1


def test_reliability_sharpens_and_reverses():
    data, _ = prefdensity.simulate.population(4, 5, 400, seed=2, reliability_sd=0.5)
    post = prefdensity.fit("reliability", data, method="map")
    found = implicit.of(post, by="annotator")
    beta, u = post.draws["annotator_reliability"][0], post.draws["utility"][0]
    np.testing.assert_allclose(found.p[0], softmax(beta[:, None] * u, -1))
    np.testing.assert_allclose(implicit.of(post).p[0], softmax(u))


def test_tastes_belong_to_annotators(citations):
    rng = np.random.default_rng(0)
    u, spread, offset, beta = rng.normal(size=4), 0.7, rng.normal(size=(5, 4)), rng.normal(size=(5, 1))
    dims = {"utility": ("item",), "annotator_taste_spread": (), "annotator_taste_offset": ("annotator", "item")}
    dims |= {"annotator_reliability_spread": (), "annotator_reliability_offset": ("annotator",)}
    values = (u, np.array(spread), offset, np.array(2.0), (beta[:, 0] - 1) / 2)
    post = replace(
        citations,
        annotators=tuple("vwxyz"),
        draws={name: value[None] for name, value in zip(dims, values, strict=True)},
        dims=dims,
        event_dims=dict.fromkeys(dims, 0),
        fitted=prefdensity.load_program(f"{PLAIN}+tastes"),
    )
    own = softmax(u + spread * offset, -1)
    turned = Domain.items(post.items[::-1])
    found = implicit.of(post, turned, by="annotator")
    np.testing.assert_allclose(found.p[0], own[:, ::-1])
    assert found.groups == post.annotators
    np.testing.assert_allclose(implicit.of(post).p[0], own.mean(0))
    averaged = implicit.of(post, aggregate="mean_utility")
    np.testing.assert_allclose(averaged.p[0], softmax(u + spread * offset.mean(0)))
    sooner = replace(prefdensity.load_program("reliability").given[0], name="sooner", place="wants")
    for layers, expected in (
        ([sooner, "tastes"], beta * u + spread * offset),  # in the order written within one place
        (["tastes", sooner], beta * (u + spread * offset)),
        (["reliability", "tastes"], beta * (u + spread * offset)),
    ):
        found = implicit.of(replace(post, fitted=compose(PLAIN_LAYERS, *layers)), by="annotator")
        np.testing.assert_allclose(found.p[0], softmax(expected, -1))


def test_types_of_judgements_have_densities_too(camps):
    post, *_ = camps
    draws = {name: value for name, value in post.draws.items() if name != "type_probability"}
    anonymous = replace(post, fitted=prefdensity.load_program("comparison_types"), draws=draws)
    np.testing.assert_array_equal(implicit.of(anonymous).log_p, implicit.of(post).log_p)
    with pytest.raises(DataError, match="alike"):
        implicit.of(anonymous, by="annotator")


def test_linear_utilities_reach_beyond_the_items():
    rng = np.random.default_rng(1)
    features = pd.DataFrame({"size": [0.0, 1, 2, 3], "age": [1.0, 0, 1, 0]}, index=list("wxyz"))
    rows = pd.DataFrame(rng.choice(list("wxyz"), (80, 2)), columns=["item_a", "item_b"]).query("item_a != item_b")
    rows["outcome"] = np.where(rng.random(len(rows)) < 0.5, "a", "b")
    data = prefdensity.Comparisons.from_frame(rows, item_features=features)
    post = prefdensity.fit("linear", data, method="laplace", draws=100)
    np.testing.assert_allclose(implicit.of(post).p, softmax(post.draws["utility"], -1))
    plane = Domain.grid((-2, -2), (2, 2), (5, 5))
    found = implicit.of(post, plane)
    np.testing.assert_allclose(found.log_p, normalise(post.draws["weight"] @ plane.points.T, plane).log_p)


def test_a_utility_is_not_always_a_log_density(citations, camps):
    probit = replace(citations, fitted=prefdensity.load_program("thurstone"))  # of the same sites
    with pytest.raises(ProgramError, match="temperature"):
        implicit.of(probit)
    np.testing.assert_allclose(implicit.of(probit, temperature=0.5).p, softmax(2 * citations.draws["utility"], -1))
    with pytest.raises(DataError, match="positive"):
        implicit.of(citations, temperature=0.0)

    lost = {name: values for name, values in citations.draws.items() if name != "utility"}
    with pytest.raises(ProgramError, match="the site 'utility' of bradley_terry has no draws"):
        implicit.of(replace(citations, draws=lost))


def test_options_that_do_not_suit_are_refused(citations):
    with pytest.raises(DataError, match="no types"):
        implicit.of(citations, by="type")
    with pytest.raises(DataError, match="alike"):
        implicit.of(citations, by="annotator")
    with pytest.raises(DataError, match="by="):
        implicit.of(citations, by="item")
    with pytest.raises(DataError, match="aggregate"):
        implicit.of(citations, aggregate="median")


def cyclic(utility, blade, chest, scale):
    """One draw of an intransitive fit at given values."""
    size = len(utility)
    return replace(
        prefdensity.fit("bradley_terry", prefdensity.read("example:citations"), method="map"),
        fitted=prefdensity.load_program(f"{PLAIN}+intransitive"),
        items=tuple(f"i{k}" for k in range(size)),
        draws={
            "utility": np.array([utility], float),
            "blade": np.array([blade], float),
            "chest": np.array([chest], float),
            "curl_scale": np.array([scale], float),
        },
        dims={"utility": ("item",), "blade": ("item",), "chest": ("item",), "curl_scale": ()},
        event_dims=dict.fromkeys(["utility", "blade", "chest", "curl_scale"], 0),
    )


def test_cycles_are_what_no_potential_explains():
    rng = np.random.default_rng(1)
    utility, blade, chest = rng.normal(size=(3, 5))
    post = cyclic(utility, blade, chest, 0.7)
    margin = utility[:, None] - utility + 0.7 * (np.outer(blade, chest) - np.outer(chest, blade))
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    design = np.array([np.eye(5)[i] - np.eye(5)[j] for i, j in pairs])
    target = np.array([margin[i, j] for i, j in pairs])
    potential = np.linalg.lstsq(design, target)[0]
    rest = target - design @ potential
    assert implicit.curl_share(post)[0] == pytest.approx((rest @ rest) / (target @ target), rel=1e-12)


def test_the_density_of_almost_transitive_preferences_is_that_of_their_potential():
    utility, turn = np.array([1.0, 0.0, -0.5]), 2 * np.pi * np.arange(3) / 3
    straight = implicit.of(cyclic(utility, np.cos(turn), np.sin(turn), 0.0))
    np.testing.assert_allclose(straight.p, softmax(utility, -1)[None], rtol=1e-12)
    slightly = cyclic(utility, np.cos(turn), np.sin(turn), 0.1)  # rock, paper, scissors: a potential of its own 0
    assert 0 < implicit.curl_share(slightly)[0] < 0.1
    np.testing.assert_allclose(implicit.of(slightly).p, softmax(utility, -1)[None], rtol=1e-12)
    circles = cyclic(np.zeros(3), np.cos(turn), np.sin(turn), 1.0)
    assert implicit.curl_share(circles)[0] == pytest.approx(1)
    with pytest.raises(ProgramError, match=r"the share of cycles in the squared margins is 1\.00 \[1\.00, 1\.00\]"):
        implicit.of(circles)
    utility = {"utility": np.array([[1.0, 0.0, 3.0]])}
    plain = replace(circles, fitted=prefdensity.load_program(PLAIN), draws=utility)
    assert implicit.curl_share(plain) == [0.0]


@pytest.mark.parametrize("layer", ["annotator_factors", "ideal_points"])
def test_what_annotators_want_follows_from_their_place(layer):
    data, _ = prefdensity.simulate.population(4, 3, 60, seed=2)
    post = prefdensity.fit(f"{layer}({'rank' if layer == 'annotator_factors' else 'dim'}=2)", data, method="map")
    found = implicit.of(post, by="annotator")
    at = {name: value[0] for name, value in post.draws.items()}
    for j in range(3):
        for a, b in ((0, 1), (2, 3)):
            margin = at["utility"][a] - at["utility"][b]
            if layer == "annotator_factors":
                margin += at["factor_scale"] * sum(
                    at["factor_score"][r, j] * (at["factor_loading"][r, a] - at["factor_loading"][r, b])
                    for r in range(2)
                )
            else:
                far = [sum((at["place"][r, k] - at["ideal"][r, j]) ** 2 for r in range(2)) for k in (a, b)]
                margin -= at["ideal_scale"] * (far[0] - far[1])
            assert np.log(found.p[0, j, a] / found.p[0, j, b]) == pytest.approx(margin, rel=1e-9)
