"""Preference tables from a fit: their fresh pairs, what was known of these, and what training on them finds."""

import warnings
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from scipy.stats import chi2, chisquare

import prefdensity
from prefdensity.errors import DataError
from prefdensity.inference.fitting import fits_without
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.reward.auxiliary import of_rows, rows_in
from prefdensity.reward.columns import auxiliary_columns
from prefdensity.reward.losses import CLIP, vr_margin_loss

# small tables, of which some rows may be rough whatever the fit; the warning has a test of its own
pytestmark = pytest.mark.filterwarnings("ignore:.*rows have a k-hat:UserWarning")

COLUMNS = partial(auxiliary_columns, progress=False)


class World(NamedTuple):
    """Data and truth: pairs, probabilities [pair] that the first is preferred, prompts, chances of being drawn."""

    data: prefdensity.Comparisons
    pairs: list
    truth: np.ndarray
    prompt: np.ndarray
    drawn: np.ndarray
    cell: np.ndarray


def world(sizes, rows, seed, uneven=0.0):
    """Judgements of responses to prompts of `sizes`, by a truth with cycles, and what they were drawn from.

    Pairs of a prompt are drawn with probabilities proportional to exp(uneven * noise).
    """
    rng = np.random.default_rng(seed)
    pairs, prompt, truth, drawn = [], [], [], []
    for k, size in enumerate(sizes):
        utility, cycle = rng.normal(size=size), 1.2 * rng.normal(size=(size, size))
        a, b = np.triu_indices(size, 1)
        pairs += [(f"{k}.{i}", f"{k}.{j}") for i, j in zip(a, b, strict=True)]
        truth += list(expit(utility[a] - utility[b] + (cycle - cycle.T)[a, b]))
        chance = np.exp(uneven * rng.normal(size=len(a)))
        drawn += list(chance / chance.sum())
        prompt += [k] * len(a)
    truth, drawn, prompt = map(np.array, (truth, drawn, prompt))
    cell = rng.choice(len(pairs), rows, p=drawn / len(sizes))
    won = rng.random(rows) < truth[cell]
    flip = rng.random(rows) < 0.5
    first, second = (np.array([pairs[c][side] for c in cell]) for side in (0, 1))
    frame = pd.DataFrame({
        "item_a": np.where(flip, second, first), "item_b": np.where(flip, first, second),
        "outcome": np.where(won ^ flip, "a", "b"), "prompt": [f"prompt {prompt[c]}" for c in cell],
    })  # fmt: skip
    data = prefdensity.Comparisons.from_frame(frame, context="prompt")
    return World(data, pairs, truth, prompt, drawn, cell)


def table_of(data, **more):
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    return COLUMNS(data, post, **more)


def sides(table):
    """The labelled pair and the fresh pair of every row, in no order."""
    return [
        [frozenset(row) for row in table[list(names)].to_numpy()] for names in (("chosen", "rejected"), ("a_1", "a_2"))
    ]


def test_a_fresh_pair_is_any_other_pair_of_the_prompt_as_likely():
    data, pairs, *_ = world([3, 6], 1500, seed=1)
    own, fresh = sides(table_of(data))
    assert all(a != b for a, b in zip(own, fresh, strict=True))
    assert all({x[0] for x in a} == {x[0] for x in b} for a, b in zip(own, fresh, strict=True))  # the same prompt
    for start in ("0", "1"):
        every = [frozenset(pair) for pair in pairs if pair[0][0] == start]
        for labelled in every:
            others = [each for each in every if each != labelled]
            seen = [b for a, b in zip(own, fresh, strict=True) if a == labelled]
            counts = [seen.count(each) for each in others]
            assert chisquare(counts).pvalue > 1e-4 / 18  # 18 labelled pairs: one false alarm in 10 000 runs


def test_two_responses_are_refused_by_the_name_of_their_prompt():
    data, *_ = world([3, 2, 2], 60, seed=0)
    with pytest.raises(DataError, match=r"prompt 'prompt 1' has 2 responses \(2 of 3 prompts have fewer than 3\)"):
        table_of(data)
    alone = prefdensity.Comparisons.from_frame(pd.DataFrame({"item_a": ["x"], "item_b": ["y"], "outcome": ["a"]}))
    with pytest.raises(DataError, match="these judgements have 2 responses"):
        table_of(alone)


