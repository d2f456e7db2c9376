"""What the device of `device.py` has to see before it becomes operations: devices, lists, generators, `numpy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from device_counts import line
from device_tensors import CUDA, STAND_IN, Card, HostGenerator, place_of
from torch.overrides import TorchFunctionMode
from torch.utils import _device as current


class Functions(TorchFunctionMode):
    """What has to be seen before it becomes operations: what a tensor says of itself, lists, generators."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        kwargs = {key: _meant(value) for key, value in kwargs.items()} if kwargs else {}
        args = tuple(_meant(each) if type(each) in (str, torch.device) else each for each in args)
        first = args[0] if args else None
        special = _OF_CARDS.get(func) if isinstance(first, Card) else _MADE.get(func)
        if special is not None:
            return special(func, *args, **kwargs)
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, HostGenerator)]
        if not given:
            return func(*args, **kwargs)
        before, Card.rules.generator = Card.rules.generator, given[0]
        try:
            return func(*args, **kwargs)
        finally:
            Card.rules.generator = before


def _meant(value: Any) -> Any:
    """Return the stand-in for what names the device, and everything else as it is."""
    named = isinstance(value, torch.device) or (isinstance(value, str) and value.startswith("cuda"))
    return STAND_IN if named and place_of(value) == CUDA else value


def _made(func: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
    """Make a tensor on the host and copy it."""
    place = place_of(kwargs.get("device") or current.CURRENT_DEVICE)
    if place != CUDA:
        return func(data, *args, **kwargs)
    kwargs["device"] = torch.device("cpu")
    if func is torch.as_tensor:
        return func(data, *args, **kwargs).to(CUDA)
    with torch._C._DisableTorchDispatch():
        made = Card(func(data, *args, **kwargs))
    if made.inner.numel():
        Card.rules.device.wait("copy to the device")
    return torch.ops.aten.lift_fresh.default(made)  # a constant, to what makes graphs


def _no_numpy(func: Any, *_: Any, **__: Any) -> Any:
    raise TypeError(f"can't convert cuda:0 device type tensor to numpy ({line()}). Use Tensor.cpu() first")


def _lists(func: Any, tensor: Card, at: Any, *rest: Any) -> Any:
    """Index by lists of numbers as by tensors: a stand-in drops what is written at a list."""

    def lifted(each: Any) -> Any:
        numbers = isinstance(each, (list, tuple)) and len(each) > 0 and all(isinstance(k, int) for k in each)
        return torch.tensor(each).to(CUDA) if numbers else each

    return func(tensor, tuple(map(lifted, at)) if isinstance(at, tuple) else lifted(at), *rest)


def _product(func: Any, left: Card, right: Any, **kwargs: Any) -> Any:
    if left.dim() == 1 and right.dim() == 2:  # squeezed in place, which the shape of a wrapper cannot follow
        return (left.unsqueeze(0) @ right).squeeze(0)
    return func(left, right, **kwargs)


def _like(func: Any, tensor: Card, data: Any, **kwargs: Any) -> Any:
    made = torch.tensor(data, dtype=kwargs.get("dtype") or tensor.dtype)
    return made.to(kwargs.get("device", CUDA))


def _pinned(func: Any, tensor: torch.Tensor, *_: Any) -> Any:
    """Copy to pinned memory of the host."""
    made = tensor.clone()
    made.pinned = True  # type: ignore[attr-defined]
    return made


_OF_CARDS: dict[Any, Callable[..., Any]] = {
    torch.Tensor.device.__get__: lambda *_: CUDA,  # type: ignore[attr-defined]
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
