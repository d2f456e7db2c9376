"""Which reported numbers are safe: for every entry of every site, how far the mean of its draws may be off.

The joint posterior of everything may be out of an approximation's reach while most of its margins are not, and the
other way round a good joint k-hat says nothing of the Monte-Carlo error of one number. So each quantity is asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from prefdensity.inference.ordering import ascending
from prefdensity.inference.view import Density
from prefdensity.posterior.psis import HOPELESS, USABLE, systematic, tempered

# Coordinates of draws beyond which nothing is said of quantities; and numbers that are looked at where draws are
# weighed, at so many of them at least.
_HELD, _NUMBERS, _PLACES = 4e7, 5_000_000, 256
_AT_ONCE, _PASSES = 250_000, 4  # numbers of quantities, and how many times as many of sites, that are held
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
        return cls._of(view.constrain(z)[0])

    @classmethod
    def _of(cls, values: dict[str, Tensor]) -> Quantities:
        if "utility" in values:
            table = values["utility"]
            values = values | {"utility": table - table.mean(-1, keepdim=True), "rank": _ranks(table)}
        return cls(values)

    @classmethod
    def parts(cls, view: Density, z: Tensor) -> Iterator[Quantities]:
        """Yield the quantities of some of the vectors z [draw, dimension] at a time, in their order; of none to many.

        Of all at once where there are few numbers.
        """
        if z.numel() > _HELD:
            return
        size = max(1, _AT_ONCE // entries(view))
        for many in z.split(_PASSES * size):
            values, _ = view.constrain(many)
            for start in range(0, len(many), size):
                yield cls._of({name: value[start : start + size] for name, value in values.items()})

    def flat(self) -> dict[str, Tensor]:
        """Return name -> [draw, entry]."""
        return {name: value.reshape(len(value), -1) for name, value in self.values.items()}

    def shaped(self, flat: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what was found per entry in the sites' shapes; a utility's is that of its rank if that is more."""
        out = {name: flat[name].reshape(value.shape[1:]) for name, value in self.values.items()}
        if "rank" in out:
            out["utility"] = torch.maximum(out["utility"], out.pop("rank"))
        return out


def entries(view: Density) -> int:
    """Return how many quantities a draw has."""
    return max(1, sum(view.sizes.values()) + view.sizes.get("utility", 0))  # and as many ranks


def _ranks(table: Tensor) -> Tensor:
    """Return the rank of every entry of the last axis, the largest 0."""
    ranks = torch.arange(table.shape[-1], dtype=table.dtype, device=table.device).expand_as(table)
    return torch.empty_like(table).scatter_(-1, ascending(-table), ranks)


