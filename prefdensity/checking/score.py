"""LayerScore tests of what could be added to a program, at its fit: one pass over the data for each layer.

At the point where a layer says nothing, the larger program has the likelihood of the smaller. For its effects theta,
the score S there and its covariance V = I_tt - I_tz (I_zz + prior)^-1 I_zt, all else that is estimated projected out,
say what fitting it would (Rao 1948, Proc. Cambridge Phil. Soc. 44, 50-57): single effects by S'V^-1 S, a chi-square;
a spread of effects by S'S, the score of its variance (Lin 1997, Biometrika 84, 309-326). The prior of what is
estimated makes the projection a partial one, which is that of the marginal likelihood where latent effects are normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import chdtrc

from prefdensity.checking.extensions import Extension, extensions
from prefdensity.checking.quadratic import Spectrum, spectrum
from prefdensity.checking.sensitivity import Fit, in_pairs, jacobian, log_probabilities, scaled
from prefdensity.errors import ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.layers import Layer
from prefdensity.programs.running import run

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

Array = NDArray[np.float64]
Index = NDArray[np.intp]

_INSIDE = 1e-8  # how far from the end of its range a parameter is looked at that says nothing at the end
_SAME = 1e-8  # how far log probabilities at a null point may be from those of the program without the layer
_SEEN = 0.05  # tail from which on a spread is seen
_NOTHING = "what is estimated already can stand for all of it, or it changes no probability here"
_LEFT = 1e-6  # share of the information of an effect that must be left when all else is projected out


@dataclass(frozen=True)
class LayerScore:
    """What the score says of one layer.

    Attributes
    ----------
    extension
        The layer and the program with it.
    statistic, df
        Of the single effects: S'V^-1 S and how many they are; NaN and 0 without.
    variance
        The likeliest variance of the effects that have a spread, NaN without.
    p
        P(as much or more under the program as it is), of the smaller of the two times two where there are both.
    gain
        Expected gain in elpd (nats), were the judgements here predicted anew by the program with the layer.
    """

    extension: Extension
    statistic: float
    df: int
    variance: float
    p: float
    gain: float


class Effects:
    """The effects of a layer at the point where it says nothing, beside a fit.

    Raises
    ------
    ProgramError
        If the program with the layer does not have the probabilities of the program without it there.
    """

    def __init__(self, fit: Fit, extension: Extension) -> None:
        self.fit = fit
        view = View(extension.program, fit.view.cells)
        layer = extension.layer
        new = [name for name in view.sites if name not in fit.values]
        told = {*layer.null, *layer.spread, *layer.spread.values()}
        if lacking := [name for name in new if name not in told]:
            raise ProgramError(f"{layer.label} does not say where its site {lacking[0]!r} says nothing")
        if not new:  # in the place of a layer with the same sites
            raise ProgramError(f"{layer.label} has no site that the program lacks")
        start, values, free = 0, dict(fit.values), []
        self.single, self.side = np.zeros(0, bool), np.zeros(0)
        for name in new:
            site = view.sites[name]
            size = int(np.prod(site.batch + site.event))
            spread, offsets = name in layer.spread, name in layer.spread.values()
            level = 1.0 if spread else 0.0 if offsets else layer.null[name]
            support = _support(view, name)
            side = 0.0 if spread or offsets else float(level == support[0]) - float(level == support[1])
            padding = (1,) * (2 - len(site.batch))
            values[name] = torch.full(
                (1, *padding, *site.batch, *site.event), level + _INSIDE * side, device=view.device
            ).double()
            if not spread:
                free.append((name, replace(site, at=slice(start, start + size)), values[name]))
                self.single = np.r_[self.single, np.full(size, not offsets)]
                self.side = np.r_[self.side, np.full(size, side)]
                start += size
        self.view, self.free = view, free
        self.x = torch.cat([value.flatten() for _, _, value in free])
        with torch.no_grad():
            away = np.abs(log_probabilities(view, values).cpu().numpy() - fit.log_p)
        off = away[fit.expected > 1e-9].max(initial=0.0)
        if not off < _SAME + 1e3 * _INSIDE * bool(self.side.any()):
            raise ProgramError(f"{layer.label} says something where it declares to say nothing")
        self.values = values
        self.slopes = jacobian(
            lambda x: log_probabilities(view, values | self.parts(x[None])),
            self.x, [site for _, site, _ in free], fit.rows,
        )  # fmt: skip

    def parts(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return effects x [fit, effect] by site."""
        return {name: x[:, site.at].reshape(len(x), *value.shape[1:]) for name, site, value in self.free}

    @cached_property
    def _expected(self) -> Any:
        """The slopes times expected counts [effect, row]."""
        return sp.csr_array(scaled(self.slopes, self.fit.expected).T)

    @cached_property
    def cross(self) -> Any:
        """Information between effects and what is estimated [effect, felt]."""
        return self._expected @ self.fit.slopes

    @cached_property
    def own(self) -> Any:
        """Information of the effects [effect, effect]."""
        return self._expected @ self.slopes

    @cached_property
    def _pairs(self) -> Array:
        """The score [effect, pair] averaged over each draw about the fit and its mirror image, at the mean."""
        found = []
        for few in self.fit.view.chunks(self.fit.around):
            x = self.x.expand(len(few), -1).clone().requires_grad_()
            fixed = {name: value.expand(len(few), *value.shape[1:]) for name, value in self.values.items()}
            met = self.view.run(fixed | self.fit.view.values(few)[0] | self.parts(x), len(few)).met["outcome"]
            found.append(torch.autograd.grad(met["fn"].log_prob(met["value"]).sum(), x)[0].cpu().numpy())
        return np.asarray(in_pairs(np.concatenate(found)).T - self.cross @ self.fit.steps)

    @property
    def score(self) -> Array:
        """The score [effect] of the marginal likelihood: that of the likelihood, averaged over the posterior."""
        return self._pairs.mean(1)

    @cached_property
    def bent(self) -> Array:
        """A root [effect, pair] of the covariance that the score has for being no linear function of what is estimated.

        What is estimated differs from the truth as draws differ from the point, so these show how the score bends.
        """
        pairs = self._pairs.shape[1]
        return (self._pairs - self.score[:, None]) * np.sqrt((1 + 1 / pairs) / (pairs - 1))

    def answer(self, some: Index) -> Array:
        """Return how what is estimated gives way to some effects [felt, effect]: dense, so ask for few."""
        return self.fit.solve(self.cross[some].T.toarray())

    def covariance(self, some: Index) -> Array:
        """Return V [effect, effect] of some effects."""
        bent = self.bent[some]
        return self.own[some][:, some].toarray() - self.cross[some] @ self.answer(some) + bent @ bent.T


