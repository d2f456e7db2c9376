"""Programs that answer a finding: a program with one layer more, or another one, by what layers say they mend."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefdensity.errors import ProgramError
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.listing import names
from prefdensity.programs.loading import shipped, spells
from prefdensity.programs.mends import Mend
from prefdensity.programs.shelf import find, on_shelf

_ONE_OF = ("utility", "choice")  # stages that no program is without: another layer takes the place of the one there


@dataclass(frozen=True)
class Remedy:
    """A program that answers a finding, and how it differs from the one that was checked.

    Attributes
    ----------
    program
        To be fitted.
    added, out
        The layer that is new, and the one in whose place it stands, if any.
    """

    program: Program
    added: Layer
    out: Layer | None = None

    def __str__(self) -> str:
        name = self.program.name if spells(self.program) else f"your program with {self.added.label}"
        return f"{name} (in the place of {self.out.label})" if self.out else name


def remedies(program: Program, finding: str, own: Iterable[Layer] = ()) -> Iterator[Remedy]:
    """Yield the programs that answer a finding, what to try first first.

    Parameters
    ----------
    program
        What was checked; a plain function has no remedies.
    finding
        A key of `FINDINGS`.
    own
        Layers to offer beside the shipped ones.
    """
    if not program.layers:
        return
    known = [each for each in map(find, names()) if isinstance(each, Layer)]
    offers = [(mend, each) for each in (*known, *own) for mend in each.mends if mend.finding == finding]
    for mend, layer in sorted(offers, key=lambda offer: offer[0].rank):
        found = _applied(program, layer, mend)
        if found is not None:
            yield found


def answers(layer: Layer, finding: str) -> bool:
    """Say whether a layer is an answer to a finding by being there, with the arguments that it has."""
    return any(mend.finding == finding and mend.adds and _has(layer, mend) for mend in layer.mends)


def _has(layer: Layer, mend: Mend) -> bool:
    """Say whether a layer has the arguments with which it answers a finding."""
    return all(_joined(layer.argument(key), value) == layer.argument(key) for key, value in mend.options.items())


def _joined(there: Any, value: Any) -> Any:
    """Return an argument with what another asks for: labels come beside those that are there."""
    if isinstance(there, tuple):
        return (*there, *(each for each in value if each not in there))
    return value


def _given(layer: Layer, options: Mapping[str, Any]) -> Layer:
    """Return a layer with arguments, those that it has anyway left out of its name."""
    changed = dict(layer.options) | dict(options)
    return layer.bare(**{key: value for key, value in changed.items() if value != layer.default(key)})


def _applied(program: Program, layer: Layer, mend: Mend) -> Remedy | None:
    """Return the program with an answer to a finding, or None where it is there already or has no place."""
    there = next((each for each in program.layers if mend in each.mends), None)
    if mend.beside and not any(answers(each, mend.beside) for each in program.layers):
        return None
    if there is not None:
        new, gone = _other_options(there, mend), None
        out: Layer | None = there
    elif not mend.adds:
        return None
    else:
        new, out = _given(layer, mend.options) if mend.options else layer, _gives_way(program, layer, mend)
        gone = out
    if new is None:
        return None
    kept = {each.label for each in program.layers if each is not out}
    try:
        made = extended(program, new, out)
    except ProgramError:  # there is no room for it
        return None
    return Remedy(made, new, gone) if kept <= {each.label for each in made.layers} else None


def _other_options(there: Layer, mend: Mend) -> Layer | None:
    """Return a layer that is there already with the arguments that answer the finding; of types, one more."""
    if there.stage == "types" and there.takes("k"):
        return there(k=there.argument("k") + 1)
    if _has(there, mend):
        return None
    return _given(there, {key: _joined(there.argument(key), value) for key, value in mend.options.items()})


def _gives_way(program: Program, layer: Layer, mend: Mend) -> Layer | None:
    """Return the layer of a program in whose place another one stands."""
    if mend.instead_of:
        return next((each for each in program.layers if answers(each, mend.instead_of)), None)
    if layer.stage in _ONE_OF:
        same = (each for each in program.layers if each.stage == layer.stage and each.outcomes == layer.outcomes)
        return next(same, None)
    return None


def extended(program: Program, new: Layer, out: Layer | None = None) -> Program:
    """Return a program with a layer in the place of another, or more; by a name as short as before if it has one.

    Raises
    ------
    ProgramError
        If there is no room for it.
    """
    kept = [each for each in program.layers if each is not out]
    if all(on_shelf(each) for each in (*kept, new)):
        return shipped(_named(program, out, new.label))
    return compose(*(each for each in program.given if each is not out), new)


def _named(program: Program, out: Layer | None, label: str) -> str:
    """Return the name of a program with a layer added, in the place of another if one goes out, as short as before."""
    terms = re.split(r"\+(?![^(]*\))", program.name) if spells(program) else []
    if terms and out is None:
        return f"{program.name}+{label}"
    if out is None:
        return _shortest([*(each.label for each in program.layers), label])
    if len(terms) > 1 and out.label in terms:
        return "+".join(label if term == out.label else term for term in terms)
    return _shortest([label if each is out else each.label for each in program.layers])


def _shortest(labels: list[str]) -> str:
    """Return the labels without those that composition adds by itself, or the one name of the whole."""
    whole = shipped("+".join(labels)).layers
    for label in list(labels):
        rest = [each for each in labels if each != label]
        if rest and shipped("+".join(rest)).layers == whole:
            labels = rest
    alone = (name for name in names() if shipped(name).layers == whole)
    return next(alone, labels[0]) if len(labels) == 1 else "+".join(labels)
