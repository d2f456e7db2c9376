"""Self-contained HTML pages: numbers in words, figures inside, written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import warnings
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from prefdensity.words import percent, share

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    """Return the figure as inline SVG whose words stay words: small, searchable and sharp on any screen."""
    buffer = io.StringIO()
    unsaid: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the words, not ours
        figure.savefig(buffer, format="svg", metadata=unsaid)
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])


def render(template: str, contents: dict[str, Any]) -> str:
    """Return the page that a template of this package makes of `contents`, in the common style."""
    tidy: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(autoescape=True, undefined=StrictUndefined, **tidy)
    environment.filters.update(number=number, percent=percent, share=share, signed=signed)
    here = files("prefdensity.reporting")
    source, style = (here.joinpath(name).read_text(encoding="utf-8") for name in (template, "page.css"))
    return environment.from_string(source).render(contents, style=Markup(style))


def write_page(page: str, path: str | os.PathLike[str]) -> Path:
    """Write a page; the file appears whole or not at all."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(page.encode("utf-8", "xmlcharrefreplace"))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
