"""Beliefs about the outcomes of listed pairs: a table of probabilities for every draw of any program's posterior.

Square roots of probabilities live on a sphere where distance is information: for one margin, four times their
variance over draws is information times the variance of the margin. So a judgement shrinks the draws' spread
along its own directions as it would for a Gaussian margin, and nothing need be known of the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from prefdensity.selection.acquisition import entropy

Array = NDArray[Any]

_CONFIGURATIONS = 2048  # outcomes of a batch that are summed over exactly; beyond, as many are drawn


@dataclass(eq=False)
class OutcomeBelief:
    """Draws of the outcome probabilities [draw, pair, outcome] of listed pairs."""

    prob: Array

    def __post_init__(self) -> None:
        self.mean = self.prob.mean(0)
        self._away = np.moveaxis(self.prob - self.mean, 0, -1)  # [pair, outcome, draw]
        root = np.moveaxis(np.sqrt(self.prob), 0, -1)
        spread = 2 / np.sqrt(len(self.prob) - 1) * (root - root.mean(-1, keepdims=True))
        self.spread = np.ascontiguousarray(spread)  # [pair, outcome, draw]
        self._whole = np.maximum(self._length(slice(None)), np.finfo(float).tiny)

    def _length(self, row: Array | slice) -> Array:
        return np.einsum("pcd,pcd->p", self.spread[row], self.spread[row])

    def d_gain(self, row: Array) -> Array:
        """Return half the log determinant [row] of identity plus the covariance of the roots."""
        spread = self.spread[row]
        covariance = spread @ spread.swapaxes(1, 2)
        return 0.5 * np.linalg.slogdet(np.eye(spread.shape[1]) + covariance)[1]

    def information(self, row: Array) -> Array:
        """Return the expected information (nats) [row] of pairs, given what was learned so far.

        Exact for these draws while nothing was learned. Afterwards each probability lies as much nearer to its mean
        as the spread of its root has shrunk.
        """
        left = np.sqrt(np.minimum(self._length(row) / self._whole[row], 1.0))
        mean = self.mean[row]
        prob = np.maximum(mean[..., None] + left[:, None, None] * self._away[row], 0.0)
        kept = -xlogy(prob, prob).sum(1).mean(-1)
        return np.maximum(entropy(mean) - kept, 0.0)

    def learn(self, row: int) -> None:
        """Condition on a judgement of a pair, whatever it says."""
        _, size, right = np.linalg.svd(self.spread[row], full_matrices=False)
        shrink = 1 - 1 / np.sqrt(1 + size**2)
        flat = self.spread.reshape(-1, self.spread.shape[-1])
        flat -= (flat @ right.T * shrink) @ right


class JointOutcomes:
    """Joint information of a growing batch with all that draws disagree on (BatchBALD, Kirsch et al. 2019).

    Sums over all outcomes of the batch while they are few, then over outcomes drawn from the prediction. It never
    exceeds the logarithm of the number of draws: beyond half of that, trust the order of the picks no more.
    """

    def __init__(self, prob: Array, rng: np.random.Generator) -> None:
        self.prob, self.rng = prob, rng
        self._kept = entropy(prob).mean(0)  # [pair]
        self._batch = np.ones((1, len(prob)))  # [configuration, draw]: p(outcomes of the batch | draw)
        self._exact = True
        self.total = 0.0

    def information(self, row: Array) -> Array:
        """Return how much [row] each pair would add to the joint information (nats)."""
        batch = self._batch.mean(1)
        table = self.prob[:, row].reshape(len(self.prob), -1)
        joint = (self._batch @ table / len(self.prob)).reshape(len(batch), len(row), -1)
        share = joint / batch[:, None, None]
        weight = batch if self._exact else np.full(len(batch), 1 / len(batch))
        return np.maximum(np.einsum("k,kpc->p", weight, -xlogy(share, share)) - self._kept[row], 0.0)

    def learn(self, row: int) -> None:
        """Put a pair into the batch."""
        self.total += float(self.information(np.array([row]))[0])
        of_pair = self.prob[:, row].T  # [outcome, draw]
        if self._exact and len(self._batch) * len(of_pair) <= _CONFIGURATIONS:
            self._batch = (self._batch[:, None] * of_pair).reshape(-1, self._batch.shape[1])
            return
        if self._exact:
            weight = self._batch.mean(1)
            drawn = self.rng.choice(len(weight), _CONFIGURATIONS, p=weight / weight.sum())
            self._batch, self._exact = self._batch[drawn], False
        share = self._batch @ of_pair.T
        share /= share.sum(1, keepdims=True)
        outcome = (self.rng.random((len(share), 1)) > share.cumsum(1)[:, :-1]).sum(1)
        self._batch = self._batch * of_pair[outcome]
        self._batch /= self._batch.mean(1, keepdims=True)  # only ratios matter from here on
