"""Simulation-based calibration of every program: ranks of truths are uniform, or the report flags the guide.

Talts et al. (2018), arXiv 1804.06788. Truths come from the prior, so weak data and nearly flat scales are among them.
"""

import numpy as np
import pytest
from contract import suited

import prefdensity
from prefdensity.posterior.status import approximates

FALSE_ALARM = 1e-3  # of all programs and quantities together
QUANTITIES = 10  # of one program, at most

# Programs whose Laplace approximation holds the posterior, with the number of tables to simulate; the hierarchical
# ones take longest.
HELD = dict.fromkeys(
    (
        "adjacent_categories", "best_worst", "bradley_terry", "covariate", "crowd_bt", "davidson", "dpo",
        "flips", "geometric", "gp", "graded", "items", "length_normalised", "linear", "logit", "luce_choice",
        "plackett_luce", "position_bias", "probit", "rao_kupper", "student_items", "tempered", "thurstone",
        "utility_scale",
    ),
    200,
) | dict.fromkeys(
    (
        "drift", "feature_tastes", "neural", "tastes", "annotator_types", "lapse", "ratings", "reliability",
        "strengths", "ties",
    ),
    100,
)  # fmt: skip
# A Gaussian at one mode stands for none of these: axes turn, weak scales are funnels, types merge.
FLAGGED = (
    "annotator_factors",
    "comparison_types",
    "dirichlet_types",
    "feature_factors",
    "ideal_points",
    "intransitive",
    "thurstone_case3",
)


def calibration(name, replicates):
    program = prefdensity.load_program(name)
    return prefdensity.sbc(program, suited(program, rows=300, n_annotators=6, counts=False), replicates=replicates)


def test_every_program_is_held_or_flagged():
    assert sorted([*HELD, *FLAGGED]) == prefdensity.names()


@pytest.mark.slow
@pytest.mark.parametrize("name", HELD)
def test_ranks_of_the_truth_are_uniform(name, capsys):
    report = calibration(name, HELD[name])
    with capsys.disabled():
        p = report.table.set_index("quantity")["p_value"].round(3).to_dict()
        print(f"\n{name}: k-hat below .7 in {report.usable:.0%} of {HELD[name]} fits, p {p}")
    assert report.usable > 0.5
    assert not report.flagged
    assert len(report.table) <= QUANTITIES
    assert report.table["p_value"].min() > FALSE_ALARM / (len(HELD) * QUANTITIES)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAGGED)
def test_a_guide_that_cannot_hold_a_posterior_is_flagged(name, capsys):
    report = calibration(name, 40)
    with capsys.disabled():
        print(f"\n{name}: k-hat below .7 in {report.usable:.0%} of 40 fits")
    assert report.usable < 0.5
    assert "do not judge the program" in str(report)


@pytest.mark.slow
def test_the_report_flags_a_guide_in_words():
    report = calibration("intransitive", 20)
    assert report.usable < 0.5
    assert "The guide does not hold the posterior" in str(report)
    data = suited(prefdensity.load_program("intransitive"), rows=300, n_annotators=6, counts=False)
    posts = [prefdensity.fit("intransitive", data, method="laplace", seed=seed) for seed in range(3)]
    for post in posts:
        doubtful = not approximates(post.status.k_hat, post.status.log_weight_sd, post.status.proposals)
        assert post.status.trusted != doubtful
        assert ("must NOT be trusted" in " ".join(post.quality())) == doubtful
    assert not all(post.status.trusted for post in posts)


@pytest.mark.parametrize("name", ["linear", pytest.param("graded", marks=pytest.mark.slow)])
def test_truths_of_other_kinds_of_data_are_ranked(name):
    report = calibration(name, 20)
    assert report.ranks.shape[0] == 20
    assert not report.flagged
    assert report.table["p_value"].min() > FALSE_ALARM / (len(HELD) * QUANTITIES)
    assert np.isfinite(report.table["mean_rank"]).all()
