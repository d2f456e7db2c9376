"""From checks to suspects: what may be wrong with a program, who shows it, and which program to try next.

Each rule names one check as its evidence. Rules are few because the checks are made to answer one question each:
`own tastes` is blind to reliability, `form fit` to the curve of choice, `order` and `calibration` to utilities.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from prefdensity.errors import ProgramError
from prefdensity.programs import Program, is_file, load_program, names
from prefdensity.suitability import suit

if TYPE_CHECKING:
    from prefdensity.comparisons import Comparisons

NOTEWORTHY = 2.5  # standard deviations from which a suspicion is voiced: about 1 in 100 per rule if there is nothing


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
        Annotators, pairs or items with what they contribute, those who contribute most first.
    next_programs
        Compositions that add what is missing and suit the data; the first is the one to try first.
    advice
        What to do.
    """

    name: str
    check: str
    evidence: float
    meaning: str
    carried_by: pd.DataFrame
    next_programs: tuple[str, ...]
    advice: str

    @property
    def bearers(self) -> str:
        """The three who contribute most, by name."""
        return ", ".join(_label(row) for row in self.carried_by.head(3).to_dict("records"))

    def __str__(self) -> str:
        said = f"{self.meaning}; most by {self.bearers}"
        return f"{self.name} ({self.check}, z = {self.evidence:.1f}): {said}. {self.advice}"


@dataclass(frozen=True)
class Rule:
    """From one check to one suspect.

    Attributes
    ----------
    cause, check
        The suspect and its evidence.
    sign
        +1 or -1: the side of the expectation that speaks for it; 0 both.
    steps
        Changes of the program that may cure it; see `changed`.
    otherwise
        Advice where no program here helps.
    behind
        Causes that also bring this check about: found together with one, the evidence counts half.
    never_with
        A layer of the program that leaves the suspect no room.
    """

    cause: str
    check: str
    sign: int
    steps: tuple[str, ...]
    otherwise: str
    behind: tuple[str, ...] = ()
    never_with: str = ""


TASTES, RELIABILITY = "annotators want different things", "annotators are not equally reliable"
TIE_HABITS = "annotators call ties unequally often"
INTRANSITIVE, MIXED = "preferences go round in circles", "each comparison mixes several preferences"

_RULES = (
    Rule(TASTES, "own tastes", 1, ("annotator_types", "annotator_tastes"), "Fit groups of annotators apart."),
    Rule(
        RELIABILITY,
        "slopes",
        1,
        ("reliability", "crowd_bt"),
        "Look at the annotators named.",
        behind=(TASTES, TIE_HABITS),
    ),
    Rule("an effect of the order", "order", 0, ("position_bias",), "Show every pair in both orders."),
    Rule(
        "annotators lean to a side unequally",
        "order habits",
        1,
        ("position_bias > annotator_position_bias",),
        "Look at the annotators named.",
    ),
    Rule("annotators lapse", "calibration", -1, ("lapse",), "Look at the upsets of clear favourites."),
    Rule("another curve of choice", "calibration", 1, ("logit > probit",), "Compare other choice rules."),
    Rule(INTRANSITIVE, "form fit", 1, ("intransitive",), "No utility expresses circles; report the pairs themselves."),
    Rule(MIXED, "form fit", 1, ("comparison_types",), "Record contexts and who judged, and fit them apart."),
    Rule(
        "ties depend otherwise on the difference",
        "ties",
        0,
        ("davidson > rao_kupper", "rao_kupper > davidson"),
        "Compare other tie rules.",
    ),
    Rule(TIE_HABITS, "tie habits", 1, ("tie_habits",), "Look at the annotators named."),
    Rule(
        "features do not say all about the items",
        "item totals",
        1,
        ("linear > items",),
        "Add item features.",
        never_with="items",
    ),
    Rule(
        "annotators repeat themselves",
        "self-agreement",
        1,
        (),
        "Count repeated judgements once: they carry less than fresh ones.",
        behind=(TASTES, RELIABILITY, INTRANSITIVE, MIXED),
    ),
)


def suspects(
    table: pd.DataFrame, parts: dict[str, pd.DataFrame], program: Program, data: Comparisons
) -> tuple[Cause, ...]:
    """Return suspected causes, the best supported first.

    Parameters
    ----------
    table, parts
        As in `checks.CheckReport`.
    program, data
        What was checked.
    """
    off = {row["check"]: row for row in table.to_dict("records") if row["verdict"] in ("doubtful", "contradicted")}
    ruled_out = MIXED if "clear cycles" in off else INTRANSITIVE
    layers = {each.name for each in program.layers}
    found = []
    for rule in (*_RULES, *_covariate_rules(off)):
        if rule.check in off and rule.cause != ruled_out and rule.never_with not in layers:
            z = off[rule.check]["z"]
            if (z * rule.sign if rule.sign else abs(z)) >= NOTEWORTHY:
                found.append((rule, abs(z)))
    return tuple(_cause(rule, z, off[rule.check]["meaning"], parts, program, data) for rule, z in _ranked(found))


def _covariate_rules(checks: Iterable[str]) -> list[Rule]:
    advice = "Compare within pairs of like items."
    return [
        Rule(f"an effect of {name.removeprefix('covariate ')}", name, 0, ("covariate_bias",), advice)
        for name in checks
        if name.startswith("covariate ")
    ]


def _ranked(found: list[tuple[Rule, float]]) -> list[tuple[Rule, float]]:
    """Sort by evidence, which counts half where another suspect also brings it about."""
    voiced = {rule.cause for rule, _ in found}
    return sorted(found, key=lambda pair: -pair[1] / (2 if voiced & set(pair[0].behind) else 1))


def _cause(
    rule: Rule, z: float, meaning: str, parts: dict[str, pd.DataFrame], program: Program, data: Comparisons
) -> Cause:
    tried = (changed(program, step) for step in rule.steps)
    suited = tuple(name for name in tried if name and _suits(name, data))
    compared = ", and compare" if suited[1:] else ""
    return Cause(
        name=rule.cause,
        check=rule.check,
        evidence=z,
        meaning=meaning,
        carried_by=parts[rule.check],
        next_programs=suited,
        advice=f"Try {' or '.join(suited)}{compared}." if suited else rule.otherwise,
    )


def changed(program: Program, step: str) -> str:
    """Return the name of a program after a step, or "" where the step does not apply.

    Parameters
    ----------
    program
        Where to start.
    step
        A layer to add (one type more where there are types already); "old > new": in place of another if there.
    """
    labels = [each.label for each in program.layers]
    known = {each.name: position for position, each in enumerate(program.layers)}
    old, _, new = step.rpartition(" > ")
    if not labels or not set(known) <= set(names()) or new not in names():
        return ""  # a user's own function or layers, or nothing of that name is shipped
    if old in known:
        labels[known[old]] = new
    elif new == "annotator_types" and new in known:
        types = dict(program.layers[known[new]].options).get("k", 2)
        labels[known[new]] = f"{new}(k={types + 1})"
    elif new in known:
        return ""
    elif not is_file(program.name):
        return f"{program.name}+{new}"
    else:
        labels.append(new)
    return "+".join(label for label in labels if label not in ("items", "logit")) or "bradley_terry"


def _suits(name: str, data: Comparisons) -> bool:
    try:
        suit(load_program(name), data)
    except ProgramError:
        return False
    return True


def _label(row: dict[Hashable, Any]) -> str:
    """Return the annotator, item or pair of a row of `carried_by`."""
    return f"{row['item_a']} / {row['item_b']}" if "item_a" in row else str(row.get("annotator", row.get("item")))
