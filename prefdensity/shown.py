"""How results show themselves: in words in a console, with their table in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 20  # of a table in a notebook


def shown(words: str, frame: pd.DataFrame, rows: int = _ROWS) -> str:
    """Return words and the first rows of a table as HTML; names in them are text."""
    table = frame.head(rows).to_html(index=False, escape=True, na_rep="", border=0, float_format="{:.3g}".format)
    more = len(frame) - rows
    left = f"<p>{more:,} more rows: to_frame()</p>" if more > 0 else ""
    return f'<pre style="white-space: pre-wrap">{escape(words)}</pre>{table}{left}'


class Telling(ABC):
    """A result that tells of itself: its words wherever it is looked at, in a notebook with its table."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return the table."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return shown(str(self), self.to_frame())


class Tabled(Telling):
    """A result that is a table, and tells what it says."""

    table: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table
