"""The same posterior on a GPU as on the CPU. These need an accelerator and skip without one."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import prefdensity
from prefdensity import density
from prefdensity.data import simulate
from prefdensity.inference import devices

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
    # torch says so the first time that a thread of gradients multiplies matrices, and goes on
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS:UserWarning"),
]


@pytest.fixture(scope="module")
def data():
    return simulate.population(8, 12, 1500, seed=2, tie_strength=0.8, position_bias=0.3, reliability_sd=0.4)[0]


PROGRAMS = ("davidson", "davidson+position_bias+reliability", "annotator_types(k=2)+davidson", "rao_kupper+lapse")


# no Gaussian by steps holds the last one: weights, with k-hat above .7, do not say how far draws are off
FITS = [*((each, "laplace") for each in PROGRAMS), *((each, "svi") for each in PROGRAMS[:-1])]


@pytest.mark.parametrize(("program", "method"), FITS)
def test_a_gpu_finds_the_posterior_of_the_cpu(data, program, method):
    cpu = prefdensity.fit(program, data, method=method, device="cpu")
    gpu = prefdensity.fit(program, data, method=method, device="cuda")
    assert gpu.status.device == "cuda"
    ours, theirs = gpu.summary().sort_values("item"), cpu.summary().sort_values("item")
    # means of so many draws, worth so many as weights leave, differ by that in standard deviations; 5 of it are allowed
    noise = np.hypot(*(min(each.status.effective, 1000) ** -0.5 for each in (cpu, gpu)))
    gap = np.abs(ours["mean"].to_numpy() - theirs["mean"].to_numpy()) / theirs["sd"].to_numpy()
    assert gap.max() < 5 * noise
    # the bound is that of the guide that served best, which may be another one; the evidence is one number
    assert abs(gpu.status.log_evidence - cpu.status.log_evidence) < 5 * noise


def test_mle_on_a_gpu_is_the_mle(data):
    cpu = prefdensity.fit("davidson", data, method="mle", device="cpu")
    gpu = prefdensity.fit("davidson", data, method="mle", device="cuda")
    np.testing.assert_allclose(gpu.point["tie_strength"], cpu.point["tie_strength"], rtol=1e-8)


def test_a_table_that_does_not_fit_passes_through_in_parts(data, monkeypatch):
    program = "annotator_types(k=2)+davidson"
    whole = prefdensity.fit(program, data, method="svi", device="cuda")
    monkeypatch.setattr(devices, "room", lambda place: 100_000)
    parts = prefdensity.fit(program, data, method="svi", device="cuda")
    gap = np.abs(parts.draws["utility"].mean(0) - whole.draws["utility"].mean(0)) / whole.draws["utility"].std(0)
    assert gap.max() < 5 * np.sqrt(2 / 1000)


def test_what_is_asked_of_a_fit_on_a_gpu_is_what_the_cpu_makes_of_its_draws(data):
    there = prefdensity.fit("davidson+position_bias+reliability", data, method="laplace", device="cuda", draws=200)
    here = replace(there, status=replace(there.status, device="cpu"))
    assert (there.device, here.device) == ("cuda", "cpu")
    asked = {"pairs": [("item1", "item2"), ("item4", "item3")], "annotator": there.annotators[0], "first": "a"}
    pd.testing.assert_frame_equal(there.predict(**asked), here.predict(**asked), rtol=1e-9)
    for unit in ("comparison", "pair", "annotator"):
        found, expected = (prefdensity.loo(each, data, unit=unit).elpd_i for each in (there, here))
        np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(density.of(there).log_p, density.of(here).log_p, rtol=1e-9)
    found, expected = (prefdensity.check(each, data, replicates=20).steps for each in (there, here))
    np.testing.assert_allclose(found["gain"], expected["gain"], rtol=1e-5)


def test_a_batch_of_fits_on_a_gpu_is_that_on_the_cpu(data):
    counts = prefdensity.bootstrap(data, 20, seed=1)
    cpu, gpu = (prefdensity.fit_many("davidson", data, counts, device=each, progress=False) for each in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.z, cpu.z, atol=1e-5)
    np.testing.assert_allclose(gpu.log_evidence, cpu.log_evidence, atol=1e-4)
