"""Cells that ask about named items and annotators, coded in the vocabulary of a posterior."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from prefdensity.posterior.draws import Draws
from prefdensity.programs.apart import UNTOLD, meeting
from prefdensity.programs.cells import CODED, Cells, contrasts, outside
from prefdensity.programs.layers import Program
from prefdensity.programs.running import run


def question_cells(
    post: Draws,
    program: Program,
    item_a: ArrayLike,
    item_b: ArrayLike,
    annotator: ArrayLike | None = None,
    *,
    first: float | Tensor = 0.0,
    points: NDArray[np.float64] | None = None,
    at: Mapping[str, ArrayLike] = MappingProxyType({}),
) -> Cells:
    """Return one cell for each pair, all covariates 0 and nothing observed, on the CPU (see `Cells.to`).

    Parameters
    ----------
    post, program
        The vocabulary, and the program whose needs are met.
    item_a, item_b
        Codes [cell].
    annotator
        Codes [cell] in `post.annotators`; None: somebody nobody has met, the only one there is.
    first
        Which side is shown first: 1 side a, -1 side b, 0 neither; for all cells, or each [cell].
    points
        Standardised features [point, feature] in the place of those of the items, whose codes are then those of points.
    at
        Of further labels that the program needs, such as "category": codes [cell] in `post.labels_of`; a label that is
        not given is one that nobody has met. Of numbers that it needs, such as "date" or "annotator.age": [cell], in
        standard deviations from their mean; what is not given is at the mean, or what the annotator's is.
    """
    a, b = torch.as_tensor(np.asarray(item_a)), torch.as_tensor(np.asarray(item_b))
    ones = torch.ones(len(a), dtype=torch.float64)
    covariates = len(post.covariate_names)
    features = post.features if points is None else points
    given = _given(post, at if annotator is None else {**at, "annotator": annotator})
    labels, sizes = _labels(post, program, given, len(a))
    of_rows = [name for name in dict.fromkeys((*post.units, *post.attributes)) if not name.startswith("item.")]
    numbers = [name for name in of_rows if name not in post.labels_of]
    held = {name: ones * torch.as_tensor(np.asarray(given.get(name, 0.0))) for name in numbers}
    spans = {name: _span(post, name) for name in numbers}
    return Cells(
        item_a=a,
        item_b=b,
        total=ones,
        outcomes=post.outcomes,
        sizes={"item": len(post.items) if points is None else len(points), **sizes},
        labels=labels,
        codes=_codes(post, program, given, labels),
        numbers=held,
        spans=spans,
        outside=outside(held, spans),
        attributes=_attributes(post, given),
        first=first * ones if "first" in program.needs else None,
        covariates=torch.zeros(len(a), covariates, dtype=torch.float64) if covariates else None,
        covariate_scale=torch.ones(covariates, dtype=torch.float64) if covariates else None,
        covariate_names=post.covariate_names,
        measures={name: torch.tensor(values, dtype=torch.float64) for name, values in post.measures.items()},
        feature_scale=None if features is None else torch.ones(features.shape[1], dtype=torch.float64),
        features=None if features is None else _as_tensor(features),
    )


def _as_tensor(features: NDArray[np.float64] | Tensor) -> Tensor:
    return features if isinstance(features, Tensor) else torch.tensor(features, dtype=torch.float64)


def _given(post: Draws, at: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """Return labels and numbers that are given, among them what is known of the annotators that are."""
    given = dict(at)
    for name, known in post.attributes.items():
        per = name.partition(".")[0]
        if per in given and per != "item":
            given.setdefault(name, np.asarray(known)[np.asarray(given[per])])
    return given


def _attributes(post: Draws, given: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    """Return what is known of items, annotators and others; of somebody nobody has met the middle, or first, value."""
    attributes = {}
    for name, known in post.attributes.items():
        values = torch.tensor(known, dtype=torch.int64 if name in post.labels_of else torch.float64)
        per = name.partition(".")[0]
        attributes[name] = values if per == "item" or per in given else torch.zeros_like(values[:1])
    return attributes


def _labels(
    post: Draws, program: Program, given: Mapping[str, ArrayLike], cells: int
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the codes [cell] of labels of rows, and how many each kind of label has: one where it is not given."""
    labels, sizes = {}, {}
    for name, words in {**post.labels_of, "annotator": post.annotators}.items():
        of_items = name.startswith("item.")
        sizes[name] = len(words) if name in given or of_items else 1
        if (name in post.labels_of or name in program.needs) and not of_items:
            labels[name] = torch.as_tensor(np.asarray(given.get(name, np.zeros(cells))), dtype=torch.int64)
    return labels, sizes


