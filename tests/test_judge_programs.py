"""Programs of judged units against quadrature, closed forms, their limits, and truths they were simulated from."""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit

from prefdensity import Comparisons, fit
from prefdensity.errors import DataError, FitError, ProgramError
from prefdensity.inference import view as views
from prefdensity.inference.climber import Climber
from prefdensity.inference.mode import first_guess, prior_draws
from prefdensity.inference.reported import sites_at
from prefdensity.inference.view import View
from prefdensity.judged.expectations import JudgeFit, load_judge
from prefdensity.judged.fit import MOST_LABELLED, _chosen, fit_judge, refit
from prefdensity.judged.scale import Scale
from prefdensity.judged.units import Judged
from prefdensity.pcal.allocation import allocate, allocate_worst_case
from prefdensity.programs.judged_cells import label_grid
from prefdensity.programs.listing import judge_names, names
from prefdensity.programs.loading import load_program
from prefdensity.programs.shelf import find

GAUSSIAN = ("gaussian+distance", "gaussian+distance+lapse+position_bias", "gaussian+squared_distance+probit+lapse")


PROGRAMS = (*GAUSSIAN, "gaussian+distance+davidson", "gaussian+distance+rao_kupper", "student+distance+lapse",
            "gaussian+noise_free+lapse", "ordinal+distance+davidson", "binary+distance+lapse")  # fmt: skip


JUDGES = ("gaussian+distance+reliability", "gaussian+distance+position_bias(by='annotator')+lapse(by='annotator')",
          "gaussian+distance+crowd_bt")  # fmt: skip


def units_of(n=60, labelled=0.5, seed=0, sharpness=3.0, lapse=0.0, bias=0.0, ties=False, judges=1, kind="real"):
    """Simulate units in raw units: labels around 5 with sd 2, two outputs near them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    truth = x @ [0.8, -0.5] + rng.normal(size=n)
    outputs = 5 + 2 * (x @ [0.8, -0.5])[:, None] + rng.normal(size=(n, 2)) * [1.0, 1.5]
    label = 5 + 2 * truth
    if kind == "levels":
        label, outputs = np.clip(np.round(label / 2), 1, 4), outputs / 2
    if kind == "two":
        label, outputs = (label > 5) * 1.0, expit(outputs - 5)
    sd = label.std()
    judged, judge = np.repeat(np.arange(n), judges), np.tile(np.arange(judges), n)
    gap = np.abs(outputs[:, 1] - label) - np.abs(outputs[:, 0] - label)
    p = (1 - lapse) * expit(sharpness * gap[judged] / sd + bias) + lapse / 2
    verdict = (rng.random(len(judged)) > p).astype(int)
    if ties:
        verdict[np.abs(gap[judged]) < 0.2 * sd] = 2
    seen = rng.random(n) < labelled
    seen[:12] = True
    return Judged(
        covariates=x, outputs=outputs, label=np.where(seen, label, np.nan), judged=judged, judge=judge, verdict=verdict,
        features=("x1", "x2", "w1", "w2"), judges=tuple(f"judge{j}" for j in range(judges)),
        label_probability=np.ones(n), preference_probability=np.ones(n),
    )  # fmt: skip


def data_for(program, **options):
    kind = "levels" if program.startswith("ordinal") else "two" if program.startswith("binary") else "real"
    ties = "davidson" in program or "rao_kupper" in program
    return units_of(kind=kind, ties=ties, judges=3 if program in JUDGES else 1, **options)


def view_of(name, units):
    program, scale = load_program(name), Scale.of(units)
    return View(program, scale.cells(program, units)), scale


def vectors(view, count, seed=1):
    """Return plausible vectors: draws from the prior, drawn in towards its middle."""
    return 0.5 * first_guess(view) + 0.5 * prior_draws(view, count, seed) * 0.6


class Twin:
    """The generative story of a program in plain NumPy, unit by unit; the label's integral by adaptive quadrature."""

    def __init__(self, name, scale, units, site):
        self.name, self.scale, self.units, self.site = name, scale, units, site
        self.design = scale.design(units)
        self.outputs = (units.outputs - scale.label_mean) / scale.label_sd
        self.label = (units.label - scale.label_mean) / scale.label_sd

    def label_p(self, i, y):
        s = self.site
        mean = s.get("intercept", 0.0) + self.design[i] @ s["coefficient"]
        levels = np.array(self.scale.levels)
        if self.name.startswith("ordinal"):
            k = np.abs(levels - y).argmin()
            cut = np.cumsum(s["level_share"])
            high = 1.0 if k == len(levels) - 1 else expit(np.log(cut[k] / (1 - cut[k])) - mean)
            low = 0.0 if k == 0 else expit(np.log(cut[k - 1] / (1 - cut[k - 1])) - mean)
            return high - low
        if self.name.startswith("binary"):
            return expit(mean) if y == levels[1] else 1 - expit(mean)
        if self.name.startswith("student"):
            return stats.t.pdf(y, s["degrees_of_freedom"], mean, s["label_sd"])
        return stats.norm.pdf(y, mean, s["label_sd"])

    def verdict_p(self, i, j, v, y):
        s, (w1, w2) = self.site, self.outputs[i]
        if "squared" in self.name:
            margin = s["sharpness"] * ((w2 - y) ** 2 - (w1 - y) ** 2)
        elif "noise_free" in self.name:
            margin = 36 * np.sign(abs(w2 - y) - abs(w1 - y))
        else:
            margin = s["sharpness"] * (abs(w2 - y) - abs(w1 - y))
        margin = margin * (s["annotator_reliability"][j] if "annotator_reliability" in s else 1.0)
        if "annotator_position_bias" in s:
            margin += s["annotator_position_bias"][j]
        else:
            margin += s.get("position_bias", 0.0)
        if "davidson" in self.name:
            p = np.array([np.exp(margin / 2), np.exp(-margin / 2), s["tie_strength"]])
            p /= p.sum()
        elif "rao_kupper" in self.name:
            t = np.log1p(s["tie_excess"])
            a, b = expit(margin - t), expit(-margin - t)
            p = np.array([a, b, 1 - a - b])
        elif "probit" in self.name:
            p = stats.norm.cdf(np.array([margin, -margin]) / np.sqrt(2))
        else:
            p = expit(np.array([margin, -margin]))
        if "crowd_bt" in self.name:
            p = s["accuracy"][j] * p + (1 - s["accuracy"][j]) * p[::-1]
        lapse = s["annotator_lapse"][j] if "annotator_lapse" in s else s.get("lapse", 0.0)
        return (1 - lapse) * p[v] + lapse / len(p)

    def told(self, i, y):
        mine = self.units.judged == i
        pairs = zip(self.units.judge[mine], self.units.verdict[mine], strict=True)
        return np.prod([self.verdict_p(i, j, v, y) for j, v in pairs])

    def integral(self, i, function):
        if self.name.startswith(("ordinal", "binary")):
            return sum(self.label_p(i, y) * function(y) for y in self.scale.levels)
        w1, w2 = sorted(self.outputs[i])
        breaks = [-2e4, -300, -20, w1, (w1 + w2) / 2, w2, 20, 300, 2e4]
        return sum(
            integrate.quad(lambda y: self.label_p(i, y) * function(y), a, b, limit=400, epsabs=1e-13, epsrel=1e-12)[0]
            for a, b in zip(breaks, breaks[1:], strict=False)
        )

    def log_likelihood(self):
        total = 0.0
        for i, y in enumerate(self.label):
            if np.isnan(y):
                total += np.log(self.integral(i, lambda t, i=i: self.told(i, t)))
            else:
                total += np.log(self.label_p(i, y) * self.told(i, y))
        return total


