"""Whether what a program calls probabilities are probabilities: asked once, before anything is fitted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prefdensity.errors import PrefDensityError, ProgramError
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Layer, Program, watched
from prefdensity.programs.running import Substitute, environment, run
from prefdensity.programs.stages import SIZES, called
from prefdensity.programs.tables import plain

# Cells and prior draws that are looked at; how far the probabilities of all outcomes may be from adding up to one.
_CELLS, _DRAWS, _OFF = 100, 4, 1e-6
_MIXED = (
    "gives other values for many draws at once than for each alone: draws are an axis on the left of what a layer "
    "sees. Read sites as table[..., data.annotator, data.item_a], weigh features as weight @ data.features.T or by "
    "data.feature_contrast(weight), write ... in einsum, and count other axes from the right and keep them, as in "
    "sum(-2, keepdim=True)"
)


def sample_of(cells: Cells) -> Cells:
    """Return some hundred cells spread over all; of choices from sets all, for sets must stay whole."""
    if cells.choice is not None:
        return cells
    return cells.take(torch.arange(0, len(cells), max(1, len(cells) // _CELLS), device=cells.total.device))


def require_probabilities(program: Program, cells: Cells) -> None:
    """Run a program on a few cells under draws of its prior, and look at what each layer returns.

    Raises
    ------
    ProgramError
        Naming the layer that first fails, or returns nothing, what has another shape or is no number, or probabilities
        that do not add up to one; or whose values for many draws at once are not those for each alone.
    """
    together: dict[str, Tensor] = {}  # a run may start again

    def look(layer: Layer, found: Any) -> None:
        if layer.stage == "rating":
            return
        if not isinstance(found, Tensor):
            raise ProgramError(f"{layer.label} returns {type(found).__name__}; a layer here is {called(layer.stage)}")
        if layer.label in together:
            together.clear()
        together[layer.label] = plain(found)
        _require_shape(layer, found, cells)
        if layer.stage in ("choice", "noise"):
            _require_log_probabilities(layer.label, found, cells)
        elif not torch.isfinite(found).all():
            raise ProgramError(f"{layer.label} returns values that are not finite under draws of its own prior")

    with torch.no_grad(), watched(look):
        try:
            seen = run(program, cells, {}, _DRAWS, seed=0)
        except PrefDensityError:
            raise
        except Exception as error:  # a layer may raise anything; whose it is is to be said as well
            alone = _alone_or_none(program, cells)
            if alone is None or not isinstance(error, RuntimeError | IndexError):
                raise ProgramError(program.fault(error)) from error
            label = next((label for label in alone if label not in together), program.name)
            raise ProgramError(f"{label} {_MIXED} ({error})") from error
    for label, end in _end(program, seen).items():  # other ends are refused elsewhere
        _require_log_probabilities(label, end, cells)
        together[label] = end
    for label, one in _alone(program, cells, seen.last()).items():
        many = together[label]
        last = many if many.shape == one.shape else many[-1]  # what hangs on no site is the same for all draws
        if last.squeeze().shape != one.squeeze().shape or not torch.allclose(
            last.squeeze(), one.squeeze(), 1e-6, 1e-8, equal_nan=True
        ):
            raise ProgramError(f"{label} {_MIXED}")


def _alone(program: Program, cells: Cells, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what each layer returns in a run for one set of values, without a plate of fits."""
    found: dict[str, Tensor] = {}

    def look(layer: Layer, returned: Any) -> None:
        if isinstance(returned, Tensor):
            found[layer.label] = returned

    with environment(cells.total.dtype, 0, cells.total.device), torch.no_grad(), watched(look):
        with Substitute(values) as seen:
            program(cells)
    return found | _end(program, seen)


def _alone_or_none(program: Program, cells: Cells) -> dict[str, Tensor] | None:
    """Return what `_alone` does; None where the program cannot be run for one set of values either."""
    try:
        return _alone(program, cells, {})
    except Exception:  # what is wrong is told of the first run
        return None


def _require_shape(layer: Layer, found: Tensor, cells: Cells) -> None:
    """Refuse what a layer returns if its last axis is as long as no table of these data is."""
    if layer.stage == "scale":
        what, size = "number", 1
    elif layer.stage == "margin":
        what, size = "comparison", cells.n_margins
    elif layer.stage in ("utility", "behaviour"):
        what, size = "item", cells.n_items
    else:
        return
    last = found.shape[-1] if found.dim() else 1
    if last not in (1, size):
        raise ProgramError(
            f"{layer.label} returns {last} entries for {size} {what}{'s' * (size > 1)}; a layer here is "
            f"{called(layer.stage)}{SIZES}"
        )


def _end(program: Program, seen: Substitute) -> dict[str, Tensor]:
    """Return the log probabilities of outcomes that a run ends with, beside the program's name."""
    table = getattr(seen.met.get("outcome", {}).get("fn"), "outcome_log_prob", None)
    return {} if table is None else {program.name: table}


def _require_log_probabilities(name: str, log_prob: Tensor, cells: Cells) -> None:
    if log_prob.shape[-1] != len(cells.outcomes):
        raise ProgramError(f"{name} returns {log_prob.shape[-1]} outcomes; the program has {', '.join(cells.outcomes)}")
    if torch.isnan(log_prob).any():
        raise ProgramError(f"{name} returns log probabilities that are not numbers under draws of its own prior")
    choice: Tensor | None = getattr(cells, "choice", None)  # judged units have none
    if choice is None:
        total = log_prob.double().exp().sum(-1)
    else:
        first = log_prob[..., 0].double().exp()
        sets = first.new_zeros(*first.shape[:-1], int(choice[-1]) + 1)
        total = sets.scatter_add(-1, choice.expand(first.shape), first)
    worst = total.flatten()[(total - 1).abs().argmax()]
    if not (worst - 1).abs() < _OFF:
        raise ProgramError(
            f"{name} returns probabilities that add up to {float(worst):.3g}, not to 1, in some comparison; "
            f"a layer that changes them must keep their sum"
        )
