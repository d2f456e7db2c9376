"""Does choosing who judges pay? Pairs given to annotators by lot, in equal shares, or by information, simulated.

`select` shares a batch out by lot. Asking whose answer tells most is tempting and can lose: where few people
define the utilities, one whose answers the fit has absorbed looks reliable and is asked ever more, right or wrong. So
`informed` is called by name only, and `study` says first whether it beats the lot for annotators like one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError, require_ascending, require_whole
from prefdensity.inference.fitting import fit_wholly
from prefdensity.posterior.draws import require_fit
from prefdensity.posterior.posterior import Posterior
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.progress import Report, progress as progress_bar
from prefdensity.selection.acquisition import target_information
from prefdensity.selection.candidates import with_items
from prefdensity.selection.rules import uniform_hash
from prefdensity.selection.select import by_quota, known_people, select
from prefdensity.shown import Telling
from prefdensity.workers import gathered

Array = NDArray[Any]
Pairs = list[tuple[str, str]]

ASSIGNMENTS = ("random", "quota", "informed")

_REWARDS, _HABITS = 32, 8  # draws of the items, and for each of the annotators, behind an informed choice
_DRAWS = 256


def informed(
    post: Posterior,
    pairs: Pairs,
    annotators: Sequence[str],
    most: int,
    *,
    seed: int = 0,
) -> list[str]:
    """Return for each pair the annotator whose answer is expected to tell most about the items.

    Averaged over what the fit leaves open about annotators, which is a nuisance here (`target_information`); it is
    taken to be independent of the items given the votes. Pairs choose in turn. Use it only where `study` says it pays.

    Parameters
    ----------
    post
        A fit that knows the annotators.
    pairs
        In the order of the batch.
    annotators
        Who may be asked.
    most
        Most pairs that one annotator may get.
    seed
        Of the draws.

    Raises
    ------
    DataError
        For fits without annotators, unknown or doubled annotators, or too few for the pairs.
    """
    _require_annotators(post)
    annotators = known_people(post, annotators)
    _require_room(len(pairs), len(annotators), most)
    apart = _apart(post, np.random.default_rng(seed))
    told = []
    for who in annotators:
        prob = outcome_probabilities(apart, pairs, who, "neither")
        told.append(target_information(prob.reshape(_REWARDS, _HABITS, *prob.shape[1:])))
    value, left = np.array(told), np.full(len(annotators), most)
    found = []
    for k in range(len(pairs)):
        best = int(np.where(left > 0, value[:, k], -np.inf).argmax())
        left[best] -= 1
        found.append(annotators[best])
    return found


def _apart(post: Posterior, rng: np.random.Generator) -> Posterior:
    """Return draws of the items, each with several draws of the annotators: [reward draw * annotator draw]."""
    reward = np.repeat(rng.integers(post.n_draws, size=_REWARDS), _HABITS)
    habit = rng.integers(post.n_draws, size=_REWARDS * _HABITS)
    draws = {name: value[habit if "annotator" in post.dims[name] else reward] for name, value in post.draws.items()}
    return replace(post, draws=draws)


@dataclass(frozen=True, eq=False, repr=False)
class RaterStudy(Telling):
    """Learning curves of ways to share out pairs, paired by seed.

    Attributes
    ----------
    curves
        Frame [seed x assignment x budget]: seed, assignment, labels, correlation (Spearman, of mean utilities with
        the true ones).
    notes
        How many simulations there are, where Ctrl-C ended the study.
    """

    curves: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """assignment, labels, correlation (mean over seeds), gap (to random) and its se, one row for each."""
        wide = self.curves.pivot(index="seed", columns=["assignment", "labels"], values="correlation")
        rows = []
        for name in ASSIGNMENTS:
            for labels in self.curves["labels"].unique():
                own = wide[name, labels]
                gap = own - wide["random", labels]
                rows.append((name, labels, own.mean(), gap.mean(), gap.std(ddof=1) / len(gap) ** 0.5))
        return pd.DataFrame(rows, columns=["assignment", "labels", "correlation", "gap", "se"])

    @property
    def pays(self) -> bool:
        """Whether the informed choice beats the lot by more than two standard errors, after the first budget."""
        gap, se = self._gap()
        return gap > 2 * se

    def _gap(self) -> tuple[float, float]:
        later = self.curves[self.curves["labels"] > self.curves["labels"].min()]
        wide = later.pivot_table(index="seed", columns="assignment", values="correlation")
        gap = wide["informed"] - wide["random"]
        return float(gap.mean()), float(gap.std(ddof=1) / len(gap) ** 0.5)

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def __str__(self) -> str:
        gap, se = self._gap()
        wide = self.table.pivot(index="assignment", columns="labels", values="correlation").loc[list(ASSIGNMENTS)]
        word = "pays here" if self.pays else "does not pay here; share pairs out by lot"
        return (
            f"{wide.to_string(float_format=lambda x: f'{x:.4f}')}\n"
            f"informed against random: {gap:+.4f} (se {se:.4f}) over {self.curves['seed'].nunique()} seeds. "
            f"Choosing who judges {word}." + "".join(f"\n{note}" for note in self.notes)
        )


def rater_study(
    post: Posterior,
    *,
    budgets: Sequence[int] = (60, 120, 180, 240),
    seeds: int = 10,
    most: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> RaterStudy:
    """Simulate rounds of choosing pairs, assigning annotators, answering and refitting, with draws of a fit for truths.

    The pairs of every round are chosen by `select` with the way's own fit; only who judges them differs. The same
    annotator gives the same answer to the same pair, whatever the way.

    Parameters
    ----------
    post
        A fit of a program with annotators and one utility for each item.
    budgets
        Labels after each round, ascending; the first are random pairs in equal shares.
    seeds
        Number of simulations, two or more.
    most
        Most pairs of a round that one annotator gets by information; None: twice an equal share.
    seed
        Of everything random.
    progress
        Show a progress bar; None: where stderr is a terminal.

    Returns
    -------
    RaterStudy. After Ctrl-C that of the simulations that are complete, if they are two or more.

    Raises
    ------
    DataError
        For fits that know no annotators or have types, and for budgets that make no study.
    """
    require_fit(post)
    _require_annotators(post)
    require_ascending("budgets", budgets, "labels")
    require_whole("seeds", seeds, 2)
    require_whole("seed", seed, 0)
    if post.utilities().ndim != 2:
        raise DataError("a fit with types has no one truth to simulate; give a fit without types")
    if budgets[0] < len(post.annotators):
        raise DataError(
            f"budgets={list(budgets)} must be numbers of labels, the first at least {len(post.annotators)}, one for "
            "each annotator"
        )
    if most is not None:
        _require_room(int(np.diff(budgets).max()), len(post.annotators), most)
    with progress_bar(progress) as report:
        return _simulated(post, budgets, seeds, most, seed, report)


def _simulated(
    post: Posterior, budgets: Sequence[int], seeds: int, most: int | None, seed: int, report: Report
) -> RaterStudy:
    def curves(number: int) -> list[tuple[int, str, int, float]]:
        world = _World(post, int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1))
        rows = []
        for k, way in enumerate(ASSIGNMENTS):
            rows += [(number, way, *point) for point in world.curve(way, budgets, most)]
            report("simulations", number + (k + 1) / len(ASSIGNMENTS), seeds)
        return rows

    found, notes = gathered(map(curves, range(seeds)), seeds, 2, "simulations", report)
    return RaterStudy(pd.DataFrame(sum(found, []), columns=["seed", "assignment", "labels", "correlation"]), notes)


class _World:
    """One draw of a fit taken for the truth."""

    def __init__(self, post: Posterior, seed: int) -> None:
        self.post, self.seed = post, seed
        at = np.array([np.random.default_rng(seed).integers(post.n_draws)])
        truth = replace(post, draws={name: value[at] for name, value in post.draws.items()})
        self.utility = truth.utilities()[0]
        self.pairs = list(combinations(sorted(post.items), 2))
        self.place = {pair: k for k, pair in enumerate(self.pairs)}
        tables = [outcome_probabilities(truth, self.pairs, who, "neither")[0] for who in post.annotators]
        self.prob = np.array(tables)  # [annotator, pair, outcome]

    def curve(self, way: str, budgets: Sequence[int], most: int | None) -> list[tuple[int, float]]:
        """Return the learning curve [(labels, correlation)] of one way to share out pairs."""
        rows: list[tuple[str, str, str, str]] = []
        found: Posterior | None = None
        curve = []
        for budget in budgets:
            of_pairs, of_people = map(int, np.random.SeedSequence([self.seed, len(rows)]).generate_state(2))
            pairs = self._pairs(found, budget - len(rows), of_pairs)
            rows += self._answers(pairs, self._people(way, found, pairs, most, of_people))
            frame = pd.DataFrame(rows, columns=["item_a", "item_b", "annotator", "outcome"])
            data = with_items(Comparisons.from_frame(frame), self.post.items)
            found = fit_wholly(
                self.post.program, data, method="laplace", seed=0, draws=_DRAWS, device=self.post.device, progress=False
            )
            order = [found.items.index(item) for item in self.post.items]
            mean = found.utilities().mean(0)[order]
            curve.append((budget, float(stats.spearmanr(mean, self.utility).statistic)))
        return curve

    def _pairs(self, found: Posterior | None, n: int, stream: int) -> Pairs:
        if found is None:
            return [self.pairs[k] for k in np.random.default_rng(stream).integers(len(self.pairs), size=n)]
        batch = select(found, n=min(n, len(self.pairs)), seed=stream, draws=_DRAWS, progress=False)
        once = list(zip(batch["item_a"], batch["item_b"], strict=True))
        return (once * -(-n // len(once)))[:n]

    def _people(self, way: str, found: Posterior | None, pairs: Pairs, most: int | None, stream: int) -> list[str]:
        people = list(self.post.annotators)
        if way == "quota" or found is None:
            return by_quota(len(pairs), people, stream)
        if way == "random":
            return [people[k] for k in np.random.default_rng(stream).integers(len(people), size=len(pairs))]
        cap = max(1, -(-2 * len(pairs) // len(people))) if most is None else most
        return informed(found, pairs, people, cap, seed=stream)

    def _answers(self, pairs: Pairs, people: list[str]) -> list[tuple[str, str, str, str]]:
        who = np.array([self.post.annotators.index(each) for each in people])
        pair = np.array([self.place[each] for each in pairs])
        luck = uniform_hash(who * len(self.pairs) + pair, self.seed)
        outcome = (luck[:, None] > self.prob[who, pair].cumsum(1)[:, :-1]).sum(1)
        answer = [self.post.outcomes[k] for k in outcome]
        return [(a, b, person, said) for (a, b), person, said in zip(pairs, people, answer, strict=True)]


def _require_annotators(post: Posterior) -> None:
    if "annotator" not in post.program.needs or not post.annotators:
        raise DataError(
            f"{post.program_name} knows no annotators, so nobody's answer tells more; share pairs out by lot"
        )


def _require_room(n: int, people: int, most: int) -> None:
    if most * people < n:
        raise DataError(f"{n} pairs are too many for {people} annotators with at most {most} each; raise most")
