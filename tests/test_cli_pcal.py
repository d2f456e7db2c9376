"""`prefdensity pcal design` and `pcal estimate` from files to files."""

import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from prefdensity.cli import main
from prefdensity.judged.simulate import JudgedWorld
from prefdensity.judged.units import Judged
from prefdensity.pcal import LinearRegression, pcal

COVARIATES = ["x1", "x2", "x3", "x4", "x5"]
READING = [*(word for name in COVARIATES for word in ("--covariate", name)), "--preference", "judge", "--no-intercept"]


def run(*arguments):
    return CliRunner().invoke(main.app, ["pcal", *map(str, arguments)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pcal")
    world = JudgedWorld.draw(0)
    unknown = ["label_probability", "preference_probability"]
    world.units(1000, 1).to_frame().drop(columns=unknown).to_csv(folder / "pilot.csv", index=False)
    truth = world.units(1500, 2).to_frame().drop(columns=unknown)
    truth.drop(columns=["judge", "label"]).to_csv(folder / "rest.csv", index=False)
    answer = run(
        "design", folder / "pilot.csv", *READING, "--budget", 3, "--cost", 10, "--units", folder / "rest.csv",
        "--criterion", "x1", "--out", folder / "design",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    units = pd.read_csv(folder / "design" / "units.csv", keep_default_na=False, na_values=[""])
    units["judge"] = truth["judge"].where(units["buy"] != "nothing")
    units["label"] = truth["label"].where(units["buy"] == "label")
    units.to_csv(folder / "collected.csv", index=False)
    return folder, answer.output


def test_a_design_says_who_is_bought_at_the_budget(files):
    folder, said = files
    units = pd.read_csv(folder / "design" / "units.csv")
    cost = 9 * units["label_probability"] + units["preference_probability"]
    assert cost.mean() == pytest.approx(3.0, rel=1e-9)
    spent = 10 * (units["buy"] == "label").sum() + (units["buy"] == "preference").sum()
    assert spent == pytest.approx(4500, abs=25)
    assert "at 3 a unit" in said
    assert "90% interval of x1 from 1500 units" in said
    curve = pd.read_csv(folder / "design" / "curve.csv")
    assert (np.diff(curve["length"]) < 0).all()
    for picture in ("allocation.svg", "curve.svg"):
        assert (folder / "design" / picture).read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_the_estimate_is_that_of_the_library(files):
    folder, _ = files
    answer = run("estimate", folder / "collected.csv", *READING, "--cost", 10, "--budget", 3, "--out", folder / "found")
    assert answer.exit_code == 0, answer.output
    judged = Judged.from_frame(
        pd.read_csv(folder / "collected.csv"), covariates=COVARIATES, outputs=["w1", "w2"], preference="judge",
        label_probability="label_probability", preference_probability="preference_probability", cost=10,
    )  # fmt: skip
    expected = pcal(judged, LinearRegression(intercept=False))
    found = pd.read_csv(folder / "found" / "estimate.csv")
    pd.testing.assert_frame_equal(found, expected.summary(), rtol=1e-10)
    influence = pd.read_csv(folder / "found" / "influence.csv").to_numpy()
    np.testing.assert_allclose(np.sqrt((influence**2).sum(0)) / len(judged), found["se"], rtol=1e-8)
    diagnostics = pd.read_csv(folder / "found" / "diagnostics.csv").set_index("quantity")["value"]
    assert diagnostics["planned"] == pytest.approx(3.0)
    assert set(pd.read_csv(folder / "found" / "comparison.csv")["method"]) == {
        "labels only", "labels and unlabelled", "PCAL",
    }  # fmt: skip
    assert (folder / "found" / "comparison.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_the_reports_say_what_was_found(files):
    folder, _ = files
    pages = {name: (folder / name / "report.html").read_text(encoding="utf-8") for name in ("design", "found")}
    for text in pages.values():
        assert text.count("<script") == 1
        assert "http" not in re.sub(r'xmlns[:a-z]*="[^"]*"', "", text).replace("http://www.w3.org", "")
    assert "of 1,500 units" in pages["design"]
    assert pages["design"].count("<svg") == 2
    for heading in ("Intervals", "Purchases", "Diagnostics", "Calibration residuals"):
        assert f">{heading}</h2>" in pages["found"]
    ratio = pd.read_csv(folder / "found" / "comparison.csv").pivot(index="parameter", columns="method", values="se")
    assert f"{(ratio['PCAL'] / ratio['labels only']).min():.0%}" in pages["found"]
    worth = pd.read_csv(folder / "found" / "equal_cost.csv")["ratio"]
    lead = pages["found"].index(f"90% intervals are {worth.min():.0%} to {worth.max():.0%} as long as had the same")
    assert lead < pages["found"].index("as long as the labels alone")
    assert "Before you rely on this" not in pages["found"]


def test_a_judge_program_is_the_nuisance(files, tmp_path):
    folder, _ = files
    answer = run(
        "estimate", folder / "collected.csv", *READING, "--cost", 10, "--budget", 2.9, "--nuisance",
        "gaussian+distance", "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "units with a preference and no label add most to" in page
    assert "over the budget of 2.9" in page
    found, closed = (pd.read_csv(each / "estimate.csv") for each in (tmp_path / "out", folder / "found"))
    assert found["se"].sum() <= 1.02 * closed["se"].sum()


@pytest.mark.parametrize("target", ["mean", "quantile"])
def test_other_targets(files, tmp_path, target):
    folder, _ = files
    answer = run("estimate", folder / "collected.csv", *READING, "--target", target, "--out", tmp_path / "out")
    assert answer.exit_code == 0, answer.output
    assert len(pd.read_csv(tmp_path / "out" / "estimate.csv")) == 1


def test_overspending_is_a_warning(files, tmp_path):
    folder, _ = files
    answer = run("estimate", folder / "collected.csv", *READING, "--cost", 10, "--budget", 2, "--out", tmp_path / "out")
    assert answer.exit_code == 0
    assert "over the budget of 2" in answer.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["design", "pilot.csv", "--budget", "0", "--cost", "10"], "--budget 0.0 must be positive"),
        (["design", "pilot.csv", "--budget", "3", "--cost", "1"], "--cost 1.0 must exceed 1"),
        (["design", "pilot.csv", "--budget", "3", "--cost", "10", "--criterion", "age"], "--criterion age must be"),
        (["design", "collected.csv", "--budget", "3", "--cost", "10"], "no probabilities"),
        (["design", "nowhere.csv", "--budget", "3", "--cost", "10"], "no file"),
        (["estimate", "pilot.csv"], "no column 'label_probability'"),
        (["estimate", "collected.csv", "--target", "logistic"], "labels between 0 and 1"),
        (["estimate", "collected.csv", "--out", "pilot.csv"], "--out names a folder"),
    ],
)
def test_bad_input_is_one_sentence(files, monkeypatch, arguments, says):
    folder, _ = files
    monkeypatch.chdir(folder)
    answer = run(*arguments, *READING)
    assert answer.exit_code == 2
    assert says in answer.output
    assert len(answer.output.strip().splitlines()) == 1


def test_lost_labels_are_counted_and_weighed(files, tmp_path):
    folder, _ = files
    frame = pd.read_csv(folder / "collected.csv", keep_default_na=False, na_values=[""])
    lost = frame.index[frame["buy"] == "label"][::4]
    frame.loc[lost, "label"] = np.nan
    frame.to_csv(tmp_path / "lost.csv", index=False)
    words = ["estimate", tmp_path / "lost.csv", *READING, "--cost", 10]
    answer = run(*words, "--out", tmp_path / "plain")
    assert answer.exit_code == 0, answer.output
    said = f"{len(lost)} of {(frame['buy'] == 'label').sum()} labels that were asked for never came back"
    assert said in answer.output
    assert said in (tmp_path / "plain" / "report.html").read_text(encoding="utf-8")
    counts = pd.read_csv(tmp_path / "plain" / "purchases_counts.csv").set_index("level")
    assert counts.loc["label", "asked_for"] - counts.loc["label", "came_back"] == len(lost)
    weighed = run(*words, "--weigh-returns", "--out", tmp_path / "weighed")
    assert weighed.exit_code == 0, weighed.output
    assert "the weights repair loss" in weighed.output
    without = frame.drop(columns="buy")
    without.to_csv(tmp_path / "without.csv", index=False)
    refused = run("estimate", tmp_path / "without.csv", *READING, "--weigh-returns", "--out", tmp_path / "no")
    assert refused.exit_code == 2
    assert "does not say what was asked for" in refused.output


def test_judges_who_depend_on_the_purchase_are_refused_or_masked(files, tmp_path):
    folder, _ = files
    frame = pd.read_csv(folder / "collected.csv", keep_default_na=False, na_values=[""])
    frame["who"] = np.where(frame["buy"] == "label", "expert", np.where(frame.index % 2, "ann", "bob"))
    frame.to_csv(tmp_path / "who.csv", index=False)
    words = ["estimate", tmp_path / "who.csv", *READING, "--judge", "who", "--out", tmp_path / "out"]
    refused = run(*words)
    assert refused.exit_code == 2
    assert "'ann' judged 0% of the compared units with a label" in refused.output
    assert "--dependent-judges mask" in refused.output
    masked = run(*words, "--labeller", "expert", "--dependent-judges", "mask")
    assert masked.exit_code == 0, masked.output
    assert f"{(frame['buy'] == 'label').sum():,} verdicts of expert are set aside" in masked.output
    assert "verdicts of bob are set aside" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
