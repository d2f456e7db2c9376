"""Steps on an accelerator that cannot hold the table: cells wait in host memory and pass through it part by part."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.parallel import processes, share
from prefdensity.inference.view import View

# Bytes that a pass over one comparison takes: what is read, and about a dozen intermediate numbers for every type.
_READ, _WORKED = 60, 100
_ROOM = 0.8  # of the free memory may be used


def parts_for(view: View, room: int) -> int:
    """Return into how many parts the cells of a view have to be split to be worked on in `room` bytes: 1 if none."""
    return max(1, math.ceil(len(view.cells) * (_READ + _WORKED * view.n_types) / (_ROOM * room)))


class Streamed(View):
    """The density of a view in host memory, for stochastic steps on `place`.

    Raises
    ------
    FitError
        For a program with ratings, which cannot be split, and where several processes share the fit.
    """

    can_be_captured = False

    def __init__(self, view: View, place: str, parts: int) -> None:
        if view.cells.ratings is not None:
            raise FitError(f"{view.program.name} uses ratings, and the table does not fit on {place}; use device='cpu'")
        if processes() > 1:
            raise FitError(f"the table does not fit on {place} in {processes()} processes; use more of them")
        super().__init__(view.program, view.cells)
        self.place = place
        # what all parts read, such as features, goes there once
        self.known = self._step_cells.head(1).to(place)
        whole = [share(self._step_cells, k, parts, view.n_types > 1).columns() for k in range(parts)]
        # what is pinned is copied while the host goes on
        pinned = Tensor.pin_memory if torch.cuda.is_available() else Tensor.detach
        self.parts = [{key: pinned(held) for key, held in part.items()} for part in whole]

    @property
    def _terms(self) -> int:
        return len(self.parts)

    def value_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """See `View`."""
        there = z.detach().to(self.place)
        value, slope = torch.zeros(len(z), dtype=torch.float64, device=self.place), torch.zeros_like(there)
        for part in self.parts:
            moved = {key: held.to(self.place, non_blocking=True) for key, held in part.items()}
            cells = self.known.with_columns(moved)
            for k, one in enumerate(there.split(1)):
                here, steep = self._one_pass(one, cells)
                value[k] += here[0]
                slope[k] += steep[0]
        return value.to(z.device), slope.to(z.device)
