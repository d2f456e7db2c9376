"""The log prior of a program with its derivatives: given the scalars, the entries of every site are independent.

So its Hessian is a row for each scalar that the prior of others hangs on, and a diagonal for all the rest. Where these
scalars are held, what the program gives every site does not change: it is run once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import AffineTransform, ComposeTransform, Transform

from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.site import Site
from prefdensity.inference.view import View
from prefdensity.programs.running import environment

# Newton's steps of `likeliest`: how many, the longest, the last, and the least curvature that they follow.
_STEPS, _LONGEST, _NEAR, _FLATTEST = 10, 1.0, 1e-3, 0.25


@dataclass(frozen=True, eq=False)
class Prior:
    """The log prior at some places, and what its Hessian has.

    Attributes
    ----------
    value, gradient
        [fit] and [fit, dimension].
    diagonal
        [fit, dimension], 0 at the scalars that have a row.
    rows
        Coordinate of each scalar that others hang on, with its row [fit, dimension], 0 where an earlier one has it.
    """

    value: Tensor
    gradient: Tensor
    diagonal: Tensor
    rows: tuple[tuple[int, Tensor], ...] = ()

    @property
    def own(self) -> Tensor:
        """The whole diagonal of the Hessian [fit, dimension]."""
        out = self.diagonal.clone()
        for k, row in self.rows:
            out[:, k] += row[:, k]
        return out

    def add_to(self, hessian: Tensor) -> None:
        """Add the Hessian to one [fit, dimension, dimension]."""
        hessian.diagonal(dim1=-2, dim2=-1).add_(self.diagonal)
        self.add_rows_to(hessian)

    def add_rows_to(self, matrix: Tensor, sign: float = 1.0) -> None:
        """Add what the scalars have in the Hessian, their rows and columns, by a sign."""
        for k, row in self.rows:
            matrix[:, k] += sign * row
            matrix[:, :, k] += sign * row
            matrix[:, k, k] -= sign * row[:, k]

    def at(self, places: Tensor) -> Prior:
        """Return the same at some of the places [place]."""
        rows = tuple((k, row[places]) for k, row in self.rows)
        return Prior(self.value[places], self.gradient[places], self.diagonal[places], rows)

    def averaged(self, weight: Tensor) -> Prior:
        """Return the average over places of so much weight each [fit], as one place."""

        def mean(values: Tensor) -> Tensor:
            return (weight[:, None] * values).sum(0, keepdim=True)

        value = (weight @ self.value.to(weight))[None]
        rows = tuple((k, mean(row)) for k, row in self.rows)
        return Prior(value, mean(self.gradient), mean(self.diagonal), rows)


def log_prior(view: View, z: Tensor) -> Prior:
    """Return the log prior at z [fit, dimension]."""
    free = z.detach().requires_grad_()
    values, log_det = view.values(free)
    met = view.run(values, len(free), view.few).met
    value = log_det + sum(_summed(met[name]["fn"], met[name]["value"]) for name in view.sites)
    return _derived(value, free, bending(view))


def _summed(law: torch.distributions.Distribution, value: Tensor) -> Tensor:
    return law.log_prob(value).flatten(1).sum(-1)  # type: ignore[no-any-return,no-untyped-call]


def _derived(value: Tensor, free: Tensor, bent: tuple[int, ...]) -> Prior:
    (gradient,) = torch.autograd.grad(value.sum(), free, create_graph=True)
    if not gradient.requires_grad:
        return Prior(value.detach(), gradient.detach(), torch.zeros_like(gradient))
    rows: list[tuple[int, Tensor]] = []
    for k in bent:
        (row,) = torch.autograd.grad(gradient[:, k].sum(), free, retain_graph=True)
        for earlier, _ in rows:
            row[:, earlier] = 0.0
        rows.append((k, row))
    (diagonal,) = torch.autograd.grad(gradient.sum(), free)
    for k, row in rows:  # the sum over a column of the Hessian has its entries in their rows as well
        diagonal -= row
        diagonal[:, k] = 0.0
    return Prior(value.detach(), gradient.detach(), diagonal, tuple(rows))


def bending(view: View) -> tuple[int, ...]:
    """Return the coordinates of the scalars that the prior of others hangs on; worked out once for a view."""
    if "bending" not in view.memo:
        z = torch.linspace(-1.0, 1.0, view.dimension, dtype=view.dtype, device=view.device).sin()
        scalars = tuple(site.at.start for site in view.sites.values() if site.is_scalar)
        view.memo["bending"] = scalars  # to begin with, any may
        moved = {k: row.clone() for k, row in log_prior(view, z[None]).rows}
        for k, row in moved.items():
            row[0, k] = 0.0
        view.memo["bending"] = tuple(k for k in scalars if k in moved and bool((moved[k] != 0).any()))
    found: tuple[int, ...] = view.memo["bending"]
    return found


def likeliest(view: View, z: Tensor, spread: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scalars `at` [scalar] that make the rest likeliest, and their standard deviations were it known.

    The rest is independent about z [dimension], with standard deviations `spread` [dimension]: a step of expectation
    and maximisation from scalars given which it is so (Dempster, Laird and Rubin 1977, JRSS-B 39, 1-38).
    """
    nodes, weight = z.new_tensor([-(3**0.5), 0.0, 3**0.5]), z.new_tensor([1 / 6, 2 / 3, 1 / 6])  # Gauss and Hermite's
    around = z + nodes[:, None] * spread
    for _ in range(_STEPS):
        known = log_prior(view, around).averaged(weight)
        rows = dict(known.rows)
        upper = torch.stack([rows[k][0, at] for k in at.tolist()])  # what an earlier row has is 0
        curvature = upper.diagonal().diag() - upper - upper.T
        values, vectors = torch.linalg.eigh(curvature)
        step = vectors @ ((vectors.T @ known.gradient[0, at]) / values.clamp_min(_FLATTEST))
        around[:, at] += step.clamp(-_LONGEST, _LONGEST)
        if float(step.abs().max()) < _NEAR:
            break
    return around[0, at], curvature.diagonal().clamp_min(_FLATTEST).rsqrt()


