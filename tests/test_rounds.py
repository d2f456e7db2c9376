"""Rounds of buying: the boundary, tables put together, paths that are looked at again and again, drift."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import LinearRegression, ladder, ladder_plan
from prefdensity.pcal.allocation import draw
from prefdensity.pcal.rounds import anytime, decided, drift, pooled, together


def units(n, rng, shift=0.0, effect=0.0):
    """Return units with a free score, a judge's word that may have drifted, a skewed label of mean `effect`."""
    y = rng.gamma(3, 0.6, n) - 1.8
    said = y + 0.7 * rng.normal(size=n) + shift
    frame = pd.DataFrame({"score": 0.4 * y + rng.normal(size=n), "said": said, "label": y + effect})
    return Measured.from_frame(frame, ladder={"judge": "said"}, free=["score"], prices={"judge": 0.3, "label": 5.0})


def buy(table, p, rng):
    """Return what is bought with P(label) and P(judge) p, in exact numbers."""
    reached = 2 - draw(np.tile(p, (len(table), 1)), rng)
    return table.bought(np.array(p)[::-1], reached)


def test_the_boundary_is_robbins_s():
    rng = np.random.default_rng(0)
    found = ladder(together([buy(units(400, rng), (0.3, 0.7), rng) for _ in range(4)]))
    row = anytime(found, 0.9, first_error=2 * found.standard_error[0]).iloc[0]
    # information 4 times that of the first look: (1 + 1/4) (log 5 + 2 log 10)
    z = np.sqrt(1.25 * (np.log(5) + 2 * np.log(10)))
    assert row["upper"] - row["estimate"] == pytest.approx(z * found.standard_error[0], rel=0.05)  # t widens it
    assert row["price"] == pytest.approx(z / 1.645, rel=0.05)
    assert row["upper"] - row["estimate"] == pytest.approx(row["estimate"] - row["lower"])


def test_a_judge_who_is_milder_in_a_later_round_costs_nothing():
    """Only the level of verdicts changes: rounds are estimated apart, with the same errors as if it had not."""
    lengths = []
    for shift in (0.0, 4.0):
        rng = np.random.default_rng(2)
        rounds = [buy(units(60, rng), (1.0, 1.0), rng), buy(units(800, rng, shift), (0.08, 0.4), rng)]
        row = ladder(together(rounds)).summary().iloc[0]
        lengths.append(row["upper"] - row["lower"])
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)


def test_a_design_that_learned_and_earlier_rounds_are_kept():
    rng = np.random.default_rng(1)
    first = buy(units(200, rng), (1.0, 1.0), rng)
    plan = ladder_plan(first, money=400.0, units=600)
    option, p = plan.best()
    second = buy(units(600, rng), tuple(p), rng)
    found = ladder(together([first, second]))
    alone = [ladder(each) for each in (first, second)]
    assert found.standard_error[0] < min(each.standard_error[0] for each in alone)
    assert min(a.theta[0] for a in alone) < found.theta[0] < max(a.theta[0] for a in alone)
    assert ladder_plan(together([first, second]), money=300.0, units=500).half() > 0  # plans from what was bought
    assert option.names == ("label", "judge")


def test_rounds_that_are_alike_are_one_purchase():
    rng = np.random.default_rng(8)
    pilot, rest = buy(units(100, rng), (1.0, 1.0), rng), buy(units(900, rng), (0.1, 0.5), rng)
    one, two = ladder(pooled([pilot, rest])), ladder(together([pilot, rest]))
    assert one.judged.label_probability == pytest.approx(0.19)
    assert one.standard_error[0] < 0.97 * two.standard_error[0]
    assert abs(one.theta[0]) < 4 * one.standard_error[0]
    halves = [buy(units(300, rng), (0.3, 0.7), rng) for _ in range(2)]
    assert pooled(halves).stage is None
    np.testing.assert_allclose(pooled(halves).probabilities, together(halves).probabilities)
    uneven = np.where(np.arange(300)[:, None] < 150, [0.9, 0.2], [0.9, 0.5])
    with pytest.raises(DataError, match="round 2 was bought with probabilities that differ between units"):
        pooled([halves[0], units(300, rng).bought(uneven, np.full(300, 1))])


