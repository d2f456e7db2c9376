"""What predictive checks found, for reading."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from prefdensity.checking.causes import Cause
from prefdensity.shown import Tabled

CERTAIN = 4.0  # standard deviations from which data contradict a program
SEEN = 0.05  # adjusted p-value up to which a layer is told


@dataclass(frozen=True, eq=False, repr=False)
class CheckReport(Tabled):
    """What the data say against a program; `print` it.

    Attributes
    ----------
    program, source
        What was checked, and the data.
    table
        check, statistic, expected, tail, z, verdict, meaning: one row for each check. `z` is the distance from
        what is expected in standard deviations between replicated tables, of cube roots where the statistic is a sum
        of squares; verdicts are "as expected", "doubtful", "contradicted" and "not available".
    causes
        Suspects, the best supported first; empty if nothing is found.
    steps
        What to try next: a row for each layer that could be added, what would gain most first; see `score.table`.
    untried
        Layer -> why it was not tried.
    parts
        check -> frame of annotators, pairs or items (label, judgements, observed, expected, z), those who
        contribute most to its departure first.
    calibration_curve
        As returned by `check.calibration_curve`.
    replicates
        Number of replicated tables.
    warnings
        Sentences to read before relying on it.
    """

    program: str
    source: str
    table: pd.DataFrame
    causes: tuple[Cause, ...]
    steps: pd.DataFrame
    untried: dict[str, str]
    parts: dict[str, pd.DataFrame]
    calibration_curve: pd.DataFrame
    replicates: int
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What all checks together say of the program: "stands", "in doubt" or "contradicted".

        Contradicted from a check 4 standard deviations off, which fewer than 1 in 100 programs that are right show; in
        doubt from a cause or a contradicted check, which about 1 in 20 of them show.
        """
        off = self._off()
        if (off["z"].abs() >= CERTAIN).any() or any(cause.evidence >= CERTAIN for cause in self.causes):
            return "contradicted"
        return "in doubt" if self.causes or (off["verdict"] == "contradicted").any() else "stands"

    @property
    def headline(self) -> str:
        """One sentence: what the data say against the program, or that they say nothing."""
        if self.verdict == "stands":
            return f"Nothing here speaks against {self.program}."
        said = [f"{cause.name} (z = {cause.evidence:.1f})" for cause in self.causes[:1]]
        for farthest in self._off().sort_values("z", key=abs).tail(1).to_dict("records"):
            if not self.causes or self.causes[0].evidence < CERTAIN <= abs(farthest["z"]):
                said.append(f"{farthest['check']} is off by z = {farthest['z']:.1f}: {farthest['meaning']}")
        rest = len(self.causes) - 1
        more = f"; and {rest} more suspicion{'s' if rest > 1 else ''}" if rest > 0 else ""
        found = "; ".join(said) + more
        if self.verdict == "contradicted":
            return f"The data contradict {self.program}: {found}."
        return f"The data cast doubt on {self.program}: {found}."

    @property
    def advice(self) -> str:
        """What to do next."""
        if self.causes:
            return self.causes[0].advice
        if self.verdict == "stands":
            return "Let compare say whether another program predicts better; a check cannot."
        return "No program here is known to mend this: compare others, and look at the parts of the checks."

    @property
    def caution(self) -> str:
        """What to say before any number of a program that the data contradict, or nothing."""
        if self.verdict != "contradicted":
            return ""
        return f"The data contradict {self.program}: every number here is what it would say if it were right."

    def _off(self) -> pd.DataFrame:
        return self.table[self.table["verdict"].isin(["doubtful", "contradicted"])]

    def _next(self) -> list[str]:
        """Return lines on the layers that would gain something and that the data show."""
        seen = self.steps[(self.steps["p_adjusted"] <= SEEN) & (self.steps["gain"] > 0)]
        said = [
            f"  {row['layer']}: {row['gain']:.1f} nats (adjusted p = {row['p_adjusted']:.2g})"
            for row in seen.to_dict("records")
        ]
        return ["What a layer would gain in elpd, as its score tells:", *said] if said else []

    def suspects(self) -> pd.DataFrame:
        """Return the causes as a frame: cause, check, evidence (z), meaning, carried_by (the first), advice."""
        return pd.DataFrame(
            [(c.name, c.check, c.evidence, c.meaning, c.bearers, c.advice) for c in self.causes],
            columns=["cause", "check", "evidence", "meaning", "carried_by", "advice"],
        )

    def __str__(self) -> str:
        lines = [f"{self.program} against {self.source}, {self.replicates} replicated tables", self.headline]
        lines += [f"  {number}. {cause}" for number, cause in enumerate(self.causes, 1)]
        lines += self._next()
        lines.append(f"{'check':<16}{'data':>9}{'expected':>10}{'tail':>7}{'z':>7}  verdict")
        for row in self.table.to_dict("records"):
            if row["verdict"] == "not available":
                lines.append(f"{row['check']:<16}{'':33}  not available: {row['meaning']}")
            else:
                numbers = f"{row['statistic']:>9.4g}{row['expected']:>10.4g}{row['tail']:>7.2f}{row['z']:>7.1f}"
                lines.append(f"{row['check']:<16}{numbers}  {row['verdict']}")
        lines.append("Tails rank evidence; they are no p-values, and most are too large.")
        return "\n".join(lines + [f"- {warning}" for warning in self.warnings])
