"""Programs with several modes: mirror images are found, weighed by evidence, drawn from by their shares, and told."""

from dataclasses import replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from contract import table, vectors, view_of
from scipy import stats
from scipy.special import expit

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference import basins
from prefdensity.inference.bridge import log_evidence
from prefdensity.inference.engines import places_of
from prefdensity.inference.laplace import laplace
from prefdensity.inference.mode import _log_odds, first_guess
from prefdensity.inference.quality import check_guide
from prefdensity.inference.view import View
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import layer
from prefdensity.programs.loading import load_program
from prefdensity.programs.mirrors import Mirror
from prefdensity.programs.tabulate import cells_of

PROGRAMS = (
    "reliability",
    "davidson+reliability",
    "davidson+reliability+position_bias",
    "davidson+crowd_bt",
    "crowd_bt+position_bias",
)


def mirror_world(kind, seed, ties):
    """A few people, and one who outvotes them: by one vote over and over, or as a judge who says the opposite.

    Utilities are not of the prior's scale, and the numbers of people, items and votes vary.
    """
    rng = np.random.default_rng([seed, kind == "stuffing"])
    n_items, people, each = (int(rng.integers(*span)) for span in ((4, 12), (4, 14), (8, 36)))
    utility = rng.normal(size=n_items) * rng.choice([0.7, 1.2, 2.0])
    bias = rng.normal() * 0.4

    def vote(who, sign):
        a, b = rng.choice(n_items, 2, replace=False)
        first = rng.choice([-1, 1])
        margin = sign * (utility[a] - utility[b]) + bias * first
        share = np.array([np.exp(margin / 2), np.exp(-margin / 2), 0.5 if ties else 0.0])
        return who, a, b, rng.choice(3, p=share / share.sum()), first

    rows = [vote(person, 1) for person in range(people) for _ in range(each)]
    if kind == "stuffing":
        order = np.argsort(utility)
        pair = (order[0], order[-1]) if rng.random() < 0.7 else rng.choice(n_items, 2, replace=False)
        rows += [(people, *pair, 0, rng.choice([-1, 1])) for _ in range(int(rng.integers(25, 150)))]
    else:
        rows += [vote(people, -1) for _ in range(int(rng.integers(3, 8)) * each + int(rng.integers(50, 200)))]
    who, a, b, outcome, first = np.array(rows).T
    data = Comparisons(
        items=tuple(f"i{k}" for k in range(n_items)), item_a=a, item_b=b, outcome=outcome.astype(np.int8),
        count=np.ones(len(a)), annotators=tuple(f"p{k}" for k in range(people + 1)), annotator=who,
        first=first.astype(np.int8),
    )  # fmt: skip
    return data, utility


def worlds(seeds):
    """Worlds of both kinds under each of the programs in turn."""
    for seed in seeds:
        program = PROGRAMS[seed // 2 % len(PROGRAMS)]
        kind = ("stuffing", "judge")[seed % 2]
        yield seed, program, mirror_world(kind, seed, ties="davidson" in program)[0]


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("reliability", 1),
        ("davidson+reliability+position_bias", 1),
        ("reliability(scales='margin')+position_bias+rao_kupper", 1),
        ("crowd_bt+davidson+position_bias+covariate", 1),
        ("tastes+reliability", 1),
        ("annotator_factors+reliability", 1),
        ("intransitive+reliability+ties", 1),
        ("gp+reliability", 1),
        ("linear+crowd_bt+position_bias(by='annotator')", 1),
        ("annotator_types+reliability", 1),
        ("reliability+crowd_bt", 3),
        ("davidson+position_bias+ties", 0),
    ],
)
def test_an_image_has_the_same_likelihood(name, images):
    program = load_program(name)
    outcomes = ("a", "b", "tie") if "tie" in program.outcomes and "grades" not in program.needs else ("a", "b")
    view, _ = view_of(name, table(outcomes, rows=60))
    for z in vectors(view, 2, seed=5):
        found = list(basins.images(view, z))
        assert len(found) == images
        for image in found:
            assert float((image - z).abs().max()) > 0.5
            there, here = (float(view.log_likelihood(x[None])) for x in (image, z))
            assert there == pytest.approx(here, abs=1e-8)


