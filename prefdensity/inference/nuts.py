"""No-U-turn trajectories of many chains at once, each at a leaf of its own: one pass of the program moves all of them.

A short table costs as much for 64 chains as for one, because the program's own run is what takes the time. Chains wait
for one another at the end of a walk alone, not in every transition for the deepest tree. What is done between two
passes is NumPy's: for a few numbers it takes a part of the time that tensors take, and an accelerator is waited for
once a pass.

Hoffman and Gelman (2014), JMLR 15, 1593-1623, with multinomial choice among the states of a trajectory and the
generalised criterion of Betancourt (2017), arXiv 1701.02434. Trees are walked leaf by leaf with the few checkpoints
that the criterion needs (Phan, Pradhan and Jankowiak 2019, arXiv 1912.11554).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Value [chain] and slope [chain, dimension] of the log density at w [chain, dimension], float64.
Target = Callable[[Array], tuple[Array, Array]]

_WRONG = 1000.0  # nats of energy error that are called a divergence
_ACCEPT = 0.8  # aimed at, of the states of a trajectory


class StepSize:
    """Dual averaging of the step that some chains share (Hoffman and Gelman 2014, section 3.2)."""

    def __init__(self, size: float) -> None:
        self.size, self.centre, self.mean_log = size, math.log(4 * size), math.log(size)
        self.error, self.count = 0.0, 0

    def learn(self, accepted: float) -> None:
        """Take in the mean acceptance of a transition of all chains."""
        self.count += 1
        self.error += (_ACCEPT - accepted - self.error) / (self.count + 10)
        log_size = self.centre - math.sqrt(self.count) / 0.05 * self.error
        share = self.count**-0.75
        self.mean_log = share * log_size + (1 - share) * self.mean_log
        self.size = math.exp(log_size)

    @property
    def averaged(self) -> float:
        """The step to take once it is learned."""
        return math.exp(self.mean_log)


class Trajectories:
    """The trajectories that chains are on.

    Attributes
    ----------
    sizes
        Of the step of each chain, for the trajectories that it begins from now on [chain].
    drawn
        w [chain, transition, dimension] of the walk that is under way.
    done
        How many transitions each chain has made of it, int [chain].
    acceptance
        Mean acceptance along the last trajectory of each chain [chain].
    divergences
        How many trajectories of the walk diverged.
    """

    def __init__(self, target: Target, w: Array, sizes: Array, rng: np.random.Generator, deepest: int) -> None:
        chains, size = w.shape
        self.target, self.sizes, self.rng, self.deepest = target, sizes, rng, deepest
        # Of every state w and slope, of those at the ends of a trajectory the momentum as well: [which, chain, dim].
        self.rest(w)
        self._here, self._ends = np.zeros((3, chains, size)), np.zeros((2, 3, chains, size))
        self._picked, self._picked_value = np.zeros((2, chains, size)), np.zeros(chains)  # among those of the subtree
        self._total, self._subtotal = np.zeros((2, chains, size))  # of momenta along the trajectory, and the subtree
        self._log_weight, self._sub_log_weight, self._start, self._size, self._step = np.zeros((5, chains))
        self._accepted, self._leaves, self.acceptance = np.zeros((3, chains))
        self._depth, self._leaf, self._side = np.zeros((3, chains), np.intp)
        self._marked = np.zeros((2, deepest, chains, size))  # momenta at checkpoints, and their total before
        leaves = range(2 ** (deepest - 1))
        self._mark = np.array([(leaf >> 1).bit_count() for leaf in leaves])  # the checkpoint that is the last at a leaf
        self._ending = np.array([(leaf & ~(leaf + 1)).bit_count() for leaf in leaves])  # subtrees that end there
        self.drawn, self.done, self.divergences = np.empty((chains, 0, size)), np.zeros(chains, np.intp), 0

    def rest(self, w: Array) -> None:
        """Put chains at w [chain, dimension], perhaps in other coordinates."""
        value, slope = self.target(w)
        self._chosen, self._chosen_value = np.stack([w, slope]), value.copy()

    @property
    def w(self) -> Array:
        """Where the chains are [chain, dimension]."""
        return self._chosen[0]

    def walk(self, count: int, report: Callable[[int], None] = lambda done: None) -> Array:
        """Return w [chain, transition, dimension] after each of `count` transitions of every chain.

        What interrupts it leaves `drawn` and `done` as they were by then.
        """
        chains, size = self.w.shape
        self.drawn, self.done, self.divergences = np.empty((chains, count, size)), np.zeros(chains, np.intp), 0
        self._begin(np.arange(chains))
        told = 0
        with np.errstate(all="ignore"):  # where the density is no number a trajectory has diverged
            while told < count:
                ended = self._leap()
                if ended.any():
                    self._finish(np.flatnonzero(ended))
                    if int(self.done.min()) > told:
                        told = int(self.done.min())
                        report(told)
        return self.drawn

    def _begin(self, rows: Array) -> None:
        """Give chains a momentum and let their trajectories grow from where they are."""
        p = self.rng.standard_normal((len(rows), self._here.shape[-1]))
        self._ends[:, :2, rows], self._ends[:, 2, rows] = self._chosen[:, rows], p
        self._start[rows] = 0.5 * np.einsum("cd,cd->c", p, p) - self._chosen_value[rows]
        self._total[rows], self._log_weight[rows], self._depth[rows] = p, 0.0, 0
        self._accepted[rows], self._leaves[rows], self._size[rows] = 0.0, 0.0, self.sizes[rows]
        self._grow(rows)

    def _grow(self, rows: Array) -> None:
        """Begin a subtree, as large as the trajectory so far, at one of its ends."""
        side = self.rng.integers(2, size=len(rows))
        self._side[rows], self._here[:, rows] = side, self._ends[side, :, rows].swapaxes(0, 1)
        self._step[rows] = np.where(side == 1, self._size[rows], -self._size[rows])
        self._leaf[rows], self._subtotal[rows], self._sub_log_weight[rows] = 0, 0.0, -np.inf

    def _leap(self) -> Array:
        """Take a leapfrog step with every chain; return whose trajectories end [chain]."""
        w, slope, p = self._here
        step = self._step[:, None]
        p += 0.5 * step * slope
        w += step * p
        value, slope[:] = self.target(w)
        p += 0.5 * step * slope
        gain = self._start - 0.5 * np.einsum("cd,cd->c", p, p) + value
        gain = np.where(np.isnan(gain), -np.inf, gain)
        self._accepted += np.exp(np.minimum(gain, 0.0))
        self._leaves += 1
        joint = np.logaddexp(self._sub_log_weight, gain)
        taken = np.log(self.rng.random(len(gain))) < gain - joint
        np.copyto(self._picked, self._here[:2], where=taken[:, None])
        np.copyto(self._picked_value, value, where=taken)
        self._sub_log_weight = joint
        wrong = gain < -_WRONG
        turned = self._turned()
        busy = self.done < self.drawn.shape[1]
        self._leaf += busy
        self.divergences += int((wrong & busy).sum())
        ended = (wrong | turned) & busy
        whole = np.flatnonzero(busy & ~ended & (self._leaf == 1 << self._depth))
        if len(whole):
            ended[whole] = self._joined(whole)
        return ended

    def _turned(self) -> Array:
        """Say which chains' subtrees that end at this leaf have turned; direction does not matter to the criterion."""
        p, turned = self._here[2], np.zeros(len(self._leaf), bool)
        mark, even = self._mark[self._leaf], self._leaf % 2 == 0
        rows = np.flatnonzero(even)
        self._marked[0, mark[rows], rows], self._marked[1, mark[rows], rows] = p[rows], self._subtotal[rows]
        self._subtotal += p
        ending = self._ending[self._leaf]
        for k in range(int(ending.max())):
            rows = np.flatnonzero(ending > k)
            one, before = self._marked[:, mark[rows] - k, rows]
            turned[rows] |= _turning(one, p[rows], self._subtotal[rows] - before)
        return turned

    def _joined(self, rows: Array) -> Array:
        """Join whole subtrees with their trajectories; return which of these end [row]."""
        weight, more = self._log_weight[rows], self._sub_log_weight[rows]
        taken = rows[np.log(self.rng.random(len(rows))) < more - weight]
        self._chosen[:, taken], self._chosen_value[taken] = self._picked[:, taken], self._picked_value[taken]
        self._ends[self._side[rows], :, rows] = self._here[:, rows].swapaxes(0, 1)
        self._total[rows] += self._subtotal[rows]
        self._log_weight[rows] = np.logaddexp(weight, more)
        self._depth[rows] += 1
        ended = _turning(self._ends[0, 2, rows], self._ends[1, 2, rows], self._total[rows])
        ended |= self._depth[rows] == self.deepest
        if not ended.all():
            self._grow(rows[~ended])
        return ended

    def _finish(self, rows: Array) -> None:
        """Keep where chains are, and begin another trajectory with those that have more to make."""
        self.drawn[rows, self.done[rows]] = self.w[rows]
        self.acceptance[rows] = self._accepted[rows] / self._leaves[rows]
        self.done[rows] += 1
        more = self.done[rows] < self.drawn.shape[1]
        self._step[rows], self._leaf[rows] = 0.0, 0  # those that wait stay where they are
        if more.any():
            self._begin(rows[more])


def _turning(one: Array, other: Array, total: Array) -> Array:
    middle = total - 0.5 * (one + other)
    return (np.einsum("cd,cd->c", one, middle) <= 0) | (np.einsum("cd,cd->c", other, middle) <= 0)
