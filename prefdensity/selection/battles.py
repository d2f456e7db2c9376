"""How often to hold each battle of an arena: weights of pairs that settle its order, or its top, soonest.

A judgement of pair p tells i_p of the margin x_p' u, x_p = e_a - e_b (its Fisher information, averaged over the
posterior), so that N battles dealt by weights w leave utilities the covariance Sigma(w) = (S^-1 + N sum_p w_p i_p x_p
x_p')^-1, S being the posterior's. Weighed contrasts of utilities say what is to be known: W_ij is large for two items
whose order the draws do not agree on (or of which either may belong to the top), and L is the Laplacian of W, so that
tr(L Sigma) is the variance of what matters. It is convex in w and lowered by multiplicative steps, w_p <- w_p d_p^1/2
with d_p = i_p x_p' Sigma L Sigma x_p (L-optimality; Silvey, Titterington and Torsney 1978; Yu 2010, Annals of
Statistics 38), until no pair is worth more than the average by a hundredth. A share of the battles is dealt evenly,
whatever the program says: a wrong program then still meets every pair, and rankings that assume nothing stay possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from prefdensity.errors import DataError
from prefdensity.posterior.posterior import Posterior
from prefdensity.progress import progress as progress_bar
from prefdensity.selection.candidates import Pairs, candidate_pairs
from prefdensity.selection.foreseen import Foreseen, require_draws
from prefdensity.selection.pair_sets import ListedPairs

Array = NDArray[Any]

_STEPS, _NEAR = 300, 1.01  # multiplicative steps at most, and what the best pair may be worth over the average
_FUTURES, _TRIED = 400, 10_000  # posteriors that battles may lead to: of an order, and of a top, which each tries once
_SETTLED = 0.95
_BLOCK = 1 << 14  # pairs whose draws are held at once


def battle_design(
    post: Posterior, n: float = 1000, *, top: int | None = None, candidates: str | Pairs | None = None,
    group: Mapping[str, str] | None = None, exclude: Pairs | None = None, cost: Mapping[str, float] | None = None,
    floor: float = 0.1, annotator: str | None = None, first: str = "neither", draws: int = 256, seed: int = 0,
    progress: bool | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Say how often each pair should meet in the next battles, so that an order is settled soonest.

    Unlike `select`, which asks each pair at most once, a pair may meet often, and an arena can draw battles from the
    probabilities for as long as they serve; refit and design again after some.

    Parameters
    ----------
    post
        A fit with draws of a program with utilities. `candidates.with_items` puts new items into a fit.
    n
        Number of battles; with `cost`, what may be spent on them.
    top
        None: the order of all items is to be known; k: which items are the k best.
    candidates, group, exclude, cost
        As in `select`; a cost of items may be a price, a latency, or a sum of both.
    floor
        Share of the budget that is dealt to all candidates alike.
    annotator, first, draws, seed, progress
        As in `select`; `seed` also deals what is left by rounding.

    Returns
    -------
    Frame with a row for each candidate, most frequent first: item_a, item_b, probability (of a battle), battles (whole
    numbers that add up to n), p_a (that a is preferred), information (of one battle about the margin, in 1 / utility
    squared), and cost if asked for. ``attrs``: goal; now, after and after_uniform: the chance that the top is right, or
    the share of pairs in the right order, as it is, expected after these battles, and after as many dealt evenly;
    settled, whether that chance is .95 already; notes.

    Raises
    ------
    DataError
        For a program without utilities, a fit without draws, and arguments that are not as announced.
    """
    view = Foreseen(post, annotator, first, draws, seed)
    _require(view, n, top, floor)
    pairs = candidate_pairs(post.items, candidates, group=group, exclude=exclude, cost=cost).listed()
    if not pairs.n_rows:
        raise DataError("no candidate pair is left once masked pairs are taken out; give others")
    with progress_bar(progress) as report:
        report("what battles tell", 0, 2)
        belief = _Belief(_utilities(post), top)
        price = np.ones(pairs.n_rows) if pairs.cost is None else pairs.cost
        wins, told = _of_battles(view, belief.utility, pairs)
        report("dealing battles", 1, 2)
        even = price / price.sum()  # of the budget, that every pair meets equally often
        share = floor * even + (1 - floor) * _dealt(belief, pairs, told / price, float(n), even, floor)
    rng = np.random.default_rng(seed)
    frame = _table(post, pairs, wins, told, n * share / price, float(n), rng)
    dealt = {"as it is": 0 * even, "after": share, "after_uniform": even}
    futures = {
        key: belief.future(pairs, n * each / price * told, np.random.default_rng(seed)) for key, each in dealt.items()
    }
    frame.attrs.update(_said(post, belief, top, futures))
    return frame


