"""A function of tensors as the graph of its operations: the same numbers, without running its Python again."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Function = Callable[..., tuple[Tensor, ...]]

_SAME = 1e-4  # of the largest entry: an accelerator sums in an order of its own
_ATEN = torch.ops.aten
_SHAPES = {_ATEN.zeros_like.default, _ATEN.ones_like.default, _ATEN.full_like.default}  # of their argument, not values
_PRODUCTS = {"linalg_solve_triangular", "linalg_vector_norm", "linalg_cross"}  # linear algebra without a solver
_NOTHING = {(_ATEN.mul.Tensor, 1), (_ATEN.div.Tensor, 1), (_ATEN.add.Tensor, 0), (_ATEN.pow.Tensor_Scalar, 1)}


def traced(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Return `function` as a graph for arguments shaped like `example`, or itself where no graph can hold it.

    A graph holds tensor operations only (gradients among them), with everything else as it was for `example`. So a
    function that looks at values, as in ``if x > 0``, is returned as it is, and so is one whose graph gives other
    numbers elsewhere. What does not hang on the arguments is worked out once, as is what would be worked out twice.
    """
    function(*example)  # what this makes once, and keeps, is no part of the graph
    elsewhere = (1.1 * example[0] + 0.1, *example[1:])
    for sparing in (True, False):
        try:
            run = torch.no_grad()(_Recorder(sparing).graph_of(function, example).forward)
            if all(_agree(a, b) for a, b in zip(run(*elsewhere), function(*elsewhere), strict=True)):
                return run
        except Exception:  # whatever stands in the way, `function` does without a graph
            continue
    return function


