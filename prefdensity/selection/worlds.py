"""Simulated worlds to try selection rules in: items with features, a true reward, and a learner that is refitted.

Synthetic throughout, no embedding of a language model among them. All answer by Luce's rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from prefdensity.errors import DataError

Array = NDArray[Any]

_PRIOR_SD = 1.5  # of the utilities of items without features
_TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class Votes:
    """Answers so far: codes of both sides and whether a won, each [comparison]."""

    a: Array
    b: Array
    won: Array


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a learner makes of votes.

    Attributes
    ----------
    features
        Function of raw features [item, raw] that gives what scores are linear in [item, feature].
    weight
        float64 [feature].
    information
        float64 [feature, feature] of the votes about the weights.
    """

    features: Callable[[Array], Array]
    weight: Array
    information: Array

    @property
    def precision(self) -> Array:
        """Posterior precision of weights ~ Normal(0, 1) (Laplace)."""
        return self.information + np.eye(len(self.weight))


Learner = Callable[[Array, Votes, int], Fitted]


@dataclass(frozen=True, eq=False)
class World:
    """Items to ask about, items to be judged by, and how to learn.

    Attributes
    ----------
    pool, test
        Raw features [item, raw].
    reward, test_reward
        True utilities [item].
    learner
        From raw features of the pool, votes and a seed.
    group, test_group
        Prompt of each item, or None.
    """

    pool: Array
    reward: Array
    test: Array
    test_reward: Array
    learner: Learner
    group: Array | None = None
    test_group: Array | None = None


def linear(seed: int) -> World:
    """Return 32 features of which the k-th has variance 1/k, a linear reward of sd 2, and the matching learner."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, 33) ** -0.5
    scale *= 2 / np.linalg.norm(scale)
    pool, test = (rng.standard_normal((size, 32)) * scale for size in (2000, 1000))
    weight = rng.standard_normal(32)
    weight *= 2 / np.linalg.norm(weight * scale)
    return World(pool, pool @ weight, test, test @ weight, linear_map)


def three_well(seed: int) -> World:
    """Return points of the plane whose reward is five times the three-well potential, and a small network.

    Answers are all but certain for most pairs. Potential: Schuette, Noe, Lu, Sarich and Vanden-Eijnden (2011), Journal
    of Chemical Physics 134, 204105.
    """
    rng = np.random.default_rng(seed)
    pool, test = (np.stack([rng.uniform(-2, 2, size), rng.uniform(-1, 2, size)], 1) for size in (2000, 1000))
    return World(pool, -5 * _potential(pool), test, -5 * _potential(test), network)


def _potential(at: Array) -> Array:
    x, y = at.T
    bumps = 3 * np.exp(-(x**2) - (y - 1 / 3) ** 2) - 3 * np.exp(-(x**2) - (y - 5 / 3) ** 2)
    wells = -5 * np.exp(-((x - 1) ** 2) - y**2) - 5 * np.exp(-((x + 1) ** 2) - y**2)
    return bumps + wells + 0.2 * x**4 + 0.2 * (y - 1 / 3) ** 4


def prompts(seed: int) -> World:
    """Return 200 prompts with 10 responses, features of both, a reward with curved and straight part, and a network."""
    rng = np.random.default_rng(seed)
    inner, outer = rng.standard_normal((32, 64)) / np.sqrt(32), rng.standard_normal(64) / 8
    straight = rng.standard_normal(32) / np.sqrt(32)

    def drawn(n_prompts: int, n_responses: int) -> tuple[Array, Array]:
        prompt = np.repeat(rng.standard_normal((n_prompts, 32)), n_responses, 0)
        return (prompt + rng.standard_normal(prompt.shape)) / np.sqrt(2), np.repeat(np.arange(n_prompts), n_responses)

    def reward(x: Array) -> Array:
        return np.tanh(2 * x @ inner) @ outer + x @ straight

    (pool, group), (test, test_group) = drawn(200, 10), drawn(40, 50)
    scale = 2 / reward(pool).std()
    return World(pool, scale * reward(pool), test, scale * reward(test), network, group, test_group)


def items(seed: int, utilities: Array | None = None) -> World:
    """Return items without features, 60 by default, whose own ranking is to be learned."""
    if utilities is None:
        utilities = np.random.default_rng(seed).normal(0, _PRIOR_SD, 60)
    own = _PRIOR_SD * np.eye(len(utilities))
    return World(own, utilities, own, utilities, linear_map)


WORLDS: dict[str, Callable[[int], World]] = {
    "linear": linear,
    "three_well": three_well,
    "prompts": prompts,
    "items": items,
}


def world_of(name: str) -> Callable[[int], World]:
    """Return the maker of a world.

    Raises
    ------
    DataError
        With the names there are.
    """
    if name not in WORLDS:
        raise DataError(f"world={name!r} is unknown; use {', '.join(WORLDS)}")
    return WORLDS[name]


def linear_map(pool: Array, votes: Votes, seed: int) -> Fitted:
    """Return the mode and precision of weights ~ Normal(0, 1), by Newton's method."""
    x = pool[votes.a] - pool[votes.b]
    weight = np.zeros(x.shape[1])
    for _ in range(50):
        p = expit(x @ weight)
        information = (x.T * (p * (1 - p))) @ x
        step = np.linalg.solve(information + np.eye(len(weight)), x.T @ (votes.won - p) - weight)
        weight += step
        if np.abs(step).max() < _TOLERANCE:
            break
    return Fitted(lambda raw: raw, weight, information)


def network(pool: Array, votes: Votes, seed: int) -> Fitted:
    """Return a network with three layers of 32 units, its last layer Laplace with weights ~ Normal(0, 1)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = (pool.shape[1], 32, 32, 32)
        layers: list[torch.nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [torch.nn.Linear(before, after, dtype=torch.float64), torch.nn.GELU()]
        body, head = torch.nn.Sequential(*layers), torch.nn.Linear(32, 1, bias=False, dtype=torch.float64)
    both = torch.tensor(np.concatenate([pool[votes.a], pool[votes.b]]))
    won = torch.tensor(votes.won, dtype=torch.float64)
    half = len(won)
    search = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(150):
        search.zero_grad()
        score = head(body(both))[:, 0]
        torch.nn.functional.binary_cross_entropy_with_logits(score[:half] - score[half:], won).backward()
        search.step()

    def features(raw: Array) -> Array:
        with torch.no_grad():
            return body(torch.tensor(raw)).numpy()

    weight = head.weight.detach().numpy()[0].copy()
    every = features(both.numpy())
    x = every[:half] - every[half:]
    p = expit(x @ weight)
    return Fitted(features, weight, (x.T * (p * (1 - p))) @ x)
