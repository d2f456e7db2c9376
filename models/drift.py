"""Drift: what is preferred changes with time, each item's utility walking its own way about its average.

    tau ~ HalfNormal(1)
    e_ik ~ Normal(0, 1)                                   i = 1..items, k = 1..waves
    W_i(t) = sum_k sqrt(2) / (k pi) cos(k pi t) e_ik      t = 0 at the first date of the table, 1 at the last
    u_i(t) = u_i + tau W_i(t);   margin <- margin + tau (W_a(t) - W_b(t))

With all its waves, W is a random walk (Brownian motion) about its own average; with so many it is a smooth one, which
tells apart what lies a waves-th of the time from each other. So u is the utility over all the time, and tau the
standard deviation, between items, of what utility gains or loses from the first date to the last.

over="date" unless another number is named (a position in a session, "annotator.age"). Sites: tau `date_drift_spread`, e
`date_drift_offset` (wave, item), and `date_drift` (item), the change from the first date to the last; so for other
numbers. Identification: items compared at different times; only differences of drifts enter. Items with few judgements
hardly drift. Who asks about later dates, or earlier ones, is told of walks that go on: tau times Brownian motion from
the last utility, drawn afresh, so that what is known of an item grows less as its walk says.
Cannot express: jumps, some items that drift much more than others, or a drift that annotators do not share.
Reference: Glickman (1999), Applied Statistics 48, 377-394, and Coulom (2008), Computers and Games, for ratings that are
random walks; the waves are the Karhunen-Loeve expansion, cf. Deheuvels (2007), Statistics & Probability Letters 77.
"""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.effect_names import declared, sites_of
from prefdensity.programs.effects import onward
from prefdensity.programs.layers import layer


def _said(over: str) -> dict[str, Any]:
    said = declared("drift", (over,), "change of utility from first to last", shown=False)
    return said | {"meanings": said["meanings"] | {sites_of(over, "drift")[0]: f"change of utility with {over}"}}


@layer(
    "margin", place="wants", tall=True, sets=True, needs=lambda over: _said(over)["needs"],
    hyper=lambda over: _said(over)["hyper"], spread=lambda over: _said(over)["spread"],
    meanings=lambda over: _said(over)["meanings"],
)  # fmt: skip
def drift(margin: Tensor, data: Cells, over: str = "date", waves: int = 8) -> Tensor:
    own, spread, offset = sites_of(over, "drift")
    tau = pyro.sample(spread, dist.HalfNormal(1.0))
    with pyro.plate("wave", waves, dim=-2), pyro.plate("item", data.n_items, dim=-1):
        wave = pyro.sample(offset, dist.Normal(0.0, 1.0))
    k = torch.arange(1.0, waves + 1)[:, None]
    size = math.sqrt(2) / (k * math.pi)
    with pyro.plate("item", data.n_items, dim=-1):
        pyro.deterministic(own, -2 * tau * sum(size[j, 0] * wave[..., j, :] for j in range(0, waves, 2)))
    walk = (size * (k * math.pi * data.course(over)).cos() * data.contrast(wave)).sum(-2, keepdim=True)
    return margin + tau * (walk + onward(data, over, "drift"))
