"""A self-contained HTML page about rewards: what every response is worth, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prefdensity.reporting.pages import Page, Section, number, signed
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Points, Words
from prefdensity.reporting.ranking import span
from prefdensity.words import percent, share

if TYPE_CHECKING:
    import pandas as pd

_FIRST = 8  # responses on the first screen
_MOST = 2000  # rows of the table; the file has them all
_THIN = 0.5  # of the spread of rewards: an sd above it tells little of a response
_NEXT = (
    "Use differences within a prompt (the advantage), weigh them by their standard deviations, and ask next the pairs "
    "that prefdensity select names."
)
_READING = (
    "A reward is a utility: of two responses the one whose reward is greater by 1 is chosen 73% of the time under a "
    "logistic choice. 0 is the average response; only differences mean anything.",
    "The advantage is the reward less the mean reward of the responses to the same prompt, which is what training on "
    "preferences uses; P(best) is the chance to be the best of them.",
    "The standard deviation is that of one reward. Two responses share what is unsure about both: their difference may "
    "be surer than either.",
)


def write_reward_report(
    table: pd.DataFrame,
    path: str | os.PathLike[str],
    title: str,
    called: str,
    level: float = 0.9,
    notes: Sequence[str] = (),
) -> Path:
    """Write a self-contained page about the rewards of responses.

    Parameters
    ----------
    table
        Of `prefdensity.reward.reward_table`, or `RewardEstimate.of_items`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    called
        What the rewards are, in words.
    level
        Of the intervals in the table.
    notes
        What is to be known before the rewards are used.

    Returns
    -------
    Path
        The file written.
    """
    apart = float(table["reward"].std(ddof=0))
    unsure = int((table["sd"] > _THIN * apart).sum())
    verdict = (
        f"{unsure:,} of {len(table):,} rewards have a standard deviation above half of that spread: they say little of "
        "their response."
        if unsure
        else "Every reward is known to less than half of that spread."
    )
    left = len(table) - _MOST
    note = f"{left:,} more rows are in the file beside this page." if left > 0 else ""
    page = Page(
        title,
        called,
        [_answer(table, apart)],
        verdict=[verdict],
        next=[_NEXT],
        stands=None if 2 * unsure > len(table) else True,
        plot=_rows(table.head(_FIRST), level, short=True),
        cautions=list(notes),
        sections=[
            Section("Rewards", parts=[_rows(table.head(_MOST), level, note=note)]),
            Section("How to read this", parts=[Points(_READING)]),
        ],
    )
    return page.write(path)


def _answer(table: pd.DataFrame, apart: float) -> str:
    """Return how far rewards are apart, how well they are known, and whose is the greatest."""
    prompts = f" to {table['prompt'].nunique():,} prompts" if "prompt" in table else ""
    return (
        f"The rewards of {table['item'].nunique():,} responses{prompts} spread with a standard deviation of "
        f"{number(apart, 2)}; half of them are known to {number(float(table['sd'].median()), 2)} or better. "
        f"{table['item'].iloc[0]} has the greatest."
    )


def _rows(table: pd.DataFrame, level: float, short: bool = False, note: str = "") -> PageTable:
    middle, lower, upper = (table[name].tolist() for name in ("reward", "lower", "upper"))
    under = [f"to {prompt}" for prompt in table["prompt"]] if "prompt" in table else None
    columns: list[PageColumn] = [
        Words("response", table["item"].tolist(), names=True, under=under),
        Bars(f"reward, {level:.0%} interval", lower, middle, upper),
        Numbers("reward", middle, [signed(value) for value in middle],
                [span(*ends) for ends in zip(lower, upper, strict=True)]),
    ]  # fmt: skip
    if "type" in table:
        columns.insert(1, Words("type", [str(kind) for kind in table["type"]], filters=True))
    if not short:
        columns.append(Numbers("sd", table["sd"].tolist(), [number(value, 2) for value in table["sd"]]))
        if "advantage" in table:
            advantage = table["advantage"].tolist()
            columns.append(Numbers("advantage", advantage, [signed(value) for value in advantage]))
        if "p_best" in table:
            columns.append(Numbers("P(best)", table["p_best"].tolist(), [percent(value) for value in table["p_best"]]))
        votes, rate = table["judgements"].tolist(), table["win_rate"].tolist()
        columns.append(Numbers("judgements", votes, [f"{value:,.10g}" for value in votes]))
        columns.append(Numbers("win rate", rate, [share(value) for value in rate]))
    caption = (
        f"The {len(table)} greatest rewards." if short else f"Rewards of {len(table):,} responses, the greatest first."
    )
    return PageTable(
        f"{caption} 0 is the average response; lines are {level:.0%} intervals.", columns, len(table), note
    )
