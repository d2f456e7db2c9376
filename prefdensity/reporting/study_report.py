"""Self-contained HTML pages about studies of estimators: under wrong judge models, and in a world of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prefdensity.reporting.pages import Page, Section, number
from prefdensity.reporting.parts import Bars, Listing, Numbers, PageColumn, PageTable, Words, plain

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.pcal.world_study import WorldStudy

_ALONE = "label_only"
_SHOWN = "split"  # the calibration of the first screen: the recommended one where verdicts may say nothing
_NOMINAL, _FAR = 0.9, 3.0  # coverage, and Monte-Carlo standard errors below it that are told


def write_study_report(
    table: pd.DataFrame, settings: Mapping[str, Any], path: str | os.PathLike[str], title: str,
    notes: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a self-contained page about what a wrong model of the judge costs: lengths, coverage, bias.

    Parameters
    ----------
    table, settings
        Those of `prefdensity.pcal.study.JudgeStudy`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.
    notes
        Those of the study: how much of it there is.

    Returns
    -------
    Path
        The file written.
    """
    table = _against_labels(table)
    bought = table[table["calibration"] != _ALONE]
    kinds = list(dict.fromkeys(bought["calibration"]))
    shown = _SHOWN if _SHOWN in kinds else kinds[0]
    first = bought[(bought["calibration"] == shown) & (bought["design"] == "knows")]
    low, high = first["ratio"].min(), first["ratio"].max()
    worst = first.iloc[int(np.argmax(first["ratio"]))]
    short = table[table["coverage"] < _NOMINAL - _FAR * table["coverage_se"]]
    says = (
        f"All of {len(table):,} settings cover {_NOMINAL:.0%} within {_FAR:g} Monte-Carlo standard errors."
        if short.empty
        else f"{len(short):,} of {len(table):,} settings cover less than {_NOMINAL:.0%} by more than {_FAR:g} "
        f"Monte-Carlo standard errors, the least {short['coverage'].min():.3f}."
    )
    harm = (
        "" if high <= 1 else f" Preferences do harm where this is above 100%: {worst['truth']} by {worst['nuisance']}."
    )
    caption = f"Lengths with {shown} calibration by a design that knows the judge; labels alone are 1."
    every = "Every setting; lengths against labels alone."
    page = Page(
        title,
        "simulated judges and assumed ones",
        [
            f"With {shown} calibration, intervals are {low:.0%} to {high:.0%} as long as those of labels alone, over "
            f"all judges and assumptions that were tried.{harm}"
        ],
        verdict=[says, *notes],
        next=["Use the nuisance whose lengths are short under every judge that you think possible."],
        stands=True if short.empty and not notes else None,
        plot=_table(first, caption, True),
        sections=[
            Section("Lengths and coverage", parts=[_table(table, every, False)]),
            Section("Settings", parts=[Listing({name: str(value) for name, value in settings.items()})]),
        ],
    )  # fmt: skip
    return page.write(path)


