"""A program is asked, never recognised: a copy of a shipped layer under another name does all that the layer does.

The source of every layer of models/ is copied into a file of its own with the function renamed, so that neither name,
module nor shelf tells what it is. Whatever is fitted, asked, checked, compared, selected, saved and loaded must agree.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
from contract import suited

import prefdensity
from prefdensity import compose, layer, load_program
from prefdensity.data import choices
from prefdensity.density import implicit
from prefdensity.errors import PrefDensityError
from prefdensity.judged.simulate import JudgedWorld
from prefdensity.programs.layers import Layer
from prefdensity.programs.listing import judge_names
from prefdensity.programs.shelf import find
from prefdensity.reward import Exact, reward
from prefdensity.selection.select import select

MODELS = Path(__file__).parents[1] / "models"
LAYERS = [name for name in prefdensity.names() if isinstance(find(name), Layer)]
QUICK = {"items", "tastes", "davidson", "position_bias"}
# What a layer stands with, where it cannot stand alone.
BESIDE = {"utility_scale": "bradley_terry", "ties": "davidson", "strengths": "graded"}


def copied(name, folder, tmp_path, beside=()):
    """The program of a copy of a layer's file, in which the layer has another name; and of the layer itself."""
    source = (MODELS / folder / f"{name}.py").read_text(encoding="utf-8")
    source = re.sub(rf"^def {name}\(", "def of_my_own(", source, flags=re.M)
    path = tmp_path / f"copy_of_{name}.py"
    more = "".join(f", {each!r}" for each in beside)
    path.write_text(f"{source}\n\nfrom prefdensity import compose\nPROGRAM = compose(of_my_own{more})\n")
    own = load_program(path)
    assert "of_my_own" in [each.name for each in own.layers]
    return own, compose(find(name), *beside), path


def same(one, other):
    """Both frames agree to 1e-10 where they are numbers, and in every word that names no program."""
    assert list(one.columns) == list(other.columns)
    for column in one:
        if one[column].dtype.kind in "fiu":
            np.testing.assert_allclose(one[column], other[column], rtol=1e-10, atol=1e-10, err_msg=column)
        else:
            assert one[column].tolist() == other[column].tolist(), column


def answer(ask):
    """What a question yields, or the kind of its refusal."""
    try:
        return ask()
    except PrefDensityError as error:
        return type(error).__name__


def agree(one, other):
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    elif isinstance(one, pd.DataFrame):
        same(one, other)
    else:
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def questions(post, data):
    """Everything that is asked of a posterior, by name."""
    pairs = [(data.items[0], data.items[1]), (data.items[2], data.items[0])]
    who = data.annotators[1] if "annotator" in post.program.needs else None
    yield "summary", lambda: post.summary() if "utility" in post.draws else "none"
    yield "parameters", post.parameters
    yield "predict", lambda: post.predict(pairs, annotator=who, first="a")
    yield "somebody new", lambda: post.predict(pairs)
    yield "wins", post.win_probabilities
    for by in (None, "type", "annotator", "new"):
        yield f"density {by}", lambda by=by: implicit.of(post, by=by).log_p
    yield "density at a temperature", lambda: implicit.of(post, temperature=2.0).log_p
    yield "cycles", lambda: implicit.curl_share(post)
    if not isinstance(data, prefdensity.Comparisons):
        return
    report = prefdensity.check(post, data, replicates=20)
    yield "check", lambda: report.table
    yield "causes", lambda: report.suspects().drop(columns="advice")
    found = answer(lambda: prefdensity.compare({"x": post}, data, refit=False, progress=False))
    yield "elpd", lambda: found if isinstance(found, str) else found.table
    yield "elpd by annotator", lambda: prefdensity.loo(post, data, unit="annotator").elpd_i
    yield "select", lambda: select(post, n=3, progress=False).drop(columns="reason")
    yield "reward", lambda: reward(data, post, Exact.uniform(data), progress=False).summary()


