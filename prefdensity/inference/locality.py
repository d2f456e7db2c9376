"""Whether a curvature that is put together from what each comparison feels is that of the program: it is checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prefdensity.errors import ProgramError
from prefdensity.inference.precision import Precision
from prefdensity.inference.view import View
from prefdensity.programs.running import Substitute, environment

# Cells on which locality is checked: it is a property of the program, not of the data.
PROBE = 2000
# What a layer may raise in a world where it finds two items and nobody else.
UNTOLD = (ProgramError, RuntimeError, IndexError, ValueError, TypeError, AttributeError, KeyError, AssertionError)


def sample(view: View, most: int) -> View:
    """Return a view of so many cells at most, spread over all; the view itself where it has no more."""
    step = -(-len(view.cells) // most)
    if step < 2 or not view.cells.pairwise:
        return view
    return View(view.program, view.cells.take(torch.arange(0, len(view.cells), step, device=view.device)))


def agrees(curvature: Callable[[Tensor], tuple[float, Tensor, Precision]], view: View, z: Tensor) -> bool:
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
