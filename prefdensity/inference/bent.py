"""Proposals moved and bent towards a posterior, by what the weights of earlier proposals say of each coordinate.

A Gaussian about the mode has no skewness, and too thin a tail where only the prior holds something, such as the utility
of an item that never lost. What depends on what is kept (a Gaussian copula), each coordinate alone is stretched: on one
side of its median by a factor, on the other exponentially (half of Tukey's g-transform; Hoaglin 1985, in Exploring
Data Tables, Trends and Shapes, ch. 11). So log q of a proposal is known from that of the one it is made of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.inference.ordering import ascending
from prefdensity.posterior.psis import effective_size

_SIDE = 0.05  # share of a coordinate's mass beyond either of the quantiles that are matched
# Standard error of the log distance of these quantiles from the median, times the root of draws, and how many such
# errors are no noise.
_ERROR, _CLEAR = 1.5, 4.0
_TOGETHER = 2**18  # numbers that are worked out together
_STRONGEST = 2.0  # exponent between the median and the quantile


@dataclass(frozen=True)
class Bend:
    """A monotone map of vectors [dimension]: a shift, and some coordinates `at` bent instead.

    Attributes
    ----------
    by
        [dimension].
    at
        [bent].
    middle, target
        The medians before and after [bent].
    growth
        Exponent of the longer side, for a unit before [bent]; 0: linear.
    slope
        Of the shorter side, and of the other at the median [bent].
    side
        1 where the upper side is the longer one, -1 where the lower [bent].
    """

    by: Tensor
    at: Tensor
    middle: Tensor
    target: Tensor
    growth: Tensor
    slope: Tensor
    side: Tensor

    def take(self, z: Tensor) -> Tensor:
        """Put the images of z [draw, dimension] in its place, and return log |det J| [draw]."""
        parts = []
        for few in z.split(max(1, _TOGETHER // z.shape[-1])):
            away = self.side * (few[:, self.at] - self.middle)
            stretched = self.growth * away.clamp_min(0.0)
            longer = torch.where(self.growth > 0, torch.expm1(stretched) / self.growth.clamp_min(1e-12), away)
            few.add_(self.by)
            few[:, self.at] = self.target + self.side * self.slope * torch.where(away > 0, longer, away)
            parts.append((self.slope.log() + stretched).sum(-1))
        return torch.cat(parts)


def bend_of(first: Tensor, z: Tensor, log_weight: Tensor) -> Bend:
    """Return the map that takes proposals like `first` [draw, dimension] to where weights say that a posterior is.

    Means are moved; where a coordinate is clearly wider or more skewed its median and its 5 % and 95 % points are
    matched. `log_weight` [proposal] is of proposals z [proposal, dimension], which may be others.
    """
    weight = log_weight.exp()
    before = _quantiles(first, torch.full_like(first[:, 0], 1 / len(first)))
    after = _quantiles(z, weight)
    unit, wanted = before.diff(dim=0).clamp_min(1e-12), after.diff(dim=0).clamp_min(1e-12)  # lower and upper half
    stretch = wanted / unit  # [2, dimension]
    clear = stretch.log().abs().amax(0) * effective_size(log_weight) ** 0.5 / _ERROR
    at = torch.nonzero(clear > _CLEAR).flatten()
    stretch, unit = stretch[:, at], unit[:, at]
    side = torch.where(stretch[1] > stretch[0], 1.0, -1.0).to(z)
    longer, shorter = stretch.amax(0), stretch.amin(0)
    reach = torch.where(side > 0, unit[1], unit[0])
    growth = _growth(longer / shorter, reach).clamp_max(_STRONGEST / reach)
    return Bend(weight @ z - first.mean(0), at, before[1, at], after[1, at], growth, shorter, side)


def _growth(ratio: Tensor, reach: Tensor) -> Tensor:
    """Return g [bent] with (exp(g reach) - 1) / (g reach) = ratio, by bisection."""
    low, high = torch.zeros_like(ratio), torch.full_like(ratio, 20.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        less = torch.expm1(middle) / middle < ratio
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    return torch.where(ratio > 1 + 1e-6, low / reach.clamp_min(1e-12), 0.0)


def _quantiles(z: Tensor, weight: Tensor) -> Tensor:
    """Return the lower point, median and upper point [3, coordinate] of weighed z [proposal, coordinate]."""
    parts = []
    for some in z.T.split(max(1, _TOGETHER // len(z))):
        columns = some.contiguous()
        order = ascending(columns)
        mass = weight[order].cumsum(1)
        points = z.new_tensor([_SIDE, 0.5, 1 - _SIDE]).expand(len(columns), 3).contiguous()
        place = torch.searchsorted(mass, points).clamp_max(len(z) - 1)
        parts.append(columns.gather(1, order.gather(1, place)).T)
    return torch.cat(parts, 1)
