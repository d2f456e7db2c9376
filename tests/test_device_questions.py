"""What is asked of a fit on a device is answered as on the CPU, and worked out there: by CUDA's rules."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pandas as pd
import pytest
from contract import suited
from device import Device

import prefdensity
from prefdensity import density, reward
from prefdensity.checking.check import calibration_curve
from prefdensity.data import simulate
from prefdensity.data.choices import Choices
from prefdensity.inference import devices
from prefdensity.inference.fitting import fit_again
from prefdensity.judged.fit import fit_judge, refit
from prefdensity.judged.simulate import JudgedWorld, buy
from prefdensity.pcal import LinearRegression, ProgramNuisance, pcal
from prefdensity.pcal.allocation import draw
from prefdensity.reward.columns import auxiliary_columns


def there(post):
    """The same draws, as those of a fit on the device."""
    return replace(post, status=replace(post.status, device="cuda"))


def same(found, expected):
    """Compare tables, arrays, numbers and records of these."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-9)
    elif isinstance(expected, np.ndarray) and expected.dtype.kind == "f" or isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            same(found[name], expected[name])
    elif isinstance(expected, (tuple, list)):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, prefdensity.Posterior):
        same(found.draws, expected.draws)
    elif is_dataclass(expected) and not isinstance(expected, prefdensity.Program):
        for each in fields(expected):
            same(getattr(found, each.name), getattr(expected, each.name))
    elif isinstance(expected, (str, int, bool)):
        assert found == expected


@pytest.fixture(scope="module")
def votes():
    data = simulate.population(6, 8, 300, seed=2, tie_strength=0.8, position_bias=0.3, reliability_sd=0.4)[0]
    return replace(data, count=np.round(data.count))


PROGRAMS = {
    "one for all": "davidson+position_bias+reliability",
    "types": "annotator_types(k=2)+davidson",
    "of each": "tastes(by='annotator')+davidson",
    "plain": "bradley_terry+reliability",
    "noise": "bradley_terry+flips",
}


@pytest.fixture(scope="module")
def fitted(votes):
    """Which table and fit of it a program has: a rough one is asked as an exact one is."""
    known = {}

    def of(kind):
        if kind not in known:
            data = votes if "davidson" in PROGRAMS[kind] else votes.without_ties()
            method = "svi" if kind == "types" else "laplace"
            known[kind] = prefdensity.fit(PROGRAMS[kind], data, method=method, draws=100, max_steps=100), data
        return known[kind]

    return of


def strangers(post, data):
    return post.predict([("item1", "item2")]), post.predict([("item1", "item3")], annotator=post.annotators[1])


