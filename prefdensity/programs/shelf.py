"""The shelf: the layers and programs of models/, listed and loaded by name when they are asked for."""

from __future__ import annotations

import difflib
import importlib
import pkgutil

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
