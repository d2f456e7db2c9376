"""What users write: one name for one thing, arguments in one order, results that print and become frames."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import prefdensity
from prefdensity.comparison.elpd import Elpd
from prefdensity.density import misspecified, policies, toy
from prefdensity.inference.many import ManyFits

ROOT = Path(__file__).parents[1]
# Where these occur they come in this order, by keyword: parts to leave out, draws to keep, and then chance.
ORDER = ("folds", "draws", "seed", "progress")
# What is asked about: a program before the data that it is fitted to, a fit before the data that it was made of.
FIRST = ("program", "post", "posteriors", "pilot", "judged", "measured", "data")
# Other spellings of the same.
BANNED = re.compile(r"n_folds|n_fold|n_draws|num_\w+|n_samples|random_state|random_seed|posterior|comparisons")


def rooms() -> list[str]:
    return ["prefdensity", *(f"prefdensity.{each}" for each in ("density", "inference", "pcal", "reward"))]


@functools.cache
def public() -> dict[str, object]:
    """Functions and methods that users call, by their full name."""
    found: dict[str, object] = {}
    for room in rooms():
        module = importlib.import_module(room)
        for name in module.__all__:
            held = getattr(module, name)
            inside = [held]
            if inspect.ismodule(held):
                inside = [v for k, v in vars(held).items() if not k.startswith("_") and defined(v) == held.__name__]
            for each in inside:
                if inspect.isfunction(each):
                    found[f"{each.__module__}.{each.__qualname__}"] = each
                elif inspect.isclass(each):
                    found |= {
                        f"{member.__module__}.{member.__qualname__}": member
                        for key, member in inspect.getmembers(each, inspect.isfunction)
                        if not key.startswith("_") and member.__module__.startswith("prefdensity")
                    }
    return found


def defined(held: object) -> str:
    return getattr(held, "__module__", "")


def parameters(held: object) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(held).parameters.items() if name not in ("self", "cls")}


def test_there_is_something_to_look_at():
    assert {"prefdensity.inference.fitting.fit", "prefdensity.pcal.plan.PcalDesign.assign"} <= set(public())


@pytest.mark.parametrize("name", sorted(public()))
def test_arguments_have_one_spelling_and_one_order(name):
    taken = parameters(public()[name])
    assert [each for each in taken if BANNED.fullmatch(each)] == []
    chance = [each for each in taken if each in ORDER]
    assert chance == [each for each in ORDER if each in chance]
    asked = [each for each in taken if each in FIRST and taken[each].kind is not inspect.Parameter.KEYWORD_ONLY]
    assert asked == [each for each in FIRST if each in asked]
    assert "data" not in asked or list(taken).index("data") < 2
    for each in chance:
        assert taken[each].kind is inspect.Parameter.KEYWORD_ONLY
    assert "seed" not in taken or taken["seed"].default == 0
    assert "progress" not in taken or taken["progress"].default is None


def test_one_name_means_one_thing():
    """No two classes of the library share a name."""
    where: dict[str, list[str]] = {}
    for path in sorted((ROOT / "prefdensity").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name for name, paths in where.items() if len(paths) > 1} <= {"Density"}


# What functions return that is no result to be read: the things that are worked with.
WORKED_WITH = {
    "Callable", "Choices", "Comparisons", "Domain", "Exact", "FittedNuisance", "Held", "Iterator", "Judged",
    "LabelFunction", "LawExpectation", "LadderOption", "Layer", "Measured", "Nuisance", "PBDE", "Path", "Predictions",
    "Program", "Self", "Truth",
}  # fmt: skip


def results() -> set[str]:
    """Classes that public functions return."""
    found = set()
    for name, held in public().items():
        if name.startswith(("prefdensity.pcal.judges", "prefdensity.programs.outcomes")):
            continue
        found |= set(re.findall(r"\b[A-Z]\w+", str(inspect.signature(held).return_annotation)))
    return found - WORKED_WITH - {"Any", "Array", "DataFrame", "Figure", "NDArray", "None", "Series", "Tensor"}


@pytest.mark.parametrize("name", sorted(results()))
def test_results_print_themselves_and_become_frames(name):
    own = next(kind for module in library() for kind in [getattr(module, name, None)] if inspect.isclass(kind))
    generated = hasattr(own.__repr__, "__wrapped__")  # by dataclass: all fields, arrays included
    assert own.__str__ is not object.__str__ or not (generated or own.__repr__ is object.__repr__)
    assert "DataFrame" in str(inspect.signature(own.to_frame).return_annotation)


@functools.cache
def library() -> list[ModuleType]:
    names = [each.name for each in pkgutil.walk_packages(prefdensity.__path__, "prefdensity.")]
    return [importlib.import_module(name) for name in names if not re.search("models|__main__|trl", name)]


def test_frames_hold_what_is_said():
    """Of results that need no fit: those of fits are looked at where they are made."""
    elpd = Elpd("pair", ("x - y", "x - z"), *np.array([[-1.0, -2.0], [-0.9, -1.8], [0.1, 0.8], [1, 1], [0.1, 0.2]]))
    frame = elpd.to_frame()
    assert list(frame["pair"]) == ["x - y", "x - z"]
    assert frame["weight"] @ frame["elpd"] == elpd.elpd
    domain = toy.domain(20)
    best = misspecified.optimum(misspecified.law(np.linspace(-1, 1, 20)), policies.dpo(*two(domain)))
    assert repr(best).startswith("Optimum(Density(")
    np.testing.assert_array_equal(best.to_frame()["win_rate"], best.win_rate)
    many = ManyFits("davidson", ("x", "y"), np.zeros((3, 2)), np.zeros((3, 2, 2)), np.zeros(3), np.array([True] * 3),
                    {"utility": np.array([[1.0, -1.0], [2.0, 0.0], [0.0, 0.0]])})  # fmt: skip
    assert repr(many) == "ManyFits(davidson, 2 items, 3 fits, 100% converged)"
    assert list(many.to_frame()["mean"]) == [pytest.approx(2 / 3), pytest.approx(-2 / 3)]


def two(domain):
    return toy.pretrained(domain), toy.preference(domain), 2.0


def written() -> set[str]:
    """Dotted names of the package in what users read."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return {name for page in pages for name in re.findall(r"\bprefdensity(?:\.\w+)+", page.read_text(encoding="utf-8"))}


