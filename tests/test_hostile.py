"""The standing test of hostile tables, files and names: each is refused in one sentence, or read as meant."""

import re

import pandas as pd
import pytest
from hostile import Case
from hostile_files import all_cases
from typer.testing import CliRunner

from prefdensity.cli import main
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.report import describe
from prefdensity.errors import PrefDensityError

CASES = all_cases()


def rows_of(data):
    """What was read, as rows (item_a, item_b, outcome, annotator, count)."""
    frame = data.to_frame().reindex(columns=["item_a", "item_b", "outcome", "annotator", "count"])
    frame = frame.astype(object).where(frame.notna(), None)
    return list(frame.itertuples(index=False, name=None))


def one_sentence(text):
    return 10 < len(text) and "\n" not in text.strip() and "Traceback" not in text


def outcome_of(case: Case, folder):
    """What the case gives: a value, or the error of the refusal."""
    try:
        return case.run(folder)
    except PrefDensityError as error:
        return error


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_or_read_as_meant(case, tmp_path):
    found = outcome_of(case, tmp_path)
    if isinstance(found, PrefDensityError):
        assert one_sentence(str(found))
        assert re.search(case.refused or "nothing is refused here", str(found))
        return
    assert case.meant is not None
    if not isinstance(found, Comparisons):
        assert found == case.meant
        return
    assert rows_of(found) == case.meant
    assert case.notes in "".join(found.notes)
    warned = [each for each in describe(found).warnings if "look like" in each or "are called" in each]
    assert len(warned) == (case.warns is not None)
    assert re.search(case.warns or "", "".join(warned))


IN_A_SHELL = [case for case in CASES if case.shell is not None]


@pytest.mark.parametrize("case", IN_A_SHELL, ids=[case.name for case in IN_A_SHELL])
def test_so_it_is_in_a_shell(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = isinstance(outcome_of(case, tmp_path), PrefDensityError)
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(main.app, [word.replace("{folder}", str(tmp_path)) for word in case.shell])
    assert result.exit_code == (2 if refused else 0)
    if refused:
        assert result.stderr.startswith("prefdensity: ")
        assert len(result.stderr.splitlines()) == 1
        assert len(result.stderr) < 2000
        assert result.stderr.strip("\n").isprintable()
    assert sorted(tmp_path.iterdir()) == before


def test_there_are_three_hundred_of_them_all_different():
    assert len({case.name for case in CASES}) == len(CASES) >= 300


OPTIONS = [
    (
        ["fit", "votes.csv", "--model", "bradley_terry", "--signed-strength", "count"],
        "--strength-centre 4 and --higher b",
    ),
    (["fit", "votes.csv", "--model", "bradley_terry", "--higher", "b"], "is for --signed-strength"),
    (["describe", "gaps.csv"], "drop such rows with --missing drop"),
    (["describe", "same.csv"], "drop such rows with --drop-self-pairs"),
    (["describe", "words.csv"], r"Say what each means: --label left=a if that is a win of"),
    (["describe", "votes.csv", "--label", "a=a", "--label", "a=b"], "--label says both a=a and a=b"),
    (["describe", "votes.csv", "--outcome", "who"], r"Name the right one with --outcome$"),
    (["describe", "arena.csv", "--format", "arena"], "--format-option both_bad=tie or --format-option both_bad=drop"),
    (["describe", "votes.csv", "--item-features", "bare.csv"], "needs a column of item labels, then numbers"),
    (["fit", "votes.csv", "--model", "bradley_terry", "--out", "n" * 300], "too long"),
    (["describe", "n" * 300 + ".csv"], "too long"),
    (["describe", "nul\0.csv"], "names no file that can be read"),
    (["describe", "/dev/null"], "is a device or a pipe"),
    (["pcal", "design", "votes.csv", "--budget", "3", "--cost", "10"], "no column 'w1'"),
    (["pcal", "estimate", "votes.csv"], "no column 'w1'"),
    (["pcal", "design", "nothing.csv", "--budget", "3", "--cost", "10"], "no file nothing.csv"),
    (["pcal", "design", "votes.csv", "--budget", "3", "--cost", "10", "--out", "votes.csv"], "is a file; --out names"),
    (["judge-study", "--truths", "nonesuch"], "nonesuch"),
    (["select", "votes.csv", "--model", "bradley_terry", "--items", "bare.csv"], "needs a column of item labels"),
]


@pytest.mark.parametrize(("words", "match"), OPTIONS, ids=[" ".join(words)[:70] for words, _ in OPTIONS])
def test_a_shell_speaks_of_its_own_options_and_leaves_nothing_behind(tmp_path, monkeypatch, words, match):
    monkeypatch.chdir(tmp_path)
    votes = pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "outcome": ["a", "b"], "count": 2})
    votes.to_csv("votes.csv", index=False)
    votes.assign(item_a=["x", None]).to_csv("gaps.csv", index=False)
    votes.assign(item_b=["x", "z"]).to_csv("same.csv", index=False)
    votes.assign(outcome=["left", "right"]).to_csv("words.csv", index=False)
    arena = pd.DataFrame({"model_a": ["x"], "model_b": ["y"], "winner": ["tie (bothbad)"]})
    arena.to_csv("arena.csv", index=False)
    (tmp_path / "bare.csv").write_text("item\nx\ny\nz\n")
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(main.app, words)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert re.search(match, result.stderr.strip())
    assert sorted(tmp_path.iterdir()) == before


def test_a_fault_of_ours_keeps_its_traceback_and_says_so(monkeypatch):
    def broken(*_, **__):
        raise KeyError("of ours")

    monkeypatch.setattr("prefdensity.data.readers.example", broken)
    result = CliRunner().invoke(main.app, ["describe", "example:citations"])
    assert isinstance(result.exception, KeyError)
    assert result.exit_code == 1
    assert "fault of prefdensity, not of your table" in "".join(result.exception.__notes__)
