"""Leaderboards as Markdown, JSON, LaTeX, HTML and csv; names are text in all of them, and formulas in none."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefdensity.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_HEADINGS = {"rank": "Rank (UB)", "item": "Model", "rating": "Rating", "interval": "Interval", "votes": "Votes",
             "organisation": "Organisation"}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
} | {sign: f"\\{sign}" for sign in "&%$#_"}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~&])")


def written(board: pd.DataFrame, kind: str, title: str = "Leaderboard") -> str:
    """Return a leaderboard as text of one kind: markdown, json, latex, html or csv.

    Parameters
    ----------
    board
        Of `prefdensity.leaderboard`; one of groups or dates gives a table for each, in json and csv a column.
    kind
        The language.
    title
        Caption, where the language has one.

    Raises
    ------
    DataError
        If there is no such kind.
    """
    if kind not in KINDS:
        raise DataError(f"there is no leaderboard in {kind!r}; there are {', '.join(KINDS)}")
    apart = next((name for name in ("group", "at") if name in board.columns), None)
    if apart is None or kind in ("json", "csv"):
        return KINDS[kind](board, title)
    tables = []
    for name, part in board.groupby(apart, sort=False):
        called = f"{title}: {f'{name:.10g}' if isinstance(name, float) else str(name)}"
        head = f"**{_markdown_text(called)}**\n\n" if kind == "markdown" else ""
        tables.append(head + KINDS[kind](part, called))
    return "\n".join(tables)


def _cells(board: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of text: what a reader is shown."""
    names = [name for name in _HEADINGS if name == "interval" or name in board.columns]
    rows = []
    for row in board.to_dict("records"):
        shown = {
            "rank": str(row["rank"]),
            "item": str(row["item"]),
            "rating": f"{row['rating']:.0f}",
            "interval": "–" if math.isnan(row["minus"]) else f"-{row['minus']:.0f}/+{row['plus']:.0f}",
            "votes": f"{row['votes']:,.10g}",
            "organisation": str(row.get("organisation", "")),
        }
        rows.append([shown[name] for name in names])
    return [_HEADINGS[name] for name in names], rows


def _markdown(board: pd.DataFrame, title: str) -> str:
    headings, rows = _cells(board)
    lines = [headings, ["---:" if name in ("Rank (UB)", "Rating", "Interval", "Votes") else "---" for name in headings]]
    lines += [[_markdown_text(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _json(board: pd.DataFrame, title: str) -> str:
    rows = [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in board.to_dict("records")
    ]
    return json.dumps({"title": title, "rows": rows}, ensure_ascii=False, indent=1) + "\n"


def _latex(board: pd.DataFrame, title: str) -> str:
    def text(cell: str) -> str:
        return "".join(_LATEX.get(sign, sign) for sign in cell.replace("–", "--"))

    headings, rows = _cells(board)
    columns = "".join("l" if name in ("Model", "Organisation") else "r" for name in headings)
    body = "".join(" & ".join(map(text, row)) + " \\\\\n" for row in rows)
    head = " & ".join(map(text, headings))
    return (
        f"\\begin{{table}}\n\\caption{{{text(title)}}}\n\\begin{{tabular}}{{{columns}}}\n\\hline\n"
        f"{head} \\\\\n\\hline\n{body}\\hline\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _html(board: pd.DataFrame, title: str) -> str:
    headings, rows = _cells(board)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f"<table>\n<caption>{html.escape(title)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
        "</table>\n"
    )


def _csv(board: pd.DataFrame, title: str) -> str:
    text: str = spreadsheet_safe(board).to_csv(index=False)
    return text


def spreadsheet_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose texts, and columns, no spreadsheet takes for a formula: ' before =, +, -, @, tabs."""

    def safe(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell

    found = frame.copy()
    for name, cells in frame.items():
        if cells.dtype.kind not in "biufcmM":
            found[name] = cells.astype(object).map(safe)
    return found.rename(columns=safe)


KINDS: dict[str, Callable[[pd.DataFrame, str], str]] = {
    "markdown": _markdown,
    "json": _json,
    "latex": _latex,
    "html": _html,
    "csv": _csv,
}