def test_what_pages_name_is_there_after_one_import():
    """In a process of its own, where nothing else has been imported."""
    names = sorted(written())
    code = (
        "import sys, functools, prefdensity\n"
        "for name in sys.argv[1:]:\n"
        "    try: functools.reduce(getattr, name.split('.')[1:], prefdensity)\n"
        "    except AttributeError: print(name)\n"
    )
    found = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(names) > 40
    assert found.stdout.split() == []


def test_walkers_see_every_module_once():
    """A checkout keeps models/ beside the package: a walker sees them in it, and nothing else that lies there."""
    found = [each.name for each in pkgutil.walk_packages(prefdensity.__path__, "prefdensity.")]
    there = []
    for name, folder in {"prefdensity": ROOT / "prefdensity", "prefdensity.models": ROOT / "models"}.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            there.append(".".join((name, *parts)).removesuffix(".__init__"))
    assert sorted(found) == sorted(set(there) - {"prefdensity"})
    assert importlib.import_module("prefdensity.models.items") is importlib.import_module("prefdensity.models").items
    with pytest.raises(ImportError):
        importlib.import_module("prefdensity.prefdensity")


def test_frames_of_studies_are_their_tables():
    for module, name in (("pcal.study", "JudgeStudy"), ("comparison.ranking", "Comparison")):
        kind = getattr(importlib.import_module(f"prefdensity.{module}"), name)
        held = object.__new__(kind)
        object.__setattr__(held, "table", pd.DataFrame({"x": [1]}))
        assert held.to_frame() is held.table
