"""Ratings of items, coded in the vocabulary of a table of comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.declared import Column, Held, Table, short_hash


@dataclass(frozen=True, eq=False)
class Ratings(Table):
    """Ratings of items, coded in the vocabulary of a table of comparisons.

    Attributes
    ----------
    levels
        The scale, worst first.
    item, level
        int64 [rating].
    annotator
        int64 [rating], or None where nobody recorded who rated.
    more, source
        As of other tables.
    """

    levels: tuple[Any, ...]
    item: NDArray[np.int64]
    level: NDArray[np.int64]
    annotator: NDArray[np.int64] | None
    more: tuple[Held, ...] = ()
    source: str = "ratings"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("item", "label"),
        Column("level", "ordered"),
        Column("annotator", "label"),
    )

    def __len__(self) -> int:
        return len(self.item)

    def fingerprint(self) -> str:
        """Return a short hash of these ratings and their scale."""
        return short_hash([super().fingerprint(), *map(repr, self.levels)])
