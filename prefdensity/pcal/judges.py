"""What a verdict on two AI outputs tells about the label: P(verdict | x, w), E[Y | x, w, verdict], variances explained.

Closed forms for a Gaussian label, sums for a discrete one, split Gauss-Legendre quadrature where there is neither.
Verdicts are in the order of `prefdensity.judged.units.VERDICTS`; the last axis of probabilities [unit, node, verdict].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_ndtr, ndtr

from prefdensity.errors import DataError
from prefdensity.judged.units import TIE, VERDICTS, A, B, Judged

Array = NDArray[Any]

_NODES = 16  # per piece: 1e-10 where 8 leave 1e-4
_BULK = np.array([-9.0, -5.0, -2.5, 0.0, 2.5, 5.0, 9.0])  # pieces of a Gaussian label, in sd
_TURN = np.array([-30.0, -8.0, 0.0, 8.0, 30.0])  # pieces of a logistic curve, in units of its logit
_SHARED = 10.0  # verdicts of each truth that a judge among several borrows from all
_LOG_ROOT = 0.5 * np.log(2 * np.pi)


class Judge(Protocol):
    """How a verdict depends on the label."""

    def probability(self, label: Array, outputs: Array) -> Array:
        """Return P(verdict | label) [unit, node, 3] for labels [unit, node] and outputs [unit, 2]."""

    def breaks(self, outputs: Array) -> Array:
        """Return labels [unit, k] where `probability` bends or turns: quadrature is split there."""

    def gaussian(self, mean: Array, sd: float, outputs: Array) -> Told:
        """Return what a verdict tells about labels N(mean [unit], sd^2)."""


@dataclass(frozen=True, eq=False)
class Told:
    """What one verdict tells about the label of each unit.

    Attributes
    ----------
    probability
        P(verdict | x, w) [unit, 3].
    mean
        E[Y | x, w, verdict] [unit, 3]; E[Y | x, w] for a verdict that cannot be given.
    explained
        Var(E[Y | x, w, verdict] | x, w) [unit].
    left
        E[Var(Y | x, w, verdict) | x, w] [unit].
    """

    probability: Array
    mean: Array
    explained: Array
    left: Array

    @classmethod
    def of(cls, probability: Array, above: Array, mean: Array, variance: Array | float) -> Told:
        """Assemble from P(verdict), E[(Y - mean) 1(verdict)] [unit, 3], E[Y] and Var(Y) [unit]."""
        shift = np.divide(above, probability, out=np.zeros_like(above), where=probability > 0)
        explained = (above * shift).sum(1)
        return cls(probability, mean[:, None] + shift, explained, np.maximum(variance - explained, 0.0))


@dataclass(frozen=True, eq=False)
class ConfusionJudge:
    """A judge who sees which output is closer and reports it by a confusion matrix (Dawid and Skene, 1979).

    Attributes
    ----------
    matrix
        [truth, verdict], rows adding up to 1: output 1 is closer, output 2 is, both equally far. The identity, the
        default, makes no mistakes.
    """

    matrix: Array = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        matrix = np.asarray(self.matrix, float)
        if matrix.shape != (3, 3) or (matrix < 0).any() or not np.allclose(matrix.sum(1), 1):
            raise DataError(
                "a confusion matrix is 3 by 3 (truth a, b, equal; verdict a, b, tie), rows adding up to 1, not "
                f"{self.matrix}"
            )
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def flipping(cls, rate: float) -> ConfusionJudge:
        """Return a judge without ties who says the contrary with probability `rate`."""
        return cls(np.array([[1 - rate, rate, 0], [rate, 1 - rate, 0], [0.5, 0.5, 0]]))

    @classmethod
    def learn(
        cls, label: Array, outputs: Array, verdict: Array, towards: ConfusionJudge | None = None
    ) -> ConfusionJudge:
        """Count verdicts [unit] against labels; half a verdict is shared out as in the whole table for each truth.

        With `towards`, ten verdicts of each truth count as that judge gives them, instead of the half.
        """
        counts = np.zeros((3, 3))
        np.add.at(counts, (truth(label[:, None], outputs)[:, 0], verdict), 1.0)
        if towards is not None:
            counts += _SHARED * towards.matrix
            return cls(counts / counts.sum(1, keepdims=True))
        share = counts.sum(0) + 1e-9  # no verdict at all: any
        counts += 0.5 * share / share.sum()
        return cls(counts / counts.sum(1, keepdims=True))

    def probability(self, label: Array, outputs: Array) -> Array:
        """See `Judge`."""
        return np.asarray(self.matrix[truth(label, outputs)])

    def breaks(self, outputs: Array) -> Array:
        """See `Judge`."""
        return np.asarray(outputs.mean(1, keepdims=True))

    def gaussian(self, mean: Array, sd: float, outputs: Array) -> Told:
        """See `Judge`; truncated normals on the two sides of the middle of the outputs."""
        mass, above = sides(mean, sd, outputs)
        return Told.of(mass @ self.matrix, above @ self.matrix, mean, sd**2)


@dataclass(frozen=True)
class _Sharp:
    """A judge who sees the closer output the better the farther apart they are, or does not look; no ties.

    Attributes
    ----------
    sharpness
        Of probits per squared unit of the label, or of logits per unit.
    bias
        Towards output 1, in probits or logits.
    lapse, guess
        Probability of not looking, and of a then.
    """

    sharpness: float
    bias: float = 0.0
    lapse: float = 0.0
    guess: float = 0.5

    def _lapsed(self, p: Array) -> Array:
        """Return P(a) of a judge who answers a with this probability when they look."""
        return self.lapse * self.guess + (1 - self.lapse) * p


class ProbitJudge(_Sharp):
    """`P(a | y) = lapse * guess + (1 - lapse) Phi(bias + sharpness ((w2 - y)^2 - (w1 - y)^2))`; no ties."""

    def _line(self, outputs: Array) -> tuple[Array, Array]:
        """Return a and k [unit] of Phi(a + k y): the difference of squared distances is linear in y."""
        w1, w2 = outputs.T
        return self.bias - self.sharpness * (w1**2 - w2**2), 2 * self.sharpness * (w1 - w2)

    def probability(self, label: Array, outputs: Array) -> Array:
        """See `Judge`."""
        a, k = self._line(outputs)
        return _two(self._lapsed(ndtr(a[:, None] + k[:, None] * label)))

    def breaks(self, outputs: Array) -> Array:
        """See `Judge`."""
        a, k = self._line(outputs)
        k = np.where(k == 0, 1e-300, k)
        with np.errstate(over="ignore"):
            at = (np.array([-8.0, -3.0, 0.0, 3.0, 8.0]) - a[:, None]) / k[:, None]
        return np.asarray(np.nan_to_num(at))

    def gaussian(self, mean: Array, sd: float, outputs: Array) -> Told:
        """See `Judge`."""
        a, k = self._line(outputs)
        scale = np.sqrt(1 + (k * sd) ** 2)
        z = (a + k * mean) / scale
        p = self._lapsed(ndtr(z))
        d = (1 - self.lapse) * k * sd**2 * np.exp(-0.5 * z**2 - _LOG_ROOT) / scale
        return Told.of(_two(p), np.stack([d, -d, np.zeros_like(d)], 1), mean, sd**2)


class LogisticJudge(_Sharp):
    """`P(a | y) = lapse * guess + (1 - lapse) expit(bias + sharpness (|w2 - y| - |w1 - y|))`; no ties."""

    def probability(self, label: Array, outputs: Array) -> Array:
        """See `Judge`."""
        distance = np.abs(outputs[:, None, :] - label[..., None])
        return _two(self._lapsed(expit(self.bias + self.sharpness * (distance[..., 1] - distance[..., 0]))))

    def breaks(self, outputs: Array) -> Array:
        """See `Judge`; between the outputs the logit has twice the slope of the label, outside it is constant."""
        low, high = outputs.min(1, keepdims=True), outputs.max(1, keepdims=True)
        turn = (low + high) / 2 + _TURN / (2 * max(abs(self.sharpness), 1e-300))
        return np.hstack([low, np.clip(turn, low, high), high])

    def gaussian(self, mean: Array, sd: float, outputs: Array) -> Told:
        """See `Judge`; truncated normals outside the outputs, quadrature between them."""
        low, high = outputs.min(1), outputs.max(1)
        bulk = np.clip(mean[:, None] + sd * _BULK, low[:, None], high[:, None])
        label, weight = _legendre(np.sort(np.hstack([self.breaks(outputs), bulk]), 1))
        weight = weight * _density(label, mean, sd)
        p = self.probability(label, outputs)
        mass, above = np.einsum("un,unv->uv", weight, p), np.einsum("un,unv->uv", weight * (label - mean[:, None]), p)
        for edge, sign in ((low, -1.0), (high, 1.0)):
            z = (edge - mean) / sd
            outside = self.probability(edge[:, None], outputs)[:, 0]
            mass = mass + ndtr(-sign * z)[:, None] * outside
            above = above + (sign * sd * np.exp(-0.5 * z**2 - _LOG_ROOT))[:, None] * outside
        return Told.of(mass, above, mean, sd**2)


def learn_judges(seen: Judged) -> tuple[ConfusionJudge, ...]:
    """Return a confusion matrix for each judge of labelled units; those with few verdicts are like all judges."""
    label, outputs = seen.label[seen.judged], seen.outputs[seen.judged]
    everybody = ConfusionJudge.learn(label, outputs, seen.verdict)
    if len(seen.judges) == 1:
        return (everybody,)
    own = [seen.judge == index for index in range(len(seen.judges))]
    return tuple(ConfusionJudge.learn(label[at], outputs[at], seen.verdict[at], everybody) for at in own)


def truth(label: Array, outputs: Array) -> Array:
    """Return which output is closer to the label [unit, node]: 0, 1, or 2 for equally far."""
    distance = np.abs(outputs[:, None, :] - label[..., None])
    order = np.sign(distance[..., 1] - distance[..., 0]).astype(int)
    return np.array([TIE, A, B])[order]


def sides(mean: Array, sd: float, outputs: Array) -> tuple[Array, Array]:
    """Return P(truth) and E[(Y - mean) 1(truth)] [unit, 3] for labels N(mean, sd^2)."""
    t = (outputs.mean(1) - mean) / sd
    up = ndtr(-t)
    reach = sd * np.exp(-0.5 * t**2 - _LOG_ROOT)
    toward = np.sign(outputs[:, 0] - outputs[:, 1])  # 1: output 1 is closer above the middle
    mass = np.zeros((len(mean), 3))
    mass[:, A] = np.where(toward > 0, up, np.where(toward < 0, 1 - up, 0.0))
    mass[:, B] = np.where(toward > 0, 1 - up, np.where(toward < 0, up, 0.0))
    mass[:, TIE] = toward == 0
    # the smaller mass from its own tail, not as a difference
    tail = np.exp(log_ndtr(-np.abs(t)))
    small = np.where(t > 0, toward > 0, toward < 0)
    for column, here in ((A, small), (B, ~small)):
        mass[:, column] = np.where(here & (toward != 0), tail, mass[:, column])
    above = np.stack([toward * reach, -toward * reach, np.zeros_like(reach)], 1)
    return mass, above


def gaussian_law(mean: Array, sd: float, breaks: Array) -> tuple[Array, Array]:
    """Return labels and weights [unit, node] that stand for N(mean [unit], sd^2), split at breaks [unit, k]."""
    bulk = mean[:, None] + sd * _BULK
    inside = np.clip(breaks, bulk[:, :1], bulk[:, -1:])
    label, weight = _legendre(np.sort(np.hstack([bulk, inside]), 1))
    weight = weight * _density(label, mean, sd)
    return label, weight / weight.sum(1, keepdims=True)


def levels_law(mean: Array, sd: float, levels: Array) -> tuple[Array, Array]:
    """Return labels and weights [unit, level] of a label on `levels` with weights of the density of N(mean, sd^2)."""
    exponent = -0.5 * ((levels - mean[:, None]) / sd) ** 2
    weight = np.exp(exponent - exponent.max(1, keepdims=True))
    return np.broadcast_to(levels, weight.shape), weight / weight.sum(1, keepdims=True)


def tell(judge: Judge, label: Array, weight: Array, outputs: Array) -> Told:
    """Return what a verdict tells about labels [unit, node] with weights [unit, node] adding up to 1 in a unit."""
    p = judge.probability(label, outputs)
    mean = (weight * label).sum(1)
    centred = label - mean[:, None]
    above = np.einsum("un,unv->uv", weight * centred, p)
    return Told.of(np.einsum("un,unv->uv", weight, p), above, mean, (weight * centred**2).sum(1))


def _two(p: Array) -> Array:
    """Return probabilities [..., 3] of a, b and no ties."""
    return np.stack([p, 1 - p, np.zeros_like(p)], -1)


def _density(label: Array, mean: Array, sd: float) -> Array:
    return np.asarray(np.exp(-0.5 * ((label - mean[:, None]) / sd) ** 2 - _LOG_ROOT) / sd)


def _legendre(breaks: Array) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes and weights [unit, node] over the pieces between breaks [unit, break]."""
    at, weight = np.polynomial.legendre.leggauss(_NODES)
    middle, half = (breaks[:, 1:] + breaks[:, :-1]) / 2, np.diff(breaks) / 2
    shape = (len(breaks), _NODES * half.shape[1])
    return (middle[..., None] + half[..., None] * at).reshape(shape), (half[..., None] * weight).reshape(shape)


assert (A, B, TIE) == (0, 1, 2) == tuple(range(len(VERDICTS)))  # confusion matrices are laid out so
