"""Who judges: the informed choice against its definition, and the study that says whether it pays."""

import functools

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import prefdensity
from prefdensity.data import simulate
from prefdensity.errors import DataError
from prefdensity.selection import rater_study
from prefdensity.selection.acquisition import target_information

SHORT = {"budgets": (12, 20), "seeds": 2, "progress": False}


@functools.cache
def fitted(program="bradley_terry+reliability"):
    data = simulate.population(6, 5, 400, seed=2, reliability_sd=0.5, n_careless=2)[0]
    return prefdensity.fit(program, data, method="laplace", seed=0, progress=False)


def test_the_informed_choice_is_the_most_information_about_the_items():
    post = fitted()
    u, beta = post.draws["utility"], post.draws["annotator_reliability"]
    pairs = [("item1", "item2"), ("item3", "item6")]
    told = []
    for a, b in pairs:
        gap = u[:, post.items.index(a)] - u[:, post.items.index(b)]
        p = expit(gap[:400, None, None] * beta[None, 500:900, :])  # items and annotators drawn apart
        told.append([target_information(np.stack([p[..., k], 1 - p[..., k]], -1)[:, :, None]).item() for k in range(5)])
    for seed in range(5):
        found = rater_study.informed(post, pairs, post.annotators, 2, seed=seed)
        # some hundred draws tell ratios to a tenth or so; the careless two tell less than a tenth of the best
        for who, row in zip(found, told, strict=True):
            assert row[post.annotators.index(who)] > 0.75 * max(row)
            assert sorted(row)[1] < 0.1 * max(row)


def test_nobody_gets_more_than_the_most():
    post = fitted()
    pairs = [("item1", "item2")] * 9
    found = pd.Series(rater_study.informed(post, pairs, post.annotators, 2)).value_counts()
    assert sorted(found) == [1, 2, 2, 2, 2]
    beta = pd.Series(post.draws["annotator_reliability"].mean(0), post.annotators)
    assert found.idxmin() in beta.nsmallest(2).index  # one of the two careless ones is asked least


def test_ways_are_paired_and_reproducible():
    found = rater_study.rater_study(fitted(), **SHORT)
    assert list(found.curves.columns) == ["seed", "assignment", "labels", "correlation"]
    start = found.curves[found.curves["labels"] == 12].pivot(index="seed", columns="assignment", values="correlation")
    assert list(start.columns) == sorted(rater_study.ASSIGNMENTS)
    assert (start.nunique(axis=1) == 1).all()  # all ways start from the same votes
    assert found.curves["correlation"].between(-1, 1).all()
    world = rater_study._World(fitted(), int(np.random.SeedSequence([0, 0]).generate_state(1)[0] >> 1))
    own = found.curves.query("seed == 0 and assignment == 'quota'")
    assert world.curve("quota", (12, 20), None) == list(zip(own["labels"], own["correlation"], strict=True))
    assert "informed against random" in str(found)


def test_answers_have_the_probabilities_of_the_truth():
    world = rater_study._World(fitted(), 7)
    people = list(fitted().annotators)
    expected, seen, noise = 0.0, 0, 0.0
    for who in people:
        answers = world._answers(world.pairs, [who] * len(world.pairs))
        assert answers == world._answers(world.pairs, [who] * len(world.pairs))
        p = world.prob[people.index(who), :, 0]
        seen += sum(said == "a" for *_, said in answers)
        expected, noise = expected + p.sum(), noise + (p * (1 - p)).sum()
    assert abs(seen - expected) < 4 * noise**0.5


def test_it_pays_only_beyond_two_standard_errors():
    rng = np.random.default_rng(0)
    rows = [(s, way, n, 0.5) for s in range(10) for way in rater_study.ASSIGNMENTS for n in (10, 20)]
    frame = pd.DataFrame(rows, columns=["seed", "assignment", "labels", "correlation"])
    gain = np.where((frame["assignment"] == "informed") & (frame["labels"] == 20), 1.0, 0.0)
    for size, pays in ((0.1, True), (-0.1, False), (0.002, False)):
        noisy = frame.assign(correlation=0.5 + size * gain + gain * rng.normal(0, 0.02, len(frame)))
        study = rater_study.RaterStudy(noisy)
        assert study.pays is pays
        assert ("does not pay" in str(study)) is not pays
        own = noisy[noisy["labels"] == 20].pivot(index="seed", columns="assignment", values="correlation")
        table = study.table.set_index(["assignment", "labels"])
        assert table.loc[("informed", 20), "gap"] == pytest.approx((own["informed"] - own["random"]).mean())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budgets": (12,)}, "two or more ascending numbers of labels"),
        ({"budgets": (3, 20)}, "the first at least 5, one for each annotator"),
        ({"seeds": 1}, "seeds must be a whole number of at least 2, not 1"),
        ({"most": 1, "budgets": (12, 30)}, "18 pairs are too many for 5 annotators with at most 1 each"),
    ],
)
def test_bad_input_is_one_clear_sentence(given, words):
    with pytest.raises(DataError, match=words):
        rater_study.rater_study(fitted(), **SHORT | given)


def test_fits_without_annotators_are_refused():
    with pytest.raises(DataError, match="knows no annotators"):
        rater_study.rater_study(fitted("bradley_terry"), **SHORT)
    with pytest.raises(DataError, match="annotators: 'nobody' is no annotator of the fit"):
        rater_study.informed(fitted(), [("item1", "item2")], ["nobody"], 1)


@pytest.mark.slow
def test_interrupted_studies_keep_what_is_complete(monkeypatch):
    several = SHORT | {"seeds": 3}
    whole = rater_study.rater_study(fitted(), **several)
    worlds = []

    def tired(post, seed):
        if len(worlds) == 2:
            raise KeyboardInterrupt
        worlds.append(world(post, seed))
        return worlds[-1]

    world = rater_study._World
    monkeypatch.setattr(rater_study, "_World", tired)
    found = rater_study.rater_study(fitted(), **several)
    assert str(found).endswith("Interrupted: 2 of 3 simulations are complete.")
    pd.testing.assert_frame_equal(found.curves, whole.curves[whole.curves["seed"] < 2])
