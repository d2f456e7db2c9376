"""Whether votes were cast to move the ranking: findings an operator can act on, with the rows that carry each.

Every finding counts votes and compares the count with what the fitted program expects of the same voters on the same
pairs, so what the program knows of tastes and reliability acquits. Wins of independent votes with unequal chances are a
Poisson-binomial count, whose tail beyond the mean is at most that of a binomial with the average chance (Hoeffding
1956, Annals of Mathematical Statistics 27, 713-721): tails are upper bounds. The fit has seen the votes that it is to
accuse, which makes them smaller suspects than they are, never larger. Where the program knows no tastes, accounts are
held against what most accounts of the table do: their counts vary as beta-binomial ones, and somebody with strong
tastes among people with strong tastes is no suspect.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd

from prefdensity.checking.clones import clones, split
from prefdensity.checking.turned import turned
from prefdensity.checking.votes import ExpectedVotes, VoteFinding
from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.same import as_one
from prefdensity.errors import DataError
from prefdensity.inference.fitting import fit_again
from prefdensity.posterior.people import judges_of
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.words import counted

T = TypeVar("T", bound=Comparisons | Choices)


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit of votes found.

    Attributes
    ----------
    found
        The findings, the clearest first; `findings` and `rows` tell them.
    post, data
        What was audited.
    """

    found: tuple[VoteFinding, ...]
    post: Posterior
    data: Comparisons | Choices

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row for each, the clearest first.

        Columns: finding, who (accounts or items it is about), votes, observed, expected (how many of these votes there
        are, and would be under the program), p (adjusted for all that was looked at in the same way), remedy.
        """
        shown = {"finding": "name"} | {each: each for each in ("who", "votes", "observed", "expected", "p", "remedy")}
        told = [[getattr(each, name) for name in shown.values()] for each in self.found]
        return pd.DataFrame(told, columns=list(shown))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One line for each row of the table that a finding rests on: row (from 1), finding, who, annotator."""
        names = np.array(self.data.annotators, dtype=object)
        of = [""] * len(self.data) if self.data.annotator is None else names[self.data.annotator]
        rows = [(int(row) + 1, each.name, each.who, of[row]) for each in self.found for row in each.rows]
        return pd.DataFrame(rows, columns=["row", "finding", "who", "annotator"])

    def without(self, findings: Collection[str] | None = None) -> Comparisons | Choices:
        """Return the table without the rows that carry some findings (None: all), clones counted as one item.

        What goes is counted in the notes.

        Raises
        ------
        DataError
            For a finding that is not there, or where nothing would be left.
        """
        chosen = self._chosen(findings)
        gone = [each.rows for each in chosen if each.same is None]
        kept = np.setdiff1d(np.arange(len(self.data)), np.concatenate([*gone, np.zeros(0, int)]))
        if not len(kept):
            raise DataError("no row would be left")
        lost = self.data.count.sum() - self.data.count[kept].sum()
        note = (f"{lost:g} judgements left out after an audit on request",) if lost else ()
        return _as_one(replace(self.data.take(kept), notes=(*self.data.notes, *note)), chosen)

    def weighed(self, findings: Collection[str] | None = None) -> Comparisons:
        """Return the table with the rows that carry some findings (None: all) counted for what is expected of them.

        Where 30 votes were seen and 6 are expected, each counts a fifth; answers that repeat others count nothing, and
        clones are counted as one item. A program fitted to it knows no more than a quasi-likelihood does.

        Raises
        ------
        DataError
            For a finding that is not there, or of choices from sets, which have no weights.
        """
        if self.data.SETS:
            raise DataError("choices from sets cannot be weighed; leave them out, or count clones as one")
        chosen = self._chosen(findings)
        weight = np.ones(len(self.data))
        for each in chosen:
            if each.same is None:
                weight[each.rows] = np.minimum(weight[each.rows], each.weight)
        lost = self.data.count.sum() - self.data.count @ weight
        note = (f"votes weighed down by {lost:g} judgements after an audit on request",) if lost else ()
        data = replace(self.data.pairs(), count=self.data.count * weight, notes=(*self.data.notes, *note))
        return _as_one(data, chosen)

    def ranking(self, after: Comparisons | Choices | None = None) -> pd.DataFrame:
        """Return the ranking before and after: item, and mean, sd, rank of both, and the change.

        The program is fitted anew, by the method of the fit, to the table `after` (None: `without` all that carries a
        finding). An item that is counted as another has the numbers of the other.
        """
        after = self.without() if after is None else after
        post = fit_again(self.post, after, draws=self.post.n_draws)
        tables = []
        for name, each in (("before", self.post), ("after", post)):
            table = each.summary().set_index("item")[["mean", "sd"]]
            table["rank"] = table["mean"].rank(ascending=False).astype(int)
            tables.append(table.add_suffix(f"_{name}"))
        stays = _staying([each.same for each in self.found if each.same is not None])
        known = set(tables[1].index)
        tables[1] = tables[1].loc[[each if each in known else stays[each] for each in tables[0].index]]
        both = tables[0].join(tables[1].set_axis(tables[0].index))
        both["change"] = both["mean_after"] - both["mean_before"]
        return both.sort_values("mean_after", ascending=False).reset_index()

    def to_frame(self) -> pd.DataFrame:
        """Return the findings."""
        return self.findings

    def _chosen(self, findings: Collection[str] | None) -> list[VoteFinding]:
        known = {each.name for each in self.found}
        if findings is not None and (wrong := sorted(set(findings) - known)):
            raise DataError(f"there is no finding {wrong[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
        return [each for each in self.found if findings is None or each.name in findings]

    def __str__(self) -> str:
        if not len(self.findings):
            return f"Nothing in {self.data.source} looks like votes that were cast to move the ranking."
        lines = [f"{counted(len(self.findings), 'finding')} in {self.data.source}, under {self.post.program_name}:"]
        for number, row in enumerate(self.findings.to_dict("records"), 1):
            votes = f"{row['observed']:g} of {row['votes']:g} votes, {row['expected']:.1f} expected, p = {row['p']:.2g}"
            lines.append(f"  {number}. {row['finding']}: {row['who']} ({votes}). {row['remedy']}")
        return "\n".join(lines)


def _staying(same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return name that goes -> name that stays, of pairs (goes, stays) that may form chains."""
    stays: dict[str, str] = {}
    for gone, kept in same:
        ends = [gone, kept]
        for k in (0, 1):
            while ends[k] in stays:
                ends[k] = stays[ends[k]]
        if ends[0] != ends[1]:
            stays[ends[0]] = ends[1]
    return {gone: _end(stays, gone) for gone in stays}


def _end(stays: dict[str, str], name: str) -> str:
    return _end(stays, stays[name]) if name in stays else name


def _as_one(data: T, chosen: Sequence[VoteFinding]) -> T:
    same = _staying([each.same for each in chosen if each.same is not None])
    return as_one(data, same) if same else data


def audit(post: Posterior, data: Comparisons | Choices) -> Audit:
    """Look for votes cast to move a ranking; say which rows carry each finding, and what to do.

    Looked for are: accounts with one vote that favour an item more than the program expects; such accounts that
    agree with the ranking too well; accounts that answer the other way round; accounts that favour an item;
    accounts that answer alike more often than independent ones would; accounts that repeat their answers; where
    annotators and items have an attribute with values in common, judges who favour their own kind; and items that
    are clones of each other. Of choices from sets only clones, which split votes, are looked for. Of each kind a
    program that is right shows one in 1 of 100 tables or fewer (in 2, of how well accounts with one vote agree).
    That the panel drifts is told by `check`, whose `steps` try `drift`.

    Parameters
    ----------
    post
        A fit. What it knows of annotators acquits, and so do tastes as strong as those of most annotators.
    data
        What it was fitted to.

    Raises
    ------
    DataError
        If nobody recorded who judged comparisons, or `data` is not the table that was fitted.
    """
    require_same_table(post, data)
    found = split(post, data) if data.SETS else _among_accounts(post, data.pairs())  # type: ignore[arg-type]
    return Audit(tuple(sorted(found, key=lambda each: each.p)), post, data)


def _among_accounts(post: Posterior, data: Comparisons) -> list[VoteFinding]:
    judges_of(data)
    votes = ExpectedVotes(post, data)
    devoted = votes.for_one_item()
    other_way = turned(votes)
    gone = np.concatenate([np.zeros(0, np.intp), *(each.rows for each in other_way)])
    devoted = [each for each in devoted if not np.isin(each.rows, gone).any()]  # a part of what is told of them
    found = [*votes.one_vote_for(), *votes.one_vote_agreeing(), *other_way, *devoted, *votes.copies()]
    return [*found, *votes.repeats([*other_way, *devoted]), *votes.own_kind(), *clones(votes)]