def test_the_image_of_an_image_is_the_place_itself():
    view, _ = view_of("davidson+reliability+position_bias", table(("a", "b", "tie"), rows=60))
    z = vectors(view, 1, seed=5)
    (image,) = basins.images(view, z[0])
    (again,) = basins.images(view, image)
    here, there, back = (view.constrain(x)[0] for x in (z, image[None], again[None]))
    for name, sign in (("annotator_reliability", -1), ("utility", -1), ("position_bias", 1), ("tie_strength", 1)):
        torch.testing.assert_close(there[name], sign * here[name])
        torch.testing.assert_close(back[name], here[name])


@layer(
    "margin", needs=["annotator"], place="weight",
    mirror=Mirror(
        lambda values, who: {"heed": torch.where(who, -values["heed"], values["heed"])},
        lambda values: values["heed"] < 0,
        "upside down",
    ),
    meanings={"heed": "weight of what is wanted"},
)  # fmt: skip
def heed(margin, data):
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        weight = pyro.sample("heed", dist.Normal(1.0, 0.7))
    return margin * data.of("annotator", weight)


OWN = compose("items", heed, name="own")


@pytest.mark.parametrize(
    "method", ["auto", "laplace", "map", *(pytest.param(each, marks=pytest.mark.slow) for each in ("svi", "nuts"))]
)
def test_a_users_layer_gets_its_mirror_starts(method):
    # by votes the ranking is upside down; restarts are off
    data, utility = mirror_world("judge", 3, ties=False)
    settings = {"restarts": 1} | ({"draws": 150, "warmup": 100, "chains": 2} if method == "nuts" else {})
    view = View(OWN, cells_of(data, OWN.outcomes, OWN.needs))
    odds = _log_odds(view, None).numpy()
    assert np.corrcoef(odds, utility)[0, 1] < -0.5
    post = prefdensity.fit(OWN, data, method=method, progress=False, **settings)
    assert np.corrcoef(post.draws["utility"].mean(0), utility)[0, 1] > 0.5


def contested():
    """Three people with three votes each, and one who says the opposite nine times: both modes stand."""
    pairs = [(0, 1), (1, 2), (0, 2)]
    rows = [(person, *pair, 0, 1) for person in range(3) for pair in pairs] + [(3, *pair, 1, 3) for pair in pairs]
    who, a, b, outcome, count = np.array(rows).T
    return Comparisons(
        items=("x", "y", "z"), item_a=a, item_b=b, outcome=outcome.astype(np.int8), count=count.astype(float),
        annotators=("p", "q", "r", "s"), annotator=who,
    )  # fmt: skip


def duel(people, each, against):
    """Two items: so many people with `each` votes for the first, and one with so many for the other."""
    rows = [(person, 0, each) for person in range(people)] + [(people, 1, against)]
    who, outcome, count = np.array(rows).T
    zero = np.zeros(len(who), dtype=np.int64)
    return Comparisons(
        items=("x", "y"), item_a=zero, item_b=zero + 1, outcome=outcome.astype(np.int8), count=count.astype(float),
        annotators=tuple(f"p{k}" for k in range(people + 1)), annotator=who,
    )  # fmt: skip


