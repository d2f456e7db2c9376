import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from prefdensity.data.comparisons import OUTCOMES, Comparisons
from prefdensity.errors import DataError
from prefdensity.programs.tabulate import cells_of

FIELDS = ("item_a", "item_b", "outcome", "count", "annotator", "context", "first", "covariates")


def same(one: Comparisons, other: Comparisons) -> None:
    for name in ("items", "annotators", "contexts", "covariate_names"):
        assert getattr(one, name) == getattr(other, name)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@st.composite
def frames(draw):
    n_rows = draw(st.integers(1, 25))
    pair = st.tuples(st.integers(0, 4), st.integers(0, 3)).map(lambda p: (p[0], p[1] + (p[1] >= p[0])))
    pairs = draw(st.lists(pair, min_size=n_rows, max_size=n_rows))

    def column(values):
        return draw(st.lists(st.sampled_from(values), min_size=n_rows, max_size=n_rows))

    table = pd.DataFrame(pairs, columns=["item_a", "item_b"]).map(lambda code: f"item {code}")
    table["outcome"] = column(OUTCOMES)
    if draw(st.booleans()):
        table["annotator"] = column(["NA", "007", "ann"])
    if draw(st.booleans()):
        table["context"] = column(["p", "q"])
    if draw(st.booleans()):
        table["first"] = column(["a", "b", "neither"])
    table["count"] = column([1, 2, 5])
    table["longer"] = column([-1.5, 0.0, 2.0])
    return table


def read(table: pd.DataFrame) -> Comparisons:
    return Comparisons.from_frame(table, covariates=["longer"])


@given(frames())
@settings(deadline=None)
def test_a_table_survives_the_way_through_a_frame(table):
    data = read(table)
    same(data, Comparisons.from_frame(data.to_frame(), covariates=["longer"]))
    assert data.fingerprint() == read(table).fingerprint()


@given(frames())
@settings(deadline=None)
def test_swapping_twice_changes_nothing_and_once_no_win(table):
    data = read(table)
    same(data, data.swapped().swapped())
    np.testing.assert_array_equal(data.wins(), data.swapped().wins())


@given(frames())
@settings(deadline=None)
def test_cells_count_the_judgements_and_ignore_sides(table):
    data = read(table)
    cells = cells_of(data)
    assert float(cells.total.sum()) == data.n_judgements == table["count"].sum()
    assert float(cells.outcome.sum()) == data.n_judgements
    swapped = cells_of(data.swapped())
    for name in ("item_a", "item_b", "annotator", "first", "covariates", "outcome"):
        np.testing.assert_array_equal(getattr(cells, name), getattr(swapped, name), err_msg=name)


