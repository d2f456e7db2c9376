import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import typer
import xarray as xr
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.cli.shell import in_shell_words
from prefdensity.inference.checkpoint import Checkpoint

WRITTEN = ["fit.nc", "parameters.csv", "report.html", "summary.csv"]


def run(*arguments):
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def refused(result, match):
    """The command left with code 2 and one sentence on stderr."""
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("prefdensity: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert re.search(match, result.stderr)
    assert result.stdout == ""


def test_version_and_help():
    assert run("--version").stdout.strip() == f"prefdensity {prefdensity.__version__}"
    for command in ("models", "describe", "fit", "report", "check", "compare"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"Example: prefdensity {command}" in result.stdout


def commands(known, name=""):
    """Yield every command by its full name."""
    for each, command in getattr(known, "commands", {}).items():
        yield from (
            commands(command, f"{name} {each}") if hasattr(command, "commands") else [(f"{name} {each}", command)]
        )


def test_no_option_has_two_meanings():
    for name, command in commands(typer.main.get_command(main.app)):
        flags = [flag for each in command.params for flag in (*each.opts, *each.secondary_opts)]
        assert sorted(set(flags)) == sorted(flags), name


def test_models_lists_and_tells():
    listed = run("models").stdout
    assert all(re.search(rf"^{name} +\S", listed, re.M) for name in prefdensity.names())
    assert run("models", "davidson").stdout.startswith("Davidson (1970)")
    refused(run("models", "nonesuch"), "nonesuch")


def test_describe():
    result = run("describe", "example:puddings")
    assert result.exit_code == 0
    assert "6 items" in result.stdout


@pytest.mark.parametrize(("source", "model"), [("citations", "bradley_terry"), ("puddings", "davidson")])
def test_fit_writes_everything(here, source, model):
    result = run("fit", f"example:{source}", "--model", model, "--out", "deep/er", "--draws", 200)
    assert result.exit_code == 0, result.output
    assert names("deep/er") == WRITTEN
    assert names(here) == ["deep"]
    assert names("deep") == ["er"]
    post = prefdensity.load_posterior("deep/er/fit.nc")
    summary = pd.read_csv("deep/er/summary.csv", dtype={"item": str})
    assert list(summary["item"]) == list(post.summary()["item"])
    assert str(summary["item"][0]) in result.stdout
    assert "wrote deep/er" in result.stdout
    assert f"--model {model}" not in Path("deep/er/summary.csv").read_text()


def test_fit_twice_replaces_only_its_own_files(here):
    settings = ("--model", "davidson", "--draws", 100, "--out", "out")
    assert run("fit", "example:puddings", *settings).exit_code == 0
    Path("out/notes.txt").write_text("mine")
    Path("out/summary.csv").write_text("old")
    assert run("fit", "example:puddings", *settings).exit_code == 0
    assert names("out") == sorted([*WRITTEN, "notes.txt"])
    assert Path("out/summary.csv").read_text() != "old"
    assert os.stat("out/fit.nc").st_mode & 0o777 == os.stat("out/notes.txt").st_mode & 0o777


def test_columns_labels_and_ties_reach_the_reader(here):
    Path("votes.csv").write_text("left,right,won,who\nx,y,1,w\ny,x,2,w\nx,z,0,v\nz,y,1,v\nx,y,?,v\n")
    columns = ["--item-a", "left", "--item-b", "right", "--outcome", "won", "--annotator", "who", "--ordered"]
    labels = ["--label", "1=a", "--label", "2=b", "--label", "0=tie", "--label", "?=drop"]
    described = run("describe", "votes.csv", *columns, *labels)
    assert described.exit_code == 0, described.output
    assert "dropped on request" in described.stdout
    settings = ("votes.csv", *columns, *labels, "--model", "bradley_terry", "--draws", 100)
    refused(run("fit", *settings), "tie")
    assert names(here) == ["votes.csv"]
    for ties in ("half", "drop"):
        result = run("fit", *settings, "--ties", ties, "--out", ties)
        assert result.exit_code == 0, result.output
    again = ("report", "half/fit.nc", "votes.csv", *columns, *labels, "--ties")
    refused(run(*again, "drop"), "not the table of this fit")
    assert run(*again, "half").exit_code == 0


def test_item_features_and_covariates_reach_the_reader(here):
    Path("votes.csv").write_text("item_a,item_b,outcome,longer\nx,y,a,1\ny,z,a,0\nz,x,b,-1\n")
    Path("items.csv").write_text("item,size\nx,3\ny,2\nz,1.5\n")
    described = run("describe", "votes.csv", "--item-features", "items.csv", "--covariate", "longer")
    assert described.exit_code == 0, described.output
    fitted = run("fit", "votes.csv", "--item-features", "items.csv", "--model", "linear", "--draws", 100)
    assert fitted.exit_code == 0, fitted.output
    assert "size" in Path("prefdensity-fit/parameters.csv").read_text()


def test_formats_take_their_options(here):
    Path("arena.csv").write_text("model_a,model_b,winner\nm,n,model_a\nn,m,tie (bothbad)\nn,m,model_b\n")
    refused(run("describe", "arena.csv", "--format", "arena"), "bad")
    result = run("describe", "arena.csv", "--format", "arena", "--format-option", "both_bad=drop")
    assert result.exit_code == 0, result.output
    refused(run("describe", "arena.csv", "--format", "arena", "--format-option", "both_bad"), "has no '='")


def test_report_is_rebuilt_beside_the_fit(here):
    run("fit", "example:puddings", "--model", "davidson", "--draws", 100, "--out", "out")
    before = Path("out/report.html").read_text()
    Path("out/report.html").unlink()
    result = run("report", "out/fit.nc", "example:puddings")
    assert result.exit_code == 0, result.output
    again = Path("out/report.html").read_text()
    assert before.split("To reproduce")[0] == again.split("To reproduce")[0]
    result = run("report", "out/fit.nc", "example:puddings", "--out", "mine.html", "--title", "Six puddings")
    assert "Six puddings" in Path("mine.html").read_text()
    refused(run("report", "out/fit.nc", "example:citations"), "not the table of this fit")
    refused(run("report", "nothing.nc", "example:citations"), "nothing.nc")
    refused(run("report", "out/summary.csv", "example:puddings"), "summary.csv")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["fit", "nothing.csv", "--model", "davidson"], "nothing.csv"),
        (["fit", "example:nothing", "--model", "davidson"], "nothing"),
        (["fit", "example:puddings", "--model", "nonesuch"], "nonesuch"),
        (["fit", "example:puddings", "--model", "davidson+reliability"], "annotator"),
        (["fit", "example:puddings", "--model", "davidson+"], "davidson"),
        (["fit", "example:puddings", "--model", "mine.py"], "mine.py"),
        (["fit", "example:puddings", "--model", "davidson", "--device", "abacus"], "abacus"),
        (["fit", "bad.csv", "--model", "bradley_terry"], "maybe"),
        (["fit", "bad.csv", "--model", "bradley_terry", "--label", "maybe"], "has no '='"),
        (["fit", "example:puddings", "--model", "davidson", "--out", "bad.csv"], "bad.csv is a file"),
        (["fit", "example:puddings", "--model", "davidson", "--out", "bad.csv/deeper"], "bad.csv is a file"),
        (["describe", "bad.csv", "--item-a", "left"], "left"),
        (["describe", "."], "directory"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(here, arguments, match):
    Path("bad.csv").write_text("item_a,item_b,outcome\nx,y,a\ny,x,maybe\n")
    refused(run(*arguments), match)
    assert names(here) == ["bad.csv"]


@pytest.mark.parametrize(
    "arguments",
    [["fit", "example:puddings"], ["describe", "x", "--itme-a", "y"], ["guess"], ["models", "a", "b"]],
)
def test_unknown_options_leave_with_2(here, arguments):
    assert run(*arguments).exit_code == 2
    assert names(here) == []


@pytest.mark.parametrize("number", [13, 28])
def test_a_disk_that_refuses_is_one_sentence(here, monkeypatch, number):
    def refuse(self, target):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "rename", refuse)
    result = run("fit", "example:puddings", "--model", "davidson", "--draws", 100)
    refused(result, os.strerror(number))
    assert names(here) == []


OWN = """
import pyro, pyro.distributions as dist, torch
from prefdensity import Program
from prefdensity.programs.outcomes import observe

def model(data):
    with pyro.plate("item", data.n_items, dim=-1):
        worth = pyro.sample("SITE", dist.Normal(0.0, 1.0))
    margin = data.contrast(worth)
    observe(torch.stack((margin, -margin), -1).log_softmax(-1), data)

PROGRAM = Program("own", model, ("a", "b"), unimodal=True)
"""


def test_own_programs_are_fitted_and_reported(here):
    Path("own.py").write_text(OWN.replace("SITE", "utility"))
    assert run("fit", "example:citations", "-m", "own.py", "--draws", 100, "--out", "out").exit_code == 0
    refused(run("report", "out/fit.nc", "example:citations"), "own.py.*--model")
    assert run("report", "out/fit.nc", "example:citations", "-m", "own.py").exit_code == 0


def test_own_programs_without_a_utility_have_no_ranking(here):
    Path("own.py").write_text(OWN.replace("SITE", "worth"))
    result = run("fit", "example:citations", "-m", "own.py", "--draws", 100, "--out", "out")
    assert result.exit_code == 0, result.output
    assert names("out") == ["fit.nc", "parameters.csv"]


def test_item_names_are_not_markup(here):
    Path("v.csv").write_text("item_a,item_b,outcome\n[bold]x[/],y,a\ny,[bold]x[/],b\n")
    result = run("fit", "v.csv", "--model", "bradley_terry", "--draws", 100)
    assert result.exit_code == 0, result.output
    assert "[bold]x[/]" in result.stdout


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # installed or not
    )


