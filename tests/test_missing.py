"""Empty cells in rankings, scores and ratings: refused by row, or dropped, in whole answers, and told."""

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity import Choices, DataError

ORDERS = ["abc", "bca", "cab", "acb", "bac", "cba"]


def rankings():
    """Six rankings of three items by three people, in two rounds, one row for each item."""
    rows = [
        (f"q{k}", f"p{k % 3}", item, float(place), "late" if k > 2 else "early", 20.0 + k)
        for k, order in enumerate(ORDERS)
        for place, item in enumerate(order, 1)
    ]
    return pd.DataFrame(rows, columns=["answer", "who", "item", "rank", "round", "age"])


def picks():
    frame = rankings()
    frame["pick"] = frame["rank"].map({1: "best", 3: "worst"})
    return frame.drop(columns="rank")


def emptied(frame, column, *rows):
    frame = frame.astype({column: object}).copy()
    frame.loc[list(rows), column] = None
    return frame


NAMED = {"annotator": "who", "groups": ["round"], "numbers": ["age"]}


@pytest.mark.parametrize(("table", "role"), [(rankings, "rank"), (picks, "pick")])
@pytest.mark.parametrize("read", [prefdensity.read, None])
@pytest.mark.parametrize("column", ["who", "item", "round", "age"])
def test_an_answer_with_an_empty_cell_goes_as_a_whole_and_is_counted(table, role, read, column):
    if read is None:
        read = Choices.from_rankings if role == "rank" else Choices.from_best_worst
    how = {"answer": "answer", role: role, **NAMED}
    frame = emptied(table(), column, 4)  # the second row of q1
    with pytest.raises(DataError, match=f"column '{column}' .* is empty in 1 answers, first in row 5; fill them, or d"):
        read(frame, **how)
    data = read(frame, **how, missing="drop")
    said = "annotator (who)" if column == "who" else column
    assert data.notes == (f"1 answers with an empty {said} dropped on request",)
    whole = read(table().query("answer != 'q1'"), **how)
    assert data.fingerprint() == whole.fingerprint()
    with pytest.raises(DataError, match="missing='maybe' is unknown; use 'error' or"):
        read(frame, **how, missing="maybe")


def test_rows_of_no_answer_and_skipped_answers_go(tmp_path):
    frame = emptied(rankings(), "rank", 3, 4, 5)
    with pytest.raises(DataError, match="answer 'q1' ranks nothing in 'rank'; answers that somebody skipped are"):
        Choices.from_rankings(frame, answer="answer")
    data = Choices.from_rankings(frame, answer="answer", missing="drop")
    assert data.notes == ("1 answers that do not name a rank dropped on request",)
    assert data.answers == ("q0", "q2", "q3", "q4", "q5")
    skipped = emptied(picks(), "pick", 3, 5)  # q1 named both, and now names neither
    with pytest.raises(DataError, match="answer 'q1' names 0 items 'best' in 'pick', not one; answers that"):
        Choices.from_best_worst(skipped, answer="answer")
    assert Choices.from_best_worst(skipped, answer="answer", missing="drop").n_answers == 5
    loose = emptied(rankings(), "answer", 0, 1, 2)
    for read in (prefdensity.read, Choices.from_rankings):
        with pytest.raises(DataError, match="column 'answer' .answer. is empty in 3 rows, first in row 1"):
            read(loose, answer="answer", rank="rank")
        data = read(loose, answer="answer", rank="rank", missing="drop")
        assert data.notes == ("3 rows with an empty answer dropped on request",)
        assert data.n_answers == 5
    with pytest.raises(DataError, match="no answer is left: 18 rows with an empty answer dropped on request"):
        prefdensity.read(emptied(rankings(), "answer", *range(18)), answer="answer", rank="rank", missing="drop")
    two = prefdensity.read(loose, answer=["who", "answer"], rank="rank", missing="drop")
    assert two.n_answers == 5
    pairs = prefdensity.read(loose, answer="answer", rank="rank", as_pairs=True, missing="drop")
    assert pairs.n_judgements == 15  # rows of no answer were pairs with one another


