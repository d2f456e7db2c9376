"""An annotator's repeated judgements, counted once on request."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.report import describe
from prefdensity.errors import DataError


@pytest.fixture
def asked_again():
    """Ann is asked about x and y three times, once the other way round; Bob in one row that counts four times."""
    rows = [
        ("x", "y", "a", "ann", 1),
        ("y", "x", "a", "ann", 1),
        ("x", "y", "b", "ann", 2),
        ("x", "z", "tie", "ann", 1),
        ("y", "z", "b", "bob", 4),
        ("z", "x", "a", "bob", 0),
        ("z", "x", "b", "bob", 1),
    ]
    return pd.DataFrame(rows, columns=["item_a", "item_b", "outcome", "annotator", "count"])


def test_the_first_answer_to_each_question_counts(asked_again):
    once = Comparisons.from_frame(asked_again).repeats_once()
    frame = once.to_frame()
    assert frame[["item_a", "item_b", "outcome", "annotator"]].values.tolist() == [
        ["x", "y", "a", "ann"],
        ["x", "z", "tie", "ann"],
        ["y", "z", "b", "bob"],
        ["z", "x", "b", "bob"],  # the row that counts 0 times was no answer
    ]
    assert (once.count == 1).all()
    assert once.notes == ("6 judgements that repeat an annotator's earlier one of the same pair dropped on request",)
    assert once.repeats_once().n_judgements == 4  # nothing is left to drop


def test_questions_differ_in_all_that_is_recorded(asked_again):
    asked_again["length"] = [1.0, -1.0, 1.0, 0.0, 2.0, 0.0, 0.0]
    asked_again["context"] = ["p", "p", "q", "p", "p", "p", "p"]
    plain = Comparisons.from_frame(asked_again, context=None)
    assert plain.repeats_once().n_judgements == 4
    ordered = Comparisons.from_frame(asked_again, context=None, ordered=True)
    assert ordered.repeats_once().n_judgements == 5  # once with x first, once with y first
    apart = Comparisons.from_frame(asked_again)
    assert apart.repeats_once().n_judgements == 5
    longer = Comparisons.from_frame(asked_again, context=None, covariates=["length"])
    assert longer.repeats_once().n_judgements == 4  # y against x with -1 is x against y with 1
    assert np.array_equal(apart.swapped().questions(), apart.questions())


def test_what_cannot_be_counted_once_is_refused(asked_again):
    data = Comparisons.from_frame(asked_again)
    with pytest.raises(DataError, match="name the annotator column"):
        replace(data, annotator=None, annotators=()).repeats_once()
    with pytest.raises(DataError, match="before ties_as_half_wins"):
        data.ties_as_half_wins().repeats_once()
    with pytest.raises(DataError, match="no outcomes yet"):
        replace(data, outcome=None).repeats_once()


def test_the_report_on_data_names_what_to_do_and_is_content_with_it(asked_again):
    data = Comparisons.from_frame(asked_again)
    assert any(
        "6 judgements (60.0%) repeat a pair" in said and "--repeats once" in said for said in describe(data).warnings
    )
    assert not any("repeat" in said for said in describe(data.repeats_once()).warnings)


def test_a_judge_asked_in_both_orders_repeats_nothing(votes):
    both = pd.concat([votes, votes.rename(columns={"item_a": "item_b", "item_b": "item_a"})])
    assert any("repeat a pair" in said for said in describe(Comparisons.from_frame(both)).warnings)
    assert not any("repeat a pair" in said for said in describe(Comparisons.from_frame(both, ordered=True)).warnings)


def test_repeats_are_counted_once_from_the_shell(tmp_path, monkeypatch, asked_again):
    monkeypatch.chdir(tmp_path)
    asked_again.to_csv("votes.csv", index=False)
    run = CliRunner()
    described = run.invoke(main.app, ["describe", "votes.csv", "--repeats", "once"])
    assert "4 judgements of 3 items" in described.stdout
    assert "6 judgements that repeat an annotator's earlier one" in described.stdout
    options = ["votes.csv", "--repeats", "once", "--ties", "half", "-m", "bradley_terry", "--draws", "100", "-q"]
    assert run.invoke(main.app, ["fit", *options]).exit_code == 0
    assert prefdensity.load_posterior("prefdensity-fit/fit.nc").n_comparisons == 4
    Path("ranked.csv").write_text("who,what,place\nann,x,1\nann,y,2\nbob,y,1\nbob,x,2\n")
    columns = ["--answer", "who", "--item", "what", "--rank", "place", "--repeats", "once"]
    refused = run.invoke(main.app, ["fit", "ranked.csv", *columns, "-m", "plackett_luce"])
    assert refused.exit_code == 2
    assert "--repeats and --ties are for comparisons of two" in refused.stderr
