"""The description of a table: which column is what, in which words, from which nesting.

One description serves every reader: the arguments of `prefdensity.read`, the options of the command line, and the
recipes of public formats are fields of `Layout`. Nothing heavy is imported here, for the sake of ``--help``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefdensity.errors import DataError

COLUMN, COLUMNS, WORD, FLAG, PAIRS, VALUE, FILE = "column", "columns", "word", "flag", "pairs", "value", "file"

IGNORABLE = ("annotator", "context", "count", "first")  # read from a column of that name unless told not to
Path = str | tuple[str, ...]  # a column, or columns of which the first that is not empty counts


def _said(kind: str, words: str, allowed: Sequence[str] = (), short: str = "") -> Any:
    default = False if kind == FLAG else None
    return field(default=default, metadata={"kind": kind, "words": words, "allowed": tuple(allowed), "short": short})


@dataclass(frozen=True)
class Layout:
    """What the columns of a table say. A column may be a path into nested cells: `annotations.result.value.selected`.

    The fields are the arguments of `prefdensity.read`, and with dashes the options of the command line; their words are
    in `fields(Layout)`.
    """

    # who was compared, and who won
    item_a: Path | None = _said(COLUMN, "Column of one item.")
    item_b: Path | None = _said(COLUMN, "Column of the other item.")
    pair: Path | None = _said(COLUMN, "In the place of both: column that names two items, as in elm:fir or elm vs fir.")
    outcome: Path | None = _said(COLUMN, "Column of the judgement: a, b or tie.")
    winner: Path | None = _said(COLUMN, "Column that names who won; '-' or 'draw' is a tie.")
    loser: Path | None = _said(COLUMN, "With winner, in the place of item_a and item_b: column of who lost.")
    labels: Mapping[Any, str] | None = _said(
        PAIRS, "Meaning of an outcome, as in left=a: a, b, tie, drop, or with strength a2, a1, b1, b2.", short="label"
    )
    wins_a: Path | None = _said(COLUMN, "Column of how often item_a won; for one row per pair.")
    wins_b: Path | None = _said(COLUMN, "Column of how often item_b won.")
    drawn: Path | None = _said(COLUMN, "Column of how often neither won.")
    total: Path | None = _said(COLUMN, "In the place of wins_b: column of how often the pair was judged in all.")
    one_hot: bool = _said(FLAG, "wins_a, wins_b and drawn hold one 1 in every row, and 0 else.")
    score_a: Path | None = _said(COLUMN, "Column of a score of item_a; the higher score wins, equal ones tie.")
    score_b: Path | None = _said(COLUMN, "Column of a score of item_b.")
    lower_wins: bool = _said(FLAG, "The lower score wins.")
    score_labels: Mapping[Any, Any] | None = _said(
        PAIRS, "Number that a word of a score stands for, as in C=1.", short="score_label"
    )
    equal_scores: str | None = _said(
        WORD, "With winner and loser and scores: what equal scores are.", ("tie", "win", "drop")
    )
    share: Path | None = _said(COLUMN, "Column of the probability, or share of votes, for item_a.")
    scale: Any = _said(
        VALUE, "The least and the greatest value of a score, signed_strength or share, as in 0,100 (share: 0,1)."
    )
    fractional: str | None = _said(
        WORD,
        "Fractional counts and shares: weights of a quasi-likelihood, or who has the majority.",
        ("error", "weights", "majority"),
    )
    # how strongly
    strength: Path | None = _said(COLUMN, "Column of the strength of preference, 1 the weakest; for --model graded.")
    signed_strength: Path | None = _said(
        COLUMN, "Column that takes the place of outcome: positive for item_a, 0 a tie."
    )
    strength_dropped: bool = _said(FLAG, "Let who won alone count, not how strongly.")
    strength_centre: float | None = _said(VALUE, "Of signed_strength: the value of a tie, such as 4 of 1 to 7.")
    higher: str | None = _said(WORD, "Of signed_strength and share: the side that high values speak for.", ("a", "b"))
    # sets of more than two
    answer: Any = _said(COLUMNS, "Column of which answer, or ranking, a row belongs to; repeatable.")
    item: Path | None = _said(COLUMN, "Of one row per item: column of the item.")
    rank: Path | None = _said(COLUMN, "Of one row per item: column of its rank, 1 the best.")
    pick: Path | None = _said(COLUMN, "Of one row per item: column that says best or worst (or 1 and -1).")
    score: Path | None = _said(COLUMN, "Of one row per item: column of its score, compared within a context.")
    shown: Any = _said(COLUMNS, "Of one row per answer: columns of the items shown (item*); repeatable.")
    best: Path | None = _said(COLUMN, "Of one row per answer: column of the best item.")
    worst: Path | None = _said(COLUMN, "Of one row per answer: column of the worst item.")
    ranked: Any = _said(COLUMNS, "Of one row per answer: columns of the items, best first, or one of elm > fir = oak.")
    wide: str | None = _said(
        WORD,
        "Columns are items, and cells what it says; of pairs, columns are pairs and cells outcomes.",
        ("rank", "score", "pick", "wins", "pairs"),
    )
    columns: Any = _said(
        COLUMNS, "Of wide: these columns (q*), in the place of all that have no other use; repeatable."
    )
    unranked: str | None = _said(WORD, "Items without a rank: absent, or shown and last.", ("absent", "last"))
    gaps: str | None = _said(WORD, "Rankings with a rank left out.", ("error", "close", "drop"))
    tied: str | None = _said(WORD, "Rankings with two items of one rank.", ("error", "drop"))
    single: str | None = _said(WORD, "Answers with one item only.", ("error", "drop"))
    as_pairs: bool = _said(FLAG, "Read rankings as the pairs that they imply, ties included.")
    # who judged, what, how often
    annotator: Path | None = _said(COLUMN, "Column of who judged.")
    context: Path | None = _said(COLUMN, "Column of the prompt or question.")
    texts: str | None = _said(
        WORD,
        "Texts or lists of messages, called by their beginning and a hash: items, or the context alone.",
        ("items", "context"),
    )
    count: Path | None = _said(COLUMN, "Column of how many judgements a row holds, or how many a share is of.")
    ordered: bool = _said(FLAG, "item_a was shown first (left, at home) in every row.")
    first: Path | None = _said(COLUMN, "Column of the side shown first: a, b, neither.")
    first_labels: Mapping[Any, str] | None = _said(
        PAIRS, "Meaning of a value of first, as in left=a.", short="first_label"
    )
    missing: str | None = _said(WORD, "Rows with empty cells.", ("error", "drop"))
    identical: str | None = _said(WORD, "Rows that compare an item with itself.", ("error", "drop"))
    only: Mapping[str, str] | None = _said(PAIRS, "Rows to keep, as in category=math; the others are counted.")
    drop: Mapping[str, str] | None = _said(
        PAIRS, "Rows to leave out, as in was_cancelled=true; counted.", short="drop_where"
    )
    # what else is known
    covariates: Any = _said(COLUMNS, "Numeric column; positive speaks for item_a; repeatable.", short="covariate")
    contrasts: Mapping[str, Any] | None = _said(
        PAIRS,
        "Covariate from a column of either side, as in length=tokens_a,tokens_b: their difference over their sum.",
        short="contrast",
    )
    groups: Any = _said(
        COLUMNS, "Column of further labels, such as a category, or NAME=COLUMN; repeatable.", short="group"
    )
    numbers: Any = _said(COLUMNS, "Column of numbers or dates for models, or NAME=COLUMN; repeatable.", short="number")
    item_features: Any = _said(FILE, "Table with one row per item: its label, then numbers (or .npy, .safetensors).")
    feature_labels: Any = _said(FILE, "Of item_features in an array: labels, or a table whose first column they are.")
    item_measures: Any = _said(FILE, "The same for lengths and log probabilities of a reference.")

    def columns_named(self) -> dict[str, list[str]]:
        """Return role -> the columns, or paths, that it names; patterns (`item*`) as they are."""
        found: dict[str, list[str]] = {}
        for role in dataclasses.fields(self):
            value = getattr(self, role.name)
            if value is None or role.metadata["kind"] not in (COLUMN, COLUMNS):
                continue
            found[role.name] = list(value.values()) if isinstance(value, Mapping) else listing(value)
        if self.contrasts:
            found["contrasts"] = [path for sides in self.contrasts.values() for path in two_columns(sides)]
        found |= {name: list(rows) for name, rows in (("only", self.only), ("drop", self.drop)) if rows}
        return found


def listing(value: Any) -> list[Any]:
    """Return one value, or several, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def two_columns(sides: Any) -> tuple[str, str]:
    """Return the columns of either side: of a pair, or of a text with a comma between them."""
    pair = tuple(each.strip() for each in sides.split(",")) if isinstance(sides, str) else tuple(sides)
    if len(pair) != 2:
        raise DataError(
            f"a contrast is of two columns, as in contrasts={{'length': 'tokens_a,tokens_b'}}, not {sides!r}"
        )
    return pair


def options() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the name of every field, the name that the command line gives it, and its kind, words and values."""
    for each in dataclasses.fields(Layout):
        yield each.name, each.metadata["short"] or each.name, dict(each.metadata)


def layout_of(given: Mapping[str, Any]) -> Layout:
    """Return the layout that arguments describe, each checked against the values it may have.

    Raises
    ------
    DataError
        Naming an argument that is unknown, or has a value it may not have.
    """
    for name, _, about in options():
        value = given.get(name)
        allowed = about["allowed"]
        if allowed and value is not None and value not in allowed:
            raise DataError(f"{name}={value!r} is unknown; use {' or '.join(map(repr, allowed))}")
    return Layout(**given)
