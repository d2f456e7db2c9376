"""Whether votes were cast to move the ranking: findings an operator can act on, with the rows that carry each.

Every finding counts votes and compares the count with what the fitted program expects of the same voters on the same
pairs, so what the program knows of tastes and reliability acquits. Wins of independent votes with unequal chances are a
Poisson-binomial count, whose tail beyond the mean is at most that of a binomial with the average chance (Hoeffding
1956, Annals of Mathematical Statistics 27, 713-721): tails are upper bounds. The fit has seen the votes that it is to
accuse, which makes them smaller suspects than they are, never larger.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import binom

from prefdensity.data.comparisons import TIE, A, B, Comparisons
from prefdensity.errors import DataError
from prefdensity.inference.fitting import fit
from prefdensity.posterior.outcome_tables import outcome_tables
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.programs.tabulate import cells_of

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

_ALARM = 0.01  # of a program that is right, for each kind of finding
_DRAWS = 200  # that chances are averaged over, about
_VOTES = 5  # of one account on one item, or accounts with one vote, from which on they are looked at
_SHARED = 8  # questions that two accounts have both answered, from which on they are compared


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit of votes found.

    Attributes
    ----------
    findings
        One row for each, the clearest first: finding, who (accounts or items it is about), votes, observed, expected
        (how many of these votes there are, and would be under the program), p (adjusted for all that was looked at in
        the same way), remedy.
    rows
        One line for each row of the table that a finding rests on: row (from 1), finding, who, annotator.
    post, data
        What was audited.
    """

    findings: pd.DataFrame
    rows: pd.DataFrame
    post: Posterior
    data: Comparisons

    def without(self, findings: Collection[str] | None = None) -> Comparisons:
        """Return the table without the rows that carry some findings (None: all), counted in its notes.

        Raises
        ------
        DataError
            For a finding that is not there, or where nothing would be left.
        """
        known = set(self.findings["finding"])
        if findings is not None and (wrong := sorted(set(findings) - known)):
            raise DataError(f"there is no finding {wrong[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
        carried = self.rows if findings is None else self.rows[self.rows["finding"].isin(findings)]
        kept = np.setdiff1d(np.arange(len(self.data)), carried["row"].to_numpy() - 1)
        if not len(kept):
            raise DataError("no row would be left")
        gone = self.data.n_judgements - self.data.count[kept].sum()
        note = f"{gone:g} judgements left out after an audit on request"
        return replace(self.data.take(kept), notes=(*self.data.notes, note))

    def ranking(self, findings: Collection[str] | None = None) -> pd.DataFrame:
        """Return the ranking before and after leaving out rows: item, and mean, sd, rank of both, and the change.

        The program is fitted anew without them, by the method of the fit.
        """
        method = self.post.status.method
        after = fit(self.post.program, self.without(findings), method=method, draws=self.post.n_draws, progress=False)
        tables = []
        for name, post in (("before", self.post), ("after", after)):
            table = post.summary().set_index("item")[["mean", "sd"]]
            table["rank"] = table["mean"].rank(ascending=False).astype(int)
            tables.append(table.add_suffix(f"_{name}"))
        both = tables[0].join(tables[1])
        both["change"] = both["mean_after"] - both["mean_before"]
        return both.sort_values("mean_after", ascending=False).reset_index()

    def to_frame(self) -> pd.DataFrame:
        """Return the findings."""
        return self.findings

    def __str__(self) -> str:
        if not len(self.findings):
            return f"Nothing in {self.data.source} looks like votes that were cast to move the ranking."
        lines = [f"{len(self.findings)} findings in {self.data.source}, under {self.post.program_name}:"]
        for number, row in enumerate(self.findings.to_dict("records"), 1):
            counted = (
                f"{row['observed']:g} of {row['votes']:g} votes, {row['expected']:.1f} expected, p = {row['p']:.2g}"
            )
            lines.append(f"  {number}. {row['finding']}: {row['who']} ({counted}). {row['remedy']}")
        return "\n".join(lines)


def audit(post: Posterior, data: Comparisons) -> Audit:
    """Look for votes cast to move a ranking; say which rows carry each finding, and what to do.

    Looked for are: accounts with one vote that favour an item more than the program expects; such accounts that agree
    with the ranking too well; accounts that favour an item; accounts that answer alike more often than independent ones
    would; accounts that repeat their answers; and, where annotators and items have an attribute with
    values in common, judges who favour their own kind. Of each kind a program that is right shows one in 1 of 100
    tables at most. That the panel drifts is told by `check`, whose `steps` try `drift`.

    Parameters
    ----------
    post
        A fit. What it knows of annotators acquits: a program with tastes does not take a taste for a campaign.
    data
        The comparisons that it was fitted to.

    Raises
    ------
    DataError
        If nobody recorded who judged, or `data` is not the table that was fitted.
    """
    require_same_table(post, data)
    if data.annotator is None or data.outcome is None:
        raise DataError("who judged is not known; name the annotator column with annotator=... when reading")
    votes = _Votes(post, data)
    found = [*votes.one_vote_for(), *votes.one_vote_agreeing(), *votes.for_one_item(), *votes.copies()]
    found += [*votes.repeats(), *votes.own_kind()]
    found.sort(key=lambda each: each.p)
    findings = pd.DataFrame(
        [(each.name, each.who, each.votes, each.observed, each.expected, each.p, each.remedy) for each in found],
        columns=["finding", "who", "votes", "observed", "expected", "p", "remedy"],
    )
    names = np.array(data.annotators, dtype=object)[data.annotator]
    rows = [(int(row) + 1, each.name, each.who, names[row]) for each in found for row in each.rows]
    return Audit(findings, pd.DataFrame(rows, columns=["row", "finding", "who", "annotator"]), post, data)


@dataclass(frozen=True, eq=False)
class _Found:
    """A finding: see `Audit.findings`; `rows` that carry it."""

    name: str
    who: str
    votes: float
    observed: float
    expected: float
    p: float
    remedy: str
    rows: Rows


class _Votes:
    """The votes of a table with the chances that a fit gives them."""

    def __init__(self, post: Posterior, data: Comparisons) -> None:
        assert data.annotator is not None
        assert data.outcome is not None
        self.data, self.who, self.outcome = data, data.annotator, data.outcome
        self.account = np.bincount(data.annotator, data.count, len(data.annotators))
        cells = cells_of(data, post.outcomes, post.program.needs)
        assert cells.term is not None  # a table of outcomes
        step = max(1, post.n_draws // _DRAWS)
        total = sum(table.mixed().exp().sum(0) for table in outcome_tables(post, cells, step=step))
        chance = np.asarray(total) / len(range(0, post.n_draws, step))  # type: ignore[arg-type]
        cell, flip = cells.term.numpy() // len(post.outcomes), data.item_a > data.item_b
        first = np.array([each[:1] == "a" for each in post.outcomes])
        second = np.array([each[:1] == "b" for each in post.outcomes])
        one, other = chance[cell][:, first].sum(1), chance[cell][:, second].sum(1)
        # chances that side a, and side b, wins; and what was said, with its chances, for the smaller item of a pair
        self.wins = np.where(flip, other, one), np.where(flip, one, other)
        self.said = np.where(flip & (data.outcome != TIE), 1 - data.outcome, data.outcome)
        self.shares = (one, other, np.maximum(1 - one - other, 0.0))

    @cached_property
    def single(self) -> NDArray[np.bool_]:
        """Rows of accounts with one vote."""
        return np.asarray(self.account[self.who] == 1)

    def one_vote_for(self) -> list[_Found]:
        """Return items that accounts with one vote favour."""
        if self.single.sum() < _VOTES:
            return []
        size, won, expected = (self._by_item(values)[self.single].sum(0) for values in self._counts())
        p = np.minimum(_tail(won, size, expected) * np.sum(size >= _VOTES), 1.0)
        p[size < _VOTES] = 1.0
        remedy = "Leave these votes out, or ask accounts for several votes before they count."
        return [
            _Found("accounts with one vote favour an item", self.data.items[k], size[k], won[k], expected[k], p[k],
                   remedy, self._won_by(int(k), self.single))
            for k in np.flatnonzero(p < _ALARM)
        ]  # fmt: skip

    def one_vote_agreeing(self) -> list[_Found]:
        """Return whether accounts with one vote vote for the favourite more often than they should."""
        favourite, chance = self.wins[1] > self.wins[0], np.maximum(*self.wins)
        agreed = self.outcome == np.where(favourite, B, A)
        size, seen = self.data.count[self.single].sum(), (self.data.count * agreed)[self.single].sum()
        expected = (self.data.count * chance)[self.single].sum()
        p = float(_tail(seen, size, expected))
        if size < _VOTES or p >= _ALARM:
            return []
        return [
            _Found("accounts with one vote agree too well", f"{size:g} accounts", size, seen, expected, p,
                   "Leave these votes out, and see whether the ranking stands.",
                   np.flatnonzero(self.single & agreed))
        ]  # fmt: skip

    def for_one_item(self) -> list[_Found]:
        """Return accounts that vote for one item against what is expected of them."""
        items = len(self.data.items)
        people = len(self.data.annotators)
        key = self.who[:, None] * items + np.stack([self.data.item_a, self.data.item_b], 1)
        size, won, expected = (
            np.bincount(key.ravel(), np.stack(sides, 1).ravel(), people * items) for sides in self._counts()
        )
        tried = size >= _VOTES
        p = np.ones(people * items)
        p[tried] = np.minimum(_tail(won[tried], size[tried], expected[tried]) * tried.sum(), 1.0)
        found = []
        for k in np.flatnonzero(p < _ALARM):
            who, item = divmod(int(k), items)
            found.append(_Found(
                "an account favours an item", f"{self.data.annotators[who]} for {self.data.items[item]}", size[k],
                won[k], expected[k], p[k], "Leave these votes out, or fit a program in which annotators have tastes.",
                self._won_by(item, self.who == who),
            ))  # fmt: skip
        return found

    def copies(self) -> list[_Found]:
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
        p = np.minimum(_tail(alike, size, expected) * len(i), 1.0)
        names = self.data.annotators
        return [
            _Found("an account copies another", f"{names[j[k]]} and {names[i[k]]}", size[k], alike[k], expected[k],
                   p[k], "Count one of the two.", np.flatnonzero(self.who == j[k]))
            for k in np.flatnonzero(p < _ALARM)
        ]  # fmt: skip

    def repeats(self) -> list[_Found]:
        """Return accounts whose answers to a question asked again are those of before, more often than by chance."""
        _, first, asked = np.unique(self.data.questions(), return_index=True, return_inverse=True)
        before = first[asked]
        again = np.flatnonzero(before != np.arange(len(before)))
        alike = self.said[again] == self.said[before[again]]
        # given the first answer those that follow are independent of each other
        chance = np.choose(self.said[before[again]], [each[again] for each in self.shares])
        people = len(self.data.annotators)
        size, seen, expected = (
            np.bincount(self.who[again], self.data.count[again] * values, people)
            for values in (np.ones(len(again)), alike, chance)
        )
        p = np.where(size >= _VOTES, np.minimum(_tail(seen, size, expected) * np.sum(size >= _VOTES), 1.0), 1.0)
        return [
            _Found("an account repeats itself", self.data.annotators[k], size[k], seen[k], expected[k], p[k],
                   "Count each answer once: --repeats once.", again[self.who[again] == k])
            for k in np.flatnonzero(p < _ALARM)
        ]  # fmt: skip

    def own_kind(self) -> list[_Found]:
        """Return attributes by which judges favour items like themselves."""
        known = [each for each in self.data.more if each.column.kind == "label"]
        found: list[_Found] = []
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
                size, seen, mean = (each[apart].sum() for each in (self.data.count, won, expected))
                p = float(_tail(seen, size, mean))
                if p < _ALARM:
                    found.append(_Found(
                        "judges favour their own kind",
                        f"{judge.column.name} of annotators, {item.column.name} of items",
                        size, seen, mean, p, "Leave out votes of judges about their own kind.",
                        np.flatnonzero(apart),
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


def _tail(seen: Any, size: Any, expected: Any) -> Array:
    """Return a bound of P(as many or more) of independent votes, given how many are expected; 1 up to the mean."""
    size, seen = np.round(size), np.round(seen)
    share = np.divide(expected, size, out=np.zeros_like(np.asarray(size, float)), where=np.asarray(size) > 0)
    return np.where(seen > expected + 1, binom.sf(seen - 1, size, np.clip(share, 0.0, 1.0)), 1.0)
