"""Pages that are written from the code when the site is built, so that they are never behind it.

docs/programs/ has a page for each file of models/, docs/reference/ one for each room with public names and one for the
command line. Neither folder is kept in the repository.
"""

import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from sphinx.application import Sphinx
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli.main import app as command_line
from prefdensity.data.formats import FORMATS
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.listing import judge_names, names
from prefdensity.programs.loading import load_program
from prefdensity.programs.shelf import find
from prefdensity.programs.stages import STAGES

WHOLE = "whole program"


def story(text: str) -> str:
    """Turn the docstring of a model file into Markdown: its indented formulas stay as they are, the rest is prose."""
    parts = []
    for block in re.split(r"\n\n+", inspect.cleandoc(text)):
        if block.startswith("    "):
            parts.append(f"```text\n{textwrap.dedent(block)}\n```")
        else:  # a star or a bracket is a sign of the formula that it stands in
            parts.append(re.sub(r"([*<\[])(?![^`]*`[^`]*$)", r"\\\1", block))
    return "\n\n".join(parts)


def stage(found: Layer | Program) -> str:
    return found.stage if isinstance(found, Layer) else WHOLE


def facts(name: str, found: Layer | Program) -> str:
    """Return what the file declares, and what its composition is when it stands alone."""
    alone = load_program(name)
    rows = {"stage": f"{stage(found)}" + (f": `{STAGES[found.stage]}`" if isinstance(found, Layer) else "")}
    if isinstance(found, Layer):
        parameters = inspect.signature(found.function).parameters.values()
        options = [f"`{each.name}={each.default!r}`" for each in parameters if each.default is not each.empty]
        rows["options"] = ", ".join(options)
    rows |= {
        "stands for": "`" + "+".join(each.label for each in alone.layers) + "`",
        "outcomes": ", ".join(f"`{each}`" for each in alone.outcomes),
        "the table must have": ", ".join(found.needs),
        "also for choices from sets": "yes" if all(each.sets for each in alone.given) else "",
        "integrated on a grid by `laplace`": ", ".join(f"`{each}`" for each in found.hyper),
        "has a mirror image": "yes" if any(each.mirror for each in alone.given) else "",
    }
    lines = ["| | |", "| --- | --- |", *(f"| {key} | {escaped(value)} |" for key, value in rows.items() if value)]
    if found.meanings:
        lines += ["", "| site | what it measures |", "| --- | --- |"]
        lines += [f"| `{site}` | {escaped(meaning)} |" for site, meaning in found.meanings.items()]
    return "\n".join(lines)


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")


def program_page(name: str, folder: str) -> str:
    found = find(name)
    told = found.doc if isinstance(found, Layer) else inspect.getmodule(found) and load_program(name).doc
    return "\n\n".join(
        [f"# {name}", story(str(told)), facts(name, found), "## The file",
         f"```{{literalinclude}} {folder}/{name}.py\n:language: python\n```"]
    ) + "\n"  # fmt: skip


def programs_index() -> str:
    head = (
        "# Programs\n\nOne page for each file of `models/`, written from it: its story, what it declares, the file. "
        "Join them with `+`; how to choose is told in [choosing a program](../how-to/choosing-a-program.md).\n\n"
    )
    parts = [head]
    for title, known in (("Of comparisons and choices", names()), ("Of judged units", judge_names())):
        rows = [f"| [{name}]({name}.md) | {stage(find(name))} | {first_line(name)} |" for name in known]
        parts += [f"## {title}\n\n| name | stage | what it says |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n\n"]
    return "".join(parts) + "```{toctree}\n:hidden:\n\n" + "\n".join([*names(), *judge_names()]) + "\n```\n"


def first_line(name: str) -> str:
    found = find(name)
    return escaped(found.doc.strip().splitlines()[0])


def reference_pages() -> dict[str, str]:
    """Return pages of the public names of `prefdensity`, by the room that they come from."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for name, home in prefdensity._HOME.items():
        rooms[home.partition(".")[0]].append(name)
    for name, home in prefdensity._MODULES.items():
        rooms[home.partition(".")[0]].append(name)
    pages = {}
    for room, public in rooms.items():
        title = f"prefdensity: {room}"
        body = [title, "=" * len(title), "", inspect.getdoc(_module(room)) or "", ""]
        for name in public:
            body += [*documented(name), ""]
        pages[f"{room}.rst"] = "\n".join(body) + "\n"
    listed = "\n".join(sorted(page.removesuffix(".rst") for page in pages))
    pages["index.md"] = (
        "# Reference\n\nThe public names, by the room that they come from: these are what is "
        "[promised](../developers/promise.md).\n\n" + f"```{{toctree}}\ncommand-line\nformats\n{listed}\n```\n"
    )
    return pages


def _module(room: str) -> Any:
    return __import__(f"prefdensity.{room}", fromlist=["_"])


def documented(name: str) -> list[str]:
    found = getattr(prefdensity, name)
    if inspect.ismodule(found):
        path = found.__name__
        return [name, "-" * len(name), "", f".. automodule:: {path}", "   :members:"]
    kind = "autoclass" if inspect.isclass(found) else "autofunction"
    members = ["   :members:"] if inspect.isclass(found) else []
    return [name, "-" * len(name), "", f".. {kind}:: prefdensity.{name}", *members]


def command_line_page() -> str:
    parts = ["# The command line\n"]
    for words in commands(typer.main.get_command(command_line), ()):
        said = CliRunner().invoke(command_line, [*words, "--help"], env={"COLUMNS": "100", "TERM": "dumb"}).stdout
        parts.append(f"## prefdensity {' '.join(words)}\n\n```text\n{said.strip()}\n```\n")
    return "\n".join(parts)


def formats_page() -> str:
    """Return what `prefdensity formats` says of every public format."""
    parts = ["# Public formats\n\nWhat `prefdensity formats` says; how to read: [files](../how-to/files.md).\n"]
    for name in FORMATS:
        said = CliRunner().invoke(command_line, ["formats", name]).stdout
        parts.append(f"## {name}\n\n```text\n{said.strip()}\n```\n")
    return "\n".join(parts)


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command."""
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, (*words, name))
        else:
            yield *words, name


def write(folder: Path, pages: dict[str, str]) -> None:
    """Write what has changed, and take away the pages of what is gone."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def write_all(app: Sphinx) -> None:
    source = Path(app.srcdir)
    pages = {f"{name}.md": program_page(name, "../../models") for name in names()}
    pages |= {f"{name}.md": program_page(name, "../../models/judges") for name in judge_names()}
    write(source / "programs", pages | {"index.md": programs_index()})
    pages = {"command-line.md": command_line_page(), "formats.md": formats_page()}
    write(source / "reference", reference_pages() | pages)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
