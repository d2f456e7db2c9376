"""Many fits in one run: bootstrap replicates, folds, leave-one-out refits and Monte-Carlo replicates as one batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.comparisons import Comparisons
from prefdensity.errors import DataError, FitError
from prefdensity.inference.curvature import LocalCurvature, dense_hessian
from prefdensity.inference.guide import LOG_2PI
from prefdensity.inference.mode import first_guess
from prefdensity.inference.quality import systematic
from prefdensity.inference.view import View
from prefdensity.posterior import FitStatus, Posterior
from prefdensity.program_checks import require_probabilities, sample_of
from prefdensity.programs import Layer, Program, load_program
from prefdensity.progress import progress as show_progress
from prefdensity.psis import USABLE, smooth
from prefdensity.suitability import suit

# Cell evaluations (fits x comparisons x outcomes) per batch: small enough for the cache.
_BATCH = 400_000
_ITERATIONS = 100
# Twice the nats left to climb at which one more Newton step ends within rounding of the top.
_CLOSE = 1e-9
_SMALLEST = 1e-9  # of a step


@dataclass(frozen=True)
class ManyFits:
    """Laplace approximations of one program, one for each row of `counts`.

    Attributes
    ----------
    program, items
        What was fitted.
    z
        Modes [fit, dimension] on the real line.
    covariance
        [fit, dimension, dimension].
    log_evidence
        Laplace estimates of log p(table) [fit].
    converged
        [fit].
    point
        Latent and deterministic sites at the mode [fit, ...].
    """

    program: str
    items: tuple[str, ...]
    z: NDArray[np.float64]
    covariance: NDArray[np.float64]
    log_evidence: NDArray[np.float64]
    converged: NDArray[np.bool_]
    point: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.z)

    def utilities(self) -> NDArray[np.float64]:
        """Return utilities at the modes [fit, item], each fit centred at 0."""
        u = self.point["utility"]
        return np.asarray(u - u.mean(-1, keepdims=True))

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return how the utilities vary between fits: item, mean, sd, lower, upper; highest first.

        For bootstrap replicates the interval is the percentile interval.
        """
        u = self.utilities()
        lower, upper = np.quantile(u, [(1 - level) / 2, (1 + level) / 2], axis=0)
        table = {"item": self.items, "mean": u.mean(0), "sd": u.std(0, ddof=1), "lower": lower, "upper": upper}
        return pd.DataFrame(table).sort_values("mean", ascending=False, ignore_index=True)


def bootstrap(data: Comparisons, replicates: int, *, by: str = "comparison", seed: int = 0) -> NDArray[np.float64]:
    """Return counts [replicate, row] of resampled judgements, for `fit_many`.

    Parameters
    ----------
    data
        The table.
    replicates
        How many.
    by
        "comparison": judgements are resampled one by one; "annotator": whole annotators, with all they said.
    seed
        Of the resampling.
    """
    rng = np.random.default_rng(seed)
    if by == "comparison":
        total = int(data.count.sum())
        return rng.multinomial(total, data.count / data.count.sum(), replicates).astype(float)
    if by != "annotator":
        raise DataError(f"by={by!r} is unknown; use 'comparison' or 'annotator'")
    if data.annotator is None:
        raise DataError("by='annotator' needs to know who judged; name the annotator column")
    people = len(data.annotators)
    times = rng.multinomial(people, np.full(people, 1 / people), replicates)
    return np.asarray(times[:, data.annotator] * data.count)


