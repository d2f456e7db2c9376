"""Steps of svi on large tables: single precision, another order of comparisons, a graph; never another answer."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from contract import PROGRAMS, vectors, view_of
from torch.utils._python_dispatch import TorchDispatchMode

import prefdensity
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.inference import svi, view as views
from prefdensity.inference.totals import total
from prefdensity.inference.traced import traced
from prefdensity.inference.view import View
from prefdensity.programs.listing import names
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import environment
from prefdensity.programs.tabulate import cells_of

ROWS = 3000


@pytest.fixture
def every_table_is_large(monkeypatch):
    """Take for tables of any size the way of large ones."""
    monkeypatch.setattr(views, "_SINGLE", 0)
    monkeypatch.setattr(views, "_TRACED", 0)


def in_double(view, z):
    """Value and gradient of the log density itself."""
    free = z.clone().requires_grad_()
    value = view.log_joint(free)
    return value.detach(), torch.autograd.grad(value.sum(), free)[0]


@pytest.mark.parametrize("name", [*PROGRAMS, "rankings"])
def test_a_large_table_gives_the_value_and_slope_of_double_precision(name, monkeypatch):
    monkeypatch.setattr(views, "_SINGLE", 0)
    view = rankings() if name == "rankings" else view_of(name, rows=200)[0]
    z = vectors(view, 3, scale=0.5)
    value, slope = view.value_and_slope(z)
    exact, gradient = in_double(view, z)
    assert value.dtype == slope.dtype == torch.float64
    torch.testing.assert_close(value, exact, rtol=2e-6, atol=0)
    torch.testing.assert_close(slope, gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()))


def rankings():
    rng = np.random.default_rng(0)
    orders = [rng.permutation(list("vwxyz"))[:4] for _ in range(60)]
    rows = [(str(k), item, place + 1) for k, order in enumerate(orders) for place, item in enumerate(order)]
    table = prefdensity.Choices.from_rankings(pd.DataFrame(rows, columns=["who", "item", "rank"]), answer="who")
    program = load_program("plackett_luce")
    return View(program, cells_of(table, program.outcomes, program.needs))


@pytest.mark.parametrize("name", names())
def test_every_program_runs_as_a_graph_with_the_same_numbers(name):
    view, _ = view_of(name)
    first, other = vectors(view, 2, seed=1, scale=0.5), vectors(view, 2, seed=2, scale=0.5)

    def plain(z):
        return view._one_pass(z, view.cells)

    with environment(view.dtype):
        graph = traced(plain, (first,))
        assert graph is not plain
        for found, expected in zip(graph(other), plain(other), strict=True):  # but for the order of sums
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def looks_at_values(x):
    return (x.exp() if float(x.sum()) > 0 else -x,)


def draws_at_random(x):
    return (x + torch.randn(len(x)),)


def changes_in_place(x):
    out = torch.zeros(3)
    out[1:] = x[:2]
    return (out.add_(x.exp()) + x.exp().mul_(torch.ones(3).cumsum(0)),)


def test_a_graph_holds_what_is_changed_in_place():
    graph = traced(changes_in_place, (torch.ones(3),))
    assert graph is not changes_in_place
    for x in (torch.arange(3.0), -torch.arange(3.0), torch.ones(3)):
        torch.testing.assert_close(graph(x), changes_in_place(x))


def test_a_graph_does_once_what_does_not_hang_on_its_arguments_or_would_be_done_twice():
    fixed = torch.arange(50.0)
    graph = traced(lambda x: (x.exp() * fixed.sort()[0] + x.exp() * 1 + 0, x), (torch.ones(50),))
    x = torch.ones(50)
    with Operations() as seen:
        graph(x)
    assert sorted(seen.names) == ["add", "exp", "mul"]


class Operations(TorchDispatchMode):
    """What is worked out, by name."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("function", [looks_at_values, draws_at_random])
def test_a_function_that_no_graph_can_hold_stays_as_it_is(function):
    with torch.random.fork_rng():
        assert traced(function, (torch.ones(3),)) is function


def test_graphs_of_the_parts_of_a_table_add_up_and_are_made_once_for_each_shape(every_table_is_large, monkeypatch):
    monkeypatch.setattr(views, "_PART", 100)
    view = View(load_program("davidson"), cells_of(simulate.population(12, 5, ROWS, seed=0)[0], ("a", "b", "tie")))
    parts = [len(part) for part in view._step_parts]
    assert sum(parts) == len(view.cells)
    assert len(parts) > 1
    assert max(parts) * 3 <= 100
    for fits in (3, 3, 2):
        z = vectors(view, fits)
        torch.testing.assert_close(view.value_and_slope(z)[0], in_double(view, z)[0], rtol=2e-6, atol=0)
    assert sorted(view._graphs) == sorted((fits, size) for fits in (2, 3) for size in set(parts))


def test_neighbours_of_a_large_table_do_not_share_an_item():
    data, _ = simulate.population(200, 5, 20_000, seed=0)
    view = View(load_program("bradley_terry"), cells_of(data))
    after = view._step_cells
    same = [float((each[1:] == each[:-1]).double().mean()) for each in (view.cells.item_a, after.item_a)]
    assert same[0] > 0.9
    assert same[1] < 0.1
    assert after.outcome.dtype == torch.float32
    assert after.outcome.stride() == (1, len(after))  # outcome by outcome, as programs lay out their tables
    assert contents(after) == contents(view.cells)


def contents(cells):
    return sorted(zip(cells.item_a.tolist(), cells.item_b.tolist(), cells.outcome.tolist(), strict=True))


