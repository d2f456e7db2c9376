"""A self-contained HTML page about policies: what training for the average does to each group of annotators."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prefdensity.reporting.pages import Page, Section, number, signed
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Points, Words
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd

_AVERAGE = "average"
_BEHIND = 0.05  # of win rate that a group loses to the policy trained for itself
_READING = (
    "A win rate is the chance that somebody of the group prefers the policy's response to one of the reference; at 0.5 "
    "training changed nothing for them, below it they would rather have the reference.",
    "Policies are compared at the same KL divergence (nats) from the reference, averaged over prompts: a policy that "
    "moves further wins more, whatever its reward is worth.",
    "average is trained for the mean reward of all groups, pessimistic for a low quantile of it, thompson draws a "
    "reward from the posterior for every answer, best of n takes the best of n responses of the reference, and each "
    "group has a policy of its own. All are exact optima over the responses judged, not networks.",
)


def write_policy_report(
    table: pd.DataFrame,
    verdict: Sequence[str],
    path: str | os.PathLike[str],
    title: str,
    level: float = 0.9,
    notes: Sequence[str] = (),
) -> Path:
    """Write a self-contained page about policies at equal distances from a reference.

    Parameters
    ----------
    table, verdict
        `table` and `verdict()` of `prefdensity.reward.policies.PolicyComparison`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    level
        Of the intervals in the table.
    notes
        What is to be known before these numbers are used.

    Returns
    -------
    Path
        The file written.
    """
    nats = np.unique(table["nats"])
    middle = table[table["nats"] == nats[len(nats) // 2]]
    behind = _behind(middle)
    page = Page(
        title,
        f"policies at {', '.join(number(each, 2) for each in nats)} nats from the reference",
        list(verdict),
        verdict=[behind],
        next=[
            "Where a group loses by the average, train policies by group, or for the group that has least; where all "
            "agree, one policy serves."
        ],
        plot=_rows(middle[middle["policy"].isin([_AVERAGE, *_own(middle)])], level, "What groups make of them."),
        cautions=list(notes),
        sections=[
            Section("Policies", parts=[_rows(table, level, "All policies, distances and groups.")]),
            Section("How to read this", parts=[Points(_READING)]),
        ],
    )
    return page.write(path)


def _own(table: pd.DataFrame) -> list[str]:
    return [f"for {name}" for name in table["group"].unique()]


def _behind(table: pd.DataFrame) -> str:
    """Return whom the policy for the average leaves behind."""
    average = table[table["policy"] == _AVERAGE].set_index("group")["win_rate"]
    lost = []
    for group, rate in average.items():
        own = table[(table["policy"] == f"for {group}") & (table["group"] == group)]["win_rate"]
        if len(own) and float(own.iloc[0]) - rate > _BEHIND:
            lost.append(f"{group} ({number(float(own.iloc[0]) - rate, 2)} of win rate)")
    if not lost:
        return "Nobody loses much by one policy for all: each group's own would win as often within 0.05."
    return f"One policy for all leaves behind {', '.join(lost)}: so much more would a policy of its own win."


def _rows(table: pd.DataFrame, level: float, caption: str) -> PageTable:
    middle, lower, upper = (table[name].tolist() for name in ("win_rate", "lower", "upper"))
    columns: list[PageColumn] = [
        Words("policy", table["policy"].tolist(), names=True),
        Words("group", table["group"].tolist(), filters=True),
        Numbers("nats", table["nats"].tolist(), [number(value, 2) for value in table["nats"]]),
        Bars(f"win rate, {level:.0%} interval", lower, middle, upper, zero=0.5),
        Numbers("win rate", middle, [number(value, 3) for value in middle],
                [f"{low:.3f} to {high:.3f}" for low, high in zip(lower, upper, strict=True)]),
        Numbers("P(worse off)", table["p_worse"].tolist(), [percent(value) for value in table["p_worse"]]),
        Numbers("reward gained", table["gain"].tolist(), [signed(value) for value in table["gain"]]),
    ]  # fmt: skip
    return PageTable(f"{caption} Lines are {level:.0%} intervals.", columns, len(table), "")
