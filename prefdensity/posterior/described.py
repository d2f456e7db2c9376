"""Answers that nobody has judged, known by their features alone: what a fit says of them, block by block.

Where utilities follow from features, a fit to few answers says something of any number of others. Their utilities under
every draw are worked out once; from then on they are items like others, whose utilities have these draws. Features of a
block of answers are held at a time, in the precision that they came in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.columns import matrix, these_columns
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.posterior.draws import require_fit
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.posterior.questions import by_member, question_cells, sites_of
from prefdensity.programs.compose import compose
from prefdensity.programs.known_utilities import known_utilities
from prefdensity.programs.running import run
from prefdensity.programs.standardised import spread
from prefdensity.progress import progress as show_progress

Array = NDArray[Any]

_BLOCK = 1 << 22  # numbers of features, standardised, at a time
_ROLE = "the features of the answers"


def described(
    post: Posterior, data: Comparisons, features: pd.DataFrame, *, draws: int = 256, progress: bool | None = None
) -> Posterior:
    """Return a fit as it stands, about the answers of another table of features.

    Parameters
    ----------
    post
        A fit of a program whose utilities follow from item features and from nothing of an item's own.
    data
        The comparisons that it was fitted to, in whose units features are read.
    features
        Numbers of the answers, indexed by label: the columns of the fit, judged answers or not.
    draws
        Draws of the posterior to keep, at most.
    progress
        A progress bar (None: where a person watches).

    Returns
    -------
    A posterior whose items are these answers; `select` and others take it as any other. It is of no table, so it cannot
    be checked, and the votes to come belong into a new fit.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, utilities do not follow from features, or a column is missing or not
        finite.
    """
    require_fit(post)
    table, step = these_columns(features, data.feature_names, _ROLE), max(1, post.n_draws // draws)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"{_ROLE} describe one label twice, {twice!r}; give each answer one row")
    blocks: list[Array] = []
    asked: list[Array] = []
    again = any("features" in each.needs for each in post.program.layers if each.stage != "utility")
    for points, utilities in utilities_of(post, data, table, step, progress):
        blocks.append(utilities)
        if again:
            asked.append(points)
    found = np.concatenate(blocks, -1)
    return _about(post, tuple(table.index), found, step, np.concatenate(asked) if again else None)


def utilities_of(
    post: Posterior, data: Comparisons, features: pd.DataFrame, step: int = 1, progress: bool | None = None
) -> Iterator[tuple[Array, Array]]:
    """Yield standardised features [answer, feature] and utilities [draw, (type,) answer] of some answers after others.

    Of `described`'s arguments; `step`: every how many draws. Nothing is subtracted from utilities: those of several
    tables compare.
    """
    require_same_table(post, data)
    own = [name for name in post.drawn if "item" in post.dims[name]]
    if data.item_features is None or post.dims.get("utility", ())[-1:] != ("item",) or own:
        raise DataError(
            f"{post.program_name} does not make utilities of each item's features alone"
            + (f" ({own[0]!r} is each item's own)" if own else "")
            + "; put the answers into its votes by with_items, or fit a program such as a linear one"
        )
    table = these_columns(features, data.feature_names, _ROLE)
    if not len(table):
        raise DataError(f"{_ROLE} have no rows; give each answer one")
    middle, unit = data.item_features.mean(0, dtype=np.float64), spread(data.item_features)
    values = sites_of(post, post.drawn, slice(None, None, step))
    size = max(2, _BLOCK // len(middle))
    with show_progress(progress) as report:
        for start in range(0, len(table), size):
            report("answers", start, len(table))
            some = table.iloc[start : start + size]
            points = (matrix(some, np.arange(len(some)), _ROLE, "for answer") - middle) / unit
            yield points, _utilities(post, points, values)


def _utilities(post: Posterior, points: Array, values: dict[str, Tensor]) -> Array:
    """Return utilities [draw, (type,) point] of standardised features, by the program itself."""
    cells = question_cells(post, post.program, [0], [0], points=points)
    kept = post.draws["utility"].shape[1:-1]
    found = np.empty((len(next(iter(values.values()))), *kept, len(points)))
    for draw, some in by_member(post, values):
        with torch.no_grad():
            met = run(post.program, cells.to(post.device), some, len(draw), seed=0).met["utility"]["value"]
        table = met.expand(len(draw), *met.shape[1:]).reshape(len(draw), *kept, -1)
        found[draw.cpu().numpy()] = table.cpu().numpy()
    return found


def _about(post: Posterior, labels: tuple[str, ...], utility: Array, step: int, points: Array | None) -> Posterior:
    """Return a fit whose items have these utilities, and these standardised features for layers that read them."""
    kept_layers = [each for each in post.program.layers if each.stage != "scale"]  # utilities are known without it
    layers = [known_utilities if each.stage == "utility" else each for each in kept_layers]
    made = replace(
        post, items=labels, fitted=compose(*layers), features=points, error={}, measures={}, data_fingerprint="",
        feature_names=() if points is None else post.feature_names,
        event_dims=post.event_dims | {"utility": 0},
    )  # fmt: skip
    asked = question_cells(made, made.program, [0], [1 % len(labels)])
    with torch.no_grad():
        met = run(made.program, asked, {}, 1, seed=0).met
    kept = {*met, "type_probability"} - {"utility"}  # the latter follows from the votes, not from the program alone
    draws = {name: post.draws[name][::step] for name in post.draws if name in kept}
    draws["utility"] = utility
    return replace(
        made, draws=draws, point={name: values.mean(0) for name, values in draws.items()},
        dims={name: made.dims[name] for name in draws}, log_p=np.zeros(0), log_q=np.zeros(0),
        event_dims={name: size for name, size in made.event_dims.items() if name in draws},
        at_mode=tuple(name for name in post.at_mode if name in draws),
    )  # fmt: skip
