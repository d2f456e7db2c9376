"""Where numbers are worked out: on the CPU, or on a CUDA device where there is one and the work is worth it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prefdensity.errors import FitError

_GPU_CELLS = 200_000  # distinct comparisons (of all fits of a batch), below which a GPU spends its time on launches


def require_device(device: str) -> None:
    """Refuse a device that does not exist, or is not here.

    Raises
    ------
    FitError
        Saying which there are.
    """
    if device in ("auto", "cpu"):
        return
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise FitError(f"device={device!r} is unknown; use 'cpu', 'cuda', 'cuda:1' or 'auto'")
    if not torch.cuda.is_available():
        raise FitError(f"device={device!r} was asked for, and torch finds no CUDA device here; use device='cpu'")
    index, count = device.partition(":")[2], torch.cuda.device_count()
    if index and int(index) >= count:
        raise FitError(f"device={device!r} was asked for, and the last CUDA device here is 'cuda:{count - 1}'")


def device_for(device: str, cells: int) -> str:
    """Return the device that was asked for; "auto": cuda if there is one and there are many distinct comparisons."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() and cells > _GPU_CELLS else "cpu"


def room(place: str) -> int:
    """Return the free bytes of a device, and those that torch keeps for tensors to come; the host takes any table."""
    if not place.startswith("cuda"):
        return sys.maxsize
    kept = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
    return int(torch.cuda.mem_get_info(place)[0] + kept)


@contextmanager
def within_memory() -> Iterator[None]:
    """Say of what does not fit on a device what would help.

    Raises
    ------
    FitError
        Where torch finds no memory there.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        what = str(error).split(". GPU")[0]
        raise FitError(f"the memory of the device is too small for this fit ({what}); use device='cpu'") from error
