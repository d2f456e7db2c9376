"""Sums of log probabilities in double precision, whatever they are worked out in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_BLOCK = 1024  # terms that may be summed in single precision


def total(log_prob: Tensor) -> Tensor:
    """Sum all but the fit dimension, in float64: a float32 total of 1e6 terms is off by .05."""
    if log_prob.dim() == 1:
        return log_prob.double()
    terms = log_prob.flatten(1)
    return terms.sum(-1) if terms.dtype == torch.float64 else _Total.apply(terms)


class _Total(torch.autograd.Function):
    """The sum [fit] in float64 of terms [fit, term] in float32, without a copy of them in float64."""

    @staticmethod
    def forward(ctx: Any, terms: Tensor) -> Tensor:
        ctx.terms = terms.shape[-1]
        whole = terms.shape[-1] // _BLOCK * _BLOCK
        blocks = terms[:, :whole].unflatten(-1, (-1, _BLOCK)).sum(-1)
        return blocks.sum(-1, dtype=torch.float64) + terms[:, whole:].sum(-1, dtype=torch.float64)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].float().unsqueeze(-1).expand(-1, ctx.terms)
