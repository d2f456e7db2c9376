"""What a simpler program costs: decisions made by it, judged by a fuller program, quantity by quantity.

A fuller program knows how far things really are from what a simpler one says, and how surely. For each quantity there
is a loss L(action, truth). With one action taken by each program and truths drawn from the posterior of the fuller one,
the cost is the mean of L(simpler's, truth) - L(fuller's, truth), and its spread over draws is what is not known of it.
If the fuller program is right, so is the cost on average; where it is no better, the cost is about 0 or below.
Asked is what everybody would say in the situations in which the judgements were given: who judged, on what, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax

from prefdensity.data.comparisons import Comparisons, of_two
from prefdensity.data.named import of_items
from prefdensity.density.asking import Question, wants
from prefdensity.inference.fitting import fit_wholly
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.tabulate import cells_of
from prefdensity.reporting.pages import number, signed
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Words
from prefdensity.shown import Telling

Array = NDArray[np.float64]

_SITUATIONS, _DRAWS, _LABEL_DRAWS = 100, 400, 20
_UNITS = {
    "ranking": "share of pairs of items in the wrong order",
    "density": "total variation of preference densities",
    "policy": "chance above 1/2 that the best item beats the one put first",
    "reward": "root mean square error of differences from the mean reward",
}
COSTS = (
    "Were the program that answers a finding right, this is what decisions by the one fitted here would lose: the loss "
    "by it less the loss by the other, each with a 90% interval; 0 where nothing is lost."
)
_NO_LABELS = "no labels of items are given (labels=...), without which there is no such interval"


@dataclass(frozen=True, eq=False, repr=False)
class CostReport(Telling):
    """What a simpler program costs; `print` it.

    Attributes
    ----------
    table
        quantity, asked, by_simpler, by_fuller, cost, sd, lower, upper, unit: one row for each quantity, asked of
        everybody together ("all") and of each situation by itself ("own"). `by_simpler` and `by_fuller` are losses
        under the posterior of the fuller program, `cost` their difference with its standard deviation and 90 %
        interval.
    simpler, fuller
        The two fits.
    lacking
        What could not be told, and why.
    """

    table: pd.DataFrame
    simpler: Posterior
    fuller: Posterior
    lacking: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def __str__(self) -> str:
        lines = [f"What {self.simpler.program_name} costs if {self.fuller.program_name} is right:"]
        for row in self.table.to_dict("records"):
            name = row["quantity"] if row["asked"] == "all" else f"{row['quantity']}, each {row['asked']}"
            lines.append(
                f"  {name:<18}{row['cost']:>7.3f} ({row['lower']:.3f} to {row['upper']:.3f}; by it "
                f"{row['by_simpler']:.3f}, by the other {row['by_fuller']:.3f}): {row['unit']}"
            )
        return "\n".join([*lines, f"- PCAL interval: {self.lacking}"] if self.lacking else lines)


def cost(
    post: Posterior,
    data: Comparisons,
    fuller: str | Path | Program | Layer | Posterior,
    *,
    labels: Mapping[str, float] | None = None,
    seed: int = 0,
) -> CostReport:
    """Say what a program does to the ranking, the density, the choice of an item, the reward, and a PCAL interval.

    Parameters
    ----------
    post, data
        A fit of the simpler program, and its table.
    fuller
        The fuller program, such as one that `check` suggests, to be fitted by the same method; or its fit.
    labels
        Of some items, what a PCAL interval for the mean over all of them is about (a human score); the items labelled
        must be a random sample. Utilities are its auxiliary.
    seed
        Of the fit and of which situations are asked about.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, or labels name no item.
    """
    require_same_table(post, data)
    data = of_two(data, "cost")
    labelled = None if labels is None else of_items(labels, data.items, "labels")
    other = fuller
    if not isinstance(other, Posterior):
        other = fit_wholly(
            other, data, method=post.status.asked, draws=post.n_draws, seed=seed, device=post.device, progress=False
        )
    asked = _situations(data, seed)
    mine, better = (_utilities(each, data, asked) for each in (post, other))
    rows = [row for quantity in _LOSSES for row in _rows(quantity, mine, better)]
    lacking = _NO_LABELS
    if labelled is not None:
        rows += _interval(mine.mean(1), better.mean(1), data.items, labelled)
        lacking = ""
    columns = ["quantity", "asked", "by_simpler", "by_fuller", "cost", "sd", "lower", "upper", "unit"]
    return CostReport(pd.DataFrame(rows, columns=columns), post, other, lacking)


def _situations(data: Comparisons, seed: int) -> NDArray[np.intp]:
    """Return rows whose situations are asked about, by how many judgements they stand for."""
    rng = np.random.default_rng(seed)
    few = min(_SITUATIONS, len(data))
    return np.asarray(rng.choice(len(data), few, replace=False, p=data.count / data.count.sum()))


def _utilities(post: Posterior, data: Comparisons, rows: NDArray[np.intp]) -> Array:
    """Return rewards [draw, situation, item] less their mean over items, as whoever judged a row would see them."""
    size = len(data.items)
    table = data.take(np.repeat(rows, size))
    other = np.full(len(table), size - 1)
    item = np.tile(np.arange(size), len(rows))
    kept = item != other
    table = replace(table, item_a=item, item_b=other).take(kept)
    cells = cells_of(table, post.outcomes, post.program.needs)
    assert cells.term is not None
    place = np.full(len(item), -1)
    place[kept] = cells.term.numpy() // len(cells.outcomes)
    cells = replace(
        cells, first=None if cells.first is None else 0 * cells.first,
        covariates=None if cells.covariates is None else 0 * cells.covariates,
    )  # fmt: skip
    step = max(1, post.n_draws // _DRAWS)
    found = np.concatenate(list(Question(post, wants(post)).of_cells(cells, step)))
    margins = np.where(place < 0, 0.0, found[:, place]).reshape(len(found), len(rows), size)
    return np.asarray(margins - margins.mean(-1, keepdims=True))


# Each loss takes the action [..., item] and truths [draw, ..., item], and returns [draw, ...].
def _ranking(action: Array, truth: Array) -> Array:
    a, b = np.triu_indices(action.shape[-1], 1)
    return ((action[..., a] > action[..., b]) != (truth[..., a] > truth[..., b])).mean(-1)


def _density(action: Array, truth: Array) -> Array:
    return np.abs(action - softmax(truth, -1)).sum(-1) / 2


def _policy(action: Array, truth: Array) -> Array:
    chosen = np.broadcast_to(action.argmax(-1)[..., None], (*truth.shape[:-1], 1))
    lost = truth.max(-1) - np.take_along_axis(truth, chosen, -1)[..., 0]
    return np.asarray(expit(lost) - 0.5)


def _reward(action: Array, truth: Array) -> Array:
    return np.asarray(((action - truth) ** 2).mean(-1) ** 0.5)


_Loss = tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]
# The action, from draws [draw, ..., item] of a program's own, and its loss.
_LOSSES: dict[str, _Loss] = {
    "ranking": (lambda draws: draws.mean(0), _ranking),
    "density": (lambda draws: softmax(draws, -1).mean(0), _density),
    "policy": (lambda draws: draws.mean(0), _policy),
    "reward": (lambda draws: draws.mean(0), _reward),
}


def _rows(quantity: str, simpler: Array, fuller: Array) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a quantity: asked of all situations together, and, where they differ, of each by itself."""
    act, loss = _LOSSES[quantity]
    differ = np.ptp(fuller, axis=1).max() > 1e-9 or np.ptp(simpler, axis=1).max() > 1e-9
    for asked in ("all", "own") if differ else ("all",):
        one, other = (each if asked == "own" else each.mean(1, keepdims=True) for each in (simpler, fuller))
        losses = [loss(act(each), other).mean(1) for each in (one, other)]
        extra = losses[0] - losses[1]
        lower, upper = np.quantile(extra, [0.05, 0.95])
        yield (
            quantity, asked, losses[0].mean(), losses[1].mean(), extra.mean(), extra.std(), lower, upper,
            _UNITS[quantity],
        )  # fmt: skip