def test_many_terms_in_single_precision_are_summed_in_double():
    terms = (torch.rand(2, 3_000_001, generator=torch.Generator().manual_seed(0)) - 3).requires_grad_()
    found = total(terms)
    exact = [math.fsum(row) for row in terms.detach().double().tolist()]
    np.testing.assert_allclose(found.detach(), exact, rtol=1e-8)
    found.sum().backward()
    assert torch.equal(terms.grad, torch.ones_like(terms))


@pytest.mark.parametrize("name", ["bradley_terry", "davidson+reliability", "annotator_types", "gp", "rankings"])
def test_draws_of_a_large_table_are_weighed_as_in_double(name, monkeypatch):
    monkeypatch.setattr(views, "_TRACED", 0)
    monkeypatch.setattr(views, "_PART", 100)  # several parts where a program is a sum over comparisons
    view = rankings() if name == "rankings" else view_of(name, rows=200)[0]
    z = vectors(view, 5, scale=0.5)
    torch.testing.assert_close(view.log_joint_of(z), view.log_joint(z), rtol=2e-6, atol=0)
    if view.n_types > 1:
        found = view.type_probability(z)
        monkeypatch.setattr(views, "_TRACED", math.inf)
        torch.testing.assert_close(found, view.type_probability(z), rtol=0, atol=1e-5)


def test_a_large_table_weighs_draws_to_a_hundredth_of_a_nat():
    rng = np.random.default_rng(0)
    pair = np.stack(np.triu_indices(480, 1), 1)
    data = prefdensity.Comparisons(
        items=tuple(f"i{k:03d}" for k in range(480)), item_a=pair[:, 0], item_b=pair[:, 1],
        outcome=rng.integers(2, size=len(pair)).astype(np.int8), count=np.ones(len(pair)),
    )  # fmt: skip
    program = load_program("bradley_terry")
    view = View(program, cells_of(data, program.outcomes, program.needs))
    assert len(view.cells) > views._TRACED
    z = vectors(view, 8)
    assert float((view.log_joint_of(z) - view.log_joint(z)).abs().max()) < 0.01


def test_adam_is_that_of_pytorch():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.ones(2, 5, dtype=torch.float64), torch.ones(2, 5, dtype=torch.float64).requires_grad_()
    adam, plain = svi.Adam([ours]), torch.optim.Adam([theirs], lr=0.02)
    for step in range(1, 101):
        theirs.grad = torch.randn(2, 5, generator=generator, dtype=torch.float64)
        adam.take((theirs.grad,), 0.02, step)
        plain.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "name", ["davidson", "reliability", "annotator_types", pytest.param("comparison_types", marks=pytest.mark.slow)]
)
def test_a_fit_by_the_way_of_large_tables_is_the_same_fit(name, every_table_is_large, monkeypatch):
    data, _ = simulate.population(8, 12, ROWS, seed=3)
    large, its_guide = fit_and_guide(name, data)
    monkeypatch.undo()
    usual, guide = fit_and_guide(name, data)
    # same noise, other rounding; in the guide's frame, where a posterior has unit spread. What is drawn from the guide
    # is weighed, and a rounding may ask for more proposals: other draws of the same posterior
    torch.testing.assert_close(its_guide.loc, guide.loc, rtol=0, atol=1e-3)
    torch.testing.assert_close(its_guide.log_diagonal, guide.log_diagonal, rtol=0, atol=1e-3)
    assert large.status.elbo == pytest.approx(usual.status.elbo, abs=0.05)


def fit_and_guide(name, data):
    found, optimise = [], svi.optimise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svi, "optimise", lambda *asked: found.append(optimise(*asked)) or found[0])
        return fit(name, data), found[0]


def fit(name, data, **options):
    return prefdensity.fit(name, data, method="svi", restarts=1, max_steps=300, draws=400, progress=False, **options)


def test_a_large_fit_resumes_bit_for_bit(tmp_path, every_table_is_large, monkeypatch):
    data, _ = simulate.population(8, 12, ROWS, seed=3)
    whole = fit("reliability", data)
    advance = svi.Run.advance

    def interrupted(run):
        if run.step == svi.WINDOW:
            raise KeyboardInterrupt
        advance(run)

    with monkeypatch.context() as patch:
        patch.setattr(svi.Run, "advance", interrupted)
        fit("reliability", data, checkpoint=tmp_path / "state.npz")
    resumed = fit("reliability", data, checkpoint=tmp_path / "state.npz")
    assert resumed.status.elbo_trace == whole.status.elbo_trace
    assert np.array_equal(resumed.draws["utility"], whole.draws["utility"])


@pytest.mark.parametrize("name", ["lapse", "davidson+position_bias+reliability", "annotator_types(k=2)"])
def test_steps_of_a_graph_are_those_of_the_program(name, monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 200)
    data = Comparisons(
        items=list("abcdef"), item_a=a, item_b=(a + rng.integers(1, 6, 200)) % 6, outcome=rng.integers(0, 2, 200),
        count=np.ones(200), first=np.resize([1, -1], 200), annotators=list("uvwxy"), annotator=rng.integers(0, 5, 200),
    )  # fmt: skip
    asked = {"method": "svi", "max_steps": 50, "progress": False, "device": "cpu"}
    graph = prefdensity.fit(name, data, **asked)
    monkeypatch.setattr(View, "can_be_captured", False)
    plain = prefdensity.fit(name, data, **asked)
    np.testing.assert_allclose(graph.status.elbo_trace, plain.status.elbo_trace, rtol=1e-9)
    np.testing.assert_allclose(graph.draws["utility"], plain.draws["utility"], rtol=1e-6, atol=1e-9)