def _table(
    post: Posterior, pairs: ListedPairs, wins: Array, told: Array, expected: Array, budget: float,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    frame = pd.DataFrame({"item_a": [post.items[k] for k in pairs.a], "item_b": [post.items[k] for k in pairs.b]})
    frame["probability"] = expected / expected.sum()
    frame["battles"] = _whole(expected, np.ones(len(frame)) if pairs.cost is None else pairs.cost, budget, rng)
    frame["p_a"], frame["information"] = wins, told
    if pairs.cost is not None:
        frame["cost"] = pairs.cost
    return frame.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


class _Belief:
    """Draws of utilities [draw, item] as a Gaussian, and the contrasts of them that are to be known."""

    def __init__(self, utility: Array, top: int | None) -> None:
        self.utility, self.top = utility, None if top is None else int(top)
        self.mean, self.covariance = utility.mean(0), np.cov(utility.T)

    @cached_property
    def laplacian(self) -> Array:
        """Of the weights of contrasts [item, item]: how undecided each is."""
        if self.top is None:
            above = np.mean([row[:, None] > row for row in self.utility], 0)
            weight = 4 * above * above.T
        else:
            inside = _leading(self.utility, self.top).astype(float)
            apart = inside.T @ (1 - inside) / len(inside)  # i belongs to the top, and j does not
            weight = 2 * apart * apart.T / np.maximum(apart + apart.T, 1e-300)
        np.fill_diagonal(weight, 0.0)
        if weight.sum() < 1e-9:  # nothing is undecided
            weight = 1.0 - np.eye(len(weight))
        return np.asarray(np.diag(weight.sum(1)) - weight)

    def left(self, pairs: ListedPairs, learned: Array) -> Array:
        """Return the covariance [item, item] after judgements with information `learned` [pair]."""
        size = len(self.mean)
        joined = np.zeros((size, size))
        np.add.at(joined, (pairs.a, pairs.b), learned)
        joined += joined.T
        told = np.diag(joined.sum(1)) - joined
        return np.linalg.solve(np.eye(size) + self.covariance @ told, self.covariance)

    def right(self, utility: Array, guess: Array) -> float:
        """Return how right a guess [..., item] is for utilities [draw, item]: see `battle_design`."""
        if self.top is not None:
            return float((_leading(utility, self.top) == _leading(guess, self.top)).all(-1).mean())
        a, b = np.triu_indices(utility.shape[-1], 1)
        guess = np.broadcast_to(guess, utility.shape)
        return float(((utility[:, a] > utility[:, b]) == (guess[:, a] > guess[:, b])).mean())

    def future(self, pairs: ListedPairs, learned: Array, rng: np.random.Generator) -> float:
        """Return how right the order by posterior means is expected to be after judgements."""
        left = self.left(pairs, learned)
        gone = (self.covariance - left + (self.covariance - left).T) / 2
        values, vectors = np.linalg.eigh(gone)
        moved = vectors * np.sqrt(np.maximum(values, 0.0))
        means = self.mean + rng.normal(size=(_FUTURES if self.top is None else _TRIED, len(values))) @ moved.T
        if self.top is None:
            a, b = np.triu_indices(len(values), 1)
            spread = np.sqrt(np.maximum(np.diag(left)[a] + np.diag(left)[b] - 2 * left[a, b], 1e-300))
            return float(ndtr(np.abs(means[:, a] - means[:, b]) / spread).mean())
        within, turned = np.linalg.eigh((left + left.T) / 2)
        off = rng.normal(size=means.shape) @ (turned * np.sqrt(np.maximum(within, 0.0))).T
        return self.right(means + off, means)


def _of_battles(view: Foreseen, utility: Array, pairs: ListedPairs) -> tuple[Array, Array]:
    """Return P(a is preferred) [pair], and what a battle tells of the margin [pair], whatever the program.

    Fisher's information about a margin is four times the squared slopes of the square roots of the outcomes'
    probabilities, here those of a regression over draws, with what other latents do along with the margin.
    """
    wins, told = np.empty(pairs.n_rows), np.empty(pairs.n_rows)
    utility = utility[:: view.step]
    for start in range(0, pairs.n_rows, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, pairs.n_rows))
        prob = view.tables(pairs.take(rows))
        wins[rows] = view.wins(prob).mean(0)
        margin = utility[:, pairs.a[rows]] - utility[:, pairs.b[rows]]
        margin = margin - margin.mean(0)
        slope = np.einsum("dp,dpc->pc", margin, np.sqrt(prob)) / np.maximum((margin**2).sum(0), 1e-300)[:, None]
        told[rows] = 4 * (slope**2).sum(1)
    return wins, told


