"""What an operator fears: each kind of vote that moves a ranking is found by name and row, and honest votes are not."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from benchmarks.diagnosis import named
from benchmarks.diagnosis_worlds import WORLDS as WORLDS_OF_DIAGNOSIS, clones, clones_in_sets, clones_of_taste
from prefdensity import Comparisons
from prefdensity.checking.turned import mixture
from prefdensity.checking.votes import ALARM, correlation, outlying
from prefdensity.cli.main import app
from prefdensity.data.same import as_one
from prefdensity.errors import DataError

ITEMS = np.array(["ash", "elm", "fir", "oak", "yew"])
WORTH = np.array([0.8, 0.4, 0.0, -0.4, -0.8])


def honest(rng, rows=1500, people=60, tastes=0.0):
    """Votes of accounts, half of whom vote once."""
    who = np.r_[np.arange(people), rng.integers(people // 2, size=rows - people)]
    own = WORTH + tastes * rng.normal(size=(people, 5))
    a = rng.integers(5, size=rows)
    b = (a + rng.integers(1, 5, size=rows)) % 5
    won = rng.random(rows) < expit(own[who, a] - own[who, b])
    return pd.DataFrame({
        "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": np.where(won, "a", "b"),
        "annotator": np.array([f"p{k:03d}" for k in who], dtype=object),
    })  # fmt: skip


def for_item(rng, size, item, names):
    """Votes for one item, on either side, against any other."""
    other = rng.choice(ITEMS[ITEMS != item], size)
    left = rng.random(size) < 0.5
    return pd.DataFrame({
        "item_a": np.where(left, item, other), "item_b": np.where(left, other, item),
        "outcome": np.where(left, "a", "b"), "annotator": names,
    })  # fmt: skip


def campaign(rng):
    return for_item(rng, 30, "yew", [f"new{k}" for k in range(30)])


def agreeing(rng):
    a, b = rng.choice(3, 60), 4 - rng.choice(2, 60)
    return pd.DataFrame({
        "item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": "a", "annotator": [f"bot{k}" for k in range(60)],
    })  # fmt: skip


def devoted(rng):
    return for_item(rng, 30, "oak", "fan")


def copied(rng):
    pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)] * 3
    said = np.where(rng.random(10) < 0.5, "a", "b")
    one = pd.DataFrame({"item_a": ITEMS[[a for a, _ in pairs]], "item_b": ITEMS[[b for _, b in pairs]]})
    return pd.concat([one.assign(outcome=np.tile(said, 3), annotator=who) for who in ("left", "right")])


WORLDS = {
    "accounts with one vote favour an item": (campaign, "yew"),
    "accounts with one vote agree too well": (agreeing, "accounts"),
    "an account favours an item": (devoted, "fan for oak"),
    "an account copies another": (copied, "left"),
    "an account repeats itself": (copied, "left"),
}


def audited(frame, name="bradley_terry"):
    data = Comparisons.from_frame(frame.reset_index(drop=True), annotator="annotator")
    post = prefdensity.fit(name, data, method="laplace", draws=200, progress=False)
    return prefdensity.audit(post, data)


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "an account copies another"])
def test_each_fear_is_found_by_name_and_row(name):
    rng = np.random.default_rng(1)
    make, who = WORLDS[name]
    frame = honest(rng)
    found = audited(pd.concat([frame, make(rng)]))
    mine = found.findings.set_index("finding").loc[[name]]
    assert mine["who"].str.contains(who).any()
    carried = found.rows[found.rows["finding"] == name]["row"]
    assert (carried > len(frame)).mean() > 0.5  # and not honest people's
    left = found.without([name])
    assert len(left) == len(found.data) - carried.nunique()
    assert left.notes[-1] == f"{carried.nunique()} judgements left out after an audit on request"
    assert name in str(found)


def test_a_copy_is_told_from_two_who_think_alike():
    rng = np.random.default_rng(2)
    items = np.array([f"i{k}" for k in range(12)])
    pairs = np.array([(a, b) for a in range(12) for b in range(a + 1, 12)])
    votes = [
        pd.DataFrame({
            "item_a": items[pairs[:, 0]], "item_b": items[pairs[:, 1]], "annotator": f"p{k}",
            "outcome": np.where(rng.random(66) < expit(0.1 * (pairs[:, 1] - pairs[:, 0])), "a", "b"),
        })
        for k in range(12)
    ]  # fmt: skip
    votes.append(votes[3].assign(annotator="shadow"))
    found = audited(pd.concat(votes))
    assert list(found.findings["finding"]) == ["an account copies another"]
    assert set(found.findings["who"][0].split(" and ")) == {"p3", "shadow"}
    assert found.findings["observed"][0] == 66


def test_judges_who_favour_their_own_kind():
    rng = np.random.default_rng(3)
    frame = honest(rng, rows=1200, people=20)
    made, house = dict(zip(ITEMS, "ababa", strict=True)), {f"p{k:03d}": "ab"[k % 2] for k in range(20)}
    own = frame["annotator"].map(house)
    left, right = frame["item_a"].map(made) == own, frame["item_b"].map(made) == own
    led = (left != right) & (rng.random(len(frame)) < 0.3)
    frame["outcome"] = np.where(led, np.where(left, "a", "b"), frame["outcome"])
    data = Comparisons.from_frame(frame, annotator="annotator", attributes={
        "annotator": pd.DataFrame({"house": house}), "item": pd.DataFrame({"maker": made}),
    })  # fmt: skip
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=200, progress=False)
    found = prefdensity.audit(post, data).findings.to_dict("records")[0]
    assert found["finding"] == "judges favour their own kind"
    assert found["who"] == "house of annotators, maker of items"


@pytest.mark.parametrize("favour", [0.0, 1.2])
def test_few_judges_with_tastes_favour_a_kind_only_together(favour):
    """Twelve judges of four houses with tastes of their own: what each wants is no favour that all of them do."""
    rng = np.random.default_rng(9)
    who = np.repeat(np.arange(12), 200)
    a = rng.integers(8, size=len(who))
    b = (a + rng.integers(1, 8, len(who))) % 8
    own = rng.normal(size=8) + rng.normal(size=(12, 8)) + favour * (np.arange(8) % 4 == np.arange(12)[:, None] % 4)
    won = rng.random(len(who)) < expit(own[who, a] - own[who, b])
    frame = pd.DataFrame({"item_a": a, "item_b": b, "outcome": np.where(won, "a", "b"), "annotator": who}).astype(str)
    data = Comparisons.from_frame(frame, annotator="annotator", attributes={
        "annotator": pd.DataFrame({"house": [f"h{k % 4}" for k in range(12)]}, index=[str(k) for k in range(12)]),
        "item": pd.DataFrame({"maker": [f"h{k % 4}" for k in range(8)]}, index=[str(k) for k in range(8)]),
    })  # fmt: skip
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=200, progress=False)
    found = set(prefdensity.audit(post, data).findings["finding"])
    assert ("judges favour their own kind" in found) == bool(favour)


def turned_panel(rng, people, each, ties, tastes, share=20):
    """Votes of accounts of which one in `share` answers the other way round; and who they are."""
    turned = rng.permutation(people) < people // share
    who = np.repeat(np.arange(people), each)
    own = np.array([1.8, 0.2, 0.0, -0.1, -0.3]) + tastes * rng.normal(size=(people, 5))
    a = rng.integers(5, size=len(who))
    b = (a + rng.integers(1, 5, len(who))) % 5
    margin = np.where(turned[who], -1, 1) * (own[who, a] - own[who, b])
    outcome = np.where(rng.random(len(who)) < expit(margin), "a", "b")
    outcome = np.where(rng.random(len(who)) < ties * np.exp(-np.abs(margin)), "tie", outcome)
    names = np.array([f"p{k:03d}" for k in who], dtype=object)
    frame = pd.DataFrame({"item_a": ITEMS[a], "item_b": ITEMS[b], "outcome": outcome, "annotator": names})
    return frame, {f"p{k:03d}" for k in np.flatnonzero(turned)}


@pytest.mark.parametrize(("people", "each", "ties", "tastes", "program"), [
    (40, 50, 0.0, 0.0, "bradley_terry"), (160, 12, 0.0, 0.0, "bradley_terry"), (60, 40, 0.5, 0.0, "davidson"),
    (60, 40, 0.0, 0.6, "bradley_terry"),
])  # fmt: skip
def test_who_answers_the_other_way_round_is_named_as_that(people, each, ties, tastes, program):
    frame, who = turned_panel(np.random.default_rng(11), people, each, ties, tastes)
    found = audited(frame, program)
    assert found.findings["finding"][0] == "accounts answer the other way round"
    mine = found.rows[found.rows["finding"] == "accounts answer the other way round"]
    assert len(who & set(mine["annotator"])) >= len(who) - 1
    assert len(set(mine["annotator"]) - who) <= 1
    left = found.without()
    assert len(left) == len(frame) - mine["row"].nunique()


def test_who_answers_the_other_way_round_is_known_to_a_program_of_care():
    frame, _ = turned_panel(np.random.default_rng(11), 40, 50, 0.0, 0.0)
    assert list(audited(frame, "crowd_bt").findings["finding"]) == []


def test_who_votes_for_the_worst_item_is_not_turned_round():
    rng = np.random.default_rng(12)
    frame = pd.concat([honest(rng), for_item(rng, 40, "yew", "fan")])
    assert list(audited(frame).findings["who"]) == ["fan for yew"]


def test_where_many_are_turned_round_nobody_is_accused_of_it():
    frame, _ = turned_panel(np.random.default_rng(13), 60, 40, 0.0, 0.0, share=4)
    assert "accounts answer the other way round" not in set(audited(frame).findings["finding"])


def test_the_share_of_turned_accounts_is_tested_at_its_level():
    """Of honest accounts, with few votes or many, the p-value is below .05 in 5 of 100 tables or fewer."""
    rng = np.random.default_rng(14)
    low = 0
    for _ in range(400):
        size = rng.integers(5, 60, 80).astype(float)
        share = rng.uniform(0.15, 0.45, 80)
        seen = rng.binomial(size.astype(int), share).astype(float)
        low += mixture((2 * seen - size) * np.log((1 - share) / share))[0] < 0.05
    assert low <= 35  # of 400 at 5 %: 20, and above 35 in 1 of 1,000 runs


@pytest.mark.slow
def test_turned_accounts_come_first(capsys):
    """In 85 of 100 tables of the world `turned round` of the benchmark, of which 40 are drawn."""
    first = [named(WORLDS_OF_DIAGNOSIS["turned round"], seed)[0] for seed in range(40)]
    with capsys.disabled():
        print(f"\nturned round: first in {sum(first)} of 40")
    assert np.mean(first) >= 0.85


def test_the_ranking_is_told_before_and_after():
    rng = np.random.default_rng(4)
    frame = pd.concat([honest(rng), for_item(rng, 200, "yew", [f"new{k}" for k in range(200)])])
    table = audited(frame).ranking().set_index("item")
    assert table["rank_before"]["yew"] < 5
    assert table["rank_after"]["yew"] == 5
    assert table["change"].idxmin() == "yew"


def people_of_strong_tastes(rng, kind, scale=1.5, people=60, each=40):
    """Votes of people each of whom wants something else, by themselves, in camps, or along a line."""
    who = np.repeat(np.arange(people), each)
    a = rng.integers(5, size=len(who))
    b = (a + rng.integers(1, 5, len(who))) % 5
    own = {
        "own": lambda: rng.normal(size=(people, 5)),
        "heavy-tailed": lambda: rng.standard_t(4, (people, 5)),
        "camps": lambda: rng.normal(size=(3, 5))[rng.integers(3, size=people)],
        "a line": lambda: rng.normal(size=(people, 1)) * np.array([-1.0, -0.9, 0.1, 0.9, 1.0]),
    }[kind]()
    own = WORTH + scale * own
    won = rng.random(len(who)) < expit(own[who, a] - own[who, b])
    names = np.array([f"p{k:03d}" for k in who], dtype=object)
    answers = {"outcome": np.where(won, "a", "b"), "annotator": names}
    return pd.DataFrame({"item_a": ITEMS[a], "item_b": ITEMS[b], **answers})


@pytest.mark.parametrize("kind", ["own", "heavy-tailed", "camps", "a line"])
def test_strong_tastes_are_no_campaign(kind):
    """Nor copies, repeats or clones, by a program that knows nothing of tastes."""
    frame = people_of_strong_tastes(np.random.default_rng(5), kind)
    assert list(audited(frame).findings["finding"]) == []


def test_who_stands_out_of_people_with_tastes_is_found():
    rng = np.random.default_rng(6)
    frame = pd.concat([people_of_strong_tastes(rng, "own", 0.6), for_item(rng, 60, "fir", "fan")])
    found = audited(frame).findings
    assert list(found["who"]) == ["fan for fir"]


@pytest.mark.parametrize("alike", [0.0, 0.2])
def test_tails_of_groups_whose_votes_are_alike(alike):
    """The largest of 40 beta-binomial counts: told in 1 of 100 tables, and the correlation comes back."""
    rng = np.random.default_rng(7)
    size, share = np.full(40, 25.0), rng.uniform(0.2, 0.8, 40)
    ends = np.maximum(np.stack([share, 1 - share]) * (1 - alike) / max(alike, 1e-9), 1e-9)
    told, known = [], []
    for _ in range(300):
        p = rng.beta(*ends) if alike else share
        seen = rng.binomial(25, p).astype(float)
        told.append(outlying(seen, size, share * size).min() < ALARM)
        known.append(correlation(seen, size, share * size))
    assert np.mean(told) < 0.03
    assert np.median(known) == pytest.approx(alike, abs=0.05)


@pytest.mark.slow
def test_honest_votes_are_left_alone(capsys):
    """Of tables of a program that is right, at most 1 in 20 shows anything: here of 60, by a one-sided 99.9 % bound."""
    accused = sum(len(audited(honest(np.random.default_rng(100 + seed))).findings) > 0 for seed in range(60))
    with capsys.disabled():
        print(f"\n{accused} of 60 honest tables accused")
    assert accused <= 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accounts with one vote favour an item", "an account favours an item"])
def test_two_in_a_hundred_votes_are_enough(name, capsys):
    make, _ = WORLDS[name]
    first = []
    for seed in range(30):
        rng = np.random.default_rng(200 + seed)
        found = audited(pd.concat([honest(rng), make(rng)])).findings["finding"]
        first.append(len(found) > 0 and found[0] == name)
    with capsys.disabled():
        print(f"\n{name}: first in {np.mean(first):.0%} of 30")
    assert np.mean(first) >= 0.85


@pytest.mark.parametrize(("draw", "program"), [
    (clones, "davidson"), (clones_of_taste, "bradley_terry"), (clones_in_sets, "plackett_luce"),
])  # fmt: skip
def test_an_item_under_two_names_is_found_and_counted_as_one(draw, program):
    data = draw(np.random.default_rng(7))
    post = prefdensity.fit(program, data, method="laplace", draws=200, progress=False)
    found = prefdensity.audit(post, data)
    mine = found.findings[found.findings["finding"] == "clones of one item"]
    assert [set(each.split(" and ")) for each in mine["who"]] == [{"item 0", "item 1"}]
    merged = found.without(["clones of one item"])
    assert len(merged.items) == len(data.items) - 1
    ranking = found.ranking(merged).set_index("item")
    assert ranking["mean_after"]["item 0"] == ranking["mean_after"]["item 1"]
    assert ranking["rank_after"].max() == len(data.items) - 1


def test_equal_items_are_no_clones():
    """Two items may be equally good, and many people think so."""
    rng = np.random.default_rng(8)
    frame = honest(rng, rows=2000)
    pair = frame["item_a"].isin(["ash", "elm"]) & frame["item_b"].isin(["ash", "elm"])
    frame.loc[pair, "outcome"] = np.where(rng.random(pair.sum()) < 0.5, "a", "b")
    assert "clones of one item" not in set(audited(frame).findings["finding"])


def test_votes_are_weighed_down_to_what_is_expected():
    rng = np.random.default_rng(4)
    found = audited(pd.concat([honest(rng), for_item(rng, 200, "yew", [f"new{k}" for k in range(200)])]))
    kind = "accounts with one vote favour an item"
    row = found.findings.set_index("finding").loc[kind]
    lost = found.data.n_judgements - found.weighed([kind]).n_judgements
    assert lost == pytest.approx(row["observed"] - row["expected"])
    assert found.ranking(found.weighed()).set_index("item")["change"]["yew"] < 0


def test_what_cannot_be_audited_is_said():
    frame = honest(np.random.default_rng(6), rows=200)
    data = Comparisons.from_frame(frame.drop(columns="annotator"))
    post = prefdensity.fit("bradley_terry", data, method="laplace", draws=100, progress=False)
    with pytest.raises(DataError, match="who judged is not known"):
        prefdensity.audit(post, data)
    with pytest.raises(DataError, match="there is no finding 'x'; there are"):
        audited(frame).without(["x"])


def test_the_command_line_leaves_them_out(tmp_path):
    rng = np.random.default_rng(1)
    votes, fit = tmp_path / "votes.csv", tmp_path / "fit"
    pd.concat([honest(rng), campaign(rng)]).to_csv(votes, index=False)
    ask = [str(votes), "--annotator", "annotator"]
    done = CliRunner().invoke(app, ["fit", *ask, "-m", "bradley_terry", "--out", str(fit), "--quiet"])
    assert done.exit_code == 0, done.output
    out = tmp_path / "audit"
    done = CliRunner().invoke(app, ["audit", str(fit / "fit.nc"), *ask, "--refit", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "accounts with one vote favour an item: yew" in done.output
    assert pd.read_csv(out / "rows.csv")["row"].max() == 1530
    assert set(pd.read_csv(out / "ranking.csv")["item"]) == set(ITEMS)
    assert len(pd.read_csv(out / "votes.csv")) < 1530


def test_items_are_counted_as_one_on_request(tmp_path):
    frame = pd.DataFrame({
        "item_a": ["a", "a", "b", "c", "b"], "item_b": ["b", "c", "c", "d", "d"],
        "outcome": ["a", "b", "a", "tie", "b"],
    })  # fmt: skip
    known = {"item": pd.DataFrame({"size": [1.0, 2.0, 3.0, 4.0]}, index=list("abcd"))}
    data = Comparisons.from_frame(frame, attributes=known)
    one = as_one(data, {"b": "a"})
    assert one.items == ("a", "c", "d")
    assert one.attributes("item")["size"].tolist() == [1.0, 3.0, 4.0]
    expected = frame.replace({"item_a": {"b": "a"}, "item_b": {"b": "a"}}).iloc[1:].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.to_frame()[list(frame)], expected, check_dtype=False)
    assert one.notes == ("items counted as one on request (b as a); 1 judgements between them left out",)
    for wrong, said in {
        ("x", "a"): "'x' is no item",
        ("a", "a"): "'a' is to be counted as 'a', which itself goes",
    }.items():
        with pytest.raises(DataError, match=said):
            as_one(data, dict([wrong]))
    votes = tmp_path / "votes.csv"
    frame.to_csv(votes, index=False)
    done = CliRunner().invoke(app, ["describe", str(votes), "--same", "b=a"])
    assert done.exit_code == 0, done.output
    assert "items counted as one on request (b as a)" in done.output
