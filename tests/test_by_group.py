"""One ranking for each group: what the program says of it, which differences are real, and what is written of it."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

import prefdensity
from prefdensity import Comparisons
from prefdensity.cli.main import app
from prefdensity.errors import DataError, ProgramError
from prefdensity.posterior.simultaneous import at_once
from prefdensity.reporting.group_plots import groups

ITEMS = np.array(["ash", "elm", "fir", "oak"])
WORTH = {"code": [0.8, 0.2, -0.2, -0.8], "maths": [0.8, 0.2, -0.2, -0.8], "prose": [-0.8, 0.2, -0.2, 0.8]}
REAL = {(item, frozenset((other, "prose"))) for item in ("ash", "oak") for other in ("code", "maths")}


def votes(seed=0, rows=1500, people=10):
    """Judgements in three categories, in one of which the first and the last item change places."""
    rng = np.random.default_rng(seed)
    a = rng.integers(4, size=rows)
    b = (a + rng.integers(1, 4, size=rows)) % 4
    category = rng.choice(list(WORTH), rows)
    u = np.array([WORTH[each] for each in category])
    row = np.arange(rows)
    first = rng.choice([-1, 1], rows)
    won = rng.random(rows) < 1 / (1 + np.exp(u[row, b] - u[row, a] - 0.3 * first))
    return pd.DataFrame({
        "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": np.where(won, "a", "b"), "category": category,
        "annotator": rng.integers(people, size=rows).astype(str), "shown": np.where(first > 0, "a", "b"),
    })  # fmt: skip


@pytest.fixture(scope="module")
def fitted():
    data = Comparisons.from_frame(votes(), annotator="annotator", groups=["category"], first="shown")
    program = "reliability+position_bias(by='category')+tastes(by=['category', 'annotator'])"
    return prefdensity.fit(program, data, method="laplace", draws=400, progress=False)


def centred(table):
    return table - table.mean(-1, keepdims=True)


def test_utilities_are_those_of_the_average_annotator_in_each_group(fitted):
    found, draws = fitted.by("category"), fitted.draws
    own = draws["category_taste_spread"][:, None, None] * draws["category_taste_offset"]
    np.testing.assert_allclose(found.utilities, centred(draws["utility"][:, None] + own), atol=1e-10)
    people = fitted.by("annotator")
    own = draws["annotator_taste_spread"][:, None, None] * draws["annotator_taste_offset"]
    weight = draws["annotator_reliability"][:, :, None]
    np.testing.assert_allclose(people.utilities, centred(weight * (draws["utility"][:, None] + own)), atol=1e-10)
    assert people.names == fitted.annotators


def test_the_table_ranks_every_group(fitted):
    table = fitted.by("category", level=0.8).table
    assert list(table.groupby("group", sort=False)["item"].first()) == ["ash", "ash", "oak"]
    for _, part in table.groupby("group"):
        assert part["mean"].is_monotonic_decreasing
        assert part["p_best"].sum() == pytest.approx(1)
        assert (part["rank_lower"] <= part["rank_upper"]).all()


def test_differences_that_are_there_are_found_and_no_others(fitted):
    for reference in (None, "elm"):
        found = fitted.by("category", reference=reference)
        real = found.differences[found.differences["real"]]
        assert {(row.item, frozenset((row.group_a, row.group_b))) for row in real.itertuples()} == REAL
        row = found.differences.query("item == 'ash' and group_a == 'code' and group_b == 'prose'").iloc[0]
        assert row["difference"] == pytest.approx(1.6, abs=4 * row["sd"])
        assert len(found.differences) == 3 * (4 if reference is None else 3)
    assert "4 of 9 differences between groups are real" in str(found)
    assert "against elm" in str(found)


def test_intervals_at_once_of_independent_normals():
    """The largest of k standard normals in absolute value is below q with probability (2 Phi(q) - 1)^k."""
    draws = np.random.default_rng(0).normal(size=(40_000, 12)) * np.linspace(0.5, 3, 12)
    found = at_once(lambda part: draws[:, part], 12, len(draws), 0.9)
    reach = ((found["upper_all"] - found["lower_all"]) / 2 / found["sd"]).to_numpy()
    np.testing.assert_allclose(reach, norm.ppf((1 + 0.9 ** (1 / 12)) / 2), atol=0.03)


def test_what_cannot_be_asked_is_said(fitted):
    with pytest.raises(DataError, match="reads no labels called 'country', only category, annotator"):
        fitted.by("country")
    with pytest.raises(DataError, match="reference: 'yew' is no item of the fit"):
        fitted.by("category", reference="yew")
    data = Comparisons.from_frame(votes(), annotator="annotator", groups=["category"])
    with pytest.raises(DataError, match="has no spread"):
        prefdensity.fit("tastes(by='category')", data, method="map").by("category")


def test_attributes_are_asked_by_the_name_that_the_program_has_for_them():
    frame = votes(rows=200)
    who = sorted(frame["annotator"].unique())
    judges = pd.DataFrame({"age": np.linspace(20, 60, len(who)), "home": np.resize(["at", "de"], len(who))}, index=who)
    data = Comparisons.from_frame(frame, attributes={"annotator": judges})
    post = prefdensity.fit("bradley_terry+tastes(on=['age', 'home'])", data, method="laplace", draws=100)
    pair = [tuple(post.items[:2])]
    short = post.predict(pair, at={"age": 30, "home": "de"})
    pd.testing.assert_frame_equal(short, post.predict(pair, at={"annotator.age": 30, "annotator.home": "de"}))
    assert not short.equals(post.predict(pair, at={"age": 60, "home": "at"}))
    with pytest.raises(
        DataError, match="'annotator.age' is a number and names no groups; .* by post.over.'annotator.age'"
    ):
        post.by("age")


def test_groups_are_drawn_side_by_side(fitted):
    found = fitted.by("category")
    figure = groups(found, columns=2)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()]
    assert titles == ["code", "maths", "prose"]
    order = found.table.groupby("item")["mean"].mean().sort_values(ascending=False).index
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(order)


def test_the_command_line_ranks_groups(tmp_path):
    path = tmp_path / "votes.csv"
    votes(rows=700).to_csv(path, index=False)
    ask = ["fit", str(path), "--group", "category", "--model", "bradley_terry", "--by", "category"]
    done = CliRunner().invoke(app, [*ask, "--reference", "elm", "--out", str(tmp_path / "out"), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "differences between groups are real" in done.output
    differences = pd.read_csv(tmp_path / "out" / "group_differences.csv")
    assert set(differences.loc[differences["real"], "item"]) == {"ash", "oak"}
    assert len(pd.read_csv(tmp_path / "out" / "groups.csv")) == 12
    assert (tmp_path / "out" / "groups.svg").stat().st_size > 1000
    post = prefdensity.load_posterior(tmp_path / "out" / "fit.nc")
    assert post.program_name == "bradley_terry+tastes(by='category')"
    out = CliRunner().invoke(app, [*ask, "--reference", "yew", "--out", str(tmp_path / "out")])
    assert "--reference: 'yew' is no item of the table" in out.output


def test_a_program_that_reads_the_label_is_left_as_it_is():
    from prefdensity.programs.loading import load_program, reading

    program = load_program("davidson+tastes(on='category')")
    assert reading(program, "category") is program
    own = prefdensity.compose("davidson", name="mine.py")
    with pytest.raises(ProgramError, match="reads no 'category'"):
        reading(own, "category")


def test_maximum_likelihood_does_not_pool(tmp_path):
    """Groups that have nothing in common but what is said of all: the difference is that of two fits."""
    path = tmp_path / "votes.csv"
    frame = votes(rows=600)
    frame.to_csv(path, index=False)
    ask = ["fit", str(path), "--group", "category", "--model", "bradley_terry", "--by", "category", "--method", "mle"]
    done = CliRunner().invoke(app, [*ask, "--reference", "elm", "--out", str(tmp_path / "out"), "--quiet"])
    assert done.exit_code == 0, done.output
    post = prefdensity.load_posterior(tmp_path / "out" / "fit.nc")
    assert post.program_name == "bradley_terry+tastes(on='category')"
    found = pd.read_csv(tmp_path / "out" / "group_differences.csv").set_index(["item", "group_a", "group_b"])
    alone = {}
    for name in ("code", "prose"):
        data = Comparisons.from_frame(frame[frame["category"] == name].drop(columns=["category", "shown"]))
        u = prefdensity.fit("bradley_terry", data, method="mle", progress=False).point["utility"]
        alone[name] = u[data.items.index("ash")] - u[data.items.index("elm")]
    assert found.loc[("ash", "code", "prose"), "difference"] == pytest.approx(alone["code"] - alone["prose"], abs=1e-5)
