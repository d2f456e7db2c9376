"""Parts of a page: tables whose rows carry their own picture, pictures with words for who cannot see them, lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from prefdensity.reporting.labels import distinct
from prefdensity.reporting.pages import number, signed

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 60  # characters of a name in a table; the rest is in its title
_SEARCHED = 12  # rows from which on a table has a search box and a height


class PageColumn(Protocol):
    """A column of a table."""

    @property
    def heading(self) -> str:
        """What stands above it."""
        ...

    @property
    def sorts(self) -> bool:
        """Whether rows can be sorted by it."""
        ...

    def head(self) -> str:
        """Return what stands under the heading, as HTML."""
        ...

    def cell(self, row: int) -> str:
        """Return a whole cell, as HTML."""
        ...


@dataclass(frozen=True, eq=False)
class Words:
    """Texts, cut so that they are told apart unless `long`; `names` head their row, of `filters` one may be chosen."""

    heading: str
    texts: Sequence[str]
    names: bool = False
    filters: bool = False
    long: bool = False
    under: Sequence[str] | None = None
    sorts: bool = True
    _shown: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        each = list(dict.fromkeys(map(str, self.texts)))
        short = dict(zip(each, each if self.long else distinct(each, _LONGEST), strict=True))
        self._shown.extend(short[str(text)] for text in self.texts)

    def head(self) -> str:
        """Return nothing: words have no scale."""
        return ""

    def cell(self, row: int) -> str:
        """Return a whole cell, as HTML."""
        text, shown = str(self.texts[row]), self._shown[row]
        title = "" if shown == text else f' title="{escape(text)}"'
        if self.names:
            small = f"<small>{escape(self.under[row])}</small>" if self.under else ""
            return f'<th scope="row" class="words"{title}>{escape(shown)}{small}</th>'
        return f'<td class="words{" long" if self.long else ""}"{title}>{escape(shown)}</td>'


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers as they are shown, and by what they are sorted; `under` is written small below them."""

    heading: str
    values: Sequence[float]
    shown: Sequence[str]
    under: Sequence[str] | None = None
    sorts: bool = True

    def head(self) -> str:
        """Return nothing: the numbers say it."""
        return ""

    def cell(self, row: int) -> str:
        """Return a whole cell, as HTML."""
        value = self.values[row]
        key = "" if not math.isfinite(value) else f' data-k="{value:.6g}"'
        small = f"<small>{escape(self.under[row])}</small>" if self.under else ""
        return f"<td{key}>{escape(self.shown[row])}{small}</td>"


