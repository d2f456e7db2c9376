"""Tables of sites under a plate of fits: what a layer writes for one fit is read for many.

A layer sees the table of a site with an axis for each of its plates, and reads it at columns of the data:
``table[data.annotator, data.item_a]``. Many fits at once have one axis more, on the left, and axes that are not in use
are kept as singletons, so that everything has its place: [fit, ..., comparison]. A `SiteTable` does that for whoever
indexes it. Whether a layer's reads mean the same for many fits as for one is looked at before anything is fitted
(see `checks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

# Plates that a run has room for, that of fits included.
_DEPTH: ContextVar[int] = ContextVar("depth", default=0)
_INDEXED, _SELECTED = (Tensor.__getitem__,), (Tensor.index_select, torch.index_select)
_PRODUCTS = (Tensor.__matmul__, Tensor.matmul, torch.matmul, Tensor.mv, torch.mv)
_TURNED = (Tensor.T.__get__, Tensor.t, torch.t)  # type: ignore[attr-defined]


@contextmanager
def plates(depth: int) -> Iterator[None]:
    """Make room for so many plates, that of fits included."""
    before = _DEPTH.set(depth)
    try:
        yield
    finally:
        _DEPTH.reset(before)


def room() -> int:
    """Return how many plates a run has room for, that of fits included; 0 without one."""
    return _DEPTH.get()


class SiteTable(Tensor):
    """A tensor [fit, ...] that is indexed as if it had no axis of fits; what is read of it is a plain tensor."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch: every function of a table comes here."""
        if func in _INDEXED and isinstance(args[0], cls):
            return _read(plain(args[0]), args[1])
        if func in _SELECTED and isinstance(args[0], cls):
            with torch._C.DisableTorchFunctionSubclass():
                return _in_place(plain(func(*args, **(kwargs or {}))), args[0].dim() - 1)
        if func in _TURNED:
            return plain(args[0]).mT
        if func in _PRODUCTS and _is_by_vector(*args[:2]):
            return table(plain(args[1]) @ plain(args[0]).mT)
        return super().__torch_function__(func, types, args, kwargs or {})


def table(values: Tensor) -> Tensor:
    """Return a tensor [fit, ...] as a table."""
    return values.as_subclass(SiteTable)


def plain(values: Any) -> Any:
    """Return a table as any other tensor, and everything else as it is."""
    if not isinstance(values, SiteTable):
        return values
    with torch._C.DisableTorchFunctionSubclass():
        return values.as_subclass(Tensor)


def entries(table: Tensor, index: Tensor) -> Tensor:
    """Return table[..., index] of a table [..., entry] and an index [place], as [..., place]."""
    table = plain(table)
    if len(index) == 1 and index.device.type == "cpu":
        return table.narrow(-1, int(index), 1)
    if table.dim() > 1 and table.stride(0) == 1 and table.numel() == len(table) * table.shape[-1]:  # see `by_entry`
        return table.movedim(-1, 0).index_select(0, index).movedim(0, -1)
    if table.dtype == torch.float32 and table.device.type == "cpu":
        flat = table.reshape(-1, table.shape[-1])  # with more axes it takes five times as long
        return flat.index_select(-1, index).reshape(*table.shape[:-1], -1)
    # gather: index_select takes twice as long for tables in double precision, and fancy indexing longer
    return table.gather(-1, index.expand(*table.shape[:-1], -1))


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Return table[..., index, :] of a table [..., row, column] and an index [place], as [..., place, column]."""
    table = plain(table)
    if len(index) == 1 and index.device.type == "cpu":
        return table.narrow(-2, int(index), 1)
    return table.index_select(-2, index)


def by_entry(table: Tensor) -> Tensor:
    """Return a table [fit, ..., entry] that lies in memory entry by entry: each is read at once for all fits."""
    return table.movedim(0, -1).contiguous().movedim(-1, 0)


def joined(table: Tensor, *index: Tensor) -> Tensor:
    """Return table[..., index, index, ...] [..., place] of a table whose last axes are all indexed."""
    table, place = plain(table), index[0]
    for size, each in zip(table.shape[table.dim() - len(index) + 1 :], index[1:], strict=True):
        place = place * size + each
    lead = table.dim() - len(index)
    flat = table.flatten(lead)
    if not lead:  # numbers of a layer's own, the same for all fits
        return flat[place]
    if place.dim() == 1:
        return _in_place(entries(flat, place), lead)
    flat = _in_place(flat, lead)  # fits have indices of their own
    return flat.gather(-1, place.expand(*flat.shape[:-1], place.shape[-1]))


def _is_by_vector(left: Tensor, right: Tensor) -> bool:
    """Whether a product is that of a matrix and a vector for one fit, such as of features and weights.

    The vector [fit, 1, entry] has a singleton where matrices have rows; a matrix of one row, which a table of one
    column may be multiplied by, is taken for what it is.
    """
    if not isinstance(right, SiteTable) or left.dim() < 2 or right.dim() < 3 or right.shape[-2] != 1:
        return False
    one = left.shape[-1] == 1
    return left.shape[-1] == right.shape[-1] and not (one and isinstance(left, SiteTable))


def _read(values: Tensor, key: Any) -> Tensor:
    """Return values[key] with the axis of fits where it was."""
    key = key if isinstance(key, tuple) else (key,)
    if not any(each is Ellipsis for each in key):
        key = (Ellipsis, *key)
    at = [k for k, each in enumerate(key) if isinstance(each, Tensor) and each.dtype == torch.int64]
    first = at[0] if at else len(key)
    if not at or key[0] is not Ellipsis:
        return _in_place(values[key], 0)
    if first == 1 and len(at) == len(key) - 1:
        return joined(values, *key[1:])
    behind = sum(each is not None for each in key[first:])
    return _in_place(values[key], values.dim() - behind)


def _in_place(found: Tensor, lead: int) -> Tensor:
    """Return what was read with singletons, so that the axis behind `lead` axes is that of comparisons."""
    depth = _DEPTH.get()
    missing = max(0, depth - 1 - lead) if lead else 0
    if missing:
        found = found.reshape(*found.shape[:lead], *(1,) * missing, *found.shape[lead:])
    if found.dim() < depth:  # entries that nothing but their number tells apart
        found = found.reshape(found.shape[0], *(1,) * (depth - found.dim()), *found.shape[1:])
    return found
