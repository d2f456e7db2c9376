"""Implicit preference densities: what a fit says about p*(x).

Under Luce's choice rule utilities are log densities up to a constant, so a posterior over utilities is
one over densities. This module is the door to densities, their domains and their distances.
Reference: Dumoulin, Johnson, Castro, Larochelle and Dauphin (2024), TMLR, arXiv 2311.14115.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.densities import Density, Mass, mean_utility, mixture, normalise
from prefdensity.distances import expected_kl, information, js, kl, kl_bound, log_ratio, match, tv
from prefdensity.domains import Domain
from prefdensity.errors import DataError, ProgramError
from prefdensity.programs import Program, load_program

if TYPE_CHECKING:
    from prefdensity.posterior import Posterior

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

_LUCE = ("logit", "davidson", "rao_kupper")  # choice rules under which exp(utility) is the density
_NO_DENSITY = {"intransitive": "preferences that run in cycles follow from no density"}


def of(
    post: Posterior,
    domain: Domain | None = None,
    *,
    aggregate: str = "mixture",
    by: str | None = None,
    temperature: float | None = None,
    program: Program | None = None,
) -> Density:
    """Return the posterior of the implicit preference density.

    With annotator types there are three densities, which differ, and choosing one is a choice of social rule:
    the mixture of the types' densities, the density of their mean utility, and the density of a program that
    takes all annotators for one (fit that one, for instance ``bradley_terry``, and pass its posterior).

    Parameters
    ----------
    post
        A fit. Where items were hardly compared its density is that of the prior.
    domain
        Default: the items. Or any domain whose labels are the items: exp(utility) is then a density per unit
        of its volume. For linear utilities also feature vectors [point, feature], standardised as in the fit.
    aggregate
        Over types: "mixture", sum_k w_k p_k, or "mean_utility", proportional to exp(sum_k w_k log p_k).
    by
        "type": a density for each type. "annotator": one for each annotator, types weighed by what he
        judged, utilities scaled by his reliability. None: one for the population, at average reliability.
    temperature
        The density is exp(utility / temperature): 1 under Luce's rule; to be declared under any other.
    program
        Needed when the fit is of a program from a user's file; files are never run unasked.

    Raises
    ------
    ProgramError
        Where the program implies no density, with the reason.
    DataError
        If the domain or an option does not suit the fit.
    """
    layers = _layers(post, program)
    utility, where = _on(post, domain, layers)
    log_density = utility / _temperature(post, layers, temperature)
    if aggregate not in _AGGREGATES:
        raise DataError(f"aggregate={aggregate!r} is unknown; use {' or '.join(map(repr, _AGGREGATES))}")
    if by == "annotator":
        return _by_annotator(post, log_density, where, aggregate)
    if by not in (None, "type"):
        raise DataError(f"by={by!r} is unknown; use 'type', 'annotator' or None")
    found = normalise(log_density, where)
    if not found.groups:
        if by == "type":
            raise DataError(f"{post.program} has no annotator types; leave out by='type'")
        return found
    return found if by == "type" else _AGGREGATES[aggregate](found, post.draws["type_weight"])


_AGGREGATES = {"mixture": mixture, "mean_utility": mean_utility}


def _layers(post: Posterior, program: Program | None) -> tuple[str, ...]:
    """Return the names of the layers; empty for a program that is a plain function."""
    if program is None and post.program.endswith(".py"):
        raise ProgramError(
            f"this posterior was fitted with the file {post.program}, and files are not run unasked; pass "
            "program=load_program(...)"
        )
    names = tuple(each.name for each in (program or load_program(post.program)).layers)
    for name in names:
        if name in _NO_DENSITY:
            raise ProgramError(f"{post.program} implies no density: {_NO_DENSITY[name]}")
    return names


def _temperature(post: Posterior, layers: tuple[str, ...], temperature: float | None) -> float:
    if temperature is None and not set(_LUCE) & set(layers):
        raise ProgramError(
            f"under the choice rule of {post.program} exp(utility) is not a density; declare one with "
            "temperature=..., and it is exp(utility / temperature)"
        )
    if temperature is not None and not 0 < temperature < math.inf:
        raise DataError(f"temperature={temperature!r} must be positive and finite")
    return temperature or 1.0


def _on(post: Posterior, domain: Domain | None, layers: tuple[str, ...]) -> tuple[Array, Domain]:
    """Return utilities [draw, (type,) point] on a domain."""
    if post.dims.get("utility") not in (("item",), ("type", "item")):
        raise ProgramError(f"{post.program} has no utility of each item to read a density off")
    where = domain or Domain.items(post.items)
    if set(where.labels) == set(post.items) and len(where) == len(post.items):
        return post.draws["utility"][..., [post.items.index(label) for label in where.labels]], where
    if "linear" in layers and where.points.reshape(len(where), -1).shape[1] == post.draws["weight"].shape[-1]:
        return post.draws["weight"] @ where.points.reshape(len(where), -1).T, where
    raise DataError(
        f"{post.program} knows utilities of its {len(post.items)} items only; give a domain with their labels"
    )


def _by_annotator(post: Posterior, log_density: Array, domain: Domain, aggregate: str) -> Density:
    known = {"type_probability", "reliability"} & set(post.draws)
    if not known:
        raise DataError(f"{post.program} takes all annotators for alike; leave out by='annotator'")
    people = len(post.annotators)
    scale = post.draws.get("reliability", np.ones((1, people)))[:, :, None, None]
    kinds = log_density if log_density.ndim == 3 else log_density[:, None]
    # every annotator under every draw, as if it were a draw of its own
    each = normalise((scale * kinds[:, None]).reshape(-1, *kinds.shape[1:]), domain)
    share = post.draws.get("type_probability", np.ones((post.n_draws, people, 1)))
    merged = _AGGREGATES[aggregate](each, share.reshape(-1, kinds.shape[1]))
    table = merged.log_p.reshape(-1, people, len(domain))
    return Density(table, domain, ("draw", "annotator", "point"), post.annotators)