def _against_labels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `ratio`, the length against that of labels alone under the same judge and design."""
    alone = table[table["calibration"] == _ALONE].groupby(["truth", "design"])["length"].mean()
    keys = list(zip(table["truth"], table["design"], strict=True))
    return table.assign(ratio=table["length"].to_numpy() / alone.loc[keys].to_numpy())


def _table(table: pd.DataFrame, caption: str, short: bool) -> PageTable:
    ratio = table["ratio"].to_numpy()
    reach = 2 * ratio * table["length_se"].to_numpy() / table["length"].to_numpy()
    columns: list[PageColumn] = [
        Words("judge", [name.replace("_", " ") for name in table["truth"]], names=True, filters=not short,
              under=[f"assumed: {name}" for name in table["nuisance"]]),
    ]  # fmt: skip
    if not short:
        columns.append(Words("calibration", table["calibration"].tolist(), filters=True))
        columns.append(Words("design", [name.replace("_", " ") for name in table["design"]], filters=True))
    columns += [
        Bars("length, 2 se", (ratio - reach).tolist(), ratio.tolist(), (ratio + reach).tolist(), zero=1.0,
             kinds=np.where(ratio > 1, "off", "").tolist()),
        Numbers("length", ratio.tolist(), [number(value) for value in ratio]),
        Numbers("coverage", table["coverage"].tolist(), [f"{value:.3f}" for value in table["coverage"]]),
    ]  # fmt: skip
    if not short:
        for name in ("bias", "rmse", "efficiency"):
            columns.append(Numbers(name, table[name].tolist(), [number(value) for value in table[name]]))
    return PageTable(caption, columns, len(table))


def write_world_study_report(study: WorldStudy, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about a study in a world: which estimator is shortest, and whether its word holds.

    Parameters
    ----------
    study
        From `prefdensity.pcal.world_study`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.

    Returns
    -------
    Path
        The file written.
    """
    table, level = study.table, study.settings["level"]
    error = (level * (1 - level) / study.settings["replicates"]) ** 0.5  # of the coverage of an estimator that is right
    short = table["coverage"] < level - _FAR * error
    sound = table[~short & table["length"].notna()]
    best = None if sound.empty else sound.loc[sound["length"].idxmin()]
    page = Page(
        title,
        f"{study.settings['replicates']:,} draws of a world, {len(table)} estimators",
        [_shortest(best, table)],
        verdict=[*_held(table[short], table, level), *study.notes],
        next=["Buy more labels: none can be relied on." if best is None else f"Use {best['estimator']}."],
        stands=None if short.any() or study.notes else True,
        plot=_estimators(table, short.tolist(), level),
        sections=[
            Section("Estimators", parts=[plain("Errors, lengths and coverage with their Monte-Carlo errors.", table)]),
            Section("Settings", parts=[Listing({name: str(value) for name, value in study.settings.items()})]),
        ],
    )
    return page.write(path)


def _shortest(best: Any, table: pd.DataFrame) -> str:
    """Return which estimator that keeps its word is shortest, at the same money."""
    if best is None:
        return "No estimator covers as often as it says."
    alone = table.set_index("estimator")["length"].get("labels only", np.nan)
    against = "" if np.isnan(alone) else f", {best['length'] / alone:.0%} of those of labels only at the same money"
    return (
        f"Of the estimators that cover as often as they say, {best['estimator']} has the shortest intervals: "
        f"{number(best['length'])} on average{against}."
    )


def _held(short: pd.DataFrame, table: pd.DataFrame, level: float) -> list[str]:
    """Return whose intervals cover less often than they say, and who failed to give one."""
    said = [
        f"{row['estimator']} covers {row['coverage']:.3f} where it says {level:g}: its intervals are too short."
        for row in short.to_dict("records")
    ] or [f"Every estimator covers {level:.0%} within {_FAR:g} Monte-Carlo standard errors."]
    failed = table[table["failed"] > 0]
    return said + [
        f"{row['estimator']} gave no interval in {row['failed']:,} draws." for row in failed.to_dict("records")
    ]


def _estimators(table: pd.DataFrame, short: list[bool], level: float) -> PageTable:
    length, reach = table["length"].to_numpy(), 2 * table["length_se"].to_numpy()
    columns: list[PageColumn] = [
        Words("estimator", table["estimator"].tolist(), names=True),
        Bars("length, 2 se", (length - reach).tolist(), length.tolist(), (length + reach).tolist(),
             kinds=["off" if each else "" for each in short]),
        Numbers("length", length.tolist(), [number(value) for value in length]),
        Numbers("coverage", table["coverage"].tolist(), [f"{value:.3f}" for value in table["coverage"]]),
    ]  # fmt: skip
    return PageTable(f"Mean length of the {level:.0%} intervals; orange: they cover too seldom.", columns, len(table))
