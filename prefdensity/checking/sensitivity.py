"""How the probabilities of all outcomes change with parameters, near one place: Jacobians found by running.

Row by row (hidden type of who judged, comparison, outcome), log probabilities have a sparse Jacobian J in the
parameters. With D the expected counts of the rows, J'DJ is the expected information, and J'n the score of counts n.
Which entries of a site a comparison feels is guessed from the site's plates, its own annotator and its own two items,
and then checked against an automatic derivative; a site of another kind is taken entry by entry. The program and its
derivatives are run where it was fitted; J is copied to the CPU, where sparse products and factors are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import splu
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.inference.mode import prior_draws
from prefdensity.inference.prior import log_prior
from prefdensity.inference.site import Site
from prefdensity.inference.view import View
from prefdensity.programs.apart import sides
from prefdensity.programs.cells import Cells
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

Array = NDArray[np.float64]

# Entries that are taken one by one: of a site, and times rows; how well a guess must agree with a derivative.
_ENTRIES, _DENSE, _OFF = 64, 30_000_000, 1e-7
_FULL = 3000  # parameters whose information is factored as a full matrix
_DRAWN, _PAIRS = 1_000_000, (4, 32)  # rows that draws about the point have in all; how many pairs of draws there are


@dataclass(frozen=True, eq=False)
class CellRows:
    """The rows that a program on some cells has: (type, comparison, outcome), the last fastest.

    Attributes
    ----------
    count
        How many there are.
    around
        Name of a plate (item, annotator, category, ...) -> which of its entries each row is about, int64 [row] each:
        two items, one of everything else.
    """

    count: int
    around: dict[str, tuple[Tensor, ...]]

    @property
    def device(self) -> torch.device:
        """Where the cells are."""
        return self.around["item"][0].device

    @classmethod
    def of(cls, cells: Cells, types: int) -> CellRows:
        """Return the rows of a program with so many hidden types of annotators (1: none)."""
        k = len(cells.outcomes)
        around = {
            name: tuple(each.repeat_interleave(k).repeat(types) for each in entries)
            for name, entries in sides(cells).items()
        }
        return cls(len(cells) * k * types, around)


def log_probabilities(view: View, values: dict[str, Tensor]) -> Tensor:
    """Return the log probabilities [row] that a program gives with these values of its sites, for one fit."""
    found = view.run(values, 1).met["outcome"]["fn"]
    if not hasattr(found, "outcome_log_prob"):
        raise ProgramError(f"{view.program.name} does not tell the probabilities of outcomes")
    table: Tensor = found.outcome_log_prob
    return table.flatten()


def jacobian(function: Callable[[Tensor], Tensor], x: Tensor, sites: list[Site], rows: CellRows) -> sp.csr_array:
    """Return the sparse Jacobian [row, entry] of log probabilities [row] at x [entry], where `sites` lie in x.

    Sites whose entries are no independent numbers are left out: their columns are 0.

    Raises
    ------
    ProgramError
        If a row feels very many entries of a site.
    """
    slope = _directional(function, x)
    found = [
        each
        for site in sites if slope is not None and site.raw_event == site.event
        for each in _entries(site, slope, len(x), rows)
    ]  # fmt: skip
    shape = (rows.count, len(x))
    if not found:
        return sp.csr_array(shape)
    # [row, of the same number each]
    place, value = (torch.stack(each, 1).cpu().numpy() for each in zip(*found, strict=True))
    out = sp.csr_array((value.ravel(), place.ravel(), np.arange(rows.count + 1) * len(found)), shape)
    out.sum_duplicates()
    out.eliminate_zeros()
    return out


def scaled(matrix: sp.csr_array, weight: Array) -> sp.csr_array:
    """Return a matrix [row, ...] with its rows times weights [row]."""
    data = matrix.data * np.repeat(weight, np.diff(matrix.indptr))
    return sp.csr_array((data, matrix.indices, matrix.indptr), matrix.shape)


def _directional(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor] | None:
    """Return direction [entry] -> derivative [row]: a backward pass through a backward pass."""
    free = x.detach().requires_grad_()
    value = function(free)
    if not value.requires_grad:
        return None
    weight = torch.zeros_like(value, requires_grad=True)
    # sums, for torch imports a system of computer algebra where it is given weights
    (pulled,) = torch.autograd.grad((value * weight).sum(), free, create_graph=True)
    return lambda direction: torch.autograd.grad((pulled * direction).sum(), weight, retain_graph=True)[0].detach()


def _entries(site: Site, slope: Callable[[Tensor], Tensor], size: int, rows: CellRows) -> list[tuple[Tensor, Tensor]]:
    """Return (column [row], value [row]) of the entries of one site that rows feel."""

    def along(part: Tensor) -> Tensor:
        direction = part.new_zeros(size)
        direction[site.at] = part.flatten()
        return slope(direction)

    shape = site.batch + site.event
    few = math.prod(n for n, name in zip(shape, site.dims, strict=True) if name not in rows.around)
    if few <= _ENTRIES and site.dims.count("item") < 2:
        found = _read(site.dims, shape, along, rows)
        trial = torch.linspace(0.0, 3.0, math.prod(shape), dtype=torch.float64, device=rows.device).sin() + 0.1
        there = along(trial.reshape(shape))
        guessed = torch.zeros_like(there)
        for place, value in found:
            guessed += trial[place] * value
        if float((there - guessed).abs().max()) <= _OFF * max(1e-12, float(there.abs().max())):
            return [(place + site.at.start, value) for place, value in found]
    if math.prod(shape) * rows.count > _DENSE:
        raise ProgramError(f"every judgement feels many entries of {site.name!r}, which are too many to try")
    one = torch.eye(math.prod(shape), dtype=torch.float64, device=rows.device)
    place = torch.full((rows.count,), site.at.start, device=rows.device)
    return [(place + k, along(one[k])) for k in range(len(one))]


def _read(
    dims: tuple[str, ...], shape: tuple[int, ...], along: Callable[[Tensor], Tensor], rows: CellRows
) -> list[tuple[Tensor, Tensor]]:
    """Return (place in the site [row], derivative [row]) of what rows feel, if that is what their plates say."""
    own = [name if name in rows.around else "" for name in dims]
    item_a, item_b = rows.around["item"]
    found = []
    for entry in itertools.product(*(range(1 if name else n) for n, name in zip(shape, own, strict=True))):
        chosen = tuple(slice(None) if name else k for k, name in zip(entry, own, strict=True))
        mark = torch.zeros(shape, dtype=torch.float64, device=rows.device)
        mark[chosen] = 1.0
        places = []
        for side in (0, 1):
            place = torch.zeros_like(item_a)
            for n, name, k in zip(shape, own, entry, strict=True):
                place = place * n + (rows.around[name][side if name == "item" else 0] if name else k)
            places.append(place)
        both = along(mark)
        if "item" not in own:
            found.append((places[0], both))
            continue
        # the sum of the two derivatives, and the sum weighted by numbers of the items, give the two
        axis = own.index("item")
        number = torch.arange(1.0, shape[axis] + 1, dtype=torch.float64, device=rows.device) / shape[axis]
        weighted = along(mark * number.reshape(*(-1 if k == axis else 1 for k in range(len(shape)))))
        a, b = number[item_a], number[item_b]
        first = (weighted - b * both) / (a - b)
        found += [(places[0], first), (places[1], both - first)]
    return found


class Fit:
    """A program at its fit: expected counts, information, and what the prior adds to it.

    Parameters
    ----------
    post, data
        The fit and its table.
    needs
        What layers will read that are tried, beside who judged, the order and covariates.

    Attributes
    ----------
    view, z
        The program on the cells, apart by all that the table records, and the point [dimension].
    values
        The same by site.
    log_p, observed, expected
        Log probabilities, counts, and expected counts of rows [row]; of hidden types, each with its share.
    share, total
        Probability of the type of who judged, and judgements of the cell [row].
    felt
        Coordinates that judgements feel, int [felt].
    slopes
        The Jacobian [row, felt].
    held, precision
        Precision of the prior [felt], and with the information [felt, felt].
    """

    def __init__(self, post: Posterior, data: Comparisons, needs: Sequence[str] = ()) -> None:
        program = post.program
        cells = cells_of(data, program.outcomes, ("annotator", "first", "covariates", *program.needs, *needs))
        assert cells.outcome is not None
        self.view = View(program, cells.to(post.device))
        self.prior = post.status.method != "mle"
        self.z = _point(self.view, post)
        self.values = self.view.values(self.z[None])[0]
        types, outcomes = self.view.n_types, len(cells.outcomes)
        self.rows = CellRows.of(self.view.cells, types)
        share = torch.ones(self.rows.count, dtype=torch.float64)
        if types > 1:
            assert cells.annotator is not None
            share = self.view.type_probability(self.z[None])[0].cpu().T[:, cells.annotator].flatten()
            share = share.repeat_interleave(outcomes)
        self.share = share.numpy()
        self.total = cells.total.repeat_interleave(outcomes).repeat(types).numpy()
        self.observed = cells.outcome.flatten().repeat(types).numpy() * self.share
        with torch.no_grad():
            self.log_p = self._own(self.z).cpu().numpy()
        self.expected = np.exp(self.log_p) * self.total * self.share
        free = [site for name, site in self.view.sites.items() if name not in post.at_mode]
        slopes = jacobian(self._own, self.z, free, self.rows)
        diagonal = slopes.power(2).T @ self.expected
        known = np.ones(len(self.z), bool)
        for spread in (name for layer in program.layers for name in layer.spread):
            known[self.view.sites[spread].at] = False  # it moves nothing that its offsets do not move
        self.felt = np.flatnonzero(known & (diagonal > 1e-12 * diagonal.max(initial=0.0)))
        self.slopes = slopes[:, self.felt]
        self.held = self._held(1e-9 * float(diagonal.max(initial=1.0)))[self.felt]
        information = self.slopes.T @ scaled(self.slopes, self.expected)
        self.precision = sp.csc_array(information + sp.diags_array(self.held))

    def _own(self, z: Tensor) -> Tensor:
        return log_probabilities(self.view, self.view.values(z[None])[0])

    def _held(self, least: float) -> Array:
        """Return the precision [dimension] of the prior, and at least so much: utilities may have a common shift."""
        held = np.full(len(self.z), least)
        if self.prior:
            held += np.maximum(-log_prior(self.view, self.z[None]).own[0].cpu().numpy(), 0.0)
        return held

    @cached_property
    def _factor(self) -> Any:
        dense = len(self.felt) <= _FULL
        return cho_factor(self.precision.toarray()) if dense else splu(self.precision.tocsc())

    def solve(self, x: Array) -> Array:
        """Return (information + prior)^-1 x [felt, ...]."""
        return np.asarray(cho_solve(self._factor, x) if isinstance(self._factor, tuple) else self._factor.solve(x))

    @cached_property
    def around(self) -> Tensor:
        """Draws [draw, dimension] of a Gaussian about the point, each with its mirror image.

        Of the coordinates felt, with the information and the prior for its precision.
        """
        rng = np.random.default_rng(0)
        pairs = int(np.clip(_DRAWN // len(self.expected), *_PAIRS))
        noise = rng.normal(size=(len(self.expected), pairs)) * np.sqrt(self.expected)[:, None]
        held = np.sqrt(self.held)[:, None] * rng.normal(size=(len(self.felt), pairs))
        away = torch.zeros(pairs, len(self.z), dtype=torch.float64)
        away[:, self.felt] = torch.as_tensor(self.solve(self.slopes.T @ noise + held).T)
        away = away.to(self.z)
        return torch.cat([self.z + away, self.z - away])

    @cached_property
    def steps(self) -> Array:
        """From the point to where the gradient, averaged over a draw and its mirror image, is 0 [felt, pair].

        On average over all pairs that is the mean of the posterior.
        """
        log_density = self.view.log_joint if self.prior else self.view.log_likelihood
        found = []
        for few in self.view.chunks(self.around):
            free = few.requires_grad_()
            found.append(torch.autograd.grad(log_density(free).sum(), free)[0].cpu().numpy()[:, self.felt])
        return self.solve(in_pairs(np.concatenate(found)).T)


def in_pairs(values: Array) -> Array:
    """Return the means [pair, ...] of the values at draws [draw, ...] and at their mirror images."""
    return (values[: len(values) // 2] + values[len(values) // 2 :]) / 2


def _point(view: View, post: Posterior) -> Tensor:
    """Return the point of a posterior as a vector [dimension]."""
    z = prior_draws(view, 8, seed=0).mean(0)  # what no judgement feels has no point in some fits
    for name, site in view.sites.items():
        if name in post.point:
            value = torch.as_tensor(np.asarray(post.point[name]), dtype=torch.float64).to(z)
            z[site.at] = site.transform.inv(value.reshape(site.batch + site.event)).flatten()
    return z