def by_quadrature(people, each, against):
    """Log evidence of `reliability` on a duel, and the posterior probability that the second item is the better."""
    width = 0.04
    log_s, tau, d = np.arange(-5, 5, width), np.arange(0.02, 2.5, 0.04), np.arange(-20, 20, width) + width / 2
    s = np.exp(log_s)
    prior = (stats.norm.pdf(log_s) * width) @ stats.norm.pdf(d, 0, np.sqrt(2) * s[:, None])
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    margin = (1 + tau[:, None, None] * node) * d[:, None]
    weight = weight / weight.sum()
    voices = [expit(sign * margin) ** count @ weight for sign, count in ((1, each), (-1, against))]
    joint = prior * stats.halfnorm.pdf(tau, scale=0.5)[:, None] * voices[0] ** people * voices[1]
    return np.log(joint.sum() * width * 0.04), joint[:, d < 0].sum() / joint.sum()


@pytest.mark.parametrize("table", [(3, 1, 12), (2, 3, 12), (2, 1, 8)])
def test_modes_have_their_shares_and_evidence(table):
    data = duel(*table)
    evidence, share = by_quadrature(*table)
    post = prefdensity.fit("reliability", data, method="laplace", draws=4000, progress=False)
    assert 0.05 < share < 0.95
    assert post.status.log_evidence == pytest.approx(evidence, abs=0.1)
    better = post.draws["utility"][:, 1] > post.draws["utility"][:, 0]
    assert better.mean() == pytest.approx(share, abs=0.05)
    assert np.logaddexp.reduce(post.status.modes) == pytest.approx(evidence, abs=0.2)


def test_draws_tell_the_evidence_by_a_bridge():
    table = (4, 5, 2)  # nothing speaks for the mirror image
    evidence, _ = by_quadrature(*table)
    view, _ = view_of("reliability", duel(*table))
    guide, generator = laplace(view), torch.Generator().manual_seed(0)
    draws = check_guide(view, guide, 4000, generator)
    assert draws.tempering == 1
    # a guide off by half a standard deviation of everything serves as well; five errors of 4,000 draws
    off = replace(guide, base=guide.base + 0.5 * guide.main[1].norm(dim=1))
    for each in (guide, off):
        assert log_evidence(view, draws.z, each, generator) == pytest.approx(evidence, abs=0.1)


def from_signs(view, data, turned):
    """A start at which those turned are read upside down, and items stand as they then say."""
    z = first_guess(view)
    z[view.sites["utility"].at] = _log_odds(view, turned)
    values = view.values(z[None])[0]
    for name, value in view.program.mirrors[0].image(values, turned).items():
        z[view.sites[name].at] = view.sites[name].transform.inv(value).flatten()
    return z


@pytest.mark.slow
def test_no_start_finds_more_evidence():
    """30 worlds of both kinds: against the outvoter turned round, nobody, everybody else, and guesses at random."""
    for seed, name, data in worlds(range(30)):
        program = load_program(name)
        view = View(program, cells_of(data, program.outcomes, program.needs))
        post = prefdensity.fit(program, data, method="laplace", progress=False)
        rng = np.random.default_rng(seed)
        last = torch.arange(view.cells.n_annotators) == view.cells.n_annotators - 1
        guesses = [last, ~last, last & ~last]
        guesses += [torch.tensor(rng.random(len(last)) < 0.5) for _ in range(5)]
        for guess in guesses:
            found = laplace(view, from_signs(view, data, guess))
            assert post.status.modes[0] > found.log_evidence - 0.5, (seed, name)


