"""Tables to show a colleague: differences, quasi-variances, annotators, leaderboards, in files that do no harm."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import studentized_range
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.posterior.draws import Draws
from prefdensity.posterior.pairwise import differences, quasi_variances
from prefdensity.posterior.status import FitStatus
from prefdensity.reporting.board import KINDS, spreadsheet_safe, written


def drawn(utility, items=None, method="laplace"):
    """A record of draws [draw, item] and nothing else."""
    items = tuple(items or (f"i{k}" for k in range(utility.shape[1])))
    return Draws(
        program_name="x", items=items, annotators=(), outcomes=("a", "b"), draws={"utility": utility},
        dims={"utility": ("item",)}, event_dims={}, point={"utility": utility.mean(0)}, log_p=np.zeros(0),
        log_q=np.zeros(0), status=FitStatus(
            method=method, converged=True, message="", seconds=0.0, steps=1, log_likelihood=0.0, seed=0
        ),
    )  # fmt: skip


def test_simultaneous_intervals_are_tukeys_where_items_are_alike():
    rng = np.random.default_rng(0)
    table = differences(drawn(rng.normal(size=(40_000, 5))), level=0.9)
    assert len(table) == 10
    reach = (table["upper_all"] - table["lower_all"]) / 2 / table["sd"]
    exact = studentized_range.ppf(0.9, 5, np.inf) / np.sqrt(2)
    # the standard error of the quantile from 40,000 draws is about 0.01; 4.5 of them give a false alarm of 1e-5
    np.testing.assert_allclose(reach, exact, atol=0.045)
    np.testing.assert_allclose((table["upper"] - table["lower"]) / 2 / table["sd"], 1.645, atol=0.05)


def test_all_differences_lie_in_their_intervals_as_often_as_said():
    rng = np.random.default_rng(1)
    utility = rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 4)) + [3, 1, 0, 0]
    post = drawn(utility)
    table = differences(post, level=0.8)
    place = {item: k for k, item in enumerate(post.items)}
    apart = utility[:, table["item_a"].map(place)] - utility[:, table["item_b"].map(place)]
    inside = ((apart >= table["lower_all"].to_numpy()) & (apart <= table["upper_all"].to_numpy())).all(1)
    assert inside.mean() == pytest.approx(0.8, abs=1 / len(utility))
    assert (table["lower_all"] <= table["lower"]).mean() > 0.9
    assert table["p_greater"].to_numpy() == pytest.approx((apart > 0).mean(0))
    assert (table["difference"] >= 0).all()


def test_differences_from_a_reference_and_by_type():
    rng = np.random.default_rng(2)
    table = differences(drawn(rng.normal(size=(100, 3)), "xyz"), reference="y")
    assert set(table["item_b"]) == {"y"}
    assert len(table) == 2
    with pytest.raises(DataError, match="reference: 'w' is no item of the fit; there are x, y, z"):
        differences(drawn(rng.normal(size=(100, 3)), "xyz"), reference="w")
    with pytest.raises(DataError, match="a posterior mode has no spread"):
        differences(drawn(rng.normal(size=(1, 3)), method="map"))
    with pytest.raises(DataError, match="level=2 must lie between 0 and 1"):
        differences(drawn(rng.normal(size=(100, 3))), level=2)


def test_quasi_variances_are_exact_where_items_are_independent():
    rng = np.random.default_rng(3)
    white = rng.normal(size=(500, 5))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white, rowvar=False))).T  # covariance exactly the identity
    sd = np.array([0.3, 1, 2, 0.5, 1.5])
    together = 3 * rng.normal(size=(500, 1))  # what all items share cancels in every difference
    for utility in (white * sd, white * sd + together):
        found = quasi_variances(drawn(utility)).sort_values("item")
        np.testing.assert_allclose(found["quasi_sd"], sd, rtol=1e-6)
        assert found["worst_error"].max() < 1e-6


def bradley_terry(wins):
    """Return the covariance of maximum likelihood [item, item] by Newton's method on a table of wins, sum to zero."""
    utility, games = np.zeros(len(wins)), wins + wins.T
    for _ in range(50):
        p = 1 / (1 + np.exp(utility[None, :] - utility[:, None]))
        information = np.diag((games * p * (1 - p)).sum(1)) - games * p * (1 - p)
        utility = utility + np.linalg.pinv(information) @ (wins - games * p).sum(1)
    return np.linalg.pinv(information)


def least_log_squares(variance):
    """Return quasi-variances by the criterion of Firth and de Menezes: Gauss-Newton on logarithms of sums."""
    a, b = np.triu_indices(len(variance), 1)
    design = np.zeros((len(a), len(variance)))
    design[np.arange(len(a)), a] = design[np.arange(len(a)), b] = 1
    q = np.full(len(variance), variance[a, b].mean() / 2)
    for _ in range(200):
        total = design @ q
        q = np.linalg.lstsq(design / total[:, None], np.log(variance[a, b] / total) + 1, rcond=None)[0]
    return q


