"""Answers that nobody has judged, known by their features alone: what a fit says of them, block by block.

Where utilities follow from features, a fit to few answers says something of any number of others. Their utilities under
every draw are worked out once; from then on they are items like others, whose utilities have these draws. Features of a
block of answers are held at a time, in the precision that they came in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.inference.fitting import viewed
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.posterior.questions import question_cells, sites_of
from prefdensity.programs.compose import compose
from prefdensity.programs.known_utilities import known_utilities
from prefdensity.programs.layers import Program
from prefdensity.programs.running import run
from prefdensity.programs.standardised import spread
from prefdensity.progress import progress as show_progress
from prefdensity.selection.candidates import as_numbers

Array = NDArray[Any]

_BLOCK = 1 << 22  # numbers of features, standardised, at a time


def describes(program: Program, data: Comparisons) -> bool:
    """Say whether a program tells utilities of items by their features alone, so that `described` takes its fits."""
    if data.item_features is None or "features" not in program.needs:
        return False
    view = viewed(program, data)
    return view.n_types == 1 and not any("item" in site.dims for site in view.sites.values())


def with_described(post: Posterior, data: Comparisons, features: pd.DataFrame, **asked: Any) -> Posterior:
    """Return `described` of the answers that were judged and of those of a table of features that were not."""
    assert data.item_features is not None  # see `describes`
    names = list(data.feature_names)
    judged = pd.DataFrame(data.item_features, index=list(data.items), columns=names)
    others = features.set_axis(features.index.map(str), axis=0).drop(index=judged.index, errors="ignore")
    absent = [name for name in names if name not in others]
    if absent:
        raise DataError(f"the features of the answers have no column {absent[0]!r}, which the fit has")
    return described(post, data, pd.concat([judged, others[names]]), **asked)


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
        If `data` is not the table that was fitted, utilities do not follow from features, annotators have types, or a
        column is missing or not finite.
    """
    require_same_table(post, data)
    own = [name for name in post.drawn if "item" in post.dims[name]]
    if data.item_features is None or post.dims.get("utility") != ("item",) or own:
        raise DataError(
            f"{post.program_name} does not make one utility of each item's features alone"
            + (f" ({own[0]!r} is each item's own)" if own else "")
            + "; put the answers into its votes by with_items, or fit a program such as a linear one"
        )
    place = {str(name): k for k, name in enumerate(features.columns)}
    absent = [name for name in data.feature_names if name not in place]
    if absent:
        raise DataError(f"the features of the answers have no column {absent[0]!r}, which the fit has")
    labels = tuple(map(str, features.index))
    if len(set(labels)) < len(labels):
        raise DataError("the features of the answers describe one label twice; give each answer one row")
    step = max(1, post.n_draws // draws)
    found = np.empty((len(range(0, post.n_draws, step)), len(labels)))
    middle, unit = data.item_features.mean(0), spread(data.item_features)
    values = sites_of(post, post.drawn, slice(None, None, step))
    rows = max(2, _BLOCK // len(middle))
    columns = [place[name] for name in data.feature_names]
    with show_progress(progress) as report:
        for start in range(0, len(labels), rows):
            report("answers", start, len(labels))
            points = (as_numbers(features.iloc[start : start + rows, columns]) - middle) / unit
            if not np.isfinite(points).all():
                row = start + int((~np.isfinite(points)).any(1).argmax())
                raise DataError(f"features must be finite numbers; those of {labels[row]!r} are not")
            found[:, start : start + rows] = _utilities(post, points, values)
    return _about(post, labels, found, step)


def _utilities(post: Posterior, points: Array, values: dict[str, Tensor]) -> Array:
    """Return utilities [draw, point] of standardised features, by the program itself."""
    cells = question_cells(post, post.program, [0], [0], points=points)
    count = len(next(iter(values.values())))
    with torch.no_grad():
        met = run(post.program, cells.to(post.device), values, count, seed=0).met["utility"]["value"]
    return np.asarray(met.expand(count, *met.shape[1:]).reshape(count, -1).cpu().numpy())


def _about(post: Posterior, labels: tuple[str, ...], utility: Array, step: int) -> Posterior:
    layers = [known_utilities if each.stage == "utility" else each for each in post.program.layers]
    made = replace(
        post, items=labels, fitted=compose(*layers), features=None, feature_names=(), error={}, measures={},
        event_dims=post.event_dims | {"utility": 0}, dims=post.dims | {"utility": ("item",)}, data_fingerprint="",
    )  # fmt: skip
    asked = question_cells(made, made.program, [0], [1 % len(labels)])
    with torch.no_grad():
        met = run(made.program, asked, {}, 1, seed=0).met
    draws = {name: post.draws[name][::step] for name in post.draws if name in met and name != "utility"}
    draws["utility"] = utility
    return replace(
        made, draws=draws, point={name: values.mean(0) for name, values in draws.items()},
        dims={name: made.dims[name] for name in draws}, log_p=np.zeros(0), log_q=np.zeros(0),
        event_dims={name: size for name, size in made.event_dims.items() if name in draws},
    )  # fmt: skip