QUESTIONS = {
    "predict": strangers,
    "win_probabilities": lambda post, data: post.win_probabilities(),
    "loo": lambda post, data: prefdensity.loo(post, data),
    "loo of pairs": lambda post, data: prefdensity.loo(post, data, unit="pair"),
    "loo of annotators": lambda post, data: prefdensity.loo(post, data, unit="annotator"),
    "density": lambda post, data: density.of(post).log_p,
    "density of somebody": lambda post, data: density.of(post, annotator=post.annotators[2]).log_p,
    "check": lambda post, data: prefdensity.check(post, data, replicates=20),
    "calibration": lambda post, data: calibration_curve(post, data, replicates=20),
    "audit": lambda post, data: prefdensity.audit(post, data).findings,
    "annotator_table": lambda post, data: prefdensity.annotator_table(post, data),
    "select": lambda post, data: prefdensity.select(post, n=3, progress=False),
    "select by tables": lambda post, data: prefdensity.select(post, n=3, rule="batch_bald", progress=False),
    "battle_design": lambda post, data: prefdensity.battle_design(post, n=100),
    "annotate": lambda post, data: prefdensity.annotate(data, post, refits=0, progress=False),
    "reward": lambda post, data: reward.reward_of_table(post, data, progress=False).summary(),
    "auxiliary_columns": lambda post, data: auxiliary_columns(data, post, progress=False),
    "by": lambda post, data: post.by("annotator"),
    "given": lambda post, data: post.given([("item1", "item2", "a"), ("item3", "item2", "a")]),
    "compare_policies": lambda post, data: reward.compare_policies(post, data, nats=[0.3]),
    "rater_study": lambda post, data: prefdensity.rater_study(post, budgets=(12, 20), seeds=2, progress=False),
    "cost": lambda post, data: prefdensity.cost(post, data, post).table,
}
# What each kind of program is asked; on the CPU, and why: what nobody need copy, and what is too little work.
ASKED = {
    "one for all": ("predict", "win_probabilities", "loo", "loo of pairs", "loo of annotators", "density", "check",
                    "calibration", "audit", "select", "select by tables", "battle_design", "given", "cost"),
    "types": ("predict", "loo", "loo of pairs", "loo of annotators", "density", "density of somebody", "check",
              "audit", "select", "annotate", "compare_policies"),
    "of each": ("predict", "density", "density of somebody", "by", "annotate"),
    "plain": ("reward", "auxiliary_columns", "rater_study"),
    "noise": ("annotate",),
}  # fmt: skip
ON_THE_CPU = ("given",)
LONG = ("select by tables", "win_probabilities", "rater_study")
CASES = [
    pytest.param(kind, each, marks=[pytest.mark.slow] * (each in LONG))
    for kind, asked in ASKED.items()
    for each in asked
]


@pytest.mark.filterwarnings("ignore:.*k-hat above:UserWarning")
@pytest.mark.parametrize(("kind", "question"), CASES)
def test_a_question_is_answered_on_the_device_as_on_the_cpu(kind, question, fitted):
    post, data = fitted(kind)
    expected = QUESTIONS[question](post, data)
    with Device() as device:
        found = QUESTIONS[question](there(post), data)
    same(found, expected)
    assert bool(device.launches) == (question not in ON_THE_CPU)


# --- fits that questions make


def both(asked):
    """What a question answers on the CPU, and on the device, which has to be used."""
    expected = asked("cpu")
    with Device() as device:
        found = asked("cuda")
    assert device.launches
    return found, expected


@pytest.mark.parametrize("program", ["bradley_terry+position_bias", "davidson"])
def test_a_batch_of_fits_on_the_device_is_that_on_the_cpu(program, votes):
    data = votes if program == "davidson" else votes.without_ties()
    counts = prefdensity.bootstrap(data, 3, seed=1)
    same(*both(lambda device: prefdensity.fit_many(program, data, counts, device=device, progress=False)))


def test_folds_are_fitted_where_it_is_asked_for(votes):
    data, how = votes.without_ties(), {"unit": "annotator", "folds": 2, "method": "laplace", "progress": False}
    found, expected = both(lambda device: prefdensity.kfold("bradley_terry", data, device=device, **how))
    np.testing.assert_allclose(found.elpd_i, expected.elpd_i, rtol=1e-6)


def test_a_program_is_fitted_again_on_its_device(votes):
    data = votes.without_ties()
    post = prefdensity.fit("bradley_terry", data, method="map")
    found, expected = both(lambda device: fit_again(post if device == "cpu" else there(post), data.take(np.arange(99))))
    assert (found.status.device, found.device) == ("cuda", "cpu")  # there is none by now
    same(found.point, expected.point)


@pytest.mark.slow
def test_fits_to_simulated_judgements_rank_truths_on_the_device_as_on_the_cpu(votes, monkeypatch):
    monkeypatch.setattr(devices, "_GPU_CELLS", 0)
    data = votes.without_ties().take(np.arange(20))
    same(*both(lambda _: prefdensity.sbc("utility_scale(fixed=1.0)", data, replicates=20)))


