"""Attributes of judges: effects with a prior that is learned have more evidence than interactions made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import prefdensity
from prefdensity import Comparisons

WHO = np.array(["Anja", "Anni", "Barbara", "Fiona", "Hana", "Mandy"])
STRONG = 3.0  # log Bayes factor (Kass and Raftery, 1995, Journal of the American Statistical Association 90, 773-795)


def viewers(rng, size=192):
    """Age, gender and three questions, of which the second and third depend on the first: do they know the show?"""
    age = rng.integers(15, 78, size)
    knows = rng.random(size) < 0.6 - 0.005 * (age - 40)
    told = {"knows": knows, "regular": knows & (rng.random(size) < 0.35), "final": knows & (rng.random(size) < 0.45)}
    known = pd.DataFrame({"age": age, "gender": rng.choice(["female", "male"], size)})
    known = known.assign(**{name: np.where(said, "yes", "no") for name, said in told.items()})
    return known.set_axis([f"p{k:03d}" for k in range(size)])


def votes(rng, u):
    """Every pair of six candidates once from each judge of utilities u [judge, candidate]."""
    a, b = np.triu_indices(len(WHO), 1)
    judge = np.repeat(np.arange(len(u)), len(a))
    a, b = np.tile(a, len(u)), np.tile(b, len(u))
    won = rng.random(len(judge)) < expit(u[judge, a] - u[judge, b])
    names = np.array([f"p{k:03d}" for k in judge], object)
    return pd.DataFrame({"item_a": WHO[a], "item_b": WHO[b], "outcome": np.where(won, "a", "b"), "annotator": names})


def stepped(rng):
    """Who is over 52 has another ranking, and so has who watches regularly: steps, of which no program knows."""
    known = viewers(rng)
    old, fan = (each.to_numpy()[:, None] for each in (known["age"] > 52, known["regular"] == "yes"))
    u = np.array([0.6, 0.3, 0.1, -0.1, -0.3, -0.6])
    u = u + np.where(old, [-0.3, 0.5, 0, -0.6, 0.2, 0.2], 0) + np.where(fan, [0.8, 0, 0.3, -0.3, -0.3, -0.5], 0)
    return votes(rng, u), known, ["age"]


def indifferent(rng):
    """Nothing that is known of judges matters."""
    u = np.tile([0.6, 0.3, 0.1, -0.1, -0.3, -0.6], (192, 1))
    return votes(rng, u), viewers(rng), ["age"]


def first_names(shared_data):
    frame = pd.read_csv(shared_data / "first_names.csv")
    known = frame.groupby("annotator")[["gender", "age", "education", "region"]].first()
    return frame[["item_a", "item_b", "outcome", "annotator"]], known, ["age", "education"]


def multiplied(frame, known, numbers):
    """The votes, with a covariate for each item but the first times each attribute, levels but the first by dummies."""
    made = {}
    for name, column in known.items():
        x = column.loc[frame["annotator"]].to_numpy()
        if name in numbers:
            coded = {name: (x - x.mean()) / x.std()}
        else:
            coded = {f"{name} {level}": (x == level).astype(float) for level in np.unique(x)[1:]}
        for item in np.unique(frame[["item_a", "item_b"]])[1:]:
            side = (frame["item_a"] == item).astype(float) - (frame["item_b"] == item)
            made |= {f"{item} x {code}": values * side for code, values in coded.items()}
    return Comparisons.from_frame(frame.assign(**made), annotator="annotator", covariates=list(made))


def split(frame, known, numbers):
    """The votes, with each item under a name of its own in each group of judges; numbers are halved at the median."""
    halves = {name: np.where(known[name] > known[name].median(), "more", "less") for name in numbers}
    group = known.assign(**halves).astype(str).agg(" ".join, axis=1).loc[frame["annotator"]].to_numpy()
    apart = {side: frame[side] + " " + group for side in ("item_a", "item_b")}
    return Comparisons.from_frame(frame.assign(**apart), annotator="annotator")


def evidence(program, data):
    post = prefdensity.fit(program, data, method="laplace", draws=200, progress=False)
    assert post.status.converged
    assert post.status.k_hat < 1  # weights have a mean, which is the evidence: what is compared is dozens of nats apart
    return post.status.log_evidence


def compared(frame, known, numbers):
    """Return the log evidence of a program without attributes, with them, and of two ways to make them by hand."""
    data = Comparisons.from_frame(frame, annotator="annotator", attributes={"annotator": known})
    found = (
        evidence("bradley_terry", data),
        evidence(f"bradley_terry+tastes(on={list(known)})", data),
        evidence("bradley_terry+covariate", multiplied(frame, known, numbers)),
        evidence("bradley_terry", split(frame, known, numbers)),
    )
    print(
        "log evidence without, with tastes(on=...), by products, by names: "
        + ", ".join(f"{each:.1f}" for each in found)
    )
    return found


def test_attributes_have_more_evidence_than_interactions_by_hand():
    """192 judges of six candidates, age, gender and three questions: the shape of `Topmodel2007` of R's psychotree."""
    without, on, product, by_names = compared(*stepped(np.random.default_rng(1)))
    assert on > without + STRONG
    assert on > product + STRONG
    assert on > by_names + STRONG


@pytest.mark.slow
def test_attributes_that_do_not_matter_cost_less_than_interactions_by_hand():
    without, on, product, by_names = compared(*indifferent(np.random.default_rng(2)))
    assert without > on > product + STRONG
    assert on > by_names + STRONG


def test_attributes_of_real_judges_have_more_evidence_than_interactions_by_hand(shared_data):
    """192 people and six first names: gender, age, education and region."""
    without, on, product, by_names = compared(*first_names(shared_data))
    assert on > without + STRONG
    assert on > product + STRONG
    assert on > by_names + STRONG
