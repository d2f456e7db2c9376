"""Where climbs start, and which of several modes wins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.climber import Climber
from prefdensity.inference.mode import Mode, drawn_afresh, first_guess
from prefdensity.inference.view import View
from prefdensity.progress import Report

# Guesses of types that agree in this share of annotators are one guess, or lead to one mode; steps towards the mode
# given a guess, and after which types are looked at again; how many nats below the best a mode is worth nothing.
_SAME = 0.995
_STEPS, _MOST = 3, 100
_HOPELESS = 50.0
_GROWTH, _SLOWEST = 1.25, 0.9  # of gains from round to round


def search(view: View, restarts: int, seed: int, report: Report) -> list[Mode]:
    """Climb from `restarts` starts, at the middle of the hyperparameters' prior; return the modes, highest first.

    Of programs with types, a climb that comes to the types of a mode that was found before ends there, and one that
    slows down far below ends where it is.
    """
    climber = Climber(view, fixed=view.hyper)  # with them free, the density may be highest where it is all spike
    climb = climber.climb if view.program.type_layer is None or climber.local is None else _Climbs(climber)
    modes = []
    for k, start in enumerate(starts(climber, restarts, seed)):
        modes.append(_heaviest_first(view, climb(start)))
        report("searching modes", k + 1, restarts)
    return sorted(modes, key=lambda mode: -mode.value)


class _Climbs:
    """Climbs of one program with types, each of which knows what those before it found."""

    def __init__(self, climber: Climber) -> None:
        self.climber = climber
        self.found: list[tuple[Mode, np.ndarray]] = []  # with type probabilities [annotator, type]

    def __call__(self, start: Tensor) -> Mode:
        """Return the mode that is reached from `start`, one that was found before, or where the climb was given up."""
        mode = self.climber.climb(start, most=_STEPS)
        heights, steps = [float(self.climber.objective(start[None]).detach()), mode.value], mode.iterations
        while not mode.converged and steps < _MOST and mode.iterations == _STEPS:
            types = self._types(mode)
            for known, theirs in self.found:
                if _agreement(types, theirs) >= _SAME:
                    return known
            if self._is_lost(heights):
                break
            mode = self.climber.climb(mode.z, most=_STEPS)
            heights.append(mode.value)
            steps += mode.iterations
        self.found.append((mode, self._types(mode)))
        return replace(mode, iterations=steps)

    def _types(self, mode: Mode) -> np.ndarray:
        return self.climber.view.type_probability(mode.z[None])[0].cpu().numpy()

    def _is_lost(self, heights: list[float]) -> bool:
        """Say whether gains that go on to change by the same share in every round end far below the best mode."""
        if not self.found or len(heights) < 3:
            return False
        before, last = np.diff(heights[-3:])
        if last > _GROWTH * before:  # on its way from a saddle
            return False
        share = min(last / before, _SLOWEST)
        best = max(mode.value for mode, _ in self.found)
        return bool(heights[-1] + last * share / (1 - share) < best - _HOPELESS)


def distinct(modes: list[Mode], most: int) -> list[Mode]:
    """Return up to `most` modes of different height, none hopelessly below the best."""
    kept: list[Mode] = []
    for mode in modes:
        near = any(abs(mode.value - other.value) < 0.1 for other in kept)
        if not near and mode.value > modes[0].value - _HOPELESS:
            kept.append(mode)
    return kept[:most]


def starts(climber: Climber, restarts: int, seed: int) -> list[Tensor]:
    """Return where climbs start: with types, from guesses of these."""
    view = climber.view
    middle = first_guess(view)
    types = view.program.type_layer
    if types is None or types.starts is None:
        generator = torch.Generator().manual_seed(seed)
        jitter = torch.randn(restarts, view.dimension, generator=generator, dtype=torch.float64).to(middle)
        jitter[0] = 0.0
        jitter[:, climber.held] = 0.0  # heights are comparable, and a mode is known again
        return list(drawn_afresh(view, middle + 0.5 * jitter, seed))
    guesses = np.eye(view.n_types)[types.starts(view.cells, restarts=restarts, seed=seed, **dict(types.options))]
    near = [_given_types(climber, middle, guess) for guess in _unlike(guesses)]
    return [mode.z for mode in sorted(near, key=lambda mode: -mode.value)]  # the likeliest first: others end there


def _unlike(guesses: np.ndarray) -> list[np.ndarray]:
    """Return the guesses [annotator, type] that differ in more than a few annotators, whatever types are called."""
    kept: list[np.ndarray] = []
    for guess in guesses:
        if all(_agreement(guess, other) < _SAME for other in kept):
            kept.append(guess)
    return kept


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of annotators of whom both say the same type [annotator, type], types matched at their best."""
    from scipy.optimize import linear_sum_assignment  # slow to load, see `climber`

    both = np.minimum(one[:, :, None], other[:, None]).sum(0)
    return float(both[linear_sum_assignment(both, maximize=True)].sum() / len(one))


def _given_types(climber: Climber, middle: Tensor, guess: np.ndarray) -> Mode:
    """Return a point near the mode if every annotator's type were known: an M-step of EM, for any choice rule."""
    given = torch.as_tensor(guess.T[None]).to(middle)
    return climber.knowing(given).climb(middle, most=_STEPS)


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
