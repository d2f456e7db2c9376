"""What is counted of rankings, top-k lists and best-worst answers: against brute force and pairs; boards made of it."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import prefdensity
from prefdensity import Choices, Comparisons, DataError
from prefdensity.cli import main
from prefdensity.reporting.answer import cautions

NAMES = tuple(f"dish {k}" for k in range(7))
COUNTED = ["answers", "best", "worst", "mean_rank", "win_rate"]


def answers(seed, n=60, deepest=None, who=4):
    """A long frame of answers about sets of two to six dishes, of each of which some first places are told."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(n):
        order = rng.permutation(len(NAMES))[: rng.integers(2, 7)]
        told = len(order) if deepest is None else int(rng.integers(1, deepest + 1))
        for place, item in enumerate(order, 1):
            rank = place if place <= told else None
            rows.append((f"a{k}", f"p{k % who}", NAMES[item], rank, "de" if k % 3 else "en"))
    return pd.DataFrame(rows, columns=["answer", "who", "item", "rank", "language"])


def read(frame):
    return Choices.from_rankings(frame, answer="answer", annotator="who", groups=["language"])


def by_hand(frame):
    """Count answer by answer, two items at a time, in the words of the documentation."""
    rows = {name: dict.fromkeys([*COUNTED, "others"], 0.0) for name in NAMES}
    for _, part in frame.groupby("answer"):
        size, told = len(part), int(part["rank"].notna().sum())
        for name, rank in zip(part["item"], part["rank"], strict=True):
            row = rows[name]
            below = sum((other > rank) | (np.isnan(other) & (rank > 0)) for other in part["rank"])
            alike = 0 if rank > 0 else size - told - 1
            row["answers"] += 1
            row["others"] += size - 1
            row["best"] += rank == 1
            row["worst"] += below == 0 and alike == 0
            row["mean_rank"] += size - below - alike / 2
            row["win_rate"] += below + alike / 2
    table = pd.DataFrame.from_dict(rows, orient="index")
    table["mean_rank"] /= table["answers"]
    table["win_rate"] /= table["others"]
    return table[COUNTED] if table["worst"].any() else table[COUNTED].assign(worst=np.nan)


@pytest.mark.parametrize(("seed", "deepest"), [(0, None), (1, 3), (2, 1)])
def test_items_are_counted_answer_by_answer(seed, deepest):
    frame = answers(seed, deepest=deepest)
    report, expected = prefdensity.describe(read(frame)), by_hand(frame)
    found = report.items.set_index("item")[COUNTED]
    pd.testing.assert_frame_equal(found, expected.loc[found.index], check_names=False)
    assert report.n_answers == 60
    assert found["best"].sum() == 60
    sets = report.sets.set_index("answer")
    assert sets["items"].to_dict() == frame.groupby("answer").size().to_dict()
    people = report.annotators.set_index("annotator")
    assert people["answers"].to_dict() == dict.fromkeys(["p0", "p1", "p2", "p3"], 15.0)
    assert people["choices"].sum() == report.n_judgements
    # the order of the rows says nothing
    pd.testing.assert_frame_equal(report.items, prefdensity.describe(read(frame.sample(frac=1, random_state=1))).items)


def test_best_and_worst_leave_the_middle():
    picks = ["best", None, None, None, "worst"]
    rows = [(k, NAMES[(item + k) % 7], pick) for k in range(14) for item, pick in enumerate(picks)]
    data = Choices.from_best_worst(pd.DataFrame(rows, columns=["set", "item", "pick"]), answer="set")
    report = prefdensity.describe(data)
    for row in report.items.to_dict("records"):
        assert (row["answers"], row["best"], row["worst"]) == (10, 2, 2)
        assert row["mean_rank"] == pytest.approx(3)
        assert row["win_rate"] == pytest.approx(0.5)
    assert str(report).splitlines()[:5] == [
        "14 answers about 7 items, read as 14 choices (data frame)",
        "  sets          5 items",
        "  places told   2 of a set",
        "  pairs         21 of 21 implied, in 1 component",
        "  per item      10 answers",
    ]
    assert str(report).endswith("Nothing to warn of.")


