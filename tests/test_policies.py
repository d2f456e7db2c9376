"""Policies at equal distances and what groups make of them: against sums and repeated sampling worked out here."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from typer.testing import CliRunner

import prefdensity
from prefdensity.cli.main import app
from prefdensity.errors import DataError
from prefdensity.reward import compare_policies
from prefdensity.reward.response_sets import ResponseSets

PROMPTS, RESPONSES = 6, 4


def votes(n=900, seed=0):
    """Votes of two kinds of people about four answers to each of six questions; half of what they want is opposite."""
    rng = np.random.default_rng(seed)
    common, apart = rng.normal(size=(2, PROMPTS, RESPONSES))
    young = rng.random(n) < 0.7
    prompt = rng.integers(PROMPTS, size=n)
    a, b = np.array([rng.choice(RESPONSES, 2, replace=False) for _ in range(n)]).T
    utility = common + np.where(young, 1, -1)[:, None, None] * 1.5 * apart
    margin = utility[np.arange(n), prompt, a] - utility[np.arange(n), prompt, b]
    names = np.array([[f"q{k}.{j}" for j in range(RESPONSES)] for k in range(PROMPTS)])
    won = np.where(rng.random(n) < expit(margin), "a", "b")
    return pd.DataFrame({
        "item_a": names[prompt, a], "item_b": names[prompt, b], "outcome": won, "question": [f"q{k}" for k in prompt],
        "panel": np.where(young, "young", "old"),
    })  # fmt: skip


READING = {"context": "question", "groups": ["panel"]}


@pytest.fixture(scope="module")
def fitted():
    data = prefdensity.read(votes(), **READING)
    return prefdensity.fit('bradley_terry+tastes(by="panel")', data, draws=200, seed=0, progress=False), data


@pytest.fixture(scope="module")
def found(fitted):
    return compare_policies(*fitted, "panel")


def test_all_policies_are_as_far_from_the_reference_as_they_say(found):
    for (nats, _), rows in found.probabilities.groupby(["nats", "policy"]):
        p = rows.set_index("item")["probability"]
        assert p.groupby(rows.set_index("item")["prompt"]).sum().to_numpy() == pytest.approx(1)
        assert float((p * np.log(p * RESPONSES)).sum()) / PROMPTS == pytest.approx(nats, rel=1e-6)
    assert found.table.groupby(["nats", "policy"]).size().eq(2).all()
    assert set(found.table["policy"]) == {
        "average", "pessimistic", "thompson", "best of n", "for young", "for old",
    }  # fmt: skip


def test_win_rates_are_sums_over_pairs_of_responses(fitted, found):
    post, _ = fitted
    groups = post.by("panel")
    for name in ("young", "old"):
        utility = groups.utilities[:, groups.names.index(name)]
        rows = found.table[(found.table["policy"] == "for old") & (found.table["group"] == name)]
        for _, row in rows.iterrows():
            own = found.probabilities
            own = own[(own["policy"] == "for old") & (own["nats"] == row["nats"])]
            p = own.set_index("item").loc[list(post.items), "probability"].to_numpy()
            wins = []
            for draw in utility:
                total = 0.0
                for k in range(PROMPTS):
                    at = [post.items.index(f"q{k}.{j}") for j in range(RESPONSES)]
                    total += p[at] @ expit(draw[at][:, None] - draw[at]) @ np.full(RESPONSES, 1 / RESPONSES)
                wins.append(total / PROMPTS)
            assert row["win_rate"] == pytest.approx(np.mean(wins), abs=1e-9)
            assert [row["lower"], row["upper"]] == pytest.approx(np.quantile(wins, [0.05, 0.95]), abs=1e-9)
            assert row["p_worse"] == np.mean(np.array(wins) < 0.5)


def test_the_average_serves_the_many_and_the_own_policy_each(found):
    at = found.table[found.table["nats"] == found.table["nats"].max()].set_index(["policy", "group"])["win_rate"]
    assert at["average", "young"] > at["average", "old"]
    for group in ("young", "old"):
        assert at[f"for {group}", group] > at["average", group]
    share = found.table.drop_duplicates("group").set_index("group")["share"]
    assert share["young"] == pytest.approx((votes()["panel"] == "young").mean())
    said = "\n".join(found.verdict())
    assert "old (" in said
    assert "its own would win" in said
    assert "for old" in str(found)


def sets(reference=None):
    prompt = np.repeat(np.arange(PROMPTS), RESPONSES)
    items = tuple(f"{k}" for k in range(len(prompt)))
    return ResponseSets.of(items, prompt[::-1].copy(), (), reference)


def test_best_of_n_is_what_sampling_finds():
    rng = np.random.default_rng(0)
    weight = {f"{k}": value for k, value in enumerate(rng.uniform(0.5, 2, PROMPTS * RESPONSES))}
    own, reward = sets(weight), rng.normal(size=PROMPTS * RESPONSES)
    policy = own.best_of(reward)(5)
    for k in range(PROMPTS):
        at = np.flatnonzero(own.prompt == k)
        drawn = rng.choice(at, p=own.reference[at], size=(200_000, 5))
        best = drawn[np.arange(len(drawn)), reward[drawn].argmax(1)]
        share = np.array([(best == each).mean() for each in at])
        # 5 standard errors of a share of 200,000 draws: a false alarm in 10,000 runs of this test
        assert np.abs(share - policy[at]).max() < 5 * 0.5 / np.sqrt(len(drawn))
    assert own.best_of(reward)(1) == pytest.approx(own.reference)


def test_distance_and_furthest_policy_by_hand():
    own = sets()
    one = np.zeros(own.size)
    one[[np.flatnonzero(own.prompt == k)[0] for k in range(PROMPTS)]] = 1
    assert own.kl(one) == pytest.approx(np.log(RESPONSES))
    assert own.furthest == pytest.approx(np.log(RESPONSES))
    assert own.kl(own.reference) == 0
    assert own.win_rate(own.reference, np.full(len(own.a), 0.9)) == pytest.approx(0.5)


def test_fits_to_each_group_are_groups_too(fitted):
    post, data = fitted
    frame = votes()
    fit = partial(prefdensity.fit, "bradley_terry", method="laplace", progress=False)
    alone = {name: fit(prefdensity.read(own, context="question"), draws=200) for name, own in frame.groupby("panel")}
    found = compare_policies(post, data, alone, nats=[0.3])
    assert list(found.table["group"].unique()) == ["old", "young"]
    other = compare_policies(post, data, "panel", nats=[0.3])
    keys = ["policy", "group"]
    one, two = (each.table.set_index(keys)["win_rate"] for each in (found, other))
    own = one.filter(like="for ", axis=0)  # with fits, the average is the reward of `post`
    assert len(own) == 4
    assert (own - two.loc[own.index]).abs().max() < 0.02  # unpooled beside partially pooled
    less = fit(prefdensity.read(frame.head(3)), draws=100)
    with pytest.raises(DataError, match="group 'few' must have one utility for each of the 24 items"):
        compare_policies(post, data, {"few": less})


def test_types_and_nobody_in_particular():
    data, _ = prefdensity.simulate.population(5, 20, 300, seed=1, n_types=2)
    types, plain = "annotator_types(k=2)", "bradley_terry"
    fit = partial(prefdensity.fit, method="laplace", draws=100, restarts=2, seed=0, progress=False)
    post = fit(types, data)
    assert set(compare_policies(post, data).table["group"]) == {"type 1", "type 2"}
    assert set(compare_policies(fit(plain, data), data).table["group"]) == {"everybody"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nats": [2.0]}, "nats=2: .* is 1.39 nats away at most"), ({"nats": [-1]}, "nats=-1"),
        ({"caution": 1.5}, "caution=1.5 must lie between"), ({"draws": 1}, "draws=1 must be 2 or more"),
        ({"groups": "country"}, "reads no labels called 'country'"), ({"groups": {}}, "names no group"),
        ({"reference": {"q0.0": 1.0}}, "reference lacks 23 of 24 items, first 'q0.1'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(fitted, arguments, message):
    with pytest.raises(DataError, match=message):
        compare_policies(*fitted, **arguments)


def test_one_response_is_no_choice_and_a_mode_no_posterior(fitted):
    with pytest.raises(DataError, match="'b' is the only response"):
        ResponseSets.of(("a", "b", "c"), np.array([0, 1, 0]), (), None)
    post = prefdensity.fit("bradley_terry", fitted[1], method="map", progress=False)
    with pytest.raises(DataError, match="by map has none"):
        compare_policies(post, fitted[1])


def test_on_the_command_line(fitted, found, tmp_path):
    post, _ = fitted
    post.save(tmp_path / "fit.nc")
    votes().to_csv(tmp_path / "votes.csv", index=False)
    words = ["policies", tmp_path / "fit.nc", tmp_path / "votes.csv", "--context", "question", "--group", "panel"]
    more = ["--by", "panel", "--out", tmp_path / "p.csv", "--report", tmp_path / "p.html",
            "--probabilities", tmp_path / "each.csv"]  # fmt: skip
    done = CliRunner().invoke(app, list(map(str, words + more)))
    assert done.exit_code == 0, done.output
    assert "its own would win" in done.output
    written = pd.read_csv(tmp_path / "p.csv")
    np.testing.assert_allclose(written["win_rate"], found.table["win_rate"], atol=1e-6)
    assert len(pd.read_csv(tmp_path / "each.csv")) == len(found.probabilities)
    page = (tmp_path / "p.html").read_text()
    assert "leaves behind" in page
    assert "for young" in page
    wrong = CliRunner().invoke(app, list(map(str, [*words, "--by", "panel", "--group-fit", "x=y.nc"])))
    assert wrong.exit_code != 0
    assert "give one of them" in wrong.output
