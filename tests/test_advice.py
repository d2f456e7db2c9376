"""What a check advises: programs that compose, suit and run, and readings that change the table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from truths import simulated, table

import prefdensity
from prefdensity import layer
from prefdensity.checking.causes import RULES, suits
from prefdensity.checking.remedies import remedies
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import ProgramError
from prefdensity.inference.mode import prior_draws
from prefdensity.inference.view import View
from prefdensity.programs.loading import load_program
from prefdensity.programs.mends import FINDINGS, Mend
from prefdensity.programs.shelf import find
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
        for remedy in (each for finding in FINDINGS for each in remedies(program, finding)):
            made = remedy.program
            if not suits(made, data):
                continue
            suggested += 1
            assert prefdensity.load_program(made.name).layers == made.layers
            assert [each.label for each in made.layers].count(remedy.added.label) == 1
            kept = {each.name for each in program.layers if each != remedy.out}
            assert kept <= {each.name for each in made.layers}, made.name
            view = View(made, cells_of(data, made.outcomes, made.needs))
            assert torch.isfinite(view.log_joint(prior_draws(view, 2, 0))).all(), made.name
    if name in ("bradley_terry", "davidson", "linear", "annotator_types"):
        assert suggested > 5


def test_every_finding_but_repeats_has_a_rule_and_an_answer():
    assert {rule.finding for rule in RULES} | {"covariates"} == set(FINDINGS)
    answered = {mend.finding for name in prefdensity.names() for mend in getattr(find(name), "mends", ())}
    assert answered == set(FINDINGS) - {"repeats"}
    with pytest.raises(ProgramError, match="there is no finding 'haste' to mend; findings are tastes, care"):
        layer("margin", mends="haste")


@pytest.mark.parametrize("program", ["bradley_terry+position_bias(by='annotator')", "bradley_terry+position_bias"])
def test_what_is_there_is_not_suggested_again(program):
    data = everything_known().without_ties()
    found = remedies(prefdensity.load_program(program), "order")
    assert not any(suits(each.program, data) for each in found)


def test_programs_with_a_name_of_their_own_are_spelled_out():
    mine = prefdensity.compose("davidson", "position_bias", name="mine")
    (found,) = remedies(mine, "lapses")
    assert set(found.program.name.split("+")) == {"davidson", "position_bias", "lapse"}


@layer("noise", mends=Mend("lapses", rank=-1))
def distraction(log_prob, data):
    rate = pyro.sample("distraction", dist.Beta(1.0, 9.0)).unsqueeze(-1)
    return ((1 - rate) * log_prob.exp() + rate / log_prob.shape[-1]).log()


@layer("margin", needs=["first"], mends="order")
def favour(margin, data):
    return margin + pyro.sample("favour", dist.Normal(0.0, 0.5)) * data.first


def test_layers_of_ones_own_are_offered_and_given_way_to():
    plain = prefdensity.load_program("bradley_terry")
    first, second = remedies(plain, "lapses", [distraction])
    assert [each.name for each in first.program.layers] == ["utility_scale", "items", "logit", "distraction"]
    assert str(first) == "your program with distraction"
    assert second.program.name == "bradley_terry+lapse"
    # an own layer that answers a finding counts as an answer, and gives way like the shipped one
    own = prefdensity.compose("davidson", favour)
    assert "favour" in [each.name for each in next(iter(remedies(own, "lapses"))).program.layers]
    assert list(remedies(own, "order")) == []
    (better,) = remedies(own, "order habits")
    assert better.out is favour
    assert {each.name for each in better.program.given} == {"davidson", "position_bias"}
    beside = [str(each.program.name) for each in remedies(prefdensity.compose(own, "reliability"), "order habits")]
    assert any("reliability(scales='margin')" in each for each in beside)


def test_a_check_offers_layers_of_ones_own():
    data = simulated("lapse", 1, each=300)
    report = prefdensity.check(prefdensity.fit("bradley_terry", data, draws=100), data, layers=[distraction])
    cause = next(cause for cause in report.causes if cause.name == "annotators lapse")
    assert cause.remedies[0].layers[-1] is distraction
    assert "Try your program with distraction or bradley_terry+lapse" in cause.advice
    mended = prefdensity.fit(cause.remedies[0], data, draws=100)
    assert mended.draws["distraction"].mean() > 0.02


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


def test_labels_of_which_there_is_one_are_warned_of():
    frame = pd.DataFrame({"item_a": list("xyxz"), "item_b": list("yzzx"), "outcome": list("abab"), "cat": "only"})
    data = Comparisons.from_frame(frame.assign(annotator="Ann"), groups=["cat"])
    for name, need in (("tastes(by='cat')", "'cat', and all is of one, 'only'"),
                       ("reliability", "'annotator', and all is of one, 'Ann'")):  # fmt: skip
        (said,) = suit(load_program(f"bradley_terry+{name}"), data)
        assert f"reads {need}: what is its own cannot be told from what is common to all" in said
    assert suit(load_program("bradley_terry"), data) == []
