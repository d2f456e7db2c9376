"""README and the pages of docs/ are true as far as a machine can tell: their blocks run, their links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main

ROOT = Path(__file__).parents[1]
WRITTEN = {ROOT / "docs" / "programs", ROOT / "docs" / "reference"}  # when the site is built
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted(path for path in (ROOT / "docs").rglob("*.md") if not WRITTEN & set(path.parents))
BLOCK = re.compile(  # but those of other packages (`:class: theirs`), and cells of notebooks, which the site runs
    r"^```(?:\{code-block\} )?(?P<language>python|sh)\n(?P<options>(?::\w+:[^\n]*\n)*)(?P<code>.*?)^```$",
    re.M | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass
class Block:
    """Code on a page: its language, its text, and the file that it is said to be saved as (`:caption:`).

    `shipped`: the data that it reads come with the package (else `:class: their-data`).
    """

    language: str
    code: str
    file: str | None
    shipped: bool = True

    def run(self, names: dict) -> None:
        """Save it, if it is a file; run it in the names of its page, if it is Python; else its commands one by one."""
        if self.file:
            Path(self.file).write_text(self.code)
        elif self.language == "python":
            exec(compile(self.code, "<block>", "exec"), names)
        else:
            for line in self.code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["torchrun"]:
                    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
                    subprocess.run(launch, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
                elif words[:1] == ["prefdensity"]:
                    done = CliRunner().invoke(main.app, words[1:], catch_exceptions=False)
                    assert done.exit_code == 0, f"{line}\n{done.output}"


def blocks(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text()):
        if ":class: theirs\n" in match["options"]:
            continue
        caption = re.search(r"^:caption: *(.*)$", match["options"], re.M)
        ours = ":class: their-data\n" not in match["options"]
        found.append(Block(match["language"], match["code"], caption[1] if caption else None, ours))
    return found


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


SLOW = {
    f"docs/how-to/{page}.md"
    for page in ("checking-and-comparing", "language-models-as-judges", "large-tables", "rankings-and-ratings")
}
WITH_CODE = [
    pytest.param(page, id=name(page), marks=[pytest.mark.slow] if name(page) in SLOW else [])
    for page in PAGES
    if blocks(page)
]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a table of the reader's own: votes.csv."""
    monkeypatch.chdir(tmp_path)
    own = prefdensity.read("example:annotators").to_frame()
    own = own.rename(columns={"item_a": "model_a", "item_b": "model_b", "outcome": "winner", "annotator": "judge"})
    own["winner"] = own["winner"].map({"a": "model_a", "b": "model_b", "tie": "tie"})
    own[["model_a", "model_b", "winner", "judge"]].to_csv("votes.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("page", WITH_CODE)
def test_blocks_of_a_page_run(page: Path, desk: Path) -> None:
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        if block.shipped:
            block.run(names)
    plt.close("all")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if not all(each.shipped for each in blocks(page))], ids=name)
def test_blocks_about_public_data_run_where_the_data_are(page: Path, desk: Path, shared_data: Path) -> None:
    for path in shared_data.glob("*.csv*"):
        (desk / path.name).symlink_to(path)
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        block.run(names)
    plt.close("all")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.DOTALL)
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.is_file() or aim.parent in WRITTEN, f"{target}: no such file"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", aim.read_text(), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160


def test_readme_has_the_two_commands_of_ci() -> None:
    listed = subprocess.run(["bash", ROOT / ".ci" / "run", "--list"], capture_output=True, text=True, check=True)
    main_job, tests = listed.stdout.splitlines()
    assert " fit example:" in main_job
    assert "/pytest" in tests
    readme = (ROOT / "README.md").read_text()
    assert all(command.startswith("python3 -m venv .venv && ") and command in readme for command in (main_job, tests))
