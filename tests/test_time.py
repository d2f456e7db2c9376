"""Utilities that drift, annotators who tire: what the layers say, that it comes back, and that checks find it."""

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from scipy.special import expit, logsumexp
from scipy.stats import chi2
from typer.testing import CliRunner

import prefdensity
from prefdensity import Comparisons
from prefdensity.cli.main import app
from prefdensity.comparison.elpd import unit_log_lik
from prefdensity.errors import DataError, ProgramError
from prefdensity.posterior.by_group import utilities_in
from prefdensity.programs.loading import load_program
from prefdensity.programs.pipeline import margins
from prefdensity.programs.running import environment
from prefdensity.programs.tabulate import cells_of
from prefdensity.reward import compare_policies

ITEMS = np.array(["ash", "elm", "fir", "oak", "yew"])


def votes(seed, utility, rows=2000, weight=lambda t: 1.0):
    """Judgements at times from 0 to 1 of utilities [row, item] at each time, `weight` being how much they matter."""
    rng = np.random.default_rng(seed)
    t = rng.random(rows)
    a = rng.integers(5, size=rows)
    b = (a + rng.integers(1, 5, size=rows)) % 5
    u, row = utility(t), np.arange(rows)
    won = rng.random(rows) < 1 / (1 + np.exp(weight(t) * (u[row, b] - u[row, a])))
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta((365 * t).round(), "D")
    return pd.DataFrame({
        "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": np.where(won, "a", "b"),
        "date": day.strftime("%Y-%m-%d"), "trial": (100 * t).round(), "who": rng.integers(20, size=rows).astype(str),
    })  # fmt: skip


WORTH = np.array([0.8, 0.4, 0.0, -0.4, -0.8])
MOVES = np.array([-1.2, 0.0, 0.3, 0.0, 0.9])


def moving(t):
    """Utilities [time, item] that move smoothly, the first item down and the last up."""
    return WORTH + np.sin(np.pi * (t - 0.5))[:, None] * MOVES


def read(frame, *numbers):
    return Comparisons.from_frame(frame, numbers=list(numbers), annotator="who")


@pytest.fixture(scope="module")
def drifting():
    data = read(votes(0, moving), "date")
    return prefdensity.fit("bradley_terry+drift", data, method="laplace", draws=500, progress=False), data


def test_with_many_waves_drift_is_brownian_motion_about_its_average():
    """Of Brownian motion less its average over (0, 1) the covariance is 1/3 + (s^2 + t^2) / 2 - max(s, t)."""
    days = np.linspace(0, 200, 21)
    frame = pd.DataFrame({"item_a": "ash", "item_b": "elm", "outcome": "a", "date": days, "who": "Ann"})
    program = load_program("bradley_terry+drift(waves=400)")
    cells = cells_of(read(frame, "date"), program.outcomes, program.needs)
    rows = []
    for k in range(400):
        one = np.zeros((400, 2))
        one[k, 0] = 1.0
        fixed = {"utility": [0.0, 0.0], "date_drift_spread": 1.0, "date_drift_offset": one}
        fixed = {site: cells.total.new_tensor(value) for site, value in fixed.items()}
        with environment(torch.float64, seed=0), pyro.poutine.condition(data=fixed):
            rows.append(margins(program.layers, cells)[0].numpy())
    found, t = np.array(rows).T @ np.array(rows), days[cells.number("date").argsort()] / 200
    s, t = np.meshgrid(t, t)
    np.testing.assert_allclose(found, 1 / 3 + (s**2 + t**2) / 2 - np.maximum(s, t), atol=1e-3)


def test_a_drift_comes_back(drifting):
    post, _ = drifting
    assert post.status.trusted
    found = post.over("date", at=["2024-01-31", "2024-06-30", "2024-11-30"])
    truth = moving(np.array([30, 181, 334]) / 365)
    mean, sd = (found[name].to_numpy().reshape(3, 5) for name in ("mean", "sd"))
    z = (mean - (truth - truth.mean(1, keepdims=True))) / sd
    assert (z**2).sum() < chi2.isf(1e-4, 12) * 15 / 12  # twelve of fifteen are free
    assert (sd < 0.35).all()
    change = post.parameters().set_index(["parameter", "index"]).loc["date_drift", "mean"]
    assert change["ash"] < -1
    assert change["yew"] > 0.8