def test_a_mode_that_turns_on_one_person_is_found():
    # the last of eight people repeats one vote on one of three pairs: no mirror image of either mode leads to the other
    votes = np.array(
        [
            [9, 8, 4, 1, 0, 0], [2, 0, 0, 1, 0, 1], [3, 0, 2, 1, 1, 4], [5, 4, 3, 3, 6, 9],
            [10, 2, 1, 3, 1, 3], [3, 2, 3, 1, 0, 0], [4, 0, 6, 3, 1, 1], [0, 0, 0, 0, 26, 0],
        ]
    )  # fmt: skip
    who, pair = votes.nonzero()
    winner, loser = np.array([[0, 1], [1, 0], [0, 2], [2, 0], [1, 2], [2, 1]])[pair].T
    data = Comparisons(
        items=("a", "b", "c"), item_a=winner, item_b=loser, outcome=np.zeros(len(who), np.int8),
        count=votes[who, pair].astype(float), annotators=tuple(f"p{k}" for k in range(8)), annotator=who,
    )  # fmt: skip
    program = load_program("crowd_bt")
    view = View(program, cells_of(data, program.outcomes, program.needs))
    straight, upside_down = (laplace(view, from_signs(view, data, torch.arange(8) == person)) for person in (8, 7))
    modes = prefdensity.fit("crowd_bt", data, method="laplace", progress=False).status.modes
    assert abs(straight.log_evidence - upside_down.log_evidence) > 1
    np.testing.assert_allclose(modes, sorted((straight.log_evidence, upside_down.log_evidence))[::-1], atol=1e-3)


def clean_world(seed, people, n_items, rows):
    """Annotators of unequal weight, none of them upside down."""
    rng = np.random.default_rng(seed)
    utility = rng.normal(size=n_items) * rng.choice([0.5, 1, 2.0])
    bias = rng.normal() * 0.4
    who = np.arange(rows) % people
    a = rng.integers(0, n_items, rows)
    b = (a + rng.integers(1, n_items, rows)) % n_items
    first = rng.choice([-1, 1], rows)
    margin = (1 + 0.4 * rng.normal(size=people))[who] * (utility[a] - utility[b]) + bias * first
    share = np.stack([np.exp(margin / 2), np.exp(-margin / 2), np.full(rows, 0.5)], 1)
    outcome = (rng.random(rows)[:, None] > (share / share.sum(1, keepdims=True)).cumsum(1)).sum(1)
    return Comparisons(
        items=tuple(f"i{k}" for k in range(n_items)), item_a=a, item_b=b, outcome=outcome.astype(np.int8),
        count=np.ones(rows), annotators=tuple(f"p{k}" for k in range(people)), annotator=who,
        first=first.astype(np.int8),
    )  # fmt: skip


def test_one_mode_is_not_told_twice():
    # few votes each: the climb from the mirror image ends beside the mode that it is the image of
    post = prefdensity.fit(
        "davidson+reliability+position_bias", clean_world(114, 60, 8, 400), method="laplace", progress=False
    )
    assert len(post.status.modes) == 1
    assert not any("modes of the posterior stand" in warning for warning in post.status.warnings)


def test_chains_start_at_every_mode_that_stands():
    assert places_of([0.9, 0.1], 4) == [0, 0, 0, 1]
    assert places_of([0.5, 0.5], 4) == [0, 0, 1, 1]
    assert places_of([0.999, 0.001], 4) == [0, 0, 0, 0]
    assert places_of([0.6, 0.4], 1) == [0]


def test_modes_are_told_and_saved(tmp_path):
    post = prefdensity.fit("reliability", contested(), method="map", progress=False)
    assert sum(share >= basins.STANDING for share in basins.shares(post.status.modes)) == 2
    (said,) = [line for line in post.status.warnings if "modes of the posterior stand" in line]
    assert "1 of 4 annotators contrarian" in said
    assert "3 of 4 annotators contrarian" in said
    assert prefdensity.load_posterior(post.save(tmp_path / "fit.nc")).status.modes == post.status.modes


def test_a_contrarian_majority_is_told():
    # two who say the same a little, and two who say the opposite together: one side is a majority
    view, _ = view_of("crowd_bt", table(rows=60))
    z = vectors(view, 1)[0]
    z[view.sites["accuracy"].at] = torch.tensor([-1.0, -2.0, -0.5, 3.0])
    (said,) = basins.sentences(view, [z], [1.0])
    assert said.startswith("Most annotators come out contrarian (3 of 4)")
    assert basins.sentences(view, [-z], [1.0]) == ()
