"""Running one measurement in a process of its own, on one core, and in the environment its package lives in.

Standard library only: environments of peers import it too, and the parent of a measurement stays small.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MB.

    Not `getrusage`: its maximum survives from the parent over fork and exec.
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1e3


def timed(steps: Iterator[Any]) -> dict[str, Any]:
    """Run `steps`, which yields when the data are ready and then its result: seconds, memory, and the result."""
    began = time.process_time()
    next(steps)
    ready, wall = time.process_time(), time.time()
    result = next(steps)
    done, stopped = time.process_time(), time.time()
    return {"prep": ready - began, "fit": done - ready, "wall": stopped - wall, "memory": peak_memory(),
            "result": result}  # fmt: skip


def answer(measure: Callable[[str, str], dict[str, Any]]) -> None:
    """Be the child process: measure the method and setting named on the command line, and print it as JSON."""
    print(json.dumps(measure(*sys.argv[1:3])))


def fresh(
    module: str, method: str, setting: str, *, package: str, folder: Path | None, limit: int, memory: float
) -> dict[str, Any]:
    """Measure in a fresh process; where that fails, return {"skipped": the reason}.

    Parameters
    ----------
    module
        Of `benchmarks`, runnable: it calls `answer`.
    method, setting
        Its two arguments.
    package
        The peer whose environment to use where `folder` has one; else this interpreter's.
    folder
        Of the environments, by peer.
    limit
        CPU seconds, imports and data included.
    memory
        GB; a process that holds more is stopped.
    """
    own = folder and folder / package / "bin" / "python"
    python = str(own) if own and own.exists() else sys.executable
    with subprocess.Popen(
        [python, "-m", f"benchmarks.{module}", method, setting], cwd=ROOT, env=ENVIRONMENT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=one_core,
    ) as child:  # fmt: skip
        try:
            said, complaint, seconds, held = _watch(child, limit, memory)
        except BaseException:  # Ctrl-C among them: no process outlives the run
            child.kill()
            raise
    if child.returncode == 0:
        return json.loads(said.splitlines()[-1])
    if seconds > limit:
        return {"skipped": f"stopped after {limit} CPU s"}
    if held > memory:
        return {"skipped": f"stopped above {memory:.3g} GB"}
    if child.returncode < 0:
        return {"skipped": f"killed by {signal.Signals(-child.returncode).name} when it held {held:.1f} GB"}
    return {"skipped": (complaint.strip().splitlines() or ["no message"])[-1]}


def one_core() -> None:
    """Keep this process to one core: XLA has threads that obey no variable."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _watch(child: subprocess.Popen[str], limit: float, memory: float) -> tuple[str, str, float, float]:
    """Wait for a process, or stop it at a limit; return its output, errors, and the CPU seconds and GB last seen.

    Not a resource limit: under one, a process reads its own CPU clock in ticks of milliseconds.
    """
    seconds = held = 0.0
    while True:
        try:
            return (*child.communicate(timeout=0.2), seconds, held)
        except subprocess.TimeoutExpired:
            seconds, held = _used(child.pid)
            if seconds > limit or held > memory:
                child.kill()
                return (*child.communicate(), seconds, held)


def _used(pid: int) -> tuple[float, float]:
    """Return the CPU seconds that a process has used, and the GB that it holds; before it is waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def requirements() -> dict[str, list[str]]:
    """Return what each peer's environment needs, from peers.txt."""
    lines = (Path(__file__).parent / "peers.txt").read_text().splitlines()
    rows = [line.partition("#")[0].split() for line in lines]
    return {row[0].rstrip(":"): row[1:] for row in rows if row}


def make_environments(folder: Path) -> None:
    """Install every peer in an environment of its own under `folder`; one that fails is told of, the rest go on."""
    for peer, needs in requirements().items():
        where = folder / peer
        venv.create(where, with_pip=True)
        done = subprocess.run([where / "bin" / "python", "-m", "pip", "install", "-q", *needs], check=False)
        print(f"{peer}: {'installed' if done.returncode == 0 else 'could not be installed'}", flush=True)


def versions(*packages: str) -> str:
    """Return the versions of those packages that are installed here."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def machine() -> str:
    """Return one line about this machine: processor, cores, memory, system; no names."""
    processor = platform.machine()
    with open("/proc/cpuinfo") as file:
        processor = next((line.partition(":")[2].strip() for line in file if "model name" in line), processor)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"
    )
