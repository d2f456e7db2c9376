"""Fitting programs of judged units by the package's own inference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from prefdensity.errors import FitError
from prefdensity.inference.answer import Answer, Settings
from prefdensity.inference.curvature import dense_hessian
from prefdensity.inference.devices import device_for, require_device, within_memory
from prefdensity.inference.methods import infer
from prefdensity.inference.precision import factor
from prefdensity.inference.reported import sites_at
from prefdensity.inference.view import View
from prefdensity.judged.expectations import JudgeFit, judged_program
from prefdensity.judged.scale import Scale
from prefdensity.judged.units import COMPARED, LABELLED, Judged
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.status import FitStatus
from prefdensity.programs.checks import require_probabilities
from prefdensity.programs.layers import Layer, Program
from prefdensity.progress import progress as show_progress
from prefdensity.version import __version__

if TYPE_CHECKING:
    from prefdensity.programs.cells import Cells
    from prefdensity.programs.judged_cells import JudgedCells

Array = NDArray[Any]

METHODS = ("auto", "laplace", "svi", "nuts", "map")
# A judge has a handful of parameters: more units than these add little to what is known of them, and cost time.
MOST_LABELLED, MOST_HIDDEN = 5000, 1000
_STEPS, _SETTLED = 30, 1e-3  # of a refit; twice the nats left to climb before its last step


@within_memory()
def fit_judge(
    program: str | Path | Program | Layer, judged: Judged, *, method: str = "auto", draws: int = 500, seed: int = 0,
    labelled: int = MOST_LABELLED, hidden: int = MOST_HIDDEN, scale: Scale | None = None, max_steps: int = 10_000,
    device: str = "auto", progress: bool | None = None,
) -> JudgeFit:  # fmt: skip
    """Fit a program of judged units to all that was seen.

    Units with a label count by p(label, verdicts), units with verdicts only by the same integrated over the label;
    units with neither say nothing about the parameters.

    Parameters
    ----------
    program
        A composition such as "gaussian+distance+lapse"; see `prefdensity.judge_names` and the choice rules,
        position biases, lapses and annotator layers of comparisons.
    judged
        The table.
    method
        laplace, svi, nuts or map; "auto": laplace, then svi where Pareto k-hat says that laplace cannot hold it.
    draws, seed
        Posterior draws to keep; of everything random, the choice of units included.
    labelled, hidden
        Units at most to use, with a label and with verdicts only; a random choice of more. The parameters are few,
        and an estimator that weights by known propensities is consistent whatever they are.
    scale
        Units of measurement, of another fit; None: learned from the labels.
    max_steps, device, progress
        Of svi; "cpu", "cuda", or "auto": cuda if there is one and units have many points; a progress bar (None: on a
        terminal).

    Returns
    -------
    JudgeFit

    Raises
    ------
    ProgramError
        If the program is not one of judged units, does not suit the labels, or has sites at modes.
    DataError
        If too few labels are seen, or a tie meets a program without ties.
    FitError
        For an unknown method or device.
    """
    require_device(device)
    started = time.monotonic()
    program = judged_program(program)
    if method not in METHODS:
        raise FitError(f"there is no method {method!r}; methods are {', '.join(METHODS)}")
    scale = scale or Scale.of(judged)
    scale.require(program, judged)
    used = _chosen(judged, labelled, hidden, seed)
    few = used.take(slice(0, len(used), max(1, len(used) // 50)))
    require_probabilities(program, cast("Cells", scale.cells(program, few)))
    units = scale.cells(program, used)
    view = _view(program, units.to(place := device_for(device, len(units))))
    settings = Settings(draws, 1, seed, None, max_steps, 4, 500, None, {}, place)
    with show_progress(progress) as report:
        answer = infer(method, view, None, settings, report)
    gain = {"sd_ratio": _sd_ratio(view, scale, used, answer.point)} if method != "map" else {}
    return _fitted(view, scale, used, answer, (seed, place, time.monotonic() - started), gain)


def refit(
    fit: JudgeFit, judged: Judged, *, seed: int = 0, labelled: int = MOST_LABELLED, hidden: int = MOST_HIDDEN
) -> JudgeFit:
    """Return the fit moved to other units of the same kind (the rest of a fold): their mode, with the spread of `fit`.

    Quasi-Newton steps (BFGS) from the mode and covariance of `fit`, whose units the new ones may share or not. Scale
    and nodes stay those of `fit`.

    Raises
    ------
    FitError
        If the steps do not settle: the units differ too much from those of `fit`; fit them anew.
    """
    started = time.monotonic()
    used = _chosen(judged, labelled, hidden, seed)
    place = fit.posterior.device
    view = _view(fit.program, fit.scale.cells(fit.program, used).to(place))
    z = _vectors(view, fit.posterior.draws)
    centred = z - z.mean(0)
    spread = centred.T @ centred / len(z)
    mode, start = z.mean(0), z.mean(0)
    value, gradient = _slope(view, mode)
    for step in range(1, _STEPS + 1):
        move = spread @ gradient
        gain = float(gradient @ move)
        if gain < _SETTLED:
            facts = {"method": "laplace", "converged": True, "message": "a fit moved to other units", "steps": step}
            answer = Answer(z - start + mode + move, mode + move, facts)
            return _fitted(view, fit.scale, used, answer, (seed, place, time.monotonic() - started))
        there = _slope(view, mode + move)
        while there[0] < value + 0.1 * gain and gain > 1e-9:
            move, gain = move / 2, gain / 2
            there = _slope(view, mode + move)
        spread = _secant(spread, move, gradient - there[1])
        mode, (value, gradient) = mode + move, there
    raise FitError(f"{fit.program.name} moved to {len(used)} other units does not settle; fit them anew")


def _secant(inverse: torch.Tensor, move: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
    """Return the BFGS update of an inverse curvature after a move that dropped the gradient by `drop`."""
    bend = drop @ move
    if bend <= 0:
        return inverse
    rest = torch.eye(len(move), device=move.device).to(move) - torch.outer(move, drop) / bend
    return rest @ inverse @ rest.T + torch.outer(move, move) / bend


def _slope(view: View, z: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Return the log joint density at z [dimension], and its gradient."""
    free = z[None].detach().requires_grad_()
    value = view.log_joint(free).sum()
    (gradient,) = torch.autograd.grad(value, free)
    return float(value.detach()), gradient[0]


