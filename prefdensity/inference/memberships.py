"""To which type an annotator belongs, in every draw of a posterior, where tables are large.

Most annotators with a few hundred judgements belong to one type in all draws, to more than ten decimals. A few draws
show who they are; the judgements of the others alone are looked at in the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prefdensity.inference.view import View

_DEAR = 500_000_000  # cell evaluations from which on it is worth while
_LOOK = 32  # draws that are looked at whole
# Nats by which the other types lag behind who is sure to be of one, in a draw as far below all that were looked at as
# twice the way between these: a draw in ten standard deviations.
_SURE = 23.0
_LEAST = 1e-45  # probability that single precision tells from 0
_TOGETHER = 250  # draws whose probabilities are held beside those of all


@torch.no_grad()
def type_probability(view: View, z: Tensor) -> Tensor:
    """Return p(type of annotator | data, z) [draw, annotator, type] of a program with types at z [draw, dimension].

    In large tables that of annotators whose type is beyond doubt is its average over a few draws: what it differs by is
    less than 1e-10.
    """
    if len(z) * view.work < _DEAR or len(z) < 4 * _LOOK:
        return view.type_probability(z)
    at = farthest(z, _LOOK)
    seen = view.type_probability(z[at])
    doubtful = _in_doubt(seen)
    assert view.cells.annotator is not None  # of whom there are types
    judged = doubtful[view.cells.annotator]
    judged[0] = True  # a view has data
    out = seen.mean(0).expand(len(z), -1, -1).clone()
    few = View(view.program, view.cells.take(torch.nonzero(judged).flatten()))
    who = torch.nonzero(doubtful).flatten()
    for some in torch.arange(len(z), device=z.device).split(_TOGETHER):
        out[some[:, None], who] = few.type_probability(z[some])[:, who]
    out[at] = seen
    return out


def farthest(z: Tensor, count: int) -> Tensor:
    """Return the places [count] of draws far from one another, in standard deviations of z [draw, dimension].

    Each is the farthest from all before: draws of every mode are among them (Gonzalez 1985, Theoretical Computer
    Science 38, 293-306).
    """
    scaled = ((z - z.mean(0)) / z.std(0).clamp_min(1e-12)).float()
    square = scaled.square().sum(-1)
    product = scaled @ scaled.T
    found = [torch.zeros((), dtype=torch.int64, device=z.device)]
    away = torch.full_like(square, torch.inf)
    for _ in range(count - 1):
        away = torch.minimum(away, square + square[found[-1]] - 2 * product[found[-1]])
        found.append(away.argmax())
    return torch.stack(found)


def _in_doubt(seen: Tensor) -> Tensor:
    """Say whose type [annotator] some draw may leave in doubt, or see otherwise, by a few [draw, annotator, type]."""
    first = seen.topk(2, -1)
    behind = -first.values[..., 1].clamp_min(_LEAST).log()
    least, most = behind.aminmax(dim=0)
    same = (first.indices[..., 0] == first.indices[0, :, 0]).all(0)
    return ~same | (least - 2 * (most - least) < _SURE)
