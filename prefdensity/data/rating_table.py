"""Ratings of items, coded in the vocabulary of a table of comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
