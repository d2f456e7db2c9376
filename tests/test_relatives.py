"""Relatives of the public cases, made by us: tables as offices, forms, platforms and colleagues write them.

Each is read in one call with the right result, or refused with the way through.
"""

import collections
import dataclasses
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from prefdensity import read
from prefdensity.data.choices import Choices
from prefdensity.errors import DataError

MEANT = [("elm", "fir", "a"), ("fir", "oak", "b"), ("oak", "elm", "tie")]
VOTES = pd.DataFrame(MEANT, columns=["x", "y", "w"])
RECORDS = VOTES.to_dict("records")
CSV = VOTES.to_csv(index=False)
XY = {"item_a": "x", "item_b": "y"}
XYW = XY | {"outcome": "w"}
ONE = [("elm", "fir", "a")]


def lines(*rows):
    return "\n".join(rows) + "\n"


def coded(a, b, tie):
    return lines("x,y,w", f"elm,fir,{a}", f"fir,oak,{b}", f"oak,elm,{tie}")


def rows(*columns):
    return lines(",".join(columns), "elm,fir,1,0", "fir,oak,0,1", "oak,elm,2,2")


# what a text file is written like: name, content, how it is read
FILES = {
    "the line sep=; of Excel": ("v.csv", "sep=;\n" + CSV.replace(",", ";"), XYW),
    "line breaks and separators within quotes": (
        "v.csv", VOTES.assign(note=["hi; you\nthere", "x;y", '"z"']).to_csv(index=False, sep=";"), XYW),
    "a separator at the end of every line": ("v.csv", CSV.replace("\n", ",\n"), XYW),
    "lines of an old Mac": ("v.csv", CSV.replace("\n", "\r"), XYW),
    "txt with tabs": ("v.txt", CSV.replace(",", "\t"), XYW),
    "txt with commas": ("v.txt", CSV, XYW),
    "dat with blanks, said": ("v.dat", CSV.replace(",", " "), XYW | {"separator": "space"}),
    "tab": ("v.tab", CSV.replace(",", "\t"), XYW),
    "blanks after commas": ("v.csv", CSV.replace(",", ", "), XYW),
    "UTF-16 without a mark, said": ("v.csv", CSV.encode("utf-16-le"), XYW | {"encoding": "utf-16-le"}),
    "an ending in capitals": ("V.CSV", CSV, XYW),
    "a packed list of objects": ("v.json.gz", gzip.compress(json.dumps(RECORDS).encode()), XYW),
    "packed lines": ("v.jsonl.gz", gzip.compress(lines(*map(json.dumps, RECORDS)).encode()), XYW),
    "an index of pandas": ("v.csv", VOTES.to_csv(), XYW),
    "a title, left out": ("v.csv", "Votes of the club,,\n" + CSV, XYW | {"skip": 1}),
    "remarks, left out": ("v.csv", "# one\n# two\n" + CSV, XYW | {"skip": 2}),
    "a mark before lines": ("v.jsonl", b"\xef\xbb\xbf" + lines(*map(json.dumps, RECORDS)).encode(), XYW),
    "empty lines between": ("v.jsonl", "\n\n".join(map(json.dumps, RECORDS)), XYW),
    "indented objects one after another": ("v.json", lines(*(json.dumps(r, indent=1) for r in RECORDS)), XYW),
    "rows by key, nested": (
        "v.json", json.dumps({f"q{k}": {"m": {"x": r["x"], "y": r["y"]}, "w": r["w"]} for k, r in enumerate(RECORDS)}),
        {"item_a": "m.x", "item_b": "m.y", "outcome": "w"}),
    "hits of a search": (
        "v.json", json.dumps({"took": 1, "hits": {"total": 3, "hits": [{"_id": 1, "_source": r} for r in RECORDS]}}),
        {"item_a": "_source.x", "item_b": "_source.y", "outcome": "_source.w"}),
    "a list within a list": ("v.json", json.dumps([RECORDS]), XYW),
    "lists of which the first is a header": ("v.json", json.dumps([["x", "y", "w"], *MEANT]), XYW),
    "a schema beside the data": ("v.json", VOTES.to_json(orient="table"), XYW),
    "typographic minus signs": (
        "v.csv", lines("x,y,s", "elm,fir,2", "fir,oak,\u22121", "oak,elm,0"), XY | {"signed_strength": "s"}),
    "plus signs": ("v.csv", lines("x,y,s", "elm,fir,+2", "fir,oak,-1", "oak,elm,0"), XY | {"signed_strength": "s"}),
    "per cent": ("v.csv", lines("x,y,p", "elm,fir,100 %", "fir,oak,0%", "oak,elm,50%"),
                 XY | {"share": "p", "scale": "0,100"}),
    "cells that Python wrote": (
        "v.csv", pd.DataFrame({"m": [str(list(m[:2])) for m in MEANT], "w": VOTES["w"]}).to_csv(index=False),
        {"item_a": "m.0", "item_b": "m.1", "outcome": "w"}),
    # words
    "truth": ("v.csv", coded("True", "FALSE", "n/a"), XYW | {"labels": {"true": "a", "false": "b", "n/a": "tie"}}),
    "codes as decimals": ("v.csv", coded("1.0", "0.0", "0.5"), XYW | {"labels": {1: "a", 0: "b", 0.5: "tie"}}),
    "results of chess": ("v.csv", coded("1-0", "0-1", "1/2-1/2"),
                         XYW | {"labels": {"1-0": "a", "0-1": "b", "1/2-1/2": "tie"}}),
    "nobody named is a draw": ("v.csv", coded("elm", "oak", ""), XY | {"winner": "w", "labels": {"": "tie"}}),
    "nothing said is a tie": ("v.csv", coded("a", "b", " "), XYW | {"labels": {"a": "a", "b": "b", "": "tie"}}),
    "null is a draw": ("v.json", json.dumps([dict(zip("xyw", (*m[:2], who), strict=True)) for m, who in
                                             zip(MEANT, ("elm", "oak", None), strict=True)]),
                       XY | {"winner": "w", "labels": {"": "tie"}}),
    "strength in words, nothing is a tie": (
        "v.csv", coded("Left, much", "Right, slightly", "").replace("Left, much", '"Left, much"').replace(
            "Right, slightly", '"Right, slightly"'),
        XYW | {"labels": {"Left, much": "a2", "Right, slightly": "b1", "": "tie"}}),
    "numbers and words": ("v.csv", coded("1 - Strongly A", "5 - Strongly B", "3 - Neutral"),
                          XYW | {"labels": {"1 - Strongly A": "a2", "5 - Strongly B": "b2", "3 - Neutral": "tie"}}),
    # numbers
    "goals": ("v.csv", rows("x", "y", "h", "g"), XY | {"score_a": "h", "score_b": "g"}),
    "pairs in one column": ("v.csv", lines("p,w", "elm vs fir,a", "fir vs oak,b", "oak vs elm,tie"),
                            {"pair": "p", "outcome": "w"}),
    "pairs in one column, by name": ("v.csv", lines("p,w", "elm - fir,elm", "fir - oak,oak", "oak - elm,draw"),
                                     {"pair": "p", "winner": "w"}),
    # columns whose names usually mean something else
    "items in columns called first and second": ("v.csv", CSV.replace("x,y,w", "first,second,w"),
                                                 {"item_a": "first", "item_b": "second", "outcome": "w"}),
    "a result with the sign of a half": ("v.csv", coded("1-0", "0-1", "½-½"),
                                         XYW | {"labels": {"1-0": "a", "0-1": "b", "½-½": "tie"}}),
}  # fmt: skip


