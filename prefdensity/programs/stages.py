"""The stages of a program, what the function of a layer of each is given, and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from prefdensity.errors import ProgramError

STAGES = {
    "scale": "(data) -> standard deviation of utilities, for all types; of utility layers that take a `scale`",
    "utility": "(data) or (data, scale) -> utility [..., item]",
    "types": "(data) -> type weights [..., type]; the utility stage then runs once per type",
    "rating": "(utility, data) -> None; observes ratings of the same items beside the comparisons",
    "behaviour": "(utility, data) -> score [..., item]; scores are compared in the place of utilities",
    "label": "(data) -> log density [..., point] of the labels of judged units",
    "judge": "(data) -> margin [..., judgement] by which output 1 is preferred, given the label",
    "margin": "(margin, data) -> margin [..., comparison]; any number, in the order of MARGIN_ORDER",
    "choice": "(margin, data) -> log_prob [..., comparison, outcome]",
    "noise": "(log_prob, data) -> log_prob; any number, in the order written",
}

# What is said where tensors do not fit the data.
SIZES = ". Sizes come from the data, such as data.n_items, data.size('annotator') or len(data), never from a file"


def called(stage: str) -> str:
    """Return how a layer of a stage is called and what it returns, in words."""
    return STAGES[stage].partition(";")[0]


def inputs(stage: str) -> list[str]:
    """Return what layers of a stage are given, in order."""
    return STAGES[stage].partition(")")[0].removeprefix("(").split(", ")


def require_inputs(stage: str, function: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called with the inputs of a stage, or names them in another order.

    Raises
    ------
    ProgramError
        Naming the function and what its inputs should be.
    """
    given, signature = inputs(stage), inspect.signature(function)
    names = list(signature.parameters)
    scale = {"scale": None} if stage == "utility" and "scale" in names else {}
    said = (
        f"{function.__name__}({', '.join(names)}) cannot be a {stage} layer, which is {STAGES[stage].partition(';')[0]}"
    )
    try:
        bound = signature.bind(*given, **scale).arguments
    except TypeError as error:
        raise ProgramError(f"{said}: {error}; options beside these inputs need defaults") from error
    turned = [name for name, value in bound.items() if value in names and value != name]
    if turned:
        raise ProgramError(f"{said}: it takes {turned[0]} where {bound[turned[0]]} is given; change their order")
