"""What ladders are asked: utilities and ranks of systems, several metrics at once, words as features, any order."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import norm
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import (
    BradleyTerry,
    LinearRegression,
    LogisticRegression,
    Means,
    jointly,
    ladder,
    ladder_plan,
    ranks,
)
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.intervals import wilson

SYSTEMS, UTILITY = np.array(list("ABCDE")), np.array([1.0, 0.6, 0.5, 0.0, -1.0])


def comparisons(n, seed):
    """Return comparisons of five systems with people's word as the label, and a judge's who is mostly right."""
    rng = np.random.default_rng(seed)
    one = rng.integers(5, size=n)
    other = (one + rng.integers(1, 5, size=n)) % 5
    won = rng.random(n) < expit(UTILITY[one] - UTILITY[other])
    heard = np.where(rng.random(n) < 0.8, won, rng.random(n) < 0.6)  # leans to the first
    return pd.DataFrame(
        {
            "first": SYSTEMS[one],
            "second": SYSTEMS[other],
            "label": won.astype(float),
            "judge": np.where(heard, "a", "b"),
        }
    )


def arena(n, seed, p=(1.0, 1.0)):
    table = Measured.from_frame(
        comparisons(n, seed),
        ladder={"judge": "judge"},
        between=("first", "second"),
        prices={"judge": 0.1, "label": 1.0},
    )
    return table.bought(np.array(p), 2 - draw(np.tile(p[::-1], (n, 1)), seed))


def test_utilities_of_systems_are_those_of_bradley_and_terry():
    """With labels for all: the maximum likelihood of a logistic regression on signed indicators; E is at 0."""
    table = arena(800, 0)
    found = ladder(table, BradleyTerry())
    assert found.names == ("A", "B", "C", "D")
    frame = pd.DataFrame(table.covariates[:, :4], columns=found.names).assign(label=table.label)
    same = ladder(Measured.from_frame(frame, covariates=found.names), LogisticRegression(intercept=False))
    np.testing.assert_allclose(found.theta, same.theta, atol=1e-8)
    np.testing.assert_allclose(found.standard_error, same.standard_error, rtol=1e-6)
    truth = UTILITY[:4] - UTILITY[4]
    assert (np.abs(found.theta - truth) < 4 * found.standard_error).all()


def test_a_judge_shortens_intervals_of_utilities_and_a_plan_knows_it():
    found = ladder(arena(2500, 1, (0.9, 0.3)), BradleyTerry())
    table = found.comparison().pivot_table(index="parameter", columns="method", values="se")
    assert (table["ladder"] < 0.95 * table["labels only"]).all()
    plan = ladder_plan(arena(400, 2), money=300.0, units=2000, functional=BradleyTerry(), criterion="A")
    assert plan.best()[0].names == ("label", "judge")


def test_ranks_hold_together():
    table = ranks(ladder(arena(1500, 0, (0.9, 0.3)), BradleyTerry()))
    assert list(table["system"])[0] == "A"
    assert list(table["system"])[-1] == "E"
    assert table["utility"].mean() == pytest.approx(0, abs=1e-12)
    assert (table["best_rank"] <= np.arange(1, 6)).all()
    assert (table["worst_rank"] >= np.arange(1, 6)).all()
    assert tuple(table.set_index("system").loc["B", ["best_rank", "worst_rank"]]) == (2, 3)  # as far apart as C
    few = ranks(ladder(arena(60, 3), BradleyTerry()))
    assert (few["worst_rank"] - few["best_rank"]).sum() > (table["worst_rank"] - table["best_rank"]).sum()
    segment = np.repeat(["x", "y"], 100)
    label = np.random.default_rng(0).normal(size=200) + 3 * (segment == "y")
    means = ladder(
        Measured.from_frame(pd.DataFrame({"of": segment, "label": label}), by="of"), LinearRegression(intercept=False)
    )
    assert list(ranks(means)["system"]) == ["of=y", "of=x"]


@pytest.mark.slow
def test_all_ranks_together_are_wrong_no_more_often_than_said():
    """400 replicates of 90 %: standard error .015; ties in truth make it conservative."""
    true = {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5}
    right = []
    for seed in range(400):
        table = ranks(ladder(arena(600, 100 + seed, (0.9, 0.4)), BradleyTerry()), seed=seed).set_index("system")
        rank = pd.Series(true)[table.index]
        right.append(((table["best_rank"] <= rank) & (rank <= table["worst_rank"])).all())
    print(np.mean(right))
    assert np.mean(right) >= 0.87


def test_metrics_that_go_together_cost_little_at_once():
    rng = np.random.default_rng(4)
    y = rng.normal(size=(400, 2)) + rng.normal(size=(400, 1)) * 3
    tables = {
        name: ladder(Measured.from_frame(pd.DataFrame({"label": column})))
        for name, column in zip("ab", y.T, strict=True)
    }
    apart = ladder(Measured.from_frame(pd.DataFrame({"label": rng.normal(size=400)})))
    lone = jointly({"a": tables["a"]})
    twins, close = jointly({"a": tables["a"], "again": tables["a"]}), jointly(tables)
    far = jointly({"a": tables["a"], "c": apart})

    def length(table):
        return (table["upper"] - table["lower"])[0] / tables["a"].standard_error[0] / 2

    assert length(lone) == pytest.approx(1.65, rel=0.01)
    assert length(twins) == pytest.approx(length(lone), rel=0.01)
    assert 1.02 * length(lone) < length(close) < 0.98 * length(far)
    assert length(far) == pytest.approx(norm.ppf(0.5 + 0.9**0.5 / 2), rel=0.01)
    assert list(close["metric"]) == ["a", "b"]
    short = ladder(Measured.from_frame(pd.DataFrame({"label": rng.normal(size=50)})))
    with pytest.raises(DataError, match="'b' is estimated from 50 units in 1 rounds, the first metric from 400 in 1"):
        jointly({"a": apart, "b": short})
    with pytest.raises(DataError, match="there is no estimate"):
        jointly({})
    with pytest.raises(DataError, match="ranks are of two systems or more"):
        ranks(apart)


def test_words_are_features():
    rng = np.random.default_rng(5)
    kind = np.repeat(["code", "maths", "prose"], 60)
    frame = pd.DataFrame({"kind": kind, "label": rng.normal(size=180) + (kind == "maths")})
    found = ladder(Measured.from_frame(frame, covariates=["kind"]), LinearRegression())
    assert found.names == ("kind=maths", "kind=prose", "intercept")
    means = frame.groupby("kind")["label"].mean()
    assert found.theta[0] == pytest.approx(means["maths"] - means["code"])
    free = Measured.from_frame(frame, free=["kind"])
    assert free.outputs.shape == (180, 3)
    assert set(free.outputs.sum(1)) == {1.0}
    with pytest.raises(DataError, match="column 'kind' is empty in row 2; every unit needs a value"):
        Measured.from_frame(frame.assign(kind=frame["kind"].where(frame.index != 1)), free=["kind"])
    with pytest.raises(DataError, match="column 'kind' holds 'maths' in row 61 among numbers"):
        Measured.from_frame(frame.assign(kind=np.where(kind == "code", "1", kind)), covariates=["kind"])


def test_which_judge_is_asked_first_is_part_of_the_plan():
    """The worse and dearer judge comes first in the table, and is not asked; rungs bought together have any order."""
    rng = np.random.default_rng(6)
    y = rng.normal(size=2000)
    frame = pd.DataFrame({"label": y, "bad": y + 3 * rng.normal(size=2000), "good": y + 0.5 * rng.normal(size=2000)})
    prices = {"bad": 0.05, "good": 0.2, "label": 10.0}
    table = Measured.from_frame(frame, ladder={"bad": "bad", "good": "good"}, prices=prices)
    turned = table.only("good", "bad")
    assert turned.ladder == ("good", "bad", "label")
    np.testing.assert_array_equal(turned.measures[0], table.measures[1])
    np.testing.assert_array_equal(turned.prices, [0.2, 0.05, 10.0])
    plan = ladder_plan(table, money=1000.0, units=5000)
    assert {each.names[1:] for each in plan.options} == {(), ("bad",), ("good",), ("bad", "good"), ("good", "bad")}
    assert plan.best()[0].names[1] == "good"
    apart = table.bought(np.array([0.9, 0.5, 0.2]), 3 - draw(np.tile([0.2, 0.5, 0.9], (2000, 1)), 0))
    assert {each.names[1:] for each in ladder_plan(apart, money=1000.0, units=5000).options} == {
        (), ("bad",), ("good",), ("good", "bad")
    }  # fmt: skip
    with pytest.raises(DataError, match="rungs that were not bought together have one order, bad, good"):
        apart.only("good", "bad")
    with pytest.raises(DataError, match="'ugly' is no rung of this ladder; these are bad, good"):
        table.only("ugly")


def test_comparisons_are_between_two():
    frame = comparisons(60, 7)
    with pytest.raises(DataError, match="'A' is compared with itself in row 1"):
        Measured.from_frame(frame.assign(first=["A", *frame["first"][1:]], second=["A", *frame["second"][1:]]),
                            between=("first", "second"))  # fmt: skip
    with pytest.raises(DataError, match="by='first' makes the covariates; between="):
        Measured.from_frame(frame, by="first", between=("first", "second"))
    with pytest.raises(DataError, match="utilities are of items that were compared; read the table with between="):
        ladder(Measured.from_frame(frame), BradleyTerry())


# --- rates by subgroup --------------------------------------------------------------------------------------------


def rated(n, seed, rates=(0.05, 0.3, 0.98), p=0.2):
    """Return units of three segments with labels 0 and 1, a judge who is right nine times in ten, a fifth labelled."""
    rng = np.random.default_rng(seed)
    segment = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    label = (rng.random(n) < pd.Series(dict(zip("abc", rates, strict=True)))[segment].to_numpy()).astype(float)
    judge = np.where(rng.random(n) < 0.9, label, 1 - label)
    frame = pd.DataFrame({"segment": segment, "label": label, "judge": judge})
    full = Measured.from_frame(frame, by="segment", free=["judge"])
    return full.bought(np.array([p]), (np.arange(n) < p * n).astype(int)), segment


def test_rates_of_subgroups_have_wilson_s_limits():
    """Of labels for all: those of every subgroup alone; of none among a subgroup's labels no interval of length 0."""
    table, segment = rated(400, 1, (0.0, 0.3, 0.95), 1.0)
    found = ladder(table, Means()).summary()
    for k, name in enumerate("abc"):
        mine = table.label[segment == name]
        expected = wilson(mine.mean(), len(mine), norm.ppf(0.95))
        assert found.loc[k, ["lower", "upper"]].tolist() == pytest.approx(expected, abs=1e-9)
    assert found["upper"][0] > found["estimate"][0] == 0
    some = ladder(rated(400, 1, (0.0, 0.3, 0.95), 0.2)[0], Means()).summary()
    assert (some["upper"] > some["lower"]).all()
    assert some[["lower", "upper"]].stack().between(0, 1).all()
    with pytest.raises(DataError, match="read the table with by="):
        ladder(Measured.from_frame(pd.DataFrame({"label": [0.0, 1.0] * 20})), Means())


