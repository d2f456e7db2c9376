"""A CUDA device that is not there: numbers worked out on the CPU under CUDA's rules, and a count of what is slow.

    with Device() as device:
        prefdensity.fit(program, data, device="cuda")
    device.launches, device.syncs      # how many, by the line of the library that asked

A tensor "on the device" is a `Card`: a wrapper around a tensor of the CPU. What CUDA refuses is refused here: tensors
of two devices in one operation (numbers of no dimension may come from the CPU where CUDA lets them), a generator of
the other device, `numpy()`. What makes the host wait is counted as a sync: reading a value, a copy between host and
device that is not pinned and non-blocking, results whose size depends on values, a check of a factorisation. Every
operation that computes or copies is a launch; views and empty tensors are none. A captured graph refuses what CUDA's
capture refuses, and its replay is one launch. Not modelled: streams, rounding, atomics, memory.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _device as current
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# Autograd runs tensors of the device "meta" in the caller's thread and asks no driver about them.
_STAND_IN = torch.device("meta")
_CUDA = torch.device("cuda", 0)
_Generator = torch.Generator
_PROXY = torch._C._TorchDispatchModeKey.PROXY

# Operations whose results have a size that depends on values, or that look at values for another reason.
_WAIT = {"nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "equal", "is_nonzero",
         "_linalg_check_errors", "_local_scalar_dense", "repeat_interleave"}  # fmt: skip
# Operations that copy from one device to another on purpose.
_COPY = {"_to_copy", "copy_"}
_INDEX = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
# Operations that take no number from the CPU: those that are no loops over elements.
_STRICT = {"mm", "addmm", "bmm", "baddbmm", "mv", "cat", "stack", "index_select", "gather", "scatter", "scatter_add",
           "index_add", "index_add_", "scatter_add_", "linalg_solve_triangular", "linalg_cholesky_ex"}  # fmt: skip
_FREE = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "_sparse_compressed_tensor_unsafe",
         "_reshape_alias", "detach_", "lift_fresh", "_linalg_check_errors", "resolve_conj", "_nested_tensor_size",
         "values", "crow_indices", "col_indices", "squeeze_", "unsqueeze_", "t_", "transpose_"}  # fmt: skip


class Card(torch.Tensor):
    """A tensor on the device."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Card:
        """Put a tensor of the CPU on the device."""
        strided = inner.layout == torch.strided
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, strides=inner.stride() if strided else None,
            storage_offset=inner.storage_offset() if strided else 0, dtype=inner.dtype, layout=inner.layout,
            device=_STAND_IN,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Card({self.inner!r})"

    def as_subclass(self, kind: Any) -> Any:
        return _cast(self, kind)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert _Dispatch.current is not None, "a tensor outlived its device"
        return _Dispatch.current.__torch_dispatch__(func, types, args, kwargs)

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


class Generator(_Generator):
    """A generator of the CPU or of the device: the same numbers from the same seed."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls)
        made.place = _place(device) or torch.device("cpu")
        return made

    def __init__(self, device: Any = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


def _place(device: Any) -> torch.device | None:
    """Return what the library calls a device."""
    if device is None:
        return None
    found = torch.device(device)
    return _CUDA if found.type in ("cuda", _STAND_IN.type) else found


@functools.cache
def _of_library(file: str) -> str:
    """Return where a file is in the library; nothing for a file that is elsewhere."""
    for room in ("/prefdensity/", "/models/"):
        if room in file and "/tests/" not in file:
            return file.rsplit(room, 1)[-1]
    return ""


def _line() -> str:
    """Return the innermost line of the library that is running."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = _of_library(frame.f_code.co_filename)
        if name and frame.f_code.co_name != "__torch_function__":
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _tensors(values: Any) -> list[torch.Tensor]:
    """Return the tensors among the arguments of an operation."""
    found = []
    for each in values:
        if isinstance(each, torch.Tensor):
            found.append(each)
        elif type(each) in (list, tuple):
            found += [x for x in each if isinstance(x, torch.Tensor)]
    return found


def _inner(value: Any) -> Any:
    if isinstance(value, Card):
        return value.inner
    if type(value) in (list, tuple):
        return type(value)(x.inner if isinstance(x, Card) else x for x in value)
    return value


