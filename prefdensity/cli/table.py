"""The options of the command line that say how to read a table: one for every field of its description."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.data.layout import COLUMN, COLUMNS, FILE, FLAG, IGNORABLE, PAIRS, VALUE, WORD, options
from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons

_READING = "How to read FILE"
_METAVARS = {COLUMN: "COLUMN", COLUMNS: "COLUMN", WORD: "WHAT", FLAG: None, PAIRS: "NAME=VALUE", VALUE: "VALUE",
             FILE: "FILE"}  # fmt: skip
_NUMBERS = ("strength_centre",)
_NAMED = ("groups", "numbers")  # columns that programs call by a name, which may be another than the column's
_FLAGGED = {"identical": ("--drop-self-pairs", "Leave out rows that compare an item with itself; counted.", "drop")}
_FILE = (
    "Table of judgements (csv, tsv, json, jsonl, parquet, PrefLib), several as one table, a pattern in quotes, or "
    "example:citations, example:baseball, example:puddings, example:annotators."
)


class Ties(StrEnum):
    """What becomes of ties in the table."""

    error = "error"
    half = "half"
    drop = "drop"


class Repeats(StrEnum):
    """What becomes of an annotator's further answers to the same question."""

    all = "all"
    once = "once"


def _option(flag: str, words: str, metavar: str | None = "COLUMN") -> Any:
    return typer.Option(flag, help=words, metavar=metavar, rich_help_panel=_READING)


def _parameter(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=Annotated[kind, option])


def _described() -> Iterator[inspect.Parameter]:
    """Yield an option for every field of the description of a table."""
    for name, short, about in options():
        kind, words = about["kind"], about["words"]
        if about["allowed"]:
            words = f"{words.rstrip('.')}: {', '.join(about['allowed'])}."
        flag = f"--{short.replace('_', '-')}"
        if name in _FLAGGED:
            yield _parameter(name, bool, False, _option(*_FLAGGED[name][:2], None))
        elif kind == FLAG:
            yield _parameter(name, bool, False, _option(flag, words, None))
        elif kind in (COLUMNS, PAIRS):
            yield _parameter(name, list[str] | None, None, _option(flag, words, _METAVARS[kind]))
        else:
            taken = Path if kind == FILE else float if name in _NUMBERS else str
            yield _parameter(name, taken | None, None, _option(flag, words, _METAVARS[kind]))


def _written() -> Iterator[inspect.Parameter]:
    """Yield the options that say how a text file is written."""
    for name, words in {
        "separator": "Between cells: comma, semicolon, tab, pipe, or a character; found where it is clear.",
        "encoding": "Of the text, such as cp1252 (Windows), latin-1, utf-16; UTF-8 unless a mark says otherwise.",
        "decimal": "The sign in numbers, . or a comma; found where it is clear.",
        "records": "In a JSON object, the key of the list of rows.",
    }.items():
        yield _parameter(name, str | None, None, _option(f"--{name}", words, "WHAT"))
    skip = typer.Option("--skip", help="Lines before the header to leave out.", metavar="LINES", min=0,
                        rich_help_panel=_READING)  # fmt: skip
    yield _parameter("skip", int | None, None, skip)
    words = "The first line is a row; columns are called 1, 2, 3, ..."
    yield _parameter("header", bool, False, _option("--no-header", words, None))


def _parameters(several: bool) -> list[inspect.Parameter]:
    """Return all options of reading; `several`: FILE may be given more than once."""
    file = typer.Argument(metavar="FILE..." if several else "FILE", help=_FILE)
    format = _option("--format", "Public format such as arena (see 'prefdensity formats').", "NAME")
    choice = _option("--format-option", "Option of the format, as in both_bad=tie; repeatable.", "NAME=VALUE")
    attributes = _option("--attributes", "Table of what is known of labels, as in annotator=judges.csv.", "NAME=FILE")
    ties = _option("--ties", "error: the model must explain them; half: half a win each; drop.", None)
    repeats = _option("--repeats", "once: of an annotator's judgements of a pair the first counts; all: each.", None)
    without = _option("--without", f"Read the table without this: {', '.join(IGNORABLE)}; repeatable.", "WHAT")
    same = _option("--same", "Item counted as another, as in copy=original; repeatable.", "NAME=NAME")
    return [
        _parameter("file", list[str] if several else str, inspect.Parameter.empty, file),
        _parameter("format", str | None, None, format),
        _parameter("format_option", list[str] | None, None, choice),
        *_described(),
        _parameter("attributes", list[str] | None, None, attributes),
        *_written(),
        _parameter("ties", Ties, Ties.error, ties),
        _parameter("repeats", Repeats, Repeats.all, repeats),
        _parameter("same", list[str] | None, None, same),
        _parameter("without", list[str] | None, None, without),
    ]


