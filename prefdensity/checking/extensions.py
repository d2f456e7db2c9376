"""Layers that could be added to a program: those that compose with it, suit the data, and can say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from prefdensity.checking.remedies import extended
from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.listing import names
from prefdensity.programs.running import run
from prefdensity.programs.shelf import find
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons

_EACH = 3  # judgements of one label, on average, from which on effects by it are worth a try; of annotators always


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
            continue
        there = next((each for each in program.layers if each.function == layer.function), None)
        if there is not None:
            untried[there.label] = "is in the program"
        for new in _by_whom(layer, data) if there is None else _by_whom_else(there, data):
            ways, why = _ways(program, new, data, there)
            if ways:
                found.append(ways)
            else:
                untried[new.label] = why
    return found, untried


def _by_whom(layer: Layer, data: Comparisons) -> Iterator[Layer]:
    """Yield a layer as it is, and with its effect varying by each label of the data."""
    yield layer
    yield from _varying(layer, [[label] for label in _labels(layer, data)])


def _by_whom_else(there: Layer, data: Comparisons) -> Iterator[Layer]:
    """Yield a layer that is there with its effect varying by one label more."""
    yield from _varying(there, [[*there.argument("by"), label] for label in _labels(there, data)])


def _varying(layer: Layer, ways: list[list[str]]) -> Iterator[Layer]:
    for by in ways:
        with suppress(ProgramError):  # it varies only under other arguments
            yield layer(by=by)


def _labels(layer: Layer, data: Comparisons) -> list[str]:
    """Return the labels of the data that the effect of a layer could vary by and does not."""
    if not layer.takes("by"):
        return []
    known = {"item", *layer.argument("by")}
    some = {name for name, words in data.vocabularies().items() if 1 < len(words) <= data.n_judgements / _EACH}
    return [name for name in data.vocabularies() if name not in known and name in some | {"annotator"}]


def _on_shelves() -> Iterator[Layer]:
    for name in names():
        piece = find(name)
        if isinstance(piece, Layer):
            yield piece


def _ways(program: Program, layer: Layer, data: Comparisons, there: Layer | None) -> tuple[list[Extension], str]:
    """Return the ways to add a layer, in the place of the one that is `there` if any; or why there is none."""
    ways, why, one = [], "", data.take(np.arange(1))
    if not program.layers:
        return [], f"{program.name} is not made of layers"
    places = (there,) if there else (None, *(each for each in program.layers if each.stage == layer.stage))
    for out in places:
        try:
            made = extended(program, layer, out)
            suit(made, data)
            run(made, cells_of(one, made.outcomes, made.needs), {}, 1, seed=0)
        except ProgramError as error:
            why = str(error) if out is there else why
            continue
        if made.outcomes == program.outcomes:
            ways.append(Extension(layer, made, out))
        else:
            why = why or f"it has other outcomes, {', '.join(made.outcomes)}"
    return ways, why
