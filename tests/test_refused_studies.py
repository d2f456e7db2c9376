"""What no study, no purchase and no seed can be is refused in one sentence, before any work."""

import math

import numpy as np
import pandas as pd
import pytest
from contract import table
from typer.testing import CliRunner

import prefdensity
from prefdensity import DataError, density, reward, simulate
from prefdensity.cli.main import app
from prefdensity.pcal import LadderWorld, ladder_plan, world_study
from prefdensity.workers import each

DATA = table(("a", "b", "tie"), rows=60)
JUDGES = {
    "truths": "noise_free", "nuisances": "oracle", "replicates": 4, "pilots": 1, "units": 100, "pilot_units": 100,
    "progress": False,
}  # fmt: skip
RULES = {"rules": "eig", "budgets": (20, 40), "seeds": 2, "items_per_round": 30, "progress": False}


def draw(rng, n):
    y = rng.normal(size=n)
    return pd.DataFrame({"label": y, "said": y + rng.normal(size=n)})


def world(drawn=draw, **more):
    return LadderWorld(drawn, 0.0, {"judge": "said"}, {"judge": 1.0, "label": 8.0}, **more)


BOUGHT = {"world": world(), "pilot": 30, "money": 300.0, "units": 200, "replicates": 2, "progress": False}


@pytest.fixture(scope="module")
def post():
    return prefdensity.fit("davidson", DATA, method="laplace", draws=100)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"truths": ()}, "truths names none; there are noise_free"),
        ({"truths": "liar"}, "truths='liar' is unknown; there are noise_free"),
        ({"nuisances": ["oracle", "magic"]}, "nuisances='magic' is unknown"),
        ({"replicates": "x"}, "replicates must be a whole number of at least 2, not 'x'"),
        ({"replicates": 4.5}, "replicates must be a whole number"),
        ({"pilots": 0}, "pilots must be a whole number of at least 1"),
        ({"units": 1}, "units must be a whole number of at least 100"),
        ({"pilot_units": 3}, "pilot_units must be a whole number of at least 100"),
        ({"shift": math.nan}, "shift=nan must be finite"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"jobs": 0}, "jobs=0 must be a number of processes"),
    ],
)
def test_settings_of_a_study_of_judges(given, words):
    with pytest.raises(DataError, match=words):
        prefdensity.judge_study(**JUDGES | given)


def test_one_name_is_a_list_of_one():
    assert prefdensity.judge_study(**JUDGES).table["truth"].unique().tolist() == ["noise_free"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"budgets": 3}, "budgets=3 must be two or more ascending numbers of labels"),
        ({"budgets": (20, 20)}, "must be two or more ascending"),
        ({"budgets": (20.5, 40)}, "must be two or more ascending"),
        ({"seeds": 2.5}, "seeds must be a whole number of at least 2"),
        ({"items_per_round": 1}, "items_per_round must be a whole number of at least 2"),
        ({"draws": 0}, "draws must be a whole number of at least 8"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"rules": "magic"}, "rules='magic' is unknown; there are eig"),
    ],
)
def test_settings_of_a_study_of_rules(given, words):
    with pytest.raises(DataError, match=words):
        prefdensity.selection_study(**RULES | given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"world": 3}, "world must be a LadderWorld, and this is a int"),
        ({"replicates": 2.5}, "replicates must be a whole number of at least 2"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"world": world(lambda rng, n: 3)}, "draw must return a data frame of units, and returned a int"),
        (
            {"world": world(estimators={"mine": lambda *_: 3})},
            "estimator 'mine' returned 3; it must return",
        ),
    ],
)
def test_settings_of_a_study_of_a_world(given, words):
    with pytest.raises(DataError, match=words):
        world_study(**BOUGHT | given)


def test_a_study_of_raters_is_of_a_fit():
    with pytest.raises(DataError, match="a fit is needed, and this is a int"):
        prefdensity.rater_study(3)


def test_jobs_are_processes():
    for jobs in (0, 1.5, True):
        with pytest.raises(DataError, match="must be a number of processes"):
            list(each(abs, [(1,)], jobs))


@pytest.mark.parametrize("seed", [-1, "x", 0.5])
def test_seeds_are_whole_numbers(post, seed):
    for ask in (
        lambda: prefdensity.check(post, DATA, seed=seed),
        lambda: prefdensity.compare({"one": post, "two": post}, DATA, seed=seed),
        lambda: prefdensity.kfold("davidson", DATA, folds=2, unit="comparison", seed=seed),
        lambda: prefdensity.select(post, n=1, seed=seed),
        lambda: prefdensity.battle_design(post, 9, seed=seed),
        lambda: prefdensity.annotate(DATA, post, seed=seed),
        lambda: prefdensity.sbc("davidson", DATA, replicates=20, seed=seed),
        lambda: reward.compare_policies(post, DATA, seed=seed),
        lambda: simulate.population(5, 5, 50, seed=seed),
    ):
        with pytest.raises(DataError, match="seed must be a whole number of at least 0"):
            ask()


def test_a_name_is_no_fit():
    for ask in (
        prefdensity.differences,
        prefdensity.quasi_variances,
        density.of,
        lambda post: prefdensity.select(post, n=1),
        lambda post: prefdensity.battle_design(post, 9),
        lambda post: prefdensity.described(post, DATA, pd.DataFrame({"size": [1.0]})),
        lambda post: reward.rewards(post, DATA, pd.DataFrame({"size": [1.0]})),
    ):
        with pytest.raises(DataError, match="a fit is needed, and this is a str"):
            ask("davidson")


def test_a_pilot_whose_labels_are_all_alike_plans_nothing(tmp_path):
    frame = draw(np.random.default_rng(0), 60).assign(label=1.0)
    pilot = world(lambda rng, n: frame).units(np.random.default_rng(0), 60)
    with pytest.raises(DataError, match="the labels of the pilot do not vary, so nothing tells what any rung is worth"):
        ladder_plan(pilot, money=300.0, units=500)
    frame.to_csv(tmp_path / "pilot.csv", index=False)
    prices = ["--price", "judge=1", "--price", "label=8", "--money", "300", "--units", "500"]
    asked = ["pcal", "plan", str(tmp_path / "pilot.csv"), "--rung", "judge=said", *prices]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "do not vary" in done.stderr


def test_a_world_is_a_file_of_python(tmp_path):
    draw(np.random.default_rng(0), 9).to_csv(tmp_path / "world.csv")
    done = CliRunner().invoke(
        app, ["pcal", "study", "--world", str(tmp_path / "world.csv"), "--money", "9", "--units", "9"]
    )
    assert done.exit_code == 2
    assert "world.csv is no file of Python; its name must end in .py" in done.stderr