def agrees(own, shipped, data, tmp_path, path):
    """Both programs fit alike, answer alike, and come back from their files alike."""
    settings = {"method": "laplace", "draws": 100, "restarts": 1, "seed": 3, "progress": False}
    if any(each.mirror or each.stage == "types" for each in shipped.layers):
        settings["restarts"] = 2
    mine, theirs = (answer(lambda p=p: prefdensity.fit(p, data, **settings)) for p in (own, shipped))
    if isinstance(theirs, str):
        assert mine == theirs
        return
    assert mine.draws.keys() == theirs.draws.keys()
    for site in theirs.draws:
        np.testing.assert_allclose(mine.draws[site], theirs.draws[site], rtol=1e-10, atol=1e-10, err_msg=site)
    known = [np.array(each.status.log_evidence, float) for each in (mine, theirs)]  # networks have none
    np.testing.assert_allclose(*known, rtol=1e-10)
    back = prefdensity.load_posterior(mine.save(tmp_path / "mine.nc"), path)
    with pytest.raises(PrefDensityError, match="not made of shipped layers alone"):
        prefdensity.load_posterior(tmp_path / "mine.nc").win_probabilities()
    asked = zip(questions(back, data), questions(theirs, data), strict=True)
    for (name, one), (_, other) in asked:
        print(name)
        agree(answer(one), answer(other))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in LAYERS]
)
def test_a_renamed_copy_does_what_the_layer_does(name, tmp_path):
    beside = [BESIDE[name]] if name in BESIDE else []
    own, shipped, path = copied(name, "", tmp_path, beside)
    if any(each.sets and each.stage == "choice" for each in shipped.layers):
        rankings = ["i0 i1 i2", "i2 i1 i3", "i0 i3 i1", "i1 i0 i2", "i3 i2 i0"] * 4
        rows = [(k, name, rank) for k, said in enumerate(rankings) for rank, name in enumerate(said.split(), 1)]
        frame = pd.DataFrame(rows, columns=["answer", "item", "rank"])
        data = choices.Choices.from_rankings(frame, answer="answer")
    else:
        data = suited(shipped, n_items=5, n_annotators=4, rows=120, counts=False)
    agrees(own, shipped, data, tmp_path, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", judge_names())
def test_a_renamed_judge_does_what_the_judge_does(name, tmp_path):
    beside = {"label": ["distance"], "judge": ["gaussian"]}.get(find(name).stage, ["gaussian", "distance"])
    own, shipped, path = copied(name, "judges", tmp_path, beside)
    units = JudgedWorld.draw(seed=3).units(80, seed=3)
    if name in ("binary", "ordinal"):
        label = (units.label > np.median(units.label)).astype(float)
        units = replace(units, label=label if name == "binary" else label + (units.label > 1.5))
    settings = {"method": "laplace", "draws": 100, "seed": 3, "progress": False}
    mine, theirs = (answer(lambda p=p: prefdensity.fit_judge(p, units, **settings)) for p in (own, shipped))
    assert not isinstance(theirs, str)
    back = prefdensity.load_judge(mine.save(tmp_path / "judge.nc"), path)
    same(back.summary(), theirs.summary())
    for one, other in zip(back.expect(units, np.square), theirs.expect(units, np.square), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def biased(sign, name):
    @layer("margin", needs=["first"], null={"position_bias": 0.0}, mends="order", meanings={"position_bias": "logits"})
    def position_bias(margin, data):
        return margin + sign * pyro.sample("position_bias", dist.Normal(0.0, 0.5)) * data.first

    return replace(position_bias, name=name)


@pytest.mark.parametrize("name", ["position_bias", pytest.param("seat", marks=pytest.mark.slow)])
def test_a_shipped_name_with_other_mathematics_is_its_own(name, tmp_path):
    """The bias doubled: of the same site, and under the shipped name or another one the answers are the same."""
    data = suited(load_program("position_bias"), n_items=5, n_annotators=4, rows=120, counts=False)
    doubled, shipped = compose("bradley_terry", biased(2.0, name)), load_program("bradley_terry+position_bias")
    post = prefdensity.fit(doubled, data, method="laplace", draws=200, progress=False)
    other = prefdensity.fit(shipped, data, method="laplace", draws=200, progress=False)
    u, bias = post.draws["utility"], post.draws["position_bias"]
    by_hand = 1 / (1 + np.exp(-(u[:, 0] - u[:, 1] + 2 * bias.reshape(-1))))
    said = post.predict([(data.items[0], data.items[1])], first="a")["p_a"][0]
    assert said == pytest.approx(by_hand.mean(), rel=1e-12)
    # halving the unit of a parameter is a change of its prior alone: its effect is nearly the shipped one's
    assert 2 * bias.mean() == pytest.approx(other.draws["position_bias"].mean(), abs=0.15)
    alike = prefdensity.fit(compose("bradley_terry", biased(2.0, "alike")), data, method="laplace", draws=200)
    for (_, one), (_, same_mathematics) in zip(questions(post, data), questions(alike, data), strict=True):
        agree(answer(one), answer(same_mathematics))
    elpd = {k: prefdensity.loo(p, data).elpd for k, p in {"own": post, "shipped": other}.items()}
    assert abs(elpd["own"] - elpd["shipped"]) > 1e-3  # the prior differs, and so do the fits
    saved = post.save(tmp_path / "fit.nc")
    with pytest.raises(PrefDensityError, match="not made of shipped layers alone"):
        prefdensity.load_posterior(saved).win_probabilities()
    same(prefdensity.load_posterior(saved, doubled).win_probabilities(), post.win_probabilities())
    with pytest.raises(PrefDensityError, match="gives other probabilities under the same draw"):
        prefdensity.load_posterior(saved, shipped)
