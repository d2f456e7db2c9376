"""Stochastic steps on some of the comparisons at a time, for tables that a step should not read whole.

A log likelihood is a sum over comparisons (over annotators where their types are summed out, over choice sets). That of
some of them drawn at random, times how many there are for each drawn, is an unbiased estimate of it, and its slopes are
of its slopes (Hoffman, Blei, Wang and Paisley 2013, JMLR 14, 1303-1347). All are drawn once before any is drawn again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference.parallel import processes
from prefdensity.inference.view import View
from prefdensity.programs.apart import meeting
from prefdensity.programs.cells import Cells
from prefdensity.programs.running import environment

_PROBE = 200  # comparisons at which it is looked whether other items are felt


class Batches(View):
    """The density of a view for stochastic steps, each on about `size` comparisons that are worked out at `place`.

    Where utilities follow from what is known of items, a step works out those of the items that meet in it alone.

    Attributes
    ----------
    turn
        The number of the next step: which comparisons it looks at follows from this and the seed.

    Raises
    ------
    FitError
        For a program with ratings, which cannot be split, and where several processes share the fit.
    """

    can_be_captured = False

    def __init__(self, view: View, size: int, seed: int, place: str) -> None:
        if view.cells.ratings is not None:
            raise FitError(f"{view.program.name} uses ratings, which no batch of comparisons has; fit it without batch")
        if processes() > 1:
            raise FitError("several processes share whole tables; fit in batches in one process")
        super().__init__(view.program, view.cells)
        self.size, self.seed, self.place, self.turn = size, seed, place, 0
        self._unit = view.cells.annotator if self.n_types > 1 else view.cells.choice
        self._units = len(view.cells) if self._unit is None else int(self._unit.max()) + 1
        self._shuffled: tuple[int, Tensor] = -1, torch.empty(0)

    @property
    def turns(self) -> int:
        """How many steps look at everything once."""
        return min(self._units, max(1, round(len(self.cells) / self.size)))

    def value_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return unbiased estimates of `log_joint` and its gradient [fit, dimension], from the next batch."""
        pass_, k = divmod(self.turn, self.turns)
        self.turn += 1
        if self._shuffled[0] != pass_:
            order = np.random.default_rng((self.seed, pass_)).permutation(self._units)
            self._shuffled = pass_, torch.from_numpy(order).to(self.device)
        edges = [self._units * each // self.turns for each in (k, k + 1)]
        cells = self._world(self._shuffled[1][slice(*edges)]).to(self.place)
        times = self._units / (edges[1] - edges[0])
        with environment(self.dtype, device=cells.total.device):
            value, slope = self._one_pass(z.detach().to(self.place), cells, times)
        return times * value.to(z.device), times * slope.to(z.device)

    def sample(self, size: int) -> tuple[View, View]:
        """Return the program with about `size` of the comparisons, and with them standing for all of them."""
        count = min(self._units, max(1, round(size * self._units / len(self.cells))))
        order = np.random.default_rng(self.seed).permutation(self._units)[:count]
        cells, times = self._world(torch.from_numpy(order).to(self.device)), self._units / count
        assert cells.outcome is not None  # a view has data
        whole = replace(cells, outcome=times * cells.outcome, total=times * cells.total)
        return View(self.program, cells), View(self.program, whole)

    def _world(self, units: Tensor) -> Cells:
        """Return the comparisons of some units, among their own items where nothing else is felt."""
        chosen = torch.zeros(self._units, dtype=torch.bool, device=self.device)
        chosen[units] = True
        rows = torch.nonzero(chosen if self._unit is None else chosen[self._unit]).flatten()
        cells = self.cells.take(rows)
        return meeting(cells) if self._meet_alone else cells

    @cached_property
    def _meet_alone(self) -> bool:
        """Whether parameters, and comparisons, are what they are in a world without the items of others."""
        cells = self.cells
        if not cells.pairwise:
            return False
        one, some = cells.head(1), cells.at(slice(None, None, -(-len(cells) // _PROBE)))
        return self._is_same(one, lambda: meeting(one), 0) and self._is_same(some, lambda: meeting(some), 1)