@given(frames(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_cells_do_not_depend_on_the_order_of_rows(table, random):
    rows = list(range(len(table)))
    random.shuffle(rows)

    def contents(data):
        cells = cells_of(data)
        parts = [
            cells.item_a,
            cells.item_b,
            cells.annotator,
            cells.first,
            *cells.covariates.T,
            *cells.outcome.T,
        ]
        return sorted(zip(*[part.tolist() for part in parts if part is not None], strict=True))

    assert contents(read(table)) == contents(read(table.iloc[rows]))


def test_labels_are_sorted_text_and_codes_index_them():
    table = pd.DataFrame({"item_a": [10, 9], "item_b": [9, 7], "outcome": ["a", "tie"]})
    data = Comparisons.from_frame(table)
    assert data.items == ("10", "7", "9")
    assert [data.items[code] for code in data.item_a] == ["10", "9"]
    assert data.n_judgements == 2
    assert data.n_ties == 1
    assert data.annotator is None
    assert data.first is None
    assert "2 judgements, 3 items" in repr(data)


def test_ordered_and_first(votes):
    assert (Comparisons.from_frame(votes, ordered=True).first == 1).all()
    votes["first"] = ["a", "b", "neither"] * 2
    assert Comparisons.from_frame(votes).first.tolist() == [1, -1, 0, 1, -1, 0]
    assert Comparisons.from_frame(votes, first=None).first is None


def test_wins_and_ways_to_take_ties(votes):
    data = Comparisons.from_frame(votes)
    assert data.wins().sum() == 5
    assert data.wins()[0, 1] == 1  # x beat y once, y beat x once
    assert data.wins()[1, 0] == 1
    halves = data.ties_as_half_wins()
    assert halves.n_judgements == data.n_judgements
    assert halves.n_ties == 0
    assert halves.wins()[2, 0] == halves.wins()[0, 2] + 1 == 1.5
    assert "1 ties counted as half a win" in halves.notes[0]
    fewer = data.without_ties()
    assert len(fewer) == 5
    assert fewer.notes == ("1 ties dropped on request",)


def test_labels_translate_and_drop_with_a_note(votes):
    votes["outcome"] = ["left", "right", "same", "skip", "left", "skip"]
    labels = {"left": "a", "right": "b", "same": "tie", "skip": "drop"}
    data = Comparisons.from_frame(votes, labels=labels)
    assert data.outcome.tolist() == [0, 1, 2, 0]
    assert data.notes == ("2 rows with outcome 'skip' dropped on request",)


def test_missing_rows_are_dropped_only_on_request_and_counted(votes):
    votes.loc[1, "annotator"] = None
    votes.loc[3, "outcome"] = np.nan
    data = Comparisons.from_frame(votes, missing="drop")
    assert len(data) == 4
    assert data.notes[:2] == tuple(
        f"1 rows with an empty {name} dropped on request" for name in ("outcome", "annotator")
    )


def test_item_features_follow_the_items(votes):
    features = pd.DataFrame({"size": [3, 1, 2, 9], "age": [0.5, 0.1, 0.2, 9]}, index=["z", "x", "y", "unused"])
    data = Comparisons.from_frame(votes, item_features=features)
    assert data.feature_names == ("size", "age")
    np.testing.assert_array_equal(data.item_features, [[1, 0.1], [2, 0.2], [3, 0.5]])


@pytest.mark.parametrize("value", [None, np.nan, pd.NA])
def test_a_missing_outcome_raises_and_is_never_a_tie(votes, value):
    votes["outcome"] = votes["outcome"].astype(object)
    votes.loc[4, "outcome"] = value
    with pytest.raises(DataError, match=r"column 'outcome' \(outcome\) is empty in 1 rows, first in row 5"):
        Comparisons.from_frame(votes)


@pytest.mark.parametrize("label", ["A", "draw", "tie (bothbad)", "", 1])
def test_an_unknown_outcome_raises_and_is_never_a_tie(votes, label):
    votes["outcome"] = votes["outcome"].astype(object)
    votes.loc[[0, 4], "outcome"] = label
    with pytest.raises(DataError, match=r"holds unknown outcomes: .* \(2 rows\); known are 'a', 'b', 'tie'"):
        Comparisons.from_frame(votes)


def change(**columns):
    return lambda table: table.assign(**columns)


BAD = [
    (
        lambda t: t.drop(columns="outcome"),
        {},
        r"has no column 'outcome' \(asked for as outcome\); its columns are",
    ),
    (
        None,
        {"annotator": "judge"},
        r"no column 'judge' \(asked for as annotator\).*Name the right one with annotator=",
    ),
    (lambda t: t.iloc[:0], {}, "has no rows"),
    (lambda t: pd.concat([t, t[["outcome"]]], axis=1), {}, "more than one column called 'outcome'"),
    (
        change(item_a=["x", None, "z", "x", "y", "z"]),
        {},
        r"\(item_a\) is empty in 1 rows, first in row 2",
    ),
    (change(annotator=None), {"missing": "drop"}, "no row is left: 6 rows with an empty annotator"),
    (None, {"missing": "ignore"}, "missing='ignore' is unknown; use 'error' or 'drop'"),
    (None, {"labels": {"a": "left"}}, "labels may translate to a, b, tie or drop, not to 'left'"),
    (
        None,
        {"labels": {"a": "drop", "b": "drop", "tie": "drop"}},
        "no row is left: 6 rows with outcome .* dropped on request",
    ),
    (change(item_a="x", item_b="x"), {}, "has one item only, 'x'"),
    (
        change(item_a=["x", "y", "x", "x", "y", "z"]),
        {},
        r"1 rows compare an item with itself, first row 3 \('x'\)",
    ),
    (change(item_a=["x", " ", "z", "x", "y", "z"]), {}, r"\(item_a\) is empty in 1 rows, first in row 2"),
    (change(item_a=[0.5, 1, 2, 3, 4, 5]), {}, "column 'item_a' holds fractional numbers"),
    (change(item_a=[["x"], "y", "z", "x", "y", "z"]), {}, "column 'item_a' holds a list in row 1"),
    (change(first="left"), {}, "column 'first' says which side was shown first and holds 'left' in row 1"),
    (change(first="a"), {"ordered": True}, "ordered=True and the column 'first' both say"),
    (change(count=[1, 1, -1, 1, 1, 1]), {}, r"column 'count' \(count\) holds -1 in row 3; counts are whole"),
    (change(count=1.5), {}, r"column 'count' \(count\) holds 1.5 in row 1"),
    (change(count=0), {}, "every count is 0; at least one comparison"),
    (change(count="many"), {}, "column 'count' must hold finite numbers, and holds 'many' in row 1"),
    (
        change(longer=[1, 2, np.inf, 1, 1, 1]),
        {"covariates": ["longer"]},
        "'longer' must hold finite numbers, .* in row 3",
    ),
    (None, {"covariates": "longer"}, r"has no column 'longer' \(asked for as covariates\)"),
    (None, {"item_features": pd.DataFrame({"f": [1, 2]}, index=["x", "y"])}, "lacks 1 of 3 items, first 'z'"),
    (
        None,
        {"item_features": pd.DataFrame({"f": [1, 2, 3]}, index=list("xxy"))},
        "more than one row for item 'x'",
    ),
    (
        None,
        {"item_features": pd.DataFrame({"f": ["1", "?", "3"]}, index=list("xyz"))},
        "holds '\\?' for item 'y'",
    ),
]


@pytest.mark.parametrize(("spoil", "arguments", "message"), BAD)
def test_bad_input_gets_one_clear_sentence(votes, spoil, arguments, message):
    with pytest.raises(DataError, match=message):
        Comparisons.from_frame(votes if spoil is None else spoil(votes), **arguments)


def test_errors_count_rows_of_the_table_as_given(votes):
    votes.loc[0, "outcome"] = None
    votes.loc[4, "item_b"] = "y"
    votes.index = list("abcdef")
    with pytest.raises(DataError, match="first row 5"):
        Comparisons.from_frame(votes, missing="drop")


def test_only_ties_leave_nothing_without_ties(votes):
    with pytest.raises(DataError, match="every comparison is a tie"):
        Comparisons.from_frame(votes.assign(outcome="tie")).without_ties()