def test_quasi_variances_are_those_of_firth_and_de_menezes():
    data = prefdensity.read("example:citations")
    post = prefdensity.fit("bradley_terry", data, method="mle")
    place = {item: k for k, item in enumerate(post.items)}
    wins = np.zeros((len(place), len(place)))
    for row in data.to_frame().itertuples():
        a, b = place[row.item_a], place[row.item_b]
        wins[(a, b) if row.outcome == "a" else (b, a)] += row.count
    covariance = bradley_terry(wins)
    variance = np.add.outer(np.diag(covariance), np.diag(covariance)) - 2 * covariance
    found = quasi_variances(post).set_index("item").loc[list(post.items)]
    np.testing.assert_allclose(found["quasi_sd"] ** 2, least_log_squares(variance), rtol=1e-6)
    published = {"JASA": 0.06058873, "Comm Statist": 0.1025453, "JRSS-B": 0.07082997}  # BradleyTerry2, from Biometrika
    for item, error in published.items():
        together = np.hypot(found.loc[item, "quasi_sd"], found.loc["Biometrika", "quasi_sd"])
        assert abs(together / error - 1) <= found["worst_error"].max() + 1e-6
    assert found["worst_error"].max() < 0.05


def test_quasi_variances_of_three_items_are_exact():
    rng = np.random.default_rng(9)
    utility = rng.normal(size=(300, 3)) @ [[1.0, 0.3, 0.0], [0.0, 2.0, 0.5], [0.2, 0.0, 1.5]]
    found = quasi_variances(drawn(utility)).set_index("item").loc[["i0", "i1", "i2"]]
    v = [np.var(utility[:, i] - utility[:, j], ddof=1) for i, j in ((0, 1), (0, 2), (1, 2))]
    exact = np.array([v[0] + v[1] - v[2], v[0] + v[2] - v[1], v[1] + v[2] - v[0]]) / 2
    np.testing.assert_allclose(found["quasi_sd"] ** 2, exact, rtol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(4)
    skill = np.array([2.0, 1.0, 0.0, -1.0, -2.0])
    names = np.array(["=1+1", "b|ar", "<i>c", "d_{e}%", "-e"])
    a = rng.integers(5, size=1200)
    b = (a + rng.integers(1, 5, size=1200)) % 5
    who = rng.integers(6, size=1200)
    p = 1 / (1 + np.exp(-(skill[a] - skill[b]) * np.where(who == 5, -1, 1)))  # the last one turns the scale round
    frame = pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": np.where(rng.random(1200) < p, "a", "b"),
                          "annotator": np.array([f"w{k}" for k in range(6)])[who]})  # fmt: skip
    data = Comparisons.from_frame(frame)
    return prefdensity.fit("bradley_terry", data, seed=0), data, frame


def test_annotators_who_judge_the_other_way_are_flagged(fitted):
    post, data, _ = fitted
    table = prefdensity.annotator_table(post, data).set_index("annotator")
    assert table.loc["w5", "flag"] == "against the ranking"
    assert (table["flag"].drop("w5") == "").all()
    assert table.loc["w5", "agreement"] < 0.35 < 0.65 < table["agreement"].drop("w5").min()
    assert table["judgements"].sum() == 1200
    items = prefdensity.item_table(post, data)
    assert items["item"].iloc[0] == "=1+1"
    assert items["judgements"].sum() == 2400
    assert items["win_rate"].is_monotonic_decreasing


def test_a_board_counts_who_lies_wholly_above_and_keeps_its_anchor(fitted):
    post, data, _ = fitted
    board = prefdensity.leaderboard(post, data, anchor={"<i>c": 1114}, organisation={"-e": "@lab"})
    assert board.set_index("item").loc["<i>c", "rating"] == pytest.approx(1114)
    for row in board.itertuples():
        assert row.rank == 1 + (board["lower"] > row.upper).sum()
    summary = post.summary(level=0.95)
    scale = 400 / np.log(10)
    np.testing.assert_allclose(np.diff(board["rating"]), scale * np.diff(summary["mean"]))
    np.testing.assert_allclose(board["plus"], scale * (summary["upper"] - summary["mean"]))
    assert prefdensity.leaderboard(post, data)["rating"].mean() == pytest.approx(1000)
    with pytest.raises(DataError, match="must give one item of the table its rating"):
        prefdensity.leaderboard(post, data, anchor={"nobody": 1})


def test_names_are_text_in_every_language(fitted):
    post, data, _ = fitted
    board = prefdensity.leaderboard(post, data, organisation={"-e": "@lab"})
    text = {kind: written(board, kind, "A & B") for kind in KINDS}
    lines = text["markdown"].splitlines()
    assert len(lines) == 7
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in lines)  # a bar in a name is no column
    assert "<i>" not in text["html"]
    assert "<caption>A &amp; B</caption>" in text["html"]
    assert r"d\_\{e\}\%" in text["latex"]
    assert [row["item"] for row in json.loads(text["json"])["rows"]] == board["item"].tolist()
    cells = text["csv"].splitlines()
    assert any(",'=1+1," in line for line in cells)
    assert any(",'-e," in line and ",'@lab" in line for line in cells)
    with pytest.raises(DataError, match="there is no leaderboard in 'word'; there are markdown, json"):
        written(board, "word")
    assert spreadsheet_safe(pd.DataFrame({"x": ["\tz", 2.5, -1]}))["x"].tolist() == ["'\tz", 2.5, -1]
    assert spreadsheet_safe(pd.DataFrame({"=x": pd.Categorical(["@y"])})).to_dict("list") == {"'=x": ["'@y"]}
    odd = pd.DataFrame(
        {"rank": [1], "item": ['a~b & <c> | "d"'], "rating": [1.0], "minus": [1.0], "plus": [1.0], "votes": [1]}
    )
    assert r"a\~b \& \<c\> \| " in written(odd, "markdown")
    assert r"a\textasciitilde{}b \& \textless{}c\textgreater{} \textbar{} \textquotedbl{}d" in written(odd, "latex")


