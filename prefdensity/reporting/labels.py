"""Names short enough to draw, and still told apart."""

from __future__ import annotations

import os
from collections.abc import Sequence

_WORD = 12  # characters before a difference that are shown with it
_DIGITS = 6  # room for a number that tells labels apart where nothing else does


def shorten(label: str, length: int = 42) -> str:
    """Return the label, cut in the middle if it is longer than `length`: both ends tell items apart."""
    label = " ".join(str(label).split())
    if len(label) <= length:
        return label
    tail = (length - 1) // 2
    return f"{label[: length - 1 - tail]}…{label[-tail:]}"


def distinct(labels: Sequence[str], length: int = 42) -> list[str]:
    """Return labels of at most `length` characters, no two of them alike.

    Those that are alike once cut in the middle are cut so that the part in which they differ is seen; those that still
    are alike are numbered.

    Parameters
    ----------
    labels
        Any texts; white space is written as single spaces.
    length
        Most characters of a label, 20 or more.
    """
    whole = [" ".join(str(label).split()) for label in labels]
    shown = [shorten(label, length) for label in whole]
    for group in _alike(shown):
        first = len(os.path.commonprefix([whole[k] for k in group]))
        for k in group:
            shown[k] = _around(whole[k], first, length)
    taken = set(shown)
    for group in _alike(shown):
        number = 1
        for k in group:
            while (named := f"{shorten(shown[k], length - _DIGITS)} ({number})") in taken:
                number += 1
            shown[k] = named
            taken.add(named)
    return shown


def _alike(labels: Sequence[str]) -> list[list[int]]:
    """Return the places of labels that occur more than once, one list for each."""
    places: dict[str, list[int]] = {}
    for k, label in enumerate(labels):
        places.setdefault(label, []).append(k)
    return [group for group in places.values() if len(group) > 1]


def _around(label: str, first: int, length: int) -> str:
    """Return the start of a label and what follows its character number `first`."""
    head = length // 4
    if first <= head:  # the difference is at the start, and too many follow it to be seen there
        return f"{label[: length - 1]}…" if len(label) > length else label
    start = max(label.rfind(" ", max(first - _WORD, head), first) + 1, first - _WORD)
    room = length - head - 1
    rest = label[start:]
    return f"{label[:head]}…{rest if len(rest) <= room else rest[: room - 1] + '…'}"
