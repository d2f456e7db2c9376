import gzip
import json
import sys
import time

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.readers import EXAMPLES, example, read
from prefdensity.errors import DataError

CSV = "item_a,item_b,outcome,annotator\nx,y,a,ann\ny,z,b,bob\nz,x,tie,ann\n"


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(table: pd.DataFrame) -> str:
    return table.to_json(orient="records", lines=True)


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet", "jsonl", "jsonl.gz", "json", "CSV"])
def test_every_kind_of_file_gives_the_same_table(tmp_path, votes, ending):
    path = tmp_path / f"my.votes.{ending}"
    if ending.lower().startswith(("csv", "tsv")):
        votes.to_csv(path, index=False, sep="\t" if ending.startswith("tsv") else ",")
    elif ending == "parquet":
        votes.to_parquet(path)
    elif ending == "jsonl.gz":
        path.write_bytes(gzip.compress(lines(votes).encode()))
    else:
        path.write_text(lines(votes))
    assert read(path).fingerprint() == read(str(path)).fingerprint() == Comparisons.from_frame(votes).fingerprint()
    assert read(path).source == str(path)


def test_a_json_file_may_hold_an_array(tmp_path, votes):
    path = write(tmp_path, "votes.json", json.dumps(votes.to_dict("records"), indent=1))
    assert read(path).fingerprint() == read(votes).fingerprint()


def test_read_is_public(votes):
    assert prefdensity.read(votes).n_judgements == 6


def test_ids_are_text_as_written(tmp_path):
    text = "item_a,item_b,outcome,annotator\n007,7,a,NA\n7,None,b,nan\nNone,007,tie,null\n"
    data = read(write(tmp_path, "ids.csv", text))
    assert data.items == ("007", "7", "None")
    assert data.annotators == ("NA", "nan", "null")


def test_integers_beside_nulls_stay_integers(tmp_path):
    rows = [{"item_a": 2**60 + 1, "item_b": 1, "outcome": "a"}, {"item_a": None, "item_b": 1, "outcome": "b"}]
    path = write(tmp_path, "ids.jsonl", "\n".join(map(json.dumps, rows)))
    assert read(path, missing="drop").items == ("1", str(2**60 + 1))


def test_a_byte_order_mark_and_quotes_are_understood(tmp_path):
    path = write(tmp_path, "bom.csv", b'\xef\xbb\xbfitem_a,item_b,outcome\n"a, b",c,a\n')
    assert read(path).items == ("a, b", "c")


@pytest.mark.parametrize("labels", [{1: "a", 2: "b", 0: "tie"}, {"1": "a", "2": "b", "0": "tie"}])
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_labels_match_numbers_and_their_text(tmp_path, votes, labels, ending):
    votes["outcome"] = [1, 2, 0, 2, 1, 1]
    path = tmp_path / f"votes.{ending}"
    if ending == "parquet":
        votes.to_parquet(path)
    else:
        path.write_text(votes.to_csv(index=False) if ending == "csv" else lines(votes))
    assert read(path, labels=labels).outcome.tolist() == [0, 1, 2, 1, 0, 0]
    assert read(votes, labels=labels).outcome.tolist() == [0, 1, 2, 1, 0, 0]


def test_only_the_needed_columns_of_a_parquet_are_read(tmp_path, votes, monkeypatch):
    from pyarrow import parquet

    asked = []
    original = parquet.ParquetFile.read
    monkeypatch.setattr(
        parquet.ParquetFile,
        "read",
        lambda self, columns: asked.append(columns) or original(self, columns=columns),
    )
    votes.assign(text="long", longer=1.0, extra=0).to_parquet(tmp_path / "votes.parquet")
    read(tmp_path / "votes.parquet", covariates=["longer"])
    assert asked == [["item_a", "item_b", "outcome", "annotator", "longer"]]


def test_an_index_stored_in_parquet_is_a_column(tmp_path, votes):
    votes.set_index("annotator").to_parquet(tmp_path / "votes.parquet")
    assert read(tmp_path / "votes.parquet").annotators == ("ann", "bob")


