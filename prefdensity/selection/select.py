"""Which pairs to ask next: a batch chosen by what a posterior does not know yet, with the reason for each pair.

A judgement is taken to be what the fitted program says it is; against a wrong program no rule is safe. So the most
even pairs, which need the program least, always stand beside the chosen ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.named import require_among
from prefdensity.errors import DataError, require_whole
from prefdensity.posterior.posterior import Posterior
from prefdensity.progress import Report, progress as progress_bar
from prefdensity.selection.acquisition import entropy
from prefdensity.selection.candidates import Pairs, candidate_pairs, prompts_of
from prefdensity.selection.foreseen import Foreseen, in_turn, require_draws
from prefdensity.selection.greedy import Pick
from prefdensity.selection.outcome_belief import OutcomeBelief
from prefdensity.selection.pair_metric import Strengths, past_information
from prefdensity.selection.pair_sets import ListedPairs, PairSet, pair_keys, require_enough
from prefdensity.selection.pair_tables import FROM_TABLES, Survey, choose_from_tables, survey
from prefdensity.selection.rules import FROM_FEATURES, RULES, Situation, choose, contrasts

Array = NDArray[Any]


def select(
    post: Posterior, candidates: str | Pairs | None = None, n: int = 50, rule: str = "eig", *,
    data: Comparisons | None = None, again: bool = False, group: Mapping[str, str] | None = None,
    exclude: Pairs | None = None, cost: Mapping[str, float] | None = None, quota: int | None = None,
    at_most: int | None = None, annotators: Sequence[str] | None = None, annotator: str | None = None,
    first: str = "neither", draws: int = 256, ridge: float = 1e-6, seed: int = 0, progress: bool | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Choose the next pairs to ask, best first.

    Parameters
    ----------
    post
        A fit with draws, of any program; new items by `candidates.with_items`, or many by `described.described`.
    candidates, group, exclude
        all pairs of items, those within or across groups (item -> prompt; by default those of `data`), or pairs: a
        frame with item_a and item_b (and perhaps cost) or tuples; `exclude` is never asked. None: within, or else all.
    n, rule
        Size of the batch; one of `selection_rules.RULES`: eig chooses each pair given those before it.
    data, again
        The votes so far, which past_aware_d_optimal counts; their pairs are asked again only with `again`.
    cost
        item -> cost of reading it; a pair costs the sum, and what counts is the score per unit of cost.
    quota, at_most
        Most pairs of the batch that one item may be in; candidates to look at, drawn at random from a large pool.
    annotators
        Who is to judge, known to a fit that knows annotators: each gets an equal share of the batch, by lot. Whose
        answer tells most is not asked: `rater_study` finds out by simulation whether it pays.
    annotator, first
        As in `Posterior.predict`: whose judgement (somebody new is averaged over the population), which side first.
    draws, ridge, seed, progress
        Draws of the posterior to use, at least; what d_optimal, past_aware_d_optimal and xtx add to the diagonal; of
        everything random; a progress bar (None: where stderr is a terminal).

    Returns
    -------
    Frame with item_a, item_b (in the order of `post.items`), p_a, p_b (p_tie), sd (of P(a preferred) over draws),
    information (nats expected of the judgement alone), gain (nats, given the pairs above it), entropy (nats),
    entropy_rank (1: the most even candidate), reason, and cost and annotator if asked for. ``attrs``: rule, candidates
    and judged (how many pairs, and left out), gain, gain_entropy, gain_random (nats, of these rules' batches), notes.

    Raises
    ------
    DataError
        For unknown items, people, rules or groups, fewer than n valid pairs, a fit without draws, singular features.
    """
    _require(post, n, rule, annotators, quota=quota, at_most=at_most, draws=draws, seed=seed)
    past = None if data is None else _past(post, data)
    prompt = _prompts(post, candidates, data) if group is None else group
    gone = None if past is None or again else past[:2]
    pairs = candidate_pairs(post.items, candidates, group=prompt, exclude=exclude, past=gone, cost=cost)
    total = require_enough(pairs, n)
    if at_most is not None:
        pairs = pairs.sample(max(at_most, n), np.random.default_rng(seed))
    with progress_bar(progress) as report:
        chooser = _Chooser(Foreseen(post, annotator, first, draws, seed), pairs, rule, past, ridge, quota, report)
        frame = _batch(chooser, pairs, rule, n, total if at_most is None else min(total, at_most))
    if annotators is not None:
        frame["annotator"] = by_quota(n, annotators, seed)
    frame.attrs = {"rule": rule, "candidates": total, "judged": _distinct(gone, len(post.items))} | frame.attrs
    return frame


