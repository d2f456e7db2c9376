"""Losses of reward learning and direct preference optimisation on margins, side by side.

The margin of a pair is d = r(chosen) - r(rejected) for a reward, and d = beta * (log-ratio of chosen - log-ratio of
rejected) for a policy; see `dpo_margin`. Every loss takes margins [row] with the chosen response first and returns
losses [row], except `dr_dpo` and `kl_dpo`, whose loss is one of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from prefdensity.errors import DataError

Loss = Callable[[Tensor], Tensor]

CLIP = 5.0  # odds of 148 to 1: more than people agree on, and a bound for networks that can raise any margin


def dpo_margin(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor | None, ref_rejected: Tensor | None, beta: float
) -> Tensor:
    """Return beta * [(chosen - ref_chosen) - (rejected - ref_rejected)] of summed log-probabilities [row].

    Raises
    ------
    DataError
        If reference log-probabilities are missing or of another shape.
    """
    better, worse = _log_ratios(chosen, rejected, ref_chosen, ref_rejected, beta)
    return beta * (better - worse)


def chi_po_margin(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor | None,
    ref_rejected: Tensor | None,
    beta: float,
    largest_reward: float,
) -> Tensor:
    """Return the margin of chi-squared preference optimisation [row], for `logistic` (arXiv 2407.13399, algorithm 1).

    The ratio z of policy to reference enters as z + log z instead of log z, and the margin is held within twice the
    `largest_reward`: a policy far from what the reference covers gains nothing by going further.

    Raises
    ------
    DataError
        If reference log-probabilities are missing or of another shape.
    """
    _require_positive(largest_reward=largest_reward)
    better, worse = _log_ratios(chosen, rejected, ref_chosen, ref_rejected, beta)
    bound = 2 * largest_reward
    return (beta * (better.exp() + better - worse.exp() - worse)).clamp(-bound, bound)


def logistic(d: Tensor) -> Tensor:
    """Return -log sigmoid(d): Bradley-Terry, and DPO on its margins (Rafailov et al. 2023, arXiv 2305.18290)."""
    return -logsigmoid(d)


def soft_label(d: Tensor, q: Tensor) -> Tensor:
    """Return the log loss when the first response is preferred with probability q [row]."""
    return logistic(d) + (1 - q) * d


def cdpo(d: Tensor, smoothing: float) -> Tensor:
    """Return label-smoothed (conservative) DPO: labels are wrong with probability `smoothing`, in [0, 1/2)."""
    _require_rate(smoothing=smoothing)
    return logistic(d) + smoothing * d


def rdpo(d: Tensor, flips: float) -> Tensor:
    """Return robust DPO: unbiased for the loss of clean labels flipped at rate `flips` (arXiv 2403.00409).

    Its tilt is linear: unbounded below for a network that can raise labelled margins alone.
    """
    _require_rate(flips=flips)
    return logistic(d) - flips / (1 - 2 * flips) * d


def ipo(d: Tensor, beta: float) -> Tensor:
    """Return (d / beta - 1 / (2 beta))^2, for margins d made with the same beta (arXiv 2310.12036)."""
    _require_positive(beta=beta)
    return (d / beta - 1 / (2 * beta)) ** 2


def hinge(d: Tensor) -> Tensor:
    """Return max(0, 1 - d)."""
    return relu(1 - d)


def ramp(d: Tensor) -> Tensor:
    """Return the hinge, flat at 3/2 below d = -1/2: bounded, so that no auxiliary term can run away.

    It finds the better response and does not estimate Bradley-Terry probabilities.
    """
    return relu(1 - d) - relu(-0.5 - d)


def dr_dpo(d: Tensor, temperature: float) -> Tensor:
    """Return the distributionally robust loss of the batch, -b log mean exp(-loss / b) (arXiv 2407.07880).

    Pairs of high loss weigh less; an infinite `temperature` b is DPO.
    """
    _require_positive(temperature=temperature)
    loss = logistic(d)
    return -temperature * ((-loss / temperature).logsumexp(0) - math.log(len(d)))


def kl_dpo(d: Tensor, temperature: float) -> Tensor:
    """Return the loss of the batch at its worst reweighting, b log mean exp(loss / b) (KLDPO, arXiv 2502.01930).

    It is the largest of sum w loss - b KL(w || uniform) over weights w of the pairs: preferences may shift towards
    the pairs of high loss. An infinite `temperature` b is DPO. `dr_dpo` does the opposite: it doubts such pairs.
    """
    _require_positive(temperature=temperature)
    return temperature * ((logistic(d) / temperature).logsumexp(0) - math.log(len(d)))


def ropo(d: Tensor, alpha: float) -> Tensor:
    """Return 4a/(1+a)^2 [logistic(d) + a sigmoid(-d)]: pairs that look flipped pull less (arXiv 2404.04102)."""
    _require_positive(alpha=alpha)
    scale = 4 * alpha / (1 + alpha) ** 2
    return scale * (logistic(d) + alpha * (-d).sigmoid())


def r3m(d: Tensor, penalty: float) -> Tensor:
    """Return the least of logistic(d + shift) + penalty |shift| over shifts of the pair's margin (arXiv 2406.15568).

    A label that is wrong enough is explained by a shift: below d = log((1 - penalty) / penalty) the loss is a line
    of slope -penalty. With `penalty`, in (0, 1), near 1 it is DPO.
    """
    if not 0 < penalty < 1:
        raise DataError(f"penalty={penalty!r} must lie between 0 and 1")
    kink = math.log1p(-penalty) - math.log(penalty)
    return logistic(d.clamp(min=kink)) + penalty * relu(kink - d)


class VRTerms(NamedTuple):
    """The terms of the variance-reduced loss, each a mean over rows; `total` is what is minimised.

    Attributes
    ----------
    observed
        Loss of the labels.
    expected
        Loss that the auxiliary expects on the same pairs.
    fresh
        Loss that it expects on fresh pairs.
    total
        observed + lambda * (fresh - expected), with the margins of labelled pairs clipped in the difference if asked.
    """

    observed: Tensor
    expected: Tensor
    fresh: Tensor
    total: Tensor


def expected_loss(d: Tensor, g: Tensor, loss: Loss = logistic) -> Tensor:
    """Return g loss(d) + (1 - g) loss(-d) [row]: the loss if the first is preferred with probability g [row]."""
    return g * loss(d) + (1 - g) * loss(-d)


def vr_margin_loss(
    d: Tensor, g: Tensor, d_fresh: Tensor, g_fresh: Tensor, *, loss: Loss = logistic, lambda_: float = 1.0,
    z: Tensor | None = None, weights: Tensor | None = None, fresh_weights: Tensor | None = None,
    clip: float | None = CLIP,
) -> VRTerms:  # fmt: skip
    """Return the variance-reduced preference loss of a batch (Ye et al. 2025, arXiv 2504.03784).

    The labels' loss, minus what an auxiliary model expects it to be, plus what the model expects on fresh pairs of
    the same law: the same minimum in expectation whatever the auxiliary, with less noise if it is good. The
    logistic form tilts labelled margins linearly, without bound where a network can raise them alone; with a `clip`
    the loss has a bound below, and the same minimum as long as margins there are smaller.

    Parameters
    ----------
    d, g
        Margins of labelled pairs [row], chosen first, and the auxiliary probability that the first is preferred.
    d_fresh, g_fresh
        The same of fresh pairs [pair].
    loss
        A loss of margins, such as `logistic` (default), `ramp` or ``functools.partial(ipo, beta=beta)``.
    lambda_
        Weight of the auxiliary, in [0, 1]; 0 leaves the labels' loss.
    z
        Labels [row], 1 where the first is preferred; None: everywhere.
    weights
        [row], the law aimed at over the law of the labelled pairs, where they differ.
    fresh_weights
        [pair], the law aimed at over the law of the fresh pairs. Pairs that were drawn for the prompt of a row, or
        so as to differ from its pair, take the weight of the row.
    clip
        Margins of labelled pairs are held within -clip and clip in the auxiliary difference; None: as published.

    Raises
    ------
    DataError
        If shapes differ, probabilities are not inside (0, 1), lambda_ is not in [0, 1], or clip is not positive.
    """
    _require_pairs("labelled", d, g)
    _require_pairs("fresh", d_fresh, g_fresh)
    if not 0 <= lambda_ <= 1:
        raise DataError(f"lambda_={lambda_!r} must lie between 0 and 1")
    if clip is not None:
        _require_positive(clip=clip)
    label = torch.ones_like(d) if z is None else z
    weight = torch.ones_like(d) if weights is None else weights
    away = torch.ones_like(d_fresh) if fresh_weights is None else fresh_weights
    held = d if clip is None else d.clamp(-clip, clip)
    observed = (weight * expected_loss(d, label, loss)).mean()
    expected = (weight * expected_loss(held, g, loss)).mean()
    held_observed = observed if clip is None else (weight * expected_loss(held, label, loss)).mean()
    fresh = (away * expected_loss(d_fresh, g_fresh, loss)).mean()
    total = (1 - lambda_) * observed + lambda_ * (held_observed - expected + fresh)
    return VRTerms(observed, expected, fresh, total)


def vr_margin_rows(
    d: Tensor, g: Tensor, d_fresh: Tensor, g_fresh: Tensor, *, loss: Loss = logistic, weights: Tensor | None = None,
    clip: float | None = CLIP,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the labels' loss [row], and what a lambda of 1 takes away from it [row], which is 0 in expectation.

    The mean of the first less lambda times the second is the total of `vr_margin_loss`, whose arguments these are, with
    a fresh pair for each row that has the row's weight.
    """
    _require_pairs("labelled", d, g)
    _require_pairs("fresh", d_fresh, g_fresh)
    held = d if clip is None else d.clamp(-clip, clip)
    weight = torch.ones_like(d) if weights is None else weights
    taken = loss(d) - loss(held) + expected_loss(held, g, loss) - expected_loss(d_fresh, g_fresh, loss)
    return weight * loss(d), weight * taken