def test_item_features_from_a_file(tmp_path, votes):
    path = write(tmp_path, "features.csv", "item,size\nz,3\nx,1\ny,2\n")
    assert read(votes, item_features=path).item_features.tolist() == [[1], [2], [3]]
    bad = write(tmp_path, "bad.csv", "item,size\nz,3\n,1\ny,2\n")
    with pytest.raises(DataError, match="the column 'item' must hold item labels; row 2 is empty"):
        read(votes, item_features=bad)


def test_a_million_rows_of_parquet_are_read_in_under_two_seconds(tmp_path):
    data, _ = simulate.population(1000, 5000, 1_000_000, seed=0, tie_strength=0.5)
    data.to_frame().to_parquet(tmp_path / "large.parquet")
    start = time.process_time()
    again = read(tmp_path / "large.parquet")
    assert time.process_time() - start < 2
    np.testing.assert_array_equal(again.outcome, data.outcome)


BAD_FILES = [
    ("empty.csv", "", r"empty.csv is empty \(0 bytes\)"),
    ("empty.jsonl", "", r"is empty \(0 bytes\)"),
    ("blank.csv", "\n\n", "is empty: it has no header"),
    ("header.csv", "item_a,item_b,outcome\n", "header.csv has no rows; at least one is needed"),
    ("blank.jsonl", "\n\n", "has no rows"),
    ("votes.xml", CSV, r"must end in .csv, .tsv, .txt, .parquet, .jsonl or .json .* not in '.xml'"),
    ("title.csv", "Votes of 2024,,\n" + CSV, "line 1 is 'Votes of 2024', one cell, .* with skip=1"),
    ("words.txt", "x y\na,b;c\n", "say what stands between them, as in separator='tab'"),
    ("packed.zip", CSV, "not in '.zip'; unpack it first"),
    ("votes", CSV, "not in 'nothing'"),
    ("votes.parquet.gz", CSV, "not in '.parquet.gz'"),
    ("corrupt.parquet", "item_a,item_b", "corrupt.parquet cannot be read as parquet"),
    ("corrupt.csv.gz", CSV, "cannot be read as UTF-8 text"),
    ("short.csv.gz", gzip.compress(CSV.encode())[:-12], "cannot be read as UTF-8 text"),
    ("corrupt.jsonl.gz", CSV, "cannot be read as UTF-8 text"),
    ("latin.csv", CSV.replace("x", "\xe9").encode("latin-1"), "cannot be read as UTF-8 text"),
    ("latin.jsonl", b'{"item_a": "\xe9"}', "cannot be read as UTF-8 text"),
    ("ragged.csv", CSV + "x,y,a,ann,extra\n", "cannot be read .*Expected 4 fields in line 5, saw 5"),
    ("wide.csv", "item_a,item_b,outcome\nx,y,a,\ny,z,b,\n", "rows have more fields than the header"),
    ("short.csv", CSV + "x,y\n", r"column 'outcome' \(outcome\) is empty in 1 rows, first in row 4"),
    ("twice.csv", "item_a,item_b,outcome,outcome\nx,y,a,a\n", "more than one column called 'outcome'"),
    ("mixed.csv", CSV.replace(",", ";", 4), "cannot be read as UTF-8 text|its columns are"),
    ("bad.jsonl", '{"item_a": "x"}\n\n{"item_a": \n', "line 3 is not valid JSON"),
    ("bad.json", '[{"item_a": "x"},\n{"item_a" 1}]', "line 2 is not valid JSON"),
    ("list.jsonl", '{"item_a": "x"}\n[1, 2]\n', r"row 2 is not an object with named columns, but \[1, 2\]"),
    (
        "nested.jsonl",
        '{"item_a": "x", "item_b": "y", "outcome": ["a"]}',
        "column 'outcome' holds a list in row 1",
    ),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[bad[0] for bad in BAD_FILES])
def test_a_bad_file_gets_one_clear_sentence(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, name, content), labels={"a": "a", "b": "b", "tie": "tie"})


