"""Columns declared once: what users name goes through every operation on tables like what the library knows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

import prefdensity
from prefdensity import Comparisons, DataError, compose, layer
from prefdensity.data.declared import MIRRORED, ROW
from prefdensity.data.folding import fold, join
from prefdensity.data.reading import Reading
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of

ITEMS = ["ash", "elm", "fir"]
JUDGES = pd.DataFrame({"age": [20, 30, 70], "land": ["fr", None, "de"]}, index=["ann", "bob", "eve"])
TREES = pd.DataFrame({"height": [3.0, 1.0, 2.0], "seen": ["2020-01-01", "2021-01-01", "2020-07-01"]}, index=ITEMS)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(6, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a = np.r_[0, 1, 2, rng.integers(3, size=rows - 3)]
    b = (a + rng.integers(1, 3, size=rows)) % 3
    outcome = np.array(["a", "b", "tie"])[np.r_[0, rng.integers(3, size=rows - 1)]]
    return pd.DataFrame(
        {
            "item_a": np.array(ITEMS)[a], "item_b": np.array(ITEMS)[b], "outcome": outcome,
            "annotator": JUDGES.index.to_numpy()[np.r_[0, 1, 2, rng.integers(3, size=rows - 3)]],
            "first": np.array(["a", "b", "neither"])[rng.integers(3, size=rows)],
            "strength": np.where(outcome == "tie", 0, rng.integers(1, 3, size=rows)),
            "length": rng.choice([-1.5, 0.0, 2.0], rows), "count": rng.integers(1, 3, rows),
            "category": rng.choice(["code", "prose"], rows), "date": rng.choice(["2024-05-31", "2024-06-01"], rows),
            "delay": rng.choice([0.5, 2.0], rows),
        }
    )  # fmt: skip


COLUMNS = {
    "groups": ["category"],
    "numbers": {"day": "date", "delay": "delay"},
    "covariates": ["length"],
    "strength": "strength",
}
TABLES = {"attributes": {"annotator": JUDGES, "item": TREES}}


def same(one: Comparisons, other: Comparisons) -> None:
    assert [(each.column, each.words) for each in one.columns] == [(each.column, each.words) for each in other.columns]
    for mine, theirs in zip(one.columns, other.columns, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values, err_msg=mine.column.name)


@layer("margin", needs=["category", "day", "annotator.age", "annotator.land", "annotator", "first", "covariates"])
def everything(margin, data):
    """A margin that reads every kind of column; what has a side changes its sign with the sides."""
    slope = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    of_land = data.of("annotator.land", torch.tensor([1.0, 1.2, 0.7], dtype=torch.float64))
    tastes = torch.arange(6.0, dtype=torch.float64).sin().reshape(2, 3)
    margin = margin * of_land + data.contrast(tastes, by="category") + data.number("day") * data.contrast(slope)
    aged = data.of("annotator", data.attribute("annotator", "age")) * data.contrast(slope.flip(0))
    return margin + aged + 0.4 * data.first + 0.2 * data.covariates[:, 0]


def log_likelihood(data: Comparisons) -> float:
    program = compose(everything, "graded" if data.grade is not None else "davidson")
    view = View(program, cells_of(data, program.outcomes, program.needs))
    z = torch.linspace(-1.0, 1.0, view.dimension, dtype=torch.float64)[None]
    return float(view.log_likelihood(z))


@settings(max_examples=25, deadline=None)
@given(frame=frames(), some=st.integers(0, 2**32 - 1))
def test_sides_may_be_exchanged_and_back(frame, some):
    data = Comparisons.from_frame(frame, **COLUMNS, **TABLES)
    rows = np.random.default_rng(some).random(len(data)) < 0.5
    for turned in (data.swapped(), data.swapped(rows)):
        assert turned.wins() == pytest.approx(data.wins())
    same(data.swapped().swapped(), data)
    same(data.swapped(rows).swapped(~rows), data.swapped())
    plain = data.without_strength()
    for each in (data, plain):
        assert log_likelihood(each.swapped(rows)) == pytest.approx(log_likelihood(each), rel=1e-12)
    assert data.swapped().fingerprint() != data.fingerprint()


@settings(max_examples=25, deadline=None)
@given(frame=frames(), some=st.integers(0, 2**32 - 1))
def test_parts_join_to_the_whole_and_fold_to_its_counts(frame, some):
    data = Comparisons.from_frame(frame, **COLUMNS, **TABLES)
    cut = 1 + some % (len(data) - 1)
    parts = [data.take(slice(0, cut)), data.take(np.arange(cut, len(data)))]
    same(join(parts), data)
    bare = [Comparisons(**Reading(**COLUMNS).rows(part)) for part in (frame[:cut], frame[cut:])]
    whole = Comparisons.from_frame(frame, **COLUMNS)
    same(join(bare), whole)
    folded = fold(data)
    kept = [name for name in frame.columns if name != "count"]
    expected = frame.groupby(kept)["count"].sum()
    assert sorted(folded.count) == sorted(expected)
    assert folded.fingerprint() == fold(data.take(np.random.default_rng(some).permutation(len(data)))).fingerprint()
    assert log_likelihood(folded) == pytest.approx(log_likelihood(data), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(frame=frames())
def test_a_table_survives_the_way_through_frames(frame):
    data = Comparisons.from_frame(frame, **COLUMNS, **TABLES)
    columns = COLUMNS | {"numbers": ["day", "delay"]}
    tables = {"attributes": {of: data.attributes(of) for of in ("annotator", "item")}}
    again = Comparisons.from_frame(data.to_frame(), **columns, **tables)
    same(again, data)
    assert again.fingerprint() == data.fingerprint()


def test_every_column_enters_the_fingerprint_and_is_taken():
    frame = frames_once()
    data = Comparisons.from_frame(frame, **COLUMNS, **TABLES)
    seen = {data.fingerprint()}
    for held in data.columns:
        values = held.values.copy()
        values[0] = values[0] + 1 if held.column.kind in ("number", "count") else (values[0] + 1) % 2
        changed = data.holding([*(each for each in data.columns if each is not held), replace(held, values=values)])
        seen.add(changed.fingerprint())
    assert len(seen) == 1 + len(data.columns)
    part = data.take(np.array([4, 0]))
    for held, picked in zip(data.columns, part.columns, strict=True):
        expected = held.values[[4, 0]] if held.column.per == ROW else held.values
        np.testing.assert_array_equal(picked.values, expected)
        assert picked.unit == held.unit  # parts are measured as the whole is
    assert {each.column.name for each in data.columns if each.column.on_swap == MIRRORED} == {"outcome", "grade"}


def frames_once() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    a = np.arange(12) % 3
    outcome = np.array(["a", "b", "tie"])[np.arange(12) // 4]
    return pd.DataFrame(
        {
            "item_a": np.array(ITEMS)[a], "item_b": np.array(ITEMS)[(a + 1) % 3], "outcome": outcome,
            "annotator": JUDGES.index.to_numpy()[a], "first": "a", "strength": np.where(outcome == "tie", 0, 1 + a % 2),
            "length": rng.normal(size=12), "count": 1 + a, "category": ["code", "prose"] * 6,
            "date": ["2024-05-31", "2024-06-02"] * 6, "delay": rng.random(12),
        }
    )  # fmt: skip


def test_units_of_numbers_and_levels_of_categories():
    data = Comparisons.from_frame(frames_once().assign(count=1), **COLUMNS, **TABLES)
    assert data.column("day").unit == (
        19875.0,
        1.0,
        19874.0,
        19876.0,
    )  # 2024-06-01 in days since 1970, a day either way
    assert data.column("age", "annotator").unit == pytest.approx((40.0, np.std([20, 30, 70]), 20.0, 70.0))
    assert data.column("land", "annotator").words == ("(missing)", "de", "fr")
    assert "1 empty cells in 'land' of attributes of annotator are a level of their own, (missing)" in data.notes
    assert list(data.column("seen", "item").values) == [18262.0, 18628.0, 18444.0]
    people, categories = tuple(JUDGES.index), ("code", "prose")
    assert data.vocabularies() == {"item": tuple(ITEMS), "annotator": people, "category": categories}
    assert "  category      2" in str(prefdensity.describe(data))


def test_repeats_are_told_by_labels_and_not_by_dates():
    frame = pd.DataFrame({"item_a": "x", "item_b": "y", "outcome": list("abab"), "annotator": "ann"})
    frame = frame.assign(category=["code", "code", "prose", "prose"], date=["2024-01-01", "2024-01-02"] * 2)
    data = Comparisons.from_frame(frame, groups=["category"], numbers=["date"])
    assert data.repeats_once().n_judgements == 2
    assert list(data.questions()) == [0, 0, 1, 1]


TIMES = [
    (["2024-01-01", "2024-01-02T12:00:00"], [19723.0, 19724.5]),
    (["2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00+00:00"], [19723 - 1 / 12, 19723.0]),
    ([20240101, 20240102], [20240101.0, 20240102.0]),
    (["1.5", "-2"], [1.5, -2.0]),
    (pd.to_datetime(["2024-01-01", "2024-01-02"]), [19723.0, 19724.0]),
]


@pytest.mark.parametrize(("given_as", "expected"), TIMES)
def test_numbers_and_dates(given_as, expected):
    frame = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "x"], "outcome": ["a", "a"], "when": given_as})
    data = Comparisons.from_frame(frame, numbers="when")
    np.testing.assert_allclose(data.column("when").values, expected, rtol=1e-12)


BAD = [
    ({"numbers": ["when"]}, {"when": ["2024-01-01", "01/02/2024"]}, r"holds dates, and '01/02/2024' in row 2"),
    ({"numbers": ["when"]}, {"when": ["01/02/2024", "02/02/2024"]}, r"must hold numbers, or dates as in 2024-05-31"),
    ({"numbers": ["when"]}, {"when": ["2024-01-01", "2024-01-01T00:00:00Z"]}, "with a time zone and without"),
    ({"numbers": ["when"]}, {"when": ["2024-01-01", None]}, r"column 'when' \(when\) is empty in 1 rows, .* row 2"),
    ({"groups": ["kind"]}, {"kind": ["p", " "]}, r"column 'kind' \(kind\) is empty in 1 rows, first in row 2"),
    ({"groups": ["kind"]}, {}, r"has no column 'kind' \(asked for as groups\)"),
    ({"groups": ["kind", "kind"]}, {"kind": "p"}, "names a column twice"),
    ({"groups": ["kind"], "numbers": ["kind"]}, {"kind": "p"}, "'kind' is both among groups and among numbers"),
    ({"groups": ["type"]}, {"type": "p"}, r"cannot call a column 'type', .* as in groups=\{'my_type': 'type'\}"),
    ({"groups": ["my kind"]}, {"my kind": "p"}, r"column 'my kind', .* as in groups=\{'my_kind': 'my kind'\}"),
    ({"attributes": {"annotator": pd.DataFrame({"age": [1]}, index=["z"])}}, {}, "has no labels called 'annotator'"),
    ({"numbers": ["2. age"]}, {"2. age": 3}, r"as in numbers=\{'my_2_age': '2. age'\}"),
    (
        {"attributes": {"item": pd.DataFrame({"Age (y)": [1, 2]}, index=["x", "y"])}}, {},
        r"attributes of item: programs cannot call a column 'Age \(y\)'; rename it, for example to 'Age_y'",
    ),
    ({"attributes": {"item": pd.DataFrame({"age": [1]}, index=["x"])}}, {}, "attributes of item lacks 1 of 2 items"),
    (
        {"attributes": {"item": pd.DataFrame({"age": ["1", "old"]}, index=["x", "y"])}}, {},
        "column 'age' holds numbers, and 'old' for item 'y'",
    ),
    (
        {"attributes": {"item": pd.DataFrame({"age": [1, None]}, index=["x", "y"])}}, {},
        "attributes of item: column 'age' must hold .* for item 'y'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "columns", "message"), BAD)
def test_bad_columns_get_one_clear_sentence(arguments, columns, message):
    frame = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "x"], "outcome": ["a", "a"]}).assign(**columns)
    with pytest.raises(DataError, match=message):
        Comparisons.from_frame(frame, **arguments)


def test_rows_without_a_group_are_dropped_on_request_and_counted():
    frame = pd.DataFrame({"item_a": list("xyx"), "item_b": list("yxy"), "outcome": "a", "kind": ["p", None, "q"]})
    data = Comparisons.from_frame(frame, groups=["kind"], missing="drop")
    assert data.notes == ("1 rows with an empty kind dropped on request",)
    assert data.labels("kind") == ("p", "q")


def test_tables_that_do_not_fit_each_other_are_not_joined():
    data = Comparisons.from_frame(frames_once(), **COLUMNS, **TABLES)
    with pytest.raises(DataError, match="tables with different columns cannot be joined"):
        join([data, data.without_strength()])
    older = JUDGES.assign(age=[20, 31, 70])
    other = Comparisons.from_frame(frames_once(), **COLUMNS, attributes={"annotator": older, "item": TREES})
    with pytest.raises(DataError, match="annotator 'bob' has different values of age"):
        join([data, other])
