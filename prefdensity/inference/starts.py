"""Where climbs start, and which of several modes wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.mode import Climber, Mode, centre
from prefdensity.inference.view import View
from prefdensity.progress import Report


@dataclass(frozen=True)
class Search:
    """The modes that restarts found, best first, with the objective [restart] each reached."""

    best: Mode
    values: tuple[float, ...]


def search(view: View, restarts: int, seed: int, report: Report, fixed: tuple[int, ...] = ()) -> Search:
    """Climb from `restarts` starts and return the highest mode."""
    climber = Climber(view, fixed=fixed)
    modes = []
    for k, start in enumerate(_starts(view, restarts, seed, fixed)):
        modes.append(climber.climb(start))
        report("searching modes", k + 1, restarts)
    modes.sort(key=lambda mode: -mode.value)
    return Search(modes[0], tuple(mode.value for mode in modes))


def _starts(view: View, restarts: int, seed: int, fixed: tuple[int, ...]) -> list[Tensor]:
    middle = centre(view)
    types = next((each for each in view.program.layers if each.starts is not None), None)
    if types is None:
        generator = torch.Generator().manual_seed(seed)
        jitter = torch.randn(restarts, view.dimension, generator=generator, dtype=torch.float64).to(middle)
        jitter[0] = 0.0
        return list(middle + 0.5 * jitter)
    assert types.starts is not None
    guesses = types.starts(view.cells, restarts=restarts, seed=seed, **dict(types.options))
    return [_given_types(view, middle, guess, fixed) for guess in guesses]


def _given_types(view: View, middle: Tensor, guess: np.ndarray, fixed: tuple[int, ...]) -> Tensor:
    """Return the mode if every annotator's type were known: one M-step of EM, for any utility and choice rule."""
    k = view.sites["type_weight"].event[0]
    assignment = torch.nn.functional.one_hot(torch.as_tensor(guess, dtype=torch.int64), k).T.to(middle)[None]
    climber = Climber(view, fixed=fixed, curve=False)
    climber.objective = lambda z: sum(view.log_parts(z, assignment))  # type: ignore[assignment, return-value]
    return climber.climb(middle).z
