"""What is estimated: the root theta of E[m(X, Y; theta)] = 0.

Every moment m is linear in a function h of the label, so that conditional expectations of h are all that a nuisance
has to deliver: h is the label itself for means and canonical regressions, an indicator for quantiles, m for the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root
from scipy.special import expit

from prefdensity.errors import DataError, FitError
from prefdensity.judged.rungs import Purchased
from prefdensity.pcal.intervals import wilson

Array = NDArray[Any]

_STEPS = 100


class Found(Protocol):
    """What a functional may ask of the estimate that it is to give limits for."""

    @property
    def theta(self) -> Array: ...  # noqa: D102
    @property
    def standard_error(self) -> Array: ...  # noqa: D102
    @property
    def judged(self) -> Purchased: ...  # noqa: D102
    @property
    def label_weight(self) -> Array: ...  # noqa: D102
    @property
    def stage_weight(self) -> Array: ...  # noqa: D102
    def effective_labels_among(self, member: Array, index: int) -> float: ...  # noqa: D102
    @property
    def population(self) -> int | None: ...  # noqa: D102
    @property
    def calibration(self) -> str: ...  # noqa: D102
    @property
    def expected(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class LabelFunction:
    """A function of the label whose expectation a nuisance is asked for.

    Attributes
    ----------
    value
        From a table and labels [unit, node] to [unit, node, k].
    is_label
        It is the label itself (k = 1): closed forms apply.
    jumps
        Labels where it jumps: quadrature is split there.
    """

    value: Callable[[Purchased, Array], Array]
    is_label: bool = False
    jumps: tuple[float, ...] = ()

    def __call__(self, judged: Purchased, label: Array) -> Array:
        """Return [unit, node, k]."""
        return self.value(judged, label)

    def at_labels(self, judged: Purchased) -> Array:
        """Return values [unit, k] at the labels of the table, NaN where there is none."""
        value = np.array(self.value(judged, judged.label[:, None])[:, 0], float)
        value[~judged.labelled] = np.nan
        return value


LABEL = LabelFunction(lambda judged, label: label[..., None], is_label=True)


class Functional(ABC):
    """Base of all functionals; subclasses say what their moment is."""

    @abstractmethod
    def names(self, judged: Purchased) -> tuple[str, ...]:
        """Return the names of the parameters."""

    @abstractmethod
    def start(self, judged: Purchased, weight: Array) -> Array:
        """Return theta [parameter] from the labelled units alone, weighted by weight [unit]."""

    def label_function(self, theta: Array) -> LabelFunction:
        """Return h."""
        return LABEL

    @abstractmethod
    def moment(self, judged: Purchased, h: Array, theta: Array) -> Array:
        """Return m [unit, parameter] for values or expectations of h [unit, k]."""

    @abstractmethod
    def slope(self, judged: Purchased, theta: Array, weight: Array) -> Array:
        """Return -dE[m]/dtheta [parameter, parameter]; weight [unit] is 0 where there is no label."""

    def root_information(self, judged: Purchased, theta: Array) -> Array | None:
        """Return r [unit, parameter], where -dm/dtheta is r r' and h the label itself; None: there is no such r."""
        return None

    def known_variance(self, judged: Purchased) -> bool:
        """Return whether the variance of h is known when theta is, as for rates."""
        return False

    def settle(self, found: Found) -> Array:
        """Return theta [parameter], given the average of the stages' roots."""
        return found.theta

    def limits(self, found: Found, critical: Array) -> tuple[Array, Array]:
        """Return lower and upper limits [parameter] at critical values [parameter] of a standard normal or t."""
        half = critical * found.standard_error
        return found.theta - half, found.theta + half


