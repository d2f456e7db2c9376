"""Who may import whom: read from the source, so that nothing needs to run."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"prefdensity": ROOT / "prefdensity", "prefdensity.models": ROOT / "models"}

# What each room may import beside the modules at the top (errors, progress, words, workers, version).
ROOMS = {
    "data": "",
    "programs": "data",
    "models": "programs",
    "posterior": "data programs",
    "inference": "data programs posterior",
    "density": "data programs posterior",
    "checking": "data programs posterior inference",
    "comparison": "data programs posterior inference",
    "selection": "data programs posterior inference",
    "judged": "data programs posterior inference",
    "pcal": "programs judged",
    "reward": "data programs posterior inference comparison",
    "reporting": "data programs posterior inference density checking comparison selection judged pcal",
    "cli": "data programs posterior inference checking comparison selection reward judged pcal reporting",
    "__main__": "cli",
}
TOP = {"errors", "progress", "shown", "words", "workers", "version"}

# Where these libraries may be imported; a new home is a decision to take here.
HOMES = {
    "arviz": "posterior",
    "jinja2": "reporting",
    "markupsafe": "reporting",
    "matplotlib": "reporting",
    "pandas": "checking comparison data density inference judged pcal posterior reporting reward selection",
    "pyarrow": "data",
    "pyro": "inference models programs",
    "rich": "cli progress",
    "torch": "checking comparison density inference judged models pcal posterior programs reward selection",
    "transformers": "reward",
    "trl": "reward",
    "typer": "cli",
    "xarray": "posterior",
}


class Import(NamedTuple):
    """One import statement; `late` inside a function, `typing` under TYPE_CHECKING."""

    source: str
    target: str
    late: bool
    typing: bool


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


@cache
def imports() -> list[Import]:
    known = modules()
    found: list[Import] = []
    for source, path in known.items():
        found += _walk(ast.parse(path.read_text(encoding="utf-8")), source, known, late=False, typing=False)
    return found


def _walk(node: ast.AST, source: str, known: dict[str, Path], late: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(source, alias.name, late, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.module is not None, f"{source} has a relative import"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(source, whole if whole in known else child.module, late, typing)
        inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        for_types = typing or (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        yield from _walk(child, source, known, inside, for_types)


def graph() -> dict[str, set[str]]:
    """Return which of the package's modules each imports; the root, which loads names on demand, imports nothing."""
    found: dict[str, set[str]] = {module: set() for module in modules()}
    for each in imports():
        if each.target in found and each.target != each.source and each.source != "prefdensity":
            found[each.source].add(each.target)
    return found


def longest(below: dict[str, set[str]]) -> list[str]:
    """Return the longest chain of what imports what, from the top."""
    chain: dict[str, list[str]] = {}
    for each in TopologicalSorter(below).static_order():
        chain[each] = [each, *max((chain[other] for other in below[each]), key=len, default=[])]
    return max(chain.values(), key=len)


def part(module: str) -> str:
    """Return the part of the package that a module belongs to: "prefdensity.inference.svi" -> "inference"."""
    return (module.split(".") + [""])[1]


def own() -> list[Import]:
    """Return the imports of the package's own modules that run."""
    return [i for i in imports() if i.target.startswith("prefdensity") and not i.typing]


def test_every_room_has_a_row() -> None:
    assert {part(module) for module in modules()} - {""} == set(ROOMS) | TOP


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_what_lies_below(room: str) -> None:
    found = {part(i.target) for i in imports() if part(i.source) == room and i.target.startswith("prefdensity.")}
    assert found - {room} <= set(ROOMS[room].split()) | TOP


def test_rooms_lie_one_above_another() -> None:
    TopologicalSorter({room: below.split() for room, below in ROOMS.items()}).prepare()


def test_what_lies_at_the_top_needs_no_room() -> None:
    found = {part(i.target) for i in imports() if part(i.source) in TOP and i.target.startswith("prefdensity.")}
    assert found <= TOP


def test_the_root_imports_nothing_at_import_time() -> None:
    assert [i.target for i in own() if i.source == "prefdensity"] == ["prefdensity.version"]


def test_nothing_asks_the_root() -> None:
    assert [i.source for i in imports() if i.target == "prefdensity"] == []


def test_the_library_never_imports_a_program_by_name() -> None:
    assert [i.source for i in own() if part(i.target) == "models" and part(i.source) != "models"] == []


def test_no_module_imports_itself_through_others() -> None:
    """Nor by an import in a function or for a type alone: such a circle says that something lies in a wrong room."""
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


def test_chains_of_imports_are_short() -> None:
    """A chain is what must be kept in mind of a change at its foot: 16 modules, or 8 rooms, at most."""
    below = graph()
    chain = longest(below)
    assert len(chain) <= 16, " imports ".join(chain)
    rooms: dict[str, set[str]] = {room: set() for room in ROOMS if room != "__main__"}
    for source, targets in below.items():
        rooms.get(part(source), set()).update({part(target) for target in targets} & set(rooms) - {part(source)})
    assert len(longest(rooms)) <= 8, " imports ".join(longest(rooms))


def test_chains_are_measured_by_their_longest() -> None:
    assert longest({"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("library", HOMES)
def test_third_parties_have_homes(library: str) -> None:
    homes = {part(i.source) for i in imports() if i.target.split(".")[0] == library and not i.typing}
    assert homes <= set(HOMES[library].split())


def sizes() -> Iterator[tuple[str, int]]:
    """Yield how many lines every function has, from its name to its end, signature and documentation among them."""
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", (node.end_lineno or 0) - node.lineno + 1


def test_files_are_read_at_one_sitting() -> None:
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()}
    assert {module: count for module, count in lines.items() if count > 400} == {}


def test_functions_fit_on_a_screen() -> None:
    assert [(name, count) for name, count in sizes() if count > 60] == []
