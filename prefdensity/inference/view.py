"""A program with its data, seen as one log density of a real vector: what every inference method works on.

All evaluations are batched over a leading `fit` dimension: restarts, particles, draws and replicates are
the same thing here. The program stays a plain Pyro program; it is run under an outer plate at dim -3 with
its latent sites substituted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from prefdensity.errors import PrefDensityError, ProgramError
from prefdensity.inference.leaves import EXACT
from prefdensity.inference.site import Site, dims_of, site_of
from prefdensity.inference.totals import total
from prefdensity.inference.traced import Function, traced
from prefdensity.programs.apart import UNTOLD, differing, meeting, opposed
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Program
from prefdensity.programs.running import FEWEST, Substitute, environment, run

# Cell evaluations (fits x types x comparisons x outcomes) per pass: what a cache holds, and gigabytes elsewhere.
_PASS, _PASS_THERE = 1_000_000, 20_000_000
# Comparisons from which on draws are weighed in single precision, stochastic steps work in it, and as a graph.
_LIGHT, _SINGLE, _TRACED = 2_000, 10_000, 100_000
_PART = 500_000  # cell evaluations of one vector in a part of a large table
_STREAMS = 64  # that large tables are read in, see `_step_cells`
_OFTEN = 30  # passes from which on a graph of one, which takes a few to make, saves time
_READ = 128  # features that are read in a pass, for each number that it holds
# Numbers of features that are read at once, and comparisons at which it is looked whether only differences are felt.
_FEW, _PROBE = 2**17, 500
_SAME = 1e-9  # relative difference of log densities that are the same
_PRODUCTS = 100  # of features with their weights, that take as long as a cell evaluation


class Density(Protocol):
    """What an approximation is weighed against: a view, or one table of a batch.

    Attributes
    ----------
    work
        Cell evaluations of one density.
    sizes
        How many numbers every site has, latent ones and those that follow from them.
    """

    @property
    def work(self) -> int: ...  # noqa: D102

    @property
    def sizes(self) -> Mapping[str, int]: ...  # noqa: D102

    def log_joint_of(self, z: Tensor) -> Tensor:
        """Return log p [draw] of z [draw, dimension]."""

    def constrain(self, z: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
        """Return every site [draw, ...] in its own units, and their dims."""


class View:
    """One program on one table as densities of z [fit, dimension].

    Attributes
    ----------
    sites
        Latent sites by name.
    derived
        Names and dims of deterministic sites.
    dimension
        Length of z.
    sizes
        How many numbers each of both has.
    n_types
        Types that annotators are summed over; 1 without types.
    depth
        Plates that a run has room for, that of fits included.
    """

    def __init__(self, program: Program, cells: Cells) -> None:
        self.program, self.cells = program, cells
        self.dtype = cells.total.dtype
        self.device = cells.total.device
        self._room = _PASS if self.device.type == "cpu" else _PASS_THERE
        self.sites: dict[str, Site] = {}
        self.derived: dict[str, tuple[str, ...]] = {}
        self.sizes: dict[str, int] = {}
        start = 0
        nodes = self._trace()
        weights = getattr(nodes["outcome"]["fn"], "log_weight", None)
        self.n_types = 1 if weights is None else weights.shape[-2]
        for name, node in nodes.items():
            if node["deterministic"]:
                self.derived[name], self.sizes[name] = dims_of(name, node), node["value"].numel()
                continue
            if node["is_observed"]:
                continue
            site = site_of(program.name, name, node, start)
            self.sites[name], self.sizes[name] = site, math.prod(site.batch + site.event)
            start = site.at.stop
        self.dimension = start
        frames = [frame.dim for node in nodes.values() for frame in node["cond_indep_stack"] if frame.vectorized]
        self.depth = max(FEWEST, *(1 - dim for dim in frames))
        self._graphs: dict[tuple[int, int], Function] = {}
        self.memo: dict[str, Any] = {}  # what others worked out about this view, once

    @property
    def can_be_captured(self) -> bool:
        """Whether a step is always the same; of a large table on the CPU, the passes of a step are graphs already."""
        return self.device.type != "cpu" or len(self.cells) < _TRACED

    @property
    def hyper(self) -> tuple[int, ...]:
        """Coordinates of the scalars that shape the posterior of the rest; a layer may do without its own."""
        return tuple(self.sites[name].at.start for name in self.program.hyper if name in self.sites)

    def _trace(self) -> dict[str, dict[str, Any]]:
        """Run the program once on one cell and return what it met, by site."""
        try:
            with environment(self.dtype, 0, self.device), torch.no_grad(), Substitute({}) as seen:
                self.program(self.cells.head(1))
        except PrefDensityError:
            raise
        except Exception as error:  # a layer may raise anything, such as for one comparison where it expects more
            raise ProgramError(self.program.fault(error)) from error
        if not seen.met.get("outcome", {}).get("is_observed", False):
            raise ProgramError(
                f"{self.program.name} has no observed site 'outcome'; end it with observe(log_prob, data)"
            )
        return seen.met

    def values(self, z: Tensor, names: Collection[str] | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Return constrained values of sites, or those named, padded for the fit plate, and log |det J| [fit]."""
        out: dict[str, Tensor] = {}
        log_det = torch.zeros(len(z), dtype=torch.float64, device=z.device)
        for name in self.sites if names is None else names:
            site = self.sites[name]
            pad = (1,) * (2 - len(site.batch))
            # a matrix product with a slice of rows would be worked out row by row
            raw = z[:, site.at].contiguous().reshape(len(z), *pad, *site.batch, *site.raw_event)
            if site.is_identity:
                out[name] = raw
                continue
            out[name] = site.transform(raw)
            log_det = log_det + total(site.transform.log_abs_det_jacobian(raw, out[name]))
        return out, log_det

    def run(self, values: dict[str, Tensor], fits: int, cells: Cells | None = None) -> Substitute:
        """Run the program with `values` under a fit plate; sites without a value are drawn from their prior."""
        return run(self.program, cells or self.cells, values, fits)

    def log_parts(
        self, z: Tensor, assignment: Tensor | None = None, cells: Cells | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log prior (with Jacobian) and log likelihood, each float64 [fit].

        `assignment` [fit, type, annotator]: take the annotators' types as known. `cells`: instead of the view's.
        """
        values, log_prior = self.values(z)
        met = self.run(values, len(z), self._judged if cells is None else cells).met
        for name in self.sites:
            log_prior = log_prior + total(met[name]["fn"].log_prob(met[name]["value"]))
        outcome = met["outcome"]
        if assignment is None:
            observed = [site for site in met.values() if site["is_observed"] and not site["deterministic"]]
            return log_prior, sum(
                (total(site["fn"].log_prob(site["value"])) for site in observed), torch.zeros_like(log_prior)
            )
        return log_prior, total(outcome["fn"].assigned_log_prob(outcome["value"], assignment))

    def log_joint(self, z: Tensor) -> Tensor:
        """Return log p(z, data) float64 [fit] of z [fit, dimension]."""
        log_prior, log_likelihood = self.log_parts(z)
        return log_prior + log_likelihood

    @cached_property
    def few(self) -> Cells:
        """A comparison that is enough to run the program for its latent sites: of two items, if these are the same."""
        one = self.cells.head(1)
        alone = self._features.numel() > _FEW and self._is_same(one, lambda: meeting(one), 0)
        return meeting(one) if alone else one

    @cached_property
    def probe(self) -> View:
        """A view of a few cells, spread over all, on the CPU; the view itself where it has no more.

        A layer that looks there for somebody who is not in it makes an error, which would end an accelerator.
        """
        cells, step = self.cells, -(-len(self.cells) // EXACT)
        if step > 1 and cells.pairwise:
            cells = cells.take(torch.arange(0, len(cells), step, device=self.device))
        here = cells if self.device.type == "cpu" else cells.to("cpu")
        return self if here is self.cells else View(self.program, here)

    @cached_property
    def differences(self) -> Tensor:
        """By how much features differ within comparisons [comparison + 1, feature], see `apart.differing`."""
        return differing(self.cells)

    @cached_property
    def _judged(self) -> Cells:
        """The cells as their likelihood is worked out.

        Where features describe more items than there are comparisons, and utilities are linear in them, these are
        differences within comparisons.
        """
        cells = self.cells
        alone = cells.pairwise and cells.ratings is None and len(cells) + 1 < cells.n_items
        if not alone or self._features.numel() <= _FEW:
            return cells
        some = cells.at(slice(None, None, -(-len(cells) // _PROBE)))
        linear = self._is_same(some, lambda: opposed(some, differing(some)), 1)
        return opposed(cells, self.differences) if linear else cells

    def _is_same(self, cells: Cells, other: Callable[[], Cells], part: int) -> bool:
        """Whether a part of `log_parts` is with other cells what it is with these: that is looked at in two places."""
        z = torch.linspace(-1.0, 1.0, 2 * self.dimension, dtype=self.dtype, device=self.device).sin().reshape(2, -1)
        try:
            there = View(self.program, other())
            if there.sites != self.sites:
                return False
            here, found = (self.log_parts(z, cells=each)[part] for each in (cells, there.cells))
        except UNTOLD:
            return False
        return torch.allclose(here, found, rtol=_SAME, atol=0.0)

    @cached_property
    def _step_cells(self) -> Cells:
        """The cells as stochastic steps read them."""
        cells, count = self.cells, len(self.cells)
        if count < _SINGLE:
            return cells
        if cells.pairwise:
            # neighbours no longer share an item: sums over items would wait for one another
            order = torch.arange(-(-count // _STREAMS) * _STREAMS, device=self.device).reshape(_STREAMS, -1).T.flatten()
            cells = cells.take(order[order < count])
        return cells.in_single_precision()

    @cached_property
    def _light_cells(self) -> Cells:
        """The cells as draws are weighed: of a large table in single precision."""
        return self._judged if len(self.cells) < _LIGHT else self._judged.in_single_precision()

    @cached_property
    def _step_parts(self) -> list[Cells]:
        return self._parts(self._step_cells)

    def _parts(self, cells: Cells) -> list[Cells]:
        """Return cells in parts: of a large table of a program that is a sum over comparisons, and little else."""
        small = len(cells) < _TRACED or self.device.type != "cpu"
        if small or self.n_types > 1 or "utility" not in self.sites or not cells.pairwise or cells.ratings is not None:
            return [cells]
        size = math.ceil(len(cells) / math.ceil(self._held / _PART))
        return [cells.at(slice(start, start + size)) for start in range(0, len(cells), size)]

    @property
    def _terms(self) -> int:
        """How many densities of parts of the cells add up to the whole, each with its share of the prior."""
        return len(self._step_parts)

    def value_and_slope(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log_joint` of many vectors and its gradient [fit, dimension], in passes of bounded memory.

        For stochastic steps: the comparisons of a large table are worked out in single precision, and summed in double.
        """
        with environment(self.dtype, device=self.device):  # a graph makes tensors as the program did
            return self._in_passes(z, self._step_parts, self._pass)

    def _in_passes(self, z: Tensor, parts: list[Cells], one: Function) -> tuple[Tensor, Tensor]:
        """Return sums over parts of the value and slope that `one` has of few vectors and a part."""
        value, slope = z.new_zeros(len(z), dtype=torch.float64), torch.zeros_like(z)
        fits = self._fits(len(parts))
        for few, whole, steep in zip(z.split(fits), value.split(fits), slope.split(fits), strict=True):
            for cells in parts:
                more, steeper = one(few, cells)
                whole += more  # views of what is returned
                steep += steeper
        return value, slope

    def _pass(self, z: Tensor, cells: Cells) -> tuple[Tensor, ...]:
        """Return value and slope of a part, by a graph if the table is large."""
        if len(self.cells) < _TRACED or self.device.type != "cpu":  # elsewhere whole steps are captured
            return self._one_pass(z, cells)
        columns = cells.columns()
        if (len(z), len(cells)) not in self._graphs:
            self._graphs[len(z), len(cells)] = traced(
                lambda z, *values: self._one_pass(z, cells.with_columns(dict(zip(columns, values, strict=True)))),
                (z, *columns.values()),
            )
        return self._graphs[len(z), len(cells)](z, *columns.values())

    @torch.enable_grad()
    def _one_pass(self, z: Tensor, cells: Cells, terms: float | None = None) -> tuple[Tensor, Tensor]:
        free = z.detach().requires_grad_()
        log_prior, log_likelihood = self.log_parts(free, cells=cells)
        value = log_prior / (terms or self._terms) + log_likelihood
        (slope,) = torch.autograd.grad(value.sum(), free)
        return value.detach(), slope

    def log_likelihood(self, z: Tensor) -> Tensor:
        """Return log p(data | z) float64 [fit]: the objective of `mle`."""
        return self.log_parts(z)[1]

    @property
    def work(self) -> int:
        """Cell evaluations of one density: comparisons x outcomes (x types), and as many as features take."""
        return max(1, len(self.cells) * len(self.cells.outcomes) + self._features.numel() // _PRODUCTS) * self.n_types

    @property
    def _held(self) -> int:
        """Numbers that one density of a pass holds; what they are made from, features too, serves all of a pass."""
        return max(1, len(self.cells) * len(self.cells.outcomes), len(self._features)) * self.n_types

    def _fits(self, parts: int = 1) -> int:
        """How many densities are worked out in a pass of one of so many parts of the cells.

        Features are read once in a pass, so that many of them are read for many densities.
        """
        room = max(self._room, self._features.numel() // _READ)
        return max(1, room * parts // self._held)

    @property
    def _features(self) -> Tensor:
        found = self.cells.features if "features" in self.program.needs else None
        return self.cells.total[:0] if found is None else found

    def chunks(self, z: Tensor) -> tuple[Tensor, ...]:
        """Split a large batch so that one pass fits in memory."""
        return z.split(self._fits())

    @torch.no_grad()
    def log_joint_of(self, z: Tensor) -> Tensor:
        """Return `log_joint` of many vectors, without gradient, in passes of bounded memory.

        Of a large table in single precision, which is off by less than .01 nats for a hundred thousand comparisons.
        """
        parts = self._parts(self._light_cells)

        def one(few: Tensor) -> tuple[Tensor, ...]:
            pairs = [self.log_parts(few, cells=cells) for cells in parts]
            return (pairs[0][0] + sum(log_likelihood for _, log_likelihood in pairs),)

        return self._over_passes(z, one, len(parts))

    def _over_passes(self, z: Tensor, one: Function, parts: int = 1) -> Tensor:
        """Return what `one` says of few vectors [few, ...] for many, in passes: of very many by a graph."""
        passes = z.split(self._fits(parts))
        often = len(passes) >= _OFTEN and parts == 1 and self.device.type == "cpu"
        again = traced(one, passes[:1]) if often else one
        with environment(self.dtype, device=self.device):  # a graph makes tensors as the program did
            return torch.cat([(again if len(few) == len(passes[0]) else one)(few)[0] for few in passes])

    def slopes_of(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log_joint_of` many vectors and its gradient [draw, dimension]."""
        parts = self._parts(self._light_cells)
        return self._in_passes(z, parts, lambda few, cells: self._one_pass(few, cells, len(parts)))

    @torch.no_grad()
    def constrain(self, z: Tensor, names: Collection[str] = ()) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
        """Return every latent and deterministic site [fit, ...] in its own units, and the dims behind `fit`.

        `names`: of these sites only.
        """
        few, out = self.cells.head(1), {}
        shapes = {name: site.batch + site.event for name, site in self.sites.items()}
        dims = {name: site.dims for name, site in self.sites.items()} | self.derived
        size = self._fits() if len(self._features) else max(1, self._room // max(1, self.dimension))
        for start in range(0, max(1, len(z)), size):
            part = z[start : start + size]
            values, _ = self.values(part)
            met = self.run(values, len(part), few).met
            for name in names or [*self.sites, *self.derived]:
                value = met[name]["value"]
                shape = shapes.get(name, tuple(value.shape[value.dim() - len(dims[name]) :]))
                if name not in out:  # in its place at once: utilities of many items are gigabytes
                    out[name] = value.new_empty(len(z), *shape)
                out[name][start : start + size] = value.reshape(len(part), *shape)
        return out, dims

    @torch.no_grad()
    def type_probability(self, z: Tensor) -> Tensor:
        """Return p(type of annotator | data, z) [fit, annotator, type] of a program with types."""

        def one(few: Tensor) -> tuple[Tensor, ...]:
            outcome = self.run(self.values(few)[0], len(few), self._light_cells).met["outcome"]
            return (outcome["fn"].type_probability(outcome["value"]).to(self.dtype),)

        return self._over_passes(z, one)
