"""What a policy trained for the average does to each kind of annotator, beside others as far from the reference.

Over the responses y to a prompt with reference probabilities q(y), each policy is exact (`policy_learning`):

    average        p(y) ~ q(y) exp(r(y) / beta),  r the posterior mean of the reward averaged over groups
    pessimistic    the same of a lower quantile of the reward, counted from what the reference gets at the prompt
    thompson       a draw of the posterior, its own policy; averaged over draws
    best of n      the best by r of n responses of the reference: P(rank k or lower)^n - P(below rank k)^n, n any number
    for a group    the first, of the group's own mean reward

beta or n is set so that KL(p || q), averaged over prompts, is the same for all: win rates compare at equal KL only. The
win rate of a policy for a group is the chance that somebody of the group prefers its response to one of the reference,
by the choice rule of the fitted program, for every draw: its interval is what the posterior leaves open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError, require_positive, require_whole
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.reward.response_sets import ResponseSets
from prefdensity.reward.who_prefers import Seen, seen_by
from prefdensity.shown import shown

Array = NDArray[np.float64]

AVERAGE, PESSIMISTIC, THOMPSON, BEST_OF_N = "average", "pessimistic", "thompson", "best of n"
_FAR = (0.1, 0.3, 0.6)  # default distances, of the largest that a policy can have
_BISECTIONS, _REACH = 60, 15.0  # halvings of a setting on the scale of logarithms, and how far it may go there
_TOLD = 6  # groups that sentences are about, those first whom the policy for the average serves least
_WORSE = 0.5  # a win rate below it: the reference is preferred


@dataclass(frozen=True, eq=False)
class PolicyComparison:
    """Policies at equal distances from a reference, and what groups make of them.

    Attributes
    ----------
    table
        One row for each distance, policy and group: nats, policy, group, share (of the judgements), win_rate (over the
        reference), lower, upper (its interval), p_worse (the chance that the group prefers the reference), gain (mean
        reward above the reference's), setting (beta, or n of "best of n").
    probabilities
        One row for each distance, policy and response: nats, policy, prompt, item, reference, probability.
    level
        Posterior mass of the intervals.
    notes
        What is to be known, in sentences.
    """

    table: pd.DataFrame
    probabilities: pd.DataFrame
    level: float
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return `table`."""
        return self.table

    def verdict(self) -> list[str]:
        """Return what the policy for the average does to groups at the middle distance, the least served first."""
        nats = np.unique(self.table["nats"])
        at = self.table[self.table["nats"] == nats[len(nats) // 2]]
        found = []
        served = at[at["policy"] == AVERAGE].sort_values("win_rate", kind="stable")
        for _, row in served.head(_TOLD).iterrows():
            own = at[(at["policy"] == f"for {row['group']}") & (at["group"] == row["group"])]
            beside = f"; its own would win {own['win_rate'].iloc[0]:.2f}" if len(own) else ""
            worse = f", worse than no training (probability {row['p_worse']:.2f})" if row["p_worse"] > 0.5 else ""
            found.append(
                f"{row['group']} ({row['share']:.0%} of the judgements): trained for the average, {row['nats']:.2f} "
                f"nats away, responses win {row['win_rate']:.2f} ({row['lower']:.2f} to {row['upper']:.2f}) over the "
                f"reference{worse}{beside}."
            )
        if len(served) > _TOLD:
            found.append(f"{len(served) - _TOLD} more groups gain more by it.")
        return found

    def __repr__(self) -> str:
        policies, groups = self.table["policy"].nunique(), self.table["group"].nunique()
        return f"PolicyComparison({policies} policies, {groups} groups, {self.table['nats'].nunique()} distances)"

    def __str__(self) -> str:
        wide = self.table.pivot_table(index=["nats", "policy"], columns="group", values="win_rate", sort=False)
        return "\n".join([repr(self), wide.to_string(float_format="{:.3f}".format), *self.verdict(), *self.notes])

    def _repr_html_(self) -> str:
        return shown(repr(self), self.table)


def compare_policies(
    post: Posterior, data: Comparisons, groups: str | Mapping[str, Posterior] | None = None, *,
    over: str | None = None, at: Sequence[Any] | None = None, nats: Sequence[float] | None = None,
    reference: Mapping[str, float] | None = None, caution: float = 0.1, level: float = 0.9, draws: int = 200,
    seed: int = 0,
) -> PolicyComparison:  # fmt: skip
    """Compare policies that are trained from a fit, at equal KL, by how often each group prefers their responses.

    Parameters
    ----------
    post
        A fit of a program with utilities. Items are responses, contexts prompts; where an item belongs to several
        contexts, or there are none, all items answer one prompt.
    data
        The comparisons that it was fitted to.
    groups
        None: the fit's types of annotators, or everybody. A label that the program reads, such as "category",
        "country" or "annotator". Or fits to the votes of each group, by name, that know the items of `post`; the
        average is then the reward of `post`, whatever was fitted to all votes.
    over, at
        In the place of groups: a number that the program reads, such as "date", and the dates or values to ask about,
        later ones than any in the table too (see `Posterior.over`). A policy for the average of all dates is then
        judged at each; the share of a date is that of the judgements nearest to it.
    nats
        KL divergences from the reference, averaged over prompts; None: a tenth, three tenths and six tenths of the
        largest that a policy can have.
    reference
        item -> positive number: reference probabilities within prompts, up to a factor; None: even.
    caution
        Quantile of the reward that the pessimistic policy is trained for.
    level, draws, seed
        Posterior mass of intervals; draws of the posterior to use, at most; of annotators drawn from populations.

    Raises
    ------
    DataError
        If `data` is not the table that was fitted, the fit has no draws or no utilities, groups or the number are
        unknown, both are given or `at` without `over`, or no policy is as far away as asked.
    """
    require_whole("seed", seed, 0)
    require_same_table(post, data)
    _require(post, caution, level, draws)
    sets = ResponseSets.of(post.items, data.context_of_items(), data.contexts, reference)
    seen = seen_by(post, data, groups, over, at, sets, draws, seed)
    far = _distances(sets, nats)
    rows, said, notes = [], [], []
    for distance in far:
        for name, recipe in _recipes(sets, seen, caution).items():
            setting, policy = _at(sets, recipe, distance)
            if policy is None:
                notes.append(f"No {name} policy is {distance:.3g} nats from the reference, so it has no row there.")
                continue
            rows += _judged(sets, seen, policy, {"nats": distance, "policy": name, "setting": setting}, level)
            said.append(_spelt(post, data, sets, policy, distance, name))
    table = pd.DataFrame(rows)
    columns = ["nats", "policy", "group", "share", "win_rate", "lower", "upper", "p_worse", "gain", "setting"]
    if not post.status.trusted:
        notes.append("The fit cannot be trusted as it stands, and so neither can these intervals.")
    return PolicyComparison(table[columns], pd.concat(said, ignore_index=True), level, tuple(notes))


class _Recipe(NamedTuple):
    """What makes a policy [item] of its setting (beta or n), and the settings that stay and that go furthest."""

    make: Callable[[float], Array]
    near: float
    far: float


def _recipes(sets: ResponseSets, seen: Seen, caution: float) -> dict[str, _Recipe]:
    """Return how each policy is made."""

    def tilted(reward: Array) -> _Recipe:
        centred = sets.above_reference(reward)
        unit = float(np.sqrt(np.mean(centred**2))) or 1.0

        def make(beta: float) -> Array:
            return np.asarray(sets.tilted(centred / beta).reshape(-1, sets.size).mean(0))

        return _Recipe(make, unit * np.exp(_REACH), unit * np.exp(-_REACH))

    average = seen.average  # [draw, item]
    low = np.quantile(sets.above_reference(average), caution, axis=0)
    best = sets.best_of(average.mean(0))
    recipes = {
        AVERAGE: tilted(average.mean(0)),
        PESSIMISTIC: tilted(low),
        THOMPSON: tilted(average),
        BEST_OF_N: _Recipe(best, 1.0, np.exp(_REACH)),
    }
    if len(seen.names) > 1:
        recipes |= {f"for {name}": tilted(seen.reward[:, k].mean(0)) for k, name in enumerate(seen.names)}
    return recipes


def _at(sets: ResponseSets, recipe: _Recipe, nats: float) -> tuple[float, Array | None]:
    """Return the setting and the policy [item] at a distance; None where none is as far away."""
    low, high = np.log([recipe.near, recipe.far])
    if sets.kl(recipe.make(recipe.far)) < nats * (1 - 1e-6):
        return np.nan, None
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if sets.kl(recipe.make(float(np.exp(middle)))) > nats else (middle, high)
    setting = float(np.exp(high))
    return setting, recipe.make(setting)


def _judged(
    sets: ResponseSets, seen: Seen, policy: Array, row: dict[str, float | str], level: float
) -> list[dict[str, Any]]:
    """Return a row for each group: how often it prefers the policy's responses."""
    wins = sets.win_rate(policy, seen.prefer)  # [draw, group]
    gain = sets.mean(policy, sets.above_reference(seen.reward.mean(0)))
    lower, upper = np.quantile(wins, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        row | {
            "group": name, "share": seen.share[k], "win_rate": wins[:, k].mean(), "lower": lower[k], "upper": upper[k],
            "p_worse": (wins[:, k] < _WORSE).mean(), "gain": gain[k],
        }
        for k, name in enumerate(seen.names)
    ]  # fmt: skip


def _spelt(
    post: Posterior, data: Comparisons, sets: ResponseSets, policy: Array, nats: float, name: str
) -> pd.DataFrame:
    prompt = [data.contexts[k] for k in sets.prompt] if sets.count > 1 else [""] * sets.size
    return pd.DataFrame({
        "nats": nats, "policy": name, "prompt": prompt, "item": list(post.items), "reference": sets.reference,
        "probability": policy,
    })  # fmt: skip


def _distances(sets: ResponseSets, nats: Sequence[float] | None) -> list[float]:
    most = sets.furthest
    if nats is None:
        return [float(f"{share * most:.2g}") for share in _FAR]
    for each in nats:
        require_positive(nats=each)
        if each >= most:
            raise DataError(
                f"nats={each:g}: with these reference probabilities a policy that is sure of one response to every "
                f"prompt is {most:.3g} nats away at most; give less"
            )
    return [float(each) for each in nats]


def _require(post: Posterior, caution: float, level: float, draws: int) -> None:
    if "utility" not in post.draws or post.is_point or post.status.method == "mle":
        raise DataError(
            f"policies need the draws of utilities, and this fit of {post.program_name} by {post.status.method} has "
            "none; fit a program with utilities by laplace, svi or nuts"
        )
    for name, value in (("caution", caution), ("level", level)):
        if not 0 < value < 1:
            raise DataError(f"{name}={value!r} must lie between 0 and 1")
    if not draws >= 2:
        raise DataError(f"draws={draws!r} must be 2 or more")
