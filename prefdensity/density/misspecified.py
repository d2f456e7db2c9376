"""What infinitely many judgements make of a model that is wrong for the annotators, exactly.

Two cases. One free utility per point under Luce's rule, against any law of preference: its optimum reproduces
each point's average win rate and nothing else. And a density under one preference behaviour equation, against
annotators who follow another one (Dumoulin et al. 2024, TMLR, arXiv 2311.14115).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logit, logsumexp

from prefdensity.density.densities import Density, normalise
from prefdensity.errors import DataError, FitError

Array = NDArray[Any]

_STEPS, _TOLERANCE, _ACCEPTED = 100, 1e-12, 1e-10


def law(utility: ArrayLike, rule: Callable[[Array], Array] = expit) -> Array:
    """Return P [point, point] that the row is preferred to the column: rule(u of row - u of column).

    Other laws are arithmetic on such matrices: ``0.9 * law(u) + 0.05`` has lapses, and
    ``0.4 * law(u) + 0.6 * law(v)`` two annotators who take turns at random.

    Parameters
    ----------
    utility
        [point]; of Luce annotators their log density.
    rule
        Distribution function of the noise, logistic by default.
    """
    u = np.asarray(utility, float)
    return rule(u[:, None] - u)


def win_rate(table: ArrayLike, proposal: Density) -> Array:
    """Return the probability [point] of being preferred to a draw from the proposal (the Borda score).

    Parameters
    ----------
    table
        P [point, point] that the row is preferred; the two sides of a pair add up to 1.
    proposal
        Density [point] that both members of a pair are drawn from.

    Raises
    ------
    DataError
        If the table is not one of preferences between these points.
    """
    win, n = np.asarray(table, float), len(proposal.domain)
    if proposal.dims != ("point",) or win.shape != (n, n):
        raise DataError(f"preferences on {proposal!r} are a matrix [point, point], not of shape {win.shape}")
    if not (win >= 0).all() or not np.allclose(win + win.T, 1, atol=1e-8):
        raise DataError("preferences are probabilities with P(x over y) + P(y over x) = 1; these are not")
    return win @ proposal.probability


@dataclass(frozen=True, eq=False)
class Optimum:
    """The single utility that infinite data make of a law.

    Attributes
    ----------
    density
        [point]; its log density is the utility.
    win_rate
        What it reproduces [point].
    residual
        Largest error of that.
    steps
        Newton steps taken.
    """

    density: Density
    win_rate: Array
    residual: float
    steps: int

    def __repr__(self) -> str:
        return f"Optimum({self.density!r}, residual {self.residual:.1e})"

    def to_frame(self) -> pd.DataFrame:
        """Return the density's frame with the win rate that it reproduces."""
        return self.density.to_frame().assign(win_rate=self.win_rate)


def optimum(table: ArrayLike, proposal: Density) -> Optimum:
    """Return the utility r that maximises the expected log likelihood of sigmoid(r(x) - r(x')).

    It solves E[sigmoid(r(x) - r(x'))] = win_rate(x) over x' from the proposal, at every x: a convex problem,
    by damped Newton. So r increases with the win rate; unless the law is Luce's, it depends on the proposal.

    Parameters
    ----------
    table
        P [point, point] that the row is preferred.
    proposal
        Density [point] of both members of a pair, positive everywhere: elsewhere nothing would be identified.

    Raises
    ------
    DataError
        If the table or the proposal is not one.
    FitError
        If no finite optimum exists: a group of points never loses to the rest.
    """
    target = win_rate(table, proposal)
    weight = proposal.probability
    if not (weight > 0).all():
        raise DataError("the proposal vanishes at points of the domain; nothing is identified there")
    if connected_components(np.asarray(table) > 0, connection="strong")[0] > 1:
        raise FitError("some points always win against all others, so no finite utility is optimal")
    utility, steps = logit(target), 0
    error = law(utility) @ weight - target
    while np.abs(error).max() > _TOLERANCE and steps < _STEPS:
        utility = _newton(utility, error, weight, target)
        error = law(utility) @ weight - target
        steps += 1
    residual = float(np.abs(error).max())
    if not residual < _ACCEPTED:
        raise FitError(f"no finite utility is optimal; {steps} steps leave win rates off by {residual:.1g}")
    return Optimum(normalise(utility, proposal.domain), target, residual, steps)


