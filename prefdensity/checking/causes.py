"""From checks to suspects: what may be wrong with a program, who shows it, and which program to try next.

Each rule names one check as its evidence. Rules are few because the checks are made to answer one question each:
`own tastes` is blind to reliability, `form fit` to the curve of choice, `order` and `calibration` to utilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from prefdensity.errors import ProgramError
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.loading import shipped, spells
from prefdensity.programs.running import run
from prefdensity.programs.shelf import names
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of

if TYPE_CHECKING:
    from prefdensity.data.comparisons import Comparisons

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
        Advice where no program here helps; it must be possible with the data as they are.
    reading
        Data -> advice to read the table otherwise, or "" where that would change nothing; it comes first.
    behind
        Causes that also bring this check about: found together with one, the evidence counts half.
    only_with
        What a program must need for the suspect to have a meaning.
    """

    cause: str
    check: str
    sign: int
    steps: tuple[str, ...]
    otherwise: str
    behind: tuple[str, ...] = ()
    only_with: str = ""
    reading: Callable[[Comparisons], str] = lambda data: ""


def _count_once(data: Comparisons) -> str:
    whole = (data.count == np.round(data.count)).all()
    if data.annotator is None or not whole or data.n_judgements == data.repeats_once().n_judgements:
        return ""
    otherwise = "" if data.context is not None else "; if about something else, name the context column"
    return f"Where the same was asked again, count it once: data.repeats_once() (--repeats once){otherwise}."


TASTES, RELIABILITY = "annotators want different things", "annotators are not equally reliable"
TIE_HABITS = "annotators call ties unequally often"
INTRANSITIVE, MIXED = "preferences go round in circles", "each comparison mixes several preferences"

