"""Parameters come back from simulated judgements, with honest intervals; types of annotators are found."""

import itertools

import numpy as np
import pytest
import torch
from contract import view_of
from scipy import stats

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.programs.running import environment

FALSE_ALARM = 1e-4  # of the whole table of programs
TRUTH = {
    "utility": np.array([1.2, 0.5, 0.1, -0.3, -0.6, -0.9]),
    "weight": np.array([0.8, -0.5]),
    "position_bias": 0.4,
    "tie_strength": 0.8,
    "tie_excess": 0.6,
    "lapse": 0.15,
    "flip_rate": 0.1,
    "annotator_reliability_spread": 0.5,
    "covariate_offset": np.array([0.5, -0.3]),
    "annotator_position_bias_spread": 0.5,
    "annotator_position_bias_offset": np.array([1.1, -0.6, 0.3, -1.5, 0.8, -0.2, 1.3, -0.9]),
    "accuracy": np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.9, 0.7, 0.3]),
    "annotator_ties_spread": 1.0,
    "annotator_ties_offset": np.array([1.4, -0.7, 0.2, -1.6, 0.9, -0.3, 0.6, -0.5]),
    "noise_spread": 0.5,
    "noise_offset": np.array([1.2, -0.8, 0.3, -1.1, 0.6, -0.2]),
    "annotator_reliability_offset": np.array([-1.6, -0.9, -0.4, -0.1, 0.2, 0.5, 0.8, 1.5]),
}
RECOVERED = [
    "bradley_terry",
    "thurstone",
    "davidson",
    "rao_kupper",
    "position_bias",
    "lapse",
    "reliability",
    "linear",
    "covariate",
    "position_bias(by='annotator')",
    "crowd_bt",
    "davidson+position_bias+reliability",
    "ties",
    "rao_kupper+ties",
    pytest.param("thurstone_case3", marks=pytest.mark.slow),
    "rao_kupper+lapse",
    "bradley_terry+flips",
    "linear+probit",
]


def design(rows, people=8, items=6, seed=0):
    """Random pairs, sides, order and annotators, and nobody's verdict yet."""
    rng = np.random.default_rng(seed)
    item_a = rng.integers(items, size=rows)
    return Comparisons(
        items=tuple(f"i{k}" for k in range(items)),
        item_a=item_a,
        item_b=(item_a + rng.integers(1, items, size=rows)) % items,
        outcome=None,
        count=np.ones(rows),
        annotators=tuple(f"p{k}" for k in range(people)),
        annotator=np.arange(rows) % people,
        first=rng.choice([-1, 1], size=rows).astype(np.int8),
        feature_names=("f", "g"),
        item_features=rng.normal(size=(items, 2)),
        covariate_names=("c", "d"),
        covariates=rng.integers(-1, 2, size=(rows, 2)).astype(float),
    )


def judged(program, data, truth, seed):
    """`data` with outcomes drawn from the program at known site values."""
    from dataclasses import replace

    program = prefdensity.load_program(program)
    blank = replace(data, outcome=np.zeros(len(data), np.int8))
    view, _ = view_of(program, blank)
    values, known = {}, truth | {"utility_scale": 1.0}  # which judgements do not feel
    for name, site in view.sites.items():
        value = torch.tensor(np.asarray(known[name]), dtype=torch.float64)
        values[name] = value.reshape(1, *(1,) * (2 - len(site.batch)), *value.shape)
    cells = view.cells.without_outcomes()
    with environment(torch.float64, seed=seed):
        counts = view.run(values, 1, cells).met["outcome"]["value"].reshape(len(cells), -1)
    rows, outcome = np.nonzero(counts.numpy())
    names = ("item_a", "item_b", "annotator", "first", "covariates")
    kept = {name: getattr(cells, name) for name in names}
    picked = {name: None if values is None else values.numpy()[rows] for name, values in kept.items()}
    if picked["first"] is not None:
        picked["first"] = picked["first"].astype(np.int8)
    if picked["covariates"] is not None:
        picked["covariates"] = picked["covariates"] * data.covariate_scale
    return replace(data, outcome=outcome.astype(np.int8), count=counts.numpy()[rows, outcome], **picked)