def looked_at(
    view: Density, z: Tensor, log_weight: Tensor, used: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the proposals [place] that quantities are looked at, and for how many each stands [place].

    All of z [proposal, dimension], or where these would be too many numbers, drawn by half their weight and half a
    flatter one.
    """
    places = max(_PLACES, _NUMBERS // entries(view))
    if places >= len(z):
        return torch.arange(len(z), device=z.device), torch.ones_like(used)
    chance = 0.5 * (used.exp() + _flatter(log_weight)[1].exp())
    at = systematic(chance, places, generator)
    return at, 1 / (places * chance[at])


@dataclass(frozen=True)
class Sums:
    """Weighted sums of quantities over draws, and of their squares, so that draws need not be held.

    Attributes
    ----------
    first
        The quantities of the first draw, which all others are compared with.
    of, of_squares
        name -> [weight, entry]: sums of the differences from the first, and of their squares.
    weights
        Sums of the weights themselves [weight].
    """

    first: Quantities
    of: dict[str, Tensor]
    of_squares: dict[str, Tensor]
    weights: Tensor

    @classmethod
    def over(cls, parts: Iterable[Quantities], weights: Tensor) -> Sums:
        """Return the sums of quantities, some draws at a time, by each of some weights [weight, draw]."""
        first, start = Quantities({}), 0
        of: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        for part in parts:
            first = first if first.values else Quantities({name: h[:1] for name, h in part.values.items()})
            origin = first.flat()
            for name, h in part.flat().items():
                by, away = weights[:, start : start + len(h)].to(h), h - origin[name]
                of[name] = of.get(name, 0.0) + by @ away
                squares[name] = squares.get(name, 0.0) + by @ away.square_()
            start += len(next(iter(part.values.values()), ()))
        return cls(first, of, squares, weights.sum(1))

    def mean(self, name: str, row: int = 0) -> Tensor:
        """Return the mean [entry] of a quantity by the weights of a row, which add up to 1."""
        return self.first.flat()[name][0] + self.of[name][row]

    def variance(self, name: str, row: int = 0) -> Tensor:
        """Return the variance [entry] of a quantity by the weights of a row, which add up to 1."""
        return (self.of_squares[name][row] - self.of[name][row] ** 2).clamp_min(0.0)


def errors_of_weighed(
    parts: Iterable[Quantities],
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
    parts
        Quantities at the proposals that are looked at, some of these at a time.
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
    doubtful = k_hat > USABLE or not torch.equal(used, log_weight)
    shares = [_shares(gap, *_flatter(log_weight))[:, at] * times] if doubtful and k_hat <= HOPELESS else []
    part = (draws * used.exp()).frac()  # of each proposal a copy is kept or not, by this chance
    variance = ((2 * used).exp() + part * (1 - part) / draws**2)[at] * times
    weight = used.exp()[at] * times
    sums = Sums.over(parts, torch.cat([torch.stack([weight / weight.sum(), variance]), *shares]))
    out = {}
    for name, of in sums.of.items():
        if k_hat > HOPELESS:
            out[name] = torch.full_like(of[0], math.inf)
            continue
        # the sum of squares about the mean, by the variances of weights
        square = sums.of_squares[name][1] - 2 * of[0] * of[1] + of[0] ** 2 * sums.weights[1]
        sd, noise = sums.variance(name).sqrt(), BOUND * square.clamp_min(0.0).sqrt()
        if shares:
            noise = torch.hypot(noise, _second_estimate(*(of[2:] - of[0] * sums.weights[2:, None]), *sums.weights[2:]))
        out[name] = torch.where(sd > 1e-12, noise / sd.clamp_min(1e-12), 0.0).nan_to_num(nan=math.inf)
    return sums.first.shaped(out)


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


def _second_estimate(off: Tensor, change: Tensor, weight_sum: Tensor, change_sum: Tensor) -> Tensor:
    """Return a posterior mean [entry] by the expansion, from sums by both of its `_shares` [entry], and of these."""
    start = off / weight_sum
    return start + change - change_sum * start


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


def errors_of_members(members: Sequence[tuple[Density, Tensor]]) -> dict[str, Tensor]:
    """Return for each site the error [...] of means over members of an ensemble, for members are draws as well.

    A 95 % bound of the Monte-Carlo error of so few of them. `members`: the density of each, two or more, and draws
    [draw, dimension] from it.
    """
    from scipy.special import stdtrit  # slow to load, see `climber`

    sums = []
    for view, z in members:
        few = min(len(z), max(2, max(_PLACES, _NUMBERS // entries(view)) // len(members)))
        some = z[torch.linspace(0, len(z) - 1, few).long().to(z.device)]
        sums.append(Sums.over(Quantities.parts(view, some), some.new_full((1, few), 1 / few)))
    bound, out = float(stdtrit(len(members) - 1, 0.975)), {}
    for name in sums[0].of:
        between = torch.stack([each.mean(name) for each in sums]).var(0)
        variance = between + torch.stack([each.variance(name) for each in sums]).mean(0)
        out[name] = bound * (between / len(members) / variance.clamp_min(1e-24)).sqrt()
    return sums[0].first.shaped(out)