def test_steps_on_many_points_are_those_of_the_density(monkeypatch):
    """From a hundred thousand points on steps are a graph and comparisons in single precision; units stay as exact."""
    units = units_of(40, ties=False)
    program = load_program("gaussian+distance+lapse")
    view = View(program, Scale.of(units).cells(program, units))
    z = torch.linspace(-0.5, 0.5, 3 * view.dimension, dtype=view.dtype).reshape(3, -1).requires_grad_()
    expected = view.log_joint(z)
    (slope,) = torch.autograd.grad(expected.sum(), z)
    monkeypatch.setattr(views, "_SINGLE", 1)
    monkeypatch.setattr(views, "_TRACED", 1)
    large = View(program, view.cells)
    for _ in range(2):  # the second time by the graph
        value, found = large.value_and_slope(z.detach())
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(found, slope, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(large.log_joint_of(z.detach()), expected.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [*PROGRAMS, *JUDGES])
def test_log_density_equals_the_numpy_twin(name):
    units = data_for(name, n=16, labelled=0.0, seed=3)
    view, scale = view_of(name, units)
    z = vectors(view, 2)
    values, _ = view.constrain(z)
    ours = view.log_parts(z)[1].numpy()
    for draw in range(2):
        site = {key: value[draw].numpy() for key, value in values.items()}
        assert ours[draw] == pytest.approx(Twin(name, scale, units, site).log_likelihood(), rel=1e-7, abs=1e-6)


@pytest.mark.parametrize("name", [*PROGRAMS, *JUDGES])
def test_a_batch_equals_separate_densities_with_finite_derivatives(name):
    view, _ = view_of(name, data_for(name, n=30))
    z = vectors(view, 4).requires_grad_()
    together = view.log_joint(z)
    alone = torch.cat([view.log_joint(row[None]) for row in z])
    assert torch.allclose(together, alone, rtol=1e-12)
    (gradient,) = torch.autograd.grad(together.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad((gradient * torch.linspace(-1, 1, z.shape[1])).sum(), z)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_the_grid_integrates_labels_and_judges():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=300)
    w1, w2 = centre + rng.normal(size=300) * 3, centre + rng.normal(size=300) * 30
    at, weight = label_grid(w1, w2, centre + 0.1, 1.1, 24)
    fine, fine_weight = label_grid(w1, w2, centre + 0.1, 1.1, 200)
    for law in (stats.norm, stats.t(4)):
        assert (law.pdf(at - centre[:, None]) * weight).sum(1) == pytest.approx(np.ones(300), abs=1e-9)
        for sharpness in (0.1, 3.0, 100.0):

            def share(at, weight, sharpness=sharpness, law=law):
                closer = np.abs(w2[:, None] - at) - np.abs(w1[:, None] - at)
                return (law.pdf(at - centre[:, None]) * weight * expit(sharpness * closer + 0.5)).sum(1)

            assert share(at, weight) == pytest.approx(share(fine, fine_weight), abs=1e-8)


@pytest.mark.slow
def test_truths_are_recovered():
    units = units_of(6000, labelled=0.3, seed=5, sharpness=5.0, lapse=0.2, bias=0.5)
    fit = fit_judge("gaussian+distance+lapse+position_bias", units, hidden=500, draws=200, progress=False)
    assert fit.status.trusted
    table = fit.summary().set_index("parameter")
    for name, truth in (("sharpness", 5.0), ("position_bias", 0.5), ("lapse", 0.2)):
        assert abs(table.loc[name, "mean"] - truth) < 3.5 * table.loc[name, "sd"]
        assert table.loc[name, "sd"] < {"sharpness": 1.0, "position_bias": 0.2, "lapse": 0.06}[name]


def test_units_with_verdicts_only_sharpen_the_judge():
    units = units_of(1200, labelled=0.1, seed=6, sharpness=2.0)
    with_all = fit_judge("gaussian+distance", units, hidden=1200, draws=300, progress=False)
    seen = ~np.isnan(units.label)
    alone = fit_judge("gaussian+distance", units.take(seen), draws=300, progress=False)
    table, without = (fit.summary().set_index("parameter") for fit in (with_all, alone))
    ratio = table.loc["sharpness", "sd_labelled"] / table.loc["sharpness", "sd"]
    measured = without.loc["sharpness", "sd"] / table.loc["sharpness", "sd"]
    assert measured > 1.15
    assert ratio == pytest.approx(measured, rel=0.25)  # the curvature differs between the two modes
    assert without.loc["sharpness", "sd_labelled"] == without.loc["sharpness", "sd"]


@pytest.mark.slow
def test_a_refit_is_the_fit_of_the_fold():
    units = units_of(1500, labelled=0.5, seed=7)
    fold = units.take(np.arange(1500) % 5 != 0)
    whole = fit_judge("gaussian+distance+lapse", units, hidden=300, draws=200, progress=False)
    moved = refit(whole, fold, hidden=300)
    used = _chosen(fold, MOST_LABELLED, 300, 0)  # the units that the refit takes
    view = View(whole.program, whole.scale.cells(whole.program, used))
    top, _ = sites_at(view, Climber(view).climb(first_guess(view)).z[None])
    for name, (value,) in top.items():
        assert moved.posterior.point[name] == pytest.approx(value, abs=0.05 * float(whole.posterior.draws[name].std()))


@pytest.mark.slow
def test_ranks_of_truths_are_uniform():
    # 100 tables drawn from the prior; a chi-square p-value below 1e-4 is a false alarm once in 5000 runs of two sites
    design = units_of(300, labelled=0.4, seed=8)
    program, rng = load_program("gaussian+distance"), np.random.default_rng(9)
    scale = replace(Scale.of(design), label_mean=0.0, label_sd=1.0)
    z = prior_draws(View(program, scale.cells(program, design)), 100, 11)
    ranks = {"sharpness": [], "label_sd": []}
    for row in range(100):
        values, _ = View(program, scale.cells(program, design)).constrain(z[[row]])
        site = {name: value[0].numpy() for name, value in values.items()}
        mean = site["intercept"] + scale.design(design) @ site["coefficient"]
        y = mean + site["label_sd"] * rng.normal(size=300)
        closer = np.abs(design.outputs[:, 1] - y) - np.abs(design.outputs[:, 0] - y)
        verdict = (rng.random(300) > expit(site["sharpness"] * closer)).astype(int)
        units = replace(design, label=np.where(np.isnan(design.label), np.nan, y), verdict=verdict)
        placed = Scale.of(units)  # where the labels are, in units in which the prior is not moved by the data
        slope = np.array(placed.slope) * placed.label_sd + np.eye(len(placed.slope))[0] * placed.label_mean
        own = replace(scale, slope=tuple(slope), spread=placed.spread * placed.label_sd)
        fit = fit_judge(program, units, scale=own, method="laplace", draws=199, progress=False)
        for name in ranks:
            ranks[name].append(int((fit.posterior.draws[name] < site[name]).sum()))
    for name, found in ranks.items():
        counts = np.bincount(np.array(found) * 10 // 200, minlength=10)
        assert stats.chisquare(counts).pvalue > 1e-4, (name, counts)


def test_a_fit_survives_its_file(tmp_path: Path):
    units = units_of(80)
    fit = fit_judge("gaussian+distance+lapse", units, draws=100, progress=False)
    back = load_judge(fit.save(tmp_path / "judge.nc"))
    assert isinstance(back, JudgeFit)
    assert back.scale == fit.scale
    assert back.summary().equals(fit.summary())
    assert np.array_equal(back.expect(units, np.square)[0], fit.expect(units, np.square)[0])


def test_what_does_not_suit_is_refused():
    units = units_of(60)
    with pytest.raises(ProgramError, match="davidson is a program of comparisons"):
        fit_judge("davidson", units)
    with pytest.raises(ProgramError, match="ordinal"):
        load_program("gaussian+ordinal")
    with pytest.raises(ProgramError, match="for judged units and annotator_types for comparisons"):
        load_program("gaussian+annotator_types")
    with pytest.raises(ProgramError, match="needs labels of two levels"):
        fit_judge("binary+distance", units)
    with pytest.raises(ProgramError, match="judged a tie"):
        fit_judge("gaussian+distance", units_of(60, ties=True))
    with pytest.raises(DataError, match="10 or more"):
        fit_judge("gaussian", replace(units, label=np.full(60, np.nan)))
    with pytest.raises(DataError, match="labels that differ"):
        fit_judge("gaussian", replace(units, label=np.where(np.isnan(units.label), np.nan, 3.0)))
    with pytest.raises(FitError, match="no method 'em'"):
        fit_judge("gaussian", units, method="em")


def test_a_fit_to_comparisons_refuses_a_program_of_judged_units():
    data = Comparisons.from_frame(pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "outcome": ["a", "b"]}))
    with pytest.raises(ProgramError, match="fit_judge"):
        fit("gaussian+distance", data, progress=False)


