"""Item features in units of their spread: a table, or, where they are many, as given and worked out as they are read.

Embeddings of a hundred thousand answers are a gigabyte, and a standardised copy in double precision is two more. So
what layers see of many features is a tensor that holds no numbers of its own: a product with weights, which is all that
most layers want, standardises some rows at a time; whatever else a layer does gets the whole table, made for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

MANY = 2**24  # numbers up to which a table is made, 128 MB
_ROWS = 512  # whose spread is summed at a time
_AT_ONCE, _THERE = 2**17, 2**26  # numbers that are standardised at a time: what a cache holds, and megabytes elsewhere
_TURNED = (torch.ops.aten.t.default, torch.ops.aten.permute.default, torch.ops.aten.transpose.int)
_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.mv.default)
_HELD = ("given", "middle", "unit")
_SAME = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)


def standardised(features: np.ndarray, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return features [item, feature] with mean 0 and standard deviation 1, and that deviation [feature] as given.

    Constant features become 0, and their deviation is given as 1. Of many features see `Standardised`.
    """
    middle, unit = features.mean(0, dtype=np.float64), spread(features)
    if features.size > MANY:
        with warnings.catch_warnings():  # of memory that must not be written, which it is not
            warnings.simplefilter("ignore", UserWarning)
            given = torch.from_numpy(features)
        columns = torch.from_numpy(unit).to(dtype)
        return Standardised(given, torch.from_numpy(middle).to(dtype), columns), columns
    found = np.array(features, np.float64)
    found -= middle
    found /= unit
    return torch.from_numpy(found).to(dtype), torch.from_numpy(unit).to(dtype)


def spread(features: np.ndarray) -> np.ndarray:
    """Return the standard deviations [feature] of features [item, feature]; 1 of constant ones."""
    middle, blocks = features.mean(0, dtype=np.float64), np.array_split(features, 1 + len(features) // _ROWS)
    found = np.sqrt(sum(((block - middle) ** 2).sum(0) for block in blocks) / len(features))
    return np.where(found > 0, found, 1.0)


class Standardised(Tensor):
    """Features [item, feature], or turned [feature, item], that are standardised when they are read.

    Parameters
    ----------
    given
        [item, feature], as the user has them, in whatever precision; not copied.
    middle, unit
        Their means and standard deviations [feature]: what is read has this precision.
    turned
        Whether items are columns.
    light
        Whether products are worked out in single precision.
    """

    given: Tensor
    middle: Tensor
    unit: Tensor
    turned: bool
    light: bool

    @staticmethod
    def __new__(
        cls, given: Tensor, middle: Tensor, unit: Tensor, turned: bool = False, light: bool = False
    ) -> Standardised:
        """See torch: a tensor without memory of its own."""
        shape = given.shape[::-1] if turned else given.shape
        found = Tensor._make_wrapper_subclass(cls, shape, dtype=middle.dtype, device=given.device)
        found.given, found.middle, found.unit, found.turned, found.light = given, middle, unit, turned, light
        return found  # type: ignore[no-any-return]

    @classmethod
    def of(cls, values: Tensor, dtype: torch.dtype) -> Standardised:
        """Return numbers [item, feature] as they are, in whatever precision, as features that are read as `dtype`."""
        columns = torch.zeros(values.shape[1], dtype=dtype, device=values.device)
        return cls(values, columns, columns + 1)

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """See torch: every operation on such a tensor comes here, once autograd has made a note of it."""
        kwargs, first = kwargs or {}, args[0]
        if func in _SAME:
            return first._like()  # torch takes what is returned as it is for no view
        if func in _TURNED and isinstance(first, cls):
            same = func in _TURNED[1:] and [axis % 2 for axis in _axes(args)] == [0, 1]
            return first._like(turned=first.turned if same else not first.turned)
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") in (None, first.dtype):
            return first._like(**{name: getattr(first, name).to(kwargs["device"]) for name in _HELD})
        if func is torch.ops.aten.mm.default and not isinstance(first, cls):
            return args[1]._after(first)
        if func in _PRODUCTS and not isinstance(args[1], cls):
            right = args[1] if args[1].dim() == 2 else args[1][:, None]
            return first.t()._after(right.T).T.reshape(first.shape[0], *args[1].shape[1:])
        if func is torch.ops.aten.index.Tensor and not first.turned and len(args[1]) == 1:
            return first._rows(args[1][0])
        if func is torch.ops.aten.index_select.default and not first.turned and args[1] % 2 == 0:
            return first._rows(args[2])
        if func is torch.ops.aten.slice.Tensor and not first.turned and args[1] % 2 == 0:
            return first._rows(slice(*args[2:]))
        return func(*tree_map(_whole, args), **tree_map(_whole, kwargs))

    def _like(self, **changed: Any) -> Standardised:
        now = {name: getattr(self, name) for name in (*_HELD, "turned", "light")}
        return Standardised(**now | changed)

    def in_single_precision(self) -> Standardised:
        """Return the same features, whose products are worked out in single precision."""
        return self._like(light=True)

    def whole(self) -> Tensor:
        """Return the table."""
        rows = self._rows(slice(None))
        return rows.T if self.turned else rows

    def _rows(self, at: Tensor | slice) -> Tensor:
        found = self.given[at].to(self.dtype, copy=True)
        found -= self.middle
        found /= self.unit
        return found

    def _after(self, left: Tensor) -> Tensor:
        """Return the product of a matrix and this one, some items at a time."""
        columns = self.shape[1]
        if not self.turned:
            out = left.new_zeros(len(left), columns)
            for at, rows in self._blocks():
                out += left[:, at].to(rows.dtype) @ rows
            return out / self.unit
        weights = left / self.unit
        out = left.new_empty(columns, len(left))
        for at, rows in self._blocks():
            out[at] = rows @ weights.T.to(rows.dtype)
        return out.T

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield items and their features less the means, always in the same memory: that of a cache."""
        size = _AT_ONCE if self.device.type == "cpu" else _THERE
        step = max(1, size // self.given.shape[1])
        dtype = torch.float32 if self.light else self.dtype
        held, middle = torch.empty(step, self.given.shape[1], dtype=dtype, device=self.device), self.middle.to(dtype)
        for start in range(0, len(self.given), step):
            some = self.given[start : start + step]
            rows = held[: len(some)]
            rows.copy_(some)
            rows -= middle
            yield slice(start, start + step), rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """See NumPy: the table."""
        return np.asarray(self.whole().cpu().numpy(), dtype)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Standardised(shape={tuple(self.shape)}, given as {self.given.dtype})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """See pickle."""
        return Standardised, (self.given, self.middle, self.unit, self.turned, self.light)


def _axes(args: tuple[Any, ...]) -> list[int]:
    """Return the order of axes that `permute` or `transpose` are asked for."""
    return list(args[1]) if len(args) == 2 else [1, 0] if (args[1] - args[2]) % 2 else [0, 1]


def _whole(held: Any) -> Any:
    return held.whole() if isinstance(held, Standardised) else held
