"""Where a posterior lies in its own prior's tail: what the prior then does is more than to steady the answer."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from prefdensity.inference.answer import Answer
from prefdensity.inference.view import View
from prefdensity.programs.apart import UNTOLD, first_alone
from prefdensity.programs.cells import Cells
from prefdensity.programs.running import run

# Draws of the prior; the share of them, on either side, beyond which a posterior median lies in the tail.
_DRAWS, _TAIL = 4000, 0.005


def prior_tails(view: View, answer: Answer) -> tuple[str, ...]:
    """Return a sentence for each scalar site whose posterior median, of the draws of an answer, lies in the tail.

    The tail is beyond 99 % of the prior: were truths drawn from it, that would happen in less than 1 % of the fits.
    """
    sites = answer.members[0].view.sites if answer.members else view.sites
    scalars = [(name, site) for name, site in sites.items() if site.is_scalar]
    if not scalars:
        return ()
    prior = _of_scalars(view)
    found = []
    for name, site in scalars:
        edges = np.quantile(prior[name].cpu().numpy(), [_TAIL, 1 - _TAIL])
        middle = float(answer.z[:, site.at].median())
        if edges[0] <= middle <= edges[1]:
            continue
        raw = answer.z.new_tensor([*edges, middle])
        lower, upper, value = (float(each) for each in site.transform(raw))
        found.append(
            f"{name} lies in the tail of its prior: its posterior median is {value:.3g}, and 99 % of the prior is "
            f"between {lower:.3g} and {upper:.3g}. The prior pulls it there, and what depends on it may be off: "
            f"see whether the program misses something, or write the layer of {name} with a wider prior"
        )
    return tuple(found)


def _of_scalars(view: View) -> dict[str, Tensor]:
    """Return prior draws [draw] of the scalar sites, as vectors have them.

    Scalars come before the tables that they shape, so that one draw of each table serves all.
    """
    try:
        return _drawn(view, first_alone(view.cells).to("cpu"))  # see `View.probe`
    except UNTOLD:  # a layer that counts on everybody else
        return _drawn(view, view.cells.head(1))


def _drawn(view: View, cells: Cells) -> dict[str, Tensor]:
    names = [name for name, site in view.sites.items() if site.is_scalar]
    met = run(view.program, cells, {}, 1, seed=1).met
    tables = {name: met[name]["value"] for name in view.sites if name not in names}
    fixed = {name: value.expand(_DRAWS, *value.shape[1:]) for name, value in tables.items()}
    drawn = run(view.program, cells, fixed, _DRAWS, seed=0).met
    return {name: view.sites[name].transform.inv(drawn[name]["value"].to(view.device)).flatten() for name in names}
