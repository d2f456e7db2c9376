"""One fit by several processes, each with a share of the cells (data-parallel SVI).

Whoever starts the processes joins them: `torchrun --nproc-per-node 2 script.py`, where the script calls
`torch.distributed.init_process_group("gloo")` and then `fit` as ever, with the same table in every process. All
processes draw the same noise and take the same steps; a step costs each of them its share of the cells, and two sums
over the processes: of the log density, and of its gradient with respect to the draws. Prior and entropy count once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_map

from prefdensity.errors import FitError
from prefdensity.inference.view import View
from prefdensity.programs.cells import Cells


def processes() -> int:
    """Return how many processes work on this fit: 1 unless the caller has joined several."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process is the one that writes files."""
    return processes() == 1 or distributed.get_rank() == 0


def from_first(value: Any) -> Any:
    """Return the value that the first process has; where there are several, tensors on the CPU.

    Every process may have a device of its own.
    """
    if processes() == 1:
        return value
    box = [tree_map(lambda each: each.cpu() if isinstance(each, Tensor) else each, value)]
    distributed.broadcast_object_list(box)
    return box[0]


def require_same(key: dict[str, Any]) -> None:
    """Refuse, in every process, to fit when the processes were asked for different fits."""
    if processes() == 1:
        return
    keys: list[dict[str, Any]] = [{} for _ in range(processes())]
    distributed.all_gather_object(keys, key)
    wrong = [name for name in keys[0] if any(other.get(name) != keys[0][name] for other in keys)]
    if wrong:
        raise FitError(f"the processes of this fit differ in their {wrong[0]}; give all of them the same")


def shared(view: View) -> View:
    """Return the density of all cells, of which this process works out its share; `view` itself in a single process.

    Raises
    ------
    FitError
        For a program with ratings, which cannot be shared, and where the processes cannot add up what is on a device.
    """
    count = processes()
    if count == 1:
        return view
    place, joined = view.device.type, distributed.get_backend_config()
    if f"{place}:" not in joined:
        raise FitError(
            f"the processes were joined by {joined}, which adds up nothing on {place}; join them by "
            "init_process_group('cpu:gloo,cuda:nccl')"
        )
    if view.cells.ratings is not None:
        raise FitError(f"{view.program.name} uses ratings, which {count} processes cannot share; fit it in one process")
    return _SharedView(view.program, share(view.cells, distributed.get_rank(), count, view.n_types > 1))


def share(cells: Cells, rank: int, count: int, by_annotator: bool) -> Cells:
    """Return the cells of one of `count` processes, about equally many.

    Choice sets stay together, and where types are summed out, all cells of an annotator do.
    """
    unit = cells.annotator if by_annotator else cells.choice
    if unit is None:
        return cells.take(torch.arange(rank, len(cells), count, device=cells.total.device))
    size = torch.bincount(unit)
    middle = size.cumsum(0) - size / 2
    owner = (middle * count / len(cells)).long().clamp(0, count - 1)
    part = cells.take(torch.nonzero(owner.index_select(0, unit) == rank).squeeze(-1))
    if not len(part):
        raise FitError(f"{count} processes are too many for {len(cells)} comparisons; use fewer")
    return part


class _SharedView(View):
    can_be_captured = False

    @property
    def _terms(self) -> int:
        return super()._terms * processes()

    def value_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = super().value_and_slope(z)
        return _added(value), _added(slope)


class Ended(Exception):
    """Another process of the fit has ended, or this one was told to."""


def _added(term: Tensor) -> Tensor:
    total = term.clone()
    try:
        distributed.all_reduce(total)
    except RuntimeError as error:  # the connection to a process is gone
        raise Ended(str(error).splitlines()[0]) from error
    return total


@contextmanager
def told_to_end() -> Iterator[list[str]]:
    """Yield a list that is not empty once this process was told to end (SIGTERM), which then waits for the block.

    torchrun tells the others when one process has died: that must not cut short the writing of a checkpoint.
    """
    told: list[str] = []
    if processes() == 1 or threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("told to end"))
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
