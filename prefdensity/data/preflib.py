"""PrefLib files (https://preflib.github.io/PrefLib-Jekyll/format): orders of alternatives, and weighted edges.

An order is a line `19: 3,{1,2},4`: how often it was given, then alternatives from the best to the worst, tied ones in
braces. What comes out is a long table: order, alternative, rank (empty where an order leaves one out), count; of a .wmd
file from, to, weight.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from prefdensity.errors import DataError

ORDERS = (".soc", ".soi", ".toc", ".toi")
EDGES = ".wmd"
_NAME = re.compile(r"#\s*ALTERNATIVE NAME\s+(\d+)\s*:\s*(.*?)\s*$", re.IGNORECASE)
_PLACE = re.compile(r"\{([^{}]*)\}|([^,{}]+)")


def preflib_frame(path: Path, lines: list[str]) -> pd.DataFrame:
    """Return the orders of a PrefLib file, one row for each alternative of each order, or its weighted edges.

    Raises
    ------
    DataError
        Naming the line that is neither, or names an alternative that the header does not.
    """
    lines = _as_of_today(lines)
    names: dict[str, str] = {}
    rows: list[tuple[str | None, ...]] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if found := _NAME.match(text):
            names[found[1]] = found[2]
        elif text and not text.startswith("#"):
            rows += _row(path, number, text, names)
    if not names:
        raise DataError(
            f"{path} names no alternatives in lines like '# ALTERNATIVE NAME 1: Larch', as PrefLib files do"
        )
    if not rows:
        raise DataError(f"{path} has no orders below its header")
    columns = ["from", "to", "weight"] if path.suffix.lower() == EDGES else ["order", "alternative", "rank", "count"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _as_of_today(lines: list[str]) -> list[str]:
    """Return the lines of a file as PrefLib wrote them until 2022, as it writes them now.

    How many alternatives, their numbers and names, three counts, then orders such as `19,3,{1,2},4`.
    """
    first = lines[0].strip() if lines else ""
    size = int(first) if first.isdigit() and len(first) < 9 else 0
    if not size or len(lines) < size + 2:
        return lines
    cells = [line.strip().partition(",") for line in lines[1 : size + 1]]
    names = [f"# ALTERNATIVE NAME {number}: {name}" for number, _, name in cells]
    orders = [line.strip().replace(",", ": ", 1) for line in lines[size + 2 :]]
    return ["", *names, "", *orders]


def _row(path: Path, number: int, text: str, names: dict[str, str]) -> list[tuple[str | None, ...]]:
    def named(code: str) -> str:
        if code.strip() not in names:
            raise DataError(f"{path}: line {number} names the alternative {code.strip()!r}, which has no name above")
        return names[code.strip()]

    if path.suffix.lower() == EDGES:
        cells = text.split(",")
        if len(cells) != 3:
            raise DataError(f"{path}: line {number} is no edge like '1,2,5.0', but {text[:60]!r}")
        return [(named(cells[0]), named(cells[1]), cells[2].strip())]
    count, sign, order = text.partition(":")
    if not sign or not count.strip().isdigit():
        raise DataError(f"{path}: line {number} is no order like '19: 1,2,3', but {text[:60]!r}")
    places = [tied or single for tied, single in _PLACE.findall(order) if (tied or single).strip()]
    rows: list[tuple[str | None, ...]] = [
        (f"line {number}", named(code), str(rank), count.strip())
        for rank, place in enumerate(places, 1)
        for code in place.split(",")
    ]
    ranked = {alternative for _, alternative, *_ in rows}
    return [*rows, *((f"line {number}", name, None, count.strip()) for name in names.values() if name not in ranked)]
