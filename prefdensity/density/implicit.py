"""Implicit preference densities: what a fit says about p*(x).

Under Luce's choice rule utilities are log densities up to a constant, so a posterior over utilities is one over
densities. They are asked of the program (`asking`): the margins of all items against one, as anybody would see them,
are the log densities. This module is the door to densities, their domains and their distances.
Reference: Dumoulin, Johnson, Castro, Larochelle and Dauphin (2024), TMLR, arXiv 2311.14115.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.named import require_among
from prefdensity.density import asking
from prefdensity.density.asking import AVERAGE, NEW, Question, wants, weighs
from prefdensity.density.densities import Density, Mass, mean_utility, mixture, normalise
from prefdensity.density.distances import expected_kl, information, js, kl, kl_bound, log_ratio, match, tv
from prefdensity.density.domains import Domain
from prefdensity.errors import DataError, ProgramError
from prefdensity.posterior.draws import require_fit
from prefdensity.posterior.outcome_tables import type_shares

if TYPE_CHECKING:
    from prefdensity.posterior.posterior import Posterior
    from prefdensity.programs.layers import Layer

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

_CYCLIC = 0.1  # a density may leave out this share of the squared margins, no more
_CERTAINTY = 0.95
_BY = (None, "type", "annotator", NEW, AVERAGE)
_AGGREGATES = {"mixture": mixture, "mean_utility": mean_utility}


def of(
    post: Posterior,
    domain: Domain | None = None,
    *,
    aggregate: str = "mixture",
    by: str | None = None,
    annotator: str | None = None,
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
        Default: the items. Or any domain whose labels are the items: exp(utility) is then a density per unit of volume.
        For utilities that features alone make up also feature vectors [point, feature], standardised as in the fit.
    aggregate
        Over types, or over annotators who want different things: "mixture", sum_k w_k p_k, or "mean_utility",
        proportional to exp(sum_k w_k log p_k).
    by
        "type": a density for each type. "annotator": one for each annotator, with what they want, weighed as they
        weigh it, types weighed by what they judged. "new": of somebody nobody has met, drawn from the fitted
        population in each draw. "average": of somebody whose own latents are at the means of their distributions.
        None: one for all; layers that say how much somebody cares (see `layers.MARGIN_ORDER`) are left out.
    annotator
        A label: the density of them alone, as with by="annotator".
    temperature
        The density is exp(utility / temperature): 1 under Luce's rule; to be declared under any other.

    Raises
    ------
    ProgramError
        Where the program implies no density, with the reason; or is not at hand.
    DataError
        If the domain or an option does not suit the fit.
    """
    _require_options(post, aggregate, by, annotator)
    scale = _temperature(post, temperature)
    where = domain or Domain.items(post.items)
    single = by in ("annotator", NEW, AVERAGE) or annotator is not None
    _require_behaviour(post, single, where)
    common = Question(post, wants(post), points=_points(post, where))
    own = asking.differ(common)
    if by == "type":
        _require_types(post, own)
    if not single and not own:
        found = normalise(_typed(post, _potential(common, [0], where)[:, 0]) / scale, where)
        return found if by == "type" or not found.groups else _AGGREGATES[aggregate](found, type_shares(post))
    people = replace(common, layers=_whole(post), member=by if by in (NEW, AVERAGE) else "")
    who = _who(post, people, annotator)
    found = _of_people(post, people, who, where, scale, aggregate)
    if by == "annotator":
        return replace(found, groups=post.annotators)
    return _AGGREGATES[aggregate](found, np.full(len(who), 1 / len(who)))


def _require_options(post: Posterior, aggregate: str, by: str | None, annotator: str | None) -> None:
    require_fit(post)
    if aggregate not in _AGGREGATES:
        raise DataError(f"aggregate={aggregate!r} is unknown; use {' or '.join(map(repr, _AGGREGATES))}")
    if by is not None and annotator is not None:
        raise DataError("annotator=... asks about one annotator and by=... about many; give one of the two")
    if by not in _BY:
        raise DataError(f"by={by!r} is unknown; use {', '.join(map(repr, _BY))}")


