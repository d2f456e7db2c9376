"""A program is asked, never recognised: no file of the library names a shipped layer or site, but the defaults."""

import ast
import functools
import re
from pathlib import Path

import pytest

import prefdensity
from prefdensity.programs.listing import judge_names
from prefdensity.programs.shelf import find

ROOT = Path(__file__).parents[1]
ONE_PLACE = "programs/defaults.py"
# Sites that every program shares: what stages are called, and what all programs end in.
SHARED = {"utility", "type_weight", "rating"}
# The same words for other things, which stand for no layer: where, and what they are there.
OTHERWISE = {
    "checking/catalogue.py": {"accuracy", "covariate", "tastes", "ties"},  # checks
    "checking/causes.py": {"covariate", "tastes", "ties"},  # checks and findings
    "checking/discrepancies.py": {"covariate", "ties"},  # directions
    "checking/replication.py": {"ratings"},  # a column of tables
    "checking/sbc.py": {"ratings"},  # a column of tables
    "cli/pcal.py": {"linear", "gaussian"},  # a target of estimation; nuisances
    "cli/select.py": {"linear"},  # a world
    "cli/ladder_options.py": {"linear"},  # a target of estimation
    "cli/leaderboard.py": {"items"},
    "cli/main.py": {"noise_free"},  # a true judge of the study
    "cli/table.py": {"ties"},  # an option
    "comparison/compare.py": {"ratings"},
    "comparison/elpd.py": {"weight"},  # a column
    "density/asking.py": {"weight"},  # a place among margins
    "inference/engines.py": {"ratings"},  # a column of tables
    "judged/simulate.py": {"noise_free", "lapse", "position_bias"},  # true judges
    "pcal/__init__.py": {"drift"},  # of judges between rounds
    "pcal/study.py": {"linear"},  # a nuisance
    "posterior/draws.py": {"covariate"},  # a plate
    "programs/layers.py": {"weight"},  # a place among margins
    "programs/mends.py": {"tastes"},  # a finding
    "programs/suitability.py": {"ratings"},
    "programs/tabulate.py": {"ratings"},
    "reporting/answer.py": {"items"},
    "reporting/plots.py": {"items"},
    "reporting/ranking.py": {"items"},
    "reporting/group_plots.py": {"items"},
    "reporting/judges.py": {"ties"},  # columns of tables, as below
    "reporting/report.py": {"items", "ties"},
    "reward/annotate.py": {"weight"},  # a column of tables
    "reward/columns.py": {"weight"},
    "reward/fresh_pairs.py": {"weight"},
    "reward/own_rows.py": {"ties"},  # an argument
    "reward/trl.py": {"weight"},
    "selection/study.py": {"linear"},
    "selection/worlds.py": {"linear", "items"},
}


@functools.cache
def shipped_names():
    return {*prefdensity.names(), *judge_names()}


@functools.cache
def sites():
    """Names of the sites in models/, as they are written, and of those of effects by whom."""
    found = set()
    for name in prefdensity.names():
        for each in getattr(find(name), "layers", [find(name)]):
            for label in ("annotator", "category") if each.takes("by") else ():
                by = each("length", by=label) if each.takes("name") else each(by=label)
                found |= {*by.spread, *by.spread.values()}
    for path in (ROOT / "models").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("sample", "deterministic"):
                found |= {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}
    return found - SHARED


def texts(source):
    """Yield every string of a file but its docstrings; of f-strings their parts."""
    tree = ast.parse(source)
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def named(text, names):
    """Return the names in a string: the whole of it, the terms of a composition, or words that only a name can be."""
    terms = {re.sub(r"\(.*\)$", "", term.strip()) for term in re.split(r"\+(?![^(]*\))", text)}
    found = terms if terms <= names else set()
    inside = {term for run in re.findall(r"[\w()=.]+(?:\+[\w()=.]+)+", text) for term in re.findall(r"[a-z_0-9]+", run)}
    return found | ({*re.findall(r"\w+", text)} & {name for name in names if "_" in name}) | (inside & names)


@functools.cache
def library():
    """The files of the library but those of tables, which can know no programs (see test_layers)."""
    found = {str(path.relative_to(ROOT / "prefdensity")): path for path in (ROOT / "prefdensity").rglob("*.py")}
    return {file: path for file, path in found.items() if not file.startswith("data/")}


@pytest.mark.parametrize("file", sorted(library()))
def test_the_library_names_no_layer_and_no_site(file):
    names = shipped_names() | sites()
    found = set().union(*(named(text, names) for text in texts(library()[file].read_text(encoding="utf-8"))))
    if file == ONE_PLACE:
        assert found <= shipped_names()
    else:
        assert found - SHARED - OTHERWISE.get(file, set()) == set()


def test_what_stands_for_something_else_is_there():
    names = shipped_names() | sites() | SHARED
    for file, words in OTHERWISE.items():
        found = set().union(*(named(text, names) for text in texts(library()[file].read_text(encoding="utf-8"))))
        assert words <= found, file


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = 'davidson'", {"davidson"}),
        ("x = f'use {y}+annotator_types(k=3)'", {"annotator_types"}),
        ("x = 'add reliability+lapse to it'", {"reliability", "lapse"}),
        ("x = 'the items compared'", set()),
        ("'''davidson'''", set()),
        ("post.draws['annotator_taste_offset']", {"annotator_taste_offset"}),
    ],
)
def test_names_are_seen(source, found):
    names = shipped_names() | sites()
    assert set().union(*(named(text, names) for text in texts(source))) == found


def test_observations_are_asked_what_they_are():
    """Comparisons, choices, ratings and judged units share a protocol: nothing looks at which of them it was given."""
    blocks = {"Cells", "JudgedCells", "RatingCells", "Comparisons", "Choices", "Ratings", "Judged"}
    found = []
    for path in sorted((ROOT / "prefdensity").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                asked = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
                found += [f"{path.name}:{node.lineno}"] if asked & blocks else []
    assert found == []
