"""Searches for the modes of programs with types: what they leave out, and how they leave saddles."""

import numpy as np
import pytest
import torch

import prefdensity
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference.climber import Climber
from prefdensity.inference.starts import search, starts
from prefdensity.inference.types_curvature import TypesCurvature
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of


def camps(seed, items, people, each, types, spread):
    """Return votes of people who are of so many camps."""
    rng = np.random.default_rng(seed)
    utility = rng.normal(0, spread, (types, items))
    who = np.repeat(np.arange(people), each)
    a = rng.integers(0, items, len(who))
    b = (a + rng.integers(1, items, len(who))) % items
    camp = rng.integers(0, types, people)[who]
    lost = rng.random(len(who)) > 1 / (1 + np.exp(utility[camp, b] - utility[camp, a]))
    return Comparisons(
        items=[f"i{k}" for k in range(items)], item_a=a, item_b=b, outcome=lost.astype(int),
        count=np.ones(len(who)), first=np.resize([1, -1], len(who)),
        annotators=[f"a{k}" for k in range(people)], annotator=who,
    )  # fmt: skip


def viewed(data, name):
    program = prefdensity.load_program(name)
    return View(program, cells_of(data, program.outcomes, program.needs))


# Two worlds of clear camps, in the first of which some climbs end hopelessly low, and one where camps hardly differ.
WORLDS = [((13, 30, 120, 60, 4, 2.0), 2), ((14, 8, 120, 30, 3, 1.0), 2), ((17, 12, 60, 6, 2, 0.5), 3)]


@pytest.mark.parametrize(("world", "k"), WORLDS)
def test_a_search_finds_what_climbs_to_the_end_find(world, k):
    view = viewed(camps(*world), f"annotator_types(k={k})")
    modes = search(view, 8, 0, lambda *told: None)
    climber = Climber(view, fixed=view.hyper)
    ends = [climber.climb(start) for start in starts(climber, 8, 0)]
    heights = np.array([mode.value for mode in ends])
    best = heights.max()
    assert modes[0].converged
    assert modes[0].value == pytest.approx(best, abs=1e-6)
    assert len(modes) == len(ends)
    for mode in modes:
        assert np.abs(heights - mode.value).min() < 1e-3 or mode.value < best - 50
    taken = {mode.value: mode.iterations for mode in modes}  # what was found before is the same mode again
    assert sum(mode.iterations for mode in ends) > 1.5 * sum(taken.values())


def test_a_step_on_a_saddle_is_longer_than_one_of_em_and_climbs():
    view = viewed(camps(3, 9, 40, 20, 2, 1.5), "annotator_types")
    climber = Climber(view, fixed=view.hyper)
    assert isinstance(climber.local, TypesCurvature)
    z = torch.zeros(view.dimension, dtype=torch.float64)
    for _ in range(30):  # types that are nearly one: the top of what leaves them so
        z = climber.climb(z, most=3).z
        utility = z[climber.local.utility.at].reshape(2, -1)
        utility -= 0.99 * (utility - utility.mean(0))
    eye = torch.eye(len(climber.free), dtype=torch.float64)
    curvature, along = torch.linalg.eigh(climber.parts(climber.curvature(z)[2])[0].times(eye))
    assert float(curvature[0]) < -1
    z[climber.free] += 0.01 * along[:, 0]
    _, gradient, precision = climber.curvature(z)
    rest, _ = climber.parts(precision)
    reached = []
    for way in (rest.complete, rest):
        there = z.clone()
        there[climber.free] += way.newton_step(gradient[climber.free], 0.0)
        reached.append(float(view.log_joint(there[None]) - view.log_joint(z[None])))
    assert reached[1] > 1.5 * reached[0] > 0


@pytest.mark.parametrize("name", ["davidson+position_bias", "annotator_types(k=3)"])
def test_many_passes_say_what_one_says(name):
    view = viewed(camps(5, 20, 30, 40, 2, 1.0), name)
    z = 0.5 * torch.randn(101, view.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ways = [view.log_joint_of, *([view.type_probability] if view.program.annotators_have_types else [])]
    whole = [way(z) for way in ways]
    view._room = 3 * view.work
    assert len(view.chunks(z)) == 34
    for way, at_once in zip(ways, whole, strict=True):
        torch.testing.assert_close(way(z), at_once, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("program", ["davidson", "davidson+reliability"])
def test_restarts_that_find_one_mode_reach_one_height(program):
    """Scales are held where all climbs have them: a height with another scale would say nothing of the mode."""
    data = prefdensity.read("example:annotators")
    heights = prefdensity.fit(program, data, restarts=4, method="laplace", progress=False).status.restart_values
    np.testing.assert_allclose(heights, heights[0], rtol=0, atol=1e-6)