def _interval(
    simpler: Array, fuller: Array, items: tuple[str, ...], labels: Mapping[str, float]
) -> Iterator[tuple[object, ...]]:
    """Yield how long a PCAL interval for the mean label is with the utilities [draw, item] of either program."""
    from prefdensity.judged.measured import Measured  # slow to load, and every report of a fit loads this file
    from prefdensity.pcal.ladder import ladder

    label = [labels.get(item, np.nan) for item in items]

    def length(utility: Array) -> float:
        frame = pd.DataFrame({"label": label, "utility": utility, "share": len(labels) / len(items)})
        found = ladder(Measured.from_frame(frame, free=["utility"], probabilities={"label": "share"})).summary().iloc[0]
        return float(found["upper"] - found["lower"])

    picked = np.linspace(0, min(len(simpler), len(fuller)) - 1, _LABEL_DRAWS).astype(int)
    both = [length(simpler.mean(0)), length(fuller.mean(0))]
    extra = np.array([length(simpler[k]) - length(fuller[k]) for k in picked])
    lower, upper = np.quantile(extra, [0.05, 0.95])
    unit = "length of a 90 % PCAL interval for the mean label"
    yield ("PCAL interval", "all", *both, both[0] - both[1], extra.std(), lower, upper, unit)


def costs_table(told: CostReport) -> PageTable:
    """Return what the program costs if another one is right, quantity by quantity."""
    rows = told.table.to_dict("records")
    cost, lower, upper = ([row[name] for row in rows] for name in ("cost", "lower", "upper"))
    asked = {"all": "of everybody together", "own": "of each situation"}
    columns: list[PageColumn] = [
        Words("quantity", [row["quantity"] for row in rows], names=True, under=[asked[row["asked"]] for row in rows]),
        Bars("cost", lower, cost, upper),
        Numbers(
            "cost, 90% interval", cost, [number(value) for value in cost],
            [f"{signed(row['lower'], '.3f')} to {signed(row['upper'], '.3f')}" for row in rows],
        ),
        Numbers("lost by it", [row["by_simpler"] for row in rows], [number(row["by_simpler"]) for row in rows]),
        Numbers("by the other", [row["by_fuller"] for row in rows], [number(row["by_fuller"]) for row in rows]),
        Words("what is counted", [row["unit"] for row in rows], long=True),
    ]  # fmt: skip
    caption = f"What {told.simpler.program_name} costs if {told.fuller.program_name} is right."
    return PageTable(caption, columns, len(rows), f"PCAL interval: {told.lacking}." if told.lacking else "")
