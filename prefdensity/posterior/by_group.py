"""One ranking for each group: categories, countries of annotators, annotators themselves, and how far they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws, require_spread
from prefdensity.posterior.questions import given_to, question_cells, sites_of
from prefdensity.posterior.simultaneous import at_once
from prefdensity.programs.layers import Program
from prefdensity.programs.pipeline import margins
from prefdensity.programs.running import centred, require_drawn, run
from prefdensity.shown import shown

Array = NDArray[np.float64]

_PASS = 4_000_000  # draws x cells per pass


@dataclass(frozen=True, eq=False)
class Groups:
    """Rankings of the same items in each group, and the differences between groups.

    Attributes
    ----------
    label
        What groups are of: "category", "annotator.country", "annotator".
    names
        The groups.
    utilities
        [draw, group, item], centred over items in each group.
    table
        One row for each group and item, best first: group, item, mean, sd, lower, upper (central interval), rank_lower,
        rank_upper (the same for the rank in the group), p_best.
    differences
        One row for each item and pair of groups, the clearest first: item, group_a, group_b, and of utility in group_a
        less utility in group_b the columns of `simultaneous.at_once`; real: the interval that holds all differences of
        the table at once leaves out 0.
    level
        Probability of all intervals.
    reference
        The item against which utilities are compared between groups; None: the average item.
    """

    label: str
    names: tuple[str, ...]
    items: tuple[str, ...]
    utilities: Array
    table: pd.DataFrame
    differences: pd.DataFrame
    level: float
    reference: str | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return the rankings of all groups as one table."""
        return self.table

    def __repr__(self) -> str:
        return f"Groups({len(self.names)} of {self.label}, {len(self.items)} items)"

    def __str__(self) -> str:
        leaders = self.table.groupby("group", sort=False).head(3)
        rankings = leaders[["group", "item", "mean", "lower", "upper", "p_best"]]
        real = self.differences[self.differences["real"]]
        against = f"against {self.reference}" if self.reference else "against the average item"
        said = f"{len(real)} of {len(self.differences)} differences between groups are real: their {self.level:.0%} "
        said += f"intervals, which hold all at once, leave out 0 (utility {against})."
        shown = real.head(10)[["item", "group_a", "group_b", "difference", "lower_all", "upper_all"]]
        parts = [repr(self), rankings.to_string(index=False, float_format="{:.2f}".format), said]
        return "\n".join([*parts, shown.to_string(index=False, float_format="{:.3f}".format)] if len(real) else parts)

    def _repr_html_(self) -> str:
        return shown(repr(self), self.table)


def by_group(post: Draws, label: str, level: float = 0.9, reference: str | None = None) -> Groups:
    """Return a ranking for each group, as the average annotator would see it there.

    The program is asked for the margin of each item over the first in each group, neither shown first and covariates
    alike; what other labels say is at the mean of their population. Groups are as partially pooled as the program has
    them.

    Parameters
    ----------
    post
        A fit of a program that reads the label, without types of annotators.
    label
        A column of labels that the program reads: "category", "country" of annotators, or "annotator".
    level
        Probability of intervals.
    reference
        Item from which utilities are counted where groups are compared; None: the average item.

    Raises
    ------
    DataError
        If the program does not read the label, annotators have types, the fit has no spread (map), or the reference
        is no item.
    """
    require_spread(post, level, reference)
    if "type_weight" in post.draws:
        raise DataError("annotators of this fit have types, each with a ranking of its own; groups have one each")
    name = post.full_name(label)
    names = _groups(post, post.program, name)
    utilities = utilities_in(post, name, np.arange(len(names)))
    utilities -= utilities.mean(-1, keepdims=True)
    counted = utilities if reference is None else utilities - utilities[..., [post.items.index(reference)]]
    kept = [k for k, item in enumerate(post.items) if item != reference]
    return Groups(
        label=name,
        names=names,
        items=post.items,
        utilities=utilities,
        table=_rankings(post, names, utilities, level),
        differences=_differences(post.items, names, counted, kept, level),
        level=level,
        reference=reference,
    )