MAIN = "from prefdensity.cli.main import main; main()"


def test_help_loads_nothing_heavy(here):
    loaded = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); "
    with start(loaded + MAIN, "fit", "--help") as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert not {"torch", "pyro", "arviz", "pandas", "numpy", "matplotlib"} & set(out.split())


def test_from_a_shell(here):
    with start(MAIN, "fit", "example:citations", "-m", "bradley_terry", "--draws", "100") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "wrote prefdensity-fit" in out
    assert "Traceback" not in err
    typed = "fit example:citations -m bradley_terry --draws 100"
    assert typed in Path("prefdensity-fit/report.html").read_text()


def test_ctrl_c_before_there_is_a_fit_leaves_nothing(here):
    endless = ("--method", "nuts", "--draws", "200000")
    with start(MAIN, "fit", "example:annotators", "-m", "davidson+reliability", *endless) as process:
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.startswith("prefdensity: interrupted")
    assert "Traceback" not in err
    assert out == ""
    assert names(here) == []


def test_ctrl_c_during_a_fit_saves_what_there_is(here, monkeypatch):
    def interrupt(self, run, guide):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "keep", interrupt)
    result = run("fit", "example:citations", "-m", "bradley_terry", "--method", "svi", "--draws", 100)
    assert result.exit_code == 130
    assert names("prefdensity-fit") == WRITTEN
    assert not prefdensity.load_posterior("prefdensity-fit/fit.nc").status.converged
    page = Path("prefdensity-fit/report.html").read_text()
    assert page.index("The search did NOT settle: interrupted") < page.index("The data")
    assert "interrupted" in result.stdout


