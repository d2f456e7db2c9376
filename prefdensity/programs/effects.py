"""Effects by whom, on what and over what: one number for everybody, or one that depends on who judges, and when.

A layer with an argument `by` lets what it is about vary: ``by="annotator"``, or several labels, whose effects add up
(``by=["annotator", "category"]``). Each label has a scale of its own, learned, so that what varies little is drawn
together, and by whom there is nothing to tell is told by the scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells, contrasts
from prefdensity.programs.effect_names import sites_of, trend_of

_AFRESH: Any = {"afresh": True}
_STEPS = 32  # waves of a walk beyond the table: they hold 99.4 % of its variance


def varying(
    data: Cells,
    by: tuple[str, ...],
    effect: str,
    middle: Tensor | float,
    scale: float = 1.0,
    shown: Callable[[Tensor], Tensor] = lambda own: own,
) -> Any:
    """Return the effect of each comparison, [..., comparison], or `middle` where it varies by nobody.

    Parameters
    ----------
    data
        The comparisons.
    by
        Labels, such as ("annotator",).
    effect
        What varies; its sites are those of `effect_names.sites_of`.
    middle
        The effect of the average annotator (category, ...).
    scale
        Of the half-normal prior of the standard deviation by each label.
    shown
        Of the middle and each one's deviation from it, what to report.
    """
    total = middle
    for label in by:
        own, spread, offset = sites_of(label, effect)
        tau = pyro.sample(spread, dist.HalfNormal(scale))
        with pyro.plate(label, data.size(label), dim=-1):
            away = tau * pyro.sample(offset, dist.Normal(0.0, 1.0))  # non-centred: no infinite peak at tau = 0
            pyro.deterministic(own, shown(middle + away))
        total = total + data.of(label, away)
    return total


def trend(data: Cells, over: str, effect: str) -> Tensor:
    """Return how far an effect has changed at each comparison, [comparison], in a straight line over a number.

    The site `effect_names.trend_of`, one for everybody, is the change for one standard deviation of the number; at the
    mean of the number nothing has changed.
    """
    return pyro.sample(trend_of(over, effect), dist.Normal(0.0, 0.5)) * data.number(over)


def regressed(data: Cells, name: str, effect: str, scale: float = 1.0) -> Any:
    """Return what an effect that each item has owes to a number or category, for side a over side b [..., comparison].

    Parameters
    ----------
    data
        The comparisons.
    name
        A number or category of comparisons, or of who judged.
    effect
        Of which each item has one; the sites are those of `effect_names.sites_of`, with each level's own effect, or
        that of one standard deviation of a number.
    scale
        Of the half-normal prior of the standard deviation of coefficients.
    """
    own, spread, offset = sites_of(name, effect)
    x, levels = data.coded(name), data.levels(name)
    tau = pyro.sample(spread, dist.HalfNormal(scale))
    with pyro.plate(f"{name}_contrast", x.shape[-1], dim=-2), pyro.plate("item", data.n_items, dim=-1):
        slope = pyro.sample(offset, dist.Normal(0.0, tau))  # centred: a likelihood without priors does not feel tau
    with pyro.plate("item", data.n_items, dim=-1):
        if levels:
            with pyro.plate(name, levels, dim=-2):
                pyro.deterministic(own, contrasts(levels).to(slope) @ slope)
        else:
            pyro.deterministic(own, slope[..., 0, :])
    return sum(x[..., k] * data.contrast(slope[..., k, :]) for k in range(x.shape[-1]))


def onward(data: Cells, over: str, effect: str) -> Any:
    """Return what side a gains on side b [..., comparison] by random walks beyond the ends of the table.

    Brownian motion of each item, from 0 at the end of the table and of variance 1 for each length of the table, after
    Karhunen and Loeve. Nobody has seen it: whenever somebody asks about a later date (or an earlier one) it is drawn
    afresh, and judgements in the table never feel it.
    """
    total: Any = 0.0
    if over not in data.outside:
        return total
    beyond = data.beyond(over)
    for side, when in ((1.0, "later"), (-1.0, "earlier")):
        away = (side * beyond).clamp_min(0.0)
        rate = (torch.arange(_STEPS, dtype=away.dtype, device=away.device)[:, None] + 0.5) * math.pi
        with pyro.plate(f"{when}_wave", _STEPS, dim=-2), pyro.plate("item", data.n_items, dim=-1):
            step = pyro.sample(f"{over}_{effect}_{when}", dist.Normal(0.0, 1.0), infer=_AFRESH)
        farthest = away.max().clamp_min(1e-12)
        wave = (2 * farthest).sqrt() / rate * (rate * away / farthest).sin()
        total = total + (wave * data.contrast(step)).sum(-2, keepdim=True)
    return total
