"""Read comparisons from files, data frames, named public formats and shipped examples."""

from __future__ import annotations

import gzip
import inspect
import json
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from prefdensity.data import simulate
from prefdensity.data.columns import empty, listed
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.folding import gather
from prefdensity.data.formats import FORMATS
from prefdensity.data.reading import Reading
from prefdensity.errors import DataError
from prefdensity.progress import progress

if TYPE_CHECKING:
    from pyarrow import Table
    from pyarrow.parquet import ParquetFile

# Name -> where the numbers come from.
EXAMPLES = {
    "citations": (
        "Stigler, S. M. (1994). Citation patterns in the journals of statistics and probability. "
        "Statistical Science 9, 94-108; the four journals analysed in Agresti, A. (2002). Categorical Data "
        "Analysis, 2nd ed., Wiley. A journal wins when the other one cites it."
    ),
    "baseball": (
        "American League East, season of 1987, home and away: Agresti, A. (2002). Categorical Data Analysis, "
        "2nd ed., Wiley, p. 438. item_a played at home."
    ),
    "puddings": (
        "Davidson, R. R. (1970). On extending the Bradley-Terry model to accommodate ties in paired "
        "comparison experiments. Journal of the American Statistical Association 65, 317-328. Six puddings, "
        "ties allowed."
    ),
    "annotators": (
        "SIMULATED by prefdensity.simulate.example(): 40 annotators judge 20 invented assistants, with ties, "
        "an effect of being shown first, unequal reliabilities and two careless annotators."
    ),
}

_ENDINGS = ".csv, .tsv, .parquet, .jsonl or .json (csv, tsv and jsonl also as .gz)"
_Pick = Callable[[Sequence[str]], Iterable[str]]
_ROWS = [each.name for each in fields(Reading)]  # arguments that say how rows are read
_LABELS = ["item_features", "item_measures", "attributes"]  # and what describes labels
_GENERIC = [*_ROWS, *_LABELS]


def read(source: str | Path | pd.DataFrame, *, format: str | None = None, **columns: Any) -> Comparisons:
    """Read a table of comparisons.

    Parameters
    ----------
    source
        A file (csv, tsv, parquet, jsonl, json; csv, tsv and jsonl also as .gz), a data frame, or
        "example:NAME" with a name of `EXAMPLES`.
    format
        None for a table with one comparison in each row, or a public format: a name of
        `prefdensity.data.formats.FORMATS`.
    **columns
        Without `format`, the arguments of `Comparisons.from_frame` (`item_a="model_a"`, `labels={...}`,
        `ordered=True`, `groups=["category"]`, ...); `item_features`, `item_measures` and the tables of `attributes` may
        also be files whose first column holds the labels of items, or of what is described.
        With `format`, the arguments of its converter, such as `both_bad="tie"`.

    Returns
    -------
    Comparisons
        Labels are read as text ("007" stays "007", "NA" is a label); in csv only an empty cell is missing.
        A parquet file of several row groups may be larger than memory: it is read one row group at a time, and equal
        rows are folded into counts as they come. What is returned are the distinct rows, ordered by their codes; which
        row of the file a judgement was is forgotten. Rows differ by every column that is read: context=None forgets
        prompts, which would keep all rows apart.

    Raises
    ------
    DataError
        If the file cannot be read, or is not what was announced.
    """
    if isinstance(source, str) and source.startswith("example:"):
        if format is not None or columns:
            raise DataError("an example is complete as it is; read it without further arguments")
        return example(source.removeprefix("example:"))
    convert: Callable[..., Comparisons] = Comparisons.from_frame
    if format is None:
        _require_arguments(_GENERIC, columns, "a generic table")
        for each in ("item_features", "item_measures"):
            columns |= {each: _table_of(columns[each])} if each in columns else {}
        if "attributes" in columns:
            columns["attributes"] = {per: _table_of(table, per) for per, table in columns["attributes"].items()}
        pick: _Pick = Reading(**{name: given for name, given in columns.items() if name in _ROWS}).wanted
    else:
        if not isinstance(format, str) or format not in FORMATS:
            raise DataError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
        convert, wanted = FORMATS[format]
        pick = partial(filter, wanted.__contains__)
        known = [name for name in inspect.signature(convert).parameters if name != "frame"]
        _require_arguments(known, columns, f"format {format!r}")
    if isinstance(source, pd.DataFrame):
        frame = source
    elif isinstance(source, str | Path):
        columns.setdefault("source", str(source))
        if format is None and (groups := _row_groups(Path(source), pick)):
            return _folded(groups, columns)
        frame = read_rows(Path(source), pick)
    else:
        raise DataError(f"read() takes a path, 'example:NAME' or a data frame, not {type(source).__name__}")
    if format is None and columns.get("labels") is not None:
        columns["labels"] = _labels_as_read(frame, columns)
    return convert(frame, **columns)


