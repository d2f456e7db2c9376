"""Clones: two items that are one under two names, so that votes for it are split, or it stands in a ranking twice.

Utilities that are equal prove nothing: two items may be equally good. Clones are told by what else is equal. Asked
about the two of them people find no difference and call a tie; who favours one favours the other, and where one is
judged better than usual, so is the other; and in a set that holds both, the two together are chosen no more often than
either alone would be, where a program without clones expects the sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, ndtri

from prefdensity.checking.sets import SetDesign
from prefdensity.checking.votes import ALARM, MOST, VOTES, ExpectedVotes, VoteFinding, chances, tail
from prefdensity.data.comparisons import TIE, A

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.posterior.posterior import Posterior

Array = NDArray[np.float64]

_NAME = "clones of one item"
_GROUPS = 20  # annotators, or contexts, with an opinion on both items, from which on their fates are compared
_ALIKE = 0.7  # correlation of fates from which on two items are taken for one
_UNEVEN = 0.01  # tail of the votes between two items below which one of them is better


def clones(votes: ExpectedVotes) -> list[VoteFinding]:
    """Return pairs of items that are told apart by nobody, or that share their fate with everybody."""
    found = [*_tied(votes), *_of_one_fate(votes)]
    best = {each.who: each for each in sorted(found, key=lambda each: -each.p)}
    return list(best.values())


def _pair(votes: ExpectedVotes, i: int, k: int) -> tuple[str, tuple[str, str], NDArray[np.intp]]:
    """Return what to call two items, which name goes and which stays, and the rows of votes between them."""
    data = votes.data
    size = [float(data.count[(data.item_a == each) | (data.item_b == each)].sum()) for each in (i, k)]
    stays, gone = (i, k) if size[0] >= size[1] else (k, i)
    between = np.isin(data.item_a, (i, k)) & np.isin(data.item_b, (i, k))
    names = data.items[stays], data.items[gone]
    return " and ".join(names), (names[1], names[0]), np.flatnonzero(between)


def _remedy(same: tuple[str, str]) -> str:
    return f"Count them as one item: --same '{same[0]}={same[1]}'."


def _tied(votes: ExpectedVotes) -> Iterator[VoteFinding]:
    """Yield pairs of items most votes between which are ties, more than expected."""
    data, items = votes.data, len(votes.data.items)
    pair = np.minimum(data.item_a, data.item_b) * items + np.maximum(data.item_a, data.item_b)
    keys, at = np.unique(pair, return_inverse=True)
    size, seen, expected = (
        np.bincount(at, data.count * values) for values in (np.ones(len(at)), votes.said == TIE, votes.shares[2])
    )
    tried = (size >= VOTES) & (seen > size / 2)
    p = np.minimum(tail(seen, size, expected) * np.sum(size >= VOTES), 1.0)
    for n in np.flatnonzero(tried & (p < ALARM)):
        who, same, rows = _pair(votes, *map(int, divmod(keys[n], items)))
        yield VoteFinding(_NAME, who, size[n], seen[n], expected[n], p[n], f"Ties. {_remedy(same)}", rows, same=same)


def _of_one_fate(votes: ExpectedVotes) -> Iterator[VoteFinding]:
    """Yield pairs of items, even between themselves, that the same people, or contexts, favour."""
    data = votes.data
    between = data.wins()
    for label in ("annotator", "context"):
        held = data.column(label)
        if held is None:
            continue
        alike, z = _fates(votes, held.values)
        pairs = np.argwhere(np.triu(np.isfinite(z), 1))
        # tastes along few lines make many fates alike: a pair stands out beyond what most pairs show
        far = np.abs(z[tuple(pairs.T)]) if len(pairs) else np.zeros(1)
        z = z / max(1.0, float(np.quantile(far, MOST) / -ndtri((1 - MOST) / 2)))
        for i, k in pairs[alike[tuple(pairs.T)] >= _ALIKE] if len(pairs) else pairs:
            p = min(float(ndtr(-z[i, k])) * len(pairs), 1.0)
            won = between[i, k], between[k, i]
            even = 2 * betainc(max(won), min(won) + 1, 0.5) if sum(won) else 1.0  # of a binomial law
            if p < ALARM and even > _UNEVEN:
                who, same, rows = _pair(votes, int(i), int(k))
                size = data.count[rows].sum()
                remedy = f"Their fates by {label} correlate by {min(alike[i, k], 1.0):.2f}. {_remedy(same)}"
                yield VoteFinding(_NAME, who, size, won[0], size / 2, p, remedy, rows, same=same)


def _fates(votes: ExpectedVotes, group: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return correlations of what items win above expectation, over groups, and their z [item, item]; NaN: too few.

    Votes of the two items against the same opponent, or each other, are no evidence and left out: products of what
    remains have mean 0 whatever each item's own fate is, and the covariance where fates are shared. The correlation is
    that of the fates themselves; z is Fisher's, of the correlation of what was seen of them.
    """
    data, items = votes.data, len(votes.data.items)
    above = data.count * ((votes.outcome == A) + 0.5 * (votes.outcome == TIE) - votes.score)
    one, other = data.item_a.astype(np.int64), data.item_b.astype(np.int64)
    shape = (int(group.max()) + 1, items * items)
    where = (np.r_[group, group], np.r_[one * items + other, other * items + one])
    table, asked = (sp.csr_array((np.r_[a, b], where), shape) for a, b in ((above, -above), (data.count, data.count)))
    product, size, own, some = np.zeros((4, items, items))
    for g in np.flatnonzero(np.bincount(group) > 1):
        at = slice(table.indptr[g], table.indptr[g + 1])
        known = np.unique(table.indices[at] // items)
        won, met = np.zeros((2, len(known), len(known)))
        place = tuple(np.searchsorted(known, each) for each in divmod(table.indices[at], items))
        won[place], met[place] = table.data[at], asked.data[at]
        rest, votes_of = (each.sum(1)[:, None] - each for each in (won, met))  # of item i, without opponent k
        weight = 1 / np.sqrt(np.maximum(votes_of * votes_of.T, 1.0))
        among = np.ix_(known, known)
        product[among] += (rest * rest.T - won @ won.T) * weight
        size[among] += rest**2 / np.maximum(votes_of, 1.0)
        own[among] += (rest**2 - (won**2).sum(1)[:, None] + won**2) / np.maximum(votes_of, 1.0)
        some[among] += (votes_of > 0) & (votes_of.T > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = product / np.sqrt(np.maximum(own, 0) * np.maximum(own.T, 0))
        z = np.arctanh(np.clip(product / np.sqrt(size * size.T), -0.999, 0.999)) * np.sqrt(some - 3)
    return np.where(np.isfinite(alike), alike, 0.0), np.where(some < _GROUPS, np.nan, z)


def split(post: Posterior, data: Choices) -> list[VoteFinding]:
    """Return pairs of items that split votes: of sets with both, the two together win less than is expected.

    The score of a common loss of the two where both are there, with all utilities projected out.
    """
    design, items = SetDesign(data, post.outcomes, post.program.needs), len(data.items)
    best, total = design.cells.item_a.numpy(), design.total
    p = chances(post, design.cells)[:, 0]
    sets = int(design.choice.max()) + 1
    share, won = (
        sp.csr_array((each, (design.choice, best)), (sets, items)).toarray() for each in (p, design.observed[0, :, 0])
    )
    n, member = np.zeros(sets), sp.csr_array((np.ones(len(best)), (design.choice, best)), (sets, items)).toarray() > 0
    n[design.choice] = total
    spread = (n[:, None] * share).T
    information = np.diag(spread.sum(1)) - spread @ share
    inverse = np.linalg.pinv(information, hermitian=True)
    found, pairs = [], np.argwhere(np.triu((member * n[:, None]).T @ member >= VOTES, 1))
    for i, k in pairs:
        both = member[:, i] & member[:, k]
        due = share[both, i] + share[both, k]
        size, chosen, mean = (float(x) for x in (n[both].sum(), won[both][:, [i, k]].sum(), n[both] @ due))
        cross = -(n[both] * due) @ share[both]
        cross[[i, k]] += n[both] @ share[both][:, [i, k]]
        variance = float(n[both] @ (due * (1 - due))) - cross @ inverse @ cross
        tail_p = float(ndtr((chosen - mean) / max(variance, 1e-9) ** 0.5)) * len(pairs)
        if variance > 1e-6 * size and tail_p < ALARM:
            stays, gone = (i, k) if np.sum(data.best == i) >= np.sum(data.best == k) else (k, i)
            same = (data.items[gone], data.items[stays])
            with_both = np.array([i in each and k in each for each in data.sets])
            rows = np.flatnonzero(with_both & np.isin(data.best, (i, k)))
            who = f"{same[1]} and {same[0]}"
            found.append(VoteFinding(_NAME, who, size, chosen, mean, tail_p, _remedy(same), rows, same=same))
    return found