def test_a_large_effect_is_decided_and_none_is_open():
    rng = np.random.default_rng(2)
    found = ladder(together([buy(units(400, rng, effect=1.0), (0.3, 0.7), rng) for _ in range(3)]))
    assert decided(found)["mean"] == "above"
    assert decided(found, against=2.0)["mean"] == "below"
    assert decided(found, against=float(found.theta[0]))["mean"] == "open"


def test_drift_is_noticed_and_not_invented():
    rng = np.random.default_rng(3)
    steady = [ladder(together([buy(units(300, rng), (0.4, 0.8), rng) for _ in range(3)])) for _ in range(20)]
    alarms = sum((drift(each)["p_value"] < 0.01).any() for each in steady)
    assert alarms <= 3  # two tests at .01: 4 of 20 once in 1,500
    table = together([buy(units(300, rng, shift=shift), (0.4, 0.8), rng) for shift in (0.0, 0.0, 1.2)])
    tests = drift(ladder(table)).set_index("what")["p_value"]
    assert tests["judge"] < 0.001
    with pytest.raises(DataError, match="the table has one stage"):
        drift(ladder(buy(units(300, rng), (0.4, 0.8), rng)))


def test_rounds_must_be_of_one_kind():
    rng = np.random.default_rng(4)
    one = units(50, rng)
    with pytest.raises(DataError, match="round 2 has another ladder than round 1"):
        together([one, one.without("judge")])
    with pytest.raises(DataError, match="there is no round"):
        together([])
    with pytest.raises(DataError, match="first_error=0 must be positive"):
        anytime(ladder(together([buy(units(300, rng), (0.4, 0.8), rng)] * 2), LinearRegression()), first_error=0)


def test_the_command_line_says_what_is_decided(tmp_path):
    rng = np.random.default_rng(5)
    rows = []
    for number in range(3):
        table = buy(units(300, rng, shift=float(2 * number), effect=1.0), (0.4, 0.8), rng)
        columns = {"said": table.measures[0][:, 0], "score": table.outputs[:, 0], "label": table.label, "round": number}
        rows.append(pd.DataFrame(columns).assign(judge_probability=0.8, label_probability=0.4))
    pd.concat(rows).to_csv(tmp_path / "collected.csv", index=False)
    words = ["pcal", "measure", str(tmp_path / "collected.csv"), "--rung", "judge=said", "--free", "score"]
    done = CliRunner().invoke(app, [*words, "--stage", "round", "--against", "0", "--out", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    assert "mean: above 0, at every look" in done.output
    assert "labels given judge differ between rounds" in done.output
    assert (pd.read_csv(tmp_path / "found" / "anytime.csv")["price"] > 1.3).all()
    done = CliRunner().invoke(app, [*words, "--against", "0", "--out", str(tmp_path / "once")])
    assert "mean against 0: p " in done.output
    assert pd.read_csv(tmp_path / "once" / "tests.csv")["p_value"][0] < 1e-3


def path(seed, looks=8):
    """Return whether any look misses the truth, anytime and for one look, and the price at the last look."""
    rng = np.random.default_rng([9, seed])
    tables, missed, naive = [], False, False
    for look in range(looks):
        p = (0.5, 0.9) if look == 0 else tuple(np.sort(rng.uniform(0.2, 0.9, 2)))
        tables.append(buy(units(120, rng), p, rng))
        found = ladder(together(tables), folds=3)
        row, one = anytime(found).iloc[0], found.summary().iloc[0]
        missed |= not row["lower"] <= 0 <= row["upper"]
        naive |= not one["lower"] <= 0 <= one["upper"]
    return missed, naive, row["price"]


@pytest.mark.slow
def test_whole_paths_miss_no_more_often_than_said():
    """1,000 paths of 8 looks: one miss in ten is allowed; intervals for one look miss far more often."""
    found = np.array([path(seed) for seed in range(1000)])
    print(found.mean(0))
    assert found[:, 0].mean() <= 0.1
    assert found[:, 1].mean() > 0.2
