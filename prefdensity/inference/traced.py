"""A function of tensors as the graph of its operations: the same numbers, without running its Python again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

_SAME = 1e-4  # of the largest entry: an accelerator sums in an order of its own


def traced(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Return `function` as a graph for arguments shaped like `example`, or itself where no graph can hold it.

    A graph holds tensor operations only (gradients among them), with everything else as it was for `example`. So a
    function that looks at values, as in ``if x > 0``, is returned as it is, and so is one whose graph gives other
    numbers.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # its first use takes most of a second

    expected = function(*example)
    try:
        graph = make_fx(function)(*example)
    except Exception:  # whatever stands in the way, `function` does without a graph
        return function
    for node in list(graph.graph.nodes):
        if node.target is torch.ops.aten.detach.default:  # nothing here records gradients
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    run = torch.no_grad()(graph)
    same = all(_agree(a, b) for a, b in zip(run(*example), expected, strict=True))
    return run if same else function


def captured(function: Function, example: tuple[Tensor, ...]) -> Function:
    """Return `function` as `traced` does, and on an accelerator as one launch, whose results the next one overwrites.

    A graph that CUDA cannot capture is launched operation by operation.
    """
    run = traced(function, example)
    if example[0].device.type != "cuda":
        return run
    held = [each.clone() for each in example]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries set themselves up in a run that is not captured
        run(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            found = run(*held)
    except RuntimeError:  # it waits for the host somewhere
        return run

    def replay(*values: Tensor) -> tuple[Tensor, ...]:
        torch._foreach_copy_(held, list(values))
        graph.replay()
        return found

    return replay


def _agree(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= _SAME * b.abs().max())