def _codes(
    post: Draws, program: Program, given: Mapping[str, ArrayLike], labels: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the contrasts [cell, level - 1] of labels; of a level that nobody has met those of the middle of all."""
    codes = {}
    for name in (post.full_name(need.removeprefix(CODED)) for need in program.needs if need.startswith(CODED)):
        if name in labels:
            met = contrasts(len(post.labels_of[name]))
            codes[name] = met[labels[name]] if name in given else met.new_zeros(len(labels[name]), met.shape[1])
    return codes


def _span(post: Draws, name: str) -> Tensor:
    """Return the least and the greatest [2] of a number, in standard deviations from its mean."""
    middle, spread, *ends = post.units[name]
    return (torch.tensor(ends, dtype=torch.float64) - middle) / spread


def draws_of(post: Draws, name: str, rows: slice | NDArray[Any] = slice(None)) -> Tensor:
    """Return draws [draw, ...] of a site on the device of the posterior."""
    return torch.tensor(post.draws[name][rows], device=post.device)


def sites_of(post: Draws, names: Collection[str], rows: slice | NDArray[Any] = slice(None)) -> dict[str, Tensor]:
    """Return draws of sites as a run takes them (see `padded`), on the device of the posterior."""
    return {name: padded(post, name, draws_of(post, name, rows)) for name in names}


def by_member(post: Draws, sites: Mapping[str, Tensor]) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Return draws of sites as a run takes them, those of one member of an ensemble together, and which they are.

    Sites at modes then have one value for all of them, and what follows from these alone is worked out once.
    """
    held = [name for name in post.at_mode if name in sites]
    some = next(iter(sites.values()))
    if not held:
        return [(torch.arange(len(some), device=some.device), dict(sites))]
    _, member = torch.stack([sites[name].flatten(1).sum(-1) for name in held], -1).unique(dim=0, return_inverse=True)
    found = []
    for k in range(int(member.max()) + 1):
        rows = torch.nonzero(member == k).flatten()
        found.append((rows, {name: value[rows[:1] if name in held else rows] for name, value in sites.items()}))
    return found


def among_asked(post: Draws, cells: Cells) -> Cells:
    """Return cells among the items that they are about alone, where nothing else is felt of others.

    That is so where utilities follow from features: looked at in two draws of one cell.
    """
    of_items = any("item" in post.dims[name] for name in post.drawn)
    if of_items or not cells.pairwise or cells.ratings is not None or cells.n_items <= 2 * len(cells):
        return cells
    sites, one = sites_of(post, post.drawn, slice(0, 2)), cells.head(1)
    count = min(2, post.n_draws)
    try:
        with torch.no_grad():
            here, there = (
                run(post.program, each.to(post.device), sites, count, seed=0).met["outcome"]["fn"].outcome_log_prob
                for each in (one, meeting(one))
            )
    except UNTOLD:
        return cells
    return meeting(cells) if torch.allclose(here, there, rtol=1e-9, atol=1e-12) else cells


def padded(post: Draws, name: str, values: Tensor) -> Tensor:
    """Return draws [draw, ...] of a site shaped for a fit plate at dim -3."""
    batch = values.dim() - 1 - post.event_dims[name]
    return values.double().reshape(len(values), *(1,) * (2 - batch), *values.shape[1:])


def given_to(post: Draws, cells: Cells, strange: Collection[str]) -> list[str]:
    """Return the latent sites whose draws hold for somebody unknown; those of what is strange are drawn afresh.

    Which sites belong to a label is found by running the program in a world with one more of it: what plates are called
    does not matter.

    Parameters
    ----------
    post
        A posterior whose program is at hand.
    cells
        What is asked, or any cells that the program runs on.
    strange
        Labels that nobody has met, such as "annotator" or "annotator.country".
    """
    common = unmoved(post, cells, strange)
    return [name for name in post.drawn if name in common]


def unmoved(post: Draws, cells: Cells, strange: Collection[str]) -> set[str]:
    """Return the sites, latent or not, that are as large in a world with one more of each strange label."""
    one = cells.head(1)

    def shapes(more: int) -> dict[str, torch.Size]:
        sizes = {name: size + more * (name in strange) for name, size in one.sizes.items()}
        attributes = {
            name: torch.cat([at, at[:1].expand(more * (name.partition(".")[0] in strange))])
            for name, at in one.attributes.items()
        }
        met = run(post.program, replace(one, sizes=sizes, attributes=attributes), {}, 1, seed=0).met
        return {name: site["value"].shape for name, site in met.items() if not site["is_observed"]}

    before, after = shapes(0), shapes(1)
    return {name for name, shape in before.items() if after.get(name) == shape}
