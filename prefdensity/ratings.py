"""Ratings beside comparisons: items graded one at a time on an ordered scale, by some of the same people or others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.comparisons import Comparisons, encode_labels, label_column
from prefdensity.errors import DataError


@dataclass(frozen=True, eq=False)
class Ratings:
    """Ratings of items, coded in the vocabulary of a table of comparisons.

    Attributes
    ----------
    levels
        The scale, worst first.
    item, level
        int64 [rating].
    annotator
        int64 [rating], or None where nobody recorded who rated.
    """

    levels: tuple[Any, ...]
    item: NDArray[np.int64]
    level: NDArray[np.int64]
    annotator: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.item)

    def fingerprint(self) -> bytes:
        """Return bytes that tell these ratings from others."""
        arrays = (self.item, self.level, self.annotator)
        return repr(self.levels).encode() + b"".join(b"-" if a is None else a.tobytes() for a in arrays)


def with_ratings(
    data: Comparisons,
    frame: pd.DataFrame,
    *,
    item: str = "item",
    rating: str = "rating",
    annotator: str | None = None,
    levels: Sequence[Any] | None = None,
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
        The scale, worst first; default the values found, sorted. Levels nobody used must be listed to count.
    source
        Shown in errors.

    Raises
    ------
    DataError
        For a missing column or value, an item without comparisons, a value off the scale, fewer than two levels.
    """
    for column in (item, rating, *([annotator] if annotator else [])):
        if column not in frame.columns:
            raise DataError(f"{source} has no column {column!r}; it has {', '.join(map(str, frame.columns))}")
    if len(frame) == 0:
        raise DataError(f"{source} has no rows; at least one rating is needed")
    frame = frame.reset_index(drop=True)
    values = frame[rating]
    if values.isna().any():
        raise DataError(f"{source}: row {int(values.isna().argmax()) + 1} has no value in {rating!r}")
    scale = tuple(sorted(values.unique().tolist()) if levels is None else levels)
    if len(scale) < 2 or len(set(scale)) < len(scale):
        raise DataError(f"{source}: a scale needs two or more different levels, and {rating!r} has {scale}")
    place = {value: k for k, value in enumerate(scale)}
    off = ~values.isin(scale)
    if off.any():
        row = int(off.argmax())
        raise DataError(f"{source}: row {row + 1} has {values[row]!r} in {rating!r}, which is not among {scale}")
    who = None
    if annotator is not None:
        people, (mine,) = encode_labels([label_column(frame, annotator, source)])
        union = tuple(sorted({*data.annotators, *people}))
        index = {label: k for k, label in enumerate(union)}
        who = np.array([index[label] for label in people])[mine]
        if data.annotator is not None:
            moved = np.array([index[label] for label in data.annotators])[data.annotator]
            data = replace(data, annotators=union, annotator=moved)
        else:
            data = replace(data, annotators=union)
    found = Ratings(
        levels=scale,
        item=_items(frame, item, data.items, source),
        level=values.map(place).to_numpy(np.int64),
        annotator=who,
    )
    return replace(data, ratings=found)


def _items(frame: pd.DataFrame, name: str, items: tuple[str, ...], source: str) -> NDArray[np.int64]:
    labels, (code,) = encode_labels([label_column(frame, name, source)])
    place = {label: k for k, label in enumerate(items)}
    for label in labels:
        if label not in place:
            raise DataError(f"{source}: {name!r} holds {label!r}, an item that was never compared")
    return np.array([place[label] for label in labels])[code]