def test_a_board_for_each_group_counts_its_own_votes():
    rng = np.random.default_rng(5)
    skill = np.array([[1.5, 0.0, -1.5], [-1.5, 0.0, 1.5]])  # maths turns the ranking of code round
    a = rng.integers(3, size=1500)
    b = (a + rng.integers(1, 3, size=1500)) % 3
    group = rng.integers(2, size=1500)
    won = rng.random(1500) < 1 / (1 + np.exp(skill[group, b] - skill[group, a]))
    names = np.array(["elm", "fir", "oak"])
    frame = pd.DataFrame({"item_a": names[a], "item_b": names[b], "outcome": np.where(won, "a", "b"),
                          "category": np.array(["code", "d*e"])[group]})  # fmt: skip
    data = prefdensity.read(frame, groups=["category"])
    post = prefdensity.fit("bradley_terry+tastes(by='category')", data, seed=0)
    board = prefdensity.leaderboard(post, data, by="category", anchor={"fir": 1200})
    assert board.groupby("group", sort=False)["item"].apply(list).to_dict() == {
        "code": ["elm", "fir", "oak"], "d*e": ["oak", "fir", "elm"]
    }  # fmt: skip
    assert board.groupby("group")["votes"].sum().tolist() == (2 * np.bincount(group)).tolist()
    assert board.loc[board["item"] == "fir", "rating"].to_numpy() == pytest.approx([1200, 1200])
    assert board["rank"].tolist() == [1, 2, 3] * 2
    text = written(board, "markdown", "Votes")
    assert text.count("| Rank (UB) |") == 2
    assert r"**Votes: d\*e**" in text
    assert written(board, "html").count("<caption>Leaderboard: ") == 2
    assert written(board, "csv").splitlines()[0].startswith("group,rank,item")
    with pytest.raises(DataError, match="reads no labels called 'country'"):
        prefdensity.leaderboard(post, data, by="country")


def test_commands_write_them(fitted, tmp_path, monkeypatch):
    post, _, frame = fitted
    monkeypatch.chdir(tmp_path)
    post.save("fit.nc")
    frame.to_csv("votes.csv", index=False)
    pd.DataFrame({"item": ["-e"], "maker": ["lab"]}).to_csv("makers.csv", index=False)
    run = CliRunner().invoke
    words = ["leaderboard", "fit.nc", "votes.csv", "--anchor", "-e=900", "--organisations", "makers.csv"]
    shown = run(main.app, words)
    assert shown.exit_code == 0, shown.output
    assert r"| lab |" in shown.stdout
    assert run(main.app, [*words, "--as", "html", "--out", "board.html"]).exit_code == 0
    assert (tmp_path / "board.html").read_text().startswith("<table>")
    made = run(main.app, ["tables", "fit.nc", "votes.csv", "--out", "tables", "--reference", "-e"])
    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == [
        "annotators.csv", "differences.csv", "items.csv", "quasi_variances.csv"
    ]  # fmt: skip
    assert len(pd.read_csv("tables/differences.csv")) == 4
    refused = run(main.app, [*words[:4], "nobody"])
    assert refused.exit_code == 2
    assert "--anchor nobody has no rating" in refused.stderr


def test_rankings_have_differences_and_quasi_variances_too(tmp_path):
    rows = [("elm", "fir", "oak"), ("elm", "oak", "fir"), ("fir", "elm", "oak"), ("elm", "fir", "oak")] * 5
    pd.DataFrame(rows, columns=["r1", "r2", "r3"]).to_csv(tmp_path / "ranks.csv", index=False)
    how = [str(tmp_path / "ranks.csv"), "--ranked", "r*"]
    for words in (
        ["fit", *how, "--model", "plackett_luce", "--reference", "oak", "--quiet", "--out", str(tmp_path / "fit")],
        ["tables", str(tmp_path / "fit" / "fit.nc"), *how, "--reference", "oak", "--out", str(tmp_path / "tables")],
    ):
        done = CliRunner().invoke(main.app, words)
        assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "tables").iterdir())
    assert written == ["differences.csv", "items.csv", "quasi_variances.csv"]
    written, beside = (pd.read_csv(tmp_path / name / "differences.csv") for name in ("tables", "fit"))
    pd.testing.assert_frame_equal(written, beside)
    assert set(written["item_b"]) == {"oak"}