RULES = (
    Rule(TASTES, "own tastes", 1, ("annotator_types", "annotator_tastes"), "Fit groups of annotators apart."),
    Rule(
        RELIABILITY,
        "slopes",
        1,
        ("reliability", "crowd_bt"),
        "Look at the annotators named.",
        behind=(TASTES, TIE_HABITS),
    ),
    Rule(
        "an effect of the order",
        "order",
        0,
        ("position_bias", "reliability(scales='margin') => reliability"),
        "Fit the judgements of either order apart, and see whether the ranking stands.",
    ),
    Rule(
        "annotators lean to a side unequally",
        "order habits",
        1,
        ("position_bias > annotator_position_bias", "position_bias & reliability => reliability(scales='margin')"),
        "Look at the annotators named.",
    ),
    Rule("annotators lapse", "calibration", -1, ("lapse",), "Look at the upsets of clear favourites."),
    Rule("another curve of choice", "calibration", 1, ("logit > probit",), "Compare other choice rules."),
    Rule(INTRANSITIVE, "form fit", 1, ("intransitive",), "No utility expresses circles; report the pairs themselves."),
    Rule(
        MIXED, "form fit", 1, ("comparison_types",), "Read the ranking as an average over judgements of several kinds."
    ),
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
        ("utility > items",),
        "Read the ranking as what the features say, and no more.",
        only_with="features",
    ),
    Rule(
        "annotators repeat themselves",
        "self-agreement",
        1,
        (),
        "Read intervals as too short: an annotator's judgements of one pair are not independent.",
        behind=(TASTES, RELIABILITY, INTRANSITIVE, MIXED),
        reading=_count_once,
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
    found = []
    for rule in (*RULES, *covariate_rules(off)):
        if rule.check in off and rule.cause != ruled_out and (not rule.only_with or rule.only_with in program.needs):
            z = off[rule.check]["z"]
            if (z * rule.sign if rule.sign else abs(z)) >= NOTEWORTHY:
                found.append((rule, abs(z)))
    return tuple(_cause(rule, z, off[rule.check]["meaning"], parts, program, data) for rule, z in _ranked(found))


def covariate_rules(checks: Iterable[str]) -> list[Rule]:
    """Return a rule for each check of a covariate among `checks`."""
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
    tried = {name: step for step in rule.steps if (name := changed(program, step))}
    suited = tuple(name for name in tried if suits(name, data))
    how = " or ".join(name + _replaced(program, tried[name]) for name in suited)
    compared = ", and compare" if suited[1:] else ""
    return Cause(
        name=rule.cause,
        check=rule.check,
        evidence=z,
        meaning=meaning,
        carried_by=parts[rule.check],
        next_programs=suited,
        advice=rule.reading(data) or (f"Try {how}{compared}." if suited else rule.otherwise),
    )


def changed(program: Program, step: str) -> str:
    """Return the name of a program after a step, or "" where the step does not apply.

    Parameters
    ----------
    program
        Where to start.
    step
        A layer to add (one type more where there are types already); "old > new": in the place of the layer or of the
        stage `old` if the program has it, otherwise added too; "beside & old => new": only where both are there, with
        the arguments written, in the place of `old`.
    """
    if " => " in step:
        return _swapped(program, *step.split(" => "))
    there = names()
    old, _, new = step.rpartition(" > ")
    if not program.layers or new not in there or any(each.name not in there for each in program.layers):
        return ""  # a user's own function or layers, or nothing of that name is shipped
    known = {each.name: each for each in program.layers}
    out, label = _taken_out(program, old), new
    if new in known and known[new].stage == "types":
        out, label = known[new], f"{new}(k={dict(known[new].options).get('k', 2) + 1})"
    elif new in known:
        return ""
    kept = {each.label for each in program.layers if each is not out}
    try:
        name = _named(program, out, label)
        return name if kept <= {each.label for each in shipped(name).layers} else ""
    except ProgramError:  # there is no room for it
        return ""


def _swapped(program: Program, there: str, new: str) -> str:
    *_, old = wanted = there.split(" & ")
    labels = {each.label: each for each in program.layers}
    return _named(program, labels[old], new) if set(wanted) <= set(labels) else ""


def _named(program: Program, out: Layer | None, label: str) -> str:
    """Return the name of a program with a layer added, in the place of another if one goes out, as short as before."""
    terms = re.split(r"\+(?![^(]*\))", program.name) if spells(program) else []
    if terms and out is None:
        return f"{program.name}+{label}"
    if out is None:
        return _shortest([*(each.label for each in program.layers), label])
    if len(terms) > 1 and out.label in terms:
        return "+".join(label if term == out.label else term for term in terms)
    return _shortest([label if each is out else each.label for each in program.layers])


def _taken_out(program: Program, old: str) -> Layer | None:
    """Return the layer of a program that a step takes out: by its name or its stage."""
    return next((each for each in program.layers if old and old in (each.name, each.stage)), None)


def _shortest(labels: list[str]) -> str:
    """Return the labels without those that composition adds by itself, or the one name of the whole."""
    whole = shipped("+".join(labels)).layers
    for label in list(labels):
        rest = [each for each in labels if each != label]
        if rest and shipped("+".join(rest)).layers == whole:
            labels = rest
    alone = (name for name in names() if shipped(name).layers == whole)
    return next(alone, labels[0]) if len(labels) == 1 else "+".join(labels)


def _replaced(program: Program, step: str) -> str:
    out = _taken_out(program, step.rpartition(" > ")[0])
    return f" (in the place of {out.label})" if out else ""


def suits(name: str, data: Comparisons) -> bool:
    """Say whether a program composes, can be fitted to the data, and runs on them."""
    try:
        program = shipped(name)
        suit(program, data)
        run(program, cells_of(data.take(np.arange(1)), program.outcomes, program.needs), {}, 1, seed=0)
    except ProgramError:
        return False
    return True


def _label(row: dict[Hashable, Any]) -> str:
    """Return the annotator, item or pair of a row of `carried_by`."""
    return f"{row['item_a']} / {row['item_b']}" if "item_a" in row else str(row.get("annotator", row.get("item")))
