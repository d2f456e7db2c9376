"""A user's layer that cannot be called, or fails on the data, is one error that names it and says what is right."""

import textwrap

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import logsigmoid
from typer.testing import CliRunner

import prefdensity
from prefdensity import ProgramError, compose, layer
from prefdensity.cli import main
from prefdensity.programs.layers import Program
from prefdensity.programs.outcomes import by_outcome, observe
from prefdensity.programs.stages import STAGES, inputs

PEOPLE, ITEMS = 5, 6


def table(rows=240):
    rng = np.random.default_rng(0)
    a = rng.integers(ITEMS, size=rows)
    votes = {
        "item_a": a, "item_b": (a + rng.integers(1, ITEMS, rows)) % ITEMS,
        "outcome": rng.choice(["a", "b"], rows), "annotator": rng.integers(PEOPLE, size=rows),
    }  # fmt: skip
    return prefdensity.read(pd.DataFrame(votes).astype(str))


def turned(data, margin):
    return margin + data.of("annotator", torch.zeros(PEOPLE))


def turned_utility(scale, data):
    return torch.zeros(data.n_items)


def turned_outcomes(cells, log_prob):
    return log_prob


def lonely(margin):
    return margin


def asking(data, k):
    return torch.ones(k) / k


def deaf():
    return torch.zeros(ITEMS)


@pytest.mark.parametrize(
    ("stage", "function", "message"),
    [
        (
            "margin",
            turned,
            r"turned\(data, margin\) cannot be a margin layer, which is \(margin, data\) .* order$",
        ),
        (
            "behaviour",
            turned,
            r"cannot be a behaviour layer, which is \(utility, data\) .* it takes margin where data",
        ),
        ("utility", turned_utility, r"which is \(data\) or \(data, scale\) .* 'scale'; options .* need defaults"),
        ("noise", turned_outcomes, r"it takes cells where log_prob is given; change"),
        ("margin", lonely, r"lonely\(margin\) cannot be a margin layer"),
        ("types", asking, r"asking\(data, k\) .* missing a required argument: 'k'"),
        ("utility", deaf, r"deaf\(\) cannot be a utility layer"),
    ],
)
def test_a_layer_of_other_inputs_is_refused_where_it_is_written(stage, function, message):
    with pytest.raises(ProgramError, match=message):
        layer(stage)(function)


@pytest.mark.parametrize("stage", [each for each in STAGES if each not in ("choice", "scale")])
def test_other_names_in_the_right_order_are_welcome(stage):
    """And options, and a function that takes whatever comes."""

    def named(x, y=None, *others, option=1.0):
        return x

    assert layer(stage)(named).stage == stage
    assert inputs(stage)[-1] == "data"


@layer("margin")
def of_seven_comparisons(margin, data):
    return margin * torch.ones(7)


@layer("margin", needs=["annotator"])
def of_three_people(margin, data):
    return margin + torch.zeros(3)[data.annotator]


@layer("utility")
def of_nine_items(data):
    with pyro.plate("item", data.n_items, dim=-1):
        return pyro.sample("utility", dist.Normal(torch.zeros(9), 1.0))


@layer("behaviour")
def scores_of_nine(utility, data):
    return torch.zeros(9)


@layer("scale")
def several_scales(data):
    return torch.ones(4)


@layer("margin")
def misspelt(margin, data):
    return margin * data.annotators


@layer("margin")
def missing(margin, data):
    return margin * {}["weight"]


@layer("margin")
def undefined(margin, data):
    return margin * unheard_of  # noqa: F821


FAILING = [
    (of_seven_comparisons, r"of_seven_comparisons \(test_layer_faults.py, line \d+\) fails .* \(7\) .* Sizes come"),
    (of_three_people, r"of_three_people \(test_layer_faults.py, line \d+\) fails .* IndexError: .* Sizes come from"),
    (of_nine_items, r"of_nine_items \(.*\) fails .* 6 vs 9; a layer here is \(data\) or \(data, scale\) .* Sizes"),
    (scores_of_nine, r"scores_of_nine returns 9 entries for 6 items; a layer here is \(utility, data\) -> score"),
    (several_scales, r"several_scales returns 4 entries for 1 number"),
    (misspelt, r"misspelt \(.*\) fails .* AttributeError: 'Cells' object has no attribute 'annotators'; a layer"),
    (missing, r"missing \(.*\) fails .* KeyError: 'weight'; a layer here is \(margin, data\) -> margin \["),
    (undefined, r"undefined \(.*\) fails .* NameError: name 'unheard_of' is not defined"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "message"), FAILING)
def test_a_layer_that_fails_is_named_with_its_line(wrong, message):
    with pytest.raises(ProgramError, match=message) as caught:
        prefdensity.fit(compose(wrong), table(), progress=False)
    cause = caught.value.__cause__
    if " fails " in str(caught.value):  # their own error, with the line that raised it
        assert cause is not None
        places = [each.frame.code.path.name for each in pytest.ExceptionInfo.from_exception(cause).traceback]
        assert "test_layer_faults.py" in places


def test_as_many_numbers_as_the_table_has_comparisons_are_too_many():
    """These fit the table alone: whoever asks about another pair would be answered with an error."""
    data = table()

    @layer("margin")
    def of_all_comparisons(margin, data):
        return margin * torch.ones(ITEMS * (ITEMS - 1) // 2)

    with pytest.raises(ProgramError, match=r"fails on these data .* 1 vs 15. Sizes come from the data"):
        prefdensity.fit(compose(of_all_comparisons), data, progress=False)


def test_a_program_that_is_one_function_is_named_too():
    def whole(data):
        with pyro.plate("item", data.n_items, dim=-1):
            utility = pyro.sample("utility", dist.Normal(0.0, 1.0))
        margin = data.contrast(utility) * torch.ones(7)
        observe(by_outcome(logsigmoid(margin), logsigmoid(-margin)), data)

    program = Program(name="whole", model=whole, outcomes=("a", "b"))
    with pytest.raises(ProgramError, match=r"whole \(test_layer_faults.py, line \d+\) fails .* Sizes come from"):
        prefdensity.fit(program, table(), progress=False)


def test_the_command_line_says_it_in_one_sentence(tmp_path):
    file, votes = tmp_path / "mine.py", tmp_path / "votes.csv"
    table().to_frame().to_csv(votes, index=False)
    written = """
        from prefdensity import compose, layer

        @layer("margin")
        def mine({inputs}):
            return margin * {value}

        PROGRAM = compose(mine)
    """
    for given, value, said in (
        ("data, margin", "1", "mine(data, margin) cannot be"),
        ("margin, data", "data.x", "line 6"),
    ):
        file.write_text(textwrap.dedent(written.format(inputs=given, value=value)), encoding="utf-8")
        found = CliRunner().invoke(
            main.app, ["fit", str(votes), "--model", str(file), "--out", str(tmp_path / "out.nc")]
        )
        assert found.exit_code != 0
        assert said in " ".join(found.output.split()), found.output
        assert "Traceback" not in found.output
