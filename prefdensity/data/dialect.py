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
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_COMMA = r"[+-]?\d+(?:,\d+)?"
_LOOKED_AT = 20  # lines from which a separator is found


@dataclass(frozen=True)
class Dialect:
    """How text files are written; what is None is found out where it is unambiguous, and said in the notes."""

    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    header: bool = True
    records: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no dialect."""
        if self.separator is not None and len(_SPELLED.get(self.separator, self.separator)) != 1:
            raise DataError(f"separator={self.separator!r} must be one character, or tab, semicolon, comma, pipe")
        if self.decimal not in (None, ".", ","):
            raise DataError(f"decimal={self.decimal!r} is unknown; use '.' or ','")
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

    def separated(self, path: Path, encoding: str, usual: str, notes: list[str]) -> str:
        """Return the separator of a file: the one said, that of its ending, or the only other one that fits."""
        if self.separator is not None:
            return _SPELLED.get(self.separator, self.separator)
        with opened(path, "rt", encoding=encoding) as file:
            lines = [line for _, line in zip(range(_LOOKED_AT), file, strict=False)]
        whole = [_QUOTED.sub("", line) for line in lines if line.strip()]
        if not whole or _fits(whole, usual):
            return usual
        others = [each for each in _SEPARATORS if each != usual and _fits(whole, each)]
        if len(others) != 1:
            return usual
        notes.append(f"cells are separated by {_SEPARATORS[others[0]]}")
        return others[0]

    def plain_numbers(self, frame: pd.DataFrame, separator: str, notes: list[str]) -> pd.DataFrame:
        """Return the cells of a text file with decimal points in columns whose numbers have decimal commas."""
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


def _fits(lines: list[str], separator: str) -> bool:
    """Return whether a separator cuts every line into as many cells as the first, two or more."""
    sizes = {line.count(separator) for line in lines}
    return len(sizes) == 1 and sizes.pop() > 0


def opened(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file, or what a .gz file holds."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, mode, **options)  # type: ignore[return-value]
    return open(path, mode, **options)
