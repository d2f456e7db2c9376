"""The table of judged units: what it accepts, derives, and refuses in one sentence."""

import numpy as np
import pandas as pd
import pytest

from prefdensity.errors import DataError
from prefdensity.judged.simulate import COEFFICIENT, JUDGES, LABEL_SD, JudgedWorld, TrueJudge, buy
from prefdensity.judged.units import Judged


def table(**columns):
    frame = {
        "x": [0.0, 1.0, 2.0],
        "w1": [1.0, 2.0, 3.0],
        "w2": [2.0, 2.0, 1.0],
        "preference": ["a", "tie", None],
        "label": [1.5, None, None],
        "p1": [0.5, 0.5, 0.2],
        "p2": [0.8, 0.8, 0.2],
    }
    return pd.DataFrame(frame | columns)


def read(frame, **options):
    given = {"covariates": ["x"], "label_probability": "p1", "preference_probability": "p2", "cost": 4.0} | options
    return Judged.from_frame(frame, **given)


def test_patterns_votes_and_spending():
    judged = read(table())
    assert judged.pattern.tolist() == [1, 2, 3]
    assert judged.votes.tolist() == [[0], [2], [-1]]
    assert judged.spent == pytest.approx((4 + 1) / 3)
    assert judged.features == ("x", "w1", "w2")


def test_one_and_zero_mean_a_and_b():
    assert read(table(preference=[1, 0, None])).verdict.tolist() == [0, 1]
    assert read(table(preference=["w", "l", None]), verdicts={"w": "a", "l": "b"}).verdict.tolist() == [0, 1]


def test_several_judges_stages_and_clusters():
    frame = table(second=["b", None, None], batch=["one", "two", "two"], site=[7, 7, 3])
    judged = read(frame, preference=["preference", "second"], stage="batch", cluster="site")
    assert judged.votes.tolist() == [[0, 1], [2, -1], [-1, -1]]
    assert judged.stage.tolist() == [0, 1, 1]
    assert judged.cluster.tolist() == [1, 1, 0]
    part = judged.take(np.array([1, 0]))
    assert part.votes.tolist() == [[2, -1], [0, 1]]
    assert part.cluster.tolist() == [1, 1]
    assert np.isnan(part.label[0])


def test_units_are_a_table_like_others():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "w1": 0.0, "w2": [1.0, 2.0, 3.0], "preference": ["a", "b", "a"]})
    data = Judged.from_frame(frame.assign(label=[0.5, 1.0, 2.0]), covariates=["x"])
    assert data.head(2).label.tolist() == [0.5, 1.0]
    assert data.head(2).judged.tolist() == [0, 1]
    again = Judged.from_frame(frame.assign(label=[0.5, 1.0, 2.0]), covariates=["x"])
    other = Judged.from_frame(frame.assign(label=[0.5, 1.0, 2.5]), covariates=["x"])
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()
    assert data.judged_as(1).fingerprint() != data.fingerprint()
    units, labels = data.units("unit")
    assert units.ravel().tolist() == [0, 1, 2]
    assert labels == ("1", "2", "3")


def test_a_unit_taken_twice_has_its_judgements_twice():
    frame = table(second=["b", None, None])
    twice = read(frame, preference=["preference", "second"]).take(np.array([1, 0, 0, 2]))
    assert twice.votes.tolist() == [[2, -1], [0, 1], [0, 1], [-1, -1]]
    assert twice.pattern.tolist() == [2, 1, 1, 3]


def panel(**columns):
    """Four units, judged by people of whom a column tells the name; ann also labels."""
    frame = {
        "x": [0.0, 1.0, 2.0, 3.0],
        "w1": [1.0, 2.0, 3.0, 1.0],
        "w2": [2.0, 2.0, 1.0, 0.0],
        "preference": ["a", "b", "tie", None],
        "who": ["ann", "bob", "eve", None],
        "label": [1.5, 2.0, None, None],
        "buy": ["label", "label", "preference", "nothing"],
        "p1": 0.5,
        "p2": 0.8,
    }
    return pd.DataFrame(frame | columns)


