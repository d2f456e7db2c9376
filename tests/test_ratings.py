"""Ratings beside comparisons: what they add, what they need, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

import prefdensity
from prefdensity import Comparisons, DataError, ProgramError, with_ratings
from prefdensity.programs.outcomes import cumulative_logit

N_ITEMS, N_PEOPLE = 8, 6
CUT = np.array([-2.0, -0.5, 0.7, 2.0])


def simulated(rng, votes=15, who=True):
    """Comparisons and ratings (every item by every person) of the stated process; utilities beside."""
    utility = rng.normal(0, 1.5, N_ITEMS)
    slope, shift = np.exp(0.5 * rng.normal(size=N_PEOPLE)), rng.normal(size=N_PEOPLE)
    votes_of, grades = [], []
    for j in range(N_PEOPLE):
        for _ in range(votes):
            a, b = rng.choice(N_ITEMS, 2, replace=False)
            won = rng.random() < special.expit(utility[a] - utility[b])
            votes_of.append((f"i{a}", f"i{b}", "a" if won else "b", f"p{j}"))
        for i in range(N_ITEMS):
            felt = (slope[j] * utility[i] + shift[j] if who else utility[i]) + rng.logistic()
            grades.append((f"i{i}", 1 + int((felt > CUT).sum()), f"p{j}"))
    comparisons = Comparisons.from_frame(pd.DataFrame(votes_of, columns=["item_a", "item_b", "outcome", "annotator"]))
    return comparisons, pd.DataFrame(grades, columns=["item", "rating", "annotator"]), utility


def test_cumulative_logit_is_the_difference_of_two_shares():
    cut, score = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64), torch.tensor([0.0, 4.0], dtype=torch.float64)
    edges = np.r_[-np.inf, cut.numpy(), np.inf]
    share = special.expit(edges[1:] - score.numpy()[:, None]) - special.expit(edges[:-1] - score.numpy()[:, None])
    np.testing.assert_allclose(cumulative_logit(cut[None], score).exp(), share, rtol=1e-12)
    far = cumulative_logit(cut[None], torch.tensor([-800.0, 800.0], dtype=torch.float64))
    assert torch.isfinite(far).all()  # the difference of two shares would be log 0


@pytest.mark.slow
def test_utilities_are_recovered_with_honest_intervals():
    """Squared standardised errors of all contrasts, 12 tables: chi-square, two-sided level 1e-3."""
    rng = np.random.default_rng(1)
    total = 0.0
    for _ in range(12):
        comparisons, grades, utility = simulated(rng)
        data = with_ratings(comparisons, grades, annotator="annotator")
        error = prefdensity.fit("ratings+bradley_terry", data, method="laplace").draws["utility"] - utility
        contrast = error[:, :-1] - error[:, -1:]
        total += contrast.mean(0) @ np.linalg.solve(np.cov(contrast.T), contrast.mean(0))
    low, high = stats.chi2.ppf([5e-4, 1 - 5e-4], 12 * (N_ITEMS - 1))
    assert low < total < high


@pytest.mark.slow
def test_ratings_sharpen_utilities_and_place_items_that_never_met():
    comparisons, grades, utility = simulated(np.random.default_rng(2), votes=6, who=False)
    data = with_ratings(comparisons, grades)
    alone = prefdensity.fit("bradley_terry", comparisons)
    both = prefdensity.fit("ratings+bradley_terry", data)

    def spread(post):
        return (post.draws["utility"] - post.draws["utility"].mean(1, keepdims=True)).std(0).mean()

    assert spread(both) < 0.75 * spread(alone)
    assert "rating_slope" not in both.draws  # nobody's own scale without names
    assert np.corrcoef(both.draws["utility"].mean(0), utility)[0, 1] > 0.95


def test_ratings_of_two_levels_and_raters_who_compared_nothing():
    comparisons, grades, _ = simulated(np.random.default_rng(3))
    grades = grades.assign(rating=np.where(grades["rating"] > 3, "good", "bad"), annotator="q" + grades["annotator"])
    data = with_ratings(comparisons, grades, annotator="annotator", levels=("bad", "good"))
    assert len(data.annotators) == 2 * N_PEOPLE
    named = np.array(data.annotators)[data.annotator]
    assert list(named) == list(np.array(comparisons.annotators)[comparisons.annotator])
    post = prefdensity.fit("ratings+bradley_terry", data, method="map")
    assert post.point["rating_cut"].shape == (1,)
    assert data.fingerprint() != comparisons.fingerprint()


BAD = [
    (lambda f: f.drop(columns="rating"), {}, "ratings has no column 'rating'"),
    (lambda f: f.iloc[:0], {}, "has no rows"),
    (
        lambda f: f.assign(rating=[None, *f["rating"][1:]]),
        {},
        "column 'rating' .rating. is empty in 1 rows, first in row 1; fill them, or drop",
    ),
    (lambda f: f, {"levels": (1, 2)}, "which is not among"),
    (lambda f: f.assign(rating=3), {}, "two or more different levels"),
    (lambda f: f.assign(item="new"), {}, "'item' holds 'new', an item that was never compared"),
]


@pytest.mark.parametrize(("spoil", "options", "message"), BAD)
def test_bad_ratings_are_refused_in_words(spoil, options, message):
    comparisons, grades, _ = simulated(np.random.default_rng(4))
    with pytest.raises(DataError, match=message):
        with_ratings(comparisons, spoil(grades), **options)


def test_programs_and_ratings_must_suit_each_other():
    comparisons, grades, _ = simulated(np.random.default_rng(5))
    with pytest.raises(ProgramError, match="needs ratings of the items"):
        prefdensity.fit("ratings+bradley_terry", comparisons)
    with pytest.raises(ProgramError, match="types have several"):
        prefdensity.load_program("ratings+annotator_types")
    post = prefdensity.fit("bradley_terry", with_ratings(comparisons, grades), method="map")
    assert "bradley_terry does not use the ratings that the data carry." in post.status.warnings
