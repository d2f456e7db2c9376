"""Learning curves: the loop, the picture, and bars of label efficiency."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.data import simulate
from prefdensity.errors import DataError
from prefdensity.reporting import selection_plots
from prefdensity.selection import study
from prefdensity.selection.worlds import WORLDS, Votes, linear_map, world_of

SHORT = {"budgets": (30, 60), "seeds": 2, "items_per_round": 20, "progress": False}


def test_scores_that_are_shrunk_claim_too_little_and_less_so_with_more_labels():
    found = study.selection_study("linear", ("eig",), budgets=(60, 300), seeds=8, seed=3, progress=False, jobs=1)
    wide = found.curves.pivot(index="seed", columns=["rule", "labels"], values="slope")
    for rule in ("eig", "random"):
        few, many = wide[rule, 60], wide[rule, 300]
        # 4 standard errors of a mean of 8: a false alarm in some thousand runs
        assert few.mean() - many.mean() > -4 * (few - many).std(ddof=1) / 8**0.5
        assert 1 - 4 * many.std(ddof=1) / 8**0.5 < many.mean() < few.mean() + 0.1
        table = found.table.set_index(["rule", "labels"])
        assert table.loc[(rule, 300), "slope"] == pytest.approx(many.mean())
    assert "1: calibrated" in str(found)


def test_curves_are_paired_and_reproducible():
    one = study.selection_study("linear", ("eig", "d_optimal"), **SHORT)
    start = one.curves[one.curves["labels"] == 30].pivot(index="seed", columns="rule", values="correlation")
    assert (start.nunique(axis=1) == 1).all()  # all rules start from the same votes
    assert set(one.curves["rule"]) == {"eig", "d_optimal", "entropy", "random"}
    pd.testing.assert_frame_equal(one.curves, study.selection_study("linear", ("eig", "d_optimal"), **SHORT).curves)
    alone = study.selection_study("linear", ("eig",), **SHORT).curves
    both = one.curves[one.curves["rule"].isin(["eig", "entropy", "random"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both)  # a rule's curve does not depend on its company


def test_entropy_stands_beside_the_winner():
    found = study.selection_study("linear", ("eig",), **SHORT)
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["eig", "entropy", "random"]
    assert "against entropy" in lines[5]
    assert "against random" in lines[5]
    table = found.table.set_index(["rule", "labels"])
    wide = found.curves.pivot(index="seed", columns=["rule", "labels"], values="correlation")
    gap = wide["eig", 60] - wide["random", 60]
    assert table.loc[("eig", 60), "t"] == pytest.approx(gap.mean() / (gap.std(ddof=1) / 2**0.5))
    assert table.loc[("random", 60), "error_ratio"] == 1
    words = [text.get_text() for text in selection_plots.learning_curves(found).findobj(Text)]
    assert {"eig", "entropy", "random", found.verdict()} <= set(words)


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_can_be_studied(world):
    made = world_of(world)(3)
    assert len(made.pool) == len(made.reward)
    assert len(made.test) == len(made.test_reward)
    found = study.selection_study(world, ("eig", "coreset"), **SHORT)
    assert np.isfinite(found.curves["correlation"]).all()
    gained = found.curves.groupby("labels")["correlation"].mean()
    assert gained[60] > gained[30]


def test_prompts_can_be_kept_apart():
    for candidates in ("within", "across"):
        found = study.selection_study("prompts", ("eig",), candidates=candidates, **SHORT | {"items_per_round": 40})
        assert found.curves["correlation"].max() < 1


def test_draws_stand_for_the_laplace_approximation():
    few, many = (study.selection_study("linear", ("eig",), draws=size, **SHORT).curves for size in (16, 20_000))
    exact = study.selection_study("linear", ("eig",), **SHORT).curves
    chosen = exact["rule"] == "eig"
    assert not few[chosen].equals(exact[chosen])
    np.testing.assert_allclose(many["correlation"], exact["correlation"], atol=0.05)


def test_a_fit_gives_the_truths():
    data = simulate.population(12, 5, 150, seed=0)[0]
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    found = study.selection_study(post, ("eig",), budgets=(20, 50), seeds=3, progress=False)
    assert found.curves.groupby("labels")["correlation"].mean()[50] > 0.5


def test_linear_learner_finds_the_mode():
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(30, 4))
    a, b = rng.integers(30, size=(2, 100))
    votes = Votes(a, b, (rng.random(100) < 0.5).astype(int))
    fitted = linear_map(pool, votes, 0)
    x = pool[a] - pool[b]
    gradient = x.T @ (votes.won - expit(x @ fitted.weight)) - fitted.weight
    assert np.abs(gradient).max() < 1e-8


def test_interrupted_studies_keep_what_is_complete(monkeypatch):
    whole = study.selection_study("linear", ("eig",), **SHORT | {"seeds": 3})
    calls = iter(range(100))
    make = study.world_of("linear")

    def tired(seed):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return make(seed)

    monkeypatch.setattr(study, "world_of", lambda name: tired)
    found = study.selection_study("linear", ("eig",), **SHORT | {"seeds": 3})
    assert found.notes == ("Interrupted: 2 of 3 simulations are complete.",)
    pd.testing.assert_frame_equal(found.curves, whole.curves[whole.curves["seed"] < 2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"world": "moon"}, "world='moon' is unknown; use linear, three_well"),
        ({"rules": ("batch_bald",)}, "rules='batch_bald' is unknown; there are"),
        ({"budgets": (50,)}, "two or more ascending"),
        ({"budgets": (50, 40)}, "two or more ascending"),
        ({"seeds": 1}, "seeds must be a whole number of at least 2, not 1"),
        ({"candidates": "within"}, "in the world of prompts"),
        ({"items_per_round": 5}, "n=30 pairs are asked for and only 10"),
    ],
)
def test_bad_input_is_one_clear_sentence(given, words):
    with pytest.raises(DataError, match=words):
        study.selection_study(**SHORT | given)


def test_command_writes_curves_and_a_picture(tmp_path):
    out = tmp_path / "study"
    more = ("--budgets", "20,40", "--seeds", "2", "--world", "items", "--rules", "eig", "--out", str(out), "-q")
    said = CliRunner().invoke(main.app, ["select-study", *more])
    assert said.exit_code == 0, said.output
    assert "against entropy" in said.stdout
    written = sorted(path.name for path in out.iterdir())
    assert written == ["curves.csv", "learning_curves.svg", "report.html", "table.csv"]
    refused = CliRunner().invoke(main.app, ["select-study", "--budgets", "many"])
    assert refused.exit_code == 2
    assert "--budgets many" in refused.stderr


# --- bars of label efficiency ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 64])
def test_linear_world_meets_its_bars(draws):
    rules = ("eig", "d_optimal", "past_aware_d_optimal")
    found = study.selection_study("linear", rules, seeds=20, draws=draws, progress=False)
    table = found.table.set_index(["rule", "labels"])
    rho, ratio, t = table["correlation"], table["error_ratio"], table["t"]
    assert rho["d_optimal", 200] >= 0.915
    assert rho["d_optimal", 800] >= 0.985
    assert all(t["d_optimal", labels] > 3 for labels in (200, 400, 800))
    for labels, bar in ((100, 0.835), (200, 0.930), (400, 0.970), (800, 0.9875)):
        assert rho["eig", labels] >= bar
        past_aware = table.loc[("past_aware_d_optimal", labels)]
        assert rho["eig", labels] >= past_aware["correlation"] - past_aware["se"]
    assert ratio["eig", 200] <= 0.65
    assert ratio["eig", 800] <= 0.60


@pytest.mark.slow
def test_three_well_world_meets_its_bars():
    found = study.selection_study("three_well", ("greedy_d_optimal",), seeds=20, progress=False)
    ratio = found.table.set_index(["rule", "labels"])["error_ratio"]
    assert ratio["greedy_d_optimal", 200] <= 0.6
    assert ratio["greedy_d_optimal", 800] <= 0.5


@pytest.mark.slow
def test_world_of_prompts_meets_its_bar():
    found = study.selection_study("prompts", ("eig",), seeds=20, progress=False)
    table = found.table.set_index(["rule", "labels"])
    assert table.loc[("eig", 800), "t"] > 3
