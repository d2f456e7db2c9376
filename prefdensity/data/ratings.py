"""Ratings beside comparisons: items graded one at a time on an ordered scale, by some of the same people or others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import encode_labels, listed, shown
from prefdensity.data.comparisons import Comparisons, of_two
from prefdensity.data.missing import drop_missing
from prefdensity.data.rating_table import Ratings
from prefdensity.errors import DataError


def with_ratings(
    data: Comparisons,
    frame: pd.DataFrame,
    *,
    item: str = "item",
    rating: str = "rating",
    annotator: str | None = None,
    levels: Sequence[Any] | None = None,
    missing: str = "error",
    source: str = "ratings",
) -> Comparisons:
    """Return `data` with ratings of its items beside the comparisons, for programs with the layer `ratings`.

    Parameters
    ----------
    data
        The comparisons.
    frame
        One row per rating.
    item, rating, annotator
        Column names; raters who made no comparison join the annotators.
    levels
        The scale, worst first; default the numbers found, sorted. Levels nobody used must be listed to count, and so
        must words, whose order nobody knows.
    missing
        "error", or "drop": rows with an empty item, rating or annotator are dropped and counted in the notes.
    source
        Shown in errors.

    Raises
    ------
    DataError
        For a missing column or value, an item without comparisons, a value off the scale, fewer than two levels.
    """
    data = of_two(data, "with_ratings")
    for column in (item, rating, *([annotator] if annotator else [])):
        if column not in frame.columns:
            raise DataError(f"{source} has no column {column!r}; it has {listed(frame.columns)}")
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one rating is needed")
    notes: list[str] = []
    needed = {"item": item, "rating": rating} | ({"annotator": annotator} if annotator else {})
    frame = drop_missing(frame.reset_index(drop=True), needed, missing, source, notes)
    if not len(frame):
        raise DataError(f"{source}: no row is left: {', '.join(notes)}")
    scale, level = _graded(frame[rating], levels, source)
    data, who = (data, None) if annotator is None else _joined(data, frame, annotator, source)
    ratings = Ratings(scale, _items(frame, item, data.items, source), level, who)
    return replace(data, ratings=ratings, notes=(*data.notes, *(f"ratings: {note}" for note in notes)))


def _graded(values: pd.Series, levels: Sequence[Any] | None, source: str) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Return the scale, worst first, and the place of each value on it."""
    rating = str(values.name)
    scale = _found_scale(values, rating, source) if levels is None else tuple(levels)
    if any(each is None or (isinstance(each, float) and not math.isfinite(each)) for each in scale):
        raise DataError(f"{source}: a scale has levels that say something, and {rating!r} has {scale}")
    if len(scale) < 2 or len(set(scale)) < len(scale):
        raise DataError(f"{source}: a scale needs two or more different levels, and {rating!r} has {scale}")
    off = ~values.isin(scale)
    if off.any():
        place = int(off.to_numpy().argmax())
        row, value = int(values.index[place]) + 1, shown(values.iloc[place])
        raise DataError(f"{source}: row {row} has {value} in {rating!r}, which is not among {scale}")
    return scale, values.map({value: k for k, value in enumerate(scale)}).to_numpy(np.int64)


def _joined(
    data: Comparisons, frame: pd.DataFrame, annotator: str, source: str
) -> tuple[Comparisons, NDArray[np.int64]]:
    """Return the comparisons with the raters among their annotators, and the codes of the raters."""
    people, (mine,) = encode_labels(frame, (annotator,), source)
    union = tuple(sorted({*data.annotators, *people}))
    index = {label: k for k, label in enumerate(union)}
    who = np.array([index[label] for label in people])[mine]
    if data.annotator is None:
        return replace(data, annotators=union), who
    moved = np.array([index[label] for label in data.annotators])[data.annotator]
    return replace(data, annotators=union, annotator=moved), who


def _found_scale(values: pd.Series, rating: str, source: str) -> tuple[Any, ...]:
    """Return the values found from the least to the greatest; refuse those without an order of their own."""
    try:
        found = {value: float(value) for value in values.unique().tolist()}
    except (TypeError, ValueError, OverflowError):
        raise DataError(
            f"{source}: {rating!r} does not hold numbers, so its order is unknown; give it, worst first, as in "
            "levels=['poor', 'fair', 'good']"
        ) from None
    if len(set(found.values())) < len(found):
        raise DataError(f"{source}: {rating!r} spells one number in two ways, among {', '.join(map(repr, found))}")
    return tuple(sorted(found, key=found.__getitem__))


def _items(frame: pd.DataFrame, name: str, items: tuple[str, ...], source: str) -> NDArray[np.int64]:
    labels, (code,) = encode_labels(frame, (name,), source)
    place = {label: k for k, label in enumerate(items)}
    for label in labels:
        if label not in place:
            raise DataError(f"{source}: {name!r} holds {label!r}, an item that was never compared")
    return np.array([place[label] for label in labels])[code]