def test_choices_from_two_are_counted_as_comparisons():
    rng = np.random.default_rng(5)
    pairs = [rng.choice(NAMES, 2, replace=False) for _ in range(80)]
    rows = [(f"a{k}", item, place) for k, pair in enumerate(pairs) for place, item in enumerate(pair, 1)]
    sets = prefdensity.describe(Choices.from_rankings(pd.DataFrame(rows, columns=["a", "item", "rank"]), answer="a"))
    frame = pd.DataFrame(pairs, columns=["item_a", "item_b"]).assign(outcome="a")
    two = prefdensity.describe(Comparisons.from_frame(frame))
    same = {"answers": "judgements", "best": "wins", "worst": "losses"}
    columns = ["item", *same, "win_rate", "component", "undefeated", "winless"]
    pd.testing.assert_frame_equal(sets.items[columns].rename(columns=same), two.items.drop(columns="ties"))
    assert (sets.n_pairs, sets.n_components) == (two.n_pairs, two.n_components)


def people_by_hand(frame, utility):
    """Count what annotators' answers prefer, two items at a time, and whether their best is the best."""
    rows = {}
    for (who, _), part in frame.groupby(["who", "answer"]):
        place = part.set_index("item")["rank"].fillna(99)
        row = rows.setdefault(who, {"answers": 0.0, "agreement": 0.0, "all": 0.0, "hit_rate": 0.0})
        row["answers"] += 1
        row["hit_rate"] += utility[place.idxmin()] == max(utility[item] for item in place.index)
        for one, two in itertools.permutations(place.index, 2):
            if place[one] < place[two]:
                row["all"] += 1
                row["agreement"] += utility[one] > utility[two]
    table = pd.DataFrame.from_dict(rows, orient="index")
    return pd.DataFrame({"answers": table["answers"], "agreement": table["agreement"] / table["all"],
                         "hit_rate": table["hit_rate"] / table["answers"]})  # fmt: skip


@pytest.mark.parametrize(("seed", "deepest"), [(0, None), (1, 3), (2, 1)])
def test_annotators_are_told_by_what_their_answers_prefer(seed, deepest):
    frame = answers(seed, deepest=deepest)
    data = read(frame)
    post = prefdensity.fit("luce_choice+reliability", data, method="map")
    table = prefdensity.annotator_table(post, data).set_index("annotator")
    utility = dict(zip(post.items, post.utilities().mean(0), strict=True))
    expected = people_by_hand(frame, utility)
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_names=False)
    assert table["choices"].sum() == len(data)
    np.testing.assert_allclose(table["annotator_reliability"], post.draws["annotator_reliability"].mean(0))


def test_the_middle_of_best_worst_answers_tells_of_annotators_what_it_tells():
    rng, rows = np.random.default_rng(7), []
    for k in range(40):
        order = sorted(rng.permutation(7)[:4], key=lambda item: item + 3 * rng.normal())
        picks = {0: "best", 3: "worst"}
        rows += [(k, f"p{k % 2}", NAMES[item], picks.get(place)) for place, item in enumerate(order)]
    frame = pd.DataFrame(rows, columns=["answer", "who", "item", "pick"])
    data = Choices.from_best_worst(frame, answer="answer", annotator="who")
    post = prefdensity.fit("best_worst", data, method="map")
    table = prefdensity.annotator_table(post, data).set_index("annotator")
    told = frame.assign(rank=frame["pick"].map({"best": 1, "worst": 3}).fillna(2))
    expected = people_by_hand(told, dict(zip(post.items, post.utilities().mean(0), strict=True)))
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_names=False)


def test_choices_from_two_say_of_annotators_what_comparisons_say():
    rng = np.random.default_rng(6)
    skill, who = np.arange(7) / 2, rng.integers(4, size=240)
    pairs = np.array([rng.choice(7, 2, replace=False) for _ in who])
    swap = rng.random(240) > 1 / (1 + np.exp((skill[pairs[:, 1]] - skill[pairs[:, 0]]) * np.where(who == 3, -1, 1)))
    pairs[swap] = pairs[swap][:, ::-1]
    names = np.array(NAMES)[pairs]
    rows = [(k, f"p{who[k]}", item, place) for k, pair in enumerate(names) for place, item in enumerate(pair, 1)]
    sets = Choices.from_rankings(
        pd.DataFrame(rows, columns=["answer", "who", "item", "rank"]), answer="answer", annotator="who"
    )
    frame = pd.DataFrame(names, columns=["item_a", "item_b"]).assign(outcome="a", annotator=[f"p{k}" for k in who])
    two = Comparisons.from_frame(frame)
    ranked = prefdensity.annotator_table(prefdensity.fit("plackett_luce", sets, method="mle"), sets)
    paired = prefdensity.annotator_table(prefdensity.fit("bradley_terry", two, method="mle"), two)
    columns = ["annotator", "judgements", "agreement", "flag"]
    pd.testing.assert_frame_equal(ranked.rename(columns={"answers": "judgements"})[columns], paired[columns])
    np.testing.assert_allclose(ranked["hit_rate"], ranked["agreement"])
    assert ranked["flag"].tolist() == ["", "", "", "against the ranking"]


