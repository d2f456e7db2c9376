"""Parts of a report about the check: what is off, who shows it, what a layer would gain, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from prefdensity.checking.report import SEEN
from prefdensity.reporting import plots
from prefdensity.reporting.pages import Part, number, signed, svg
from prefdensity.reporting.parts import Bars, Numbers, PageColumn, PageTable, Picture, Points, Words
from prefdensity.words import percent

if TYPE_CHECKING:
    import pandas as pd

    from prefdensity.checking.report import CheckReport

_FAR = 8.0  # standard deviations drawn
_KINDS = {"as expected": "", "doubtful": "doubtful", "contradicted": "off"}
_SHOWN = 8  # of those who contribute to a departure


def suspicions(checked: CheckReport) -> list[Part]:
    """Return what may be wrong, the best supported first, each with those who show it."""
    if not checked.causes:
        return []
    said = []
    for cause in checked.causes:
        bearers = f"; most by {cause.bearers}" if cause.bearers else ""
        said.append(
            Markup("<b>{}</b> ({}, z = {}): {}{}. {}").format(
                cause.name, cause.check, signed(cause.evidence, ".1f"), cause.meaning, bearers, cause.advice
            )
        )
    found: list[Part] = [Points(said, numbered=True)]
    for cause in checked.causes[:2]:
        if len(cause.carried_by):
            found.append(_bearers(cause.check, cause.carried_by))
    return found


def _bearers(check: str, frame: pd.DataFrame) -> Part:
    """Return those who contribute most to the departure of a check."""
    shown = frame.head(_SHOWN)
    labels = [name for name in shown.columns if name not in ("judgements", "observed", "expected", "z")]
    columns: list[PageColumn] = [
        Words(name, shown[name].astype(str).tolist(), names=not k) for k, name in enumerate(labels)
    ]
    for name in ("judgements", "observed", "expected", "z"):
        if name in shown:
            values = shown[name].tolist()
            form = "{:,.10g}".format if name == "judgements" else number
            columns.append(Numbers(name, values, [form(value) for value in values]))
    return PageTable(f"Who departs most from what {check} expects.", columns, len(shown))


def departures(checked: CheckReport) -> Part:
    """Return how far the data lie from tables replicated by the program, one row for each check."""
    table = checked.table[checked.table["verdict"] != "not available"]
    rows = table.to_dict("records")
    z = [row["z"] for row in rows]
    columns: list[PageColumn] = [
        Words("check", [row["check"] for row in rows], names=True),
        Bars(
            "z: data minus expected, in sd", [min(value, 0.0) for value in z], z,
            [max(value, 0.0) for value in z], kinds=[_KINDS[row["verdict"]] for row in rows], band=(-2, 2), limit=_FAR,
        ),
        Words("verdict", [row["verdict"] for row in rows]),
        Numbers("z", z, [signed(value, ".1f") for value in z]),
        Numbers("data", [row["statistic"] for row in rows], [number(row["statistic"]) for row in rows]),
        Numbers("expected", [row["expected"] for row in rows], [number(row["expected"]) for row in rows]),
        Numbers("tail", [row["tail"] for row in rows], [number(row["tail"], 2) for row in rows]),
        Words("meaning", [row["meaning"] for row in rows], long=True),
    ]  # fmt: skip
    missing = checked.table[checked.table["verdict"] == "not available"].to_dict("records")
    off = sum(row["verdict"] != "as expected" for row in rows)
    left = (
        "Not available: " + ", ".join(f"{row['check']} ({row['meaning']})" for row in missing) + "." if missing else ""
    )
    caption = (
        f"{off or 'None'} of {len(rows)} checks {'is' if off == 1 else 'are'} off, against {checked.replicates} tables "
        f"replicated by the fitted program; within 2 sd is nothing unusual, and beyond {_FAR:g} an edge is drawn."
    )
    return PageTable(caption, columns, len(rows), left)


def additions(checked: CheckReport) -> list[Part]:
    """Return the layers that the data ask for, what would gain most first."""
    seen = checked.steps[(checked.steps["p_adjusted"] <= SEEN) & (checked.steps["gain"] > 0)]
    if not len(seen):
        return []
    rows = seen.to_dict("records")
    columns: list[PageColumn] = [
        Words("program", [row["program"] for row in rows], names=True),
        Numbers("expected gain in elpd (nats)", [row["gain"] for row in rows], [f"{row['gain']:.1f}" for row in rows]),
        Numbers("adjusted p", [row["p_adjusted"] for row in rows], [_small(row["p_adjusted"]) for row in rows]),
    ]
    return [PageTable("What a layer would gain, as its score tells.", columns, len(rows))]


def _small(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def calibration(checked: CheckReport) -> Part:
    """Return how often favourites win, against how often the program says so."""
    table = checked.calibration_curve
    off = int(((table["observed"] < table["lower"]) | (table["observed"] > table["upper"])).sum())
    last = table.iloc[-1]
    seen = (
        f"{len(table)} dots along the diagonal from 50% upwards, {off or 'none'} outside the range of replicated "
        f"tables; the clearest favourites, given {percent(last['predicted'])}, win {percent(last['observed'])}."
    )
    caption = (
        "How often favourites win against how often the program says so; orange where replicated tables rarely lie."
    )
    return Picture(svg(plots.calibration_curve(table), "calibration"), caption, f"Calibration: {seen}")
