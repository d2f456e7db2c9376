"""The user's own rows: a table as it came, and which of its rows each comparison was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons, of_two
from prefdensity.data.declared import Table
from prefdensity.data.named import columns_of
from prefdensity.data.readers import read, rows_of
from prefdensity.errors import DataError

_MARK = "row_of_the_table"  # a number that no judgement depends on, so that it survives whatever is done to the table
TIES = ("error", "half", "drop")
REPEATS = ("all", "once")


class Rows(NamedTuple):
    """A table as it came, and its comparisons.

    Attributes
    ----------
    frame
        All rows and columns, as they were read.
    data
        The comparisons, as `read` returns them.
    at
        int64 [comparison]: the row of the frame that it comes from.
    """

    frame: pd.DataFrame
    data: Comparisons
    at: NDArray[np.int64]


def own_rows(source: Any, ties: str = "error", repeats: str = "all", **reading: Any) -> Rows:
    """Read a table and remember which row each comparison comes from.

    Parameters
    ----------
    source
        Whatever `read` takes, or comparisons, whose rows are then those of `Comparisons.to_frame`.
    ties
        "error" leaves ties to the program, "half" and "drop" are those of `Comparisons`.
    repeats
        "all", or "once": see `Comparisons.repeats_once`.
    **reading
        Arguments of `read`, as they were for the fit.

    Raises
    ------
    DataError
        As `read`, and where one row became several comparisons.
    """
    for name, value, known in (("ties", ties, TIES), ("repeats", repeats, REPEATS)):
        if value not in known:
            raise DataError(f"{name}={value!r} is unknown; use {', '.join(map(repr, known))}")
    if isinstance(source, Table):
        if reading or ties != "error" or repeats != "all":
            raise DataError("comparisons are read already; give no arguments that say how to read them")
        data = of_two(source, "annotate")
        return Rows(data.to_frame(), data, np.arange(len(data)))
    if isinstance(source, str) and source.startswith("example:"):
        return own_rows(read(source), ties, repeats)
    frame, told = rows_of(source, **reading)
    if _MARK in frame.columns:
        raise DataError(f"a column cannot be called {_MARK!r} here; give it another name")
    numbers = columns_of("numbers", told.pop("numbers", None) or ())
    try:
        found = read(frame.assign(**{_MARK: np.arange(len(frame))}), numbers={**numbers, _MARK: _MARK}, **told)
    except DataError:
        of_two(read(frame, numbers=numbers, **told), "annotate")  # which says it of the user's columns alone
        raise
    marked = of_two(found, "annotate")
    if repeats == "once":
        marked = marked.repeats_once()
    if ties != "error":
        marked = marked.ties_as_half_wins() if ties == "half" else marked.without_ties()
    held = marked.column(_MARK)
    assert held is not None  # it was put there
    at = held.values.astype(np.int64)
    rows, count = np.unique(at, return_counts=True)
    if (count > 1).any():
        row = int(rows[count > 1][0]) + 1
        raise DataError(
            f"row {row} became {count.max()} comparisons, and what is said of each cannot stand in one row; annotate "
            "the comparisons that read() returns in the place of the table"
            + (" (a tie that counts as half a win for either side is two: use a program with ties)" * (ties == "half"))
        )
    return Rows(frame, replace(marked, more=tuple(each for each in marked.more if each is not held)), at)


def beside(frame: pd.DataFrame, at: NDArray[np.int64], columns: Mapping[str, Any], prefix: str) -> pd.DataFrame:
    """Return the frame with further columns, empty in rows that are no comparison.

    Raises
    ------
    DataError
        If the frame has a column of one of these names.
    """
    named = {f"{prefix}{name}": values for name, values in columns.items()}
    taken = [name for name in named if name in frame.columns]
    if taken:
        raise DataError(
            f"the table has a column {taken[0]!r} already; give the new ones another beginning: prefix='my_'"
        )
    found = {}
    for name, values in named.items():
        column = pd.Series(values).reindex(range(len(values)))
        column.index = pd.Index(at)
        found[name] = column.reindex(range(len(frame))).to_numpy()
    return pd.concat([frame, pd.DataFrame(found, index=frame.index)], axis=1)
