"""Simulation-based calibration: ranks of the truth among posterior draws are uniform (Talts et al. 2018)."""

import numpy as np
import pytest
import torch
from scipy import stats
from test_recovery import design, judged

import prefdensity
from prefdensity.inference.view import View
from prefdensity.running import environment

PROGRAMS = ["bradley_terry", "davidson", "position_bias", "lapse", "reliability"]
REPLICATES, DRAWS, BINS = 300, 199, 20
FALSE_ALARM = 1e-3  # over all programs and quantities together


def prior_draw(program, data, seed):
    """Site values from the program's own prior."""
    from dataclasses import replace

    view = View(program, replace(data, outcome=np.zeros(len(data), np.int8)).cells(program.outcomes, program.needs))
    with environment(torch.float64, seed=seed):
        values, _ = view.values(view.prior(1, seed=seed))
    return {name: values[name].reshape(site.batch + site.event).numpy() for name, site in view.sites.items()}


def quantities(sites):
    """What reports show, free of gauge: contrasts of utilities, scalars, and one annotator."""
    u = sites["utility"]
    out = {"u0 - u1": u[..., 0] - u[..., 1], "u2 - mean": u[..., 2] - u.mean(-1)}
    for name in ("tie_strength", "position_bias", "lapse", "reliability_spread"):
        if name in sites:
            out[name] = sites[name]
    if "reliability_offset" in sites:
        out["reliability of p0"] = sites["reliability_spread"] * sites["reliability_offset"][..., 0]
    return {name: np.asarray(value) for name, value in out.items()}


def ranks(name, replicate):
    program = prefdensity.load_program(name)
    data = design(120, people=6, items=5, seed=replicate)
    truth = prior_draw(program, data, seed=10_000 + replicate)
    post = prefdensity.fit(name, judged(name, data, truth, seed=20_000 + replicate), draws=DRAWS)
    drawn, exact = quantities(post.draws), quantities(truth)
    return {key: int((drawn[key] < exact[key]).sum()) for key in exact}, post.status


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_ranks_of_the_truth_are_uniform(name, capsys):
    found = [ranks(name, replicate) for replicate in range(REPLICATES)]
    good = np.mean([status.k_hat < 0.7 for _, status in found])
    lines = [f"\n{name}: k-hat below .7 in {good:.0%} of fits"]
    p_values = []
    for key in found[0][0]:
        rank = np.array([each[key] for each, _ in found])
        counts = np.bincount(rank * BINS // (DRAWS + 1), minlength=BINS)
        p_values.append(stats.chisquare(counts).pvalue)
        lines.append(f"{key} p = {p_values[-1]:.3f}")
    with capsys.disabled():
        print("; ".join(lines))
    quantities_in_all = 2 * 5 + 5
    assert min(p_values) > FALSE_ALARM / quantities_in_all
