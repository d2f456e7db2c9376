"""Ctrl-C ends a study, and what is complete of it stays: in Python, and in the files and exit code of the shell."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from prefdensity.pcal import LadderWorld, study, world_study
from prefdensity.workers import gathered

JUDGES = {
    "truths": ("noise_free", "contrarian_40"), "nuisances": ("oracle", "useless"), "replicates": 12, "pilots": 3,
    "units": 300, "pilot_units": 200, "progress": False,
}  # fmt: skip
ROOT = Path(__file__).parents[1]


def until(function, complete):
    """Return the function, with Ctrl-C in the call after so many complete ones."""
    calls = []

    def called(*args):
        if len(calls) == complete:
            raise KeyboardInterrupt
        calls.append(args)
        return function(*args)

    return called


def silent(what, done, of):
    pass


def test_what_is_complete_is_kept_if_it_says_something():
    square = until(lambda x: x * x, 3)
    assert gathered(map(square, range(5)), 5, 2, "squares", silent) == (
        [0, 1, 4],
        ("Interrupted: 3 of 5 squares are complete.",),
    )
    assert gathered(map(abs, range(5)), 5, 2, "sizes", silent) == ([0, 1, 2, 3, 4], ())
    with pytest.raises(KeyboardInterrupt):
        gathered(map(until(abs, 1), range(5)), 5, 2, "sizes", silent)


@pytest.mark.slow
def test_a_study_of_judges_keeps_the_pilots_that_are_complete(monkeypatch):
    monkeypatch.setattr(study, "_cell", until(study._cell, 4))
    found = study.judge_study(**JUDGES)
    assert str(found).endswith("Interrupted: 4 of 6 pilots of judges are complete.")
    monkeypatch.undo()
    # every judge has as many pilots: the same as if two of them had been asked for
    whole = study.judge_study(**JUDGES | {"pilots": 2, "replicates": 8})
    pd.testing.assert_frame_equal(found.table, whole.table)
    monkeypatch.setattr(study, "_cell", until(study._cell, 0))
    with pytest.raises(KeyboardInterrupt):
        study.judge_study(**JUDGES)


def test_a_study_of_a_world_keeps_the_draws_that_are_complete():
    def draw(rng, n):
        y = rng.normal(size=n)
        return pd.DataFrame({"label": y, "said": y + rng.normal(size=n)})

    def asked(drawn, replicates):
        world = LadderWorld(drawn, 0.0, {"judge": "said"}, {"judge": 1.0, "label": 8.0})
        found = world_study(world, pilot=30, money=300.0, units=200, replicates=replicates, progress=False)
        return found, found.table.drop(columns="seconds")

    found, table = asked(until(draw, 6), 9)  # a draw has a pilot, and units
    assert found.notes == ("Interrupted: 3 of 9 draws are complete.",)
    assert found.settings["replicates"] == 3
    pd.testing.assert_frame_equal(table, asked(draw, 3)[1])
    with pytest.raises(KeyboardInterrupt):
        asked(until(draw, 3), 9)


WORLD = """
import os, signal
import pandas as pd

truth, ladder, prices, drawn = 0.0, {{"judge": "said"}}, {{"judge": 1.0, "label": 8.0}}, []


def draw(rng, n):
    drawn.append(n)
    if len(drawn) > {complete} * 2:
        os.kill(os.getpid(), signal.SIGINT)
    y = rng.normal(size=n)
    return pd.DataFrame({{"label": y, "said": y + rng.normal(size=n)}})
"""


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
@pytest.mark.parametrize("complete", [4, 1])
def test_ctrl_c_at_the_shell_writes_what_is_complete_and_says_so(tmp_path, complete):
    (tmp_path / "world.py").write_text(WORLD.format(complete=complete))
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {MAIN}"
    asked = "pcal study --world world.py --money 300 --units 200 --pilot 30 --replicates 20 --out found -q"
    done = subprocess.run(
        [sys.executable, "-c", code, *asked.split()], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    if complete < 2:
        assert "interrupted, so nothing was written" in done.stderr
        assert not (tmp_path / "found").exists()
        return
    assert "Interrupted: 4 of 20 draws are complete." in done.stdout
    assert len(pd.read_csv(tmp_path / "found" / "table.csv")) == 4
    assert "Interrupted: 4 of 20 draws" in (tmp_path / "found" / "report.html").read_text(encoding="utf-8")


MAIN = "from prefdensity.cli.main import main; main()"


WORKERS = """
import os, signal, time
from prefdensity.workers import each, gathered


def task(number):
    if number == 4:
        os.killpg(0, signal.SIGINT)
        time.sleep(2)
    return number


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(gathered(each(task, [(k,) for k in range(40)], 2), 40, 0, "tasks", lambda *said: None))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends the signal of Ctrl-C")
def test_workers_leave_ctrl_c_to_who_asked(tmp_path):
    """A terminal tells every process of it, and those that have nothing to say about it stay silent."""
    (tmp_path / "tasks.py").write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, "tasks.py"], cwd=tmp_path, capture_output=True, text=True, check=False, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    complete, notes = ast.literal_eval(done.stdout)
    assert complete == list(range(len(complete)))
    assert len(complete) < 40
    assert notes == (f"Interrupted: {len(complete)} of 40 tasks are complete.",)
