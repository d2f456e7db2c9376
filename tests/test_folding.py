"""Equal rows folded into counts, and parquet files read one row group at a time."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import prefdensity
from prefdensity import Comparisons, read
from prefdensity.data.folding import fold, join
from prefdensity.errors import DataError

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
import pyarrow as pa  # noqa: E402

COLUMNS = ["item_a", "item_b", "outcome", "annotator", "context", "first", "length"]


def assert_same(one: Comparisons, other: Comparisons) -> None:
    """Both hold the same rows in the same order."""
    for name in ("items", "annotators", "contexts", "grades", "covariate_names", "notes"):
        assert getattr(one, name) == getattr(other, name), name
    assert [each.column for each in one.columns] == [each.column for each in other.columns]
    for mine, theirs in zip(one.columns, other.columns, strict=True):
        np.testing.assert_array_equal(mine.values, theirs.values, err_msg=mine.column.name)
        assert mine.words == theirs.words
        assert (mine.unit is None) == (theirs.unit is None)
        np.testing.assert_allclose(mine.unit or 0.0, theirs.unit or 0.0, rtol=1e-12)  # sums in another order
    for each in ("covariate_scale", "item_features"):
        assert (getattr(one, each) is None) == (getattr(other, each) is None)
        if getattr(one, each) is not None:
            np.testing.assert_allclose(getattr(one, each), getattr(other, each), rtol=1e-12)
    for name in ("item_a", "item_b", "outcome", "grade", "annotator", "context", "first", "count", "covariates"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def brute_force(frame: pd.DataFrame) -> pd.DataFrame:
    """Return distinct rows with the sum of `count`, by another route."""
    keys = [name for name in frame.columns if name != "count"]
    found = frame.groupby(keys, sort=True, dropna=False)["count"].sum().reset_index()
    return found.sort_values(keys, ignore_index=True)


def write(path, frame: pd.DataFrame, group: int) -> None:
    parquet.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, row_group_size=group)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(5, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    items = draw(st.sampled_from([["x", "y", "z"], [3, 1, 20], ["10", "9", "é"]]))
    a = rng.integers(3, size=rows)
    b = (a + rng.integers(1, 3, size=rows)) % 3
    columns = {
        "item_a": np.array(items)[a],
        "item_b": np.array(items)[b],
        "outcome": np.array(["a", "b", "tie"])[rng.integers(3, size=rows)],
        "annotator": np.array(["ann", "bob"])[rng.integers(2, size=rows)],
        "context": rng.integers(2, size=rows),
        "first": np.array(["a", "b", "neither"])[rng.integers(3, size=rows)],
        "length": rng.choice([-0.5, 0.0, 1e30], size=rows),
        "count": rng.integers(0, 4, size=rows) + (np.arange(rows) == 0),
    }
    kept = draw(st.sets(st.sampled_from(["annotator", "context", "first", "length", "count"])))
    return pd.DataFrame({name: v for name, v in columns.items() if name in kept or name in COLUMNS[:3]})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=tables(), group=st.integers(1, 25))
def test_streamed_equals_read_whole_and_folded(tmp_path, frame, group):
    path = tmp_path / "votes.parquet"
    write(path, frame, min(group, len(frame) - 1))
    covariates = ["length"] if "length" in frame else []
    streamed = read(path, covariates=covariates)
    assert_same(streamed, fold(Comparisons.from_frame(frame, covariates=covariates)))
    assert streamed.source == str(path)
    expected = brute_force(frame.assign(count=frame.get("count", 1), context=frame.get("context", 0)))
    assert len(streamed) == len(expected)
    assert sorted(streamed.count) == sorted(expected["count"])


def test_many_parts_are_folded_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr("prefdensity.data.folding._WAITING", 50)
    frame = prefdensity.simulate.population(6, 4, 2000, seed=1, tie_strength=0.5)[0].to_frame()
    write(tmp_path / "votes.parquet", frame, 17)
    assert_same(read(tmp_path / "votes.parquet"), fold(Comparisons.from_frame(frame)))


def test_folding_an_order_of_keys_beyond_64_bits():
    rng = np.random.default_rng(0)
    rows = 4000
    frame = pd.DataFrame({"item_a": "x", "item_b": "y", "outcome": rng.choice(["a", "b"], rows)})
    names = [f"c{k}" for k in range(8)]
    for name in names:
        frame[name] = rng.standard_normal(rows)
    frame = pd.concat([frame, frame.iloc[:100]], ignore_index=True)
    data = fold(Comparisons.from_frame(frame, covariates=names))
    assert len(data) == rows
    assert sorted(data.count)[-101:] == [1.0] + [2.0] * 100


def test_the_fit_does_not_notice(tmp_path):
    data = prefdensity.simulate.population(8, 3, 600, seed=2)[0]
    write(tmp_path / "votes.parquet", data.to_frame(), 100)
    streamed = prefdensity.fit("bradley_terry", read(tmp_path / "votes.parquet"), progress=False)
    whole = prefdensity.fit("bradley_terry", data, progress=False)
    np.testing.assert_allclose(streamed.utilities(), whole.utilities(), atol=1e-8)


def test_strengths_of_all_row_groups_make_one_vocabulary(tmp_path):
    frame = pd.DataFrame(
        {
            "item_a": ["x", "y", "z", "x", "y", "z"],
            "item_b": ["y", "z", "x", "y", "z", "x"],
            "outcome": ["a", "a", "tie", "tie", "b", "b"],
            "strength": [1, 10, 0, 0, 2, 1],
        }
    )
    write(tmp_path / "votes.parquet", frame, 2)
    streamed = read(tmp_path / "votes.parquet", strength="strength")
    assert streamed.grades == ("a10", "a2", "a1", "tie", "b1", "b2", "b10")
    assert_same(streamed, fold(Comparisons.from_frame(frame, strength="strength")))


def test_what_is_dropped_is_counted_over_all_row_groups(tmp_path, votes):
    frame = pd.concat([votes] * 3, ignore_index=True)
    frame.loc[[0, 7], "annotator"] = None
    frame.loc[12:, "outcome"] = "skip"  # a row group of which nothing is left
    labels = {"a": "a", "b": "b", "tie": "tie", "skip": "drop"}
    write(tmp_path / "votes.parquet", frame, 6)
    streamed = read(tmp_path / "votes.parquet", missing="drop", labels=labels)
    assert streamed.notes == (
        "2 rows with an empty annotator dropped on request",
        "6 rows with outcome 'skip' dropped on request",
    )
    assert_same(streamed, fold(Comparisons.from_frame(frame, missing="drop", labels=labels)))


@pytest.mark.parametrize("key", [1, "1"])
def test_labels_match_numbers_in_every_row_group(tmp_path, votes, key):
    votes["outcome"] = [2, 2, 2, 2, 1, 2]
    write(tmp_path / "votes.parquet", votes, 2)
    streamed = read(tmp_path / "votes.parquet", labels={key: "a", type(key)(2): "b"})
    assert streamed.count[streamed.outcome == 0].sum() == 1


BAD = [
    ("item_a", None, r"votes.parquet, row group 2 of 3: column 'item_a' \(item_a\) is empty in 1 rows, first in row 2"),
    ("outcome", "x", r"row group 2 of 3: column 'outcome' holds unknown outcomes: 'x' \(1 rows\)"),
    ("item_a", "x", r"row group 2 of 3: 1 rows compare an item with itself, first row 2 \('x'\)"),
    ("annotator", " ", r"row group 2 of 3: column 'annotator' .* first in row 2"),
    ("first", "c", r"row group 2 of 3: column 'first' .* holds 'c' in row 2"),
    ("length", np.inf, r"row group 2 of 3: column 'length' must hold finite numbers, and holds inf in row 2"),
    ("count", -1, r"row group 2 of 3: column 'count' \(count\) holds -1 in row 2"),
]


@pytest.mark.parametrize(("column", "value", "message"), BAD)
def test_the_row_group_and_the_row_of_an_error_are_named(tmp_path, votes, column, value, message):
    frame = votes.assign(first="a", length=1.0, count=1, item_b=["y", "z", "x", "x", "z", "x"])
    frame["item_a"] = ["x", "y", "z", "z", "y", "z"]
    frame.loc[3, column] = value
    write(tmp_path / "votes.parquet", frame, 2)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "votes.parquet", covariates=["length"])


def test_demands_on_the_whole_are_made_of_the_whole(tmp_path, votes):
    write(tmp_path / "votes.parquet", votes.assign(count=0), 2)
    with pytest.raises(DataError, match=r"votes.parquet: every count is 0"):
        read(tmp_path / "votes.parquet")
    write(tmp_path / "votes.parquet", votes.assign(annotator=None), 2)
    with pytest.raises(DataError, match=r"votes.parquet: no row is left: 6 rows with an empty"):
        read(tmp_path / "votes.parquet", missing="drop")
    features = pd.DataFrame({"size": [1.0, 2.0]}, index=["x", "y"])
    write(tmp_path / "votes.parquet", votes, 2)
    with pytest.raises(DataError, match="item_features lacks 1 of 3 items, first 'z'"):
        read(tmp_path / "votes.parquet", item_features=features)


@pytest.mark.parametrize("group", [1, 3])
def test_integers_beside_nulls_stay_integers(tmp_path, group):
    large = 2**60 + 1
    columns = {"item_a": pa.array([large, None, 1]), "item_b": pa.array([1, 1, large]), "outcome": ["a", "a", "b"]}
    parquet.write_table(pa.table(columns), tmp_path / "votes.parquet", row_group_size=group)
    assert read(tmp_path / "votes.parquet", missing="drop").items == ("1", str(large))


def test_joined_parts_keep_their_judgements(votes):
    one, two = Comparisons.from_frame(votes.iloc[:2]), Comparisons.from_frame(votes.iloc[2:])
    assert_same(join([one, two]), Comparisons.from_frame(votes))


def test_the_command_line_streams(tmp_path, capsys):
    from typer.testing import CliRunner

    from prefdensity.cli.main import app

    frame = prefdensity.simulate.population(4, 2, 300, seed=3)[0].to_frame()
    write(tmp_path / "votes.parquet", frame, 50)
    result = CliRunner().invoke(app, ["fit", str(tmp_path / "votes.parquet"), "-m", "bradley_terry"])
    assert result.exit_code == 0, result.output