def example(name: str) -> Comparisons:
    """Return a shipped table: citations, baseball, puddings, or the simulated annotators.

    `EXAMPLES` holds the full reference of each.

    Raises
    ------
    DataError
        If there is no such example.
    """
    if name not in EXAMPLES:
        raise DataError(f"there is no example {name!r}; there are {', '.join(EXAMPLES)}")
    if name == "annotators":
        return simulate.example()[0]
    with resources.as_file(resources.files("prefdensity.data") / f"{name}.csv") as path:
        wide = _csv(path, ",")
    # two columns of labels, then how often the first won, the second won, neither did
    first, second, *results = wide.columns
    outcomes = ("a", "b", "tie")[: len(results)]
    parts = [
        pd.DataFrame(
            {"item_a": wide[first], "item_b": wide[second], "outcome": outcome, "count": wide[result]}
        )
        for outcome, result in zip(outcomes, results, strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)
    return Comparisons.from_frame(
        table[table["count"] != "0"], ordered=name == "baseball", source=f"example:{name}"
    )


def _require_arguments(known: Sequence[str], columns: dict[str, Any], what: str) -> None:
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise DataError(f"{what} takes no argument {unknown[0]!r}; it takes {', '.join(known)}")


def _labels_as_read(frame: pd.DataFrame, columns: dict[str, Any]) -> dict[Any, str]:
    """Let labels={1: "a"} match a csv, which holds text, and labels={"1": "a"} a parquet of integers."""
    labels = dict(columns["labels"])
    column = columns.get("outcome", "outcome")
    by_text = {str(value): target for value, target in labels.items()}
    try:
        values = pd.unique(frame[column].dropna()) if column in frame.columns else ()
    except TypeError:  # nested values: from_frame says so
        values = ()
    for value in values:
        if str(value) in by_text:
            labels.setdefault(value, by_text[str(value)])
    return labels


def _table_of(given: Any, per: str = "item") -> Any:
    """Return a table that describes labels: from its file, or as it is."""
    return label_table(Path(given), per) if isinstance(given, str | Path) else given


def label_table(path: Path, per: str = "item") -> pd.DataFrame:
    """Return a file with one row for each item, or other label, indexed by the labels in its first column."""
    table = read_rows(path)
    if len(table.columns) < 2:
        raise DataError(f"{path} has the columns {listed(table.columns)}; it needs {per}s' labels, then numbers")
    label = table.columns[0]
    none = empty(table[label])
    if none.any():
        row = int(none.argmax()) + 1
        raise DataError(f"{path}: the first column, {label!r}, must hold {per} labels; row {row} is empty")
    return table.set_index(label)


def read_rows(path: Path, pick: _Pick = list) -> pd.DataFrame:
    """Return the columns of a file that `pick` chooses from its header, or more."""
    _require_file(path)
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
    kind = ending.removesuffix(".gz")
    if kind == ".parquet" and ending == kind:
        frame = _parquet(path, pick)
    elif kind in (".csv", ".tsv"):
        frame = _csv(path, "," if kind == ".csv" else "\t")
    elif kind in (".jsonl", ".ndjson") or ending == ".json":
        frame = _json(path)
    else:
        raise DataError(f"{path}: a file must end in {_ENDINGS}, not in {ending or 'nothing'!r}")
    if len(frame) == 0:
        raise DataError(f"{path} has no rows; at least one comparison is needed")
    return frame


def _require_file(path: Path) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} names no file that can be read: {_said(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise DataError(f"{path} is a directory; give one file")
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"{path} is a device or a pipe; give a file")
    if found.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")


@contextmanager
def _parsing(path: Path, kind: str) -> Iterator[None]:
    """Say in one sentence whatever a parser raises: on any exception of theirs the file is at fault.

    Nothing of ours runs inside, so that a mistake of ours is never taken for a damaged file.
    """
    try:
        yield
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory of this machine; see parquet with row groups") from None
    except RecursionError:
        raise DataError(f"{path} cannot be read as {kind}: it is nested too deeply") from None
    except Exception as error:
        raise DataError(f"{path} cannot be read as {kind}: {_said(error)}") from error


def _csv(path: Path, separator: str) -> pd.DataFrame:
    # Every column is read, as text: choosing columns would make pandas accept rows with too many fields
    options: dict[str, Any] = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""]}
    try:
        with _parsing(path, f"UTF-8 text with separator {separator!r}"):
            header = pd.read_csv(path, header=None, nrows=1, **options).iloc[0].dropna()
            frame = pd.read_csv(path, **options)
    except DataError as error:
        if isinstance(error.__cause__, pd.errors.EmptyDataError):
            raise DataError(f"{path} is empty: it has no header") from None
        raise
    doubled = header[header.duplicated()]
    if len(doubled):
        raise DataError(f"{path} has more than one column called {doubled.iloc[0]!r}")
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(
            f"{path}: rows have more fields than the header; name every column, and quote values that "
            f"hold {separator!r}"
        )
    return frame


