"""A step of variational inference on an accelerator: `python -m benchmarks.gpu [--rows 10000000] [--device cuda]`.

Types (K = 3), 5,000 annotators, 1,000 items. Prints milliseconds for a step, the bandwidth of the device measured by
copying, and the share of it that the step's tensor operations reach: what each reads and writes, divided by the time.
Then fits a million comparisons on the device and on the CPU, and prints the largest difference of posterior means in
posterior standard deviations (Monte-Carlo error of 1,000 draws each: .045 typically, .2 the largest of 3,000).

Where torch finds no device, prints what a step asks of one instead: its launches, and how often the host waits.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import prefdensity as pf
from benchmarks.annotators import PROGRAMS, comparisons
from benchmarks.results import markdown
from benchmarks.worlds import ANNOTATORS, annotated
from prefdensity.data import simulate
from prefdensity.inference import svi
from prefdensity.inference.guide import Guide
from prefdensity.inference.view import View
from prefdensity.programs.tabulate import cells_of

STEPS, PARTICLES = 30, 8


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor)]
            self.bytes += sum(each.untyped_storage().nbytes() for each in _apart(tensors))
        return result


def _apart(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return one tensor of each storage: an expanded or sliced one is read once."""
    return list({each.untyped_storage().data_ptr(): each for each in tensors}.values())


def wait(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def bandwidth(device: str, size: int = 2**28) -> float:
    """Return the bytes per second of copying `size` bytes, read and written."""
    source = torch.empty(size, dtype=torch.uint8, device=device).zero_()
    target = torch.empty_like(source).zero_()
    wait(device)
    began = time.perf_counter()
    for _ in range(20):
        target.copy_(source)
    wait(device)
    return 40 * size / (time.perf_counter() - began)


def step(rows: int, device: str) -> tuple[float, int]:
    """Return seconds for a step, and the bytes that the operations of its bound and slopes move."""
    program = pf.load_program(PROGRAMS["types"])
    cells = cells_of(comparisons(annotated("types", 1000, rows, ANNOTATORS)), program.outcomes, program.needs)
    run = started(View(program, cells.to(device)))
    for _ in range(3):
        run.take_step()
    wait(device)
    began = time.perf_counter()
    for _ in range(STEPS):
        run.take_step()
    wait(device)
    seconds = (time.perf_counter() - began) / STEPS
    work = getattr(run.gradients, "run", run.gradients)  # a captured graph shows no operations
    noise = run.guide.noise(PARTICLES // 2, run.generator)
    with Traffic() as seen:
        work(noise, *run.parameters)
    return seconds, seen.bytes


def started(view: View) -> svi.Run:
    """Return steps that begin somewhere."""
    base = 0.1 * torch.randn(1, view.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    base = base.to(view.device)
    return svi.Run(view, Guide.start(base, torch.full_like(base, 0.05), "mean_field"), seed=0)


def gap(rows: int, device: str) -> float:
    """Return the largest difference of utilities' posterior means on device and CPU, in standard deviations."""
    data = comparisons(annotated("types", 1000, rows, ANNOTATORS))
    here, there = (
        pf.fit(PROGRAMS["types"], data, device=each, progress=False).draws["utility"] for each in ("cpu", device)
    )
    return float(np.abs((here.mean(0) - there.mean(0)) / here.std(0)).max())


def asked() -> str:
    """Return what a step asks of a device, counted on one that is not there."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where the parts of the device find one another
    from device import Device

    data = simulate.population(10, 20, 500, seed=1, tie_strength=0.8)[0]
    lines = []
    for name in ("bradley_terry", "davidson+position_bias+reliability", "annotator_types(k=2)+davidson"):
        program = pf.load_program(name)
        table = data if "tie" in program.outcomes else data.without_ties()
        with Device() as there:
            cells = cells_of(table, program.outcomes, program.needs)
            run = started(View(program, cells.to("cuda")))
            run.take_step()  # which captures those that follow
            there.clear()
            for _ in range(STEPS):
                run.take_step()
        lines.append([name, f"{there.launches.total() / STEPS:.0f}", f"{there.syncs.total() / STEPS:.0f}"])
    return markdown(("program", "launches for a step", "waits"), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--same", type=int, default=1_000_000, help="rows of the fits that are compared; 0: none")
    parser.add_argument("--device", default="cuda")
    said = parser.parse_args()
    if said.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch finds no CUDA device here; counted on one that is not there:\n")
        print(asked())
        return
    name = torch.cuda.get_device_name() if said.device.startswith("cuda") else "CPU, one thread"
    if said.device == "cpu":
        torch.set_num_threads(1)
    copied = bandwidth(said.device)
    seconds, moved = step(said.rows, said.device)
    line = [name, f"{said.rows:,}", f"{1e3 * seconds:.1f}", f"{moved / 1e9:.2f}", f"{copied / 1e9:.0f}",
            f"{moved / seconds / copied:.0%}"]  # fmt: skip
    head = ("device", "rows", "ms for a step", "GB moved", "copied GB/s", "share of it")
    if said.same:
        head, line = (*head, "gap to the CPU, sd"), [*line, f"{gap(said.same, said.device):.3f}"]
    print(markdown(head, [line]))


if __name__ == "__main__":
    main()