def _groups(post: Draws, program: Program, name: str) -> tuple[str, ...]:
    if name == "annotator" and name in program.needs:
        return post.annotators
    if name in post.labels_of and not name.startswith("item."):
        return post.labels_of[name]
    if name in post.units:
        raise DataError(
            f"{name!r} is a number and names no groups; ask for rankings at its values by post.over({name!r})"
        )
    known = [each for each in post.labels_of if not each.startswith("item.")]
    known += ["annotator"] * ("annotator" in program.needs)
    raise DataError(
        f"{post.program_name} reads no labels called {name!r}, only {', '.join(known) or 'none'}; fit a program whose "
        f"utilities differ by them, as in by={name!r} of a layer"
    )


def utilities_in(post: Draws, name: str, places: NDArray[Any]) -> Array:
    """Return utilities [draw, place, item] over the first item, as the average annotator has them at each place.

    `places` are codes of labels, or of a number values in standard deviations from its mean.
    """
    items, groups = len(post.items), len(places)
    a, group = np.tile(np.arange(items), groups), np.repeat(places, items)
    who = group if name == "annotator" else None
    at = {} if name == "annotator" else {name: group}
    cells = question_cells(post, post.program, a, np.zeros_like(a), who, at=at)
    met = {"item", name}
    strange = {each for each in ("annotator", *post.labels_of) if not {each, each.partition(".")[0]} & met}
    given = given_to(post, cells, strange)
    cells, found = cells.to(post.device), np.empty((post.n_draws, groups, items))
    step = max(1, _PASS // len(a))
    for start in range(0, post.n_draws, step):
        rows = slice(start, start + step)
        found[rows] = _margins(post, cells, given, rows).reshape(-1, groups, items)
    return found


def _margins(post: Draws, cells: Any, given: list[str], rows: slice) -> Array:
    """Return margins [draw, cell] under some draws, what is not given at the mean of its distribution."""
    asked: list[torch.Tensor] = []

    def ask(data: Any) -> None:
        asked.append(margins(post.program.layers, data)[0])

    values = sites_of(post, given, rows)
    count = len(next(iter(post.draws.values()))[rows])
    program = Program(post.program_name, ask, post.outcomes, layers=post.program.layers)
    with torch.no_grad(), centred(post.latent):
        require_drawn(run(program, cells, values, count, seed=rows.start).met, post.latent, post.program_name)
    return asked[-1].expand(count, *asked[-1].shape[1:]).reshape(count, -1).cpu().numpy()


def _rankings(post: Draws, names: tuple[str, ...], utilities: Array, level: float) -> pd.DataFrame:
    tails = [(1 - level) / 2, (1 + level) / 2]
    parts = []
    for k, name in enumerate(names):
        own = utilities[:, k]
        rank = (-own).argsort(1).argsort(1) + 1
        part = pd.DataFrame({"group": name, "item": list(post.items), "mean": own.mean(0), "sd": own.std(0, ddof=1)})
        part["lower"], part["upper"] = np.quantile(own, tails, axis=0)
        ranks = np.quantile(rank, tails, axis=0, method="closest_observation").astype(int)
        part["rank_lower"], part["rank_upper"] = ranks
        part["p_best"] = (rank == 1).mean(0)
        parts.append(part.sort_values("mean", ascending=False))
    return pd.concat(parts, ignore_index=True)


def _differences(
    items: tuple[str, ...], names: tuple[str, ...], counted: Array, kept: list[int], level: float
) -> pd.DataFrame:
    first, second = np.triu_indices(len(names), 1)
    item = np.tile(np.array(kept, np.intp), len(first))
    a, b = np.repeat(first, len(kept)), np.repeat(second, len(kept))
    found = at_once(
        lambda part: counted[:, a[part], item[part]] - counted[:, b[part], item[part]], len(item), len(counted), level
    )
    labels, words = np.array(items, dtype=object), np.array(names, dtype=object)
    head = pd.DataFrame({"item": labels[item], "group_a": words[a], "group_b": words[b]})
    table = pd.concat([head, found], axis=1)
    table["real"] = (table["lower_all"] > 0) | (table["upper_all"] < 0)
    clear = (table["difference"].abs() / table["sd"].where(table["sd"] > 0, np.inf)).to_numpy()
    return table.iloc[np.argsort(-clear, kind="stable")].reset_index(drop=True)
