"""The options of the command line that say how to read a table of comparisons."""

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons

_READING = "How to read FILE"


class Ties(StrEnum):
    """What becomes of ties in the table."""

    error = "error"
    half = "half"
    drop = "drop"


class Repeats(StrEnum):
    """What becomes of an annotator's further answers to the same question."""

    all = "all"
    once = "once"


def _option(flag: str, words: str, metavar: str | None = "COLUMN", **more: Any) -> Any:
    return typer.Option(flag, help=words, metavar=metavar, rich_help_panel=_READING, **more)


def read_table(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table of comparisons (csv, tsv, jsonl, parquet), or example:citations, example:baseball, "
            "example:puddings, example:annotators.",
        ),
    ],
    format: Annotated[
        str | None, _option("--format", "Public format such as arena; else one comparison a row.", "NAME")
    ] = None,
    format_option: Annotated[
        list[str] | None,
        _option("--format-option", "Argument of the format, as in both_bad=tie; repeatable.", "NAME=VALUE"),
    ] = None,
    item_a: Annotated[str | None, _option("--item-a", "Column of one item.")] = None,
    item_b: Annotated[str | None, _option("--item-b", "Column of the other item.")] = None,
    outcome: Annotated[str | None, _option("--outcome", "Column of the judgement: a, b or tie.")] = None,
    strength: Annotated[
        str | None,
        _option("--strength", "Column of the strength of preference, 1 the weakest; for --model graded."),
    ] = None,
    signed_strength: Annotated[
        str | None,
        _option("--signed-strength", "Column that takes the place of --outcome: positive for item_a, 0 a tie."),
    ] = None,
    strength_centre: Annotated[
        float | None,
        _option("--strength-centre", "Of --signed-strength: the value of a tie, such as 4 of 1 to 7.", "VALUE"),
    ] = None,
    higher: Annotated[
        str | None, _option("--higher", "Of --signed-strength: the side that high values speak for.", "a|b")
    ] = None,
    annotator: Annotated[str | None, _option("--annotator", "Column of who judged.")] = None,
    context: Annotated[str | None, _option("--context", "Column of the prompt or question.")] = None,
    count: Annotated[str | None, _option("--count", "Column of how many judgements a row holds.")] = None,
    ordered: Annotated[
        bool, _option("--ordered", "item_a was shown first (left, at home) in every row.", None)
    ] = False,
    first: Annotated[str | None, _option("--first", "Column of the side shown first: a, b, neither.")] = None,
    label: Annotated[
        list[str] | None,
        _option("--label", "Meaning of an outcome, as in model_a=a (a, b, tie, drop); repeatable.", "OLD=NEW"),
    ] = None,
    missing: Annotated[str | None, _option("--missing", "Rows with empty cells: error, drop.", "WHAT")] = None,
    identical: Annotated[
        str | None, _option("--identical", "Rows that compare an item with itself: error, drop.", "WHAT")
    ] = None,
    covariate: Annotated[
        list[str] | None, _option("--covariate", "Numeric column; positive speaks for item_a; repeatable.")
    ] = None,
    item_features: Annotated[
        Path | None,
        _option("--item-features", "Table with one row per item: its label, then numbers.", "FILE"),
    ] = None,
    strength_dropped: Annotated[
        bool, _option("--strength-dropped", "Let who won alone count, not how strongly.", None)
    ] = False,
    item_measures: Annotated[
        Path | None,
        _option("--item-measures", "The same for lengths and log probabilities of a reference.", "FILE"),
    ] = None,
    answer: Annotated[
        str | None,
        _option("--answer", "For rankings, one row per item: column of which ranking the row belongs to."),
    ] = None,
    item: Annotated[str | None, _option("--item", "With --answer: column of the item.")] = None,
    rank: Annotated[str | None, _option("--rank", "With --answer: column of its rank, 1 the best.")] = None,
    pick: Annotated[
        str | None, _option("--pick", "With --answer, in the place of ranks: column that says best or worst.")
    ] = None,
    ties: Annotated[
        Ties, _option("--ties", "error: the model must explain them; half: half a win each; drop.", None)
    ] = Ties.error,
    repeats: Annotated[
        Repeats,
        _option("--repeats", "once: of an annotator's judgements of a pair the first counts; all: each.", None),
    ] = Repeats.all,
) -> "Comparisons | Choices":
    """Read the table as the options say; what was not said is left to the reader's defaults."""
    from prefdensity.data.readers import read

    given: dict[str, Any] = {
        "item_a": item_a,
        "item_b": item_b,
        "outcome": outcome,
        "strength": strength,
        "strength_centre": strength_centre,
        "higher": higher,
        "annotator": annotator,
        "context": context,
        "count": count,
        "ordered": ordered or None,
        "first": first,
        "labels": _pairs("--label", label, "model_a=a"),
        "missing": missing,
        "identical": identical,
        "covariates": covariate or None,
        "item_features": item_features,
        "item_measures": item_measures,
    }
    said = {name: value for name, value in given.items() if value is not None}
    long = {name: value for name, value in {"item": item, "rank": rank, "pick": pick}.items() if value is not None}
    if answer is not None and repeats is Repeats.once:
        raise DataError("--repeats is for comparisons of two, and --answer for rankings")
    if answer is not None:
        return _choices(file, said, long | {"answer": answer})
    if long:
        raise DataError(f"--{next(iter(long))} is for rankings; name the column of the ranking with --answer")
    if signed_strength is not None:
        if outcome is not None or strength is not None:
            raise DataError("--signed-strength says both who won and how strongly; leave out --outcome and --strength")
        said |= {"outcome": None, "strength": signed_strength}
    elif strength_centre is not None or higher is not None:
        raise DataError("--strength-centre and --higher are for --signed-strength; name its column")
    said |= _pairs("--format-option", format_option, "both_bad=tie") or {}
    data = read(file, format=format, **said)
    if strength_dropped:
        data = data.without_strength()
    if repeats is Repeats.once:
        data = data.repeats_once()
    if ties is Ties.half:
        return data.ties_as_half_wins()
    return data.without_ties() if ties is Ties.drop else data


