"""Tables from anywhere: nested exports, objects of Python, what a file cannot say and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from test_tables import MEANT, VOTES, triples
from typer.testing import CliRunner

from prefdensity import read
from prefdensity.cli import main
from prefdensity.errors import DataError


def test_messages_are_answers_whatever_their_keys():
    asked = {"role": "user", "content": "why?"}

    def rows(key, words):
        turn = {"role": "assistant", "content": "x"}
        return [{k: v for k, v in zip((key, words), (t["role"], t["content"]), strict=True)} for t in (asked, turn)]

    chosen, rejected = rows("role", "content"), rows("role", "content")
    rejected[1] = {"role": "assistant", "content": "y"}
    one = read([{"chosen": chosen, "rejected": rejected}], format="chosen_rejected")
    other = read(
        [
            {
                "chosen": rows("from", "value"),
                "rejected": [rows("from", "value")[0], {"from": "assistant", "value": "y"}],
            }
        ],
        format="chosen_rejected",
    )
    assert one.items == other.items
    assert one.contexts == ("user: why?",)
    with pytest.raises(DataError, match="row 1 has a text on one side and messages on the other"):
        read([{"chosen": chosen, "rejected": "no"}], format="chosen_rejected")


ARENA_HARD = [{"question_id": "q1", "model": "m1", "judge": "g", "games": [{"score": "A>>B"}, {"score": "A=B"}]},
              {"question_id": "q1", "model": "m2", "judge": "g", "games": [{"score": "B>A"}, {"score": "A>B"}]}
]  # fmt: skip


ARGILLA = [{"id": 1, "fields": {"prompt": "p", "response1": "yes", "response2": "no"},
            "responses": {"preference": [{"value": "response1", "user_id": "u1"}, {"value": "response2",
                                                                                   "user_id": "u2"}]}}]  # fmt: skip


PRODIGY = [{"text": "p", "options": [{"id": "m1"}, {"id": "m2"}], "accept": ["m2"], "answer": "accept",
            "_annotator_id": "kim"},
           {"text": "q", "options": [{"id": "m1"}, {"id": "m2"}], "accept": [], "answer": "ignore",
            "_annotator_id": "kim"}]  # fmt: skip


def test_nested_exports_are_read_by_their_recipes(tmp_path):
    with pytest.raises(DataError, match="format arena_hard needs baseline="):
        read(ARENA_HARD, format="arena_hard")
    hard = read(ARENA_HARD, format="arena_hard", baseline="m0", strength="keep")
    frame = hard.to_frame()
    assert list(zip(frame["item_a"], frame["item_b"], frame["outcome"], frame["strength"], strict=True)) == [
        ("m0", "m1", "a", 2), ("m0", "m2", "b", 1), ("m1", "m0", "tie", 0), ("m2", "m0", "a", 1)
    ]  # fmt: skip
    assert (hard.first == 1).all()
    for records in (ARGILLA, [{"prompt": "p", "response1": "yes", "response2": "no", "preference.responses":
                               ["response1", "response2"], "preference.responses.users": ["u1", "u2"]}]):  # fmt: skip
        data = read(records, format="argilla")
        assert (data.outcome.tolist(), data.annotators) == ([0, 1], ("u1", "u2"))
    data = read(PRODIGY, format="prodigy")
    assert (triples(data), data.annotators) == ([("m1", "m2", "b")], ("kim",))
    assert any("1 rows where answer is ignore" in note for note in data.notes)
    for name, right in (("m1", 1.0), ("m2", 0.0)):
        lines = [json.dumps({"doc_id": k, "doc": {}, "acc": right if k else 1.0}) for k in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        log = {"version": 2, "eval": {"model": name}, "samples": [
            {"id": k, "epoch": 1, "scores": {"match": {"value": "C" if right or not k else "I"}}} for k in range(2)
        ]}  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(log))
    meant = [("m1", "m2", "tie"), ("m1", "m2", "a")]
    assert triples(read(str(tmp_path / "*.jsonl"), format="lm_eval")) == meant
    assert triples(read([tmp_path / "m1.json", tmp_path / "m2.json"], format="inspect")) == meant


def test_an_arena_keeps_its_columns_for_one_option_each():
    frame = pd.DataFrame({
        "model_a": ["m1", "m2", "m1"], "model_b": ["m2", "m3", "m3"], "winner": ["model_a", "model_b", "tie"],
        "language": ["en", "de", "en"], "turn": [1, 2, 1], "category": ["code", "math", "code"],
        "conv_metadata": [{"sum_assistant_a_tokens": 30, "sum_assistant_b_tokens": 10, "header_count_a": {"h1": 1},
                           "header_count_b": {"h1": 0, "h2": 3}, "list_count_a": {"ordered": 0}, "list_count_b":
                           {"ordered": 0}, "bold_count_a": {"**": 2}, "bold_count_b": {"**": 2}}] * 3,
    })  # fmt: skip
    data = read(frame, format="arena", style="all")
    assert data.covariate_names == ("length", "headers", "lists", "bold")
    np.testing.assert_allclose(data.covariates[0], [0.5, -0.5, 0, 0])
    assert data.column("category").values.tolist() == [0, 1, 0]
    assert data.labels("language") == ("de", "en")
    assert read(frame.assign(language=["en", None, "en"]), format="arena").notes == (
        "language is empty in 1 rows and is not kept",
    )


def test_tables_from_python(tmp_path):
    how = {"item_a": "x", "item_b": "y", "outcome": "w"}
    meant = read(VOTES, **how).fingerprint()
    assert read(VOTES.to_dict("records"), **how).fingerprint() == meant
    assert read(VOTES.to_dict("list"), **how).fingerprint() == meant
    assert read(MEANT, item_a="1", item_b="2", outcome="3", header=False).fingerprint() == meant
    datasets = pytest.importorskip("datasets")
    assert read(datasets.Dataset.from_pandas(VOTES), **how).fingerprint() == meant
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(VOTES)
    assert read(arrow, **how).fingerprint() == meant

    class Interchanged:
        def __dataframe__(self, **options):
            return arrow.__dataframe__(**options)

    assert read(Interchanged(), **how).fingerprint() == meant
    with pytest.raises(DataError, match="columns of one length"):
        read({"x": [1], "y": [1, 2]})


def test_embeddings_are_joined_by_id(tmp_path):
    frame = pd.DataFrame({"chosen_id": ["r2", "r0"], "rejected_id": ["r0", "r1"], "chosen": "c", "rejected": "r"})
    values = np.array([[1.0, 2], [3, 4], [5, 6]])
    labels = tmp_path / "ids.csv"
    labels.write_text("id\nr0\nr1\nr2\n")
    np.save(tmp_path / "e.npy", values)
    np.savez(tmp_path / "e.npz", ids=np.array(["r0", "r1", "r2"]), vectors=values)
    pd.DataFrame({"id": ["r0", "r1", "r2"], "v": list(values)}).to_parquet(tmp_path / "e.parquet")
    ways = [("e.npy", {"feature_labels": labels}), ("e.npz", {}), ("e.parquet", {})]
    if (torch := pytest.importorskip("safetensors.numpy")) is not None:
        torch.save_file({f"r{k}": values[k] for k in range(3)}, tmp_path / "e.safetensors")
        ways.append(("e.safetensors", {}))
    for file, more in ways:
        data = read(frame, format="chosen_rejected", items="id", item_features=tmp_path / file, **more)
        assert data.items == ("r0", "r1", "r2")
        np.testing.assert_array_equal(data.item_features, values)
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)  # runs code when it is read
    with pytest.raises(DataError, match="cannot be read as an array of numbers"):
        read(frame, format="chosen_rejected", items="id", item_features=tmp_path / "o.npy")
    np.save(tmp_path / "s.npy", values[:2])
    with pytest.raises(DataError, match="labels 3 rows, and .* has 2"):
        read(frame, format="chosen_rejected", items="id", item_features=tmp_path / "s.npy", feature_labels=labels)


@pytest.mark.parametrize("kind", ["file", "list", "index", "array"])
def test_rows_of_arrays_are_labelled_by_labels_as_they_are(tmp_path, kind):
    frame = pd.DataFrame({"item_a": ["r2", "r0"], "item_b": ["r0", "r1"], "outcome": ["a", "b"]})
    values, names = np.array([[5.0, 6], [1, 2], [3, 4]], np.float32), ["r2", "r0", "r1"]
    (tmp_path / "ids.csv").write_text("id\nr2\nr0\nr1\n")
    np.save(tmp_path / "e.npy", values)
    ways = {"file": tmp_path / "ids.csv", "list": names, "index": pd.Index(names), "array": np.array(names)}
    for given in (values, tmp_path / "e.npy", np.load(tmp_path / "e.npy", mmap_mode="r")):
        data = read(frame, item_features=given, feature_labels=ways[kind])
        np.testing.assert_array_equal(data.item_features, values[[1, 2, 0]])
        assert data.item_features.dtype == np.float32  # as given: twice the memory says no more
    with pytest.raises(DataError, match="feature_labels labels 2 rows, and item_features has 3"):
        read(frame, item_features=values, feature_labels=names[:2])
    with pytest.raises(DataError, match="rows of an array are labelled by feature_labels"):
        read(frame, item_features=values)
    with pytest.raises(DataError, match="feature_labels is for arrays"):
        read(frame, item_features=pd.DataFrame(values, index=names), feature_labels=names)
    with pytest.raises(DataError, match=r"an array \(3,\) of float32"):
        read(frame, item_features=values[:, 0], feature_labels=names)


def test_an_array_in_the_order_of_its_labels_is_read_in_place(tmp_path):
    frame = pd.DataFrame({"item_a": ["r2", "r0"], "item_b": ["r0", "r1"], "outcome": ["a", "b"]})
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.save(tmp_path / "e.npy", values)
    data = read(frame, item_features=tmp_path / "e.npy", feature_labels=["r0", "r1", "r2"])
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r+")
    mapped[0, 0] = 9.0
    mapped.flush()
    assert data.item_features[0, 0] == 9.0
    own = pd.DataFrame(values, index=["r0", "r1", "r2"])
    data = read(frame, item_features=own)
    own.iloc[0, 0] = 9.0
    assert data.item_features[0, 0] == 0.0  # what may be changed by whoever holds it is copied


def test_numbers_in_single_precision_are_looked_at_as_all_others():
    frame = pd.DataFrame({"item_a": ["r2", "r0"], "item_b": ["r0", "r1"], "outcome": ["a", "b"]})
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    for wrong in (np.nan, np.inf, -np.inf):
        values[1, 1] = wrong
        with pytest.raises(DataError, match=f"column 'x1' must hold finite numbers, and holds {wrong} for item 'r1'"):
            read(frame, item_features=values, feature_labels=["r0", "r1", "r2"])


def test_the_index_that_pandas_stored_in_a_parquet_holds_the_labels(tmp_path):
    frame = pd.DataFrame({"item_a": ["r2", "r0"], "item_b": ["r0", "r1"], "outcome": ["a", "b"]})
    table = pd.DataFrame({"x": [0, 1, 2], "y": [5.5, 3, 4]}, index=["r0", "r1", "r2"])
    for named in (table, table.rename_axis("answer"), table.rename_axis("answer").reset_index()):
        named.to_parquet(tmp_path / "e.parquet")
        data = read(frame, item_features=tmp_path / "e.parquet")
        assert data.feature_names == ("x", "y")
        np.testing.assert_array_equal(data.item_features, table.to_numpy())


def test_what_a_file_cannot_say_is_asked(tmp_path):
    latin = tmp_path / "v.csv"
    latin.write_bytes("x,y,w\nölm,fir,a\n".encode("cp1252"))
    with pytest.raises(DataError, match="encoding='cp1252'"):
        read(latin, item_a="x", item_b="y", outcome="w")
    assert read(latin, item_a="x", item_b="y", outcome="w", encoding="cp1252").items == ("fir", "ölm")
    two = tmp_path / "v.json"
    two.write_text(json.dumps({"old": VOTES.to_dict("records"), "new": VOTES.to_dict("records")}))
    with pytest.raises(DataError, match="records='old' or 'new'"):
        read(two)
    sheet = tmp_path / "v.xlsx"
    sheet.write_bytes(b"PK")
    with pytest.raises(DataError, match="save the sheet as csv"):
        read(sheet)
    with pytest.raises(DataError, match="are lists side by side"):
        read([{"x": [{"k": 1}], "y": [{"k": 2}]}], item_a="x.k", item_b="y.k")
    with pytest.raises(DataError, match="'hh_rlhf'; .*chosen_rejected reads it"):
        read(VOTES, format="hh_rlhf")
    with pytest.raises(DataError, match="no file is called like"):
        read(str(tmp_path / "*.nothing"))


def test_formats_are_listed_with_their_options():
    listed = CliRunner().invoke(main.app, ["formats"])
    assert listed.exit_code == 0
    assert "both_bad=tie|drop" in listed.stdout
    one = CliRunner().invoke(main.app, ["formats", "label_studio"])
    assert "annotations.result.value.selected" in one.stdout
    assert CliRunner().invoke(main.app, ["formats", "nothing"]).exit_code == 2


def test_files_of_preflib_as_they_were_before_2022(tmp_path):
    old = tmp_path / "x.toc"
    old.write_text("3\n1,elm\n2,fir\n3,oak\n5,5,2\n3,1,2,3\n2,{2,3},1\n")
    assert read(old, tied="drop").n_answers == 3
    assert read(old, as_pairs=True).n_judgements == 15


def test_a_square_table_of_pandas_names_its_rows_in_the_index():
    square = pd.DataFrame([[0, 1], [2, 0]], index=["x", "y"], columns=["x", "y"])
    assert read(square, wide="wins").wins().tolist() == [[0, 1], [2, 0]]


def test_a_continuous_slider_says_who_won_alone():
    frame = pd.DataFrame({"item_a": ["elm", "fir", "oak"], "item_b": ["fir", "oak", "elm"], "s": [0.3, -0.2, 0.0]})
    with pytest.raises(DataError, match="holds 0.3 in row 1; .*strength_dropped=True"):
        read(frame, signed_strength="s")
    assert [outcome for *_, outcome in triples(read(frame, signed_strength="s", strength_dropped=True))] == [
        "a", "b", "tie"
    ]  # fmt: skip
    with pytest.raises(DataError, match="never negative"):  # a slider from 0 to 1 is not silently one-sided
        read(frame.assign(s=[0.3, 0.2, 0.9]), signed_strength="s", strength_dropped=True)
    half = {"strength_dropped": True, "strength_centre": 0.5, "higher": "b"}
    assert triples(read(frame.assign(s=[0.3, 0.5, 0.9]), signed_strength="s", **half))[0] == ("elm", "fir", "a")


REFUSED = [
    ({"winner": "w"}, {"w": ["a", "b"]}, "if it says which side won, read it with outcome='w'"),
    ({"winner": "w"}, {"w": ["ELM", "fir"]}, "it looks like 'elm': make them one in the table"),
    ({"wnner": "w"}, {}, "did you mean 'winner'"),
    ({"first": "p"}, {"p": ["left", "right"], "outcome": "a"}, "first_labels={'left': 'a'}"),
    ({"higher": "b"}, {"outcome": "a"}, "higher=... is for signed_strength=... and for share=..."),
    ({"winner": "w", "wins_a": "n", "wins_b": "n"}, {"w": "elm", "n": 1}, "both say who won"),
    ({"wins_a": "n"}, {"n": 1}, "counts need both wins_a=... and wins_b=..."),
    ({"wins_a": "n", "wins_b": "n"}, {"n": [1.5, 1]}, "fractional='weights'.*holds 1.5 in row 1"),
    ({"share": "p"}, {"p": [80, 0.1]}, "numbers from 0 to 1 .*, and holds 80"),
    ({"share": "p", "scale": "5"}, {"p": 1}, "scale='5' must be two different numbers"),
    ({"labels": {"x": "a", "y": "a2"}}, {"outcome": "x"}, "the label 'x' has no strength.*write it as a1"),
    ({"only": {"outcome": "z"}}, {"outcome": "a"}, "no row is left: 2 rows where outcome is not z"),
    ({"separator": "ab"}, {}, "separator='ab' must be one character"),
    ({"encoding": "klingon"}, {}, "encoding='klingon' is unknown"),
    ({"decimal": ";"}, {}, "decimal=';' is unknown"),
    ({"score": "s", "item": "item_a"}, {"s": 1}, "name its column with context=... or annotator=..."),
    ({"contrasts": {"length": "n"}}, {"n": 1, "outcome": "a"}, "a contrast is of two columns"),
    ({"wide": "table"}, {}, "wide='table' is unknown; use 'rank' or 'score'"),
]


@pytest.mark.parametrize(("how", "columns", "match"), REFUSED, ids=[str(list(case[0])) for case in REFUSED])
def test_what_does_not_go_together_is_said(how, columns, match):
    frame = pd.DataFrame({"item_a": ["elm", "fir"], "item_b": ["fir", "oak"]}).assign(**columns)
    with pytest.raises(DataError, match=match):
        read(frame, **how)


def test_polars_speaks_arrow():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": ["elm", "fir"], "y": ["fir", "oak"], "w": ["a", "b"]})
    assert triples(read(frame, item_a="x", item_b="y", outcome="w")) == [("elm", "fir", "a"), ("fir", "oak", "b")]


def test_a_column_that_is_no_pair_is_not_taken_for_one():
    frame = pd.DataFrame({"judge": ["j"], "age:group": [1], "elm:fir": [1], "elm:oak": [-1]})
    with pytest.raises(DataError, match="'age:group' names two items that are in no other pair"):
        read(frame, wide="pairs", annotator="judge")
    assert len(read(frame, wide="pairs", annotator="judge", columns="elm:*").items) == 3


def test_rankings_of_a_nested_export_are_described_and_need_no_recipe():
    records = [{"id": 1, "responses": {"q": [{"user_id": "u", "value": [{"rank": 2, "value": "elm"},
                                                                       {"rank": 1, "value": "fir"}]}]}}]  # fmt: skip
    data = read(records, answer="id+responses.q.user_id", item="responses.q.value.value", rank="responses.q.value.rank")
    assert [data.items[k] for k in data.best] == ["fir"]
