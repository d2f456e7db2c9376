"""Gaussian guides over the whole parameter vector, preconditioned by the curvature at a mode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
KINDS = ("full", "scaled", "mean_field")


@dataclass
class Guide:
    """R Gaussians z = base + F (loc + T e), e standard normal.

    The frame (base, F) comes from a Laplace approximation and stays; loc and T are fitted. With T the
    identity and loc 0 the guide is the Laplace approximation itself.

    Attributes
    ----------
    base
        [restart, dimension].
    frame
        F: [restart, dimension, dimension], or its diagonal [restart, dimension].
    frame_log_det
        Log |det F| [restart]; F stays as it is while T is fitted.
    loc, log_diagonal
        [restart, dimension]; T has diagonal exp(log_diagonal).
    lower
        The strictly lower part of T [restart, dimension, dimension], or None: T is diagonal.
    """

    matched: ClassVar[bool] = False

    base: Tensor
    frame: Tensor
    frame_log_det: Tensor
    loc: Tensor
    log_diagonal: Tensor
    lower: Tensor | None = None

    @classmethod
    def start(cls, base: Tensor, frame: Tensor, kind: str) -> Guide:
        """Return the Laplace approximation as a guide of `kind`: full, scaled (diagonal T) or mean_field."""
        zeros = torch.zeros_like(base)
        log_det = frame.abs().log().sum(-1) if frame.dim() == 2 else torch.linalg.slogdet(frame)[1]
        if kind == "full":
            lower = torch.zeros(*base.shape, base.shape[-1], dtype=base.dtype, device=base.device)
            return cls(base, frame, log_det, zeros, zeros.clone(), lower)
        return cls(base, frame, log_det, zeros, zeros.clone())

    @property
    def log_q_error(self) -> float:
        """Log q is exact."""
        return 0.0

    @property
    def parameters(self) -> list[Tensor]:
        """The fitted tensors."""
        return [self.loc, self.log_diagonal] + ([] if self.lower is None else [self.lower])

    def at(self, parameters: list[Tensor]) -> Guide:
        """Return the guide with other fitted tensors."""
        return Guide(self.base, self.frame, self.frame_log_det, *parameters)

    def pick(self, restart: int) -> Guide:
        """Return the guide of one restart, with the leading dimension kept."""
        keep = slice(restart, restart + 1)
        lower = None if self.lower is None else self.lower[keep]
        fixed = (self.base[keep], self.frame[keep], self.frame_log_det[keep])
        return Guide(*fixed, self.loc[keep], self.log_diagonal[keep], lower)

    @property
    def middle(self) -> Tensor:
        """The mean [dimension] of a single guide."""
        return (self.base[:, None] + self._apply_frame(self.loc[:, None]))[0, 0]

    def triangle(self) -> Tensor:
        """Return T [restart, dimension, dimension]."""
        diagonal = torch.diag_embed(self.log_diagonal.exp())
        return diagonal if self.lower is None else self.lower.tril(-1) + diagonal

    def place(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return w = loc + T e and z, both [restart, particle, dimension], for noise e of that shape."""
        if self.lower is None:
            w = self.loc[:, None] + self.log_diagonal.exp()[:, None] * noise
        else:
            w = self.loc[:, None] + noise @ self.triangle().transpose(-1, -2)
        return w, self.base[:, None] + self._apply_frame(w)

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw] of a single guide."""
        w, z = self.place(self.noise(draws, generator))
        return z[0], self.log_density(w)[0]

    def noise(self, particles: int, generator: torch.Generator) -> Tensor:
        """Return standard normal noise [restart, particle, dimension], drawn on the generator's device."""
        shape = (len(self.loc), particles, self.loc.shape[-1])
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device).to(self.loc)

    def _apply_frame(self, w: Tensor) -> Tensor:
        if self.frame.dim() == 2:
            return self.frame[:, None] * w
        return w @ self.frame.transpose(-1, -2)

    def log_density(self, w: Tensor) -> Tensor:
        """Return log q [restart, particle] of z, given its w."""
        if self.lower is None:
            noise = (w - self.loc[:, None]) * (-self.log_diagonal).exp()[:, None]
        else:
            noise = torch.linalg.solve_triangular(
                self.triangle().transpose(-1, -2), w - self.loc[:, None], upper=True, left=False
            )
        size = w.shape[-1]
        log_det = self.log_diagonal.sum(-1) + self.frame_log_det
        return -0.5 * (noise**2).sum(-1) - 0.5 * size * LOG_2PI - log_det[:, None]

    def log_density_of(self, z: Tensor) -> Tensor:
        """Return log q [draw] of z [draw, dimension], for a single guide."""
        away = z - self.base[0]
        w = away / self.frame[0] if self.frame.dim() == 2 else torch.linalg.solve(self.frame[0], away.T).T
        return self.log_density(w[None])[0]

    def detached(self) -> Guide:
        """Return the guide with fitted tensors cut from the graph (the sticking-the-landing gradient)."""
        return self.at([p.detach() for p in self.parameters])

    def divergence(self, other: Guide) -> Tensor:
        """Return KL(self || other) [restart] of two guides in the same frame."""
        if self.lower is None:
            ratio = self.log_diagonal - other.log_diagonal
            shift = (self.loc - other.loc) * (-other.log_diagonal).exp()
            return 0.5 * ((2 * ratio).exp() + shift**2 - 1).sum(-1) - ratio.sum(-1)
        mine, theirs = self.triangle(), other.triangle()
        mixed = torch.linalg.solve_triangular(theirs, mine, upper=False)
        shift = torch.linalg.solve_triangular(theirs, (self.loc - other.loc).unsqueeze(-1), upper=False)
        size = self.loc.shape[-1]
        trace = (mixed**2).sum((-1, -2)) + (shift**2).sum((-1, -2))
        return 0.5 * (trace - size) - (self.log_diagonal - other.log_diagonal).sum(-1)


@dataclass(frozen=True)
class Blend:
    """Single guides of several modes, with the share [guide] of each."""

    matched: ClassVar[bool] = False

    guides: tuple[Guide, ...]
    share: Tensor

    @property
    def log_q_error(self) -> float:
        """Log q is exact."""
        return 0.0

    def draw(self, draws: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return z [draw, dimension] and log q [draw]."""
        pick = torch.multinomial(self.share.cpu(), draws, replacement=True, generator=generator)
        z = self.guides[0].base.new_empty(draws, self.guides[0].base.shape[-1])
        for k, guide in enumerate(self.guides):
            rows = (pick == k).to(z.device)
            z[rows], _ = guide.draw(int(rows.sum()), generator)
        parts = [s.log() + guide.log_density_of(z) for s, guide in zip(self.share, self.guides, strict=True)]
        return z, torch.stack(parts).logsumexp(0)