def test_what_is_no_file_is_said(tmp_path, votes):
    with pytest.raises(DataError, match="there is no file .*nowhere.csv"):
        read(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="is a directory; give a file, or a pattern"):
        read(tmp_path)
    with pytest.raises(DataError, match="a list of dicts or a dict of columns, not list: rows in a list are dicts"):
        read([1])
    with pytest.raises(DataError, match="there is no format 'areena'; there are arena, mt_bench"):
        read(votes, format="areena")
    with pytest.raises(DataError, match="a table takes no argument 'won'; it takes item_a, item_b"):
        read(votes, won="outcome")
    with pytest.raises(DataError, match="format .arena. .*; beside the arguments of a table it takes both_bad, style"):
        read(votes, format="arena", won="item_a")


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path, votes):
    votes.to_parquet(tmp_path / "votes.parquet")
    with pytest.raises(DataError, match="no column 'winner' .*its columns are item_a, item_b, outcome, annotator"):
        read(tmp_path / "votes.parquet", outcome="winner")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, votes, monkeypatch):
    votes.to_parquet(tmp_path / "votes.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"need pyarrow; pip install 'prefdensity\[parquet\]'"):
        read(tmp_path / "votes.parquet")


def test_a_format_reads_only_its_columns(tmp_path, monkeypatch):
    table = pd.DataFrame({"model_a": ["x"], "model_b": ["y"], "winner": ["model_b"], "conversation_a": ["long"]})
    table.to_parquet(tmp_path / "arena.parquet")
    from pyarrow import parquet

    asked = []
    original = parquet.ParquetFile.read
    monkeypatch.setattr(
        parquet.ParquetFile,
        "read",
        lambda self, columns: asked.append(columns) or original(self, columns=columns),
    )
    data = read(tmp_path / "arena.parquet", format="arena")
    assert asked == [["model_a", "model_b", "winner"]]
    assert data.outcome.tolist() == [1]
    assert data.source == str(tmp_path / "arena.parquet")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_complete(name):
    data = read(f"example:{name}")
    assert data.source.startswith(f"example:{name}")
    assert data.fingerprint() == example(name).fingerprint()
    assert len(EXAMPLES[name]) > 80


@pytest.mark.parametrize(("name", "file"), [("citations",) * 2, ("baseball",) * 2, ("puddings", "pudding")])
def test_published_tables_agree_with_another_typing_of_them(shared_data, name, file):
    typed, other = example(name), read(shared_data / f"{file}.csv")
    assert typed.items == other.items
    np.testing.assert_array_equal(typed.wins(), other.wins())
    assert typed.n_ties == other.n_ties

    def by_sides(data):
        frame = data.to_frame()
        return frame[frame["count"] > 0].groupby(["item_a", "item_b", "outcome"])["count"].sum()

    if name == "baseball":
        pd.testing.assert_series_equal(by_sides(typed), by_sides(other))
        assert (typed.first == 1).all()
    else:
        assert typed.first is None


def test_published_totals():
    assert example("citations").n_judgements == 3727
    assert example("baseball").n_judgements == 273
    assert example("puddings").n_judgements == 745
    assert example("puddings").n_ties == 202


def test_examples_say_what_is_wrong():
    with pytest.raises(DataError, match="there is no example 'cheese'; there are citations, baseball"):
        read("example:cheese")
    with pytest.raises(DataError, match="without further arguments"):
        read("example:citations", ordered=True)


def test_real_tables_are_read(shared_data):
    ordered = {"llmfao.csv": 8931, "ukpconvarg.csv.gz": 84445, "first_names.csv": 2880}
    for name, rows in ordered.items():
        data = read(shared_data / name, ordered=True)
        assert len(data) == rows
        assert data.annotator is not None
    cems = read(shared_data / "cems.csv")
    assert (len(cems.items), len(cems.annotators)) == (6, 303)
    assert cems.n_ties / cems.n_judgements == pytest.approx(0.109, abs=5e-4)