@dataclass(frozen=True, eq=False)
class Bars:
    """Intervals, drawn on one scale: a line from lower to upper, a dot at the middle, hollow where it is not `safe`.

    `zero` is marked by a line, `band` by a shade; what lies beyond `limit` is an arrow at the edge.
    """

    heading: str
    lower: Sequence[float]
    middle: Sequence[float]
    upper: Sequence[float]
    safe: Sequence[bool] | None = None
    zero: float | None = 0.0
    band: tuple[float, float] | None = None
    limit: float = math.inf
    kinds: Sequence[str] | None = None
    sorts: bool = False

    def _range(self) -> tuple[float, float]:
        ends = np.concatenate([np.asarray(each, float) for each in (self.lower, self.middle, self.upper)])
        ends = np.clip(ends[np.isfinite(ends)], -self.limit, self.limit)
        marks = [] if self.zero is None else [self.zero]
        marks += [] if math.isinf(self.limit) else [-self.limit, self.limit]
        low, high = min([*ends, *marks], default=0.0), max([*ends, *marks], default=1.0)
        room = 0.04 * (high - low) or 0.5
        return low - room, high + room

    def _place(self, value: float) -> float:
        low, high = self._range_found
        return 100 * (min(max(value, low), high) - low) / (high - low)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_range_found", self._range())

    _range_found: tuple[float, float] = field(default=(0.0, 1.0), init=False)

    def head(self) -> str:
        """Return the scale, as HTML."""
        low, high = self._range_found
        ticks = [tick for tick in MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
        digits = max([0, *(len(f"{tick:.6g}".partition(".")[2]) for tick in ticks)])
        marks = "".join(
            f'<i style="left:{self._place(tick):.1f}%">{signed(float(tick), f".{digits}f")}</i>' for tick in ticks
        )
        return f'<span class="axis" aria-hidden="true">{marks}</span>'

    def cell(self, row: int) -> str:
        """Return a whole cell, as HTML; the numbers beside it say the same."""
        middle = self.middle[row]
        if not math.isfinite(middle):
            return '<td class="drawn"></td>'
        lower, upper = (middle if math.isnan(each[row]) else each[row] for each in (self.lower, self.upper))
        left, right, at = self._place(lower), self._place(upper), self._place(middle)
        kind = f" {self.kinds[row]}" if self.kinds else ""
        kind += " open" if self.safe is not None and not self.safe[row] else ""
        kind += " over" if abs(middle) > self.limit else ""
        style = f"--l:{left:.1f}%;--w:{right - left:.1f}%;--m:{at:.1f}%"
        return f'<td class="drawn"><span class="bar{kind}" style="{style}" aria-hidden="true"></span></td>'

    def style(self) -> str:
        """Return where the zero line and the band lie, as custom properties of the table."""
        said = "" if self.zero is None else f"--zero:{self._place(self.zero):.1f}%;"
        if self.band is not None:
            left, right = map(self._place, self.band)
            said += f"--band-l:{left:.1f}%;--band-r:{right:.1f}%;"
        return said


@dataclass(frozen=True, eq=False)
class PageTable:
    """A table with a caption; from a dozen rows on with a search box and a height of its own, which paper ignores."""

    caption: str
    columns: Sequence[PageColumn]
    size: int
    note: str = ""

    def __html__(self) -> str:
        """Return the table as HTML."""
        heads = "".join(map(_heading, self.columns))
        rows = "\n".join(f"<tr>{''.join(each.cell(k) for each in self.columns)}</tr>" for k in range(self.size))
        places = "".join(each.style() for each in self.columns if isinstance(each, Bars))
        style = f' style="{places}"' if places else ""
        note = f'<p class="note">{escape(self.note)}</p>\n' if self.note else ""
        return (
            f'{_box(self.caption, self.size > _SEARCHED)}<table class="rows"{style}>\n{_caption(self.caption)}'
            f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{note}"
        )


def plain(caption: str, frame: pd.DataFrame, bars: Bars | None = None) -> PageTable:
    """Return a frame as a table, its first column heading the rows; `bars` are drawn behind the first words.

    Parameters
    ----------
    caption
        What the table says.
    frame
        Words and numbers; numbers are written to three digits.
    bars
        Intervals of the rows.
    """
    columns: list[PageColumn] = []
    for name in frame.columns:
        values = frame[name].tolist()
        if frame[name].dtype.kind in "fiu":
            whole = frame[name].dtype.kind in "iu"
            columns.append(Numbers(name, values, [f"{value:,}" if whole else number(value) for value in values]))
        else:
            columns.append(Words(name, [str(value) for value in values], names=not columns, long=not columns))
    if bars is not None:
        columns.insert(sum(isinstance(each, Words) for each in columns), bars)
    return PageTable(caption, columns, len(frame))


def _box(name: str, tall: bool = False) -> str:
    """Return the start of a box that scrolls, also by the keyboard; a group, for the landmarks of a page are few."""
    kind = "scroll tall" if tall else "scroll"
    return f'<div class="{kind}" tabindex="0" role="group" aria-label="{escape(name)}">\n'


def _caption(text: str) -> str:
    return f"<caption><span>{escape(text)}</span></caption>\n"


def _heading(column: PageColumn) -> str:
    still = "" if column.sorts else " data-still"
    chosen = " data-filter" if isinstance(column, Words) and column.filters else ""
    words = f"<span>{escape(column.heading)}</span>{column.head()}"
    return f'<th scope="col" class="{_kind(column)}"{still}{chosen}>{words}</th>'


def _kind(column: PageColumn) -> str:
    if isinstance(column, Bars):
        return "drawn"
    return "words" if isinstance(column, Words) else "figure"


@dataclass(frozen=True, eq=False)
class Heat:
    """Shares of a square as a table that is its own picture: rows by name, columns by the number of the row."""

    caption: str
    names: Sequence[str]
    shares: Any
    shown: Sequence[Sequence[str]]
    says: str  # how a cell is read out, with {row}, {column} and {share}

    def __html__(self) -> str:
        """Return the table as HTML."""
        names = distinct(self.names, 30)
        heads = "".join(f'<th scope="col" title="{escape(name)}">{k}</th>' for k, name in enumerate(names, 1))
        body = "\n".join(self._row(k, name) for k, name in enumerate(names))
        return (
            f'{_box(self.caption)}<table class="heat" data-says="{escape(self.says)}">\n{_caption(self.caption)}'
            f'<thead><tr><th scope="col" class="words">row</th>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
            '</table>\n</div>\n<output class="note"></output>\n'
        )

    def _row(self, k: int, name: str) -> str:
        cells = "".join(
            "<td></td>" if k == j else f'<td class="h{round(10 * float(share))}">{self.shown[k][j]}</td>'
            for j, share in enumerate(self.shares[k])
        )
        return f'<tr><th scope="row" class="words">{k + 1}. {escape(name)}</th>{cells}</tr>'


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawing, its caption, and what is seen on it in words."""

    drawing: Markup
    caption: str
    seen: str

    def __html__(self) -> str:
        """Return the figure as HTML."""
        return (
            f'<figure>\n<div role="img" aria-label="{escape(self.seen)}">{self.drawing}</div>\n'
            f"<figcaption>{escape(self.caption)}</figcaption>\n</figure>\n"
        )


@dataclass(frozen=True, eq=False)
class Points:
    """Sentences as a list, numbered if their order matters; `Markup` among them is taken as it is."""

    sentences: Sequence[str]
    numbered: bool = False

    def __html__(self) -> str:
        """Return the list as HTML."""
        tag = "ol" if self.numbered else "ul"
        return f"<{tag}>\n" + "".join(f"<li>{escape(each)}</li>\n" for each in self.sentences) + f"</{tag}>\n"


@dataclass(frozen=True, eq=False)
class Listing:
    """What is called what."""

    rows: Mapping[str, str]

    def __html__(self) -> str:
        """Return the list as HTML."""
        said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in self.rows.items())
        return f"<dl>\n{said}</dl>\n"


@dataclass(frozen=True, eq=False)
class Code:
    """Lines to copy."""

    lines: Sequence[str]

    def __html__(self) -> str:
        """Return the lines as HTML."""
        return f'<pre tabindex="0">{escape(chr(10).join(self.lines))}</pre>\n'
