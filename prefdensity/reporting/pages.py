"""Self-contained HTML pages: the answer first, numbers in words, figures inside, written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from prefdensity.errors import DataError
from prefdensity.reporting.canvas import COLOURS, FAINT, INK, RULE
from prefdensity.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# the colours of drawings as the custom properties of page.css, which follow light and dark
_THEMED = {INK: "--ink", FAINT: "--faint", RULE: "--rule", "#ffffff": "--paper"} | {
    colour.lower(): f"--c{k}" for k, colour in enumerate(COLOURS)
}
_STYLE, _COLOUR = re.compile(r'style="[^"]*"'), re.compile(r"#[0-9a-f]{6}\b")
_ROOTED = re.compile(r"""(?:(?<=[\s'"=(])|^)(?:/|~/|[A-Za-z]:\\)(?:[^\s'"/\\]+[/\\])*([^\s'"/\\]+)""")


class Part(Protocol):
    """Whatever can stand on a page."""

    def __html__(self) -> str:
        """Return the part as HTML."""
        ...


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a page: its heading, sentences, and tables, pictures and lists."""

    heading: str
    says: Sequence[str] = ()
    parts: Sequence[Part] = ()


@dataclass(frozen=True, eq=False)
class Page:
    """A report: on the first screen the answer, its plot, the verdict and what to do next, then the sections.

    Attributes
    ----------
    title, about
        Heading, and what made the page.
    answer, verdict, next
        Sentences: what was found, what speaks against it, what to do with it.
    stands
        True, None (in doubt) or False (contradicted: the verdict then comes before the answer).
    plot
        The answer as a picture or a table that is one.
    cautions
        What to read before relying on the answer.
    sections
        The rest, what matters most first.
    """

    title: str
    about: str
    answer: Sequence[str]
    verdict: Sequence[str] = ()
    next: Sequence[str] = ()
    stands: bool | None = True
    plot: Part | None = None
    cautions: Sequence[str] = ()
    sections: Sequence[Section] = ()

    def opening(self) -> Iterator[tuple[str, str, Sequence[str]]]:
        """Yield class, heading and sentences of the first screen in their order."""
        kind = {True: "stands", None: "doubt", False: "against"}[self.stands]
        said = [("answer", "Answer", self.answer), (kind, "Verdict of the check", self.verdict)]
        for each in said if self.stands is not False else said[::-1]:
            if each[2]:
                yield each
        if self.next:
            yield "next", "What to do next", self.next

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; the file appears whole or not at all."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        here = files("prefdensity.reporting")
        source, style, script = (
            here.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.jinja", "page.css", "page.js")
        )
        inside = {"page": self, "version": __version__, "style": Markup(style), "script": Markup(script)}
        return write_page(environment.from_string(source).render(inside), path)


def number(value: Any, digits: int = 3) -> str:
    """Return a number for a table: `digits` significant ones, a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return signed(value, f".{min(decimals, 6)}f")


def signed(value: float, form: str = ".2f") -> str:
    """Return a number in a form, with a true minus sign and none before a rounded 0."""
    return f"{value:z{form}}".replace("-", "−")  # z: no minus before a rounded 0


def svg(figure: Figure, name: str) -> Markup:
    """Return the figure as inline SVG whose words stay words, in the colours of the page, light or dark."""
    buffer = io.StringIO()
    unsaid: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the words, not ours
        figure.savefig(buffer, format="svg", metadata=unsaid, transparent=True)
    text = buffer.getvalue()
    text = _STYLE.sub(lambda found: _COLOUR.sub(_themed, found.group()), text[text.index("<svg") :])
    return Markup(text)


def _themed(colour: re.Match[str]) -> str:
    name = _THEMED.get(colour.group())
    return colour.group() if name is None else f"var({name})"


def unrooted(text: str) -> str:
    """Return a text in which files and folders of a machine are called by their last name alone."""
    return _ROOTED.sub(r"\1", text)


def write_page(page: str, path: str | os.PathLike[str]) -> Path:
    """Write a page; the file appears whole or not at all."""
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise DataError(f"there is no folder {target.parent} to write {target.name} into")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(page.encode("utf-8", "xmlcharrefreplace"))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
