"""Simulated judged units with known truth: the linear world of Dong et al. (2026, arXiv 2601.13458) and its judges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefdensity.errors import DataError
from prefdensity.judged.units import A, B, Judged

Array = NDArray[Any]

COEFFICIENT = 0.2 * np.arange(1, 6)
LABEL_SD = 16.0  # of the label about its regression on the covariates
_OUTPUT_SD = (4.0, 6.0)
_SHARED = 0.075  # share of the label's error that both outputs know
_GAIN_SD = (0.2, 0.1)


@dataclass(frozen=True)
class TrueJudge:
    """Who compares: logit P(a) = bias + sharpness (|w2 - y| - |w1 - y|), then flips and lapses.

    Attributes
    ----------
    sharpness
        Per unit of the label; infinite: no noise.
    bias
        Logit towards output 1.
    lapse
        Probability of a verdict by coin.
    flip
        Probability that the verdict is turned round: a contrarian's share.
    careless
        Share of units that fall to a second type of judge, who is `careless_sharpness` sharp.
    careless_sharpness
        Sharpness of that type.
    easier
        Log sharpness for one unit of the first covariate: some units are easier to judge.
    tiring
        Log sharpness lost from the first to the last unit of a table.
    echo
        A second such judge is asked about every unit, who repeats the first with this probability, whatever is true:
        the two err together. None: there is one judge.
    """

    sharpness: float = np.inf
    bias: float = 0.0
    lapse: float = 0.0
    flip: float = 0.0
    careless: float = 0.0
    careless_sharpness: float = 0.0
    easier: float = 0.0
    tiring: float = 0.0
    echo: float | None = None

    @property
    def panel(self) -> list[tuple[int, ...]]:
        """What the judges can say of a unit, one verdict each."""
        return list(product((A, B), repeat=1 if self.echo is None else 2))

    def law(self, label: Array, outputs: Array, ease: Array | float = 1.0) -> Array:
        """Return P(what the judges say) [unit, one of `panel`]; arguments as in `probability`."""
        one = np.stack([p := self.probability(label, outputs, ease), 1 - p], -1)
        if self.echo is None:
            return one
        return np.stack(
            [one[..., a] * ((1 - self.echo) * one[..., b] + self.echo * (a == b)) for a, b in self.panel], -1
        )

    def ease(self, covariates: Array) -> Array:
        """Return what the sharpness is multiplied by [unit], for the units of a table in their order."""
        time = np.linspace(0, 1, len(covariates))
        return np.asarray(np.exp(self.easier * covariates[:, 0] - self.tiring * time))

    def probability(self, label: Array, outputs: Array, ease: Array | float = 1.0) -> Array:
        """Return P(output 1 is called closer) [unit] for labels [unit], outputs [unit, 2] and `ease` [unit]."""
        margin = ease * (np.abs(outputs[:, 1] - label) - np.abs(outputs[:, 0] - label))
        p = (1 - self.careless) * self._sharp(margin, self.sharpness)
        p += self.careless * self._sharp(margin, self.careless_sharpness)
        p = self.flip + (1 - 2 * self.flip) * p
        return np.asarray(self.lapse / 2 + (1 - self.lapse) * p)

    def _sharp(self, margin: Array, sharpness: float) -> Array:
        if np.isinf(sharpness):
            return np.asarray((margin >= 0).astype(float))
        return np.asarray(0.5 * (1 + np.tanh((self.bias + sharpness * margin) / 2)))


JUDGES = {
    "noise_free": TrueJudge(),
    "logistic": TrueJudge(sharpness=0.25),
    "lapse": TrueJudge(lapse=0.3),
    "position_bias": TrueJudge(sharpness=0.25, bias=1.0),
    "two_types": TrueJudge(sharpness=0.5, careless=0.4, careless_sharpness=0.02),
    "contrarian": TrueJudge(flip=0.25),
    "anti_informative": TrueJudge(sharpness=0.25, flip=0.95),
    "easier": TrueJudge(sharpness=0.25, easier=0.8),
    "tiring": TrueJudge(sharpness=0.5, tiring=3.0),
    "correlated": TrueJudge(sharpness=0.25, echo=0.6),
}


@dataclass(frozen=True, eq=False)
class JudgedWorld:
    """Two fixed AI systems, a judge, and a linear truth.

    Attributes
    ----------
    gain
        [2, covariate]: how each output's coefficients differ from the truth; drawn once, for the same two systems are
        used in the pilot and afterwards.
    judge
        Who compares.
    shift
        By how much output 2 is too high. Without it, as published, both outputs are symmetric about the truth, which
        hides much of what goes wrong when verdicts are not made the same way with and without a label.
    """

    gain: Array
    judge: TrueJudge = TrueJudge()
    shift: float = 0.0

    @classmethod
    def draw(cls, seed: int, judge: TrueJudge | str = "noise_free", shift: float = 0.0) -> JudgedWorld:
        """Draw the two systems.

        Raises
        ------
        DataError
            For an unknown judge.
        """
        if isinstance(judge, str):
            if judge not in JUDGES:
                raise DataError(f"there is no judge {judge!r}; judges are {', '.join(JUDGES)}")
            judge = JUDGES[judge]
        rng = np.random.default_rng(seed)
        return cls(rng.normal(size=(2, len(COEFFICIENT))) * np.array(_GAIN_SD)[:, None], judge, shift)

    def units(self, n: int, seed: int | np.random.Generator, cost: float = 10.0) -> Judged:
        """Return n units with every label and preference, as in a pilot; `buy` hides what is not bought."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, len(COEFFICIENT)))
        error = LABEL_SD * rng.normal(size=n)
        label = x @ COEFFICIENT + error
        noise = rng.normal(size=(n, 2)) * _OUTPUT_SD
        outputs = x @ (COEFFICIENT + self.gain).T + noise + _SHARED * error[:, None] + [0.0, self.shift]
        law = self.judge.law(label, outputs, self.judge.ease(x))
        bare = Judged(
            covariates=x, outputs=outputs, label=label, judged=np.arange(0), judge=np.arange(0), verdict=np.arange(0),
            features=(*(f"x{j}" for j in range(1, 6)), "w1", "w2"), label_probability=np.ones(n),
            preference_probability=np.ones(n), cost=cost, source="simulation",
        )  # fmt: skip
        return judged_by(bare, self.judge, drawn(law, rng))

    def label_law(self, judged: Judged) -> tuple[Array, float]:
        """Return the mean [unit] and sd of the label given covariates and outputs: Gaussian, by projection."""
        spread = np.diag(np.square(_OUTPUT_SD)) + (_SHARED * LABEL_SD) ** 2
        weight = np.linalg.solve(spread, np.full(2, _SHARED * LABEL_SD**2))
        surprise = judged.outputs - judged.covariates @ (COEFFICIENT + self.gain).T - [0.0, self.shift]
        variance = LABEL_SD**2 - _SHARED * LABEL_SD**2 * weight.sum()
        return judged.covariates @ COEFFICIENT + surprise @ weight, float(np.sqrt(variance))