class Given:
    """The log prior while the scalars that others hang on stay what they are at `z` [fit, dimension].

    Derivatives by them are left out. What is normal given them has the derivatives of a parabola.
    """

    def __init__(self, view: View, z: Tensor) -> None:
        self.view, self._held = view, bending(view)
        self._laws: dict[str, tuple[torch.distributions.Distribution, torch.Size]] = {}
        with torch.no_grad():
            met = view.run(view.values(z)[0], len(z), view.few).met
            laws = {name: (met[name]["fn"], met[name]["value"].shape) for name in view.sites}
            stay = {name: law for name, law in laws.items() if view.sites[name].at.start in self._held}
            self._stays = self._value(z, stay)
        self._parabolas: list[_Parabola] = []
        for name, (law, shape) in laws.items():
            if name in stay:
                continue
            if (normal := _normal(law, view.sites[name])) is None:
                self._laws[name] = law, shape
            else:
                self._parabolas.append(_parabola(view.sites[name].at, normal, shape))

    @property
    def is_normal(self) -> bool:
        """Whether all that is not held is normal."""
        return not self._laws

    def __call__(self, z: Tensor) -> Prior:
        """Return the log prior at z [fit, dimension]."""
        found = self._others(z) if self._laws else _nothing(z)
        found.value.add_(self._stays)
        for k in self._held:
            found.gradient[:, k] = 0.0
            found.diagonal[:, k] = 0.0
        for each in self._parabolas:
            each.add_to(found, z)
        return found

    def _others(self, z: Tensor) -> Prior:
        free = z.detach().requires_grad_()
        with environment(self.view.dtype, device=self.view.device):
            return _derived(self._value(free, self._laws), free, ())

    def _value(self, z: Tensor, laws: dict[str, tuple[torch.distributions.Distribution, torch.Size]]) -> Tensor:
        """Return the log density [fit] of some sites at z [fit, dimension]."""
        values, log_det = self.view.values(z, laws)
        return sum((_summed(law, values[name].reshape(as_)) for name, (law, as_) in laws.items()), log_det)


def _nothing(z: Tensor) -> Prior:
    return Prior(z.new_zeros(len(z), dtype=torch.float64), torch.zeros_like(z), torch.zeros_like(z))


@dataclass(frozen=True, eq=False)
class _Parabola:
    """The log density of normal entries, `at` some place: `top` [fit] at `middle`, of a `precision` [fit, entry]."""

    at: slice
    middle: Tensor
    precision: Tensor
    top: Tensor

    def add_to(self, prior: Prior, z: Tensor) -> None:
        """Add what they say at z [fit, dimension]."""
        away = z[:, self.at] - self.middle
        slope = self.precision * away
        prior.value.add_(self.top - 0.5 * (slope * away).sum(-1))
        prior.gradient[:, self.at] -= slope
        prior.diagonal[:, self.at] -= self.precision


def _normal(law: torch.distributions.Distribution, site: Site) -> torch.distributions.Normal | None:
    """Return the law of a site in the coordinates of a vector if it is normal there."""
    base = law.base_dist if isinstance(law, torch.distributions.Independent) else law
    if not isinstance(base, torch.distributions.TransformedDistribution):
        return base if isinstance(base, torch.distributions.Normal) and site.is_identity else None
    normal = base.base_dist
    return normal if isinstance(normal, torch.distributions.Normal) and base.transforms == _steps_of(site) else None


def _steps_of(site: Site) -> list[Transform]:
    """Return how values come from the vector, but for what changes nothing."""
    parts = site.transform.parts if isinstance(site.transform, ComposeTransform) else [site.transform]
    return [each for each in parts if not (isinstance(each, AffineTransform) and _changes_nothing(each))]


def _changes_nothing(affine: AffineTransform) -> bool:
    numbers = affine.loc, affine.scale
    return not any(isinstance(each, Tensor) for each in numbers) and numbers == (0, 1)


def _parabola(at: slice, law: torch.distributions.Normal, shape: torch.Size) -> _Parabola:
    middle, deviation = (each.expand(shape).flatten(1) for each in (law.loc, law.scale))
    top = -deviation.log().sum(-1) - 0.5 * middle.shape[-1] * LOG_2PI
    return _Parabola(at, middle, deviation.square().reciprocal(), top)
