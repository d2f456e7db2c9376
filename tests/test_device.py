"""Every method on a device gives what it gives on the CPU, by CUDA's rules, and a step of svi does not wait for it."""

import gc

import numpy as np
import pytest
import torch
from contract import PROGRAMS, vectors, view_of
from device import Device

import prefdensity
from prefdensity.data import simulate
from prefdensity.errors import FitError, PrefDensityError
from prefdensity.inference import devices, svi
from prefdensity.inference.guide import Guide
from prefdensity.inference.mode import prior_draws
from prefdensity.inference.streamed import Streamed
from prefdensity.inference.traced import captured, traced
from prefdensity.inference.view import View

COUNTED = ("bradley_terry", "davidson+position_bias+reliability", "annotator_types(k=2)+davidson")


@pytest.fixture
def device():
    with Device() as there:
        yield there


def on(view):
    """The same program with its data on the device."""
    return View(view.program, view.cells.to("cuda"))


# --- the device itself


def test_two_devices_do_not_meet(device):
    x, y = torch.ones(3), torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        x + y
    with pytest.raises(RuntimeError, match="same device"):
        torch.stack([torch.tensor(1.0), y[0]])  # which takes no number of the CPU either
    torch.testing.assert_close((y + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))


def test_numbers_do_not_leave_the_device_by_themselves(device):
    y = torch.ones(3, device="cuda")
    for leave in (torch.Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            leave(y)
    assert y.device == torch.device("cuda:0")
    assert y.is_cuda


def test_generators_belong_to_a_device(device):
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, generator=torch.Generator(), device="cuda")
    here = torch.randn(3, generator=torch.Generator().manual_seed(1))
    there = torch.randn(3, generator=torch.Generator("cuda").manual_seed(1), device="cuda")
    assert torch.equal(here, there.cpu())


WAITS = {
    "reading a value": float,
    "a condition": lambda x: bool(x.max() > 0),
    "copying to the host": torch.Tensor.cpu,
    "a mask": lambda x: x.flatten()[x.flatten() > 0],
    "what is not zero": torch.Tensor.nonzero,
    "a number copied": lambda x: torch.tensor([1.0], device=x.device),
    "a factorisation that is checked": torch.linalg.cholesky,
}
RUNS_ON = {
    "arithmetic": lambda x: (x * 2 + 1).sum(),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "filling": lambda x: torch.full((3,), 2.0, device=x.device),
    "a factorisation": lambda x: torch.linalg.cholesky_ex(x[None, None])[0],
    "a backward pass": lambda x: torch.autograd.grad((x.requires_grad_() ** 2).sum(), x),
}


@pytest.mark.parametrize("what", WAITS)
def test_the_host_waits_for(what, device):
    x = torch.ones(1, 1, device="cuda")
    device.clear()
    WAITS[what](x)
    assert device.syncs.total() == 1


@pytest.mark.parametrize("what", RUNS_ON)
def test_the_host_does_not_wait_for(what, device):
    x = torch.ones((), device="cuda")
    device.clear()
    RUNS_ON[what](x)
    assert device.launches
    assert not device.syncs


def test_views_are_no_launches(device):
    x = torch.ones(4, 3, device="cuda")
    device.clear()
    x.T[1:].unsqueeze(0).expand(5, 2, 4)
    assert not device.launches