def triples(data):
    frame = data.to_frame()
    return list(zip(frame["item_a"], frame["item_b"], frame["outcome"], strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_meant(tmp_path, name):
    file, content, how = FILES[name]
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    assert triples(read(tmp_path / file, **how)) == MEANT


CELLS = [([1, -1, 0], None), (["elm", "oak", "tie"], None), (["A", "B", "="], None), ([2, -1, 0], None),
         ([1.0, 2.0, 0.0], {1: "a", 2: "b", 0: "tie"})]  # fmt: skip


@pytest.mark.parametrize("sign", [":", "_vs_", "-vs-", " vs. ", " VS ", "/", " - ", ".", " or ", "_v_", " versus ", "~",
                                  " & ", " x ", "|", ">"])  # fmt: skip
@pytest.mark.parametrize(("cells", "labels"), CELLS)
def test_a_column_for_every_pair_whatever_stands_between_the_names(sign, cells, labels):
    names = [f"{a}{sign}{b}" for a, b, _ in MEANT]
    frame = pd.DataFrame([["ann", *cells]], columns=["who", *names])
    data = read(frame, wide="pairs", annotator="who", labels=labels)
    assert triples(data) == MEANT
    assert (data.grade is not None) == (cells[0] == 2)


def test_pairs_of_numbers_whose_cells_may_be_names_or_signs_are_asked_about():
    frame = pd.DataFrame([["ann", 1, 3]], columns=["who", "2:1", "1:3"])
    with pytest.raises(DataError, match="the pair 2, 1 holds '1' in row 1, which names an item"):
        read(frame, wide="pairs", annotator="who")
    named = frame.rename(columns={"2:1": "y:x", "1:3": "x:z"}).replace({1: "x", 3: "z"})
    assert triples(read(named, wide="pairs", annotator="who")) == [("y", "x", "b"), ("x", "z", "b")]


def test_grids_of_forms_have_the_item_in_brackets():
    frame = pd.DataFrame({"who": ["ann"], "Rank these [elm]": [1], "Rank these [fir]": [2], "Rank these [oak]": [3]})
    assert read(frame, wide="rank", annotator="who").items == ("elm", "fir", "oak")
    frame = pd.DataFrame([["ann", "elm", "oak"]], columns=["who", "Which? [elm:fir]", "Which? [fir:oak]"])
    assert triples(read(frame, wide="pairs", annotator="who")) == MEANT[:2]


COUNTS = {  # rows, how they are read, and what each (a, b, outcome) was judged how often
    "wins of a total": ({"x": ["elm", "fir"], "y": ["fir", "oak"], "k": [2, 0], "n": [3, 4]}, XY | {
        "wins_a": "k", "total": "n"}, {("elm", "fir", "a"): 2, ("elm", "fir", "b"): 1, ("fir", "oak", "b"): 4}),
    "a total with draws": ({"x": ["elm"], "y": ["fir"], "k": [2], "d": [1], "n": [5]}, XY | {
        "wins_a": "k", "drawn": "d", "total": "n"}, {("elm", "fir", "a"): 2, ("elm", "fir", "b"): 2,
                                                     ("elm", "fir", "tie"): 1}),
    "a share of so many": ({"x": ["elm", "fir"], "y": ["fir", "oak"], "p": [0.75, 1.0], "n": [4, 2]}, XY | {
        "share": "p", "count": "n"}, {("elm", "fir", "a"): 3, ("elm", "fir", "b"): 1, ("fir", "oak", "a"): 2}),
    "a square without names of rows": ({"elm": [0, 3], "fir": [7, 0]}, {"wide": "wins"},
                                       {("elm", "fir", "a"): 7, ("fir", "elm", "a"): 3}),
    "a square of shares": ({"m": ["elm", "fir"], "elm": [None, 0.3], "fir": [0.7, None]}, {
        "wide": "wins", "fractional": "weights"}, {("elm", "fir", "a"): 0.7, ("fir", "elm", "a"): 0.3}),
    "wins in columns called first and second": ({"p": ["elm vs fir"], "first": [3], "second": [1]}, {
        "pair": "p", "wins_a": "first", "wins_b": "second"}, {("elm", "fir", "a"): 3, ("elm", "fir", "b"): 1}),
    "wins in a column called count": ({"x": ["elm"], "y": ["fir"], "count": [3], "n": [1]}, XY | {
        "wins_a": "count", "wins_b": "n"}, {("elm", "fir", "a"): 3, ("elm", "fir", "b"): 1}),
    "a square with totals": ({"m": ["elm", "fir"], "elm": [None, 1], "fir": [3, None], "all": [3, 1]}, {
        "wide": "wins", "columns": ["elm", "fir"]}, {("elm", "fir", "a"): 3, ("fir", "elm", "a"): 1}),
    "counts within a cell": ({"x": ["elm"], "y": ["fir"], "votes": [{"a": 2, "b": 1}]}, XY | {
        "wins_a": "votes.a", "wins_b": "votes.b"}, {("elm", "fir", "a"): 2, ("elm", "fir", "b"): 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_read_as_meant(name):
    columns, how, right = COUNTS[name]
    data = read(pd.DataFrame(columns), **how)
    assert dict(zip(triples(data), data.count.tolist(), strict=True)) == pytest.approx(right)


def message(words):
    return [{"role": "user", "content": "q"}, {"role": "assistant", "content": words}]


NESTED = {  # rows as public sets, tools and platforms have them
    "a comparison with scores": ([{"question": {"full_text": "q"}, "answer_0": "u", "answer_1": "v", "score_0": 1.0,
                                   "score_1": -1.0}],
                                 {"item_a": "answer_0", "item_b": "answer_1", "score_a": "score_0",
                                  "score_b": "score_1", "context": "question.full_text", "texts": "items"}),
    "a post and two replies": ([{"history": "q", "human_ref_A": "u", "human_ref_B": "v", "labels": 1}],
                               {"item_a": "human_ref_A", "item_b": "human_ref_B", "outcome": "labels",
                                "labels": {1: "a", 0: "b"}, "texts": "items", "context": "history"}),
    "the better of two by number": ([{"prompt": "p", "response_0": "u", "response_1": "v", "better_response_id": 0}],
                                    {"item_a": "response_0", "item_b": "response_1", "outcome": "better_response_id",
                                     "labels": {0: "a", 1: "b"}, "texts": "items", "context": "prompt"}),
    "a list of answers and the chosen one": ([{"prompt": "p", "responses": ["u", "v"], "chosen": 0}],
                                             {"item_a": "responses.0", "item_b": "responses.1", "outcome": "chosen",
                                              "labels": {0: "a", 1: "b"}, "texts": "items", "context": "prompt"}),
    "other names of chosen and rejected": ([{"question": "p", "response_j": "u", "response_k": "v"}],
                                           {"format": "chosen_rejected", "winner": "response_j",
                                            "loser": "response_k"}),
    "preferred output": ([{"input": {"messages": message("x")[:1]}, "preferred_output": message("u")[1:],
                           "non_preferred_output": message("v")[1:]}],
                         {"winner": "preferred_output", "loser": "non_preferred_output", "context": "input.messages",
                          "texts": "items"}),
    "one message on either side": ([{"chosen": {"from": "gpt", "value": "u"}, "rejected": {"from": "gpt",
                                                                                           "value": "v"}}],
                                   {"format": "chosen_rejected"}),
    "messages as text": ([{"prompt": "q", "chosen": json.dumps(message("u")), "rejected": json.dumps(message("v"))}],
                         {"format": "chosen_rejected"}),
    "options compared": ([{"input": "p", "options": [{"id": "u"}, {"id": "v"}], "mapping": {"A": "u", "B": "v"},
                           "accept": ["u"], "answer": "accept"}], {"format": "prodigy"}),
    "two games of a judge": ([{"model_1": "u", "model_2": "v", "g1_winner": "model_1", "judge": ["g", "pair"]}],
                             {"item_a": "model_1", "item_b": "model_2", "outcome": "g1_winner", "ordered": True,
                              "labels": {"model_1": "a", "model_2": "b"}, "annotator": "judge.0"}),
    "the left one": ([{"left": "u", "right": "v", "winner": "left"}],
                     {"item_a": "left", "item_b": "right", "outcome": "winner", "labels": {"left": "a"}}),
    "a worker's label": ([{"worker": "w", "left": "u", "right": "v", "label": "u"}],
                         {"item_a": "left", "item_b": "right", "winner": "label", "annotator": "worker"}),
    "providers of a test": ([{"provider": {"id": m}, "testIdx": 0, "score": s} for m, s in (("u", 1), ("v", 0))],
                            {"item": "provider.id", "score": "score", "context": "testIdx"}),
    "thumbs": ([{"prompt": "p", "model": m, "label": s} for m, s in (("u", True), ("v", False))],
               {"item": "model", "score": "label", "context": "prompt"}),
    "completions with scores": ([{"instruction": "p", "completions": [{"model": "u", "overall_score": 8.5},
                                                                      {"model": "v", "overall_score": 7}]}],
                                {"item": "completions.model", "score": "completions.overall_score",
                                 "context": "instruction"}),
    "ranks from 0, as scores": ([{"p": 1, "item": "u", "rank": 0}, {"p": 1, "item": "v", "rank": 1}],
                                {"item": "item", "score": "rank", "lower_wins": True, "context": "p"}),
    "six points without a middle": ([{"x": "u", "y": "v", "s": 2}, {"x": "u", "y": "v", "s": 1}],
                                    XY | {"signed_strength": "s", "strength_centre": 3.5, "higher": "b"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_rows_of_public_sets_and_platforms_are_read_as_meant(tmp_path, name):
    records, how = NESTED[name]
    file = tmp_path / "v.jsonl"
    file.write_text(lines(*map(json.dumps, records)))
    for source in (records, file):
        for a, b, outcome in triples(read(source, **how)):
            assert (a[0], b[0], outcome) == ("u", "v", "a")
    frame = pd.DataFrame(records)
    frame.to_parquet(tmp_path / "v.parquet")
    assert triples(read(tmp_path / "v.parquet", **how)) == triples(read(records, **how))


SETS = {  # one answer about elm, fir and oak, elm the best
    "a list in a cell": ([{"order": ["elm", "fir", "oak"]}], {"ranked": "order"}),
    "a list that Python wrote": ([{"order": "['elm', 'fir', 'oak']"}], {"ranked": "order"}),
    "commas": ([{"order": "elm, fir, oak"}], {"ranked": "order"}),
    "semicolons": ([{"order": "elm; fir; oak"}], {"ranked": "order"}),
    "answers with ranks": ([{"prompt": "p", "answers": [{"model": "fir", "rank": 2.0}, {"model": "elm", "rank": 1.0},
                                                        {"model": "oak", "rank": 3.0}]}],
                           {"answer": "prompt", "item": "answers.model", "rank": "answers.rank"}),
    "arrows": ([{"order": "elm → fir → oak"}], {"ranked": "order"}),
    "arrows of signs": ([{"order": "elm -> fir -> oak"}], {"ranked": "order"}),
    "the sign of preference": ([{"order": "elm ≻ fir ≻ oak"}], {"ranked": "order"}),
    "places in columns": ([{"best": "elm", "second": "fir", "third": "oak"}], {"ranked": ["best", "second", "third"]}),
    "the best of a list in a text": ([{"s": "fir; elm; oak", "best": "elm", "worst": "oak"}],
                                     {"shown": "s", "best": "best", "worst": "worst"}),
    "the best by yes and no": ([{"id": 1, "item": m, "best": "yes" if m == "elm" else "no"}
                                for m in ("fir", "elm", "oak")], {"answer": "id", "best": "best"}),
    "the best by number from 0": ([{"s": ["elm", "fir", "oak"], "best": 0}], {"shown": "s", "best": "best"}),
    "the best by name": ([{"s": ["fir", "elm", "oak"], "best": "elm"}], {"shown": "s", "best": "best"}),
    "best and worst by number": ([{"i1": "fir", "i2": "elm", "i3": "oak", "b": 2, "w": 3}],
                                 {"shown": "i*", "best": "b", "worst": "w"}),
    "best and worst by flags": ([{"id": 1, "item": m, "best": int(m == "elm"), "worst": int(m == "oak")}
                                 for m in ("fir", "elm", "oak")], {"answer": "id", "best": "best", "worst": "worst"}),
    "the best by a flag": ([{"id": 1, "item": m, "best": m == "elm"} for m in ("fir", "elm", "oak")],
                           {"answer": "id", "best": "best"}),
    "three header lines, the answers that are finished": (
        [{"Q1_1": "elm", "Q1_2": "fir", "Q1_3": "oak", "Finished": "Finished"},
         {"Q1_1": '{"ImportId":"QID1_1"}', "Q1_2": "x", "Q1_3": "y", "Finished": '{"ImportId":"finished"}'},
         {"Q1_1": "1", "Q1_2": "2", "Q1_3": "3", "Finished": "True"}],
        {"wide": "rank", "columns": "Q1_*", "only": {"Finished": "true"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_answers_about_sets_are_read_as_meant(name):
    records, how = SETS[name]
    data = read(records, **how)
    assert isinstance(data, Choices)
    assert len(data.items) == 3
    assert data.items[data.best[0]] in ("elm", "Q1_1")
    assert data.n_answers == 1


Row = collections.namedtuple("Row", "x y w")


@dataclasses.dataclass
class Vote:
    x: str
    y: str
    w: str


HELD = {
    "named tuples": [Row(*each) for each in MEANT],
    "data classes": [Vote(*each) for each in MEANT],
    "rows as they come": (each for each in RECORDS),
    "lists with a header": [["x", "y", "w"], *MEANT],
    "an array with named fields": np.array(MEANT, dtype=[(name, "U5") for name in "xyw"]),
    "a categorical frame": VOTES.astype("category"),
    "a frame with an item in its index": VOTES.set_index("x"),
    "a dict of arrays": {name: VOTES[name].to_numpy() for name in VOTES},
}


@pytest.mark.parametrize("name", HELD)
def test_what_python_holds_is_read_as_meant(name):
    assert triples(read(HELD[name], **XYW)) == MEANT


def test_pairs_of_numbers_from_python():
    for pairs in ([(0, 1), (2, 1)], np.array([(0, 1), (2, 1)])):
        data = read(pairs, winner="1", loser="2", header=False)
        assert triples(data) == [("0", "1", "a"), ("2", "1", "a")]


def test_streams_of_arrow():
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(VOTES)
    assert triples(read(arrow.to_reader(), **XYW)) == MEANT
    assert triples(read(arrow.to_batches()[0], **XYW)) == MEANT


def test_one_folder_for_each_model(tmp_path):
    for model, score in (("elm", 1.0), ("fir", 0.0)):
        folder = tmp_path / model
        folder.mkdir()
        for task in ("arc", "hella"):
            sample = {"doc_id": 0, "doc_hash": f"{task}0", "filter": "none", "acc": score}
            (folder / f"samples_{task}_2024-05-0{len(task)}.jsonl").write_text(json.dumps(sample))
    data = read(str(tmp_path / "*/samples_*.jsonl"), format="lm_eval")
    assert triples(data) == ONE * 2
    assert data.contexts == ("arc0 / none", "hella0 / none")


def test_the_sign_between_two_names_says_who_won():
    data = read(pd.DataFrame({"m": ["elm > fir", "oak > fir", "oak = elm"]}), ranked="m", as_pairs=True)
    assert triples(data) == [("elm", "fir", "a"), ("oak", "fir", "a"), ("oak", "elm", "tie")]


def test_a_square_of_wins_as_an_object_of_objects(tmp_path):
    wins = {"elm": {"fir": 3, "oak": 1}, "fir": {"elm": 2}, "oak": {"fir": 1}}
    (tmp_path / "v.json").write_text(json.dumps(wins))
    data = read(tmp_path / "v.json", wide="wins")
    found = {(a, b): count for (a, b, _), count in zip(triples(data), data.count.tolist(), strict=True)}
    assert found == {("elm", "fir"): 3, ("elm", "oak"): 1, ("fir", "elm"): 2, ("oak", "fir"): 1}
