"""What a fit reports: draws of every site as arrays, and the features that they are read with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.answer import Answer
from prefdensity.inference.memberships import type_probability
from prefdensity.inference.mode import sites_at_modes
from prefdensity.inference.view import View
from prefdensity.posterior.sites import Sites, taken
from prefdensity.programs.apart import meeting
from prefdensity.programs.standardised import Standardised

_KEPT = 2**23  # numbers of draws of a site that follows from others, up to which they are kept, 64 MB


Arrays = Mapping[str, np.ndarray]
Dims = dict[str, tuple[str, ...]]


def reported(view: View, answer: Answer) -> tuple[Arrays, Arrays, Dims]:
    """Return every site of an answer as arrays [draw, ...], at its point [1, ...], and their dims."""
    if not answer.members:
        draws, dims = sites_at(view, answer.z, answer.left_out)
        return draws, sites_at(view, answer.point[None], answer.left_out)[0], dims
    parts: list[Arrays] = []
    for k, member in enumerate(answer.members):
        own, dims = sites_at(member.view, answer.z[answer.of == k])
        parts.append(_matched(own, parts[0], dims) if parts and "type_probability" in own else own)
    point, _ = sites_at(answer.members[0].view, answer.point[None])
    known = sites_at_modes(view)
    modes = {name: np.stack([each.values[name].cpu().numpy() for each in answer.members]) for name in known}
    dims |= {name: site.dims for name, site in known.items()}
    return _side_by_side(parts, modes, answer.of.numpy()), {**point, **{n: v[:1] for n, v in modes.items()}}, dims


def _side_by_side(parts: list[Arrays], modes: Arrays, of: np.ndarray) -> Arrays:
    """Return the draws of all members in one, those of member k where `of` [draw] is k."""

    def joined(name: str) -> np.ndarray:
        if name in modes:
            return modes[name][of]
        out = np.empty((len(of), *parts[0][name].shape[1:]), parts[0][name].dtype)
        for k, part in enumerate(parts):
            out[of == k] = part[name]
        return out

    made = set(parts[0].made) if isinstance(parts[0], Sites) else set()
    made |= {name for name, values in modes.items() if values[0].size * len(of) > _KEPT}
    now = {name: joined(name) for name in (*parts[0], *modes) if name not in made}
    return Sites(now, {name: functools.partial(joined, name) for name in made}) if made else now


def _matched(draws: Arrays, first: Arrays, dims: Dims) -> Arrays:
    """Return draws with types in the order in which they are those of the first member: types have no numbers."""
    from scipy.optimize import linear_sum_assignment  # slow to load, see `climber`

    both = first["type_probability"].mean(0).T @ draws["type_probability"].mean(0)
    _, order = linear_sum_assignment(both, maximize=True)
    return taken(draws, {name: found.index("type") + 1 for name, found in dims.items() if "type" in found}, order)


def sites_at(view: View, z: Tensor, without: Collection[str] = ()) -> tuple[Arrays, Dims]:
    """Return every site at z but some as arrays [draw, ...], with the annotators' types where there are types.

    Sites that follow from others and are very large are worked out when they are asked for.
    """
    later = [name for name in view.derived if view.sizes[name] * len(z) > _KEPT]
    now = [name for name in view.sizes if name not in (*later, *without)]
    draws, dims = (_small_world(view, z, now) if later else view).constrain(z, now)
    if view.program.annotators_have_types:
        draws["type_probability"] = type_probability(view, z)
        dims = dims | {"type_probability": ("annotator", "type")}
    order = (*view.sizes, "type_probability")  # that of the draws, which files keep
    dims = {name: dims[name] for name in order if name in dims and name not in without}
    arrays = {name: value.cpu().numpy() for name, value in draws.items()}
    if not later:
        return arrays, dims
    few = View(view.program, view.cells.head(1))  # what is worked out later needs no table

    def make(name: str) -> Callable[[], np.ndarray]:
        return lambda: few.constrain(z, [name])[0][name].cpu().numpy()

    return Sites(arrays, {name: make(name) for name in later}), dims


def _small_world(view: View, z: Tensor, names: Collection[str]) -> View:
    """Return the program in a world of two items, where it is run at once, if sites are there what they are in its own.

    That is looked at in two draws.
    """
    small = View(view.program, meeting(view.cells.head(1)))
    if small.dimension != view.dimension:
        return view
    there, here = (each.constrain(z[:2], names)[0] for each in (small, view))
    return small if all(torch.equal(there[name], here[name]) for name in names) else view


def kept(features: Tensor) -> np.ndarray | Standardised:
    """Return features as a posterior holds them: those of the user's own memory stay there."""
    here = features.cpu()
    return here if isinstance(here, Standardised) else here.double().numpy()
