"""Rows whose numbers say who won: counts, scores, shares, strengths of preference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data import texts
from prefdensity.data.columns import listed, numbers, shown
from prefdensity.data.comparison_columns import TIE, A, B, require_both_signs
from prefdensity.data.layout import Layout, listing
from prefdensity.data.missing import drop_missing
from prefdensity.data.nesting import with_columns
from prefdensity.data.pairings import DEPENDENT, ROW, Given, Turned, by_winner
from prefdensity.data.spelling import meaning, with_empty_words
from prefdensity.errors import DataError


def by_counts(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows that hold how often each side won: one row for each outcome that was counted."""
    if layout.wins_a is None or (layout.wins_b is None) == (layout.total is None):
        raise DataError(
            "counts need both wins_a=... and wins_b=..., or total=... in its place (and drawn=..., if there were any)"
        )
    for other in ("outcome", "labels", "strength", "count"):
        if getattr(layout, other) is not None:
            raise DataError(f"wins_a=... and wins_b=... count judgements; leave out {other}=...")
    if layout.total is not None:
        frame, layout = _rest(frame, layout, source)
    columns = {"a": layout.wins_a, "b": layout.wins_b, "tie": layout.drawn}
    if layout.one_hot:
        _require_one_hot(frame, [str(name) for name in columns.values() if name is not None], source)
    parts = []
    for outcome, name in columns.items():
        if name is not None:
            size = numbers(frame[name], source, valid=counting(layout), expected=counts(layout))
            parts.append(with_columns(frame, {"who won": outcome, "how often": size})[size > 0])
    table = pd.concat(parts).sort_index(kind="stable")
    if not len(table):
        raise DataError(f"{source}: every count is 0; at least one comparison is needed")
    given |= {"outcome": "who won", "count": "how often"}
    return table, given, "comparisons"


def _rest(frame: pd.DataFrame, layout: Layout, source: str) -> tuple[pd.DataFrame, Layout]:
    """Return the frame with the wins of item_b: what all judgements leave after the wins of item_a and the draws."""
    names = [str(name) for name in (layout.total, layout.wins_a, layout.drawn) if name is not None]
    total, *others = (numbers(frame[name], source, valid=counting(layout), expected=counts(layout)) for name in names)
    used = np.sum(others, axis=0)
    rest = total - used
    if (rest < 0).any():
        row = int((rest < 0).argmax())
        raise DataError(
            f"{source}: {' and '.join(names[1:])} of row {int(frame.index[row]) + 1} are {used[row]:g} of "
            f"{total[row]:g} judgements in {names[0]!r}"
        )
    name = f"rest of {names[0]}"
    return with_columns(frame, {name: rest}), replace(layout, wins_b=name, total=None)


def _require_one_hot(frame: pd.DataFrame, names: list[str], source: str) -> None:
    """Refuse rows where not exactly one of the columns is 1 and the others are 0."""
    values = np.column_stack([numbers(frame[name], source, expected="0 or 1", blank=True) for name in names])
    wrong = ~np.isin(values, (0, 1)).all(1) | (values.sum(1) != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{source}: exactly one of {', '.join(names)} must be 1 and the others 0, and row "
            f"{int(frame.index[row]) + 1} holds {', '.join(str(value) for value in frame[names].iloc[row])}"
        )


def counting(layout: Layout) -> Any:
    """Return which numbers are counts, or weights where the user says so."""
    whole = layout.fractional != "weights"
    return lambda x: (x >= 0) & ((x == np.round(x)) | (not whole))


def counts(layout: Layout) -> str:
    """Return what counts are expected to be."""
    if layout.fractional == "weights":
        return "weights, 0 or more"
    return "counts, whole and not negative (halves and weights: fractional='weights')"