def test_a_forecast_walks_on_as_the_walk_says(drifting):
    """Of the difference of two items the variance grows by 2 tau^2 for each length of the table; its mean stays."""
    post, _ = drifting
    place = np.array([1.0, 1.5, 2.0])
    middle, spread, least, greatest = post.units["date"]
    at = (least + place * (greatest - least) - middle) / spread
    found = utilities_in(post, "date", at)[..., 1:]  # over the first item
    grown = ((found[:, 1:] - found[:, :1]) ** 2).mean((0, 2))
    tau = post.draws["date_drift_spread"]
    expected = 2 * (tau**2).mean() * (place[1:] - 1)
    error = (2 / (len(tau) * 2.5)) ** 0.5  # four differences from one item count for some 2.5
    assert np.abs(grown / expected - 1).max() < 4 * error + 0.01
    apart = ((found[:, 2] - found[:, 1]) ** 2).mean()
    assert apart == pytest.approx(expected[0], rel=4 * error + 0.01)  # and no less from one date to the next
    assert np.abs((found[:, 2] - found[:, 0]).mean(0)).max() < 4 * (expected[1] / len(tau)) ** 0.5
    table = post.over("date", at=["2024-12-31", "2026-01-01"])
    assert (table["sd"][5:].to_numpy() > table["sd"][:5].to_numpy()).all()
    now, then = (post.predict([("ash", "yew")], at={"date": date}) for date in ("2024-12-31", "2034-01-01"))
    width = [(each["p_a_upper"] - each["p_a_lower"])[0] for each in (now, then)]
    assert width[1] > 2 * width[0]
    before = post.over("date", at=["2014-01-01"])
    assert before["sd"].min() > 2 * table["sd"][:5].max()


def test_a_course_is_that_of_the_draws_and_ends_with_the_table(drifting):
    post, _ = drifting
    found = post.over("date", reference="elm")
    ends = found.groupby("item")["mean"].agg(["first", "last"])
    change = post.draws["date_drift"].mean(0)
    change = dict(zip(post.items, change - change[list(post.items).index("elm")], strict=True))
    assert (ends["last"] - ends["first"]).to_dict() == pytest.approx(change, abs=1e-9)
    assert found.groupby("date")["p_best"].sum().to_numpy() == pytest.approx(1)
    with pytest.raises(DataError, match="reads no number 'trial', only date"):
        post.over("trial")
    figure = prefdensity.plots.course(found, most=3)
    assert len(figure.axes[0].lines) == 4


def test_the_command_line_tells_a_course_and_a_forecast(tmp_path):
    path, fit, tables = tmp_path / "votes.csv", tmp_path / "fit", tmp_path / "tables"
    votes(0, moving, rows=400).to_csv(path, index=False)
    told = ["--over", "date", "--at", "2024-12-30", "--at", "2025-12-30"]
    ask = ["fit", path, "--number", "date", "-m", "bradley_terry", "--method", "laplace", "--draws", "200", "--quiet"]
    done = CliRunner().invoke(app, list(map(str, [*ask, *told, "--out", fit])))
    assert done.exit_code == 0, done.output
    assert "The best three at either end of date, out of 5:" in done.output
    course = pd.read_csv(fit / "course.csv")
    assert list(course["date"].unique()) == ["2024-12-30", "2025-12-30"]
    assert course.groupby("date")["sd"].mean().is_monotonic_increasing
    assert (fit / "course.svg").exists()
    done = CliRunner().invoke(app, list(map(str, ["tables", fit / "fit.nc", path, "--number", "date", *told, "--out",
                                                  tables])))  # fmt: skip
    assert done.exit_code == 0, done.output
    again = pd.read_csv(tables / "course.csv")
    np.testing.assert_allclose(again["mean"], course["mean"], atol=1e-9)
    done = CliRunner().invoke(app, list(map(str, [*ask, *told[2:], "--out", fit])))
    assert done.exit_code == 2
    assert "--at asks about dates or numbers of a column; name it with --over" in done.output