def coordinates(post, truth):
    """Draws [draw, dimension] and truth [dimension], positive sites as logs, shares as logits."""
    scale = dict.fromkeys(("lapse", "flip_rate", "accuracy"), lambda x: np.log(x / (1 - x)))
    positive = ("tie_strength", "tie_excess", "annotator_reliability_spread", "annotator_position_bias_spread")
    scale |= dict.fromkeys(positive, np.log)
    draws, exact = [], []
    for name, values in post.draws.items():
        if name in truth:
            turn = scale.get(name, lambda x: x)
            draws.append(turn(values.reshape(len(values), -1)))
            exact.append(turn(np.ravel(truth[name])))
    return np.concatenate(draws, 1), np.concatenate(exact)


@pytest.mark.parametrize("program", RECOVERED)
def test_the_truth_lies_within_the_posterior(program):
    # (truth - mean)' cov^-1 (truth - mean) of a nearly normal posterior is chi-square
    truth = TRUTH if "linear" not in program else {k: v for k, v in TRUTH.items() if k != "utility"}
    data = judged(program, design(3000), truth, seed=11)
    post = prefdensity.fit(program, data, draws=4000)
    draws, exact = coordinates(post, truth)
    assert draws.shape[1] == len(exact) >= len(view_of(program, data)[0].sites)
    off = exact - draws.mean(0)
    distance = off @ np.linalg.solve(np.cov(draws.T), off)
    bound = stats.chi2.isf(FALSE_ALARM / len(RECOVERED), len(exact))
    assert distance < bound
    # and the data were informative: the sds are a fifth of the prior's, and less
    assert (post.utilities().std(0) < 0.3).all()


TASTES = {
    "utility": TRUTH["utility"],
    "factor_scale": 0.9,
    "factor_loading": np.array([[1.1, -0.6, 0.2, -1.3, 0.9, -0.3], [-0.4, 1.2, -0.9, 0.3, 0.8, -1.0]]),
    "factor_score": np.array(
        [[1.2, -0.8, 0.5, -1.4, 0.1, 0.9, -0.6, 0.3], [-0.5, 0.7, 1.3, -0.2, -1.1, 0.4, 0.8, -1.3]]
    ),
    "ideal_scale": 0.4,
    "place": np.array([[1.4, -0.9, 0.2, -1.6, 0.8, -0.1], [0.3, 1.1, -1.2, -0.4, -0.8, 0.9]]),
    "ideal": np.array([[1.1, -0.7, 0.4, -1.2, 0.0, 0.8, -0.3, 1.5], [-0.9, 0.6, 1.2, -0.1, -1.0, 0.3, 0.7, -0.5]]),
}


def own_utilities(sites, rank):
    """Utilities [draw, annotator, item], free of rotations; sites [draw, ...]."""
    u = sites["utility"][:, None]
    if "factor_scale" in sites:
        shared = np.einsum("drj,dri->dji", sites["factor_score"][:, :rank], sites["factor_loading"][:, :rank])
        return u + sites["factor_scale"][:, None, None] * shared
    gap = sites["place"][:, :rank, None, :] - sites["ideal"][:, :rank, :, None]
    return u - sites["ideal_scale"][:, None, None] * (gap**2).sum(1)


SHARED_AXES = ["annotator_factors(rank=1)", "annotator_factors(rank=2)", "ideal_points(dim=1)", "ideal_points(dim=2)"]


def along_axes(program, rows, **options):
    """Contrasts [draw, annotator, 5] of each one's utilities after a fit, and the true ones [annotator, 5]."""
    rank = int(program[-2])
    names = (site for site in TASTES if site == "utility" or (site[:5] in ("place", "ideal")) == ("ideal" in program))
    truth = {site: np.asarray(TASTES[site], float) for site in names}
    truth = {site: value[:rank] if value.ndim == 2 else value for site, value in truth.items()}
    post = prefdensity.fit(program, judged(program, design(rows), truth, seed=12), **options)
    both = (post.draws, {site: value[None] for site, value in truth.items()})
    draws, exact = (own_utilities(sites, rank) for sites in both)
    return draws[..., 1:] - draws[..., :1], (exact[..., 1:] - exact[..., :1])[0]


@pytest.mark.parametrize(
    "program", [SHARED_AXES[0], *(pytest.param(each, marks=pytest.mark.slow) for each in SHARED_AXES[1:])]
)
def test_tastes_along_shared_axes_are_found(program):
    found, exact = along_axes(program, 60_000, method="map")
    assert np.abs(exact - exact.mean(0)).max() > 1  # annotators differ
    # the slow test below shows sds of at most 0.3 from a tenth of the judgements: five of a third of that
    assert np.abs(found[0] - exact).max() < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("program", SHARED_AXES)
