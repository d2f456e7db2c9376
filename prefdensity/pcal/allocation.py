"""How to spend a budget on labels and preferences: convex allocations in closed form, and exact-cost sampling.

Levels are nested purchases from the richest to the poorest, such as label, preference. Level l is bought with
probability p_l, p_1 <= p_2 <= ..., and lowers the variance left by the next level by T_l: minimise sum T_l / p_l for a
mean cost sum k_l p_l.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from prefdensity.errors import DataError

Array = NDArray[Any]

_STEPS = 200
_MIXTURE_STEPS = 400


def allocate(drops: ArrayLike, prices: ArrayLike, budget: float, floor: float = 0.0) -> Array:
    """Return the best probabilities [unit, level] at a mean cost of exactly `budget`.

    Pool adjacent levels that are out of order, take square roots, clip to [floor, 1], and scale all units by one
    number (the square root of the inverse price of variance) until the cost is met. One unit: a constant design.

    Parameters
    ----------
    drops
        T [unit, level]: variance that each level takes away from what the next leaves; may be negative (harmful).
    prices
        k [level], positive: extra cost of a level over the next.
    budget
        Mean cost of a unit; at sum(prices) or more everything is bought.
    floor
        Least probability of any purchase: it bounds the weights.

    Raises
    ------
    DataError
        If the budget is not positive, or cannot pay for the floor.
    """
    drops, prices = np.atleast_2d(np.asarray(drops, float)), np.asarray(prices, float)
    require_budget(budget, float(prices.sum()), floor)
    if budget >= prices.sum():
        return np.ones(drops.shape)
    rate = np.sqrt(_pooled(drops, prices))
    top = rate[:, -1].max()
    if top == 0:
        return np.full(drops.shape, budget / prices.sum())  # nothing to gain anywhere: no unit before another
    rate = np.maximum(rate / top, 1e-9)  # a unit with nothing to gain still needs a probability
    low, high = 0.0, 1 / rate.min()  # from the floor to everything
    scale = budget / (rate @ prices).mean()
    for _ in range(_STEPS):
        p = np.clip(scale * rate, floor, 1.0)
        excess = float((p @ prices).mean() - budget)
        low, high = (low, scale) if excess > 0 else (scale, high)
        # cost is piecewise linear in the scale: exact as soon as the right piece is found
        free = (scale * rate > floor) & (scale * rate < 1.0)
        slope = float(((rate * free) @ prices).mean())
        proposal = scale - excess / slope if slope > 0 else np.inf
        nearer = proposal if low < proposal < high else (low + high) / 2
        if abs(excess) <= 1e-14 * budget or nearer == scale:
            break
        scale = nearer
    return np.asarray(p)


def allocate_beside(drops: ArrayLike, prices: ArrayLike, money: float, units: int, owned: ArrayLike) -> Array:
    """Return the best probabilities [level] of new units, beside what is owned of others and kept.

    Minimise sum T_l / (owned_l + units p_l) for units sum k_l p_l = money and p increasing: at a price of variance,
    adjacent levels that are out of order are pooled, and the price is bisected.

    Parameters
    ----------
    drops
        T [level]; negative ones count as 0.
    prices
        As in `allocate`.
    money, units
        To be spent on new units, and their number.
    owned
        How often each level was bought before [level], increasing.

    Raises
    ------
    DataError
        If the money is not positive.
    """
    gain: Array = np.maximum(np.asarray(drops, float), 0.0)
    price, have = np.asarray(prices, float), np.asarray(owned, float) / units
    budget = money / units
    require_budget(budget, float(price.sum()), 0.0)
    if budget >= price.sum():
        return np.ones(len(gain))
    gain = gain / (gain.max() or 1.0)

    def excess(log_rate: float) -> float:
        return float(_blocks(gain, price, have, float(np.exp(log_rate))) @ price - budget)

    ends = float(np.log(1e-12)), float(np.log(1e12))  # of the price of variance: all is bought below, nothing above
    rate = ends[0] if excess(ends[0]) <= 0 else brentq(excess, *ends, xtol=1e-15, rtol=1e-15)
    p = _blocks(gain, price, have, float(np.exp(rate)))
    room = 1 - p  # what rounding, or drops of 0, leave is spent evenly on what can still be bought
    return np.asarray(p + room * max(budget - float(p @ price), 0.0) / float(room @ price))


def _blocks(drops: Array, prices: Array, owned: Array, price: float) -> Array:
    """Return the probabilities [level] that make sum T / (owned + p) + price k p least: increasing, in [0, 1]."""
    starts: list[int] = []
    values: list[float] = []
    for level in range(len(drops)):
        starts.append(level)
        values.append(_best(drops[level:level + 1], prices[level], owned[level:level + 1], price))  # fmt: skip
        while len(values) > 1 and values[-2] > values[-1]:
            starts.pop()
            values.pop()
            block = slice(starts[-1], level + 1)
            values[-1] = _best(drops[block], prices[block].sum(), owned[block], price)
    return np.repeat(values, np.diff([*starts, len(drops)]))


def _best(drops: Array, cost: float, owned: Array, price: float) -> float:
    """Return the p in [0, 1] that makes sum T / (owned + p) + price cost p least."""

    def slope(p: float) -> float:
        return float(price * cost - (drops / np.maximum(owned + p, 1e-150) ** 2).sum())

    if len(drops) == 1:
        return float(np.clip(np.sqrt(drops[0] / (price * cost)) - owned[0], 0.0, 1.0))
    if slope(0.0) >= 0:
        return 0.0
    return 1.0 if slope(1.0) <= 0 else float(brentq(slope, 0.0, 1.0, xtol=1e-15))


def _pooled(drops: Array, prices: Array) -> Array:
    """Return T_l / k_l made increasing in l with weights k: isotonic regression, by its max-min formula."""
    total = np.concatenate([np.zeros((len(drops), 1)), np.cumsum(drops, 1)], 1)
    price = np.concatenate([[0.0], np.cumsum(prices)])
    size = len(prices)
    out = np.empty_like(drops)
    for level in range(size):
        lows = []
        for first in range(level + 1):
            ratios = [
                (total[:, last] - total[:, first]) / (price[last] - price[first]) for last in range(level + 1, size + 1)
            ]
            lows.append(np.min(ratios, axis=0))
        out[:, level] = np.max(lows, axis=0)
    return np.maximum(out, 0.0)


def allocate_worst_case(
    drops: ArrayLike, prices: ArrayLike, budget: float, floor: float = 0.0
) -> tuple[Array, float, float]:
    """Return the probabilities that are best for the worst of several drops, its variance, and a lower bound on it.

    The worst case is the best allocation for the least favourable mixture of draws, found by multiplicative weights;
    the bound is the certificate: no allocation has a smaller worst case.

    Parameters
    ----------
    drops
        T [draw, unit, level], such as posterior draws of an uncertain judge.
    prices, budget, floor
        As in `allocate`.
    """
    drops = np.asarray(drops, float)
    mixture = np.full(len(drops), 1 / len(drops))
    best, value, bound = allocate(drops.mean(0), prices, budget, floor), np.inf, -np.inf
    for step in range(1, _MIXTURE_STEPS + 1):
        p = allocate(np.einsum("d,dul->ul", mixture, drops), prices, budget, floor)
        variance = (drops / p).sum(2).mean(1)
        bound = max(bound, float(mixture @ variance))
        if variance.max() < value:
            best, value = p, float(variance.max())
        if value - bound <= 1e-9 * abs(value):
            break
        spread = max(float(np.ptp(variance)), 1e-300)
        mixture = mixture * np.exp((variance - variance.max()) / spread * 2 / np.sqrt(step))
        mixture /= mixture.sum()
    return best, value, bound


def draw(probabilities: Array, seed: int | np.random.Generator) -> Array:
    """Return the level bought for each unit (0 the richest, L nothing) by systematic sampling.

    Every unit has exactly its probabilities; numbers of purchases, and so the cost, are those expected up to one or two
    units. Units are in random order within equal ratios of probabilities.

    Parameters
    ----------
    probabilities
        p [unit, level], increasing in level.
    seed
        Or a generator.
    """
    rng = np.random.default_rng(seed)
    n, size = probabilities.shape
    level = np.full(n, size)
    inside, share = np.arange(n), probabilities[:, -1]
    for each in range(size - 1, -1, -1):
        richer = probabilities[inside, each - 1] / probabilities[inside, each] if each else rng.random(len(inside))
        order = rng.permutation(len(inside))
        order = order[np.argsort(richer[order], kind="stable")]
        edges = np.concatenate([[0.0], np.cumsum(share[order])]) + rng.random()
        taken = np.zeros(len(inside), bool)
        taken[order] = np.floor(edges[1:]) > np.floor(edges[:-1])
        inside, share = inside[taken], richer[taken]
        level[inside] = each
    return level


def require_budget(budget: float, most: float, floor: float) -> None:
    """Refuse budgets that buy nothing and floors that they cannot pay."""
    if not (budget > 0 and np.isfinite(budget)):
        raise DataError(
            f"budget={budget!r} must be positive: the mean cost of a unit in preferences, {most:g} buys all"
        )
    if not 0 <= floor <= 1:
        raise DataError(f"floor={floor!r} must lie in [0, 1]")
    if floor * most > budget:
        raise DataError(f"floor={floor:g} costs {floor * most:g} a unit, more than budget={budget:g}")
