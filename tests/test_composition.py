"""How programs are named, composed and read from files, and how impossible ones are refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from contract import table, vectors, view_of

import prefdensity
from prefdensity.errors import ProgramError
from prefdensity.programs.compose import compose
from prefdensity.programs.layers import Layer, layer
from prefdensity.programs.listing import names, summaries
from prefdensity.programs.loading import load_program

IMPOSSIBLE = [
    ("bradely_terry", "no program called 'bradely_terry'; did you mean bradley_terry"),
    ("davidson+rao_kupper", "two choice rules, davidson and rao_kupper: a program has one"),
    ("bradley_terry+davidson", "two choice rules, logit and davidson"),
    ("bradley_terry+items", "two utilities, items and items"),
    ("linear+items", r"two utilities, linear and items"),
    ("utility_scale+utility_scale(fixed=2)", r"two scale layers, utility_scale and utility_scale\(fixed=2\)"),
    ("neural+utility_scale", "neural takes no scale, so utility_scale would have no effect; leave one out"),
    ("annotator_types+annotator_types(k=3)", "two type layers, annotator_types and"),
    ("lapse+lapse", "two noise layers, lapse and lapse"),
    ("position_bias+position_bias", "two margin layers, position_bias and position_bias"),
    ("annotator_types(n=3)", "annotator_types has no argument 'n'; it takes k"),
    ("davidson(k=3)", "davidson has no argument 'k'; it takes none"),
    ("annotator_types(k=size)", r"arguments in 'annotator_types\(k=size\)' must be literals like k=3"),
    ("comparison_types(3, 4)", "comparison_types takes 1 arguments, not 2: k"),
    ("annotator_types(3, k=3)", "annotator_types is given 'k' twice"),
    ("annotator_types(*sizes)", "must be literals like k=3"),
    ("bradley_terry(fixed=2)", "bradley_terry is a composition; give arguments to its layers: utility_scale"),
    ("davidson-lapse", "write a name, or a name with arguments"),
    ("davidson+", "names no program; write names joined by +"),
    ("", "names no program"),
    ("__import__('os')", "no program called '__import__'"),
    ("os.system('true')", "cannot read"),
    ("nowhere.py", "there is no file nowhere.py to read a program from"),
]


@pytest.mark.parametrize(("name", "message"), IMPOSSIBLE)
def test_impossible_names_are_refused_in_words(name, message):
    with pytest.raises(ProgramError, match=message) as caught:
        load_program(name)
    assert len(str(caught.value)) < 400
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


UNSUITABLE = [
    ("reliability", {"annotator": None, "annotators": ()}, "needs to know who judged"),
    ("annotator_types", {"annotator": None, "annotators": ()}, "needs to know who judged"),
    ("position_bias", {"first": None}, "needs to know which item was shown first"),
    ("position_bias", {"first": np.zeros(40, np.int8)}, "no comparison says which item was shown first"),
    ("linear", {"item_features": None, "feature_names": ()}, "needs item features"),
    ("covariate", {"covariates": None, "covariate_names": ()}, "needs comparison covariates"),
    ("crowd_bt", {"annotator": None, "annotators": ()}, "needs to know who judged"),
    ("annotator_types(k=5)", {}, "has more types than the 4 annotators"),
    ("annotator_types(k=0)", {}, "k of annotator_types is 0; it must be a whole number from 1"),
    ("annotator_types(k=2.5)", {}, r"k of annotator_types is 2.5; it must be a whole number from 1"),
    ("bradley_terry", {"outcome": np.full(40, 2, np.int8)}, "has no tie, and"),
]


@pytest.mark.parametrize(("name", "change", "message"), UNSUITABLE)
def test_unsuitable_data_are_refused_in_words(name, change, message):
    from dataclasses import replace

    with pytest.raises(ProgramError, match=message):
        prefdensity.fit(name, replace(table(), **change), method="map")


def test_an_order_that_follows_from_the_items_is_refused():
    from dataclasses import replace

    data = table()
    always = np.where(data.item_a < data.item_b, 1, -1).astype(np.int8)
    star = replace(data, item_a=np.zeros(40, int), item_b=1 + np.arange(40) % 4, first=np.ones(40, np.int8))
    for fixed in (star, replace(star, first=-star.first)):
        with pytest.raises(ProgramError, match="the order effect is not identified"):
            prefdensity.fit("position_bias", fixed, method="map")
    # with cycles the same rule is no function of utilities: 0 before 1, 1 before 2, and 0 before 2
    assert prefdensity.fit("position_bias", replace(data, first=always), method="map").point


def test_the_order_of_answers_that_features_describe_is_learned_where_each_is_shown_once():
    rng = np.random.default_rng(0)
    votes, x = 600, rng.normal(size=(1200, 5))
    names = [f"i{k:04d}" for k in range(2 * votes)]
    margin = (x[::2] - x[1::2]) @ [1.0, -0.5, 0.3, 0.0, 0.0] + 0.8  # the first one is at an advantage
    won = rng.random(votes) < 1 / (1 + np.exp(-margin))
    frame = pd.DataFrame({"a": names[::2], "b": names[1::2], "outcome": np.where(won, "a", "b")})
    data = prefdensity.Comparisons.from_frame(
        frame, item_a="a", item_b="b", outcome="outcome", ordered=True, item_features=pd.DataFrame(x, index=names)
    )
    bias = prefdensity.fit("linear+logit+position_bias", data, progress=False).draws["position_bias"]
    assert abs(bias.mean() - 0.8) < 3 * bias.std()
    assert bias.std() < 0.15


def test_a_stage_and_its_layer_must_be_sensible():
    with pytest.raises(ProgramError, match="there is no stage 'margins'; stages are scale"):
        layer("margins")
    with pytest.raises(ProgramError, match="says which outcomes it explains"):
        layer("choice")
    with pytest.raises(ProgramError, match="says which outcomes it explains"):
        layer("margin", outcomes=["a", "b"])


def test_programs_and_layers_are_taken_where_names_are():
    from prefdensity.models.davidson import davidson
    from prefdensity.models.position_bias import position_bias

    data = table(("a", "b", "tie"))
    expected = load_program("davidson+position_bias")
    assert isinstance(davidson, Layer)
    composed = compose(davidson, position_bias)
    assert composed.name == expected.name == "davidson+position_bias"
    assert composed.outcomes == ("a", "b", "tie")
    assert composed.needs == ("first",)
    assert load_program(composed) is composed
    assert load_program(davidson).name == "davidson"
    z = vectors(view_of(expected, data)[0], 2)
    assert torch.equal(view_of(composed, data)[0].log_joint(z), view_of(expected, data)[0].log_joint(z))
    assert load_program("utility_scale(fixed=3)+probit").name == "utility_scale(fixed=3)+probit"


def test_every_file_of_models_is_listed_and_loads():
    assert {"bradley_terry", "davidson", "annotator_types", "items", "lapse", "linear"} <= set(names())
    for name in names():
        program = load_program(name)
        assert program.name == name
        assert program.summary == program.doc.strip().splitlines()[0]
        assert program.outcomes in (("a", "b"), ("a", "b", "tie"))


OWN = '''"""Cauchy choice: heavy-tailed noise."""
import math
import torch
from prefdensity import compose, layer
from prefdensity.programs.outcomes import by_outcome

@layer("choice", outcomes=["a", "b"])
def cauchy(margin, data):
    return by_outcome((0.5 + margin.atan() / math.pi).log(), (0.5 - margin.atan() / math.pi).log())

PROGRAM = {}
'''


@pytest.mark.parametrize("program", ["cauchy", "compose('position_bias', cauchy)"])
def test_a_users_file_works_where_a_name_does(tmp_path, program):
    path = tmp_path / "my_choice.py"
    path.write_text(OWN.format(program))
    loaded = load_program(path)
    assert loaded.name == str(path)
    post = prefdensity.fit(path, table(), method="laplace", draws=200)
    assert post.program_name == str(path)
    again = prefdensity.fit(str(path), table(), method="laplace", draws=200)
    np.testing.assert_array_equal(post.draws["utility"], again.draws["utility"])
    given = post.predict([("i0", "i1")])  # it holds what was fitted
    margin = post.draws["utility"][:, 0] - post.draws["utility"][:, 1]
    assert given["p_a"][0] == pytest.approx((0.5 + np.arctan(margin) / np.pi).mean(), abs=1e-12)


def test_two_sites_of_one_name_are_refused():
    # Substituted values would go to both, and the prior would count once, without a word
    from pyro import distributions, sample

    @layer("margin", meanings={"position_bias": "another one"})
    def second(margin, data):
        return margin + sample("position_bias", distributions.Normal(0.0, 1.0))

    with pytest.raises(ProgramError, match="two sites of the program are called 'position_bias'"):
        prefdensity.fit(compose("position_bias", second), table(), method="map")


BAD_FILES = [
    ("x = 1", "must define PROGRAM"),
    ("PROGRAM = 3", "must define PROGRAM"),
    ("def broken(:", "cannot be run: SyntaxError"),
    ("raise RuntimeError('no')", "cannot be run: RuntimeError: no"),
    ("import nonexistent_module_xyz", "cannot be run: ModuleNotFoundError"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_bad_file_is_refused_in_words(tmp_path, text, message):
    path = tmp_path / "bad_program.py"
    path.write_text(text)
    with pytest.raises(ProgramError, match=message):
        load_program(path)


PLAIN = '''"""Plain."""
import pyro, pyro.distributions as dist, torch
from prefdensity import Program
from prefdensity.programs.outcomes import by_outcome, observe

def model(data):
    {body}

PROGRAM = Program("plain", model, outcomes=("a", "b"), needs=("annotator",), doc=__doc__)
'''
ENUMERATED = """
    with pyro.plate("item", data.n_items, dim=-1):
        u = pyro.sample("utility", dist.Normal(0.0, 1.0))
    with pyro.plate("annotator", data.n_annotators, dim=-1):
        z = pyro.sample("z", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
    margin = data.contrast(u) * (2 * data.of("annotator", z) - 1)
    observe(by_outcome(torch.nn.functional.logsigmoid(margin), torch.nn.functional.logsigmoid(-margin)), data)
"""
SILENT = "pyro.sample('utility', dist.Normal(torch.zeros(data.n_items), 1.0).to_event(1))"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (ENUMERATED, "samples the discrete site 'z'.*Sum discrete types out"),
        (SILENT, "has no observed site 'outcome'"),
    ],
)
@pytest.mark.parametrize("method", ["laplace", "svi", "nuts", "map", "mle"])
def test_programs_that_would_be_silently_wrong_are_refused(tmp_path, body, message, method):
    path = tmp_path / "plain.py"
    path.write_text(PLAIN.format(body=body))
    with pytest.raises(ProgramError, match=message):
        prefdensity.fit(path, table(), method=method)


def test_a_listed_summary_is_that_of_the_program():
    assert summaries() == {name: load_program(name).summary for name in names()}
