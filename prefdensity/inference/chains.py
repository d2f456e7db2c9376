"""Walks of no-U-turn chains through a posterior, in coordinates and by steps that are learned on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.nuts import Array, StepSize, Trajectories
from prefdensity.inference.precision import cholesky
from prefdensity.inference.traced import Function, captured
from prefdensity.inference.view import View
from prefdensity.programs.running import environment

_STAGES = (0.25, 0.7, 1.0)  # shares of the warm-up; but for the last, coordinates are learned anew at their end
_KNOWN = 5  # draws that the spread so far counts for
_FEWEST = 4  # draws of a chain that R-hat of halves needs


@dataclass(frozen=True)
class Group:
    """Chains that share coordinates w, z = base + F w, and the step.

    Attributes
    ----------
    base, frame
        What they begin with: base [dimension], and F [dimension, dimension] or its diagonal.
    starts
        z [chain, dimension].
    """

    base: Tensor
    frame: Tensor
    starts: Tensor


@dataclass(frozen=True)
class Walked:
    """Draws z [chain, draw, dimension], how many transitions diverged, and whether Ctrl-C ended the walk."""

    z: Tensor
    divergences: int
    interrupted: bool


def walk(
    view: View,
    groups: Sequence[Group],
    *,
    draws: int,
    warmup: int,
    seed: int,
    deepest: int,
    enough: Callable[[Tensor], bool] = lambda z: True,
    rounds: int = 1,
    report: Callable[[int], None] = lambda done: None,
) -> Walked:
    """Return NUTS draws of all chains, in coordinates and by a step that each group learns from its own.

    Parameters
    ----------
    view
        The program on its table.
    groups
        The chains.
    draws, warmup
        Transitions of each chain that are kept, and that go before, in which coordinates and steps are learned.
    seed
        Of everything random.
    deepest
        Doublings of a trajectory, at most.
    enough, rounds
        Where the draws z [chain, draw, dimension] are not `enough`, as many more are taken, `rounds` times in all;
        then the first of these rounds counts as warm-up.
    report
        Told how many transitions every chain has made.

    Raises
    ------
    KeyboardInterrupt
        On Ctrl-C before every chain has 4 draws; later it ends the walk.
    """
    density = _Density(view, groups)
    with environment(view.dtype, device=view.device):
        walkers = density.walkers(torch.cat([each.starts for each in groups]), np.random.default_rng(seed), deepest)
        _warm_up(density, walkers, warmup, report)
        parts: list[Tensor] = []
        divergences, interrupted = 0, False
        while len(parts) < rounds and not interrupted and not (parts and enough(_settled(parts, draws))):
            before = sum(part.shape[1] for part in parts)
            try:
                walkers.walk(draws, partial(_told, report, warmup + before))
            except KeyboardInterrupt:
                interrupted = True
                if before + walkers.done.min() < _FEWEST:
                    raise
            parts.append(density.z(walkers.drawn[:, : walkers.done.min()]))
            divergences += walkers.divergences
    return Walked(_settled(parts, draws), divergences, interrupted)


def _warm_up(density: _Density, walkers: Trajectories, warmup: int, report: Callable[[int], None]) -> None:
    """Let chains walk and learn coordinates and steps.

    All of them make a transition before a step changes: those that are done first are no fair sample, for trajectories
    that go wrong are short.
    """
    for begin, end in pairwise(sorted({0, *(round(share * warmup) for share in _STAGES)})):
        steps, seen = [StepSize(float(size)) for size in density.of_groups(walkers.sizes)], []
        for k in range(begin, end):
            seen.append(walkers.walk(1)[:, 0])
            for step, accepted in zip(steps, density.of_groups(walkers.acceptance), strict=True):
                step.learn(float(accepted))
            walkers.sizes = np.repeat([step.size for step in steps], density.counts)
            report(k + 1)
        walkers.sizes = np.repeat([step.averaged for step in steps], density.counts)
        if end < warmup:
            z = density.z(walkers.w)
            density.learn(np.stack(seen[len(seen) // 2 :], 1))
            walkers.rest(density.w(z))


def _told(report: Callable[[int], None], before: int, done: int) -> None:
    report(before + done)


def _settled(parts: list[Tensor], draws: int) -> Tensor:
    """Return draws [chain, draw, dimension] without the first round, if there are more that are complete."""
    z = torch.cat(parts, 1)
    return z[:, draws:] if z.shape[1] >= 2 * draws else z


class _Density:
    """The log density of a view in the coordinates of groups of chains, as NumPy's arrays."""

    def __init__(self, view: View, groups: Sequence[Group]) -> None:
        self.view, self.counts = view, [len(each.starts) for each in groups]
        self.frames = [(each.base, each.frame) for each in groups]
        self._few = len(view.chunks(torch.cat([each.starts for each in groups]))[0])  # chains in a pass
        self._graphs: dict[int, Function] = {}

    def walkers(self, z: Tensor, rng: np.random.Generator, deepest: int) -> Trajectories:
        """Return chains that rest at z [chain, dimension]."""
        return Trajectories(self, self.w(z), np.full(len(z), 0.8 * z.shape[1] ** -0.25), rng, deepest)

    def of_groups(self, values: Array) -> Array:
        """Return means [group] of values [chain]."""
        return np.add.reduceat(values, np.cumsum([0, *self.counts[:-1]])) / self.counts

    def w(self, z: Tensor) -> Array:
        """Return where z [chain, dimension] is in these coordinates."""
        found = [
            (part - base) / frame if frame.dim() == 1 else torch.linalg.solve(frame, (part - base).T).T
            for part, base, frame in self._parts(z)
        ]
        return torch.cat(found).double().cpu().numpy()

    def z(self, w: Array) -> Tensor:
        """Return z [chain, ..., dimension] of w."""
        there = torch.from_numpy(w).to(self.view.device, self.view.dtype)
        return _joined([base + (part * f if f.dim() == 1 else part @ f.T) for part, base, f in self._parts(there)])

    def __call__(self, w: Array) -> tuple[Array, Array]:
        """Return value [chain] and slope [chain, dimension] at w [chain, dimension]."""
        value, steep = self._passes(self.z(w))
        slope = _joined([part * f if f.dim() == 1 else part @ f for part, _, f in self._parts(steep)])
        both = torch.cat([value[:, None], slope], 1).cpu().numpy()  # of an accelerator in one piece
        return both[:, 0], both[:, 1:]

    def _parts(self, each: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return rows [chain, ...] by group, with its base and frame."""
        return [(part, *held) for part, held in zip(each.split(self.counts), self.frames, strict=True)]

    def _passes(self, z: Tensor) -> tuple[Tensor, ...]:
        """Return value and slope of the log density at z [chain, dimension], in passes of bounded memory."""
        if len(z) <= self._few:
            return self._graph(z)(z)
        value, slope = z.new_empty(len(z), dtype=torch.float64), torch.empty_like(z)
        for part, *found in zip(z.split(self._few), value.split(self._few), slope.split(self._few), strict=True):
            torch._foreach_copy_(found, list(self._graph(part)(part)))
        return value, slope

    def _graph(self, z: Tensor) -> Function:
        """Return value and slope at as many z [chain, dimension] as a graph, that of the first being made."""
        if len(z) not in self._graphs:
            self._graphs[len(z)] = captured(self._value_and_slope, (z,))
        return self._graphs[len(z)]

    def _value_and_slope(self, z: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            free = z.detach().requires_grad_()
            value = self.view.log_joint(free)
            return value.detach(), torch.autograd.grad(value.sum(), free)[0]

    def learn(self, w: Array) -> None:
        """Take coordinates in which draws w [chain, draw, dimension] have unit spread, if they are many no correlation.

        A few draws tell of spreads alone, along the directions of the coordinates so far.
        """
        z, drawn = self.z(w).split(self.counts), torch.from_numpy(w).to(self.view.device).split(self.counts)
        for k, (_, frame) in enumerate(self.frames):
            here, own = z[k].flatten(0, 1), drawn[k].flatten(0, 1)
            spread = (len(own) * own.var(0, correction=0) + _KNOWN) / (len(own) + _KNOWN)
            learned = frame * spread.sqrt().to(frame)
            if len(own) >= 10 * own.shape[1]:
                lower, failed = cholesky(torch.cov(here.T))
                learned = learned if failed else lower
            self.frames[k] = here.mean(0), learned


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
