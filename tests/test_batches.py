"""Steps on some of the comparisons: unbiased, started from some, resumed with the same batches, and refused clearly."""

import numpy as np
import pytest
import torch
from contract import suited, vectors, view_of
from device import Device

import prefdensity
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import FitError
from prefdensity.inference import stochastic
from prefdensity.inference.batches import Batches
from prefdensity.inference.fitting import fit_again
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of

# A layer of each kind: items, features, a network, ties and annotators, choice sets, hidden types.
PROGRAMS = ("bradley_terry", "linear", "neural", "davidson+reliability", "best_worst", "annotator_types(k=2)+davidson")


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_batches_of_a_pass_average_to_the_whole(name):
    """Shares are unlike where units do not divide evenly; each batch counts by its share."""
    view = view_of(name)[0]
    batches = Batches(view, max(1, len(view.cells) // 4), seed=3, place="cpu")
    z = vectors(view, 2, scale=0.5)
    exact, gradient = view.value_and_slope(z)
    turns, units = batches.turns, batches._units
    assert turns > 1
    share = [units * (k + 1) // turns - units * k // turns for k in range(turns)]
    found = [batches.value_and_slope(z) for _ in share]
    value = sum(each * n / units for (each, _), n in zip(found, share, strict=True))
    slope = sum(each * n / units for (_, each), n in zip(found, share, strict=True))
    torch.testing.assert_close(value, exact, rtol=1e-12, atol=1e-12 * float(exact.abs().max()))
    torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-10 * float(gradient.abs().max()))
    assert not torch.allclose(found[0][0], found[1][0])  # they are other comparisons


def answers(rows, features, seed):
    """Pairs of answers that are met once, judged by features."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2 * rows, features))
    weight = rng.standard_normal(features) / features**0.5
    a, b = np.arange(rows), rows + np.arange(rows)
    lost = (rng.random(rows) > 1 / (1 + np.exp(-(x[a] - x[b]) @ weight))).astype(np.int8)
    return Comparisons(
        items=[str(k) for k in range(2 * rows)], item_a=a, item_b=b, outcome=lost, item_features=x,
        feature_names=[f"f{k}" for k in range(features)], count=np.ones(rows, np.int64),
    )  # fmt: skip


def test_a_step_reads_the_items_of_its_batch_alone():
    view = View(prefdensity.load_program("linear"), cells_of(answers(300, 4, 0), ("a", "b"), ("features",)))
    batches = Batches(view, 30, seed=0, place="cpu")
    cells = batches._world(torch.arange(30))
    assert cells.n_items == 60
    assert cells.features.shape == (60, 4)
    whole = View(prefdensity.load_program("bradley_terry"), view.cells)
    assert Batches(whole, 30, seed=0, place="cpu")._world(torch.arange(30)).n_items == 600  # utilities are theirs


def test_a_fit_in_batches_is_the_posterior():
    data = answers(1000, 8, 1)
    exact = prefdensity.fit("linear", data, method="laplace", draws=4000)
    found = prefdensity.fit("linear", data, method="svi", batch=100, max_steps=3000, draws=4000)
    assert found.status.method == "svi"
    assert found.status.settings["batch"] == 100
    sd = exact.draws["weight"].std(0)
    away = np.abs(found.draws["weight"].mean(0) - exact.draws["weight"].mean(0)) / sd
    # draws of both have errors of .016 each, steps of a tenth of the table leave less than .1 at their last rates
    assert away.max() < 0.2
    np.testing.assert_allclose(found.draws["weight"].std(0), sd, rtol=0.12)
    assert found.status.k_hat < 0.7


def test_a_fit_in_batches_resumes_with_the_same_batches(tmp_path, monkeypatch):
    data, path = answers(200, 3, 2), tmp_path / "state.npz"

    def fit(file):
        return prefdensity.fit("linear", data, method="svi", batch=70, max_steps=300, seed=4, checkpoint=file)

    whole = fit(None)
    keep = stochastic.Checkpoint.keep

    def interrupted(self, run, guide):
        keep(self, run, guide)
        if run.step == 200:
            raise KeyboardInterrupt

    monkeypatch.setattr(stochastic.Checkpoint, "keep", interrupted)
    assert "interrupted after 200 steps" in fit(path).status.message
    monkeypatch.setattr(stochastic.Checkpoint, "keep", keep)
    resumed = fit(path)
    again = fit_again(whole, data.take(np.arange(150)), draws=100)
    assert (again.status.settings["batch"], again.status.steps) == (70, 300)
    np.testing.assert_array_equal(resumed.draws["weight"], whole.draws["weight"])
    monkeypatch.setattr(stochastic.Checkpoint, "keep", interrupted)
    fit(path)
    with pytest.raises(FitError, match="batch"):  # a state of other batches
        prefdensity.fit("linear", data, method="svi", batch=60, max_steps=300, seed=4, checkpoint=path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"batch": 0, "method": "svi"}, "batch=0 cannot be; use a whole number of 1"),
        ({"batch": 100, "method": "laplace"}, "batch=100 is for method='svi'"),
        ({"batch": 100}, "not for 'auto'"),
        ({"batch": 100, "method": "svi", "guide": "full"}, "guide='full' needs whole tables"),
    ],
)
def test_batches_are_refused_where_nothing_reads_them(asked, said):
    with pytest.raises(FitError, match=said):
        prefdensity.fit("bradley_terry", simulate.population(5, 3, 100, seed=0)[0], **asked)


def test_ratings_have_no_batches():
    with pytest.raises(FitError, match="uses ratings"):
        prefdensity.fit("ratings", suited(prefdensity.load_program("ratings")), method="svi", batch=10)


@pytest.mark.parametrize("held", ["cpu", "cuda"])
def test_batches_of_a_device_are_those_of_the_processor(held):
    """Of a table that is there, and of one that waits in host memory."""
    view = View(prefdensity.load_program("linear"), cells_of(answers(200, 3, 5), ("a", "b"), ("features",)))
    z = vectors(view, 2, scale=0.5)
    value, slope = Batches(view, 40, seed=1, place="cpu").value_and_slope(z)
    with Device():
        there = View(view.program, view.cells.to(held))
        found, steep = Batches(there, 40, seed=1, place="cuda").value_and_slope(z.to(held))
        found, steep = found.cpu(), steep.cpu()
    torch.testing.assert_close(found, value, rtol=1e-12, atol=0)
    torch.testing.assert_close(steep, slope, rtol=1e-10, atol=1e-10)
