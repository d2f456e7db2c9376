"""Checkpoints of a running fit: plain arrays, written atomically, taken up again bit for bit."""

from __future__ import annotations

import json
import os
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference import parallel
from prefdensity.inference.guide import Guide
from prefdensity.inference.svi import Run

_EVERY = 5.0  # seconds between writes
_NEEDED = ("base", "frame", "meta", "trace", "generator", "parameter0", "total0", "exp_avg0", "exp_avg_sq0")


def require_place(path: str | Path | None) -> None:
    """Raise `FitError` if a checkpoint could not be written there: better known before the work than after it."""
    if path is None:
        return
    home = Path(path).absolute().parent
    if Path(path).is_dir() or not home.is_dir():
        raise FitError(
            f"checkpoint {path} cannot be written: {'it is' if home.is_dir() else f'{home} is not'} a folder"
        )
    if not os.access(home, os.W_OK | os.X_OK):
        raise FitError(f"checkpoint {path} cannot be written: {home} may not be written to")


class Checkpoint:
    """Where a fit keeps its state; `key` tells whether a file belongs to the same fit, which has what is `needed`."""

    def __init__(self, path: str | Path | None, key: Mapping[str, Any], needed: tuple[str, ...] = _NEEDED) -> None:
        self.needed = needed
        self.path = None if path is None else Path(path)
        self.key = json.dumps(dict(key), sort_keys=True)
        self.last: dict[str, np.ndarray] | None = None
        self.written = time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """Return the saved arrays, None if there is no file.

        Raises
        ------
        FitError
            If the file is damaged or belongs to another fit.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with open(self.path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FitError(f"checkpoint {self.path} cannot be read ({error}); delete it to start afresh") from error
        if str(arrays.get("key")) != self.key:
            raise FitError(
                f"checkpoint {self.path} belongs to another fit (other data, program, seed, settings or device); "
                "delete it or choose another path"
            )
        missing = [name for name in self.needed if name not in arrays]
        if missing:
            raise FitError(f"checkpoint {self.path} cannot be read (it lacks {missing[0]}); delete it to start afresh")
        return arrays

    def frame(self, arrays: Mapping[str, np.ndarray], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the base and frame of the saved guides."""
        return torch.tensor(arrays["base"]).to(like), torch.tensor(arrays["frame"]).to(like)

    def keep(self, run: Run, guide: Guide) -> None:
        """Remember the state after a window, and write it now and then."""
        if self.path is not None:
            frame = {"base": guide.base.cpu().numpy(), "frame": guide.frame.cpu().numpy()}
            self.hold(run.arrays() | frame)

    def hold(self, arrays: dict[str, np.ndarray]) -> None:
        """Remember a state, and write it now and then."""
        self.last = arrays | {"key": np.array(self.key)}
        if time.monotonic() - self.written > _EVERY:
            self.write()

    def write(self) -> None:
        """Write the last state kept."""
        if self.path is None or self.last is None or not parallel.is_first():
            return
        handle, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".npz", dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **self.last)  # type: ignore[arg-type]
            os.replace(temporary, self.path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        self.written = time.monotonic()

    def remove(self) -> None:
        """Forget the file of a finished fit."""
        if self.path is not None and parallel.is_first():
            self.path.unlink(missing_ok=True)
