"""Outcome probabilities of pairs under posterior draws, by running the program itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.named import numbers_or_dates, require_among
from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.questions import draws_of, given_to, question_cells

FIRST = {"a": 1.0, "b": -1.0, "neither": 0.0}


def outcome_probabilities(
    post: Draws,
    pairs: list[tuple[str, str]],
    annotator: str | None,
    first: str,
    seed: int = 0,
    most: int | None = None,
    at: Mapping[str, Any] = MappingProxyType({}),
) -> NDArray[np.float64]:
    """Return probabilities [draw, pair, outcome]; see `Posterior.predict`."""
    if first not in FIRST:
        raise DataError(f"first={first!r} is unknown; use 'a', 'b' or 'neither'")
    known = None if annotator is None else _index(post.annotators, annotator, "annotator", "annotator")
    a, b = codes(post, pairs)
    who = None if known is None else np.full(len(pairs), known)
    asked = {post.full_name(name): value for name, value in at.items()}
    where = {name: np.full(len(pairs), place_of(post, name, value)) for name, value in asked.items()}
    cells = question_cells(post, post.program, a, b, who, first=FIRST[first], at=where)
    # an annotator, or category, that nobody has met: its own latents are drawn afresh, the population's are kept
    met = {"item", *where, *(() if known is None else ("annotator",))}
    strange = {name for name in ("annotator", *post.labels_of) if not {name, name.partition(".")[0]} & met}
    given = given_to(post, cells, strange) if strange else list(post.drawn)
    step = 1 if most is None else max(1, post.n_draws // most)
    parts = []
    for table in outcome_tables(post, cells, given=given, step=step, seed=seed):
        if known is not None and table.log_weight is not None:
            of_type = draws_of(post, "type_probability", table.draws)[:, known].log().unsqueeze(-1)
            table = replace(table, log_weight=of_type)
        parts.append(table.mixed().exp().cpu().numpy())
    return np.concatenate(parts)


def place_of(post: Draws, name: str, value: Any) -> float:
    """Return the code of a label, or a number in its unit, that somebody asks about."""
    if name in post.labels_of:
        return _index(post.labels_of[name], str(value), name, "at")
    if name not in post.units:
        known = ", ".join((*post.labels_of, *post.units)) or "none"
        raise DataError(f"{post.program_name} reads no column {name!r} that could be asked about; it reads {known}")
    middle, spread, *_ = post.units[name]
    (number,) = numbers_or_dates(pd.Series([value], name=name, dtype=object), "at")
    return float((number - middle) / spread)


def _index(labels: tuple[str, ...], label: str, kind: str, argument: str) -> int:
    require_among((label,), labels, argument, kind, "fit")
    return labels.index(label)


def codes(post: Draws, pairs: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """Return the codes of both sides of each pair."""
    if not pairs:
        raise DataError("there are no pairs to predict")
    position = {label: k for k, label in enumerate(post.items)}
    require_among((label for pair in pairs for label in pair), post.items, "pairs", whose="fit")
    return [position[a] for a, _ in pairs], [position[b] for _, b in pairs]
