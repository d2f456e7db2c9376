"""Pareto-smoothed importance sampling, for many sets of weights at once.

Vehtari, Simpson, Gelman, Yao and Gabry (2024), JMLR 25(72); the generalised Pareto fit is that of Zhang and
Stephens (2009), Technometrics 51, 316-325. Own code because ArviZ 1.x no longer has a public one for arrays.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

USABLE = 0.7  # beyond this k-hat smoothed weights are not reliable either
HOPELESS = 1.0  # and beyond this they have no mean
_NEGLIGIBLE = 1e-30  # excess of a weight over the cutoff, in parts of the largest, that stands for none
_FACTORS = 8  # numbers multiplied before a logarithm is taken: so many as large as 1 / negligible are finite


def smooth(log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return normalised smoothed log weights [..., draw] and k-hat [...] of log weights [..., draw].

    The largest min(S/5, 3 sqrt S) of S weights are replaced by quantiles of a generalised Pareto
    distribution fitted to them. k-hat is infinite where a weight is not finite, and 0 where all weights are equal.
    """
    broken = ~torch.isfinite(log_weight.sum(-1))
    shifted = torch.where(broken.unsqueeze(-1), 0.0, log_weight - log_weight.amax(-1, keepdim=True))
    falling, order = shifted.topk(1 + _tail(shifted.shape[-1]), -1)  # a tenth of what sorting all takes
    smoothed, k = _smoothed_tail(falling.flip(-1))
    out = shifted.scatter(-1, order.flip(-1)[..., 1:], smoothed)
    return out - out.logsumexp(-1, keepdim=True), torch.where(broken, math.inf, k)