def _distinct(pairs: tuple[Array, Array] | None, n_items: int) -> int:
    """Return how many pairs there are, each counted once, in either order."""
    return 0 if pairs is None else len(np.unique(pair_keys(*pairs, n_items)))


def _prompts(post: Posterior, candidates: str | Pairs | None, data: Comparisons | None) -> dict[str, str] | None:
    """Return the prompt of every item, where pairs of a named set are asked for and the votes tell prompts of all."""
    named = candidates is None or isinstance(candidates, str)
    if data is None or not named or candidates == "all":
        return None
    known = prompts_of(data)
    return known if known is not None and set(post.items) <= known.keys() else None


def _batch(chooser: _Chooser, pairs: PairSet, rule: str, n: int, total: int) -> pd.DataFrame:
    """Return the batch of a rule among `total` pairs, with what speaks for each, and beside those of other rules."""
    view = chooser.view
    picks, exact = chooser.choose(rule, n)
    frame = _frame(view, picks)
    frame["entropy_rank"] = chooser.entropy_rank(picks)
    beside = {f"gain_{name}": float(view.gains(chooser.choose(name, n)[0]).sum()) for name in ("entropy", "random")}
    wins = view.wins(view.tables(view.listed(picks))).mean(0)
    frame["reason"] = _reasons(frame, wins, total)
    if isinstance(pairs, ListedPairs) and pairs.cost is not None:
        frame["cost"] = pairs.cost[[pick.row for pick in picks]]
    elif pairs.cost is not None:
        frame["cost"] = [pairs.cost[pick.a] + pairs.cost[pick.b] for pick in picks]
    notes = _notes(view.post, frame, exact, view.n_draws)
    frame.attrs = {"gain": float(frame["gain"].sum())} | beside | {"notes": notes}
    return frame


def known_people(post: Posterior, annotators: Sequence[str], argument: str = "annotators") -> list[str]:
    """Return who is to judge.

    Raises
    ------
    DataError
        For an empty or doubled list, and for somebody whom a fit that knows annotators does not know.
    """
    people = _distinct_people(annotators, argument)
    if post.annotators:
        require_among(people, post.annotators, argument, "annotator", "fit")
    return people


def _distinct_people(annotators: Sequence[str], argument: str = "annotators") -> list[str]:
    people = [annotators] if isinstance(annotators, str) else [str(label) for label in annotators]
    if not people or len(set(people)) < len(people):
        raise DataError(f"{argument} must be one or more distinct labels")
    return people


