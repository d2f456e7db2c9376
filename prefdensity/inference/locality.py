"""Whether a curvature that is put together from what each comparison feels is that of the program: it is checked."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from torch import Tensor

from prefdensity.inference.precision import Precision
from prefdensity.inference.view import View
from prefdensity.programs.apart import UNTOLD
from prefdensity.programs.running import Substitute, environment


class Curvature(Protocol):
    """Value, gradient [dimension] and minus the Hessian of a view's log joint density."""

    def __init__(self, view: View) -> None: ...
    def __call__(self, z: Tensor) -> tuple[float, Tensor, Precision]:
        """Return the three at z [dimension]."""


Found = TypeVar("Found", bound=Curvature)


def confirmed(view: View, kind: type[Found], z: Tensor, otherwise: str) -> Found | None:
    """Return the curvature of a kind that a view has, checked at z [dimension]; None where it has none of this kind.

    That is worked out once for a view. Why it has none is kept in its memo as `spread`: what was raised, or `otherwise`
    where it is not the program's.

    Raises
    ------
    RuntimeError
        Of torch, about a device or its memory: then a program would be taken for one without curvature. What else torch
        refuses is a layer that cannot be looked at apart, or has no such derivative.
    """
    name = kind.__name__
    if name not in view.memo:
        view.memo[name], view.memo["spread"] = None, otherwise
        try:
            few = view.probe
            apart = None if few is view else kind(few)
            found = kind(view)
            if agrees(apart or found, few, z.to(few.device)):
                view.memo[name], view.memo["spread"] = found, ""
        except UNTOLD as error:
            if isinstance(error, RuntimeError) and _is_of_device(error):
                raise
            view.memo["spread"] = _sentence(error)
    told: Found | None = view.memo[name]
    return told


def _is_of_device(error: RuntimeError) -> bool:
    """Say whether an error is about where tensors are, or that there is no room: no layer is at fault then."""
    return any(word in str(error) for word in ("device", "CUDA", "cuda", "memory"))


def _sentence(error: Exception) -> str:
    """Return the first sentence of an error: those of torch have many."""
    if not isinstance(error, RuntimeError):
        return str(error)
    return "a layer that is shown one comparison alone fails: " + str(error).split("\n")[0].split(". ")[0].rstrip(".")


def agrees(curvature: Curvature, view: View, z: Tensor) -> bool:
    """Check a curvature against an automatic Hessian-vector product at z [dimension]."""
    direction = torch.linspace(-1.0, 1.0, len(z), dtype=z.dtype, device=z.device).sin()
    z = z + 0.3 * direction  # away from symmetric points, where a network looks linear
    _, _, precision = curvature(z)
    free = z.detach()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(view.log_joint(free).sum(), free, create_graph=True)
    (product,) = torch.autograd.grad((gradient[0] * direction).sum(), free)
    scale = product.abs().max().clamp_min(1e-12)
    return bool((precision.times(direction[None]) + product).abs().max() < 1e-8 * scale)


def sites_of(view: View, stage: str) -> list[str]:
    """Return the sites sampled by the layer of a stage that starts from the data: those met when it runs alone."""
    layer = next((each for each in view.program.layers if each.stage == stage), None)
    if layer is None:
        return []
    with environment(view.dtype, 0, view.device):
        known = {"scale": torch.ones(())} if layer.takes("scale") else {}
        with Substitute({}) as seen:
            layer(view.cells, **known)
    return [name for name in seen.met if name in view.sites]