def test_a_board_for_each_date_is_the_course_on_the_scale_of_boards(drifting):
    post, data = drifting
    days = ["2024-11-30", "2024-01-31", "2025-06-30"]  # boards come in the order asked
    board = prefdensity.leaderboard(post, data, over="date", at=days, anchor={"fir": 1200})
    course = post.over("date", at=days, level=0.95)
    assert list(board["at"].unique()) == days
    for day, own in board.groupby("at"):
        told = course[course["date"] == day].set_index("item")["mean"][own["item"]].to_numpy()
        assert (np.diff(told) <= 0).all()
        np.testing.assert_allclose(np.diff(own["rating"]), 400 / np.log(10) * np.diff(told))
        assert own.set_index("item").loc["fir", "rating"] == pytest.approx(1200)
        assert own["votes"].sum() == 2 * data.n_judgements
    early, late = (board[board["at"] == day]["item"].iloc[0] for day in (days[1], days[0]))
    assert early == "ash"
    assert late != "ash"
    assert prefdensity.leaderboard(post, data, over="date")["at"].nunique() == 13


def test_a_policy_for_all_dates_is_judged_at_each(drifting):
    """The truth turns round, and so does who is served by a policy that is trained for the average of the dates."""
    post, data = drifting
    days = ["2024-01-15", "2024-06-30", "2024-12-15"]
    found = compare_policies(post, data, over="date", at=days, nats=[0.4])
    names = [f"date {day}" for day in days]
    rows = found.table.set_index(["policy", "group"])
    for name in names:
        assert rows.loc[(f"for {name}", name), "win_rate"] >= rows.loc[("average", name), "win_rate"] - 1e-9
    share = rows.loc["average", "share"][names]
    when = data.numbers_of("date") - data.numbers_of("date").min()
    edges = np.array([14, 181, 349])
    nearest = np.abs(when[:, None] - edges).argmin(1)
    np.testing.assert_allclose(
        share, np.bincount(nearest) / len(data), atol=0.005
    )  # the first day need not be voted on
    p = found.probabilities.set_index(["policy", "item"])["probability"]["for " + names[0]][list(post.items)].to_numpy()
    u = moving(np.array([349 / 365]))[0]
    true = p @ expit(u[:, None] - u) @ np.full(5, 0.2)
    told = rows.loc[(f"for {names[0]}", names[2])]
    assert told["lower"] < true < told["upper"]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"over": "trial"}, "reads no number 'trial', only date"),
    ({"at": ["2024-01-01"]}, "at asks about dates or values of a number; name it in over"),
    ({"over": "date", "at": []}, "must name values of date, each once"),
    ({"over": "date", "at": ["2024-01-01", "2024-01-01"]}, "must name values of date, each once"),
    ({"over": "date", "at": ["spring"]}, "spring"),
])  # fmt: skip
def test_dates_that_nobody_can_be_asked_about_are_refused(drifting, arguments, message):
    post, data = drifting
    for ask in (prefdensity.leaderboard, compare_policies):
        with pytest.raises(DataError, match=message):
            ask(post, data, **arguments)


def test_groups_and_dates_are_one_too_many(drifting):
    post, data = drifting
    with pytest.raises(DataError, match="by and over='date' both say what is told apart"):
        prefdensity.leaderboard(post, data, by="annotator", over="date")
    with pytest.raises(DataError, match="groups and over='date' both say what is told apart"):
        compare_policies(post, data, "annotator", over="date")


def test_boards_and_policies_over_a_date_on_the_command_line(drifting, tmp_path):
    post, data = drifting
    path, fit = tmp_path / "votes.csv", post.save(tmp_path / "fit.nc")
    votes(0, moving).to_csv(path, index=False)
    how = [fit, path, "--number", "date", "--annotator", "who"]
    told = ["--over", "date", "--at", "2024-01-31", "--at", "2025-12-30"]
    board, policies = tmp_path / "board.md", tmp_path / "policies.csv"
    done = CliRunner().invoke(app, list(map(str, ["leaderboard", *how, *told, "--out", board])))
    assert done.exit_code == 0, done.output
    assert board.read_text().count("| Rank (UB) |") == 2
    assert "**Leaderboard: 2025-12-30**" in board.read_text()
    done = CliRunner().invoke(app, list(map(str, ["policies", *how, *told, "--nats", 0.3, "--out", policies])))
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(policies)["group"]) == {"date 2024-01-31", "date 2025-12-30"}
    for command in ("leaderboard", "policies"):
        done = CliRunner().invoke(app, list(map(str, [command, *how, *told, "--by", "who"])))
        assert done.exit_code == 2
        assert "--by who and --over date both say what is told apart; give one of them" in done.output
        done = CliRunner().invoke(app, list(map(str, [command, *how, *told[2:]])))
        assert done.exit_code == 2
        assert "name it with --over" in done.output


