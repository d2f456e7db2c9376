"""Draws of sites by name, of which large ones are worked out when somebody asks for them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Sites(Mapping[str, Array]):
    """Arrays [draw, ...] by name; those that follow from others and would fill memory are made when asked for.

    Utilities of all answers that a reward describes are such: a thousand draws of a hundred thousand are a gigabyte,
    and the weights that they follow from a few megabytes. What was made is kept as long as somebody holds it.

    Parameters
    ----------
    kept
        Arrays at hand.
    made
        name -> what makes it, always the same.
    """

    def __init__(self, kept: Mapping[str, Array], made: Mapping[str, Callable[[], Array]]) -> None:
        self.kept, self.made = dict(kept), dict(made)
        self._held: weakref.WeakValueDictionary[str, Array] = weakref.WeakValueDictionary()

    def __getitem__(self, name: str) -> Array:
        if name not in self.made:
            return self.kept[name]
        found = self._held.get(name)
        if found is None:
            found = self._held[name] = self.made[name]()
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.kept
        yield from self.made

    def __len__(self) -> int:
        return len(self.kept) + len(self.made)

    def __or__(self, other: Mapping[str, Array]) -> Sites:
        """Return these sites with others, in whose favour names are that both have."""
        kept = {**self.kept, **other}
        return Sites(kept, {name: make for name, make in self.made.items() if name not in other})

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def taken(sites: Mapping[str, Array], axes: Mapping[str, int], order: NDArray[np.int64]) -> Mapping[str, Array]:
    """Return sites, of some with the entries along an axis in another order: name -> which."""
    made = sites.made if isinstance(sites, Sites) else {}
    kept = {name: values.take(order, axes[name]) for name, values in sites.items() if name in axes and name not in made}
    whole = {**{name: values for name, values in sites.items() if name not in made}, **kept}
    if not made:
        return whole

    def turned(make: Callable[[], Array], axis: int) -> Callable[[], Array]:
        return lambda: make().take(order, axis)

    return Sites(whole, {name: turned(make, axes[name]) if name in axes else make for name, make in made.items()})
