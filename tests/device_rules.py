"""CUDA's rules on the device of `device.py`: what is refused, what the host waits for, and what is a launch."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import torch
from device_counts import Counts, line
from device_tensors import CUDA, Card, Generator, place_of, swapped
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

# Operations whose results have a size that depends on values, or that look at values for another reason.
_WAIT = {"nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "equal", "is_nonzero",
         "_linalg_check_errors", "_local_scalar_dense", "repeat_interleave"}  # fmt: skip
# Operations of CUDA's solvers, which no captured graph may hold.
_SOLVED = {"linalg_cholesky_ex", "cholesky_solve", "cholesky_inverse", "_linalg_eigh", "_linalg_solve_ex",
           "linalg_inv_ex", "_linalg_slogdet", "linalg_lu_factor_ex"}  # fmt: skip
# Operations that copy from one device to another on purpose.
_COPY = {"_to_copy", "copy_"}
_INDEX = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
# Operations that take no number from the CPU: those that are no loops over elements.
_STRICT = {"mm", "addmm", "bmm", "baddbmm", "mv", "cat", "stack", "index_select", "gather", "scatter", "scatter_add",
           "index_add", "index_add_", "scatter_add_", "linalg_solve_triangular", "linalg_cholesky_ex"}  # fmt: skip
_FREE = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "_sparse_compressed_tensor_unsafe",
         "_reshape_alias", "detach_", "lift_fresh", "_linalg_check_errors", "resolve_conj", "_nested_tensor_size",
         "values", "crow_indices", "col_indices", "squeeze_", "unsqueeze_", "t_", "transpose_"}  # fmt: skip


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


@functools.cache
def _name(func: Any) -> str:
    return str(func._schema.name.split("::")[1])


@functools.cache
def _is_view(func: Any) -> bool:
    return bool(func.is_view)


@functools.cache
def _draws(func: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in func.tags


def _factored(matrix: torch.Tensor, lower: torch.Tensor, failed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what an accelerator makes of matrices: no factor at all, or one of no numbers that it calls a success."""
    failed = torch.where(matrix.tril().isnan().flatten(-2).any(-1), 0, failed)
    return torch.where(failed[..., None, None] > 0, torch.nan, lower), failed


class Rules(TorchDispatchMode):
    """Every operation, below autograd."""

    generator: Generator | None = None  # of the call that is running

    def __init__(self, device: Counts) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = _name(func)
        tensors = _tensors((*args, *kwargs.values()))
        cards = [each for each in tensors if isinstance(each, Card)]
        there = bool(cards)
        if kwargs.get("device") is not None:
            there = place_of(kwargs["device"]) == CUDA
            kwargs["device"] = torch.device("cpu")
        if not cards and not there:
            with torch._C.DisableTorchFunctionSubclass():  # below autograd a table is a tensor like any other
                return func(*args, **kwargs)
        if self.device.ended:
            raise RuntimeError(self.device.ended)
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
        if self.device.capturing is not None and name in _SOLVED:
            self.device.wait(name)
        for each in host:
            number = each.dim() == 0 and name not in _STRICT
            index = name in _INDEX and isinstance(args[0], Card) and any(each is i for i in args[1])
            if index:
                self.device.wait("copy of an index to the device")
            elif not number:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"({func}, {tuple(each.shape)} at {line()})"
                )
        if _draws(func):
            self._drawn(func, name)
        masks = name in _INDEX and any(each is not None and each.dtype == torch.bool for each in args[1])
        sized = name == "repeat_interleave" and kwargs.get("output_size") is not None
        if masks or (name in _WAIT and not sized):
            self.device.wait("index by a mask" if masks else name)

    def _drawn(self, func: Any, name: str) -> None:
        given = self.generator
        if given is not None and given.device.type != "cuda":
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({func} at {line()})")
        if self.device.capturing is not None and given is not None:
            raise RuntimeError(f"Attempt to use a generator that is not registered with the graph ({func})")
        if name == "multinomial":
            self.device.wait(name)

    def _end_out_of_range(self, args: Any, name: str) -> None:
        """End the device where an index that is there is out of range: a kernel finds that, and no host."""
        if any(isinstance(each, Card) and each.dtype == torch.int64 for each in _tensors(args)[1:]):
            self.device.ended = f"CUDA error: device-side assert triggered ({name} at {line()})"
            raise RuntimeError(self.device.ended) from None

    def _work(self, func: Any, name: str, args: Any, kwargs: Any, cards: list[Card], there: bool) -> Any:
        if not _is_view(func) and name not in _FREE:
            self.device.launch(name)
        of = {id(each.inner): each for each in cards}
        own = tuple(map(_inner, args)), {key: _inner(value) for key, value in kwargs.items()}
        drawn = _draws(func) and self.generator is None
        with swapped(self.device.default) if drawn else contextlib.nullcontext():
            try:
                found = func(*own[0], **own[1])
            except IndexError:
                self._end_out_of_range(args, name)
                raise
        if name == "linalg_cholesky_ex":
            found = _factored(own[0][0], *found)
        if self.device.capturing is not None:
            self.device.capturing.record(func, *own, found)
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
