"""What to buy on a ladder: plans, what they promise, and the command line."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from test_ladder import LADDER, PRICES, measured, units
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.judged.measured import Measured
from prefdensity.pcal import ladder, ladder_plan
from prefdensity.pcal.allocation import draw
from prefdensity.reporting.ladder_report import cost_curve, headline

# --- plans --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan():
    return ladder_plan(measured(units(3000, 10)), money=2000.0, units=5000)


def test_a_shopping_list_spends_the_money(plan):
    assert plan.shopping()["cost"].sum() == pytest.approx(2000, rel=1e-9)
    option, p = plan.best()
    orders = plan.assign(5000, seed=1)
    counts = np.array([(orders["buy"].isin(option.names[: k + 1])).sum() for k in range(len(p))])
    assert np.abs(counts - 5000 * p).max() < 1


def test_the_plan_is_the_best_of_all_ladders_and_beats_labels(plan):
    ways = plan.ways().set_index("way")["half"]
    assert ways["ladder"] < 0.95 * min(ways["labels only"], ways["labels and free measures"])
    assert ways["ladder, judges useless"] > ways["ladder"]
    labels = 2000 / 8
    frame = units(400_000, 11)
    assert ways["labels only"] == pytest.approx(norm.ppf(0.95) * frame["label"].std() / labels**0.5, rel=0.05)


def test_judges_who_are_worse_than_they_looked_cost_precision(plan):
    table, ways = plan.worse((0.0, 0.5, 1.0)), plan.ways().set_index("way")["half"]
    assert table["half"][0] == pytest.approx(plan.half()) == pytest.approx(table["best"][0])
    assert table["half"][2] == pytest.approx(ways["ladder, judges useless"])
    assert table["half"].is_monotonic_increasing
    assert table["best"][2] == pytest.approx(ways["labels and free measures"])
    assert (table["best"] <= table["half"] * (1 + 1e-9)).all()
    with pytest.raises(DataError, match="shares hold 2; what is not told lies between 0 and 1"):
        plan.worse([2.0])


def test_what_is_kept_counts_and_new_money_goes_where_it_is_missing():
    pilot = measured(units(200, 16)).without("panel", "model")
    alone = ladder_plan(pilot, money=1000.0, units=3000)
    beside = ladder_plan(pilot, money=1000.0, units=3000, kept=pilot)
    assert beside.half() < alone.half()
    assert beside.shopping()["cost"].sum() == pytest.approx(1000)
    option, p = beside.best()
    other = alone.best()[1]
    assert option.names == alone.best()[0].names == ("label", "crowd")
    assert p[0] < other[0]  # labels are there already
    share = [option.share(each, 3000) for each in (p, other)]
    assert option.variance(share[0]) < option.variance(share[1])
    with pytest.raises(DataError, match="kept has another ladder than the pilot"):
        ladder_plan(pilot, money=1000.0, units=3000, kept=pilot.without("crowd"))


def test_a_useless_ladder_is_not_bought():
    plan = ladder_plan(measured(units(3000, 12, worth=0.0)), money=2000.0, units=5000)
    assert list(plan.shopping()["what"])[-1] == "label"
    assert plan.shopping()["cost"].iloc[-1] > 0.9 * 2000
    assert (plan.break_even()["break_even"] < 0.3).all()


def test_break_even_prices_are_where_the_best_ladder_changes(plan):
    table = plan.break_even().set_index("what")
    frame = units(3000, 10)
    for what, kept in (("panel", True), ("panel", False)):
        price = table.loc[what, "break_even"] * (0.98 if kept else 1.02)
        prices = PRICES | {what: price}
        other = Measured.from_frame(frame, ladder=LADDER, covariates=["x"], free=["score"], prices=prices)
        names = ladder_plan(other, money=2000.0, units=5000).best()[0].names
        assert (what in names) == kept


def test_very_little_money_goes_into_labels(plan):
    """Multipliers learned from a handful of labels cost more than judges tell: the ladder contains labels alone."""
    curve = plan.curve(plan.moneys(30))
    assert (curve["ladder"] <= curve[["labels_only", "labels_and_free"]].min(axis=1) * (1 + 1e-12)).all()
    assert curve["ladder"][0] == curve["labels_and_free"][0]
    assert curve["ladder"].iloc[15] < 0.95 * curve["labels_and_free"].iloc[15]
    least = replace(plan, money=float(curve["money"][0]))
    assert least.shopping()["what"].tolist() == ["label"]
    said = " ".join(headline(least))
    assert "nothing beside labels is worth its price" in said
    assert "told nothing after all" not in said
    assert cost_curve(least, curve).axes[0].lines[2].get_label() == "ladder"


def test_free_measures_that_tell_nothing_are_left_out():
    frame = pd.DataFrame(np.random.default_rng(13).normal(size=(400, 2)), columns=["label", "noise"])
    plan = ladder_plan(Measured.from_frame(frame, free=["noise"], prices={"label": 8}), money=200.0, units=5000)
    assert plan.options[1].learned == 1
    assert plan.best()[0].alone
    ways = plan.ways().set_index("way")["half"]
    assert ways["ladder"] == ways["labels only"] < ways["labels and free measures"]
    assert "estimate without them" in " ".join(headline(plan))


def test_money_for_a_precision_gives_it(plan):
    assert plan.half(plan.money_for(0.05)) == pytest.approx(0.05, rel=1e-6)
    assert plan.curve(plan.moneys(8))["ladder"].is_monotonic_decreasing
    with pytest.raises(DataError, match="needs more units"):
        plan.money_for(1e-4)


def test_delivered_intervals_are_as_long_as_planned(plan):
    option, p = plan.best()
    lengths = []
    for seed in range(12):
        table = measured(units(5000, 100 + seed)).without(*(set(LADDER) - set(option.names)))
        reached = len(p) - draw(np.tile(p, (5000, 1)), seed)
        row = ladder(table.bought(p[::-1], reached)).summary().iloc[0]
        lengths.append((row["upper"] - row["lower"]) / 2)
    assert np.mean(lengths) == pytest.approx(plan.half(), rel=0.08)


# --- the command line ---------------------------------------------------------------------------------------------


def test_the_command_line_plans_and_measures(tmp_path):
    frame = units(600, 20)
    frame[:200].to_csv(tmp_path / "pilot.csv", index=False)
    rungs = ["--rung", "crowd=crowd", "--rung", "panel=first+second", "--free", "score"]
    prices = ["--price", "crowd=0.1", "--price", "panel=1", "--price", "label=8"]
    words = ["pcal", "plan", str(tmp_path / "pilot.csv"), *rungs, *prices, "--money", "600", "--units", "400"]
    done = CliRunner().invoke(app, [*words, "--want", "0.12", "--out", str(tmp_path / "plan")])
    assert done.exit_code == 0, done.output
    assert "The same money spent on labels only gives" in done.output
    assert "+- 0.12 needs" in done.output
    assert pd.read_csv(tmp_path / "plan" / "shopping.csv")["cost"].sum() == pytest.approx(600)
    assert "Break-even prices" in (tmp_path / "plan" / "report.html").read_text()
    orders, rest = pd.read_csv(tmp_path / "plan" / "units.csv"), frame[200:].reset_index(drop=True)
    names = [name.removesuffix("_probability") for name in orders.columns[1:]]
    for reached, name in enumerate(names):
        columns = {"panel": ["first", "second"]}.get(name, [name])
        kept = orders["buy"].isin(names[reached:])
        rest.loc[~kept.to_numpy(), columns] = np.nan
    pd.concat([rest, orders], axis=1).to_csv(tmp_path / "collected.csv", index=False)
    bought = [
        word for name in names[:-1] for word in ("--rung", f"{name}={'first+second' if name == 'panel' else name}")
    ]
    words = ["pcal", "measure", str(tmp_path / "collected.csv"), *bought, "--free", "score"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    row = pd.read_csv(tmp_path / "found" / "estimate.csv").iloc[0]
    assert row["estimate"] == pytest.approx(2, abs=5 * row["se"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--price", "label=8", "--rung", "crowd"], "--rung crowd must be NAME=COLUMN"),
        (["--price", "label=8", "--rung", "crowd=crowd"], "crowd has no price; give --price crowd=MONEY"),
        (["--price", "label=dear"], "--price label=dear must be NAME=NUMBER, such as crowd=0.5"),
        (["--price", "label=8", "--price", "cow=1"], "--price cow=1 names no rung"),
    ],
)
def test_the_command_line_says_what_would_be_right(words, said, tmp_path):
    units(60, 21).to_csv(tmp_path / "pilot.csv", index=False)
    done = CliRunner().invoke(
        app, ["pcal", "plan", str(tmp_path / "pilot.csv"), "--money", "600", "--units", "400", *words]
    )
    assert done.exit_code == 2
    assert said in done.output