def fit_many(
    program: str | Program | Layer,
    data: Comparisons,
    counts: NDArray[np.float64],
    *,
    progress: bool | None = None,
) -> ManyFits:
    """Fit a program many times to the rows of one table, each time with counts of its own.

    The fits run together as one batch of Newton steps and are those of `fit(..., method="laplace")` on the tables with
    these counts, without its importance correction.

    Parameters
    ----------
    program
        With one mode and no spread-like parameters (reliability has one): those need `fit`, one at a time.
    data
        The rows that any of the fits may use, with their outcomes.
    counts
        [fit, row]: how often each row counts. Bootstrap: `bootstrap`; leaving out: 0 for what is left out; replicates
        of a design: the rows of all outcomes, counted as simulated.
    progress
        Show a progress bar on stderr; None: if it is a terminal.

    Raises
    ------
    DataError
        If `counts` does not fit the table.
    FitError
        For a program that cannot be fitted this way, with the reason.
    """
    program = load_program(program)
    counts = _require_counts(data, counts)
    suit(program, data)
    cells = data.cells(program.outcomes, program.needs)
    require_probabilities(program, sample_of(cells))
    if not fits_together(program):
        raise FitError(f"{program.name} may have several modes or a spread to integrate; call fit for each table")
    view = View(program, cells)
    size = max(1, _BATCH // view.work)
    parts = []
    with show_progress(progress) as report:
        for start in range(0, len(counts), size):
            parts.append(_fit_batch(view, torch.tensor(counts[start : start + size], dtype=view.dtype)))
            report("fits", min(start + size, len(counts)), len(counts))
    z, covariance, log_evidence, converged = (torch.cat([part[k] for part in parts]) for k in range(4))
    point, _ = view.constrain(z)
    return ManyFits(
        program=program.name,
        items=data.items,
        z=z.numpy(),
        covariance=covariance.numpy(),
        log_evidence=log_evidence.numpy(),
        converged=converged.numpy(),
        point={name: value.numpy() for name, value in point.items()},
    )


def fits_together(program: Program) -> bool:
    """Say whether `fit_many` takes the program: one mode, no spread to integrate, no types."""
    return program.unimodal and not program.hyper and program.type_layer is None


def posteriors(
    program: Program, data: Comparisons, counts: NDArray[np.float64], *, draws: int = 1000, seed: int = 0
) -> Iterator[Posterior]:
    """Yield the posterior of each row of `counts`, all modes found in one batch.

    Draws are those of the Laplace approximation, importance-resampled where k-hat allows. Arguments and errors are
    those of `fit_many`.
    """
    many = fit_many(program, data, counts, progress=False)
    view = View(program, data.cells(program.outcomes, program.needs))
    batch = _Batch(view, torch.tensor(counts, dtype=view.dtype))
    generator = torch.Generator().manual_seed(seed)
    for k in range(len(many)):
        lower = torch.linalg.cholesky(torch.tensor(many.covariance[k]))
        noise = torch.randn(draws, view.dimension, generator=generator, dtype=torch.float64)
        z = torch.tensor(many.z[k]) + noise @ lower.T
        log_q = -0.5 * (noise**2).sum(-1) - lower.diagonal().log().sum() - 0.5 * view.dimension * LOG_2PI
        with torch.no_grad():
            parts = z.split(max(1, _BATCH // view.work))
            log_p = torch.cat([batch.log_joint(part, torch.full((len(part),), k)) for part in parts])
        log_weight, shape = smooth(log_p - log_q)
        corrected = float(shape) < USABLE
        kept = systematic(log_weight.exp(), draws, generator) if corrected else torch.arange(draws)
        sites, dims = view.constrain(z[kept])
        yield Posterior(
            program=program.name,
            items=data.items,
            annotators=data.annotators,
            outcomes=view.cells.outcomes,
            draws={name: value.numpy() for name, value in sites.items()},
            dims=dims,
            event_dims={name: len(site.event) for name, site in view.sites.items()},
            point={name: value[k] for name, value in many.point.items()},
            log_p=log_p[kept].numpy(),
            log_q=log_q[kept].numpy(),
            status=FitStatus(
                "laplace", bool(many.converged[k]), "Gaussian at the posterior mode, one of a batch", seed, 0.0, 0,
                math.nan, k_hat=float(shape), log_weight_sd=float((log_p - log_q).std()), corrected=corrected,
            ),
            n_comparisons=float(counts[k].sum()),
        )  # fmt: skip


def _require_counts(data: Comparisons, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.asarray(counts, float)
    if counts.ndim != 2 or counts.shape[1] != len(data) or len(counts) == 0:
        raise DataError(f"counts has shape {counts.shape}; it must be [fit, row] with {len(data)} rows of the table")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise DataError("counts must be 0 or more, and finite")
    empty = np.flatnonzero(counts.sum(1) == 0)
    if len(empty):
        raise DataError(f"fit {empty[0]} of counts has no judgement at all")
    return counts


class _Batch:
    """The log joint densities of one program on tables that share their cells."""

    def __init__(self, view: View, counts: Tensor) -> None:
        self.view = view
        cells = view.cells
        assert cells.term is not None  # cells come from a table
        flat = torch.zeros(len(counts), len(cells) * len(cells.outcomes), dtype=view.dtype)
        flat.index_add_(1, cells.term, counts)
        outcome = flat.reshape(len(counts), 1, len(cells), len(cells.outcomes))
        local = LocalCurvature(view)
        exact = local.applies and local.batches and local.holds(first_guess(view))
        self.local = local if exact else None
        # laid out outcome by outcome, like the tables of `outcomes.by_outcome`
        self.outcome = outcome.transpose(-1, -2).contiguous().transpose(-1, -2)

    def log_joint(self, z: Tensor, rows: Tensor) -> Tensor:
        """Return log p(z, table) [fit] of z [fit, dimension] for the tables `rows`."""
        values, total = self.view.values(z)
        met = self.view.run(values, len(z)).met
        for name in self.view.sites:
            total = total + met[name]["fn"].log_prob(met[name]["value"]).flatten(1).sum(-1)
        return total + met["outcome"]["fn"].log_prob(self.outcome[rows]).flatten(1).sum(-1)


def _fit_batch(view: View, counts: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mode, covariance, log evidence and whether it converged, of every fit."""
    batch = _Batch(view, counts)
    z = first_guess(view).expand(len(counts), -1).clone()
    everyone = torch.arange(len(counts))
    open_ = everyone
    for _ in range(_ITERATIONS):
        gradient, precision = _slopes(batch, z[open_], open_)
        step = torch.linalg.solve(precision, gradient)
        gain = (gradient * step).sum(-1)
        z[open_] = _line_search(batch, z[open_], step, gain, open_)
        open_ = open_[gain > _CLOSE]
        if len(open_) == 0:
            break
    _, precision = _slopes(batch, z, everyone)
    factor = torch.linalg.cholesky(precision)
    with torch.no_grad():
        top = batch.log_joint(z, everyone)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    converged = torch.ones(len(counts), dtype=torch.bool)
    converged[open_] = False
    return z, torch.cholesky_inverse(factor), top + 0.5 * z.shape[-1] * LOG_2PI - log_det, converged


def _slopes(batch: _Batch, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradient and minus the Hessian, damped until it is positive definite."""
    if batch.local is not None:
        _, gradient, hessian = batch.local.batch(z, outcome=batch.outcome[rows])
    else:
        gradient, hessian = dense_hessian(lambda x: batch.log_joint(x, rows), z, batch.view.work)
    precision = -hessian
    _, failed = torch.linalg.cholesky_ex(precision)
    damping = 1e-6 * precision.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    while failed.any():
        precision = precision + (damping * (failed > 0))[:, None, None] * torch.eye(z.shape[-1], dtype=z.dtype)
        damping = 4 * damping
        _, failed = torch.linalg.cholesky_ex(precision)
    return gradient, precision


@torch.no_grad()
def _line_search(batch: _Batch, z: Tensor, step: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    """Return z + t step with the first t of 1, 1/2, 1/4, ... that climbs enough, for each fit."""
    size = torch.ones(len(z), dtype=z.dtype)
    here = batch.log_joint(z, rows)
    slack = 1e-12 * here.abs()  # what floating point cannot see
    left = torch.arange(len(z))
    while len(left):
        there = batch.log_joint(z[left] + size[left, None] * step[left], rows[left])
        poor = ~(there >= here[left] + 1e-4 * size[left] * gain[left] - slack[left])
        left = left[poor]
        size[left] /= 2
        left = left[size[left] > _SMALLEST]
    return z + torch.where(size > _SMALLEST, size, 0.0)[:, None] * step
