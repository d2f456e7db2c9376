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

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import require_table
from prefdensity.errors import DataError, FitError, require_whole
from prefdensity.inference import devices
from prefdensity.inference.batch import Batch, climb
from prefdensity.inference.laplace import at_mode, of_nested
from prefdensity.inference.mixture import Mixture
from prefdensity.inference.mode import Mode, first_guess
from prefdensity.inference.nested import nested_many
from prefdensity.inference.precision import Dense
from prefdensity.inference.profile import BatchProfile
from prefdensity.inference.quality import check_guide
from prefdensity.inference.view import View
from prefdensity.posterior.draws import require_level
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.status import FitStatus
from prefdensity.programs.checks import require_probabilities, sample_of
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.loading import load_program
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of, known_of
from prefdensity.progress import progress as show_progress

# Cell evaluations (fits x comparisons x outcomes), or entries of matrices, per batch: what a cache holds; on a device.
_BATCH, _BATCH_THERE = 400_000, 20_000_000


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

    def __repr__(self) -> str:
        share = f"{self.converged.mean():.0%} converged"
        return f"ManyFits({self.program}, {len(self.items)} items, {len(self)} fits, {share})"

    def to_frame(self) -> pd.DataFrame:
        """Return `summary`."""
        return self.summary()

    def utilities(self) -> NDArray[np.float64]:
        """Return utilities at the modes [fit, item], each fit centred at 0."""
        u = self.point["utility"]
        return np.asarray(u - u.mean(-1, keepdims=True))

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return how the utilities vary between fits: item, mean, sd, lower, upper; highest first.

        For bootstrap replicates the interval is the percentile interval.
        """
        require_level(level)
        u = self.utilities()
        sd = u.std(0, ddof=1) if len(u) > 1 else np.full(len(self.items), np.nan)
        lower, upper = np.quantile(u, [(1 - level) / 2, (1 + level) / 2], axis=0)
        table = {"item": self.items, "mean": u.mean(0), "sd": sd, "lower": lower, "upper": upper}
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

    Raises
    ------
    DataError
        If `replicates` is no whole number of at least 1, or `by` cannot be.
    """
    require_table(data)
    require_whole("replicates", replicates, 1)
    require_whole("seed", seed, 0)
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


@devices.within_memory()
def fit_many(
    program: str | Program | Layer,
    data: Comparisons,
    counts: NDArray[np.float64],
    *,
    device: str = "auto",
    progress: bool | None = None,
) -> ManyFits:
    """Fit a program many times to the rows of one table, each time with counts of its own.

    The fits run together as one batch of Newton steps and are those of `fit(..., method="laplace")` on the tables with
    these counts, without its importance correction.

    Parameters
    ----------
    program
        With one mode: programs that may have several, and those with types, need `fit`, one at a time.
    data
        The rows that any of the fits may use, with their outcomes.
    counts
        [fit, row]: how often each row counts. Bootstrap: `bootstrap`; leaving out: 0 for what is left out; replicates
        of a design: the rows of all outcomes, counted as simulated.
    device
        "cpu", "cuda", or "auto": cuda if there is one and the tables are large together.
    progress
        Show a progress bar on stderr; None: if it is a terminal.

    Raises
    ------
    DataError
        If `counts` does not fit the table.
    FitError
        For a program that cannot be fitted this way, with the reason, or a device that is not here.
    """
    devices.require_device(device)
    program = load_program(program)
    counts = _require_counts(data, counts)
    suit(program, data)
    cells = cells_of(data, program.outcomes, program.needs)
    require_probabilities(program, sample_of(cells))
    if not fits_together(program):
        raise FitError(f"{program.name} may have several modes; call fit for each table")
    view = View(program, cells.to(devices.device_for(device, len(cells) * len(counts))))
    found = []
    with show_progress(progress) as report:
        for some in _split(view, counts):
            found += [_arrays(each) for each in _approximations(view, some)]
            report("fits", len(found), len(counts))
    z, covariance = (torch.stack(list(column)) for column in list(zip(*found, strict=True))[:2])
    point, _ = view.constrain(z)
    return ManyFits(
        program=program.name,
        items=data.items,
        z=z.cpu().numpy(),
        covariance=covariance.numpy(),
        log_evidence=np.array([each[2] for each in found]),
        converged=np.array([each[3] for each in found]),
        point={name: value.cpu().numpy() for name, value in point.items()},
    )


def fits_together(program: Program) -> bool:
    """Say whether `fit_many` takes the program: one mode, no mirror, no types, nothing that no Gaussian holds."""
    return program.unimodal and not program.mirrors and program.type_layer is None and not program.at_mode


