"""Programs by name: compositions of what stands on the shelf, and users' own files."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from prefdensity.errors import ProgramError
from prefdensity.programs.compose import compose
from prefdensity.programs.defaults import BY, LONGER, OVER
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.shelf import LISTED, find
from prefdensity.words import shortened


def load_program(name: str | Path | Program | Layer) -> Program:
    """Return the program called `name`: one file's name, a composition with ``+``, or a path ending in .py.

    Raises
    ------
    ProgramError
        With the names that exist, or why the composition is impossible.
    """
    if isinstance(name, Program):
        return name
    if isinstance(name, Layer):
        return compose(name)
    text = str(name).strip()
    return _from_file(Path(text)) if is_file(text) else shipped(text)


def is_file(name: str) -> bool:
    """Say whether a program of this name comes from a user's file."""
    return name.strip().endswith(".py")


def shipped(name: str) -> Program:
    """Return the program that a name spells by shipped layers alone: for names that come out of files.

    No name, whatever it says, has a file read or run.

    Raises
    ------
    ProgramError
        As `load_program`.
    """
    parts = [_parse(node) for node in _terms(name)]
    if len(parts) == 1 and isinstance(parts[0], Program):
        return parts[0]
    return compose(*parts)


def spells(program: Program) -> bool:
    """Say whether the name of a program is all there is to know of it: shipped layers alone, and each as it is shipped.

    Not so for a program of a user's file, and for one whose layers have the names of shipped ones.
    """
    try:
        return bool(program.layers) and shipped(program.name).layers == program.layers
    except ProgramError:
        return False


def reading(program: Program, label: str, argument: str = "by") -> Program:
    """Return a program whose utilities differ by a label: as it is if it reads the label, with tastes by it otherwise.

    Parameters
    ----------
    program, label
        What is fitted, and what groups are of.
    argument
        Of tastes: "by", partially pooled with a spread that is learned; "on", a regression, which has a likelihood of
        its own without priors, as maximum likelihood asks.

    Raises
    ------
    ProgramError
        If it is a user's own program and does not read the label.
    """
    if label in program.needs or any(each.endswith(f".{label}") for each in program.needs):
        return program
    if not spells(program):
        raise ProgramError(f"{program.name} reads no {label!r}; let one of its layers read it, or name shipped layers")
    return shipped(f"{program.name}+{BY}({argument}={label!r})")


def changing(program: Program, number: str) -> Program:
    """Return a program whose utilities change over a number: as it is if it reads the number, or with a drift over it.

    Raises
    ------
    ProgramError
        If it is a user's own program and does not read the number.
    """
    if number in program.needs:
        return program
    if not spells(program):
        raise ProgramError(f"{program.name} reads no {number!r}; let one of its layers read it, or name shipped layers")
    return shipped(f"{program.name}+{OVER}(over={number!r})")


def _terms(text: str) -> list[ast.expr]:
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # the last two: thousands of terms or brackets
        raise ProgramError(
            f"{shortened(ascii(text))} names no program; write names joined by +, like {LONGER}; {LISTED}"
        ) from None
    terms: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        terms.insert(0, node.right)
        node = node.left
    return [node, *terms]


def _parse(node: ast.expr) -> Layer | Program:
    if isinstance(node, ast.Name):
        return find(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        found = find(node.func.id)
        try:
            given = [ast.literal_eval(each) for each in node.args]
            options = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        except (ValueError, TypeError, RecursionError, MemoryError):
            raise ProgramError(f"arguments in {shortened(repr(ast.unparse(node)))} must be literals like k=3") from None
        if len(options) < len(node.keywords):
            raise ProgramError(f"{shortened(repr(ast.unparse(node)))} gives an argument twice; give it once")
        if isinstance(found, Program):
            raise ProgramError(f"{found.name} is a composition; give arguments to its layers: {_written(found)}")
        return found(*given, **options) if given or options else found
    written = shortened(repr(ast.unparse(node)))
    raise ProgramError(f"cannot read {written}; write a name, or a name with arguments like name(k=3)")


def _written(program: Program) -> str:
    return "+".join(each.label for each in program.layers)


def _from_file(path: Path) -> Program:
    if not path.is_file():
        raise ProgramError(f"there is no file {path} to read a program from")
    module = import_file(path.resolve())
    found = getattr(module, "PROGRAM", None)
    if isinstance(found, Layer):
        found = compose(found)
    if not isinstance(found, Program):
        raise ProgramError(f"{path} must define PROGRAM, a prefdensity.Program (or a layer)")
    return replace(found, name=str(path))


def import_file(path: Path) -> ModuleType:
    """Return the module that a user's file is; it is run."""
    name = f"prefdensity_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProgramError(f"{path} is no file of Python; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ProgramError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module
