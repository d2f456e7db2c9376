"""The ladder of what can be bought for a unit: nested rungs from the richest, the label, to the poorest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Rung:
    """One thing that is bought, with all on the rungs below it.

    Attributes
    ----------
    name
        What it is: "label" for the first.
    bought
        Whether it was bought and came back [unit].
    probability
        Of that [unit]: known, and no smaller than that of the rung above.
    """

    name: str
    bought: Array
    probability: Array


class Purchased(Protocol):
    """A table of units of which some have labels: what functionals, nuisances and estimates ask of it."""

    @property
    def covariates(self) -> Array: ...  # noqa: D102
    @property
    def covariate_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def outputs(self) -> Array: ...  # noqa: D102
    @property
    def label(self) -> Array: ...  # noqa: D102
    @property
    def labelled(self) -> Array: ...  # noqa: D102
    @property
    def label_probability(self) -> Array: ...  # noqa: D102
    @property
    def pattern(self) -> Array: ...  # noqa: D102
    @property
    def rungs(self) -> tuple[Rung, ...]: ...  # noqa: D102
    @property
    def cluster(self) -> Array | None: ...  # noqa: D102
    @property
    def stage(self) -> Array | None: ...  # noqa: D102
    def __len__(self) -> int: ...
    def take(self, rows: slice | Array) -> Any: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class VarianceDrop:
    """What the preferences of a unit would tell about its label, under every posterior draw.

    Attributes
    ----------
    explained
        Var(E[Y | x, w, preferences] | x, w) [draw, unit].
    left
        E[Var(Y | x, w, preferences) | x, w] [draw, unit].
    """

    explained: Array
    left: Array
