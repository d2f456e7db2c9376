"""Accounts that answer the other way round: keys confused, scales turned, or votes cast against what is better.

Of who is turned round each vote for one of two items is as likely as the program says of a vote for the other. A share
w of the accounts may be turned; that it is not 0 is told by the likelihood ratio of this mixture, in which accounts
with few votes count together (Self and Liang 1987, Journal of the American Statistical Association 82, 605-610, for its
distribution at the boundary). Accounts differ as most of them show it: where votes of an account are correlated, their
log likelihood ratio counts for as many fewer votes, so that who wants something else among people who do is not turned.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import chdtrc, expit, rel_entr, xlogy

from prefdensity.checking.votes import ALARM, MOST, VOTES, ExpectedVotes, VoteFinding, common_correlation
from prefdensity.data.comparisons import TIE, A, B

Array = NDArray[np.float64]

NAME = "accounts answer the other way round"
_NAMED = 5  # accounts that are told by name
_LEAST = 1e-12  # chance
_LIKELY = 0.5  # probability from which on an account is taken to be turned


def turned(votes: ExpectedVotes) -> list[VoteFinding]:
    """Return the accounts that answer the other way round, as one finding.

    Who favours an item votes against favourites, too: where that tells an account's votes better, those for the item
    are left out.
    """
    data, people = votes.data, len(votes.data.annotators)
    with_side_b, decided = votes.outcome == B, votes.outcome != TIE
    said, other = (np.where(with_side_b, *each) for each in (votes.wins[::-1], votes.wins))
    ratio = np.log(np.maximum(other, _LEAST)) - np.log(np.maximum(said, _LEAST))
    counted = data.count * decided
    whole = np.bincount(votes.who, counted * ratio, people)
    gain, item = _for_an_item(votes, said)
    devoted = (whole > 0) & (gain > whole)
    counted[devoted[votes.who] & (_winner(votes) == item[votes.who])] = 0.0
    size, seen = (np.bincount(votes.who, counted * each, people) for each in (1.0, ratio))
    # of one who answers straight: by a vote for the one item or the other, given that it is for one of them
    size_of, share = np.abs(ratio), np.maximum(said, other) / np.maximum(said + other, _LEAST)
    mean = np.bincount(votes.who, counted * size_of * (1 - 2 * share), people)
    variance = np.bincount(votes.who, counted * size_of**2 * 4 * share * (1 - share), people)
    tried = np.flatnonzero((size >= VOTES) & (variance > 0))
    if not len(tried):
        return []
    square, more = (seen - mean)[tried] ** 2 / variance[tried], np.maximum(size[tried] - 1, 0)
    p, likely = mixture(seen[tried] / (1 + more * common_correlation(square, more)))
    chosen = tried[likely > _LIKELY]
    if p >= ALARM or not len(chosen) or len(chosen) > (1 - MOST) * len(tried):
        return []
    return [_told(votes, chosen[np.argsort(-size[chosen], kind="stable")], p)]


def _told(votes: ExpectedVotes, chosen: NDArray[np.intp], p: float) -> VoteFinding:
    """Return the finding about some accounts: how often they voted against the favourite, and should have."""
    data, names = votes.data, [votes.data.annotators[k] for k in chosen]
    rows = np.flatnonzero(np.isin(votes.who, chosen))
    decided = rows[votes.outcome[rows] != TIE]
    against = votes.outcome[decided] == np.where(votes.wins[1] > votes.wins[0], A, B)[decided]
    one, other = (each[decided] for each in votes.wins)
    count = data.count[decided]
    seen, due = count @ against, count @ (np.minimum(one, other) / np.maximum(one + other, _LEAST))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    remedy = "Leave them out, see whether they took one side for the other, or fit +reliability."
    who = ", ".join(names[:_NAMED]) + more
    return VoteFinding(NAME, who, float(count.sum()), float(seen), float(due), p, remedy, rows)


def _winner(votes: ExpectedVotes) -> NDArray[np.intp]:
    return np.where(votes.outcome == A, votes.data.item_a, votes.data.item_b)


def _for_an_item(votes: ExpectedVotes, said: Array) -> tuple[Array, NDArray[np.intp]]:
    """Return the log likelihood ratio of favouring an item to answering straight, and the likeliest item [account]."""
    data, items = votes.data, len(votes.data.items)
    size, won, due = votes.by_account_and_item()
    cast = data.count * (votes.outcome != TIE) * -np.log(np.maximum(said, _LEAST))
    surprise = np.bincount(votes.who * np.int64(items) + _winner(votes), cast, len(size))
    share = np.divide(won, size, out=np.zeros_like(won), where=size > 0)
    gain = surprise + xlogy(won, share) + rel_entr(size - won, size - due)
    gain = np.where(won > due, gain, 0.0).reshape(-1, items)
    return gain.max(1), gain.argmax(1)


def mixture(ratio: Array) -> tuple[float, Array]:
    """Return the p-value of there being any, of a log likelihood ratio [account], and how likely each is one."""

    def gain(share: float) -> float:
        return float(np.logaddexp(np.log1p(-share), np.log(share) + ratio).sum())

    best = minimize_scalar(
        lambda share: -gain(share), bounds=(1e-9, 1 - 1e-9), method="bounded", options={"xatol": 1e-6}
    )
    odds = np.log(best.x) - np.log1p(-best.x) + ratio
    return float(chdtrc(1, max(2 * gain(best.x), 0.0)) / 2), expit(odds)
