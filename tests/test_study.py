"""The study of wrong judge models: its oracle, its kernel, and the lessons it must show."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.judged.simulate import JudgedWorld, TrueJudge, buy
from prefdensity.judged.units import A, B
from prefdensity.pcal.study import CALIBRATIONS, TRUTHS, estimate, judge_study, oracle
from prefdensity.reporting import study_plots


@pytest.fixture(scope="module")
def small():
    return judge_study(
        truths=("noise_free", "contrarian_40"), nuisances=("oracle", "gaussian+noise_free", "linear", "useless"),
        replicates=80, pilots=2, units=2000, seed=3, progress=False,
    ).table.set_index(["truth", "design", "nuisance", "calibration"]).sort_index()  # fmt: skip


def test_the_oracle_of_a_noise_free_judge_is_the_cut_normal():
    world = JudgedWorld.draw(1)
    units = world.units(300, 2)
    before, after = oracle(world, TrueJudge(), units)
    mean, sd = world.label_law(units)
    middle = (units.outputs.mean(1) - mean) / sd
    upper = mean + sd * np.exp(stats.norm.logpdf(middle) - stats.norm.logsf(middle))
    lower = mean - sd * np.exp(stats.norm.logpdf(middle) - stats.norm.logcdf(middle))
    first_is_above = units.outputs[:, 0] > units.outputs[:, 1]
    assert before == pytest.approx(mean)
    assert after[:, A] == pytest.approx(np.where(first_is_above, upper, lower), abs=1e-7)
    assert after[:, B] == pytest.approx(np.where(first_is_above, lower, upper), abs=1e-7)


def test_the_oracle_is_the_regression_of_labels():
    # E[(Y - E[Y | x, w, v]) h(x, w, v)] = 0 for any h: z-scores of three, each beyond 4 once in 15,000
    world = JudgedWorld.draw(1, TRUTHS["two_types"])
    units = world.units(40_000, 5)
    _, after = oracle(world, world.judge, units)
    error = units.label - after[np.arange(len(units)), units.verdict]
    for h in (np.ones(len(units)), units.verdict - 0.5, np.sign(np.diff(units.outputs)[:, 0]) * (units.verdict - 0.5)):
        moment = error * h
        assert abs(moment.mean()) < 4 * moment.std() / len(units) ** 0.5


def test_all_labels_leave_nothing_to_calibrate():
    units = JudgedWorld.draw(1).units(500, 2)
    found = estimate(buy(units, 1.0, 1.0, np.ones(500, int)), 1.0, 1.0, [(units.label, units.label)])
    ols = np.linalg.lstsq(units.covariates, units.label, rcond=None)[0]
    for how in CALIBRATIONS:
        assert found[how][0] == pytest.approx(ols, abs=1e-10)
        assert found[how][1] == pytest.approx(found["label_only"][1])


def test_intervals_are_valid_whatever_is_assumed(small):
    # 48 cells that share replicates; beyond 4 standard errors of .9 once in 16,000 for one cell
    assert (np.abs(small["coverage"] - 0.9) < 4 * (0.9 * 0.1 / 80) ** 0.5 + 0.01).all()
    assert (small["bias"].abs() < 4 * small["bias_se"]).all()


@pytest.mark.slow
def test_intervals_are_valid_where_outputs_are_asymmetric_and_judges_uneven():
    """Output 2 is 5 too high; a judge says the contrary, is sharper on some units, tires over the table."""
    found = judge_study(
        truths=("anti_informative", "easier", "tiring"), nuisances=("oracle", "linear"), replicates=80, pilots=2,
        units=2000, shift=5.0, seed=4, progress=False,
    ).table  # fmt: skip
    assert (np.abs(found["coverage"] - 0.9) < 4 * (0.9 * 0.1 / 80) ** 0.5 + 0.01).all()
    assert (found["bias"].abs() < 4 * found["bias_se"]).all()
    # whoever says the contrary tells as much as whoever does not
    length = (
        found.set_index(["truth", "design", "calibration", "nuisance"])["length"]
        .sort_index()
        .loc["anti_informative", "knows"]
    )
    assert (length["split"] < 0.95 * length["label_only"]).all()


def test_the_oracle_of_two_who_err_together_is_the_regression_of_labels():
    """Over all that two may say: z-scores of four, each beyond 4 once in 15,000."""
    world = JudgedWorld.draw(1, TrueJudge(sharpness=0.5, echo=0.5), shift=4.0)
    units = world.units(40_000, 6)
    first, second = units.votes.T
    agree = np.mean(first == second)
    p = world.judge.probability(units.label, units.outputs)
    assert agree == pytest.approx(np.mean(0.5 + 0.5 * (p**2 + (1 - p) ** 2)), abs=0.01)
    _, after = oracle(world, world.judge, units)
    error = units.label - after[np.arange(len(units)), 2 * first + second]
    side = np.sign(np.diff(units.outputs)[:, 0])
    for h in (np.ones(len(units)), side * (first - 0.5), side * (second - 0.5), first == second):
        moment = error * h
        assert abs(moment.mean()) < 4 * moment.std() / len(units) ** 0.5


@pytest.mark.slow
def test_intervals_are_valid_where_two_judges_err_together():
    """A program takes them for independent: it believes them too much, and one multiplier mends that."""
    found = judge_study(
        truths=("correlated",), nuisances=("oracle", "gaussian+distance", "linear"), replicates=80, pilots=2,
        units=2000, shift=5.0, seed=5, progress=False,
    ).table  # fmt: skip
    assert (np.abs(found["coverage"] - 0.9) < 4 * (0.9 * 0.1 / 80) ** 0.5 + 0.01).all()
    assert (found["bias"].abs() < 4 * found["bias_se"]).all()
    length = found.set_index(["design", "nuisance", "calibration"])["length"].sort_index().loc["knows"]
    assert (length.xs("scalar", level=1) < length.xs("label_only", level=1)).all()


def test_one_multiplier_for_each_part_protects_where_none_does_harm(small):
    alone = small.xs("label_only", level="calibration")["length"]
    split = small.xs("split", level="calibration")["length"]
    assert (split <= alone * 1.005).all()
    wrong = small.loc["contrarian_40", "assumes_noise_free", "gaussian+noise_free"]["length"]
    assert wrong["identity"] > 1.03 * wrong["label_only"]
    assert wrong["split"] < 0.99 * wrong["label_only"]


def test_a_design_that_knows_the_judge_beats_one_that_does_not(small):
    known, unknown = (small.loc["contrarian_40", design]["length"] for design in ("knows", "assumes_noise_free"))
    assert (known < 0.95 * unknown).all()
    p = small.loc["contrarian_40", "knows"]
    assert np.allclose(p["p1"], p["p2"])  # labels only
    right = small.loc["noise_free", "knows"]["length"]
    assert right["oracle", "split"] < 0.75 * right["oracle", "label_only"]


def test_the_study_is_drawn_and_refuses_what_it_does_not_know():
    found = judge_study(
        truths=("logistic",), nuisances=("oracle", "useless"), replicates=4, pilots=1, units=500, progress=False
    )
    for picture in (study_plots.lengths(found.table), study_plots.coverage(found.table)):
        assert picture.axes[0].get_title(loc="left") == "logistic"
    with pytest.raises(DataError, match="truths='liar' is unknown; there are noise_free"):
        judge_study(truths=("liar",))
    with pytest.raises(DataError, match="oracle must be among"):
        judge_study(nuisances=("linear",))
    with pytest.raises(DataError, match="at least two for each of 5 pilots"):
        judge_study(replicates=5)


def test_the_command_writes_a_table_and_pictures(tmp_path):
    few = "--truths logistic --nuisances oracle,useless --replicates 2 --pilots 1"
    done = CliRunner().invoke(
        app, ["judge-study", *few.split(), "--units", "300", "--out", str(tmp_path / "study"), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert written == ["coverage.svg", "lengths.svg", "report.html", "table.csv"]
    assert len(pd.read_csv(tmp_path / "study" / "table.csv")) == 2 * 2 * len(CALIBRATIONS)