@dataclass(frozen=True)
class Said:
    """What the options say of a table: where it is, the arguments of `read`, and what becomes of what was read."""

    source: Any
    reading: dict[str, Any]
    ties: Ties
    repeats: Repeats
    same: dict[str, str]

    def table(self) -> "Comparisons | Choices":
        """Read the table."""
        from prefdensity.data.readers import read
        from prefdensity.data.same import as_one

        data = read(self.source, **self.reading)
        if self.same:
            data = as_one(data, self.same)
        if data.SETS:
            if self.repeats is Repeats.once or self.ties is not Ties.error:
                raise DataError("--repeats and --ties are for comparisons of two, and these are answers about more")
            return data
        pairs = data.pairs().repeats_once() if self.repeats is Repeats.once else data.pairs()
        if self.ties is Ties.half:
            return pairs.ties_as_half_wins()
        return pairs.without_ties() if self.ties is Ties.drop else pairs


def said_of(given: dict[str, Any]) -> Said:
    """Return what the options say; what was not said is left to the reader's defaults."""
    file, format, ties, repeats = (given.pop(name) for name in ("file", "format", "ties", "repeats"))
    same = _pairs("--same", given.pop("same"), "copy=original") or {}
    said: dict[str, Any] = _without(given.pop("without"))
    for name, short, about in options():
        value = given.pop(name)
        if value in (None, False, []):
            continue
        if name in _FLAGGED:
            value = _FLAGGED[name][2]
        if name in said:
            raise DataError(f"--without {name} and --{name} say two things; give one")
        said[name] = _pairs(f"--{short.replace('_', '-')}", value, "left=a") if about["kind"] == PAIRS else value
        if name in _NAMED:
            said[name] = _renamed(value)
    if said.get("answer") and len(said["answer"]) == 1:
        said["answer"] = said["answer"][0]
    attributes = _pairs("--attributes", given.pop("attributes"), "annotator=judges.csv")
    said |= {"attributes": attributes} if attributes else {}
    said |= {"header": False} if given.pop("header") else {}
    said |= _pairs("--format-option", given.pop("format_option"), "both_bad=tie") or {}
    said |= {name: value for name, value in given.items() if value is not None}
    source = file[0] if isinstance(file, list) and len(file) == 1 else file
    return Said(source, {"format": format, **said}, ties, repeats, same)


def _without(names: list[str] | None) -> dict[str, None]:
    """Return the roles that no column has."""
    for name in names or []:
        if name not in IGNORABLE:
            raise DataError(f"--without {name} is unknown; use {' or '.join(IGNORABLE)}")
    return dict.fromkeys(names or [])


def _renamed(columns: list[str]) -> dict[str, str]:
    """Return name -> column of columns that users name, as in country=judge.country."""
    found = {}
    for text in columns:
        name, sign, column = text.partition("=")
        found.update({name: column} if sign and name.isidentifier() else {text: text})
    return found


def _pairs(flag: str, given: list[str] | None, example: str) -> dict[str, str] | None:
    pairs: dict[str, str] = {}
    for text in given or []:
        name, sign, value = text.rpartition("=")
        if not sign:
            raise DataError(f"{flag} {text} has no '='; write it as in {flag} {example}")
        if pairs.get(name, value) != value:
            raise DataError(f"{flag} says both {name}={pairs[name]} and {name}={value}; give one")
        pairs[name] = value
    return pairs or None


def reads_a_table(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that describe a table, and hand it the table as `data`: choices if its `data` may be.

    A command with a parameter `table` gets what was `Said` instead, and reads it itself.
    """
    asked = inspect.signature(command).parameters
    takes_rows = "table" in asked
    takes_choices = not takes_rows and "Choices" in str(asked["data"].annotation)
    own = [p for p in asked.values() if p.name not in ("data", "table")]
    lists = any(isinstance(_said(p), typer.models.ArgumentInfo) and "list" in str(p.annotation) for p in own)
    reading = {p.name: p for p in _parameters(several=not lists)}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = said_of({name: given.pop(name) for name in reading})
        if takes_rows:
            command(table=said, **given)
            return
        data = said.table()
        if data.SETS and not takes_choices:
            raise DataError(
                f"{command.__name__} is for comparisons of two and knows nothing of rankings yet; fit does, and the "
                "pairs that they imply are read with as_pairs=True"
            )
        command(data=data, **given)

    # FILE comes after the arguments that must be there, and before a list that may be empty
    ahead = [p for p in own if p.default is p.empty]
    behind = [p for p in own if p.default is not p.empty]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*ahead, *reading.values(), *behind)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _said(parameter: inspect.Parameter) -> Any:
    return next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
