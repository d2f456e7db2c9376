"""What a fit reports: draws of every site as arrays, and the features that they are read with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from prefdensity.inference.view import View
from prefdensity.posterior.sites import Sites
from prefdensity.programs.apart import meeting
from prefdensity.programs.standardised import Standardised

_KEPT = 2**23  # numbers of draws of a site that follows from others, up to which they are kept, 64 MB


def sites_at(
    view: View, z: Tensor, without: Collection[str] = ()
) -> tuple[Mapping[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Return every site at z but some as arrays [draw, ...], with the annotators' types where there are types.

    Sites that follow from others and are very large are worked out when they are asked for.
    """
    later = [name for name in view.derived if view.sizes[name] * len(z) > _KEPT]
    now = [name for name in view.sizes if name not in (*later, *without)]
    draws, dims = (_small_world(view, z, now) if later else view).constrain(z, now)
    if view.program.annotators_have_types:
        draws["type_probability"] = view.type_probability(z)
        dims = dims | {"type_probability": ("annotator", "type")}
    dims = {name: axes for name, axes in dims.items() if name not in without}
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