def _newton(utility: Array, error: Array, weight: Array, target: Array) -> Array:
    """Return the utility after a Newton step, halved until the win rates come closer."""
    win = law(utility)
    pull = win * win.T * weight
    slope = np.diag(pull.sum(1)) - pull + weight  # the last term keeps the mean utility
    step = np.linalg.solve(slope, -error)
    before = weight @ error**2
    while weight @ (law(utility + step) @ weight - target) ** 2 > before and np.abs(step).max() > 1e-9:
        step = step / 2
    return utility + step


def winner_density(table: ArrayLike, proposal: Density) -> Density:
    """Return the density 2 * proposal * win_rate of the preferred members of pairs [point].

    A histogram of winners is a tempered form of the preference density, not that density.
    """
    rate = win_rate(table, proposal)
    return normalise(proposal.log_p + np.log(rate), proposal.domain)


@dataclass(frozen=True, eq=False)
class PBDE:
    """A preference behaviour: P(A over B) = sigmoid(score(A) - score(B)), score = f * log p + g.

    Attributes
    ----------
    f
        Float or [point], of one sign throughout: if f changed sign, another density might explain the same
        preferences, and where it is 0 they say nothing.
    g
        Float or [point].

    Raises
    ------
    DataError
        If f changes sign or vanishes.
    """

    f: float | Array = 1.0
    g: float | Array = 0.0

    def __post_init__(self) -> None:
        if not (np.all(np.asarray(self.f) > 0) or np.all(np.asarray(self.f) < 0)):
            raise DataError(
                "f must be positive everywhere or negative everywhere: if it changes sign, a second density "
                "can have the same preferences, so that the density is not identified"
            )

    @classmethod
    def luce(cls) -> PBDE:
        """Return Luce's rule: the odds are the ratio of the densities."""
        return cls()

    @classmethod
    def tempered(cls, beta: float) -> PBDE:
        """Return Luce's rule on beta * log p."""
        return cls(beta)

    @classmethod
    def length_normalised(cls, length: ArrayLike, longest: float) -> PBDE:
        """Return Luce's rule on log p per token, times the greatest length: `length` [point] in tokens."""
        return cls(longest / np.asarray(length, float))

    @classmethod
    def dpo(cls, beta: float, reference: Density) -> PBDE:
        """Return scores beta * log(p / reference)."""
        return cls(beta, -beta * reference.log_p)

    @classmethod
    def geometric(cls, alpha: float, reference: Density) -> PBDE:
        """Return scores log(p / reference) / alpha + log reference."""
        return cls(1 / alpha, (1 - 1 / alpha) * reference.log_p)

    @classmethod
    def covariate_bias(cls, gamma: float, covariate: ArrayLike) -> PBDE:
        """Return scores log p + gamma * covariate [point]."""
        return cls(1.0, gamma * np.asarray(covariate, float))

    def score(self, p: Density) -> Array:
        """Return f log p + g [..., point]."""
        return self.f * p.log_p + self.g

    def law(self, p: Density) -> Array:
        """Return P [point, point] of annotators with density p [point]."""
        return law(self.score(p))


def target(annotator: PBDE, model: PBDE, p_star: Density) -> Density:
    """Return the density [point] that a model learns from infinitely many judgements of annotators.

    It solves f log p + g = annotator's score + c, whatever the proposal; c is what normalises p.

    Parameters
    ----------
    annotator
        How judgements come about.
    model
        How the model thinks they do.
    p_star
        The annotators' density [point].
    """
    score = annotator.score(p_star) - model.g
    if np.ptp(model.f) == 0:
        return normalise(score / model.f, p_star.domain)
    log_volume = p_star.domain.log_volume

    def log_z(c: float) -> float:
        return float(logsumexp((score + c) / model.f + log_volume))

    c = brentq(log_z, *_bracket(log_z), xtol=1e-12, rtol=1e-14)
    return normalise((score + c) / model.f, p_star.domain)


def _bracket(monotone: Callable[[float], float]) -> tuple[float, float]:
    """Return ends between which a strictly monotone function changes sign."""
    width = 1.0
    while monotone(-width) * monotone(width) > 0 and width < 1e12:
        width *= 2
    return -width, width
