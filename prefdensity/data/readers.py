"""Read comparisons from files, data frames, named public formats and shipped examples."""

from __future__ import annotations

import difflib
import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeGuard

import pandas as pd

from prefdensity.data import simulate
from prefdensity.data.choices import Choices
from prefdensity.data.columns import listed
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.dialect import Dialect
from prefdensity.data.feature_files import array_table, label_table
from prefdensity.data.files import Pick, read_rows, row_groups
from prefdensity.data.folding import gather
from prefdensity.data.formats import recipe
from prefdensity.data.in_memory import frame_of
from prefdensity.data.layout import IGNORABLE, Layout, layout_of
from prefdensity.data.preflib import EDGES, ORDERS
from prefdensity.data.reading import Reading
from prefdensity.data.recipes import cooked
from prefdensity.data.spelling import meaning
from prefdensity.data.tabulate import Tabulated, tabulated
from prefdensity.errors import DataError

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

_ROWS = [each.name for each in fields(Reading)]  # arguments that say how rows are read
_DESCRIBED = ("item_features", "feature_labels", "item_measures", "attributes")  # what describes labels
_DIALECT = [each.name for each in fields(Dialect)]
_LAYOUT = [each.name for each in fields(Layout)]


def read(source: Any, /, *, format: str | None = None, **given: Any) -> Comparisons | Choices:
    """Read a table of comparisons, or of rankings and other answers about more than two items.

    Parameters
    ----------
    source
        A file (csv, tsv, txt, parquet, jsonl, json; all but parquet also as .gz; .soc, .soi, .toc, .toi, .wmd), or
        several as one table: a list of files, or a pattern such as `results/*.json`. A data frame of pandas, or of any
        library that speaks Arrow or the dataframe interchange (polars); a `datasets.Dataset`; rows as a list of dicts,
        of named tuples, of data classes, or of lists with a header; a dict of columns; an array with named fields.
        "example:NAME" with a name of `EXAMPLES`.
    format
        None for a table that the other arguments describe, or a public format: a name of
        `prefdensity.data.formats.FORMATS`, whose recipe they then change.
    **given
        Fields of `prefdensity.data.layout.Layout`, which say what column is what; options of the format, such as
        `both_bad="tie"`; fields of `prefdensity.data.dialect.Dialect`, which say how a text file is written; and
        `attributes`, tables of what is known of labels (see `Comparisons.from_frame`). `item_features`, `item_measures`
        and `attributes` may be files whose first column holds the labels; `item_features` may be an array, or a file of
        one, whose rows are called by `feature_labels`, labels or a file of them. With several files the column "file"
        names the one that a row comes from, and "folder" its folder where they lie in several.

    Returns
    -------
    Comparisons or Choices
        Choices of rankings, of the best of sets, and of best-worst answers unless `as_pairs=True`; else comparisons.
        Labels are read as text ("007" stays "007", "NA" is a label); in csv only an empty cell is missing.
        A parquet file of several row groups may be larger than memory: where each row is one comparison, it is read one
        row group at a time, and equal rows are folded into counts as they come. What is returned are the distinct rows,
        ordered by their codes; which row of the file a judgement was is forgotten. Rows differ by every column that is
        read: context=None forgets prompts, which would keep all rows apart.

    Raises
    ------
    DataError
        If the file cannot be read, is not what was announced, or may mean two things.
    """
    if isinstance(source, str) and source.startswith("example:"):
        if format is not None or given:
            raise DataError("an example is complete as it is; read it without further arguments")
        return example(source.removeprefix("example:"))
    files = _files(source)
    if files and format is None and all(Path(each).suffix.lower() in (*ORDERS, EDGES) for each in files):
        format = "preflib"
    options = () if format is None else tuple(recipe(format).options)
    _require_arguments([*_LAYOUT, *_DIALECT, "attributes", "source", *options], given, format)
    called = str(given.get("source") or (listed(files, 3) if files else "data frame"))
    dialect, described, rows = _sorted_out(given)
    if len(files) == 1 and format is None and not set(rows) - set(_ROWS):
        reading = Reading(**rows)
        if groups := row_groups(Path(files[0]), reading.wanted):
            return _folded(groups, replace(reading, source=called), described)
    notes: list[str] = []
    frame = _frame(source, files, _pick(rows, format), dialect, _known(rows, format), notes)
    layout = layout_of(_as_layout(rows)) if format is None else None
    found = cooked(frame, str(format), rows, called) if layout is None else tabulated(frame, layout, called)
    if found.kind == "comparisons":
        found.arguments = _ignored(given, layout) | found.arguments
    return _read(found, called, described, notes)


def _ignored(given: Mapping[str, Any], layout: Layout | None) -> dict[str, None]:
    """Return the roles without a column: those said to have none, and those whose usual column has another use."""
    used = set() if layout is None else {str(name) for named in layout.columns_named().values() for name in named}
    return {name: None for name in IGNORABLE if given.get(name, "") is None or (name in used and name not in given)}


