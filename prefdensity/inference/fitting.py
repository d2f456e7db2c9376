"""`fit`: one door to all inference methods."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.existence import existence_warnings
from prefdensity.errors import FitError
from prefdensity.inference import devices
from prefdensity.inference.answer import Answer, Settings
from prefdensity.inference.checkpoint import require_place
from prefdensity.inference.guide import KINDS
from prefdensity.inference.methods import METHODS, infer
from prefdensity.inference.mode import sites_at_modes
from prefdensity.inference.reported import kept, reported
from prefdensity.inference.stochastic import KEEPS_A_CHECKPOINT
from prefdensity.inference.streamed import parts_for
from prefdensity.inference.tails import prior_tails
from prefdensity.inference.view import View
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.sites import taken
from prefdensity.posterior.status import FitStatus
from prefdensity.programs.checks import require_probabilities, sample_of
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.loading import load_program
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of, known_of, measures
from prefdensity.progress import progress as show_progress
from prefdensity.version import __version__

_RECORDED = ("torch", "pyro-ppl", "numpy")
_MEMBERS = 8  # of an ensemble; of so many nine in ten 90 % intervals cover, of four less than eight
_LARGE = 1_000_000  # cell evaluations of one density
_LEAST = {"draws": 100, "seed": 0, "warmup": 0}  # that a setting may be, where it is not 1
_STEPS = ("restarts", "guide", "max_steps", "batch")  # what is kept where rows are fitted again


@torch.inference_mode(False)
@torch.enable_grad()  # also for a caller who has switched gradients off
@devices.within_memory()
def fit(
    program: str | Path | Program | Layer, data: Comparisons | Choices, *,
    method: str = "auto", draws: int = 1000, seed: int = 0, device: str = "auto", restarts: int | None = None,
    guide: str | None = None, max_steps: int = 10_000, batch: int | None = None, chains: int = 4, warmup: int = 500,
    threads: int = 1, progress: bool | None = None, checkpoint: str | Path | None = None,
) -> Posterior:  # fmt: skip
    """Fit a program to a table of comparisons, or of choices from sets (rankings, best-worst answers).

    Parameters
    ----------
    program
        A name ("davidson"), a composition ("davidson+position_bias"), a path ending in .py, or a `Program`.
    data
        The comparisons, or choices from sets.
    method
        "laplace": Gaussian at the mode, hyperparameters integrated on a grid, importance-corrected; "ep": Gaussians
        with the moments of the posterior, where comparisons feel little but margins; "variational": the Gaussian
        of the highest evidence bound, for programs with curvature by comparison; "svi": a Gaussian guide by
        stochastic steps; "nuts": Markov chains; "map": posterior mode; "mle": maximum likelihood, refused where none
        exists; "auto": laplace, or ep where judgements are few, and where that cannot hold the posterior many short
        NUTS chains for a small program, otherwise variational, a few chains or svi ("Methods" tells the sizes).
    draws, seed
        Draws to keep (per chain for "nuts"); the same seed on the same machine gives the same result.
    device
        "cpu", "cuda", or "auto": cuda if there is one and the table is large. A table that does not fit on the GPU
        stays in host memory, where its mode is found, and svi passes it through the GPU part by part.
    restarts
        Starts of the search for a mode (members of an ensemble, for a network); None: 8 with annotator types (3 for a
        large table) and for a network, 4 for other programs that may have several modes, 1 otherwise.
    guide, max_steps, batch, chains, warmup
        Of svi: "full", "scaled" (the Laplace covariance, rescaled), "mean_field" or None, by dimension; its steps; and
        how many distinct comparisons each reads (None: all), where features are too many to be read at every step: then
        coordinates are independent. Of nuts: chains, and how many steps of each are dropped.
    threads, progress, checkpoint
        CPU threads to use; a progress bar on stderr (None: if it is a terminal); file in which svi, or ensembles, keep
        their state, to be resumed with the same result and removed when complete (refused for methods that keep none).

    Returns
    -------
    Posterior. After Ctrl-C during svi or nuts, what there is so far, flagged in its status.

    Raises
    ------
    ProgramError, FitError
        If the program does not exist or does not suit the data; if no estimate exists, with the reason.
    """
    started, program = time.monotonic(), load_program(program)
    steps = {"restarts": restarts, "max_steps": max_steps, "batch": batch, "chains": chains, "warmup": warmup}
    seed = _require_settings(method, guide, device, checkpoint, draws=draws, seed=seed, threads=threads, **steps)
    warnings, pairs, view = suit(program, data), data.pairs(), viewed(program, data)
    _require_kept(checkpoint, method, view)
    view, place, parts = _placed(view, device, method)
    if "utility" in view.sites:  # items that features place need not meet
        warnings += existence_warnings(pairs)
    key = _key(program, data, seed=seed, guide=guide, restarts=restarts, batch=batch)
    starts = restarts or _restarts(view, method)
    settings = Settings(draws, starts, seed, guide, max_steps, chains, warmup, checkpoint, key, place, parts, batch)
    with _threads(threads), show_progress(progress) as report:
        answer = infer(method if parts == 1 else "svi", view, pairs, settings, report)
    return _posterior(view, data, answer, _status(method, view, answer, settings, warnings, started), key["data"])


def _placed(view: View, device: str, method: str) -> tuple[View, str, int]:
    """Return a program with its data on a device, which one, and the number of parts in which they go there."""
    place = devices.device_for(device, len(view.cells))
    parts = parts_for(view, devices.room(place))
    if parts > 1 and method not in ("auto", "svi"):
        raise FitError(
            f"the table does not fit on {place}; method='svi' passes it through in parts, device='cpu' holds it"
        )
    if parts > 1 or place == "cpu":
        return view, place, parts
    return View(view.program, view.cells.to(place)), place, parts


def viewed(program: Program, data: Comparisons | Choices) -> View:
    """Return a program with its data, once what it calls probabilities has been looked at."""
    cells = cells_of(data, program.outcomes, program.needs)
    require_probabilities(program, sample_of(cells))
    return View(program, cells)


def _status(
    method: str, view: View, answer: Answer, settings: Settings, warnings: list[str], started: float
) -> FitStatus:
    """Return how a fit went that was `started` then, and what is to be known of it."""
    left = answer.members[0].view if answer.members else view
    tails = prior_tails(view, answer) if method != "mle" else ()
    asked: dict[str, Any] = {
        "method": method,
        "draws": settings.draws,
        "restarts": settings.restarts,
        "guide": settings.guide,
    }
    asked |= {"max_steps": settings.max_steps}
    if settings.batch is not None:
        asked |= {"batch": settings.batch}
    if method == "nuts":
        asked |= {"chains": settings.chains, "warmup": settings.warmup}
    return FitStatus(
        seed=settings.seed,
        seconds=time.monotonic() - started,
        log_likelihood=float(left.log_parts(answer.point[None])[1].detach()),
        device=settings.place,
        parts=settings.parts,
        safe_share=None if answer.members else answer.share_safe(len(answer.z)),
        settings=asked,
        warnings=(*warnings, *tails, *answer.warnings, *_unkept(answer, settings)),
        versions=dict(_versions()),
        **answer.facts,
    )


@functools.cache
def _versions() -> dict[str, str]:
    return {"prefdensity": __version__} | {name: version(name) for name in _RECORDED}


def _posterior(
    view: View, data: Comparisons | Choices, answer: Answer, status: FitStatus, fingerprint: str
) -> Posterior:
    draws, point, dims = reported(view, answer)
    error = {name: value.cpu().numpy()[None] for name, value in answer.error.items()}
    if "type_weight" in view.sites:  # sampled as one simplex, so that types are exchangeable
        order = (-draws["type_weight"].mean(0)).argsort(kind="stable")
        axes = {name: found.index("type") + 1 for name, found in dims.items() if "type" in found}
        draws, point = taken(draws, axes, order), taken(point, axes, order)
        error = dict(taken(error, axes, order))
    used = "features" in view.program.needs
    return Posterior(
        program_name=view.program.name,
        items=data.items,
        annotators=data.annotators,
        outcomes=view.cells.outcomes,
        draws=draws,
        dims=dims,
        event_dims={name: len(site.event) for name, site in view.sites.items() if name in draws},
        point={name: value[0] for name, value in point.items()},
        log_p=answer.log_p,
        log_q=answer.log_q,
        status=status,
        error={name: value[0] for name, value in error.items()},
        meanings=view.program.meanings,
        feature_names=data.feature_names if used else (),
        covariate_names=data.covariate_names if "covariates" in view.program.needs else (),
        features=kept(view.cells.features) if used and view.cells.features is not None else None,
        measures=measures(data) if "measures" in view.program.needs else {},
        **known_of(data, view.program.needs),
        n_comparisons=data.n_judgements,
        data_source=data.source,
        data_fingerprint=fingerprint,
        unfelt=answer.left_out,
        at_mode=tuple(sites_at_modes(view)) if answer.members else (),
        fitted=view.program,
    )


def _key(program: Program, data: Comparisons | Choices, **asked: int | str | None) -> dict[str, Any]:
    """Return what a checkpoint belongs to; of a user's program also what its file says: edited it is another one."""
    name, path = program.name, Path(program.name)
    if path.suffix == ".py" and path.is_file():
        name = f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return {"program": name, "data": data.fingerprint(), **asked}


