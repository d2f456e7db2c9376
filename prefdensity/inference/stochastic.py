"""Variational inference by stochastic steps, from a view to an `Answer`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prefdensity.errors import FitError
from prefdensity.inference import parallel, svi
from prefdensity.inference.answer import Answer, Settings, answered
from prefdensity.inference.basins import sentences, shares
from prefdensity.inference.batches import Batches
from prefdensity.inference.checkpoint import Checkpoint
from prefdensity.inference.climber import Climber
from prefdensity.inference.guide import Blend, Guide
from prefdensity.inference.laplace import MOST, NEAR, NEGLIGIBLE, highest, weighed
from prefdensity.inference.precision import gaussian_of
from prefdensity.inference.quality import Checked, check_guide
from prefdensity.inference.starts import distinct
from prefdensity.inference.streamed import Streamed
from prefdensity.inference.view import View
from prefdensity.progress import Report

KEEPS_A_CHECKPOINT = ("svi",)  # methods that take these steps, and keep where they are
# A full covariance has dimension^2 / 2 parameters; beyond this their noise costs more than they buy.
_FULL = 300
_TRACE = 2000  # numbers of a trace that are kept
_START = 8  # batches that a fit in batches starts from
_EACH = 10  # comparisons for each coordinate that tell a covariance


def by_svi(view: View, settings: Settings, report: Report) -> Answer:
    """Variational inference from the Laplace approximation of every distinct mode, all restarts side by side.

    Several processes that the caller has joined share the steps; see `parallel`. In batches of comparisons it starts
    from a mode given some of them, and coordinates are independent, or if they are few as dependent as there.
    """
    parallel.require_same(settings.key)
    # what generators of one device say, those of another cannot go on with
    checkpoint = Checkpoint(settings.checkpoint, settings.key | {"device": view.device.type})
    saved = parallel.from_first(checkpoint.load())
    batches = Batches(view, settings.batch, settings.seed, settings.place) if settings.batch else None
    kind = settings.guide or _kind(view, batches, settings)
    if saved is not None:
        base, frame = checkpoint.frame(saved, view.cells.total)
    elif batches is not None:
        base, frame = _frames_of_some(batches, settings, report)
    else:
        base, frame = (each.to(view.device) for each in parallel.from_first(_frames(view, settings, kind, report)))
    guide = Guide.start(base, frame, "mean_field" if frame.dim() == 2 else kind)
    run = svi.Run(batches or _whole(view, settings), guide, settings.seed)
    if saved is not None:
        run.resume(saved)
    if batches is not None:
        batches.turn = run.step

    def after_window(run: svi.Run) -> None:
        checkpoint.keep(run, guide)
        report(f"svi, ELBO {np.mean(run.trace[-svi.WINDOW :]):.1f}", run.step, settings.max_steps)
        if told:
            raise parallel.Ended(told[0])

    with parallel.told_to_end() as told:
        try:
            fitted = svi.optimise(run, settings.max_steps, after_window)
            message = "averaged guides stopped moving" if run.settled else f"stopped at the limit of {run.step} steps"
            checkpoint.remove()
        except KeyboardInterrupt:
            checkpoint.write()
            fitted = run.fitted()
            message = f"interrupted after {run.step} steps; these are the averaged parameters so far"
        except parallel.Ended as error:
            checkpoint.write()
            kept = f"{checkpoint.path} keeps it" if checkpoint.path else "it was not kept, for want of a checkpoint"
            what = f"a process of the fit ended at step {run.step} ({error})"
            raise FitError(f"{what}; {kept}; start it again") from error
    best, points, elbos = _blended(view, fitted, settings)
    facts = {
        "method": "svi", "converged": run.settled, "message": message, "steps": run.step, "guide": kind,
        "restart_values": elbos, "elbo_trace": _thinned(run.trace), "modes": elbos,
    }  # fmt: skip
    point = best.z.mean(0) if len(points) == 1 else points[0]  # between two modes there is nothing
    return answered(view, best, point, facts, sentences(view, points, shares(elbos)))


def _kind(view: View, batches: Batches | None, settings: Settings) -> str:
    if batches is not None:
        return "scaled" if _told(batches, settings) else "mean_field"
    return "full" if view.dimension <= _FULL else "scaled"


def _whole(view: View, settings: Settings) -> View:
    """Return the density of which every step reads the whole table, in processes or parts as it was asked for."""
    return parallel.shared(view) if settings.parts == 1 else Streamed(view, settings.place, settings.parts)


def _frames(view: View, settings: Settings, kind: str, report: Report) -> tuple[Tensor, Tensor]:
    """Return base [restart, dimension] and frame of each mode's Laplace approximation, the heaviest first."""
    asked = (view, settings.restarts, settings.seed, report)
    if not Climber(view).has_curvature:
        bases = [mode.z for mode in distinct(highest(*asked), MOST)]
        return torch.stack(bases), torch.stack([curvature_scale(view, z) for z in bases])
    mains = [each.main for each in weighed(*asked)[0]]
    base = torch.stack([base for base, _ in mains])
    if kind == "mean_field" and mains[0][1].dim() == 2:
        return base, torch.stack([torch.linalg.inv(f @ f.T).diagonal().rsqrt() for _, f in mains])
    return base, torch.stack([frame for _, frame in mains])