class _Recorder(TorchDispatchMode):
    """Write down the operations of a function; a sparing one not those that need not be done every time."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nobody compiles it, and to tell the compiler so would load it: a second

    def __init__(self, sparing: bool) -> None:
        super().__init__()
        self.sparing, self.graph, self.root = sparing, Graph(), torch.nn.Module()
        self.nodes: dict[Any, Node] = {}  # of tensors, by where they are
        self.alive: list[Tensor] = []  # so that nothing else is there
        self.moving: set[Any] = set()  # those that hang on the arguments
        self.known: dict[str, Any] = {}

    def graph_of(self, function: Function, example: tuple[Tensor, ...]) -> GraphModule:
        """Return what `function` does with the example."""
        for k, each in enumerate(example):
            self._name(each, self.graph.placeholder(f"x{k}"), moving=True)
        with torch.autograd.set_multithreading_enabled(False), self:  # an accelerator's gradients have a thread
            found = function(*example)
        self.graph.output(tuple(self._node(each) for each in found))
        self.graph.eliminate_dead_code()
        return GraphModule(self.root, self.graph)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch: every operation comes here."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        moving = any(_place(each) in self.moving for each in given)
        draws = torch.Tag.nondeterministic_seeded in func.tags
        if self.sparing and draws:
            raise RuntimeError("what draws does it every time")
        if moving and not all(isinstance(each, Tensor | None) for each in tree_leaves(out)):
            raise RuntimeError("a value is looked at")
        if self.sparing and (not moving or func in _SHAPES):
            return out
        if moving and self._is_nothing(func, args, out):
            self._name(out, self._node(args[0]), moving)
            return out
        if self.sparing and func._schema.is_mutable:
            func = self._in_a_place_of_its_own(func, args[0])
        args, kwargs = tree_map(self._told, (args, kwargs))
        key = f"{func} {args} {kwargs}" if self.sparing else str(len(self.graph.nodes))
        if key not in self.known:
            self.known[key] = self._written(func, args, kwargs, out)
        for each, node in zip(tree_leaves(out), self.known[key], strict=True):
            if isinstance(each, Tensor):
                self._name(each, node, moving)
        return out

    def _is_nothing(self, func: Any, args: Any, out: Any) -> bool:
        """Say whether the result of an operation is its first argument."""
        first = args[0]
        if not isinstance(first, Tensor) or not isinstance(out, Tensor) or out.shape != first.shape:
            return False
        if func.is_view:
            return out.stride() == first.stride()
        number = args[1] if len(args) > 1 and isinstance(args[1], int | float) else None
        return self.sparing and (func, number) in _NOTHING and out.dtype == first.dtype

    def _in_a_place_of_its_own(self, func: Any, changed: Tensor) -> Any:
        """Return the operation that gives what another one writes into its first argument."""
        kind, _, overload = func.__name__.partition(".")
        if not kind.endswith("_") or _place(changed) not in self.moving:
            raise RuntimeError("what was worked out beforehand is changed")
        return getattr(getattr(_ATEN, kind[:-1]), overload)

    def _written(self, func: Any, args: Any, kwargs: Any, out: Any) -> list[Node]:
        node = self.graph.call_function(func, args, kwargs)
        if isinstance(out, Tensor):
            return [node]
        return [self.graph.call_function(operator.getitem, (node, k)) for k in range(len(tree_leaves(out)))]

    def _told(self, each: Any) -> Any:
        return self._node(each) if isinstance(each, Tensor) else each

    def _node(self, tensor: Tensor) -> Node:
        if _place(tensor) not in self.nodes:  # what the function had beforehand, or need not work out again
            name = f"held{len(self.alive)}"
            setattr(self.root, name, tensor.detach())
            self._name(tensor, self.graph.get_attr(name), moving=False)
        return self.nodes[_place(tensor)]

    def _name(self, tensor: Tensor, node: Node, moving: bool) -> None:
        self.nodes[_place(tensor)] = node
        self.alive.append(tensor)
        if moving:
            self.moving.add(_place(tensor))


def _place(tensor: Tensor) -> Any:
    """Return what tells a tensor from others that are alive, but not from itself by another name."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def captured(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Return `function` as `traced` does, and on an accelerator as one launch, whose results the next one overwrites.

    A graph that waits for the host cannot be captured, and is launched operation by operation.
    """
    run = traced(function, example)
    place = example[0].device
    if place.type != "cuda":
        return run
    held = [each.clone() for each in example]
    # streams are those of a device, also the one that torch would capture all graphs in; what fails in a capture would
    # leave its stream the current one
    with torch.cuda.device(place), torch.cuda.stream(torch.cuda.current_stream()):
        stream = torch.cuda.Stream()
        if not _goes_through(run, held, stream):
            return run
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                found = run(*held)
        except RuntimeError:  # what torch does not call a wait
            return run
    return _Captured(graph, held, found, run)


def _goes_through(run: Function, held: list[Tensor], stream: torch.cuda.Stream) -> bool:
    """Say whether a run never waits for the host: on the stream of the capture, where libraries set themselves up.

    It is asked beforehand, for torch does not free what a capture that failed had taken.
    """
    before = torch.cuda.get_sync_debug_mode()
    stream.wait_stream(torch.cuda.current_stream())
    with warnings.catch_warnings():  # that not all waits are noticed
        warnings.simplefilter("ignore", UserWarning)
        try:
            torch.cuda.set_sync_debug_mode("error")
            with torch.cuda.stream(stream), _WithoutSolvers():
                run(*held)
        except RuntimeError:
            return False
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.current_stream().wait_stream(stream)
    return True


class _WithoutSolvers(TorchDispatchMode):
    """Refuse what CUDA's solvers work out: they cannot be captured, and wait without a word."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # see `_Recorder`

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch: every operation comes here."""
        name = func._schema.name.split("::")[1].lstrip("_")
        if name.startswith(("linalg", "cholesky")) and name not in _PRODUCTS:
            raise RuntimeError(f"{name} is worked out by a solver")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True, eq=False)
class _Captured:
    """A captured graph: where it reads its arguments and leaves its results.

    `run` is what was captured. It has the tensors that were worked out once, and the graph knows where they are in
    memory, no more: without it others would be there.
    """

    graph: torch.cuda.CUDAGraph
    held: list[Tensor]
    found: tuple[Tensor, ...]
    run: Function

    def __call__(self, *values: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(self.held, list(values))
        self.graph.replay()
        return self.found


def _agree(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= _SAME * b.abs().max())
