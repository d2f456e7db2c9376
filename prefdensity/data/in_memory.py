"""Tables that Python holds as frames of pandas: of other libraries, lists of rows, dicts of columns, arrays."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import listed
from prefdensity.data.dialect import Dialect
from prefdensity.data.files import plain_frame
from prefdensity.data.json_rows import UNNAMED, names_columns
from prefdensity.errors import DataError


def frame_of(source: Any, dialect: Dialect, known: AbstractSet[str]) -> pd.DataFrame:
    """Return the frame of a table in memory.

    Parameters
    ----------
    source
        A data frame of pandas or another library, a `datasets.Dataset`, rows (dicts, named tuples, data classes, or
        lists of which the first may name the columns), a dict of columns, an array with named fields.
    dialect
        Whether lists of cells have a header.
    known
        Columns that are asked for: a list with one of them is a header.

    Raises
    ------
    DataError
        Saying what the object is, and how to give it.
    """
    if isinstance(source, pd.DataFrame):
        return _with_index(source, known)
    if isinstance(source, Mapping):
        return _of_mapping(source)
    if isinstance(source, Iterator) and not hasattr(source, "__arrow_c_stream__"):
        source = list(source)
    if isinstance(source, np.ndarray):
        return _of_array(source, dialect, known)
    if isinstance(source, list | tuple) and source and not hasattr(source, "_fields"):
        return _of_rows(source, dialect, known)
    return _of_library(source)


def _with_index(frame: pd.DataFrame, known: AbstractSet[str]) -> pd.DataFrame:
    """Return the frame with an index that is asked for as a column."""
    names = [name for name in frame.index.names if name in known and name not in frame.columns]
    return frame.reset_index(level=names) if names else frame


def _of_mapping(source: Mapping[Any, Any]) -> pd.DataFrame:
    values = list(source.values())
    if values and all(isinstance(each, Mapping) for each in values):
        raise DataError(
            "a dict of dicts may be rows or columns; give its rows as a list (list(rows.values())), or a data frame: "
            "pandas.DataFrame.from_dict(rows, orient='index')"
        )
    if values and all(hasattr(each, "column_names") for each in values):
        raise DataError(f"these are several data sets, {listed(source)}; give one, as in data[{next(iter(source))!r}]")
    if any(isinstance(each, Mapping) for each in values):
        name = next(name for name, each in source.items() if isinstance(each, Mapping))
        raise DataError(f"a dict is taken for columns, and {name!r} holds a dict; give one record in a list: [record]")
    try:
        return pd.DataFrame(dict(source))
    except ValueError as error:
        raise DataError(f"a dict of columns needs columns of one length: {error}") from None


def _of_array(source: np.ndarray, dialect: Dialect, known: AbstractSet[str]) -> pd.DataFrame:
    if source.dtype.names is not None and source.ndim == 1:
        return pd.DataFrame({name: source[name] for name in source.dtype.names})
    if source.ndim == 2 and len(source) and not (dialect.header and np.issubdtype(source.dtype, np.number)):
        return _of_rows(source.tolist(), dialect, known)
    raise DataError(
        f"an array of shape {source.shape} names no columns; say header=False and call them by their number: 1, 2; or "
        "give a square table of wins as pandas.DataFrame(wins, index=items, columns=items)"
    )


def _of_rows(source: Sequence[Any], dialect: Dialect, known: AbstractSet[str]) -> pd.DataFrame:
    rows = [_named(row) for row in source]
    if all(isinstance(row, Mapping) for row in rows):
        return pd.DataFrame(rows, dtype=object)
    if all(isinstance(row, pd.DataFrame) for row in rows):
        raise DataError("these are several data frames; give one, as in pandas.concat(frames)")
    if not dialect.header:
        return dialect.named(pd.DataFrame(rows, dtype=object))
    if isinstance(rows[0], list | tuple) and len(rows) > 1 and names_columns(rows[0], known):
        return pd.DataFrame(rows[1:], columns=list(rows[0]), dtype=object)
    raise _unknown(source, f": rows in a list are dicts{UNNAMED}")


def _named(row: Any) -> Any:
    """Return a row with named cells as a mapping."""
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {each.name: getattr(row, each.name) for each in dataclasses.fields(row)}
    return row._asdict() if isinstance(row, tuple) and hasattr(row, "_asdict") else row


def _of_library(source: Any) -> pd.DataFrame:
    """Return the frame of another library: by its own word, by Arrow, or by the dataframe interchange."""
    if hasattr(source, "to_list") and hasattr(source, "features"):  # datasets.Dataset: lists stay lists
        return pd.DataFrame(source.to_list(), dtype=object)
    if hasattr(source, "collect") and hasattr(source, "lazy"):  # a query of polars that has not run
        return _of_library(source.collect())
    if isinstance(source, pd.Series):
        raise DataError("a column alone is no table; give a data frame")
    if hasattr(source, "__arrow_c_stream__"):
        try:
            import pyarrow
        except ImportError:
            pyarrow = None
        if pyarrow is not None:
            try:
                return plain_frame(pyarrow.table(source))
            except (TypeError, ValueError) as error:
                raise DataError(f"this {type(source).__name__} is no table: {error}") from None
    if hasattr(source, "__dataframe__"):
        with warnings.catch_warnings():  # pandas means to give it up; libraries without Arrow speak nothing else
            warnings.simplefilter("ignore", DeprecationWarning)
            return pd.api.interchange.from_dataframe(source)
    if hasattr(source, "read") and hasattr(source, "close"):
        raise _unknown(source, "; give the path of the file, or pandas.read_csv(file, dtype=str)")
    raise _unknown(source, "")


def _unknown(source: Any, hint: str) -> DataError:
    return DataError(
        "read() takes a path, 'example:NAME', a data frame, a list of dicts or a dict of columns, not "
        f"{type(source).__name__}{hint}"
    )
