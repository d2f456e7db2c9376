"""Tensors and generators of the device of `device.py`: wrappers around those of the CPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_map

# Autograd runs tensors of the device "meta" in the caller's thread and asks no driver about them.
STAND_IN = torch.device("meta")
CUDA = torch.device("cuda", 0)
HostGenerator = torch.Generator


class Card(torch.Tensor):
    """A tensor on the device."""

    inner: torch.Tensor
    rules: Any = None  # what operations on tensors of the device go through, while it is there

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Card:
        """Put a tensor of the CPU on the device; a sparse one looks dense from outside."""
        strided = inner.layout == torch.strided
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride() if strided else None,
            storage_offset=inner.storage_offset() if strided else None, dtype=inner.dtype, device=STAND_IN,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Card({self.inner!r})"

    def as_subclass(self, kind: Any) -> Any:
        return _cast(self, kind)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert Card.rules is not None, "a tensor outlived its device"
        return Card.rules.__torch_dispatch__(func, types, args, kwargs)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
            return found if cls is Card else tree_map(lambda x: _cast(x, cls) if type(x) is Card else x, found)


def _cast(card: torch.Tensor, kind: type) -> torch.Tensor:
    """Return a tensor on the device as one of a class of the library's own, or as a plain one."""
    made = torch.ops.aten.alias.default(card)
    if kind is not torch.Tensor:
        made.__class__ = kind if issubclass(kind, Card) else _both(kind)
    return made


@functools.cache
def _both(kind: type) -> type:
    return type(kind.__name__, (kind, Card), {})


class Generator(HostGenerator):
    """A generator of the CPU or of the device: the same numbers from the same seed."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.place = place_of(device) or torch.device("cpu")
        return made

    def __init__(self, device: Any = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


def place_of(device: Any) -> torch.device | None:
    """Return what the library calls a device."""
    if device is None:
        return None
    found = torch.device(device)
    return CUDA if found.type in ("cuda", STAND_IN.type) else found


@contextlib.contextmanager
def swapped(generator: HostGenerator) -> Iterator[None]:
    """Let what draws from the CPU's default generator draw from this one."""
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)
