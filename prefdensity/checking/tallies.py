"""Collecting discrepancies over runs of draws, into rows and frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from prefdensity.checking.discrepancies import Directions, Discrepancy
from prefdensity.checking.replication import Design, Expectation, Residuals, sums

Array = NDArray[Any]

DOUBT = 0.05  # tail probability from which a check is in doubt
CONTRADICTION = 3.3  # and standard deviations from which it contradicts the program: 1 in 1,000 per check, of some 16


class Tally:
    """One discrepancy of the data and of replicated tables, collected pass by pass."""

    def __init__(self, check: Discrepancy, design: Design, lacking: str) -> None:
        self.check, self.design, self.lacking = check, design, lacking
        self.data: list[Array] = []
        self.replicated: list[Array] = []
        self.sums: Array = np.zeros(())

    def add(self, observed: Residuals, replicated: Residuals, directions: Directions) -> None:
        """Count one run of draws."""
        if self.lacking:
            return
        ours, theirs = self.check.parts(observed, directions), self.check.parts(replicated, directions)
        ours = np.broadcast_to(ours, theirs.shape)  # what does not depend on draws comes once
        self.data.append(ours.sum(0))
        self.replicated.append(theirs.sum(0))
        self.sums = self.sums + np.stack([ours.sum(1), theirs.sum(1), (theirs**2).sum(1)])

    def row(self) -> dict[str, Any]:
        """Return the row of the table of checks."""
        name = {"check": self.check.name}
        if self.lacking:
            nothing = dict.fromkeys(("statistic", "expected", "tail", "z"), np.nan)
            return name | nothing | {"verdict": "not available", "meaning": self.lacking}
        ours, theirs = np.concatenate(self.data), np.concatenate(self.replicated)
        middle = theirs.mean()
        if self.check.below:
            beyond = np.abs(theirs - middle) >= np.abs(ours - middle)
        else:
            beyond = theirs >= ours
        tail = (1 + beyond.sum()) / (1 + len(beyond))
        z = _distance(ours, theirs) if self.check.below else _excess(ours, theirs, tail)
        verdict = "as expected" if tail > DOUBT else "contradicted" if abs(z) >= CONTRADICTION else "doubtful"
        said = self.check.asks if tail > DOUBT else self.check.above if z > 0 else self.check.below
        numbers = {"statistic": ours.mean(), "expected": middle, "tail": tail, "z": z}
        return name | numbers | {"verdict": verdict, "meaning": said or self.check.asks}

    def frame(self) -> pd.DataFrame:
        """Return who carries the statistic, the largest contributions to its departure first."""
        observed, expected, square = self.sums / sum(map(len, self.data))
        unit = self.check.unit or ("pair" if self.design.annotator is None else "annotator")
        frame = self.design.units(unit)
        frame["observed"], frame["expected"] = observed, expected
        spread = np.sqrt(np.maximum(square - expected**2, 0))
        frame["z"] = [_ratio(*pair) for pair in zip(observed - expected, spread, strict=True)]
        excess = (observed - expected) * np.sign((observed - expected).sum())
        order = (-excess).argsort(kind="stable")
        return frame.iloc[order[frame["judgements"].to_numpy()[order] > 0]].reset_index(drop=True)


class Curve:
    """Wins of favourites against their probability, in groups of about equally many judgements."""

    def __init__(self, expected: Expectation, bins: int) -> None:
        total, score = expected.design.total, expected.score.mean(1)
        self.total, self.side = total[:, None], np.where(score < 0.5, -1.0, 1.0)[:, None]
        chance = np.abs(score - 0.5)
        order = chance.argsort(kind="stable")
        place = (total[order].cumsum() - total[order] / 2) / total.sum()
        group = np.empty(len(total), int)
        group[order] = np.minimum((place * bins).astype(int), bins - 1)
        group = np.unique(group, return_inverse=True)[1]
        self.sums, self.judgements = sums(group), np.bincount(group, total)
        self.passes: list[Array] = []

    def add(self, observed: Residuals, replicated: Residuals) -> None:
        """Count one run of draws."""
        predicted = self._favoured(self.total * observed.expected.score)
        ours = predicted + self.sums @ (self.side * observed.e)
        theirs = predicted + self.sums @ (self.side * replicated.e)
        self.passes.append(np.stack([predicted, ours, theirs]) / self.judgements[:, None])

    def _favoured(self, score: Array) -> Array:
        return self.sums @ (self.total / 2 + self.side * (score - self.total / 2))

    def frame(self) -> pd.DataFrame:
        """Return the frame of `check.calibration_curve`."""
        predicted, observed, replicated = np.concatenate(self.passes, 2)
        lower, upper = np.quantile(replicated, [0.05, 0.95], axis=1)
        return pd.DataFrame(
            {
                "predicted": predicted.mean(1),
                "observed": observed.mean(1),
                "lower": lower,
                "upper": upper,
                "judgements": self.judgements,
            }
        )


def _distance(ours: Array, theirs: Array) -> float:
    """Return how far the data lie from replications, in standard deviations of these.

    Mean and standard deviation of few replications are themselves uncertain: what is told is the normal quantile with
    the tail of Student's t.
    """
    many = len(theirs)
    far = _ratio(ours.mean() - theirs.mean(), theirs.std(ddof=1) * (1 + 1 / many) ** 0.5)
    return float(-np.sign(far) * ndtri(max(stdtr(many - 1, -abs(far)), 1e-300))) if np.isfinite(far) else far


def _excess(ours: Array, theirs: Array, tail: float) -> float:
    """Return the same of a statistic that is never negative, on a scale on which replications are nearly normal.

    Cube roots of sums of squares are (Wilson and Hilferty 1931, PNAS 17, 684-688): of few annotators the sums
    themselves lie 5 standard deviations out once in 1,000. Where most replications count no event at all, there is no
    such scale, and the tail says how far out the data lie.
    """
    if np.median(theirs) == theirs.min():
        return float(np.sign(ours.mean() - theirs.mean()) * -ndtri(tail)) if tail < 0.5 else 0.0
    return _distance(np.cbrt(ours), np.cbrt(theirs))


def _ratio(difference: float, spread: float) -> float:
    if spread > 0:
        return float(difference / spread)
    return 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