def test_a_device_that_is_not_at_hand_or_does_not_hold_the_table_is_not_asked(fitted):
    post, _ = fitted("plain")
    assert there(post).device == "cpu"
    with Device() as device:
        assert there(post).device == "cuda"
        passed = replace(post, status=replace(post.status, device="cuda", parts=3))
        assert passed.device == "cpu"
        passed.predict([("item1", "item2")])
    assert not device.launches


# --- choices from sets, answers known by their features, judged units


SETS = [
    ("plackett_luce", "laplace"),
    ("best_worst", "laplace"),
    pytest.param("plackett_luce", "nuts", marks=pytest.mark.slow),
    pytest.param("luce_choice+reliability", "laplace", marks=pytest.mark.slow),
    pytest.param("luce_choice+tastes(by='half')", "laplace", marks=pytest.mark.slow),
    pytest.param("annotator_types(k=2)+luce_choice", "svi", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "method"), SETS)
def test_choices_from_sets_are_fitted_and_asked_on_the_device(name, method):
    rng, ends = np.random.default_rng(0), {1: "best", 4: "worst"}
    rows = [(k, item, place) for k in range(60) for place, item in enumerate(rng.permutation(list("abcd")), 1)]
    frame = pd.DataFrame(rows, columns=["answer", "item", "rank"])
    frame = frame.assign(who=frame["answer"] % 5, half=frame["answer"] // 30, pick=frame["rank"].map(ends))
    make = Choices.from_best_worst if name == "best_worst" else Choices.from_rankings
    data = make(frame, answer="answer", annotator="who", groups=["half"])
    how = {"method": method, "draws": 100, "chains": 2, "warmup": 20, "max_steps": 60}

    def asked(device):
        post = prefdensity.fit(name, data, device=device, **how)
        checked = prefdensity.check(post, data, replicates=20)
        board = [] if post.utilities().ndim > 2 else [prefdensity.leaderboard(post, data)]
        left_out = [prefdensity.loo(post, data, unit=unit) for unit in ("choice", "annotator")]
        return [post, checked, *left_out, density.of(post).log_p, prefdensity.item_table(post, data), *board]

    same(*both(asked))


def test_answers_known_by_features_are_described_on_the_device():
    program = prefdensity.load_program("linear")
    data = suited(program, rows=60)
    post = prefdensity.fit(program, data, method="laplace", draws=100)
    answers = pd.DataFrame(np.random.default_rng(0).normal(size=(9, 2)), columns=list(data.feature_names))
    answers.index = [f"new{k}" for k in range(9)]
    found, expected = both(
        lambda place: prefdensity.described(post if place == "cpu" else there(post), data, answers, progress=False)
    )
    same(found, expected)


@pytest.fixture(scope="module")
def judged():
    full = JudgedWorld.draw(0, "logistic").units(400, 5)
    p = np.tile([0.25, 0.7], (len(full), 1))
    return buy(full, *p.T, draw(p, 6) + 1)


@pytest.mark.slow
def test_a_judge_is_fitted_moved_and_asked_on_the_device(judged):
    how = {"method": "laplace", "draws": 100, "hidden": 50, "progress": False}

    def asked(device):
        one = fit_judge("gaussian+distance+lapse", judged, device=device, **how)
        moved = refit(one, judged.take(np.arange(300)), hidden=50)
        assert one.status.device == moved.status.device == device
        drop = one.variance_drop(judged.take(np.arange(20)))
        return [one.summary(), moved.summary(), one.expect(judged, np.square), drop.explained, drop.left]

    same(*both(asked))


@pytest.mark.slow
def test_an_estimate_with_a_program_as_nuisance_is_the_same_from_the_device(judged):
    def asked(device):
        nuisance = ProgramNuisance("gaussian+distance+lapse", draws=50, hidden=50, device=device)
        found = pcal(judged, LinearRegression(intercept=False), nuisance, folds=2)
        return [found.theta, found.standard_error]

    same(*both(asked))
