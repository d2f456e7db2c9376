"""The benchmark suite: its files, its reasons, its worlds, and each measured task at a tiny size."""

import os
import signal
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pandas as pd
import pytest
from device import Device

from benchmarks import curves, estimator_worlds, estimators, gpu, svi_steps
from benchmarks.annotators import METHODS as ANNOTATOR_METHODS, recovered
from benchmarks.bradley_terry import METHODS
from benchmarks.end_to_end import JOBS
from benchmarks.measuring import ROOT, _used, fresh, machine, requirements, timed, versions
from benchmarks.results import Results, markdown
from benchmarks.suite import Runner
from benchmarks.worlds import annotated, counts, simulate

ROW = {"benchmark": "b", "setting": "1x1", "method": "m", "accuracy": "first"}


def measured(module: str, method: str, setting: str, **more: object) -> dict:
    """Return what a fresh process found; skip where a peer is not installed."""
    found = fresh(module, method, setting, **{"package": "-", "folder": None, "limit": 60, "memory": 8.0} | more)
    if "ModuleNotFoundError" in found.get("skipped", ""):
        pytest.skip(found["skipped"])
    return found


# ---------------------------------------------------------------------------------------------------- the two files


def test_a_row_takes_the_place_of_its_predecessor_and_nothing_else(tmp_path):
    results = Results(tmp_path)
    for row in (ROW, ROW | {"method": "other"}, ROW | {"accuracy": "second"}, ROW | {"benchmark": "c"}):
        results.add(row)
    rows = results.rows()
    assert [(r["benchmark"], r["method"], r["accuracy"]) for r in rows] == [
        ("b", "m", "second"), ("b", "other", "first"), ("c", "m", "first"),
    ]  # fmt: skip
    assert {r["machine"] for r in rows} == {machine()}
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_a_section_takes_the_place_of_its_predecessor_and_keeps_the_others(tmp_path):
    results = Results(tmp_path)
    for name, text in (("one", "old"), ("two", "kept\n\n| a |\n| --- |"), ("one", "new")):
        results.section(name, text)
    page = results.page.read_text()
    assert page.index("## one\n\nnew\n") < page.index("## two\n\nkept\n\n| a |\n| --- |\n")
    assert "old" not in page
    assert page.startswith("# Benchmarks")


def test_a_table_groups_settings_and_names_versions(tmp_path):
    results = Results(tmp_path)
    for setting, method in (("small", "x"), ("small", "y"), ("large", "y"), ("large", "x")):
        results.add({"benchmark": "b", "setting": setting, "method": method, "version": f"{method} 1.0"})
    lines = results.table_of("b").splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:6]] == [
        ["| small", "x"], ["| small", "y"], ["| large", "x"], ["| large", "y"],
    ]  # fmt: skip
    assert lines[-1] == "Versions: x 1.0, y 1.0."


def test_a_bar_in_a_cell_does_not_end_it():
    assert markdown(("a", "b"), [["x|y", 1]]).splitlines()[-1] == r"| x\|y | 1 |"


# ------------------------------------------------------------------------------------------------------ measurements


def test_time_before_the_data_are_ready_is_not_the_fit_and_the_result_is_kept():
    def steps():
        sum(range(3_000_000))
        yield None
        yield "result"

    found = timed(steps())
    assert found["prep"] > found["fit"]
    assert found["result"] == "result"
    assert found["memory"] > 1


def test_the_time_and_memory_of_a_process_are_seen_from_outside():
    code = "import time; held = bytearray(200_000_000); sum(range(10_000_000)); print(time.process_time()); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE, text=True) as child:
        own = float(child.stdout.readline())
        seconds, held = _used(child.pid)
        child.communicate("\n")
    assert seconds == pytest.approx(own, abs=0.05)
    assert 0.2 < held < 0.3


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_process_killed_by_another_is_told_as_such(name):
    def kill() -> None:
        while not (children := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()):
            time.sleep(0.01)
        time.sleep(0.5)  # into its imports
        os.kill(int(children[-1]), signal.Signals[name])

    killer = threading.Thread(target=kill)
    killer.start()
    found = measured("bradley_terry", "prefdensity, whole fit", "1000x1000000")
    killer.join()
    assert found["skipped"].startswith(f"killed by {name} when it held 0.")


def test_an_error_is_told_by_its_last_line():
    assert measured("bradley_terry", "no method", "20x1000") == {"skipped": "KeyError: 'no method'"}


def test_a_process_is_stopped_at_its_cpu_limit():
    assert measured("bradley_terry", "prefdensity, whole fit", "1000x1000000", limit=1) == {
        "skipped": "stopped after 1 CPU s"
    }


def test_a_process_is_stopped_at_its_memory_limit():
    found = measured("bradley_terry", "prefdensity, whole fit", "20x1000", memory=0.05)
    assert found == {"skipped": "stopped above 0.05 GB"}


