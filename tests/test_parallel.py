"""One fit by several processes: shares of the cells add up, two processes equal one, a lost process loses nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import prefdensity
from prefdensity.data import simulate
from prefdensity.errors import FitError
from prefdensity.inference import svi
from prefdensity.inference.parallel import share
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.tabulate import cells_of

PROGRAMS = ["bradley_terry", "davidson+position_bias", "reliability", "annotator_types"]
DATA, _ = simulate.population(12, 15, 900, seed=4)
STEPS = 300

# What every process runs; `fits` is what the test below computes in its own process.
SCRIPT = """
import json, os, signal, sys, torch
import prefdensity
from prefdensity import simulate
from prefdensity.inference import svi
from prefdensity.programs.tabulate import cells_of

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
data, _ = simulate.population(12, 15, 900, seed=4)
program, path, death = sys.argv[1:4]
if rank == 1 and int(death):
    step = svi.Run.take_step
    def mortal(run):
        if run.step == int(death):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(run)
    svi.Run.take_step = mortal
out = {}
for name in program.split(","):
    post = prefdensity.fit(name, data, method="svi", max_steps=300, restarts=1, draws=100, checkpoint=path or None)
    mean = post.draws["utility"].mean(0).tolist()
    out[name] = {"trace": post.status.elbo_trace, "elbo": post.status.elbo, "mean": mean}
with open(sys.argv[4] + str(rank), "w") as file:
    json.dump(out, file)
torch.distributed.destroy_process_group()
"""


def fitted(name, path=None):
    return prefdensity.fit(name, DATA, method="svi", max_steps=STEPS, restarts=1, draws=100, checkpoint=path)


def two_processes(folder, programs, checkpoint="", death=0):
    """Run the script under torchrun; return the finished call and what each process wrote."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [",".join(programs), str(checkpoint), str(death), str(folder / "rank")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run([*launch, *arguments], capture_output=True, text=True, env=env, timeout=300)
    return done, [json.loads(path.read_text()) for path in sorted(folder.glob("rank?"))]


@pytest.mark.parametrize("name", [*PROGRAMS, "comparison_types", "plackett_luce"])
@pytest.mark.parametrize("count", [2, 3])
def test_shares_add_up_to_the_whole(name, count):
    program = load_program(name)
    data = some_rankings() if name == "plackett_luce" else DATA
    whole = View(program, cells_of(data, program.outcomes, program.needs))
    z = 0.5 * torch.randn(3, whole.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [share(whole.cells, rank, count, whole.n_types > 1) for rank in range(count)]
    assert sum(map(len, parts)) == len(whole.cells)
    assert max(map(len, parts)) < 1.3 * len(whole.cells) / count
    total = sum(View(program, part).log_likelihood(z) for part in parts)
    torch.testing.assert_close(total, whole.log_likelihood(z), rtol=1e-12, atol=1e-9)


def some_rankings():
    rng = np.random.default_rng(0)
    orders = [rng.permutation(list("vwxyz"))[:4] for _ in range(60)]
    rows = [(str(k), item, place + 1) for k, order in enumerate(orders) for place, item in enumerate(order)]
    frame = pd.DataFrame(rows, columns=["answer", "item", "rank"])
    return prefdensity.Choices.from_rankings(frame, answer="answer")


def test_more_processes_than_work_are_refused():
    cells = cells_of(DATA)
    with pytest.raises(FitError, match="16 processes are too many for"):
        [share(cells, rank, 16, by_annotator=True) for rank in range(16)]


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    done, ranks = two_processes(tmp_path, PROGRAMS)
    assert done.returncode == 0, done.stderr
    assert len(ranks) == 2
    for name in PROGRAMS:
        one = fitted(name)
        for found in ranks:
            np.testing.assert_allclose(found[name]["trace"], one.status.elbo_trace, rtol=0, atol=1e-5)
            np.testing.assert_allclose(found[name]["elbo"], one.status.elbo, rtol=0, atol=1e-5)
            np.testing.assert_allclose(found[name]["mean"], one.draws["utility"].mean(0), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_lost_process_ends_the_fit_with_a_checkpoint_to_go_on_from(tmp_path):
    path = tmp_path / "state.npz"
    done, ranks = two_processes(tmp_path, ["davidson+position_bias"], path, death=250)
    assert done.returncode != 0
    assert ranks == []
    assert "FitError: a process of the fit ended at step 250" in done.stderr
    assert f"{path} keeps it; start it again" in done.stderr
    with np.load(path) as file:
        assert json.loads(str(file["meta"]))["step"] == 2 * svi.WINDOW
    resumed, whole = fitted("davidson+position_bias", path), fitted("davidson+position_bias")
    np.testing.assert_allclose(resumed.status.elbo_trace, whole.status.elbo_trace, rtol=0, atol=1e-5)
    assert not path.exists()
