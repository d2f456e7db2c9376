"""No-U-turn sampling of many chains in lockstep: one pass of the program moves all of them.

A short table costs as much for 64 chains as for one, because the program's own run is what takes the time. Many chains
that start near the posterior need few steps each, and what they disagree about is seen at once.

Hoffman and Gelman (2014), JMLR 15, 1593-1623, with multinomial choice among the states of a trajectory and the
generalised criterion of Betancourt (2017), arXiv 1701.02434. Trees are walked leaf by leaf with the few checkpoints
that the criterion needs (Phan, Pradhan and Jankowiak 2019, arXiv 1912.11554): all chains are at the same leaf of the
same depth, so that plain loops serve them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.inference.view import View

# Value [chain] and slope [chain, dimension] of the log density at w [chain, dimension].
Target = Callable[[Tensor], tuple[Tensor, Tensor]]

# Doublings of a trajectory, at most. In coordinates of unit spread seven steps go far enough, and with many chains one
# of them would mostly ask for more: then all of them wait for it. So the cost of a walk is known in advance.
DEEPEST = 3
_STAGES = 3  # of the warm-up, with coordinates learned anew between them
_WRONG = 1000.0  # nats of energy error that are called a divergence
_ACCEPT = 0.8  # aimed at, of the states of a trajectory


@dataclass(frozen=True)
class State:
    """Where chains are: w, its momentum and slope [chain, dimension], and its log density [chain]."""

    w: Tensor
    p: Tensor
    slope: Tensor
    value: Tensor

    @property
    def energy(self) -> Tensor:
        """Minus the log density of position and momentum [chain]."""
        return 0.5 * (self.p**2).sum(-1) - self.value

    def take(self, rows: Tensor) -> State:
        """Return the chains `rows`."""
        return State(self.w[rows], self.p[rows], self.slope[rows], self.value[rows])

    def put(self, rows: Tensor, other: State) -> None:
        """Overwrite the chains `rows`."""
        for mine, theirs in zip((self.w, self.p, self.slope, self.value), _fields(other), strict=True):
            mine[rows] = theirs

    def copy(self) -> State:
        """Return a state of its own."""
        return State(*(x.clone() for x in _fields(self)))


def _fields(state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return state.w, state.p, state.slope, state.value


def leap(target: Target, state: State, step: Tensor) -> State:
    """Return the state a leapfrog step on; `step` [chain, 1] is negative for backwards."""
    half = state.p + 0.5 * step * state.slope
    w = state.w + step * half
    value, slope = target(w)
    return State(w, half + 0.5 * step * slope, slope, value)


def transition(
    target: Target, state: State, size: float, generator: torch.Generator, deepest: int = DEEPEST
) -> tuple[State, Tensor, Tensor]:
    """Return the next state, the mean acceptance [chain] and whether the trajectory diverged [chain].

    A trajectory doubles at most `deepest` times.
    """
    chains = len(state.w)
    draw = torch.randn(state.w.shape, generator=generator, dtype=torch.float64).to(state.w)
    left = replace(state, p=draw).copy()
    right, chosen, start = left.copy(), left.copy(), left.energy
    total = left.p.clone()  # of momenta along the trajectory
    log_weight, active = torch.zeros_like(start), torch.ones(chains, dtype=torch.bool, device=start.device)
    accepted, leaves = torch.zeros_like(start), torch.zeros_like(start)
    diverged = torch.zeros_like(active)
    for depth in range(deepest):
        rows = active.nonzero()[:, 0]
        if not len(rows):
            break
        forward = _coins(len(rows), generator).to(active.device) < 0.5
        edge = left.take(rows)
        edge.put(forward, right.take(rows[forward]))
        grown = _subtree(
            target, edge, torch.where(forward, size, -size)[:, None].to(edge.w), depth, start[rows], generator
        )
        accepted[rows] += grown.accepted
        leaves[rows] += grown.leaves
        diverged[rows] |= grown.diverged
        whole = ~(grown.turned | grown.diverged)
        kept = rows[whole]
        swap = whole & (_coins(len(rows), generator).to(start).log() < grown.log_weight - log_weight[rows])
        chosen.put(rows[swap], grown.chosen.take(swap))
        right.put(rows[whole & forward], grown.edge.take(whole & forward))
        left.put(rows[whole & ~forward], grown.edge.take(whole & ~forward))
        total[kept] += grown.total[whole]
        log_weight[kept] = torch.logaddexp(log_weight[kept], grown.log_weight[whole])
        active[rows[~whole]] = False
        active[kept] = ~_turning(left.p[kept], right.p[kept], total[kept])
    return chosen, accepted / leaves.clamp_min(1.0), diverged


@dataclass
class _Subtree:
    """2^depth leaves grown from an edge: the new edge, the state chosen among them, and what the criterion needs."""

    edge: State
    chosen: State
    total: Tensor
    log_weight: Tensor
    turned: Tensor
    diverged: Tensor
    accepted: Tensor
    leaves: Tensor


def _subtree(
    target: Target, edge: State, step: Tensor, depth: int, start: Tensor, generator: torch.Generator
) -> _Subtree:
    none = torch.zeros_like(start)
    off = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    tree = _Subtree(
        edge.copy(), edge.copy(), torch.zeros_like(edge.p), none - math.inf, off, off.clone(), none, none.clone()
    )
    momenta: dict[int, Tensor] = {}
    totals: dict[int, Tensor] = {}
    for leaf in range(2**depth):
        rows = (~(tree.turned | tree.diverged)).nonzero()[:, 0]
        if not len(rows):
            break
        here = leap(target, tree.edge.take(rows), step[rows])
        gain = torch.nan_to_num(start[rows] - here.energy, nan=-math.inf)
        tree.edge.put(rows, here)
        tree.diverged[rows] = gain < -_WRONG
        tree.accepted[rows] += gain.clamp_max(0.0).exp()
        tree.leaves[rows] += 1
        joint = torch.logaddexp(tree.log_weight[rows], gain)
        swap = _coins(len(rows), generator).to(gain).log() < gain - joint
        tree.chosen.put(rows[swap], here.take(swap))
        tree.log_weight[rows] = joint
        tree.total[rows] += here.p
        _check(tree, leaf, momenta, totals)
    return tree


def _check(tree: _Subtree, leaf: int, momenta: dict[int, Tensor], totals: dict[int, Tensor]) -> None:
    """Mark the chains whose subtrees that end at this leaf have turned; direction does not matter to the criterion."""
    last = (leaf >> 1).bit_count()
    if leaf % 2 == 0:
        momenta[last], totals[last] = tree.edge.p.clone(), tree.total.clone()
        return
    ending = (~leaf & (leaf + 1)).bit_length() - 1  # as many subtrees end here as the leaf has ones at its end
    for first in range(last, last - ending, -1):
        span = tree.total - totals[first] + momenta[first]
        tree.turned |= _turning(momenta[first], tree.edge.p, span)


def _turning(one: Tensor, other: Tensor, total: Tensor) -> Tensor:
    middle = total - 0.5 * (one + other)
    return ((one * middle).sum(-1) <= 0) | ((other * middle).sum(-1) <= 0)


def _coins(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


class StepSize:
    """Dual averaging of the step that all chains share (Hoffman and Gelman 2014, section 3.2)."""

    def __init__(self, size: float) -> None:
        self.size, self.centre, self.mean_log = size, math.log(4 * size), 0.0
        self.error, self.count = 0.0, 0

    def learn(self, accepted: float) -> None:
        """Take in the acceptance of a transition of all chains."""
        self.count += 1
        self.error += (_ACCEPT - accepted - self.error) / (self.count + 10)
        log_size = self.centre - math.sqrt(self.count) / 0.05 * self.error
        share = self.count**-0.75
        self.mean_log = share * log_size + (1 - share) * self.mean_log
        self.size = math.exp(log_size)

    def settle(self) -> float:
        """Return the averaged step."""
        return math.exp(self.mean_log)


@dataclass(frozen=True)
class Walked:
    """Draws z [chain, draw, dimension], how many transitions diverged, and whether Ctrl-C ended the walk."""

    z: Tensor
    divergences: int
    interrupted: bool


def walk(
    view: View,
    frame: tuple[Tensor, Tensor],
    starts: Tensor,
    *,
    draws: int,
    warmup: int,
    generator: torch.Generator,
    enough: Callable[[Tensor], bool] = lambda z: True,
    rounds: int = 1,
    deepest: int = DEEPEST,
    report: Callable[[int], None] = lambda done: None,
) -> Walked:
    """Return NUTS draws of all chains, in coordinates that are learned from all of them.

    Parameters
    ----------
    view
        The program on its table.
    frame
        Base [dimension] and F [dimension, dimension], or its diagonal: coordinates w, z = base + F w, to begin with.
    starts
        z [chain, dimension].
    draws, warmup
        Transitions of each chain that are kept, and that go before, in which coordinates and step are learned.
    generator
        Of everything random.
    enough, rounds
        Where the draws z [chain, draw, dimension] are not `enough`, as many more are taken, `rounds` times in all;
        then the first of these rounds counts as warm-up.
    deepest, report
        Doublings of a trajectory, at most; told how many transitions are done. Ctrl-C keeps the draws so far.
    """
    space = _Space(view, *frame)
    state, size = space.at(starts), StepSize(0.8 * view.dimension**-0.25)
    seen: list[Tensor] = []
    for k in range(warmup):
        if k and k % -(-warmup // _STAGES) == 0:
            here = space.z(state.w)
            space = space.learned(torch.cat(seen[len(seen) // 2 :]))
            state, size, seen = space.at(here), StepSize(size.settle()), []
        state, accepted, _ = transition(space.density, state, size.size, generator, deepest)
        size.learn(float(accepted.mean()))
        seen.append(state.w)
        report(k + 1)
    kept: list[Tensor] = []
    divergences, interrupted, step = 0, False, size.settle()
    try:
        for k in range(rounds * draws):
            if k and k % draws == 0 and enough(_settled(kept, draws)):
                break
            state, _, diverged = transition(space.density, state, step, generator, deepest)
            kept.append(space.z(state.w))
            divergences += int(diverged.sum())
            report(warmup + k + 1)
    except KeyboardInterrupt:
        if len(kept) < 4:
            raise
        interrupted = True
    return Walked(_settled(kept, draws), divergences, interrupted)


def _settled(kept: list[Tensor], draws: int) -> Tensor:
    """Return draws [chain, draw, dimension] without the first round, if there are more."""
    return torch.stack(kept[draws:] if len(kept) >= 2 * draws else kept, 1)


class _Space:
    """Coordinates w of a view: z = base + F w."""

    def __init__(self, view: View, base: Tensor, frame: Tensor) -> None:
        self.view, self.base, self.frame = view, base, frame

    def z(self, w: Tensor) -> Tensor:
        return self.base + (w * self.frame if self.frame.dim() == 1 else w @ self.frame.T)

    def at(self, z: Tensor) -> State:
        """Return chains that rest at z [chain, dimension]."""
        off = z - self.base
        w = off / self.frame if self.frame.dim() == 1 else torch.linalg.solve(self.frame, off.T).T.contiguous()
        value, slope = self.density(w)
        return State(w, torch.zeros_like(w), slope, value)

    def density(self, w: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = self.view.value_and_slope(self.z(w))
        return value, slope * self.frame if self.frame.dim() == 1 else slope @ self.frame

    def learned(self, w: Tensor) -> _Space:
        """Coordinates in which draws w [draw, dimension] of these have unit spread, if they are many no correlation.

        A few draws tell of spreads alone, along the directions of these coordinates.
        """
        base, spread = self.z(w.mean(0, keepdim=True))[0], w.std(0)
        if len(w) < 10 * w.shape[-1]:
            return _Space(self.view, base, self.frame * spread)
        lower, failed = torch.linalg.cholesky_ex(torch.cov(self.z(w).T))
        return _Space(self.view, base, self.frame * spread if failed else lower)
