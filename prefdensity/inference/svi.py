"""Stochastic variational inference with Gaussian guides, all restarts in one batch.

The gradient is sticking-the-landing (Roeder, Wu and Duvenaud 2017): its noise vanishes as the guide
approaches the posterior. A rate is held until the iterates are stationary (split R-hat) or for 800 steps, they are
averaged, the rate is halved, and the fit stops when halving no longer moves the averaged guide, measured by the
symmetrised KL divergence (after Welandawe, Andersen, Vehtari and Huggins 2022, arXiv 2203.15945). A flat
ELBO alone never stops it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.guide import Guide
from prefdensity.inference.traced import Function, captured
from prefdensity.inference.view import View

WINDOW = 100
_WINDOWS = 8  # at most, for one learning rate
_STATIONARY = 1.1  # split R-hat
_MOVED = 0.05  # symmetrised KL in nats, per restart
_RATE = 0.02  # of Adam, in units of the Laplace approximation's standard deviations
_PARTICLES = 8


class Run:
    """A fit in progress. Between windows it can be saved (`arrays`) and taken up again with the same result.

    Noise is drawn where the steps are taken, and nothing is read from there before a window is complete.
    """

    def __init__(self, view: View, guide: Guide, seed: int) -> None:
        self.view, self.guide = view, guide
        self.parameters = [p.clone() for p in guide.parameters]
        self.optimiser = Adam(self.parameters)
        self.generator = torch.Generator(guide.base.device).manual_seed(seed)
        self.step, self.stage, self.windows, self.settled = 0, 0, 0, False
        self.trace: list[float] = []
        self.total = [torch.zeros_like(p) for p in guide.parameters]
        self.summed = 0
        self.previous: list[Tensor] | None = None
        # on the CPU a graph would take longer to make than it saves
        self.captures = view.can_be_captured
        self.gradients: Function | None = None

    def advance(self) -> None:
        """Take `WINDOW` steps, then decide about averaging, the rate and stopping."""
        loc, log_diagonal = self.parameters[:2]
        kept = loc.new_empty(WINDOW, 2, *loc.shape)
        elbo = loc.new_empty(WINDOW, dtype=torch.float64)
        sums = [torch.zeros_like(p) for p in self.total]
        for k in range(WINDOW):
            elbo[k] = self.take_step()
            torch._foreach_add_(sums, self.parameters)
            torch.stack([loc, log_diagonal], out=kept[k])
        self.trace += elbo.tolist()
        self.windows += 1
        stationary = _split_rhat(kept) < _STATIONARY
        if stationary or self.windows > _WINDOWS // 2:
            torch._foreach_add_(self.total, sums)
            self.summed += WINDOW
        if (stationary and self.summed >= 2 * WINDOW) or self.windows >= _WINDOWS:
            self._end_stage()

    def take_step(self) -> Tensor:
        """Take one step; return the evidence bound before it of the best restart, until the next step is taken."""
        noise = self.guide.noise(_PARTICLES // 2, self.generator)
        if self.gradients is None:
            example = (noise, *self.parameters)
            self.gradients = captured(self._gradients, example) if self.captures else self._gradients
        elbo, *gradients = self.gradients(noise, *self.parameters)
        self.step += 1
        self.optimiser.take(gradients, _RATE * 0.5**self.stage, self.step)
        return elbo

    @torch.enable_grad()
    def _gradients(self, half: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        """Return the best restart's evidence bound, and the descent of all bounds in each of the parameters."""
        free = [p.detach().requires_grad_() for p in parameters]
        current = self.guide.at(free)
        w, z = current.place(torch.cat([half, -half], 1))  # antithetic pairs
        log_p, slope = self.view.value_and_slope(z.detach().flatten(0, 1))
        log_q = current.detached().log_density(w)
        loss = (log_q - (slope.reshape(z.shape) * z).sum(-1)).mean(1).sum()
        found = torch.autograd.grad(loss, free)
        return (log_p.reshape(w.shape[:2]) - log_q.detach()).mean(1).max(), *found

    def _end_stage(self) -> None:
        average = [s / self.summed for s in self.total]
        if self.previous is not None:
            here, before = self.guide.at(average), self.guide.at(self.previous)
            moved = here.divergence(before) + before.divergence(here)
            self.settled = bool((moved < _MOVED).all())
        self.previous = average
        self.total = [torch.zeros_like(p) for p in self.total]
        self.summed = self.windows = 0
        self.stage += 1

    def fitted(self) -> Guide:
        """Return the best guides so far: averaged where there is an average."""
        if self.summed:
            return self.guide.at([s / self.summed for s in self.total])
        return self.guide.at(self.previous or self.parameters)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the whole state as plain arrays."""
        meta = {"step": self.step, "stage": self.stage, "windows": self.windows, "summed": self.summed,
                "settled": self.settled, "average": self.previous is not None}  # fmt: skip
        out = {
            "meta": np.array(json.dumps(meta)),
            "trace": np.array(self.trace),
            "generator": self.generator.get_state().numpy(),
        }
        for k, p in enumerate(self.parameters):
            out[f"parameter{k}"] = _copied(p)
            out[f"total{k}"] = _copied(self.total[k])
            out[f"exp_avg{k}"] = _copied(self.optimiser.mean[k])
            out[f"exp_avg_sq{k}"] = _copied(self.optimiser.square[k])
            if self.previous is not None:
                out[f"previous{k}"] = _copied(self.previous[k])
        return out

    def resume(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up the state that `arrays` saved."""
        meta: dict[str, Any] = json.loads(str(arrays["meta"]))
        self.step, self.stage, self.windows = meta["step"], meta["stage"], meta["windows"]
        self.summed, self.settled = meta["summed"], meta["settled"]
        self.trace = list(map(float, arrays["trace"]))
        self.generator.set_state(torch.from_numpy(arrays["generator"].copy()))
        like = self.parameters[0]

        def tensors(name: str) -> list[Tensor]:
            return [torch.tensor(arrays[f"{name}{k}"]).to(like) for k in range(len(self.parameters))]

        for p, value in zip(self.parameters, tensors("parameter"), strict=True):
            p.copy_(value)
        self.total = tensors("total")
        self.previous = tensors("previous") if meta["average"] else None
        self.optimiser.mean, self.optimiser.square = tensors("exp_avg"), tensors("exp_avg_sq")


class Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980). The first of PyTorch's own in a process costs most of a second."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.mean = [torch.zeros_like(p) for p in parameters]
        self.square = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def take(self, gradients: list[Tensor], rate: float, step: int) -> None:
        """Take the step of this number, counted from 1."""
        # d^2 entries of T wander together: their rate falls with the dimension
        shares = [1.0, 1.0, self.parameters[0].shape[-1] ** -0.5][: len(gradients)]
        unbiased, root = 1 - 0.9**step, (1 - 0.999**step) ** 0.5
        torch._foreach_lerp_(self.mean, gradients, 0.1)
        torch._foreach_mul_(self.square, 0.999)
        torch._foreach_addcmul_(self.square, gradients, gradients, 0.001)
        scale = torch._foreach_sqrt(self.square)
        torch._foreach_div_(scale, root)
        torch._foreach_add_(scale, 1e-8)
        torch._foreach_addcdiv_(self.parameters, self.mean, scale, [-rate * share / unbiased for share in shares])


def optimise(run: Run, max_steps: int, after_window: Callable[[Run], None] = lambda run: None) -> Guide:
    """Advance `run` until its guides have settled or `max_steps` are spent; return the averaged guides.

    `after_window` is called every `WINDOW` steps, for progress and checkpoints; what it raises passes through.
    """
    while not run.settled and run.step < max_steps:
        run.advance()
        after_window(run)
    return run.fitted()


def _copied(values: Tensor) -> np.ndarray:
    # the optimiser works in place: a view of its tensors would follow it into the next window
    return values.detach().cpu().numpy().copy()


def _split_rhat(iterates: Tensor) -> float:
    """Return the 95th percentile over coordinates of split R-hat of iterates [step, ...]."""
    half = len(iterates) // 2
    parts = torch.stack([iterates[:half], iterates[half : 2 * half]])
    within = parts.var(1).mean(0)
    between = parts.mean(1).var(0)
    rhat = ((half - 1) / half + between / within.clamp_min(1e-300)).sqrt()
    return float(rhat.flatten().quantile(0.95)) if rhat.numel() < 1e7 else float(rhat.median())