def _sorted_out(given: Mapping[str, Any]) -> tuple[Dialect, dict[str, Any], dict[str, Any]]:
    """Return how a file is written, what describes labels, and which column is what, out of the arguments of `read`."""
    said = {name: value for name, value in given.items() if value is not None or name in _ROWS}
    dialect = Dialect(**{name: said.pop(name) for name in _DIALECT if name in said})
    described = {name: said.pop(name) for name in _DESCRIBED if name in said}
    said.pop("source", None)
    return dialect, described, said


def rows_of(source: Any, *, format: str | None = None, **given: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return all rows and columns of a table as they are, and the arguments by which `read` reads that frame.

    Parameters
    ----------
    source, format, **given
        As for `read`.
    """
    files = _files(source)
    if files and format is None and all(Path(each).suffix.lower() in (*ORDERS, EDGES) for each in files):
        format = "preflib"
    given = dict(given)
    dialect = Dialect(**{name: given.pop(name) for name in _DIALECT if given.get(name) is not None})
    fields_given = {name: value for name, value in given.items() if name in (*_LAYOUT, *_ROWS)}
    frame = _frame(source, files, list, dialect, _known(fields_given, format), [])
    called = given.pop("source", None) or (listed(files, 3) if files else "data frame")
    return frame, {**given, "format": format, "source": called}


def _as_layout(given: dict[str, Any]) -> dict[str, Any]:
    """Return arguments with a signed strength called so, where outcome=None says that strength is one."""
    if "outcome" in given and given["outcome"] is None:
        if given.get("strength") is None:
            raise DataError("outcome=None leaves it to a signed strength to say who won; name its column: strength=...")
        return {**given, "signed_strength": given["strength"], "strength": None}
    return given


def _read(found: Tabulated, source: str, described: dict[str, Any], notes: list[str]) -> Comparisons | Choices:
    """Return the table of rows that say what they mean."""
    notes = [*notes, *found.notes]
    tables = _described(described)
    if found.kind != "comparisons":
        senseless = sorted(set(tables) - {"item_features", "attributes"})
        if senseless:
            raise DataError(f"{senseless[0]} is for comparisons of two, and these are answers about more")
        make = Choices.from_rankings if found.kind == "rankings" else Choices.from_best_worst
        answers = make(found.frame, **found.arguments, **tables, source=source)
        return replace(answers, notes=(*notes, *answers.notes))
    arguments = found.arguments
    if arguments.get("labels") is not None:
        arguments["labels"] = _labels_as_read(found.frame, arguments)
    data = Comparisons.from_frame(found.frame, **arguments, **tables, source=source)
    if (data.count != data.count.round()).any():
        notes.append(
            "counts are fractional: weights of a quasi-likelihood, whose intervals are those of as many whole "
            "judgements"
        )
    data = replace(data, notes=(*notes, *data.notes))
    return data.without_strength() if found.strength_dropped and data.grade is not None else data


def _described(given: dict[str, Any]) -> dict[str, Any]:
    """Return tables of what is known of labels, from their files or as they are."""
    found: dict[str, Any] = {name: given[name] for name in ("item_features", "item_measures") if name in given}
    for name, table in found.items():
        labels = given.get("feature_labels") if name == "item_features" else None
        found[name] = label_table(table, labels) if isinstance(table, str | Path) else array_table(table, labels)
    if "attributes" in given:
        found["attributes"] = {
            per: label_table(table, per=per) if isinstance(table, str | Path) else table
            for per, table in given["attributes"].items()
        }
    return found


def _is_several(source: Any) -> TypeGuard[Sequence[str | Path]]:
    return isinstance(source, list | tuple) and bool(source) and all(isinstance(each, str | Path) for each in source)


def _files(source: Any) -> list[str]:
    """Return the files that a source names: one, several, or those of a pattern; none of what is no file."""
    if _is_several(source):
        return [file for each in source for file in _files(each)]
    if not isinstance(source, str | Path):
        return []
    path = str(source)
    if not any(sign in path for sign in "*?[") or "\0" in path or Path(path).exists():
        return [path]
    found = sorted(glob.glob(path))
    if not found:
        raise DataError(f"no file is called like {path}")
    return found


def _frame(
    source: Any, files: list[str], pick: Pick, dialect: Dialect, known: frozenset[str], notes: list[str]
) -> pd.DataFrame:
    """Return the rows of a source, whatever holds them."""
    if files:
        frames = [read_rows(Path(each), pick, dialect, known, notes) for each in files]
        if len(frames) == 1:
            return frames[0]
        return _one_below_another(frames, files, notes)
    return frame_of(source, dialect, known)


def _one_below_another(frames: list[pd.DataFrame], files: list[str], notes: list[str]) -> pd.DataFrame:
    """Return several files as one table, with a column for the file, and one for the folder if there are several."""
    apart = len({Path(file).absolute().parent.name for file in files}) > 1
    columns = {str(name) for frame in frames for name in frame.columns}
    parts = []
    for frame, file in zip(frames, files, strict=True):
        lacking = sorted(columns - set(map(str, frame.columns)))
        if lacking:
            notes.append(f"{file} has no column {', '.join(map(repr, lacking[:4]))}")
        path = Path(file)
        said = {"file": path.name.split(".")[0]} | ({"folder": path.absolute().parent.name} if apart else {})
        parts.append(frame.astype(object).assign(**{name: each for name, each in said.items() if name not in columns}))
    notes.append(f"{len(files)} files read as one table")
    return pd.concat(parts, ignore_index=True)


def _paths(given: Mapping[str, Any], format: str | None) -> set[str]:
    """Return the columns, and paths into columns, that arguments and the recipe of a format may read."""
    named = layout_of({name: value for name, value in given.items() if name in _LAYOUT}).columns_named()
    paths = {str(path) for each in named.values() for path in each}
    if format is not None:
        about = recipe(format)
        paths |= {*about.kept, "file", "folder"}
        choices = [change for option in about.options.values() for change in (*option.values.values(), option.free)]
        for changes in (about.layout, *about.parts.values(), *about.instead.values(), *choices):
            named = Layout(**{name: value for name, value in changes.items() if name in _LAYOUT}).columns_named()
            paths |= {str(path) for each in named.values() for path in each}
        paths |= {str(value) for name, value in given.items() if name in about.options}
    parts = {part for path in paths for part in path.split("+")}
    return {part for part in parts if part[:1] != "="}


def _pick(given: Mapping[str, Any], format: str | None) -> Pick:
    """Return what chooses the columns to load: those that may be read, or all where that cannot be known before."""
    if format is None and not set(given) - set(_ROWS):
        return Reading(**given).wanted
    paths = _paths(given, format)
    if given.get("wide") is not None or any(sign in path for path in paths for sign in "{*?["):
        return list

    def pick(header: Sequence[str]) -> list[str]:
        usual = {"item_a", "item_b", "outcome", "item", "prompt", "annotator", "context", "count", "first", "rank"}
        wanted = usual | paths
        return [name for name in header if name in wanted or any(path.startswith(f"{name}.") for path in paths)]

    return pick


def _known(given: Mapping[str, Any], format: str | None) -> frozenset[str]:
    """Return names that columns must have, to tell rows from what holds rows."""
    return frozenset(path.split(".")[0] for path in _paths(given, format) or {"item_a", "item_b"})


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
        wide = read_rows(path)
    # two columns of labels, then how often the first won, the second won, neither did
    first, second, *results = wide.columns
    outcomes = ("a", "b", "tie")[: len(results)]
    parts = [
        pd.DataFrame({"item_a": wide[first], "item_b": wide[second], "outcome": outcome, "count": wide[result]})
        for outcome, result in zip(outcomes, results, strict=True)
    ]
    table = pd.concat(parts, ignore_index=True)
    return Comparisons.from_frame(table[table["count"] != "0"], ordered=name == "baseball", source=f"example:{name}")


def _require_arguments(known: Sequence[str], given: Mapping[str, Any], format: str | None) -> None:
    unknown = [name for name in given if name not in known]
    if unknown:
        what = "a table" if format is None else f"format {format!r}"
        near = difflib.get_close_matches(unknown[0], known, 1)
        own = [] if format is None else list(recipe(format).options)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"beside the arguments of a table it takes {', '.join(own)}"
            if own
            else f"it takes {', '.join(known)}"
        )
        raise DataError(f"{what} takes no argument {unknown[0]!r}; {hint}")


def _labels_as_read(frame: pd.DataFrame, columns: Mapping[str, Any]) -> dict[Any, str]:
    """Let labels={1: "a"} match a csv, which holds text, and labels={"1": "a"} a parquet of integers, or 1.0."""
    labels = dict(columns["labels"])
    column = columns.get("outcome", "outcome")
    meant = meaning(labels)
    try:
        values = pd.unique(frame[column].dropna()) if column in frame.columns else ()
    except TypeError:  # nested values: from_frame says so
        values = ()
    for value in values:
        if (target := meant(value)) is not None:
            labels.setdefault(value, target)
    return labels


def _folded(groups: Iterator[tuple[str, pd.DataFrame]], reading: Reading, described: dict[str, Any]) -> Comparisons:
    """Return the distinct rows of all row groups, each checked on its own."""

    def part(name: str, frame: pd.DataFrame) -> Comparisons:
        known = {"labels": reading.labels, "outcome": reading.outcome}
        labels = None if reading.labels is None else _labels_as_read(frame, known)
        return Comparisons(**replace(reading, source=name, labels=labels).rows(frame))

    whole = gather((part(name, frame) for name, frame in groups), reading.source)
    tables = _described(described)
    features, measures, attributes = (tables.get(name) for name in ("item_features", "item_measures", "attributes"))
    return whole.completed(features, measures, attributes, reading.signed)
