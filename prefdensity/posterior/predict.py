"""Outcome probabilities of pairs under posterior draws, by running the program itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws
from prefdensity.posterior.outcome_tables import outcome_tables, program_of
from prefdensity.programs.cells import Cells
from prefdensity.programs.layers import Program

_FIRST = {"a": 1.0, "b": -1.0, "neither": 0.0}


def outcome_probabilities(
    post: Draws,
    pairs: list[tuple[str, str]],
    annotator: str | None,
    first: str,
    program: Program | None = None,
    seed: int = 0,
    most: int | None = None,
) -> NDArray[np.float64]:
    """Return probabilities [draw, pair, outcome]; see `Posterior.predict`."""
    if first not in _FIRST:
        raise DataError(f"first={first!r} is unknown; use 'a', 'b' or 'neither'")
    known = None if annotator is None else _index(post.annotators, annotator, "annotator")
    cells = _cells(post, pairs, program_of(post, program), first, known)
    # an annotator nobody has met: his own latents are drawn afresh, the population's are kept
    given = [name for name in post.draws if known is not None or "annotator" not in post.dims[name]]
    step = 1 if most is None else max(1, post.n_draws // most)
    parts = []
    for table in outcome_tables(post, cells, program, given=given, step=step, seed=seed):
        if known is not None and table.log_weight is not None:
            of_type = torch.as_tensor(post.draws["type_probability"][table.draws, known]).log()
            table = replace(table, log_weight=of_type)
        parts.append(table.mixed().exp().numpy())
    return np.concatenate(parts)


def _index(labels: tuple[str, ...], label: str, kind: str) -> int:
    try:
        return labels.index(label)
    except ValueError:
        near = ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "")
        raise DataError(f"unknown {kind} {label!r}; the fit knows {len(labels)}: {near}") from None


def _cells(post: Draws, pairs: list[tuple[str, str]], program: Program, first: str, known: int | None) -> Cells:
    if not pairs:
        raise DataError("there are no pairs to predict")
    position = {label: k for k, label in enumerate(post.items)}
    for a, b in pairs:
        for label in (a, b):
            if label not in position:
                _index(post.items, label, "item")
    n = len(pairs)
    ones = torch.ones(n, dtype=torch.float64)
    who = torch.full((n,), known or 0) if "annotator" in program.needs else None
    return Cells(
        item_a=torch.tensor([position[a] for a, _ in pairs]),
        item_b=torch.tensor([position[b] for _, b in pairs]),
        total=ones,
        outcomes=post.outcomes,
        n_items=len(post.items),
        n_annotators=1 if known is None else len(post.annotators),
        annotator=who,
        first=_FIRST[first] * ones if "first" in program.needs else None,
        covariates=torch.zeros(n, len(post.covariate_names), dtype=torch.float64) if post.covariate_names else None,
        covariate_scale=torch.ones(len(post.covariate_names), dtype=torch.float64) if post.covariate_names else None,
        measures={name: torch.tensor(values, dtype=torch.float64) for name, values in post.measures.items()},
        feature_scale=None if post.features is None else torch.ones(post.features.shape[1], dtype=torch.float64),
        features=None if post.features is None else torch.tensor(post.features, dtype=torch.float64),
    )