def posteriors(
    program: Program, data: Comparisons, counts: NDArray[np.float64], *, draws: int = 1000, seed: int = 0,
    device: str = "auto",
) -> Iterator[Posterior]:  # fmt: skip
    """Yield the posterior of each row of `counts`, all modes found in one batch.

    Draws are those of the Laplace approximation, importance-resampled. Arguments and errors are
    those of `fit_many`.
    """
    counts = _require_counts(data, counts)
    cells = cells_of(data, program.outcomes, program.needs)
    view = View(program, cells.to(devices.device_for(device, len(cells) * len(counts))))
    generator = torch.Generator().manual_seed(seed)
    for some in _split(view, counts):
        batch = Batch(view, some)
        for k, approximation in enumerate(_approximations(view, some)):
            yield _posterior(data, batch, k, approximation, draws, generator, seed)


@dataclass(frozen=True)
class _Table:
    """The density of one table of a batch."""

    batch: Batch
    table: int

    @property
    def work(self) -> int:
        return self.batch.view.work

    def log_joint_of(self, z: Tensor) -> Tensor:
        """Return log p(z, table) [draw] of z [draw, dimension]."""
        tables = torch.full((len(z),), self.table, device=z.device)
        parts = z.split(_most(self.batch.view, self.work))
        return torch.cat([self.batch.log_joint(part, tables[: len(part)]) for part in parts])

    @property
    def sizes(self) -> dict[str, int]:
        """See `View`."""
        return self.batch.view.sizes

    def constrain(self, z: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
        """See `View`."""
        return self.batch.view.constrain(z)


def _posterior(
    data: Comparisons,
    batch: Batch,
    table: int,
    approximation: Mixture,
    draws: int,
    generator: torch.Generator,
    seed: int,
) -> Posterior:
    view = batch.view
    assert batch.counts is not None  # every table has its own
    checked = check_guide(_Table(batch, table), approximation, draws, generator)
    sites, dims = view.constrain(checked.z)
    point, _ = view.constrain(approximation.mode.z[None])
    return Posterior(
        program_name=view.program.name,
        items=data.items,
        annotators=data.annotators,
        outcomes=view.cells.outcomes,
        draws={name: value.cpu().numpy() for name, value in sites.items()},
        dims=dims,
        event_dims={name: len(site.event) for name, site in view.sites.items()},
        point={name: value[0].cpu().numpy() for name, value in point.items()},
        log_p=checked.log_p.cpu().numpy(),
        log_q=checked.log_q.cpu().numpy(),
        status=FitStatus(
            "laplace", approximation.converged, "Gaussian at the posterior mode, one of a batch", seed, 0.0, 0,
            math.nan, device=str(view.device), **checked.facts,
        ),
        n_comparisons=float(batch.counts[table].sum()),
        fitted=view.program,
        **known_of(data, view.program.needs),
    )  # fmt: skip


def _arrays(found: Mixture) -> tuple[Tensor, Tensor, float, bool]:
    """Return mode, covariance (on the CPU), log evidence and whether it converged."""
    z, frame = found.main
    return z, (frame @ frame.T).cpu(), found.log_evidence, found.converged


def _split(view: View, counts: NDArray[np.float64]) -> Iterator[Tensor]:
    """Yield counts [fit, row] in parts that can be fitted together, where the view is: a device holds one of them."""
    most = _most(view, max(view.work, view.dimension**2))
    yield from (some.to(view.device) for some in torch.tensor(counts, dtype=view.dtype).split(most))


def _most(view: View, each: int) -> int:
    """Return how many densities of so many numbers each are worked out together."""
    return max(1, (_BATCH if view.device.type == "cpu" else _BATCH_THERE) // each)


def _approximations(view: View, counts: Tensor) -> list[Mixture]:
    """Return the Laplace approximation of each table of `counts` [table, row]."""
    start, batch = first_guess(view), Batch(view, counts)
    if view.hyper:
        profile = BatchProfile(view, start, batch)
        found = nested_many(profile, start.cpu()[list(view.hyper)].expand(len(counts), -1))
        return [of_nested(each) for each in found]
    everything = torch.arange(view.dimension, device=view.device)
    tables = torch.arange(len(counts), device=view.device)
    top = climb(batch, start.expand(len(counts), -1), tables, everything)
    reached = zip(top.z, top.value.tolist(), top.converged.tolist(), top.precision, strict=True)
    return [
        at_mode(Mode(z, value, converged, top.iterations, Dense(precision)))
        for z, value, converged, precision in reached
    ]


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
