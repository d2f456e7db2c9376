"""What a check advises: programs that compose, suit and run, and readings that change the table."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from truths import simulated, table

import prefdensity
from prefdensity.checking.causes import RULES, changed, covariate_rules, suits
from prefdensity.data import simulate
from prefdensity.errors import ProgramError
from prefdensity.inference.view import View
from prefdensity.programs.suitability import suit
from prefdensity.programs.tabulate import cells_of


def everything_known(seed=0):
    """A table that records all there is to record, with ties: each program may find what it needs."""
    data, _ = simulate.population(6, 8, 600, seed=seed, tie_strength=0.4)
    rng = np.random.default_rng(seed)
    first = rng.choice([-1, 1], len(data)).astype(np.int8)
    return replace(
        data,
        first=first,
        contexts=("p", "q"),
        context=rng.integers(2, size=len(data)),
        covariate_names=("length",),
        covariates=rng.normal(size=(len(data), 1)),
        feature_names=("f", "g", "h"),
        item_features=rng.normal(size=(6, 3)),
        measure_names=("length", "log_reference"),
        item_measures=rng.uniform(1, 9, size=(6, 2)) * [1, -1],
    )


def steps():
    rules = (*RULES, *covariate_rules(["covariate length"]))
    return sorted({step for rule in rules for step in rule.steps})


@pytest.mark.parametrize("name", prefdensity.names())
def test_every_suggestion_composes_with_every_program_and_runs(name):
    """What is suggested keeps the rest of the program, adds what it says, and has a finite density on the data."""
    tied = everything_known()
    suggested = 0
    for base in (name, f"{name}+davidson+reliability"):
        try:
            program = prefdensity.load_program(base)
            data = tied if "tie" in program.outcomes else tied.without_ties()
            suit(program, data)
        except ProgramError:
            continue  # for rankings, ratings, judged units or graded answers, or two of a kind
        for step in steps():
            better = changed(program, step)
            if not better or not suits(better, data):
                continue
            suggested += 1
            made = prefdensity.load_program(better)
            taken = [each.name for each in made.layers]
            written = [each.label.replace('"', "'") for each in made.layers]
            exchanged = step.rpartition(" => ")[2] if " => " in step else ""
            assert written.count(exchanged) if exchanged else taken.count(step.rpartition(" > ")[2]) == 1
            out = step.rpartition(" > ")[0]
            kept = [each.name for each in program.layers if out not in (each.name, each.stage)]
            assert set(kept) <= set(taken), better
            view = View(made, cells_of(data, made.outcomes, made.needs))
            assert torch.isfinite(view.log_joint(view.prior(2, 0))).all(), better
    if name in ("bradley_terry", "davidson", "linear", "annotator_types"):
        assert suggested > 5


@pytest.mark.parametrize("program", ["bradley_terry+annotator_position_bias", "bradley_terry+position_bias"])
def test_what_is_there_is_not_suggested_again(program):
    data = everything_known().without_ties()
    named = changed(prefdensity.load_program(program), "position_bias")
    assert not named or not suits(named, data)


def test_programs_with_a_name_of_their_own_are_spelled_out():
    mine = prefdensity.compose("davidson", "position_bias", name="mine")
    assert set(changed(mine, "lapse").split("+")) == {"davidson", "position_bias", "lapse"}


def test_only_what_can_be_done_is_advised():
    """Repeated answers are counted once where there are any; data that are finished are not to be collected anew."""
    rng = np.random.default_rng(0)
    data = simulated("luce", 0)
    again = data.take(np.concatenate([np.arange(len(data))] * 3))
    report = prefdensity.check(prefdensity.fit("bradley_terry", again, draws=100), again)
    cause = next(cause for cause in report.causes if cause.name == "annotators repeat themselves")
    assert "count it once: data.repeats_once() (--repeats once)" in cause.advice
    once = again.repeats_once()
    mended = prefdensity.check(prefdensity.fit("bradley_terry", once, draws=100), once)
    assert "annotators repeat themselves" not in [cause.name for cause in mended.causes]
    # the same answer to the same pair the other way round: nothing is asked twice, and nothing can be counted once
    who, a = rng.integers(30, size=600), rng.integers(8, size=600)
    b = (a + rng.integers(1, 8, size=600)) % 8
    both = table(who, a, b, rng.integers(2, size=600).astype(np.int8)).repeats_once()
    turned = replace(both.swapped(), first=both.first)
    pairs = {name: np.concatenate([getattr(x, name) for x in (both, turned)]) for name in
             ("item_a", "item_b", "outcome", "count", "annotator", "first")}  # fmt: skip
    both = replace(both, **pairs)
    both = both.repeats_once()
    report = prefdensity.check(prefdensity.fit("bradley_terry", both, draws=100), both)
    cause = next(cause for cause in report.causes if cause.name == "annotators repeat themselves")
    assert cause.advice.startswith("Read intervals as too short")
    words = " ".join(rule.otherwise for rule in RULES).lower()
    assert not any(undoable in words for undoable in ("show every", "record ", "ask ", "collect"))
