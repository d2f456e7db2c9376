"""What a fit ends with: the answer where the program stands, the contradiction first where the data show one."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from truths import fitted, simulated, table
from typer.testing import CliRunner

import prefdensity
from prefdensity.checking.tallies import Tally
from prefdensity.cli import main
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.posterior.sites import taken
from prefdensity.reporting.answer import cautions, closing, lead, leaders
from prefdensity.reporting.report import write_report


def run(*arguments):
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def sections(path):
    """What is said on the first screen before the next step, and the warning box of a page, as words."""
    text = Path(path).read_text(encoding="utf-8")
    found = [
        re.findall(rf'<section class="(?:{kinds})">(.*?)</section>', text, re.S)
        for kinds in ("answer|stands|doubt|against", "warn")
    ]
    lead = " ".join(re.findall(r"<p>(.*?)</p>", "".join(found[0]), re.S))
    return re.sub(r"<[^>]+>|\s+", " ", lead), re.sub(r"<[^>]+>|\s+", " ", "".join(found[1]))


@pytest.fixture(scope="module")
def camps():
    """A program that knows one taste, on two camps of opposite taste; and what the check says."""
    post, data = fitted("types by annotator", 11)
    return post, data, prefdensity.check(post, data)


def test_a_contradiction_comes_before_the_answer(camps, tmp_path):
    post, data, checked = camps
    assert checked.verdict == "contradicted"
    said, box = sections(write_report(post, data, tmp_path / "report.html", checked=checked))
    first = "The data contradict bradley_terry: annotators want different things (z = "
    assert said.strip().startswith(first)
    assert said.index(first) < said.index("If bradley_terry were right, i")
    assert "would have the highest utility of 8 items, and be the best with probability" in said
    assert "is the best" not in said
    assert box.split("Before you rely on this")[1].strip().startswith("The data contradict bradley_terry: every number")


def test_a_program_that_stands_is_answered_at_once(tmp_path):
    post, data = fitted("luce", 3)
    checked = prefdensity.check(post, data)
    assert checked.verdict == "stands"
    said, box = sections(write_report(post, data, tmp_path / "report.html", checked=checked))
    assert re.match(r"\s*i\d has the highest utility of 8 items, and is the best with probability", said)
    assert said.strip().endswith("Nothing here speaks against bradley_terry.")
    assert box == ""


def test_a_doubt_comes_after_the_answer(camps):
    post, data, checked = camps
    table = checked.table.assign(z=np.clip(checked.table["z"], -3.5, 3.5))
    doubted = replace(checked, table=table, causes=tuple(replace(cause, evidence=2.9) for cause in checked.causes[:1]))
    assert doubted.verdict == "in doubt"
    said = lead(post, doubted)
    assert said[:-1] == leaders(post)
    assert said[-1].startswith("The data cast doubt on bradley_terry: annotators want different things (z = 2.9)")
    assert "one in twenty" in said[-1]


def test_a_check_that_names_no_cause_speaks_too(camps):
    checked = replace(camps[2], causes=())
    assert checked.verdict == "contradicted"
    worst = checked.table.loc[checked.table["z"].abs().idxmax()]
    assert f"{worst['check']} is off by z = {worst['z']:.1f}: {worst['meaning']}" in checked.headline
    assert "No program here is known to mend this" in checked.advice


def test_types_are_supposed_too(camps):
    post, data = camps[:2]
    typed = prefdensity.fit("annotator_types(k=2)", data, method="map")
    said = leaders(typed, replace(camps[2], program=typed.program_name))
    assert len(said) == 2
    lines = closing(typed, replace(camps[2], program=typed.program_name))
    assert len(lines) == 3  # however many types there are
    assert all(text in lines[1] for text in said)
    assert all(
        re.match(rf"Annotators of type {k} \(\d+%\): if annotator_types", text) for k, text in enumerate(said, 1)
    )


def test_failed_fits_say_so_in_the_lead_and_settled_ones_open_no_box(camps):
    post, data = fitted("luce", 3)
    checked = prefdensity.check(post, data)
    poor = replace(post, status=replace(post.status, k_hat=1.5, log_weight_sd=2.0))
    assert any("failed its own checks" in said for said in lead(poor, checked))
    assert not any("failed its own checks" in said for said in lead(post, checked))
    assert not any("search settled" in said.lower() for said in cautions(poor, data))
    assert "k-hat" in cautions(poor, data)[0]


def test_rare_events_do_not_make_distances_infinite():
    rng = np.random.default_rng(0)
    tally = Tally(type("Check", (), {"below": "", "asks": "?", "above": "more", "name": "rare"}), None, "")
    tally.data, tally.replicated = [np.full(100, 0.2)], [np.zeros(100)]
    assert tally.row()["z"] == pytest.approx(2.33, abs=0.01)  # none of 100 replications: 1 in 101 at most
    tally.replicated = [rng.normal(size=100)]
    assert tally.row()["z"] < 1


def test_the_order_is_no_concern_of_a_program_that_knows_it(tmp_path):
    data, _ = simulate.population(6, 5, 3000, seed=1, position_bias=0.6)
    blind, knowing = (
        prefdensity.fit(name, data, draws=100) for name in ("bradley_terry", "bradley_terry+position_bias")
    )
    said = {post.program_name: cautions(post, data) for post in (blind, knowing)}
    assert any("knows no effect of the order lays that on the items" in text for text in said[blind.program_name])
    assert not any("order" in text for text in said[knowing.program_name])
    box = sections(write_report(knowing, data, tmp_path / "report.html"))[1]
    assert box == ""


@pytest.fixture
def islands():
    """Two groups of items never compared with each other, an item that always wins, and a feature of each item."""
    rows = [("a", "b", "a"), ("b", "c", "a"), ("c", "b", "a"), ("x", "y", "a"), ("y", "x", "a")] * 6
    features = pd.DataFrame({"size": [3.0, 1.0, 1.5, 2.0, 0.5]}, index=list("abcxy"))
    frame = pd.DataFrame(rows, columns=["item_a", "item_b", "outcome"])
    frame["annotator"] = [f"p{k // 4}" for k in range(len(frame))]
    return Comparisons.from_frame(frame, item_features=features)


def test_items_that_features_place_are_not_warned_of_as_free(islands):
    said = {}
    for name in ("bradley_terry", "linear", "bradley_terry+reliability"):
        post = prefdensity.fit(name, islands, draws=100)
        said[name] = " ".join(cautions(post, islands))
    for words in ("never compared with each other", "never lost to or tied with"):
        assert words in said["bradley_terry"]
        assert words not in said["linear"]
    assert "annotators with fewer than 5" in said["bradley_terry+reliability"]
    assert "annotators with fewer than 5" not in said["bradley_terry"]  # which knows no annotators


def test_the_terminal_ends_with_the_answer_the_verdict_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulated("types by annotator", 11).to_frame().to_csv("votes.csv", index=False)
    result = run("fit", "votes.csv", "-m", "bradley_terry", "--draws", 300, "-q")
    assert result.exit_code == 0, result.output
    against, supposed, following = result.stdout.strip().splitlines()[-3:]
    assert against.startswith("The data contradict bradley_terry: annotators want different things")
    assert supposed.startswith("If bradley_terry were right, ")
    assert following.startswith("Next: try bradley_terry+annotator_types")
    assert "contradict" not in result.stderr  # once is enough
    again = run("report", "prefdensity-fit/fit.nc", "votes.csv")
    assert again.stdout.strip().splitlines()[-3:] == [against, supposed, following]
    checked = run("check", "prefdensity-fit/fit.nc", "votes.csv")
    assert checked.stdout.splitlines()[1] == against
    assert checked.stdout.strip().splitlines()[-1] == following


def test_rankings_are_checked_like_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [(k, item, place) for k in range(12) for place, item in enumerate("xyz" if k % 3 else "yxz", 1)]
    pd.DataFrame(rows, columns=["who", "what", "place"]).to_csv("ranked.csv", index=False)
    columns = ("--answer", "who", "--item", "what", "--rank", "place")
    result = run("fit", "ranked.csv", *columns, "-m", "plackett_luce", "--draws", 100, "-q")
    assert result.exit_code == 0, result.output
    assert "x has the highest utility of 3 items" in result.stdout
    assert "Nothing here speaks against plackett_luce." in result.stdout
    assert result.stdout.strip().splitlines()[-1].startswith("Next: let compare say")


def two_camps(seed, share, people=60, each=12, items=5):
    """Two camps with utilities of their own, the first of them with this share of the annotators."""
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(2, items))
    who = np.repeat(np.arange(people), each)
    camp = (np.arange(people) >= share * people).astype(int)[who]
    a = rng.integers(items, size=len(who))
    b = (a + rng.integers(1, items, size=len(who))) % items
    p = 1 / (1 + np.exp(u[camp, b] - u[camp, a]))
    return table(who, a, b, (rng.random(len(who)) > p).astype(np.int8))


def test_types_are_numbered_by_size():
    """Of camps of nearly one size the mode and the draws may disagree; what belongs to a type stays with it."""
    for seed in range(4):
        data = two_camps(seed, 0.5)
        post = prefdensity.fit("annotator_types(k=2)", data, draws=200, restarts=2)
        weight = post.draws["type_weight"].mean(0)
        assert weight[0] >= weight[1]
        assert post.types_by_size() == [0, 1]
        # the weights are those of the annotators who are of the type: a permutation of one alone would tell
        np.testing.assert_allclose(post.draws["type_probability"].mean((0, 1)), weight, atol=0.06)
        leader = post.utilities().mean(0).argmax(-1)
        for k in (0, 1):
            mine = post.annotators[int(post.draws["type_probability"].mean(0)[:, k].argmax())]
            rivals = [(post.items[leader[k]], other) for other in post.items if other != post.items[leader[k]]]
            assert (post.predict(rivals, annotator=mine)["p_a"] > 0.4).all()


def test_what_belongs_to_a_type_is_renumbered_with_it():
    sites = {"type_weight": np.array([[0.4, 0.6]]), "utility": np.arange(6.0).reshape(1, 2, 3), "bias": np.ones(1)}
    out = taken(sites, {"type_weight": 1, "utility": 1}, np.array([1, 0]))
    assert out["type_weight"].tolist() == [[0.6, 0.4]]
    assert out["utility"].tolist() == [[[3, 4, 5], [0, 1, 2]]]
    assert out["bias"].tolist() == [1]


def test_types_built_one_upon_another_are_listed_by_size():
    post = prefdensity.fit("dirichlet_types(most=3)", two_camps(2, 0.4), method="map")
    flipped = {
        "type_weight": post.draws["type_weight"][:, ::-1].copy(),
        "utility": post.draws["utility"][:, ::-1].copy(),
    }
    weight = flipped["type_weight"].mean(0)
    other = replace(
        post, draws=post.draws | flipped, point=post.point | {"utility": post.point["utility"][::-1].copy()}
    )
    order = [k + 1 for k in other.types_by_size()]
    assert order == list(np.argsort(-weight, kind="stable") + 1)
    assert list(other.summary()["type"].unique()) == order


def test_types_of_comparisons_are_reported(tmp_path):
    post = prefdensity.fit("comparison_types(k=2)", two_camps(1, 0.6), method="map")
    said = sections(write_report(post, two_camps(1, 0.6), tmp_path / "report.html"))[0]
    assert re.search(r"Judgements of type 1 \(\d+%\):", said)


@pytest.mark.slow
def test_ordinary_fits_are_not_contradicted(capsys):
    """Programs that are right, on tables of many sizes: fewer than 1 in 100 contradicted, 1 in 20 in doubt.

    Bars: P(3 or more of 60 at 1 in 100) = .02, P(8 or more of 60 at 1 in 20) = .01.
    """
    rng = np.random.default_rng(5)
    kinds = {
        "bradley_terry": {},
        "davidson": {"tie_strength": 0.6},
        "bradley_terry+position_bias": {"position_bias": 0.5},
        "bradley_terry+reliability": {"reliability_sd": 0.4},
    }
    verdicts = []
    for seed in range(60):
        program = list(kinds)[seed % 4]
        size = int(rng.integers(4, 20)), int(rng.integers(2, 40)), int(rng.choice([60, 200, 600, 2000]))
        data, _ = simulate.population(*size, seed=seed, **kinds[program])
        verdicts.append(prefdensity.check(prefdensity.fit(program, data, draws=200), data, seed=seed).verdict)
    with capsys.disabled():
        print({verdict: verdicts.count(verdict) for verdict in set(verdicts)})
    assert verdicts.count("contradicted") < 3
    assert verdicts.count("in doubt") < 8
