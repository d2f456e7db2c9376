"""From checks to suspects: what may be wrong with a program, who shows it, and which program to try next.

Each rule names one check as its evidence. Rules are few because the checks are made to answer one question each:
`own tastes` is blind to reliability, `form fit` to the curve of choice, `order` and `calibration` to utilities.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from prefdensity.checking.remedies import remedies
from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.mends import FINDINGS
from prefdensity.programs.running import run
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.choices import Choices
    from prefdensity.data.comparisons import Comparisons

# Standard deviations from which a suspicion is voiced that the score of a layer confirms, and one that none is about.
NOTEWORTHY, ALONE = 2.5, 3.0
# Adjusted p-values up to which the score of a layer confirms a suspicion, or raises one by itself.
WELCOME, CLEAR = 0.05, 0.01


@dataclass(frozen=True, eq=False)
class Cause:
    """A suspected misspecification.

    Attributes
    ----------
    name
        In words.
    check, evidence
        The check that speaks for it, and by how many standard deviations.
    meaning
        What the data show.
    carried_by
        Annotators, pairs or items with what they contribute, those who contribute most first; empty for a layer that
        no check is about.
    remedies
        Programs that add what is missing and suit the data; the first is the one to try first.
    advice
        What to do.
    """

    name: str
    check: str
    evidence: float
    meaning: str
    carried_by: pd.DataFrame
    remedies: tuple[Program, ...]
    advice: str

    @property
    def next_programs(self) -> tuple[str, ...]:
        """The names of `remedies`."""
        return tuple(each.name for each in self.remedies)

    @property
    def bearers(self) -> str:
        """The three who contribute most, by name."""
        return ", ".join(_label(row) for row in self.carried_by.head(3).to_dict("records"))

    def __str__(self) -> str:
        said = f"{self.meaning}; most by {self.bearers}" if self.bearers else self.meaning
        return f"{self.name} ({self.check}, z = {self.evidence:.1f}): {said}. {self.advice}"


@dataclass(frozen=True)
class Rule:
    """From one check to one suspect.

    Attributes
    ----------
    finding, check
        The suspect, a key of `FINDINGS`, and its evidence.
    sign
        +1 or -1: the side of the expectation that speaks for it; 0 both.
    otherwise
        Advice where no layer answers it; it must be possible with the data as they are.
    reading
        Data -> advice to read the table otherwise, or "" where that would change nothing; it comes first.
    behind
        Findings that also bring this check about: found together with one, the evidence counts half.
    only_with
        What a program must need for the suspect to have a meaning.
    about
        What the suspect is about, where the finding is one of many alike: the name of the covariate.
    """

    finding: str
    check: str
    sign: int
    otherwise: str
    behind: tuple[str, ...] = ()
    only_with: str = ""
    reading: Callable[[Comparisons | Choices], str] = lambda data: ""
    about: str = ""

    @property
    def cause(self) -> str:
        """The suspect in words."""
        return f"an effect of {self.about}" if self.about else FINDINGS[self.finding]


@dataclass(frozen=True)
class Suspicion:
    """A rule that applies, by how many standard deviations, and what its best layer would gain (NaN: nobody knows).

    `meaning`: in words, where the check has none for it.
    """

    rule: Rule
    z: float
    gain: float
    meaning: str = ""


def _count_once(table: Comparisons | Choices) -> str:
    data = table.pairs()
    whole = (data.count == np.round(data.count)).all()
    if data.annotator is None or not whole or data.n_judgements == data.repeats_once().n_judgements:
        return ""
    otherwise = "" if data.context is not None else "; if about something else, name the context column"
    return f"Where the same was asked again, count it once: data.repeats_once() (--repeats once){otherwise}."


RULES = (
    Rule("tastes", "own tastes", 1, "Fit groups of annotators apart."),
    Rule("care", "slopes", 1, "Look at the annotators named.", behind=("tastes", "tie habits")),
    Rule("order", "order", 0, "Fit the judgements of either order apart, and see whether the ranking stands."),
    Rule("order habits", "order habits", 1, "Look at the annotators named."),
    Rule("lapses", "calibration", -1, "Look at the upsets of clear favourites."),
    Rule("curve", "calibration", 1, "Compare other choice rules."),
    Rule("circles", "form fit", 1, "No utility expresses circles; report the pairs themselves."),
    Rule("mixture", "form fit", 1, "Read the ranking as an average over judgements of several kinds."),
    Rule("tie curve", "ties", 0, "Compare other tie rules."),
    Rule("tie habits", "tie habits", 1, "Look at the annotators named."),
    Rule("features", "item totals", 1, "Read the ranking as what the features say, and no more.", only_with="features"),
    Rule(
        "repeats",
        "self-agreement",
        1,
        "Read intervals as too short: an annotator's judgements of one pair are not independent.",
        behind=("tastes", "care", "circles", "mixture"),
        reading=_count_once,
    ),
)


def suspects(
    table: pd.DataFrame,
    parts: dict[str, pd.DataFrame],
    steps: pd.DataFrame,
    program: Program,
    data: Comparisons | Choices,
    own: Sequence[Layer] = (),
    made: Mapping[str, Program] = MappingProxyType({}),
) -> tuple[Cause, ...]:
    """Return suspected causes, the best supported first.

    Parameters
    ----------
    table, parts, steps
        As in `report.CheckReport`.
    program, data
        What was checked.
    own
        Layers to offer beside the shipped ones.
    made
        Layer, as in `steps` -> the program with it.
    """
    off = {row["check"]: row for row in table.to_dict("records") if row["verdict"] in ("doubtful", "contradicted")}
    ruled_out = "mixture" if "clear cycles" in off else "circles"
    meanings = dict(zip(table["check"], table["meaning"], strict=True))
    most, covered = steps["gain"].max(), set()
    found = []
    for rule in (*RULES, *covariate_rules(parts)):
        answers = {each.added.label for each in remedies(program, rule.finding, own)}
        covered |= answers
        meant = rule.finding != ruled_out and (not rule.only_with or rule.only_with in program.needs)
        if rule.check in parts and meant:
            z = off[rule.check]["z"] if rule.check in off else 0.0
            tried = steps[steps["layer"].isin(answers)]
            found.append(_suspicion(rule, z * rule.sign if rule.sign else abs(z), tried, most))
    for row in steps[~steps["layer"].isin(covered)].to_dict("records"):
        rule = Rule("", f"score of {row['layer']}", 0, f"Try {row['program']}.", about=row["layer"])
        found.append(_suspicion(rule, 0.0, steps[steps["layer"] == row["layer"]], most))
    told = [
        _cause(each.rule, each.z, each.meaning or meanings[each.rule.check], parts, program, data, own)
        for each in ranked([each for each in found if each is not None])
    ]
    alone = {f"score of {layer}": (program,) for layer, program in made.items()}
    return tuple(replace(each, remedies=each.remedies or alone.get(each.check, ())) for each in told)


def _suspicion(rule: Rule, z: float, tried: pd.DataFrame, most: float) -> Suspicion | None:
    """Return what a check that is off by z, on the side that speaks for a rule, and the scores of layers come to.

    Where layers that answer it were `tried`, their scores must confirm it. A score may also see alone what the check
    does not, if no other layer gains more than it does (`most`).
    """
    seen = z >= (ALONE if tried.empty else NOTEWORTHY)
    if tried.empty:
        return Suspicion(rule, z, np.nan) if seen else None
    if not seen and rule.about and rule.finding:  # the score is about all of its kind together
        return None
    best = tried.sort_values("p").to_dict("records")[0]
    if best["p_adjusted"] > (WELCOME if seen else CLEAR) or (not seen and best["gain"] < most):
        return None
    if seen:
        return Suspicion(rule, z, tried["gain"].max())
    told = f"the score of {best['layer']} shows what no check does (adjusted p = {best['p_adjusted']:.2g})"
    return Suspicion(rule, float(-ndtri(best["p"] / 2)), tried["gain"].max(), told)


def covariate_rules(checks: Iterable[str]) -> list[Rule]:
    """Return a rule for each check of a covariate among `checks`."""
    advice = "Compare within pairs of like items."
    return [
        Rule("covariates", name, 0, advice, about=name.removeprefix("covariate "))
        for name in checks
        if name.startswith("covariate ")
    ]


def ranked(found: list[Suspicion]) -> list[Suspicion]:
    """Sort by expected gain; where no score tells it, half the squared evidence is the guess.

    Evidence counts half where another suspect also brings it about.
    """
    voiced = {each.rule.finding for each in found}

    def gain(each: Suspicion) -> float:
        guess = (each.z / (2 if voiced & set(each.rule.behind) else 1)) ** 2 / 2
        return guess if np.isnan(each.gain) else each.gain

    return sorted(found, key=gain, reverse=True)


def _cause(
    rule: Rule,
    z: float,
    meaning: str,
    parts: dict[str, pd.DataFrame],
    program: Program,
    data: Comparisons | Choices,
    own: Sequence[Layer],
) -> Cause:
    suited = [each for each in remedies(program, rule.finding, own) if suits(each.program, data)]
    how = " or ".join(map(str, suited))
    compared = ", and compare" if suited[1:] else ""
    return Cause(
        name=rule.cause,
        check=rule.check,
        evidence=z,
        meaning=meaning,
        carried_by=parts.get(rule.check, pd.DataFrame()),
        remedies=tuple(each.program for each in suited),
        advice=rule.reading(data) or (f"Try {how}{compared}." if suited else rule.otherwise),
    )


def suits(program: Program, data: Comparisons | Choices) -> bool:
    """Say whether a program can be fitted to the data, and runs on them."""
    try:
        suit(program, data)
        run(program, cells_of(data.take(np.arange(1)), program.outcomes, program.needs), {}, 1, seed=0)
    except ProgramError:
        return False
    return True


def _label(row: dict[Hashable, Any]) -> str:
    """Return the annotator, item, pair or set of a row of `carried_by`."""
    if "item_a" in row:
        return f"{row['item_a']} / {row['item_b']}"
    return str(next(row[each] for each in ("annotator", "item", "set") if each in row))