@pytest.mark.slow
def test_rates_of_subgroups_cover():
    """600 replicates of 1,500 units, 300 labels, one rate of .05 and one of .98: standard error .012."""
    inside, truth = [], np.array([0.05, 0.3, 0.98])
    for seed in range(600):
        found = ladder(rated(1500, 100 + seed)[0], Means()).summary()
        inside.append((found["lower"] <= truth) & (truth <= found["upper"]))
    print(np.mean(inside, 0))
    assert (np.mean(inside, 0) >= 0.87).all()
    assert np.mean(inside, 0)[1] <= 0.93


# --- tests, differences, several metrics --------------------------------------------------------------------------


def test_p_values_are_where_intervals_end():
    for table, functional in ((rated(300, 3)[0], Means()), (arena(300, 4), BradleyTerry())):
        found = ladder(table, functional)
        ends = found.summary(0.95)
        for k, name in enumerate(found.names):
            for end in ("lower", "upper"):
                assert found.p_values(float(ends[end][k]))[name] == pytest.approx(0.05, abs=1e-6)
        assert found.p_values(float(found.theta[0])).iloc[0] == pytest.approx(1.0)
        assert (found.p_values(100.0) < 1e-6).all()


def test_differences_are_all_contrasts():
    found = ladder(rated(300, 5)[0], Means())
    table = found.differences()
    assert table[["first", "second"]].to_numpy().tolist() == [
        ["segment=a", "segment=b"], ["segment=a", "segment=c"], ["segment=b", "segment=c"]
    ]  # fmt: skip
    one = found.contrast({"segment=a": 1, "segment=c": -1})
    assert table.loc[1, one.index.tolist()].tolist() == pytest.approx(one.tolist())


def test_the_command_line_tells_differences_and_several_metrics(tmp_path):
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"segment": rng.choice(["a", "b"], 300), "tone": rng.normal(size=300)})
    frame["label"] = frame["tone"] + rng.normal(size=300)
    frame.assign(label_probability=1.0).to_csv(tmp_path / "all.csv", index=False)
    words = ["pcal", "measure", str(tmp_path / "all.csv"), "--by", "segment", "--metric", "tone"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    metrics = pd.read_csv(tmp_path / "found" / "metrics.csv")
    assert metrics["metric"].tolist() == ["label", "label", "tone", "tone"]
    single = pd.read_csv(tmp_path / "found" / "estimate.csv")
    assert metrics["lower"][0] < single["lower"][0]
    assert len(pd.read_csv(tmp_path / "found" / "differences.csv")) == 1