def _require_types(post: Posterior, differ: bool) -> None:
    """Refuse a density for each type where there are none, or where those of one type `differ`."""
    if "type_weight" not in post.draws:
        raise DataError(f"{post.program_name} has no types; leave out by='type'")
    if differ:
        raise DataError(f"annotators of one type of {post.program_name} want different things; use by='annotator'")


def _temperature(post: Posterior, temperature: float | None) -> float:
    """Return what margins are divided by, or refuse where they make no density."""
    if temperature is not None and not 0 < temperature < math.inf:
        raise DataError(f"temperature={temperature!r} must be positive and finite")
    if temperature is None and not _by_luce(post):
        raise ProgramError(
            f"under the choice rule of {post.program_name} exp(utility) is not a density; declare one with "
            "temperature=..., and it is exp(utility / temperature)"
        )
    if temperature is not None and not post.program.layers:
        raise ProgramError(
            f"{post.program_name} is a plain function, so nobody knows its margin before the choice; write it as "
            "layers, or leave out temperature=... if its odds follow Luce's rule"
        )
    return temperature or 1.0


def _by_luce(post: Posterior) -> bool:
    """Say whether exp(margin) is a density under the choice rule: it says so, or the odds of a over b are exp(margin).

    Of a plain function the log odds are the margin, and follow Luce's axiom where they run in no circles at all.
    """
    choice = next((each for each in post.program.layers if each.stage == "choice"), None)
    if choice is None:
        return not asking.run_in_circles(Question(post, ()))
    return choice.luce or asking.odds_are_margins(post)


def _require_behaviour(post: Posterior, single: bool, domain: Domain) -> None:
    """Refuse what a behaviour other than Luce's leaves undefined."""
    behaviour = next((each for each in post.program.layers if each.stage == "behaviour"), None)
    if behaviour is None:
        return
    acting = [each.label for each in wants(post) if each.stage == "margin" and asking.moves(post, each)]
    if acting or single:
        raise ProgramError(
            f"{post.program_name}: {', '.join(acting) or 'by=annotator'} acts on what {behaviour.label} makes of the "
            "density, not on the density, so annotators have none of their own; leave out one of the two"
        )
    items = _names_items(domain, post) and not domain.log_volume.any()
    if not items and asking.reads_all_items(post, behaviour):
        raise DataError(f"under {behaviour.label} the density is normalised over the items; leave out the domain")


def curl_share(post: Posterior) -> Array:
    """Return the share of cycles in the squared margins of all pairs of items, in each draw [draw].

    0 where utilities explain every margin, 1 where every preference runs in circles; of what annotators have in common
    where that holds the cycles, otherwise the average over annotators. For several types, their average.

    Parameters
    ----------
    post
        A fit.
    """
    shared = wants(post, lambda layer: not asking.differ(Question(post, wants(post, lambda each: each is layer))))
    for layers in dict.fromkeys((shared, wants(post))):
        question = Question(post, layers)
        if asking.run_in_circles(question):
            return np.concatenate([_shares(square) for square in question.pairs(range(question.people))])
    return np.zeros(post.n_draws)


def _shares(margin: Array) -> Array:
    """Return shares [draw] of cycles in margins [draw, annotator, type, item, item]."""
    potential, curl = _hodge(margin)
    slope = ((potential[..., :, None] - potential[..., None, :]) ** 2).sum((-2, -1))
    round_ = (curl**2).sum((-2, -1))
    return np.asarray((round_ / (round_ + slope)).mean((1, 2)))


def _hodge(margin: Array) -> tuple[Array, Array]:
    """Return the potential [..., item] of margins [..., item, item] and what no potential explains [..., item, item].

    The least-squares projection on a complete graph of equally weighted pairs (Jiang, Lim, Yao and Ye 2011,
    Mathematical Programming 127, 203-244).
    """
    potential = margin.mean(-1)
    return potential, margin - (potential[..., :, None] - potential[..., None, :])


