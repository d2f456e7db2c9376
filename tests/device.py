"""A CUDA device that is not there: numbers worked out on the CPU under CUDA's rules, and a count of what is slow.

    with Device() as device:
        prefdensity.fit(program, data, device="cuda")
    device.launches, device.syncs      # how many, by the line of the library that asked

A tensor "on the device" is a `Card`: a wrapper around a tensor of the CPU. What CUDA refuses is refused here: tensors
of two devices in one operation (numbers of no dimension may come from the CPU where CUDA lets them), a generator of
the other device, `numpy()`. What makes the host wait is counted as a sync: reading a value, a copy between host and
device that is not pinned and non-blocking, results whose size depends on values, a check of a factorisation. Every
operation that computes or copies is a launch; views and empty tensors are none. A captured graph refuses what CUDA's
capture refuses, keeps no memory but its own, and its replay is one launch. What no process recovers from ends the
device: a capture that failed, an index out of range. A factorisation of what is no number is no failure. Not modelled:
streams, rounding, atomics, how much memory there is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from device_counts import Counts
from device_functions import Functions
from device_rules import Rules
from device_tensors import Card, Generator
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map


class Device(Counts):
    """The device, there for the length of a `with` block."""

    def __init__(self, free: int = 64 * 2**30) -> None:
        super().__init__()
        self.free, self.reserved = free, 0  # bytes; what torch keeps of them for tensors to come
        self.default = Generator("cuda")
        self.manual_seed = self.default.manual_seed

    def __enter__(self) -> Device:
        self._stack = contextlib.ExitStack()
        for name, value in _cuda(self).items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, value, create=True))
        self._stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        rules = Rules(self)
        self._stack.enter_context(mock.patch.object(Card, "rules", rules))
        self._stack.enter_context(rules)
        self._stack.enter_context(Functions())
        return self

    def __exit__(self, *failed: Any) -> None:
        self._stack.close()


class Graph:
    """What `torch.cuda.CUDAGraph` is: operations as they were captured, run again on the tensors they had.

    Those that were there before are known by where they are in memory, which others may have by the time of a replay.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()  # storages of its own

    def record(self, func: Any, args: Any, kwargs: Any, found: Any) -> None:
        """Write an operation down."""
        args, kwargs = tree_map(self._read, (args, kwargs))
        self.made |= {each.untyped_storage()._cdata for each in tree_leaves(found) if _is_dense(each)}
        self.operations.append((func, args, kwargs, found))

    def _read(self, each: Any) -> Any:
        return Lent(each) if _is_dense(each) and each.untyped_storage()._cdata not in self.made else each

    def replay(self) -> None:
        """Run the operations again: their results take the place of what was there."""
        self.device.launches["graph replay"] += 1
        with torch.no_grad():
            for func, args, kwargs, found in self.operations:
                args, kwargs = tree_map(lambda x: x.tensor if isinstance(x, Lent) else x, (args, kwargs))
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class Lent:
    """A tensor that a graph reads and does not keep."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.memory = StorageWeakRef(tensor.untyped_storage())
        self.like = tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor, while its memory is nobody else's."""
        if self.memory.expired():
            raise RuntimeError("a captured graph reads memory that was given back since")
        dtype, *place = self.like
        storage = torch.UntypedStorage._new_with_weak_ptr(self.memory.cdata)
        return torch.empty(0, dtype=dtype, device="cpu").set_(storage, *place)


def _is_dense(each: Any) -> bool:
    return isinstance(each, torch.Tensor) and each.layout == torch.strided


def _cuda(device: Device) -> dict[str, Any]:
    """Return what takes the place of functions of `torch.cuda`."""

    @contextlib.contextmanager
    def graph(captured: Graph, *_: Any, **__: Any) -> Iterator[None]:
        device.capturing = captured
        try:
            yield
        except BaseException as error:  # the stream stays the current one, and its memory is not freed
            device.ended = f"CUDA error: operation failed due to a previous error during capture ({error})"
            raise
        finally:
            device.capturing = None

    class Stream:
        def wait_stream(self, other: Any) -> None: ...

    @contextlib.contextmanager
    def within(_: Any) -> Iterator[None]:
        yield

    def set_sync_debug_mode(mode: str | int) -> None:
        device.sync_debug_mode = mode

    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "mem_get_info": lambda *_: (device.free - device.reserved, 80 * 2**30),
        "memory_reserved": lambda *_: device.reserved,
        "memory_allocated": lambda *_: 0,
        "get_rng_state": lambda *_: device.default.get_state(),
        "set_rng_state": lambda state, *_: device.default.set_state(state),
        "manual_seed": lambda seed: device.manual_seed(seed),
        "synchronize": lambda *_: device.wait("synchronize"),
        "CUDAGraph": lambda: Graph(device),
        "graph": graph,
        "Stream": Stream,
        "stream": within,
        "device": within,
        "current_stream": lambda *_: Stream(),
        "get_sync_debug_mode": lambda: device.sync_debug_mode,
        "set_sync_debug_mode": set_sync_debug_mode,
    }
