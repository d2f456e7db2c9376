"""Laplace approximations: a Gaussian at the mode, or a mixture of them over a grid of hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import Climber, Mode, first_guess
from prefdensity.inference.nested import Nested, Watch, nested
from prefdensity.inference.precision import Gaussian
from prefdensity.inference.profile import gaussian_of
from prefdensity.inference.view import View


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
    """

    weight: Tensor
    base: Tensor
    spread: tuple[Gaussian, ...]
    converged: bool
    iterations: int
    mode: Mode
    log_evidence: float
    whole: Gaussian

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
        )

    def nearer(self, z: Tensor, other: Tensor) -> Tensor:
        """Say of which z [place, dimension] the mode is nearer than `other` [dimension], by the spread about it."""
        return self.whole.square(z - self.mode.z) < self.whole.square(z - other)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""
        pick = torch.multinomial(self.weight.cpu(), draws, replacement=True, generator=generator)
        noise = torch.randn(draws, self.base.shape[-1], generator=generator, dtype=torch.float64).to(self.base)
        if len(self.weight) == 1:
            square = torch.linalg.vector_norm(noise, dim=-1) ** 2
            log_q = -0.5 * square - self.spread[0].log_det - 0.5 * noise.shape[-1] * LOG_2PI
            return self.spread[0].scale(noise).add_(self.base[0]), log_q
        z = torch.empty_like(noise)
        for k, spread in enumerate(self.spread):
            rows = (pick == k).to(z.device)
            if rows.any():
                z[rows] = self.base[k] + spread.scale(noise[rows])
        del noise  # as large as z
        return z, self.log_density(z)

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q [draw] of z [draw, dimension]."""
        parts = [
            weight.log() - 0.5 * spread.square(z - base) - spread.log_det
            for weight, base, spread in zip(self.weight, self.base, self.spread, strict=True)
        ]
        return torch.stack(parts).logsumexp(0) - 0.5 * z.shape[-1] * LOG_2PI

    @property
    def log_q_error(self) -> float:
        """Standard error of log q that all draws share (nats): 0 unless the log determinant is an estimate."""
        return max(each.log_det_error for each in self.spread)

    @property
    def main(self) -> tuple[Tensor, Tensor]:
        """Mode [dimension] and frame of the one Gaussian about it: F [dimension, dimension], or scales [dimension]."""
        return self.mode.z, self.whole.frame()


def laplace(view: View, start: Tensor | None = None, watch: Watch | None = None) -> Mixture:
    """Return the Laplace approximation reached from `start` (default the middle of the prior).

    Raises
    ------
    FitError
        If the posterior has no curvature in some direction at its mode, and is too large to mend.
    """
    start = first_guess(view) if start is None else start
    if view.hyper:
        return of_nested(nested(view, start, watch))
    climber = Climber(view)
    mode = climber.climb(start)
    return at_mode(mode if mode.precision else replace(mode, precision=climber.curvature(mode.z)[2]))


def at_mode(mode: Mode) -> Mixture:
    """Return the Gaussian at a mode whose curvature is known."""
    assert mode.precision is not None
    spread = gaussian_of(mode.precision)
    one = torch.ones(1, dtype=mode.z.dtype, device=mode.z.device)
    evidence = mode.value + 0.5 * len(mode.z) * LOG_2PI + spread.log_det
    mode = replace(mode, precision=None)
    return Mixture(one, mode.z[None], (spread,), mode.converged, mode.iterations, mode, evidence, spread)


def of_nested(found: Nested) -> Mixture:
    """Return the mixture of the Gaussians on a grid of hyperparameters."""
    values = torch.tensor([point.value for point in found.points], dtype=torch.float64)
    best = found.peak.mode
    return Mixture(
        weight=values.softmax(0).to(best.z),
        base=torch.stack([point.mode.z for point in found.points]),
        spread=tuple(found.joint(point) for point in found.points),
        converged=found.converged,
        iterations=found.iterations,
        mode=best,
        log_evidence=found.log_evidence,
        whole=found.joint(found.peak, found.full),
    )