def _support(view: View, name: str) -> tuple[float, float]:
    """Return the ends of the range of a site."""
    support = run(view.program, view.cells.head(1), {}, 1, seed=0).met[name]["fn"].support
    found = (getattr(support, "lower_bound", -np.inf), getattr(support, "upper_bound", np.inf))
    return float(found[0]), float(found[1])


def score_of(fit: Fit, extension: Extension) -> LayerScore:
    """Return what the score says of a layer.

    Raises
    ------
    ProgramError
        If it cannot be told.
    """
    effects = Effects(fit, extension)
    one, many = np.flatnonzero(effects.single), np.flatnonzero(~effects.single)
    gains, tails, statistic, df, variance = [], [], np.nan, 0, np.nan
    if len(one):
        statistic, df, tail, gain = _single(effects, one)
        gains.append(gain)
        tails.append(tail)
    if len(many):
        found, excess = _spread(effects, one, many)
        variance, gain = found.effects()
        tails.append(found.tail(excess))
        # beside single effects that may be all there is: a spread that is not seen counts as what it costs
        gains.append(gain if not len(one) or tails[-1] <= _SEEN else min(gain, -1.0))
    p = min(1.0, len(tails) * min(tails))
    return LayerScore(extension, statistic, df, variance, p, sum(gains))


def _single(effects: Effects, some: Index) -> tuple[float, int, float, float]:
    """Return statistic, degrees of freedom, tail and gain of single effects."""
    statistic, df, estimate = _rao(effects, some)
    side = effects.side[some]
    if np.count_nonzero(side) != 1:
        return statistic, df, float(chdtrc(df, statistic)), statistic / 2 - df
    # at the end of its range an effect has one direction: beyond it the others are all there is (Self and Liang 1987)
    gain = statistic / 2 - df
    if side @ estimate < 0:
        rest = some[side == 0]
        if not len(rest):
            return statistic, df, 1 - float(chdtrc(df, statistic)) / 2, -1.0
        statistic, free, _ = _rao(effects, rest)
        gain = statistic / 2 - free - 1
    tail = (chdtrc(df, statistic) + (chdtrc(df - 1, statistic) if df > 1 else 0.0)) / 2
    return statistic, df, float(tail), gain


def _rao(effects: Effects, some: Index) -> tuple[float, int, Array]:
    """Return Rao's statistic of single effects, its degrees of freedom, and one step of Newton from nothing."""
    v, score = effects.covariance(some), effects.score[some]
    root = np.sqrt(np.maximum(effects.own.diagonal()[some], 1e-300))
    value, vectors = np.linalg.eigh(v / np.outer(root, root))
    kept = value > _LEFT
    if not kept.any():
        raise ProgramError(_NOTHING)
    along = (vectors.T @ (score / root))[kept] / np.sqrt(value[kept])
    step = vectors[:, kept] @ (along / np.sqrt(value[kept])) / root
    return float(along @ along), int(kept.sum()), step


