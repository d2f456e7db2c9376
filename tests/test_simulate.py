import time

import numpy as np
import pytest

from prefdensity.data import simulate
from prefdensity.data.simulate import population
from prefdensity.errors import DataError


def test_the_seed_decides_everything():
    one, truth = population(6, 4, 300, seed=3, tie_strength=0.5, n_types=2, reliability_sd=0.4)
    two, again = population(6, 4, 300, seed=3, tie_strength=0.5, n_types=2, reliability_sd=0.4)
    other, _ = population(6, 4, 300, seed=4, tie_strength=0.5, n_types=2, reliability_sd=0.4)
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(truth.utilities, again.utilities)
    assert truth.utilities.shape == (2, 6)
    assert truth.annotator_type.shape == truth.reliability.shape == (4,)


def test_labels_sort_as_they_are_numbered():
    data, _ = population(11, 3, 20, seed=0)
    assert data.items == tuple(sorted(data.items))
    assert data.items[1] == "item02"
    assert (data.item_a != data.item_b).all()
    assert (data.first == 1).all()
    assert population(3, 2, 20, seed=0, ordered=False)[0].first is None


def test_probabilities_are_davidsons():
    data, truth = population(5, 4, 50, seed=1, tie_strength=0.7, position_bias=0.4, reliability_sd=0.5, lapse=0.1)
    share = truth.probabilities(data)
    for row in range(len(data)):
        reliability = truth.reliability[data.annotator[row]]
        difference = truth.utilities[0, data.item_a[row]] - truth.utilities[0, data.item_b[row]]
        a = 1 / (1 + np.exp(-(reliability * difference + 0.4)))
        weight = np.array([a, 1 - a, 0.7 * np.sqrt(a * (1 - a))])
        np.testing.assert_allclose(share[row], 0.9 * weight / weight.sum() + 0.1 / 3)
    # the same judgements with the sides exchanged
    np.testing.assert_allclose(truth.probabilities(data.swapped()), share[:, [1, 0, 2]])


@pytest.mark.parametrize("tie_strength", [None, 0.8])
def test_outcomes_follow_the_probabilities(tie_strength):
    # each standardised total is normal: beyond 5 once in 1.7 million, so a false alarm here once in 300,000
    data, truth = population(
        8,
        6,
        40_000,
        seed=5,
        tie_strength=tie_strength,
        position_bias=0.3,
        lapse=0.2,
        n_types=2,
        reliability_sd=0.3,
    )
    share = truth.probabilities(data)
    for code in range(share.shape[1]):
        surplus = (data.outcome == code).sum() - share[:, code].sum()
        assert abs(surplus) < 5 * np.sqrt((share[:, code] * (1 - share[:, code])).sum())
    assert data.outcome.max() == share.shape[1] - 1


def test_careless_annotators_do_not_look_at_the_items():
    data, truth = population(4, 5, 100, seed=2, n_careless=2, utility_sd=3)
    assert (truth.reliability == [1, 1, 1, 0, 0]).all()
    careless = data.annotator >= 3
    assert (truth.probabilities(data)[careless] == 0.5).all()


def test_extreme_utilities_stay_finite():
    data, truth = population(4, 2, 100, seed=2, utility_sd=1e4, tie_strength=1.0)
    assert np.isfinite(truth.probabilities(data)).all()


def test_the_example_has_a_truth():
    data, truth = simulate.example()
    assert len(data) == 3000
    assert len(data.items) == truth.utilities.shape[1] == 20
    assert (truth.reliability == 0).sum() == 2
    assert data.items == tuple(sorted(data.items))
    assert "simulated" in data.source


def test_a_million_rows_take_about_a_second():
    start = time.process_time()
    population(1000, 5000, 1_000_000, seed=1, tie_strength=0.5, reliability_sd=0.5, n_types=3)
    assert time.process_time() - start < 3


BAD = [
    ({"n_items": 1}, "n_items must be a whole number of at least 2, not 1"),
    ({"n_comparisons": 0}, "n_comparisons must be a whole number of at least 1"),
    ({"n_annotators": 2.5}, "n_annotators must be a whole number"),
    ({"n_careless": 9}, "n_careless=9 exceeds the 3 annotators"),
    ({"utility_sd": -1}, "utility_sd must be a finite number of at least 0, not -1"),
    ({"reliability_sd": np.nan}, "reliability_sd must be a finite number"),
    ({"tie_strength": 0}, "tie_strength must be positive, or None for no ties"),
    ({"position_bias": np.inf}, "position_bias must be finite"),
    ({"lapse": 1.5}, "lapse is a probability, from 0 to 1, not 1.5"),
    ({"n_types": 2, "type_weight": [0.5, 0.6]}, "type_weight must be 2 probabilities that sum to 1"),
    ({"items": ["x", "x", "y", "z"]}, "items must be 4 distinct labels"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_get_one_clear_sentence(arguments, message):
    with pytest.raises(DataError, match=message):
        population(**{"n_items": 4, "n_annotators": 3, "n_comparisons": 10, "seed": 0} | arguments)


def test_probabilities_need_what_they_depend_on(votes):
    from dataclasses import replace

    data, truth = population(4, 3, 10, seed=0, position_bias=0.5)
    with pytest.raises(DataError, match="the table records no order"):
        truth.probabilities(replace(data, first=None))
    with pytest.raises(DataError, match="the table has no annotators"):
        truth.probabilities(replace(data, annotator=None))
