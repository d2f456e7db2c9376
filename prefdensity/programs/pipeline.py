"""From layers to a Pyro program of comparisons: the stages, one after another."""

from __future__ import annotations

import pyro
from torch import Tensor

from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Layer
from prefdensity.programs.outcomes import mix, observe


def run_stages(layers: tuple[Layer, ...], data: Cells) -> None:
    """Run the layers of a program of comparisons, which observes the outcomes of `data`."""
    margin, type_weight = margins(layers, data)
    stage = {each.stage: each for each in layers}
    log_prob = decided(layers, margin, data)
    if type_weight is not None and stage["types"].per == "comparison":
        observe(mix(log_prob, type_weight), data)
    else:
        observe(log_prob, data, type_weight)


def margins(layers: tuple[Layer, ...], data: Cells) -> tuple[Tensor, Tensor | None]:
    """Run the layers up to the choice rule; return the margin [..., comparison] that reaches it, and type weights.

    Layers may be left out, to ask for the margin as it would be without them.
    """
    stage = {each.stage: each for each in layers}
    type_weight = None
    known = {"scale": stage["scale"](data)} if "scale" in stage else {}
    if "types" in stage:
        type_weight = stage["types"](data)
        with pyro.plate("type", type_weight.shape[-1], dim=-2):
            utility = stage["utility"](data, **known)
    else:
        utility = stage["utility"](data, **known)
    if "rating" in stage:
        stage["rating"](utility, data)
    score = stage["behaviour"](utility, data) if "behaviour" in stage else utility
    return with_margins(layers, data.contrast(score), data), type_weight


def with_margins(layers: tuple[Layer, ...], margin: Tensor, data: Cells) -> Tensor:
    """Run the margin layers on the margin of utilities [..., comparison]; return what reaches the choice rule."""
    axes = margin.dim()
    for each in layers:
        if each.stage == "margin":
            margin = each(margin, data).to(margin.dtype)  # parameters of a layer do not make them more precise
            while margin.dim() > axes and len(margin) == 1:  # an axis of a layer's own that was summed over and kept
                margin = margin[0]
    return margin


def decided(layers: tuple[Layer, ...], margin: Tensor, data: Cells) -> Tensor:
    """Run the choice rule and what follows on its margin; return log_prob [..., comparison, outcome]."""
    log_prob: Tensor = next(each for each in layers if each.stage == "choice")(margin, data)
    for each in layers:
        if each.stage == "noise":
            log_prob = each(log_prob, data).to(log_prob.dtype)
    return log_prob


def judged(layers: tuple[Layer, ...], margin: Tensor, data: Cells) -> Tensor:
    """Run the layers from the margin of utilities [..., comparison] on; return log_prob [..., comparison, outcome]."""
    return decided(layers, with_margins(layers, margin, data), data)
