"""What is in models/, by name: read from the folder alone, so that a list costs no import of torch."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from pathlib import Path

PACKAGE, JUDGES = "prefdensity.models", "prefdensity.models.judges"


def names() -> list[str]:
    """Return the names of the layers and programs of comparisons shipped in models/, sorted."""
    return list(_modules(PACKAGE))


def judge_names() -> list[str]:
    """Return the names of the layers for judged units shipped in models/judges/, sorted."""
    return list(_modules(JUDGES))


@functools.cache  # asked for every name that is looked up
def _modules(package: str) -> tuple[str, ...]:
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_")))


def summaries() -> dict[str, str]:
    """Return name -> the first line of its file's story, of each layer and program of comparisons."""
    folder = Path(importlib.import_module(PACKAGE).__path__[0])
    stories = {name: ast.parse((folder / f"{name}.py").read_text(encoding="utf-8")) for name in names()}
    return {name: (ast.get_docstring(tree) or "").split("\n", 1)[0] for name, tree in stories.items()}
