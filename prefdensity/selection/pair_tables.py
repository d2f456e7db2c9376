"""Choosing pairs by the outcome probabilities of posterior draws: for every program there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.selection.acquisition import entropy
from prefdensity.selection.greedy import Pick, Score, greedy
from prefdensity.selection.outcome_belief import JointOutcomes, OutcomeBelief
from prefdensity.selection.pair_sets import ListedPairs

Array = NDArray[Any]
Report = Callable[[str, float, float], None]
Tables = Callable[[ListedPairs], Array]

FROM_TABLES = ("eig", "greedy_d_optimal", "batch_bald", "bald", "entropy", "max_difference")

_SHORTLIST = 2000  # pairs
_LARGEST = 60_000_000  # probabilities of a shortlist
_PASS = 4_000_000  # probabilities looked at together


@dataclass(frozen=True, eq=False)
class Survey:
    """What draws say of each candidate on its own.

    Attributes
    ----------
    mean
        float64 [pair, outcome]: predicted probabilities.
    sd
        float64 [pair]: standard deviation over draws of the probability that a wins.
    information, determinant
        float64 [pair]: expected information, and growth of half the log determinant (nats).
    """

    mean: Array
    sd: Array
    information: Array
    determinant: Array

    @property
    def entropy(self) -> Array:
        """Entropy (nats) of the prediction [pair]."""
        return entropy(self.mean)

    def score(self, rule: str) -> Array:
        """Return what a rule thinks of each pair alone [pair]."""
        if rule == "entropy":
            return self.entropy
        if rule == "max_difference":
            return np.abs(self.mean[:, 0] - self.mean[:, 1])
        return self.determinant if rule == "greedy_d_optimal" else self.information


def survey(pairs: ListedPairs, tables: Tables, n_draws: int, report: Report | None = None) -> Survey:
    """Look at every candidate, in passes of bounded memory; what is kept grows by a few numbers for each."""
    size = max(1, _PASS // (2 * n_draws))
    parts = []
    for start in range(0, pairs.n_rows, size):
        row = np.arange(start, min(start + size, pairs.n_rows))
        prob = tables(pairs.take(row))
        belief, every = OutcomeBelief(prob), np.arange(len(row))
        parts.append((belief.mean, prob[..., 0].std(0, ddof=1), belief.information(every), belief.d_gain(every)))
        if report is not None:
            report("looking at candidates", int(row[-1]) + 1, pairs.n_rows)
    return Survey(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def choose_from_tables(
    rule: str, pairs: ListedPairs, seen: Survey, tables: Tables, n: int, *, quota: int | None = None, seed: int = 0,
    report: Report | None = None,
) -> tuple[list[Pick], bool]:  # fmt: skip
    """Choose `n` pairs by the outcome probabilities of draws.

    A batch is chosen from a shortlist of the pairs that tell most on their own, which bounds what the others can
    add; it is doubled until no pair left out could have been chosen, or the tables grow too large.

    Parameters
    ----------
    rule
        One of `FROM_TABLES`.
    pairs, seen
        Candidates, and what `survey` says of them.
    tables
        Returns probabilities [draw, pair, outcome] of some pairs.
    n
        Number of pairs.
    quota
        Most pairs of the batch that any item may be in.
    seed, report
        Of batch_bald; progress.

    Returns
    -------
    picks
        With `row` in `pairs`, and the score when chosen.
    exact
        Whether no pair left out of the shortlist could have been chosen.
    """
    alone = seen.score(rule)
    if rule in ("entropy", "max_difference", "bald"):
        return greedy(pairs, lambda block: alone[block.row][:, None], n, quota=quota, report=report), True
    value = alone if pairs.cost is None else alone / pairs.cost
    order = np.argsort(-value, kind="stable")
    width = max(_SHORTLIST, 4 * n)
    while True:
        listed = np.sort(order[:width])
        short, whole = pairs.take(listed), width >= pairs.n_rows
        prob = tables(short)
        try:
            picks = _batch(rule, short, prob, n, quota, seed, report)
        except DataError:  # under a quota a shortlist can run out
            if whole:
                raise
            width *= 2
            continue
        least = min(pick.score if short.cost is None else pick.score / short.cost[pick.row] for pick in picks)
        exact = whole or least >= value[order[width]]
        if exact or 2 * prob.size > _LARGEST:
            return [Pick(pick.a, pick.b, int(listed[pick.row]), pick.score) for pick in picks], exact
        width *= 2


def _batch(
    rule: str, pairs: ListedPairs, prob: Array, n: int, quota: int | None, seed: int, report: Report | None
) -> list[Pick]:
    score: Score
    if rule == "batch_bald":
        joint = JointOutcomes(prob, np.random.default_rng(seed))
        score, learn = (lambda block: joint.information(block.row)[:, None]), joint.learn
    else:
        belief = OutcomeBelief(prob)
        of = belief.information if rule == "eig" else belief.d_gain
        score, learn = (lambda block: of(block.row)[:, None]), belief.learn
    return greedy(pairs, score, n, learn=lambda pick: learn(pick.row), quota=quota, report=report)
