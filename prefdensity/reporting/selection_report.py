"""Self-contained HTML pages about choosing pairs: a batch to ask, and a study of whether choosing pays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from prefdensity.reporting.pages import Page, Section, number, svg
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Picture, Points, Words, plain
from prefdensity.reporting.selection_plots import learning_curves
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.selection.study import SelectionStudy

_FIRST = 8  # pairs on the first screen
_READING = (
    "Information is what the answer to a pair is expected to tell alone (nats), gain what it tells given the pairs "
    "above it: pairs that tell the same are worth less together.",
    "P(a) is the probability that item a wins, as the fit has it now; it need not be near one half. Evenness ranks all "
    "candidates by how near it is.",
    "Gains are those of the program. Where it is wrong for these annotators they are, too: check it first.",
)
_LEAST = 2.0  # standard errors by which a rule must lead to be recommended


def write_batch_report(batch: pd.DataFrame, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about pairs to ask next: which, why, and against which other choices.

    Parameters
    ----------
    batch
        From `prefdensity.select`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.

    Returns
    -------
    Path
        The file written.
    """
    said = {str(name): value for name, value in batch.attrs.items()}
    others = {name.removeprefix("gain_"): said[name] for name in said if name.startswith("gain_")}
    against = ", ".join(f"{gain:.3g} by {name}" for name, gain in others.items())
    answer = [
        f"Ask these {len(batch):,} of {said['candidates']:,} pairs: {said['rule']} expects them to tell "
        f"{said['gain']:.3g} nats about the answers to come, and as many pairs chosen {against}."
    ]
    notes = list(said["notes"])
    more = [("chosen", said["rule"], said["gain"]), *(("beside", name, gain) for name, gain in others.items())]
    gains = PageTable(
        "What batches of this size are expected to tell (nats).",
        [
            Words("rule", [name for _, name, _ in more], names=True),
            Bars("gain", [0.0] * len(more), [gain for *_, gain in more], [gain for *_, gain in more]),
            Numbers("gain", [gain for *_, gain in more], [number(gain) for *_, gain in more]),
        ],
        len(more),
    )
    page = Page(
        title,
        f"{len(batch):,} pairs by rule {said['rule']}",
        answer,
        verdict=notes or ["Nothing speaks against this batch."],
        next=["Ask them in this order, append the answers to the votes, fit again, and choose again."],
        stands=None if notes else True,
        plot=_pairs(
            batch.head(_FIRST), f"The first {min(_FIRST, len(batch))} pairs by what their answers tell.", short=True
        ),
        sections=[
            Section("Pairs", parts=[_pairs(batch, f"All {len(batch):,} pairs, in the order to ask them.")]),
            Section("Other rules", parts=[gains]),
            Section("How to read this", parts=[Points(_READING)]),
        ],
    )
    return page.write(path)


def _pairs(batch: pd.DataFrame, caption: str, short: bool = False) -> PageTable:
    """Return pairs with what their answers tell, drawn; the reasons too unless it is to be short."""
    gain, alone = batch["gain"].tolist(), batch["information"].tolist()
    against = [f"against {item}" for item in batch["item_b"]]
    columns: list[PageColumn] = [
        Words("pair", batch["item_a"].tolist(), names=True, under=against),
        Bars("gain, to information alone", gain, gain, alone, zero=0.0),
        Numbers("gain", gain, [number(value) for value in gain]),
        Numbers("P(a)", batch["p_a"].tolist(), [percent(value) for value in batch["p_a"]]),
    ]
    if not short:
        rank = batch["entropy_rank"].tolist()
        columns.append(Numbers("evenness", rank, [f"{value:,}" for value in rank]))
        for name in (each for each in ("cost", "annotator") if each in batch):
            values = batch[name].tolist()
            columns.append(
                Numbers(name, values, [number(value) for value in values])
                if name == "cost"
                else Words(name, values, filters=True)
            )
        columns.append(Words("reason", batch["reason"].tolist(), long=True))
    return PageTable(caption, columns, len(batch))


def write_selection_study_report(study: SelectionStudy, path: str | os.PathLike[str], title: str) -> Path:
    """Write a self-contained page about a study of rules: whether choosing pairs pays in this world.

    Parameters
    ----------
    study
        From `prefdensity.selection_study.selection_study`.
    path
        File to write. It appears whole or not at all.
    title
        Heading of the page.

    Returns
    -------
    Path
        The file written.
    """
    table, last = study.table, study.table["labels"].max()
    ends = table[table["labels"] == last].set_index("rule")
    winner, seeds = study.winner, study.curves["seed"].nunique()
    chance, t = ends.loc[winner, "error_ratio"], ends.loc[winner, "t"]
    clear = t > _LEAST
    page = Page(
        title,
        f"{seeds} simulations of {table['rule'].nunique()} rules",
        [
            f"After {last:,} labels {winner} is wrong by {percent(chance)} of what random pairs leave wrong (1 - "
            "Spearman correlation with the true rewards).",
            f"{study.verdict()}.",
        ],
        verdict=[
            f"The lead over random pairs is {t:.1f} standard errors: "
            + ("clear." if clear else "not clear; run more seeds before relying on it."),
            *study.notes,
        ],
        next=[f"Choose pairs by {winner}." if clear else "Random pairs are as good here, and need no fit: ask those."],
        stands=True if clear and not study.notes else None,
        plot=_curves(study, ends),
        sections=[Section("Rules", parts=[_rules(table)])],
    )
    return page.write(path)


def _curves(study: SelectionStudy, ends: pd.DataFrame) -> Picture:
    """Return the learning curves, and in words where they end."""
    reached = ", ".join(f"{1 - ends.loc[rule, 'correlation']:.3g} by {rule}" for rule in ends.index)
    return Picture(
        svg(learning_curves(study), "curves"),
        "What is still wrong against the number of labels; bands are two standard errors.",
        f"Falling curves, one for each rule; at {ends['labels'].iloc[0]:,} labels: {reached}.",
    )


def _rules(table: pd.DataFrame) -> PageTable:
    ratio = table["error_ratio"].tolist()
    bars = Bars("error against random", [1.0] * len(table), ratio, ratio, zero=1.0)
    return plain("error_ratio: what is wrong by that of random pairs; t: paired, against random.", table, bars)
