"""Predictive checks: whether a fitted program makes tables like the data, and if not, what is wrong with it.

A tail probability is the share of replicated tables that depart at least as far as the data do. Utilities were
fitted to the data and not to the replicated tables, which makes most tails too large: they rank evidence and are
no p-values. The rules from statistics to causes were set on simulated tables; one curve of choice against another is
beyond them, and they name families: hidden types and own utilities are both "annotators want different things",
careless annotators and unequal temperatures both "annotators are not equally reliable".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prefdensity.checking.catalogue import OF_SETS, catalogue
from prefdensity.checking.causes import suspects
from prefdensity.checking.discrepancies import Directions
from prefdensity.checking.replication import Design, replications
from prefdensity.checking.report import CheckReport
from prefdensity.checking.score import scores, table as ranked
from prefdensity.checking.sets import SetDesign
from prefdensity.checking.tallies import Curve, Tally
from prefdensity.errors import DataError, require_whole
from prefdensity.posterior.posterior import require_same_table
from prefdensity.words import share

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior
    from prefdensity.programs.layers import Layer

_MOST = 6_000_000  # cells x replicates
_FEWEST = 20
_BINS = 10
_OF_PAIRS = {"every layer": "scores of what could be added are for pairs, not for choices from sets"}


def check(
    post: Posterior, data: Comparisons | Choices, *, replicates: int = 100, seed: int = 0, layers: Sequence[Layer] = ()
) -> CheckReport:
    """Hold a table against replications of it by the fitted program.

    Realised discrepancies after Gelman, Meng and Stern (1996), Statistica Sinica 6, 733-807: each statistic is
    compared between the data and a table drawn from the same draw of the posterior.

    Parameters
    ----------
    post
        A fit.
    data
        The comparisons that it was fitted to, or choices from sets, of which it has fewer questions.
    replicates, seed
        Number of replicated tables, 20 or more (fewer are made of a table so large that they would take long).
    layers
        Layers of your own to offer as remedies beside the shipped ones; what they answer they say by ``mends=...``.
        Those that say where they say nothing (`null`, `spread`) are tried by their score.

    Returns
    -------
    CheckReport

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, or `replicates` is too small.
    """
    require_whole("seed", seed, 0)
    require_same_table(post, data)
    require_whole("replicates", replicates, _FEWEST)
    design = _design(post, data)
    size = max(_FEWEST, min(replicates, _MOST // len(design.cells)))
    tallies: list[Tally] = []
    for observed, replicated in replications(post, design, size, seed):
        directions: Any = None if data.SETS else Directions(observed.expected)
        if not tallies:
            curve = Curve(observed.expected, _BINS)
            checks = OF_SETS if data.SETS else catalogue(design)
            tallies = [Tally(each, design, each.lacks(design, directions)) for each in checks]
        curve.add(observed, replicated)
        for tally in tallies:
            tally.add(observed, replicated, directions)
    table = pd.DataFrame([tally.row() for tally in tallies])
    parts = {tally.check.name: tally.frame() for tally in tallies if not tally.lacking}
    found, untried = ([], _OF_PAIRS) if data.SETS else scores(post, data.pairs(), layers)
    steps, made = ranked(found), {each.extension.layer.label: each.extension.program for each in found}
    return CheckReport(
        program=post.program_name,
        source=data.source,
        table=table,
        causes=suspects(table, parts, steps, post.program, data, layers, made),
        steps=steps,
        untried=untried,
        parts=parts,
        calibration_curve=curve.frame(),
        replicates=size,
        warnings=tuple(_cautions(post, data, size, replicates, parts)),
    )


def calibration_curve(
    post: Posterior,
    data: Comparisons | Choices,
    *,
    bins: int = 10,
    replicates: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often favourites win, against how often the program says they do.

    Parameters
    ----------
    post, data, replicates, seed
        As in `check`.
    bins
        Number of groups of about equally many judgements, by the probability of the favourite.

    Returns
    -------
    Frame with predicted and observed (mean score of the favourite: 1 for a win, 1/2 for a tie), lower and upper
    (where 90% of replicated tables lie), judgements; one row for each group.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, or a number is too small.
    """
    require_same_table(post, data)
    if bins < 1 or replicates < _FEWEST:
        raise DataError(f"bins={bins} must be at least 1, and replicates={replicates} at least {_FEWEST}")
    curve = None
    for observed, replicated in replications(post, _design(post, data), replicates, seed):
        curve = curve or Curve(observed.expected, bins)
        curve.add(observed, replicated)
    assert curve is not None
    return curve.frame()


def _design(post: Posterior, data: Comparisons | Choices) -> Design:
    kind: Any = SetDesign if data.SETS else Design
    design: Design = kind(data, post.outcomes, post.program.needs)
    return design


def _cautions(
    post: Posterior, data: Comparisons | Choices, size: int, asked: int, parts: dict[str, pd.DataFrame]
) -> list[str]:
    said = []
    if post.is_point:
        said.append("A point fit replicates from one estimate: what it leaves uncertain counts against the program.")
    if not post.status.trusted:
        said.append("The fit failed its own checks: replications come from a poor approximation.")
    if size < asked:
        said.append(f"The table is large: {size} tables were replicated, not {asked}.")
    if (data.count != np.round(data.count)).any():
        said.append("Fractional counts, half wins or weights, vary less than the program says: checks are too kind.")
    own = parts.get("own cycles")
    if own is not None and own["observed"].sum() > 0:
        people = int((own["observed"] > 0).sum())
        said.append(
            f"Intransitive: {share(own['observed'].sum())} of the triads that one annotator judged go round in a "
            f"circle, at {people} of {len(own)} annotators: not even utilities of their own explain these without "
            "noise."
        )
    return said