@dataclass(frozen=True)
class Regression(Functional):
    """A canonical generalised linear model, m = x (y - mean(x'theta)).

    Attributes
    ----------
    covariates
        Names; None: all covariates of the table.
    intercept
        Whether there is one.
    """

    covariates: tuple[str, ...] | None = None
    intercept: bool = True
    longest_step: ClassVar[float] = 5.0  # of Newton: exp overflows on longer ones

    def mean(self, eta: Array) -> Array:
        """Return the mean of the label at linear predictors eta [unit]."""
        return eta

    def mean_slope(self, eta: Array) -> Array:
        """Return the derivative of `mean`."""
        return np.ones_like(eta)

    def check_labels(self, label: Array) -> None:
        """Refuse labels that this regression cannot have."""

    def names(self, judged: Purchased) -> tuple[str, ...]:
        """See `Functional`; the intercept comes last."""
        known = judged.covariate_names
        chosen = known if self.covariates is None else tuple(self.covariates)
        for name in chosen:
            if name not in known:
                raise DataError(f"the table has no covariate {name!r}; its covariates are {', '.join(known) or 'none'}")
        names = (*chosen, "intercept") if self.intercept else chosen
        if not names:
            raise DataError("a regression without covariates and without intercept has no parameter")
        return names

    def design(self, judged: Purchased) -> Array:
        """Return X [unit, parameter]."""
        known = judged.covariate_names
        chosen = [known.index(name) for name in self.names(judged) if name in known]
        columns = [judged.covariates[:, chosen]]
        if self.intercept:
            columns.append(np.ones((len(judged), 1)))
        return np.hstack(columns)

    def start(self, judged: Purchased, weight: Array) -> Array:
        """See `Functional`; Newton steps, one for least squares."""
        seen = judged.labelled
        x, y, w = self.design(judged)[seen], judged.label[seen], weight[seen]
        self.check_labels(y)
        _require_rank(x, self.names(judged))
        theta = np.zeros(x.shape[1])
        for _ in range(_STEPS):
            eta = x @ theta
            gram = (x * (w * self.mean_slope(eta))[:, None]).T @ x
            try:
                step = np.linalg.solve(gram, x.T @ (w * (y - self.mean(eta))))
            except np.linalg.LinAlgError:
                break
            theta = theta + np.clip(step, -self.longest_step, self.longest_step)
            if np.abs(step).max() <= 1e-10 * (1 + np.abs(theta).max()):
                return theta
        raise FitError(f"{type(self).__name__} has no finite estimate on the {seen.sum()} labelled units")

    def moment(self, judged: Purchased, h: Array, theta: Array) -> Array:
        """See `Functional`."""
        x = self.design(judged)
        return np.asarray(x * (h[:, 0] - self.mean(x @ theta))[:, None])

    def slope(self, judged: Purchased, theta: Array, weight: Array) -> Array:
        """See `Functional`; from all units, for it needs no label."""
        root = self.root_information(judged, theta)
        return np.asarray(root.T @ root / len(root))

    def root_information(self, judged: Purchased, theta: Array) -> Array:
        """See `Functional`."""
        x = self.design(judged)
        return np.asarray(x * np.sqrt(self.mean_slope(x @ theta))[:, None])


@dataclass(frozen=True)
class LinearRegression(Regression):
    """Least squares."""

    longest_step: ClassVar[float] = np.inf


@dataclass(frozen=True)
class LogisticRegression(Regression):
    """Labels 0 or 1, or shares between."""

    def mean(self, eta: Array) -> Array:  # noqa: D102
        return np.asarray(expit(eta))

    def mean_slope(self, eta: Array) -> Array:  # noqa: D102
        p = expit(eta)
        return np.asarray(p * (1 - p))

    def check_labels(self, label: Array) -> None:  # noqa: D102
        wrong = (label < 0) | (label > 1)
        if wrong.any():
            raise DataError(f"a label is {label[wrong][0]:g}; logistic regression needs labels between 0 and 1")


@dataclass(frozen=True)
class BradleyTerry(LogisticRegression):
    """Utilities of items from comparisons, of a table that was read with `between`: log odds of being preferred.

    The last item is the one that the others are set against, at 0; `ranks.ranks` asks for none. Where utilities do not
    explain all odds they are those that come nearest, in the comparisons at hand.
    """

    intercept: bool = False

    def names(self, judged: Purchased) -> tuple[str, ...]:
        """See `Functional`; all items but the last."""
        x = judged.covariates
        if x.shape[1] < 2 or not (np.isin(x, (-1.0, 0.0, 1.0)).all() and (x.sum(1) == 0).all()):
            raise DataError("utilities are of items that were compared; read the table with between=(first, second)")
        return judged.covariate_names[:-1]

    def design(self, judged: Purchased) -> Array:  # noqa: D102
        return judged.covariates[:, :-1]


@dataclass(frozen=True)
class PoissonRegression(Regression):
    """Counts, log link."""

    def mean(self, eta: Array) -> Array:  # noqa: D102
        return np.asarray(np.exp(eta))

    def mean_slope(self, eta: Array) -> Array:  # noqa: D102
        return np.asarray(np.exp(eta))

    def check_labels(self, label: Array) -> None:  # noqa: D102
        if (label < 0).any():
            raise DataError(
                f"a label is {label[label < 0][0]:g}; Poisson regression needs labels that are not negative"
            )


