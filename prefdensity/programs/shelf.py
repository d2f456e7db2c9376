"""The shelf: the layers and programs of models/, loaded by name when they are asked for."""

from __future__ import annotations

import copyreg
import difflib
import importlib
from collections.abc import Callable
from typing import Any

from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.listing import JUDGES, PACKAGE, judge_names, names
from prefdensity.words import shortened

LISTED = "`prefdensity models`, or prefdensity.names(), lists them"


def find(name: str) -> Layer | Program:
    """Return the shipped layer or program of this name.

    Raises
    ------
    ProgramError
        With near names, if there is none.
    """
    if name not in (*names(), *judge_names()):
        near = difflib.get_close_matches(name, [*names(), *judge_names()], 3)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ProgramError(f"no program called {shortened(repr(name))}; {meant}{LISTED}")
    package = PACKAGE if name in names() else JUDGES
    found = getattr(importlib.import_module(f"{package}.{name}"), name)
    assert isinstance(found, (Layer, Program))
    return found


def tie_rules() -> str:
    """Return the shipped choice rules for comparisons with ties, joined by "or"."""
    return _those(lambda choice: "tie" in choice.outcomes and "grades" not in choice.needs)


def set_rules() -> str:
    """Return the shipped choice rules from more than two items, and programs with one, joined by "or"."""
    return _those(lambda choice: choice.sets)


def _those(wanted: Callable[[Layer], bool]) -> str:
    found = []
    for name in names():
        piece = find(name)
        layers = [piece] if isinstance(piece, Layer) else piece.layers
        found += [name for each in layers if each.stage == "choice" and wanted(each)]
    return " or ".join(filter(None, [", ".join(found[:-1]), found[-1]]))


def on_shelf(layer: Layer) -> bool:
    """Say whether a layer is the shipped one of its name, with whatever arguments."""
    return layer.name in (*names(), *judge_names()) and layer.bare() == find(layer.name)


def _restored(name: str, options: dict[str, Any]) -> Layer:
    found = find(name)
    assert isinstance(found, Layer)
    return found(**options) if options else found


def _reduced(layer: Layer) -> Any:
    """Return a shipped layer as its name and arguments: its function, hidden behind it, cannot be pickled."""
    return (_restored, (layer.name, dict(layer.options))) if on_shelf(layer) else layer.__reduce_ex__(2)


copyreg.pickle(Layer, _reduced)