def _restarts(view: View, method: str) -> int:
    if sites_at_modes(view) and method != "map":
        return _MEMBERS
    if view.program.type_layer is not None:
        return 8 if view.work < _LARGE else 3  # in a large table clusters of annotators are hardly missed
    return 1 if view.program.unimodal else 4


def _require_kept(checkpoint: str | Path | None, method: str, view: View) -> None:
    """Refuse a checkpoint that nobody would keep; what "auto" comes to is not known before."""
    modes = sites_at_modes(view) and method not in ("map", "mle")  # those of an ensemble are kept by every method
    if checkpoint is not None and method not in ("auto", *KEEPS_A_CHECKPOINT) and not modes:
        raise FitError(
            f"checkpoint='{checkpoint}' would stay empty: method={method!r} keeps none; "
            f"method={KEEPS_A_CHECKPOINT[0]!r} does, or leave it out"
        )


def _unkept(answer: Answer, settings: Settings) -> list[str]:
    """Return that no checkpoint was kept, where one was asked for and "auto" came to a method that keeps none."""
    method = answer.facts["method"]
    if settings.checkpoint is None or method in KEEPS_A_CHECKPOINT or answer.members:
        return []
    return [f"checkpoint {settings.checkpoint} was not needed: auto came to {method}, which keeps none"]


