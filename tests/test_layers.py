"""Who may import whom: read from the source, so that nothing needs to run."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"prefdensity": ROOT / "prefdensity", "prefdensity.models": ROOT / "models"}

# A part of prefdensity may import from rows above its own only.
LADDER = """
errors progress data psis acquisition words plain_values remarks outlying
grades workers judged_columns
comparisons judged domains pair_sets preference_losses pages
cells judged_cells data_report densities format_tools simulate
simulate_judged pair_metric greedy outcome_belief candidates selection_worlds
folding choices formats outcomes ratings distances policies toy selection_rules selection_tables
readers programs
models running suitability posterior
program_checks
judge_scale
tables inference_data misspecified
posterior_files
judge_posterior
inference density
elpd predict plots replication causes judge_fits
model_comparison discrepancies estimators selection selection_study plots_selection
plots_pcal tallies study check_catalogue preference_columns
checks trl plots_study rater_study
report report_pcal simulation_calibration cli_table
cli_answer
cli_select cli_pcal cli_study
cli
__main__
"""
ROW = {name: row for row, line in enumerate(LADDER.strip().splitlines()) for name in line.split()}

# Methods that hand over to a later row, imported when called.
DEFERRED = {
    ("comparisons", "cells"),
    ("comparisons", "data_report"),
    ("posterior", "inference_data"),
    ("posterior", "posterior_files"),
    ("posterior", "predict"),
}

# Where these libraries may be imported; a new home is a decision to take here.
HOMES = {
    "arviz": "inference_data",
    "jinja2": "pages",
    "markupsafe": "pages",
    "matplotlib": "pages plots plots_selection plots_pcal plots_study",
    "pandas": (
        "causes checks choices comparisons data_report densities format_tools formats grades model_comparison "
        "posterior estimators inference judge_fits judge_posterior preference_columns ratings readers "
        "rater_study selection selection_study simulation_calibration tallies candidates judged judged_columns study"
    ),
    "pyarrow": "readers",
    "pyro": "inference judged_cells models outcomes programs running",
    "rich": "cli_answer progress",
    "transformers": "trl",
    "trl": "trl",
    "typer": "cli cli_answer cli_table cli_select cli_pcal cli_study",
    "xarray": "inference_data posterior_files",
}


class Import(NamedTuple):
    """One import statement; `late` inside a function, `typing` under TYPE_CHECKING."""

    source: str
    target: str
    late: bool
    typing: bool


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports() -> Iterator[Import]:
    known = modules()
    for source, path in known.items():
        yield from _walk(ast.parse(path.read_text(encoding="utf-8")), source, known, late=False, typing=False)


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


def part(module: str) -> str:
    """Return the part of the package that a module belongs to: "prefdensity.inference.svi" -> "inference"."""
    return (module.split(".") + [""])[1]


def own() -> list[Import]:
    """Return the imports of the package's own modules that run."""
    return [i for i in imports() if i.target.startswith("prefdensity") and not i.typing]


def test_every_module_has_a_row() -> None:
    homeless = {part(module) for module in modules()} - {""} - set(ROW)
    assert not homeless, "give each a row in LADDER, below all that it imports"


def test_imports_run_downward() -> None:
    # `import prefdensity` is for its version
    between = [i for i in own() if part(i.source) != part(i.target) and {part(i.source), part(i.target)} <= set(ROW)]
    upward = {(part(i.source), part(i.target), i.late) for i in between if ROW[part(i.target)] >= ROW[part(i.source)]}
    assert upward <= {(*pair, True) for pair in DEFERRED}


def test_the_root_imports_nothing_at_import_time() -> None:
    assert [i.target for i in own() if i.source == "prefdensity"] == []


def test_the_library_never_imports_a_program_by_name() -> None:
    assert [i.source for i in own() if part(i.target) == "models" and part(i.source) != "models"] == []


def test_no_module_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for each in own():
        if not each.late and each.target != each.source:
            graph[each.source].add(each.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@pytest.mark.parametrize("library", HOMES)
def test_third_parties_have_homes(library: str) -> None:
    homes = {part(i.source) for i in imports() if i.target.split(".")[0] == library and not i.typing}
    assert homes <= set(HOMES[library].split())