class Device:
    """The device, there for the length of a `with` block.

    Attributes
    ----------
    launches, syncs
        Counters of what was launched and what made the host wait, by operation and line.
    """

    def __init__(self, free: int = 64 * 2**30) -> None:
        self.free = free
        self.launches: collections.Counter[str] = collections.Counter()
        self.syncs: collections.Counter[str] = collections.Counter()
        self.default = Generator("cuda")
        self.capturing: Graph | None = None

    def __enter__(self) -> Device:
        self._stack = contextlib.ExitStack()
        for name, value in _cuda(self).items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, value, create=True))
        self._stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        known = (*proxy_tensor.HANDLED_TYPES, Card)
        self._stack.enter_context(mock.patch.object(proxy_tensor, "HANDLED_TYPES", known))
        self._stack.enter_context(mock.patch.object(_Dispatch, "current", _Dispatch(self)))
        self._stack.enter_context(_Dispatch(self))
        self._stack.enter_context(_Functions())
        return self

    def __exit__(self, *failed: Any) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Count from zero again."""
        self.launches.clear()
        self.syncs.clear()

    def wait(self, what: str) -> None:
        """Count a sync, which no captured graph may hold."""
        if self.capturing is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {what} at {_line()}")
        self.syncs[f"{what} {_line()}"] += 1


class Graph:
    """What `torch.cuda.CUDAGraph` is: operations as they were captured, run again on the tensors they had."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        """Run the operations again: their results take the place of what was there."""
        self.device.launches["graph replay"] += 1
        with torch.no_grad():
            for func, args, kwargs, found in self.operations:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def _cuda(device: Device) -> dict[str, Any]:
    """Return what takes the place of functions of `torch.cuda`."""

    @contextlib.contextmanager
    def graph(captured: Graph, *_: Any, **__: Any) -> Iterator[None]:
        device.capturing = captured
        try:
            yield
        finally:
            device.capturing = None

    class Stream:
        def wait_stream(self, other: Any) -> None: ...

    @contextlib.contextmanager
    def stream(_: Any) -> Iterator[None]:
        yield

    return {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "mem_get_info": lambda *_: (device.free, 80 * 2**30),
        "get_rng_state": lambda *_: device.default.get_state(),
        "set_rng_state": lambda state, *_: device.default.set_state(state),
        "manual_seed": lambda seed: device.default.manual_seed(seed),
        "synchronize": lambda *_: device.wait("synchronize"),
        "CUDAGraph": lambda: Graph(device),
        "graph": graph,
        "Stream": Stream,
        "stream": stream,
        "current_stream": lambda *_: Stream(),
    }


@functools.cache
def _name(func: Any) -> str:
    return str(func._schema.name.split("::")[1])


@functools.cache
def _is_view(func: Any) -> bool:
    return bool(func.is_view)


@functools.cache
def _draws(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


class _Dispatch(TorchDispatchMode):
    """Every operation, below autograd."""

    current: _Dispatch | None = None

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        graph = torch._C._unset_dispatch_mode(_PROXY)
        if graph is not None:  # what makes a graph of operations sees those of the device, too
            try:
                with self:
                    return graph.__torch_dispatch__(func, types, args, kwargs)
            finally:
                torch._C._set_dispatch_mode(graph)
        name = _name(func)
        tensors = _tensors((*args, *kwargs.values()))
        cards = [each for each in tensors if isinstance(each, Card)]
        there = bool(cards)
        if kwargs.get("device") is not None:
            there = _place(kwargs["device"]) == _CUDA
            kwargs["device"] = torch.device("cpu")
        if not cards and not there:
            return func(*args, **kwargs)
        if name == "copy_":
            there = isinstance(args[0], Card)
        self._judge(func, name, args, kwargs, tensors, there)
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        return self._work(func, name, args, kwargs, cards, there)

    def _judge(self, func: Any, name: str, args: Any, kwargs: Any, tensors: Any, there: bool) -> None:
        """Refuse what CUDA refuses, and count what the host waits for."""
        host = [each for each in tensors if not isinstance(each, Card)]
        if name in _COPY:
            if host or not there:
                asked = kwargs.get("non_blocking", name == "copy_" and len(args) > 2 and args[2])
                pinned = any(getattr(each, "pinned", False) for each in host)
                if not (asked and pinned) and tensors[-1].numel():
                    self.device.wait("copy to the device" if there else "copy to the host")
            return
        for each in host:
            number = each.dim() == 0 and name not in _STRICT
            index = name in _INDEX and isinstance(args[0], Card) and any(each is i for i in args[1])
            if index:
                self.device.wait("copy of an index to the device")
            elif not number:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"({func}, {tuple(each.shape)} at {_line()})"
                )
        if _draws(func):
            self._drawn(func, name)
        masks = name in _INDEX and any(each is not None and each.dtype == torch.bool for each in args[1])
        sized = name == "repeat_interleave" and kwargs.get("output_size") is not None
        if masks or (name in _WAIT and not sized):
            self.device.wait("index by a mask" if masks else name)

    def _drawn(self, func: Any, name: str) -> None:
        given = _Functions.generator
        if given is not None and given.device.type != "cuda":
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func} at {_line()})")
        if self.device.capturing is not None and given is not None:
            raise RuntimeError(f"Attempt to use a generator that is not registered with the graph ({func})")
        if name == "multinomial":
            self.device.wait(name)

    def _work(self, func: Any, name: str, args: Any, kwargs: Any, cards: list[Card], there: bool) -> Any:
        if not _is_view(func) and name not in _FREE:
            self.device.launches[f"{name} {_line()}"] += 1
        of = {id(each.inner): each for each in cards}
        own = tuple(map(_inner, args)), {key: _inner(value) for key, value in kwargs.items()}
        drawn = _draws(func) and _Functions.generator is None
        with _swapped(self.device.default) if drawn else contextlib.nullcontext():
            found = func(*own[0], **own[1])
        if self.device.capturing is not None:
            self.device.capturing.operations.append((func, *own, found))
        if name in ("_local_scalar_dense", "equal", "is_nonzero"):
            return found

        def back(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            known = of.get(id(value))
            if known is not None and known.shape == value.shape:
                return known
            return Card(value) if there else value

        if name == "copy_":
            return args[0]
        return back(found) if isinstance(found, torch.Tensor) else tree_map(back, found)


@contextlib.contextmanager
def _swapped(generator: _Generator) -> Iterator[None]:
    """Let what draws from the CPU's default generator draw from this one."""
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)