def _json(path: Path) -> pd.DataFrame:
    """Read one object per line, or, for .json, perhaps an array of objects."""
    with (
        _parsing(path, "UTF-8 text"),
        gzip.open(path, "rt", encoding="utf-8-sig")
        if path.suffix.lower() == ".gz"
        else open(path, encoding="utf-8-sig") as file,
    ):
        lines = file.readlines()
    first = next((line for line in lines if line.strip()), "")
    if path.suffix.lower() == ".json" and (first.lstrip().startswith("[") or first.strip() == "{"):
        rows = _parsed(path, 1, "".join(lines))
        if isinstance(rows, dict):
            raise DataError(f"{path} holds one object over several lines; give a list of objects, or one on each line")
    else:
        rows = [_parsed(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if len(rows) == 1 and isinstance(rows[0], list):
            rows = rows[0]
    wrong = [index for index, row in enumerate(rows) if not isinstance(row, dict)]
    if wrong:
        what = str(rows[wrong[0]])[:40]
        raise DataError(f"{path}: row {wrong[0] + 1} is not an object with named columns, but {what}")
    with _parsing(path, "a table"):  # its names are texts that JSON took, and pandas may not
        return pd.DataFrame(rows, dtype=object)  # object: an integer beside a null stays an integer


def _parsed(path: Path, number: int, text: str) -> Any:
    """Return the JSON value of a text that begins in a line."""
    try:
        return json.loads(text.rstrip(), object_pairs_hook=_named_once)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {number + error.lineno - 1} is not valid JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{path}: line {number} is nested too deeply") from None
    except ValueError as error:  # whole numbers of thousands of digits, names given twice
        raise DataError(f"{path}: line {number} cannot be read: {_said(error)}") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object names {max(names, key=names.count)!r} more than once")
    return found


def _parquet(path: Path, pick: _Pick) -> pd.DataFrame:
    with _opened(path) as file:
        names = file.schema_arrow.names
    wanted = list(pick(names))
    with _opened(path) as file:
        return _frame(file.read(columns=wanted))


def _frame(table: Table) -> pd.DataFrame:
    # an index that pandas stored is a column like any other; an integer beside a null stays an integer
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame


@contextmanager
def _opened(path: Path, **options: Any) -> Iterator[ParquetFile]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: parquet files need pyarrow; pip install 'prefdensity[parquet]'") from None
    with _parsing(path, "parquet"), parquet.ParquetFile(path, **options) as file:
        yield file


def _row_groups(path: Path, pick: _Pick) -> Iterator[tuple[str, pd.DataFrame]] | None:
    """Return an iterator over names and rows of the row groups of a parquet file that has several, else None."""
    if path.suffix.lower() != ".parquet":
        return None
    _require_file(path)
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
            return _frame(file.read_row_group(number, columns=names))

        total = file.num_row_groups
        waiting = ahead.submit(load, 0)
        for number in range(total):
            frame = waiting.result()
            if number + 1 < total:
                waiting = ahead.submit(load, number + 1)
            if len(frame):
                yield f"{path}, row group {number + 1} of {total}", frame
            report("reading", number + 1, total)


def _folded(groups: Iterator[tuple[str, pd.DataFrame]], columns: dict[str, Any]) -> Comparisons:
    """Return the distinct rows of all row groups, each checked on its own."""
    reading = Reading(**{name: given for name, given in columns.items() if name in _ROWS})

    def part(name: str, frame: pd.DataFrame) -> Comparisons:
        labels = None if reading.labels is None else _labels_as_read(frame, columns)
        return Comparisons(**replace(reading, source=name, labels=labels).rows(frame))

    whole = gather((part(name, frame) for name, frame in groups), reading.source)
    features, measures, attributes = (columns.get(name) for name in _LABELS)
    return whole.completed(features, measures, attributes, reading.signed)


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".").replace("\n", " ") or type(error).__name__
