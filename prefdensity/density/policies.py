"""Policies that common objectives make of a preference density or a reward, in closed form.

Each is the exact optimum over all policies, and seldom the annotators' density itself. Reward alone, without
a price on leaving the reference, would collapse onto the mode.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from prefdensity.density.densities import Density, normalise
from prefdensity.errors import DataError, require_positive


def kl_regularised(reference: Density, reward: ArrayLike, beta: float) -> Density:
    """Return the policy proportional to reference * exp(reward / beta).

    It maximises E[reward] - beta KL(policy || reference), as reinforcement learning from human feedback does.

    Parameters
    ----------
    reference
        The policy to stay near [point].
    reward
        [point], [draw, point] or [draw, type, point], up to a constant.
    beta
        Price of a nat of KL, in units of reward; positive.

    Raises
    ------
    DataError
        If `beta` is not positive, or shapes do not match.
    """
    require_positive(beta=beta)
    return normalise(reference.log_p + np.asarray(reward) / beta, reference.domain)


def dpo(reference: Density, preference: Density, beta: float) -> Density:
    """Return the policy proportional to reference * preference^(1 / beta).

    The optimum of direct preference optimisation for annotators who follow Luce's rule: their density itself
    only for beta = 1 and a flat reference. Rafailov et al. (2023), arXiv 2305.18290.

    Parameters
    ----------
    reference
        The policy that training starts from [point].
    preference
        Density of the annotators [..., point].
    beta
        Of the objective; positive.
    """
    require_positive(beta=beta)
    return _product(reference, 1.0, preference, 1 / beta)


def geometric(reference: Density, preference: Density, alpha: float) -> Density:
    """Return the policy proportional to preference^alpha * reference^(1 - alpha).

    Parameters
    ----------
    reference
        The policy at alpha = 0 [point].
    preference
        The policy at alpha = 1 [..., point].
    alpha
        Positive.
    """
    require_positive(alpha=alpha)
    return _product(reference, 1 - alpha, preference, alpha)


def ipo(reference: Density, win_rate: ArrayLike, tau: float) -> Density:
    """Return the policy proportional to reference * exp(win_rate / tau), whatever the annotators are.

    The log ratio to the reference stays within 1 / tau. Azar et al. (2023), arXiv 2310.12036.

    Parameters
    ----------
    reference
        The policy that training starts from [point].
    win_rate
        Probability [point] of being preferred to the other member of a pair (`misspecified.win_rate`).
    tau
        Of the objective; positive.
    """
    require_positive(tau=tau)
    return normalise(reference.log_p + np.asarray(win_rate) / tau, reference.domain)


def _product(reference: Density, a: float, preference: Density, b: float) -> Density:
    """Return the density proportional to reference^a * preference^b."""
    if not preference.domain.equals(reference.domain):
        raise DataError(f"reference and preference live on {reference.domain!r} and {preference.domain!r}")
    log_p = a * reference.log_p + b * preference.log_p
    return normalise(log_p, preference.domain, preference.dims, preference.groups)
