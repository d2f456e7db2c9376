"""A program given the sites that no Gaussian holds, at one mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdensity.inference.mode import sites_at_modes
from prefdensity.inference.view import View
from prefdensity.programs.given import given


@dataclass(frozen=True)
class Member:
    """What is left of a view given the sites at a mode: one member of an ensemble.

    Attributes
    ----------
    view
        The density of everything else.
    values
        Site at the mode -> its value there.
    """

    view: View
    values: dict[str, Tensor]

    @classmethod
    def at(cls, view: View, z: Tensor) -> Member:
        """Return the member of a mode z [dimension] of a view."""
        held = sites_at_modes(view)
        raw, _ = view.values(z[None], held)
        values = {name: raw[name].reshape(site.batch + site.event) for name, site in held.items()}
        rest = View(given(view.program, values), view.cells)
        rest.memo["first_guess"] = torch.cat([z[view.sites[name].at] for name in rest.sites])  # climbs start there
        return cls(rest, values)
