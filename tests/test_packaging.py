"""What is installed is what the repository says: packages, names, commands."""

import importlib
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import joblib
import pytest

import prefdensity

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WRITING = (ROOT / "docs" / "how-to" / "writing-a-program.md").read_text()
USER_PROGRAM = re.search(r":caption: hurry\.py\n\n([^`]*?\nPROGRAM = [^`]*)```", WRITING)


def python(*arguments: str, cwd: Path, stdin: bytes | None = None) -> str:
    """Run a fresh interpreter that finds prefdensity by its path only, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, input=stdin, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture
def user_program(tmp_path: Path) -> Path:
    assert USER_PROGRAM is not None
    path = tmp_path / "hurry.py"
    path.write_text(USER_PROGRAM[1])
    return path


def test_package_list_equals_the_folders() -> None:
    inside = {path.parent for path in (ROOT / "prefdensity").rglob("__init__.py")}
    beside = {path.parent for path in (ROOT / "models").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in inside}
    names |= {".".join(("prefdensity", *folder.relative_to(ROOT).parts)) for folder in beside}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == names


def test_package_data_are_listed() -> None:
    listed = {
        path
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    present = {path for path in (ROOT / "prefdensity").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert listed == present


def test_an_sdist_can_run_its_tests(tmp_path: Path) -> None:
    """Whatever lies in the repository's folders is in the sdist, but what is written when the site is built."""
    pytest.importorskip("setuptools", minversion="77", reason="what builds an sdist is not here")
    python("-c", f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})", cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        packed = {name.partition("/")[2] for name in files.getnames()}
    written = {ROOT / "docs" / "programs", ROOT / "docs" / "reference", ROOT / "docs" / "_build"}
    wanted = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "constraints.txt", ".ci/run"}
    for folder in (".ci", "benchmarks", "docs", "examples", "models", "prefdensity", "tests"):
        for path in ROOT.joinpath(folder).rglob("*.*"):
            if "__pycache__" not in path.parts and not written & set(path.parents) and path.is_file():
                wanted.add(str(path.relative_to(ROOT)))
    assert wanted <= packed


def test_citation_names_this_version() -> None:
    assert f"\nversion: {prefdensity.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_one_version() -> None:
    assert PROJECT["project"]["version"] == prefdensity.__version__


@pytest.mark.parametrize("name", prefdensity.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(prefdensity, name) is not None


def test_constraints_pin_what_is_needed() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [re.fullmatch(r"([\w.-]+)==[\w.]+", line) for line in lines]
    assert all(pins), "one release on each line, without address or local suffix"
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["parquet"], *extras["docs"], *extras["test"], *extras["dev"]]
    wanted = {re.split(r"[<>=\[ ]", need)[0].lower() for need in needed} - {"prefdensity"}
    assert wanted <= {pin[1].lower() for pin in pins if pin}


@pytest.mark.parametrize("name", prefdensity.names())
def test_loading_and_importing_give_one_module(name: str) -> None:
    program = prefdensity.load_program(name)
    module = importlib.import_module(f"prefdensity.models.{name}")
    layers = [each for each in program.layers if each.name == name]
    if layers:
        assert layers == [getattr(module, name)]
        assert layers[0].function.__module__ == f"prefdensity.models.{name}"
    else:
        assert program is getattr(module, name)
    assert program.doc.startswith((module.__doc__ or "").strip().splitlines()[0])


def test_an_unknown_program_is_answered_with_near_names_or_where_to_look() -> None:
    with pytest.raises(prefdensity.ProgramError, match=r"'nothing_of_the_kind'; `prefdensity models`.*lists them"):
        prefdensity.load_program("nothing_of_the_kind")
    with pytest.raises(prefdensity.ProgramError, match="did you mean bradley_terry"):
        prefdensity.load_program("bradley_tery")


def test_models_have_one_name(tmp_path: Path) -> None:
    code = "try: import models\nexcept ImportError as error: print(error)"
    assert "prefdensity.models" in python("-c", code, cwd=tmp_path)


@pytest.mark.parametrize("source", ["davidson+position_bias", "file"])
def test_a_program_reaches_a_worker(source: str, user_program: Path, tmp_path: Path) -> None:
    program = prefdensity.load_program(user_program if source == "file" else source)
    code = "import pickle, sys; program = pickle.load(sys.stdin.buffer); print(program.name, program.outcomes)"
    sent = pickle.dumps(joblib.wrap_non_picklable_objects(program, keep_wrapper=False))
    said = python("-c", code, cwd=tmp_path, stdin=sent)
    assert said.strip() == f"{program.name} {program.outcomes}"


def test_importing_costs_nothing(tmp_path: Path) -> None:
    code = "import sys, prefdensity; print(*{name.split('.')[0] for name in sys.modules})"
    heavy = {"arviz", "jinja2", "matplotlib", "numpy", "pandas", "pyro", "scipy", "torch", "typer", "xarray"}
    assert heavy & set(python("-c", code, cwd=tmp_path).split()) == set()


def test_fits_load_no_library_that_only_some_need(tmp_path: Path) -> None:
    code = "import sys; from prefdensity import fit; print(*{name.split('.')[0] for name in sys.modules})"
    some = {"arviz", "h5py", "matplotlib", "scipy", "xarray"}
    assert some & set(python("-c", code, cwd=tmp_path).split()) == set()


@pytest.mark.parametrize(("asked", "answered"), [("--help", "Usage"), ("models", "davidson ")])
def test_help_and_lists_are_light(tmp_path: Path, asked: str, answered: str) -> None:
    code = "import sys\nfrom prefdensity.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    said = python("-c", code, asked, cwd=tmp_path)
    assert answered in said
    assert {"torch", "pyro", "pandas", "matplotlib"} & set(said.split()) == set()