def _potential(question: Question, who: Sequence[int], domain: Domain) -> Array:
    """Return the utilities [draw, annotator, type, point] that explain the margins that `who` would see."""
    order = list(range(question.size))
    if question.points is None:
        order = [question.post.items.index(label) for label in domain.labels]
    if not asking.run_in_circles(question):
        return question.against_first(order, who)
    _require_few_cycles(question.post)
    return np.concatenate([_hodge(square)[0] for square in question.pairs(who)])[..., order]


def _require_few_cycles(post: Posterior) -> None:
    share = curl_share(post)
    if (share <= _CYCLIC).mean() < _CERTAINTY:
        low, high = np.quantile(share, [0.05, 0.95])
        raise ProgramError(
            f"{post.program_name} implies no density: preferences that run in cycles follow from no density of items, "
            f"and the share of cycles in the squared margins is {share.mean():.2f} [{low:.2f}, {high:.2f}]; up to "
            f"{_CYCLIC:g} with probability {_CERTAINTY:g} a density is given"
        )


def _points(post: Posterior, domain: Domain) -> Array | None:
    """Return the features of a domain that is not the items, or None for the items.

    Raises
    ------
    DataError
        Where the program knows its items only: it reads other features, or something that each item has of its own.
    """
    if _names_items(domain, post):
        return None
    features = domain.points.reshape(len(domain), -1)
    layers = wants(post)
    held = Question(post, layers).sites("item")
    held += [each.label for each in layers if "measures" in each.needs]
    if post.features is None or held or features.shape[1] != post.features.shape[1] or features.dtype.kind not in "fiu":
        of_items = f" ({', '.join(held)})" if held else ""
        raise DataError(
            f"{post.program_name} knows what is wanted at its {len(post.items)} items only{of_items}; give a domain "
            "with their labels"
        )
    return features.astype(float)


def _names_items(domain: Domain, post: Posterior) -> bool:
    return len(domain) == len(post.items) and set(domain.labels) == set(post.items)


def _whole(post: Posterior) -> tuple[Layer, ...]:
    """Return the layers that make up what an annotator sees: what they want, and how much they care."""
    wanted = wants(post)
    return tuple(each for each in post.program.layers if each in wanted or (each.stage == "margin" and weighs(each)))


def _typed(post: Posterior, values: Array) -> Array:
    """Return values [draw, type, point], without the axis of types where there are none."""
    return values if "type_weight" in post.draws else values[:, 0]


def _who(post: Posterior, people: Question, annotator: str | None) -> list[int]:
    """Return the codes of the annotators whose densities are asked for."""
    if people.member:
        return [0]
    if annotator is not None:
        require_among((annotator,), post.annotators, "annotator", "annotator", "fit")
    if "type_probability" not in post.draws and len(post.annotators) != 1 and not asking.differ(people):
        raise DataError(f"{post.program_name} takes all annotators for alike; leave out by='annotator'")
    return list(range(len(post.annotators))) if annotator is None else [post.annotators.index(annotator)]


def _of_people(
    post: Posterior, people: Question, who: list[int], domain: Domain, scale: float, aggregate: str
) -> Density:
    """Return the density [draw, annotator, point] of each annotator in `who`."""
    values = _potential(people, who, domain)
    types = tuple(str(k + 1) for k in range(values.shape[2]))
    each = normalise(values / scale, domain, ("draw", "annotator", "type", "point"), types)
    weight = post.draws.get("type_weight", np.ones((1, 1)))[:, None]
    if "type_probability" in post.draws and people.member != AVERAGE:
        weight = post.draws["type_probability"][:, who] if not people.member else type_shares(post)[:, None]
    merged = _AGGREGATES[aggregate](each, weight)
    return replace(merged, groups=tuple(map(str, who)))
