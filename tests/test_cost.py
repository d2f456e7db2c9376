"""What a simpler program costs: stated by the fuller one, and true where the truth is known."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from benchmarks.diagnosis_worlds import ITEMS, PEOPLE, answered, asked, people_of, read, worths
from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.reporting import cost as costs


def swapped(rng):
    """Three categories in five share a ranking; the others have their own."""
    rows, u = asked(rng), worths(rng)
    own = np.where(np.arange(5)[:, None] < 3, u, np.stack([rng.permutation(u) for _ in range(5)]))
    category = rng.integers(5, size=len(rows))
    truth = own[category]
    rows = rows.assign(context=np.array(list("abcde"), object)[category])
    return read(answered(rng, rows, _margin(truth, rows)), context="context"), truth, "tastes(by='context')"


def aged(rng):
    """Age matters for half of the items."""
    rows, u = asked(rng), worths(rng)
    age = rng.integers(18, 80, PEOPLE)
    slope = rng.permutation(np.r_[0.6, 0.6, -0.6, -0.6, np.zeros(ITEMS - 4)])
    truth = (u + (age[:, None] - 49) / 18 * slope)[rows["who"]]
    known = people_of(PEOPLE, age=age)
    return read(answered(rng, rows, _margin(truth, rows)), attributes=known), truth, "tastes(on='annotator.age')"


def confounded(rng):
    """Good items are shown first, which by itself wins votes."""
    rows, u = asked(rng), worths(rng)
    truth = np.broadcast_to(u, (len(rows), ITEMS))
    first = np.where(rng.random(len(rows)) < expit(2 * _margin(truth, rows)), 1.0, -1.0)
    rows = rows.assign(first=np.where(first > 0, "a", "b"))
    return read(answered(rng, rows, _margin(truth, rows) + 0.8 * first), first="first"), truth, "position_bias"


def _margin(truth, rows):
    at = np.arange(len(rows))
    return truth[at, rows["a"]] - truth[at, rows["b"]]


def stated_and_true(world, seed):
    """Return cost [quantity] as stated, and by the truth."""
    data, truth, layer = world(np.random.default_rng([seed, 31]))
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=400, progress=False)
    report = prefdensity.cost(post, data, f"bradley_terry+{layer}")
    at = costs._situations(data, 0)
    real = truth[at] - truth[at].mean(-1, keepdims=True)
    pair = [costs._utilities(each, data, at) for each in (report.simpler, report.fuller)]
    scope = "own" if "own" in set(report.table["asked"]) else "all"
    stated = report.table[report.table["asked"] == scope].set_index("quantity")["cost"]
    true = {}
    for name, (act, loss) in costs._LOSSES.items():
        actions = [act(each if scope == "own" else each.mean(1, keepdims=True)) for each in pair]
        known = real if scope == "own" else real.mean(0, keepdims=True)
        one, other = (loss(each, known[None]).mean() for each in actions)
        true[name] = one - other
    return stated[list(true)], pd.Series(true)


def test_a_program_that_is_right_costs_nothing_and_a_wrong_one_does():
    data, _, layer = swapped(np.random.default_rng(1))
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=200, progress=False)
    same = prefdensity.cost(post, data, post)
    assert (same.table["cost"] == 0).all()
    assert set(same.table["asked"]) == {"all"}
    report = prefdensity.cost(post, data, f"bradley_terry+{layer}")
    own = report.table[report.table["asked"] == "own"].set_index("quantity")
    assert (own.loc[["ranking", "density", "reward"], "lower"] > 0).all()
    assert (report.table["by_simpler"] - report.table["by_fuller"] - report.table["cost"]).abs().max() < 1e-12
    assert "no labels" in str(report)
    assert "ranking, each own" in str(report)


def test_a_pcal_interval_is_shorter_by_a_better_program():
    rng = np.random.default_rng(0)
    u = 0.8 * rng.standard_t(3, 60)
    who = np.repeat(np.arange(40), 60)
    a = rng.integers(60, size=len(who))
    b = (a + rng.integers(1, 60, len(who))) % 60
    won = rng.random(len(who)) < expit(np.where(who < 24, 2.0, 0.0) * (u[a] - u[b]))
    frame = pd.DataFrame({"a": a, "b": b, "who": who, "outcome": np.where(won, "a", "b")})
    data = read(frame)
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=200, progress=False)
    labels = {f"item {k}": u[k] + 0.3 * rng.normal() for k in rng.permutation(60)[:25]}
    found = prefdensity.cost(post, data, "reliability", labels=labels)
    row = found.table.set_index("quantity").loc["PCAL interval"]
    assert row["by_simpler"] > row["by_fuller"] > 0
    with pytest.raises(DataError, match="labels: 'x' is no item"):
        prefdensity.cost(post, data, found.fuller, labels={"x": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize("world", [swapped, aged, confounded])
def test_the_stated_cost_is_the_true_one(world, capsys):
    """Within a fifth, on average over 20 tables, for all that costs something."""
    both = [stated_and_true(world, seed) for seed in range(20)]
    stated, true = (pd.concat(each, axis=1).mean(axis=1) for each in zip(*both, strict=True))
    with capsys.disabled():
        print(f"\n{world.__name__}: " + ", ".join(f"{k} {stated[k]:.3f} (true {true[k]:.3f})" for k in true.index))
    large = true.index[true > 0.02]
    assert len(large)
    assert ((stated / true)[large] - 1).abs().max() < 0.2


def test_the_command_line_says_what_each_finding_costs(tmp_path):
    data, _, _ = swapped(np.random.default_rng(1))
    votes, fit, out = tmp_path / "votes.csv", tmp_path / "fit", tmp_path / "check"
    data.to_frame().to_csv(votes, index=False)
    ask = [str(votes), "--annotator", "annotator", "--context", "context"]
    done = CliRunner().invoke(app, ["fit", *ask, "-m", "bradley_terry", "--out", str(fit), "--quiet"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["check", str(fit / "fit.nc"), *ask, "--cost", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "What bradley_terry costs if bradley_terry+tastes(by='context') is right" in done.output
    table = pd.read_csv(out / "cost_1.csv")
    assert set(table["asked"]) == {"all", "own"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "What it costs" in page
    assert "What bradley_terry costs if bradley_terry+tastes(by=&#39;context&#39;) is right." in page
    assert all(unit in page for unit in table["unit"])
    assert "no labels of items are given" in page
    done = CliRunner().invoke(app, ["report", str(fit / "fit.nc"), *ask, "--cost"])
    assert done.exit_code == 0, done.output
    assert "What bradley_terry costs if bradley_terry+tastes(by='context') is right" in done.output
    again = (fit / "report.html").read_text(encoding="utf-8")
    told = [re.search(r"What it costs</h2>(.*?)</section>", each, re.DOTALL) for each in (page, again)]
    assert told[0].group(1) == told[1].group(1)
