"""Tastes: annotators, categories or kinds of people have utilities of their own, scattered around common ones.

    by="annotator":  tau ~ HalfNormal(1),  e_ji ~ Normal(0, 1)             j = 1..annotators, i = 1..items
                     u_j = u + tau e_j;   margin <- margin + tau (e_ja - e_jb)
    on="age":        tau ~ HalfNormal(1),  g_i ~ Normal(0, tau)            x age of who judged, in sds from its mean
                     u_j = u + x_j g;     margin <- margin + x_j (g_a - g_b)

by="annotator" unless something else is said: by="category" lets what is best at code differ from what is best at prose.
Several labels (by=["annotator", "category"]) or attributes (on=["age", "language"]) add up, and by goes with on.
Categories are coded by contrasts of their levels that sum to 0, so g says how far each level is from the middle.
Sites: tau `annotator_taste_spread`, e `annotator_taste_offset` (annotator, item), and so on for other labels; of what
tastes are regressed on, tau `age_taste_spread`, g `age_taste` (item; of categories level, item), `age_taste_offset`.
With u `utility` the population's mean, exp(u) is a geometric mean of the annotators' densities.
Identification: by whom, several judgements of each; spread 0 is the program without. Cannot express: camps
(annotator_types does), unequal reliability, two attributes whose effects do not add up.
Reference: Boeckenholt (2006), Psychometrika 71, 615-629; Dittrich, Hatzinger and Katzenbeisser (1998), Applied
Statistics 47, 511-525, for attributes of who judges.
"""

from typing import Any

import pyro
import pyro.distributions as dist
from torch import Tensor

from prefdensity.programs.cells import CODED, Cells
from prefdensity.programs.effect_names import declared, sites_of
from prefdensity.programs.effects import regressed
from prefdensity.programs.layers import layer
from prefdensity.programs.mends import Mend


def _said(by: tuple[str, ...], on: tuple[str, ...]) -> dict[str, Any]:
    said = declared("taste", (*by, *on), "utility of an item", shown=False)
    shown = {sites_of(name, "taste")[0]: f"utility of an item by {name}" for name in on}
    coded = tuple(f"{CODED}{name}" for name in on)
    return said | {"needs": (*said["needs"], *coded), "meanings": said["meanings"] | shown}


@layer(
    "margin", place="wants", tall=True, sets=True, mends=Mend("tastes", rank=1, options={"by": ("annotator",)}),
    needs=lambda by, on: _said(by, on)["needs"], hyper=lambda by, on: _said(by, on)["hyper"],
    spread=lambda by, on: _said(by, on)["spread"], meanings=lambda by, on: _said(by, on)["meanings"],
)  # fmt: skip
def tastes(margin: Tensor, data: Cells, by: tuple[str, ...] = ("annotator",), on: tuple[str, ...] = ()) -> Tensor:
    for label in by:
        _, spread, offset = sites_of(label, "taste")
        tau = pyro.sample(spread, dist.HalfNormal(1.0))
        with pyro.plate(label, data.size(label), dim=-2), pyro.plate("item", data.n_items, dim=-1):
            away = pyro.sample(offset, dist.Normal(0.0, 1.0))
        margin = margin + tau * data.contrast(away, by=label)
    for name in on:
        margin = margin + regressed(data, name, "taste")
    return margin