@pytest.mark.parametrize("folds", [None, 4])
def test_the_own_pair_is_predicted_as_the_row_itself(folds):
    # leave-one-out of a row and of its fresh pair are one model: where both are the same pair, one number
    data, *_ = world([4, 3], 80, seed=3)
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    own = [(data.items[a], data.items[b]) for a, b in zip(data.item_a, data.item_b, strict=True)]
    parts = None if folds is None else fits_without(post, data, rows_in(data, folds, 0), progress=False)
    found = of_rows(post, data, own, parts=parts, progress=False)
    np.testing.assert_allclose(found.fresh[:, 0], found.labelled, rtol=1e-9)
    if folds is not None:
        return
    seen = outcome_probabilities(post, own, None, "neither")[..., 0].mean(0)
    towards = np.where(data.outcome == 0, 1, -1)
    assert (towards * (seen - found.labelled) > 0).mean() > 0.9  # with its own label known, it looks likelier


def test_fresh_probabilities_are_those_of_a_fit_without_the_row():
    data, *_ = world([4], 24, seed=5)
    fit = partial(prefdensity.fit, "bradley_terry", seed=0, draws=8000, progress=False)
    post = fit(data)
    table = COLUMNS(data, post)
    moved, missed = [], []
    for row in range(0, len(data), 3):
        pair = [tuple(table.loc[row, ["a_1", "a_2"]])]
        rest = fit(data.take(np.arange(len(data)) != row))
        wanted, seen = (outcome_probabilities(each, pair, None, "neither")[:, 0, 0].mean() for each in (rest, post))
        moved.append(abs(seen - wanted))
        missed.append(abs(table.loc[row, "a_1_preference"] - wanted))
    assert np.mean(missed) < 0.4 * np.mean(moved)  # what is left is Monte-Carlo error of two fits


@pytest.mark.parametrize("size", [3, 6])
def test_no_margins_take_the_loss_below_its_bound(size):
    data, *_ = world([size] * 2, 150, seed=2)
    table = table_of(data)
    g, g_away = (torch.tensor(table[name].to_numpy()) for name in ("chosen_preference", "a_1_preference"))
    for lambda_ in (0.5, 1.0):
        for d in (-200.0, 200.0, 1e5):
            for away in (torch.full_like(g, d), torch.full_like(g, -d), torch.zeros_like(g)):
                found = vr_margin_loss(torch.full_like(g, d), g, away, g_away, lambda_=lambda_)
                assert float(found.total) >= -lambda_ * CLIP * float((1 - g).max())
    # utilities that let every chosen response win by 200, or as many as a sort by wins allows
    order = {label: k for k, label in enumerate(table["chosen"].value_counts().index[::-1])}
    height = {label: 200.0 * order.get(label, -1) for label in {*table["chosen"], *table["rejected"]}}
    d, away = (
        torch.tensor((table[one].map(height) - table[two].map(height)).to_numpy())
        for one, two in (("chosen", "rejected"), ("a_1", "a_2"))
    )
    assert float(vr_margin_loss(d, g, away, g_away).total) > 0


