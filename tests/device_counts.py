"""What is counted on the device of `device.py`: launches and waits, by the line of the library that asked."""

from __future__ import annotations

import collections
import functools
import sys
from typing import Any


@functools.cache
def _of_library(file: str) -> str:
    """Return where a file is in the library; nothing for a file that is elsewhere."""
    for room in ("/prefdensity/", "/models/"):
        if room in file and "/tests/" not in file:
            return file.rsplit(room, 1)[-1]
    return ""


def line() -> str:
    """Return the innermost line of the library that is running."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = _of_library(frame.f_code.co_filename)
        if name and frame.f_code.co_name != "__torch_function__":
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class Counts:
    """Counters of what was launched and what made the host wait.

    Attributes
    ----------
    launches, syncs
        By operation and line.
    capturing
        The graph that is being captured, or None.
    ended
        Why nothing runs on the device any more; empty while something does.
    sync_debug_mode
        "error": a sync is refused.
    """

    def __init__(self) -> None:
        self.launches: collections.Counter[str] = collections.Counter()
        self.syncs: collections.Counter[str] = collections.Counter()
        self.capturing: Any = None
        self.ended = ""
        self.sync_debug_mode: str | int = 0

    def clear(self) -> None:
        """Count from zero again."""
        self.launches.clear()
        self.syncs.clear()

    def launch(self, what: str) -> None:
        """Count a launch."""
        self.launches[f"{what} {line()}"] += 1

    def wait(self, what: str) -> None:
        """Count a sync, which no captured graph may hold."""
        if self.capturing is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what} at {line()}")
        if self.sync_debug_mode == "error":
            raise RuntimeError(f"called a synchronizing CUDA operation: {what} at {line()}")
        self.syncs[f"{what} {line()}"] += 1
