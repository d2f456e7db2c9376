"""Progress with time left, on stderr or in a notebook: shown to a person, silent in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Protocol

_EVERY = 0.3  # seconds between two looks at a bar in a notebook
_QUIET = "PREFDENSITY_QUIET"  # set in the environment: notebooks run without anybody watching


class Report(Protocol):
    """Call with what is being done, how much is done, and of how much."""

    def __call__(self, what: str, done: float, of: float) -> None: ...  # noqa: D102


@contextmanager
def progress(show: bool | None = None) -> Iterator[Report]:
    """Yield a `Report`; `show` None: where stderr is a terminal, or in a notebook unless PREFDENSITY_QUIET is set."""
    if show is not False and in_notebook():
        with _in_cell() as report:
            yield report
        return
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda what, done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, int] = {}

        def report(what: str, done: float, of: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=of)
            bar.update(tasks[what], completed=done, total=of)  # type: ignore[arg-type]

        yield report


def in_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook that somebody may watch."""
    module = sys.modules.get("IPython")
    shell: Any = None if module is None else module.get_ipython()
    return hasattr(shell, "kernel") and not os.environ.get(_QUIET)


@contextmanager
def _in_cell() -> Iterator[Report]:
    """Yield a `Report` that writes into the output of a cell, and takes it away in the end."""
    from IPython.display import HTML, display

    place, began, seen = display(HTML(""), display_id=True), time.monotonic(), 0.0

    def report(what: str, done: float, of: float) -> None:
        nonlocal seen
        now = time.monotonic()
        if now - seen < _EVERY:
            return
        seen = now
        left = f", {(now - began) * (of - done) / done:.0f} s left" if done > 0 else ""
        bar = f'<progress value="{done}" max="{of}"></progress>'
        place.update(HTML(f"<small>{escape(what)} {bar} {done:g} of {of:g}{left}</small>"))

    try:
        yield report
    finally:
        place.update(HTML(""))
