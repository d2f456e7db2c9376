"""Choosing pairs from fits of every kind, in Python and on the command line."""

import functools
import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from contract import suited
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli import main
from prefdensity.data import simulate
from prefdensity.data.comparisons import Comparisons
from prefdensity.errors import DataError
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.selection.acquisition import mutual_information
from prefdensity.selection.candidates import candidate_pairs, with_items
from prefdensity.selection.outcome_belief import JointOutcomes
from prefdensity.selection.rules import RULES
from prefdensity.selection.select import by_quota, select

COLUMNS = ["item_a", "item_b", "p_a", "p_b", "sd", "information", "gain", "entropy", "entropy_rank", "reason"]


@functools.cache
def population(**more):
    return simulate.population(14, 12, 250, seed=1, **more)[0]


@functools.cache
def fitted(program, **more):
    return prefdensity.fit(program, population(**more), method="laplace", seed=0, progress=False)


def posterior(program="bradley_terry"):
    return fitted(program, tie_strength=0.6) if "davidson" in program else fitted(program)


def pairs_of(frame):
    return list(zip(frame["item_a"], frame["item_b"], strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_gives_a_batch_with_reasons(rule):
    post, data = posterior(), population()
    judged = {frozenset((data.items[a], data.items[b])) for a, b in zip(data.item_a, data.item_b, strict=True)}
    batch = select(post, n=5, rule=rule, data=data)
    assert list(batch.columns) == COLUMNS
    chosen = {frozenset(pair) for pair in pairs_of(batch)}
    assert len(chosen) == 5
    assert not chosen & judged
    assert batch.attrs["candidates"] == 91 - len(judged)
    assert batch.attrs["gain"] == pytest.approx(batch["gain"].sum())
    assert (batch["gain"] <= batch["information"] + 1e-12).all()
    assert batch["entropy_rank"].between(1, batch.attrs["candidates"]).all()
    assert all(re.search(r"adds 0\.\d+ nats", reason) for reason in batch["reason"])
    pd.testing.assert_frame_equal(batch, select(post, n=5, rule=rule, data=data))


@pytest.mark.parametrize(
    "program",
    [
        "davidson",
        "bradley_terry+position_bias",
        "bradley_terry+reliability",
        "bradley_terry+lapse",
        "annotator_types(k=2)+bradley_terry",
        "intransitive",
        "thurstone",
    ],
)
def test_any_program_can_be_asked(program):
    post = posterior(program)
    first = "a" if "position" in program else "neither"
    batch = select(post, n=8, first=first)
    listed = pairs_of(select(post, n=91, rule="entropy", first=first))
    if "reliability" not in program:  # there somebody new is averaged over, at random
        prob = outcome_probabilities(post, listed, None, first, most=256)
        best = listed[int(mutual_information(prob).argmax())]
        assert pairs_of(batch)[0] == best
    even = select(post, n=8, rule="entropy", first=first)
    np.testing.assert_array_equal(even["entropy_rank"], np.arange(1, 9))
    assert batch.attrs["gain"] > batch.attrs["gain_random"]
    assert batch.attrs["gain_entropy"] == pytest.approx(even["gain"].sum(), rel=1e-6)


def test_scores_and_tables_choose_alike():
    # the same judgements twice: by distances between items, and by the outcomes of draws
    post = posterior()
    by_metric = select(post, n=10)
    by_tables = select(post, n=10, rule="batch_bald")
    assert by_metric.attrs["gain"] == pytest.approx(by_tables.attrs["gain"], rel=0.02)
    assert len(set(pairs_of(by_metric)) & set(pairs_of(by_tables))) >= 5
    u = post.utilities()[:: post.n_draws // 256]
    place = {item: k for k, item in enumerate(post.items)}
    a, b = np.array([(place[x], place[y]) for x, y in pairs_of(by_metric)]).T
    p = expit(u[:, a] - u[:, b])
    np.testing.assert_allclose(by_metric["p_a"], p.mean(0), rtol=1e-9)
    np.testing.assert_allclose(by_metric["sd"], p.std(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(by_metric["information"], mutual_information(np.stack([p, 1 - p], -1)), rtol=1e-9)


@pytest.mark.parametrize("program", ["bradley_terry", "davidson", "intransitive"])
def test_gains_add_up_to_the_joint_information(program):
    post = posterior(program)
    batch = select(post, itertools.combinations(post.items[:4], 2), 6)  # all pairs of four items share much
    joint = JointOutcomes(outcome_probabilities(post, pairs_of(batch), None, "neither", most=256), None)
    for row in range(6):
        joint.learn(row)  # all 2^6 or 3^6 outcomes
    shared = batch["information"].sum() - joint.total
    assert shared > 0.005 * joint.total
    assert abs(batch.attrs["gain"] - joint.total) < 0.1 * shared


def test_the_most_reliable_annotator_tells_most():
    post = posterior("bradley_terry+reliability")
    reliability = post.draws["annotator_reliability"].mean(0)
    best, worst = (post.annotators[k] for k in (reliability.argmax(), reliability.argmin()))
    known, stranger, least = (select(post, n=5, annotator=who).attrs["gain"] for who in (best, None, worst))
    assert known > stranger  # whose reliability may be anyone's
    assert known > least


def test_features_of_a_linear_program_make_leverage():
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(20, 3)), index=[f"i{k:02d}" for k in range(20)], columns=list("xyz"))
    a, b = rng.integers(20, size=(2, 200))
    kept = a != b
    won = rng.random(200) < expit((features.to_numpy()[a] - features.to_numpy()[b]) @ [1.0, -1.0, 0.5])
    frame = pd.DataFrame({"item_a": features.index[a], "item_b": features.index[b], "outcome": np.where(won, "a", "b")})
    data = Comparisons.from_frame(frame[kept], item_features=features)
    post = prefdensity.fit("linear", data, seed=0, progress=False)
    chosen = pairs_of(select(post, n=4, rule="xtx"))
    x = features.to_numpy()
    x = (x - x.mean(0)) / x.std(0)
    i, j = np.triu_indices(20, 1)
    difference = x[i] - x[j]
    leverage = np.einsum("pf,fg,pg->p", difference, np.linalg.inv(difference.T @ difference), difference)
    top = np.argsort(-leverage)[:4]
    assert chosen == [(post.items[i[k]], post.items[j[k]]) for k in top]


def test_candidates_groups_masks_costs_and_quotas():
    post = posterior()
    items = post.items
    group = {item: str(k % 2) for k, item in enumerate(items)}
    within = select(post, "within", 8, group=group, quota=2)
    assert all(group[a] == group[b] for a, b in pairs_of(within))
    assert pd.concat([within["item_a"], within["item_b"]]).value_counts().max() <= 2
    across = select(post, "across", 8, group=group)
    assert all(group[a] != group[b] for a, b in pairs_of(across))
    best = pairs_of(select(post, n=3))
    assert not set(best) & set(pairs_of(select(post, n=3, exclude=[pair[::-1] for pair in best])))
    given = [(items[3], items[0]), (items[0], items[3]), (items[5], items[2])]
    assert set(pairs_of(select(post, given, 2))) == {(items[0], items[3]), (items[2], items[5])}
    assert select(post, n=4, at_most=4)["reason"].str.contains("of 4 in evenness").all()
    costly = {item: 1.0 for item in items} | {best[0][0]: 1000.0}
    cheap = select(post, n=5, cost=costly)
    assert best[0][0] not in set(cheap["item_a"]) | set(cheap["item_b"])
    assert list(cheap["cost"]) == [2.0] * 5
    frame = pd.DataFrame({"item_a": items[:4], "item_b": items[4:8], "cost": [1, 1, 1, 500]})
    assert (items[3], items[7]) not in pairs_of(select(post, frame, 3))


def test_annotators_get_equal_shares_by_lot():
    shares = pd.Series(by_quota(11, ["x", "y", "z"], seed=1)).value_counts()
    assert sorted(shares) == [3, 4, 4]
    post = posterior()
    people = list(post.annotators[:3])
    batch = select(post, n=6, annotators=people)
    assert sorted(batch["annotator"]) == sorted(2 * people)
    assert set(select(replace(post, annotators=()), n=2, annotators=["x"])["annotator"]) == {"x"}  # it knows nobody
    firsts = {by_quota(3, ["x", "y", "z"], seed=seed)[0] for seed in range(20)}
    assert firsts == {"x", "y", "z"}


def test_items_nobody_judged_are_asked_about():
    data = with_items(population(), ["newcomer"])
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    batch = select(post, n=3, data=data)
    assert all("newcomer" in pair for pair in pairs_of(batch)[:1])
    assert with_items(data, ["newcomer"]) is data


def test_new_items_need_their_features():
    data = Comparisons.from_frame(
        pd.DataFrame({"item_a": ["x", "y"], "item_b": ["y", "z"], "outcome": ["a", "b"]}),
        item_features=pd.DataFrame({"f": [1.0, 2.0, 3.0]}, index=list("xyz")),
    )
    table = pd.DataFrame({"f": [1.0, 2.0, 3.0, 4.0]}, index=list("xyzw"))
    np.testing.assert_array_equal(with_items(data, ["w"], table).item_features[:, 0], [4, 1, 2, 3])
    with pytest.raises(DataError, match="give those of the new items too"):
        with_items(data, ["w"])
    with pytest.raises(DataError, match="item_features lacks 1 of 4 items, first 'w'"):
        with_items(data, ["w"], table.iloc[:3])
    with pytest.raises(DataError, match="column 'f' must hold finite numbers, and holds nan for item 'w'"):
        with_items(data, ["w"], table.replace(4.0, np.nan))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rule": "bold"}, "rule='bold' is unknown; use eig"),
        ({"n": 0}, "n must be a whole number"),
        ({"quota": 0}, "quota must be a whole number"),
        ({"n": 92}, "n=92 pairs are asked for and only 91 candidates are valid"),
        ({"candidates": "some"}, "candidates='some' is unknown"),
        ({"candidates": "within"}, "needs the group of every item"),
        ({"candidates": "within", "group": {}}, "group lacks 14 of 14 items"),
        ({"candidates": [("item01", "nobody")], "n": 1}, "row 1 holds 'nobody', an item that the fit does not know"),
        ({"candidates": [("item01", "item01")], "n": 1}, "row 1 pairs 'item01' with itself"),
        ({"candidates": []}, "the candidate pairs are empty"),
        ({"candidates": pd.DataFrame({"item_a": ["item01"]})}, "no column 'item_b'"),
        ({"exclude": [("item01", "nobody")]}, "the excluded pairs: row 1 holds 'nobody'"),
        ({"candidates": [("item01", "item02")], "exclude": [("item02", "item01")]}, "no candidate pair is left"),
        ({"n": 20, "quota": 1}, "only 7 are possible under a quota of 1"),
        ({"cost": {}}, "cost lacks 14 of 14 items"),
        ({"cost": dict.fromkeys([f"item{k:02d}" for k in range(1, 15)], -1)}, "holds -1 for item 'item01'"),
        (
            {"candidates": pd.DataFrame({"item_a": ["item01"], "item_b": ["item02"], "cost": ["dear"]}), "n": 1},
            "column 'cost' must hold positive and finite costs, and holds 'dear' in row 1",
        ),
        ({"annotators": ["x", "x"]}, "distinct labels"),
        ({"annotator": "nobody"}, "annotator: 'nobody' is no annotator of the fit"),
        ({"rule": "d_optimal", "ridge": 0.0, "candidates": [("item01", "item02")], "n": 1}, "singular"),
    ],
)
def test_bad_input_is_one_clear_sentence(given, words):
    with pytest.raises(DataError, match=words) as raised:
        select(posterior(), **{"n": 5, "progress": False} | given)
    assert "\n" not in str(raised.value)


def test_a_point_has_nothing_to_ask():
    point = prefdensity.fit("bradley_terry", population(), method="map", seed=0, progress=False)
    with pytest.raises(DataError, match="this fit by map offers"):
        select(point, n=3)


def test_votes_of_another_fit_are_refused():
    other = simulate.population(20, 3, 50, seed=2)[0]
    with pytest.raises(DataError, match="which the fit does not know; give the votes of the fit"):
        select(posterior(), n=3, data=other)


def test_notes_say_what_to_beware_of():
    assert "cannot tell apart" in " ".join(select(posterior(), n=60, draws=64).attrs["notes"])
    assert select(posterior(), n=5).attrs["notes"] == []


def test_candidate_sets_count_pairs_once():
    pairs = candidate_pairs(("x", "y", "z"), [("x", "y"), ("y", "x"), ("z", "x")], past=(np.array([2]), np.array([0])))
    np.testing.assert_array_equal((pairs.a, pairs.b), ([0], [1]))


# --- the command line ----------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


@pytest.fixture
def votes_file(tmp_path):
    path = tmp_path / "votes.csv"
    population().to_frame().to_csv(path, index=False)
    return path


def test_command_writes_the_batch_of_the_api(tmp_path, votes_file):
    out = tmp_path / "next.csv"
    said = run("select", votes_file, "--model", "bradley_terry", "--n", 4, "--judge", "annotator03", "--out", out, "-q")
    assert said.exit_code == 0, said.output
    told = re.search(
        r"eig: 4 of (\d+) candidates \((\d+) pairs were judged and are left out; --again\), "
        r"expected to tell 0\.\d+ nats; .* entropy 0\.\d+, random 0\.",
        said.stdout,
    )
    assert told
    assert int(told[1]) + int(told[2]) == 14 * 13 / 2
    data = prefdensity.read(votes_file)
    post = prefdensity.fit("bradley_terry", data, seed=0, progress=False)
    expected = select(post, n=4, data=data, annotators=["annotator03"])
    pd.testing.assert_frame_equal(pd.read_csv(out), expected, check_dtype=False)
    fit = post.save(tmp_path / "fit.nc")
    printed = run("select", votes_file, "--fit", fit, "--n", 4, "--judge", "annotator03", "-q")
    assert printed.stdout == out.read_text()


def test_command_reads_the_groups_that_the_model_reads(tmp_path):
    frame = population().to_frame()
    frame["kind"] = ["long", "short"] * (len(frame) // 2) + ["long"] * (len(frame) % 2)
    frame.to_csv(tmp_path / "votes.csv", index=False)
    words = ("select", tmp_path / "votes.csv", "--model", "bradley_terry+tastes(by='kind')", "--n", 2, "-q")
    assert "needs the column 'kind'" in run(*words).stderr
    said = run(*words, "--group", "kind")  # which was the column of --items that groups items
    assert said.exit_code == 0, said.output


def test_command_asks_about_new_items_within_prompts(tmp_path, votes_file):
    items = tmp_path / "items.csv"
    names = [*population().items, "fresh"]
    pd.DataFrame({"item": names, "prompt": [k % 3 for k in range(15)], "words": range(10, 25)}).to_csv(
        items, index=False
    )
    more = ("--items", items, "--prompt", "prompt", "--cost", "words", "--candidates", "within", "--n", 5, "-q")
    said = run("select", votes_file, "--model", "bradley_terry", *more)
    assert said.exit_code == 0, said.output
    assert "fresh" in said.stdout
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("item_a,item_b\nitem01,brand_new\nitem01,item02\n")
    said = run("select", votes_file, "--model", "bradley_terry", "--candidates", pairs, "--n", 1, "--again", "-q")
    assert "brand_new" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --fit FIT.nc"),
        (("--model", "bradley_terry", "--rule", "bold"), "--rule bold is unknown"),
        (("--model", "bradley_terry", "--prompt", "prompt"), "there is no --items"),
        (("--model", "bradley_terry", "--candidates", "nowhere.csv"), "there is no file nowhere.csv"),
    ],
)
def test_command_says_what_is_wrong(votes_file, arguments, words):
    said = run("select", votes_file, *arguments, "-q")
    assert said.exit_code == 2
    assert re.search(words, said.stderr)
    assert len(said.stderr.strip().splitlines()) == 1


def test_pairs_are_chosen_for_programs_of_graded_answers():
    """Outcomes are a2, a1, tie, b1, b2: the reason counts every strength of a side."""
    post = prefdensity.fit("graded", suited(prefdensity.load_program("graded"), rows=60), method="laplace", draws=100)
    batch = select(post, n=2, progress=False)
    of_a = [f"p_{outcome}" for outcome in post.outcomes if outcome.startswith("a")]
    assert len(of_a) == 2
    for row in batch.to_dict("records"):
        assert f"wins with probability {sum(row[name] for name in of_a):.2f}" in row["reason"]
