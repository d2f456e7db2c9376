"""What a layer answers: the findings of checks, and how a layer says that it is a remedy for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FINDINGS = {
    "tastes": "annotators want different things",
    "care": "annotators are not equally reliable",
    "order": "an effect of the order",
    "order habits": "annotators lean to a side unequally",
    "lapses": "annotators lapse",
    "curve": "another curve of choice",
    "circles": "preferences go round in circles",
    "mixture": "each comparison mixes several preferences",
    "tie curve": "ties depend otherwise on the difference",
    "tie habits": "annotators call ties unequally often",
    "features": "features do not say all about the items",
    "covariates": "an effect of a covariate",
    "repeats": "annotators repeat themselves",
}


@dataclass(frozen=True)
class Mend:
    """A finding that a layer answers, and how it enters a program then.

    A choice rule takes the place of one of the same outcomes, a utility layer that of any; other layers are added.

    Attributes
    ----------
    finding
        A key of `FINDINGS`.
    rank
        Of several answers those of the lowest rank are tried first.
    instead_of
        Another finding: layers of the program that answer it go out.
    beside
        Another finding: only where a layer of the program answers it.
    options
        Arguments with which the layer answers the finding, also one that is already there.
    adds
        Whether the layer is added for the finding where it is not there already.
    """

    finding: str
    rank: int = 0
    instead_of: str = ""
    beside: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    adds: bool = True
