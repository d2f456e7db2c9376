"""The votes of a table against what a fit expects of them: counts by account, item and question, and their tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaln, chdtri

from prefdensity.data.comparisons import TIE, A, B, Comparisons
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.questions import draws_of
from prefdensity.programs.cells import Cells
from prefdensity.programs.tabulate import cells_of

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

ALARM = 0.01  # of a program that is right, for each kind of finding
_FOLLOWED = 0.02  # where one count is looked at, smaller than it was because the fit has followed these votes
DRAWS = 200  # that chances are averaged over, about
VOTES = 5  # of one account on one item, or accounts with one vote, from which on they are looked at
_SHARED = 8  # questions that two accounts have both answered, from which on they are compared
MOST = 0.9  # share of accounts, or pairs of them, that are no more alike than chance and tastes make them


@dataclass(frozen=True, eq=False)
class VoteFinding:
    """A finding.

    Attributes
    ----------
    name, who, votes, observed, expected, p, remedy
        As in `Audit.findings`.
    rows
        Of the table, that carry it.
    weight
        What each of them counts when they are weighed, a number or [row].
    same
        Of clones: the name that goes and the name that stays.
    """

    name: str
    who: str
    votes: float
    observed: float
    expected: float
    p: float
    remedy: str
    rows: Rows
    weight: Any = 0.0
    same: tuple[str, str] | None = None


def chances(post: Posterior, cells: Cells) -> Array:
    """Return the probabilities [comparison, outcome] that a fit gives, those of hidden types by what is known of who.

    Averaged over draws.
    """
    step = max(1, post.n_draws // DRAWS)
    total = torch.zeros(len(cells), len(post.outcomes), dtype=torch.float64, device=post.device)
    for table in outcome_tables(post, cells, step=step):
        p = table.log_prob.exp()
        if p.shape[1] == 1 or table.annotator is None:
            total += table.mixed().exp().sum(0)
        else:
            share = draws_of(post, "type_probability", table.draws)[:, table.annotator]
            total += torch.einsum("dkco,dck->co", p.double(), share.double())
    return total.cpu().numpy() / len(range(0, post.n_draws, step))


class ExpectedVotes:
    """The votes of a table with the chances that a fit gives them."""

    def __init__(self, post: Posterior, data: Comparisons) -> None:
        assert data.annotator is not None
        assert data.outcome is not None
        self.data, self.who, self.outcome = data, data.annotator, data.outcome
        self.account = np.bincount(data.annotator, data.count, len(data.annotators))
        cells = cells_of(data, post.outcomes, post.program.needs)
        assert cells.term is not None  # a table of outcomes
        chance = chances(post, cells)
        cell, flip = cells.term.numpy() // len(post.outcomes), data.item_a > data.item_b
        first = np.array([each[:1] == "a" for each in post.outcomes])
        second = np.array([each[:1] == "b" for each in post.outcomes])
        one, other = chance[cell][:, first].sum(1), chance[cell][:, second].sum(1)
        # chances that side a, and side b, wins; and what was said, with its chances, for the smaller item of a pair
        self.wins = np.where(flip, other, one), np.where(flip, one, other)
        self.said = np.where(flip & (data.outcome != TIE), 1 - data.outcome, data.outcome)
        self.shares = (one, other, np.maximum(1 - one - other, 0.0))
        self.score = self.wins[0] + self.shares[2] / 2

    @cached_property
    def single(self) -> NDArray[np.bool_]:
        """Rows of accounts with one vote."""
        return np.asarray(self.account[self.who] == 1)

    def one_vote_for(self) -> list[VoteFinding]:
        """Return items that accounts with one vote favour."""
        if self.single.sum() < VOTES:
            return []
        size, won, expected = (self._by_item(values)[self.single].sum(0) for values in self._counts())
        p = np.minimum(tail(won, size, expected) * np.sum(size >= VOTES), 1.0)
        p[size < VOTES] = 1.0
        remedy = "Leave these votes out, or ask accounts for several votes before they count."
        return [
            VoteFinding("accounts with one vote favour an item", self.data.items[k], size[k], won[k], expected[k], p[k],
                   remedy, self._won_by(int(k), self.single), expected[k] / won[k])
            for k in np.flatnonzero(p < ALARM)
        ]  # fmt: skip

    def one_vote_agreeing(self) -> list[VoteFinding]:
        """Return whether accounts with one vote vote for the favourite more often than they should."""
        favourite, chance = self.wins[1] > self.wins[0], np.maximum(*self.wins)
        agreed = self.outcome == np.where(favourite, B, A)
        size, seen = self.data.count[self.single].sum(), (self.data.count * agreed)[self.single].sum()
        expected = (self.data.count * chance)[self.single].sum()
        p = float(tail(seen, size, expected))
        if size < VOTES or p >= _FOLLOWED:
            return []
        return [
            VoteFinding("accounts with one vote agree too well", f"{size:g} accounts", size, seen, expected, p,
                   "Leave these votes out, and see whether the ranking stands.",
                   np.flatnonzero(self.single & agreed), expected / seen)
        ]  # fmt: skip

    def for_one_item(self) -> list[VoteFinding]:
        """Return accounts that vote for one item against what is expected of them."""
        items = len(self.data.items)
        size, won, expected = self.by_account_and_item()
        tried = size >= VOTES
        p = np.ones(len(size))
        p[tried] = outlying(won[tried], size[tried], expected[tried])
        found = []
        for k in np.flatnonzero(p < ALARM):
            who, item = divmod(int(k), items)
            found.append(VoteFinding(
                "an account favours an item", f"{self.data.annotators[who]} for {self.data.items[item]}", size[k],
                won[k], expected[k], p[k], "Leave these votes out.",
                self._won_by(item, self.who == who), expected[k] / won[k],
            ))  # fmt: skip
        return found

    def by_account_and_item(self) -> tuple[Array, Array, Array]:
        """Return votes, wins and expected wins [account x item] of each account on each item."""
        items, people = len(self.data.items), len(self.data.annotators)
        key = self.who[:, None] * items + np.stack([self.data.item_a, self.data.item_b], 1)
        size, won, expected = (
            np.asarray(np.bincount(key.ravel(), np.stack(sides, 1).ravel(), people * items), np.float64)
            for sides in self._counts()
        )
        return size, won, expected

    def copies(self) -> list[VoteFinding]:
        """Return pairs of accounts that answer the same questions alike."""
        items = len(self.data.items)
        low, high = np.minimum(self.data.item_a, self.data.item_b), np.maximum(self.data.item_a, self.data.item_b)
        question = low.astype(np.int64) * items + high
        first = np.unique(self.who * np.int64(items**2) + question, return_index=True)[1]  # answers of each account
        who, asked = self.who[first], np.unique(question[first], return_inverse=True)[1]
        said, share = self.said[first], [each[first] for each in self.shares]
        shape = (len(self.data.annotators), int(asked.max()) + 1)

        def table(values: Array) -> sp.csr_array:
            return sp.csr_array((values, (who, asked)), shape=shape)

        common = (table(np.ones(len(first))) @ table(np.ones(len(first))).T).tocoo()
        pick = (common.row < common.col) & (common.data >= _SHARED)
        i, j, size = common.row[pick], common.col[pick], common.data[pick]
        if not len(i):
            return []
        alike = np.sum([_between(table((said == k).astype(float)), i, j) for k in (A, B, TIE)], 0)
        expected = np.sum([_between(table(values), i, j) for values in share], 0)
        p = outlying(alike, size, expected)
        names = self.data.annotators
        return [
            VoteFinding("an account copies another", f"{names[j[k]]} and {names[i[k]]}", size[k], alike[k], expected[k],
                   p[k], "Count one of the two.", np.flatnonzero(self.who == j[k]))
            for k in np.flatnonzero(p < ALARM)
        ]  # fmt: skip

    def repeats(self, explained: Sequence[VoteFinding] = ()) -> list[VoteFinding]:
        """Return accounts whose answers to a question asked again are those of before, more often than by chance.

        Rows that carry other findings are explained: who always votes for one item does so again.
        """
        _, first, asked = np.unique(self.data.questions(), return_index=True, return_inverse=True)
        before = first[asked]
        again = np.flatnonzero(before != np.arange(len(before)))
        again = np.setdiff1d(again, np.concatenate([np.zeros(0, int), *(each.rows for each in explained)]))
        alike = self.said[again] == self.said[before[again]]
        # given the first answer those that follow are independent of each other
        chance = np.choose(self.said[before[again]], [each[again] for each in self.shares])
        people = len(self.data.annotators)
        size, seen, expected = (
            np.bincount(self.who[again], self.data.count[again] * values, people)
            for values in (np.ones(len(again)), alike, chance)
        )
        p, tried = np.ones(people), size >= VOTES
        p[tried] = outlying(seen[tried], size[tried], expected[tried])
        return [
            VoteFinding("an account repeats itself", self.data.annotators[k], size[k], seen[k], expected[k], p[k],
                   "Count each answer once: --repeats once.", again[self.who[again] == k])
            for k in np.flatnonzero(p < ALARM)
        ]  # fmt: skip

    def own_kind(self) -> list[VoteFinding]:
        """Return attributes by which judges favour items like themselves."""
        known = [each for each in self.data.more if each.column.kind == "label"]
        found: list[VoteFinding] = []
        for judge in (each for each in known if each.column.per == "annotator"):
            for item in (each for each in known if each.column.per == "item"):
                if len(set(judge.words) & set(item.words)) < 2:
                    continue
                of_judge = np.array(judge.words, dtype=object)[judge.values][self.who]
                kind = np.array(item.words, dtype=object)[item.values]
                own = kind[self.data.item_a] == of_judge, kind[self.data.item_b] == of_judge
                apart = own[0] != own[1]
                won = self.data.count * np.where(own[0], self.outcome == A, self.outcome == B)
                expected = self.data.count * np.where(own[0], *self.wins)
                by_judge = [
                    np.bincount(self.who[apart], each[apart]) for each in (self.data.count, won, expected)
                ]  # fmt: skip
                size, seen, mean = (each.sum() for each in by_judge)
                p = together(by_judge[1], by_judge[0], by_judge[2])
                if p < ALARM:
                    found.append(VoteFinding(
                        "judges favour their own kind",
                        f"{judge.column.name} of annotators, {item.column.name} of items",
                        size, seen, mean, p, "Leave out votes of judges about their own kind.",
                        np.flatnonzero(apart), np.where(won > 0, mean / seen, 1.0)[apart],
                    ))  # fmt: skip
        return found

    def _counts(self) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[Array, Array]]:
        """Return votes, wins and expected wins [row] of side a and of side b."""
        count, outcome = self.data.count, self.outcome
        won = count * (outcome == A), count * (outcome == B)
        return (count, count), won, (count * self.wins[0], count * self.wins[1])

    def _by_item(self, sides: tuple[Array, Array]) -> sp.csr_array:
        """Return numbers [row] of side a and side b by row and item."""
        rows, shape = np.arange(len(self.data)), (len(self.data), len(self.data.items))
        parts = [
            sp.csr_array((values, (rows, place)), shape=shape)
            for values, place in zip(sides, (self.data.item_a, self.data.item_b), strict=True)
        ]
        return parts[0] + parts[1]

    def _won_by(self, item: int, of: NDArray[np.bool_]) -> Rows:
        won = np.where(self.outcome == A, self.data.item_a, self.data.item_b) == item
        return np.flatnonzero(of & won & (self.outcome != TIE))


def _between(table: sp.csr_array, i: Rows, j: Rows) -> Array:
    """Return sums over columns of products of rows i and rows j [pair]."""
    product = sp.csr_array(table @ table.T)
    return np.asarray(product[i, j]).ravel()


def tail(seen: Any, size: Any, expected: Any) -> Array:
    """Return a bound of P(as many or more) of independent votes, given how many are expected; 1 up to the mean."""
    size, seen = np.round(size), np.round(seen)
    share = np.divide(expected, size, out=np.zeros_like(np.asarray(size, float)), where=np.asarray(size) > 0)
    # a binomial law's upper tail is a beta law's lower one
    tails = betainc(np.maximum(seen, 1.0), np.maximum(size - seen, 0.0) + 1, np.clip(share, 0.0, 1.0))
    return np.where(seen > expected + 1, tails, 1.0)


def outlying(seen: NDArray[Any], size: NDArray[Any], expected: NDArray[Any]) -> Array:
    """Return P(as many or more) for each group of votes [group], adjusted for their number.

    Votes of a group (of one account on one item, say) are alike where a program knows no tastes: they are correlated as
    those of most groups are, and their count is beta-binomial. What is left stands out among honest people, too.
    """
    p = tail(seen, size, expected)
    alike = correlation(seen, size, expected)
    for k in np.flatnonzero(p < ALARM / len(p)) if alike else ():
        n, share = round(size[k]), np.clip(expected[k] / size[k], 1e-9, 1 - 1e-9)
        ends = np.array([share, 1 - share]) * (1 - alike) / alike
        p[k] = _beta_binomial(np.arange(round(seen[k]), n + 1), n, *ends).sum()
    return np.minimum(p * len(p), 1.0)


def _beta_binomial(k: NDArray[Any], n: int, a: float, b: float) -> Array:
    """Return P(k of n) [k] of draws whose chance is drawn from a beta law."""
    return np.asarray(np.exp(betaln(k + a, n - k + b) - betaln(a, b) - betaln(n - k + 1, k + 1)) / (n + 1))


def together(seen: NDArray[Any], size: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return P(as many or more) of all groups of votes [group] together, which differ about what they have in common.

    Votes that are correlated within groups count for fewer.
    """
    common = (seen - expected).sum() / max(size.sum(), 1.0)
    alike = correlation(seen, size, np.clip(expected + common * size, 0.0, size))
    fewer = size.sum() / max((size * (1 + (size - 1) * alike)).sum(), 1.0)
    return float(tail(np.floor(seen.sum() * fewer), np.ceil(size.sum() * fewer), expected.sum() * fewer))


def correlation(seen: NDArray[Any], size: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return how far votes of one group [group] are correlated, as most groups show it: few do not count."""
    size = np.maximum(size, 1.0)
    v = expected * (1 - np.minimum(expected / size, 1.0))
    known = (size > 1) & (v > 0)
    if not known.any():
        return 0.0
    return common_correlation(((seen - expected) ** 2 / np.maximum(v, 1e-12))[known], size[known] - 1)


def common_correlation(square: Array, more: Array) -> float:
    """Return the correlation by which most squares [group], of what votes say, exceed those of independent votes.

    Squares are in variances of independent votes, of which a group has one and `more`.
    """

    def excess(alike: float) -> float:
        return float(np.quantile(square / (1 + more * alike), MOST) - chdtri(1, 1 - MOST))

    if excess(0.0) <= 0:
        return 0.0
    return 1.0 - 1e-6 if excess(1.0) > 0 else float(brentq(excess, 0.0, 1.0))
