"""Independent tasks on the workers that the caller's joblib configuration names; a killed worker's are redone.

What Ctrl-C ends keeps the tasks that are complete.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypeVar

from joblib import Parallel, delayed

from prefdensity.errors import DataError, FitError
from prefdensity.progress import Report

T = TypeVar("T")

_PATIENCE = 3  # losses in a row without a result between them


def each(function: Callable[..., T], calls: Sequence[tuple[Any, ...]], jobs: int | None = None) -> Iterator[T]:
    """Yield function(*call) of every call, in order.

    Parameters
    ----------
    function
        What depends on its arguments alone (seeds among them), so that it may run anywhere, and again.
    calls
        Arguments of each task.
    jobs
        Processes; None: what `joblib.parallel_config(backend="loky", n_jobs=4)` says (or "dask", "ray"), in this
        process where nothing was said.

    Raises
    ------
    FitError
        If workers are killed again and again.
    """
    if jobs is not None and (isinstance(jobs, bool) or not isinstance(jobs, Integral) or jobs == 0):
        raise DataError(f"jobs={jobs!r} must be a number of processes, or -1 for all cores")
    done, losses = 0, 0
    while done < len(calls):
        # results come in order: what a killed worker held, and what came after, is asked for again
        tasks = (delayed(function)(*call) for call in calls[done:])
        try:
            for result in _begun(tasks, jobs):
                done, losses = done + 1, 0
                yield result
        except _killed() as error:
            losses += 1
            if losses == _PATIENCE:
                raise FitError(
                    f"workers were killed {_PATIENCE} times in a row, in or after task {done + 1} of {len(calls)}; "
                    "most often for want of memory: use fewer jobs, or smaller tasks"
                ) from error


def gathered(found: Iterable[T], of: int, least: int, what: str, report: Report) -> tuple[list[T], tuple[str, ...]]:
    """Return the results of tasks, and after Ctrl-C those that are complete, with a note that says so.

    Parameters
    ----------
    found
        Yields a result at a time, as `each` does.
    of
        How many there will be.
    least
        How many say something; Ctrl-C before is raised.
    what
        What they are, in the plural.
    report
        Is told of every result.
    """
    complete: list[T] = []
    try:
        for result in found:
            complete.append(result)
            report(what, len(complete), of)
    except KeyboardInterrupt:
        if len(complete) < least:
            raise
        return complete, (f"Interrupted: {len(complete)} of {of} {what} are complete.",)
    return complete, ()


def _killed() -> tuple[type[Exception], ...]:
    """Return how the loss of a worker is told; Dask tells nobody, and gives the task to another worker itself."""
    ray = sys.modules.get("ray.exceptions")
    return (BrokenProcessPool,) if ray is None else (BrokenProcessPool, ray.RayActorError, ray.WorkerCrashedError)


def _begun(tasks: Iterable[Any], jobs: int | None) -> Iterable[Any]:
    """Return the results of tasks as they come.

    Ctrl-C, which all processes of a terminal hear, is left to the caller: workers are started deaf to it.
    """
    try:
        parallel = Parallel(n_jobs=jobs, return_as="generator")
    except ValueError:  # Ray's workers give all results at the end
        return Parallel(n_jobs=jobs)(tasks)  # type: ignore[no-any-return]
    with _deaf():
        return parallel(tasks)  # type: ignore[no-any-return]


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C meanwhile, and in processes that are started meanwhile for good."""
    if threading.current_thread() is not threading.main_thread():  # who alone decides about signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
