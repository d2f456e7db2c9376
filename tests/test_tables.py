"""Tables as people have them: each is read in one call, or refused with the way through. The cases are public ones."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from prefdensity import read
from prefdensity.cli import main
from prefdensity.data.choices import Choices
from prefdensity.errors import DataError

CASES = Path(__file__).parents[2] / "shared" / "cases"


SIDES = {"item_a": "model_a", "item_b": "model_b", "outcome": "winner"}


GRADES = {"A>>B": "a2", "A>B": "a1", "A=B": "tie", "B>A": "b1", "B>>A": "b2"}


GERMAN = {"item_a": "Links", "item_b": "Rechts", "outcome": "Gewinner", "covariates": ["Längendifferenz"],
          "labels": {"links": "a", "rechts": "b", "gleich": "tie"}}  # fmt: skip


SEVEN = {"item_a": "left", "item_b": "right", "signed_strength": "score"}


RANKS = {"answer": "ballot", "rank": "place"}


# file, how it is read, and what is right: the judgements, or answers, and items; or a pattern of the refusal
RIGHT = [
    ("01-winner-by-name/league.csv", {"item_a": "home", "item_b": "away", "winner": "winner"}, (60, 5)),
    ("01-winner-by-name/votes.csv", {"item_a": "choice_id1", "item_b": "choice_id2", "winner": "winner_id"}, (60, 5)),
    ("01-winner-by-name/league.csv", {"item_a": "home", "item_b": "away", "outcome": "winner"}, "winner='winner'"),
    ("02-chosen-notchosen/decisions.csv", {"winner": "chosen", "loser": "notChosen", "first": "chosenPosition"},
     (80, 5)),
    ("02-chosen-notchosen/no_header.csv", {"winner": "1", "loser": "2", "header": False}, (3, 3)),
    ("04-two-counts/season.csv", {"item_a": "home", "item_b": "away", "wins_a": "home_wins", "wins_b": "away_wins",
                                  "drawn": "draws", "ordered": True}, (115, 5)),
    ("04-two-counts/two_models.csv", {"item_a": "player_1", "item_b": "player_2", "wins_a": "wins_1",
                                      "wins_b": "wins_2"}, (10, 2)),
    ("05-arena-bothbad/battles.json", {"format": "arena"}, "both_bad='tie' or both_bad='drop'"),
    ("05-arena-bothbad/battles.json", {"format": "arena", "both_bad": "tie"}, (60, 5)),
    ("05-arena-bothbad/bothbad_words.csv", {"item_a": "a", "item_b": "b", "outcome": "vote", "labels": {
        "A is better": "a", "B is better": "b", "Both are good": "tie", "Both are bad": "drop"}}, (53, 5)),
    ("06-codes-012/matches.csv", {"item_a": "player0", "item_b": "player1", "outcome": "y",
                                  "labels": {0: "a", 1: "b", 2: "tie"}}, (47, 5)),
    ("07-rank-matrix/long_single.csv", RANKS, "single='drop'.*gaps='drop' or gaps='close'"),
    ("07-rank-matrix/long_single.csv", RANKS | {"single": "drop", "gaps": "close"}, (7, 5)),
    ("07-rank-matrix/long_tied.csv", RANKS, "tied='drop'.*as_pairs=True"),
    ("07-rank-matrix/long_tied.csv", RANKS | {"as_pairs": True}, (60, 5)),
    ("07-rank-matrix/long_with_freq.csv", RANKS | {"count": "freq", "gaps": "close"}, (20, 5)),
    ("07-rank-matrix/rankings.csv", {"wide": "rank"}, "'freq' is hardly an item"),
    ("07-rank-matrix/rankings.csv", {"wide": "rank", "count": "freq"}, "unranked='absent'.*unranked='last'"),
    ("07-rank-matrix/rankings.csv", {"wide": "rank", "count": "freq", "unranked": "absent", "single": "drop",
                                     "tied": "drop", "gaps": "close"}, (20, 5)),
    ("08-preflib/trees.soc", {}, (19, 5)),
    ("09-maxdiff/wide.csv", {"shown": "item*", "best": "best", "worst": "worst", "answer": ["resp", "task"],
                             "annotator": "resp"}, (50, 5)),
    ("09-maxdiff/wide.csv", {"shown": "item*", "best": "best", "worst": "worst", "answer": "resp"},
     "in more than one row.*answer=\\['respondent', 'task'\\]"),
    ("10-alpaca-null/annotations.json", {"format": "alpaca_eval"}, "'preference' .* is empty in 2 rows.*='drop'"),
    ("10-alpaca-null/annotations.json", {"format": "alpaca_eval", "missing": "drop"}, (38, 2)),
    ("11-soft-preference/annotations.json", {"format": "alpaca_eval"}, "speak for a by 0.58.*majority in 0.75"),
    ("11-soft-preference/annotations.json", {"format": "alpaca_eval", "fractional": "weights"}, (40, 2)),
    ("11-soft-preference/soft.csv", {"item_a": "model_a", "item_b": "model_b", "share": "p_a",
                                     "fractional": "weights"}, (60, 5)),
    ("12-arena-hard-strength-words/flat.csv", {"item_a": "answer_a", "item_b": "answer_b", "outcome": "verdict",
                                               "labels": GRADES}, (80, 5)),
    ("13-chosen-rejected-messages/train_prefs.jsonl", {"format": "chosen_rejected"}, "equal_scores='tie'"),
    ("13-chosen-rejected-messages/train_prefs.jsonl", {"format": "chosen_rejected", "equal_scores": "tie"}, (30, 60)),
    ("13-chosen-rejected-messages/train_prefs.jsonl", {"format": "chosen_rejected", "equal_scores": "drop",
                                                       "items": "model"}, (25, 5)),
    ("14-label-studio/export.json", {"format": "label_studio", "item_a": "data.model1", "item_b": "data.model2"},
     (30, 5)),
    ("14-label-studio/export-min.json", {"item_a": "model1", "item_b": "model2", "outcome": "pw",
                                         "labels": {"left": "a", "right": "b"}}, (30, 5)),
    ("15-excel-europe/comma_bom.csv", GERMAN, (60, 5)),
    ("15-excel-europe/semicolon_bom.csv", GERMAN, (60, 5)),
    ("15-excel-europe/semicolon_utf8.csv", GERMAN, (60, 5)),
    ("15-excel-europe/semicolon_plain.csv", {"item_a": "home", "item_b": "away", "winner": "winner"}, (60, 5)),
    ("16-undefeated-and-islands/undefeated.csv", {}, (21, 4)),
    ("16-undefeated-and-islands/islands.csv", {}, (27, 6)),
    ("17-only-ties/ties.csv", {}, (30, 5)),
    ("18-fractional-counts/half_wins.csv", {}, "5.5 in row 1.*fractional='weights'"),
    ("18-fractional-counts/half_wins.csv", {"fractional": "weights"}, "-0.5 in row 8; counts are whole and not neg"),
    ("18-fractional-counts/weights.csv", {"count": "weight", "fractional": "weights"}, (111.59, 5)),
    ("19-likert-left-right/minus3_right_positive.csv", SEVEN | {"higher": "b"}, (80, 5)),
    ("19-likert-left-right/one_to_seven.csv", SEVEN, "strength_centre=4 and higher='b'"),
    ("19-likert-left-right/one_to_seven.csv", SEVEN | {"strength_centre": 4, "higher": "b"}, (80, 5)),
    ("20-self-and-missing/battles.csv", SIDES, "missing='drop'"),
    ("20-self-and-missing/battles.csv", SIDES | {"missing": "drop"}, "identical='drop'"),
    ("20-self-and-missing/battles.csv", SIDES | {"missing": "drop", "identical": "drop"}, (56, 8)),
    ("21-untidy-labels/votes.csv", SIDES, (60, 8)),
    ("23-stuffing/votes.csv", {}, (200, 5)),
    ("24-swapped-llm-judge/verdicts.csv", {"item_a": "asked_first", "item_b": "asked_second", "outcome": "verdict",
                                           "labels": {"first": "a", "second": "b"}, "ordered": True}, (120, 5)),
    ("25-ranking-broken-into-pairs/pairs.csv", {}, (250, 5)),
    ("26-json-shapes/records.json", {}, (40, 5)),
    ("26-json-shapes/to_json_columns.json", {}, (40, 5)),
    ("26-json-shapes/wrapped.json", {}, (40, 5)),
    ("27-hub-and-thin/star.csv", {"item_a": "baseline", "item_b": "challenger", "outcome": "winner",
                                  "labels": {"baseline": "a", "challenger": "b"}}, (180, 61)),
    ("29-scores-not-winners/long.csv", {"item": "model", "score": "score", "context": "prompt_id",
                                        "annotator": "rater"}, (300, 5)),
    ("29-scores-not-winners/wide.csv", {"wide": "score", "context": "prompt_id", "annotator": "rater"}, (300, 5)),
    ("31-one-file-per-model/*.json", {"format": "alpaca_eval"}, (80, 3)),
    ("32-wide-judge-by-pair/judges.csv", {"wide": "pairs", "annotator": "judge"}, (198, 5)),
]  # fmt: skip


@pytest.fixture
def cases():
    if not CASES.is_dir():
        pytest.skip("the public cases are not beside this checkout (../shared/cases)")
    return CASES


def size(data):
    return (data.n_answers if isinstance(data, Choices) else round(data.n_judgements, 2), len(data.items))


@pytest.mark.parametrize(("file", "how", "right"), RIGHT, ids=[f"{n}-{case[0]}" for n, case in enumerate(RIGHT)])
def test_a_public_case_is_read_or_refused_with_the_way_through(cases, file, how, right):
    if isinstance(right, tuple):
        assert size(read(str(cases / file), **how)) == right
    else:
        with pytest.raises(DataError, match=right):
            read(str(cases / file), **how)


def test_every_public_case_is_tried(cases):
    assert {each.name for each in cases.iterdir() if each.is_dir()} == {file.split("/")[0] for file, _, _ in RIGHT}


def typed(how):
    """The words of the command line for arguments of `read`."""
    words = []
    short = {"labels": "label", "covariates": "covariate", "groups": "group"}
    for name, value in how.items():
        if name in ("both_bad", "items", "baseline", "question", "metric"):
            words += ["--format-option", f"{name}={value}"]
        elif name == "identical":
            words += ["--drop-self-pairs"]
        elif name == "header":
            words += ["--no-header"]
        elif isinstance(value, dict):
            words += [w for k, v in value.items() for w in (f"--{short.get(name, name)}", f"{k}={v}")]
        elif value is None:
            continue
        else:
            flag = f"--{short.get(name, name).replace('_', '-')}"
            values = value if isinstance(value, list) else [value]
            words += [flag] if value is True else [w for each in values for w in (flag, str(each))]
    return words


@pytest.mark.parametrize(("file", "how", "right"), RIGHT, ids=[f"{n}-{case[0]}" for n, case in enumerate(RIGHT)])
def test_the_command_line_does_the_same_and_speaks_of_its_options(cases, file, how, right):
    result = CliRunner().invoke(main.app, ["describe", str(cases / file), *typed(how)])
    if isinstance(right, str):
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert not re.search(r"\b[a-z_]+='[a-z]+'", result.stderr), result.stderr  # no argument of Python
    else:
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"{right[0]:,.6g}".replace(",", "")) or f"of {right[1]} items" in result.stdout


def triples(data):
    frame = data.to_frame()
    return list(zip(frame["item_a"], frame["item_b"], frame["outcome"], strict=True))


MEANT = [("elm", "fir", "a"), ("fir", "oak", "b"), ("oak", "elm", "tie")]


VOTES = pd.DataFrame(MEANT, columns=["x", "y", "w"])


NAMED = VOTES.assign(w=["elm", "oak", "draw"])


COUNTED = pd.DataFrame({"x": ["elm", "fir"], "y": ["fir", "oak"], "n1": [2, 0], "n2": [1, 3], "t": [0, 1]})


def nested(frame, key):
    return [{"task": {"left": r["x"], "right": r["y"]}, key: [{"who": "ann", "answer": {"choice": r["w"]}}]}
            for r in frame.to_dict("records")]  # fmt: skip


# relatives of the cases: another delimiter, another nesting, another name for the same column
RELATIVES = {
    "tabs in a csv": ("v.csv", VOTES.to_csv(index=False, sep="\t"), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "pipes": ("v.csv", VOTES.to_csv(index=False, sep="|"), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "carets, said": ("v.csv", VOTES.to_csv(index=False, sep="^"),
                     {"item_a": "x", "item_b": "y", "outcome": "w", "separator": "^"}),
    "utf-16": ("v.csv", VOTES.to_csv(index=False).encode("utf-16"), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "no header": ("v.tsv", VOTES.to_csv(index=False, header=False, sep="\t"),
                  {"item_a": "1", "item_b": "2", "outcome": "3", "header": False}),
    "a name and draw": ("v.csv", NAMED.to_csv(index=False), {"item_a": "x", "item_b": "y", "winner": "w"}),
    "a name and a word": ("v.csv", NAMED.replace("draw", "remis").to_csv(index=False),
                          {"item_a": "x", "item_b": "y", "winner": "w", "labels": {"remis": "tie"}}),
    "lists in an object": ("v.json", json.dumps({"n": 3, "out": {"votes": VOTES.to_dict("records")}}),
                           {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "split": ("v.json", VOTES.to_json(orient="split"), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "index": ("v.json", VOTES.to_json(orient="index"), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "columns of lists": ("v.json", json.dumps(VOTES.to_dict("list")), {"item_a": "x", "item_b": "y", "outcome": "w"}),
    "lists of lists": ("v.json", json.dumps(MEANT), {"item_a": "1", "item_b": "2", "outcome": "3", "header": False}),
    "one of two lists": ("v.json", json.dumps({"old": [{"a": 1}], "new": VOTES.to_dict("records")}),
                         {"item_a": "x", "item_b": "y", "outcome": "w", "records": "new"}),
    "another nesting": ("v.jsonl", "\n".join(map(json.dumps, nested(VOTES, "replies"))),
                        {"item_a": "task.left", "item_b": "task.right", "outcome": "replies.answer.choice",
                         "annotator": "replies.who"}),
    "json within a csv": ("v.csv", pd.DataFrame(nested(VOTES, "replies")).map(json.dumps).to_csv(index=False),
                          {"item_a": "task.left", "item_b": "task.right", "outcome": "replies.answer.choice"}),
    "capital words": ("v.csv", VOTES.replace({"w": {"a": "L", "b": "R", "tie": "="}}).to_csv(index=False),
                      {"item_a": "x", "item_b": "y", "outcome": "w", "labels": {"L": "a", "R": "b", "=": "tie"}}),
    "two scores": ("v.csv", VOTES.assign(s=["4,5", "1", "2"], u=["3", "1,5", "2"]).to_csv(index=False, sep=";"),
                   {"item_a": "x", "item_b": "y", "score_a": "s", "score_b": "u"}),
    "two losses": ("v.csv", VOTES.assign(s=[3, 5, 2], u=[4, 1, 2]).to_csv(index=False),
                   {"item_a": "x", "item_b": "y", "score_a": "s", "score_b": "u", "lower_wins": True}),
    "a slider": ("v.csv", VOTES.assign(s=[10, 90, 50]).to_csv(index=False),
                 {"item_a": "x", "item_b": "y", "signed_strength": "s", "strength_centre": 50, "higher": "b"}),
    "percent": ("v.csv", VOTES.assign(s=[0, 100, 50]).to_csv(index=False),
                {"item_a": "x", "item_b": "y", "share": "s", "scale": "0,100", "higher": "b"}),
    "one hot": ("v.csv", VOTES.assign(p=[1, 0, 0], q=[0, 1, 0], r=[0, 0, 1]).to_csv(index=False),
                {"item_a": "x", "item_b": "y", "wins_a": "p", "wins_b": "q", "drawn": "r", "one_hot": True}),
    "signs of pairs": ("v.csv", "who,elm vs fir,fir vs oak,oak vs elm\nann,>,<,=\n", {"wide": "pairs",
                                                                                     "annotator": "who"}),
    "scores by column": ("v.csv", "q,elm,fir\n1,3,2\n", {"wide": "score", "context": "q"}),
    "arena, renamed": ("v.csv", VOTES.replace({"w": {"a": "model_a", "b": "model_b"}}).to_csv(index=False),
                       {"format": "arena", "item_a": "x", "item_b": "y", "outcome": "w"}),
}  # fmt: skip


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_of_a_case_is_read_as_meant(tmp_path, name):
    file, content, how = RELATIVES[name]
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    meant = MEANT[:1] if name == "scores by column" else MEANT
    assert triples(read(tmp_path / file, **how)) == meant


def test_counts_become_counts_and_matrices_too():
    data = read(COUNTED, item_a="x", item_b="y", wins_a="n1", wins_b="n2", drawn="t")
    frame = data.to_frame()[["item_a", "item_b", "outcome", "count"]]
    assert list(frame.itertuples(index=False, name=None)) == [
        ("elm", "fir", "a", 2), ("elm", "fir", "b", 1), ("fir", "oak", "b", 3), ("fir", "oak", "tie", 1)
    ]  # fmt: skip
    square = pd.DataFrame({"model": ["elm", "fir"], "elm": [np.nan, 3], "fir": [7, np.nan]})
    assert read(square, wide="wins").wins().tolist() == [[0, 7], [3, 0]]
    with pytest.raises(DataError, match="'fir' beat itself 2 times; the diagonal is empty, or 0"):
        read(square.assign(fir=[7, 2]), wide="wins")
    with pytest.raises(DataError, match="a square table of wins has one row and one column for each item, and 'oak'"):
        read(square.assign(oak=1), wide="wins")


def test_where_the_winner_was_shown_is_not_forgotten():
    frame = pd.DataFrame({"won": ["elm", "fir"], "lost": ["fir", "oak"], "place": ["left", "right"]})
    assert read(frame, winner="won", loser="lost", first="place").first.tolist() == [1, -1]
    meaning = {"left": "b", "right": "a"}  # columns of a site that reads from right to left
    assert read(frame, winner="won", loser="lost", first="place", first_labels=meaning).first.tolist() == [-1, 1]


def test_a_winner_that_is_neither_item_is_refused():
    with pytest.raises(DataError, match="'w' holds 'ash' in row 2, which is neither 'fir' nor 'oak'"):
        read(NAMED.assign(w=["elm", "ash", "draw"]), item_a="x", item_b="y", winner="w")
    # a word for a draw that is an item's name is that item
    odd = pd.DataFrame({"x": ["draw", "elm"], "y": ["elm", "fir"], "w": ["draw", "fir"]})
    assert triples(read(odd, item_a="x", item_b="y", winner="w")) == [("draw", "elm", "a"), ("elm", "fir", "b")]


def test_shares_are_a_quasi_likelihood_that_is_said():
    frame = pd.DataFrame({"x": ["elm", "fir"], "y": ["fir", "oak"], "p": [0.8, 0.5]})
    data = read(frame, item_a="x", item_b="y", share="p", fractional="weights")
    assert data.count.tolist() == [0.8, pytest.approx(0.2), 1.0]
    assert data.outcome.tolist() == [0, 1, 2]
    assert any("quasi-likelihood" in note for note in data.notes)
    assert triples(read(frame, item_a="x", item_b="y", share="p", fractional="majority")) == [
        ("elm", "fir", "a"), ("fir", "oak", "tie")
    ]  # fmt: skip


def test_rankings_in_every_shape_are_the_same_choices(tmp_path):
    order = [["elm", "oak", "fir"], ["fir", "elm", "oak"]]
    rows = [(k, item, place) for k, items in enumerate(order) for place, item in enumerate(items, 1)]
    long = pd.DataFrame(rows, columns=["ballot", "item", "rank"])
    wide = long.pivot(index="ballot", columns="item", values="rank")
    listed = pd.DataFrame(order, columns=["1st", "2nd", "3rd"])
    soc = tmp_path / "x.soc"
    names = "\n".join(f"# ALTERNATIVE NAME {k}: {name}" for k, name in enumerate(["elm", "fir", "oak"], 1))
    soc.write_text(f"{names}\n1: 1,3,2\n1: 2,1,3\n")
    spelled = pd.DataFrame({"ballot": ["elm > oak>fir", "fir>elm > oak"]})
    ways = [read(long, answer="ballot", rank="rank"), read(wide, wide="rank"), read(soc),
            read(spelled, ranked="ballot"), read(listed, ranked=["1st", "2nd", "3rd"])]  # fmt: skip
    for data in ways:
        assert [[data.items[k] for k in members] for members in data.sets] == [
            ["elm", "fir", "oak"], ["fir", "oak"], ["elm", "fir", "oak"], ["elm", "oak"]
        ]  # fmt: skip
        assert [data.items[k] for k in data.best] == ["elm", "oak", "fir", "elm"]


def test_orders_of_preflib_with_ties_and_gaps(tmp_path):
    head = "# ALTERNATIVE NAME 1: elm\n# ALTERNATIVE NAME 2: fir\n# ALTERNATIVE NAME 3: oak\n"
    toc, soi, wmd = (tmp_path / f"x.{kind}" for kind in ("toc", "soi", "wmd"))
    toc.write_text(f"{head}2: 1,{{2,3}}\n1: 3,2,1\n")
    soi.write_text(f"{head}3: 1,2\n2: 3\n")
    wmd.write_text(f"{head}1,2,4\n2,3,1.5\n")
    with pytest.raises(DataError, match="2 answers rank two items alike, first 'line 4' .tied='drop'."):
        read(toc)
    assert read(toc, tied="drop").n_answers == 1
    assert sorted(triples(read(toc, as_pairs=True)))[:2] == [("elm", "fir", "a")] * 2
    with pytest.raises(DataError, match="unranked='absent'.*unranked='last'"):
        read(soi)
    assert read(soi, unranked="last").n_answers == 5
    with pytest.raises(DataError, match="2 answers have one item only"):
        read(soi, unranked="absent")
    assert read(soi, unranked="absent", single="drop").n_answers == 3
    with pytest.raises(DataError, match="edges='wins'"):
        read(wmd)
    with pytest.raises(DataError, match="fractional='weights'"):
        read(wmd, edges="wins")
    assert read(wmd, edges="wins", fractional="weights").count.tolist() == [4, 1.5]


def test_best_and_worst_in_every_shape():
    wide = pd.DataFrame({"i1": ["elm", "oak"], "i2": ["fir", "elm"], "i3": ["oak", "fir"],
                         "b": ["elm", "fir"], "w": ["oak", "oak"]})  # fmt: skip
    numbered = wide.assign(b=[1, 3], w=[3, 1])
    named = wide.assign(b=["i1", "i3"], w=["i3", "i1"])
    signs = pd.DataFrame({"elm": [1, 0], "fir": [0, 1], "oak": [-1, -1]})
    ways = [read(each, shown="i*", best="b", worst="w") for each in (wide, numbered, named)]
    ways.append(read(signs, wide="pick"))
    for data in ways:
        assert [(data.items[b], data.items[w]) for b, w in zip(data.best, data.worst, strict=True)] == [
            ("elm", "oak"), ("fir", "oak")
        ]  # fmt: skip
    with pytest.raises(DataError, match="'b' holds 'ash' in row 2, which is none of the items shown there"):
        read(wide.assign(b=["elm", "ash"]), shown="i*", best="b", worst="w")