def test_a_saved_drift_is_asked_as_before(drifting, tmp_path):
    post, _ = drifting
    again = prefdensity.load_posterior(post.save(tmp_path / "fit.nc"))
    pd.testing.assert_frame_equal(again.over("date"), post.over("date"))


def test_checks_find_what_drifts():
    """A straight trend would do for what only rises or falls; there and back again it takes a walk."""

    def swinging(t):
        return WORTH + np.cos(2 * np.pi * t)[:, None] * MOVES

    data = read(votes(1, swinging), "date")
    post = prefdensity.fit("bradley_terry", data, method="laplace", progress=False)
    steps = prefdensity.check(post, data, replicates=20).steps
    assert steps["layer"][0] == "drift(over='date')"
    assert steps["p_adjusted"][0] < 1e-6


def test_fatigue_comes_back_and_is_found():
    def still(t):
        return np.broadcast_to(2 * WORTH, (len(t), 5))

    data = read(votes(2, still, rows=3000, weight=lambda t: np.exp(1.5 * (0.5 - t))), "trial")
    post = prefdensity.fit("reliability(over='trial')", data, method="laplace", progress=False)
    slope = post.draws["trial_reliability"]
    truth = -1.5 * data.column("trial").unit[1] / 100
    assert abs(slope.mean() - truth) < 4 * slope.std()
    assert slope.mean() < -5 * slope.std()
    plain = prefdensity.fit("bradley_terry", data, method="laplace", progress=False)
    steps = prefdensity.check(plain, data, replicates=20).steps
    assert steps["layer"][0] == "reliability(over='trial')"


def test_over_what_goes_with_by_whom():
    both = load_program("reliability(by='annotator', over='trial')")
    assert both.needs == ("annotator", "trial")
    assert load_program("reliability(over='trial')").needs == ("trial",)
    assert load_program("reliability(over='trial')").mirrors == ()
    assert len(both.mirrors) == 1


def test_a_number_with_one_value_is_refused():
    frame = votes(3, moving, rows=50).assign(trial=7)
    with pytest.raises(ProgramError, match="reads 'trial', and the data have one value of it; leave it out"):
        prefdensity.fit("bradley_terry+drift(over='trial')", read(frame, "trial"))


@pytest.mark.slow
def test_a_history_of_ratings_beats_a_static_one(shared_data, capsys):
    """31,979 dated games of 326 national teams: a fifth of them, at random, is predicted from the others."""
    frame = pd.read_csv(shared_data / "intl_football.csv.gz")
    frame["first"] = np.where(frame["neutral"] == 1, "neither", "a")
    data = Comparisons.from_frame(frame[["item_a", "item_b", "outcome", "date", "first"]], numbers=["date"],
                                  first="first")  # fmt: skip
    held = np.random.default_rng(0).random(len(data)) < 0.2
    found = []
    for name in ("davidson+position_bias", "davidson+position_bias+drift"):
        post = prefdensity.fit(name, data.take(np.flatnonzero(~held)), method="laplace", draws=200, progress=False)
        log_lik, _, _, index = unit_log_lik(post, data.take(np.flatnonzero(held)), held_out=True)
        found.append((logsumexp(np.asarray(log_lik), axis=0) - np.log(len(log_lik)))[index])
    gain = found[1] - found[0]
    error = gain.std() / len(gain) ** 0.5
    with capsys.disabled():
        losses = " and ".join(f"{-each.mean():.4f}" for each in found)
        print(f"\nlog loss {losses} with drift; gain {gain.mean():.4f} ({error:.4f})")
    assert gain.mean() > 3 * error
