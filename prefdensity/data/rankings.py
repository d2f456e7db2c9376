"""Answers in long form made ready to be read: repeated by their frequency, without ties and gaps, or as pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import EXACT, numbers
from prefdensity.data.layout import Layout
from prefdensity.data.missing import drop_missing, whole_answers
from prefdensity.data.named import columns_of
from prefdensity.data.nesting import with_columns
from prefdensity.data.pairings import DEPENDENT, Given, Turned
from prefdensity.errors import DataError

_MOST = 20_000_000  # rows that frequencies may stand for


def finished(
    frame: pd.DataFrame,
    layout: Layout,
    given: Given,
    columns: tuple[str, str, str],
    source: str,
    notes: list[str],
    kind: str,
) -> Turned:
    """Return answers ready to be read: repeated by their frequency, tidied as was asked, or as pairs."""
    senseless = [
        name
        for name in given
        if name not in ("annotator", "count", "missing", "context", "groups", "numbers") and not layout.as_pairs
    ]
    if senseless:
        raise DataError(f"{senseless[0]}=... is for comparisons of two, and these are answers about more")
    answer, item, said = columns
    named = {name: given[name] for name in ("annotator", "context", "groups", "numbers", "missing") if name in given}
    missing = named.get("missing", "error")
    if layout.as_pairs:  # which are dropped by themselves
        frame = drop_missing(frame, {"answer": answer}, missing, source, notes)
    else:
        roles = {name: str(given[name]) for name in ("annotator", "context") if name in given}
        more = columns_of("groups", given.get("groups", ())) | columns_of("numbers", given.get("numbers", ()))
        frame = whole_answers(frame, answer, {"item": item} | roles | more, missing, source, notes)
    frame = _repeated(frame.reset_index(drop=True), layout, answer, source)
    frame = _tidied(frame, layout, (answer, item, said), kind, source, notes)
    if layout.as_pairs:
        return _implied(frame, layout, given, (answer, item, said), notes, kind)
    role = "rank" if kind == "rankings" else "pick"
    return frame, {"answer": answer, "item": item, role: said} | named, kind


def _repeated(frame: pd.DataFrame, layout: Layout, answer: str, source: str) -> pd.DataFrame:
    """Return the frame with every answer as often as it was given."""
    name = layout.count or ("count" if "count" in frame.columns else None)
    if name is None:
        return frame
    often = numbers(frame[str(name)], source, valid=lambda x: (x >= 0) & (x == np.round(x)) & (x < EXACT),
                    expected="how often an answer was given, a whole number")  # fmt: skip
    differs = (
        with_columns(frame, {"how often": often}).groupby(answer, sort=False)["how often"].transform("nunique") > 1
    )
    if differs.any():
        raise DataError(
            f"{source}: answer {frame[answer][differs.to_numpy()].iloc[0]!r} has more than one count in {name!r}; an "
            "answer was given so often as a whole"
        )
    if often.sum() > _MOST:
        raise DataError(f"{source}: the counts in {name!r} stand for {often.sum():.3g} rows, more than can be held")
    rows = np.repeat(np.arange(len(frame)), often.astype(np.int64))
    copy = np.concatenate([np.arange(int(k)) for k in often]) if len(rows) else np.zeros(0)
    frame = frame.iloc[rows].reset_index(drop=True)
    if not len(frame):
        raise DataError(f"{source}: every count is 0; at least one answer is needed")
    again = copy > 0
    names = frame[answer].astype(str).to_numpy(object)
    names[again] = [f"{label} ({int(k) + 1})" for label, k in zip(names[again], copy[again], strict=True)]
    return with_columns(frame, {answer: names})


def _tidied(
    frame: pd.DataFrame, layout: Layout, columns: tuple[str, str, str], kind: str, source: str, notes: list[str]
) -> pd.DataFrame:
    """Return answers of two items or more and rankings without ties and gaps, as was asked; refuse all others at once.

    Ties and gaps are no faults of rankings that are read as the pairs that they imply.
    """
    answer, item, said = columns
    if kind == "rankings":
        expected = (
            "ranks, whole numbers from 1, or nothing for items that came after all ranked ones (ranks from 0 are read "
            f"as scores: score={said!r}, lower_wins=True)"
        )
        valid: Callable[[NDArray[np.float64]], Any] = lambda x: (x >= 1) & (x == np.round(x)) & (x < EXACT)  # noqa: E731
        frame = with_columns(frame, {said: numbers(frame[said], source, valid=valid, expected=expected, blank=True)})
    alone = frame.groupby(answer, sort=False)[item].transform("size") < 2
    wrong = {"single": (alone, "have one item only", "drop" if layout.as_pairs else layout.single)}
    dense = None
    if kind == "rankings":
        ranks = frame.groupby(answer, sort=False)[said]
        dense = ranks.rank(method="dense")
        gap = (dense != frame[said]) & frame[said].notna() & ~alone
        tied = frame.duplicated([answer, said], keep=False) & frame[said].notna()
        wrong["tied"] = (tied & (not layout.as_pairs), "rank two items alike", layout.tied)
        wrong["gaps"] = (gap & (not layout.as_pairs), f"have a gap in {said!r}", layout.gaps)
    frame, dense = _without(frame, dense, answer, wrong, source, notes)
    if dense is not None and (layout.gaps == "close" or layout.as_pairs):
        if closed := frame[answer][(dense != frame[said]) & frame[said].notna()].nunique():
            notes.append(f"{closed} answers with gaps between ranks closed")
        frame = with_columns(frame, {said: dense})
    return frame


def _without(
    frame: pd.DataFrame,
    dense: pd.Series | None,
    answer: str,
    wrong: dict[str, tuple[pd.Series, str, str | None]],
    source: str,
    notes: list[str],
) -> tuple[pd.DataFrame, pd.Series | None]:
    """Return the frame without the answers that are wrong in some row; refuse them unless they are to be dropped."""
    refused, gone = [], pd.Series(False, index=frame.index)
    for argument, (rows, what, way) in wrong.items():
        odd = frame[answer].isin(frame[answer][rows])
        names = frame[answer][odd].drop_duplicates()
        if not len(names) or way == "close":
            continue
        if way == "drop":
            notes.append(f"{len(names)} answers that {what} dropped")
            gone |= odd
        else:
            remedy = f"{argument}='drop'" + (f" or {argument}='close'" if argument == "gaps" else "")
            refused.append(f"{len(names)} answers {what}, first {names.iloc[0]!r} ({remedy})")
    if refused:
        pairs = " (or read the pairs that rankings imply, with as_pairs=True)" if "tied" in wrong else ""
        raise DataError(f"{source}: {'; '.join(refused)}{pairs}")
    if gone.all():
        raise DataError(f"{source}: no answer is left: {', '.join(notes)}")
    kept = ~gone.to_numpy()
    return frame[kept].reset_index(drop=True), None if dense is None else dense[kept].reset_index(drop=True)


def _implied(
    frame: pd.DataFrame,
    layout: Layout,
    given: Given,
    columns: tuple[str, str, str],
    notes: list[str],
    kind: str,
) -> Turned:
    """Return the pairs that answers imply: the better ranked over the worse, equal ranks a tie, unranked ones last."""
    answer, item, said = columns
    if kind == "best_worst":
        place = frame[said].map({"best": -1.0, "worst": 1.0}).fillna(0.0)
    else:
        place = frame[said].fillna(np.inf)
    side = with_columns(frame, {"place of it": place.to_numpy(float), "row of it": np.arange(len(frame))})
    pairs = side.merge(side[[answer, item, "place of it", "row of it"]], on=answer, suffixes=("", " of b"))
    pairs = pairs[pairs["row of it"] < pairs["row of it of b"]]
    a, b = pairs["place of it"].to_numpy(), pairs["place of it of b"].to_numpy()
    known = np.where(kind == "best_worst", a != b, ~(np.isinf(a) & np.isinf(b)))  # of neither end nothing is known
    pairs, a, b = pairs[known], a[known], b[known]
    won = np.where(a < b, "a", np.where(a > b, "b", "tie")).astype(object)
    notes.append(DEPENDENT.format("answer"))
    given.pop("count", None)
    given |= {"item_a": item, "item_b": f"{item} of b", "outcome": "who won"}
    drop = [name for name in ("count", layout.count) if name in pairs.columns]
    return with_columns(pairs.drop(columns=drop), {"who won": won}), given, "comparisons"
