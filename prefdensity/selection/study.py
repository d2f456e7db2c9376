"""Do chosen pairs teach faster than random ones? Learning curves of rules in simulated worlds.

Every rule starts from the same random votes, sees the same items in each round and gets the same answer to the same
pair, so differences between rules are paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from prefdensity.errors import DataError, require_ascending, require_known, require_whole
from prefdensity.posterior.posterior import Posterior
from prefdensity.progress import progress as progress_bar
from prefdensity.selection.pair_metric import Metric, Strengths
from prefdensity.selection.pair_sets import AllPairs, pair_keys
from prefdensity.selection.rules import RULES, Situation, choose, uniform_hash
from prefdensity.selection.worlds import Fitted, Votes, World, items, world_of
from prefdensity.shown import Telling
from prefdensity.workers import each, gathered

Array = NDArray[Any]

Point = tuple[int, str, int, float, float]  # simulation, rule, labels, correlation, slope

BUDGETS = (50, 100, 150, 200, 300, 400, 600, 800)
DEFAULT = ("eig", "greedy_d_optimal", "d_optimal", "entropy", "random")


@dataclass(frozen=True, eq=False, repr=False)
class SelectionStudy(Telling):
    """Learning curves of rules, paired by seed.

    Attributes
    ----------
    curves
        Frame [seed x rule x budget]: seed, rule, labels, correlation (Spearman, of scores with true rewards of items to
        be judged by), slope (of true rewards on scores there: 1 if calibrated, less if scores claim too much).
    notes
        How many simulations there are, where Ctrl-C ended the study.
    """

    curves: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """One row for each rule and budget.

        rule, labels, correlation (mean over seeds), se, error_ratio (mean of 1 - correlation over that of random), t
        (paired, against random), slope (mean over seeds).
        """
        wide = self.curves.pivot(index="seed", columns=["rule", "labels"], values="correlation")
        slope = self.curves.groupby(["rule", "labels"])["slope"].mean()
        rows = []
        for rule in self.curves["rule"].unique():
            for labels in self.curves["labels"].unique():
                own, chance = wide[rule, labels], wide["random", labels]
                spread = (own - chance).std(ddof=1)
                t = float((own - chance).mean() / (spread / len(wide) ** 0.5)) if spread > 0 else np.nan
                ratio = float((1 - own.mean()) / (1 - chance.mean()))
                error = own.std(ddof=1) / len(wide) ** 0.5
                rows.append((rule, labels, own.mean(), error, ratio, t, slope[rule, labels]))
        return pd.DataFrame(rows, columns=["rule", "labels", "correlation", "se", "error_ratio", "t", "slope"])

    @property
    def winner(self) -> str:
        """The rule, entropy and random aside, with the largest correlation on average over budgets after the first."""
        later = self.curves[self.curves["labels"] > self.curves["labels"].min()]
        mean = later.groupby("rule")["correlation"].mean().drop(["entropy", "random"], errors="ignore")
        return str(mean.idxmax()) if len(mean) else "entropy"

    def to_frame(self) -> pd.DataFrame:
        """Return the table."""
        return self.table

    def __str__(self) -> str:
        wide = self.table.pivot(index="rule", columns="labels", values="correlation")
        order = list(dict.fromkeys([self.winner, "entropy", "random", *wide.index]))
        lines = [
            wide.loc[order].to_string(float_format=lambda x: f"{x:.4f}"),
            self.verdict(),
            self.claims(),
            *self.notes,
        ]
        return "\n".join(lines)

    def claims(self) -> str:
        """Say how far scores claim too much or too little, by rule, at the last budget."""
        last = self.table[self.table["labels"] == self.table["labels"].max()]
        said = ", ".join(f"{rule} {slope:.2f}" for rule, slope in zip(last["rule"], last["slope"], strict=True))
        return f"true rewards for each unit of score (1: calibrated): {said}"

    def verdict(self) -> str:
        """Say how the winner stands to entropy and random at the last budget."""
        last = self.curves["labels"].max()
        wide = self.curves[self.curves["labels"] == last].pivot(index="seed", columns="rule", values="correlation")
        parts = []
        for other in dict.fromkeys(["entropy", "random"]):
            gap = wide[self.winner] - wide[other]
            if self.winner != other:
                parts.append(f"{gap.mean():+.4f} (se {gap.std(ddof=1) / len(gap) ** 0.5:.4f}) against {other}")
        return f"{self.winner} after {last} labels: {', '.join(parts)}; {len(wide)} seeds"


def selection_study(
    world: str | Posterior = "linear", rules: Sequence[str] = DEFAULT, *, budgets: Sequence[int] = BUDGETS,
    seeds: int = 20, items_per_round: int = 150, candidates: str = "all", draws: int | None = None, seed: int = 0,
    jobs: int | None = None, progress: bool | None = None,
) -> SelectionStudy:  # fmt: skip
    """Simulate rounds of choosing, answering and refitting.

    Parameters
    ----------
    world
        linear, three_well, prompts or items (`selection_worlds`), or a fit whose draws of utilities are the truths.
    rules
        Of `selection_rules.RULES` but batch_bald; entropy and random are always added.
    budgets
        Labels after each round, ascending; the first are random pairs.
    seeds
        Number of simulations, two or more.
    items_per_round
        Items drawn from the pool in each round; their pairs are the candidates.
    candidates
        all, or within or across prompts, in the world of prompts.
    draws
        Posterior draws that bayesian rules use; None: the Laplace approximation itself.
    seed
        Of everything random.
    jobs
        Processes; None: what `joblib.parallel_config` says. The result does not depend on it.
    progress
        Show a progress bar; None: where stderr is a terminal.

    Returns
    -------
    SelectionStudy. After Ctrl-C, of the simulations that are complete, if two or more are.

    Raises
    ------
    DataError
        For unknown worlds or rules, or sizes that make no study.
    """
    asked = [rules] if isinstance(rules, str) else rules
    rules = tuple(dict.fromkeys([*asked, "entropy", "random"]))
    _require(rules, world, candidates, budgets, items_per_round)
    for name, value, least in (("seeds", seeds, 2), ("seed", seed, 0), ("draws", 8 if draws is None else draws, 8)):
        require_whole(name, value, least)
    make = _truths(world) if isinstance(world, Posterior) else world_of(world)
    protocol = _Protocol(budgets, items_per_round, candidates, draws)
    simulations = [(make, protocol, rules, seed, number) for number in range(seeds)]
    with progress_bar(progress) as report:
        found, notes = gathered(each(_simulation, simulations, jobs), seeds, 2, "simulations", report)
    return SelectionStudy(
        pd.DataFrame(sum(found, []), columns=["seed", "rule", "labels", "correlation", "slope"]), notes
    )


def _simulation(
    make: Callable[[int], World], protocol: _Protocol, rules: Sequence[str], seed: int, number: int
) -> list[Point]:
    """Return the learning curves of all rules in one world."""
    stream = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    world = make(stream)
    return [(number, rule, *point) for rule in rules for point in protocol.curve(world, rule, stream)]


def _truths(post: Posterior) -> Callable[[int], World]:
    """Return worlds whose true utilities are draws of a fit."""
    utility = post.utilities()
    if utility.ndim == 3:
        raise DataError("a fit with types has no one truth to simulate; give a fit without types")

    def make(stream: int) -> World:
        return items(stream, utility[np.random.default_rng(stream).integers(len(utility))])

    return make


@dataclass(frozen=True)
class _Protocol:
    """How the rounds go."""

    budgets: Sequence[int]
    items_per_round: int
    candidates: str
    draws: int | None

    def curve(self, world: World, rule: str, seed: int) -> list[tuple[int, float, float]]:
        """Return the learning curve [(labels, correlation, slope)] of one rule."""
        votes, fitted, curve = Votes(*(np.empty(0, np.int64) for _ in range(3))), None, []
        for number, budget in enumerate(self.budgets):
            rng = np.random.default_rng([seed, number])  # the same for all rules
            here = _round(world, self.items_per_round, rng)
            pairs = _unasked(world, here, votes, self.candidates)
            known = self._known(world.pool[here], fitted, rng)
            picks = choose(
                rule if fitted else "random", pairs, known, budget - len(votes.a), seed=int(rng.integers(2**31))
            )
            a, b = here[np.array([(pick.a, pick.b) for pick in picks])].T
            # an answer belongs to its pair: every rule that asks for it hears the same
            luck = uniform_hash(pair_keys(a, b, len(world.pool)), seed)
            won = (luck < expit(world.reward[a] - world.reward[b])).astype(np.int64)
            votes = Votes(*map(np.concatenate, ((votes.a, a), (votes.b, b), (votes.won, won))))
            fitted = world.learner(world.pool, votes, seed % 2**31)
            score = fitted.features(world.test) @ fitted.weight
            rank = float(stats.spearmanr(score, world.test_reward).statistic)
            apart = score - score.mean()
            curve.append((budget, rank, float(apart @ world.test_reward / max(apart @ apart, 1e-300))))
        return curve

    def _known(self, raw: Array, fitted: Fitted | None, rng: np.random.Generator) -> Situation:
        if fitted is None:
            return Situation(Strengths(np.zeros(len(raw))), raw)
        features = fitted.features(raw)
        score = features @ fitted.weight
        if self.draws is None:
            return Situation(
                Strengths(score),
                features,
                fitted.information,
                lambda: Metric.from_precision(score, features, fitted.precision),
            )
        root = np.linalg.cholesky(fitted.precision)
        noise = np.linalg.solve(root.T, rng.standard_normal((features.shape[1], self.draws)))
        drawn = (features @ (fitted.weight[:, None] + noise)).T
        return Situation(Strengths(score), features, fitted.information, lambda: Metric.from_draws(drawn))


def _round(world: World, size: int, rng: np.random.Generator) -> Array:
    """Return the codes of the items of a round, ascending; whole prompts where there are prompts."""
    if world.group is None:
        return np.sort(rng.choice(len(world.pool), min(size, len(world.pool)), replace=False))
    names, sizes = np.unique(world.group, return_counts=True)
    chosen = rng.choice(names, min(len(names), max(1, size // int(sizes.max()))), replace=False)
    return np.flatnonzero(np.isin(world.group, chosen))


def _unasked(world: World, here: Array, votes: Votes, candidates: str) -> AllPairs:
    """Return the pairs of the items of a round, less those that were asked."""
    position = np.full(len(world.pool), -1)
    position[here] = np.arange(len(here))
    a, b = position[votes.a], position[votes.b]
    both = np.minimum(a, b) >= 0
    group = None if world.group is None else world.group[here]
    return AllPairs(len(here), group, candidates, np.unique(pair_keys(a[both], b[both], len(here))))


def _require(
    rules: Sequence[str], world: str | Posterior, candidates: str, budgets: Sequence[int], items_per_round: int
) -> None:
    require_known("rules", rules, [rule for rule in RULES if rule != "batch_bald"])
    if candidates not in ("all", "within", "across") or (candidates != "all" and world != "prompts"):
        raise DataError(f"candidates={candidates!r} must be all; or within or across, in the world of prompts")
    require_ascending("budgets", budgets, "labels")
    require_whole("items_per_round", items_per_round, 2)
