"""Implicit preference densities: what a fit says about p*(x).

Under Luce's choice rule utilities are log densities up to a constant, so a posterior over utilities is
one over densities. This module is the door to densities, their domains and their distances.
Reference: Dumoulin, Johnson, Castro, Larochelle and Dauphin (2024), TMLR, arXiv 2311.14115.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.density.densities import Density, Mass, mean_utility, mixture, normalise
from prefdensity.density.distances import expected_kl, information, js, kl, kl_bound, log_ratio, match, tv
from prefdensity.density.domains import Domain
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs.layers import Program

if TYPE_CHECKING:
    from prefdensity.posterior.posterior import Posterior

__all__ = [
    "Density",
    "Domain",
    "Mass",
    "expected_kl",
    "information",
    "js",
    "kl",
    "kl_bound",
    "log_ratio",
    "match",
    "mean_utility",
    "mixture",
    "normalise",
    "of",
    "tv",
]

Array = NDArray[Any]

# choice rules under which exp(utility) is the density
_LUCE = ("logit", "luce_choice", "davidson", "rao_kupper", "graded", "adjacent_categories")
_CYCLIC = 0.1  # a density may leave out this share of the squared margins, no more
_CERTAINTY = 0.95
_OWN = {"annotator_tastes", "annotator_factors", "ideal_points"}  # layers that give annotators utilities of their own
_AGGREGATES = {"mixture": mixture, "mean_utility": mean_utility}


def of(
    post: Posterior,
    domain: Domain | None = None,
    *,
    aggregate: str = "mixture",
    by: str | None = None,
    temperature: float | None = None,
) -> Density:
    """Return the posterior of the implicit preference density.

    Where annotators differ there are three densities, and choosing one is a choice of social rule: the
    mixture of theirs, the density of their mean utility, and the density of a program that takes all of them
    for one (fit that one, for instance ``bradley_terry``, and pass its posterior).

    Parameters
    ----------
    post
        A fit. Where items were hardly compared its density is that of the prior.
    domain
        Default: the items. Or any domain whose labels are the items: exp(utility) is then a density per unit
        of its volume. For linear utilities also feature vectors [point, feature], standardised as in the fit.
    aggregate
        Over types, or over annotators with tastes of their own: "mixture", sum_k w_k p_k, or "mean_utility",
        proportional to exp(sum_k w_k log p_k).
    by
        "type": a density for each type. "annotator": one for each annotator, with his own tastes, at his
        reliability, types weighed by what he judged. None: one for all, at reliability 1.
    temperature
        The density is exp(utility / temperature): 1 under Luce's rule; to be declared under any other.

    Raises
    ------
    ProgramError
        Where the program implies no density, with the reason.
    DataError
        If the domain or an option does not suit the fit.
    """
    layers = [each.name for each in post.program.layers]
    scale = _temperature(post, layers, temperature)
    if aggregate not in _AGGREGATES:
        raise DataError(f"aggregate={aggregate!r} is unknown; use {' or '.join(map(repr, _AGGREGATES))}")
    if by not in (None, "type", "annotator"):
        raise DataError(f"by={by!r} is unknown; use 'type', 'annotator' or None")
    where = domain or Domain.items(post.items)
    _require_behaviour(post, post.program, by, where)
    utility = _utility(post, layers, where)
    if by == "annotator" or _OWN & set(layers):
        people = _of_annotators(post, layers, utility, where, scale, aggregate)
        equal = np.full(len(people.groups), 1 / len(people.groups))
        return people if by == "annotator" else _AGGREGATES[aggregate](people, equal)
    found = normalise(utility / scale, where)
    if by == "type" and not found.groups:
        raise DataError(f"{post.program_name} has no types; leave out by='type'")
    if by == "type" or not found.groups:
        return found
    return _AGGREGATES[aggregate](found, post.draws["type_weight"])


def _temperature(post: Posterior, layers: Sequence[str], temperature: float | None) -> float:
    """Return what utilities are divided by, or refuse where they make no density."""
    if post.dims.get("utility") not in (("item",), ("type", "item")):
        raise ProgramError(f"{post.program_name} has no utility of each item to read a density off")
    if temperature is None and not set(_LUCE) & set(layers):
        raise ProgramError(
            f"under the choice rule of {post.program_name} exp(utility) is not a density; declare one with "
            "temperature=..., and it is exp(utility / temperature)"
        )
    if temperature is not None and not 0 < temperature < math.inf:
        raise DataError(f"temperature={temperature!r} must be positive and finite")
    if "intransitive" in layers:
        _require_few_cycles(post)
    return temperature or 1.0


def _require_behaviour(post: Posterior, program: Program, by: str | None, domain: Domain) -> None:
    """Refuse what a behaviour other than Luce's leaves undefined."""
    behaviour = next((each.label for each in program.layers if each.stage == "behaviour"), None)
    if behaviour is None:
        return
    own = {each.name for each in program.layers} & {*_OWN, "intransitive"}
    if own or by == "annotator":
        raise ProgramError(
            f"{post.program_name}: {', '.join(sorted(own)) or 'by=annotator'} acts on what {behaviour} makes of the "
            "density, not on the density, so annotators have none of their own; leave out one of the two"
        )
    if behaviour.startswith("length_normalised") and (not _names_items(domain, post) or domain.log_volume.any()):
        raise DataError(f"under {behaviour} the density is normalised over the items; leave out the domain")


