"""What `fit` asks of a method, and what a method answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.member import Member
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.quality import Checked
from prefdensity.inference.safety import BOUND
from prefdensity.inference.view import View
from prefdensity.posterior.status import SAFE


@dataclass(frozen=True)
class Settings:
    """What `fit` was asked for; see there."""

    draws: int
    restarts: int
    seed: int
    guide: str | None
    max_steps: int
    chains: int
    warmup: int
    checkpoint: str | Path | None
    key: dict[str, Any]  # tells whether a checkpoint belongs to this fit
    place: str = "cpu"  # where svi takes its steps
    parts: int = 1  # in which the table goes there; 1: it is there
    batch: int | None = None  # comparisons of a step of svi; None: all


@dataclass(frozen=True)
class Answer:
    """What an engine found: vectors z [draw, dimension], a point [dimension], and facts for the status.

    `left_out`: sites that the method does not estimate. Of an ensemble z and the point, that of the first member, are
    those of everything but the sites at modes, and `of` [draw] says which of the `members` a draw is of.
    """

    z: Tensor
    point: Tensor
    facts: dict[str, Any]
    left_out: tuple[str, ...] = ()
    log_p: np.ndarray = field(default_factory=lambda: np.empty(0))
    log_q: np.ndarray = field(default_factory=lambda: np.empty(0))
    warnings: tuple[str, ...] = ()
    error: dict[str, Tensor] = field(default_factory=dict)  # see `safety`
    found: tuple[Mixture, ...] = ()  # the Laplace approximation of each mode
    members: tuple[Member, ...] = ()
    of: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def share_safe(self, draws: int) -> float | None:
        """Return of how many entries the mean is safe to read, or would be if more than so many draws were kept.

        None: nothing is known of them.
        """
        if not self.error:
            return None
        errors = torch.cat([error.flatten() for error in self.error.values()])
        return float((errors <= math.hypot(SAFE, BOUND / draws**0.5)).double().mean())


def answered(view: View, checked: Checked, point: Tensor, facts: dict[str, Any], said: tuple[str, ...]) -> Answer:
    """Return the answer of draws that were checked, about a point [dimension], with what is `said` of their modes."""
    quality = checked.facts
    quality["log_evidence"] += log_copies(view)
    log_p, log_q = checked.log_p.cpu().numpy(), checked.log_q.cpu().numpy()
    facts |= quality
    return Answer(checked.z, point, facts, log_p=log_p, log_q=log_q, error=checked.error, warnings=said)


def log_copies(view: View) -> float:
    """Return the log of how many equal modes there are for one that was integrated: k! of k exchangeable types."""
    return math.lgamma(view.sites["type_weight"].event[0] + 1) if "type_weight" in view.sites else 0.0
