"""Tables of arenas: who stood left, who judged, and what both bad means."""

import numpy as np
import pandas as pd
import pytest
from test_formats import ARENA_33K, ARENA_55K, ARENA_140K, triples
from typer.testing import CliRunner

from prefdensity.cli.main import app
from prefdensity.data.readers import read
from prefdensity.errors import DataError


@pytest.mark.parametrize("frame", [ARENA_33K, ARENA_140K], ids=["33k", "140k"])
def test_arena_both_bad_must_be_mapped(frame):
    with pytest.raises(DataError, match="1 rows call both answers bad.*both_bad='tie' or both_bad='drop'"):
        read(frame, format="arena")
    tie = read(frame, format="arena", both_bad="tie")
    assert tie.outcome.tolist() == [0, 1, 2, 2]
    assert any("1 rows that call both answers bad" in note and "counted as ties" in note for note in tie.notes)
    drop = read(frame, format="arena", both_bad="drop")
    assert drop.outcome.tolist() == [0, 1, 2]
    assert any("dropped on request" in note for note in drop.notes)
    with pytest.raises(DataError, match="both_bad='loss' is unknown; use 'tie' or 'drop'"):
        read(frame, format="arena", both_bad="loss")


def test_arena_knows_the_left_side_and_who_judged():
    data = read(ARENA_33K, format="arena", both_bad="drop")
    assert (data.first == 1).all()
    assert data.annotators == ("arena_user_1", "arena_user_2")
    session = read(ARENA_140K, format="arena", both_bad="drop")
    assert session.annotators == ("s1", "s2")
    assert any("evaluation sessions" in note for note in session.notes)


def test_who_judged_in_an_arena_may_be_left_out(tmp_path):
    """`annotator=None` was passed over where a format names the column."""
    frame = ARENA_33K.astype(object)
    frame.loc[0, "judge"] = None
    with pytest.raises(DataError, match="or read the table without who judged: annotator=None"):
        read(frame, format="arena", both_bad="tie")
    data = read(frame, format="arena", both_bad="tie", annotator=None)
    assert data.annotator is None
    assert data.n_judgements == len(frame)
    frame.to_json(tmp_path / "arena.jsonl", orient="records", lines=True)
    words = ["describe", str(tmp_path / "arena.jsonl"), "--format", "arena", "--format-option", "both_bad=tie"]
    said = CliRunner().invoke(app, words)
    assert "or read the table without who judged: --without annotator" in said.stderr
    said = CliRunner().invoke(app, [*words, "--without", "annotator"])
    assert said.exit_code == 0, said.output
    assert f"{len(frame)} judgements" in said.stdout
    assert "annotators" not in said.stdout
    said = CliRunner().invoke(app, [*words, "--without", "judge"])
    assert "--without judge is unknown; use annotator or context or count or first" in said.stderr


def test_columns_are_called_by_names_that_programs_can_write(tmp_path):
    frame = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "x"], "outcome": "a", "is expert": ["no", "yes"],
                          "when.utc": ["2024-01-01T10:00:00+02:00", "2024-01-02T10:00:00+02:00"]})  # fmt: skip
    frame.to_csv(tmp_path / "votes.csv", index=False)
    words = ["describe", str(tmp_path / "votes.csv")]
    said = CliRunner().invoke(app, [*words, "--number", "when.utc"])
    assert "as in --number when_utc=when.utc" in said.stderr
    said = CliRunner().invoke(app, [*words, "--number", "when_utc=when.utc", "--group", "expert=is expert"])
    assert said.exit_code == 0, said.output
    assert "  expert        2" in said.stdout


def test_arena_one_hot_winners():
    data = read(ARENA_55K, format="arena")
    assert triples(data) == [("alpha", "beta", "a"), ("beta", "gamma", "b"), ("gamma", "alpha", "tie")]
    assert data.annotator is None
    for row in ([1, 1, 0], [0, 0, 0], [0.5, 0.5, 0], [np.nan, 0, 1]):
        bad = ARENA_55K.astype({name: float for name in ARENA_55K.columns if name.startswith("winner")})
        bad.loc[1, ["winner_model_a", "winner_model_b", "winner_tie"]] = row
        with pytest.raises(DataError, match="exactly one of winner_model_a, winner_model_b, winner_tie .* row 2"):
            read(bad, format="arena")


@pytest.mark.parametrize("value", ["model_c", "bothbad"])
def test_unknown_winners_raise(value):
    with pytest.raises(DataError, match=f"'winner' holds unknown outcomes: '{value}' .1 rows.; known are 'model_a'"):
        read(ARENA_33K.assign(winner=["model_a", "tie", value, "tie"]), format="arena")


def test_missing_winners_raise_or_are_dropped_on_request():
    frame = ARENA_33K.iloc[:3].assign(winner=["model_a", None, "tie"])
    with pytest.raises(DataError, match=r"column 'winner' \(outcome\) is empty in 1 rows, first in row 2"):
        read(frame, format="arena")
    assert read(frame, format="arena", missing="drop").outcome.tolist() == [0, 2]
