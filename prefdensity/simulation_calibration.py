"""Simulation-based calibration: ranks of truths among posterior draws are uniform if inference is right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from prefdensity.comparisons import Comparisons
from prefdensity.errors import DataError, FitError
from prefdensity.inference import fit
from prefdensity.posterior import K_USABLE
from prefdensity.programs import Layer, Program, load_program
from prefdensity.running import run
from prefdensity.suitability import suit

Array = NDArray[Any]

_DRAWS = 199  # 200 possible ranks
_EXPECTED = 5  # replicates to expect in a bin of the chi-square test, at least
_BINS = (20, 10, 8, 5, 4, 2)  # divisors of the number of ranks


@dataclass(frozen=True, eq=False)
class RankReport:
    """Ranks of truths drawn from the prior among draws of the posteriors that simulated judgements give.

    Attributes
    ----------
    ranks
        Frame [replicate, quantity] of ranks from 0 to 199.
    table
        quantity, mean_rank (1/2 expected, in units of the largest rank), p_value (chi-square, uniform ranks).
    usable
        Share of fits with k-hat below 0.7 (of those that have one).
    """

    ranks: pd.DataFrame
    table: pd.DataFrame
    usable: float

    def __str__(self) -> str:
        lines = self.table.to_string(index=False, float_format=lambda x: f"{x:.3f}")
        return f"{len(self.ranks)} replicates, k-hat below {K_USABLE} in {self.usable:.0%} of the fits\n{lines}"


def sbc(
    program: str | Path | Program | Layer,
    design: Comparisons,
    *,
    replicates: int = 100,
    seed: int = 0,
    method: str = "laplace",
) -> RankReport:
    """Check inference for a program and a design: prior -> judgements -> posterior -> rank of the truth.

    After Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv 1804.06788. Ranked are quantities free of
    gauge: contrasts of utilities (averaged over types where there are types), and the first entry of each
    parameter that is neither an item's nor a type's.

    Parameters
    ----------
    program
        As in `fit`.
    design
        Who compares what; its outcomes, if any, are not used.
    replicates
        Number of simulated tables, 20 or more.
    seed
        Of everything random.
    method
        laplace, svi or nuts.

    Returns
    -------
    RankReport

    Raises
    ------
    DataError
        If `replicates` is too small.
    FitError
        For a method without a posterior.
    ProgramError
        If the program does not suit the design.
    """
    if replicates < 20:
        raise DataError(f"replicates={replicates} is too few to judge ranks; use 20 or more")
    if method not in ("laplace", "svi", "nuts"):
        raise FitError(f"method={method!r} gives no posterior to rank in; use laplace, svi or nuts")
    program = load_program(program)
    suit(program, replace(design, outcome=np.zeros(len(design), np.int8)))
    rows, k_hats = [], []
    for number, stream in enumerate(np.random.SeedSequence(seed).generate_state(replicates)):
        data, truth = _simulated(program, design, int(stream))
        post = fit(program, data, method=method, seed=number, draws=_DRAWS, chains=1, progress=False)
        like_a_draw = {name: truth[name].reshape(1, *post.draws[name].shape[1:]) for name in truth}
        drawn, exact = _quantities(post.draws, post.dims), _quantities(like_a_draw, post.dims)
        rows.append({name: int((drawn[name] < exact[name]).sum()) for name in exact})
        k_hats.append(np.nan if post.status.k_hat is None else post.status.k_hat)
    ranks = pd.DataFrame(rows)
    known = np.array(k_hats)[np.isfinite(k_hats)]
    return RankReport(ranks, _uniformity(ranks), float((known < K_USABLE).mean()) if len(known) else np.nan)


def _simulated(program: Program, design: Comparisons, seed: int) -> tuple[Comparisons, dict[str, Array]]:
    """Return judgements of a truth drawn from the prior, and the truth by site."""
    cells = design.cells(program.outcomes).without_outcomes()
    met = run(program, cells, {}, 1, seed=seed).met
    truth = {name: site["value"].detach().numpy() for name, site in met.items() if name != "outcome"}
    count = met["outcome"]["value"].reshape(len(cells), -1).numpy()
    rows, outcome = np.nonzero(count)
    kept = {name: getattr(cells, name) for name in ("item_a", "item_b", "annotator", "first", "covariates")}
    picked = {name: values.numpy()[rows] for name, values in kept.items() if values is not None}
    if "first" in picked:
        picked["first"] = picked["first"].astype(np.int8)
    picked |= {"outcome": outcome.astype(np.int8), "count": count[rows, outcome]}
    return replace(design, context=None, contexts=(), **picked), truth


def _quantities(sites: dict[str, Array], dims: dict[str, tuple[str, ...]]) -> dict[str, Array]:
    """Return quantities [draw] that mean the same under every gauge and labelling of types."""
    found = {}
    if "utility" in sites:
        utility = sites["utility"]
        if utility.ndim == 3:
            utility = (sites["type_weight"][:, :, None] * utility).sum(1)
            found["largest type weight"] = sites["type_weight"].max(1)
        found["first less last utility"] = utility[:, 0] - utility[:, -1]
        found["first less mean utility"] = utility[:, 0] - utility.mean(1)
    for name, values in sites.items():
        if not {"item", "type", "break"} & set(dims[name]) and not name.endswith("_offset"):
            found[name] = values.reshape(len(values), -1)[:, 0]
    return found


def _uniformity(ranks: pd.DataFrame) -> pd.DataFrame:
    bins = next(size for size in _BINS if len(ranks) >= _EXPECTED * size)
    rows = []
    for name, column in ranks.items():
        counts = np.bincount(column * bins // (_DRAWS + 1), minlength=bins)
        rows.append((name, column.mean() / _DRAWS, stats.chisquare(counts).pvalue))
    return pd.DataFrame(rows, columns=["quantity", "mean_rank", "p_value"])
