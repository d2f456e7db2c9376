"""What a program of comparisons expects of verdicts: measures of units, made of the verdicts of other units.

A cheap verdict is no guess of a label by itself: who gave it, on what kind of task and when says what it is worth. Any
program, with contexts, attributes and time, is fitted to the verdicts that were bought; what it expects is known of
every unit for nothing, and of who judged with their verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from prefdensity.data.columns import empty
from prefdensity.data.comparison_columns import first_codes
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.grades import scores
from prefdensity.data.named import columns_of, numbers_or_dates
from prefdensity.errors import DataError, ProgramError
from prefdensity.inference.fitting import fit_wholly
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.questions import draws_of, given_to, question_cells
from prefdensity.programs.layers import Layer, Program

Array = NDArray[Any]

_MOST = 200  # draws that are averaged over


def expect_verdicts(
    program: str | Path | Program | Layer | Posterior, frame: pd.DataFrame, *, folds: int = 5, method: str = "auto",
    seed: int = 0, **columns: Any,
) -> pd.DataFrame:  # fmt: skip
    """Return what a program expects of the verdict on every unit: `expected`, and `expected_of` who judged.

    Both are chances that the first item is preferred, a tie half, by verdicts on the units of other folds: a unit's own
    verdict is not in them, so that `expected` may be a free measure of the unit, and `expected_of` a measure that comes
    with the verdict, as in `Measured.from_frame(..., free=["expected"], ladder={"crowd": ["vote", "expected_of"]})`.

    Parameters
    ----------
    program
        To fit; or a posterior of earlier verdicts, which is taken as it is.
    frame
        One row per unit; empty outcomes, and annotators, where no verdict was bought.
    folds, seed
        Of units; of folds and fits.
    method
        Of the fits.
    **columns
        As of `Comparisons.from_frame`: item_a, item_b, outcome, annotator, groups, numbers, attributes, ...

    Returns
    -------
    DataFrame
        `expected` for whoever judges, 1/2 where an item was in no verdict; `expected_of` with NaN where nobody judged.

    Raises
    ------
    DataError
        If no verdict was bought, a unit has an item, label or number missing, or the program reads covariates, which
        are free measures as they are.
    """
    asked = _Asked.of(frame, columns)
    fold = np.random.default_rng(seed).permutation(len(frame)) % folds
    if not isinstance(program, Posterior) and not 2 <= folds <= len(asked.verdicts):
        raise DataError(f"folds={folds} must lie between 2 and {len(asked.verdicts)}, the number of verdicts")
    out = pd.DataFrame({"expected": np.full(len(frame), 0.5), "expected_of": np.nan}, index=frame.index)
    for each in range(folds):
        rows = np.flatnonzero(fold == each)
        if isinstance(program, Posterior):
            post, rows = program, np.arange(len(frame))
        else:
            train = asked.verdicts.take(fold[asked.bought] != each)
            post = fit_wholly(program, train, method=method, draws=_MOST, seed=seed, progress=False)
        if post.covariate_names:
            raise ProgramError(f"{post.program_name} reads covariates; they are free measures of units as they are")
        out.iloc[rows, 0] = asked.expected(post, rows, of_judge=False, seed=seed)
        judged = np.intersect1d(rows, asked.bought)
        out.iloc[judged, 1] = asked.expected(post, judged, of_judge=True, seed=seed)
        if post is program:
            break
    return out


@dataclass(frozen=True, eq=False)
class _Asked:
    """Units as they are asked about.

    Attributes
    ----------
    frame
        Texts of items and of who judged, one row per unit.
    labels, numbers
        By name: texts, and numbers [unit].
    first
        1 where side a is shown first, -1 side b, 0 neither or unknown [unit].
    bought
        Which units have a verdict.
    verdicts
        These, in the order of units.
    """

    frame: pd.DataFrame
    labels: Mapping[str, pd.Series]
    numbers: Mapping[str, Array]
    first: Array
    bought: Array
    verdicts: Comparisons

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: Mapping[str, Any]) -> _Asked:
        source = str(columns.get("source", "data frame"))
        named = {name: columns.get(name, name) for name in ("item_a", "item_b", "outcome")}
        for name in named.values():
            if name not in frame.columns:
                raise DataError(f"{source} has no column {name!r}, of items and what was preferred")
        bought = np.flatnonzero(~empty(frame[named["outcome"]].reset_index(drop=True)))
        if not len(bought):
            raise DataError(f"{source} holds no verdict in column {named['outcome']!r}; a program learns from verdicts")
        groups, figures = (columns_of(name, columns.get(name, ())) for name in ("groups", "numbers"))
        context = columns.get("context", "context" if "context" in frame.columns else None)
        groups |= {} if context is None else {"context": context}
        for name in (named["item_a"], named["item_b"], *groups.values(), *figures.values()):
            if (none := empty(frame[name].reset_index(drop=True))).any():
                raise DataError(
                    f"{source}: column {name!r} is empty in row {int(none.argmax()) + 1}; every unit needs it"
                )
        who = columns.get("annotator", "annotator" if "annotator" in frame.columns else None)
        texts = frame[[named["item_a"], named["item_b"]]].astype(str).set_axis(["item_a", "item_b"], axis=1)
        texts = texts.assign(annotator="" if who is None else frame[who].astype(str)).reset_index(drop=True)
        shown = columns.get("first", "first" if "first" in frame.columns else None)
        first = np.full(len(frame), float(bool(columns.get("ordered"))))
        if shown is not None:
            told = frame[shown].reset_index(drop=True)
            first = first_codes(told.where(~empty(told), "neither").to_frame(), shown, source).astype(float)
        return cls(
            texts, {name: frame[each].astype(str).reset_index(drop=True) for name, each in groups.items()},
            {name: numbers_or_dates(frame[each].reset_index(drop=True), source) for name, each in figures.items()},
            first, bought, Comparisons.from_frame(frame.iloc[bought].reset_index(drop=True), **columns),
        )  # fmt: skip

    def expected(self, post: Posterior, rows: Array, of_judge: bool, seed: int) -> Array:
        """Return the expected score of side a [row], of those who judged or of whoever judges."""
        out = np.full(len(rows), 0.5)
        place = {name: post.labels_of[name] for name in self.labels if name in post.labels_of}
        place |= {"item_a": post.items, "item_b": post.items}
        of_judge = of_judge and bool(post.annotators)
        if of_judge:
            place["annotator"] = post.annotators
        codes = {name: _codes(self.labels.get(name, self.frame.get(name)), words) for name, words in place.items()}
        known = np.all([code[rows] >= 0 for code in codes.values()], axis=0)
        at: dict[str, Array] = {name: code[rows][known] for name, code in codes.items()}
        for name in self.numbers:
            if name in post.units:
                middle, spread, *_ = post.units[name]
                at[name] = (self.numbers[name][rows][known] - middle) / spread
        if known.any():
            out[known] = _chances(post, at, self.first[rows][known], seed)
        return out


def _codes(given: Any, words: tuple[str, ...]) -> Array:
    """Return the code of each text, -1 where it is not among the words."""
    place = {word: code for code, word in enumerate(words)}
    return np.array([place.get(text, -1) for text in given])


def _chances(post: Posterior, at: dict[str, Array], first: Array, seed: int) -> Array:
    """Return the mean score of side a [cell] over draws, at codes of items, labels and annotators, and numbers."""
    a, b, who = at.pop("item_a"), at.pop("item_b"), at.pop("annotator", None)
    cells = question_cells(post, post.program, a, b, who, first=torch.as_tensor(first), at=at)
    met = {"item", *at, *(() if who is None else ("annotator",))}
    strange = {name for name in ("annotator", *post.labels_of) if not {name, name.partition(".")[0]} & met}
    given = given_to(post, cells, strange) if strange else list(post.drawn)
    parts = []
    for table in outcome_tables(post, cells, given=given, step=max(1, post.n_draws // _MOST), seed=seed):
        if who is not None and table.log_weight is not None:
            of_type = draws_of(post, "type_probability", table.draws).log().transpose(-1, -2)
            table = replace(table, log_weight=of_type, annotator=torch.as_tensor(who).to(post.device))
        parts.append(table.mixed().exp().cpu().numpy())
    return np.asarray(np.concatenate(parts).mean(0) @ scores(post.outcomes))
