"""Tables that pass through a device part by part: the same density, the same fit. Here the device is the CPU itself."""

import numpy as np
import pytest
import torch
from contract import vectors, view_of

import prefdensity
from prefdensity.data import simulate
from prefdensity.errors import FitError
from prefdensity.inference import devices
from prefdensity.inference.streamed import Streamed, parts_for

PROGRAMS = ("bradley_terry", "davidson+position_bias+reliability", "annotator_types(k=2)+davidson", "gp")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("parts", [1, 3])
def test_parts_add_up_to_the_whole(name, parts):
    view = view_of(name)[0]
    z = vectors(view, 2, scale=0.5)
    value, slope = Streamed(view, "cpu", parts).value_and_slope(z)
    exact, gradient = view.value_and_slope(z)
    torch.testing.assert_close(value, exact, rtol=1e-12, atol=0)
    torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-10 * float(gradient.abs().max()))


@pytest.fixture(scope="module")
def data():
    return simulate.population(6, 10, 800, seed=3)[0]


def test_a_fit_in_parts_is_the_fit(data, monkeypatch):
    whole = prefdensity.fit("annotator_types(k=2)", data, method="svi", max_steps=100)
    monkeypatch.setattr(devices, "room", lambda place: 40_000)
    parts = prefdensity.fit("annotator_types(k=2)", data, max_steps=100)
    assert parts.status.method == "svi"
    np.testing.assert_allclose(parts.draws["utility"], whole.draws["utility"], atol=1e-6)


def test_other_methods_say_what_holds_the_table(data, monkeypatch):
    monkeypatch.setattr(devices, "room", lambda place: 1000)
    with pytest.raises(FitError, match="method='svi' passes it through in parts"):
        prefdensity.fit("bradley_terry", data, method="laplace")


def test_ratings_cannot_be_split():
    with pytest.raises(FitError, match="uses ratings"):
        Streamed(view_of("ratings")[0], "cpu", 2)


def test_parts_grow_with_the_table():
    view = view_of("annotator_types(k=2)")[0]
    assert parts_for(view, 10**9) == 1
    assert parts_for(view, 1000) > parts_for(view, 2000) > 1