@pytest.mark.parametrize("during", ["prefdensity.checking.check.check", "prefdensity.reporting.report.write_report"])
def test_ctrl_c_after_a_fit_does_not_lose_it(here, monkeypatch, during):
    def interrupt(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(during, interrupt)
        result = run("fit", "example:citations", "-m", "bradley_terry", "--draws", 100)
    assert result.exit_code == 130
    assert names("prefdensity-fit") == [name for name in WRITTEN if name != "report.html"]
    assert "interrupted, so the fit is not checked; prefdensity report does so" in result.stderr
    assert "Traceback" not in result.output
    again = run("report", "prefdensity-fit/fit.nc", "example:citations")
    assert again.exit_code == 0, again.output
    assert names("prefdensity-fit") == WRITTEN


def test_compare_ranks_models_and_draws_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main.app, ["compare", "example:baseball", "--models", "bradley_terry", "thurstone",
                                      "bradley_terry+position_bias", "--out", "found", "-q"])  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "one comparison at a time" in result.output
    table = pd.read_csv("found/compare.csv")
    assert set(table["program"]) == {"bradley_terry", "thurstone", "bradley_terry+position_bias"}
    assert Path("found/compare.svg").read_text().lstrip().startswith("<?xml")


def test_compare_writes_fits_for_arviz(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ("bradley_terry", "bradley_terry+position_bias")
    words = ("compare", "example:baseball", "--models", *models, "--unit", "pair", "--arviz", "-q")
    refused = run(*words)
    assert refused.exit_code == 2
    assert "name a folder for them with --out" in refused.output
    result = run(*words, "--out", "found")
    assert result.exit_code == 0, result.output
    files = ["bradley_terry+position_bias.nc", "bradley_terry.nc", "compare.csv", "compare.svg"]
    assert sorted(path.name for path in Path("found").iterdir()) == files
    assert all(name in result.output.splitlines()[-1] for name in files)
    with xr.open_datatree("found/bradley_terry.nc", engine="h5netcdf") as tree:
        assert tree["log_likelihood"]["judgements"].sizes == {"chain": 1, "draw": 1000, "pair": 21}


def test_compare_refuses_an_unknown_unit_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        main.app, ["compare", "example:baseball", "--models", "bradley_terry", "--unit", "row", "-q"]
    )
    assert result.exit_code == 2
    assert "no unit 'row'" in result.output


def test_words_of_python_are_words_of_the_shell_outside_names():
    flags = {"missing": "--missing", "labels": "--label", "ranked": "--ranked", "as_pairs": "--as-pairs!", "by": "--by"}

    def said(message):
        return in_shell_words(message, flags)

    assert said("drop them with missing='drop'") == "drop them with --missing drop"
    assert said("say so, as in labels={'': 'tie'}") == 'say so, as in --label "=tie"'
    assert said("read them with ranked='m', as_pairs=True") == "read them with --ranked m --as-pairs"
    assert said("tastes(by='age') needs the column 'age'") == "tastes(by='age') needs the column 'age'"
