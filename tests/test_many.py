"""Batched fits equal separate fits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import prefdensity
from prefdensity import DataError, FitError, bootstrap, fit_many
from prefdensity.data.simulate import population
from prefdensity.inference.laplace import laplace
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of


def data_of(ties=None, seed=1):
    data, _ = population(7, 5, 300, seed=seed, tie_strength=ties, position_bias=0.3)
    rng = np.random.default_rng(seed)
    return replace(
        data,
        feature_names=("f", "g"),
        item_features=rng.normal(size=(7, 2)),
        covariate_names=("c",),
        covariates=rng.normal(size=(len(data), 1)).round(1),
    )


@pytest.mark.parametrize(
    ("name", "ties"),
    [
        ("bradley_terry", None),
        ("thurstone", None),
        ("davidson+position_bias", 0.6),
        ("covariate+rao_kupper", 0.6),
        ("linear", None),
        ("gp+davidson", 0.6),
    ],
)
def test_a_batch_is_that_many_laplace_fits(name, ties):
    data = data_of(ties)
    counts = bootstrap(data, 4, seed=2)
    many = fit_many(name, data, counts, progress=False)
    assert many.converged.all()
    program = load_program(name)
    for k in range(len(counts)):
        one = replace(data, count=counts[k]).take(counts[k] > 0)
        alone = laplace(View(program, cells_of(one, program.outcomes, program.needs)))
        # a single climb ends within 1e-6 nats of the top
        np.testing.assert_allclose(many.z[k], alone.mode.z, atol=1e-5)
        _, frame = alone.main
        covariance = frame @ frame.T
        np.testing.assert_allclose(many.covariance[k], covariance, atol=1e-5 * float(covariance.abs().max()))
        # two grids of hyperparameters leave out points of different places, all below 1e-5 of the density
        assert many.log_evidence[k] == pytest.approx(alone.log_evidence, abs=3e-5)


def test_leaving_annotators_out_is_counting_them_zero_times():
    data = data_of()
    out = np.arange(len(data.annotators))
    counts = np.where(data.annotator == out[:, None], 0.0, data.count)
    many = fit_many("bradley_terry", data, counts, progress=False)
    for k in out:
        kept = prefdensity.fit("bradley_terry", data.take(data.annotator != k), method="map").point["utility"]
        np.testing.assert_allclose(many.point["utility"][k], kept, atol=1e-6)


def test_utilities_far_from_the_start_are_reached():
    data = data_of()
    lopsided = np.where(data.outcome == 0, 1000.0, 0.0)[None]  # whoever was shown first won every time
    many = fit_many("position_bias", data, lopsided, progress=False)
    program = load_program("position_bias")
    view = View(program, cells_of(replace(data, count=lopsided[0]).take(data.outcome == 0), ("a", "b"), program.needs))
    z = torch.tensor(many.z[:1], requires_grad=True)
    (slope,) = torch.autograd.grad(view.log_joint(z).sum(), z)
    assert many.converged.all()
    assert slope[:, view.sites["utility"].at].abs().max() < 1e-3


def test_bootstrap_of_annotators_takes_whole_people():
    data = data_of()
    counts = bootstrap(data, 50, by="annotator", seed=3)
    for j in range(len(data.annotators)):
        rows = counts[:, data.annotator == j] / data.count[data.annotator == j]
        assert (rows == rows[:, :1]).all()
    shares = bootstrap(data, 2000, seed=4)
    assert (shares.sum(1) == data.count.sum()).all()
    assert abs(shares.mean(0) - data.count).max() < 5 * np.sqrt(data.count.max() / 2000)


def test_the_summary_is_of_the_replicates():
    data = data_of()
    many = fit_many("bradley_terry", data, bootstrap(data, 60, seed=5), progress=False)
    table = many.summary(level=0.8)
    u = many.utilities()
    best = data.items.index(table["item"].iloc[0])
    assert table["mean"].iloc[0] == pytest.approx(u[:, best].mean())
    assert table["lower"].iloc[0] == pytest.approx(np.quantile(u[:, best], 0.1))
    assert list(table["mean"]) == sorted(table["mean"], reverse=True)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.ones(10), r"counts has shape \(10,\); it must be \[fit, row\] with 300 rows"),
        (np.ones((2, 3)), "it must be"),
        (-np.ones((1, 300)), "must be 0 or more"),
        (np.zeros((1, 300)), "fit 0 of counts has no judgement"),
    ],
)
def test_bad_counts_are_refused_in_words(counts, message):
    with pytest.raises(DataError, match=message):
        fit_many("bradley_terry", data_of(), counts)


@pytest.mark.parametrize("name", ["crowd_bt", "annotator_types", "intransitive"])
def test_programs_with_several_modes_are_refused(name):
    data = data_of()
    with pytest.raises(FitError, match="call fit for each table"):
        fit_many(name, data, data.count[None])


def test_bad_bootstraps_are_refused():
    data = data_of()
    with pytest.raises(DataError, match="by='item' is unknown"):
        bootstrap(data, 3, by="item")
    with pytest.raises(DataError, match="needs to know who judged"):
        bootstrap(replace(data, annotator=None, annotators=()), 3, by="annotator")