def drawn(law: Array, rng: np.random.Generator) -> Array:
    """Return which of its possibilities came about [unit], for probabilities [unit, possibility]."""
    return np.asarray((rng.random(len(law))[:, None] >= np.cumsum(law, 1)[:, :-1]).sum(1))


def judged_by(units: Judged, judge: TrueJudge, said: Array) -> Judged:
    """Return units of which every one is judged, as the place `said` [unit] in the panel of the judge says."""
    verdicts = np.array(judge.panel)[said]
    n, size = verdicts.shape
    names = ("judge",) if size == 1 else ("judge", "echo")
    return replace(
        units, judged=np.repeat(np.arange(n), size), judge=np.tile(np.arange(size), n), verdict=verdicts.ravel(),
        judges=names, asked=None,
    )  # fmt: skip


def buy(judged: Judged, label_probability: Array, preference_probability: Array, pattern: Array) -> Judged:
    """Return a fully seen table as it would look had only `pattern` [unit] (1, 2 or 3) been bought."""
    kept = pattern[judged.judged] <= 2
    n = len(judged)
    asked = None if judged.asked is None else pattern <= 2
    return replace(
        judged, asked=asked, label=np.where(pattern == 1, judged.label, np.nan), judged=judged.judged[kept],
        judge=judged.judge[kept], verdict=judged.verdict[kept],
        label_probability=np.broadcast_to(label_probability, n).astype(float),
        preference_probability=np.broadcast_to(preference_probability, n).astype(float),
    )  # fmt: skip
