"""The shelf: the layers and programs of models/, listed and loaded by name when they are asked for."""

from __future__ import annotations

import copyreg
import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.words import shortened

LISTED = "`prefdensity models`, or prefdensity.names(), lists them"
_PACKAGE, _JUDGES = "prefdensity.models", "prefdensity.models.judges"


def names() -> list[str]:
    """Return the names of the layers and programs of comparisons shipped in models/, sorted."""
    return _modules(_PACKAGE)


def judge_names() -> list[str]:
    """Return the names of the layers for judged units shipped in models/judges/, sorted."""
    return _modules(_JUDGES)


def _modules(package: str) -> list[str]:
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def find(name: str) -> Layer | Program:
    """Return the shipped layer or program of this name.

    Raises
    ------
    ProgramError
        With near names, if there is none.
    """
    package = _PACKAGE if name in names() else _JUDGES
    if name not in _modules(package):
        near = difflib.get_close_matches(name, [*names(), *judge_names()], 3)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ProgramError(f"no program called {shortened(repr(name))}; {meant}{LISTED}")
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