def test_tastes_along_shared_axes_are_recovered(program):
    """Axes are free to turn, what annotators want is not: contrasts of each one's utilities are chi-square."""
    draws, exact = along_axes(program, 6000, draws=4000)
    bound = stats.chi2.isf(FALSE_ALARM / (len(SHARED_AXES) * len(exact)), exact.shape[1])
    for drawn, true in zip(draws.swapaxes(0, 1), exact, strict=True):
        off = true - drawn.mean(0)
        assert off @ np.linalg.solve(np.cov(drawn.T), off) < bound
        assert (drawn.std(0) < 0.35).all()  # the prior's are above 2


def two_types(seed, judgements=60, people=30, items=8):
    """Two camps of annotators with independent utilities N(0, 1), each annotator of one camp with probability 1/2."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(2, items))
    kind = rng.integers(2, size=people)
    annotator = np.repeat(np.arange(people), judgements)
    item_a = rng.integers(items, size=len(annotator))
    item_b = (item_a + rng.integers(1, items, size=len(annotator))) % items
    margin = u[kind[annotator], item_a] - u[kind[annotator], item_b]
    data = Comparisons(
        items=tuple(f"i{k}" for k in range(items)),
        item_a=item_a,
        item_b=item_b,
        outcome=(rng.random(len(margin)) > 1 / (1 + np.exp(-margin))).astype(np.int8),
        count=np.ones(len(margin)),
        annotators=tuple(f"p{k:02d}" for k in range(people)),
        annotator=annotator,
    )
    return data, u, kind


def accuracy(post, kind):
    """Share of annotators whose likeliest type is their own, types matched to the truth."""
    guess = post.draws["type_probability"].mean(0).argmax(1)
    return max(np.mean(np.array(order)[guess] == kind) for order in itertools.permutations((0, 1)))


def check_types(seed):
    data, u, kind = two_types(seed)
    post = prefdensity.fit("annotator_types", data, method="laplace", seed=seed)
    assert accuracy(post, kind) >= 0.93
    thorough = prefdensity.fit("annotator_types", data, method="map", seed=1000 + seed, restarts=40)
    found = max(post.status.restart_values)
    assert 1 <= len(post.status.restart_values) <= 8  # starts that say nearly the same are one
    weight = post.draws["type_weight"].mean(0)
    assert weight[0] >= weight[1]
    return found > max(thorough.status.restart_values) - 0.5


def test_types_of_annotators_are_found():
    assert all([check_types(seed) for seed in range(3)])


@pytest.mark.slow
def test_types_of_annotators_are_found_from_twenty_seeds():
    assert sum(check_types(seed) for seed in range(20)) >= 19


@pytest.mark.parametrize("k", [2, 3, 4])
def test_annotators_who_agree_in_everything_are_no_obstacle(k):
    people = 4
    data = Comparisons(
        items=("x", "y", "z", "w"),
        item_a=np.tile([0, 1, 2], people),
        item_b=np.tile([1, 2, 3], people),
        outcome=np.tile(np.array([0, 1, 0], np.int8), people),
        count=np.ones(3 * people),
        annotators=tuple("abcd"),
        annotator=np.repeat(np.arange(people), 3),
    )
    post = prefdensity.fit(f"annotator_types(k={k})", data, method="map")
    assert np.isfinite(post.point["utility"]).all()
    share = post.draws["type_probability"][0]
    np.testing.assert_allclose(share, share[[0] * people], rtol=1e-6)  # the same votes, the same types


@pytest.mark.slow
def test_the_right_number_of_types_has_the_most_evidence():
    data, _, _ = two_types(seed=4)
    fits = {k: prefdensity.fit(f"annotator_types(k={k})", data, method="laplace").status for k in (1, 2, 3)}
    assert fits[2].elbo > fits[1].elbo + 40
    assert fits[2].elbo > fits[3].elbo + 1


def test_utilities_of_each_type_are_recovered():
    data, u, kind = two_types(seed=7)
    post = prefdensity.fit("annotator_types", data)
    draws = post.utilities()
    share = np.bincount(kind, minlength=2) / len(kind)
    truth = u[np.argsort(-share)]
    truth = truth - truth.mean(1, keepdims=True)
    # drop one item of each type: centred draws have no full covariance. False alarm 1e-4
    flat, exact = draws[:, :, 1:].reshape(len(draws), -1), truth[:, 1:].ravel()
    off = exact - flat.mean(0)
    assert off @ np.linalg.solve(np.cov(flat.T), off) < stats.chi2.isf(1e-4, len(exact))
