"""Mirrors: what a layer says of a second explanation of the same judgements, everything before it upside down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Mirror:
    """A symmetry of the likelihood: were all that the layer is given turned round, it could undo that.

    The prior alone tells the two apart, so the posterior may have a mode on either side; every search starts at both.

    Attributes
    ----------
    image
        (values of all sites, with plates at dims -2 and -1 behind a dim of fits; bool [annotator]: whom to turn round)
        -> {own site: its value in the mirror}. Which other sites turn round if everybody does is found by running the
        program.
    turned
        Values of all sites -> bool [fit, ..., annotator]: who is read upside down.
    name
        What the layer calls one who is, as in "most annotators come out contrarian".
    """

    image: Callable[[Values, Tensor], dict[str, Tensor]]
    turned: Callable[[Values], Tensor]
    name: str