def _frames_of_some(batches: Batches, settings: Settings, report: Report) -> tuple[Tensor, Tensor]:
    """Return bases, the modes given some of the comparisons, and frames there as if these were all.

    Standard deviations, unless the comparisons tell a covariance.
    """
    some, whole = batches.sample(_START * batches.size)
    asked = (some, settings.restarts, settings.seed, report)
    if some.program.mirrors and Climber(some).has_curvature:  # of a mode and its mirror image, that of more evidence
        bases = [each.mode.z for each in weighed(*asked)[0]]
    else:
        bases = [mode.z for mode in distinct(highest(*asked), MOST)]
    if _told(batches, settings):
        frames = [gaussian_of(Climber(whole).curvature(z)[2]).frame() for z in bases]
    else:
        frames = [curvature_scale(whole, z) for z in bases]
    return torch.stack(bases), torch.stack(frames)


def _told(batches: Batches, settings: Settings) -> bool:
    """Whether the comparisons that a fit in batches starts from tell a covariance, if coordinates are few."""
    some = min(_START * batches.size, len(batches.cells))
    return settings.guide is None and batches.dimension <= min(_FULL, some / _EACH)


def curvature_scale(view: View, z: Tensor, probes: int = 32) -> Tensor:
    """Return 1 / sqrt of the diagonal of minus the Hessian [dimension] at z, estimated from random probes."""
    free = z.detach()[None].requires_grad_()
    (gradient,) = torch.autograd.grad(view.log_joint(free).sum(), free, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    diagonal = torch.zeros_like(z)
    for _ in range(probes):
        sign = torch.randint(0, 2, z.shape, generator=generator).to(z) * 2 - 1
        (product,) = torch.autograd.grad((gradient[0] * sign).sum(), free, retain_graph=True)
        diagonal -= sign * product[0] / probes
    return diagonal.clamp_min(1.0 / 16).rsqrt()


def _blended(view: View, fitted: Guide, settings: Settings) -> tuple[Checked, list[Tensor], tuple[float, ...]]:
    """Return the guides of all modes as one, each by its evidence bound; their middles, and bounds, best first."""
    generator = torch.Generator().manual_seed(settings.seed)
    guides = [fitted.pick(r) for r in range(len(fitted.base))]
    checked = [check_guide(view, guide, settings.draws, generator) for guide in guides]
    kept: list[int] = []
    for r in sorted(range(len(guides)), key=lambda r: -checked[r].elbo):
        apart = all(float((guides[r].middle - guides[k].middle).abs().max()) > NEAR for k in kept)
        if apart and checked[r].elbo > checked[kept[0] if kept else r].elbo - NEGLIGIBLE:
            kept.append(r)
    elbos = tuple(checked[r].elbo for r in kept)
    points = [guides[r].middle for r in kept]
    if len(kept) == 1:
        return checked[kept[0]], points, elbos
    blend = Blend(tuple(guides[r] for r in kept), torch.tensor(shares(elbos)).to(fitted.base))
    return check_guide(view, blend, settings.draws, generator), points, elbos


def _thinned(trace: list[float]) -> tuple[float, ...]:
    return tuple(trace[:: max(1, -(-len(trace) // _TRACE))])