def _choices(file: str, said: dict[str, Any], columns: dict[str, Any]) -> "Choices":
    """Read rankings, or best-worst answers, in long form."""
    from prefdensity.data.choices import Choices
    from prefdensity.data.readers import label_table, read_rows

    senseless = [name for name in said if name not in ("annotator", "item_features")]
    if senseless:
        raise DataError(f"--{senseless[0].replace('_', '-')} is for comparisons of two, and --answer for rankings")
    if "item_features" in said:
        said = said | {"item_features": label_table(said["item_features"])}
    convert = Choices.from_best_worst if "pick" in columns else Choices.from_rankings
    if {"rank", "pick"} <= set(columns):
        raise DataError("--rank is for rankings and --pick for best-worst answers; name one of them")
    return convert(read_rows(Path(file)), **columns, **said, source=file)


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
    """Give a command the options of `read_table`, and hand it the table as `data`: choices if its `data` may be."""
    takes_choices = "Choices" in str(inspect.signature(command).parameters["data"].annotation)
    reading = inspect.signature(read_table).parameters
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "data"]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        from prefdensity.data.comparisons import Comparisons

        data = read_table(**{name: given.pop(name) for name in reading})
        if not takes_choices and not isinstance(data, Comparisons):
            raise DataError(f"{command.__name__} is for comparisons of two and knows nothing of rankings yet; fit does")
        command(data=data, **given)

    # FILE comes after the arguments that must be there, and before a list that may be empty
    ahead = [p for p in own if p.default is p.empty]
    behind = [p for p in own if p.default is not p.empty]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*ahead, *reading.values(), *behind)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
