"""Auxiliary probabilities that have not seen the label they are compared with.

An auxiliary that has seen its own label looks better than it is, and intervals become too short.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from prefdensity.comparison.elpd import loo, unit_log_lik
from prefdensity.errors import DataError
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.posterior.psis import smooth
from prefdensity.progress import progress as show_progress
from prefdensity.reward.convex import margins, moment, solve
from prefdensity.reward.equation import Fresh, Labelled

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons

Array = NDArray[Any]
Pairs = list[tuple[str, str]]
Parts = Iterable[tuple[NDArray[np.bool_], Posterior]]  # which rows [row] were left out, and a fit to the others

_DRAWS = 200  # a posterior mean of probabilities needs no more
_STACK_RIDGE = 1e-2
_ROWS = 1000  # rows whose draws are weighted at a time


class Viewpoint(NamedTuple):
    """Who judges and in which order, with its share of the judgements."""

    annotator: str | None
    first: str
    share: float


class Auxiliary(NamedTuple):
    """Probabilities that side a is preferred.

    `labelled` [row], out of sample; `fresh` [pair, view]; `k_hat` [row], or None where nothing was approximated.
    """

    labelled: Array
    fresh: Array
    views: tuple[Viewpoint, ...]
    k_hat: Array | None = None

    @property
    def share(self) -> Array:
        """Shares of the views [view]."""
        return np.array([view.share for view in self.views])


def cross_fitted(
    x: Array, z: Array, fresh_x: Array, *, fold: NDArray[np.int64], ridge: ArrayLike, last_positive: bool = False
) -> tuple[Array, Array]:
    """Return probabilities of a ridge logistic regression: out of fold on rows, averaged over folds on fresh pairs.

    Parameters
    ----------
    x, z
        [..., row, parameter] and labels [..., row].
    fresh_x
        [..., pair, parameter].
    fold
        [row]: 0, 1, ...; rows of one cluster belong into one fold.
    ridge
        Prior precision, a number or [parameter].
    last_positive
        Keep the coefficient of the last column from being negative.
    """
    labelled = np.empty(z.shape)
    fresh: Array = np.zeros(1)
    for k in range(int(fold.max()) + 1):
        out = fold == k
        kept, target = x[..., ~out, :], moment(z[..., ~out], x[..., ~out, :])
        theta = solve([(kept, np.ones(kept.shape[-2]))], target, ridge).theta
        if last_positive:  # a convex problem: where the free optimum is negative, the bound holds with equality
            rest = solve([(kept[..., :-1], np.ones(kept.shape[-2]))], target[..., :-1], ridge).theta
            without = np.concatenate([rest, 0 * theta[..., -1:]], -1)
            theta = np.where(theta[..., -1:] < 0, without, theta)
        labelled[..., out] = expit(margins(x[..., out, :], theta))
        fresh = fresh + out.mean() * expit(margins(fresh_x, theta))
    return labelled, fresh


def folds_of(n: int, folds: int, cluster: Array | None, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a fold [row] for every row, the same for rows of one cluster."""
    code = np.arange(n) if cluster is None else cluster
    size = int(code.max()) + 1
    if not 2 <= folds <= size:
        raise DataError(f"folds={folds} must lie between 2 and the {size} independent units")
    return rng.permutation(np.arange(size) % folds)[code]


def stacked(labelled: Labelled, fresh: Fresh, fold: NDArray[np.int64], same_labels: bool) -> tuple[Labelled, Fresh]:
    """Return the pairs with a recalibrated auxiliary: cross-fitted regression of labels on [x, logit g].

    It contains Bradley-Terry and it contains g, so in large samples it predicts no worse than either; a judge
    that is over-confident, shrunken or upside down is put right.

    Parameters
    ----------
    labelled, fresh
        Pairs with the auxiliary as it came.
    fold
        [row].
    same_labels
        The auxiliary was fitted to these labels, each left out in turn. It then leans against the label that
        was left out (a mean without one number is lower if that number is high), which a free coefficient of logit g
        would take for information; it is kept from being negative.
    """
    x = np.concatenate([labelled.x, logit(labelled.g)[..., None]], -1)
    shape = np.broadcast_shapes(fresh.x.shape[:-1], fresh.g.shape)
    wide = np.broadcast_to(fresh.x, (*shape, fresh.x.shape[-1]))
    y = np.concatenate([wide, np.broadcast_to(logit(fresh.g), shape)[..., None]], -1)
    g, away = cross_fitted(x, labelled.z, y, fold=fold, ridge=_STACK_RIDGE, last_positive=same_labels)
    return replace(labelled, g=g), replace(fresh, g=away)


def views_of(data: Comparisons, needs: tuple[str, ...]) -> tuple[Viewpoint, ...]:
    """Return the annotators and orders that a program needs to know, with their shares of the judgements."""
    who = data.annotator if "annotator" in needs else None
    order = data.first if "first" in needs else None
    key = np.stack([np.zeros(len(data), int) if each is None else each for each in (who, order)])
    found, inverse = np.unique(key, axis=1, return_inverse=True)
    share = np.bincount(inverse.ravel(), data.count) / data.n_judgements
    return tuple(
        Viewpoint(None if who is None else data.annotators[a], ("b", "neither", "a")[f + 1], float(part))
        for (a, f), part in zip(found.T, share, strict=True)
    )


