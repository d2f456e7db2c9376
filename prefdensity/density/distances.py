"""How far apart densities are, and two theorems on how far an estimate is from the truth.

Densities share a domain, and the axes of one must be the last axes of the other, over which it is repeated:
draws of an estimate [draw, point] against a truth [point], types [draw, type, point] against [type, point].
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from prefdensity.errors import DataError

if TYPE_CHECKING:
    from prefdensity.density.densities import Density

Array = NDArray[Any]


def kl(p: Density, q: Density, clip: float = math.inf) -> Array:
    """Return KL(p || q) in nats [...].

    Parameters
    ----------
    p, q
        Densities on one domain. In their tails the smaller one decides the result: say on which domain.
    clip
        Largest |log p - log q| that counts, in nats; infinite where p has mass and q has none otherwise.

    Raises
    ------
    DataError
        If domains or axes do not match.
    """
    mass = p.probability
    ratio = np.where(mass > 0, log_ratio(p, q), 0.0)
    return (mass * ratio.clip(-clip, clip)).sum(-1)


def tv(p: Density, q: Density) -> Array:
    """Return the total variation distance [...]: the largest difference of the masses of a region, 0 to 1."""
    _require_match(p, q)
    return 0.5 * np.abs(p.probability - q.probability).sum(-1)


def js(p: Density, q: Density) -> Array:
    """Return the Jensen-Shannon divergence in nats [...], 0 to log 2."""
    log_middle = np.logaddexp(p.log_p, q.log_p) - math.log(2)
    wider = p if p.log_p.ndim >= q.log_p.ndim else q
    middle = replace(wider, log_p=log_middle)
    return (kl(p, middle) + kl(q, middle)) / 2


def log_ratio(p: Density, q: Density) -> Array:
    """Return log p - log q in nats [..., point]; nan where both vanish."""
    _require_match(p, q)
    with np.errstate(invalid="ignore"):
        return p.log_p - q.log_p


def match(found: Density, truth: Density) -> tuple[Density, Array]:
    """Return `found` with its types in the order of `truth`, by minimum-cost assignment on total variation.

    Types have no order of their own: match before you average over fits, or compare.

    Parameters
    ----------
    found
        [type, point] or [draw, type, point]; each draw is matched for itself. It may have more types than
        `truth`; those left over are dropped.
    truth
        [type, point].

    Returns
    -------
    matched
        Density with the groups of `truth`.
    index
        Int [type] or [draw, type]: which type of `found` each one was.

    Raises
    ------
    DataError
        If the domains differ, or `found` has fewer types.
    """
    if truth.log_p.ndim != 2 or not truth.groups or not found.groups:
        raise DataError(f"types are matched to a truth [type, point], not {found!r} to {truth!r}")
    if len(found.groups) < len(truth.groups) or not found.domain.equals(truth.domain):
        raise DataError(f"{found!r} cannot be matched to {truth!r}: it has fewer types, or another domain")
    cells = found.probability[..., None, :, :], truth.probability[:, None, :]
    cost = 0.5 * np.abs(cells[0] - cells[1]).sum(-1)  # [..., type of truth, type of found]
    flat = [linear_sum_assignment(each)[1] for each in cost.reshape(-1, *cost.shape[-2:])]
    index = np.array(flat).reshape(cost.shape[:-1])
    log_p = np.take_along_axis(found.log_p, index[..., None], -2)
    return replace(found, log_p=log_p, groups=truth.groups, k_hat=None, effective=None), index


def information(p: Density, counts: ArrayLike) -> Array:
    """Return the Fisher information [item, item] of utilities: sum n_ij P_ij P_ji (e_i - e_j)(e_i - e_j)'.

    Parameters
    ----------
    p
        The truth [item], under Luce's rule. Near-certain pairs carry no information.
    counts
        Symmetric [item, item]: how often each pair was judged.

    Raises
    ------
    DataError
        If the counts are not symmetric.
    """
    n = np.asarray(counts, float)
    if n.shape != (len(p.domain),) * 2 or not np.allclose(n, n.T):
        raise DataError(f"counts must be symmetric over {len(p.domain)} items, not of shape {n.shape}")
    win = expit(p.log_p[:, None] - p.log_p)
    weight = n * win * win.T
    np.fill_diagonal(weight, 0.0)
    return np.diag(weight.sum(1)) - weight


def expected_kl(p: Density, information: Array) -> float:
    """Return the asymptotic mean of KL(p || estimate) in nats: tr(C (diag p - p p')) / 2, C the covariance.

    Parameters
    ----------
    p
        The truth, on items.
    information
        Fisher information [item, item] of the utilities; C is its pseudo-inverse.
    """
    covariance = np.linalg.pinv(information, hermitian=True)
    share = p.probability
    return float(share @ np.diag(covariance) - share @ covariance @ share) / 2


def kl_bound(p: Density, q: Density) -> Array:
    """Return (max d - min d)^2 / 8 with d = log q - log p: KL(p || q) is never larger (Hoeffding's lemma)."""
    return np.ptp(log_ratio(p, q), axis=-1) ** 2 / 8


def _require_match(p: Density, q: Density) -> None:
    if not p.domain.equals(q.domain):
        raise DataError(f"densities are compared on one domain, not on {p.domain!r} and {q.domain!r}")
    short, long = sorted((p, q), key=lambda each: each.log_p.ndim)
    if long.dims[len(long.dims) - len(short.dims) :] != short.dims:
        raise DataError(f"the axes of {p!r} and {q!r} do not match; take the mean over draws, or match types")
