"""The examples in docstrings say what comes out."""

import doctest
import importlib
from pathlib import Path

import pytest

import prefdensity

HOME = Path(prefdensity.__file__).parent
SHOWN = sorted(path for path in HOME.rglob("*.py") if ">>>" in path.read_text(encoding="utf-8"))
FEWEST = 5  # modules with examples: the main way, tables to show, tests of programs


def module(path):
    """Return the module of a file."""
    parts = path.relative_to(HOME.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", SHOWN, ids=module)
def test_examples_say_what_comes_out(path):
    found = doctest.testmod(importlib.import_module(module(path)), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_main_functions_have_examples():
    assert len(SHOWN) >= FEWEST
