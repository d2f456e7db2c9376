"""Progress with time left on stderr: shown to a person, silent in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """Call with what is being done, how much is done, and of how much."""

    def __call__(self, what: str, done: float, of: float) -> None: ...  # noqa: D102


@contextmanager
def progress(show: bool | None = None) -> Iterator[Report]:
    """Yield a `Report`; `show` None means only where stderr is a terminal."""
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
