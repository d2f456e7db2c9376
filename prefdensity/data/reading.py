"""How a data frame of comparisons is read: which column holds what, each checked, one row for each comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import column_names, encode_labels, numbers, require_columns
from prefdensity.data.comparison_columns import (
    COLUMNS,
    first_codes,
    kept_pairs,
    outcome_codes,
    read_counts,
    require_flat,
    require_sides,
    signed_columns,
)
from prefdensity.data.missing import drop_missing
from prefdensity.data.named import columns_of, read_named, require_free
from prefdensity.data.nesting import with_columns
from prefdensity.data.spelling import with_empty_words
from prefdensity.data.strengths import grade_codes
from prefdensity.errors import DataError


@dataclass(frozen=True)
class Reading:
    """Which columns of a frame hold what, and what to do with odd rows; see `Comparisons.from_frame`."""

    item_a: str = "item_a"
    item_b: str = "item_b"
    outcome: str | None = "outcome"
    strength: str | None = None
    strength_centre: float | None = None
    higher: str | None = None
    annotator: str | None = "annotator"
    context: str | None = "context"
    count: str | None = "count"
    ordered: bool = False
    first: str | None = "first"
    labels: Mapping[Any, str] | None = None
    missing: str = "error"
    identical: str = "error"
    fractional: str = "error"
    covariates: Sequence[str] = ()
    groups: Sequence[str] | Mapping[str, str] = ()
    numbers: Sequence[str] | Mapping[str, str] = ()
    source: str = "data frame"

    @property
    def signed(self) -> str | None:
        """The column of a signed strength whose centre nobody said."""
        return self.strength if self.outcome is None and self.strength_centre is None else None

    @property
    def named(self) -> dict[str, str]:
        """Columns that users name, by the names that programs call them: labels and numbers."""
        return columns_of("groups", self.groups) | columns_of("numbers", self.numbers)

    def wanted(self, header: Sequence[str]) -> list[str]:
        """Return the columns to load, or all of them if one is absent: the error then shows what there is."""
        optional = {self.annotator, self.context, self.count, self.first}
        covariates = {self.covariates} if isinstance(self.covariates, str) else set(self.covariates)
        needed = {self.item_a, self.item_b, self.outcome, self.strength, *covariates, *self.named.values()}
        wanted = needed | optional
        absent = wanted - {None, "annotator", "context", "count", "first"} - set(header)
        return list(header) if absent else [name for name in header if name in wanted]

    def rows(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Return the arrays of `Comparisons` from a frame, or a part of one, without demands on the whole.

        Raises
        ------
        DataError
            Naming the column, the row and what would be right.
        """
        source = self.source
        frame, columns = self._found(frame)
        notes: list[str] = []
        outcome = columns["outcome"]
        frame = with_columns(frame, {outcome: with_empty_words(frame[outcome], self.labels)})
        required = [each.name for each in COLUMNS if each.kind in ("label", "outcome") and each.name in columns]
        wanted = {role: columns[role] for role in required} | self.named
        frame = drop_missing(frame, wanted, self.missing, source, notes)
        sides = (self.item_a, self.item_b)
        frame, codes = outcome_codes(frame, outcome, sides, self.labels, source, notes)
        items, (side_a, side_b) = encode_labels(frame, sides, source)
        kept = kept_pairs(items, side_a, side_b, frame.index, self.identical, source, notes)
        if not kept.all():
            frame, codes = frame[kept], codes[kept]
            items, (side_a, side_b) = encode_labels(frame, sides, source)
        require_sides(frame[outcome], codes, items, side_a, side_b, self.labels, source)
        arrays: dict[str, Any] = {"items": items, "item_a": side_a, "item_b": side_b, "outcome": codes}
        if "strength" in columns:
            arrays["grades"], arrays["grade"] = grade_codes(frame[columns["strength"]], codes, source)
        for each in COLUMNS:
            if each.kind == "label" and each.names == each.name and each.name in columns:
                arrays[each.words], (arrays[each.name],) = encode_labels(frame, (columns[each.name],), source)
        if "first" in columns:
            arrays["first"] = first_codes(frame, columns["first"], source)
        elif self.ordered:
            arrays["first"] = np.ones(len(frame), np.int8)
        arrays |= self._covariates(frame)
        arrays["count"] = read_counts(frame, columns.get("count"), self.fractional, source)
        more = read_named(frame, columns_of("groups", self.groups), columns_of("numbers", self.numbers), source)
        return arrays | {"more": more, "source": source, "notes": tuple(notes)}

    def _found(self, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
        """Return the frame, rows numbered from 0, and the column of every role that is there."""
        if not isinstance(self.ordered, bool):
            raise DataError(f"ordered={self.ordered!r} is unknown; True says that item_a was shown first in every row")
        outcome, strength, source = self.outcome, self.strength, self.source
        if outcome is None:
            frame, outcome, strength = signed_columns(frame, strength, self.strength_centre, self.higher, source)
        elif self.strength_centre is not None or self.higher is not None:
            raise DataError("strength_centre and higher are for a signed strength, which needs outcome=None")
        columns = {"item_a": self.item_a, "item_b": self.item_b, "outcome": outcome}
        given = {"annotator": self.annotator, "context": self.context, "count": self.count, "first": self.first}
        for role, name in given.items():  # a column called first may be an item: its name alone gives it no second use
            if name is not None and (name != role or (name in frame.columns and name not in columns.values())):
                columns[role] = name
        if strength is not None:
            columns["strength"] = strength
        require_free(columns_of("groups", self.groups), "groups")
        require_free(columns_of("numbers", self.numbers), "numbers")
        require_columns(frame, columns, source)
        for name in columns_of("groups", self.groups).values():
            require_columns(frame, {"groups": name}, source)
        for name in columns_of("numbers", self.numbers).values():
            require_columns(frame, {"numbers": name}, source)
        if len(frame) == 0:
            raise DataError(f"{source} has no rows; at least one comparison is needed")
        if self.ordered and "first" in columns:
            raise DataError(
                f"ordered=True and the column {columns['first']!r} both say which item was shown first; give one"
            )
        frame = frame.reset_index(drop=True)  # so that the index keeps row numbers when rows are dropped
        require_flat(frame, columns | self.named, source)
        return frame, columns

    def _covariates(self, frame: pd.DataFrame) -> dict[str, Any]:
        names = (self.covariates,) if isinstance(self.covariates, str) else tuple(self.covariates)
        if not names:
            return {}
        for name in names:
            require_columns(frame, {"covariates": name}, self.source)
        values = np.column_stack([numbers(frame[name], self.source) for name in names])
        return {"covariate_names": column_names(names, self.source), "covariates": values}
