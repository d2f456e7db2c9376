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
    elif right[0] in (7, 19, 20, 50) and right[1] == 5:
        assert "fit does, and the pairs that they imply are read with --as-pairs" in result.stderr
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
    ({"share": "p"}, {"p": [80, 0.1]}, "numbers from 0 to 1, and holds 80"),
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
