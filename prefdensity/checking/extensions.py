"""Layers that could be added to a program: those that compose with it, suit the data, and can say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prefdensity.checking.remedies import extended
from prefdensity.data.declared import ROW
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
        for new in _forms(layer, data) if there is None else _more_of(there, data):
            ways, why = _ways(program, new, data, there)
            if ways:
                found.append(ways)
            else:
                untried[new.label] = why
    return found, untried


def _forms(layer: Layer, data: Comparisons) -> Iterator[Layer]:
    """Yield a layer as it is, and with its effect by each label, on each attribute and over each number of the data."""
    over = _numbers(layer, data)
    if not (over and layer.argument("over")):  # one that is over something in any case is over what there is
        yield layer
    forms: list[dict[str, Any]] = [{"by": label} for label in _labels(layer, data)]
    forms += [{"on": name} for name in _attributes(layer, data)]
    yield from _formed(layer, [*forms, *({"over": name} for name in over)])


def _more_of(there: Layer, data: Comparisons) -> Iterator[Layer]:
    """Yield a layer that is there with its effect by one label, on one attribute or over one number more."""
    whom = {"by": there.argument("by")} if there.takes("by") and there.argument("by") else {}
    forms: list[dict[str, Any]] = [{"by": [*there.argument("by"), label]} for label in _labels(there, data)]
    forms += [{"on": [*there.argument("on"), name], **whom} for name in _attributes(there, data)]
    if there.takes("over") and not there.argument("over"):
        forms += [{"over": name, **whom} for name in _numbers(there, data)]
    yield from _formed(there, forms)


def _formed(layer: Layer, forms: Sequence[dict[str, Any]]) -> Iterator[Layer]:
    for form in forms:
        with suppress(ProgramError):  # it varies only under other arguments
            yield layer(**form)


def _labels(layer: Layer, data: Comparisons) -> list[str]:
    """Return the labels of the data that the effect of a layer could vary by and does not."""
    if not layer.takes("by"):
        return []
    known = {"item", *layer.argument("by")}
    some = {name for name, words in data.vocabularies().items() if 1 < len(words) <= data.n_judgements / _EACH}
    return [name for name in data.vocabularies() if name not in known and name in some | {"annotator"}]


def _attributes(layer: Layer, data: Comparisons) -> list[str]:
    """Return what an effect could be regressed on and is not: what is known of labels, but for items.

    Numbers of judgements are what effects change `over`: a straight line is one of the ways to.
    """
    if not layer.takes("on"):
        return []
    known = {data.full_name(name) for name in layer.argument("on")}
    full = [f"{each.column.per}.{each.column.name}" for each in data.more if each.column.per not in (ROW, "item")]
    return [name for name in full if name not in known]


def _numbers(layer: Layer, data: Comparisons) -> list[str]:
    """Return the numbers of judgements that the effect of a layer could change with."""
    numbers = [each.column.name for each in data.more if each.unit is not None and each.column.per == ROW]
    return numbers if layer.takes("over") else []


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
