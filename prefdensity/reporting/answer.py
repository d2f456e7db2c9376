"""What a fit says in sentences: who leads and how sure, what speaks against it, what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prefdensity.data.report import describe
from prefdensity.posterior.outcome_tables import type_shares
from prefdensity.reporting.labels import distinct
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from prefdensity.checking.report import CheckReport
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons
    from prefdensity.posterior.posterior import Posterior

_DOUBT = 0.05  # an item is a rival while the probability that it beats the leader exceeds this
_LONGEST = 60  # characters of a name in a sentence


def lead(post: Posterior, checked: CheckReport) -> list[str]:
    """Return who leads, how sure that is, and what the data say against the program, what matters most first.

    Parameters
    ----------
    post
        A fit.
    checked
        What `check` found. Claims of a program that the data contradict are worded as such.
    """
    said = [answer(post, checked), [verdict(checked)]]
    return sum(said[::-1] if checked.verdict == "contradicted" else said, [])


def closing(post: Posterior, checked: CheckReport) -> list[str]:
    """Return three lines for the end of a fit: who leads and how sure, what the check says, what to try next."""
    lines = [verdict(checked), next_step(checked)]
    if "utility" in post.draws:  # a user's own program may know no single utility
        lines.insert(int(checked.verdict == "contradicted"), " ".join(answer(post, checked)))
    return lines


def next_step(checked: CheckReport) -> str:
    """Return what to try next, as a line of the terminal."""
    return f"Next: {checked.advice[0].lower()}{checked.advice[1:]}"


def answer(post: Posterior, checked: CheckReport) -> list[str]:
    """Return who leads and how sure that is, supposing the program where the data contradict it."""
    warned = ["The fit failed its own checks: read the warnings before these numbers."] if post.troubles() else []
    return [*leaders(post, checked if checked.verdict == "contradicted" else None), *warned]


def verdict(checked: CheckReport) -> str:
    """Return what the data say against a program, and how often a right one hears as much."""
    often = " So much doubt falls on some one in twenty programs that are right."
    return checked.headline + (often if checked.verdict == "in doubt" else "")


def leaders(post: Posterior, contradicted: CheckReport | None = None) -> list[str]:
    """Return who leads and how sure that is, in sentences; one paragraph for each annotator type, the largest first.

    Parameters
    ----------
    post
        A fit.
    contradicted
        A check that contradicts the program: then these are no more than what the program would say.
    """
    summary, draws = post.summary(), post.utilities()
    supposing = f"if {post.program_name} were right, " if contradicted else ""
    if draws.ndim == 2:
        only = _leader(post, summary, draws, supposing)
        return [only[0].upper() + only[1:] if supposing else only]
    weight = type_shares(post).mean(0)
    whose = "Annotators" if "type_probability" in post.draws else "Judgements"
    said = []
    for k in post.types_by_size():
        leader = _leader(post, summary[summary["type"] == k + 1], draws[:, k], supposing)
        said.append(f"{whose} of type {k + 1} ({percent(weight[k])}): {leader}")
    return said


def _leader(post: Posterior, summary: pd.DataFrame, draws: NDArray[np.float64], supposing: str) -> str:
    """Return who leads among the draws [draw, item]; in the conditional mood after `supposing`."""
    has, is_best, is_worse, cannot = (
        ("would have", "be the best", "would be worse", "could not")
        if supposing
        else ("has", "is the best", "is worse", "cannot")
    )
    best, size = post.items.index(summary["item"].iloc[0]), len(summary)
    names = distinct(post.items, _LONGEST)
    name = names[best]
    called = supposing + (f"item {name}" if supposing else f"Item {name}") if name.isdigit() else supposing + name
    if post.is_point:
        return f"{called} {has} the highest estimate of {size} items; a point fit does not say how sure this is."
    sure = percent(summary["p_best"].iloc[0])
    first = f"{called} {has} the highest utility of {size} items, and {is_best} with probability {sure}."
    beats = (draws > draws[:, [best]]).mean(axis=0)
    rivals = [names[i] for i in beats.argsort(kind="stable")[::-1] if beats[i] > _DOUBT]
    if not rivals:
        return f"{first} Every other item {is_worse} with probability {1 - _DOUBT:.0%} or more."
    named = ", ".join(rivals[:5]) + (f" and {len(rivals) - 5} more" if len(rivals) > 5 else "")
    many = "1 item" if len(rivals) == 1 else f"{len(rivals)} items"
    doubt = f"better with probability above {_DOUBT:.0%}"
    return f"{first} {many} {cannot} be told apart from it ({doubt}): {named}."


def cautions(post: Posterior, data: Comparisons | Choices, checked: CheckReport | None = None) -> list[str]:
    """Return what to read before relying on a fit, each sentence once, what matters most first.

    Parameters
    ----------
    post, data
        A fit and the table that it was fitted to; what its program accounts for is no matter of concern.
    checked
        What `check` found; what it does not bear out is not said.
    """
    against = [checked.caution] if checked and checked.caution else []
    passed = checked.table["check"][checked.table["verdict"] == "as expected"].tolist() if checked else []
    of_data = describe(data).given(_known(post), passed)
    return list(dict.fromkeys([*against, *post.troubles(), *of_data, *post.status.warnings]))


def _known(post: Posterior) -> set[str]:
    """Return what a program knows of, in the words of `Remark`: its needs, and items if these are free."""
    free = "utility" in post.event_dims  # drawn for each item, not made of its features
    return {*post.program.needs, "item"} if free else set(post.program.needs)
