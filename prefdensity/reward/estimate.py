"""What `reward` returns: estimates, intervals, and what the auxiliary was worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtri

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.reward.equation import Equation
from prefdensity.reward.table import means_within, with_counts
from prefdensity.shown import shown

Array = NDArray[Any]

_RANK_DRAWS = 4000
_FEW_CLUSTERS = 30


@dataclass(frozen=True, eq=False)
class RewardEstimate:
    """A Bradley-Terry reward, whose intervals assume neither Bradley-Terry nor the auxiliary.

    Attributes
    ----------
    names
        Items or features.
    theta
        [name]: centred utilities of items, or weights of features (reward per unit of the feature).
    covariance
        [name, name], sandwich.
    lambda_
        How much of the auxiliary was used: 0 none (maximum likelihood), 1 all.
    recalibrated
        The share in it of the recalibrated auxiliary, beside the one that was given.
    exists
        Whether the equation had a finite solution at the lambda asked for; if not, `lambda_` is a smaller one.
    equation, parameters, basis
        Behind the estimate: theta = basis @ parameters.
    warnings
        Sentences to read before using the result.
    """

    names: tuple[str, ...]
    theta: Array
    covariance: Array
    lambda_: float
    recalibrated: float
    exists: bool
    equation: Equation
    parameters: Array
    basis: Array
    warnings: tuple[str, ...] = field(default=())

    def __repr__(self) -> str:
        return f"RewardEstimate({len(self.names)} parameters, {self.n} judgements, lambda {self.lambda_:.2f})"

    def __str__(self) -> str:
        table = self.summary().head(10).to_string(index=False, float_format=lambda x: f"{x:.3f}")
        return "\n".join([repr(self), table, self.worth(), *self.warnings])

    def worth(self) -> str:
        """Return what the auxiliary was worth, in a sentence."""
        part = f", {self.recalibrated:.0%} of it recalibrated," if self.recalibrated else ""
        return (
            f"The auxiliary at lambda {self.lambda_:.2f}{part} makes {self.n} judgements worth {self.n_effective:.0f} "
            f"(expected variance {self.expected_gain():.2f} of that of maximum likelihood)."
        )

    @property
    def n(self) -> int:
        """Number of judgements."""
        return self.equation.n

    @property
    def se(self) -> Array:
        """Standard errors [name]."""
        return np.sqrt(np.diagonal(self.covariance))

    def interval(self, level: float = 0.95) -> Array:
        """Return Wald intervals [name, 2]."""
        wide = _quantile(level) * self.se
        return np.stack([self.theta - wide, self.theta + wide], 1)

    def contrast(self, weights: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
        """Return a linear combination of theta, with `weights` [name], and the ends of its interval."""
        c = np.asarray(weights, float)
        if c.shape != self.theta.shape:
            raise DataError(f"weights have shape {c.shape}; one for each of {len(self.names)} parameters is needed")
        middle, wide = float(c @ self.theta), _quantile(level) * math.sqrt(c @ self.covariance @ c)
        return middle, middle - wide, middle + wide

    def win_probability(self, weights: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
        """Return sigmoid of a contrast, such as one response's features minus another's, and its interval.

        This is the Bradley-Terry probability of the projection, not the annotators' own where they differ.
        """
        middle, lower, upper = expit(self.contrast(weights, level))
        return float(middle), float(lower), float(upper)

    def _repr_html_(self) -> str:
        return shown("\n".join([repr(self), self.worth(), *self.warnings]), self.summary())

    def to_frame(self) -> pd.DataFrame:
        """Return `summary`."""
        return self.summary()

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Return a row for each parameter, greatest first: name, estimate, se, lower, upper, rank_lower, rank_upper.

        Ranks (1 = greatest) by simulation from the asymptotic distribution; they mean something for items only.
        """
        draws = np.random.default_rng(0).multivariate_normal(self.theta, self.covariance, _RANK_DRAWS, method="eigh")
        ranks = (-draws).argsort(1).argsort(1) + 1
        tails = [(1 - level) / 2, (1 + level) / 2]
        frame = pd.DataFrame({"name": list(self.names), "estimate": self.theta, "se": self.se})
        frame[["lower", "upper"]] = self.interval(level)
        limits = np.quantile(ranks, tails, axis=0, method="closest_observation")
        frame["rank_lower"], frame["rank_upper"] = limits.astype(int)
        return frame.sort_values("estimate", ascending=False, ignore_index=True)

    def of_items(self, data: Comparisons, level: float = 0.9) -> pd.DataFrame:
        """Return the reward of every item, as `reward_table` does for a fitted program, with sandwich errors.

        Parameters
        ----------
        data
            The judgements; with its item features, if the reward is linear in these.
        level
            Of Wald's intervals.
        """
        design = np.eye(len(data.items)) if self.names == data.items else data.item_features
        if design is None or design.shape[1] != len(self.names):
            raise DataError("this reward is neither of the items of the table nor of its features")
        design = design - design.mean(0)
        found = pd.DataFrame({"item": list(data.items)})
        found["reward"], found["sd"] = self._linear(design)
        reach = _quantile(level) * found["sd"]
        found["lower"], found["upper"] = found["reward"] - reach, found["reward"] + reach
        prompt = data.context_of_items()
        if prompt is not None:
            found["advantage"], found["advantage_sd"] = self._linear(design - means_within(design.T, prompt).T)
        return with_counts(found.sort_values("reward", ascending=False, ignore_index=True), data)

    def _linear(self, design: Array) -> tuple[Array, Array]:
        """Return design @ theta [row], and its standard errors."""
        variance = np.einsum("ij,jk,ik->i", design, self.covariance, design)
        return design @ self.theta, np.sqrt(np.maximum(variance, 0.0))

    def influence(self) -> tuple[Array, Array]:
        """Return the influence values of judgements and of fresh pairs [row, name] on theta."""
        own, away = self.equation.influence(self.parameters, self.lambda_)
        return own @ self.basis.T, away @ self.basis.T

    def expected_gain(self, lambda_: float | None = None, fresh_pairs: float | None = None) -> float:
        """Return the expected total variance over that of maximum likelihood; below 1 the auxiliary helps.

        Parameters
        ----------
        lambda_
            None: the lambda used.
        fresh_pairs
            Number of independent fresh pairs, `math.inf` for an exact sum; None: those of the fit.
        """
        used = self.lambda_ if lambda_ is None else lambda_
        return float(self.equation.efficiency.ratio(used, fresh_pairs))

    @property
    def n_effective(self) -> float:
        """How many judgements maximum likelihood would need for the same variance."""
        return self.n / self.expected_gain()

    def fresh_pairs_needed(self, ratio: float) -> float:
        """Return how many independent fresh pairs bring the expected variance down to `ratio` of maximum likelihood's.

        At the lambda that is best for that number; infinity where no number does.
        """
        if not 0 < ratio < 1:
            raise DataError(f"ratio={ratio!r} must lie between 0 and 1")
        if self.equation.fresh.tied:
            raise DataError("fresh pairs share clusters with judgements here; more of them would not be independent")
        e = self.equation.efficiency
        if float(e.ratio(np.clip(e.cross / e.labelled, 0, 1), math.inf)) >= ratio:
            return math.inf
        # with control = labelled + pair / m and the best lambda, ratio = 1 - cross^2 / (score * control)
        at_best = float(e.cross**2 / (e.score * (1 - ratio)))
        if at_best >= e.cross:  # that lambda is at most 1
            return float(e.pair / (at_best - e.labelled))
        return float(e.pair / (e.score * ratio - e.score + 2 * e.cross - e.labelled))


