"""Relatives of the public cases that are not clear: refused in one sentence, with the way through."""

import numpy as np
import pytest
from test_relatives import CSV, RECORDS, VOTES, XY, XYW, coded, message, triples

import prefdensity
from prefdensity import read
from prefdensity.errors import DataError

REFUSED = {
    "words of sides": (coded("Model A", "Model B", "Tie"), XYW, "labels={'Model A': 'a'}"),
    "goals in one cell": (coded("2-1", "0-1", "1-1"), XYW, "labels={'2-1': 'a'}"),
    "thousands": ('x,y,s,u\nelm,fir,"1,234.5",9\n', XY | {"score_a": "s", "score_b": "u"},
                  "without signs for thousands"),
    "an empty outcome": (coded("a", "b", ""), XYW, "missing='drop', or say what an empty cell means, .*{'': 'tie'}"),
    "rows that are empty": (CSV + ",,\n", XYW, "missing='drop'"),
    "more wins than judgements": ("x,y,k,n\nelm,fir,3,2\n", XY | {"wins_a": "k", "total": "n"},
                                  "k of row 1 are 3 of 2 judgements in 'n'"),
    "a share that is no count": ("x,y,p,n\nelm,fir,0.7,3\n", XY | {"share": "p", "count": "n"},
                                 "0.7 of the 3 judgements in row 1 is no whole number; .*fractional='weights'"),
    "ranks from 0": ("p,item,rank\n1,elm,0\n1,fir,1\n", {"answer": "p"}, "score='rank', lower_wins=True"),
    "both ends at once": ("p,item,b,w\n1,elm,1,1\n1,fir,0,0\n", {"answer": "p", "best": "b", "worst": "w"},
                          "row 1 is both the best and the worst"),
    "who won between the names of a pair": ("p\nelm > fir\nfir = oak\n", {"pair": "p", "outcome": "p"},
                                            "read them with ranked='p', as_pairs=True"),
    "scores of some items": ("task,elm,fir\n1,0.3,\n2,0.1,0.2\n", {"wide": "score", "context": "task"},
                             "1 cells of the scores are empty; .*missing='drop'"),
    "a column of totals": ("m,elm,fir,all\nelm,,3,3\nfir,1,,1\n", {"wide": "wins"}, "columns=... the items beside"),
    "pairs that are none": ("p,w\nelm,a\nfir,b\n", {"pair": "p", "outcome": "w"}, "'elm' and others do not all name"),
    "shares in a square": ("m,elm,fir\nelm,,0.7\nfir,0.3,\n", {"wide": "wins"}, "fractional='weights'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_with_the_way_through(tmp_path, name):
    content, how, match = REFUSED[name]
    (tmp_path / "v.csv").write_text(content)
    with pytest.raises(DataError, match=match):
        read(tmp_path / "v.csv", **how)


def test_cells_that_hold_more_than_one_judgement_say_how_they_are_named():
    votes = [{"x": "elm", "y": "fir", "w": ["a", "b"]}]
    with pytest.raises(DataError, match=r"holds a list in row 1; .*each of its entries as 'w\[\]'"):
        read(votes, **XYW)
    assert triples(read(votes, **XY, outcome="w[]")) == [("elm", "fir", "a"), ("elm", "fir", "b")]
    with pytest.raises(DataError, match=r"holds a dict in row 1; .*one of its entries as 'w.ann'"):
        read([{"x": "elm", "y": "fir", "w": {"ann": "a"}}], **XYW)
    turns = [{"x": message("u"), "y": message("v"), "w": "a"}]
    with pytest.raises(DataError, match="messages as answers with texts='items'"):
        read(turns, **XYW)
    assert len(read(turns, **XYW, texts="items").items) == 2
    with pytest.raises(DataError, match=r"'eval' holds a dict; give one record in a list: \[record\]"):
        read({"eval": {"model": "elm"}, "samples": []}, format="inspect")
    with pytest.raises(DataError, match=r"numbers from 0 to 1 \(per cent: scale='0,100'\)"):
        read([{"x": "elm", "y": "fir", "p": 75}], **XY, share="p")
    answers = [{"left": "u", "right": "v", "w": "a"}]
    with pytest.raises(DataError, match="left and right of row 1 share no beginning"):
        read(answers, item_a="left", item_b="right", outcome="w", texts="items")


def test_what_python_holds_and_is_no_table_is_said(tmp_path):
    for source, match in (
        ({"q0": RECORDS[0], "q1": RECORDS[1]}, "a dict of dicts may be rows or columns; .*orient='index'"),
        ([VOTES, VOTES], "several data frames; .*pandas.concat"),
        (np.array([[0, 7], [3, 0]]), "header=False.*pandas.DataFrame.wins, index=items, columns=items"),
        (VOTES["x"], "a column alone is no table"),
        (object(), "not object"),
    ):
        with pytest.raises(DataError, match=match):
            read(source, **XYW)
    with pytest.raises(DataError, match=r"or a pattern of several in quotes, as in '.*/\*.json'"):
        read(tmp_path)
    datasets = pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"several data sets, train; give one, as in data\['train'\]"):
        read(datasets.DatasetDict({"train": datasets.Dataset.from_pandas(VOTES)}), **XYW)


def test_what_was_not_read_is_no_table(tmp_path):
    with pytest.raises(DataError, match="a table is needed, and this is a DataFrame; read it first"):
        prefdensity.fit("davidson", VOTES)
    data = read(VOTES, **XYW)
    post = prefdensity.fit("davidson", data, method="map")
    with pytest.raises(DataError, match=r"'elm' is no pair of items; give pairs as in \[\('elm', 'fir'\)\]"):
        post.predict(["elm"])
    with pytest.raises(DataError, match=r"anchor='elm=1' must give one item of the table its rating"):
        prefdensity.leaderboard(post, data, anchor="elm=1")
    with pytest.raises(DataError, match="there is no folder .*nowhere to write page.html into"):
        prefdensity.write_report(post, data, tmp_path / "nowhere" / "page.html")