def _spread(effects: Effects, one: Index, many: Index) -> tuple[Spectrum, float]:
    """Return the spectrum of effects with a spread, single ones projected out, and the excess of its variance."""
    own, cross = effects.own[many][:, many], effects.cross[many]
    score, bent, beside = effects.score[many], effects.bent[many], np.zeros((0, len(many)))
    if len(one):
        given_way = (cross @ effects.answer(one)).T
        with_one = effects.own[one][:, many].toarray() - given_way + effects.bent[one] @ bent.T
        v = effects.covariance(one)
        root = np.linalg.cholesky(v + 1e-12 * np.diag(np.diag(v)))
        beside = np.linalg.solve(root, with_one)
        score = score - beside.T @ np.linalg.solve(root, effects.score[one])

    def times(x: Array) -> Array:
        return own @ x - cross @ effects.fit.solve(cross.T @ x) + bent @ (bent.T @ x) - beside.T @ (beside @ x)

    def dense() -> Array:
        v = own.toarray() - cross @ effects.answer(many) + bent @ bent.T - beside.T @ beside
        return (v + v.T) / 2

    found = spectrum(score, times, dense)
    if found.mean <= _LEFT * own.trace():
        raise ProgramError(_NOTHING)
    return found, _excess(effects, many)


def _excess(effects: Effects, many: Index) -> float:
    """Return how much the variance of S'S differs from that of a normal score: single judgements have few values."""
    fit = effects.fit
    slopes = effects.slopes if len(many) == effects.slopes.shape[1] else effects.slopes[:, many]
    k = len(fit.view.cells.outcomes)
    p, total = np.exp(fit.log_p).reshape(-1, k), (fit.total * fit.share).reshape(-1, k)[:, 0]
    part = [slopes[i::k] for i in range(k)]
    product = np.empty((k, k, len(p)))
    for i in range(k):
        for j in range(i + 1):
            product[i, j] = product[j, i] = np.asarray((part[i] * part[j]).sum(1)).ravel()
    square = np.stack([product[i, i] for i in range(k)], 1)
    fourth = (p * square**2).sum(1) - (p * square).sum(1) ** 2
    normal = 2 * np.einsum("ci,ijc,cj->c", p, product**2, p)
    return float(total @ (fourth - normal))


def scores(post: Posterior, data: Comparisons, own: Sequence[Layer] = ()) -> tuple[list[LayerScore], dict[str, str]]:
    """Return what the scores say of all layers that could be added, and of the others why they were not tried.

    Parameters
    ----------
    post, data
        A fit and its table.
    own
        Layers to try beside the shipped ones.
    """
    ways, untried = extensions(post.program, data, own)
    found: list[LayerScore] = []
    if not ways:
        return found, untried
    try:
        fit = Fit(post, data, [need for way in ways for each in way for need in each.program.needs])
    except ProgramError as error:
        return found, untried | {each[0].layer.label: str(error) for each in ways}
    for each in ways:
        for extension in each:
            try:
                found.append(score_of(fit, extension))
                break
            except ProgramError as error:
                untried.setdefault(extension.layer.label, str(error))
    tried = {each.extension.layer.label for each in found}
    return found, {name: why for name, why in untried.items() if name not in tried}


def holm(p: Sequence[float]) -> Array:
    """Return p-values adjusted for their number, after Holm (1979), Scandinavian J. Statistics 6, 65-70."""
    values = np.asarray(p, float)
    order = values.argsort()
    steps = np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    out = np.empty(len(values))
    out[order] = np.minimum(steps, 1.0)
    return out


def table(found: Sequence[LayerScore]) -> pd.DataFrame:
    """Return what to try next, what would gain most first.

    Columns: layer, program, gain (expected, in elpd), p, p_adjusted (for the number of layers tried, after Holm),
    spread (estimated standard deviation of the effects, where they have one), story (the layer's own).
    """
    adjusted = holm([each.p for each in found])
    rows = [
        (
            each.extension.layer.label,
            each.extension.program.name,
            each.gain,
            each.p,
            p,
            each.variance**0.5,
            each.extension.layer.doc.split("\n", 1)[0],
        )
        for each, p in zip(found, adjusted, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["layer", "program", "gain", "p", "p_adjusted", "spread", "story"])
    return frame.sort_values("gain", ascending=False, kind="stable").reset_index(drop=True)
