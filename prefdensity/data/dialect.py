"""How a text file is written: its separator, encoding, decimal sign and header, as said or where unambiguous."""

from __future__ import annotations

import codecs
import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from prefdensity.errors import DataError

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
_SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_QUOTED = re.compile(r'"(?:[^"]|"")*"')  # a cell in quotes, which may go over lines
_SAID = re.compile(r'"?sep=(.)"?\s*')  # the first line that Excel reads and writes
_COMMA = r"[+-]?\d+(?:,\d+)?"
_SIGNED = r"[+\u2212-]?\d+(?:[.,]\d+)?\s*%?"
_LOOKED_AT = 20  # lines from which a separator is found
_START = 200_000  # characters from which those lines come


@dataclass(frozen=True)
class Dialect:
    """How text files are written; what is None is found out where it is unambiguous, and said in the notes."""

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    header: bool = True
    skip: int = 0
    records: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no dialect."""
        if self.separator is not None and len(_SPELLED.get(self.separator, self.separator)) != 1:
            raise DataError(f"separator={self.separator!r} must be one character, or tab, semicolon, comma, pipe")
        if self.decimal not in (None, ".", ","):
            raise DataError(f"decimal={self.decimal!r} is unknown; use '.' or ','")
        if not isinstance(self.skip, int) or self.skip < 0:
            raise DataError(f"skip={self.skip!r} must be how many lines to leave out before the header, 0 or more")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, TypeError, ValueError):
                raise DataError(
                    f"encoding={self.encoding!r} is unknown; use 'utf-8', 'cp1252' (Windows), 'latin-1', 'utf-16'"
                ) from None

    def encoded(self, path: Path, notes: list[str]) -> str:
        """Return the encoding of a file: the one said, that of its byte order mark, or UTF-8."""
        if self.encoding is not None:
            return self.encoding
        with opened(path, "rb") as file:
            start = file.read(64)
        halves = [half for half in (start[::2], start[1::2]) if len(start) > 7 and not any(half)]
        if len(halves) == 1:
            order = "le" if halves[0] == start[1::2] else "be"
            raise DataError(
                f"{path} looks like UTF-16 without a byte order mark; say so with encoding='utf-16-{order}'"
            )
        found = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
        if found.startswith(("utf-16", "utf-32")):
            notes.append(f"the file is {found.upper()} by its byte order mark")
        return found

    def laid_out(self, path: Path, encoding: str, usual: str | None, notes: list[str]) -> dict[str, Any]:
        """Return how pandas is to read a text: its separator, lines left out before the header, blanks after signs.

        The separator is the one said, that of the file's ending (`usual`), or the only other one that fits.
        """
        with opened(path, "rt", encoding=encoding) as file:
            for _ in range(self.skip):
                file.readline()
            text = file.read(_START)
        said = _SAID.fullmatch(text.partition("\n")[0])
        if said and len(text) > len(said[0]):
            notes.append(f"the first line says that cells are separated by {_SEPARATORS.get(said[1], repr(said[1]))}")
            text = text.partition("\n")[2]
        whole = [line for line in _QUOTED.sub('""', text).splitlines() if line.strip()][:_LOOKED_AT]
        separator = said[1] if said and self.separator is None else self._separator(path, whole, usual, notes)
        blanks = [line.count(f"{separator} ") == line.count(separator) > 0 for line in whole]
        if spaced := separator != " " and bool(blanks) and all(blanks):
            notes.append(f"blanks after {_SEPARATORS.get(separator, repr(separator))} left out")
        cells = [line.strip(separator).count(separator) + 1 for line in whole[:2]]
        other = any(sign in whole[0] for sign in _SEPARATORS if sign != separator) if whole else False
        if self.header and not said and not other and cells[:1] == [1] and cells[1:] > [1]:
            raise DataError(
                f"{path}: line {self.skip + 1} is {whole[0].strip(separator)[:60]!r}, one cell, and the next line has "
                f"{cells[1]}; leave out lines before the header with skip={self.skip + 1}"
            )
        return {"sep": separator, "skiprows": self.skip + bool(said), "skipinitialspace": spaced}

    def _separator(self, path: Path, whole: list[str], usual: str | None, notes: list[str]) -> str:
        if self.separator is not None:
            return _SPELLED.get(self.separator, self.separator)
        if usual is not None and (not whole or _fits(whole, usual)):
            return usual
        others = [each for each in _SEPARATORS if each != usual and _fits(whole, each)]
        if len(others) == 1:
            notes.append(f"cells are separated by {_SEPARATORS[others[0]]}")
            return others[0]
        if usual is None:
            raise DataError(
                f"{path}: nothing cuts every line into as many cells; say what stands between them, as in "
                "separator='tab' or separator='space'"
            )
        return usual

    def plain_numbers(self, frame: pd.DataFrame, separator: str, notes: list[str]) -> pd.DataFrame:
        """Return the cells of a text file with decimal points in columns whose numbers have decimal commas."""
        frame = _plain_signs(frame, notes)
        if self.decimal == "." or (self.decimal is None and separator == ","):
            return frame
        changed: dict[Any, pd.Series] = {}
        for name in frame.columns:
            texts = frame[name].dropna()
            if texts.empty or not texts.str.contains(",", regex=False).any() or not texts.str.fullmatch(_COMMA).all():
                continue
            changed[name] = frame[name].str.replace(",", ".", regex=False)
        if changed:
            notes.append(f"decimal commas read as points in {', '.join(map(repr, changed))}")
        return frame.assign(**changed) if changed else frame

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame without a header with columns called 1, 2, 3, ..."""
        return frame.set_axis([str(k) for k in np.arange(len(frame.columns)) + 1], axis=1)


def _plain_signs(frame: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return the cells of columns of numbers without % behind them, and with the minus of keyboards."""
    changed: dict[Any, pd.Series] = {}
    for sign, plain, what in (("%", "", "the sign % left out"), ("\u2212", "-", "typographic minus signs read")):
        for name in frame.columns:
            texts = changed.get(name, frame[name]).dropna()
            if texts.str.contains(sign, regex=False).any() and texts.str.fullmatch(_SIGNED).all():
                changed[name] = changed.get(name, frame[name]).str.replace(sign, plain, regex=False).str.strip()
                notes.append(f"{what} in {name!r}")
    return frame.assign(**changed) if changed else frame


def _fits(lines: list[str], separator: str) -> bool:
    """Return whether a separator cuts every line into as many cells as the first, two or more."""
    sizes = {line.count(separator) for line in lines}
    return len(sizes) == 1 and sizes.pop() > 0


def opened(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file, or what a .gz file holds."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, mode, **options)  # type: ignore[return-value]
    return open(path, mode, **options)
