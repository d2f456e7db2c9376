"""What a program calls probabilities is looked at before it is fitted, and the layer at fault is named."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from contract import table
from test_judge_programs import units_of

import prefdensity
from prefdensity import compose, layer
from prefdensity.errors import ProgramError
from prefdensity.inference.fitting import viewed

DATA = table(rows=60)


@layer("noise")
def stretched(log_prob, data):
    return 3 * log_prob + 1


@layer("noise")
def leaking(log_prob, data):
    return log_prob + torch.tensor([0.0, -1e-4, 0.0])


@layer("margin")
def undefined(margin, data):
    return margin * float("nan")


@layer("margin")
def logs(margin, data):
    return (data.item_a - 1.0).log() + margin


@layer("noise")
def forgetful(log_prob, data):
    log_prob + 1


@layer("noise")
def narrow(log_prob, data):
    return log_prob[..., :2].log_softmax(-1)


@layer("utility")
def boundless(data):
    with pyro.plate("item", data.n_items, dim=-1):
        return 1 / (pyro.sample("utility", dist.Normal(0.0, 1.0)) * 0)


WRONG = [
    (stretched, "stretched returns probabilities that add up to"),
    (leaking, "leaking returns probabilities that add up to"),
    (undefined, "undefined returns values that are not finite"),
    (logs, "logs returns values that are not finite"),
    (forgetful, "forgetful returns NoneType; a layer here is"),
    (narrow, "narrow returns 2 outcomes; the program has a, b, tie"),
    (boundless, "boundless returns values that are not finite"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_the_layer_at_fault_is_named(wrong, message):
    with pytest.raises(ProgramError, match=message):
        prefdensity.fit(compose("davidson", wrong, "lapse"), DATA)


def test_programs_of_judged_units_are_looked_at_too():
    with pytest.raises(ProgramError, match="stretched returns probabilities that add up to"):
        prefdensity.fit_judge(compose("gaussian", "distance", stretched), units_of(60), progress=False)


def test_many_fits_are_looked_at_too():
    with pytest.raises(ProgramError, match="stretched returns probabilities that add up to"):
        prefdensity.fit_many(compose("davidson", stretched), DATA, [DATA.count], progress=False)


@pytest.mark.parametrize("name", [name for name in prefdensity.names() if name not in ("ratings", "graded")])
def test_shipped_programs_pass(name):
    program = prefdensity.load_program(name)
    if "grades" not in program.needs and "measures" not in program.needs:
        assert viewed(program, DATA).dimension > 0
