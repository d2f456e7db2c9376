"""Every script of examples/ runs, says something and leaves a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert any(character.isdigit() for character in done.stdout)
    picture = tmp_path / "out" / f"{name}.png"
    assert picture.stat().st_size > 10_000
    assert list(tmp_path.rglob("*.*")) == [picture]


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_is_short_and_on_its_page(name: str) -> None:
    assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) < 80
    assert f"examples/{name}.py" in (ROOT / "docs" / "examples.md").read_text()