def test_a_column_says_who_judged():
    judged = read(panel(), judge="who")
    assert judged.judges == ("ann", "bob", "eve")
    assert judged.votes.tolist() == [[0, -1, -1], [-1, 1, -1], [-1, -1, 2], [-1, -1, -1]]
    two = read(panel(second=["b", None, "a", None], other=["bob", None, "ann", None]),
               preference=["preference", "second"], judge=["who", "other"])  # fmt: skip
    assert two.votes.tolist() == [[0, 1, -1], [-1, 1, -1], [0, -1, 2], [-1, -1, -1]]


def test_verdicts_that_come_with_the_label_are_set_aside_and_counted():
    judged = read(panel(), judge="who", labellers=["ann"])
    assert judged.judges == ("bob", "eve")
    assert judged.votes.tolist() == [[-1, -1], [1, -1], [-1, 2], [-1, -1]]
    assert judged.pattern.tolist() == [1, 1, 2, 3]  # what was bought stays bought
    assert judged.voted.tolist() == [False, True, True, False]
    assert judged.aside == (("ann", 1),)
    nobody = judged.set_aside(["bob", "eve"])
    assert nobody.pattern.tolist() == [1, 1, 2, 3]
    assert nobody.aside == (("ann", 1), ("bob", 1), ("eve", 1))
    assert nobody.take(np.array([2, 0])).pattern.tolist() == [2, 1]
    assert nobody.spent == judged.spent == read(panel(), judge="who").spent


def test_what_was_asked_for_is_kept_beside_what_came():
    judged = read(panel(label=[1.5, None, None, None]), buy="buy")
    assert judged.bought.tolist() == [1, 1, 2, 3]
    assert judged.pattern.tolist() == [1, 2, 2, 3]
    assert read(judged.to_frame(), preference="preference", label_probability="label_probability",
                preference_probability="preference_probability", buy="buy").bought.tolist() == [1, 1, 2, 3]  # fmt: skip
    sure = read(panel(label=[1.5, None, None, None], p1=[1, 1, 0.5, 0.5], p2=[1, 1, 0.8, 0.8]), buy="buy")
    assert sure.pattern.tolist() == [1, 2, 2, 3]


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({"who": ["ann", None, "eve", None]}, {"judge": "who"}, "'who' is empty in row 2, where 'preference' holds"),
        ({}, {"judge": ["who", "buy"]}, "names 2 columns for 1"),
        ({}, {"labellers": ["ann"]}, "no judge 'ann'; its judges are preference"),
        ({"other": "ann", "second": "b"}, {"judge": ["who", "other"], "preference": ["preference", "second"]},
         "'ann' judged row 1 twice"),
        ({"buy": ["yes", "label", "preference", "nothing"]}, {"buy": "buy"}, "'buy' holds 'yes' in row 1; label, "),
        ({"buy": ["label", "preference", "preference", "nothing"]}, {"buy": "buy"}, "a label in row 2, where 'buy'"),
        ({"buy": ["label", "label", "nothing", "nothing"]}, {"buy": "buy"}, "a preference in row 3, where 'buy' says"),
    ],
)  # fmt: skip
def test_bad_panels_and_purchases_are_one_sentence(columns, options, says):
    with pytest.raises(DataError, match=says):
        read(panel(**columns), **options)


def test_frame_and_table_are_the_same():
    judged = read(table())
    again = read(judged.to_frame(), label_probability="label_probability",
                 preference_probability="preference_probability",
                 preference="preference")  # fmt: skip
    pd.testing.assert_frame_equal(judged.to_frame(), again.to_frame())


@pytest.mark.parametrize(
    ("columns", "options", "says"),
    [
        ({}, {"covariates": ["z"]}, "no column 'z'"),
        ({}, {"covariates": ["w1"]}, "named or given twice"),
        ({}, {"outputs": ["w1"]}, "two outputs"),
        ({"x": [0, "much", 1]}, {}, "column 'x' must hold finite numbers, and holds 'much' in row 2"),
        ({"x": [0, None, 1]}, {}, "column 'x' must hold .* in row 2"),
        ({"label": [np.inf, None, None]}, {}, "column 'label' must hold .* holds inf in row 1"),
        ({"preference": ["a", "A", None]}, {}, "'A' in row 2; a, b or tie"),
        ({"preference": [None, "a", None]}, {}, "a label but no preference in row 1"),
        ({"p1": [0.0, 0.5, 0.2]}, {}, r"'p1' holds 0 in row 1; it must lie in \(0, 1\]"),
        ({"p2": [0.8, 1.2, 0.2]}, {}, r"'p2' holds 1.2 in row 2; it must lie in \(0, 1\]"),
        ({"p1": [0.9, 0.5, 0.2]}, {}, "exceeds 'p2' 0.8 in row 1"),
        ({"p2": [0.8, 0.8, 1.0]}, {}, "'p2' is 1 in row 3, where nothing was bought"),
        ({}, {"label_probability": None}, "belong together"),
        ({}, {"label_probability": None, "preference_probability": None}, "no label in row 2 and no probabilities"),
        ({}, {"cost": 1.0}, "must exceed 1"),
        ({}, {"verdicts": {"a": "left"}}, "maps to 'left'"),
        ({"site": [1, None, 2]}, {"cluster": "site"}, "column 'site' is empty in row 2"),
    ],
)
def test_bad_input_is_one_sentence(columns, options, says):
    with pytest.raises(DataError, match=says):
        read(table(**columns), **options)


