"""The evidence of a program from draws of its posterior, however these were made: bridge sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from prefdensity.inference.mixture import Mixture
from prefdensity.inference.view import View

_MOST = 4000  # draws that are used of either side
_TURNS = 200


@torch.no_grad()
def log_evidence(view: View, z: Tensor, guide: Mixture, generator: torch.Generator) -> float:
    """Return log p(data), nats, from draws z [draw, dimension] of the posterior and an approximation of it.

    Meng and Wong (1996), Statistica Sinica 6, 831-860: as many draws of the approximation meet those of the posterior
    half way, so that neither needs the tails of the other.
    """
    own = z[torch.linspace(0, len(z) - 1, min(len(z), _MOST)).long()]
    other, log_q = guide.draw(len(own), generator)
    inside = view.log_joint_of(own) - guide.log_density(own)
    outside = view.log_joint_of(other) - log_q
    top = inside.median()
    inside, outside = inside - top, outside - top
    found = inside.new_zeros(())
    for _ in range(_TURNS):
        # of the optimal bridge for as many draws on either side
        numerator = (outside - torch.logaddexp(outside, found)).logsumexp(0)
        denominator = (-torch.logaddexp(inside, found)).logsumexp(0)
        before, found = found, numerator - denominator
        if (found - before).abs() < 1e-8:
            break
    return float(found + top)
