"""Gaussians of hyperparameters and the rest given them, and mixtures of Gaussians over the whole vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Mode
from prefdensity.inference.precision import Gaussian
from prefdensity.posterior.psis import systematic

# Entries of draws that are made, and whose density is worked out, together.
_ENTRIES = 2**20
# Dimension up to which all components are looked at together, and how many numbers are held on the way.
_SMALL, _TOGETHER = 50, 4_000_000


@dataclass(frozen=True)
class Joint:
    """Hyperparameters h = A e and the rest, given them: slope h + F e.

    `hyper` and `free` are their coordinates; A is `axes`; `inner` makes the Gaussian F e when it is needed: many
    large ones would not fit in memory side by side.
    """

    hyper: Tensor
    free: Tensor
    axes: Tensor
    slope: Tensor
    inner: Callable[[], Gaussian]
    log_det: float
    log_det_error: float

    def scale(self, noise: Tensor) -> Tensor:
        """See `Gaussian`."""
        inner, out = self.inner(), torch.empty_like(noise)
        step = max(1, _ENTRIES // noise.shape[-1])
        for few, place in zip(noise.split(step), out.split(step), strict=True):
            place[:, self.hyper] = few[:, self.hyper] @ self.axes.T
            place[:, self.free] = inner.scale(few[:, self.free]).addmm_(place[:, self.hyper], self.slope.T)
        return out

    def square(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        hyper = x[:, self.hyper]
        outer = (torch.linalg.solve(self.axes, hyper.T) ** 2).sum(0)
        return outer + self.inner().square(torch.addmm(x[:, self.free], hyper, self.slope.T, alpha=-1))

    def covariance(self, x: Tensor) -> Tensor:
        """See `Gaussian`."""
        hyper = self.axes @ (self.axes.T @ (x[self.hyper] + self.slope.T @ x[self.free]))
        out = torch.empty_like(x)
        out[self.hyper] = hyper
        out[self.free] = self.slope @ hyper + self.inner().covariance(x[self.free])
        return out

    def frame(self) -> Tensor:
        """See `Gaussian`."""
        inner = self.inner().frame()
        size = len(self.hyper) + len(self.free)
        if inner.dim() == 1:
            scales = inner.new_empty(size)
            scales[self.free] = inner
            scales[self.hyper] = self.axes.norm(dim=1)
            return scales
        frame = inner.new_zeros(size, size)
        frame[self.hyper[:, None], self.hyper[None]] = self.axes
        frame[self.free[:, None], self.hyper[None]] = self.slope @ self.axes
        frame[self.free[:, None], self.free[None]] = inner
        return frame


@dataclass(frozen=True, eq=False)
class Remainder:
    """What the Gaussians of a mixture leave out, by estimate.

    `terms` [term, component, dimension] of their means; `log_evidence` [component] (nats).
    """

    terms: Tensor
    log_evidence: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Remainder | None]) -> Remainder | None:
        """Return that of several mixtures together; None where one has none."""
        known = [each for each in parts if each is not None]
        if len(known) < len(parts):
            return None
        return cls(torch.cat([each.terms for each in known], 1), torch.cat([each.log_evidence for each in known]))

    def only(self, rows: Tensor) -> Remainder:
        """Return that of these components [component, bool]."""
        return Remainder(self.terms[:, rows], self.log_evidence[rows])


@dataclass(frozen=True, eq=False)
class Mixture:
    """Gaussian components z = base + F e over the whole vector.

    Attributes
    ----------
    weight
        [component], sums to 1.
    base
        [component, dimension].
    spread
        Per component, the Gaussian about its base.
    mode
        Where the point estimate is: the conditional mode at the likeliest hyperparameters.
    log_evidence
        Laplace estimate of log p(data), summed over the grid (nats).
    whole
        One Gaussian about the mode in the place of all components.
    matched
        Whether means and covariances are meant to be those of the posterior, and not those of a peak.
    remainder
        What they leave out, where that is known.
    """

    weight: Tensor
    base: Tensor
    spread: tuple[Gaussian, ...]
    converged: bool
    iterations: int
    mode: Mode
    log_evidence: float
    whole: Gaussian
    matched: bool = False
    remainder: Remainder | None = None

    @classmethod
    def joined(cls, parts: Sequence[Mixture]) -> Mixture:
        """Return one mixture of several modes, each by its evidence; the point is that of the first."""
        if len(parts) == 1:
            return parts[0]
        evidence = parts[0].weight.new_tensor([each.log_evidence for each in parts])
        share = evidence.softmax(0)
        return cls(
            weight=torch.cat([mine * each.weight for mine, each in zip(share, parts, strict=True)]),
            base=torch.cat([each.base for each in parts]),
            spread=tuple(spread for each in parts for spread in each.spread),
            converged=all(each.converged for each in parts),
            iterations=sum(each.iterations for each in parts),
            mode=parts[0].mode,
            log_evidence=float(evidence.logsumexp(0)),
            whole=parts[0].whole,
            matched=all(each.matched for each in parts),
            remainder=Remainder.joined([each.remainder for each in parts]),
        )

    def only(self, rows: Tensor) -> Mixture:
        """Return these components [component, bool], with the evidence that they hold."""
        held = self.weight[rows].sum()
        return replace(
            self,
            weight=self.weight[rows] / held,
            base=self.base[rows],
            spread=tuple(spread for spread, own in zip(self.spread, rows.tolist(), strict=True) if own),
            log_evidence=self.log_evidence + float(held.log()),
            remainder=None if self.remainder is None else self.remainder.only(rows),
        )

    def nearer(self, z: Tensor, other: Tensor) -> Tensor:
        """Say of which z [place, dimension] the mode is nearer than `other` [dimension], by the spread about it."""
        return self.whole.square(z - self.mode.z) < self.whole.square(z - other)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""
        z, log_q, _ = self.drawn(draws, generator)
        return z, log_q

    def drawn(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return z [draw, dimension], log q [draw] and of which component each is, int64 [draw].

        Each component has its share of them, but for less than one draw.
        """
        pick = systematic(self.weight.cpu(), draws, generator)
        noise = torch.randn(draws, self.base.shape[-1], generator=generator, dtype=torch.float64).to(self.base)
        if len(self.weight) == 1:
            square = torch.linalg.vector_norm(noise, dim=-1) ** 2
            log_q = -0.5 * square - self.spread[0].log_det - 0.5 * noise.shape[-1] * LOG_2PI
            return self.spread[0].scale(noise).add_(self.base[0]), log_q, pick
        z = noise  # takes its place, row by row
        for k, spread in enumerate(self.spread):
            rows = (pick == k).nonzero()[:, 0].to(z.device)
            if len(rows):
                z[rows] = spread.scale(noise[rows]).add_(self.base[k])
        return z, self.log_density(z), pick

    def response(self, pick: Tensor, slope: Tensor, value: Tensor) -> Tensor:
        """Return the covariance [dimension] of z and a function, from draws of the components `pick` [draw].

        Within components from the function's slopes [draw, dimension] by Stein's lemma, between them from its values
        [draw] and the means of z.
        """
        pick = pick.to(slope.device)
        middle, between = self.base[pick], value - value.mean()
        found = between @ (middle - middle.mean(0))
        for k in pick.unique().tolist():
            found = found + self.spread[k].covariance(slope[pick == k].sum(0))
        return found / len(pick)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q [draw] of z [draw, dimension]."""
        if len(self.weight) > 1 and z.shape[-1] <= _SMALL:
            squares = torch.cat([self._squares(some) for some in z.split(max(1, _TOGETHER // self.base.numel()))], 1)
        else:
            parts = z.split(max(1, _ENTRIES // z.shape[-1]))
            each = zip(self.base, self.spread, strict=True)
            squares = torch.stack([torch.cat([spread.square(part - base) for part in parts]) for base, spread in each])
        height = self.weight.log() - self.weight.new_tensor([spread.log_det for spread in self.spread])
        return squares.mul_(-0.5).add_(height[:, None]).logsumexp(0) - 0.5 * z.shape[-1] * LOG_2PI

    def _squares(self, z: Tensor) -> Tensor:
        """Return what `Gaussian.square` says of the way from every base [component, draw], of all in one product."""
        middle = (self._whitening @ self.base[..., None]).flatten(0, 1)
        white = torch.addmm(middle, self._whitening.flatten(0, 1), z.T, beta=-1)
        return white.square_().unflatten(0, self.base.shape).sum(1)

    @cached_property
    def _whitening(self) -> Tensor:
        """The inverse of every frame [component, dimension, dimension]."""
        return torch.linalg.inv(torch.stack([spread.frame() for spread in self.spread]))

    @property
    def log_q_error(self) -> float:
        """Standard error of log q that all draws share (nats): 0 unless the log determinant is an estimate."""
        return max(each.log_det_error for each in self.spread)

    @property
    def main(self) -> tuple[Tensor, Tensor]:
        """Mode [dimension] and frame of the one Gaussian about it: F [dimension, dimension], or scales [dimension]."""
        return self.mode.z, self.whole.frame()
