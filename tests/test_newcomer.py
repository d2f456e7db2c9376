"""Somebody new after a few judgements: as a fit of everything anew has them, and as one integral gives them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm

import prefdensity
from prefdensity import Comparisons
from prefdensity.errors import DataError

ITEMS = np.array(["ash", "elm", "fir", "oak"])
WORTH = np.array([0.9, 0.3, -0.3, -0.9])


def votes(seed=0, people=30, each=30):
    """Judgements of people who want different things, and care unequally for the order; places at random."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    own = WORTH + rng.normal(size=(people, 4))
    a = rng.integers(4, size=len(who))
    b = (a + rng.integers(1, 4, size=len(who))) % 4
    first = rng.choice([-1, 1], len(who))
    won = rng.random(len(who)) < expit(own[who, a] - own[who, b] + 0.4 * first)
    return pd.DataFrame({
        "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": np.where(won, "a", "b"), "annotator": who.astype(str),
        "first": np.where(first > 0, "a", "b"), "age": np.where(who % 2, 30, 50),
    })  # fmt: skip


NEW = pd.DataFrame({
    "item_a": ["oak", "oak", "fir", "elm", "oak"], "item_b": ["ash", "elm", "ash", "ash", "fir"],
    "outcome": ["a", "a", "a", "b", "a"], "first": ["a", "b", "b", "a", "neither"],
})  # fmt: skip


def read(frame):
    known = frame.groupby("annotator")[["age"]].first()
    return Comparisons.from_frame(frame, annotator="annotator", first="first", attributes={"annotator": known})


def fitted(name, frame, **options):
    return prefdensity.fit(name, read(frame), method="laplace", progress=False, **options)


PAIRS = [("ash", "oak"), ("elm", "fir"), ("fir", "oak")]


@pytest.mark.parametrize(
    "name", ["tastes+position_bias", "reliability", "annotator_types", "tastes(on='age', by='annotator')"]
)
def test_it_is_what_a_fit_of_everything_says(name):
    frame = votes()
    more = pd.concat([frame, NEW.assign(annotator="new", age=50)], ignore_index=True)
    post = fitted(name, frame, draws=2000)
    found, anew = post.given(NEW, known={"age": 50} if "age" in name else None), fitted(name, more, draws=2000)
    ours, theirs = (each.predict(PAIRS, annotator="new") for each in (found, anew))
    before = post.predict(PAIRS)
    moved = np.abs(theirs["p_a"] - before["p_a"]).max()
    assert np.abs(ours["p_a"] - theirs["p_a"]).max() < 0.03
    assert moved > 0.08
    assert found.annotators == ("new",)
    u = found.utilities().mean(0) - anew.utilities().mean(0)
    assert np.abs(u).max() < 0.1


def test_one_latent_is_an_integral_over_it():
    """Of one reliability, given all else: the mean under prior times likelihood, by a sum over a grid."""
    post = fitted("reliability", votes(1), draws=4000)
    found = post.given(NEW)
    a, b = (np.array([post.items.index(each) for each in NEW[side]]) for side in ("item_a", "item_b"))
    sign = np.where(NEW["outcome"] == "a", 1, -1)
    grid = np.linspace(-7, 7, 701)
    u, tau = post.draws["utility"], post.draws["annotator_reliability_spread"]
    beta = 1 + tau[:, None] * grid
    margin = sign * (u[:, a] - u[:, b])
    weight = norm.pdf(grid) * expit(beta[..., None] * margin[:, None]).prod(-1)
    expected = (weight * beta).sum() / weight.sum()
    mine = found.draws["annotator_reliability"][:, 0]
    assert mine.mean() == pytest.approx(expected, abs=4 * mine.std() / found.status.effective**0.5)
    assert expected < 0.7


def test_nothing_said_changes_nothing():
    """Judgements that tell nothing of anybody: an item against its like, as often so as not."""
    post = fitted("tastes", votes(2), draws=1000)
    even = pd.DataFrame({"item_a": ["ash"] * 2, "item_b": ["elm"] * 2, "outcome": ["a", "b"], "count": [1e-6] * 2})
    found = post.given(even)
    ours = found.predict(PAIRS, annotator="new")["p_a"]
    assert np.abs(ours - post.predict(PAIRS)["p_a"]).max() < 0.03


def test_the_answer_is_a_posterior(tmp_path):
    post = fitted("tastes+position_bias", votes(3), draws=400)
    found = post.given(NEW, name="Zoe")
    assert found.by("annotator").names == ("Zoe",)
    assert prefdensity.density.of(found, annotator="Zoe").mean().p.sum() == pytest.approx(1)
    again = post.given([tuple(row) for row in NEW[["item_a", "item_b", "outcome"]].to_numpy()])
    assert again.n_comparisons == found.n_comparisons == post.n_comparisons + 5
    assert len(found.summary()) == 4
    with pytest.raises(DataError, match="is not the table of this fit"):
        prefdensity.check(found, read(votes(3)))
    loaded = prefdensity.load_posterior(found.save(tmp_path / "zoe.nc"))
    pd.testing.assert_frame_equal(loaded.predict(PAIRS, annotator="Zoe"), found.predict(PAIRS, annotator="Zoe"))


def test_what_cannot_be_added_is_said():
    post = fitted("tastes", votes(4), draws=100)
    for wrong, said in (
        (NEW.assign(outcome="x"), "outcome 'x' in row 1 must be one of a, b"),
        (NEW.assign(item_a="yew"), "pairs: 'yew' is no item of the fit"),
        (NEW.assign(item_b=NEW["item_a"]), "row 1 compares 'oak' with itself"),
        (NEW.drop(columns="outcome"), "lack the column 'outcome'"),
        (NEW.assign(count=0), "count must be positive"),
        ([], "there are no votes"),
    ):
        with pytest.raises(DataError, match=said):
            post.given(wrong)
    with pytest.raises(DataError, match="map leaves no posterior"):
        prefdensity.fit("tastes", read(votes(4)), method="map").given(NEW)
