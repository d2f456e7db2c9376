"""Predictive checks: power, causes, refusals, real tables."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from truths import MIXED, NAMED, RELIABILITY, TASTES, fitted, logistic, simulated, table
from typer.testing import CliRunner

import prefdensity
from prefdensity.checking import check
from prefdensity.checking.causes import RULES, Suspicion, ranked
from prefdensity.checking.remedies import remedies
from prefdensity.cli import main
from prefdensity.errors import DataError
from prefdensity.programs.tabulate import cells_of
from prefdensity.reporting import plots


@pytest.mark.parametrize("truth", ["types by annotator", "temperature", "position", "lapse", "intransitive"])
def test_a_cause_is_named_with_those_who_carry_it(truth):
    report = prefdensity.check(*fitted(truth, 4))
    first = report.causes[0]
    assert first.name == NAMED[truth]
    assert first.next_programs[0].startswith("bradley_terry+")
    assert first.next_programs[0] in str(report)
    assert list(first.carried_by.columns[-4:]) == ["judgements", "observed", "expected", "z"]
    unit = "item_a" if truth == "intransitive" else "annotator"
    assert unit in first.carried_by
    assert f"bradley_terry: {first.name} (z = " in report.headline
    row = report.table.set_index("check").loc[first.check]
    assert row["verdict"] != "as expected"
    assert first.carried_by["observed"].sum() == pytest.approx(row["statistic"], rel=1e-6, abs=1e-9)


def test_nothing_is_named_where_the_program_is_true():
    reports = [prefdensity.check(*fitted("luce", seed)) for seed in range(10)]
    assert sum(bool(report.causes) for report in reports) <= 4  # false alarm 1e-3 at 8 in 100
    tails = pd.concat([report.table.set_index("check")["tail"] for report in reports], axis=1)
    assert (tails.drop(["ties", "tie habits"]) <= 0.05).mean(axis=1).max() <= 0.5
    assert "Nothing here speaks against bradley_terry" in str(next(r for r in reports if not r.causes))


def test_a_tail_counts_the_data_among_the_tables():
    """Of 20 replications none lies as far out: 1 in 21, the smallest tail that so few can show, and never 0."""
    report = prefdensity.check(*fitted("position", 4), replicates=20)
    tails = report.table["tail"].dropna()
    assert tails.min() == pytest.approx(1 / 21)
    np.testing.assert_allclose(tails * 21, np.round(tails * 21), atol=1e-9)


def test_what_another_suspect_brings_about_counts_half():
    rules = {rule.finding: rule for rule in RULES}
    care, tastes, order = (Suspicion(rules[name], z, np.nan) for name, z in CARE_BEHIND.items())
    assert [each.rule.finding for each in ranked([order, care])] == ["care", "order"]
    # half of 5 is less than either of the others
    assert [each.rule.finding for each in ranked([care, order, tastes])] == ["order", "tastes", "care"]
    # half the squared evidence is a gain in nats: 5 is worth 12.5, and 2.5 a quarter of it
    for gain, first in ((12.4, "care"), (12.6, "order")):
        told = replace(order, gain=gain)
        assert ranked([told, care])[0].rule.finding == first
    for gain, last in ((3.1, "order"), (3.2, "care")):
        told = replace(order, gain=gain)
        assert ranked([told, care, tastes])[-1].rule.finding == last


CARE_BEHIND = {"care": 5.0, "tastes": 3.0, "order": 3.5}


def test_careless_annotators_are_at_the_top_of_the_list():
    rng = np.random.default_rng(0)
    data = simulated("luce", 5)
    flips = data.annotator >= 27
    outcome = np.where(flips, rng.integers(2, size=len(data)), data.outcome).astype(np.int8)
    data = replace(data, outcome=outcome)
    report = prefdensity.check(prefdensity.fit("bradley_terry", data), data)
    assert report.causes[0].name == RELIABILITY
    assert set(report.causes[0].carried_by["annotator"][:3]) == {"p27", "p28", "p29"}


def test_the_next_program_mends_it():
    post, data = fitted("position", 0)
    better = prefdensity.check(post, data).causes[0].next_programs[0]
    assert better == "bradley_terry+position_bias"
    report = prefdensity.check(prefdensity.fit(better, data), data)
    assert "an effect of the order" not in [cause.name for cause in report.causes]
    assert abs(report.table.set_index("check").loc["order", "z"]) < 1


def judged(probability, seed, people=30, each=60, items=8, **more):
    """Judgements with outcome probabilities [row, outcome] given (u_a - u_b, annotator, rng)."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    a = rng.integers(items, size=len(who))
    b = (a + rng.integers(1, items, size=len(who))) % items
    u = rng.normal(size=items)
    p = probability(u[a] - u[b], who, rng)
    outcome = (rng.random((len(who), 1)) >= p.cumsum(1)[:, :-1]).sum(1).astype(np.int8)
    return table(who, a, b, outcome, **more)