def trained(table, pairs, lambda_):
    """Utilities of responses at the minimum of the loss, the first of a prompt at 0, and their sandwich covariance."""
    labels = sorted({label for pair in pairs for label in pair})
    free = [k for k, label in enumerate(labels) if not label.endswith(".0")]
    code = {label: k for k, label in enumerate(labels)}

    def design(one, two):
        x = np.zeros((len(table), len(labels)))
        x[np.arange(len(table)), table[one].map(code)] += 1
        x[np.arange(len(table)), table[two].map(code)] -= 1
        return torch.tensor(x[:, free])

    x, y = design("chosen", "rejected"), design("a_1", "a_2")
    g, h = (torch.tensor(table[name].to_numpy()) for name in ("chosen_preference", "a_1_preference"))
    w = torch.tensor(table.get("weight", pd.Series(np.ones(len(table)))).to_numpy())
    theta = torch.zeros(len(free), dtype=torch.float64, requires_grad=True)
    step = torch.optim.LBFGS([theta], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        step.zero_grad()
        total = vr_margin_loss(x @ theta, g, y @ theta, h, lambda_=lambda_, weights=w, fresh_weights=w).total
        total.backward()
        return total

    step.step(loss)
    with torch.no_grad():
        p, q = torch.sigmoid(x @ theta), torch.sigmoid(y @ theta)
        assert float(torch.maximum((x @ theta).abs().max(), (y @ theta).abs().max())) < CLIP  # so that none is clipped
        score = w[:, None] * ((p - 1 - lambda_ * (p - g))[:, None] * x + lambda_ * (q - h)[:, None] * y)
        slope = (w * (1 - lambda_) * p * (1 - p))[:, None] * x, (w * lambda_ * q * (1 - q))[:, None] * y
        inverse = torch.linalg.inv((slope[0].T @ x + slope[1].T @ y) / len(table))
        covariance = inverse @ (score.T @ score / len(table)) @ inverse / len(table)
    return labels, free, theta.detach().numpy(), covariance.numpy()


def target(w, labels, free):
    """The best utilities for pairs drawn evenly: the limit that training should have."""
    code = {label: k for k, label in enumerate(labels)}
    x = np.zeros((len(w.pairs), len(labels)))
    for row, (a, b) in enumerate(w.pairs):
        x[row, code[a]], x[row, code[b]] = 1, -1
    x, share = x[:, free], 1 / np.bincount(w.prompt)[w.prompt]
    theta = np.zeros(len(free))
    for _ in range(50):
        p = expit(x @ theta)
        theta -= np.linalg.solve((x.T * (share * p * (1 - p))) @ x, x.T @ (share * (p - w.truth)))
    return theta


def test_the_limit_under_an_uneven_sampler_is_that_of_even_pairs():
    w = world([3, 4, 6], 8000, seed=7, uneven=1.0)
    weighted = table_of(w.data, weights=3.7 / w.drawn[w.cell])
    assert weighted["weight"].mean() == pytest.approx(1)
    for lambda_ in (0.5, 1.0):
        distance = []
        for table in (weighted, weighted.drop(columns="weight")):
            labels, free, theta, covariance = trained(table, w.pairs, lambda_)
            away = theta - target(w, labels, free)
            distance.append(away @ np.linalg.solve(covariance, away))
        assert distance[0] < chi2.ppf(1 - 5e-4, len(free))  # two tests: one false alarm in 1000 seeds
        assert distance[1] > 200  # 1.3 of a norm of 3.2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 2.0], r"weights have shape \(2,\); one for each of the 40 rows"),
        ([0.0] + [1.0] * 39, "the weight of row 1 is 0"),
        ([1.0, float("inf")] + [1.0] * 38, "the weight of row 2 is inf"),
        (["heavy"] * 40, "weights must hold numbers"),
    ],
)
def test_weights_get_one_sentence(weights, message):
    data, *_ = world([3], 40, seed=0)
    with pytest.raises(DataError, match=message):
        table_of(data, weights=weights)


def test_rough_weights_are_reported():
    data, *_ = world([9] * 4, 40, seed=3)  # few judgements, some of them worth much
    with pytest.warns(UserWarning, match=r"of 40 rows have a k-hat above 0.7.*set refits=5"):
        table_of(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(table_of(data, refits=3)) == 40


@pytest.mark.parametrize("kind", ["frame", "dataset"])
def test_rows_of_messages_come_back_whole_with_a_fresh_pair_of_their_prompt(kind):
    rng = np.random.default_rng(4)

    def turns(prompt, response):
        said = [("user", f"question {prompt}?"), ("assistant", f"answer {response} to {prompt}")]
        return [{"role": role, "content": words} for role, words in said]

    rows = []
    for k in range(90):
        one, other = rng.choice(4, 2, replace=False)
        rows.append({"chosen": turns(k % 5, one), "rejected": turns(k % 5, other), "rater": f"r{k % 7}", "note": k})
    given = pd.DataFrame(rows) if kind == "frame" else pytest.importorskip("datasets").Dataset.from_list(rows)
    data = prefdensity.read(given, format="chosen_rejected", annotator="rater")
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=200, progress=False)
    table = COLUMNS(data, post, rows=given)
    assert list(table.columns) == [
        "chosen", "rejected", "rater", "note", "a_1", "a_2",
        "chosen_preference", "rejected_preference", "a_1_preference", "a_2_preference",
    ]  # fmt: skip
    plain = COLUMNS(data, post)
    for k, row in table.iterrows():
        assert row["chosen"] == rows[k]["chosen"]
        assert row["note"] == k
        pair = {str(row["a_1"]), str(row["a_2"])}
        assert len(pair) == 2
        assert pair <= {str(turns(k % 5, response)) for response in range(4)}
        assert pair != {str(row["chosen"]), str(row["rejected"])}
        assert plain["a_1"][k].startswith(row["a_1"][-1]["content"])
    pd.testing.assert_series_equal(table["a_1_preference"], plain["a_1_preference"])
    with pytest.raises(DataError, match="rows are others: they must be the 90 rows"):
        COLUMNS(data, post, rows=rows[1:])
    with pytest.raises(DataError, match="is another text than that of"):
        COLUMNS(data, post, rows=rows[::-1])
    with pytest.raises(DataError, match="rows have no column 'chosen'"):
        COLUMNS(data, post, rows=pd.DataFrame(rows).drop(columns="chosen"))