def _view(program: Program, units: JudgedCells) -> View:
    # what a view asks of its cells, units have as well: total, outcomes, head, pairwise, single precision, a length
    return View(program, cast("Cells", units))


def _chosen(units: Judged, labelled: int, hidden: int, seed: int) -> Judged:
    """Return the units that the likelihood uses, in their order."""
    rng = np.random.default_rng(seed)
    parts = []
    for rows, most in (
        (np.flatnonzero(units.pattern == LABELLED), labelled),
        (np.flatnonzero(units.pattern == COMPARED), hidden),
    ):
        parts.append(rows if len(rows) <= most else rng.choice(rows, most, replace=False))
    return units.take(np.sort(np.concatenate(parts)))


def _vectors(view: View, draws: Mapping[str, Array]) -> torch.Tensor:
    """Return the vectors [draw, dimension] of a view at draws of its sites."""
    parts = []
    for name, site in view.sites.items():
        values = torch.tensor(draws[name], dtype=view.dtype, device=view.device)
        parts.append(site.transform.inv(values).reshape(len(values), -1))
    return torch.cat(parts, -1)


def _sd_ratio(view: View, scale: Scale, used: Judged, point: torch.Tensor) -> dict[str, list[float]]:
    """Return by site how many times larger posterior sds would be without the units that have verdicts only.

    From the curvature at the same point; 1 where there are no such units.
    """
    seen = used.labelled
    if seen.all():
        return {name: [1.0] * (site.at.stop - site.at.start) for name, site in view.sites.items()}
    labelled = _view(view.program, scale.cells(view.program, used.take(seen)).to(view.device))
    variance = []
    for each in (labelled, view):
        hessian = dense_hessian(each.log_joint, point[None], each.work)[1][0]
        variance.append((factor(-hessian) ** 2).sum(1))
    ratio = (variance[0] / variance[1]).sqrt()
    return {name: ratio[site.at].tolist() for name, site in view.sites.items()}


def _fitted(
    view: View,
    scale: Scale,
    used: Judged,
    answer: Answer,
    made: tuple[int, str, float],
    facts: dict[str, Any] | None = None,
) -> JudgeFit:
    """Return what `answer` found as a fit, with what produced it: `made` from a seed, where, in so many seconds."""
    seed, place, seconds = made
    draws, dims = sites_at(view, answer.z)
    point, _ = sites_at(view, answer.point[None])
    labels = int(used.labelled.sum())
    status = FitStatus(
        seed=seed,
        seconds=seconds,
        device=place,
        log_likelihood=float(view.log_parts(answer.point[None])[1].detach()),
        settings={"scale": scale.as_dict(), "labelled": labels, "hidden": len(used) - labels} | (facts or {}),
        warnings=answer.warnings,
        versions={"prefdensity": __version__} | {name: version(name) for name in ("torch", "pyro-ppl")},
        **answer.facts,
    )
    posterior = Posterior(
        program_name=view.program.name,
        items=(),
        annotators=scale.judges,
        outcomes=view.program.outcomes,
        draws=draws,
        dims=dims,
        event_dims={name: len(site.event) for name, site in view.sites.items()},
        point={name: value[0] for name, value in point.items()},
        log_p=answer.log_p,
        log_q=answer.log_q,
        status=status,
        meanings=view.program.meanings,
        feature_names=scale.varying(used),
        n_comparisons=float(len(used.verdict)),
        fitted=view.program,
    )
    return JudgeFit(posterior, scale)