def _require_pairs(kind: str, d: Tensor, g: Tensor) -> None:
    if d.dim() != 1 or d.shape != g.shape or len(d) == 0:
        raise DataError(f"{kind} margins have shape {_shape(d)} and probabilities {_shape(g)}; one of each per pair")
    inside = (g > 0) & (g < 1)
    if not inside.all():
        row = int((~inside).nonzero()[0])
        raise DataError(
            f"the auxiliary probability of {kind} pair {row + 1} is {float(g[row]):g}; it must lie strictly between "
            "0 and 1"
        )


def _log_ratios(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor | None, ref_rejected: Tensor | None, beta: float
) -> tuple[Tensor, Tensor]:
    """Return the log ratios of policy to reference [row] of the chosen and of the rejected response."""
    _require_positive(beta=beta)
    for name, values in (("ref_chosen", ref_chosen), ("ref_rejected", ref_rejected)):
        if values is None:
            raise DataError(f"{name} is missing: a margin compares the policy with log-probabilities of the reference")
        if values.shape != chosen.shape:
            raise DataError(f"{name} has shape {tuple(values.shape)}, the policy's log-probabilities {_shape(chosen)}")
    assert ref_chosen is not None
    assert ref_rejected is not None
    return chosen - ref_chosen, rejected - ref_rejected


def _require_rate(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < 0.5:
            raise DataError(f"{name}={value!r} must lie between 0 and 1/2")


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise DataError(f"{name}={value!r} must be positive")


def _shape(values: Tensor) -> tuple[int, ...]:
    return tuple(values.shape)
