"""Ladders from the shell: a pilot that is kept, a next round, nested logs, systems; what the report of a plan says."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from prefdensity.cli.main import app

RUNG, PRICES = ["--rung", "judge=said"], ["--price", "judge=0.2", "--price", "label=5"]


def units(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.gamma(3, 0.6, n)
    return pd.DataFrame({"said": y + 0.5 * rng.normal(size=n), "label": y})


def run(*words):
    done = CliRunner().invoke(app, ["pcal", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def bought(frame, orders):
    """Return what comes back of orders."""
    frame = frame.assign(**{name: orders[name] for name in orders.columns[1:]})
    frame.loc[orders["buy"] == "nothing", "said"] = np.nan
    frame.loc[orders["buy"] != "label", "label"] = np.nan
    return frame


def test_rounds_from_pilot_to_estimate(tmp_path):
    pilot = units(60, 0)
    pilot.to_csv(tmp_path / "pilot.csv", index=False)
    words = [*RUNG, *PRICES, "--money", "200"]
    run("plan", tmp_path / "pilot.csv", *words, "--units", 500, "--keep", "--out", tmp_path / "plan")
    second = bought(units(500, 1), pd.read_csv(tmp_path / "plan" / "units.csv"))
    pilot = pilot.assign(judge_probability=1.0, label_probability=1.0)
    collected = pd.concat([pilot.assign(round=1), second.assign(round=2)])
    collected.to_csv(tmp_path / "collected.csv", index=False)
    said = run(
        "update", tmp_path / "collected.csv", *words, "--units", 400, "--stage", "round", "--out", tmp_path / "next"
    )
    assert "If what is bought beside labels told nothing" in said
    more = pd.read_csv(tmp_path / "next" / "shopping.csv")
    assert more["cost"].sum() == pytest.approx(200)
    assert pd.read_csv(tmp_path / "next" / "ways.csv")["labels"].min() > collected["label"].notna().sum() * 0.99
    third = bought(units(400, 2), pd.read_csv(tmp_path / "next" / "units.csv"))
    pd.concat([collected, third.assign(round=3)]).to_csv(tmp_path / "all.csv", index=False)
    error = {}
    for how in ([], ["--pool"]):
        run("measure", tmp_path / "all.csv", *RUNG, "--stage", "round", *how, "--out", tmp_path / f"found{len(how)}")
        row = pd.read_csv(tmp_path / f"found{len(how)}" / "estimate.csv").iloc[0]
        assert row["estimate"] == pytest.approx(1.8, abs=4 * row["se"])
        error[len(how)] = row["se"]
    assert error[1] < error[0]
    assert not (tmp_path / "found1" / "anytime.csv").exists()


def test_a_round_without_labels_is_part_of_one_purchase(tmp_path):
    pilot = units(80, 6).assign(round=1, judge_probability=1.0, label_probability=1.0)
    second = units(300, 7).assign(round=2, judge_probability=0.5, label_probability=1e-9, label=np.nan)
    second["said"] = second["said"].where(np.arange(300) % 2 == 0)
    pd.concat([pilot, second]).to_csv(tmp_path / "all.csv", index=False)
    words = ["measure", tmp_path / "all.csv", *RUNG, "--stage", "round"]
    run(*words, "--pool", "--out", tmp_path / "found")
    row = pd.read_csv(tmp_path / "found" / "estimate.csv").iloc[0]
    assert row["se"] < pilot["label"].std() / 80**0.5
    done = CliRunner().invoke(app, ["pcal", *map(str, words)])
    assert "0 units of stage 1 have a label" in done.output


def test_the_report_of_a_plan_can_be_shown(tmp_path):
    """Allocation, what the same money gives otherwise, prices, worse judges, and what all this rests on."""
    units(200, 3).to_csv(tmp_path / "pilot.csv", index=False)
    run(
        "plan",
        tmp_path / "pilot.csv",
        *RUNG,
        *PRICES,
        "--money",
        400,
        "--units",
        2000,
        "--keep",
        "--out",
        tmp_path / "plan",
    )
    page = (tmp_path / "plan" / "report.html").read_text()
    said = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    ways = pd.read_csv(tmp_path / "plan" / "ways.csv").set_index("way")
    for row in pd.read_csv(tmp_path / "plan" / "shopping.csv").to_dict("records"):
        assert f"{row['units']:,.0f} {row['what']} for {row['cost']:,.4g}" in said
    for way in ("labels only", "labels and free measures", "ladder", "ladder, judges useless"):
        assert way in said
        assert f"{ways.loc[way, 'half']:.3g}" in said
    for heading in ("Shopping list", "At equal cost", "Prices", "If the judges are worse", "What it rests on"):
        assert heading in said
    assert "Buy by lot, in the numbers of the list" in said
    assert "What was bought before stays in the estimate" in said
    assert (pd.read_csv(tmp_path / "plan" / "worse.csv")["half"].diff().dropna() > 0).all()


def test_a_nested_log_of_an_evaluation_is_a_pilot(tmp_path):
    """Samples as evaluations log them, one JSON object a line: scores in objects, the domain of a task in words."""
    frame = units(120, 4)
    rows = [
        {
            "doc_id": k,
            "doc": {"domain": ("law", "code")[k % 2]},
            "scores": {"judge": {"value": a}, "human": {"value": b}},
        }
        for k, (a, b) in enumerate(zip(frame["said"], frame["label"], strict=True))
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said = run(
        "plan", tmp_path / "samples.jsonl", "--rung", "judge=scores.judge.value", *PRICES,
        "--label", "scores.human.value", "--free", "doc.domain", "--money", 300, "--units", 1000,
        "--out", tmp_path / "plan",
    )  # fmt: skip
    assert "judge at 0.2 breaks even at" in said


def test_systems_are_ranked(tmp_path):
    rng = np.random.default_rng(5)
    one = rng.integers(3, size=300)
    other = (one + rng.integers(1, 3, size=300)) % 3
    won = rng.random(300) < 1 / (1 + np.exp(other - one))
    frame = pd.DataFrame({"a": np.array(list("xyz"))[one], "b": np.array(list("xyz"))[other], "label": won * 1.0})
    frame.assign(label_probability=1.0).to_csv(tmp_path / "arena.csv", index=False)
    run("measure", tmp_path / "arena.csv", "--between", "a,b", "--out", tmp_path / "found")
    table = pd.read_csv(tmp_path / "found" / "ranks.csv")
    assert list(table["system"]) == ["z", "y", "x"]
    done = CliRunner().invoke(app, ["pcal", "measure", str(tmp_path / "arena.csv"), "--between", "a"])
    assert "--between a must be FIRST,SECOND, two columns" in done.output
    done = CliRunner().invoke(app, ["pcal", "measure", str(tmp_path / "arena.csv"), "--pool"])
    assert "--pool needs --stage" in done.output
