"""What a posterior foresees of pairs that nobody has judged: outcomes by its draws, scores, what answers would tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from prefdensity.data.grades import verdict
from prefdensity.errors import DataError, require_whole
from prefdensity.posterior.draws import require_fit
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.posterior.questions import given_to, question_cells
from prefdensity.selection.greedy import Pick
from prefdensity.selection.outcome_belief import OutcomeBelief
from prefdensity.selection.pair_metric import Metric
from prefdensity.selection.pair_sets import ListedPairs

Array = NDArray[Any]

_FEWEST = 30  # draws that can say what is uncertain
_PROBES = 64  # pairs on which Luce's rule is tried
_STRANGERS = 16  # annotators nobody has met, to average a judgement over


@dataclass(eq=False)
class Foreseen:
    """What a posterior says of pairs: scores, and outcome probabilities of its draws."""

    post: Posterior
    annotator: str | None
    first: str
    draws: int
    seed: int

    def __post_init__(self) -> None:
        require_fit(self.post)
        require_whole("seed", self.seed, 0)

    @property
    def step(self) -> int:
        """Distance of the draws that are used."""
        return max(1, self.post.n_draws // self.draws)

    @property
    def n_draws(self) -> int:
        """Number of draws that are used."""
        return len(range(0, self.post.n_draws, self.step))

    @cached_property
    def _of_somebody(self) -> bool:
        """Whether the program has latents of annotators, or of other labels that nobody names."""
        cells = question_cells(self.post, self.post.program, [0], [0])
        return len(given_to(self.post, cells, ["annotator", *self.post.labels_of])) < len(self.post.drawn)

    def tables(self, pairs: ListedPairs) -> Array:
        """Return outcome probabilities [draw, pair, outcome]; latents of an annotator nobody knows are averaged out."""
        items = self.post.items
        named = [(items[a], items[b]) for a, b in zip(pairs.a, pairs.b, strict=True)]
        strangers = self.annotator is None and self._of_somebody
        parts = (
            outcome_probabilities(self.post, named, self.annotator, self.first, self.seed + 7919 * k, self.draws)
            for k in range(_STRANGERS if strangers else 1)
        )
        total = next(parts)
        for part in parts:
            total += part
        return total / (_STRANGERS if strangers else 1)

    @cached_property
    def scores(self) -> Array | None:
        """Mean utility [item], averaged over types; None for a program without utilities."""
        utility = self.post.draws.get("utility")
        if utility is None:
            return None
        if utility.ndim == 3:
            utility = (self.post.draws["type_weight"][:, :, None] * utility).sum(1)
        return utility.mean(0)

    @cached_property
    def metric(self) -> Metric | None:
        """Belief about utilities, if their differences are all that a judgement depends on, by Luce's rule."""
        utility = self.post.draws.get("utility")
        if utility is None or utility.ndim != 2 or len(self.post.outcomes) != 2:
            return None
        utility = utility[:: self.step]
        size = utility.shape[1]
        rng = np.random.default_rng(self.seed)
        a = rng.integers(size, size=_PROBES)
        probes = ListedPairs(a, (a + rng.integers(1, size, _PROBES)) % size, size)
        luce = expit(utility[:, probes.a] - utility[:, probes.b])
        return Metric.from_draws(utility) if np.allclose(self.tables(probes)[..., 0], luce, atol=1e-9) else None

    def listed(self, picks: list[Pick]) -> ListedPairs:
        """Return picks as pairs."""
        codes = np.array([(pick.a, pick.b) for pick in picks])
        return ListedPairs(codes[:, 0], codes[:, 1], len(self.post.items))

    def gains(self, picks: list[Pick]) -> Array:
        """Return what each pick is expected to tell (nats) given those before it."""
        return in_turn(OutcomeBelief(self.tables(self.listed(picks))))

    def wins(self, prob: Array) -> Array:
        """Return P(a is preferred) [draw, pair], by whatever strength, from outcome probabilities."""
        return np.asarray(prob[..., [verdict(outcome) == "a" for outcome in self.post.outcomes]].sum(-1))


def in_turn(belief: OutcomeBelief) -> Array:
    """Return what each pair is expected to tell (nats) given those before it."""
    gains = np.empty(len(belief.mean))
    for k in range(len(gains)):
        gains[k] = belief.information(np.array([k]))[0]
        belief.learn(k)
    return gains


def require_draws(post: Posterior, draws: int) -> None:
    """Raise `DataError` unless a fit has draws that say what is uncertain."""
    require_fit(post)
    if min(post.n_draws, draws) < _FEWEST or post.is_point:
        raise DataError(
            f"choosing pairs needs draws of what is uncertain, {_FEWEST} or more, and this fit by {post.status.method} "
            f"offers {min(post.n_draws, draws)}; fit with laplace, svi or nuts"
        )