def test_a_peer_that_its_environment_lacks_is_a_row_with_the_reason(tmp_path):
    venv.create(tmp_path / "peers" / "choix", with_pip=False)
    run = Runner("whole", Results(tmp_path), tmp_path / "peers", limit=60, memory=8.0)
    found = run.measure("end_to_end", "import choix", "-", package="choix")
    assert found == {"skipped": "ModuleNotFoundError: No module named 'choix'"}
    (row,) = run.results.rows()
    assert row["accuracy"] == f"skipped: {found['skipped']}"
    assert row["fit CPU s"] == row["peak MB"] == ""


def test_every_peer_has_its_needs_listed():
    peers = {package for _, _, package, _ in METHODS.values()} | {package for package, _ in JOBS.values()}
    assert peers - set(requirements()) == {"prefdensity", "scipy", "pyro-ppl"}  # what prefdensity itself needs


def test_versions_are_of_what_is_installed():
    assert versions("numpy", "no-such-package") == f"numpy {np.__version__}"


# ------------------------------------------------------------------------------------------------------------ worlds


def test_counts_are_of_unordered_pairs():
    i, j, won, lost = counts(3, np.array([0, 1, 1, 2, 0]), np.array([1, 0, 0, 1, 2]))
    assert list(zip(i, j, won, lost, strict=True)) == [(0, 1, 1, 2), (0, 2, 1, 0), (1, 2, 0, 1)]


def test_votes_have_the_probabilities_of_bradley_terry():
    utility, winner, loser = simulate(30, 20_000)
    assert (winner != loser).all()
    better = np.maximum(utility[winner], utility[loser])
    p = 1 / (1 + np.exp(-np.abs(utility[winner] - utility[loser])))
    z = ((utility[winner] == better) - p).sum() / np.sqrt((p * (1 - p)).sum())
    assert abs(z) < 4  # a false alarm in 16,000


@pytest.mark.parametrize("what", ["reliability", "types"])
def test_annotated_votes_have_the_probabilities_of_their_annotators(what):
    world = annotated(what, 10, 20_000, 40)
    a, b, who = world["item_a"], world["item_b"], world["annotator"]
    if what == "reliability":
        margin = world["reliability"][who] * (world["utility"][a] - world["utility"][b])
    else:
        kind = world["type"][who]
        margin = world["utility"][kind, a] - world["utility"][kind, b]
    p = 1 / (1 + np.exp(-margin))
    z = ((world["wins"] - p) * np.sign(margin)).sum() / np.sqrt((p * (1 - p)).sum())
    assert abs(z) < 4  # a false alarm in 16,000


def test_types_are_matched_under_their_best_labelling():
    world = annotated("types", 10, 100, 40)
    found = {"utility": world["utility"][[2, 0, 1]], "type_probability": np.eye(3)[(world["type"] + 1) % 3]}
    assert recovered(found, world) == pytest.approx({"utility": 1.0, "type accuracy": 1.0})


# ------------------------------------------------------------------------------------------------------------ curves


def test_exponents_are_those_of_power_laws():
    found = {n: {"fit": 1e-4 * n**1.5, "memory": 50 + 0.1 * n, "method": "svi"} for n in (100, 316, 1000, 3162, 10_000)}
    found[100_000] = {"skipped": "stopped"}
    sizes, engines, _, _, seconds, memory = curves.line(found, 50.0)
    assert sizes == "100, 316, 1,000, 3,162, 10,000"
    assert engines == "svi, svi, svi, svi, svi"
    assert (seconds, memory) == ("1.50 (1.50)", "1.00 (1.00)")


def test_no_exponent_is_told_of_two_points():
    found = {n: {"fit": 1.0, "memory": 1.0} for n in (1, 10)}
    assert curves.line(found, 0.0)[0] == "fewer than three ended"


# ----------------------------------------------------------------------------------------------- each measured task

QUICK = ("prefdensity, whole fit", "scipy Newton-CG + inverse", "scikit-learn, 100 refits")
PLAIN = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS]


@pytest.mark.parametrize("method", PLAIN)
def test_every_method_recovers_utilities(method):
    found = measured("bradley_terry", method, "20x4000")
    assert found["correlation"] > 0.97
    assert found["version"]
    assert found["fit"] > 0


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name == "utilities known" else pytest.mark.slow) for name in ANNOTATOR_METHODS],
)
@pytest.mark.parametrize("what", ["reliability", "types"])
def test_every_method_recovers_annotators(what, method):
    found = measured("annotators", method, f"{what}:10x20000x40")
    assert found["utility"] > 0.95
    assert found["reliability" if what == "reliability" else "type accuracy"] > 0.8


