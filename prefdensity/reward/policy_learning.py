"""Policies on finite response sets, exactly: learned in one stage or two, their value, regret and win rate.

Arrays are [..., prompt, response]; axes in front are replicates. A policy gives each prompt a distribution over
its responses; `prompt` weighs prompts [prompt], evenly by default.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, xlogy

from prefdensity.errors import DataError
from prefdensity.reward.equation import Equation, Fresh, Labelled

Array = NDArray[Any]

_BISECTIONS = 80


def two_stage(reward: ArrayLike, reference: ArrayLike, beta: float | Array) -> Array:
    """Return the policy that maximises E[reward] - beta KL(policy || reference): reference * exp(reward / beta).

    Parameters
    ----------
    reward
        [..., prompt, response], up to a constant for each prompt.
    reference
        [prompt, response], positive.
    beta
        Price of a nat of KL, positive; a number or [...].
    """
    log_p = _log_reference(reference)
    price = np.asarray(beta, float)[..., None, None]
    if not (price > 0).all():
        raise DataError(f"beta={beta!r} must be positive")
    return np.exp(log_softmax(log_p + np.asarray(reward, float) / price, -1))


def dpo_margin(policy: ArrayLike, reference: ArrayLike, pairs: ArrayLike, beta: float) -> Array:
    """Return beta * (log-ratio of the first - log-ratio of the second response) [..., pair].

    Parameters
    ----------
    policy, reference
        [..., prompt, response].
    pairs
        int [pair, 3]: prompt, first response, second response.
    """
    ratio = np.log(np.asarray(policy, float)) - _log_reference(reference)
    prompt, one, two = np.asarray(pairs).T
    return beta * (ratio[..., prompt, one] - ratio[..., prompt, two])


def one_stage(
    features: Array, reference: ArrayLike, labelled: Labelled, fresh: Fresh, beta: float, lambda_: float = 1.0
) -> tuple[Array, Array]:
    """Return the policy [..., prompt, response] that direct preference optimisation finds, and if it exists [...].

    Over policies reference * exp(features' eta): the margin of a pair is beta * eta' (its feature difference), so the
    loss is convex and the policy the one that `two_stage` makes of the linear reward.

    Parameters
    ----------
    features
        [prompt, response, parameter].
    reference
        [prompt, response].
    labelled, fresh
        Pairs, with feature differences.
    beta
        Of the loss.
    lambda_
        Weight of the auxiliary terms: 0 is plain DPO.
    """
    scaled = Equation(replace(labelled, x=beta * labelled.x), replace(fresh, x=beta * fresh.x))
    eta, exists = scaled.solve(lambda_)
    log_p = _log_reference(reference) + np.einsum("xyp,...p->...xy", features, eta)
    return np.exp(log_softmax(log_p, -1)), exists


def kl(policy: ArrayLike, reference: ArrayLike, prompt: ArrayLike | None = None) -> Array:
    """Return the mean over prompts of KL(policy || reference) in nats [...]."""
    p, q = np.asarray(policy, float), np.asarray(reference, float)
    return _mean((xlogy(p, p) - xlogy(p, q)).sum(-1), prompt)


def value(
    policy: ArrayLike, reward: ArrayLike, reference: ArrayLike, beta: float, prompt: ArrayLike | None = None
) -> Array:
    """Return E[reward] - beta KL(policy || reference) [...]."""
    p = np.asarray(policy, float)
    return _mean((p * np.asarray(reward, float)).sum(-1), prompt) - beta * kl(p, reference, prompt)


def regret(
    policy: ArrayLike, reward: ArrayLike, reference: ArrayLike, beta: float, prompt: ArrayLike | None = None
) -> Array:
    """Return the value that the policy [...] leaves on the table: beta KL(policy || optimum) for this reward."""
    return beta * kl(policy, two_stage(reward, reference, beta), prompt)


def win_rate(policy: ArrayLike, opponent: ArrayLike, preference: ArrayLike, prompt: ArrayLike | None = None) -> Array:
    """Return the probability [...] that a response of the policy is preferred to one of the opponent.

    Parameters
    ----------
    policy, opponent
        [..., prompt, response].
    preference
        P [prompt, response, response] that the row is preferred; 1/2 on the diagonal.
    """
    won = np.einsum("...xy,xyz,...xz->...x", *(np.asarray(each, float) for each in (policy, preference, opponent)))
    return _mean(won, prompt)


def at_kl(reward: ArrayLike, reference: ArrayLike, nats: float, prompt: ArrayLike | None = None) -> Array:
    """Return the policy of `two_stage` whose mean KL from the reference is `nats`.

    At a fixed beta a noisier reward moves further from the reference; win rates are comparable at equal KL only.

    Raises
    ------
    DataError
        If no beta reaches that far.
    """
    r = np.asarray(reward, float)
    low, high = np.full(r.shape[:-2], -25.0), np.full(r.shape[:-2], 25.0)  # of log beta
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        far = kl(two_stage(r, reference, np.exp(middle)), reference, prompt) > nats
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    policy = two_stage(r, reference, np.exp(high))
    if not np.allclose(kl(policy, reference, prompt), nats, rtol=1e-3):
        raise DataError(f"no policy of this reward is {nats:g} nats from the reference; the greedy one is nearer")
    return policy


def _mean(values: Array, prompt: ArrayLike | None) -> Array:
    return values.mean(-1) if prompt is None else values @ np.asarray(prompt, float)


def _log_reference(reference: ArrayLike) -> Array:
    p = np.asarray(reference, float)
    if p.ndim < 2 or not (p > 0).all() or not np.allclose(p.sum(-1), 1, atol=1e-8):
        raise DataError("reference probabilities [prompt, response] must be positive and add up to 1 for each prompt")
    return np.log(p)