def tied(d, strength):
    weight = np.stack([np.exp(d / 2), np.exp(-d / 2), strength * np.ones_like(d)], 1)
    return weight / weight.sum(1, keepdims=True)


def test_unequal_tie_habits_are_named():
    data = judged(lambda d, who, rng: tied(d, np.exp(0.8 * rng.normal(size=30))[who]), 4)
    report = prefdensity.check(prefdensity.fit("davidson", data), data)
    assert report.causes[0].name == "annotators call ties unequally often"


def test_the_wrong_tie_rule_is_named():
    def notice(d, who, rng):
        a, b = logistic(2 * d - 1), logistic(-2 * d - 1)
        return np.stack([a, b, 1 - a - b], 1)

    data = judged(notice, 6, each=120)
    report = prefdensity.check(prefdensity.fit("davidson", data), data)
    assert [cause.name for cause in report.causes] == ["ties depend otherwise on the difference"]
    assert report.causes[0].next_programs == ("rao_kupper",)
    right = prefdensity.check(prefdensity.fit("rao_kupper", data), data).table.set_index("check")
    assert abs(right.loc["ties", "z"]) < 2.5


def test_unequal_leanings_to_a_side_are_named():
    def lean(d, who, rng):
        p = logistic(d + (0.7 * rng.normal(size=30))[who])
        return np.stack([p, 1 - p], 1)

    data = judged(lean, 2)
    found = prefdensity.check(prefdensity.fit("bradley_terry+position_bias", data), data).causes
    assert found[0].name == "annotators lean to a side unequally"
    assert found[0].next_programs == ("bradley_terry+position_bias(by='annotator')",)
    assert found[0].advice == "Try bradley_terry+position_bias(by='annotator')."


def test_covariates_are_checked_by_name():
    length = np.random.default_rng(1).normal(size=1800)

    def longer(d, who, rng):
        p = logistic(d + 0.4 * length)
        return np.stack([p, 1 - p], 1)

    data = judged(longer, 2, covariate_names=("length",), covariates=length[:, None])
    cause = prefdensity.check(prefdensity.fit("bradley_terry", data), data).causes[0]
    assert cause.name == "an effect of length"
    assert cause.meaning == "a side wins more often the more length speaks for it"
    assert cause.next_programs == ("bradley_terry+covariate",)


def test_features_that_say_too_little_are_named():
    data = simulated("luce", 3)
    noise = np.random.default_rng(0).normal(size=(8, 2))
    data = replace(data, feature_names=("f", "g"), item_features=noise)
    found = prefdensity.check(prefdensity.fit("linear", data), data).causes
    assert "features do not say all about the items" in [cause.name for cause in found]


@pytest.mark.parametrize(
    ("program", "finding", "expected"),
    [
        ("davidson", "lapses", ["davidson+lapse"]),
        ("davidson+lapse", "lapses", []),
        ("davidson", "tie curve", ["rao_kupper"]),
        ("davidson+position_bias", "tie curve", ["rao_kupper+position_bias"]),
        ("rao_kupper", "tie curve", ["davidson"]),
        ("bradley_terry", "tie curve", []),
        ("thurstone+position_bias", "order habits", ["thurstone+position_bias(by='annotator')"]),
        ("davidson", "order habits", ["davidson+position_bias(by='annotator')"]),
        ("linear+lapse", "features", ["items+lapse"]),
        ("comparison_types+davidson", "mixture", ["comparison_types(k=3)+davidson"]),
        ("thurstone", "lapses", ["thurstone+lapse"]),
        ("linear", "order", ["linear+position_bias"]),
        ("annotator_types(k=3)", "tastes", ["annotator_types(k=4)"]),
        (
            "bradley_terry",
            "tastes",
            ["bradley_terry+annotator_types", "bradley_terry+feature_tastes", "bradley_terry+tastes"],
        ),
        ("bradley_terry", "care", ["bradley_terry+reliability", "bradley_terry+crowd_bt"]),
        ("linear", "features", ["bradley_terry"]),
        ("bradley_terry", "curve", ["probit"]),
        ("thurstone", "curve", []),
        ("bradley_terry", "repeats", []),
        ("bradley_terry", "covariates", ["bradley_terry+covariate"]),
        (
            "position_bias+reliability",
            "order habits",
            ["position_bias(by='annotator')+reliability", "position_bias+reliability(scales='margin')"],
        ),
        ("reliability", "order habits", ["reliability+position_bias(by='annotator')"]),
        ("reliability(scales='margin')+position_bias", "order", ["reliability+position_bias"]),
    ],
)
def test_remedies_extend_programs(program, finding, expected):
    found = [each.program for each in remedies(prefdensity.load_program(program), finding)]
    assert [each.name for each in found] == expected
    assert [prefdensity.load_program(each.name).layers for each in found] == [each.layers for each in found]