def _dealt(belief: _Belief, pairs: ListedPairs, told: Array, n: float, even: Array, floor: float) -> Array:
    """Return the shares [pair] of the budget of least variance, beside a floor; `told` is per unit of cost."""
    share = even.copy()
    for _ in range(_STEPS):
        left = belief.left(pairs, n * (floor * even + (1 - floor) * share) * told)
        worth = np.maximum(told * _of_pairs(left @ belief.laplacian @ left.T, pairs), 0.0)
        average = share @ worth
        if average <= 0 or worth.max() <= _NEAR * average:
            break
        share = share * np.sqrt(worth)
        share /= share.sum()
    return share


def _of_pairs(form: Array, pairs: ListedPairs) -> Array:
    """Return x' form x [pair] of the differences x of two items."""
    own = np.diag(form)
    return np.asarray(own[pairs.a] + own[pairs.b] - form[pairs.a, pairs.b] - form[pairs.b, pairs.a])


def _whole(expected: Array, price: Array, budget: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return whole numbers, each next to what is expected [pair], that spend the budget and no more.

    By systematic sampling in random order: each is the next greater number as often as it should be.
    """
    order = rng.permutation(len(expected))
    ends = np.floor(np.concatenate([[0.0], expected[order].cumsum()]) + rng.random() * (1 - 1e-9) + 1e-9)
    found = np.empty(len(expected), np.int64)
    found[order] = np.diff(ends).astype(np.int64)
    spent = found @ price
    for k in rng.permutation(np.flatnonzero(found)):
        if spent <= budget * (1 + 1e-12):
            break
        found[k] -= 1
        spent -= price[k]
    return found


def _leading(utility: Array, top: int) -> NDArray[np.bool_]:
    """Return whether an item is among the `top` [..., item]."""
    least = np.partition(utility, -top, -1)[..., -top, None]
    return np.asarray(utility >= least)


def _utilities(post: Posterior) -> Array:
    """Return utilities [draw, item], averaged over types."""
    utility = post.utilities()
    if utility.ndim == 3:
        utility = (post.draws["type_weight"][:, :, None] * utility).sum(1)
    return np.asarray(utility - utility.mean(-1, keepdims=True))


def outlook(design: pd.DataFrame) -> str:
    """Return what a design of battles is expected to settle, in a sentence."""
    said = design.attrs
    return (
        f"{int(design['battles'].sum())} battles of {int((design['battles'] > 0).sum())} of {len(design)} pairs: "
        f"{said['goal']} is {said['now']:.2f} now, expected {said['after']:.2f} after them, and "
        f"{said['after_uniform']:.2f} if they were dealt evenly"
    )


def _said(post: Posterior, belief: _Belief, top: int | None, futures: Mapping[str, float]) -> dict[str, Any]:
    now = belief.right(belief.utility, belief.mean)
    # what is gained under a Gaussian, added to what the draws say, which need not be one
    after, even = (min(1.0, now + futures[key] - futures["as it is"]) for key in ("after", "after_uniform"))
    settled = now >= _SETTLED
    goal = "the share of pairs in the right order" if top is None else f"the chance that the {top} leading are the best"
    notes = []
    if not post.status.trusted:
        notes.append("The fit cannot be trusted as it stands, and so its uncertainty, by which battles were dealt.")
    if settled:
        notes.append(f"Settled: {goal} is {now:.2f} as it is; battles can stop.")
    count, size = belief.utility.shape
    if count < 2 * size:
        notes.append(f"{count} draws hardly show the covariance of {size} utilities; fit with more draws.")
    return {
        "goal": goal, "now": now, "after": after, "after_uniform": even, "settled": settled,
        "notes": notes,
    }  # fmt: skip


def _require(view: Foreseen, n: float, top: int | None, floor: float) -> None:
    post = view.post
    require_draws(post, view.draws)
    if "utility" not in post.draws:
        raise DataError(
            f"a design of battles needs utilities, and {post.program_name} has no site 'utility'; use select"
        )
    if not (_number(n) and 1 <= n < np.inf):
        raise DataError(f"n={n!r} must be at least 1: the number of battles, or with cost= what may be spent")
    if not (_number(floor) and 0 <= floor <= 1):
        raise DataError(f"floor={floor!r} must lie between 0 and 1")
    if top is not None and not (_number(top) and top % 1 == 0 and 1 <= top < len(post.items)):
        most = len(post.items) - 1
        raise DataError(f"top={top!r} must be a whole number between 1 and {most}, one less than there are items")


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
