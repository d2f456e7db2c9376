"""Checks and comparisons of programs of choices from sets: closed forms, and known truths that they find or pass."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

import prefdensity
from prefdensity import Choices, DataError
from prefdensity.checking.sets import SetDesign, choice_fit
from prefdensity.cli import main
from prefdensity.comparison.compare import compare, kfold
from prefdensity.comparison.elpd import loo, unit_log_lik

ITEMS = np.array(["ash", "elm", "fir", "oak", "yew", "box"])
ITEMS_SORTED = sorted(ITEMS)
UTILITY = np.array([1.0, 0.6, 0.2, -0.2, -0.6, -1.0])
PEOPLE = 30


def best_of(seed: int, care=1.0, own=0.0, answers=600, top=1) -> Choices:
    """Top lists of 4 of 6 items by Gumbel noise; people differ in care (a factor each) or in tastes (sd)."""
    rng = np.random.default_rng(seed)
    factor, tastes = np.broadcast_to(care, PEOPLE), own * rng.normal(size=(PEOPLE, 6))
    rows = []
    for k in range(answers):
        who, members = k % PEOPLE, rng.permutation(6)[:4]
        score = factor[who] * (UTILITY + tastes[who])[members] + rng.gumbel(size=4)
        place = np.argsort(np.argsort(-score)) + 1
        rows += [
            (f"a{k:04}", ITEMS[m], p if p <= top else None, f"p{who:02}", "ab"[who % 2])
            for m, p in zip(members, place, strict=True)
        ]
    frame = pd.DataFrame(rows, columns=["answer", "item", "rank", "judge", "land"])
    return Choices.from_rankings(frame, answer="answer", annotator="judge", groups=["land"])


@pytest.fixture(scope="module")
def plain():
    data = best_of(1)
    return prefdensity.fit("plackett_luce", data, method="laplace", progress=False), data


def test_a_program_that_is_right_passes(plain):
    """A verdict of contradiction has a false-alarm rate below 1 in 100 (see `CheckReport.verdict`)."""
    post, data = plain
    found = prefdensity.check(post, data, seed=2)
    assert found.verdict != "contradicted"
    assert list(found.table["check"]) == ["choice fit", "item totals", "tastes", "own tastes", "slopes"]
    assert (found.table["verdict"] != "not available").all()
    for name, unit in (("choice fit", "set"), ("item totals", "item"), ("slopes", "annotator")):
        assert {unit, "judgements", "observed", "expected", "z"} <= set(found.parts[name])
    assert found.parts["slopes"]["judgements"].sum() == 600
    assert found.parts["choice fit"]["judgements"].sum() == 600
    assert found.parts["item totals"]["judgements"].sum() == 4 * 600  # each set has four members
    assert "plackett_luce" in str(found)


WRONG = [
    ({"own": 1.5}, "own tastes", "tastes"),
    ({"care": np.repeat([3.0, 0.0], PEOPLE // 2)}, "slopes", "reliability"),
]


@pytest.mark.parametrize(("world", "check", "layer"), WRONG)
def test_what_is_wrong_is_found(world, check, layer):
    data = best_of(3, answers=360, **world)
    post = prefdensity.fit("plackett_luce", data, method="laplace", draws=400, progress=False)
    found = prefdensity.check(post, data, seed=4, replicates=50)
    assert found.verdict == "contradicted"
    assert found.causes[0].check == check
    assert any(layer in each.name for each in found.causes[0].remedies)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "check", "layer"), WRONG)
def test_the_remedy_mends_it(world, check, layer):
    data = best_of(3, answers=360, **world)
    post = prefdensity.fit("plackett_luce", data, method="laplace", progress=False)
    found = prefdensity.check(post, data, seed=4)
    remedy = next(each for each in found.causes[0].remedies if layer in each.name)
    better = prefdensity.fit(remedy, data, method="laplace", progress=False)
    again = prefdensity.check(better, data, seed=4)
    z = [each.table.set_index("check").loc[check, "z"] for each in (found, again)]
    assert z[1] < z[0] / 2
    table = compare({"plain": post, "better": better}, data, progress=False, refit=False).table
    assert table["program"][0] == "better"
    assert table["elpd_diff"][1] < -10


def test_a_choice_that_depends_on_the_rest_of_the_set_is_found():
    """Who is shown ash takes it, unless elm is there too: no utilities say that."""
    rng = np.random.default_rng(5)
    rows = []
    for k in range(400):
        members = rng.permutation(ITEMS)[:3].tolist()
        first = rng.choice(members)
        if "ash" in members and rng.random() < 0.7:
            first = "ash" if "elm" not in members else next(each for each in members if each not in ("ash", "elm"))
        rows += [(k, item, 1 if item == first else None) for item in members]
    data = Choices.from_rankings(pd.DataFrame(rows, columns=["answer", "item", "rank"]), answer="answer")
    post = prefdensity.fit("plackett_luce", data, method="laplace", progress=False)
    found = prefdensity.check(post, data)
    row = found.table.set_index("check").loc["choice fit"]
    assert row["verdict"] == "contradicted"
    assert "choice fit is off by z" in found.headline
    lacking = found.table.loc[found.table["verdict"] == "not available", "check"]
    assert set(lacking) == {"tastes", "own tastes", "slopes"}


@pytest.mark.parametrize("worst", [False, True])
def test_the_statistic_is_pearsons_and_replications_are_multinomial(worst):
    rng = np.random.default_rng(6)
    rows = []
    for k in range(240):
        members = ITEMS[:3] if k % 2 else ITEMS[2:6]
        best, last = rng.choice(members, 2, replace=False)
        rows += [(k, m, "best" if m == best else "worst" if m == last and worst else None, k % 3) for m in members]
    frame = pd.DataFrame(rows, columns=["answer", "item", "pick", "judge"])
    if worst:
        data = Choices.from_best_worst(frame, answer="answer", annotator="judge")
    else:
        frame["rank"] = (frame["pick"] == "best").map({True: 1, False: None})
        data = Choices.from_rankings(frame, answer="answer", annotator="judge")
    design = SetDesign(data, ("a", "b"))
    size = design.size[design.choice]
    log_p = np.repeat(-np.log(size)[None, :, None], 3000, 2)
    expected = design.expected(log_p)
    parts = choice_fit(design.residuals(expected, design.observed), None)[:, 0]
    for names, ways in ((ITEMS[:3], 6 if worst else 3), (ITEMS[2:6], 12 if worst else 4)):
        asked = frame.groupby("answer").filter(lambda rows, names=names: set(rows["item"]) == set(names))
        best = asked[asked["pick"] == "best"].set_index("answer")["item"]
        said = best + asked[asked["pick"] == "worst"].set_index("answer")["item"] if worst else best
        counts = np.r_[said.value_counts().to_numpy(), np.zeros(ways)][:ways]
        found = parts[[", ".join(sorted(names)) == each for each in design.units("set")["set"]]]
        assert found == pytest.approx(((counts - 120 / ways) ** 2 / (120 / ways)).sum())
    drawn = design.drawn(expected, np.random.default_rng(7))
    totals = np.add.reduceat(drawn[0], design.size.cumsum() - design.size, axis=0)
    assert (totals == design.total[design.size.cumsum() - design.size][:, None]).all()
    replicated = choice_fit(design.residuals(expected, drawn), None)
    freedom = np.array([ways - 1 for ways in sorted({int(each) for each in design.size})])
    middle = np.sort(replicated.mean(1))
    assert np.abs(middle - freedom).max() < 4 * np.sqrt(2 * freedom.max() / 3000)  # 6e-5 each


def test_units_of_choices(plain):
    post, data = plain
    by_choice = loo(post, data)
    assert by_choice.unit == "choice"
    assert len(by_choice.elpd_i) == 600
    log_lik, labels, _, index = unit_log_lik(post, data)
    utility = post.draws["utility"]
    shown = [utility[:, members] - utility[:, [best]] for members, best in zip(data.sets, data.best, strict=True)]
    exact = np.stack([-np.log(np.exp(each).sum(1)) for each in shown], 1)
    np.testing.assert_allclose(log_lik.numpy()[:, index], exact, atol=1e-10)
    assert len(labels) == 600
    by_land = loo(post, data, unit="land")
    assert by_land.labels == ("a", "b")
    assert len(loo(post, data, unit="annotator").labels) == PEOPLE
    chance = 600 * math.log(1 / 4)
    assert chance < by_choice.elpd < 0
    refits = kfold("plackett_luce", data, unit="annotator", folds=3, method="laplace", progress=False)
    assert abs(refits.elpd - by_choice.elpd) < 3 * stats.norm.ppf(0.9995)  # near the same: there are few parameters
    with pytest.raises(DataError, match="there is no unit 'pair'; units are choice, annotator, answer, land"):
        loo(post, data, unit="pair")


def test_rankings_are_left_out_whole():
    data = best_of(8, answers=60, top=3)
    assert len(data) == 180
    post = prefdensity.fit("plackett_luce", data, method="laplace", progress=False)
    by_answer = loo(post, data, unit="answer")
    assert len(by_answer.labels) == 60
    parts = loo(post, data)
    assert by_answer.lpd_i.sum() == pytest.approx(parts.lpd_i.sum(), abs=3.0)


def test_head_and_take_keep_the_vocabulary():
    data = best_of(9, answers=40)
    few = data.head(5)
    assert len(few) == 5
    assert few.labels("annotator") == data.labels("annotator")
    np.testing.assert_array_equal(few.sets[3], data.sets[3])
    assert few.fingerprint() != data.fingerprint()
    assert data.take(np.arange(40)).fingerprint() == data.fingerprint()


def test_the_command_line_checks_and_compares_rankings(tmp_path):
    data = best_of(10, answers=120)
    rows = [
        (data.answers[k], ITEMS_SORTED[m], 1 if m == best else "", data.annotators[who])
        for k, (members, best, who) in enumerate(zip(data.sets, data.best, data.annotator, strict=True))
        for m in members
    ]
    pd.DataFrame(rows, columns=["answer", "item", "rank", "judge"]).to_csv(tmp_path / "lists.csv", index=False)
    table = [str(tmp_path / "lists.csv"), "--answer", "answer", "--annotator", "judge"]
    out = tmp_path / "out"
    fitted = CliRunner().invoke(main.app, ["fit", *table, "-m", "plackett_luce", "--out", str(out), "-q"])
    assert fitted.exit_code == 0, fitted.output
    checked = CliRunner().invoke(main.app, ["check", str(out / "fit.nc"), *table, "--replicates", "20"])
    assert checked.exit_code == 0, checked.output
    assert "choice fit" in checked.stdout
    models = ["--models", "plackett_luce", "luce_choice+annotator_types(k=2)"]
    compared = CliRunner().invoke(main.app, ["compare", *table, *models, "--unit", "annotator", "-q"])
    assert compared.exit_code == 0, compared.output
    assert "Left out: one annotator at a time." in compared.stdout
