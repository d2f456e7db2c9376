"""Layers that could be added to a program: those that compose with it, suit the data, and can say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prefdensity.checking.remedies import extended
from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.running import run
from prefdensity.programs.shelf import find, names
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons


@dataclass(frozen=True, eq=False)
class Extension:
    """A program with one more layer, or with one in the place of another.

    Attributes
    ----------
    layer
        What is new.
    program
        The whole.
    out
        What went, or None.
    """

    layer: Layer
    program: Program
    out: Layer | None


def extensions(
    program: Program, data: Comparisons, own: Sequence[Layer] = ()
) -> tuple[list[list[Extension]], dict[str, str]]:
    """Return by layer the ways to add it, the likeliest first, and of the other layers why they are not tried.

    Parameters
    ----------
    program, data
        What was fitted, and to what.
    own
        Layers to try beside the shipped ones.
    """
    found, untried = [], {}
    for layer in (*_on_shelves(), *own):
        if not layer.null and not layer.spread:
            untried[layer.label] = "declares no point at which it says nothing"
        elif layer.function in {each.function for each in program.layers}:
            untried[layer.label] = "is in the program"
        else:
            ways, why = _ways(program, layer, data)
            if ways:
                found.append(ways)
            else:
                untried[layer.label] = why
    return found, untried


def _on_shelves() -> Iterator[Layer]:
    for name in names():
        piece = find(name)
        if isinstance(piece, Layer):
            yield piece


def _ways(program: Program, layer: Layer, data: Comparisons) -> tuple[list[Extension], str]:
    ways, why, one = [], "", data.take(np.arange(1))
    if not program.layers:
        return [], f"{program.name} is not made of layers"
    for out in (None, *(each for each in program.layers if each.stage == layer.stage)):
        try:
            made = extended(program, layer, out)
            suit(made, data)
            run(made, cells_of(one, made.outcomes, made.needs), {}, 1, seed=0)
        except ProgramError as error:
            why = str(error) if out is None else why
            continue
        if made.outcomes == program.outcomes:
            ways.append(Extension(layer, made, out))
    return ways, why
