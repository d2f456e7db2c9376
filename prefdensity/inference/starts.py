"""Where climbs start, and which of several modes wins."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from prefdensity.inference.climber import Climber
from prefdensity.inference.mode import Mode, first_guess
from prefdensity.inference.view import View
from prefdensity.progress import Report

# Guesses of types that agree in this share of annotators are one guess; steps towards the mode given a guess.
_SAME = 0.995
_STEPS = 3


def search(view: View, restarts: int, seed: int, report: Report) -> list[Mode]:
    """Climb from `restarts` starts, at the middle of the hyperparameters' prior; return the modes, highest first."""
    climber = Climber(view, fixed=view.hyper)  # with them free, the density may be highest where it is all spike
    modes = []
    for k, start in enumerate(_starts(climber, restarts, seed)):
        modes.append(_heaviest_first(view, climber.climb(start)))
        report("searching modes", k + 1, restarts)
    return sorted(modes, key=lambda mode: -mode.value)


def distinct(modes: list[Mode], most: int) -> list[Mode]:
    """Return up to `most` modes of different height, none hopelessly (50 nats) below the best."""
    kept: list[Mode] = []
    for mode in modes:
        near = any(abs(mode.value - other.value) < 0.1 for other in kept)
        if not near and mode.value > modes[0].value - 50:
            kept.append(mode)
    return kept[:most]


def _starts(climber: Climber, restarts: int, seed: int) -> list[Tensor]:
    view = climber.view
    middle = first_guess(view)
    types = view.program.type_layer
    if types is None or types.starts is None:
        generator = torch.Generator().manual_seed(seed)
        jitter = torch.randn(restarts, view.dimension, generator=generator, dtype=torch.float64).to(middle)
        jitter[0] = 0.0
        return list(middle + 0.5 * jitter)
    guesses = types.starts(view.cells, restarts=restarts, seed=seed, **dict(types.options))
    return [_given_types(climber, middle, guess) for guess in _unlike(guesses, view.n_types)]


def _unlike(guesses: np.ndarray, types: int) -> list[np.ndarray]:
    """Return the guesses of annotators' types that differ in more than a few annotators, whatever types are called."""
    kept: list[np.ndarray] = []
    for guess in guesses:
        if all(_agreement(guess, other, types) < _SAME for other in kept):
            kept.append(guess)
    return kept


def _agreement(one: np.ndarray, other: np.ndarray, types: int) -> float:
    """Return the share of annotators who are of the same type, types matched as well as they can be."""
    both = np.bincount(one * types + other, minlength=types**2).reshape(types, types)
    return float(both[linear_sum_assignment(both, maximize=True)].sum() / len(one))


def _given_types(climber: Climber, middle: Tensor, guess: np.ndarray) -> Tensor:
    """Return a point near the mode if every annotator's type were known: an M-step of EM, for any choice rule."""
    given = torch.nn.functional.one_hot(torch.as_tensor(guess, dtype=torch.int64), climber.view.n_types)
    return climber.knowing(given.T.to(middle)[None]).climb(middle, most=_STEPS).z


def _heaviest_first(view: View, mode: Mode) -> Mode:
    """Return the mode with its types, which are exchangeable, in order of falling weight."""
    if "type_weight" not in view.sites:
        return mode
    values, _ = view.values(mode.z[None])
    order = values["type_weight"].flatten().argsort(descending=True)
    parts = []
    for name, site in view.sites.items():
        value = values[name]
        if "type" in site.dims:
            # the type is the last axis of the weights, and the plate at dim -2 of everything else
            value = value.index_select(-1 if name == "type_weight" else value.dim() - 2 - len(site.event), order)
        parts.append(site.transform.inv(value).flatten())
    return Mode(torch.cat(parts), mode.value, mode.converged, mode.iterations)