@pytest.mark.parametrize("name", judge_names())
def test_a_judge_file_tells_its_story(name):
    found = find(name)
    for word in ("Reference:", "Cannot express:", "Identification:"):
        assert word in found.doc
    for site in found.meanings:
        assert f"`{site}`" in found.doc
    assert len(inspect.getsource(inspect.getmodule(found.function)).splitlines()) < 60
    assert name not in names()


def test_draws_of_the_variance_drop_make_a_design_robust():
    units = units_of(120, labelled=0.5, seed=4)
    fit = fit_judge("gaussian+distance", units, method="laplace", draws=100, progress=False)
    drop = fit.variance_drop(units, average=12, nodes=16)  # eight leave up to .002
    assert drop.explained.shape == drop.left.shape == (12, 120)
    alone = fit.posterior.draws["label_sd"][np.unique(np.linspace(0, 99, 12).astype(int))] * fit.scale.label_sd
    assert (drop.explained + drop.left) == pytest.approx(np.repeat(alone[:, None] ** 2, 120, 1), rel=1e-3)
    drops, prices = np.stack([drop.left, drop.explained], -1), [9.0, 1.0]
    p, worst, bound = allocate_worst_case(drops, prices, 3.0)
    assert bound <= worst * (1 + 1e-9)
    assert worst <= (drops / allocate(drops.mean(0), prices, 3.0)).sum(2).mean(1).max() * (1 + 1e-9)
    assert (p @ prices).mean() == pytest.approx(3.0)


def test_steps_of_svi_leave_judged_units_in_double_precision(monkeypatch):
    view, _ = view_of("gaussian+distance", data_for("gaussian+distance"))
    z = vectors(view, 3)
    value, slope = view.value_and_slope(z)
    monkeypatch.setattr("prefdensity.inference.view._SINGLE", 0)
    assert all(map(torch.equal, view.value_and_slope(z), (value, slope)))
    torch.testing.assert_close(value, view.log_joint(z), rtol=1e-12, atol=0)
