"""Predictive checks: whether a fitted program makes tables like the data, and if not, what is wrong with it.

A tail probability is the share of replicated tables that depart at least as far as the data do. Utilities were
fitted to the data and not to the replicated tables, which makes most tails too large: they rank evidence and are
no p-values. The rules from statistics to causes were set on simulated tables; one curve of choice against another is
beyond them, and they name families: hidden types and own utilities are both "annotators want different things",
careless annotators and unequal temperatures both "annotators are not equally reliable".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prefdensity.checking.catalogue import catalogue
from prefdensity.checking.causes import Cause, suspects
from prefdensity.checking.discrepancies import Directions
from prefdensity.checking.replication import Design, replications
from prefdensity.checking.score import scores, table as ranked
from prefdensity.checking.sets import SET_CHECKS, SetDesign
from prefdensity.checking.tallies import CERTAIN, Curve, Tally
from prefdensity.errors import DataError
from prefdensity.posterior.posterior import require_same_table
from prefdensity.words import share

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior
    from prefdensity.programs.layers import Layer

_MOST = 20_000_000  # cells x replicates
_FEWEST = 20
_BINS = 10
_OF_PAIRS = {"every layer": "scores of what could be added are for pairs, not for choices from sets"}
SEEN = 0.05  # adjusted p-value up to which a layer is told


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What the data say against a program; `print` it.

    Attributes
    ----------
    program, source
        What was checked, and the data.
    table
        check, statistic, expected, tail, z, verdict, meaning: one row for each check. `z` is the distance from
        what is expected in standard deviations between replicated tables, of cube roots where the statistic is a sum
        of squares; verdicts are "as expected", "doubtful", "contradicted" and "not available".
    causes
        Suspects, the best supported first; empty if nothing is found.
    steps
        What to try next: a row for each layer that could be added, what would gain most first; see `score.table`.
    untried
        Layer -> why it was not tried.
    parts
        check -> frame of annotators, pairs or items (label, judgements, observed, expected, z), those who
        contribute most to its departure first.
    calibration
        As returned by `calibration`.
    replicates
        Number of replicated tables.
    warnings
        Sentences to read before relying on it.
    """

    program: str
    source: str
    table: pd.DataFrame
    causes: tuple[Cause, ...]
    steps: pd.DataFrame
    untried: dict[str, str]
    parts: dict[str, pd.DataFrame]
    calibration: pd.DataFrame
    replicates: int
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What all checks together say of the program: "stands", "in doubt" or "contradicted".

        Contradicted from a check 4 standard deviations off, which fewer than 1 in 100 programs that are right show; in
        doubt from a cause or a contradicted check, which about 1 in 20 of them show.
        """
        off = self._off()
        if (off["z"].abs() >= CERTAIN).any() or any(cause.evidence >= CERTAIN for cause in self.causes):
            return "contradicted"
        return "in doubt" if self.causes or (off["verdict"] == "contradicted").any() else "stands"

    @property
    def headline(self) -> str:
        """One sentence: what the data say against the program, or that they say nothing."""
        if self.verdict == "stands":
            return f"Nothing here speaks against {self.program}."
        said = [f"{cause.name} (z = {cause.evidence:.1f})" for cause in self.causes[:1]]
        for farthest in self._off().sort_values("z", key=abs).tail(1).to_dict("records"):
            if not self.causes or self.causes[0].evidence < CERTAIN <= abs(farthest["z"]):
                said.append(f"{farthest['check']} is off by z = {farthest['z']:.1f}: {farthest['meaning']}")
        rest = len(self.causes) - 1
        more = f"; and {rest} more suspicion{'s' if rest > 1 else ''}" if rest > 0 else ""
        found = "; ".join(said) + more
        if self.verdict == "contradicted":
            return f"The data contradict {self.program}: {found}."
        return f"The data cast doubt on {self.program}: {found}."

    @property
    def advice(self) -> str:
        """What to do next."""
        if self.causes:
            return self.causes[0].advice
        if self.verdict == "stands":
            return "Let compare say whether another program predicts better; a check cannot."
        return "No program here is known to mend this: compare others, and look at the parts of the checks."

    @property
    def caution(self) -> str:
        """What to say before any number of a program that the data contradict, or nothing."""
        if self.verdict != "contradicted":
            return ""
        return f"The data contradict {self.program}: every number here is what it would say if it were right."

    def _off(self) -> pd.DataFrame:
        return self.table[self.table["verdict"].isin(["doubtful", "contradicted"])]

    def _next(self) -> list[str]:
        """Return lines on the layers that would gain something and that the data show."""
        seen = self.steps[(self.steps["p_adjusted"] <= SEEN) & (self.steps["gain"] > 0)]
        said = [
            f"  {row['layer']}: {row['gain']:.1f} nats (adjusted p = {row['p_adjusted']:.2g})"
            for row in seen.to_dict("records")
        ]
        return ["What a layer would gain in elpd, as its score tells:", *said] if said else []

    def suspects(self) -> pd.DataFrame:
        """Return the causes as a frame: cause, check, evidence (z), meaning, carried_by (the first), advice."""
        return pd.DataFrame(
            [(c.name, c.check, c.evidence, c.meaning, c.bearers, c.advice) for c in self.causes],
            columns=["cause", "check", "evidence", "meaning", "carried_by", "advice"],
        )

    def __str__(self) -> str:
        lines = [f"{self.program} against {self.source}, {self.replicates} replicated tables", self.headline]
        lines += [f"  {number}. {cause}" for number, cause in enumerate(self.causes, 1)]
        lines += self._next()
        lines.append(f"{'check':<16}{'data':>9}{'expected':>10}{'tail':>7}{'z':>7}  verdict")
        for row in self.table.to_dict("records"):
            if row["verdict"] == "not available":
                lines.append(f"{row['check']:<16}{'':33}  not available: {row['meaning']}")
            else:
                numbers = f"{row['statistic']:>9.4g}{row['expected']:>10.4g}{row['tail']:>7.2f}{row['z']:>7.1f}"
                lines.append(f"{row['check']:<16}{numbers}  {row['verdict']}")
        lines.append("Tails rank evidence; they are no p-values, and most are too large.")
        return "\n".join(lines + [f"- {warning}" for warning in self.warnings])


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
    replicates
        Number of replicated tables, 20 or more; fewer are made of a table so large that they would take long.
    seed
        Of the replicated tables.
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
    require_same_table(post, data)
    if replicates < _FEWEST:
        raise DataError(f"replicates={replicates} is too few to see a tail; use {_FEWEST} or more")
    design = _design(post, data)
    size = max(_FEWEST, min(replicates, _MOST // len(design.cells)))
    tallies: list[Tally] = []
    for observed, replicated in replications(post, design, size, seed):
        directions: Any = None if data.SETS else Directions(observed.expected)
        if not tallies:
            curve = Curve(observed.expected, _BINS)
            checks = SET_CHECKS if data.SETS else catalogue(design)
            tallies = [Tally(each, design, each.lacks(design, directions)) for each in checks]
        curve.add(observed, replicated)
        for tally in tallies:
            tally.add(observed, replicated, directions)
    table = pd.DataFrame([tally.row() for tally in tallies])
    parts = {tally.check.name: tally.frame() for tally in tallies if not tally.lacking}
    found, untried = ([], _OF_PAIRS) if data.SETS else scores(post, data.pairs(), layers)
    steps = ranked(found)
    return CheckReport(
        program=post.program_name,
        source=data.source,
        table=table,
        causes=suspects(table, parts, steps, post.program, data, layers),
        steps=steps,
        untried=untried,
        parts=parts,
        calibration=curve.frame(),
        replicates=size,
        warnings=tuple(_cautions(post, data, size, replicates, parts)),
    )


def calibration(
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
