"""The published PCAL algorithm with networks, written from its description (arXiv 2601.13458, section 4 and appendix).

Nuisances are multilayer perceptrons (3 hidden layers of 32, Adam at 2e-3 with a cosine schedule, full batch, 200
epochs, raw inputs), evaluated anew at every step of the design search as published; a covariate-aware design is a
softmax network trained by an augmented Lagrangian; estimates rotate three folds.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prefdensity.judged.units import Judged

Array = NDArray[np.float64]


def perceptron(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    """Return a ReLU network with `hidden` layers of 32."""
    layers: list[nn.Module] = []
    for width in [inputs] + [32] * (hidden - 1):
        layers += [nn.Linear(width, 32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, outputs))


def regress(x: Tensor, y: Tensor, epochs: int) -> nn.Sequential:
    """Fit a perceptron by least squares."""
    network = perceptron(x.shape[1], 1, 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        optimiser.zero_grad()
        ((network(x)[:, 0] - y) ** 2).mean().backward()
        optimiser.step()
        schedule.step()
    return network


class Fit:
    """Pilot estimate and nuisance networks from labelled units, inverse Gram matrix from everybody (default: these)."""

    def __init__(
        self, x: Tensor, w: Tensor, v: Tensor, y: Tensor, epochs: int, everybody: Tensor | None = None
    ) -> None:
        self.theta = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
        everybody = x if everybody is None else everybody
        self.bread = torch.linalg.inv(everybody.T @ everybody / len(everybody))
        self.before = regress(torch.cat([x, w], 1), y, epochs)
        self.after = regress(torch.cat([x, w, v[:, None]], 1), y, epochs)

    def psi(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return the influence function with a mean, or the label, in place of the label."""
        return x * (mean - x @ self.theta)[:, None] @ self.bread

    def guesses(self, x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return psi2 and psi3."""
        after = self.after(torch.cat([x, w, v[:, None]], 1))[:, 0]
        return self.psi(x, after), self.psi(x, self.before(torch.cat([x, w], 1))[:, 0])


def augmentation(a: Tensor, psi2: Tensor, psi3: Tensor) -> list[Tensor]:
    """Return phi of each pattern [unit, parameter] for probabilities a [unit, 3]."""
    a1, a2, a3 = (each[:, None] for each in a.T)
    both = a1 + a2
    return [-a2 / (a1 * both) * psi2 - a3 / both * psi3, psi2 / both - a3 / both * psi3, psi3]


def criterion(fit: Fit, a: Tensor, x: Tensor, w: Tensor, v: Tensor, y: Tensor) -> Tensor:
    """Return Sigma[0, 0] of the single-M estimator; as published, the networks are evaluated five times for it."""
    psi1, gram = fit.psi(x, y), torch.zeros(x.shape[1], x.shape[1])
    for pattern in range(3):
        phi = augmentation(a, *fit.guesses(x, w, v))[pattern]
        gram = gram + (phi * a[:, pattern : pattern + 1]).T @ phi / len(x)
    cross = psi1.T @ augmentation(a, *fit.guesses(x, w, v))[0] / len(x)
    fit.guesses(x, w, v)  # the fifth
    sigma = (psi1 / a[:, :1]).T @ psi1 / len(x) - cross @ torch.linalg.pinv(gram) @ cross.T
    return sigma[0, 0]


def tensors(judged: Judged) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, w, v (0 where there is none) and y (0 where there is none)."""
    v = np.zeros(len(judged))
    v[judged.judged] = judged.verdict == 0
    parts = (judged.covariates, judged.outputs, v, np.nan_to_num(judged.label))
    return tuple(torch.tensor(part, dtype=torch.float32) for part in parts)  # type: ignore[return-value]


def constant_design(pilot: Judged, tau: float, c: float) -> Array:
    """Return a [3], by Adam on one number over two swapped halves of the pilot."""
    data = tensors(pilot)
    half = len(pilot) // 2
    halves = [tuple(part[:half] for part in data), tuple(part[half:] for part in data)]
    fits = [Fit(*each, epochs=200) for each in halves]
    low, high = max(1e-3, (tau - 1) / (c - 1)), min(1.0, tau / c)
    free = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, 500)

    def spread() -> Tensor:
        a1 = low + (high - low) * torch.sigmoid(free)
        return torch.cat([a1, tau - c * a1, 1 + (c - 1) * a1 - tau]).clamp(1e-4, 1.0)

    for _ in range(500):
        optimiser.zero_grad()
        a = spread()
        losses = [
            criterion(fit, a.expand(len(other[0]), 3), *other) for fit, other in zip(fits, halves[::-1], strict=True)
        ]
        torch.stack(losses).sum().backward()
        optimiser.step()
        schedule.step()
    return np.asarray(spread().detach().numpy(), float)