def test_a_captured_graph_runs_again_on_what_its_tensors_hold_by_then_and_holds_no_wait(device):
    x = torch.arange(3.0, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = (x + 1).square().sum()
    x.copy_(torch.ones(3, device="cuda"))
    device.clear()
    graph.replay()
    assert device.launches.total() == 1
    assert float(y) == 12
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(x.sum())
    with pytest.raises(RuntimeError, match="previous error during capture"):
        x + 1


def test_a_captured_graph_keeps_no_memory_that_it_reads(device):
    x = torch.arange(3.0, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x + 1
    graph.replay()
    del x
    with pytest.raises(RuntimeError, match="given back"):
        graph.replay()


def test_an_index_out_of_range_ends_the_device(device):
    x = torch.arange(3.0, device="cuda")
    with pytest.raises(IndexError):
        x[3]  # a number, which the host looks at
    with pytest.raises(RuntimeError, match="device-side assert"):
        x[torch.tensor([3], device="cuda")]
    with pytest.raises(RuntimeError, match="device-side assert"):
        x + 1


def test_what_was_captured_reads_what_was_worked_out_once(device):
    known = torch.arange(3.0, device="cuda")
    run = captured(lambda x: ((x * (known + 1)).sum(),), (torch.ones(3, device="cuda"),))
    gc.collect()  # whatever nobody has any more is given back
    device.clear()
    assert float(run(torch.full((3,), 2.0, device="cuda"))[0]) == 12
    assert device.launches["graph replay"] == 1


@pytest.mark.parametrize("factor", [torch.linalg.cholesky, lambda x: torch.linalg.cholesky_ex(x)[0]])
def test_what_waits_or_is_solved_is_not_captured(factor, device):
    def root(x):
        return factor(x + x.T), x.sum()

    x = torch.eye(2, device="cuda")
    run = captured(root, (x,))
    device.clear()
    assert float(run(x)[1]) == 2
    assert not device.launches["graph replay"]


# --- densities


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_density_on_the_device_is_that_on_the_cpu(name, device):
    view, _ = view_of(name)
    there, z = on(view), vectors(view, 2, scale=0.5)
    for found, expected in zip(there.value_and_slope(z.to("cuda")), view.value_and_slope(z), strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-12, atol=1e-12)
    found, expected = there.constrain(z.to("cuda"))[0], view.constrain(z)[0]
    assert all(torch.equal(found[name].cpu(), expected[name]) for name in expected)


def started(view):
    base = vectors(view, 1, scale=0.1).to(view.device)
    return svi.Run(view, Guide.start(base, torch.full_like(base, 0.05), "mean_field"), seed=0)


@pytest.mark.parametrize("name", COUNTED)
def test_a_step_of_svi_is_a_few_launches_and_waits_only_at_the_end_of_a_window(name, device):
    view, _ = view_of(name)
    here, there = started(view), started(on(view))
    found, expected = ([float(run.take_step()) for _ in range(3)] for run in (there, here))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    device.clear()
    there.advance()
    assert device.launches.total() <= 20 * svi.WINDOW  # one of a step is the graph that was captured
    assert device.syncs.total() <= 3


def test_a_graph_of_a_step_holds_all_of_it(device):
    run = started(on(view_of("davidson+position_bias+reliability")[0]))
    example = run.guide.noise(4, run.generator), *run.parameters
    graph = traced(run._gradients, example)
    assert graph != run._gradients
    device.clear()
    graph(*example)
    assert device.launches.total() > 100
    assert not device.syncs


# --- fits


@pytest.fixture(scope="module")
def data():
    return simulate.population(6, 5, 150, seed=2, tie_strength=0.8, position_bias=0.3, reliability_sd=0.4)[0]


FITS = [
    ("davidson", "mle"),
    ("davidson", "map"),
    ("davidson", "laplace"),
    ("davidson", "variational"),
    ("bradley_terry", "ep"),
    ("davidson+position_bias+reliability", "laplace"),
    ("bradley_terry", "svi"),
    pytest.param("annotator_types(k=2)+davidson", "laplace", marks=pytest.mark.slow),
    pytest.param("annotator_types(k=2)+davidson", "svi", marks=pytest.mark.slow),
    pytest.param("rao_kupper+lapse", "svi", marks=pytest.mark.slow),
]
QUICK = {"draws": 100, "progress": False, "max_steps": 100, "restarts": 1}


@pytest.mark.parametrize(("program", "method"), FITS)
def test_a_fit_on_the_device_is_that_on_the_cpu(program, method, data):
    data = data.without_ties() if program == "bradley_terry" else data
    here = prefdensity.fit(program, data, method=method, device="cpu", **QUICK)
    with Device():
        there = prefdensity.fit(program, data, method=method, device="cuda", **QUICK)
    assert (here.status.device, there.status.device) == ("cpu", "cuda")
    assert there.status.method == here.status.method == method
    for name, draws in here.draws.items():  # generators of this device give the numbers of those of the CPU
        np.testing.assert_allclose(there.draws[name], draws, rtol=1e-6, atol=1e-6)


def test_a_table_that_does_not_fit_passes_through(data):
    asked = QUICK | {"method": "svi", "max_steps": 100}
    whole = prefdensity.fit("davidson", data, device="cpu", **asked)
    with Device(free=40_000):
        parts = prefdensity.fit("davidson", data, device="cuda", **asked)
    np.testing.assert_allclose(parts.draws["utility"], whole.draws["utility"], atol=1e-6)


def test_what_all_parts_of_a_table_read_goes_to_the_device_once(device):
    view, _ = view_of("linear+davidson")
    streamed, z = Streamed(view, "cuda", 3), vectors(view, 2, scale=0.5)
    device.clear()
    found = streamed.value_and_slope(z)
    assert device.syncs.total() == 3  # z goes there, value and slope come back: what a part has of its own is pinned
    for one, other in zip(found, view.value_and_slope(z), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_what_torch_keeps_for_other_tensors_is_room(device):
    before = devices.room("cuda")
    device.reserved = device.free - 1  # a fit before this one took it, and gave it back
    assert devices.room("cuda") == before


def test_what_the_device_has_no_room_for_is_told(data, monkeypatch):
    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 79 GiB")

    monkeypatch.setattr(View, "log_joint", full)
    told = r"too small for this fit \(CUDA out of memory. Tried to allocate 2.00 GiB\); use device='cpu'"
    with Device(), pytest.raises(FitError, match=told):
        prefdensity.fit("davidson", data, device="cuda", **QUICK)


def test_a_checkpoint_is_that_of_a_device(data, tmp_path, monkeypatch):
    asked = QUICK | {"method": "svi", "checkpoint": tmp_path / "fit.npz"}

    def stop(run, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(svi.Run, "_end_stage", stop)
        assert prefdensity.fit("davidson", data, device="cpu", **asked | {"max_steps": 1000}).status.interrupted
    with Device(), pytest.raises(FitError, match="belongs to another fit .*device"):
        prefdensity.fit("davidson", data, device="cuda", **asked)


@pytest.mark.parametrize(("cells", "place"), [(9, "cuda"), (10, "cpu")])
def test_a_device_is_taken_for_many_distinct_comparisons(cells, place, device, monkeypatch):
    view, _ = view_of("bradley_terry", rows=200)  # far fewer of them are distinct
    assert len(view.cells) == 10
    monkeypatch.setattr(devices, "_GPU_CELLS", cells)
    assert devices.device_for("auto", len(view.cells)) == place


def test_passes_on_a_device_are_larger(device):
    view, _ = view_of("bradley_terry")
    many = torch.zeros(1 + 1_000_000 // view.work, view.dimension, dtype=view.dtype)
    assert len(view.chunks(many)) == 2
    assert len(on(view).chunks(many.to("cuda"))) == 1


# --- several devices, and none


REFUSED = {
    "cuda:1": "the last CUDA device here is 'cuda:0'",
    "cudas": "is unknown",
    "cuda:x": "is unknown",
    "mps": "is",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_device_that_is_not_there_is_named(name, device):
    with pytest.raises(FitError, match=f"device='{name}'.* {REFUSED[name]}"):
        devices.require_device(name)
    devices.require_device("cuda:0")


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_a_default_device_is_not_guessed_at(place, data, device):
    said = "torch's default device is 'cuda:0'.* call torch.set_default_device.'cpu'"
    with torch.device("cuda:0"), pytest.raises(PrefDensityError, match=said):
        prefdensity.fit("davidson", data, device=place, **QUICK)


def test_what_is_drawn_on_a_device_hangs_on_its_seed_and_leaves_its_generator_alone(device):
    view, _ = view_of("davidson")
    there, before = on(view), device.default.get_state()
    one, other = (prior_draws(there, 3, seed=4) for _ in range(2))
    assert torch.equal(one.cpu(), other.cpu())
    assert torch.equal(device.default.get_state(), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_accelerator_is_named():
    with pytest.raises(FitError, match="torch finds no CUDA device"):
        prefdensity.fit("bradley_terry", prefdensity.read("example:baseball"), device="cuda")