def test_answers_at_random_are_flagged_as_rarely_as_is_said():
    """Whoever answers at random is against the ranking one time in a thousand, and longest lists count no more."""
    frame = answers(11, n=4000, who=200)
    data = read(frame)
    post = prefdensity.fit("plackett_luce", data, method="mle")
    ranking = np.random.default_rng(1).normal(size=(1, 7))  # which the answers know nothing of
    post = replace(post, draws={**post.draws, "utility": ranking})
    flags = prefdensity.annotator_table(post, data)["flag"]
    assert (flags == "against the ranking").sum() <= 2  # binomial(200, 1 / 1000): more once in 900 times
    assert (flags == "agrees less than others").sum() <= 1  # one in a hundred that there is any


def test_warnings_are_those_that_the_implied_pairs_deserve():
    new = pd.DataFrame({"answer": ["z", "z"], "who": "p9", "item": ["dish 1", "New"], "rank": [1, 2]})
    frame = pd.concat([answers(3), new.assign(language="en")])
    said = prefdensity.describe(read(frame)).warnings
    assert any("never beat or tied with the rest (New)" in each for each in said)
    assert any(each.startswith("1 item with fewer than 5 answers (New)") for each in said)
    assert any(each.startswith("1 annotator with fewer than 5 answers (p9)") for each in said)
    twice = pd.DataFrame({"answer": list("aabb"), "who": "p", "item": ["x", "y"] * 2, "rank": [1, 2, 2, 1]})
    said = prefdensity.describe(Choices.from_rankings(twice, answer="answer", annotator="who")).warnings
    assert any("1 answer (50.0%) about a set that the same annotator had answered before" in each for each in said)


@pytest.fixture(scope="module")
def fitted():
    data = read(answers(7, n=120, deepest=4))
    return prefdensity.fit("luce_choice+tastes(by='language')", data, draws=200, seed=1, method="laplace"), data


def test_a_board_of_rankings(fitted):
    post, data = fitted
    table = prefdensity.item_table(post, data)
    assert list(table) == ["item", *COUNTED, "utility"]
    assert table["utility"].is_monotonic_decreasing
    board = prefdensity.leaderboard(post, data, anchor={"dish 3": 1200}, organisation={"dish 3": "us"})
    board = board.set_index("item")
    assert board.loc["dish 3", "rating"] == pytest.approx(1200)
    assert board.loc["dish 3", "organisation"] == "us"
    counted = table.set_index("item").loc[board.index]
    assert board["votes"].tolist() == counted["answers"].tolist()
    assert board["win_rate"].tolist() == counted["win_rate"].tolist()
    gaps = board["rating"].diff().iloc[1:] / counted["utility"].diff().iloc[1:]
    assert gaps.to_numpy() == pytest.approx(400 / np.log(10))
    parts = prefdensity.leaderboard(post, data, by="language")
    for language, part in parts.groupby("group"):
        frame = answers(7, n=120, deepest=4)
        alone = prefdensity.describe(read(frame[frame["language"] == language])).items.set_index("item")["answers"]
        assert part.set_index("item")["votes"].to_dict() == alone.to_dict()


def test_what_is_no_board_is_refused(fitted):
    post, data = fitted
    for ask in (prefdensity.item_table, prefdensity.leaderboard):
        with pytest.raises(DataError, match="is not the table of this fit"):
            ask(post, data.head(9))
    typed = prefdensity.fit("annotator_types(k=2)+luce_choice", data, draws=100, restarts=1, method="laplace")
    with pytest.raises(DataError, match="have types, each with a ranking of its own"):
        prefdensity.leaderboard(typed, data)


