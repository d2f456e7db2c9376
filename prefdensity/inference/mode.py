"""Where a climb starts and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from prefdensity.data.grades import scores
from prefdensity.errors import ProgramError
from prefdensity.inference.precision import Precision
from prefdensity.inference.site import Site
from prefdensity.inference.view import View
from prefdensity.programs.cells import Cells
from prefdensity.programs.running import run

# Steps towards the leading direction of what annotators say.
_TURNS = 20


@dataclass(frozen=True)
class Mode:
    """Where a climb ended.

    Attributes
    ----------
    z
        [dimension].
    value
        The objective there.
    converged, iterations
        Whether the gradient vanished, and after how many iterations.
    precision
        Minus the Hessian there, or within a step that gains nothing of it; None if the climb went without.
    """

    z: Tensor
    value: float
    converged: bool
    iterations: int
    precision: Precision | None = None


def first_guess(view: View) -> Tensor:
    """Return where climbs start [dimension]: log odds of winning for items, the middle of the prior else.

    Where a layer has a mirror, whoever speaks against the others is turned round.
    """
    if "first_guess" not in view.memo:
        view.memo["first_guess"] = _first_guess(view)
    guess: Tensor = view.memo["first_guess"]
    return guess.clone()


def _first_guess(view: View) -> Tensor:
    z = prior_draws(view, 64, seed=0).mean(0)
    turned = None
    for mirror in view.program.mirrors[:1]:
        turned = _opposed(view)
        if turned is not None:
            values = mirror.image(view.values(z[None])[0], turned)
            for name, value in values.items():
                z[view.sites[name].at] = view.sites[name].transform.inv(value).flatten()
    own = () if turned is None else values
    for name, site in view.sites.items():
        if site.is_identity and name not in own:
            z[site.at] = _log_odds(view, turned) if site.dims == ("item",) else 0.0
    return drawn_afresh(view, z[None], seed=0)[0]


@torch.no_grad()
def prior_draws(view: View, fits: int, seed: int, given: Mapping[str, Tensor] = MappingProxyType({})) -> Tensor:
    """Return prior draws of a view as vectors [fit, dimension], `given` values of sites shaped as in `View.values`.

    They are drawn on the CPU: an accelerator would draw others.
    """
    here = view.probe
    met = run(view.program, here.few, {name: value.cpu() for name, value in given.items()}, fits, seed).met
    parts = [site.transform.inv(met[name]["value"]).reshape(fits, -1) for name, site in here.sites.items()]
    return torch.cat(parts, -1).to(view.device)


def sites_at_modes(view: View) -> dict[str, Site]:
    """Return the sites that no Gaussian holds, by name.

    Raises
    ------
    ProgramError
        If a layer names a site so that it does not sample.
    """
    for each in view.program.layers:
        for name in each.at_mode:
            if name not in view.sites:
                raise ProgramError(
                    f"{each.label} says at_mode={name!r}, and {view.program.name} samples no such site; its sites "
                    f"are {', '.join(view.sites)}"
                )
    return {name: view.sites[name] for name in view.program.at_mode}


def drawn_afresh(view: View, z: Tensor, seed: int) -> Tensor:
    """Return z [start, dimension] with draws of their prior for sites that no Gaussian holds.

    The middle of the prior of a network's weights is no place to climb from: there it is flat.
    """
    found = z.clone()
    for site in sites_at_modes(view).values():
        found[:, site.at] = prior_draws(view, len(z), seed)[:, site.at]
    return found


def _log_odds(view: View, turned: Tensor | None) -> Tensor:
    """Return the log odds [item] of winning against whoever was met, a tie half a win.

    Judgements of those `turned` [annotator] count as their opposite.
    """
    cells = view.cells
    won, lost = _decided(cells)
    if turned is not None:
        against = turned[cells.annotator]
        won, lost = torch.where(against, lost, won), torch.where(against, won, lost)
    half = (cells.total - won - lost) / 2
    wins = torch.ones(cells.n_items, dtype=view.dtype, device=view.device)
    losses = wins.clone()
    for mine, theirs, side in ((won, lost, cells.item_a), (lost, won, cells.item_b)):
        wins.index_add_(0, side, mine + half)
        losses.index_add_(0, side, theirs + half)
    return (wins / losses).log()


def _decided(cells: Cells) -> tuple[Tensor, Tensor]:
    """Return the judgements [comparison] for either side."""
    assert cells.outcome is not None  # a view has data
    score = cells.outcome.new_tensor(scores(cells.outcomes))
    return cells.outcome @ (score == 1).to(cells.total), cells.outcome @ (score == 0).to(cells.total)


def _opposed(view: View) -> Tensor | None:
    """Return who [annotator] speaks against the others, every annotator's voice being of the same weight.

    Voices are the annotators' net wins of items, scaled to length 1, so that nobody outvotes the others; what they say
    in common is their leading direction, on the side of the majority. None: nobody speaks against it.
    """
    cells = view.cells
    if not cells.pairwise or cells.annotator is None:
        return None
    won, lost = _decided(cells)
    both = torch.cat([cells.annotator * cells.n_items + side for side in (cells.item_a, cells.item_b)])
    entry, place = both.unique(return_inverse=True)
    who, item = entry // cells.n_items, entry % cells.n_items
    people, items = won.new_zeros(cells.n_annotators), won.new_zeros(cells.n_items)
    voice = won.new_zeros(len(entry)).index_add_(0, place, torch.cat([won - lost, lost - won]))
    voice /= people.index_add(0, who, voice**2).sqrt().clamp_min(1e-12)[who]
    common = items.index_add(0, item, voice)
    for _ in range(_TURNS):
        agreement = people.index_add(0, who, voice * common[item])
        common = items.index_add(0, item, voice * agreement[who])
        common /= common.norm().clamp_min(1e-12)
    agreement = people.index_add(0, who, voice * common[item])
    if agreement.sign().sum() < 0:
        agreement, common = -agreement, -common
    against = agreement < 0
    return against if bool(against.any()) else None
