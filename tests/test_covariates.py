"""Covariates in the users' units: what is fitted does not depend on them, and what cannot be learned is said."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.data.simulate import population
from prefdensity.programs.tabulate import cells_of

BASE = population(6, 8, 600, seed=4, tie_strength=0.5)[0]
LENGTH = np.random.default_rng(7).normal(size=len(BASE))


def with_columns(**columns):
    names = tuple(columns)
    return replace(BASE, covariate_names=names, covariates=np.stack([columns[name] for name in names], 1))


@pytest.mark.parametrize("unit", [1e-4, 1000.0, 1e6])
@pytest.mark.parametrize("program", ["davidson+covariate", "davidson+covariate+reliability"])
def test_units_change_nothing_but_the_effect(unit, program):
    one = prefdensity.fit(program, with_columns(length=LENGTH), method="laplace", draws=200)
    other = prefdensity.fit(program, with_columns(length=LENGTH * unit), method="laplace", draws=200)
    assert other.status.log_likelihood == pytest.approx(one.status.log_likelihood, abs=1e-6)
    np.testing.assert_allclose(other.draws["utility"], one.draws["utility"], atol=1e-6)
    np.testing.assert_allclose(other.draws["covariate_effect"] * unit, one.draws["covariate_effect"], atol=1e-6)


def test_the_effect_is_reported_per_unit_as_given():
    rng = np.random.default_rng(3)
    grams = rng.normal(0, 400, size=4000)
    a = rng.integers(5, size=4000)
    b = (a + rng.integers(1, 5, size=4000)) % 5
    first = rng.random(4000) < 1 / (1 + np.exp(-(0.3 * (a - b) + 0.002 * grams)))
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": np.where(first, "a", "b"), "grams": grams})
    post = prefdensity.fit("covariate", prefdensity.Comparisons.from_frame(frame, covariates=["grams"]))
    row = post.parameters().query("parameter == 'covariate_effect'").iloc[0]
    assert row["index"] == "grams"
    assert abs(row["mean"] - 0.002) < 4 * row["sd"]
    assert row["sd"] < 0.0002


def test_a_part_of_a_table_is_measured_as_the_whole():
    data = with_columns(length=LENGTH * 50)
    part = data.take(np.abs(LENGTH) < 0.5)
    np.testing.assert_array_equal(part.covariate_scale, data.covariate_scale)
    whole, cells = cells_of(data, needs=["covariates"]), cells_of(part, needs=["covariates"])
    assert cells.covariates.abs().max() <= 0.5 / np.sqrt(np.mean(LENGTH**2)) + 1e-9
    assert float(whole.total @ whole.covariates[:, 0] ** 2 / whole.total.sum()) == pytest.approx(1.0)


def test_enormous_and_tiny_covariates_do_not_overflow():
    for unit in (1e200, 1e-200):
        data = with_columns(length=LENGTH * unit)
        assert data.covariate_scale[0] == pytest.approx(unit * np.sqrt(np.mean(LENGTH**2)))


SAID = [
    ({"x": np.zeros(len(BASE))}, "covariate 'x' is 0 in every row"),
    ({"x": LENGTH, "y": -3 * LENGTH}, "'x' and 'y' are multiples of each other"),
    ({"x": LENGTH, "y": LENGTH**2 - 1, "z": 2 * LENGTH + LENGTH**2 - 1}, "x, y, z are linearly dependent"),
    ({"x": np.array([1.0, -1.0, 0.0])[BASE.outcome] * (LENGTH > 0.3)}, "covariate 'x' separates the judgements"),
]


@pytest.mark.parametrize(("columns", "sentence"), SAID)
def test_what_cannot_be_learned_is_said(columns, sentence):
    post = prefdensity.fit("davidson+covariate", with_columns(**columns), method="laplace", draws=100)
    assert sum(sentence in each for each in post.status.warnings) == 1


def test_ordinary_covariates_are_not_warned_of():
    data = with_columns(x=LENGTH, y=np.roll(LENGTH, 1))
    post = prefdensity.fit("davidson+covariate", data, method="laplace", draws=100)
    assert not [each for each in post.status.warnings if "ovariate" in each]