class _Functions(TorchFunctionMode):
    """What has to be seen before it becomes operations: what a tensor says of itself, lists, generators."""

    generator: Generator | None = None  # of the call that is running

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        kwargs = {key: _meant(value) for key, value in kwargs.items()} if kwargs else {}
        args = tuple(_meant(each) if type(each) in (str, torch.device) else each for each in args)
        first = args[0] if args else None
        special = _OF_CARDS.get(func) if isinstance(first, Card) else _MADE.get(func)
        if special is not None:
            return special(func, *args, **kwargs)
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, _Generator)]
        if not given:
            return func(*args, **kwargs)
        before, _Functions.generator = _Functions.generator, given[0]
        try:
            return func(*args, **kwargs)
        finally:
            _Functions.generator = before


def _meant(value: Any) -> Any:
    """Return the stand-in for what names the device, and everything else as it is."""
    named = isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))
    return _STAND_IN if named and _place(value) == _CUDA else value


def _made(func: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a tensor on the host and copy it."""
    place = _place(kwargs.get("device") or current.CURRENT_DEVICE)
    if place != _CUDA:
        return func(data, *args, **kwargs)
    kwargs["device"] = torch.device("cpu")
    if func is torch.as_tensor:
        return func(data, *args, **kwargs).to(_CUDA)
    assert _Dispatch.current is not None
    with torch._C._DisableTorchDispatch():
        made = Card(func(data, *args, **kwargs))
    if made.inner.numel():
        _Dispatch.current.device.wait("copy to the device")
    return torch.ops.aten.lift_fresh.default(made)  # a constant, to what makes graphs


def _no_numpy(func: Any, *_: Any, **__: Any) -> Any:
    raise TypeError(f"can't convert cuda:0 device type tensor to numpy ({_line()}). Use Tensor.cpu() first")


def _lists(func: Any, tensor: Card, at: Any, *rest: Any) -> Any:
    """Index by lists of numbers as by tensors: a stand-in drops what is written at a list."""

    def lifted(each: Any) -> Any:
        numbers = isinstance(each, (list, tuple)) and len(each) > 0 and all(isinstance(k, int) for k in each)
        return torch.tensor(each).to(_CUDA) if numbers else each

    return func(tensor, tuple(map(lifted, at)) if isinstance(at, tuple) else lifted(at), *rest)


def _product(func: Any, left: Card, right: Any, **kwargs: Any) -> Any:
    if left.dim() == 1 and right.dim() == 2:  # squeezed in place, which the shape of a wrapper cannot follow
        return (left.unsqueeze(0) @ right).squeeze(0)
    return func(left, right, **kwargs)


def _like(func: Any, tensor: Card, data: Any, **kwargs: Any) -> Any:
    made = torch.tensor(data, dtype=kwargs.get("dtype") or tensor.dtype)
    return made.to(kwargs.get("device", _CUDA))


def _pinned(func: Any, tensor: torch.Tensor, *_: Any) -> Any:
    """Copy to pinned memory of the host."""
    made = tensor.clone()
    made.pinned = True  # type: ignore[attr-defined]
    return made


_OF_CARDS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.device.__get__: lambda *_: _CUDA,  # type: ignore[attr-defined]
    torch.Tensor.is_cuda.__get__: lambda *_: True,  # type: ignore[attr-defined]
    torch.Tensor.is_meta.__get__: lambda *_: False,  # type: ignore[attr-defined]
    torch.Tensor.numpy: _no_numpy,
    torch.Tensor.__array__: _no_numpy,
    torch.Tensor.tolist: lambda func, tensor: tensor.cpu().tolist(),
    torch.Tensor.__getitem__: _lists,
    torch.Tensor.__setitem__: _lists,
    torch.matmul: _product,
    torch.Tensor.matmul: _product,
    torch.Tensor.__matmul__: _product,
    torch.Tensor.new_tensor: _like,
}
_MADE: dict[Any, Callable[..., Any]] = {
    torch.tensor: _made,
    torch.as_tensor: _made,
    torch.Tensor.pin_memory: _pinned,
}