def _require_numbers(**settings: int | None) -> None:
    """Refuse settings that are no whole numbers, or too small; None leaves one to the library."""
    for name, value in settings.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < _LEAST.get(name, 1):
            why = "is too few for intervals" if name == "draws" else "cannot be"
            raise FitError(f"{name}={value!r} {why}; use a whole number of {_LEAST.get(name, 1)} or more")


def _require_settings(
    method: str, guide: str | None, device: str, checkpoint: str | Path | None, **numbers: int | None
) -> int:
    """Refuse settings that no fit can have; return the seed as torch takes it."""
    _require_numbers(**numbers)
    require_place(checkpoint)
    if method not in METHODS:
        raise FitError(f"there is no method {method!r}; methods are {', '.join(METHODS)}")
    if guide is not None and guide not in KINDS:
        raise FitError(f"there is no guide {guide!r}; guides are {', '.join(KINDS)}")
    devices.require_device(device)
    if (batch := numbers["batch"]) is not None:
        _require_batch(batch, method, guide)
    return int(numbers["seed"] or 0)


def _require_batch(batch: int, method: str, guide: str | None) -> None:
    if method != "svi":
        raise FitError(f"batch={batch} is for method='svi', whose steps read that many comparisons; not for {method!r}")
    if guide not in (None, "mean_field"):
        raise FitError(f"guide={guide!r} needs whole tables; in batches use guide='mean_field' or None")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit_wholly(program: str | Path | Program | Layer, data: Comparisons | Choices, **how: Any) -> Posterior:
    """Return a `fit` for those who go on with it: Ctrl-C ends their work, where `fit` returns what there is so far."""
    post = fit(program, data, **how)
    if post.status.interrupted:
        raise KeyboardInterrupt(post.status.message)
    return post


def fit_again(post: Posterior, data: Comparisons | Choices, *, seed: int = 0, draws: int = 1000) -> Posterior:
    """Fit the program of a posterior to other rows, by the method and the steps that were asked for, on its device."""
    steps = {name: value for name, value in post.status.settings.items() if name in _STEPS}
    how: dict[str, Any] = {"method": post.status.asked, "device": post.device, **steps}
    return fit_wholly(post.program, data, **how, draws=draws, seed=seed, progress=False)


def fits_without(
    post: Posterior, data: Comparisons, fold: NDArray[np.int64], seed: int = 0, progress: bool | None = None
) -> Iterator[tuple[NDArray[np.bool_], Posterior]]:
    """Yield which rows [row] are left out, and a fit of the program to the others, for every fold [row] from 0."""
    count = int(fold.max()) + 1
    with show_progress(progress) as report:
        for k in range(count):
            report("refits", k, count)
            out = fold == k
            yield out, fit_again(post, data.take(~out), seed=seed)