@pytest.mark.parametrize("how", [{"ranked": ["first", "second", "third"]}, {"wide": "rank", "unranked": "absent"}])
def test_a_row_of_empty_cells_is_no_answer_that_goes_without_a_word(how):
    if "ranked" in how:
        frame = pd.DataFrame([list(order) for order in ORDERS], columns=how["ranked"])
    else:
        frame = pd.DataFrame([{item: order.index(item) + 1.0 for item in "abc"} for order in ORDERS])
    frame = frame.assign(who=[f"p{k % 3}" for k in range(6)]).astype(object)
    frame.iloc[2, :3] = None
    with pytest.raises(DataError, match="1 answer with nothing but empty cells, first in row 3; drop such rows with"):
        prefdensity.read(frame, annotator="who", **how)
    data = prefdensity.read(frame, annotator="who", missing="drop", **how)
    assert "1 answer with nothing but empty cells dropped on request" in data.notes
    assert data.n_answers == 5


def test_scores_of_nobody_are_not_compared_with_one_another():
    frame = pd.DataFrame(
        {"task": ["x", "x", "y", "y", None, None], "item": list("ababab"), "score": [1, 2, 3, 1, 5, 4]}
    )
    with pytest.raises(DataError, match="column 'task' .task. is empty in 2 rows, first in row 5"):
        prefdensity.read(frame, score="score", context="task")
    data = prefdensity.read(frame, score="score", context="task", missing="drop")
    assert data.n_judgements == 2
    assert "2 rows with an empty task dropped on request" in data.notes


def test_rows_are_counted_by_the_first_cell_that_they_lack():
    judges, languages = ["p", None, None, "q"], [None, None, "de", "en"]
    columns = {"item_a": list("xyzx"), "item_b": list("yzxy"), "outcome": "a", "judge": judges, "language": languages}
    frame = pd.DataFrame(columns, dtype=object)
    with pytest.raises(
        DataError, match=r"drop such rows with missing='drop', or .*annotator=None \(--without annotator"
    ):
        prefdensity.read(frame, annotator="judge")
    data = prefdensity.read(frame, annotator="judge", groups=["language"], missing="drop")
    assert data.notes == (
        "2 rows with an empty annotator (judge) dropped on request", "1 rows with an empty language dropped on request",
    )  # fmt: skip
    assert data.n_judgements == 1


def test_ratings_with_empty_cells_are_dropped_and_counted():
    data = prefdensity.read("example:puddings")
    grades = pd.DataFrame({"item": ["1", "2", None, "5"], "rating": [2, None, 5, 4], "who": ["x", "y", "z", None]})
    with pytest.raises(DataError, match="ratings: column 'item' .item. is empty in 1 rows, first in row 3"):
        prefdensity.with_ratings(data, grades)
    both = prefdensity.with_ratings(data, grades, missing="drop")
    assert both.notes[-1] == "ratings: 1 rows with an empty rating dropped on request"
    np.testing.assert_array_equal(both.ratings.level, [0, 1])
    one = prefdensity.with_ratings(data, grades, annotator="who", missing="drop", levels=(1, 2, 3))
    assert len(one.ratings) == 1
    assert one.annotators == ("x",)
    with pytest.raises(DataError, match="row 4 has 4.0 in 'rating'"):
        prefdensity.with_ratings(data, grades, missing="drop", levels=(1, 2, 3))


def test_a_column_that_is_no_item_is_told_what_it_may_be():
    frame = pd.DataFrame({"elm": [1, 2], "fir": [2, 1], "gender": ["f", None]})
    with pytest.raises(
        DataError, match=r"holds 'f' in row 1. If 'gender' is no item, say what it is, as in groups=\['gen"
    ):
        prefdensity.read(frame, wide="rank")
    with pytest.raises(DataError, match="column 'gender' .gender. is empty in 1 answers, first in row 2"):
        prefdensity.read(frame, wide="rank", groups=["gender"])
    with pytest.raises(DataError, match="in row 1$"):
        prefdensity.read(frame, wide="rank", columns=["elm", "gender"])
