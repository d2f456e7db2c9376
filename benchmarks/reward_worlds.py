"""Worlds of prompts and responses in which every population quantity is a finite sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import expit, logit, softmax

from prefdensity.reward.auxiliary import cross_fitted, folds_of, stacked
from prefdensity.reward.convex import margins, moment, solve
from prefdensity.reward.equation import Equation, Fresh, Labelled

WORLDS = ("bt", "cyclic", "cyclic-mod", "nonlinear", "mixture", "annotator")
AUXILIARIES = ("oracle", "fitted", "judge", "flip20", "self", "half", "random", "inverted")
SEEN = ("fitted", "self")  # have seen the labels, each left out in turn
FIXED = ("oracle", "judge", "flip20")
SCALES = {"bt": (1.5, 0), "cyclic": (1, 3), "cyclic-mod": (0.7, 1.2), "nonlinear": (1, 3)}
TYPE_SHARE, STEEPNESS = np.array([0.5, 0.3, 0.2]), 6.0
FITTED_RIDGE = 2.0


@dataclass(frozen=True, eq=False)
class World:
    """Cells (prompt, response, response[, type]) with their design probability and the truth.

    `d` [cell, p] feature differences, `wide` [cell, q] features of a rich auxiliary, `design` [cell], `g` [cell],
    `noise` [cell] frozen antisymmetric noise of the judge, `features` [prompt, response, p], `reference`.
    """

    name: str
    features: np.ndarray
    reference: np.ndarray
    cells: np.ndarray
    d: np.ndarray
    wide: np.ndarray
    design: np.ndarray
    g: np.ndarray
    noise: np.ndarray

    @cached_property
    def target(self) -> np.ndarray:
        """The Bradley-Terry projection of the truth."""
        return solve([(self.d, self.design)], moment(self.design * self.g, self.d)).theta

    @cached_property
    def preference(self) -> np.ndarray:
        """P [prompt, response, response], types averaged out."""
        prompts, responses = self.reference.shape
        flat = (self.cells[:, 0] * responses + self.cells[:, 1]) * responses + self.cells[:, 2]
        total = np.bincount(flat, self.design * self.g)
        return (total / np.bincount(flat, self.design)).reshape(prompts, responses, responses)

    def auxiliary(self, name: str) -> np.ndarray:
        """A probability for each cell that no label has been seen for."""
        return {
            "oracle": lambda: self.g,
            "judge": lambda: expit(0.5 * logit(self.g) + 0.5 * self.noise),
            "flip20": lambda: 0.2 + 0.6 * self.g,
            "half": lambda: np.full(len(self.g), 0.5),
            "random": lambda: expit(1.5 * self.noise[np.random.default_rng(1).permutation(len(self.g))]),
            "inverted": lambda: 1 - self.g,
        }[name]()


def unit(part: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return part / np.sqrt(np.mean(part[counted] ** 2))


def world(name: str, seed: int = 0, prompts: int = 60, responses: int = 6, p: int = 5, scales=None) -> World:
    """Draw a world: features, a tilted reference policy, and a law of preference."""
    rng = np.random.default_rng([seed, p])
    phi = rng.normal(size=(prompts, responses, p))
    reference = softmax(0.4 * phi @ rng.normal(size=p), -1)
    direction, skew, quad = rng.normal(size=p), rng.normal(size=(p, p)), rng.normal(size=(p, p))
    x, a, b = (each.ravel() for each in np.meshgrid(*map(np.arange, (prompts, responses, responses)), indexing="ij"))
    one, two = phi[x, a], phi[x, b]
    upper, upper1 = np.triu_indices(p), np.triu_indices(p, 1)
    squares = np.einsum("ci,cj->cij", one, one) - np.einsum("ci,cj->cij", two, two)
    cross = np.einsum("ci,cj->cij", one, two)
    turns = cross - np.swapaxes(cross, 1, 2)
    d, counted = one - two, a != b
    wide = np.concatenate([d, turns[:, *upper1], squares[:, *upper]], 1)
    design = reference[x, a] * reference[x, b] / prompts
    half = rng.normal(size=(prompts, responses, responses)) / np.sqrt(2)
    noise = (half - np.swapaxes(half, 1, 2))[x, a, b]
    cells = np.stack([x, a, b], 1)
    if name in ("mixture", "annotator"):
        of_type = rng.normal(size=(3, p))
        of_type *= STEEPNESS / np.linalg.norm(of_type, axis=1, keepdims=True)
        by_type = expit(d @ of_type.T)
        if name == "mixture":
            return World(name, phi, reference, cells, d, wide, design, by_type @ TYPE_SHARE, noise)
        kind = np.tile(np.arange(3), len(d))
        rows = np.repeat(np.arange(len(d)), 3)
        slopes = (d[rows][:, None, :] * np.eye(3)[kind][:, :, None]).reshape(len(rows), -1)
        return World(
            name, phi, reference, cells[rows], d[rows], slopes, design[rows] * TYPE_SHARE[kind], by_type.ravel(),
            noise[rows],
        )  # fmt: skip
    first, second = SCALES[name] if scales is None else scales
    extra = {"nonlinear": (squares * quad).sum((1, 2))}.get(name, (turns * skew).sum((1, 2)))
    logits = first * unit(d @ direction, counted) + second * unit(extra, counted)
    return World(name, phi, reference, cells, d, wide, design, expit(logits), noise)


def leaderboard(count: int, seed: int = 0) -> World:
    """Draw a world of items without features, met in all pairs alike, whose preferences go partly round in circles."""
    rng = np.random.default_rng([seed, count, 77])
    a, b = np.nonzero(~np.eye(count, dtype=bool))
    utility, one, two = rng.normal(size=count), rng.normal(size=(count, 3)), rng.normal(size=(count, 3))
    turns = one[a] * two[b] - one[b] * two[a]
    logits = 0.8 * (utility[a] - utility[b]) + 1.2 * unit(turns.sum(1), np.ones(len(a), bool))
    basis = np.linalg.qr(np.eye(count)[:, :-1] - 1 / count)[0]
    d = basis[a] - basis[b]
    half = rng.normal(size=(count, count)) / np.sqrt(2)
    cells = np.stack([0 * a, a, b], 1)
    reference, design = np.full((1, count), 1 / count), np.full(len(a), 1 / len(a))
    wide = np.concatenate([d, turns], 1)
    return World(f"{count} items", basis[None], reference, cells, d, wide, design, expit(logits), (half - half.T)[a, b])


@dataclass(frozen=True, eq=False)
class Sample:
    """Replicates of one experiment: labelled cells, labels, and the fresh pairs of a layout."""

    world: World
    index: np.ndarray
    z: np.ndarray
    layout: str
    fresh: np.ndarray
    fold: np.ndarray

    @property
    def m(self) -> float:
        return np.inf if self.layout == "exact" else self.fresh.shape[-1]

    def equation(self, auxiliary: str, use: str = "raw", total: float | None = None) -> Equation:
        """The estimating equation with one of `AUXILIARIES`: raw, recalibrated or both, mixed for a sum of lambdas."""
        labelled, fresh = self.pairs(auxiliary)
        if use == "raw":
            return Equation(labelled, fresh)
        again = stacked(labelled, fresh, self.fold, auxiliary in SEEN)
        if use == "recalibrated":
            return Equation(*again)
        return Equation(labelled, fresh).mixed((again[0].g, again[1].g), total)[0]

    def pairs(self, auxiliary: str) -> tuple[Labelled, Fresh]:
        """Labelled and fresh pairs with one of `AUXILIARIES`."""
        w = self.world
        x = w.d[self.index]
        if auxiliary == "fitted":
            away = w.wide if self.layout == "exact" else w.wide[self.fresh]
            g, g_fresh = cross_fitted(w.wide[self.index], self.z, away, fold=self.fold, ridge=FITTED_RIDGE)
        elif auxiliary == "self":
            theta = solve([(x, np.ones(x.shape[-2]))], moment(self.z, x)).theta
            away = w.d if self.layout == "exact" else w.d[self.fresh]
            g, g_fresh = expit(margins(x, theta)), expit(margins(away, theta))
        else:
            cells = w.auxiliary(auxiliary)
            g, g_fresh = cells[self.index], cells if self.layout == "exact" else cells[self.fresh]
        labelled = Labelled(x, self.z, g, np.ones(self.z.shape[-1]))
        fresh = self._fresh(g_fresh)
        if self.layout.startswith("same"):
            n = self.z.shape[-1]
            labelled = replace(labelled, cluster=np.arange(n))
            fresh = replace(fresh, cluster=np.repeat(np.arange(n), self.fresh.shape[-1] // n), tied=True)
        return labelled, fresh

    def _fresh(self, g: np.ndarray) -> Fresh:
        if self.layout == "exact":
            return Fresh(self.world.d, g, self.world.design)
        m = self.fresh.shape[-1]
        return Fresh(self.world.d[self.fresh], g, np.full(m, 1 / m), m)


def draw(w: World, n: int, replicates: int, layout: str = "exact", seed: int = 0, folds: int = 5) -> Sample:
    """Draw labelled pairs and fresh ones: `exact`, `fresh:M` (M new pairs) or `same:M` (M at each labelled prompt)."""
    rng = np.random.default_rng([seed, n, 7])
    index = rng.choice(len(w.g), size=(replicates, n), p=w.design / w.design.sum())
    z = (rng.random((replicates, n)) < w.g[index]).astype(float)
    fresh = np.empty((replicates, 0), int)
    kind, _, count = layout.partition(":")
    if kind == "fresh":
        fresh = rng.choice(len(w.g), size=(replicates, int(count)), p=w.design / w.design.sum())
    elif kind == "same":
        cumulative, responses = np.cumsum(w.reference, 1), w.reference.shape[1]
        prompt = np.repeat(w.cells[index, 0], int(count), axis=1)
        one, two = (
            np.minimum((rng.random(prompt.shape)[..., None] > cumulative[prompt]).sum(-1), responses - 1) for _ in "ab"
        )
        fresh = (prompt * responses + one) * responses + two
    return Sample(w, index, z, layout, fresh, folds_of(n, folds, None, rng))