@pytest.mark.parametrize(
    ("method", "setting", "told", "least"),
    [
        ("linear", "400x8", "correlation", 0.9),
        ("fit", "20x2000x200", "wall", 0.0),
        ("loo", "20x2000x200", "memory", 10.0),
    ],
)
def test_embeddings_and_draws_are_measured(method, setting, told, least):
    found = measured("embeddings", method, setting)
    assert found[told] > least
    assert found["fit"] > 0


@pytest.mark.parametrize("job", [pytest.param(j, marks=pytest.mark.slow) for j in JOBS if j != "import prefdensity"])
def test_every_job_ends(job):
    assert measured("end_to_end", job, "10x300" if "Parquet" in job else "-")["memory"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("method", [svi_steps.OURS, svi_steps.PEER])
def test_a_step_is_timed(method):
    assert 0 < measured("svi_steps", method, "step:bradley_terry:20x2000")["step"] < 1


# --------------------------------------------------------------------------------------------------------- one command


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks", *arguments]


def test_the_command_writes_both_files(tmp_path):
    done = subprocess.run(
        command("--methods", "import prefdensity", "--only", "whole", "--out", str(tmp_path)),
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (row,) = Results(tmp_path).rows()
    assert row["version"] == versions("prefdensity")
    assert "import prefdensity" in done.stdout
    assert f"| - | import prefdensity |  | {row['prep CPU s']} |" in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "whole", "--methods", "nothing"), "whole: no method 'nothing'; there are import prefdensity,"),
        (("--sizes", "100"), "'100' is not ITEMSxROWS, like 1000x1000000"),
    ],
)
def test_a_wrong_word_is_told_in_a_sentence(tmp_path, arguments, message):
    done = subprocess.run(command(*arguments, "--out", str(tmp_path)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    two = ("scipy Newton-CG", "Pyro SVI, naive")
    with subprocess.Popen(
        command("--only", "bradley-terry", "--sizes", "20x2000", "--methods", *two, "--out", str(tmp_path)),
        cwd=ROOT, stderr=PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:  # fmt: skip
        while not (tmp_path / "results.csv").exists() and run.poll() is None:
            time.sleep(0.05)
        time.sleep(0.3)  # into the second measurement, which takes seconds
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 1
    assert said.strip().splitlines()[-1] == f"stopped: what was measured is in {Path(tmp_path) / 'results.csv'}"
    assert [row["method"] for row in Results(tmp_path).rows()] == ["scipy Newton-CG"]


# -------------------------------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize("name", estimator_worlds.WORLDS)
def test_worlds_of_estimators_have_their_truth(name):
    world = estimator_worlds.WORLDS[name]
    means = [world.draw(np.random.default_rng(seed), 2000, 0)[0].mean() for seed in range(40)]
    assert np.mean(means) == pytest.approx(world.truth, abs=4 * np.std(means) / 40**0.5)
    label, said = estimator_worlds.units(name, "60", 0)
    assert said.shape == (len(label), len(world.prices))


def test_estimators_are_set_beside_the_best_of_those_that_cover():
    rows = estimators.ours("informative", "60", 12)
    table = estimators.summary(rows, 0.5)
    assert table.loc["labels only", "length"] == 1
    assert table.loc["ladder", "length"] < table.loc["ladder by rounds", "length"] < 1
    given, fair = estimators.against_the_best(rows, table, "60", 0.5)
    assert (given[:3], fair[2]) == (("ladder", "labels only", "as given"), "at equal coverage")
    table.loc["ladder", "coverage"] = 0.5
    assert estimators.against_the_best(rows, table, "60", 0.5)[0][0] == "ladder by rounds"


def test_lengths_at_equal_coverage_do_not_reward_what_covers_too_little():
    """Twice the same errors, half the length: at equal coverage they are the same."""
    half, middle = np.ones(200), np.linspace(-1.5, 1.5, 200)
    rows = pd.concat(
        [
            pd.DataFrame({"method": name, "replicate": range(200), "lower": middle - h, "upper": middle + h})
            for name, h in (("labels only", half), ("short", half / 2))
        ]
    )
    found = estimators.summary(rows.assign(seconds=0.0), 0.0).loc["short"]
    assert found["length"] == pytest.approx(0.5)
    assert found["coverage"] < 0.4
    assert (found["fair"], found["fair_error"]) == pytest.approx((1.0, 0.0))


# -------------------------------------------------------------------------------------------------- an accelerator


def test_a_step_on_an_accelerator_moves_what_a_step_on_the_cpu_does(monkeypatch):
    monkeypatch.setattr(gpu, "STEPS", 2)
    _, here = gpu.step(2000, "cpu")
    with Device() as device:
        _, moved = gpu.step(2000, "cuda")
    assert device.launches["graph replay"] > 0
    assert here / 4 < moved < 4 * here  # what is worked out once counts once


def test_what_a_step_asks_of_an_accelerator_is_told():
    told = gpu.asked().splitlines()
    assert len(told) == 5
    assert all(int(line.split("|")[2]) < 20 for line in told[2:])