def _require_few_cycles(post: Posterior) -> None:
    share = curl_share(post)
    if (share <= _CYCLIC).mean() < _CERTAINTY:
        low, high = np.quantile(share, [0.05, 0.95])
        raise ProgramError(
            f"{post.program_name} implies no density: preferences that run in cycles follow from no density of items, "
            f"and the share of cycles in the squared margins is {share.mean():.2f} [{low:.2f}, {high:.2f}]; up to "
            f"{_CYCLIC:g} with probability {_CERTAINTY:g} a density is given"
        )


def _hodge(post: Posterior) -> tuple[Array, Array]:
    """Return the margins' potential [draw, (type,) item] and what no potential explains [draw, item, item].

    The least-squares projection on a complete graph of equally weighted pairs (Jiang, Lim, Yao and Ye 2011,
    Mathematical Programming 127, 203-244): the potential adds the mean of an item's row to its utility.
    """
    blade, chest = post.draws["blade"], post.draws["chest"]
    turn = blade[:, :, None] * chest[:, None] - chest[:, :, None] * blade[:, None]
    turn = post.draws["curl_scale"].reshape(-1, 1, 1) * turn
    row = turn.mean(-1)
    utility = post.draws["utility"]
    potential = utility + (row if utility.ndim == 2 else row[:, None])
    return potential, turn - (row[:, :, None] - row[:, None])


def curl_share(post: Posterior) -> Array:
    """Return the share of cycles in the squared margins of all pairs of items, in each draw [draw].

    0 where utilities explain every margin, 1 where every preference runs in circles. For several types, their average.

    Parameters
    ----------
    post
        A fit of a program with the layer `intransitive`.

    Raises
    ------
    ProgramError
        If the program has no such layer.
    """
    if "blade" not in post.draws:
        raise ProgramError(f"{post.program_name} knows no cycles; fit it with + intransitive")
    potential, curl = _hodge(post)
    kinds = potential if potential.ndim == 3 else potential[:, None]
    slope = ((kinds[..., :, None] - kinds[..., None, :]) ** 2).sum((-2, -1))
    round_ = (curl**2).sum((-2, -1))[:, None]
    return np.asarray((round_ / (round_ + slope)).mean(1))


def _utility(post: Posterior, layers: Sequence[str], domain: Domain) -> Array:
    """Return utilities [draw, (type,) point]."""
    if _names_items(domain, post):
        whole = _hodge(post)[0] if "intransitive" in layers else post.draws["utility"]
        return whole[..., _order(domain, post)]
    features = domain.points.reshape(len(domain), -1)
    if "linear" in layers and features.shape[1] == post.draws["weight"].shape[-1]:
        return post.draws["weight"] @ features.T
    raise DataError(
        f"{post.program_name} knows utilities of its {len(post.items)} items only; give a domain with their labels"
    )


def _names_items(domain: Domain, post: Posterior) -> bool:
    return len(domain) == len(post.items) and set(domain.labels) == set(post.items)


def _order(domain: Domain, post: Posterior) -> list[int]:
    return [post.items.index(label) for label in domain.labels]


def _taste(post: Posterior, layer: str) -> Array:
    """Return what a layer adds to each annotator's utilities [draw, annotator, item]."""
    draws = post.draws
    if layer == "annotator_tastes":
        return np.asarray(draws["taste_spread"].reshape(-1, 1, 1) * draws["taste_offset"])
    if layer == "annotator_factors":
        product = np.einsum("drj,dri->dji", draws["factor_score"], draws["factor_loading"])
        return np.asarray(draws["factor_scale"].reshape(-1, 1, 1) * product)
    far = (draws["ideal"][..., :, None] - draws["place"][..., None, :]) ** 2  # [draw, axis, annotator, item]
    return np.asarray(-draws["ideal_scale"].reshape(-1, 1, 1) * far.sum(1))


def _of_annotators(
    post: Posterior, layers: Sequence[str], utility: Array, domain: Domain, scale: float, aggregate: str
) -> Density:
    """Return the density [draw, annotator, point] of each annotator."""
    if "type_probability" not in post.draws and not {"reliability", *_OWN} & set(layers):
        raise DataError(f"{post.program_name} takes all annotators for alike; leave out by='annotator'")
    kinds = utility if utility.ndim == 3 else utility[:, None]
    own = kinds[:, None]  # [draw, annotator, type, point]
    for name in layers:  # margin layers act in this order
        if name == "reliability":
            own = own * post.draws["reliability"][:, :, None, None]
        if name in _OWN:
            if not _names_items(domain, post):
                raise DataError(
                    "tastes of annotators are known at the items only; give a domain with their labels"
                )
            own = own + _taste(post, name)[:, :, None, _order(domain, post)]
    weight = post.draws.get("type_weight", np.ones((1, 1)))[:, None]
    types = tuple(str(k + 1) for k in range(kinds.shape[1]))
    each = normalise(own / scale, domain, ("draw", "annotator", "type", "point"), types)
    merged = _AGGREGATES[aggregate](each, post.draws.get("type_probability", weight))
    return replace(merged, groups=post.annotators)
