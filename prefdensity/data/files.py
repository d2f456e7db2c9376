"""Files as frames of rows: csv and tsv, JSON and JSON lines, parquet, PrefLib orders, arrays of numbers."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Sequence, Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from prefdensity.data.dialect import Dialect, opened
from prefdensity.data.json_rows import json_rows, table_of
from prefdensity.data.preflib import EDGES, ORDERS, preflib_frame
from prefdensity.errors import DataError
from prefdensity.progress import progress

if TYPE_CHECKING:
    from pyarrow import Table
    from pyarrow.parquet import ParquetFile

Pick = Callable[[Sequence[str]], Iterable[str]]
_ENDINGS = ".csv, .tsv, .txt, .parquet, .jsonl or .json (all but parquet also as .gz)"
_TEXTS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": None, ".dat": None}  # ending -> the usual separator
_INSTEAD = {  # endings that people have, and the way through
    ".xlsx": "save the sheet as csv",
    ".xls": "save the sheet as csv",
    ".ods": "save the sheet as csv",
    ".eval": "write it as json: inspect log convert --to json",
    ".feather": "write it as parquet",
    ".arrow": "write it as parquet",
    ".pkl": "write it as parquet: a pickle runs code when it is read",
    ".rds": "write it as csv",
    ".zip": "unpack it first",
    ".bz2": "unpack it first",
    ".xz": "unpack it first",
    ".zst": "unpack it first",
    ".wmg": "read the orders that it was made from (.soc, .soi, .toc, .toi)",
    ".mjg": "read the orders that it was made from (.soc, .soi, .toc, .toi)",
    ".tog": "read the orders that it was made from (.soc, .soi, .toc, .toi)",
}


def read_rows(
    path: Path,
    pick: Pick = list,
    dialect: Dialect | None = None,
    known: AbstractSet[str] = frozenset(),
    notes: list[str] | None = None,
) -> pd.DataFrame:
    """Return the columns of a file that `pick` chooses from its header, or more.

    Parameters
    ----------
    path
        The file.
    pick
        From the header to the columns that are wanted, where a file can be read by column.
    dialect
        How the file is written.
    known
        Names that columns have, to tell rows from what holds rows.
    notes
        What was found out about the file is added here.

    Raises
    ------
    DataError
        If there is no such file, or it is not what its ending says.
    """
    require_file(path)
    dialect, notes = dialect or Dialect(), [] if notes is None else notes
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    kind = ending.removesuffix(".gz")
    if kind == ".parquet" and ending == kind:
        frame = _parquet(path, pick)
    elif kind in _TEXTS:
        frame = _csv(path, _TEXTS[kind], dialect, notes)
    elif kind in (".jsonl", ".ndjson", ".json"):
        frame = _json(path, dialect, known, notes)
    elif kind in (*ORDERS, EDGES):
        frame = preflib_frame(path, _lines(path, dialect, notes))
    else:
        way = f"; {_INSTEAD[kind]}" if kind in _INSTEAD else ""
        raise DataError(f"{path}: a file must end in {_ENDINGS}, not in {ending or 'nothing'!r}{way}")
    if len(frame) == 0:
        raise DataError(f"{path} has no rows; at least one is needed")
    return frame


def require_file(path: Path) -> None:
    """Raise unless there is a file that can be read."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} names no file that can be read: {_said(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path} is a directory; give a file, or a pattern of several in quotes, as in '{path}/*.json'")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is a device or a pipe; give a file")
    if found.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """Say in one sentence whatever a parser raises: on any exception of theirs the file is at fault.

    Nothing of ours runs inside, so that a mistake of ours is never taken for a damaged file.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory of this machine; see parquet with row groups") from None
    except RecursionError:
        raise DataError(f"{path} cannot be read as {kind}: it is nested too deeply") from None
    except UnicodeError as error:
        raise DataError(
            f"{path} cannot be read as {kind}: {_said(error)}; say how it is encoded, as in encoding='cp1252' "
            "(Windows) or encoding='utf-16'"
        ) from error
    except Exception as error:
        raise DataError(f"{path} cannot be read as {kind}: {_said(error)}") from error


def _csv(path: Path, usual: str | None, dialect: Dialect, notes: list[str]) -> pd.DataFrame:
    # Every column is read, as text: choosing columns would make pandas accept rows with too many fields
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "na_values": [""]}
    with parsing(path, "UTF-8 text"):
        options["encoding"] = dialect.encoded(path, notes)
    kind = f"{_called(options['encoding'])} text with separator"
    with parsing(path, f"{kind} {usual!r}"):
        options |= dialect.laid_out(path, options["encoding"], usual, notes)
    separator = options["sep"]
    try:
        with parsing(path, f"{kind} {separator!r}"):
            header = pd.read_csv(path, header=None, nrows=1, **options).iloc[0].dropna()
            frame = pd.read_csv(path, header=0 if dialect.header else None, **options)
    except DataError as error:
        if isinstance(error.__cause__, pd.errors.EmptyDataError):
            raise DataError(f"{path} is empty: it has no header") from None
        raise
    if dialect.header and len(doubled := header[header.duplicated()]):
        raise DataError(f"{path} has more than one column called {doubled.iloc[0]!r}; rename all but one")
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path}: rows have more fields than the header; name every column, and quote values that "
            f"hold {separator!r}"
        )
    return dialect.plain_numbers(frame if dialect.header else dialect.named(frame), separator, notes)


def _called(encoding: str) -> str:
    return "UTF-8" if encoding.startswith("utf-8") else encoding


def _lines(path: Path, dialect: Dialect, notes: list[str]) -> list[str]:
    with parsing(path, "UTF-8 text"):
        encoding = dialect.encoded(path, notes)
    with (
        parsing(path, f"{_called(encoding)} text"),
        opened(path, "rt", encoding="utf-8-sig" if encoding == "utf-8" else encoding) as file,
    ):
        return list(file)


def _json(path: Path, dialect: Dialect, known: AbstractSet[str], notes: list[str]) -> pd.DataFrame:
    rows, names = json_rows(path, _lines(path, dialect, notes), dialect, known, notes)
    with parsing(path, "a table"):  # its names are texts that JSON took, and pandas may not
        return table_of(rows, names)


def _parquet(path: Path, pick: Pick) -> pd.DataFrame:
    with _opened(path) as file:
        names = file.schema_arrow.names
    wanted = list(pick(names))
    with _opened(path) as file:
        return plain_frame(file.read(columns=wanted))


def stored_index(path: Path) -> str | None:
    """Return the column of a parquet file that pandas stored as the index; None without one, or of other files."""
    if path.suffix.lower() != ".parquet":
        return None
    with _opened(path) as file:
        told = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in told if isinstance(name, str)]  # a range is told by its ends
    return names[0] if len(names) == 1 else None


def plain_frame(table: Table) -> pd.DataFrame:
    """Return an Arrow table as a frame: a stored index is a column, an integer beside a null stays an integer."""
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame


@contextmanager
def _opened(path: Path, **options: Any) -> Iterator[ParquetFile]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: parquet files need pyarrow; pip install 'prefdensity[parquet]'") from None
    with parsing(path, "parquet"), parquet.ParquetFile(path, **options) as file:
        yield file


def row_groups(path: Path, pick: Pick) -> Iterator[tuple[str, pd.DataFrame]] | None:
    """Return an iterator over names and rows of the row groups of a parquet file that has several, else None."""
    if path.suffix.lower() != ".parquet":
        return None
    require_file(path)
    with _opened(path) as file:
        header = file.schema_arrow.names
        kinds = {field.name: str(field.type) for field in file.schema_arrow}
        several = file.num_row_groups > 1
    names = list(pick(header))
    texts = [name for name in names if kinds[name] in ("string", "large_string", "string_view")]
    return _each_group(path, names, texts) if several else None


def _each_group(path: Path, names: list[str], texts: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    # text comes as codes and the distinct values: neither parsing nor memory grows with its length
    with _opened(path, read_dictionary=texts) as file, ThreadPoolExecutor(1) as ahead, progress() as report:

        def load(number: int) -> pd.DataFrame:
            return plain_frame(file.read_row_group(number, columns=names))

        total = file.num_row_groups
        waiting = ahead.submit(load, 0)
        for number in range(total):
            frame = waiting.result()
            if number + 1 < total:
                waiting = ahead.submit(load, number + 1)
            if len(frame):
                yield f"{path}, row group {number + 1} of {total}", frame
            report("reading", number + 1, total)


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".").replace("\n", " ") or type(error).__name__