def test_an_empty_table_and_an_unknown_price_are_refused():
    with pytest.raises(DataError, match="no rows"):
        read(table().iloc[:0])
    with pytest.raises(DataError, match="price of a label"):
        _ = read(table(), cost=None).spent


def test_the_simulated_label_has_the_law_it_says():
    world = JudgedWorld.draw(3)
    units = world.units(200_000, 4)
    mean, sd = world.label_law(units)
    residual = units.label - mean
    # 4 standard errors: false alarms once in 16,000
    assert residual.std() == pytest.approx(sd, rel=4 / np.sqrt(2 * len(units)))
    assert sd**2 == pytest.approx(226.55, abs=0.02)
    features = np.column_stack([units.covariates, units.outputs])
    assert np.abs(features.T @ residual / len(units) / features.std(0) / sd).max() < 4 / np.sqrt(len(units))
    assert (units.label - units.covariates @ COEFFICIENT).std() == pytest.approx(LABEL_SD, rel=0.01)


@pytest.mark.parametrize("name", JUDGES)
def test_simulated_judges_say_what_their_probabilities_say(name):
    units = JudgedWorld.draw(1, name).units(50_000, 2)
    p = JUDGES[name].probability(units.label, units.outputs, JUDGES[name].ease(units.covariates))
    assert ((p >= 0) & (p <= 1)).all()
    said = units.votes[:, 0] == 0
    z = (said - p).sum() / np.sqrt((p * (1 - p)).sum() + 1e-9)
    assert abs(z) < 4


def test_a_sharp_judge_is_the_noise_free_one_and_a_flip_turns_it_round():
    units = JudgedWorld.draw(1).units(1000, 2)
    clean = TrueJudge().probability(units.label, units.outputs)
    sharp = TrueJudge(sharpness=1e6).probability(units.label, units.outputs)
    np.testing.assert_allclose(sharp, clean, atol=1e-6)
    np.testing.assert_allclose(TrueJudge(flip=0.3).probability(units.label, units.outputs), 0.3 + 0.4 * clean)


def test_a_shift_moves_one_output_and_the_law_of_the_label_with_it():
    plain, moved = (JudgedWorld.draw(1, shift=shift) for shift in (0.0, 3.0))
    one, two = (world.units(500, 2) for world in (plain, moved))
    np.testing.assert_allclose(two.outputs - one.outputs, np.tile([0.0, 3.0], (500, 1)), atol=1e-12)
    np.testing.assert_allclose(moved.label_law(two)[0], plain.label_law(one)[0], atol=1e-12)


def test_an_easy_unit_is_judged_sharply_and_the_last_ones_are_not():
    judge = TrueJudge(sharpness=1.0, easier=np.log(2), tiring=np.log(3))
    ease = judge.ease(np.array([[1.0], [1.0], [0.0]]))
    np.testing.assert_allclose(ease, [2.0, 2 / np.sqrt(3), 1 / 3])
    p = judge.probability(np.zeros(3), np.array([[0.0, 1.0]] * 3), ease)
    np.testing.assert_allclose(np.log(p / (1 - p)), ease)


def test_buying_hides_the_rest():
    units = JudgedWorld.draw(1).units(3, 2)
    judged = buy(units, np.full(3, 0.3), np.full(3, 0.6), np.array([1, 2, 3]))
    assert judged.pattern.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="no judge 'oracle'"):
        JudgedWorld.draw(1, "oracle")