def network_design(pilot: Judged, tau: float, c: float) -> nn.Module:
    """Return a softmax network a(x, w), trained on the half that did not fit the nuisances."""
    data = tensors(pilot)
    half = len(pilot) // 2
    fit, other = Fit(*(part[:half] for part in data), epochs=200), tuple(part[half:] for part in data)
    x, w = other[:2]
    design = nn.Sequential(perceptron(x.shape[1] + 2, 3, 2), nn.Softmax(1))
    optimiser = torch.optim.AdamW(design.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 600)
    weight, penalty = 0.0, 40.0
    for step in range(600):
        optimiser.zero_grad()
        a = design(torch.cat([x, w], 1)).clamp(1e-4, 1.0)
        excess = (c * a[:, 0] + a[:, 1]).mean() - tau
        over = excess.clamp(min=0)
        (criterion(fit, a, *other) + weight * over + penalty / 2 * over**2).backward()
        nn.utils.clip_grad_norm_(design.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        weight = max(0.0, weight + 0.5 * penalty * float(excess.detach()))
        if excess <= 0:
            penalty = max(1.0, penalty * 0.8)
        elif step % 20 == 0:
            penalty *= 1.7
    return design


def estimate(judged: Judged, epochs: int) -> tuple[Array, Array]:
    """Return theta and its standard errors by three rotated folds: networks, then M, then the estimate."""
    x, w, v, y = tensors(judged)
    seen, asked = torch.tensor(judged.labelled), torch.tensor(judged.compared)
    p1 = torch.tensor(judged.label_probability, dtype=torch.float32)
    p2 = torch.tensor(judged.preference_probability, dtype=torch.float32)
    a = torch.stack([p1, p2 - p1, 1 - p2], 1)
    pattern = torch.stack([seen, asked & ~seen, ~asked], 1).float()
    fold = np.random.default_rng(0).permutation(len(judged)) % 3
    thetas, sigmas = [], []
    for turn in range(3):
        here, middle, there = (torch.tensor(fold == (turn + k) % 3) for k in range(3))
        rows = there & seen
        fit = Fit(x[rows], w[rows], v[rows], y[rows], epochs, x[there])
        with torch.no_grad():
            each = torch.stack(augmentation(a, *fit.guesses(x, w, v)), 1)
            phi = (pattern[:, :, None] * each).nan_to_num().sum(1)
            psi1 = fit.psi(x, y) * (seen / p1)[:, None]
            gram, cross = phi[middle].T @ phi[middle], psi1[middle].T @ phi[middle]
            best = -cross @ torch.linalg.pinv(gram)
            mine = here & seen
            scaled = x[mine] / p1[mine][:, None]
            start = torch.linalg.solve(scaled.T @ x[mine], scaled.T @ y[mine])
            thetas.append(start + best @ phi[here].mean(0))
            rest = psi1[middle] + phi[middle] @ best.T
            sigmas.append(rest.T @ rest / len(rest))
    sigma = torch.stack(sigmas).mean(0)
    return torch.stack(thetas).mean(0).numpy(), torch.sqrt(sigma.diag() / len(judged)).numpy()
