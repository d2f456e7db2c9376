"""Simulation-based calibration: ranks of truths among posterior draws are uniform if inference is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from prefdensity.data.comparisons import Comparisons, of_two
from prefdensity.data.grades import columns
from prefdensity.data.rating_table import Ratings
from prefdensity.errors import FitError, require_whole
from prefdensity.inference.fitting import fit_wholly
from prefdensity.posterior.outcome_tables import OutcomeTable, outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.status import K_USABLE
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.loading import load_program
from prefdensity.programs.running import run
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of
from prefdensity.progress import progress as show_progress
from prefdensity.shown import Tabled
from prefdensity.workers import gathered

Array = NDArray[Any]

_DRAWS = 199  # 200 possible ranks
_FEWEST = 20  # replicates that ranks are judged by
_EXPECTED = 5  # replicates to expect in a bin of the chi-square test, at least
_BINS = (20, 10, 8, 5, 4, 2)  # divisors of the number of ranks
_MOST = 0.5  # of the fits
_METHODS = ("auto", "laplace", "ep", "variational", "svi", "nuts")
# plates whose entries mean nothing by themselves: items and types up to a gauge, axes up to a rotation
_WITHOUT_MEANING = {"item", "type", "break", "factor", "axis", "wave"}


@dataclass(frozen=True, eq=False, repr=False)
class RankReport(Tabled):
    """Ranks of truths drawn from the prior among draws of the posteriors that simulated judgements give.

    Attributes
    ----------
    ranks
        Frame [replicate, quantity] of ranks from 0 to 199.
    table
        quantity, mean_rank (1/2 expected, in units of the largest rank), p_value (chi-square, uniform ranks).
    usable
        Share of fits with k-hat below 0.7 (of those that have one).
    notes
        How many replicates there are, where Ctrl-C ended them.
    """

    ranks: pd.DataFrame
    table: pd.DataFrame
    usable: float
    notes: tuple[str, ...] = ()

    @property
    def flagged(self) -> bool:
        """Whether the approximation fails in most fits: the ranks are then about it, not about the program."""
        return self.usable < _MOST

    def __str__(self) -> str:
        lines = self.table.to_string(index=False, float_format=lambda x: f"{x:.3f}")
        head = f"{len(self.ranks)} replicates, k-hat below {K_USABLE} in {self.usable:.0%} of the fits"
        if self.flagged:
            lines += "\nThe guide does not hold the posterior in most fits: these ranks do not judge the program."
        return "\n".join([head, lines, *self.notes])


def sbc(
    program: str | Path | Program | Layer,
    data: Comparisons,
    *,
    replicates: int = 100,
    seed: int = 0,
    method: str = "laplace",
    progress: bool | None = None,
) -> RankReport:
    """Check inference for a program and who compares what: prior -> judgements -> posterior -> rank of the truth.

    After Talts, Betancourt, Simpson, Vehtari and Gelman (2018), arXiv 1804.06788. Ranked are quantities free of
    gauge: the chance of the first outcome in the first comparison (for an annotator of unknown type), contrasts of
    utilities (averaged over types where there are types), and the first entry of each parameter that has a meaning
    of its own. Sites at modes, whose posterior nobody claims to know, are not ranked.

    Parameters
    ----------
    program
        As in `fit`.
    data
        Who compares what, and who rates what; outcomes and ratings, if any, are not used.
    replicates
        Number of simulated tables, 20 or more.
    seed
        Of everything random.
    method
        laplace, ep, variational, svi, nuts, or auto as in `fit`.
    progress
        A progress bar (None: where stderr is a terminal).

    Returns
    -------
    RankReport. After Ctrl-C that of the replicates there are so far, if they are 20 or more.

    Raises
    ------
    DataError
        If `replicates` is no whole number of at least 20; for choices from sets.
    FitError
        For a method without a posterior.
    ProgramError
        If the program does not suit the table.
    """
    require_whole("seed", seed, 0)
    require_whole("replicates", replicates, _FEWEST)
    if method not in _METHODS:
        raise FitError(f"method={method!r} gives no posterior to rank in; use {', '.join(_METHODS)}")
    program = load_program(program)
    data = of_two(data, "sbc")
    blank = replace(data, **columns(program.outcomes, np.zeros(len(data), np.intp)))
    suit(program, blank)
    made = _replicated(program, blank, replicates, seed, method)
    with show_progress(progress) as report:
        found, notes = gathered(made, replicates, _FEWEST, "replicates", report)
    ranks = pd.DataFrame([each for each, _ in found])
    known = np.array([k_hat for _, k_hat in found if k_hat is not None])
    usable = float((known < K_USABLE).mean()) if len(known) else np.nan
    return RankReport(ranks, _uniformity(ranks), usable, notes)


def _replicated(
    program: Program, blank: Comparisons, replicates: int, seed: int, method: str
) -> Iterator[tuple[dict[str, int], float | None]]:
    """Yield ranks and k-hat of every replicate."""
    design, cells = _distinct(program, blank)
    for number, stream in enumerate(np.random.SeedSequence(seed).generate_state(replicates)):
        made, truth, chance = _simulated(program, design, cells, int(stream))
        post = fit_wholly(program, made, method=method, seed=number, draws=_DRAWS, chains=1, progress=False)
        yield _ranked(post, truth, cells, chance), post.status.k_hat


def _ranked(post: Posterior, truth: dict[str, Array], cells: Cells, chance: Array) -> dict[str, int]:
    """Return how many draws of every quantity lie below its truth."""
    known = {name: values for name, values in post.draws.items() if name not in post.at_mode}
    like_a_draw = {name: truth[name].reshape(1, *known[name].shape[1:]) for name in truth if name in known}
    drawn, exact = _quantities(known, post.dims), _quantities(like_a_draw, post.dims)
    drawn["first chance"] = np.concatenate([_first(t) for t in outcome_tables(post, cells.head(1))])
    exact["first chance"] = chance
    return {name: int((drawn[name] < exact[name]).sum()) for name in exact}


def _distinct(program: Program, data: Comparisons) -> tuple[Comparisons, Cells]:
    """Return one row for each of the comparisons that the program tells apart, and these as cells to be judged."""
    oriented = data.swapped(data.item_a > data.item_b)
    cells = cells_of(oriented, program.outcomes, program.needs)
    assert cells.term is not None  # somebody judged
    _, rows = np.unique(cells.term.numpy() // len(cells.outcomes), return_index=True)
    return oriented.take(rows), cells.without_outcomes()


def _simulated(
    program: Program, design: Comparisons, cells: Cells, seed: int
) -> tuple[Comparisons, dict[str, Array], Array]:
    """Return judgements of a truth drawn from the prior, the truth by site, and its chance of the first outcome.

    `design` has a row for each of the cells.
    """
    met = run(program, cells, {}, 1, seed=seed).met
    latent = {name: site for name, site in met.items() if site["deterministic"] or not site["is_observed"]}
    truth = {name: site["value"].detach().numpy() for name, site in latent.items() if name != "outcome"}
    fn = met["outcome"]["fn"]
    log_weight, log_prob = getattr(fn, "log_weight", None), fn.outcome_log_prob.expand(1, -1, -1, -1)
    table = OutcomeTable(slice(0, 1), log_prob, log_weight, torch.zeros(1), cells.annotator)
    count = met["outcome"]["value"].reshape(len(cells), -1).numpy()
    rows, outcome = np.nonzero(count)
    given = columns(cells.outcomes, outcome) | {"count": count[rows, outcome]}
    if "rating" in met:
        given["ratings"] = _rated(design, cells, met["rating"]["fn"], seed)
    return replace(design.take(rows), **given), truth, _first(table)


def _rated(design: Comparisons, cells: Cells, fn: Any, seed: int) -> Ratings:
    """Return ratings drawn from their distribution, each as often as in the design."""
    assert design.ratings is not None  # suit refuses a design without
    assert cells.ratings is not None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        count = fn.sample().reshape(len(cells.ratings.item), -1).long()
    row, level = (np.repeat(at.numpy(), count[count > 0].numpy()) for at in count.nonzero(as_tuple=True))
    who = cells.ratings.annotator
    raters = None if who is None else who.numpy()[row]
    return Ratings(design.ratings.levels, cells.ratings.item.numpy()[row], level, raters)


def _first(table: OutcomeTable) -> Array:
    """Return the log chance [draw] of the first outcome in the first comparison."""
    return np.asarray(table.mixed()[:, 0, 0].detach().cpu().numpy())


def _quantities(sites: Mapping[str, Array], dims: dict[str, tuple[str, ...]]) -> dict[str, Array]:
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
        if not _WITHOUT_MEANING & set(dims[name]) and name != "type_probability":
            found[name] = values.reshape(len(values), -1)[:, 0]
    return found


def _uniformity(ranks: pd.DataFrame) -> pd.DataFrame:
    bins = next(size for size in _BINS if len(ranks) >= _EXPECTED * size)
    rows = []
    for name, column in ranks.items():
        counts = np.bincount(column * bins // (_DRAWS + 1), minlength=bins)
        rows.append((name, column.mean() / _DRAWS, stats.chisquare(counts).pvalue))
    return pd.DataFrame(rows, columns=["quantity", "mean_rank", "p_value"])
