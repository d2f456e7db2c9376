import time

import numpy as np
import pandas as pd
import pytest

from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.existence import components, strong_groups, undefeated, winless
from prefdensity.data.readers import example, read
from prefdensity.data.report import describe
from prefdensity.errors import DataError


def table(*rows: str, **arguments) -> Comparisons:
    """Comparisons from words such as "x>y" and "x=y"."""
    parts = [(row[0], row[2], "a" if row[1] == ">" else "tie") for row in rows]
    return Comparisons.from_frame(pd.DataFrame(parts, columns=["item_a", "item_b", "outcome"]), **arguments)


def test_a_cycle_is_one_group():
    data = table("x>y", "y>z", "z>x")
    assert components(data).tolist() == [0, 0, 0]
    assert strong_groups(data) == [("x", "y", "z")]
    assert undefeated(data) == winless(data) == []
    assert not any("likelihood" in warning for warning in describe(data).warnings)


def test_a_chain_has_an_undefeated_and_a_winless_item():
    data = table("x>y", "y>z")
    assert set(strong_groups(data)) == {("x",), ("y",), ("z",)}
    assert undefeated(data) == [("x",)]
    assert winless(data) == [("z",)]
    report = describe(data)
    assert report.items["undefeated"].tolist() == [True, False, False]
    assert report.items["winless"].tolist() == [False, False, True]
    assert any("no finite maximum-likelihood estimate exists; with a prior" in w for w in report.warnings)


def test_a_tie_joins_both_ways():
    assert strong_groups(table("x>y", "x=y", "y>z", "z=y")) == [("x", "y", "z")]
    # the groups {w, x} and {y, z} are each tied within, and the first won throughout
    data = table("w=x", "y=z", "w>y", "x>z")
    assert undefeated(data) == [("w", "x")]
    assert winless(data) == [("y", "z")]
    assert "w + x" in str(describe(data))


def test_separate_components_are_not_called_undefeated():
    data = table("w>x", "x>w", "y>z", "z>y")
    assert components(data).tolist() == [0, 0, 1, 1]
    assert undefeated(data) == winless(data) == []
    report = describe(data)
    assert report.n_components == 2
    assert any("fall into 2 groups that were never compared" in warning for warning in report.warnings)


def test_rows_with_count_zero_connect_nothing():
    frame = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "outcome": ["a", "a"], "count": [3, 0]})
    data = Comparisons.from_frame(frame)
    assert components(data).tolist() == [0, 0, 1]
    assert undefeated(data) == [("x",)]
    assert describe(data).items["judgements"].tolist() == [3, 3, 0]


def test_items_and_annotators_are_counted(votes):
    report = describe(Comparisons.from_frame(votes, ordered=True))
    items = report.items.set_index("item")
    assert items.loc["x", ["judgements", "wins", "losses", "ties"]].tolist() == [4, 1, 2, 1]
    assert items[["wins"]].to_numpy().sum() == items[["losses"]].to_numpy().sum() == 5
    people = report.annotators.set_index("annotator")
    assert people.loc["ann", "judgements"] == 3
    assert people.loc["ann", "tie_share"] == pytest.approx(1 / 3)
    assert people.loc["ann", "first_share"] == 1
    assert people.loc["bob", "first_share"] == pytest.approx(1 / 3)
    assert report.first_share == pytest.approx(3 / 5)
    assert report.both_orders == 0
    assert any("2 annotators with fewer than 5 judgements (ann, bob)" in w for w in report.warnings)
    assert any("3 items with fewer than 5 judgements (x, y, z)" in w for w in report.warnings)
    assert any("No pair was seen in both orders" in w for w in report.warnings)


def test_the_report_does_not_depend_on_sides(votes):
    data = Comparisons.from_frame(votes, ordered=True)
    one, two = describe(data), describe(data.swapped())
    pd.testing.assert_frame_equal(one.items, two.items)
    pd.testing.assert_frame_equal(one.annotators, two.annotators)
    assert str(one) == str(two)


def test_unknown_order_is_said(votes):
    report = describe(Comparisons.from_frame(votes))
    assert report.first_share is None
    assert report.both_orders is None
    assert report.annotators["first_share"].isna().all()
    assert "order shown   unknown" in str(report)


def test_one_is_told_as_one():
    frame = pd.DataFrame({"item_a": ["x"], "item_b": ["y"], "outcome": ["a"], "annotator": ["Ann"]})
    said = str(describe(Comparisons.from_frame(frame))).splitlines()
    assert said[0] == "1 judgement of 2 items (data frame)"
    assert "  pairs         1 of 1, in 1 component" in said
    assert "  per item      1 judgement" in said
    assert "  annotators    1, 1 judgement each" in said


