"""Worlds of one's own: any estimator beside ours on the same draws, from Python and from the shell."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.pcal import LadderWorld, world_study
from prefdensity.pcal.world_study import WorldStudy
from prefdensity.reporting.study_report import write_world_study_report

WORLD = """
import numpy as np
import pandas as pd

truth, ladder, prices = 1.0, {"judge": "said"}, {"judge": 0.5, "label": 10}


def draw(rng, n):
    y = 1 + rng.normal(size=n)
    return pd.DataFrame({"label": y, "said": y + 0.4 * rng.normal(size=n)})


def pilot_alone(pilot, units, money, level, seed):
    y = pilot.label
    return y.mean(), y.mean() - 0.3, y.mean() + 0.3


estimators = {"pilot alone": pilot_alone}
"""


def draw(rng, n):
    y = rng.normal(size=n)
    return pd.DataFrame({"label": y, "said": y + 0.4 * rng.normal(size=n)})


def test_estimators_are_measured_on_the_same_draws():
    def everything(pilot, units, money, level, seed):
        y = np.concatenate([pilot.label, units.label])
        return y.mean(), y.mean() - 1.645 / len(y) ** 0.5, y.mean() + 1.645 / len(y) ** 0.5

    world = LadderWorld(draw, 0.0, {"judge": "said"}, {"judge": 0.5, "label": 10.0}, estimators={"all": everything})
    found = world_study(world, pilot=50, money=1000.0, units=1000, replicates=25, seed=3)
    table = found.to_frame().set_index("estimator")
    assert list(table.index) == ["labels only", "labels and free measures", "ladder", "ladder by rounds", "all"]
    assert table.loc["labels only", "ratio"] == 1
    assert table.loc["ladder", "ratio"] < table.loc["ladder by rounds", "ratio"] < 0.9
    assert table.loc["labels only", "length"] == pytest.approx(2 * 1.66 / 150**0.5, rel=0.05)
    assert table.loc["all", "length"] == pytest.approx(2 * 1.645 / 1050**0.5)
    assert table.loc["all", "rmse"] < table.loc["ladder", "rmse"]
    assert (table["coverage"] > 0.7).all()
    assert (table["failed"] == 0).all()
    again = world_study(world, pilot=50, money=1000.0, units=1000, replicates=25, seed=3).to_frame()
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), found.to_frame().drop(columns="seconds"))


def test_a_file_is_a_world(tmp_path):
    (tmp_path / "world.py").write_text(WORLD)
    words = [
        "pcal",
        "study",
        "--world",
        str(tmp_path / "world.py"),
        "--pilot",
        "40",
        "--money",
        "400",
        "--units",
        "500",
    ]
    done = CliRunner().invoke(app, [*words, "--replicates", "4", "--quiet", "--out", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "found" / "table.csv").set_index("estimator")
    assert table.loc["pilot alone", "length"] == pytest.approx(0.6)
    assert table.loc["ladder", "ratio"] < 1
    assert "covers" in (tmp_path / "found" / "report.html").read_text(encoding="utf-8")


def test_the_report_recommends_the_shortest_that_keeps_its_word(tmp_path):
    rows = [("labels only", 2.0, 0.9, 0), ("ladder", 1.0, 0.88, 0), ("bold", 0.5, 0.6, 3)]
    table = pd.DataFrame(rows, columns=["estimator", "length", "coverage", "failed"]).assign(length_se=0.01)
    study = WorldStudy(table, {"replicates": 100, "level": 0.9})

    def said(found):
        page = write_world_study_report(found, tmp_path / "page.html", "a world").read_text(encoding="utf-8")
        return " ".join(re.sub("<[^>]+>", " ", page.split("</style>")[1]).split())

    first = said(study)
    assert "ladder has the shortest intervals: 1.00 on average, 50% of those of labels only" in first
    assert "bold covers 0.600 where it says 0.9" in first
    assert "bold gave no interval in 3 draws" in first
    assert "ladder covers" not in first  # .88 of 100 draws is no sign of anything
    none = said(WorldStudy(table.assign(coverage=0.5), study.settings))
    assert "No estimator covers as often as it says" in none
    assert "labels only covers 0.500" in none


def test_what_is_no_world_is_refused(tmp_path):
    (tmp_path / "half.py").write_text("truth = 1\n")
    with pytest.raises(DataError, match="does not define draw; a world needs draw, truth, ladder, prices"):
        LadderWorld.read(tmp_path / "half.py")
    with pytest.raises(DataError, match="there is no file"):
        LadderWorld.read(tmp_path / "none.py")
    given = {"judge": "said"}, {"judge": 0.5, "label": 10.0}
    with pytest.raises(DataError, match="an estimator of the world is called 'ladder'"):
        world_study(LadderWorld(draw, 0.0, *given, estimators={"ladder": print}), money=1.0, units=10)
    with pytest.raises(DataError, match="replicates must be a whole number of at least 2, not 1"):
        world_study(LadderWorld(draw, 0.0, *given), money=100.0, units=10, replicates=1)
    short = LadderWorld(lambda rng, n: draw(rng, n - 1), 0.0, *given)
    with pytest.raises(DataError, match="draw returned 99 units where 100 were asked for"):
        world_study(short, money=100.0, units=10)