def by_scores(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with a score of either side."""
    if layout.score_a is None or layout.score_b is None:
        raise DataError("two scores need both score_a=... and score_b=...")
    if layout.winner is not None:
        return by_winner(frame, layout, given, source, notes)
    frame = texts.in_place(frame, layout, given, source)
    a, b = (scores(frame[str(name)], layout, source) for name in (layout.score_a, layout.score_b))
    notes.append("scores reduced to a, b or tie: how far they are apart is not used")
    given["outcome"] = "who won"
    return with_columns(frame, {"who won": signs(a - b, layout.lower_wins)}), given, "comparisons"


def scores(values: pd.Series, layout: Layout, source: str) -> NDArray[np.float64]:
    """Return scores [row], NaN of rows to be dropped; words are the numbers that they stand for."""
    if layout.score_labels is not None:
        stands = meaning(layout.score_labels)
        values = values.astype(object).map(lambda cell: cell if stands(cell) is None else stands(cell))
    low, high = (-np.inf, np.inf) if layout.scale is None else sorted(ends(layout.scale))
    expected = "numbers" if layout.scale is None else f"scores from {low:g} to {high:g}"
    return numbers(
        values, source, valid=lambda x: (x >= low) & (x <= high), expected=expected, blank=layout.missing == "drop"
    )


def signs(difference: NDArray[np.float64], lower_wins: bool = False) -> NDArray[np.object_]:
    """Return outcomes [row]: a above zero, b below, a tie at zero, None where missing."""
    difference = -difference if lower_wins else difference
    outcome = np.full(len(difference), None, dtype=object)
    outcome[difference > 0], outcome[difference < 0], outcome[difference == 0] = "a", "b", "tie"
    return outcome


def by_share(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with the probability, or share, of one side: weights of both, or who has the majority."""
    share, name = _shares(frame, layout, source)
    frame = texts.in_place(frame, layout, given, source)
    given["outcome"] = name
    given.pop("higher", None)
    given.pop("labels", None)
    soft = ~np.isnan(share) & ~np.isin(share, (0.0, 0.5, 1.0))
    if layout.count is not None and soft.any() and layout.fractional in (None, "error"):
        return _counted_shares(frame, layout, share, given, source, notes)
    if soft.any() and layout.fractional in (None, "error"):
        mean, ahead = np.nanmean(share), np.nanmean(np.sign(share - 0.5) / 2 + 0.5)
        row = int(frame.index[int(soft.argmax())]) + 1
        raise DataError(
            f"{source}: column {name!r} holds shares between the sides in {int(soft.sum())} rows, first row {row}; "
            f"they speak for a by {mean:.2f} on average, and a has the majority in {ahead:.2f}; say whether they are "
            "weights (a quasi-likelihood) with fractional='weights', or only who has the majority counts, with "
            "fractional='majority'"
        )
    if not soft.any() or layout.fractional == "majority":
        if soft.any():
            notes.append(f"{name} reduced to a, b or tie: its strength is not used")
        return with_columns(frame, {name: signs(share - 0.5)}), given, "comparisons"
    if layout.count is not None:
        raise DataError("shares are weights of one judgement each; leave out count=... or fractional=...")
    sure = np.isnan(share) | (share == 0.5)
    whole = with_columns(frame, {name: signs(share - 0.5), "how often": 1.0})[sure]
    parts = [with_columns(frame, {name: side, "how often": part})[~sure & (part > 0)]
             for side, part in (("a", share), ("b", 1 - share))]  # fmt: skip
    given["count"] = "how often"
    return pd.concat([whole, *parts]).sort_index(kind="stable"), given, "comparisons"


def _counted_shares(
    frame: pd.DataFrame, layout: Layout, share: NDArray[np.float64], given: Given, source: str, notes: list[str]
) -> Turned:
    """Rows with the share of one side among so many judgements: counts of both, where these are whole."""
    name = str(layout.count)
    total = numbers(frame[name], source, valid=lambda x: (x >= 0) & (x == np.round(x)),
                    expected="how many judgements a share is of, a whole number")  # fmt: skip
    won = share * total
    odd = np.abs(won - np.round(won)) > 1e-6 * np.maximum(total, 1)
    if odd.any():
        row = int(odd.argmax())
        raise DataError(
            f"{source}: a share of {share[row]:g} of the {total[row]:g} judgements in row {int(frame.index[row]) + 1} "
            f"is no whole number; give the counts themselves (wins_a=..., total={name!r}), or leave out count=... and "
            "read shares as weights with fractional='weights'"
        )
    notes.append(f"shares of {name} read as counts; draws within a share are not known")
    parts = [
        with_columns(frame, {"who won": side, "how often": size})[size > 0]
        for side, size in (("a", np.round(won)), ("b", total - np.round(won)))
    ]
    given |= {"outcome": "who won", "count": "how often"}
    return pd.concat(parts).sort_index(kind="stable"), given, "comparisons"


def _shares(frame: pd.DataFrame, layout: Layout, source: str) -> tuple[NDArray[np.float64], str]:
    """Return the share [row] of side a, NaN where the cell is empty; special words are those of labels."""
    name = str(layout.share)
    nobody, everybody = (0.0, 1.0) if layout.scale is None else ends(layout.scale)
    low, high = min(nobody, everybody), max(nobody, everybody)
    special = meaning({word: {"a": 1.0, "b": 0.0, "tie": 0.5}[side] for word, side in (layout.labels or {}).items()})
    fixed = with_empty_words(frame[name], layout.labels).map(special).to_numpy(float)
    cells = frame[name].astype(object).where(np.isnan(fixed), None)
    value = numbers(
        cells,
        source,
        valid=lambda x: (x >= low) & (x <= high),
        expected=f"numbers from {low:g} to {high:g}" + (" (per cent: scale='0,100')" if layout.scale is None else ""),
        blank=True,
    )
    share = (value - nobody) / (everybody - nobody)
    share = 1 - share if layout.higher == "b" else share
    return np.where(np.isnan(fixed), share, fixed), name


def ends(given: Any) -> tuple[float, float]:
    """Return the two ends of a scale."""
    try:
        low, high = (float(each) for each in (given.split(",") if isinstance(given, str) else given))
    except (TypeError, ValueError):
        low = high = 0.0
    if low == high:
        raise DataError(f"scale={given!r} must be two different numbers, as in 0,100")
    return low, high


def by_signed_strength(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows whose one number says who won and how strongly."""
    if layout.outcome is not None or layout.strength is not None:
        raise DataError(
            "signed_strength=... says both who won and how strongly; leave out outcome=... and strength=..."
        )
    frame = texts.in_place(frame, layout, given, source)
    name = str(layout.signed_strength)
    low, high = (-np.inf, np.inf) if layout.scale is None else sorted(ends(layout.scale))
    expected = "numbers" if layout.scale is None else f"numbers from {low:g} to {high:g}"
    value = numbers(frame[name], source, valid=lambda x: (x >= low) & (x <= high), expected=expected, blank=True)
    part = ~np.isnan(value) & (value != np.round(value))
    if layout.strength_dropped:
        away = (value - (layout.strength_centre or 0.0)) * (-1 if layout.higher == "b" else 1)
        if layout.strength_centre is None:
            require_both_signs(np.where(away > 0, A, np.where(away < 0, B, TIE)), name, source)
        for argument in ("strength_centre", "higher"):
            given.pop(argument, None)
        given["outcome"] = name
        notes.append(f"{name} reduced to a, b or tie on request: how strongly is not used")
        return with_columns(frame, {name: signs(away)}), given, "comparisons"
    if part.any():
        row = int(part.argmax())
        raise DataError(
            f"{source}: column {name!r} must hold strengths of preference, whole numbers with 1 the weakest, and holds "
            f"{shown(frame[name].iloc[row])} in row {int(frame.index[row]) + 1}; cut them into a few grades, or read "
            "who won alone with strength_dropped=True"
        )
    given |= {"outcome": None, "strength": name}
    return frame, given, "comparisons"


def by_score(frame: pd.DataFrame, layout: Layout, given: Given, source: str, notes: list[str]) -> Turned:
    """Rows with one item and its score: every two items of one context that one annotator scored."""
    item, score = str(layout.item or "item"), str(layout.score)
    if item not in frame.columns:
        raise DataError(f"{source} has no column {item!r} (asked for as item); its columns are {listed(frame.columns)}")
    together = [name for name in (*listing(layout.answer or []), layout.context, layout.annotator) if name is not None]
    if not together:
        raise DataError(
            f"scores of {score!r} are compared within a question or an annotator; name its column with context=... or "
            "annotator=..."
        )
    roles = {"item": item, **{str(name): str(name) for name in together}}
    frame = drop_missing(frame, roles, layout.missing or "error", source, notes)
    value = scores(frame[score], layout, source)
    rated = with_columns(frame, {"score of it": value, "row of it": np.arange(len(frame))})
    if np.isnan(value).any():
        notes.append(f"{int(np.isnan(value).sum())} rows without a score dropped on request")
        rated = rated[~np.isnan(value)]
    keys = pd.factorize(pd.MultiIndex.from_frame(rated[together].astype(str)))[0]
    rated = with_columns(rated, {"set of it": keys})
    pairs = rated.merge(rated[["set of it", item, "score of it", "row of it"]], on="set of it", suffixes=("", " of b"))
    pairs = pairs[pairs["row of it"] < pairs["row of it of b"]]
    if len(pairs) == 0:
        raise DataError(f"{source}: no {' and '.join(together)} has two scored items")
    alone = int((rated.groupby("set of it")["set of it"].transform("size") == 1).sum())
    named = [name for name in together if name != ROW] or ["row"]
    notes.append(DEPENDENT.format(" and ".join(named)))
    notes.append("scores reduced to a, b or tie: how far they are apart is not used")
    if alone:
        notes.append(f"{alone} rows scored alone give no pair")
    won = signs((pairs["score of it"] - pairs["score of it of b"]).to_numpy(), layout.lower_wins)
    given |= {"item_a": item, "item_b": f"{item} of b", "outcome": "who won"}
    return with_columns(pairs, {"who won": won}), given, "comparisons"