def left_out(log_lik: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log predictive density [...] of what is left out, and k-hat [...], of log likelihoods [..., draw].

    What weights of one over likelihoods, smoothed as by `smooth`, say: where a weight is not smoothed its product with
    the likelihood is 1, so that only the tail is looked at. Both are worth nothing where a likelihood is not finite:
    k-hat is infinite there.
    """
    draws, broken = log_lik.shape[-1], ~torch.isfinite(log_lik.sum(-1))
    least = _least(torch.where(broken.unsqueeze(-1), 0.0, log_lik) if broken.any() else log_lik)
    low = least[..., :1]
    ordered = (low - least).flip(-1)
    smoothed, k = _smoothed_tail(ordered)
    cutoff, tail = ordered[..., :1], ordered[..., 1:]
    top, size = torch.maximum(cutoff, smoothed.amax(-1, keepdim=True)), tail.shape[-1]
    # the tail's own weights as so many cutoffs, which then are taken off
    whole = (low - top - log_lik).clamp_max_(cutoff - top).exp_().sum(-1)
    weights = whole - size * (cutoff - top)[..., 0].exp() + (smoothed - top).exp().sum(-1)
    others = torch.full_like(low, math.log(draws - size))
    product = torch.cat([others, smoothed - tail], -1).logsumexp(-1)
    return (low - top)[..., 0] + product - weights.log(), torch.where(broken, math.inf, k)


def _smoothed_tail(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smoothed log weights [..., tail] of a tail, and k-hat [...].

    `ordered` [..., 1 + tail]: the cutoff and the tail's log weights, ascending up to 0.
    """
    cutoff = ordered[..., :1].exp()
    excess = ordered[..., 1:].exp() - cutoff
    excess = excess.maximum(_NEGLIGIBLE * excess[..., -1:])
    flat, tail = excess[..., -1] <= 1e-12, excess.shape[-1]
    k, sigma = _fit_pareto(torch.where(flat.unsqueeze(-1), 1.0 + torch.arange(tail).to(excess), excess))
    replaced = (cutoff + _quantiles(k, sigma, tail)).clamp_max(1.0).log()
    return torch.where(flat.unsqueeze(-1), ordered[..., 1:], replaced), torch.where(flat, 0.0, k)


def _least(values: Tensor) -> Tensor:
    """Return the least 1 + tail of values [..., draw], ascending."""
    many = 1 + _tail(values.shape[-1])
    if values.device.type != "cpu":
        return values.topk(many, -1, largest=False).values
    # numpy parts a row in a third of the time; which of equal numbers it takes is nothing to the sums over them
    return torch.from_numpy(np.sort(np.partition(values.numpy(), many - 1, -1)[..., :many], -1))


def _tail(size: int) -> int:
    return math.ceil(min(0.2 * size, 3 * math.sqrt(size)))


def k_hat_error(k_hat: float, size: int) -> float:
    """Return the standard error of k-hat from `size` weights: that of the maximum-likelihood shape (Smith 1987)."""
    return (1 + max(k_hat, 0.0)) / math.sqrt(_tail(size))


def tempered(log_weight: Tensor, fewest: float) -> tuple[float, Tensor]:
    """Return the largest power (at most 1) at which weights leave `fewest` effective draws, and its log weights.

    A few draws repeated hundreds of times are worse than the bias of a flatter weight (Koblents and Miguez 2015,
    Statistics and Computing 25, 407-425).
    """
    low, high = 0.0, 1.0
    if effective_size(log_weight) >= fewest:
        return 1.0, log_weight
    for _ in range(20):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective_size(middle * log_weight) >= fewest else (low, middle)
    return low, (low * log_weight).log_softmax(0)


def systematic(weight: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Return `draws` indices, each proposal about draws x weight times, in random order."""
    start = torch.rand(1, generator=generator, dtype=weight.dtype).to(weight)
    points = (torch.arange(draws, dtype=weight.dtype, device=weight.device) + start) / draws
    index = torch.searchsorted(weight.cumsum(0).clamp_max(1.0), points).clamp_max(len(weight) - 1)
    return index[torch.randperm(draws, generator=generator).to(index.device)]


def effective_size(log_weight: Tensor) -> float:
    """Return Kish's effective sample size of log weights [draw]."""
    return float((2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp())


def _fit_pareto(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return shape k and scale of a generalised Pareto distribution for ascending exceedances x [..., n]."""
    n = x.shape[-1]
    points = 30 + int(math.sqrt(n))
    grid = 1 - (points / (torch.arange(1, points + 1).to(x) - 0.5)).sqrt()
    quartile = x[..., int(n / 4 + 0.5) - 1].unsqueeze(-1)
    b = grid / (3 * quartile) + 1 / x[..., -1:]  # [..., point]
    # draws first and with zeros to a multiple: sums of logarithms are logarithms of products, which are many times
    # as fast
    factors = torch.cat([x, x.new_zeros(*x.shape[:-1], -n % _FACTORS)], -1).movedim(-1, 0).contiguous()
    factors = factors.reshape(_FACTORS, -1, *factors.shape[1:])
    k = torch.stack([_log_of(1 - b[..., j] * factors) / n for j in range(points)], -1)
    profile = n * ((-b / k).log() - k - 1)
    weight = profile.softmax(-1)
    best = (b * weight).sum(-1, keepdim=True)
    shape = _log_of(1 - best.squeeze(-1) * factors) / n
    scale = -shape / best.squeeze(-1)
    return (shape * n + 5.0) / (n + 10.0), scale  # weakly towards 1/2: a short tail says little


def _log_of(factors: Tensor) -> Tensor:
    """Return the logarithm [...] of the product over the first two axes of factors [factor, group, ...]."""
    return factors.prod(0).log().sum(0)


def _quantiles(k: Tensor, sigma: Tensor, count: int) -> Tensor:
    p = (torch.arange(1, count + 1).to(k) - 0.5) / count
    k, sigma = k.unsqueeze(-1), sigma.unsqueeze(-1)
    small = k.abs() < 1e-8
    safe = torch.where(small, 1.0, k)
    return torch.where(small, -sigma * (-p).log1p(), sigma * torch.expm1(-safe * (-p).log1p()) / safe)
