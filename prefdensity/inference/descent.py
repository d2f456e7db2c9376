"""Modes by stochastic steps, for tables that a climb should not read whole at every one of them.

Adam (Kingma and Ba 2015, arXiv 1412.6980) on batches of comparisons, at a rate that falls to nothing along a cosine
(Loshchilov and Hutter 2017, arXiv 1608.03983), from a place where the prior has its draws: z is about as wide as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.batches import Batches
from prefdensity.inference.climber import Climber
from prefdensity.inference.mode import Mode
from prefdensity.inference.svi import Adam

_RATE = 0.02
# Steps: so many passes over the table, and no fewer than so many, unless fewer are allowed.
_PASSES, _FEWEST = 20, 2000


class Descent:
    """Steps to a mode of what a climber climbs. Between steps it can be saved (`arrays`) and taken up again.

    Attributes
    ----------
    steps
        How many there are to be.
    step
        How many were taken.
    """

    def __init__(self, climber: Climber, batches: Batches, start: Tensor, most: int) -> None:
        self.climber, self.batches = climber, batches
        self.z = start[None].clone()
        self.optimiser = Adam([self.z])
        self.steps, self.step = min(most, max(_FEWEST, _PASSES * batches.turns)), 0

    def run(self, after: Callable[[Descent], None]) -> Mode:
        """Take the steps that are left, and tell `after` of every one."""
        while self.step < self.steps:
            self.batches.turn = self.step
            value, slope = self.batches.value_and_slope(self.z)
            if self.climber.tilt is not None:
                slope = slope + self.climber.tilt
            slope[:, self.climber.held] = 0.0
            self.step += 1
            rate = _RATE * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
            self.optimiser.take([-slope], rate, self.step)
            after(self)
        return Mode(self.z[0].clone(), float(value.detach()), True, self.steps)

    def arrays(self) -> dict[str, Any]:
        """Return the state as plain arrays."""
        state = {"z": self.z, "mean": self.optimiser.mean[0], "square": self.optimiser.square[0]}
        return {name: value.cpu().numpy().copy() for name, value in state.items()} | {"step": np.array(self.step)}

    def resume(self, arrays: dict[str, Any]) -> None:
        """Take up the state that `arrays` saved."""
        self.step = int(arrays["step"])
        self.z.copy_(torch.from_numpy(arrays["z"]))
        self.optimiser.mean[0].copy_(torch.from_numpy(arrays["mean"]))
        self.optimiser.square[0].copy_(torch.from_numpy(arrays["square"]))