def by_quota(n: int, annotators: Sequence[str], seed: int = 0) -> list[str]:
    """Return who judges each of `n` pairs: equal shares, the remainder and the order by lot.

    Raises
    ------
    DataError
        For an empty or doubled list of annotators.
    """
    people = _distinct_people(annotators)
    rng = np.random.default_rng(seed)
    turns = [rng.permutation(len(people)) for _ in range(-(-n // len(people)))]
    return [people[k] for k in np.concatenate(turns)[:n]]


class _Chooser:
    """Applies rules to one set of candidates: by scores and distances where that is all there is, else by tables."""

    def __init__(
        self,
        view: Foreseen,
        pairs: PairSet,
        rule: str,
        past: tuple[Array, Array, Array] | None,
        ridge: float,
        quota: int | None,
        report: Report,
    ) -> None:
        self.view, self.pairs, self.quota, self.report = view, pairs, quota, report
        scores = view.scores
        if scores is None and rule not in (*FROM_TABLES, "random"):
            name = view.post.program_name
            raise DataError(f"rule={rule!r} needs utilities, and {name} has no site 'utility'; use eig")
        metric = view.metric
        self.seen: Survey | None = None
        if rule == "batch_bald" or (metric is None and (rule in FROM_TABLES or scores is None)):
            self.pairs = pairs.listed()
            self.seen = survey(self.pairs, view.tables, view.n_draws, report)
        size = len(view.post.items)
        luce = Strengths(np.zeros(size) if scores is None else scores)
        features = None if view.post.features is None else np.asarray(view.post.features)
        if features is None and rule in FROM_FEATURES:
            features = contrasts(size)
        told = None
        if past is not None and features is not None and rule in FROM_FEATURES:
            told = past_information(features, luce, *past)
        self.known = Situation(
            luce=luce,
            features=features,
            past=told,
            metric=None if metric is None else metric.afresh,
            ridge=ridge,
        )

    def choose(self, rule: str, n: int) -> tuple[list[Pick], bool]:
        """Return the batch of a rule, and whether all candidates were in the running."""
        if self.seen is not None and rule in FROM_TABLES:
            assert isinstance(self.pairs, ListedPairs)
            return choose_from_tables(
                rule,
                self.pairs,
                self.seen,
                self.view.tables,
                n,
                quota=self.quota,
                seed=self.view.seed,
                report=self.report,
            )
        picks = choose(rule, self.pairs, self.known, n, quota=self.quota, seed=self.view.seed, report=self.report)
        return picks, True

    def entropy_rank(self, picks: list[Pick]) -> Array:
        """Return the place of each pick among all candidates, 1 being the most even prediction."""
        if self.seen is not None:
            ordered = np.sort(self.seen.entropy)
            return len(ordered) - np.searchsorted(ordered, self.seen.entropy[[p.row for p in picks]], "right") + 1
        luce = self.known.luce
        own = luce.information(*np.array([(pick.a, pick.b) for pick in picks]).T)
        order = np.argsort(own)
        more = np.zeros(len(own) + 1, np.int64)
        for block in self.pairs.blocks():
            even = luce.information(block.a, block.b)[block.allowed]
            more += np.bincount(np.searchsorted(own[order], even, "left"), minlength=len(more))
        # more[k]: candidates above own[order[k - 1]] and not above own[order[k]]
        above = more[::-1].cumsum()[::-1][1:]
        rank = np.empty(len(own), np.int64)
        rank[order] = above + 1
        return rank


def _frame(view: Foreseen, picks: list[Pick]) -> pd.DataFrame:
    pairs, items = view.listed(picks), view.post.items
    prob = view.tables(pairs)
    belief = OutcomeBelief(prob)
    frame = pd.DataFrame({"item_a": [items[k] for k in pairs.a], "item_b": [items[k] for k in pairs.b]})
    for k, outcome in enumerate(view.post.outcomes):
        frame[f"p_{outcome}"] = belief.mean[:, k]
    frame["sd"] = view.wins(prob).std(0, ddof=1)
    frame["information"] = belief.information(np.arange(len(picks)))
    frame["gain"] = in_turn(belief)
    frame["entropy"] = entropy(belief.mean)
    return frame


def _reasons(frame: pd.DataFrame, wins: Array, total: int) -> list[str]:
    """Say in words what the numbers of each row say."""
    words = []
    for row, win in zip(frame.to_dict("records"), wins, strict=True):
        gain, alone = row["gain"], row["information"]
        shared = f", {1 - gain / alone:.0%} less than alone as pairs above tell the rest" if gain < 0.95 * alone else ""
        words.append(
            f"{row['item_a']} wins with probability {win:.2f} ± {row['sd']:.2f}; the answer adds {gain:.3f} "
            f"nats{shared}; number {row['entropy_rank']} of {total} in evenness"
        )
    return words


def _notes(post: Posterior, frame: pd.DataFrame, exact: bool, n_draws: int) -> list[str]:
    notes = []
    if not post.status.trusted:
        notes.append("The fit cannot be trusted as it stands, and so its uncertainty, which chose these pairs.")
    if len(frame) > n_draws / 4:
        notes.append(
            f"{n_draws} draws cannot tell apart what {len(frame)} judgements teach; give draws=... of four times n, "
            "or ask fewer at a time and refit."
        )
    if not exact:
        notes.append("The batch is the best of a shortlist; a pair outside it might have added more to its end.")
    return notes


def _past(post: Posterior, data: Comparisons) -> tuple[Array, Array, Array]:
    """Return the votes so far in the codes of the fit."""
    position = pd.Index(post.items).get_indexer(pd.Index(data.items))
    a, b = position[data.item_a], position[data.item_b]
    if (np.minimum(a, b) < 0).any():
        absent = data.items[int(np.flatnonzero(position < 0)[0])]
        raise DataError(f"{data.source} holds item {absent!r}, which the fit does not know; give the votes of the fit")
    return a, b, data.count


def _require(
    post: Posterior, n: int, rule: str, annotators: Sequence[str] | None, quota: int | None, at_most: int | None,
    draws: int, seed: int,
) -> None:  # fmt: skip
    if rule not in RULES:
        raise DataError(f"rule={rule!r} is unknown; use {', '.join(RULES)}")
    for name, value in (("n", n), ("quota", quota), ("at_most", at_most)):
        if value is not None:
            require_whole(name, value, 1)
    require_whole("seed", seed, 0)
    require_draws(post, draws)
    if annotators is not None:
        known_people(post, annotators)
