"""Every program on a device takes the way that it takes on the CPU, by every method, and seldom waits for it."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from contract import COMPOSITIONS, suited, table, view_of
from device import Device

import prefdensity
from prefdensity.data import simulate
from prefdensity.errors import FitError
from prefdensity.inference.chains import Group, walk
from prefdensity.inference.curvature import local_curvature
from prefdensity.inference.krylov import Pattern
from prefdensity.inference.laplace import laplace
from prefdensity.inference.locality import confirmed
from prefdensity.inference.member import Member
from prefdensity.inference.mode import first_guess
from prefdensity.inference.types_curvature import types_curvature
from prefdensity.inference.view import View
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import layer
from prefdensity.programs.listing import names

SLOW = pytest.mark.slow
METHODS = ("mle", "map", "laplace", "ep", "variational", "svi")
# What the host waits for, from a start to the whole grid of hyperparameters: measured 59, 134 and 974.
WAITS = {
    "bradley_terry": 75,
    "davidson+position_bias+reliability": 135,
    "annotator_types(k=2)+davidson": 980,
}


def on(view):
    """The same program with its data on the device."""
    return View(view.program, view.cells.to("cuda"))


def curvature(view):
    """Which exact curvature a program has, and where not why: what is raised on the way is not seen otherwise."""
    kind = types_curvature if view.program.type_layer is not None else local_curvature
    found = kind(view, first_guess(view))
    return type(found).__name__, getattr(found, "form", None), view.memo.get("spread", "")


@pytest.mark.parametrize("name", [*names(), *(pytest.param(each, marks=SLOW) for each in COMPOSITIONS)])
def test_curvature_on_the_device_is_kept_as_on_the_cpu(name):
    view, _ = view_of(name)
    expected = curvature(view)
    with Device():
        assert curvature(on(view)) == expected


def test_curvature_of_what_is_left_at_a_mode_is_kept_as_on_the_cpu():
    view, _ = view_of("neural(width=3)+davidson")
    z = 0.3 * torch.arange(view.dimension, dtype=view.dtype).sin()
    expected = curvature(Member.at(view, z).view)
    assert expected[0] == "LocalCurvature"
    with Device():
        assert curvature(Member.at(on(view), z.to("cuda")).view) == expected


@pytest.mark.parametrize("name", ["davidson+reliability", "neural(width=3)"])
def test_climbs_start_where_they_do_on_the_cpu(name):
    """Whatever a card's generators draw: here they count from elsewhere."""
    view, _ = view_of(name)
    expected = first_guess(view)
    with Device() as device:
        device.manual_seed = lambda seed: device.default.manual_seed(seed + 1)
        torch.testing.assert_close(first_guess(on(view)).cpu(), expected)