def test_answers_to_prompts_fall_into_groups_by_no_accident():
    frame = pd.DataFrame(
        {"item_a": ["p1", "q1", "q2", "q3"], "item_b": ["p2", "q2", "q1", "q4"], "outcome": list("abab")}
    )
    (said, *_) = describe(Comparisons.from_frame(frame)).warnings
    assert said.startswith("The items fall into 3 groups that were never compared with each other (")
    (said, *_) = describe(Comparisons.from_frame(frame.assign(context=["p", "q", "q", "q"]))).warnings
    assert said == (
        "Every item belongs to one of 2 contexts, and was compared within it alone, in 3 groups: the data rank items "
        "of one group only, and the prior alone relates those of several."
    )
    (said, *_) = describe(Comparisons.from_frame(frame.assign(context=["p", "q", "r", "q"]))).warnings
    assert said.startswith("The items fall into 3 groups")  # q1 and q2 belong to two


def test_an_order_that_nothing_was_decided_in_is_known(votes):
    report = describe(Comparisons.from_frame(votes.assign(outcome="tie"), ordered=True))
    assert report.first_share is None
    assert report.both_orders is not None
    assert "order shown   known, but no judgement was decided" in str(report)


def test_baseball_was_played_in_both_orders():
    report = describe(example("baseball"))
    assert report.both_orders == 1
    assert report.first_share == pytest.approx(154 / 273)
    assert report.warnings == ()
    assert "Nothing to warn of" in str(report)


def test_a_winner_first_file_is_recognised():
    rows = ["x>y", "y>z", "z>x"] * 4
    assert any("lists the winner first: the sides say nothing" in w for w in describe(table(*rows)).warnings)
    ordered = describe(table(*rows, ordered=True)).warnings
    assert any("the recorded order cannot be right" in w for w in ordered)


def test_only_ties_are_said():
    assert any("Every judgement is a tie" in warning for warning in describe(table("x=y", "y=x")).warnings)


def test_annotators_who_keep_to_one_side():
    rows = [("x", "y", "a", "left"), ("y", "x", "a", "left")] * 6
    rows += [("x", "y", "a", "fair"), ("y", "x", "b", "fair"), ("x", "y", "b", "fair")] * 6
    data = Comparisons.from_frame(
        pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "annotator"]), ordered=True
    )
    assert any(
        "1 annotator(s) always decide for the first shown" in w and "(left)" in w for w in describe(data).warnings
    )
    unordered = Comparisons.from_frame(data.to_frame(), first=None)
    assert any("always decide the same side" in w and "(left)" in w for w in describe(unordered).warnings)


def test_dependence_is_said(votes):
    twice = pd.concat([votes, votes])
    warnings = describe(Comparisons.from_frame(twice)).warnings
    assert any("6 judgements (50.0%) repeat a pair that the same annotator judged before" in w for w in warnings)
    contexts = describe(Comparisons.from_frame(twice.assign(context=["p"] * 6 + ["q"] * 6))).warnings
    assert any("12 judgements come from 2 contexts, up to 6 from one" in w for w in contexts)
    assert not any("repeat a pair" in w for w in contexts)


def test_the_effect_of_the_order_is_remarked_on():
    data, _ = simulate.population(5, 4, 2000, seed=0, position_bias=1.0)
    assert any("knows no effect of the order" in warning for warning in describe(data).warnings)


def test_notes_are_shown(votes):
    votes.loc[0, "outcome"] = "skip"
    data = Comparisons.from_frame(votes, labels={"a": "a", "b": "b", "tie": "tie", "skip": "drop"})
    assert "1 rows with outcome 'skip' dropped on request" in str(describe(data))


def test_pairs_without_outcomes_are_refused(votes):
    from dataclasses import replace

    data = replace(Comparisons.from_frame(votes), outcome=None)
    assert components(data).max() == 0
    for function in (describe, strong_groups, undefeated, winless):
        with pytest.raises(DataError, match="no outcomes yet"):
            function(data)


def test_a_million_rows_are_described_quickly():
    data, _ = simulate.population(1000, 5000, 1_000_000, seed=0, tie_strength=0.5, reliability_sd=0.5)
    start = time.process_time()
    report = describe(data)
    assert time.process_time() - start < 3
    assert report.items["judgements"].sum() == 2_000_000


def test_real_tables_are_described(shared_data):
    topics = describe(read(shared_data / "ukpconvarg.csv.gz", context="topic"))
    assert (topics.n_components, topics.n_items, topics.n_annotators) == (32, 1052, 3815)
    assert describe(read(shared_data / "intl_football.csv.gz")).n_components == 2
    crowd = describe(read(shared_data / "llmfao.csv", ordered=True, context="prompt"))
    assert crowd.n_components == 1
    assert crowd.tie_share == pytest.approx(0.389, abs=5e-4)
    assert crowd.items["judgements"].max() / crowd.n_judgements == pytest.approx(0.31, abs=0.01)
    assert np.nanmax(crowd.annotators["first_share"]) == 1
