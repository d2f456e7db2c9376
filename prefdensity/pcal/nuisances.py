"""Where E[h(Y) | x, w, preferences] and E[h(Y) | x, w] come from: recipes that are fitted on folds.

The estimator is consistent, and its intervals valid, whatever a nuisance says; a better one makes them shorter.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prefdensity.errors import DataError
from prefdensity.judged.rungs import Purchased, VarianceDrop
from prefdensity.judged.units import TIE, A, B, Judged
from prefdensity.pcal.functionals import LabelFunction
from prefdensity.pcal.judges import ConfusionJudge, Judge, gaussian_law, learn_judges, levels_law, sides

Array = NDArray[Any]

_PASS = 4000  # units per pass of quadrature
_MOST_JUDGES = 5  # on one unit, whose joint verdicts are listed one by one
_MOST_PANELS = 20  # of judges asked together
_OWN = 50  # verdicts on labelled units from which a judge has coefficients of their own


class FittedNuisance(Protocol):
    """A fitted nuisance.

    Those that know the law of the preferences also have `variance_drop(judged)`, returning a `VarianceDrop` (any
    object with its attributes) for units whose preferences are not looked at; designs take its shape over units.
    """

    def expect(self, judged: Judged, function: LabelFunction) -> tuple[Array, Array]:
        """Return E[h(Y) | x, w, preferences] and E[h(Y) | x, w], each [unit, k]; labels are not looked at.

        Both are the same for a unit without preferences.
        """


class Nuisance(ABC):
    """Base of all recipes.

    Attributes
    ----------
    labels_only
        It learns nothing from units without label, which it is then not given.
    """

    labels_only: ClassVar[bool] = True

    @abstractmethod
    def fit(self, train: Judged) -> FittedNuisance:
        """Return what this recipe learns."""

    def warmed(self, judged: Judged) -> Nuisance:
        """Return a recipe that fits parts of this table faster; what it gives hardly depends on the rest."""
        return self

    def cross_fit(self, judged: Judged, function: LabelFunction, fold: Array) -> tuple[Array, Array]:
        """Return expectations [unit, k] after and before the preferences, each from fits to the other folds."""
        order = np.argsort(fold, kind="stable")
        judged, fold = judged.take(order), fold[order]  # every fold is a slice
        recipe = self.warmed(judged)
        source = _labelled(judged) if self.labels_only else judged
        fold_of = fold[judged.labelled] if self.labels_only else fold
        ends = np.searchsorted(fold, np.arange(int(fold[-1]) + 2))
        found = [
            recipe.fit(source.take(fold_of != k)).expect(judged.take(slice(start, stop)), function)
            for k, (start, stop) in enumerate(zip(ends[:-1], ends[1:], strict=True))
        ]
        back = np.argsort(order)
        after, before = (np.concatenate(part)[back] for part in zip(*found, strict=True))
        return after, before


def folds_of(judged: Purchased, count: int, seed: int) -> Array:
    """Return the fold [unit], shuffled; clusters stay together, and labels are spread evenly where there are none.

    Raises
    ------
    DataError
        If there are fewer than 2 folds, or fewer labelled units or clusters than folds.
    """
    rng = np.random.default_rng(seed)
    if judged.cluster is not None:
        size = int(judged.cluster.max()) + 1
        groups = len(np.unique(judged.cluster[judged.labelled]))
        fold = rng.permutation(size) % count
        fold = fold[judged.cluster]
    else:
        groups = int(judged.labelled.sum())
        fold = np.empty(len(judged), np.int64)
        order = rng.permutation(len(judged))
        order = order[np.argsort(judged.pattern[order], kind="stable")]
        fold[order] = np.arange(len(judged)) % count
    if not 2 <= count <= groups:
        what = "labelled units" if judged.cluster is None else "clusters with labels"
        raise DataError(
            f"folds={count} must lie between 2 and {groups}, the number of {what}; label more, or give fewer folds"
        )
    return fold


@dataclass(frozen=True)
class LinearNuisance(Nuisance):
    """Least squares of h(Y) on covariates and outputs, without and with the preferences and their interactions."""

    labels_only: ClassVar[bool] = True

    def fit(self, train: Judged) -> FittedNuisance:
        """See `Nuisance`; labelled units only."""
        return _Regressed(_LeastSquares(), _labelled(train))


@dataclass(frozen=True, eq=False)
class RegressorNuisance(Nuisance):
    """Any regressor with `fit(X, y)` and `predict(X)`, as in scikit-learn, without and with the preferences.

    Attributes
    ----------
    regressor
        Not fitted; a copy is fitted for every fold and column of h.
    """

    regressor: Any
    labels_only: ClassVar[bool] = True

    def fit(self, train: Judged) -> FittedNuisance:
        """See `Nuisance`; labelled units only."""
        return _Regressed(self.regressor, _labelled(train))


@dataclass(frozen=True, eq=False)
class GivenNuisance(Nuisance):
    """Predictions made elsewhere, on data apart from the labels of the table.

    Attributes
    ----------
    after, before
        E[h(Y) | x, w, preferences] and E[h(Y) | x, w], [unit] or [unit, k], in the order of the table.
    """

    after: ArrayLike
    before: ArrayLike

    def fit(self, train: Judged) -> FittedNuisance:
        """Refuse: predictions are for their own table only."""
        raise DataError(
            "given predictions are for one table; a design for other units needs a nuisance that can be fitted"
        )

    def cross_fit(self, judged: Judged, function: LabelFunction, fold: Array) -> tuple[Array, Array]:
        """Return the predictions."""
        out = []
        for name, given in (("after", self.after), ("before", self.before)):
            value = np.asarray(given, float).reshape(len(np.atleast_1d(given)), -1)
            if len(value) != len(judged) or not np.isfinite(value).all():
                raise DataError(
                    f"{name} has {len(value)} rows for {len(judged)} units; one finite number each is needed"
                )
            out.append(value)
        return out[0], out[1]


@dataclass(frozen=True, eq=False)
class GaussianNuisance(Nuisance):
    """Y | x, w Gaussian with a linear mean, and judges who report which output is closer.

    Attributes
    ----------
    judges
        "learned": a confusion matrix for each judge, counted on labelled units and drawn towards that of all judges
        (`learn_judges`). A judge, or one for each judge: known.
    levels
        Labels that occur, when they are few: the Gaussian is put on these. None: a continuum.
    """

    judges: str | Judge | Sequence[Judge] = "learned"
    levels: Sequence[float] | None = None
    labels_only: ClassVar[bool] = True

    def fit(self, train: Judged) -> _GaussianFit:
        """See `Nuisance`; least squares on labelled units."""
        seen = _labelled(train)
        x = _features(seen)
        slope = least_squares(x, seen.label[:, None])[:, 0]
        spare = len(x) - x.shape[1]
        if spare < 2:
            raise DataError(
                f"{len(x)} labelled units are too few to learn {x.shape[1]} coefficients and a variance from"
            )
        sd = float(np.sqrt(((seen.label - x @ slope) ** 2).sum() / spare))
        levels = None if self.levels is None else np.sort(np.asarray(self.levels, float))
        return _GaussianFit(slope, max(sd, 1e-12), self._judges(seen), levels, _panels(seen))

    def _judges(self, seen: Judged) -> tuple[Judge, ...]:
        if self.judges == "learned":
            return learn_judges(seen)
        if isinstance(self.judges, str):
            raise DataError(f"judges={self.judges!r} must be 'learned', a judge, or one for each judge")
        given = self.judges if isinstance(self.judges, (tuple, list)) else (self.judges,) * len(seen.judges)
        if len(given) != len(seen.judges):
            raise DataError(f"{len(given)} judges are given for the {len(seen.judges)} of the table")
        return tuple(given)


@dataclass(frozen=True, eq=False)
class _GaussianFit:
    slope: Array
    sd: float
    judges: tuple[Judge, ...]
    levels: Array | None
    panels: tuple[tuple[tuple[int, ...], float], ...]  # which judges are asked together, and how often

    def expect(self, judged: Judged, function: LabelFunction) -> tuple[Array, Array]:
        mean = _features(judged) @ self.slope
        if function.is_label and self._closed:
            return self._label_mean(judged, mean), mean[:, None]
        parts = []
        for start in range(0, len(judged), _PASS):
            rows = slice(start, start + _PASS)
            parts.append(self._by_quadrature(judged.take(rows), mean[rows], function))
        return np.concatenate([after for after, _ in parts]), np.concatenate([before for _, before in parts])

    def variance_drop(self, judged: Judged) -> VarianceDrop:
        """Return what the judges asked together would tell [1 draw, unit], on average over panels seen in training."""
        most = max(len(panel) for panel, _ in self.panels)
        if most > _MOST_JUDGES:
            raise DataError(f"{most} judges on one unit are too many to list; at most {_MOST_JUDGES}")
        mean = _features(judged) @ self.slope
        parts = [
            self._drop(judged.outputs[start : start + _PASS], mean[start : start + _PASS])
            for start in range(0, len(mean), _PASS)
        ]
        explained, left = (np.concatenate(part)[None] for part in zip(*parts, strict=True))
        return VarianceDrop(explained, left)

    def _drop(self, outputs: Array, mean: Array) -> tuple[Array, Array]:
        if len(self.judges) == 1 and self.levels is None and self.panels[0][0]:
            told = self.judges[0].gaussian(mean, self.sd, outputs)
            return told.explained, told.left
        label, weight = self._law(outputs, mean, ())
        each = [judge.probability(label, outputs) for judge in self.judges]
        centred = label - (weight * label).sum(1)[:, None]
        explained = np.zeros(len(mean))
        for panel, share in self.panels:
            for verdicts in product(range(3), repeat=len(panel)):
                joint = weight * np.prod([each[j][..., v] for j, v in zip(panel, verdicts, strict=True)], axis=0)
                mass, above = joint.sum(1), (joint * centred).sum(1)
                explained += share * np.divide(above**2, mass, out=np.zeros_like(mass), where=mass > 0)
        return explained, np.maximum((weight * centred**2).sum(1) - explained, 0.0)

    @property
    def _closed(self) -> bool:
        return self.levels is None and all(isinstance(judge, ConfusionJudge) for judge in self.judges)

    def _label_mean(self, judged: Judged, mean: Array) -> Array:
        """Return E[Y | x, w, preferences]: the sides of the middle, weighted by what was said of each."""
        mass, above = sides(mean, self.sd, judged.outputs)
        likelihood = np.ones((len(mean), 3))
        for column, judge in zip(judged.votes.T, self.judges, strict=True):
            asked = column >= 0
            likelihood[asked] *= judge.matrix.T[column[asked]]  # type: ignore[attr-defined]
        evidence = (mass * likelihood).sum(1)
        shift = (above * likelihood).sum(1)
        return (mean + np.divide(shift, evidence, out=np.zeros_like(shift), where=evidence > 0))[:, None]

    def _law(self, outputs: Array, mean: Array, jumps: tuple[float, ...]) -> tuple[Array, Array]:
        if self.levels is not None:
            return levels_law(mean, self.sd, self.levels)
        # judges with the same breaks (all who go by which output is closer) split the grid once
        breaks = list({each.tobytes(): each for each in (judge.breaks(outputs) for judge in self.judges)}.values())
        return gaussian_law(mean, self.sd, np.hstack([*breaks, np.tile(jumps, (len(mean), 1))]))

    def _by_quadrature(self, judged: Judged, mean: Array, function: LabelFunction) -> tuple[Array, Array]:
        label, weight = self._law(judged.outputs, mean, function.jumps)
        told = np.ones_like(weight)
        for column, judge in zip(judged.votes.T, self.judges, strict=True):
            asked = np.flatnonzero(column >= 0)
            p = judge.probability(label[asked], judged.outputs[asked])
            told[asked] *= p[np.arange(len(asked)), :, column[asked]]
        joint = weight * told
        evidence = joint.sum(1)
        # a verdict that the fit holds impossible tells nothing
        after = np.where(evidence[:, None] > 1e-300, joint / np.maximum(evidence, 1e-300)[:, None], weight)
        value = function(judged, label)
        return np.einsum("un,unk->uk", after, value), np.einsum("un,unk->uk", weight, value)


@dataclass(frozen=True, eq=False)
class _Regressed:
    regressor: Any
    seen: Judged

    def expect(self, judged: Judged, function: LabelFunction) -> tuple[Array, Array]:
        target = function.at_labels(self.seen)
        before = self._predict(_features(self.seen), target, _features(judged))
        told, few = self.seen.voted, _few(self.seen)
        if not told.any():
            return before, before
        train, test = (_features_and_votes(each, few) for each in (self.seen.take(told), judged))
        return np.where(judged.voted[:, None], self._predict(train, target[told], test), before), before

    def _predict(self, train: Array, target: Array, test: Array) -> Array:
        if isinstance(self.regressor, _LeastSquares):
            return test @ least_squares(train, target)
        columns = []
        for column in target.T:  # the intercept, their first column, is the regressor's own business
            fitted = copy.deepcopy(self.regressor)
            fitted.fit(train[:, 1:], column)
            columns.append(np.asarray(fitted.predict(test[:, 1:]), float).reshape(-1))
        return np.column_stack(columns)


class _LeastSquares:
    pass


def _labelled(train: Judged) -> Judged:
    """Return the units with a label."""
    seen = train.labelled
    return train if seen.all() else train.take(seen)


def _features(judged: Judged) -> Array:
    """Return 1, covariates, outputs [unit, feature]."""
    return np.column_stack([np.ones(len(judged)), judged.covariates, judged.outputs])


def _few(seen: Judged) -> Array:
    """Return whether a judge has too few verdicts on labelled units for columns of their own [judge]."""
    return np.asarray(np.bincount(seen.judge, minlength=len(seen.judges)) < _OWN)


def _features_and_votes(judged: Judged, few: Array) -> Array:
    """Return features, then for each judge the vote, which side it puts the label on, how far, and ties.

    Judges who are `few` share columns, in which their votes add up.
    """
    gap = (judged.outputs[:, 0] - judged.outputs[:, 1])[:, None]
    vote = judged.votes
    said, tie = np.where(vote == A, 1.0, np.where(vote == B, -1.0, 0.0)), (vote == TIE).astype(float)
    if few.sum() > 1:
        said, tie = (np.column_stack([each[:, ~few], each[:, few].sum(1)]) for each in (said, tie))
    return np.hstack([_features(judged), said, said * np.sign(gap), said * gap, tie, tie * np.abs(gap)])


def _panels(seen: Judged) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Return which judges were asked together and the share of units, the commonest panels only where many."""
    asked, count = np.unique(seen.votes >= 0, axis=0, return_counts=True)
    kept = np.argsort(-count, kind="stable")[:_MOST_PANELS]
    share = count[kept] / count[kept].sum()
    return tuple((tuple(np.flatnonzero(asked[k]).tolist()), float(s)) for k, s in zip(kept, share, strict=True))


def least_squares(x: Array, y: Array) -> Array:
    """Return least-squares coefficients [feature, k]; the shortest where features are linearly dependent."""
    size = np.sqrt((x**2).mean(0))
    size[size == 0] = 1.0
    x = x / size
    gram = x.T @ x
    value, vector = np.linalg.eigh(gram)
    kept = value > 1e-12 * value[-1]
    vector = vector[:, kept]
    return np.asarray((vector / value[kept] @ (vector.T @ (x.T @ y))) / size[:, None])
