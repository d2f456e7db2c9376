"""Studies on the workers of the caller's choice: equal to serial bit for bit, and a killed worker costs nothing."""

import os
import signal
from contextlib import contextmanager

import pandas as pd
import pytest
from joblib import parallel_config

from prefdensity.errors import FitError
from prefdensity.pcal.study import judge_study
from prefdensity.selection import study
from prefdensity.workers import each

SMALL = {"truths": ("noise_free",), "nuisances": ("oracle", "linear"), "replicates": 4, "pilots": 2, "units": 200}


@contextmanager
def two_workers(backend):
    """Two local worker processes under joblib's name for them."""
    if backend == "loky":
        with parallel_config(backend="loky", n_jobs=2):
            yield
    elif backend == "dask":
        distributed = pytest.importorskip("distributed", reason="Dask is not installed")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, distributed.Client(cluster), parallel_config(backend="dask", n_jobs=2):
            yield
    else:
        ray = pytest.importorskip("ray", reason="Ray is not installed")
        from ray.util.joblib import register_ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        register_ray()
        try:
            with parallel_config(backend="ray", n_jobs=2):
                yield
        finally:
            ray.shutdown()


BACKENDS = ["loky", pytest.param("dask", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]
pytestmark = pytest.mark.filterwarnings("default")  # of the clusters


def mortal(folder, deaths):
    """A task that takes its process along the first `deaths` times that number 2 is asked for."""

    def task(number):
        left = len(os.listdir(folder))
        if number == 2 and left < deaths:
            (folder / str(left)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number, os.getpid()

    return task


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_workers_tasks_are_redone(tmp_path, backend):
    with two_workers(backend):
        found = list(each(mortal(tmp_path, 1), [(number,) for number in range(6)]))
    assert [number for number, _ in found] == list(range(6))
    assert os.getpid() not in {pid for _, pid in found}
    assert len(os.listdir(tmp_path)) == 1


def test_workers_that_die_again_and_again_end_the_study(tmp_path):
    with (
        two_workers("loky"),
        pytest.raises(FitError, match=r"workers were killed 3 times in a row, in or after task \d of 6"),
    ):
        list(each(mortal(tmp_path, 99), [(number,) for number in range(6)]))


def test_tasks_run_in_this_process_where_nothing_was_said(tmp_path):
    assert list(each(mortal(tmp_path, 0), [(0,), (1,)])) == [(0, os.getpid()), (1, os.getpid())]


def test_an_error_of_a_task_is_an_error():
    def broken(number):
        raise KeyError(number)

    with two_workers("loky"), pytest.raises(KeyError):
        list(each(broken, [(1,)]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_studies_equal_serial_ones_bit_for_bit(backend):
    def studies():
        judges = judge_study(**SMALL, pilot_units=200, progress=False).table
        sizes = {"budgets": (30, 60), "seeds": 2, "items_per_round": 15}
        return judges, study.selection_study("linear", ("eig",), **sizes, progress=False).curves

    serial = studies()
    with two_workers(backend):
        shared = studies()
    for one, other in zip(serial, shared, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