def test_what_the_data_lack_is_said():
    data = prefdensity.read("example:puddings")
    report = prefdensity.check(prefdensity.fit("davidson", data), data)
    row = report.table.set_index("check").loc["tastes"]
    assert (row["verdict"], row["meaning"]) == ("not available", "who judged is not recorded")
    assert "not available: which item was shown first is not recorded" in str(report)
    post, data = fitted("luce", 0)
    alone = replace(data, annotators=("me",), annotator=np.zeros(len(data), int))
    meanings = prefdensity.check(prefdensity.fit("bradley_terry", alone, draws=100), alone).table.set_index("check")
    assert meanings.loc["slopes", "meaning"] == "there is one annotator"


def test_order_that_follows_from_the_items_is_not_checked():
    data = simulated("luce", 0)
    chain = data.take(np.abs(data.item_a - data.item_b) == 1)
    chain = replace(chain, first=np.where(chain.item_a < chain.item_b, 1, -1).astype(np.int8))
    report = prefdensity.check(prefdensity.fit("bradley_terry", chain, draws=100), chain)
    row = report.table.set_index("check").loc["order"]
    assert row["meaning"] == "utilities of the items can stand for all of it"


def test_reports_repeat_with_the_seed():
    post, data = fitted("luce", 0)
    one, same, other = (prefdensity.check(post, data, seed=seed).table for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


def test_swapping_sides_changes_nothing():
    post, data = fitted("position", 3)
    one = prefdensity.check(post, data).table
    other = data.swapped()
    again = prefdensity.fit("bradley_terry", other, method="laplace", draws=300)
    pd.testing.assert_frame_equal(one, prefdensity.check(again, other).table)


def test_other_tables_and_few_replicates_are_refused():
    post, data = fitted("luce", 0)
    with pytest.raises(DataError, match="is not the table of this fit"):
        prefdensity.check(post, fitted("luce", 1)[1])
    with pytest.raises(DataError, match="replicates must be a whole number of at least 20, not 5"):
        prefdensity.check(post, data, replicates=5)
    with pytest.raises(DataError, match="is not the table of this fit"):
        check.calibration_curve(post, fitted("luce", 1)[1])
    with pytest.raises(DataError, match="bins=0"):
        check.calibration_curve(post, data, bins=0)


def test_programs_of_files_are_checked_and_mended(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from prefdensity import compose\n\nPROGRAM = compose('position_bias', 'lapse')\n")
    program = prefdensity.load_program(path)
    data = simulated("types by annotator", 1)
    post = prefdensity.fit(program, data, draws=100)
    first = prefdensity.check(post, data).causes[0]
    assert first.name == TASTES
    assert first.next_programs[0] == "position_bias+lapse+annotator_types"


def test_point_fits_and_halved_ties_are_cautioned():
    data = prefdensity.read("example:puddings").ties_as_half_wins()
    post = prefdensity.fit("bradley_terry", data, method="map")
    said = " ".join(prefdensity.check(post, data).warnings)
    assert "one estimate" in said
    assert "half wins or weights, vary less" in said


def test_the_halves_of_a_tie_are_no_contradiction():
    """The halves of each tie were told as answers by which annotators contradict themselves, or go round in circles."""
    rng = np.random.default_rng(2)
    a = rng.integers(5, size=300)
    b = (a + rng.integers(1, 5, size=300)) % 5
    won = np.where(rng.random(300) < 1 / 3, "tie", np.where(rng.random(300) < 1 / (1 + np.exp((b - a) / 2)), "a", "b"))
    frame = pd.DataFrame({"item_a": [f"i{k}" for k in a], "item_b": [f"i{k}" for k in b], "outcome": won})
    data = prefdensity.Comparisons.from_frame(frame.assign(annotator=[f"p{k % 6}" for k in range(300)]))
    for halves, votes, program in ((False, data, "davidson"), (True, data.ties_as_half_wins(), "bradley_terry")):
        report = prefdensity.check(prefdensity.fit(program, votes, draws=100), votes, replicates=50)
        for name in ("self-agreement", "own cycles"):
            row = report.table.set_index("check").loc[name]
            assert row["verdict"] == ("not available" if halves else "as expected")
            assert row["meaning"].startswith("counts are half wins or weights") is halves


def test_large_tables_are_replicated_less_often(monkeypatch):
    post, data = fitted("luce", 0)
    monkeypatch.setattr(check, "_MOST", 30 * len(cells_of(data)))
    report = prefdensity.check(post, data)
    assert report.replicates == 30
    assert "30 tables were replicated, not 100" in str(report)


def test_passes_of_few_draws_give_the_same_statistics(monkeypatch):
    post, data = fitted("luce", 0)
    whole = prefdensity.check(post, data).table.set_index("check")
    monkeypatch.setattr("prefdensity.posterior.outcome_tables._PASS", 40_000)
    parts = prefdensity.check(post, data).table.set_index("check")
    for name in ("slopes", "tastes", "cycles"):
        assert parts.loc[name, "statistic"] == pytest.approx(whole.loc[name, "statistic"])


def test_calibration_counts_favourites():
    post, data = fitted("luce", 1)
    curve = check.calibration_curve(post, data, bins=5)
    assert curve["judgements"].sum() == len(data)
    np.testing.assert_allclose(curve["judgements"] / len(data), np.full(5, 0.2), atol=0.05)  # cells stay whole
    assert curve["predicted"].is_monotonic_increasing
    assert curve["predicted"].between(0.5, 1).all()
    assert curve.eval("lower <= observed <= upper").mean() >= 0.5
    u = post.utilities().mean(0)
    favourite_is_a = u[data.item_a] > u[data.item_b]
    won = (favourite_is_a == (data.outcome == 0)).sum()
    assert curve["observed"] @ curve["judgements"] == pytest.approx(won, abs=0.01 * len(data))
    chance = logistic(np.abs(u[data.item_a] - u[data.item_b])).sum()
    assert curve["predicted"] @ curve["judgements"] == pytest.approx(chance, abs=0.01 * len(data))


def test_pictures():
    report = prefdensity.check(*fitted("types by annotator", 1))
    axes = plots.check(report).axes[0]
    shown = report.table[report.table["verdict"] != "not available"]["check"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(shown)
    assert plots.calibration_curve(report.calibration_curve).axes[0].get_xlabel() == "probability of the favourite"


def test_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = simulated("position", 1)
    data.to_frame().to_csv("votes.csv", index=False)
    again = prefdensity.read("votes.csv")
    prefdensity.fit("bradley_terry", again, draws=200).save(tmp_path / "fit.nc")
    result = CliRunner().invoke(main.app, ["check", "fit.nc", "votes.csv", "--out", "found"])
    assert result.exit_code == 0, result.output
    assert "1. an effect of the order" in result.stdout
    assert sorted(path.name for path in Path("found").iterdir()) == [
        "calibration.svg",
        "check.csv",
        "check.svg",
        "suspects.csv",
    ]
    assert pd.read_csv("found/suspects.csv")["advice"][0] == "Try bradley_terry+position_bias."
    other = CliRunner().invoke(main.app, ["check", "fit.nc", "example:citations"])
    assert other.exit_code == 2
    assert "is not the table of this fit" in other.stderr


def test_help_has_an_example():
    result = CliRunner().invoke(main.app, ["check", "--help"])
    assert "Example: prefdensity check results/fit.nc votes.csv" in result.stdout


@pytest.mark.slow
def test_power_and_causes(capsys):
    """Bars: powers of the method page at level .05 and its null row; first-named causes right in 80 %."""
    replicates, level = 40, 0.05
    power, first = {}, {}
    for truth in NAMED:
        reports = []
        for seed in range(5000, 5000 + replicates):
            data = simulated(truth, seed)
            reports.append(prefdensity.check(prefdensity.fit("bradley_terry", data, method="laplace"), data, seed=seed))
        tails = pd.concat([report.table.set_index("check")["tail"] for report in reports], axis=1)
        power[truth] = (tails <= level).mean(axis=1)
        first[truth] = Counter(report.causes[0].name if report.causes else "" for report in reports)
    table = pd.DataFrame(power).T.drop(columns=["ties", "tie habits"])
    right = {truth: first[truth][name] / replicates for truth, name in NAMED.items()}
    with capsys.disabled():
        print("\n" + table.round(2).to_string())
        print(pd.DataFrame(first).T.fillna(0).astype(int).rename(columns={"": "nothing"}).to_string())
        print(f"first-named cause right in {np.mean(list(right.values())):.0%}")
    assert (table.loc["luce"] <= 0.15).all()
    strong = {
        "types by annotator": ["tastes", "own tastes"],
        "own utilities": ["tastes", "own tastes"],
        "temperature": ["tastes", "slopes", "accuracy"],
        "spammers": ["tastes", "slopes", "accuracy"],
        "position": ["order"],
        "intransitive": ["pair fit", "cycles"],
    }
    assert all(table.loc[truth, names].min() >= 0.8 for truth, names in strong.items())
    assert table.loc["types by comparison", "pair fit"] >= 0.65
    assert table.loc["lapse", "calibration"] >= 0.65
    assert np.mean(list(right.values())) >= 0.8
    assert first["types by comparison"][MIXED] >= replicates / 2
