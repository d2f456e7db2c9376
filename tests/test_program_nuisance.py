"""Programs of judged units as nuisances of preference-calibrated estimates and designs."""

import numpy as np
import pytest

from prefdensity.judged.fit import fit_judge
from prefdensity.judged.simulate import JudgedWorld, buy
from prefdensity.pcal import (
    GaussianNuisance,
    LinearRegression,
    MovedNuisance,
    ProgramNuisance,
    Quantile,
    pcal,
    pcal_design,
)
from prefdensity.pcal.allocation import draw

LINEAR = LinearRegression(intercept=False)
PROGRAM = "gaussian+distance+lapse"


@pytest.fixture(scope="module")
def world():
    return JudgedWorld.draw(0, "logistic")


@pytest.fixture(scope="module")
def judged(world):
    full = world.units(3000, 5)
    p = np.tile([0.25, 0.7], (len(full), 1))
    return buy(full, *p.T, draw(p, 6) + 1)


@pytest.mark.slow
def test_a_program_that_knows_the_judge_shortens_intervals(judged):
    program = pcal(judged, LINEAR, ProgramNuisance(PROGRAM), folds=3)
    labels = pcal(judged, LINEAR, calibration="none")
    closed = pcal(judged, LINEAR, GaussianNuisance())
    assert (program.standard_error < labels.standard_error).all()
    assert program.standard_error.sum() <= 1.02 * closed.standard_error.sum()
    multiplier = program.diagnostics().set_index("quantity")["value"]["multiplier of preferences"]
    assert multiplier == pytest.approx(1, abs=0.25)


def test_one_fit_serves_every_functional(world, judged):
    fitted = ProgramNuisance(fit_judge(PROGRAM, world.units(800, 1), method="laplace", draws=100))
    for functional in (LINEAR, Quantile((0.3, 0.7))):
        found = pcal(judged, functional, fitted)
        assert (found.standard_error < pcal(judged, functional, calibration="none").standard_error).all()


@pytest.mark.slow
def test_a_fit_of_the_pilot_is_moved_to_every_fold(world, judged):
    # the posterior modes are those of a fit to the table itself, so the estimates are too, as far as draws are many
    moved = pcal(judged, LINEAR, MovedNuisance(fit_judge(PROGRAM, world.units(800, 1), method="laplace", draws=400)))
    fitted = pcal(judged, LINEAR, ProgramNuisance(PROGRAM, draws=400))
    np.testing.assert_allclose(moved.theta, fitted.theta, atol=0.05 * fitted.standard_error.min())
    np.testing.assert_allclose(moved.standard_error, fitted.standard_error, rtol=0.01)


@pytest.mark.slow
def test_a_program_plans_on_average_and_for_the_worst_draw(world):
    pilot = world.units(600, 1)
    program = ProgramNuisance(PROGRAM)
    common = {"budget": 3.0, "functional": LINEAR, "criterion": "x1", "nuisance": program, "folds": 3}
    p1, p2 = pcal_design(pilot, **common).probabilities(pilot)
    assert (9 * p1 + p2).mean() == pytest.approx(3.0, rel=1e-12)
    assert (p1 < p2).any()
    worst, _ = pcal_design(pilot, robust="worst", **common).probabilities(pilot)
    assert np.ptp(worst) > 0
