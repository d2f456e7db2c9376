"""Probabilities of types in large tables: those whose type is beyond doubt are not worked out anew in every draw."""

import numpy as np
import pytest
import torch
from device import Device

from prefdensity import Comparisons
from prefdensity.inference import memberships
from prefdensity.inference.memberships import farthest, type_probability
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

TYPES, ITEMS, PEOPLE, DRAWS = 3, 10, 60, 150


def world(program):
    """A view of people of three camps who judged from not at all to very often, and the utilities [type, item]."""
    rng = np.random.default_rng(3)
    utility, kind = rng.normal(size=(TYPES, ITEMS)), rng.integers(0, TYPES, PEOPLE)
    who = np.repeat(np.arange(PEOPLE), 25)
    who = who[who > 0]
    a = rng.integers(0, ITEMS, len(who))
    b = (a + rng.integers(1, ITEMS, len(who))) % ITEMS
    wins = rng.random(len(who)) < 1 / (1 + np.exp(utility[kind[who], b] - utility[kind[who], a]))
    data = Comparisons(
        items=tuple(map(str, range(ITEMS))), item_a=a, item_b=b, outcome=np.where(wins, 0, 1).astype(np.int8),
        count=np.where(who % 3, 12.0, 1.0), annotators=tuple(f"{j:02d}" for j in range(PEOPLE)), annotator=who,
    )  # fmt: skip
    program = load_program(program)
    return View(program, cells_of(data, program.outcomes, program.needs)), utility


def draws(view, utility, swapped):
    """Draws about the utilities, `swapped` of them with the types in another order, as of another mode."""
    generator = torch.Generator().manual_seed(1)
    z = 0.05 * torch.randn(DRAWS, view.dimension, generator=generator, dtype=torch.float64)
    z[:, view.sites["utility"].at] += torch.tensor(utility.flatten())
    z[DRAWS - swapped :, view.sites["utility"].at] += torch.tensor((utility[[1, 2, 0]] - utility).flatten())
    return z


@pytest.mark.parametrize("program", ["annotator_types(k=3)", "annotator_types(k=3)+davidson"])
@pytest.mark.parametrize("swapped", [0, 2])
def test_probabilities_of_types_are_those_of_every_draw(program, swapped, monkeypatch):
    view, utility = world(program)
    z = draws(view, utility, swapped)
    monkeypatch.setattr(memberships, "_DEAR", 0)
    exact, found = view.type_probability(z), type_probability(view, z)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-9)
    in_doubt = memberships._in_doubt(exact[farthest(z, 32)])
    assert bool(in_doubt[0])  # who judged nothing
    assert in_doubt.all() if swapped else 0.2 * PEOPLE < in_doubt.sum() < 0.8 * PEOPLE


def test_the_farthest_draws_are_of_every_mode():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(500, 40, generator=generator, dtype=torch.float64)
    z[123] += 3.0
    z[321] -= 3.0
    assert {123, 321} <= set(farthest(z, 5).tolist())


def test_probabilities_of_types_on_a_device_are_those_on_the_cpu(monkeypatch):
    view, utility = world("annotator_types(k=3)")
    z = draws(view, utility, 0)
    monkeypatch.setattr(memberships, "_DEAR", 0)
    with Device():
        there = View(view.program, view.cells.to("cuda"))
        found = type_probability(there, z.to("cuda")).cpu()
    torch.testing.assert_close(found, type_probability(view, z), rtol=0, atol=1e-9)