REFUSED = {
    "Expected all tensors to be on the same device": True,
    "CUDA out of memory. Tried to allocate 2.00 GiB": True,
    "not implemented for 'Half'": False,
    "The size of tensor a (2) must match the size of tensor b (4) at non-singleton dimension 2": False,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_torch_refuses_is_told_where_it_is_about_the_device(said):
    """What else it refuses is a layer that cannot be shown one comparison alone: it is fitted without."""

    class Refused:
        def __init__(self, view):
            raise RuntimeError(said)

    view, _ = view_of("bradley_terry")
    if not REFUSED[said]:
        assert confirmed(view, Refused, first_guess(view), "") is None
        assert said in view.memo["spread"]
        return
    with pytest.raises(RuntimeError, match=said):
        confirmed(view, Refused, first_guess(view), "")


@layer("margin", needs=["annotator"])
def with_a_partner(margin, data):
    """Everybody leans as somebody else does: in a world of one annotator there is no such one."""
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        lean = pyro.sample("lean", dist.Normal(0.0, 1.0))
    return margin + data.of("annotator", lean[torch.tensor([1, 2, 3, 0])])


@pytest.mark.parametrize("method", ["map", pytest.param("laplace", marks=SLOW)])
def test_a_layer_that_counts_on_everybody_else_is_found_out_where_that_ends_nothing(method):
    program, data = compose("davidson", with_a_partner), table(outcomes=("a", "b", "tie"))
    here = prefdensity.fit(program, data, method=method, draws=100, progress=False)
    with Device():
        there = prefdensity.fit(program, data, method=method, draws=100, device="cuda", progress=False)
    np.testing.assert_allclose(there.point["lean"], here.point["lean"], atol=1e-6)


@pytest.mark.parametrize("name", [pytest.param(each, marks=[SLOW] * ("types" in each)) for each in WAITS])
def test_a_grid_of_hyperparameters_waits_for_the_device_a_few_times(name):
    data = simulate.population(6, 5, 150, seed=2, tie_strength=0.8, position_bias=0.3, reliability_sd=0.4)[0]
    view, _ = view_of(name, data if "davidson" in name else data.without_ties())
    with Device() as device:
        there = on(view)
        device.clear()
        found = laplace(there)
    assert len(found.weight) > 5
    assert device.syncs.total() <= WAITS[name]


@SLOW
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", names())
def test_every_program_is_fitted_on_the_device_as_on_the_cpu(name, method):
    program = prefdensity.load_program(name)
    data, how = suited(program), {"method": method, "draws": 100, "restarts": 1, "max_steps": 100, "progress": False}

    def fitted(device):
        try:
            return prefdensity.fit(program, data, device=device, **how)
        except FitError as error:
            return str(error)

    here = fitted("cpu")
    with Device():
        there = fitted("cuda")
    if isinstance(here, str):
        assert there == here  # refused for the same reason
        return
    assert there.status.method == here.status.method
    for site, value in here.point.items():
        np.testing.assert_allclose(there.point[site], value, rtol=1e-5, atol=1e-5)
    for site, draws in here.draws.items():  # an index of a draw may flip where two weights are within rounding
        gap = np.abs(there.draws[site] - draws) / (1 + np.abs(draws))
        assert np.quantile(gap, 0.9) < 1e-5


@SLOW
@pytest.mark.parametrize("name", names())
def test_steps_of_nuts_on_the_device_are_those_on_the_cpu(name):
    view, _ = view_of(name)
    start = torch.zeros(view.dimension, dtype=view.dtype)

    def few(of):
        begin = start.to(of.device), torch.full_like(start, 0.3).to(of.device), start[None].to(of.device)
        return walk(of, [Group(*begin)], draws=6, warmup=2, seed=1, deepest=10).z.cpu()

    with Device():
        found = few(on(view))
    torch.testing.assert_close(found, few(view), rtol=1e-6, atol=1e-6)


# --- sparse matrices


def test_a_sparse_precision_on_the_device_is_that_on_the_cpu():
    rng = np.random.default_rng(0)
    one, other = rng.integers(30, size=(2, 200))
    rows, columns = np.r_[one, np.arange(30)], np.r_[other, np.arange(30)]
    values = np.r_[np.where(one == other, 0.5, -0.1 * rng.random(200)), np.full(30, 8.0)]
    x, free = rng.normal(size=(4, 30)), np.arange(2, 30)

    def asked(device):
        there = [torch.tensor(each).to(device) for each in (rows, columns, values, x, free, [0, 1])]
        whole = Pattern(*there[:2], 30).fill(there[2])
        part, cross = whole.partition(there[4], there[5])
        spread = part.gaussian()
        found = [whole.times(there[3]), whole.newton_step(there[3][0], 0.1), part.times(there[3][:, 2:]), cross,
                 spread.scale(there[3][:, 2:]), spread.square(there[3][:, 2:]), spread.covariance(there[3][0, 2:]),
                 part.single().times(there[3][:, 2:].float()), torch.tensor(spread.log_det)]  # fmt: skip
        return [each.cpu() for each in found]

    expected = asked("cpu")
    with Device() as device:
        found = asked("cuda")
    assert device.launches
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each, other)