def test_the_report_and_the_shell_tell_what_was_counted(fitted, tmp_path):
    table, out = tmp_path / "dishes.csv", tmp_path / "fit"
    answers(7, n=120, deepest=4).to_csv(table, index=False)
    reading = [table, "--answer", "answer", "--rank", "rank", "--annotator", "who", "--group", "language"]

    def shell(*words):
        done = CliRunner().invoke(main.app, list(map(str, words)))
        assert done.exit_code == 0, done.output
        return done.stdout

    shell("fit", *reading, "--model", "luce_choice+tastes(by='language')", "--out", out, "-q", "--method", "laplace")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "120, read as" in page
    assert "mean rank" in page
    assert "4 annotators, none flagged, the busiest first; agreement is the share of what their answers prefer" in page
    said = shell("describe", *reading).splitlines()
    assert said[0].startswith("120 answers about 7 items, read as")
    assert "  language      2" in said
    board = json.loads(shell("leaderboard", out / "fit.nc", *reading, "--as", "json"))["rows"]
    counted = prefdensity.describe(fitted[1]).items.set_index("item")
    assert {row["item"]: row["votes"] for row in board} == counted["answers"].to_dict()
    words = ["leaderboard", out / "fit.nc", *reading, "--anchor", "nobody=3"]
    wrong = CliRunner().invoke(main.app, list(map(str, words)))
    assert "--anchor nobody=3.0 must give one item of the table its rating: --anchor dish 0=1000" in wrong.stderr
    shell("tables", out / "fit.nc", *reading, "--out", tmp_path / "tables")
    items = pd.read_csv(tmp_path / "tables" / "items.csv").set_index("item")
    assert items["mean_rank"].to_dict() == pytest.approx(counted["mean_rank"].to_dict())
    people = pd.read_csv(tmp_path / "tables" / "annotators.csv")
    assert people["answers"].tolist() == [30.0] * 4
    assert people["hit_rate"].between(0, 1).all()
    post = prefdensity.load_posterior(out / "fit.nc")
    assert prefdensity.plots.annotators(post, read(answers(7, n=120, deepest=4))).axes[0].get_xlabel() == "answers"


def test_what_is_said_beside_answers_is_read(tmp_path):
    """`read` took groups, numbers and contexts of answers, and kept none of them."""
    frame = answers(2).assign(prompt=lambda f: f["answer"].str[:2], age=lambda f: f["answer"].str[1:].astype(int) % 7)
    judges = pd.DataFrame({"country": ["at", "de", "de", "ch"]}, index=["p0", "p1", "p2", "p3"])
    named = {"annotator": "who", "context": "prompt", "groups": ["language"], "numbers": ["age"]}
    named |= {"attributes": {"annotator": judges}}
    data = prefdensity.read(frame, answer="answer", rank="rank", **named)
    assert data.fingerprint() == Choices.from_rankings(frame, answer="answer", **named).fingerprint()
    first = frame.drop_duplicates("answer").set_index("answer")
    for name, column in (("language", "language"), ("context", "prompt")):
        found = [data.labels(name)[k] for k in data.column(name).values]
        assert found == [first.loc[data.answers[k], column] for k in data.answer]
    assert data.column("age").values.tolist() == [first.loc[data.answers[k], "age"] for k in data.answer]
    assert data.attributes("annotator")["country"].tolist() == judges["country"].tolist()
    assert prefdensity.describe(data).labels == {"context": frame["prompt"].nunique(), "language": 2}
    picked = frame.assign(pick=frame["rank"].map({1: "best", 2: "worst"}))
    worst = prefdensity.read(picked, answer="answer", pick="pick", context="prompt", groups=["language"])
    assert set(worst.vocabularies()) == {"item", "answer", "context", "language"}
    post = prefdensity.fit("luce_choice+tastes(by='context')", data, draws=100, method="laplace")
    assert len(prefdensity.loo(post, data, unit="context").labels) == frame["prompt"].nunique()
    with pytest.raises(DataError, match="item_measures is for comparisons of two"):
        prefdensity.read(frame, answer="answer", rank="rank", item_measures=judges)


def test_labels_that_look_alike_are_told_until_they_are_one():
    frame = answers(4)
    frame.loc[frame["answer"] == "a3", "item"] = frame["item"].str.replace("dish", "Dish")
    data = read(frame)
    said = [each for each in prefdensity.describe(data).warnings if "look like" in each or "differ only" in each]
    assert len(said) == 1
    capital = [name for name in data.items if name.startswith("Dish")]
    one = prefdensity.as_one(data, {name: name.lower() for name in capital})
    assert not [each for each in prefdensity.describe(one).warnings if "look like" in each or "differ only" in each]
    post = prefdensity.fit("plackett_luce", data, draws=100)
    assert said[0] in cautions(post, data)