@dataclass(frozen=True)
class Means(LinearRegression):
    """The mean of the label in each subgroup, of a table that was read with `by`; for labels 0 and 1 they are rates.

    Rates have Wilson's limits at the effective number of labels of their subgroup.
    """

    intercept: bool = False

    def names(self, judged: Purchased) -> tuple[str, ...]:  # noqa: D102
        x = judged.covariates
        if not x.shape[1] or not (np.isin(x, (0.0, 1.0)).all() and (x.sum(1) == 1).all()):
            raise DataError("means by subgroup need the column of subgroups; read the table with by=")
        return super().names(judged)

    def known_variance(self, judged: Purchased) -> bool:
        """See `Functional`; a rate's, theta (1 - theta)."""
        return bool(np.isin(judged.label[judged.labelled], (0.0, 1.0)).all())

    def limits(self, found: Found, critical: Array) -> tuple[Array, Array]:
        """See `Functional`."""
        if not self.known_variance(found.judged):
            return super().limits(found, critical)
        ends = [
            wilson(float(rate), found.effective_labels_among(member > 0, index), float(c))
            for index, (rate, member, c) in enumerate(
                zip(found.theta, self.design(found.judged).T, critical, strict=True)
            )
        ]
        return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


@dataclass(frozen=True)
class Mean(Means):
    """The mean of the label; for labels 0 and 1 a rate, with Wilson's limits at the effective number of labels."""

    def names(self, judged: Purchased) -> tuple[str, ...]:  # noqa: D102
        return ("mean",)

    def design(self, judged: Purchased) -> Array:  # noqa: D102
        return np.ones((len(judged), 1))


@dataclass(frozen=True, eq=False)
class EstimatingEquation(Functional):
    """Any moment given as a function.

    Attributes
    ----------
    function
        From covariates [unit, 1, covariate], outputs [unit, 1, 2], labels [unit, node] and theta [parameter] to m
        [unit, node, parameter].
    guess
        theta to start the root search from.
    parameters
        Names.
    """

    function: Callable[[Array, Array, Array, Array], Array]
    guess: Sequence[float]
    parameters: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.guess) != len(self.parameters):
            raise DataError(f"guess holds {len(self.guess)} numbers for {len(self.parameters)} parameters")

    def names(self, judged: Purchased) -> tuple[str, ...]:  # noqa: D102
        return self.parameters

    def start(self, judged: Purchased, weight: Array) -> Array:
        """See `Functional`."""
        seen = judged.take(judged.labelled)
        w = weight[judged.labelled] / weight[judged.labelled].sum()
        found = root(lambda theta: w @ self.label_function(theta).at_labels(seen), np.asarray(self.guess, float))
        if not found.success:
            raise FitError(f"the estimating equation has no root near the guess {list(self.guess)}: {found.message}")
        return np.asarray(found.x)

    def label_function(self, theta: Array) -> LabelFunction:
        """See `Functional`; the moment itself."""
        return LabelFunction(
            lambda judged, label: self.function(judged.covariates[:, None], judged.outputs[:, None], label, theta)
        )

    def moment(self, judged: Purchased, h: Array, theta: Array) -> Array:
        """See `Functional`."""
        return h

    def slope(self, judged: Purchased, theta: Array, weight: Array) -> Array:
        """See `Functional`; central differences of the weighted mean over labelled units."""
        seen = judged.take(judged.labelled)
        w = weight[judged.labelled] / weight[judged.labelled].sum()
        columns = []
        for j in range(len(theta)):
            step = np.zeros(len(theta))
            step[j] = 1e-5 * (1 + abs(theta[j]))
            up, down = (w @ self.label_function(theta + sign * step).at_labels(seen) for sign in (1, -1))
            columns.append((down - up) / (2 * step[j]))
        return np.column_stack(columns)


def _require_rank(x: Array, names: tuple[str, ...]) -> None:
    """Refuse designs whose columns are linearly dependent, naming the first that the others before it give."""
    size = np.sqrt((x**2).sum(0))
    if (size == 0).any():
        raise DataError(f"the covariate {names[int(np.argmin(size))]!r} is 0 for every labelled unit; leave it out")
    if np.linalg.svd(x / size, compute_uv=False)[-1] > 1e-10 * np.sqrt(x.shape[1]):
        return
    diagonal = np.abs(np.diag(np.linalg.qr(x / size, mode="r")))
    if len(diagonal) < x.shape[1]:
        raise DataError(f"{len(x)} labelled units cannot tell {x.shape[1]} parameters; buy more labels")
    dependent = names[int(np.argmax(diagonal < 1e-9))]
    raise DataError(f"{dependent!r} is a linear combination of the covariates before it; leave one of them out")
