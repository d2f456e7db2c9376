"""results.csv and results.md: what is run again takes the place of what was there."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from benchmarks.measuring import machine

COLUMNS = ("benchmark", "setting", "method", "uncertainty", "prep CPU s", "fit CPU s", "wall s", "peak MB", "accuracy",
           "version", "machine")  # fmt: skip
SHOWN = COLUMNS[1:9]
_TITLE = "# Benchmarks: the tables that were run\n"


class Results:
    """The two files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.table, self.page = folder / "results.csv", folder / "results.md"
        folder.mkdir(parents=True, exist_ok=True)

    def rows(self) -> list[dict[str, str]]:
        """Return what is on file."""
        if not self.table.exists():
            return []
        with self.table.open(newline="") as file:
            return list(csv.DictReader(file))

    def add(self, row: dict[str, Any]) -> None:
        """Put one row in the place of the row of the same benchmark, setting and method, or at the end."""
        row = {name: "" for name in COLUMNS} | row | {"machine": machine()}
        rows: list[dict[str, Any]] = list(self.rows())
        same = [k for k, old in enumerate(rows) if all(old[name] == row[name] for name in COLUMNS[:3])]
        for k in same:
            rows[k] = row
        part = self.table.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows if same else [*rows, row])
        part.replace(self.table)
        print(" | ".join(str(row[name]) for name in COLUMNS[:9]), flush=True)

    def section(self, name: str, text: str) -> None:
        """Put a section in the place of the one of its name, or at the end."""
        page = self.page.read_text() if self.page.exists() else _TITLE
        head, *sections = re.split(r"^## ", page, flags=re.M)
        kept = {each.partition("\n")[0]: each.partition("\n")[2].strip() for each in sections}
        kept[name] = f"{text.strip()}\n\n{machine()}; one core for each process."
        part = self.page.with_suffix(".part")
        part.write_text(head.rstrip() + "\n" + "".join(f"\n## {title}\n\n{body}\n" for title, body in kept.items()))
        part.replace(self.page)

    def table_of(self, benchmark: str) -> str:
        """Return the rows of a benchmark as a Markdown table by setting, with the versions behind it.

        Where rows are of several machines, each has its own.
        """
        rows = [row for row in self.rows() if row["benchmark"] == benchmark]
        settings, methods = ([row[name] for row in rows] for name in ("setting", "method"))
        rows.sort(key=lambda row: (settings.index(row["setting"]), methods.index(row["method"])))
        shown = SHOWN if len({row["machine"] for row in rows}) < 2 else (*SHOWN, "machine")
        used = sorted({row["version"] for row in rows if row["version"]})
        table = markdown(shown, [[row[name] for name in shown] for row in rows])
        return table + f"\n\nVersions: {', '.join(used)}."


def markdown(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines)
