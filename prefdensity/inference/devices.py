"""Where numbers are worked out: on the CPU, or on a CUDA device where there is one and the work is worth it."""

from __future__ import annotations

import sys

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
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise FitError(f"device={device!r} is unknown; use 'cpu', 'cuda' or 'auto'")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FitError("device='cuda' was asked for, and torch finds no CUDA device here; use device='cpu'")


def device_for(device: str, cells: int) -> str:
    """Return the device that was asked for; "auto": cuda if there is one and there are many distinct comparisons."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() and cells > _GPU_CELLS else "cpu"


def room(place: str) -> int:
    """Return the free bytes of a device; the host takes what it is given."""
    return torch.cuda.mem_get_info(place)[0] if place.startswith("cuda") else sys.maxsize
