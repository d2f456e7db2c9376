"""The manners of the shell: one sentence for what the user can mend, whole folders or none, options named as typed."""

import functools
import inspect
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
import typer.models

from prefdensity.errors import DataError, PrefDensityError

INTERRUPTED = 130  # what shells report for Ctrl-C
_LONGEST = 1500  # characters of a sentence
_ROWS = (".csv", ".jsonl", ".parquet")  # files of rows that programs read on

_BUG = (
    "This is a fault of prefdensity, not of your table. Please report it with the command, the lines above and, if you "
    "can, the table."
)
# an argument as messages write it for Python: name='value', name=4, name=True, name={'old': 'new'}, name=...; what
# stands in a call, as in tastes(by='age'), is part of a name
_ARGUMENT = re.compile(
    r"\w\([^()]*\)|\b([a-z][a-z_]*)="
    r"('[^']*'|\{'[^']*': (?:'[^']*'|-?\d+(?:\.\d+)?)\}|True|False|\[[^\]]*\]|-?\d+(?:\.\d+)?|\.\.\.)"
)
# the same in both languages, the shell's in parentheses
_BOTH = re.compile(r"(?:[\w.]+\(\)|\w+=[^\s()]+) \((--[^)]+)\)")


def one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the manners of the shell: what the user can mend is one sentence on stderr and exit code 2.

    That is a `PrefDensityError`, what the system refuses, and memory that does not suffice. Any other exception is a
    fault of ours: it keeps its traceback, with a note that says so.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (BrokenPipeError, typer.Exit, typer.Abort, typer.BadParameter):
            raise  # the reader of a pipe left, or the command has said what it had to: typer ends quietly
        except PrefDensityError as error:
            _fail(in_shell_words(str(error), _flags(command)))
        except OSError as error:
            _fail(f"{error.filename or 'file'}: {error.strerror or error}")
        except KeyboardInterrupt:
            typer.echo("prefdensity: interrupted, so nothing was written", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if _out_of_memory(error):
                _fail("the memory of this machine does not suffice; give fewer rows or draws, or a smaller model")
            error.add_note(_BUG)
            raise

    return run


def in_shell_words(message: str, flags: Mapping[str, str]) -> str:
    """Return a message with arguments of Python, such as missing='drop', as options of a command: argument -> flag."""
    free = flags.get("format_option")

    def option(found: re.Match[str]) -> str:
        name, value = found.groups()
        if name is None:
            return found.group()
        flag = flags.get(name) or flags.get(name.removesuffix("s"))
        if flag is not None and flag.endswith("!"):  # an option without a value
            return flag.removesuffix("!")
        if flag is not None and value.startswith("["):
            return " ".join(f"{flag} {each.strip().strip(chr(39))}" for each in value.strip("[]").split(","))
        if value.startswith("{"):
            value = value.strip("{}").replace("'", "").replace(": ", "=")
        value = "" if value in ("...", "True") else value.strip("'")
        value = f'"{value}"' if value.startswith("=") else value  # which some shells would take for a command
        if flag is None:
            return f"{free} {name}={value}" if free and value and name in _format_options() else found.group()
        return f"{flag} {value}".strip()

    said = _ARGUMENT.sub(option, _BOTH.sub(r"\1", message))
    for bare in (flag.removesuffix("!") for flag in flags.values() if flag.endswith("!")):
        said = said.replace(f", {bare}", f" {bare}")  # what has no value stands beside what it goes with
    return said


def _flags(command: Callable[..., None]) -> dict[str, str]:
    """Return the options of a command: parameter -> flag, with a mark if it takes no value."""
    flags = {}
    for parameter in inspect.signature(command).parameters.values():
        for said in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(said, typer.models.OptionInfo):
                # with Annotated typer keeps the first name in the place of a default
                named = [str(each) for each in (said.default, *(said.param_decls or ())) if str(each).startswith("--")]
                flag = named[0] if named else f"--{parameter.name.replace('_', '-')}"
                flags[parameter.name] = f"{flag}!" if isinstance(parameter.default, bool) else flag
    return flags


def _format_options() -> set[str]:
    """Return the options of the public formats."""
    from prefdensity.data.formats import FORMATS

    return {name for each in FORMATS.values() for name in each.options}


def _fail(sentence: str) -> None:
    """Show a sentence on one line, whatever characters it quotes, and leave with code 2."""
    if len(sentence) > _LONGEST:
        sentence = f"{sentence[: _LONGEST // 2]} ... {sentence[-_LONGEST // 2 :]}"
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    typer.echo(f"prefdensity: {line}", err=True)
    raise typer.Exit(2) from None


def _out_of_memory(error: Exception) -> bool:
    """Whether memory did not suffice, in the words of Python, of numpy, or of torch on either device."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "out of memory", "Unable to allocate")
    )


def write_csv(folder: Path, **tables: Any) -> None:
    """Write NAME.csv of tables that people read; no cell of theirs is a formula."""
    from prefdensity.reporting.board import spreadsheet_safe

    for name, table in tables.items():
        spreadsheet_safe(table).to_csv(folder / f"{name}.csv", index=False)


def require_item(reference: str | None, items: Sequence[str]) -> None:
    """Raise `DataError` unless the reference, if there is one, is an item."""
    from prefdensity.data.named import require_among

    if reference is not None:
        require_among((reference,), items, "--reference")


def require_ending(out: Path) -> None:
    """Refuse a file of which no kind is known."""
    if out.suffix.lower() not in _ROWS:
        raise DataError(f"--out {out} ends in none of {', '.join(_ROWS)}, so its kind is not known")


def write_rows(frame: Any, out: Path) -> None:
    """Write a table, in the kind that the name of the file says; it appears whole or not at all."""
    kind = out.suffix.lower()
    plain = frame.copy()
    plain.attrs = {}  # notes are for people, and no file format keeps tuples
    with whole(out) as path:
        if kind == ".parquet":
            plain.to_parquet(path, index=False)
        elif kind == ".jsonl":
            plain.to_json(path, orient="records", lines=True, force_ascii=False)
        else:
            plain.to_csv(path, index=False)


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yield a path to write a file at; it becomes `out` when all of it succeeded."""
    home = out.absolute().parent
    if out.is_dir() or not home.is_dir():
        raise DataError(f"{out} cannot be written: {'it is' if out.is_dir() else f'{home} is not'} a folder")
    if not os.access(home, os.W_OK | os.X_OK):
        raise DataError(f"{home} may not be written to; choose another --out")
    with tempfile.TemporaryDirectory(prefix=".prefdensity-", dir=home) as scratch:
        path = Path(scratch) / out.name
        yield path
        if path.exists():
            os.replace(path, out)


def require_writable(out: Path) -> Path:
    """Return the folder that `out` is, or will be, in; what cannot be written is better known before the work."""
    home = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not home.is_dir():
        raise DataError(f"{home} is a file; --out names a folder")
    if not os.access(home, os.W_OK | os.X_OK):
        raise DataError(f"{home} may not be written to; choose another --out")
    return home


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; what was written there is in `out` when all of it succeeded."""
    with tempfile.TemporaryDirectory(prefix=".prefdensity-", dir=require_writable(out)) as scratch:
        folder = Path(scratch) / "new"
        folder.mkdir()
        yield folder
        out.parent.mkdir(parents=True, exist_ok=True)
        if not out.exists():
            folder.rename(out)
        else:
            for path in sorted(folder.iterdir()):
                os.replace(path, out / path.name)


@contextmanager
def results(out: Path) -> Iterator[Path]:
    """Yield a folder as `staged` does, and say in the end what was written."""
    with staged(out) as folder:
        yield folder
        names = sorted(path.name for path in folder.iterdir())
    typer.echo(f"wrote {out}: {', '.join(names)}")


def leave(notes: Sequence[str]) -> None:
    """Leave with the code of Ctrl-C where there are notes that a study was ended before it was complete."""
    if notes:
        raise typer.Exit(INTERRUPTED)