def cautions(equation: Equation, wanted: float, used: float, tuned: bool) -> tuple[str, ...]:
    """Return what to know before using an estimate."""
    lines = []
    if used < wanted:
        lines.append(f"At lambda {wanted:.3g} no finite solution exists; lambda {used:.3g} was used instead.")
    if not tuned and wanted == 1 and equation.fresh.size <= equation.n:
        lines.append(
            f"Little or no variance reduction is expected with {equation.fresh.size:g} fresh pairs for {equation.n} "
            'judgements at lambda_=1; use lambda_="auto" or more fresh pairs.'
        )
    ratio = float(equation.efficiency.ratio(used))
    if ratio > 1.02:
        lines.append(
            f"This auxiliary is expected to make the variance {ratio:.2f} times that of maximum likelihood; use "
            'lambda_="auto" or stack=True.'
        )
    code = equation.labelled.cluster
    if code is not None and len(np.unique(code)) < _FEW_CLUSTERS:
        lines.append(f"There are only {len(np.unique(code))} clusters; intervals are too short with fewer than 30.")
    weight = equation.labelled.weight
    error = float(weight.std() / math.sqrt(len(weight)))
    if abs(weight.mean() - 1) > 4 * error + 1e-9:
        lines.append(f"The weights average {weight.mean():.2f}; weights of one design over another average 1.")
    if equation.n < 10 * equation.labelled.x.shape[-1]:
        lines.append(f"{equation.n} judgements for {equation.labelled.x.shape[-1]} parameters: intervals are rough.")
    return tuple(lines)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise DataError(f"level={level!r} must lie between 0 and 1, like 0.95")
    return float(ndtri((1 + level) / 2))
