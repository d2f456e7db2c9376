"""Which reported numbers are safe: for every entry of every site, how far the mean of its draws may be off.

The joint posterior of everything may be out of an approximation's reach while most of its margins are not, and the
other way round a good joint k-hat says nothing of the Monte-Carlo error of one number. So each quantity is asked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.inference.view import Density
from prefdensity.posterior.psis import HOPELESS, USABLE, systematic, tempered

# Coordinates of draws beyond which nothing is said of quantities; and numbers that are looked at where draws are
# weighed, at so many of them at least.
_HELD, _NUMBERS, _PLACES = 4e7, 5_000_000, 256
BOUND = 1.96  # standard errors: nineteen of twenty errors are below


@dataclass(frozen=True)
class Quantities:
    """Every quantity that is reported, at some draws: entries of sites, utilities centred, and ranks.

    Attributes
    ----------
    values
        name -> [draw, ...]; empty for programs so large that they do not fit.
    """

    values: dict[str, Tensor]

    @classmethod
    def at(cls, view: Density, z: Tensor) -> Quantities:
        """Return the quantities of a program at vectors z [draw, dimension]."""
        if z.numel() > _HELD:
            return cls({})
        values, _ = view.constrain(z)
        if "utility" in values:
            table = values["utility"]
            values["utility"] = table - table.mean(-1, keepdim=True)
            values["rank"] = _ranks(table)
        return cls(values)

    def flat(self) -> dict[str, Tensor]:
        """Return name -> [draw, entry]."""
        return {name: value.reshape(len(value), -1) for name, value in self.values.items()}

    def shaped(self, flat: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what was found per entry in the sites' shapes; a utility's is that of its rank if that is more."""
        out = {name: flat[name].reshape(value.shape[1:]) for name, value in self.values.items()}
        if "rank" in out:
            out["utility"] = torch.maximum(out["utility"], out.pop("rank"))
        return out


def _ranks(table: Tensor) -> Tensor:
    """Return the rank of every entry of the last axis, the largest 0."""
    if table.device.type == "cpu":  # numpy sorts in a quarter of the time
        order = torch.from_numpy(np.argsort(-table.numpy(), -1))
    else:
        order = table.argsort(-1, descending=True)
    ranks = torch.arange(table.shape[-1], dtype=table.dtype, device=table.device).expand_as(table)
    return torch.empty_like(table).scatter_(-1, order, ranks)


def looked_at(
    view: Density, z: Tensor, log_weight: Tensor, used: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the proposals [place] that quantities are looked at, and for how many each stands [place].

    All of z [proposal, dimension], or where these would be too many numbers, drawn by half their weight and half a
    flatter one.
    """
    entries = sum(h.shape[1] for h in Quantities.at(view, z[:1]).flat().values())
    places = max(_PLACES, _NUMBERS // max(1, entries))
    if places >= len(z):
        return torch.arange(len(z), device=z.device), torch.ones_like(used)
    chance = 0.5 * (used.exp() + _flatter(log_weight)[1].exp())
    at = systematic(chance, places, generator)
    return at, 1 / (places * chance[at])


def errors_of_weighed(
    quantities: Quantities,
    gap: Tensor,
    log_weight: Tensor,
    used: Tensor,
    k_hat: float,
    draws: int,
    seen: tuple[Tensor, Tensor],
) -> dict[str, Tensor]:
    """Return for each site the error [...] of means over draws that were resampled from proposals.

    A 95 % bound of the Monte-Carlo error, of the weights and of resampling by them systematically. Where k-hat says
    that the weights miss part of the posterior, or they were tempered, also the distance from a second estimate, which
    leans less on weights: see `_second_estimate`. Infinite where k-hat is above 1: weights without a mean tell nothing,
    neither of the posterior nor of their own error.

    Parameters
    ----------
    quantities
        At the proposals that are looked at.
    gap
        Log p/q [proposal].
    log_weight, used
        Smoothed log weights [proposal], and those that were resampled by.
    k_hat
        Of the weights.
    draws
        How many were kept.
    seen
        See `looked_at`.
    """
    at, times = seen
    if k_hat > HOPELESS:
        return quantities.shaped({name: torch.full_like(h[0], math.inf) for name, h in quantities.flat().items()})
    doubtful = k_hat > USABLE or not torch.equal(used, log_weight)
    shares = _shares(gap, *_flatter(log_weight))[:, at] * times if doubtful else None
    part = (draws * used.exp()).frac()  # of each proposal a copy is kept or not, by this chance
    variance = ((2 * used).exp() + part * (1 - part) / draws**2)[at] * times
    weight = used.exp()[at] * times
    weight = weight / weight.sum()
    out = {}
    for name, h in quantities.flat().items():
        off = h - weight @ h
        square = off**2
        sd, noise = (weight @ square).sqrt(), BOUND * (variance @ square).sqrt()
        if shares is not None:
            noise = torch.hypot(noise, _second_estimate(off, shares))
        out[name] = torch.where(sd > 1e-12, noise / sd.clamp_min(1e-12), 0.0).nan_to_num(nan=math.inf)
    return quantities.shaped(out)


def _flatter(log_weight: Tensor) -> tuple[float, Tensor]:
    """Return a power of the weights, at most 1/2, that leaves a quarter of them effective, and its log weights."""
    power, flat = tempered(log_weight, 0.25 * len(log_weight))
    return min(power, 0.5), flat if power <= 0.5 else (0.5 * log_weight).log_softmax(0)


def _shares(gap: Tensor, power: float, log_weight: Tensor) -> Tensor:
    """Return by how much each proposal counts in means by an expansion, and in what these change [2, proposal].

    From the flatter distribution that weights p/q to a power give, in joint cumulants with what is left of the log
    weight, l: E h + cov(h, l) + cov(h, (l - E l)^2) / 2 (Zwanzig 1954, J. Chem. Phys. 22, 1420-1426). It holds however
    many other dimensions spoil the full weights, as long as each moves h little.
    """
    weight = log_weight.exp()
    left = (1 - power) * torch.where(weight > 0, gap, 0.0)
    centred = left - (weight * left).sum()
    change = centred + 0.5 * centred**2 - 0.5 * (weight * centred**2).sum()
    return torch.stack([weight, weight * change])


def _second_estimate(off: Tensor, shares: Tensor) -> Tensor:
    """Return the posterior mean of `off` [proposal, entry] by the expansion whose `_shares` are given."""
    weight, change = shares
    start = weight @ off / weight.sum()
    return start + change @ off - change.sum() * start


def errors_of_chains(quantities: Quantities, groups: int, draws: int, together: int = 1) -> dict[str, Tensor]:
    """Return for each site the error [...] of means over chains.

    A 95 % bound of the Monte-Carlo error, with what split R-hat leaves between groups of chains beyond its own noise.
    Draws come group by group, then by transition, then by chain of the group; `draws` of them are kept.
    """
    out = {}
    for name, h in quantities.flat().items():
        apart = h.unflatten(0, (groups, -1))  # [group, transition and chain, entry]
        chains = apart.unflatten(1, (-1, together)).transpose(1, 2).flatten(0, 1)
        effective = effective_sample_size(chains, 0, 1)
        between = split_gelman_rubin(apart, 0, 1) ** 2 - 1
        # halves of groups that agree differ by 2 groups / effective, and in one of twenty cases by twice that
        left = (between - 4 * groups / effective).clamp_min(0.0)
        error = (BOUND**2 / effective.clamp_max(draws) + left).sqrt()
        out[name] = torch.where(h.std(0) <= 1e-12, 0.0, error.nan_to_num(nan=math.inf))
    return quantities.shaped(out)