def of_posterior(
    post: Posterior,
    data: Comparisons,
    pairs: Pairs,
    *,
    parts: Parts | None = None,
    progress: bool | None = None,
) -> Auxiliary:
    """Return what a fitted program says: of every judgement without knowing it, and of fresh pairs.

    Parameters
    ----------
    post, data
        The fit and the judgements it was fitted to, without ties.
    pairs
        Labels of fresh pairs.
    parts
        None: importance-weighted leave-one-out from the one fit. Fits that left rows out, as of `fits_without`: the way
        out where `k_hat` exceeds .7.
    """
    _require_pairs(post)
    views = views_of(data, post.program.needs)
    if parts is None:
        found = loo(post, data, unit="comparison")
        fresh = _of_views(post, pairs, views, progress)
        return Auxiliary(_of_a(np.exp(found.elpd_i), data), fresh, views, found.k_hat)
    labelled, fresh = np.empty(len(data)), np.zeros((len(pairs), len(views)))
    for out, part in parts:
        labelled[out] = _held_out(part, data, out)
        fresh += out.mean() * _of_views(part, pairs, views, False)
    return Auxiliary(labelled, fresh, views)


def of_rows(
    post: Posterior,
    data: Comparisons,
    pairs: Pairs,
    *,
    parts: Parts | None = None,
    progress: bool | None = None,
) -> Auxiliary:
    """Return what a fitted program says of every judgement and of one fresh pair of its own, without knowing it.

    So the two probabilities of a row are those of one model that has not seen its label, and what is expected of the
    row's pair and of its fresh pair differs by their law alone. Arguments as in `of_posterior`, with pairs [row].
    """
    _require_pairs(post)
    views = views_of(data, post.program.needs)
    if parts is None:
        found = loo(post, data, unit="comparison")
        fresh = _left_out(post, data, pairs, views, progress)
        return Auxiliary(_of_a(np.exp(found.elpd_i), data), fresh, views, found.k_hat)
    labelled, fresh = np.empty(len(data)), np.empty((len(pairs), len(views)))
    for out, part in parts:
        labelled[out] = _held_out(part, data, out)
        fresh[out] = _of_views(part, [pairs[k] for k in np.flatnonzero(out)], views, False, None)
    return Auxiliary(labelled, fresh, views)


def _require_pairs(post: Posterior) -> None:
    """Refuse a program that does not predict pairs of which nothing but the items is known."""
    if post.outcomes != ("a", "b"):
        found = ", ".join(post.outcomes)
        raise DataError(f"{post.program_name} predicts {found}; a reward needs a program of a and b only")
    if "covariates" in post.program.needs:
        raise DataError(f"{post.program_name} uses covariates, which fresh pairs do not have; fit one without")


def rows_in(data: Comparisons, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold [row] of every judgement, dealt at random."""
    return folds_of(len(data), folds, None, np.random.default_rng(seed))


def _held_out(part: Posterior, data: Comparisons, out: NDArray[np.bool_]) -> Array:
    """Return P(a) of the rows that a fit has not seen."""
    left = data.take(out)
    log_lik, _, _, index = unit_log_lik(part, left, "comparison", held_out=True)
    return _of_a(log_lik.exp().mean(0).cpu().numpy()[index], left)


def _of_a(observed: Array, data: Comparisons) -> Array:
    """Return P(a) [row] from the probability of what was observed."""
    return np.where(data.outcome == 0, observed, 1 - observed)


def _left_out(
    post: Posterior, data: Comparisons, pairs: Pairs, views: tuple[Viewpoint, ...], progress: bool | None
) -> Array:
    """Return P(a) [row, view] of one pair for each row, by draws weighted as if the row's label were unknown.

    The type of the annotator keeps what the label said of it: one judgement among all of theirs, in one view.
    """
    log_lik, _, _, term = unit_log_lik(post, data, "comparison")
    fresh = np.empty((len(pairs), len(views)))
    with show_progress(progress) as report:
        for start in range(0, len(pairs), _ROWS):
            report("auxiliary on fresh pairs", start, len(pairs))
            rows = slice(start, start + _ROWS)
            terms, of_row = np.unique(term[rows], return_inverse=True)  # equal judgements have equal weights
            weight = smooth(-log_lik[:, terms].T.contiguous())[0].exp().cpu().numpy()[of_row]
            position = {pair: k for k, pair in enumerate(dict.fromkeys(pairs[rows]))}
            own = [position[pair] for pair in pairs[rows]]
            for k, view in enumerate(views):
                table = outcome_probabilities(post, list(position), view.annotator, view.first)
                fresh[rows, k] = np.einsum("rs,sr->r", weight, table[:, own, 0])
    return fresh


def _of_views(
    post: Posterior,
    pairs: Pairs,
    views: tuple[Viewpoint, ...],
    progress: bool | None,
    most: int | None = _DRAWS,
) -> Array:
    """Return the posterior mean of P(a) [pair, view], of about `most` draws or of all."""
    position = {pair: k for k, pair in enumerate(dict.fromkeys(pairs))}
    columns = []
    with show_progress(progress) as report:
        for k, view in enumerate(views):
            report("auxiliary on fresh pairs", k, len(views))
            table = outcome_probabilities(post, list(position), view.annotator, view.first, most=most)
            columns.append(table[..., 0].mean(0))
    return np.stack(columns, 1)[[position[pair] for pair in pairs]]
